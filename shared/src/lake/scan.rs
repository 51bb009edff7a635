//! Reads some columns and rows of Parquet files that others wrote, in a store: first the footer, then the row groups whose
//! statistics allow the rows, then of those the columns of the filters, and the other columns only where a row is left.

use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::Schema;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter,
};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::bounds::{self, Budget};
use super::parquet::{catch_panics, read_error};
use super::{Entry, FOOTER_BYTES, Store};
use crate::cpu::run_cpu;
use crate::error::{Error, Result};

/// The number of rows that are decoded at once.
const BATCH_ROWS: usize = 8 * 1024;

/// The number of ranges of a file that are read concurrently.
const CONCURRENT_RANGES: usize = 4;

/// Tells which rows to read, by a column at the top of a file's schema.
pub trait ColumnFilter: Debug + Send + Sync {
    /// Returns the name of the column.
    fn column(&self) -> &str;

    /// Returns whether a row group with these statistics of the column may have a row that matches.
    fn may_match(&self, statistics: &Statistics) -> bool;

    /// Returns for each value whether its row is read.
    fn matches(&self, values: &dyn Array) -> BooleanArray;
}

/// A Parquet file that others wrote.
#[derive(Debug)]
pub struct ParquetScan<'a> {
    store: &'a dyn Store,
    file: &'a Entry,
    metadata: ArrowReaderMetadata,
}

impl<'a> ParquetScan<'a> {
    /// Reads the footer of a file.
    ///
    /// # Errors
    /// `CorruptData` if it is not a Parquet file, and the errors of the store.
    pub async fn open(store: &'a dyn Store, file: &'a Entry) -> Result<Self> {
        let with_file = |error: Error| error.with("file", store.location(&file.key));
        let mut length = FOOTER_BYTES;
        loop {
            let suffix = store.get_suffix(&file.key, length).await?.ok_or_else(|| with_file(missing()))?;
            match run_cpu(|| catch_panics(|| footer(&suffix, file.size))).map_err(with_file)? {
                Ok(metadata) => return Ok(ParquetScan { store, file, metadata }),
                Err(needed) if needed > length => length = needed,
                Err(_) => return Err(with_file(missing())),
            }
        }
    }

    /// Returns the columns, with the types that the file's own schema has, whatever its writer knew them as.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    /// Returns the location of the file for display.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.location(&self.file.key)
    }

    /// Reads columns of the rows that pass all filters, and converts them.
    ///
    /// # Errors
    /// `CorruptData` if the file is not intact, or would take much more memory than its size suggests; the errors of the
    /// store and of `convert`.
    pub async fn read<T>(
        &self,
        columns: &[&str],
        filters: &[Arc<dyn ColumnFilter>],
        convert: impl Fn(&RecordBatch) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        self.read_rows(columns, filters, convert).await.map_err(|error| error.with("file", self.location()))
    }

    async fn read_rows<T>(
        &self,
        columns: &[&str],
        filters: &[Arc<dyn ColumnFilter>],
        convert: impl Fn(&RecordBatch) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut decoder = self.decoder(columns, filters)?;
        let (mut rows, mut budget) = (Vec::new(), Budget::of_file(self.file.size));
        let mut uncompressed = Budget::of_file(self.file.size);
        loop {
            match run_cpu(|| catch_panics(|| decoder.try_decode().map_err(read_error)))? {
                DecodeResult::Finished => return Ok(rows),
                DecodeResult::Data(batch) => {
                    budget.take(batch.get_array_memory_size() as u64)?;
                    rows.extend(run_cpu(|| convert(&batch))?);
                }
                DecodeResult::NeedsData(ranges) => {
                    let parts = ranges.iter().map(|range| self.read_range(range.clone()));
                    let parts: Vec<_> = parts.collect();
                    let parts: Vec<Bytes> = stream::iter(parts).buffered(CONCURRENT_RANGES).try_collect().await?;
                    for (range, bytes) in ranges.iter().zip(&parts) {
                        bounds::check_range(self.metadata.metadata(), range, bytes, &mut uncompressed)?;
                    }
                    decoder.push_ranges(ranges, parts).map_err(read_error)?;
                }
            }
        }
    }

    async fn read_range(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        let length = range.end - range.start;
        let bytes = self.store.get_range(&self.file.key, range).await?;
        bytes.filter(|bytes| bytes.len() as u64 == length).ok_or_else(missing)
    }

    fn decoder(&self, columns: &[&str], filters: &[Arc<dyn ColumnFilter>]) -> Result<ParquetPushDecoder> {
        let groups = self.metadata.metadata().row_groups();
        let groups = groups.iter().enumerate().filter(|(_, group)| may_match(group, filters));
        let groups = groups.map(|(index, _)| index).collect();
        let predicate = |filter: &Arc<dyn ColumnFilter>| {
            let (column, filter) = (self.projection(&[filter.column()])?, Arc::clone(filter));
            let matches = move |batch: RecordBatch| Ok(filter.matches(batch.column(0)));
            Ok(Box::new(ArrowPredicateFn::new(column, matches)) as Box<dyn ArrowPredicate>)
        };
        let predicates = filters.iter().map(predicate).collect::<Result<_>>()?;
        ParquetPushDecoderBuilder::new_with_metadata(self.metadata.clone())
            .with_row_groups(groups)
            .with_projection(self.projection(columns)?)
            .with_row_filter(RowFilter::new(predicates))
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(read_error)
    }

    fn projection(&self, columns: &[&str]) -> Result<ProjectionMask> {
        let indices: Result<Vec<_>, _> = columns.iter().map(|column| self.schema().index_of(column)).collect();
        Ok(ProjectionMask::roots(self.metadata.parquet_schema(), indices.map_err(read_error)?))
    }
}

fn missing() -> Error {
    Error::corrupt("the file is shorter than its listing and its footer say").with_hint("run again once it is complete")
}

/// Reads the footer from the last bytes of a file of `size` bytes. Returns the number of bytes that contain it if they are
/// more.
fn footer(suffix: &Bytes, size: u64) -> Result<Result<ArrowReaderMetadata, usize>> {
    bounds::check_footer(suffix)?;
    let mut reader = ParquetMetaDataReader::new();
    match reader.try_parse_sized(suffix, size) {
        Err(ParquetError::NeedMoreData(bytes)) => return Ok(Err(bytes)),
        result => result.map_err(read_error)?,
    }
    let metadata: Arc<ParquetMetaData> = Arc::new(reader.finish().map_err(read_error)?);
    bounds::check_claims(&metadata, size)?;
    // Otherwise types would depend on what the writer noted of its own: large strings, views, dictionaries.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ArrowReaderMetadata::try_new(metadata, options).map(Ok).map_err(read_error)
}

/// Returns whether a row group may have a row that passes all filters. Statistics that say nothing allow any.
fn may_match(group: &RowGroupMetaData, filters: &[Arc<dyn ColumnFilter>]) -> bool {
    filters.iter().all(|filter| {
        let is_column = |parts: &[String]| parts == [filter.column()];
        let column = group.columns().iter().find(|column| is_column(column.column_path().parts()));
        let statistics = column.and_then(|column| column.statistics());
        // Old writers put values of other orders into the deprecated fields.
        let statistics = statistics.filter(|statistics| !statistics.is_min_max_deprecated());
        // NULL is within no bounds.
        let statistics = statistics.filter(|statistics| statistics.null_count_opt().is_none_or(|count| count == 0));
        statistics.is_none_or(|statistics| filter.may_match(statistics))
    })
}
