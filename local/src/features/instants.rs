//! Computes features as of an instant from the blocks strictly before it. A snapshot is taken at the end of a block, so
//! that the current snapshot of an instant is the last one whose block is before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use defi_shared::domain::fold::{Exposure, Fold, WalletState};
use defi_shared::domain::{Address, Category, Day, Links, TxHash};
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::step::history::links_before;
use defi_shared::tables::{
    self, BORROWS, BlockEventRow, BorrowRow, DAILY_BLOCKS, DailyBlock, FeatureRow, FoldHealthRow, InstantKey, LabelRow,
    Layer, Row, Timestamp, WALLET_HEALTH,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::labels::Labels;
use super::period::Period;
use super::sink::{FileFormat, Sink};
use super::{batch, list};
use crate::output::message;
use defi_pages::number::with_thousands;

/// A wallet and a point in time to compute its features for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instant {
    /// The wallet.
    pub wallet: Address,
    /// The time of the borrow's block, or the requested time.
    pub time: Timestamp,
    /// The borrow, if the instant is just before one.
    pub borrow: Option<Borrow>,
}

/// A borrow: its position in the chain, and what is known of it when it is decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Borrow {
    block_number: i64,
    transaction_hash: TxHash,
    log_index: i64,
    protocol: Arc<str>,
    token_address: Address,
    amount_eth: Option<f64>,
}

/// The position of a log, or of the end of a block, in the chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub block_number: i64,
    pub log_index: i64,
    pub epoch_seconds: i64,
}

impl Position {
    /// Returns the position of an event.
    pub(super) fn of(event: &BlockEventRow) -> Self {
        Position { block_number: event.block_number, log_index: event.log_index, epoch_seconds: event.epoch_timestamp }
    }

    /// Returns the position after all logs of a block.
    pub(super) fn at_the_end_of(block: &DailyBlock) -> Self {
        Position { block_number: block.block_number, log_index: i64::MAX, epoch_seconds: block.epoch_timestamp }
    }
}

impl Instant {
    /// Returns the instant just before a borrow, for tests.
    #[cfg(test)]
    pub(super) fn before_borrow(wallet: Address, block_number: i64, log_index: i64, epoch_seconds: i64) -> Self {
        let borrow = Borrow {
            block_number,
            transaction_hash: defi_shared::domain::HexBytes([7; 32]),
            log_index,
            protocol: "aave-v2-eth".into(),
            token_address: wallet,
            amount_eth: None,
        };
        Instant { wallet, time: Timestamp::from_epoch_seconds(epoch_seconds), borrow: Some(borrow) }
    }

    /// Returns the key columns of the row.
    pub(super) fn key(&self, snapshot_day: Option<Day>) -> InstantKey {
        let borrow = self.borrow.as_ref();
        InstantKey {
            wallet_address: self.wallet,
            time: self.time,
            block_number: borrow.map(|borrow| borrow.block_number),
            transaction_hash: borrow.map(|borrow| borrow.transaction_hash),
            log_index: borrow.map(|borrow| borrow.log_index),
            snapshot_day,
            borrow_protocol: borrow.map(|borrow| Arc::clone(&borrow.protocol)),
            borrow_token_address: borrow.map(|borrow| borrow.token_address),
            borrow_amount_eth: borrow.and_then(|borrow| borrow.amount_eth),
        }
    }

    /// Whether a log follows the borrow, or is not before the requested time.
    pub(super) fn is_before(&self, position: &Position) -> bool {
        match &self.borrow {
            Some(borrow) => (borrow.block_number, borrow.log_index) < (position.block_number, position.log_index),
            None => self.time <= Timestamp::from_epoch_seconds(position.epoch_seconds),
        }
    }

    /// Whether a block, or the block of an event, is before this instant.
    fn is_after(&self, block: &impl HasBlock) -> bool {
        match &self.borrow {
            Some(borrow) => block.block_number() < borrow.block_number,
            None => Timestamp::from_epoch_seconds(block.epoch_seconds()) < self.time,
        }
    }

    /// Returns the second that contains this instant, in epoch seconds. An event in whole seconds is before the instant
    /// by at least the seconds between them.
    pub(super) fn second(&self) -> i64 {
        self.time.0.div_euclid(1000)
    }

    pub(super) fn day(&self) -> Day {
        Day::from_epoch_seconds(self.second())
    }

    /// Returns the last day that may have an event before this instant: the day before, if the instant is not after the
    /// first block of its day.
    fn last_day_of_events(&self, blocks: &BTreeMap<Day, DailyBlock>) -> Day {
        let day = self.day();
        let is_midnight = self.borrow.is_none() && self.time == Timestamp::from_epoch_seconds(day.start());
        let is_early = is_midnight || blocks.get(&day).is_some_and(|block| !self.is_after(block));
        if is_early { day.previous() } else { day }
    }
}

/// A block, or an event in a block.
trait HasBlock {
    fn block_number(&self) -> i64;
    fn epoch_seconds(&self) -> i64;
}

impl HasBlock for DailyBlock {
    fn block_number(&self) -> i64 {
        self.block_number
    }

    fn epoch_seconds(&self) -> i64 {
        self.epoch_timestamp
    }
}

impl HasBlock for BlockEventRow {
    fn block_number(&self) -> i64 {
        self.block_number
    }

    fn epoch_seconds(&self) -> i64 {
        self.epoch_timestamp
    }
}

/// Returns the instants just before the borrows from `from` until `until`, in chain order.
///
/// # Errors
/// The errors of the lake.
pub(super) async fn before_borrows(
    lake: &Lake,
    from: Option<Day>,
    until: Option<Day>,
    wallets: Option<&FxHashSet<Address>>,
) -> Result<Vec<Instant>> {
    let is_selected = |day: Day| from.is_none_or(|from| from <= day) && until.is_none_or(|until| day <= until);
    let units = lake.units(&BORROWS).await?.into_iter().filter(|unit| unit.day().is_some_and(is_selected));
    let read = |unit| async move {
        let mut borrows: Vec<BorrowRow> = lake.require(&BORROWS, &unit).await?;
        borrows.retain(|borrow| wallets.is_none_or(|wallets| wallets.contains(&borrow.sender_address)));
        borrows.sort_by_key(|borrow| (borrow.block_number, borrow.log_index));
        let instants = borrows.into_iter().map(|borrow| Instant {
            wallet: borrow.sender_address,
            time: Timestamp::from_epoch_seconds(borrow.epoch_timestamp),
            borrow: Some(Borrow {
                block_number: borrow.block_number,
                transaction_hash: borrow.transaction_hash,
                log_index: borrow.log_index,
                protocol: borrow.protocol,
                token_address: borrow.token_address,
                amount_eth: borrow.quantity_eth,
            }),
        });
        Ok(instants.collect::<Vec<_>>())
    };
    Ok(in_order(units, WHOLE_OBJECTS, read).await?.into_iter().flatten().collect())
}

/// Reads instants from a file with a wallet and a time (UTC) on each line.
///
/// # Errors
/// `BadInput` with the number of the invalid line, or for a file without a line.
pub(super) fn from_file(path: &Path) -> Result<Vec<Instant>> {
    let instants = list::read(path, |record| {
        let Some(text) = record.get(1) else {
            return Err("it is not an address and a time, such as 0x…,2023-02-01T12:00:00Z".to_owned());
        };
        let wallet = list::wallet(record)?;
        let time = list::time(text).ok_or_else(|| format!("{text:?} is not a time, such as 2023-02-01T12:00:00Z"))?;
        if time.subsec_nanosecond() % 1_000_000 != 0 {
            return Err(format!("the time {text:?} is finer than a millisecond"));
        }
        Ok(Instant { wallet, time: Timestamp(time.as_millisecond()), borrow: None })
    })?;
    if instants.is_empty() {
        return Err(Error::bad_input("the file contains no wallet and time").with("path", path.display()));
    }
    Ok(instants)
}

/// Writes one row per instant, sorted by day, with a label if there is a horizon. Within a day, instants before its snapshot
/// come first; otherwise they keep their order.
///
/// # Errors
/// `BadInput` if the lake lacks events before an instant, and the errors of the lake.
pub(super) async fn write(
    lake: &Lake,
    instants: Vec<Instant>,
    horizon: Option<Period>,
    format: FileFormat,
    output: Option<&Path>,
) -> Result<u64> {
    let schema = schema(horizon.is_some());
    let Some(last) = instants.iter().map(Instant::day).max() else {
        return Sink::open(format, output, schema)?.finish();
    };
    let history = History::open(lake, &instants, last).await?;
    let labels = match horizon {
        Some(horizon) => Some(Labels::read(lake, &instants, horizon).await?),
        None => None,
    };
    let mut sink = Sink::open(format, output, Arc::clone(&schema))?;
    let write = |rows: Vec<InstantRow<'_>>| sink.write(&encode(&schema, rows, labels.as_ref())?);
    let unknown = history.replay(instants, write).await?;
    let written = sink.finish()?;
    report_unknown(&unknown, last);
    Ok(written)
}

/// The number of wallets that a line lists.
const MAX_NAMES: usize = 3;

/// Prints the wallets that the lake does not know: a wrong address has features, too, and all of them are 0.
fn report_unknown(unknown: &BTreeSet<Address>, last: Day) {
    if unknown.is_empty() {
        return;
    }
    let first: Vec<_> = unknown.iter().take(MAX_NAMES).map(Address::to_string).collect();
    let more = if unknown.len() > MAX_NAMES { ", …" } else { "" };
    let count = with_thousands(unknown.len() as u64);
    message(format_args!(
        "the lake has nothing of {count} wallets up to {last}, so that their features are 0: {}{more}",
        first.join(", ")
    ));
}

/// A row: the instant, its key, and the features as of it.
struct InstantRow<'a> {
    instant: &'a Instant,
    key: InstantKey,
    features: FeatureRow,
}

/// Returns the schema of the rows: the key of the instant, then the features, then the label.
pub(super) fn schema(with_label: bool) -> SchemaRef {
    let (key, features, label) = (InstantKey::schema(), FeatureRow::schema(), LabelRow::schema());
    let label = label.fields().iter().filter(|_| with_label);
    Schema::new(key.fields().iter().chain(features.fields().iter().skip(1)).chain(label).cloned().collect::<Vec<_>>())
        .into()
}

fn encode(schema: &SchemaRef, rows: Vec<InstantRow<'_>>, labels: Option<&Labels>) -> Result<RecordBatch> {
    let of_rows = labels.map(|labels| rows.iter().map(|row| labels.of(row.instant)).collect::<Vec<_>>());
    let (keys, features): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| (row.key, row.features)).unzip();
    let mut columns: Vec<ArrayRef> = InstantKey::encode(&keys)?.columns().to_vec();
    columns.extend(FeatureRow::encode(&features)?.columns().iter().skip(1).cloned());
    if let Some(of_rows) = of_rows {
        columns.extend(LabelRow::encode(&of_rows)?.columns().iter().cloned());
    }
    batch(Arc::clone(schema), columns)
}

/// The history in the lake, which is folded from its first day for the wallets of the instants.
struct History<'a> {
    lake: &'a Lake,
    wallets: FxHashSet<Address>,
    links: Links,
    /// The last day of all instants.
    last: Day,
    /// The categories of events that exist for each day.
    events: BTreeMap<Day, Vec<Category>>,
    /// The days with a snapshot, and the block of each snapshot.
    snapshots: BTreeMap<Day, DailyBlock>,
}

/// Returns the first day up to `needed` that lacks a category of events. `last` itself, if the lake begins after it.
fn first_gap(events: &BTreeMap<Day, Vec<Category>>, last: Day, needed: Day) -> Option<Day> {
    let is_complete = |day: &Day| events.get(day).is_some_and(|categories| categories.len() == Category::ALL.len());
    match events.keys().next() {
        Some(first) if *first <= last => first.through(needed).find(|day| !is_complete(day)),
        _ => Some(last),
    }
}

impl<'a> History<'a> {
    /// Opens the history for instants up to the day `last`.
    async fn open(lake: &'a Lake, instants: &[Instant], last: Day) -> Result<Self> {
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for category in Category::ALL {
            let units = lake.units(tables::event_table(Layer::Analytics, category)).await?;
            for day in units.iter().filter_map(WorkUnit::day).filter(|day| *day <= last) {
                events.entry(day).or_default().push(category);
            }
        }
        let days = lake.units(&WALLET_HEALTH).await?.into_iter().filter_map(|unit| unit.day());
        let block = |day| async move {
            let blocks: Vec<DailyBlock> = lake.require(&DAILY_BLOCKS, &WorkUnit::Day(day)).await?;
            let block = blocks.into_iter().next();
            Ok((day, block.ok_or_else(|| Error::corrupt("the day has no block").with("day", day))?))
        };
        let snapshots = in_order(days.filter(|day| *day <= last), SMALL_REQUESTS, block).await?.into_iter().collect();
        let needed = instants.iter().map(|instant| instant.last_day_of_events(&snapshots)).max().unwrap_or(last);
        if let Some(day) = first_gap(&events, last, needed) {
            return Err(Error::bad_input(format!(
                "the lake does not have all events of {day}, which instants up to {last} need"
            ))
            .with_hint("run the pipeline up to a later day first, or request earlier instants"));
        }
        let wallets = instants.iter().map(|instant| instant.wallet).collect();
        Ok(History { lake, wallets, links: links_before(lake, last.next()).await?, last, events, snapshots })
    }

    /// Folds the history day by day, and passes the rows of each day's instants to `write`. Returns the wallets of which
    /// the lake has nothing up to the last day.
    async fn replay(
        &self,
        instants: Vec<Instant>,
        mut write: impl FnMut(Vec<InstantRow<'_>>) -> Result<()>,
    ) -> Result<BTreeSet<Address>> {
        let mut by_day: BTreeMap<Day, Vec<Instant>> = BTreeMap::new();
        for instant in instants {
            by_day.entry(instant.day()).or_default().push(instant);
        }
        let first = self.events.keys().chain(self.snapshots.keys()).chain(by_day.keys()).min().copied();
        let (mut fold, mut snapshot) = (Fold::default(), None);
        for day in first.unwrap_or(self.last).through(self.last) {
            let instants = by_day.remove(&day).unwrap_or_default();
            let block = self.snapshots.get(&day);
            let (late, early): (Vec<_>, Vec<_>) =
                instants.iter().partition(|instant| block.is_none_or(|block| instant.is_after(block)));
            // An early instant is not after the first block of the day, so that no event of the day is before it.
            let mut rows: Vec<_> = early.into_iter().map(|instant| self.row(instant, &fold, snapshot, &[])).collect();
            if block.is_some() {
                self.add_snapshot(day, &mut fold).await?;
                snapshot = Some(day);
            }
            let events = self.events_of(day).await?;
            let by_wallet = self.by_wallet(&events, &late);
            let events_of = |wallet| by_wallet.get(wallet).map_or(&[][..], Vec::as_slice);
            rows.extend(late.into_iter().map(|instant| self.row(instant, &fold, snapshot, events_of(&instant.wallet))));
            if !rows.is_empty() {
                write(rows)?;
            }
            for (category, event) in &events {
                fold.apply(&event.fold_event(*category), &self.links, |wallet| self.wallets.contains(&wallet));
            }
        }
        Ok(self.wallets.iter().copied().filter(|wallet| *fold.wallet(*wallet) == WalletState::default()).collect())
    }

    async fn add_snapshot(&self, day: Day, fold: &mut Fold) -> Result<()> {
        let rows: Vec<FoldHealthRow> = self.lake.require(&WALLET_HEALTH, &WorkUnit::Day(day)).await?;
        for wallet_rows in rows.chunk_by(|a, b| a.wallet_address == b.wallet_address) {
            let wallet = wallet_rows[0].wallet_address;
            if self.wallets.contains(&wallet) {
                let exposures: Vec<_> = wallet_rows.iter().map(Exposure::from).collect();
                fold.snapshot(wallet, day, &exposures);
            }
        }
        Ok(())
    }

    /// Reads the events of a day in the order of the fold. The order determines the bits of the sums.
    async fn events_of(&self, day: Day) -> Result<Vec<(Category, BlockEventRow)>> {
        let read = |category| async move {
            let table = tables::event_table(Layer::Analytics, category);
            let rows: Vec<BlockEventRow> = self.lake.require(table, &WorkUnit::Day(day)).await?;
            Ok(rows.into_iter().map(move |event| (category, event)))
        };
        let categories = self.events.get(&day).into_iter().flatten().copied();
        Ok(in_order(categories, WHOLE_OBJECTS, read).await?.into_iter().flatten().collect())
    }

    /// Groups the events of a day by the wallets of its instants that they concern.
    fn by_wallet<'e>(
        &self,
        events: &'e [(Category, BlockEventRow)],
        instants: &[&Instant],
    ) -> FxHashMap<Address, Vec<&'e (Category, BlockEventRow)>> {
        let wallets: FxHashSet<_> = instants.iter().map(|instant| instant.wallet).collect();
        let mut by_wallet: FxHashMap<Address, Vec<&(Category, BlockEventRow)>> = FxHashMap::default();
        for event in events.iter().filter(|_| !wallets.is_empty()) {
            let fold_event = event.1.fold_event(event.0);
            let concerned =
                [fold_event.sender, fold_event.account].into_iter().chain(fold_event.liquidated_wallets(&self.links));
            for wallet in concerned.collect::<BTreeSet<_>>() {
                if wallets.contains(&wallet) {
                    by_wallet.entry(wallet).or_default().push(event);
                }
            }
        }
        by_wallet
    }

    /// Computes the row of an instant from the fold as of midnight and the events between midnight and the instant.
    fn row<'i>(
        &self,
        instant: &'i Instant,
        before: &Fold,
        snapshot: Option<Day>,
        events: &[&(Category, BlockEventRow)],
    ) -> InstantRow<'i> {
        let wallet = instant.wallet;
        let mut fold = before.only(wallet);
        for (category, event) in events {
            if instant.is_after(event) {
                fold.apply(&event.fold_event(*category), &self.links, |other| other == wallet);
            }
        }
        let state = *fold.wallet(wallet);
        let current_day = snapshot.unwrap_or_else(|| instant.day());
        let features = FeatureRow::at_instant(wallet, &state, current_day, instant.second());
        InstantRow { instant, key: instant.key(snapshot), features }
    }
}
