//! Computes features as of an instant from the blocks strictly before it. A snapshot is taken at the end of a block, so
//! that the current snapshot of an instant is the last one whose block is before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use defi_shared::domain::fold::{Exposure, Fold, WalletState};
use defi_shared::domain::{Address, Category, Day, Links};
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::step::history::links_before;
use defi_shared::tables::{
    self, BlockEventRow, DAILY_BLOCKS, DailyBlock, FeatureRow, FoldHealthRow, Layer, Row, WALLET_HEALTH,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::instants::{Instant, Position};
use super::labels::Labels;
use super::period::Period;
use super::rows;
use crate::output::{FileFormat, Sink, Written, message};
use defi_pages::number::with_thousands;

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
) -> Result<Written> {
    let schema = rows::schema(horizon.is_some());
    let Some(last) = instants.iter().map(Instant::day).max() else {
        return Sink::open(format, output, schema)?.finish();
    };
    let history = History::open(lake, &instants, last).await?;
    let labels = Labels::read(lake, &instants, horizon).await?;
    labels.iter().for_each(|labels| labels.report_censored(&instants));
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

/// The features of a wallet as of an instant.
struct InstantRow<'a> {
    instant: &'a Instant,
    snapshot_day: Option<Day>,
    features: FeatureRow,
}

fn encode(schema: &SchemaRef, rows: Vec<InstantRow<'_>>, labels: Option<&Labels>) -> Result<RecordBatch> {
    let (instants, features): (Vec<_>, Vec<_>) =
        rows.into_iter().map(|row| ((row.instant, row.snapshot_day), row.features)).unzip();
    rows::batch_of(schema, &instants, &FeatureRow::encode(&features)?.columns()[1..], labels)
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
            let (late, early): (Vec<_>, Vec<_>) = instants
                .iter()
                .partition(|instant| block.is_none_or(|block| instant.is_after(&Position::at_the_end_of(block))));
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
            if instant.is_after(&Position::of(event)) {
                fold.apply(&event.fold_event(*category), &self.links, |other| other == wallet);
            }
        }
        let state = *fold.wallet(wallet);
        let current_day = snapshot.unwrap_or_else(|| instant.day());
        let features = FeatureRow::at_instant(wallet, &state, current_day, instant.second());
        InstantRow { instant, snapshot_day: snapshot, features }
    }
}
