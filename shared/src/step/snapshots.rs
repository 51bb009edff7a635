//! Extracts snapshots from The Graph: one object per protocol and day, pinned to the day's first block. Days that can't be had
//! any more are rebuilt from the newest state, if the run says so.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_select::interleave::interleave_record_batch;

use super::staging::{CLOSED, REBUILT, SCHEMA};
use super::{CONCURRENT_LARGE_UNITS, CONCURRENT_UNITS, CallUnits, Context, Report, UnitInput};
use crate::config::Schema;
use crate::domain::Day;
use crate::error::{Error, Kind, Result};
use crate::lake::{FileMetadata, WorkUnit};
use crate::pipeline::Step;
use crate::sources::Text;
use crate::sources::graph::{Market, Snapshot};
use crate::tables::{DailyBlock, RAW_POSITIONS, Row, Table};

/// The number of days before a snapshot without positions in which the newest earlier snapshot is looked for.
const EARLIER_DAYS: i32 = 7;

/// The largest total of a protocol without positions, in US dollars: dust may remain in its markets.
const NEGLIGIBLE_USD: f64 = 1.0;

/// Rows of a snapshot in the schema of the raw layer: those of one page, or all.
#[derive(Debug)]
pub struct RawPage {
    batch: RecordBatch,
    rows_in: u64,
    repeats: u64,
}

impl RawPage {
    /// Converts rows of the source with `raw`. `sort` sorts the raw rows, drops exact duplicates and returns their
    /// number.
    ///
    /// # Errors
    /// The rows could not be encoded.
    pub fn new<T, R: Row>(rows: Vec<T>, raw: impl Fn(T) -> R, sort: impl FnOnce(&mut Vec<R>) -> u64) -> Result<Self> {
        let rows_in = rows.len() as u64;
        let mut rows: Vec<R> = rows.into_iter().map(raw).collect();
        let repeats = sort(&mut rows);
        Ok(RawPage { batch: shrink_to_fit(R::encode(&rows)?)?, rows_in, repeats })
    }

    /// Merges pages into one, sorted by a column of texts.
    ///
    /// # Errors
    /// `Internal` if there is no such column.
    pub fn merge(pages: &[RawPage], column: &str) -> Result<Self> {
        let invalid = |cause| Error::internal("cannot merge pages").with_source(cause);
        let mut keys = Vec::new();
        for (number, page) in pages.iter().enumerate() {
            let texts = page.batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
            let texts = texts.ok_or_else(|| Error::internal("a page has no such column").with("column", column))?;
            keys.extend(texts.iter().enumerate().map(|(row, text)| ((text.is_none(), text), (number, row))));
        }
        keys.sort_unstable();
        let rows: Vec<_> = keys.into_iter().map(|(_, place)| place).collect();
        let batches: Vec<_> = pages.iter().map(|page| &page.batch).collect();
        Ok(RawPage {
            batch: interleave_record_batch(&batches, &rows).map_err(invalid)?,
            rows_in: pages.iter().map(|page| page.rows_in).sum(),
            repeats: pages.iter().map(|page| page.repeats).sum(),
        })
    }

    /// Returns whether the page has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows_in == 0
    }
}

/// Frees the unused capacity of a batch's columns: the batch is kept in memory until all pages are extracted.
fn shrink_to_fit(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, mut columns, _) = batch.into_parts();
    columns.iter_mut().for_each(Array::shrink_to_fit);
    RecordBatch::try_new(schema, columns).map_err(|cause| Error::internal("invalid record batch").with_source(cause))
}

/// Why a lost day of a subgraph in Aave's own schema can't be rebuilt, and what to do.
pub const AAVE_NEEDS_THE_CHAIN: &str = "Aave's own subgraph keeps nothing to rebuild a lost day from: extract it into another lake from a node (--rpc-url)";

/// How a snapshot is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As the state at the block, of which the query is pinned.
    Pinned,
    /// From what the newest state keeps of the past. Only of a subgraph in Messari's schema.
    Rebuilt,
}

/// A snapshot, with its pages in the order of their keys.
#[derive(Debug)]
pub struct RawSnapshot {
    /// The deployment that served it.
    pub deployment: String,
    /// The pages.
    pub pages: Vec<RawPage>,
    /// Further entries of the object's metadata.
    pub metadata: FileMetadata,
}

impl From<Snapshot<RawPage>> for RawSnapshot {
    fn from(snapshot: Snapshot<RawPage>) -> Self {
        RawSnapshot { deployment: snapshot.deployment, pages: snapshot.rows, metadata: FileMetadata::new() }
    }
}

/// A snapshot of a unit.
struct Extracted {
    unit: WorkUnit,
    block: DailyBlock,
    snapshot: RawSnapshot,
    reading: Reading,
}

/// What the units of a call share.
struct Extraction<F> {
    table: &'static Table,
    fetch: F,
    /// The units that were lost before the call.
    lost: BTreeSet<WorkUnit>,
    /// Whether lost units are rebuilt.
    rebuild: bool,
    /// Snapshots without rows, which are checked after all others are written.
    empty: Mutex<Vec<Extracted>>,
    /// The units whose history is pruned, which are rebuilt after all others are written.
    pruned: Mutex<Vec<WorkUnit>>,
}

/// Extracts the snapshots of a table: those that the input names, or those that are missing from the lake. A snapshot
/// without positions that follows one with positions is a fault of the indexer, unless the markets say that none is
/// open: it is then marked as [`CLOSED`]. If it were written unchecked, all wallets could appear to have closed their
/// positions. Snapshots without rows are therefore checked last, ordered by day. An empty snapshot of markets is
/// accepted: prices then come from previous days.
///
/// Snapshots whose history is pruned are rebuilt after all others, if the input says so: what they take from other days
/// then does not depend on the order of the units.
///
/// # Errors
/// `NotReady` for a day whose first block is unknown or not indexed yet, `SourceUnavailable` for a snapshot without
/// positions that follows one with positions, and the errors of The Graph and of the lake.
pub async fn extract<R, F, Fut>(
    context: &Context,
    step: Step,
    table: &'static Table,
    input: &UnitInput,
    fetch: F,
) -> Result<Report>
where
    R: Row,
    F: Fn(Context, Arc<str>, DailyBlock, Reading) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<RawSnapshot>> + Send + 'static,
{
    let units = context.units(step, input).await?;
    let extraction = Arc::new(Extraction {
        table,
        fetch,
        lost: context.lake.lost_units(table).await?,
        rebuild: input.rebuild_lost,
        empty: Mutex::default(),
        pruned: Mutex::default(),
    });
    let work = |reading| {
        let extraction = Arc::clone(&extraction);
        move |context: Context, unit: WorkUnit| {
            let extraction = Arc::clone(&extraction);
            async move { extraction.extract::<R, _>(context, unit, reading).await }
        }
    };
    let concurrency = if *table == RAW_POSITIONS { CONCURRENT_LARGE_UNITS } else { CONCURRENT_UNITS };
    let mut report = context.run_units(step, &units, concurrency, work(Reading::Pinned)).await?;
    let mut pruned = take(&extraction.pruned);
    if !pruned.is_empty() {
        pruned.sort_unstable_by(|a, b| b.cmp(a));
        let pruned = CallUnits::from(pruned);
        report.merge(context.run_units(step, &pruned, concurrency, work(Reading::Rebuilt)).await?);
    }
    let mut deferred = take(&extraction.empty);
    deferred.sort_by(|a, b| a.unit.cmp(&b.unit));
    let context = &Context { traffic: Arc::default(), ..context.clone() };
    for extracted in deferred {
        let mut closed = false;
        if *table == RAW_POSITIONS {
            let (day, protocol) = extracted.unit.as_protocol_day()?;
            let previous = WorkUnit::ProtocolDay(day.previous(), protocol);
            if report.remaining.first.contains(&previous.to_string()) {
                // The snapshot can be compared with that of the previous day only in the next call.
                report.remaining.add(&extracted.unit);
                continue;
            }
            closed = is_closed(context, &extracted).await?;
        }
        report.merge(extraction.write::<R>(context, extracted, closed).await?);
    }
    report.traffic += &context.traffic.report();
    context.registry.register(table, &units).await?;
    context.finish_call(step, input.run_id.as_ref(), &units, report).await
}

fn take<T>(units: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *units.lock().unwrap_or_else(PoisonError::into_inner))
}

fn push<T>(units: &Mutex<Vec<T>>, unit: T) {
    units.lock().unwrap_or_else(PoisonError::into_inner).push(unit);
}

impl<F> Extraction<F> {
    /// Extracts the snapshot of a unit, or leaves it to a later part of the call.
    async fn extract<R: Row, Fut>(&self, context: Context, unit: WorkUnit, reading: Reading) -> Result<Report>
    where
        F: Fn(Context, Arc<str>, DailyBlock, Reading) -> Fut + Send + Sync,
        Fut: Future<Output = Result<RawSnapshot>> + Send,
    {
        let (day, protocol) = unit.as_protocol_day()?;
        let block = context.first_block(day).await?;
        let snapshot = match (self.fetch)(context.clone(), protocol, block.clone(), reading).await {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == Kind::HistoryPruned => {
                return self.after_pruning(&context, unit, reading, error).await;
            }
            Err(error) => return Err(error),
        };
        let extracted = Extracted { unit, block, snapshot, reading };
        if extracted.snapshot.pages.iter().all(RawPage::is_empty) {
            push(&self.empty, extracted);
            return Ok(Report::default());
        }
        self.write::<R>(&context, extracted, false).await
    }

    /// Writes a tombstone of a unit whose history is pruned, unless an earlier snapshot is in the lake. Leaves the unit to be
    /// rebuilt, or returns the error.
    async fn after_pruning(&self, context: &Context, unit: WorkUnit, reading: Reading, error: Error) -> Result<Report> {
        if context.lake.file_metadata(self.table, &unit).await?.is_none() {
            context.lake.write_tombstone(self.table, &unit, error.details()).await?;
        } else if !self.lost.contains(&unit) {
            // What the lake has was read at the block, which is better.
            return Err(error);
        }
        if !self.rebuild || reading == Reading::Rebuilt {
            return Err(error);
        }
        match context.config.schema(&unit.as_protocol_day()?.1)? {
            Some(Schema::Messari) => {
                push(&self.pruned, unit);
                Ok(Report::default())
            }
            Some(Schema::Aave) => Err(error.with_hint(AAVE_NEEDS_THE_CHAIN)),
            None => Err(error),
        }
    }

    /// Writes a snapshot. A unit of which the source had the state at the block is not lost any more; a rebuilt one keeps its
    /// tombstone, which tells it from the others.
    async fn write<R: Row>(&self, context: &Context, extracted: Extracted, closed: bool) -> Result<Report> {
        let Extracted { unit, block, snapshot, reading } = extracted;
        let rows_in = snapshot.pages.iter().map(|page| page.rows_in).sum();
        let repeats: u64 = snapshot.pages.iter().map(|page| page.repeats).sum();
        let mut metadata = snapshot.metadata;
        metadata.extend([
            ("block".to_owned(), block.block_number.to_string()),
            ("deployment".to_owned(), snapshot.deployment),
            ("repeats".to_owned(), repeats.to_string()),
        ]);
        if closed {
            metadata.insert(CLOSED.to_owned(), "true".to_owned());
        }
        if context.config.schema(&unit.as_protocol_day()?.1)? == Some(Schema::Aave) {
            metadata.insert(SCHEMA.to_owned(), Schema::Aave.name().to_owned());
        }
        let mut report = Report { rows_in, repeats, ..Report::default() };
        match reading {
            // Before the object is written: a lost unit that is in the lake is a rebuilt one.
            Reading::Pinned if self.lost.contains(&unit) => context.lake.delete_tombstone(self.table, &unit).await?,
            Reading::Pinned => {}
            Reading::Rebuilt => {
                metadata.insert(REBUILT.to_owned(), "true".to_owned());
                report.rebuilt.add(unit.to_string());
            }
        }
        let batches = snapshot.pages.into_iter().map(|page| page.batch).collect();
        // No state is computed from the rows of a snapshot.
        let object = context.lake.encode_columns::<R>(self.table, &unit, batches, metadata).await?;
        Ok(report.with_written(context.lake.put(object).await?))
    }
}

/// Returns whether the positions of an earlier snapshot are all closed in this one, which has none. Returns false if
/// there was no position before.
async fn is_closed(context: &Context, extracted: &Extracted) -> Result<bool> {
    let Extracted { unit, block, snapshot, reading } = extracted;
    let (day, protocol) = unit.as_protocol_day()?;
    let Some((earlier, metadata, rows)) = newest_before(context, day, &protocol).await? else { return Ok(false) };
    // If the earlier day was closed too, the totals show whether the protocol still has no positions.
    if rows == 0 && !metadata.contains_key(CLOSED) {
        return Ok(false);
    }
    let configured = context.config.protocol(&protocol)?;
    let subgraph = configured.subgraph()?;
    let empty = |message: &str| {
        Error::new(Kind::SourceUnavailable, message)
            .with("unit", unit)
            .with("earlier_day", earlier)
            .with("positions_on_earlier_day", rows)
            .with_hint("run again later: the indexer may be incomplete")
    };
    if configured.schema == Schema::Aave {
        return Err(empty("the snapshot has no positions, and Aave's own subgraph does not say that all are closed"));
    }
    let (number, traffic) = (block.number()?, &context.traffic);
    let markets = match reading {
        Reading::Pinned => context.graph.markets(subgraph, number, traffic).await,
        Reading::Rebuilt => context.graph.rebuilt_markets(subgraph, number, traffic).await,
    };
    let markets = markets.map_err(|error| error.with("unit", unit))?;
    // Another deployment says nothing about this snapshot.
    if markets.deployment == snapshot.deployment && totals_are_negligible(&markets.rows) {
        return Ok(true);
    }
    Err(empty("the snapshot has no positions, and its markets do not say that all are closed"))
}

/// Returns the day, metadata and row count of the newest stored snapshot of positions of the [`EARLIER_DAYS`] before a
/// day.
async fn newest_before(context: &Context, day: Day, protocol: &Arc<str>) -> Result<Option<(Day, FileMetadata, u64)>> {
    for earlier in day.plus_days(-EARLIER_DAYS).until(day).rev() {
        let unit = WorkUnit::ProtocolDay(earlier, Arc::clone(protocol));
        if let Some((metadata, rows)) = context.lake.file_metadata(&RAW_POSITIONS, &unit).await? {
            return Ok(Some((earlier, metadata, rows)));
        }
    }
    Ok(None)
}

/// Returns whether all markets say what their supplies and debts are worth, and both sums are negligible.
fn totals_are_negligible(markets: &[Market]) -> bool {
    let sum = |field: fn(&Market) -> &Text| -> Option<f64> {
        markets.iter().map(|market| field(market).as_deref()?.parse::<f64>().ok().map(f64::abs)).sum()
    };
    let sums = [sum(|market| &market.total_deposit_balance_usd), sum(|market| &market.total_borrow_balance_usd)];
    !markets.is_empty() && sums.into_iter().all(|sum| sum.is_some_and(|usd| usd <= NEGLIGIBLE_USD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markets(values: &[[&str; 2]]) -> Vec<Market> {
        let market = |[deposits, borrows]: &[&str; 2]| Market {
            total_deposit_balance_usd: (*deposits).into(),
            total_borrow_balance_usd: (*borrows).into(),
            ..Market::default()
        };
        values.iter().map(market).collect()
    }

    #[test]
    fn totals_are_negligible_only_if_every_market_says_so() {
        assert!(totals_are_negligible(&markets(&[["0", "0"], ["0.4", "1e-9"]])));
        for values in [
            &[["0.6", "0"], ["0.6", "0"]][..],
            &[["0", "2"]],
            &[["0", "0"], ["", "0"]],
            &[["0", "NaN"]],
            &[["-5", "0"]],
            &[],
        ] {
            assert!(!totals_are_negligible(&markets(values)), "{values:?}");
        }
        assert!(!totals_are_negligible(&[Market::default()]), "a market without totals says nothing");
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod deadline_tests {
    use std::time::Duration;

    use super::*;
    use crate::step::Deadline;
    use crate::tables::{DAILY_BLOCKS, RawPosition};
    use crate::testing::{AAVE, TestLake, daily_block, january};

    #[tokio::test]
    async fn empty_day_remains_while_the_day_before_it_remains() {
        let mut test_lake = TestLake::new(&[AAVE], january(2)).unwrap();
        for day in [1, 2].map(january) {
            test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(day), vec![daily_block(day)]).await.unwrap();
        }
        test_lake.context.deadline = Some(Deadline::of_units(Duration::from_millis(300)));
        let fetch = |_: Context, _: Arc<str>, block: DailyBlock, _: Reading| async move {
            if block.day == january(1) {
                std::future::pending::<()>().await;
            }
            let metadata = FileMetadata::new();
            Ok(RawSnapshot { deployment: String::new(), pages: Vec::new(), metadata })
        };
        let (context, input) = (&test_lake.context, UnitInput::default());
        let step = Step::ExtractAccountPositions;
        let report = extract::<RawPosition, _, _>(context, step, &RAW_POSITIONS, &input, fetch).await.unwrap();
        assert_eq!(report.remaining.first, ["2023-01-01", "2023-01-02"].map(|day| format!("{day} {AAVE}")));
        assert_eq!((report.units, report.remaining.idle_calls), (0, 1), "nothing was written");
    }
}
