//! The days that a fold goes over: what the lake has of each, in order.

use std::collections::BTreeSet;

use defi_shared::domain::fold::Exposure;
use defi_shared::domain::{Category, Day, Links};
use defi_shared::lake::{Lake, Unit};
use defi_shared::step::Context;
use defi_shared::step::history::links_before;
use defi_shared::tables::{self, Layer, PricedEvent, WALLET_HEALTH, WalletHealth};
use defi_shared::{Error, Kind, Result};

use crate::Folds;

/// The days of events and of snapshots that the lake has, as far as a day's features may know of them.
#[derive(Debug)]
pub(crate) struct History {
    events: [(Category, BTreeSet<Day>); 5],
    snapshots: BTreeSet<Day>,
    links: Links,
}

impl History {
    /// Lists the days before the as_of (events) and up to and including it (snapshots).
    pub(crate) async fn of(lake: &Lake, as_of: Day) -> Result<Self> {
        let mut events = Category::ALL.map(|category| (category, BTreeSet::new()));
        for (category, days) in &mut events {
            let units = lake.units(tables::events(Layer::Analytics, *category)).await?;
            days.extend(units.iter().filter_map(Unit::day).filter(|day| *day < as_of));
        }
        let units = lake.units(&WALLET_HEALTH).await?;
        let snapshots: BTreeSet<_> = units.iter().filter_map(Unit::day).filter(|day| *day <= as_of).collect();
        if snapshots.is_empty() && events.iter().all(|(_, days)| days.is_empty()) {
            return Err(Error::new(Kind::NotReady, "there is no day to fold yet").with("as_of", as_of));
        }
        Ok(History { events, snapshots, links: links_before(lake, as_of).await? })
    }

    fn first_day(&self) -> Option<Day> {
        let events = self.events.iter().filter_map(|(_, days)| days.first());
        events.chain(self.snapshots.first()).min().copied()
    }

    /// Folds the days after a state (or all days) up to the as_of, one after another, so that every sum is made in the same
    /// order whether a day comes alone or with others. Returns the number of rows read.
    pub(crate) async fn fold(
        &self,
        context: &Context,
        since: Option<Day>,
        as_of: Day,
        folds: &mut Folds,
    ) -> Result<u64> {
        let mut rows = 0;
        // A state of day D holds the events before D and the snapshot of D: after it come the events of D.
        let first = since.or(self.first_day()).unwrap_or(as_of);
        if since.is_none() {
            rows += self.fold_snapshot(context, first, folds).await?;
        }
        for day in first.until(as_of) {
            for (category, days) in &self.events {
                if days.contains(&day) {
                    rows += self.fold_events(context, *category, day, folds).await?;
                }
            }
            rows += self.fold_snapshot(context, day.next(), folds).await?;
        }
        Ok(rows)
    }

    async fn fold_events(&self, context: &Context, category: Category, day: Day, folds: &mut Folds) -> Result<u64> {
        let table = tables::events(Layer::Analytics, category);
        let events: Vec<PricedEvent> = context.lake.require(table, &Unit::Day(day)).await?;
        for event in &events {
            let (time, quantity) = (event.epoch_timestamp, event.quantity_eth);
            if let Some(fold) = folds.of(event.sender_address) {
                fold.sent(event.sender_address, category, &event.protocol, time, quantity);
            }
            if let Some(fold) = folds.of(event.account_address) {
                fold.acted_on(event.account_address);
            }
            if category == Category::Liquidation {
                // A link made in the same second is in force.
                for wallet in self.links.wallets_of(event.account_address, time + 1) {
                    if let Some(fold) = folds.of(wallet) {
                        fold.liquidated(wallet, time, quantity);
                    }
                }
            }
        }
        Ok(events.len() as u64)
    }

    async fn fold_snapshot(&self, context: &Context, day: Day, folds: &mut Folds) -> Result<u64> {
        if !self.snapshots.contains(&day) {
            return Ok(0);
        }
        let health: Vec<WalletHealth> = context.lake.require(&WALLET_HEALTH, &Unit::Day(day)).await?;
        for of_wallet in health.chunk_by(|a, b| a.wallet_address == b.wallet_address) {
            let Some(wallet) = of_wallet.first().map(|row| row.wallet_address) else { continue };
            if let Some(fold) = folds.of(wallet) {
                let exposures: Vec<_> = of_wallet.iter().map(exposure).collect();
                fold.snapshot(wallet, day, &exposures);
            }
        }
        Ok(health.len() as u64)
    }
}

fn exposure(row: &WalletHealth) -> Exposure {
    Exposure {
        collateral_eth: row.collateral_eth,
        available_eth: row.available_borrows_eth,
        debt_eth: row.debt_eth,
        risk: row.risk_factor,
    }
}
