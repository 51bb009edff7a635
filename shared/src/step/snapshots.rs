//! Extracts snapshots from The Graph: one object per protocol and day, pinned to the day's first block.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, RecordBatch};

use super::staging::{CLOSED, SCHEMA};
use super::{CONCURRENT_LARGE_UNITS, CONCURRENT_UNITS, Context, Report, UnitInput};
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

/// A snapshot, with its pages in the order of their keys.
pub type RawSnapshot = Snapshot<RawPage>;

/// Snapshots without rows, which are checked after all others are written.
type EmptySnapshots = Arc<Mutex<Vec<(WorkUnit, DailyBlock, RawSnapshot)>>>;

/// Extracts the snapshots of a table: those that the input names, or those that are missing from the lake. A snapshot
/// without positions that follows one with positions is a fault of the indexer, unless the markets say that none is
/// open: it is then marked as [`CLOSED`]. If it were written unchecked, all wallets could appear to have closed their
/// positions. Snapshots without rows are therefore checked last, ordered by day. An empty snapshot of markets is
/// accepted: prices then come from previous days.
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
    F: Fn(Context, Arc<str>, DailyBlock) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<RawSnapshot>> + Send + 'static,
{
    let units = context.units(step, input).await?;
    let lost = Arc::new(context.lake.lost_units(table).await?);
    let empty: EmptySnapshots = Arc::default();
    let work = |context: Context, unit: WorkUnit| {
        let (fetch, empty, lost) = (fetch.clone(), Arc::clone(&empty), Arc::clone(&lost));
        async move {
            let (day, protocol) = unit.as_protocol_day()?;
            let block = context.first_block(day).await?;
            let snapshot = match fetch(context.clone(), protocol, block.clone()).await {
                Ok(snapshot) => snapshot,
                Err(error) => return Err(bury_if_pruned(&context, table, &unit, error).await?),
            };
            if snapshot.rows.iter().all(RawPage::is_empty) {
                empty.lock().unwrap_or_else(PoisonError::into_inner).push((unit, block, snapshot));
                return Ok(Report::default());
            }
            write::<R>(&context, table, unit, &block, snapshot, false, &lost).await
        }
    };
    let concurrency = if *table == RAW_POSITIONS { CONCURRENT_LARGE_UNITS } else { CONCURRENT_UNITS };
    let mut report = context.run_units(step, &units, concurrency, work).await?;
    let mut deferred = std::mem::take(&mut *empty.lock().unwrap_or_else(PoisonError::into_inner));
    deferred.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let context = &Context { traffic: Arc::default(), ..context.clone() };
    for (unit, block, snapshot) in deferred {
        let mut closed = false;
        if *table == RAW_POSITIONS {
            let (day, protocol) = unit.as_protocol_day()?;
            let previous = WorkUnit::ProtocolDay(day.previous(), protocol);
            if report.remaining.first.contains(&previous.to_string()) {
                // The snapshot can be compared with that of the previous day only in the next call.
                report.remaining.add(&unit);
                continue;
            }
            closed = is_closed(context, &unit, &block, &snapshot).await?;
        }
        report.merge(write::<R>(context, table, unit, &block, snapshot, closed, &lost).await?);
    }
    report.traffic += &context.traffic.report();
    context.registry.register(table, &units).await?;
    context.finish_call(step, input.run_id.as_ref(), &units, report).await
}

/// Writes a tombstone if the source no longer has the history of a unit, unless an earlier snapshot is in the lake.
/// Returns the error.
async fn bury_if_pruned(context: &Context, table: &Table, unit: &WorkUnit, error: Error) -> Result<Error> {
    if error.kind() == Kind::HistoryPruned && context.lake.file_metadata(table, unit).await?.is_none() {
        context.lake.write_tombstone(table, unit, error.details()).await?;
    }
    Ok(error)
}

/// Writes a snapshot and deletes the tombstone of its unit, if that is one of the `lost` ones.
async fn write<R: Row>(
    context: &Context,
    table: &Table,
    unit: WorkUnit,
    block: &DailyBlock,
    snapshot: RawSnapshot,
    closed: bool,
    lost: &BTreeSet<WorkUnit>,
) -> Result<Report> {
    let rows_in = snapshot.rows.iter().map(|page| page.rows_in).sum();
    let repeats: u64 = snapshot.rows.iter().map(|page| page.repeats).sum();
    let mut metadata = FileMetadata::from([
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
    let batches = snapshot.rows.into_iter().map(|page| page.batch).collect();
    let written = context.lake.write_batches::<R>(table, &unit, batches, metadata).await?;
    if lost.contains(&unit) {
        context.lake.delete_tombstone(table, &unit).await?;
    }
    Ok(Report { rows_in, repeats, ..Report::default() }.with_written(written))
}

/// Returns whether the positions of an earlier snapshot are all closed in this one, which has none. Returns false if
/// there was no position before.
async fn is_closed(context: &Context, unit: &WorkUnit, block: &DailyBlock, snapshot: &RawSnapshot) -> Result<bool> {
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
    let markets = context.graph.markets(subgraph, block.number()?, &context.traffic).await;
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
    use crate::sources::Block;
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
        let fetch = |_: Context, _: Arc<str>, block: DailyBlock| async move {
            if block.day == january(1) {
                std::future::pending::<()>().await;
            }
            let block = Block { number: block.number()?, timestamp: None, hash: None };
            Ok(Snapshot { block, deployment: String::new(), rows: Vec::new() })
        };
        let (context, input) = (&test_lake.context, UnitInput::default());
        let step = Step::ExtractAccountPositions;
        let report = extract::<RawPosition, _, _>(context, step, &RAW_POSITIONS, &input, fetch).await.unwrap();
        assert_eq!(report.remaining.first, ["2023-01-01", "2023-01-02"].map(|day| format!("{day} {AAVE}")));
        assert_eq!((report.units, report.remaining.idle_calls), (0, 1), "nothing was written");
    }
}
