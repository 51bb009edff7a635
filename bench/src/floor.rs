//! The floor: the time that the parquet crate alone takes to decode the columns that a rebuild reads, and to encode its
//! output.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use bytes::Bytes;
use defi_shared::domain::Category;
use defi_shared::lake::FileMetadata;
use defi_shared::lake::parquet::WRITER_POLICY;
use defi_shared::step::Context;
use defi_shared::tables::{
    self, BorrowLinkRow, FEATURES_HISTORY, Layer, PositionBalanceRow, PricedEvent, Row, STAGE_BORROWS, STAGE_MARKETS,
    STAGE_POSITIONS, StagedMarket, Table, WALLET_HEALTH, WALLET_LINKS,
};
use defi_shared::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use serde_json::json;

/// The number of rows in a decoded batch.
const BATCH_ROWS: usize = 8 * 1024;

/// Prints the seconds that decoding and encoding take on all CPUs. Reading the files is not included in the times, nor
/// is decoding the batches to encode.
///
/// # Errors
/// An object can't be read, decoded or encoded.
pub async fn floor(context: &Context) -> Result<()> {
    let mut inputs = Vec::new();
    let event_inputs =
        Category::ALL.map(|category| (tables::event_table(Layer::Stage, category), columns::<PricedEvent>()));
    let other_inputs = [
        (&STAGE_BORROWS, columns::<BorrowLinkRow>()),
        (&STAGE_MARKETS, columns::<StagedMarket>()),
        (&STAGE_POSITIONS, columns::<PositionBalanceRow>()),
    ];
    for (table, columns) in event_inputs.into_iter().chain(other_inputs) {
        inputs.extend(keys(context, table).await?.into_iter().map(|key| (key, columns.clone())));
    }
    let mut outputs = Vec::new();
    let event_tables = Category::ALL.map(|category| tables::event_table(Layer::Analytics, category));
    for table in event_tables.into_iter().chain([&WALLET_LINKS, &WALLET_HEALTH, &FEATURES_HISTORY]) {
        outputs.extend(keys(context, table).await?.into_iter().map(|key| (key, table)));
    }
    let decoding = process_in_parallel(context, inputs, |bytes, columns| {
        let start = Instant::now();
        decode(bytes, Some(&columns))?;
        Ok(start.elapsed())
    })?;
    let encoding = process_in_parallel(context, outputs, |bytes, table| {
        let batches = decode(bytes, None)?;
        let start = Instant::now();
        encode(table, &batches)?;
        Ok(start.elapsed())
    })?;
    println!("{}", json!({ "decode_seconds": decoding, "encode_seconds": encoding, "seconds": decoding + encoding }));
    Ok(())
}

/// Returns the names of the columns of a row type.
fn columns<R: Row>() -> Vec<&'static str> {
    R::columns().into_iter().map(|column| column.name).collect()
}

/// Returns the keys of the objects of a table.
async fn keys(context: &Context, table: &Table) -> Result<Vec<String>> {
    Ok(context.lake.units(table).await?.iter().map(|unit| unit.key(table)).collect())
}

/// Processes all objects with one thread per CPU. Returns the total time of the work divided by the number of CPUs, in
/// seconds.
fn process_in_parallel<T: Send>(
    context: &Context,
    objects: Vec<(String, T)>,
    work: impl Fn(Bytes, T) -> Result<Duration> + Sync,
) -> Result<f64> {
    let objects = Mutex::new(objects);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || -> Result<Duration> {
        let mut total = Duration::ZERO;
        loop {
            let next = objects.lock().map_err(|_| Error::internal("another thread panicked"))?.pop();
            let Some((key, parameter)) = next else { return Ok(total) };
            let path = context.lake.store().location(&key);
            let bytes = std::fs::read(&path)
                .map_err(|source| Error::internal("can't read the object").with("path", path).with_source(source))?;
            total += work(bytes.into(), parameter)?;
        }
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let times = times.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(times.iter().sum::<Duration>().as_secs_f64() / f64::from(u32::try_from(cpus).unwrap_or(1)))
}

fn decode(file: Bytes, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
    let decode_error =
        |source: parquet::errors::ParquetError| Error::corrupt("not a readable Parquet file").with_source(source);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(decode_error)?.with_batch_size(BATCH_ROWS);
    let mask = columns.map_or_else(ProjectionMask::all, |names| {
        ProjectionMask::columns(reader.parquet_schema(), names.iter().copied())
    });
    let batches = reader.with_projection(mask).build().map_err(decode_error)?;
    batches.map(|batch| batch.map_err(|source| decode_error(source.into()))).collect()
}

fn encode(table: &Table, batches: &[RecordBatch]) -> Result<()> {
    let encode_error =
        |source: parquet::errors::ParquetError| Error::internal("can't encode Parquet").with_source(source);
    let properties = WRITER_POLICY.properties(&(table.columns)(), table.sorted_by, &FileMetadata::new())?;
    let Some(first) = batches.first() else { return Ok(()) };
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties)).map_err(encode_error)?;
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(encode_error)?;
    writer.into_inner().map(drop).map_err(encode_error)
}
