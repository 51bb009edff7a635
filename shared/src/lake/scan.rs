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
use parquet::arrow::arrow_reader::{ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, RowFilter};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::bounds::{self, Budget};
use super::parquet::{catch_panics, read_error, reader_options};
use super::{Entry, FOOTER_BYTES, Store};
use crate::cpu::run_cpu;
use crate::error::{Error, Result};

/// The number of rows that are decoded at once, at most.
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
    /// What the file may take in memory besides its footer.
    budget: Budget,
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
                Ok((metadata, budget)) => return Ok(ParquetScan { store, file, metadata, budget }),
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
        let (mut rows, mut budget) = (Vec::new(), self.budget.clone());
        for (index, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            if may_match(group, filters) {
                let decoder = |batch_rows| self.decoder(index, columns, filters, batch_rows);
                self.read_group(group, decoder, &mut budget, |batch| {
                    rows.extend(convert(&batch)?);
                    Ok(())
                })
                .await?;
            }
        }
        Ok(rows)
    }

    /// Reads the rows of a row group. `decoder` returns a decoder that decodes a number of rows at once.
    async fn read_group(
        &self,
        group: &RowGroupMetaData,
        decoder: impl Fn(usize) -> Result<ParquetPushDecoder>,
        budget: &mut Budget,
        mut visit: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let (mut batch_rows, mut chunks) = (BATCH_ROWS, Vec::new());
        let (mut known_ranges, mut known_parts) = (Vec::new(), Vec::new());
        let mut current = decoder(batch_rows)?;
        loop {
            match run_cpu(|| catch_panics(|| current.try_decode().map_err(read_error)))? {
                DecodeResult::Finished => return Ok(()),
                DecodeResult::Data(batch) => {
                    budget.take(batch.get_array_memory_size() as u64)?;
                    run_cpu(|| visit(batch))?;
                }
                DecodeResult::NeedsData(ranges) => {
                    let parts = ranges.iter().map(|range| self.read_range(range.clone()));
                    let parts: Vec<_> = parts.collect();
                    let parts: Vec<Bytes> = stream::iter(parts).buffered(CONCURRENT_RANGES).try_collect().await?;
                    let check = || {
                        for (range, bytes) in ranges.iter().zip(&parts) {
                            chunks.extend(bounds::check_range(group, range, bytes, budget)?);
                        }
                        bounds::rows_of_batch(&chunks, batch_rows)
                    };
                    let rows = run_cpu(|| catch_panics(check))?;
                    if rows < batch_rows {
                        // The decoder asks for all columns before it returns rows. So it can start again.
                        batch_rows = rows;
                        current = decoder(batch_rows)?;
                        current.push_ranges(known_ranges.clone(), known_parts.clone()).map_err(read_error)?;
                    }
                    known_ranges.extend(ranges.iter().cloned());
                    known_parts.extend(parts.iter().cloned());
                    current.push_ranges(ranges, parts).map_err(read_error)?;
                }
            }
        }
    }

    async fn read_range(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        let length = range.end - range.start;
        let bytes = self.store.get_range(&self.file.key, range).await?;
        bytes.filter(|bytes| bytes.len() as u64 == length).ok_or_else(missing)
    }

    fn decoder(
        &self,
        group: usize,
        columns: &[&str],
        filters: &[Arc<dyn ColumnFilter>],
        batch_rows: usize,
    ) -> Result<ParquetPushDecoder> {
        let predicate = |filter: &Arc<dyn ColumnFilter>| {
            let (column, filter) = (self.projection(&[filter.column()])?, Arc::clone(filter));
            let matches = move |batch: RecordBatch| Ok(filter.matches(batch.column(0)));
            Ok(Box::new(ArrowPredicateFn::new(column, matches)) as Box<dyn ArrowPredicate>)
        };
        let predicates = filters.iter().map(predicate).collect::<Result<_>>()?;
        ParquetPushDecoderBuilder::new_with_metadata(self.metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(self.projection(columns)?)
            .with_row_filter(RowFilter::new(predicates))
            .with_batch_size(batch_rows)
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

/// Reads the footer from the last bytes of a file of `size` bytes, with what it leaves of the file's budget. Returns the
/// number of bytes that contain it if they are more.
fn footer(suffix: &Bytes, size: u64) -> Result<Result<(ArrowReaderMetadata, Budget), usize>> {
    let mut budget = Budget::of_file(size);
    bounds::check_footer(suffix, &mut budget)?;
    let mut reader = ParquetMetaDataReader::new();
    match reader.try_parse_sized(suffix, size) {
        Err(ParquetError::NeedMoreData(bytes)) => return Ok(Err(bytes)),
        result => result.map_err(read_error)?,
    }
    let metadata: Arc<ParquetMetaData> = Arc::new(reader.finish().map_err(read_error)?);
    bounds::check_claims(&metadata, size)?;
    let metadata = ArrowReaderMetadata::try_new(metadata, reader_options()).map_err(read_error)?;
    Ok(Ok((metadata, budget)))
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
