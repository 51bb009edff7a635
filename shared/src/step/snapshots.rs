//! Extracting snapshots from The Graph: one object a protocol and day, pinned to the day's first block.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch};

use super::{CONCURRENT_LARGE_UNITS, CONCURRENT_UNITS, Context, Report, UnitInput};
use crate::error::{Error, Kind, Result};
use crate::lake::{Facts, Unit};
use crate::pipeline::Step;
use crate::sources::graph::Snapshot;
use crate::tables::{DailyBlock, RAW_POSITIONS, Row, Table};

/// Rows of a snapshot as the raw layer keeps them: a page of it, or all.
#[derive(Debug)]
pub struct RawRows {
    batch: RecordBatch,
    rows_in: u64,
    repeats: u64,
}

impl RawRows {
    /// Turns a source's rows into raw ones; `tidy` sorts them and drops exact repeats.
    ///
    /// # Errors
    /// None but a defect.
    pub fn of<T, R: Row>(rows: Vec<T>, raw: impl Fn(T) -> R, tidy: impl FnOnce(&mut Vec<R>) -> u64) -> Result<Self> {
        let rows_in = rows.len() as u64;
        let mut rows: Vec<R> = rows.into_iter().map(raw).collect();
        let repeats = tidy(&mut rows);
        Ok(RawRows { batch: shrunk(R::encode(&rows)?)?, rows_in, repeats })
    }
}

/// A batch without the room to grow that its columns were built with: it is kept until all pages are there.
fn shrunk(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, mut columns, _) = batch.into_parts();
    columns.iter_mut().for_each(Array::shrink_to_fit);
    RecordBatch::try_new(schema, columns).map_err(|cause| Error::internal("a batch that is none").because(cause))
}

/// A snapshot, with its pages in the order of their keys.
pub type Taken = Snapshot<RawRows>;

/// Snapshots without rows, kept back until the days before them are written.
type Empty = Arc<Mutex<Vec<(Unit, DailyBlock, Taken)>>>;

/// Extracts the snapshots of a table: those that the input names, else what is missing. A snapshot without positions after a
/// day with positions is an indexer's fault; written, it would stand for a day on which nobody held anything. So days without
/// rows are decided last, in their order. Markets do go missing for a day; prices then come from the days before.
///
/// # Errors
/// `NotReady` for a day whose first block is not known or not indexed yet, `SourceUnavailable` for positions that are gone
/// all of a sudden, and the errors of The Graph and of the lake.
pub async fn extract<R, F, Fut>(
    context: &Context,
    step: Step,
    table: &'static Table,
    input: &UnitInput,
    take: F,
) -> Result<Report>
where
    R: Row,
    F: Fn(Context, Arc<str>, DailyBlock) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Taken>> + Send + 'static,
{
    let units = context.units(step, input).await?;
    let empty: Empty = Arc::default();
    let work = |context: Context, unit: Unit| {
        let (take, empty) = (take.clone(), Arc::clone(&empty));
        async move {
            let (day, protocol) = unit.as_protocol_day()?;
            let block = context.first_block(day).await?;
            let taken = take(context.clone(), protocol, block.clone()).await?;
            if taken.rows.iter().all(|page| page.rows_in == 0) {
                empty.lock().unwrap_or_else(PoisonError::into_inner).push((unit, block, taken));
                return Ok(Report::default());
            }
            write::<R>(&context, table, unit, &block, taken).await
        }
    };
    let concurrency = if *table == RAW_POSITIONS { CONCURRENT_LARGE_UNITS } else { CONCURRENT_UNITS };
    let mut report = context.run_units(step, &units, concurrency, work).await?;
    let mut kept_back = std::mem::take(&mut *empty.lock().unwrap_or_else(PoisonError::into_inner));
    kept_back.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    for (unit, block, taken) in kept_back {
        if *table == RAW_POSITIONS {
            refuse_sudden_emptiness(context, &unit).await?;
        }
        report.merge(write::<R>(context, table, unit, &block, taken).await?);
    }
    context.registry.register(table, &units).await?;
    context.keep_report(input.run_id.as_ref(), step, &units, &report).await?;
    Ok(report)
}

async fn write<R: Row>(
    context: &Context,
    table: &Table,
    unit: Unit,
    block: &DailyBlock,
    taken: Taken,
) -> Result<Report> {
    let rows_in = taken.rows.iter().map(|page| page.rows_in).sum();
    let repeats: u64 = taken.rows.iter().map(|page| page.repeats).sum();
    let facts = Facts::from([
        ("block".to_owned(), block.block_number.to_string()),
        ("deployment".to_owned(), taken.deployment),
        ("repeats".to_owned(), repeats.to_string()),
    ]);
    let batches = taken.rows.into_iter().map(|page| page.batch).collect();
    let written = context.lake.write_batches::<R>(table, &unit, batches, facts).await?;
    Ok(Report { rows_in, repeats, ..Report::default() }.wrote(written))
}

async fn refuse_sudden_emptiness(context: &Context, unit: &Unit) -> Result<()> {
    let (day, protocol) = unit.as_protocol_day()?;
    let before = Unit::DayAndProtocol(day.previous(), protocol);
    let before = context.lake.facts(&RAW_POSITIONS, &before).await?.map_or(0, |(_, rows)| rows);
    if before == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::SourceUnavailable, "a snapshot without positions after a day with positions")
        .with("unit", unit)
        .with("positions_of_the_day_before", before))
}
