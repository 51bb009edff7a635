//! The floor: what the parquet crate alone takes to decode the columns that a rebuild needs, and to encode what it leaves behind.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use bytes::Bytes;
use defi_shared::domain::Category;
use defi_shared::lake::Facts;
use defi_shared::lake::parquet::POLICY;
use defi_shared::step::Context;
use defi_shared::tables::{
    self, FEATURES_HISTORY, Layer, LinkingBorrow, Row, STAGE_BORROWS, STAGE_MARKETS, STAGE_POSITIONS, StagedMarket,
    Table, UnpricedEvent, ValuedPosition, WALLET_HEALTH, WALLET_LINKS,
};
use defi_shared::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use serde_json::json;

/// Rows that are decoded together.
const BATCH: usize = 8 * 1024;

/// Prints how long decoding and encoding take, spread over the processors. What is encoded is read first, off the clock.
///
/// # Errors
/// The lake's.
pub async fn floor(context: &Context) -> Result<()> {
    let mut inputs = Vec::new();
    let of_events = Category::ALL.map(|category| (tables::events(Layer::Stage, category), columns::<UnpricedEvent>()));
    let of_others = [
        (&STAGE_BORROWS, columns::<LinkingBorrow>()),
        (&STAGE_MARKETS, columns::<StagedMarket>()),
        (&STAGE_POSITIONS, columns::<ValuedPosition>()),
    ];
    for (table, columns) in of_events.into_iter().chain(of_others) {
        inputs.extend(keys(context, table).await?.into_iter().map(|key| (key, columns.clone())));
    }
    let mut outputs = Vec::new();
    let of_events = Category::ALL.map(|category| tables::events(Layer::Analytics, category));
    for table in of_events.into_iter().chain([&WALLET_LINKS, &WALLET_HEALTH, &FEATURES_HISTORY]) {
        outputs.extend(keys(context, table).await?.into_iter().map(|key| (key, table)));
    }
    let decoding = spread(context, inputs, |bytes, columns| {
        let begun = Instant::now();
        decode(bytes, Some(&columns))?;
        Ok(begun.elapsed())
    })?;
    let encoding = spread(context, outputs, |bytes, table| {
        let batches = decode(bytes, None)?;
        let begun = Instant::now();
        encode(table, &batches)?;
        Ok(begun.elapsed())
    })?;
    println!("{}", json!({ "decode_seconds": decoding, "encode_seconds": encoding, "seconds": decoding + encoding }));
    Ok(())
}

fn columns<R: Row>() -> Vec<&'static str> {
    R::columns().into_iter().map(|column| column.name).collect()
}

async fn keys(context: &Context, table: &Table) -> Result<Vec<String>> {
    Ok(context.lake.units(table).await?.iter().map(|unit| unit.key(table)).collect())
}

/// Works on all objects, one a processor at a time; the seconds that it would take if all processors were busy to the end.
fn spread<T: Send>(
    context: &Context,
    objects: Vec<(String, T)>,
    work: impl Fn(Bytes, T) -> Result<Duration> + Sync,
) -> Result<f64> {
    let objects = Mutex::new(objects);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || -> Result<Duration> {
        let mut busy = Duration::ZERO;
        loop {
            let next = objects.lock().map_err(|_| Error::internal("another worker has failed"))?.pop();
            let Some((key, of)) = next else { return Ok(busy) };
            let path = context.lake.store().location(&key);
            let bytes =
                std::fs::read(&path).map_err(|cause| Error::internal("no object").with("path", path).because(cause))?;
            busy += work(bytes.into(), of)?;
        }
    };
    let busy: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let busy = busy.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(busy.iter().sum::<Duration>().as_secs_f64() / f64::from(u32::try_from(processors).unwrap_or(1)))
}

fn decode(file: Bytes, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
    let unreadable = |cause: parquet::errors::ParquetError| Error::corrupt("not a readable Parquet file").because(cause);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?.with_batch_size(BATCH);
    let mask = columns.map_or_else(ProjectionMask::all, |names| {
        ProjectionMask::columns(reader.parquet_schema(), names.iter().copied())
    });
    let batches = reader.with_projection(mask).build().map_err(unreadable)?;
    batches.map(|batch| batch.map_err(|cause| unreadable(cause.into()))).collect()
}

fn encode(table: &Table, batches: &[RecordBatch]) -> Result<()> {
    let unwritable = |cause: parquet::errors::ParquetError| Error::internal("no Parquet").because(cause);
    let properties = POLICY.properties(&(table.columns)(), table.sorted_by, &Facts::new())?;
    let Some(first) = batches.first() else { return Ok(()) };
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties)).map_err(unwritable)?;
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(unwritable)?;
    writer.into_inner().map(drop).map_err(unwritable)
}
