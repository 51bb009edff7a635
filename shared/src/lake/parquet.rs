//! Rows to Parquet and back: the one writer policy of the lake.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::{Cause, Error, Result};
use crate::tables::{Column, Row};

/// How rows become a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// ZSTD's level.
    pub zstd_level: i32,
    /// Rows in a row group: few enough to be held in memory by any reader, so many that the footer does not matter.
    pub rows_per_row_group: usize,
    /// Rows in a page: what a look-up of one wallet has to read of each column.
    pub rows_per_page: usize,
    /// A column whose distinct values take more bytes than this goes on without a dictionary.
    pub dictionary_bytes: usize,
    /// Whether doubles are laid out byte by byte instead of value by value.
    pub split_doubles: bool,
    /// Whether doubles are compressed: most are sums and products, whose digits repeat nowhere.
    pub compressed_doubles: bool,
    /// Whether the columns that a table is sorted by have a Bloom filter.
    pub bloom_filters: bool,
}

/// The policy of every object in the lake. `docs/performance.md` has what others came to.
pub const POLICY: Policy = Policy {
    zstd_level: 1,
    rows_per_row_group: 256 * 1024,
    rows_per_page: 8 * 1024,
    dictionary_bytes: 64 * 1024,
    split_doubles: false,
    compressed_doubles: true,
    bloom_filters: false,
};

/// Facts about an object that its metadata keeps: nothing in it differs between two equal runs.
pub type Facts = BTreeMap<String, String>;

/// What [`Facts`] keys begin with in the file's key-value metadata.
const FACT_PREFIX: &str = "defi.";

/// Rows as one Parquet file, which declares that they are sorted by `sorted_by`, and how many they are.
///
/// # Errors
/// A value that its column can't hold.
pub fn encode<R: Row>(rows: impl IntoIterator<Item = R>, sorted_by: &[&str], facts: &Facts) -> Result<(Bytes, u64)> {
    encode_by(&POLICY, rows, sorted_by, facts)
}

/// The same by another policy, to compare.
///
/// # Errors
/// As [`encode`].
pub fn encode_by<R: Row>(
    policy: &Policy,
    rows: impl IntoIterator<Item = R>,
    sorted_by: &[&str],
    facts: &Facts,
) -> Result<(Bytes, u64)> {
    let mut file = File::new::<R>(policy, sorted_by, facts)?;
    let (mut rows, mut count) = (rows.into_iter(), 0);
    loop {
        let page: Vec<R> = rows.by_ref().take(POLICY.rows_per_page).collect();
        if page.is_empty() {
            return Ok((file.close()?, count));
        }
        count += page.len() as u64;
        file.write(&R::encode(&page)?)?;
    }
}

/// Batches of rows as one Parquet file: the same one as [`encode`] makes of the rows, however they are split into batches.
///
/// # Errors
/// A batch of other columns.
pub fn encode_batches<R: Row>(batches: Vec<RecordBatch>, sorted_by: &[&str], facts: &Facts) -> Result<Bytes> {
    let mut file = File::new::<R>(&POLICY, sorted_by, facts)?;
    let mut even = BatchCoalescer::new(R::schema(), POLICY.rows_per_page);
    for batch in batches {
        even.push_batch(batch).map_err(|cause| wrong(cause.into()))?;
        while let Some(batch) = even.next_completed_batch() {
            file.write(&batch)?;
        }
    }
    even.finish_buffered_batch().map_err(|cause| wrong(cause.into()))?;
    even.next_completed_batch().iter().try_for_each(|batch| file.write(batch))?;
    file.close()
}

fn wrong(cause: ParquetError) -> Error {
    Error::internal("rows can't be written as Parquet").because(cause)
}

/// A file that is being written. Its row groups are gathered compressed; of rows it holds a page.
struct File(ArrowWriter<Vec<u8>>);

impl File {
    fn new<R: Row>(policy: &Policy, sorted_by: &[&str], facts: &Facts) -> Result<Self> {
        let properties = policy.properties(&R::columns(), sorted_by, facts)?;
        ArrowWriter::try_new(Vec::new(), R::schema(), Some(properties)).map(File).map_err(wrong)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(wrong)
    }

    fn close(self) -> Result<Bytes> {
        self.0.into_inner().map(Bytes::from).map_err(wrong)
    }
}

impl Policy {
    /// The policy in the parquet crate's terms, for a table of these columns.
    ///
    /// # Errors
    /// A level that ZSTD does not have.
    pub fn properties(&self, columns: &[Column], sorted_by: &[&str], facts: &Facts) -> Result<WriterProperties> {
        let sorting = sorted_by.iter().filter_map(|name| columns.iter().position(|column| column.name == *name));
        let sorting = sorting.filter_map(|index| i32::try_from(index).ok());
        let sorting = sorting.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false });
        let facts = facts.iter().map(|(key, value)| KeyValue::new(format!("{FACT_PREFIX}{key}"), value.clone()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.zstd_level).map_err(wrong)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(self.rows_per_row_group))
            .set_data_page_row_count_limit(self.rows_per_page)
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_sorting_columns(Some(sorting.collect()))
            .set_key_value_metadata(Some(facts.collect()));
        for column in columns {
            let path = ColumnPath::from(column.name);
            // Addresses and hashes are as good as random: where rows are not in their order, any page may hold any of them.
            if column.data_type == DataType::Utf8 && !sorted_by.contains(&column.name) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
            if self.split_doubles && column.data_type == DataType::Float64 {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT);
            }
            if !self.compressed_doubles && column.data_type == DataType::Float64 {
                properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
            }
            if self.bloom_filters && sorted_by.contains(&column.name) {
                properties = properties.set_column_bloom_filter_enabled(path, true);
            }
        }
        Ok(properties.build())
    }
}

/// The rows of a Parquet file, of which only the columns of the row type are read.
///
/// # Errors
/// `CorruptData` for what is no Parquet file, or one with other columns.
pub fn decode<R: Row>(file: Bytes) -> Result<Vec<R>> {
    guarded(|| rows(reader::<R>(file, None)?))
}

/// The rows of the pages in which a text may lie within a range (and so others, too), by the statistics of the pages; all rows of
/// a file that has none.
///
/// # Errors
/// As [`decode`].
pub fn decode_between<R: Row>(file: Bytes, column: &str, range: &RangeInclusive<String>) -> Result<Vec<R>> {
    guarded(|| rows(reader::<R>(file, Some((column, range)))?))
}

fn rows<R: Row>(batches: ParquetRecordBatchReader) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for batch in batches {
        R::decode(&batch.map_err(unreadable)?, &mut rows)?;
    }
    Ok(rows)
}

/// A reader of the columns of a row type, in batches of a page, which a processor's cache holds.
fn reader<R: Row>(file: Bytes, between: Option<(&str, &RangeInclusive<String>)>) -> Result<ParquetRecordBatchReader> {
    let index = if between.is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
    let options = ArrowReaderOptions::new().with_page_index_policy(index);
    let metadata = ArrowReaderMetadata::load(&file, options.clone()).map_err(unreadable)?;
    let pages = between.and_then(|(column, range)| pages_between(&metadata, column, range));
    let options = options.with_schema(with_dictionaries(&metadata));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).map_err(unreadable)?;
    let names = R::columns().into_iter().map(|column| column.name);
    let columns = ProjectionMask::columns(metadata.parquet_schema(), names);
    let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    if let Some(pages) = pages {
        reader = reader.with_row_selection(pages);
    }
    reader.with_projection(columns).with_batch_size(POLICY.rows_per_page).build().map_err(unreadable)
}

/// The rows of the pages whose smallest and largest text leave room for the range; `None` where the file does not say.
fn pages_between(metadata: &ArrowReaderMetadata, column: &str, range: &RangeInclusive<String>) -> Option<RowSelection> {
    let of_file = metadata.metadata();
    let (columns, offsets) = (of_file.column_index()?, of_file.offset_index()?);
    let groups: Vec<usize> = (0..of_file.num_row_groups()).collect();
    let statistics = StatisticsConverter::try_new(column, metadata.schema(), metadata.parquet_schema()).ok()?;
    let smallest = statistics.data_page_mins(columns, offsets, &groups).ok()?;
    let largest = statistics.data_page_maxes(columns, offsets, &groups).ok()?;
    let rows = statistics.data_page_row_counts(offsets, of_file.row_groups(), &groups).ok()??;
    let bounds = smallest.as_string_opt::<i32>()?.iter().zip(largest.as_string_opt::<i32>()?);
    let selectors = bounds.zip(rows.iter()).map(|((smallest, largest), rows)| {
        let rows = usize::try_from(rows?).ok()?;
        let begins_later = smallest.is_some_and(|smallest| smallest > range.end().as_str());
        let ends_before = largest.is_some_and(|largest| largest < range.start().as_str());
        Some(if begins_later || ends_before { RowSelector::skip(rows) } else { RowSelector::select(rows) })
    });
    Some(selectors.collect::<Option<Vec<_>>>()?.into())
}

/// The schema of a file in which texts that are wholly kept in dictionaries stay in them: an address that many rows have is then
/// parsed once.
fn with_dictionaries(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let groups = metadata.metadata().row_groups();
    let in_dictionaries = |column: usize| {
        groups.iter().all(|group| {
            let pages = group.columns().get(column).and_then(|column| column.page_encoding_stats_mask());
            pages.is_some_and(|pages| pages.is_only(Encoding::RLE_DICTIONARY))
        })
    };
    let field = |(column, field): (usize, &FieldRef)| match field.data_type() {
        DataType::Utf8 if in_dictionaries(column) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(field.as_ref().clone().with_data_type(dictionary))
        }
        _ => Arc::clone(field),
    };
    // A column's place is its field's only where no field holds others; in the lake none does.
    let is_flat = metadata.schema().fields().len() == metadata.parquet_schema().num_columns();
    let fields = metadata.schema().fields();
    if is_flat {
        Arc::new(Schema::new(fields.iter().enumerate().map(field).collect::<Fields>()))
    } else {
        Arc::clone(metadata.schema())
    }
}

fn unreadable(cause: impl Into<Cause>) -> Error {
    Error::corrupt("no readable Parquet file").because(cause)
}

/// The decoder takes for granted, here and there, what a damaged file does not keep to, and panics. It is damage all the same.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(unreadable("its decoder gave up")))
}

/// The facts in a Parquet file's metadata, and the number of its rows.
///
/// # Errors
/// `CorruptData` for what is no Parquet file.
pub fn facts(file: &Bytes) -> Result<(Facts, u64)> {
    let metadata = guarded(|| ArrowReaderMetadata::load(file, Default::default()).map_err(unreadable))?;
    let file_metadata = metadata.metadata().file_metadata();
    let pairs = file_metadata.key_value_metadata().into_iter().flatten();
    let facts = pairs.filter_map(|pair| Some((pair.key.strip_prefix(FACT_PREFIX)?.to_owned(), pair.value.clone()?)));
    Ok((facts.collect(), u64::try_from(file_metadata.num_rows()).unwrap_or(0)))
}

/// The columns of a Parquet file, as its own schema has them.
///
/// # Errors
/// `CorruptData` for what is no Parquet file.
pub fn schema(file: &Bytes) -> Result<SchemaRef> {
    let metadata = guarded(|| ArrowReaderMetadata::load(file, Default::default()).map_err(unreadable))?;
    Ok(Arc::clone(metadata.schema()))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::tables::QuarantinedRow;

    fn rows(count: i64) -> Vec<QuarantinedRow> {
        let row =
            |row_number| QuarantinedRow { row_number, reason: "odd".to_owned(), row: format!("{{{row_number}}}") };
        (0..count).map(row).collect()
    }

    fn file(count: i64) -> Bytes {
        let facts = Facts::from([("rows_in".to_owned(), count.to_string())]);
        encode(rows(count), &["row_number"], &facts).unwrap().0
    }

    #[test]
    fn rows_and_facts_come_back() {
        for count in [0, 1, 20_000] {
            assert_eq!(decode::<QuarantinedRow>(file(count)).unwrap(), rows(count));
            let (facts, rows) = facts(&file(count)).unwrap();
            assert_eq!((facts["rows_in"].as_str(), rows), (count.to_string().as_str(), count as u64));
        }
    }

    #[test]
    fn equal_rows_give_equal_bytes() {
        assert_eq!(file(5000), file(5000));
    }

    #[test]
    fn equal_rows_give_equal_bytes_however_they_are_split() {
        let facts = Facts::from([("rows_in".to_owned(), "20000".to_owned())]);
        for size in [1, 999, 8_192, 9_000, 20_000] {
            let batches = rows(20_000).chunks(size).map(|chunk| QuarantinedRow::encode(chunk).unwrap()).collect();
            assert!(
                encode_batches::<QuarantinedRow>(batches, &["row_number"], &facts).unwrap() == file(20_000),
                "{size}"
            );
        }
    }

    #[test]
    fn the_policy_stands_in_the_footer() {
        let reader = SerializedFileReader::new(file(20_000)).unwrap();
        let group = reader.metadata().row_group(0);
        assert_eq!(group.sorting_columns().unwrap()[0].column_idx, 0);
        let column = group.column(0);
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "the level is not kept in a file");
        assert!(
            column.statistics().is_some()
                && column.offset_index_offset().is_some()
                && column.column_index_offset().is_some()
        );
    }

    #[test]
    fn of_a_range_only_its_pages_are_read() {
        let text = |number: i64| format!("{number:08}");
        let row = |number| QuarantinedRow { row_number: number, reason: text(number), row: String::new() };
        let (file, _) = encode((0..50_000).map(row), &["reason"], &Facts::new()).unwrap();
        let read = |first: i64, last: i64| -> Vec<i64> {
            let range = text(first)..=text(last);
            let rows: Vec<QuarantinedRow> = decode_between(file.clone(), "reason", &range).unwrap();
            rows.into_iter().map(|row| row.row_number).collect()
        };
        let page = i64::try_from(POLICY.rows_per_page).unwrap();
        for (first, last) in [(0, 0), (page - 1, page), (20_000, 30_000), (49_999, 49_999), (0, 49_999)] {
            let rows = read(first, last);
            assert!((first..=last).all(|number| rows.binary_search(&number).is_ok()), "{first} to {last}");
            // A page of a column that gives up its dictionary may be a little longer.
            assert!(rows.len() as i64 <= last - first + 4 * page, "{first} to {last}: {}", rows.len());
        }
        assert!(read(60_000, 70_000).is_empty());
        let without_statistics: Vec<QuarantinedRow> =
            decode_between(file, "row", &(String::new()..=String::new())).unwrap();
        assert_eq!(without_statistics.len(), 50_000);
    }

    #[test]
    fn a_truncated_file_is_corrupt_data() {
        let whole = file(100);
        for length in [0, 4, whole.len() / 2, whole.len() - 1] {
            let error = decode::<QuarantinedRow>(whole.slice(..length)).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData);
        }
    }
}
