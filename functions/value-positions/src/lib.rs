//! Computes the health of each wallet's accounts by protocol and day. Positions are valued at the prices of their
//! markets.

use std::sync::Arc;

use defi_shared::cpu::spawn_cpu;
use defi_shared::domain::health::Health;
use defi_shared::domain::price::{PriceBook, Quote};
use defi_shared::domain::{Address, Day, Links};
use defi_shared::lake::{FileMetadata, WorkUnit, lost_error};
use defi_shared::pipeline::Step;
use defi_shared::step::history::{Markets, links};
use defi_shared::step::{CONCURRENT_LARGE_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{PositionBalanceRow, STAGE_POSITIONS, WALLET_HEALTH, WalletHealth};
use defi_shared::{Error, Kind, Result};
use rustc_hash::FxHashMap;

/// The step of this crate.
pub const STEP: Step = Step::ValuePositions;

/// Values the positions of each day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day without staged positions of any protocol, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let days: Vec<_> = units.iter().filter_map(WorkUnit::day).collect();
    let Some(last) = days.iter().max() else { return Ok(Report::default()) };
    let markets = Markets::load(&context.lake, &context.config, &days).await?;
    let links = Arc::new(links(&context.lake, *last, input.force).await?);
    let work = |context, unit| value(context, markets.clone(), Arc::clone(&links), unit);
    let report = context.run_units(STEP, &units, CONCURRENT_LARGE_UNITS, work).await?;
    context.registry.register(&WALLET_HEALTH, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn value(context: Context, markets: Markets, links: Arc<Links>, unit: WorkUnit) -> Result<Report> {
    let day = unit.as_day()?;
    let mut snapshots = Vec::new();
    for protocol in context.config.protocol_names() {
        let unit = WorkUnit::ProtocolDay(day, protocol.into());
        let Some(positions) = context.lake.read::<PositionBalanceRow>(&STAGE_POSITIONS, &unit).await? else { continue };
        if !positions.is_sorted_by_key(|position| position.account_address) {
            return Err(
                Error::corrupt("the rows are not sorted by account_address").with("object", unit.key(&STAGE_POSITIONS))
            );
        }
        snapshots.push((Arc::<str>::from(protocol), positions));
    }
    if snapshots.is_empty() {
        let error = match context.lake.has_lost_day(|other| other == day).await {
            true => lost_error("no positions of the day are staged, because its snapshots are lost"),
            false => Error::new(Kind::NotReady, "no positions of the day are staged yet"),
        };
        return Err(error.with("day", day));
    }
    let valued = spawn_cpu(move || Ok(value_snapshots(&snapshots, &markets.prices_on(day), &links, day)));
    let (rows, metadata, report) = valued.await?;
    Ok(report.with_written(context.commit(&WALLET_HEALTH, &unit, rows, metadata).await?))
}

/// Values the positions of each protocol, which are sorted by account. Returns the rows in the order of their table, and the
/// counts by protocol.
fn value_snapshots(
    snapshots: &[(Arc<str>, Vec<PositionBalanceRow>)],
    prices: &PriceBook,
    links: &Links,
    day: Day,
) -> (Vec<WalletHealth>, FileMetadata, Report) {
    let (mut own, mut linked) = (Vec::new(), Vec::new());
    let (mut metadata, mut report) = (FileMetadata::new(), Report::default());
    for (protocol, positions) in snapshots {
        let quotes = prices.market_quotes(protocol);
        let unpriced_before = report.unpriced;
        for account_positions in positions.chunk_by(|a, b| a.account_address == b.account_address) {
            let (health, unpriced) = health_of(account_positions, &quotes);
            report.unpriced += unpriced;
            if let Some(position) = account_positions.first().filter(|_| health.has_exposure()) {
                let account = position.account_address;
                for wallet in links.wallets_of(account, day.start()) {
                    let rows = if wallet == account { &mut own } else { &mut linked };
                    rows.push(row(wallet, account, protocol, day, &health));
                }
            }
        }
        report.rows_in += positions.len() as u64;
        metadata.insert(format!("rows.{protocol}"), positions.len().to_string());
        metadata.insert(format!("unpriced.{protocol}"), (report.unpriced - unpriced_before).to_string());
    }
    metadata.insert("unpriced".to_owned(), report.unpriced.to_string());
    linked.sort_by_cached_key(|row| (row.wallet_address, row.account_address, Arc::clone(&row.protocol)));
    own.append(&mut linked);
    // A stable sort is fast here: the rows consist of a few long sorted runs, one per protocol and one of linked wallets.
    own.sort_by(|a, b| {
        (a.wallet_address, a.account_address, &a.protocol).cmp(&(b.wallet_address, b.account_address, &b.protocol))
    });
    (own, metadata, report)
}

/// Returns the health of an account in one protocol, and the number of its positions without a price.
fn health_of(positions: &[PositionBalanceRow], quotes: &FxHashMap<Address, &Quote>) -> (Health, u64) {
    let (mut health, mut unpriced) = (Health::default(), 0);
    for position in positions {
        match quotes.get(&position.market_id) {
            Some(quote) => {
                health.add(position.side, position.is_collateral == Some(true), position.balance, quote);
            }
            None => unpriced += 1,
        }
    }
    (health, unpriced)
}

fn row(wallet: Address, account: Address, protocol: &Arc<str>, day: Day, health: &Health) -> WalletHealth {
    WalletHealth {
        wallet_address: wallet,
        account_address: account,
        protocol: Arc::clone(protocol),
        day,
        collateral_eth: health.collateral_eth,
        threshold_weighted_collateral_eth: health.threshold_weighted_eth,
        borrow_power_eth: health.borrow_power_eth,
        debt_eth: health.debt_eth,
        available_borrows_eth: health.available_eth(),
        risk_factor: health.risk(),
    }
}
