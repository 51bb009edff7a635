//! Encodes rows as Parquet files and decodes them. All objects of the lake use one writer policy.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::coalesce::BatchCoalescer;
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use bytes::Bytes;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter, RowSelection, RowSelector,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::bounds::{self, Budget};
use crate::error::{BoxError, Error, Result};
use crate::tables::{Column, Row};

/// The settings of the Parquet writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterPolicy {
    /// The ZSTD level.
    pub zstd_level: i32,
    /// The number of rows in a row group: small enough for a reader to hold one in memory, large enough to keep the
    /// footer small.
    pub rows_per_row_group: usize,
    /// The number of rows in a page. A lookup of one wallet reads one page of each column.
    pub rows_per_page: usize,
    /// The maximum size of a dictionary, in bytes. A column with more distinct values falls back to plain encoding. Columns
    /// whose values hardly repeat have none.
    pub dictionary_bytes: usize,
    /// Whether doubles use the BYTE_STREAM_SPLIT encoding.
    pub split_doubles: bool,
    /// Whether numbers are compressed, and strings of few values. Doubles are sums and products, which hardly compress, and
    /// integers take few bits.
    pub compressed_numbers: bool,
    /// Whether the sort columns of a table have a Bloom filter.
    pub bloom_filters: bool,
}

/// The policy of every object in the lake. `docs/performance.md` compares it with others.
pub const WRITER_POLICY: WriterPolicy = WriterPolicy {
    zstd_level: 1,
    rows_per_row_group: 256 * 1024,
    rows_per_page: 8 * 1024,
    dictionary_bytes: 64 * 1024,
    split_doubles: false,
    compressed_numbers: false,
    bloom_filters: false,
};

/// The columns whose values hardly repeat within an object: the writer would fill a dictionary of them and give it up, which
/// takes time and space. Columns that it does not name keep a dictionary where that suffices, such as `risk_factor`, which is
/// often 0.
const WITHOUT_DICTIONARY: [&str; 10] = [
    "account_address",
    "available_borrows_eth",
    "borrow_power_eth",
    "collateral_eth",
    "index_address",
    "quantity_eth",
    "sender_address",
    "threshold_weighted_collateral_eth",
    "transaction_hash",
    "wallet_address",
];

/// The string columns of few distinct values, whose keys in the dictionary take a few bits.
const FEW_VALUES: [&str; 5] = ["category", "price_protocol", "price_unit", "protocol", "side"];

/// Key-value metadata of an object. Equal inputs give equal metadata: it contains no clock times.
pub type FileMetadata = BTreeMap<String, String>;

/// The prefix of the keys of [`FileMetadata`] in a file's key-value metadata.
const METADATA_PREFIX: &str = "defi.";

/// Encodes rows as one Parquet file that declares `sorted_by` as its sort order. Returns the file and the number of
/// rows.
///
/// # Errors
/// A value is out of its column's range.
pub fn encode<R: Row>(
    rows: impl IntoIterator<Item = R>,
    sorted_by: &[&str],
    metadata: &FileMetadata,
) -> Result<(Bytes, u64)> {
    encode_with_policy(&WRITER_POLICY, rows, sorted_by, metadata)
}

/// Like [`encode`] with another policy, to compare policies.
///
/// # Errors
/// As [`encode`].
pub fn encode_with_policy<R: Row>(
    policy: &WriterPolicy,
    rows: impl IntoIterator<Item = R>,
    sorted_by: &[&str],
    metadata: &FileMetadata,
) -> Result<(Bytes, u64)> {
    let mut file = File::new::<R>(policy, sorted_by, metadata)?;
    let (mut rows, mut count) = (rows.into_iter(), 0);
    loop {
        let page: Vec<R> = rows.by_ref().take(policy.rows_per_page).collect();
        if page.is_empty() {
            return Ok((file.close()?, count));
        }
        count += page.len() as u64;
        file.write(&R::encode(&page)?)?;
    }
}

/// Encodes record batches as one Parquet file. The bytes are those of [`encode`] for the same rows, regardless of how
/// the rows are split into batches.
///
/// # Errors
/// A batch has another schema.
pub fn encode_batches<R: Row>(batches: Vec<RecordBatch>, sorted_by: &[&str], metadata: &FileMetadata) -> Result<Bytes> {
    let mut file = File::new::<R>(&WRITER_POLICY, sorted_by, metadata)?;
    let mut coalescer = BatchCoalescer::new(R::schema(), WRITER_POLICY.rows_per_page);
    for batch in batches {
        coalescer.push_batch(batch).map_err(|cause| write_error(cause.into()))?;
        while let Some(batch) = coalescer.next_completed_batch() {
            file.write(&batch)?;
        }
    }
    coalescer.finish_buffered_batch().map_err(|cause| write_error(cause.into()))?;
    coalescer.next_completed_batch().iter().try_for_each(|batch| file.write(batch))?;
    file.close()
}

fn write_error(cause: ParquetError) -> Error {
    Error::internal("cannot encode rows as Parquet").with_source(cause)
}

/// A file that is being written to memory. It buffers compressed pages, and at most one page of uncompressed rows.
struct File(ArrowWriter<Vec<u8>>);

impl File {
    fn new<R: Row>(policy: &WriterPolicy, sorted_by: &[&str], metadata: &FileMetadata) -> Result<Self> {
        let properties = policy.properties(&R::columns(), sorted_by, metadata)?;
        ArrowWriter::try_new(Vec::new(), R::schema(), Some(properties)).map(File).map_err(write_error)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(write_error)
    }

    fn close(self) -> Result<Bytes> {
        self.0.into_inner().map(Bytes::from).map_err(write_error)
    }
}

impl WriterPolicy {
    /// Returns the writer properties of the policy for a table with these columns.
    ///
    /// # Errors
    /// The ZSTD level is invalid.
    pub fn properties(
        &self,
        columns: &[Column],
        sorted_by: &[&str],
        metadata: &FileMetadata,
    ) -> Result<WriterProperties> {
        let sorting = sorted_by.iter().filter_map(|name| columns.iter().position(|column| column.name == *name));
        let sorting = sorting.filter_map(|index| i32::try_from(index).ok());
        let sorting = sorting.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false });
        let metadata =
            metadata.iter().map(|(key, value)| KeyValue::new(format!("{METADATA_PREFIX}{key}"), value.clone()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.zstd_level).map_err(write_error)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(self.rows_per_row_group))
            .set_data_page_row_count_limit(self.rows_per_page)
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_sorting_columns(Some(sorting.collect()))
            .set_key_value_metadata(Some(metadata.collect()));
        for column in columns {
            let path = ColumnPath::from(column.name);
            // Addresses and hashes are effectively random: in an unsorted column, the statistics of a page exclude
            // nothing.
            if column.data_type == DataType::Utf8 && !sorted_by.contains(&column.name) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
            if self.split_doubles && column.data_type == DataType::Float64 {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT);
            }
            // In as many bits as the differences of the values need.
            if matches!(column.data_type, DataType::Int64 | DataType::Timestamp(..)) {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            if WITHOUT_DICTIONARY.contains(&column.name) {
                properties = properties.set_column_dictionary_enabled(path.clone(), false);
            }
            let is_text = matches!(column.data_type, DataType::Utf8 | DataType::Decimal128(..));
            if !self.compressed_numbers && (!is_text || FEW_VALUES.contains(&column.name)) {
                properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
            }
            if self.bloom_filters && sorted_by.contains(&column.name) {
                properties = properties.set_column_bloom_filter_enabled(path, true);
            }
        }
        Ok(properties.build())
    }
}

/// Decodes the rows of a Parquet file. Reads only the columns of the row type.
///
/// # Errors
/// `CorruptData` if the file is not a valid Parquet file, lacks a column, or would take much more memory than its size
/// suggests.
pub fn decode<R: Row>(file: Bytes) -> Result<Vec<R>> {
    decode_rows(file, Selection::All)
}

/// Decodes the rows of a Parquet file, and hands them over in parts: a file may have more rows than fit into the memory.
///
/// # Errors
/// As [`decode`], and the errors of `visit`.
pub fn decode_parts<R: Row>(file: Bytes, mut visit: impl FnMut(Vec<R>) -> Result<()>) -> Result<()> {
    decode_batches::<R>(file, Selection::All, |batch, _| {
        let mut rows = Vec::new();
        R::decode(batch, &mut rows)?;
        visit(rows)
    })
}

/// Decodes the columns of a row type that a Parquet file has, as one batch with plain arrays.
///
/// # Errors
/// As [`decode`].
pub fn decode_columns<R: Row>(file: Bytes) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    decode_batches::<R>(file, Selection::All, |batch, _| {
        let columns = batch.columns().iter().map(without_dictionary).collect::<Result<_>>()?;
        let fields = batch.schema_ref().fields().iter().zip(&columns);
        let fields = fields
            .map(|(field, column): (_, &ArrayRef)| field.as_ref().clone().with_data_type(column.data_type().clone()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        batches.push(RecordBatch::try_new(schema, columns).map_err(read_error)?);
        Ok(())
    })?;
    let Some(first) = batches.first() else { return Ok(RecordBatch::new_empty(R::schema())) };
    concat_batches(first.schema_ref(), &batches).map_err(read_error)
}

fn without_dictionary(column: &ArrayRef) -> Result<ArrayRef> {
    match column.as_dictionary_opt::<Int32Type>() {
        Some(dictionary) => take(dictionary.values(), dictionary.keys(), None).map_err(read_error),
        None => Ok(Arc::clone(column)),
    }
}

/// Decodes the rows of the pages whose statistics allow a value of a string column within a range. The result may
/// include rows outside the range. Without page statistics, it includes all rows.
///
/// # Errors
/// As [`decode`].
pub fn decode_range<R: Row>(file: Bytes, column: &str, range: &RangeInclusive<String>) -> Result<Vec<R>> {
    decode_rows(file, Selection::PagesBetween(column, range))
}

/// Decodes the rows that have one of some strings in one of some columns, which are among those of the row type. Of the
/// other columns, only the values of these rows are decoded.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_any<R: Row>(file: Bytes, columns: &[&str], values: Arc<BTreeSet<String>>) -> Result<Vec<R>> {
    decode_rows(file, Selection::RowsWithAny(columns, values))
}

/// The rows of a file that are decoded.
enum Selection<'a> {
    All,
    /// Those of the pages whose statistics allow a value of a string column within a range.
    PagesBetween(&'a str, &'a RangeInclusive<String>),
    /// Those with one of some strings in one of some columns.
    RowsWithAny(&'a [&'a str], Arc<BTreeSet<String>>),
}

fn decode_rows<R: Row>(file: Bytes, selection: Selection<'_>) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    decode_batches::<R>(file, selection, |batch, all_rows| {
        // Once, instead of moving the rows whenever there are twice as many.
        rows.reserve_exact(all_rows.saturating_sub(rows.len()));
        R::decode(batch, &mut rows)
    })?;
    Ok(rows)
}

/// Decodes the columns of a row type, and hands over a batch of rows at a time, with the number of all rows that will be
/// decoded, or 0 if it is not known.
fn decode_batches<R: Row>(
    file: Bytes,
    selection: Selection<'_>,
    mut visit: impl FnMut(&RecordBatch, usize) -> Result<()>,
) -> Result<()> {
    catch_panics(|| {
        let mut budget = Budget::of_file(file.len() as u64);
        let are_all = matches!(selection, Selection::All);
        let (reader, rows) = reader::<R>(file, selection, &mut budget)?;
        let rows = if are_all { rows.min(budget.room_for(size_of::<R>())) } else { 0 };
        for batch in reader {
            let batch = batch.map_err(read_error)?;
            let values: u64 = batch.columns().iter().map(|column| values_bytes(column)).sum();
            budget.take(values + (batch.num_rows() * size_of::<R>()) as u64)?;
            visit(&batch, rows)?;
        }
        Ok(())
    })
}

/// The length, in bytes, up to which all strings of a dictionary count as the longest: addresses and hashes.
const SHORT_STRING: usize = 80;

/// Returns the size of the values of a column: of a dictionary, the size of the values that its keys refer to, at most
/// [`SHORT_STRING`] bytes per row too many.
fn values_bytes(column: &dyn Array) -> u64 {
    let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() else {
        return column.get_array_memory_size() as u64;
    };
    let Some(values) = dictionary.values().as_string_opt::<i32>() else { return 0 };
    let longest = values.offsets().lengths().max().unwrap_or_default();
    if longest <= SHORT_STRING {
        return (longest * dictionary.len()) as u64;
    }
    let lengths: Vec<u64> = values.offsets().lengths().map(|length| length as u64).collect();
    // The key of a NULL may be out of range.
    let length = |key: &i32| usize::try_from(*key).ok().and_then(|key| lengths.get(key));
    dictionary.keys().values().iter().filter_map(length).sum()
}

/// Reads the metadata of a file, with its index of pages if it has one and `with_index` is set. Checks what they claim.
fn load(file: &Bytes, with_index: bool, budget: &mut Budget) -> Result<ArrowReaderMetadata> {
    bounds::check_footer(file, budget)?;
    let mut metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(read_error)?;
    bounds::check_claims(&metadata, file.len() as u64)?;
    if with_index {
        bounds::check_index(&metadata, file, 0, budget)?;
        let reader = ParquetMetaDataReader::new_with_metadata(metadata);
        let mut reader = reader.with_page_index_policy(PageIndexPolicy::Optional);
        reader.read_page_indexes(file).map_err(read_error)?;
        metadata = reader.finish().map_err(read_error)?;
    }
    ArrowReaderMetadata::try_new(Arc::new(metadata), reader_options()).map_err(read_error)
}

/// Returns options for the types of a file's own schema. What its writer noted of others, such as lists of a fixed length,
/// could take any memory.
pub(super) fn reader_options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Returns a reader of the columns of a row type, in batches of one page at most, which fit into a CPU cache, and the number
/// of rows of the file.
fn reader<R: Row>(
    file: Bytes,
    selection: Selection<'_>,
    budget: &mut Budget,
) -> Result<(ParquetRecordBatchReader, usize)> {
    let metadata = load(&file, matches!(selection, Selection::PagesBetween(..)), budget)?;
    let names = R::columns().into_iter().map(|column| column.name);
    let columns = ProjectionMask::columns(metadata.parquet_schema(), names);
    let page = WRITER_POLICY.rows_per_page;
    let batch_rows = bounds::check_pages(metadata.metadata(), &file, &columns, page, budget)?;
    let options = reader_options().with_schema(with_dictionaries(&metadata));
    let typed = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).map_err(read_error)?;
    let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, typed);
    match selection {
        Selection::All => {}
        Selection::PagesBetween(column, range) => {
            if let Some(pages) = pages_between(&metadata, column, range) {
                reader = reader.with_row_selection(pages);
            }
        }
        Selection::RowsWithAny(columns, values) => {
            let columns = ProjectionMask::columns(metadata.parquet_schema(), columns.iter().copied());
            let predicate = ArrowPredicateFn::new(columns, move |batch| Ok(rows_with_any(&batch, &values)));
            reader = reader.with_row_filter(RowFilter::new(vec![Box::new(predicate)]));
        }
    }
    let reader = reader.with_projection(columns).with_batch_size(batch_rows).build().map_err(read_error)?;
    Ok((reader, usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0)))
}

/// Returns which rows have one of some strings in any column.
fn rows_with_any(batch: &RecordBatch, values: &BTreeSet<String>) -> BooleanArray {
    let mut found = vec![false; batch.num_rows()];
    for column in batch.columns() {
        if let Some(texts) = column.as_string_opt::<i32>() {
            mark(&mut found, texts.iter().map(|text| text.is_some_and(|text| values.contains(text))));
        } else if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>()
            && let Some(texts) = dictionary.values().as_string_opt::<i32>()
        {
            let is_value: Vec<bool> = texts.iter().map(|text| text.is_some_and(|text| values.contains(text))).collect();
            let is_key = |key| is_value.get(usize::try_from(key).ok()?).copied();
            mark(&mut found, dictionary.keys().iter().map(|key| key.and_then(is_key) == Some(true)));
        }
    }
    found.into()
}

fn mark(found: &mut [bool], matches: impl Iterator<Item = bool>) {
    found.iter_mut().zip(matches).for_each(|(found, is_match)| *found |= is_match);
}

/// Selects the rows of the pages whose minimum and maximum overlap the range. Returns `None` if the file has no page
/// statistics.
fn pages_between(metadata: &ArrowReaderMetadata, column: &str, range: &RangeInclusive<String>) -> Option<RowSelection> {
    let groups: Vec<usize> = (0..metadata.metadata().num_row_groups()).collect();
    pages_where(metadata, column, &groups, |min, max| {
        let starts_after = min.is_some_and(|min| min > range.end().as_str());
        let ends_before = max.is_some_and(|max| max < range.start().as_str());
        !starts_after && !ends_before
    })
}

/// Selects the rows of the pages of some row groups that may have a value, by the minimum and maximum of a string column;
/// either may be unknown. Returns `None` if the file has no page statistics.
pub(super) fn pages_where(
    metadata: &ArrowReaderMetadata,
    column: &str,
    groups: &[usize],
    may_have: impl Fn(Option<&str>, Option<&str>) -> bool,
) -> Option<RowSelection> {
    let file = metadata.metadata();
    let (columns, offsets) = (file.column_index()?, file.offset_index()?);
    let statistics = StatisticsConverter::try_new(column, metadata.schema(), metadata.parquet_schema()).ok()?;
    let mins = statistics.data_page_mins(columns, offsets, groups).ok()?;
    let maxes = statistics.data_page_maxes(columns, offsets, groups).ok()?;
    let row_counts = statistics.data_page_row_counts(offsets, file.row_groups(), groups).ok()??;
    let bounds = mins.as_string_opt::<i32>()?.iter().zip(maxes.as_string_opt::<i32>()?);
    let selectors = bounds.zip(row_counts.iter()).map(|((min, max), rows)| {
        let rows = usize::try_from(rows?).ok()?;
        Some(if may_have(min, max) { RowSelector::select(rows) } else { RowSelector::skip(rows) })
    });
    Some(selectors.collect::<Option<Vec<_>>>()?.into())
}

/// Returns the schema of a file, with a dictionary type for string columns whose pages are all dictionary-encoded. An
/// address that occurs in many rows is then parsed once.
fn with_dictionaries(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let groups = metadata.metadata().row_groups();
    let is_dictionary_encoded = |column: usize| {
        groups.iter().all(|group| {
            let pages = group.columns().get(column).and_then(|column| column.page_encoding_stats_mask());
            pages.is_some_and(|pages| pages.is_only(Encoding::RLE_DICTIONARY))
        })
    };
    let field = |(column, field): (usize, &FieldRef)| match field.data_type() {
        DataType::Utf8 if is_dictionary_encoded(column) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(field.as_ref().clone().with_data_type(dictionary))
        }
        _ => Arc::clone(field),
    };
    // Column and field indices are equal only if no field is nested. No table of the lake has nested fields.
    let is_flat = metadata.schema().fields().len() == metadata.parquet_schema().num_columns();
    let fields = metadata.schema().fields();
    if is_flat {
        Arc::new(Schema::new(fields.iter().enumerate().map(field).collect::<Fields>()))
    } else {
        Arc::clone(metadata.schema())
    }
}

pub(super) fn read_error(cause: impl Into<BoxError>) -> Error {
    Error::corrupt("not a readable Parquet file").with_source(cause)
}

/// Converts a panic of the decoder into `CorruptData`. The decoder panics on some corrupt files.
pub(super) fn catch_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err(read_error("the decoder panicked")))
}

/// What the footer of a Parquet file says.
#[derive(Debug, Clone)]
pub struct Footer {
    /// The columns.
    pub schema: SchemaRef,
    /// The key-value metadata of the lake.
    pub metadata: FileMetadata,
    /// The number of rows.
    pub rows: u64,
}

/// A footer, or the number of bytes at the end of the file that contain it.
#[derive(Debug)]
pub enum FooterRead {
    /// The footer.
    Complete(Footer),
    /// The suffix was too short.
    Needs(usize),
}

/// Reads the footer from the last bytes of a Parquet file of `size` bytes.
///
/// # Errors
/// `CorruptData` if the file is not a valid Parquet file.
pub fn footer(suffix: &Bytes, size: u64) -> Result<FooterRead> {
    catch_panics(|| {
        bounds::check_footer(suffix, &mut Budget::of_file(size))?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(suffix, size) {
            Err(ParquetError::NeedMoreData(bytes)) => return Ok(FooterRead::Needs(bytes)),
            result => result.map_err(read_error)?,
        }
        let metadata = Arc::new(reader.finish().map_err(read_error)?);
        bounds::check_claims(&metadata, size)?;
        let metadata = ArrowReaderMetadata::try_new(metadata, reader_options()).map_err(read_error)?;
        Ok(FooterRead::Complete(footer_of(&metadata)))
    })
}

fn footer_of(metadata: &ArrowReaderMetadata) -> Footer {
    let file_metadata = metadata.metadata().file_metadata();
    let pairs = file_metadata.key_value_metadata().into_iter().flatten();
    let pairs =
        pairs.filter_map(|pair| Some((pair.key.strip_prefix(METADATA_PREFIX)?.to_owned(), pair.value.clone()?)));
    Footer {
        schema: Arc::clone(metadata.schema()),
        metadata: pairs.collect(),
        rows: u64::try_from(file_metadata.num_rows()).unwrap_or(0),
    }
}

/// Decodes every value of a Parquet file, to find out whether it is intact.
///
/// # Errors
/// `CorruptData` if it is not.
pub fn verify(file: Bytes) -> Result<()> {
    catch_panics(|| {
        let mut budget = Budget::of_file(file.len() as u64);
        let metadata = load(&file, false, &mut budget)?;
        let (all, page) = (ProjectionMask::all(), WRITER_POLICY.rows_per_page);
        let batch_rows = bounds::check_pages(metadata.metadata(), &file, &all, page, &mut budget)?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let reader = reader.with_batch_size(batch_rows).build();
        reader.map_err(read_error)?.try_for_each(|batch| batch.map(drop).map_err(read_error))
    })
}

/// Reads the [`FileMetadata`] and the number of rows from the footer of a Parquet file.
///
/// # Errors
/// `CorruptData` if the file is not a valid Parquet file.
pub fn file_metadata(file: &Bytes) -> Result<(FileMetadata, u64)> {
    let metadata = catch_panics(|| load(file, false, &mut Budget::of_file(file.len() as u64)))?;
    let Footer { metadata, rows, .. } = footer_of(&metadata);
    Ok((metadata, rows))
}

#[cfg(test)]
mod tests {
    use arrow_array::{DictionaryArray, FixedSizeBinaryArray, Int32Array, StringArray};
    use parquet::column::writer::ColumnCloseResult;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;

    use super::*;
    use crate::tables::{QuarantinedRow, TABLES};

    fn rows(count: i64) -> Vec<QuarantinedRow> {
        let row =
            |row_number| QuarantinedRow { row_number, reason: "odd".to_owned(), row: format!("{{{row_number}}}") };
        (0..count).map(row).collect()
    }

    fn file(count: i64) -> Bytes {
        let metadata = FileMetadata::from([("rows_in".to_owned(), count.to_string())]);
        encode(rows(count), &["row_number"], &metadata).unwrap().0
    }

    #[test]
    fn rows_and_metadata_survive_a_round_trip() {
        for count in [0, 1, 20_000] {
            assert_eq!(decode::<QuarantinedRow>(file(count)).unwrap(), rows(count));
            let (metadata, rows) = file_metadata(&file(count)).unwrap();
            assert_eq!((metadata["rows_in"].as_str(), rows), (count.to_string().as_str(), count as u64));
        }
    }

    #[test]
    fn equal_rows_give_equal_bytes() {
        assert_eq!(file(5000), file(5000));
    }

    #[test]
    fn batch_sizes_do_not_change_the_bytes() {
        let metadata = FileMetadata::from([("rows_in".to_owned(), "20000".to_owned())]);
        for size in [1, 999, 8_192, 9_000, 20_000] {
            let batches = rows(20_000).chunks(size).map(|chunk| QuarantinedRow::encode(chunk).unwrap()).collect();
            assert!(
                encode_batches::<QuarantinedRow>(batches, &["row_number"], &metadata).unwrap() == file(20_000),
                "{size}"
            );
        }
    }

    #[test]
    fn rows_with_any_of_some_values_are_those_of_a_filter() {
        let mut rows = rows(20_000);
        rows.iter_mut().for_each(|row| row.reason = format!("reason {}", row.row_number % 3));
        let (file, _) = encode(rows.clone(), &["row_number"], &FileMetadata::new()).unwrap();
        // The reasons are in a dictionary, and the rows, which differ, are not.
        for values in [vec![], vec!["reason 1"], vec!["{7}"], vec!["reason 2", "{7}", "{19999}", "nothing"]] {
            let values: Arc<BTreeSet<String>> = Arc::new(values.into_iter().map(str::to_owned).collect());
            let expected = rows.iter().filter(|row| values.contains(&row.reason) || values.contains(&row.row));
            let found: Vec<QuarantinedRow> =
                decode_with_any(file.clone(), &["reason", "row"], Arc::clone(&values)).unwrap();
            assert_eq!(found, expected.cloned().collect::<Vec<_>>(), "{values:?}");
        }
    }

    #[test]
    fn footer_declares_sort_order_compression_and_indexes() {
        let reader = SerializedFileReader::new(file(20_000)).unwrap();
        let group = reader.metadata().row_group(0);
        assert_eq!(group.sorting_columns().unwrap()[0].column_idx, 0);
        let column = group.column(0);
        let compression = group.column(1).compression();
        assert!(matches!(compression, Compression::ZSTD(_)), "a file does not store the ZSTD level");
        assert!(
            column.statistics().is_some()
                && column.offset_index_offset().is_some()
                && column.column_index_offset().is_some()
        );
    }

    /// Calls a function with each column of each table and the properties with which the table is written.
    fn for_each_column(check: impl Fn(&Column, &WriterProperties, &ColumnPath)) {
        let mut names = BTreeSet::new();
        for table in TABLES {
            let columns = (table.columns)();
            let properties = WRITER_POLICY.properties(&columns, table.sorted_by, &FileMetadata::new()).unwrap();
            columns.iter().for_each(|column| check(column, &properties, &ColumnPath::from(column.name)));
            names.extend(columns.into_iter().map(|column| column.name));
        }
        let listed = WITHOUT_DICTIONARY.into_iter().chain(FEW_VALUES);
        assert_eq!(listed.filter(|name| !names.contains(name)).collect::<Vec<_>>(), [""; 0], "columns of no table");
    }

    #[test]
    fn integers_and_times_are_packed_and_columns_whose_values_hardly_repeat_have_no_dictionary() {
        for_each_column(|column, properties, path| {
            let is_packed = matches!(column.data_type, DataType::Int64 | DataType::Timestamp(..));
            assert_eq!(properties.encoding(path), is_packed.then_some(Encoding::DELTA_BINARY_PACKED), "{path}");
            let has_dictionary = !is_packed && !WITHOUT_DICTIONARY.contains(&column.name);
            assert_eq!(properties.dictionary_enabled(path), has_dictionary, "{path}");
        });
    }

    #[test]
    fn only_amounts_and_strings_of_many_values_are_compressed() {
        for_each_column(|column, properties, path| {
            let is_text = matches!(column.data_type, DataType::Utf8 | DataType::Decimal128(..));
            let is_compressed = properties.compression(path) != Compression::UNCOMPRESSED;
            assert_eq!(is_compressed, is_text && !FEW_VALUES.contains(&column.name), "{path}");
        });
    }

    #[test]
    fn pages_have_the_number_of_rows_of_the_policy() {
        for rows_per_page in [1_000, 8 * 1024, 20_000] {
            let policy = WriterPolicy { rows_per_page, ..WRITER_POLICY };
            let (file, _) = encode_with_policy(&policy, rows(30_000), &["row_number"], &FileMetadata::new()).unwrap();
            let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
            let metadata = ArrowReaderMetadata::load(&file, options).unwrap();
            // The reasons, which are all equal: where a column falls back from its dictionary, a page ends early.
            let pages = metadata.metadata().offset_index().unwrap()[0][1].page_locations();
            let starts: Vec<_> = pages.iter().map(|page| page.first_row_index as usize).collect();
            assert_eq!(starts, (0..30_000).step_by(rows_per_page).collect::<Vec<_>>(), "{rows_per_page}");
        }
    }

    #[test]
    fn range_query_reads_only_matching_pages() {
        let text = |number: i64| format!("{number:08}");
        let row = |number| QuarantinedRow { row_number: number, reason: text(number), row: String::new() };
        let (file, _) = encode((0..50_000).map(row), &["reason"], &FileMetadata::new()).unwrap();
        let read = |first: i64, last: i64| -> Vec<i64> {
            let range = text(first)..=text(last);
            let rows: Vec<QuarantinedRow> = decode_range(file.clone(), "reason", &range).unwrap();
            rows.into_iter().map(|row| row.row_number).collect()
        };
        let page = i64::try_from(WRITER_POLICY.rows_per_page).unwrap();
        for (first, last) in [(0, 0), (page - 1, page), (20_000, 30_000), (49_999, 49_999), (0, 49_999)] {
            let rows = read(first, last);
            assert!((first..=last).all(|number| rows.binary_search(&number).is_ok()), "{first} to {last}");
            // The page in which a column falls back from its dictionary may be longer.
            assert!(rows.len() as i64 <= last - first + 4 * page, "{first} to {last}: {}", rows.len());
        }
        assert!(read(60_000, 70_000).is_empty());
        let without_statistics: Vec<QuarantinedRow> =
            decode_range(file, "row", &(String::new()..=String::new())).unwrap();
        assert_eq!(without_statistics.len(), 50_000);
    }

    #[test]
    fn footer_is_read_from_the_end_of_a_file() {
        let file = file(100);
        let size = file.len() as u64;
        let suffix = |length: usize| file.slice(file.len() - length..);
        let FooterRead::Needs(length) = footer(&suffix(8), size).unwrap() else { panic!("8 bytes are enough") };
        assert!(length < file.len());
        let FooterRead::Complete(found) = footer(&suffix(length), size).unwrap() else { panic!("needs more") };
        assert_eq!((found.rows, found.metadata["rows_in"].as_str()), (100, "100"));
        assert_eq!(found.schema.fields(), QuarantinedRow::schema().fields());
        for (suffix, size) in [(Bytes::new(), 0), (Bytes::from_static(b"PAR1"), 4), (suffix(60).slice(..50), size)] {
            assert_eq!(footer(&suffix, size).unwrap_err().kind(), crate::Kind::CorruptData);
        }
    }

    #[test]
    fn verify_finds_damage_outside_the_footer() {
        let whole = file(20_000);
        verify(whole.clone()).unwrap();
        let mut damaged = whole.to_vec();
        damaged[4..2000].fill(0xff);
        let damaged = Bytes::from(damaged);
        file_metadata(&damaged).unwrap();
        assert_eq!(verify(damaged).unwrap_err().kind(), crate::Kind::CorruptData);
    }

    fn is_rejected(file: &Bytes) {
        let outcomes = [
            decode::<QuarantinedRow>(file.clone()).map(drop),
            decode_range::<QuarantinedRow>(file.clone(), "reason", &("a".to_owned()..="z".to_owned())).map(drop),
            verify(file.clone()),
            file_metadata(file).map(drop),
            footer(file, file.len() as u64).map(drop),
        ];
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), crate::Kind::CorruptData);
        }
    }

    /// Returns a file with the columns of another one, repeated in a number of row groups.
    fn repeat_row_group(file: &Bytes, groups: usize) -> Bytes {
        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        for _ in 0..groups {
            let mut group = writer.next_row_group().unwrap();
            for column in reader.metadata().row_group(0).columns() {
                let closed = ColumnCloseResult {
                    bytes_written: column.compressed_size() as u64,
                    rows_written: column.num_values() as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                group.append_column(file, closed).unwrap();
            }
            group.close().unwrap();
        }
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn small_file_of_many_equal_rows_is_corrupt() {
        let row = QuarantinedRow { row_number: 1, reason: "odd".to_owned(), row: "{}".to_owned() };
        let rows = std::iter::repeat_n(row, 64 * 1024);
        let (group, _) = encode(rows, &["row_number"], &FileMetadata::new()).unwrap();
        assert_eq!(decode::<QuarantinedRow>(repeat_row_group(&group, 2)).unwrap().len(), 128 * 1024);
        let many = repeat_row_group(&group, 480);
        assert!(many.len() < 3_000_000, "{}", many.len());
        is_rejected(&many);
    }

    /// Returns a file with another footer.
    fn with_footer(file: &[u8], change: impl FnOnce(&[u8]) -> Vec<u8>) -> Bytes {
        let (rest, length) = file[..file.len() - 4].split_last_chunk().unwrap();
        let (pages, footer) = rest.split_at(rest.len() - u32::from_le_bytes(*length) as usize);
        let footer = change(footer);
        [pages, &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat().into()
    }

    /// Replaces the last occurrence of some bytes in the footer of a file.
    fn patch(file: &[u8], from: &[u8], to: &[u8]) -> Bytes {
        with_footer(file, |footer| {
            let at = footer.windows(from.len()).rposition(|window| window == from).unwrap();
            [&footer[..at], to, &footer[at + from.len()..]].concat()
        })
    }

    /// A list of 2³¹ - 1 structures, after the type of the field.
    const MANY: [u8; 6] = [0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];

    #[test]
    fn footer_that_claims_more_row_groups_than_its_bytes_is_corrupt() {
        // The fields with 100 rows and with a list of one row group.
        let claim = [&[0x16, 0xc8, 0x01, 0x19][..], &MANY].concat();
        is_rejected(&patch(&file(100), &[0x16, 0xc8, 0x01, 0x19, 0x1c], &claim));
    }

    #[test]
    fn footer_whose_claims_only_the_decoder_reads_is_corrupt() {
        // The number of rows as a string of seven bytes. The decoder takes its length for the number, and reads them.
        let text = [&[0x18, 0x07, 0x19][..], &MANY, &[0x19, 0x1c]].concat();
        is_rejected(&patch(&file(100), &[0x16, 0xc8, 0x01, 0x19, 0x1c], &text));
        // An unknown field with a list of eight booleans, for which the decoder reads no bytes, so that it reads the next
        // field in them.
        let field = [&[0x09, 0xc8, 0x01, 0xf2, 0x08, 0x09, 0x08][..], &MANY, &[0x00]].concat();
        is_rejected(&with_footer(&file(100), |footer| [&footer[..footer.len() - 1], &field].concat()));
    }

    #[test]
    fn index_that_claims_more_pages_than_its_bytes_is_corrupt() {
        let range = "00000001".to_owned()..="00000002".to_owned();
        let row = |number| QuarantinedRow { row_number: number, reason: format!("{number:08}"), row: String::new() };
        let (whole, _) = encode((0..100).map(row), &["reason"], &FileMetadata::new()).unwrap();
        assert_eq!(decode_range::<QuarantinedRow>(whole.clone(), "reason", &range).unwrap().len(), 100);
        let is_corrupt = |file: Vec<u8>| {
            let outcome = decode_range::<QuarantinedRow>(file.into(), "reason", &range);
            assert_eq!(outcome.unwrap_err().kind(), crate::Kind::CorruptData);
        };
        // The list of one page, with an offset, at the start of the last index.
        let at = whole.windows(3).rposition(|window| window == [0x19, 0x1c, 0x16]).unwrap();
        let mut many = whole.to_vec();
        many[at + 1..][..6].copy_from_slice(&MANY);
        is_corrupt(many);
        // An index that is partly outside of the file.
        let metadata = load(&whole, false, &mut Budget::of_file(0)).unwrap();
        let column = metadata.metadata().row_group(0).columns().last().unwrap().clone();
        let offset = column.offset_index_offset().unwrap();
        let field = |mut value: u64| {
            let mut bytes = vec![0x16];
            while value > 0x7f {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            [bytes, vec![value as u8]].concat()
        };
        is_corrupt(patch(&whole, &field(2 * offset as u64), &field(2 * whole.len() as u64)).to_vec());
    }

    #[test]
    fn columns_of_wide_values_are_corrupt() {
        let values =
            FixedSizeBinaryArray::try_from_sparse_iter_with_size([None::<&[u8]>; 27].into_iter(), 100).unwrap();
        let batch = RecordBatch::try_from_iter_with_nullable([("a", Arc::new(values) as _, true)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let whole = Bytes::from(writer.into_inner().unwrap());
        verify(whole.clone()).unwrap();
        // The type FIXED_LEN_BYTE_ARRAY and a length of 100, which becomes one of 1,000,000,000.
        let wide = patch(&whole, &[0x15, 0x0e, 0x15, 0xc8, 0x01], &[0x15, 0x0e, 0x15, 0x80, 0xa8, 0xd6, 0xb9, 0x07]);
        is_rejected(&wide);
    }

    #[test]
    fn values_of_a_dictionary_count_as_often_as_they_occur() {
        let values = StringArray::from(vec!["x".repeat(1000), "y".to_owned()]);
        let array = DictionaryArray::<Int32Type>::new(vec![0, 1, 0, 0].into(), Arc::new(values));
        assert_eq!(values_bytes(&array), 3_001);
        let keys = Int32Array::from(vec![None, None]);
        let nulls = DictionaryArray::new(keys, Arc::new(StringArray::from(Vec::<String>::new())));
        assert_eq!(values_bytes(&nulls), 0);
    }

    #[test]
    fn truncated_file_is_corrupt_data() {
        let whole = file(100);
        for length in [0, 4, whole.len() / 2, whole.len() - 1] {
            let error = decode::<QuarantinedRow>(whole.slice(..length)).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData);
        }
    }
}
