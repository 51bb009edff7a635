//! The health of each wallet's accounts, by protocol and day: positions at the prices of their own markets.

use defi_shared::domain::health::Health;
use defi_shared::domain::price::PriceBook;
use defi_shared::domain::{Address, Day, Links};
use defi_shared::lake::{Facts, Unit};
use defi_shared::step::history::{Markets, links_before};
use defi_shared::step::{Context, DayInput, LARGE_UNITS_AT_ONCE, Report};
use defi_shared::tables::{STAGE_POSITIONS, StagedPosition, WALLET_HEALTH, WalletHealth};
use defi_shared::{Error, Kind, Result};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The step's name.
pub const STEP: &str = "value-positions";

/// Values the snapshot of each day that is missing, or that the input names.
///
/// # Errors
/// `NotReady` for a day of which no protocol's positions are staged yet, and the lake's errors.
pub async fn handle(context: Context, input: DayInput) -> Result<Report> {
    let days = context.days(&input, |plan| plan.value).await?;
    let Some(last) = days.iter().max() else { return Ok(Report::default()) };
    let markets = Markets::around(&context.lake, &context.config, &days).await?;
    let links = Arc::new(links_before(&context.lake, *last).await?);
    let work = |context, day| value(context, markets.clone(), Arc::clone(&links), day);
    let report = context.run_units(STEP, &days, LARGE_UNITS_AT_ONCE, work).await?;
    let units: Vec<_> = days.iter().copied().map(Unit::Day).collect();
    context.registry.register(&WALLET_HEALTH, &units).await?;
    context.keep_report(input.run_id.as_ref(), STEP, &days, &report).await?;
    Ok(report)
}

async fn value(context: Context, markets: Markets, links: Arc<Links>, day: Day) -> Result<Report> {
    let prices = markets.prices_on(day);
    let mut report = Report::default();
    let mut rows = Vec::new();
    let mut snapshots = 0;
    for protocol in context.config.protocol_names() {
        let unit = Unit::DayAndProtocol(day, protocol.into());
        let Some(positions) = context.lake.read::<StagedPosition>(&STAGE_POSITIONS, &unit).await? else { continue };
        snapshots += 1;
        report.rows_in += positions.len() as u64;
        let (accounts, unpriced) = health_by_account(&positions, protocol, &prices);
        report.unpriced += unpriced;
        for (account, health) in accounts.into_iter().filter(|(_, health)| health.counts()) {
            let wallets = links.wallets_of(account, day.start());
            rows.extend(wallets.map(|wallet| row(wallet, account, protocol, day, &health)));
        }
    }
    if snapshots == 0 {
        return Err(Error::new(Kind::NotReady, "no positions of the day are staged yet").with("day", day));
    }
    rows.sort_unstable_by(|a, b| {
        (a.wallet_address, a.account_address, &a.protocol).cmp(&(b.wallet_address, b.account_address, &b.protocol))
    });
    let facts = Facts::from([("unpriced".to_owned(), report.unpriced.to_string())]);
    Ok(report.wrote(context.lake.write(&WALLET_HEALTH, &Unit::Day(day), rows, facts).await?))
}

/// The health of each account in one protocol, and how many positions have no price.
fn health_by_account(
    positions: &[StagedPosition],
    protocol: &str,
    prices: &PriceBook,
) -> (FxHashMap<Address, Health>, u64) {
    let mut accounts: FxHashMap<Address, Health> = FxHashMap::default();
    let mut unpriced = 0;
    for position in positions {
        match prices.market(protocol, &position.market_id) {
            Some(quote) => {
                let is_collateral = position.is_collateral == Some(true);
                accounts.entry(position.account_address).or_default().add(
                    position.side,
                    is_collateral,
                    position.balance,
                    quote,
                );
            }
            None => unpriced += 1,
        }
    }
    (accounts, unpriced)
}

fn row(wallet: Address, account: Address, protocol: &str, day: Day, health: &Health) -> WalletHealth {
    WalletHealth {
        wallet_address: wallet,
        account_address: account,
        protocol: protocol.to_owned(),
        day,
        collateral_eth: health.collateral_eth,
        threshold_weighted_collateral_eth: health.threshold_weighted_eth,
        borrow_power_eth: health.borrow_power_eth,
        debt_eth: health.debt_eth,
        available_borrows_eth: health.available_eth(),
        risk_factor: health.risk(),
    }
}
