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
use itertools::Itertools;
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
        let Some(positions) = context.lake.read(&STAGE_POSITIONS, &unit).await? else { continue };
        snapshots.push(Snapshot { protocol: protocol.into(), object: unit.key(&STAGE_POSITIONS), positions });
    }
    if snapshots.is_empty() {
        let error = match context.lake.has_lost_day(|other| other == day).await {
            true => lost_error("no positions of the day are staged, because its snapshots are lost"),
            false => Error::new(Kind::NotReady, "no positions of the day are staged yet"),
        };
        return Err(error.with("day", day));
    }
    let valued = spawn_cpu(move || value_snapshots(&snapshots, &markets.prices_on(day), &links, day));
    let (rows, metadata, report) = valued.await?;
    Ok(report.with_written(context.commit(&WALLET_HEALTH, &unit, rows, metadata).await?))
}

/// The open positions of a protocol at the start of a day.
struct Snapshot {
    protocol: Arc<str>,
    /// The key of the object that they are from.
    object: String,
    positions: Vec<PositionBalanceRow>,
}

/// The health of an account in one protocol, attributed to a wallet.
struct Attributed {
    wallet: Address,
    account: Address,
    /// The index of the protocol.
    protocol: usize,
    health: Health,
}

impl Attributed {
    /// Returns what the rows of the table are sorted by.
    fn key(&self) -> (Address, Address, usize) {
        (self.wallet, self.account, self.protocol)
    }
}

/// Values the positions of some protocols, which are in the order of their names. Returns the rows in the order of their
/// table, and the counts by protocol.
///
/// # Errors
/// `CorruptData` if positions are not sorted by account.
fn value_snapshots(
    snapshots: &[Snapshot],
    prices: &PriceBook,
    links: &Links,
    day: Day,
) -> Result<(impl Iterator<Item = WalletHealth> + Send + use<>, FileMetadata, Report)> {
    // The positions of each account, by protocol.
    let mut by_protocol = Vec::new();
    for Snapshot { object, positions, .. } in snapshots {
        if !positions.is_sorted_by_key(|position| position.account_address) {
            return Err(Error::corrupt("the rows are not sorted by account_address").with("object", object));
        }
        by_protocol.push(positions.chunk_by(|a, b| a.account_address == b.account_address).peekable());
    }
    let quotes: Vec<_> = snapshots.iter().map(|snapshot| prices.market_quotes(&snapshot.protocol)).collect();
    let mut unpriced = vec![0; snapshots.len()];
    let (mut own, mut linked) = (Vec::new(), Vec::new());
    // The accounts of all protocols, in order.
    while let Some(account) =
        by_protocol.iter_mut().filter_map(|accounts| Some(accounts.peek()?.first()?.account_address)).min()
    {
        for (protocol, accounts) in by_protocol.iter_mut().enumerate() {
            let of_account = |positions: &&[PositionBalanceRow]| positions[0].account_address == account;
            let Some(positions) = accounts.next_if(of_account) else { continue };
            let (health, without_price) = health_of(positions, &quotes[protocol]);
            unpriced[protocol] += without_price;
            if health.has_exposure() {
                for wallet in links.wallets_of(account, day.start()) {
                    let rows = if wallet == account { &mut own } else { &mut linked };
                    rows.push(Attributed { wallet, account, protocol, health });
                }
            }
        }
    }
    // The rows of the accounts themselves are in order already.
    linked.sort_unstable_by_key(Attributed::key);
    let rows = own.into_iter().merge_by(linked, |a, b| a.key() <= b.key());
    let protocols: Vec<_> = snapshots.iter().map(|snapshot| Arc::clone(&snapshot.protocol)).collect();
    let (metadata, report) = counts(snapshots, &unpriced);
    Ok((rows.map(move |attributed| row(&attributed, &protocols, day)), metadata, report))
}

/// Returns the counts of positions and of those without a price, by protocol and of all.
fn counts(snapshots: &[Snapshot], unpriced: &[u64]) -> (FileMetadata, Report) {
    let (mut metadata, mut report) = (FileMetadata::new(), Report::default());
    for (Snapshot { protocol, positions, .. }, unpriced) in snapshots.iter().zip(unpriced) {
        report.rows_in += positions.len() as u64;
        report.unpriced += unpriced;
        metadata.insert(format!("rows.{protocol}"), positions.len().to_string());
        metadata.insert(format!("unpriced.{protocol}"), unpriced.to_string());
    }
    metadata.insert("unpriced".to_owned(), report.unpriced.to_string());
    (metadata, report)
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

fn row(attributed: &Attributed, protocols: &[Arc<str>], day: Day) -> WalletHealth {
    let Attributed { wallet, account, protocol, health } = attributed;
    WalletHealth {
        wallet_address: *wallet,
        account_address: *account,
        protocol: Arc::clone(&protocols[*protocol]),
        day,
        collateral_eth: health.collateral_eth,
        threshold_weighted_collateral_eth: health.threshold_weighted_eth,
        borrow_power_eth: health.borrow_power_eth,
        debt_eth: health.debt_eth,
        available_borrows_eth: health.available_eth(),
        risk_factor: health.risk(),
    }
}
