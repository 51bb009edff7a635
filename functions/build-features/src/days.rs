//! The days that a fold goes over: what the lake has of each, in order.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use defi_shared::domain::fold::{Exposure, Fold};
use defi_shared::domain::{Address, Category, Day, Links};
use defi_shared::lake::{Lake, Unit};
use defi_shared::processor::at_work;
use defi_shared::step::history::links_before;
use defi_shared::tables::{self, FoldedEvent, FoldedHealth, Layer, WALLET_HEALTH};
use defi_shared::{Error, Kind, Result};
use futures::StreamExt;

use crate::{Folds, shard_of};

/// Days that are read while another one is folded.
const DAYS_AHEAD: usize = 2;

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
    /// order whether a day comes alone or with others. The next days are read meanwhile. Returns the number of rows read.
    pub(crate) async fn fold(&self, lake: &Lake, since: Option<Day>, as_of: Day, folds: &mut Folds) -> Result<u64> {
        let mut rows = 0;
        // A state of day D holds the events before D and the snapshot of D: after it come the events of D.
        let first = since.or(self.first_day()).unwrap_or(as_of);
        let before = since.is_none().then_some((None, first));
        let days = before.into_iter().chain(first.until(as_of).map(|day| (Some(day), day.next())));
        let wallets = folds.addresses();
        let read = |(events, snapshot)| {
            let wallets = self.snapshots.contains(&snapshot).then(|| wallets.clone());
            DayRows::read(lake.clone(), self.categories_of(events), snapshot, wallets)
        };
        let mut days = futures::stream::iter(days).map(|day| tokio::spawn(read(day))).buffered(DAYS_AHEAD);
        while let Some(day) = days.next().await {
            let day = day.map_err(|cause| Error::internal("reading was cut short").because(cause))??;
            rows += day.rows();
            at_work(|| folds.side_by_side(|shard, shards, fold| self.add(&day, shard, shards, fold)));
        }
        Ok(rows)
    }

    fn categories_of(&self, day: Option<Day>) -> Vec<(Category, Day)> {
        let all = day.into_iter().flat_map(|day| self.events.iter().map(move |of| (of, day)));
        all.filter(|((_, days), day)| days.contains(day)).map(|((category, _), day)| (*category, day)).collect()
    }

    /// Adds what a day's rows say of the wallets of one shard.
    fn add(&self, day: &DayRows, shard: u32, shards: u32, fold: &mut Fold) {
        let is_here = |wallet: Address| shard_of(wallet, shards) == shard;
        for (category, events) in &day.events {
            for event in events {
                fold.happened(&event.occurrence(*category), &self.links, is_here);
            }
        }
        // Shards are ranges of addresses, and the rows are in their order.
        let begin = day.health.partition_point(|row| shard_of(row.wallet_address, shards) < shard);
        let end = day.health.partition_point(|row| shard_of(row.wallet_address, shards) <= shard);
        let mut exposures = Vec::new();
        for of_wallet in day.health[begin..end].chunk_by(|a, b| a.wallet_address == b.wallet_address) {
            exposures.clear();
            exposures.extend(of_wallet.iter().map(Exposure::from));
            fold.snapshot(of_wallet[0].wallet_address, day.snapshot, &exposures);
        }
    }
}

/// What the lake has of a day: its events, and the snapshot at its end.
#[derive(Debug)]
struct DayRows {
    events: Vec<(Category, Vec<FoldedEvent>)>,
    snapshot: Day,
    health: Vec<FoldedHealth>,
}

impl DayRows {
    /// Reads a day's rows; those of the snapshot, if there is one, for a range of wallets.
    async fn read(
        lake: Lake,
        events: Vec<(Category, Day)>,
        snapshot: Day,
        wallets: Option<RangeInclusive<Address>>,
    ) -> Result<Self> {
        let mut rows = DayRows { events: Vec::new(), snapshot, health: Vec::new() };
        for (category, day) in events {
            let table = tables::events(Layer::Analytics, category);
            rows.events.push((category, lake.require(table, &Unit::Day(day)).await?));
        }
        if let Some(wallets) = wallets {
            rows.health = lake.require_between(&WALLET_HEALTH, &Unit::Day(snapshot), wallets).await?;
        }
        if !rows.health.is_sorted_by_key(|row| row.wallet_address) {
            let object = Unit::Day(snapshot).key(&WALLET_HEALTH);
            return Err(Error::corrupt("rows are not in the order that they declare").with("object", object));
        }
        Ok(rows)
    }

    fn rows(&self) -> u64 {
        self.events.iter().map(|(_, events)| events.len() as u64).sum::<u64>() + self.health.len() as u64
    }
}
