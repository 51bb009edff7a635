//! Features as of an instant: from the blocks strictly before it, and from no other. Snapshots are of the end of a block, so the one
//! that counts as *now* is the last that is pinned to such a block.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use defi_shared::domain::fold::{Exposure, Fold};
use defi_shared::domain::{Address, Category, Day, Links, TxHash};
use defi_shared::error::{Error, Result};
use defi_shared::lake::{Lake, Unit};
use defi_shared::step::history::links_before;
use defi_shared::tables::{
    self, BORROWS, DAILY_BLOCKS, DailyBlock, FeatureRow, FoldedHealth, InstantKey, Layer, PlacedEvent, Row, Timestamp,
    WALLET_HEALTH,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::sink::{FileFormat, Sink};
use super::{batch, records, wrong_line};

/// A moment in a wallet's life.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instant {
    /// The wallet.
    pub wallet: Address,
    /// Epoch seconds: of the borrow's block, or as asked for.
    pub time: i64,
    /// The borrow that comes next, where the instant is just before one.
    pub borrow: Option<Borrow>,
}

/// A borrow, by its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Borrow {
    block_number: i64,
    transaction_hash: TxHash,
    log_index: i64,
}

impl Instant {
    /// Whether a block, or an event's block, comes before it.
    fn is_after(&self, block: &impl InBlock) -> bool {
        match &self.borrow {
            Some(borrow) => block.number() < borrow.block_number,
            None => block.time() < self.time,
        }
    }
}

/// What has a block.
trait InBlock {
    fn number(&self) -> i64;
    /// Epoch seconds.
    fn time(&self) -> i64;
}

impl InBlock for DailyBlock {
    fn number(&self) -> i64 {
        self.block_number
    }

    fn time(&self) -> i64 {
        self.epoch_timestamp
    }
}

impl InBlock for PlacedEvent {
    fn number(&self) -> i64 {
        self.block_number
    }

    fn time(&self) -> i64 {
        self.epoch_timestamp
    }
}

/// The instants just before the borrows of some days, in the order of the chain.
///
/// # Errors
/// The lake's.
pub(super) async fn of_borrows(
    lake: &Lake,
    from: Option<Day>,
    until: Option<Day>,
    wallets: Option<&FxHashSet<Address>>,
) -> Result<Vec<Instant>> {
    let mut instants = Vec::new();
    for unit in lake.units(&BORROWS).await? {
        let wanted = |day: Day| from.is_none_or(|from| from <= day) && until.is_none_or(|until| day <= until);
        if !unit.day().is_some_and(wanted) {
            continue;
        }
        let mut borrows: Vec<PlacedEvent> = lake.require(&BORROWS, &unit).await?;
        borrows.retain(|borrow| wallets.is_none_or(|wallets| wallets.contains(&borrow.sender_address)));
        borrows.sort_by_key(|borrow| (borrow.block_number, borrow.log_index));
        instants.extend(borrows.into_iter().map(|event| Instant {
            wallet: event.sender_address,
            time: event.epoch_timestamp,
            borrow: Some(Borrow {
                block_number: event.block_number,
                transaction_hash: event.transaction_hash,
                log_index: event.log_index,
            }),
        }));
    }
    Ok(instants)
}

/// The instants that a file names: a wallet and a time (UTC) on each line, a heading left aside.
///
/// # Errors
/// `BadInput` that names the line.
pub(super) fn of_file(path: &Path) -> Result<Vec<Instant>> {
    let mut instants = Vec::new();
    for (line, record) in records(path)? {
        match (Address::parse(record.get(0).unwrap_or_default()), record.get(1).and_then(seconds)) {
            (Some(wallet), Some(time)) => instants.push(Instant { wallet, time, borrow: None }),
            (None, _) if line == 1 => {}
            _ => return Err(wrong_line(path, line, "is no address and time, such as 0x…,2023-02-01T12:00:00Z")),
        }
    }
    Ok(instants)
}

/// Epoch seconds of a time in UTC, or of the midnight of a day, or as they are.
fn seconds(text: &str) -> Option<i64> {
    let time = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    time.or_else(|| text.parse::<Day>().ok().map(Day::start)).or_else(|| text.parse().ok())
}

/// Writes a row an instant: by day, and of a day as they came.
///
/// # Errors
/// `BadInput` for an instant that the lake does not reach, and the lake's errors.
pub(super) async fn write(
    lake: &Lake,
    instants: Vec<Instant>,
    format: FileFormat,
    output: Option<&Path>,
) -> Result<u64> {
    let history = History::of(lake, &instants).await?;
    let mut sink = Sink::open(format, output, schema())?;
    history.replay(instants, |rows| sink.write(&encoded(rows)?)).await?;
    sink.finish()
}

/// What tells an instant from the others, then the features.
fn schema() -> SchemaRef {
    let (key, features) = (InstantKey::schema(), FeatureRow::schema());
    Schema::new(key.fields().iter().chain(features.fields().iter().skip(1)).cloned().collect::<Vec<_>>()).into()
}

fn encoded(rows: Vec<(InstantKey, FeatureRow)>) -> Result<RecordBatch> {
    let (keys, features): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let mut columns: Vec<ArrayRef> = InstantKey::encode(&keys)?.columns().to_vec();
    columns.extend(FeatureRow::encode(&features)?.columns().iter().skip(1).cloned());
    batch(schema(), columns)
}

/// The lake's days, replayed from the first one for the wallets that are asked for.
struct History<'a> {
    lake: &'a Lake,
    wallets: FxHashSet<Address>,
    links: Links,
    /// The last day of any instant.
    last: Day,
    events: BTreeMap<Day, Vec<Category>>,
    /// The days with a snapshot, and the block that it is pinned to.
    snapshots: BTreeMap<Day, DailyBlock>,
}

/// The first day, up to the last one, of which not all categories of events are there.
fn first_gap(events: &BTreeMap<Day, Vec<Category>>, last: Day) -> Option<Day> {
    let first = events.keys().next().copied().unwrap_or(last);
    first
        .min(last)
        .through(last)
        .find(|day| events.get(day).is_none_or(|categories| categories.len() < Category::ALL.len()))
}

impl<'a> History<'a> {
    async fn of(lake: &'a Lake, instants: &[Instant]) -> Result<Self> {
        let last = instants.iter().map(|instant| instant.time).max();
        let last = Day::of_seconds(last.ok_or_else(|| Error::bad_input("there is no instant to make a row for"))?);
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for category in Category::ALL {
            let units = lake.units(tables::events(Layer::Analytics, category)).await?;
            for day in units.iter().filter_map(Unit::day).filter(|day| *day <= last) {
                events.entry(day).or_default().push(category);
            }
        }
        if let Some(day) = first_gap(&events, last) {
            return Err(Error::bad_input(format!(
                "the lake does not have all events of {day}, and instants up to {last} ask for them"
            ))
            .next("run up to a later day first, or ask for earlier instants"));
        }
        let mut snapshots = BTreeMap::new();
        for day in lake.units(&WALLET_HEALTH).await?.iter().filter_map(Unit::day).filter(|day| *day <= last) {
            let blocks: Vec<DailyBlock> = lake.require(&DAILY_BLOCKS, &Unit::Day(day)).await?;
            let block = blocks.into_iter().next();
            snapshots.insert(day, block.ok_or_else(|| Error::corrupt("a day without its block").with("day", day))?);
        }
        let wallets = instants.iter().map(|instant| instant.wallet).collect();
        Ok(History { lake, wallets, links: links_before(lake, last.next()).await?, last, events, snapshots })
    }

    /// Hands over the rows of each day's instants.
    async fn replay(
        &self,
        instants: Vec<Instant>,
        mut take: impl FnMut(Vec<(InstantKey, FeatureRow)>) -> Result<()>,
    ) -> Result<()> {
        let mut by_day: BTreeMap<Day, Vec<Instant>> = BTreeMap::new();
        for instant in instants {
            by_day.entry(Day::of_seconds(instant.time)).or_default().push(instant);
        }
        let first = self.events.keys().chain(self.snapshots.keys()).chain(by_day.keys()).min().copied();
        let (mut fold, mut snapshot) = (Fold::default(), None);
        for day in first.unwrap_or(self.last).through(self.last) {
            let instants = by_day.remove(&day).unwrap_or_default();
            let block = self.snapshots.get(&day);
            let (late, early): (Vec<_>, Vec<_>) =
                instants.iter().partition(|instant| block.is_none_or(|block| instant.is_after(block)));
            // No block of the day comes before an early one.
            let mut rows: Vec<_> = early.into_iter().map(|instant| self.row(instant, &fold, snapshot, &[])).collect();
            if block.is_some() {
                self.add_snapshot(day, &mut fold).await?;
                snapshot = Some(day);
            }
            let events = self.events_of(day).await?;
            let of_wallets = self.by_wallet(&events, &late);
            let before = |wallet| of_wallets.get(wallet).map_or(&[][..], Vec::as_slice);
            rows.extend(late.into_iter().map(|instant| self.row(instant, &fold, snapshot, before(&instant.wallet))));
            if !rows.is_empty() {
                take(rows)?;
            }
            for (category, event) in &events {
                fold.happened(&event.occurrence(*category), &self.links, |wallet| self.wallets.contains(&wallet));
            }
        }
        Ok(())
    }

    async fn add_snapshot(&self, day: Day, fold: &mut Fold) -> Result<()> {
        let rows: Vec<FoldedHealth> = self.lake.require(&WALLET_HEALTH, &Unit::Day(day)).await?;
        for of_wallet in rows.chunk_by(|a, b| a.wallet_address == b.wallet_address) {
            let wallet = of_wallet[0].wallet_address;
            if self.wallets.contains(&wallet) {
                let exposures: Vec<_> = of_wallet.iter().map(Exposure::from).collect();
                fold.snapshot(wallet, day, &exposures);
            }
        }
        Ok(())
    }

    /// A day's events in the order of the fold, which sums are made in.
    async fn events_of(&self, day: Day) -> Result<Vec<(Category, PlacedEvent)>> {
        let mut events = Vec::new();
        for category in self.events.get(&day).into_iter().flatten() {
            let table = tables::events(Layer::Analytics, *category);
            let rows: Vec<PlacedEvent> = self.lake.require(table, &Unit::Day(day)).await?;
            events.extend(rows.into_iter().map(|event| (*category, event)));
        }
        Ok(events)
    }

    /// The events of a day that are about the wallets of its instants.
    fn by_wallet<'e>(
        &self,
        events: &'e [(Category, PlacedEvent)],
        instants: &[&Instant],
    ) -> FxHashMap<Address, Vec<&'e (Category, PlacedEvent)>> {
        let wallets: FxHashSet<_> = instants.iter().map(|instant| instant.wallet).collect();
        let mut of_wallet: FxHashMap<Address, Vec<&(Category, PlacedEvent)>> = FxHashMap::default();
        for event in events.iter().filter(|_| !wallets.is_empty()) {
            let occurrence = event.1.occurrence(event.0);
            let about =
                [occurrence.sender, occurrence.account].into_iter().chain(occurrence.wallets_behind(&self.links));
            for wallet in about.collect::<BTreeSet<_>>() {
                if wallets.contains(&wallet) {
                    of_wallet.entry(wallet).or_default().push(event);
                }
            }
        }
        of_wallet
    }

    /// The features of an instant: the state as of its midnight, and the events of the day that come before it.
    fn row(
        &self,
        instant: &Instant,
        before: &Fold,
        snapshot: Option<Day>,
        events: &[&(Category, PlacedEvent)],
    ) -> (InstantKey, FeatureRow) {
        let wallet = instant.wallet;
        let mut fold = before.only(wallet);
        for (category, event) in events {
            if instant.is_after(event) {
                fold.happened(&event.occurrence(*category), &self.links, |other| other == wallet);
            }
        }
        let state = *fold.wallet(wallet);
        let now = snapshot.unwrap_or_else(|| Day::of_seconds(instant.time));
        let key = InstantKey {
            wallet_address: wallet,
            time: Timestamp::from_seconds(instant.time),
            block_number: instant.borrow.as_ref().map(|borrow| borrow.block_number),
            transaction_hash: instant.borrow.as_ref().map(|borrow| borrow.transaction_hash),
            log_index: instant.borrow.as_ref().map(|borrow| borrow.log_index),
            snapshot_day: snapshot,
        };
        (key, FeatureRow::at(wallet, &state, now, instant.time))
    }
}
