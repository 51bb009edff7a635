//! Checks that a Parquet file does not decode to much more than its size: a small file can claim any number of rows, and
//! compressed pages any size. The decoder allocates memory for what it is told. Whatever the decoder reads is read here
//! first, and what it takes is taken from a [`Budget`]: the footer, the index of pages, the pages, and the rows.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::structures::{COLUMN_INDEX, FILE_METADATA, OFFSET_INDEX, PAGE_HEADER};
use super::thrift::read_struct;
use crate::error::{Error, Result};

/// The maximum size of a footer. Most have less than 100 KB.
const MAX_FOOTER_BYTES: usize = 16 << 20;

/// What an item of a list in a footer or in an index takes in memory, at most, in bytes. Most are columns of row groups.
const ITEM_BYTES: u64 = 1 << 10;

/// What a name in the path of a column takes, in addition to its length, in bytes.
const NAME_BYTES: i64 = 32;

/// The maximum depth of groups of columns: the decoder calls itself for a group in a group. A column of lists is in three.
const MAX_GROUP_DEPTH: usize = 32;

/// What a file of any size may take, in bytes.
const BASE_BYTES: u64 = 512 << 20;

/// What a file may take in addition, in bytes per byte of the file. Rows of the lake take up to 20 times the memory of
/// their compressed columns.
const BYTES_PER_BYTE: u64 = 64;

/// The part of [`BASE_BYTES`] that is left for a batch of rows, which is counted only once it is decoded.
const BATCH_BYTES: u64 = 128 << 20;

/// What a value takes in a dictionary or in a list, in addition to its length, at most, in bytes.
const VALUE_BYTES: u64 = 16;

/// The encodings of strings whose pages state sizes of their own (DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY).
const DELTA_ENCODINGS: [u64; 2] = [6, 7];

fn exceeds(message: &str) -> Error {
    Error::corrupt(format!("the Parquet file {message}"))
}

fn invalid_claim() -> Error {
    exceeds("has a footer that does not match its size")
}

fn mismatch(column: &ColumnChunkMetaData) -> Error {
    exceeds("has a page that does not match its footer").with("column", column.column_path())
}

fn unsigned(number: i64) -> Result<u64> {
    number.try_into().map_err(|_| invalid_claim())
}

/// What a file may take in memory.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub(super) fn of_file(size: u64) -> Self {
        let limit = BASE_BYTES.saturating_add(size.saturating_mul(BYTES_PER_BYTE));
        Budget { limit, left: limit - BATCH_BYTES }
    }

    /// # Errors
    /// `CorruptData` if less than `bytes` is left.
    pub(super) fn take(&mut self, bytes: u64) -> Result<()> {
        let left = self.left.checked_sub(bytes);
        self.left =
            left.ok_or_else(|| exceeds("decodes to too many bytes for its size").with("limit_bytes", self.limit))?;
        Ok(())
    }

    /// Returns for how many values of a size, in bytes, there is room.
    pub(super) fn room_for(&self, size: usize) -> usize {
        usize::try_from(self.left / size.max(1) as u64).unwrap_or(usize::MAX)
    }
}

/// The schema in a footer: a list in which a group is followed by its children.
#[derive(Debug)]
struct SchemaWalk {
    /// The groups around the last element: how many children each still lacks, and the size of its path.
    groups: Vec<(i64, i64)>,
    depth: usize,
    /// The size of the path of the last element.
    path: i64,
    /// The size of all paths. The decoder makes one for each column, with the names of the groups that it is in.
    all_paths: i64,
}

impl SchemaWalk {
    fn new() -> Self {
        SchemaWalk { groups: vec![(1, 0)], depth: 0, path: 0, all_paths: 0 }
    }

    fn element(&mut self, name_length: i64) {
        while self.groups.len() > 1 && self.groups.pop_if(|(missing, _)| *missing == 0).is_some() {}
        if let Some((missing, path)) = self.groups.last_mut() {
            *missing -= 1;
            self.path = *path + name_length + NAME_BYTES;
            self.all_paths += self.path;
        }
    }

    fn children(&mut self, count: i64) {
        self.groups.push((count, self.path));
        self.depth = self.depth.max(self.groups.len());
    }

    fn is_valid(&self) -> bool {
        self.depth <= MAX_GROUP_DEPTH && self.groups.iter().all(|(missing, _)| *missing == 0)
    }
}

/// Checks that the footer at the end of some bytes of a file is well-formed, and that what it lists takes little memory.
/// Bytes that do not contain a whole footer are left to the decoder.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_footer(suffix: &[u8], budget: &mut Budget) -> Result<()> {
    let Some((rest, [a, b, c, d, b'P', b'A', b'R', b'1'])) = suffix.split_last_chunk() else { return Ok(()) };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if length > MAX_FOOTER_BYTES {
        return Err(exceeds("has a footer that is too long").with("limit_bytes", MAX_FOOTER_BYTES));
    }
    let Some(start) = rest.len().checked_sub(length) else { return Ok(()) };
    let mut schema = SchemaWalk::new();
    let extent = read_struct(&rest[start..], FILE_METADATA, |path, value| match path {
        // The name of an element of the schema, and its number of children.
        [2, 0, 4] => schema.element(value),
        [2, 0, 5] => schema.children(value),
        _ => {}
    });
    let extent = extent.filter(|_| schema.is_valid()).ok_or_else(|| exceeds("has a malformed footer"))?;
    budget.take(extent.items.saturating_mul(ITEM_BYTES))?;
    budget.take(schema.all_paths.unsigned_abs())
}

/// Checks what the footer of a file of `size` bytes says of its rows and columns.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_claims(metadata: &ParquetMetaData, size: u64) -> Result<()> {
    let rows = unsigned(metadata.file_metadata().num_rows())?;
    let width: u64 = metadata.file_metadata().schema_descr().columns().iter().map(|column| width(column)).sum();
    Budget::of_file(size).take(rows.saturating_mul(width))?;
    let (mut rows_of_groups, mut compressed, mut uncompressed) = (0, 0, Budget::of_file(size));
    for group in metadata.row_groups() {
        rows_of_groups += u128::from(unsigned(group.num_rows())?);
        for column in group.columns() {
            let (start, length) = (unsigned(start(column))?, unsigned(column.compressed_size())?);
            if start.checked_add(length).is_none_or(|end| end > size) {
                return Err(invalid_claim());
            }
            compressed += u128::from(length);
            uncompressed.take(unsigned(column.uncompressed_size())?)?;
        }
    }
    // Columns do not share bytes.
    if rows_of_groups != u128::from(rows) || compressed > u128::from(size) {
        return Err(invalid_claim());
    }
    Ok(())
}

/// Returns the number of bytes that a value of a column takes in memory, at least, whether or not it is NULL.
fn width(column: &ColumnDescriptor) -> u64 {
    match column.physical_type() {
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0).max(8),
        _ => 8,
    }
}

/// Returns the offset of the first page of a column.
fn start(column: &ColumnChunkMetaData) -> i64 {
    column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())
}

fn slice(file: &Bytes, start: i64, length: i64) -> Option<&[u8]> {
    file.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(length).ok()?)
}

/// Checks the index of pages of a file whose footer is checked. `bytes` are the file from `offset` on, and contain the
/// index.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_index(metadata: &ParquetMetaData, bytes: &Bytes, offset: i64, budget: &mut Budget) -> Result<()> {
    let invalid = || exceeds("has a malformed index of pages");
    let (file, mut left) = (bytes, bytes.len());
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        for (start, length, fields) in [
            (column.column_index_offset(), column.column_index_length(), COLUMN_INDEX),
            (column.offset_index_offset(), column.offset_index_length(), OFFSET_INDEX),
        ] {
            let (Some(start), Some(length)) = (start, length) else { continue };
            let start = start.checked_sub(offset).ok_or_else(invalid)?;
            let bytes = slice(file, start, length.into()).ok_or_else(invalid)?;
            // Columns do not share an index.
            left = left.checked_sub(bytes.len()).ok_or_else(invalid)?;
            let extent = read_struct(bytes, fields, |_, _| {}).ok_or_else(invalid)?;
            budget.take(extent.items.saturating_mul(ITEM_BYTES))?;
        }
    }
    Ok(())
}

/// Checks the pages of some columns of a file whose footer and index are checked. Returns the number of rows that may be
/// decoded at once.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_pages(
    metadata: &ParquetMetaData,
    file: &Bytes,
    columns: &ProjectionMask,
    max_batch_rows: usize,
    budget: &mut Budget,
) -> Result<usize> {
    let rows = usize::try_from(metadata.file_metadata().num_rows()).map_err(|_| invalid_claim())?;
    // A batch may have rows of several row groups.
    let mut batch_rows = max_batch_rows.min(rows).max(1);
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let locations = metadata.offset_index().and_then(|groups| groups.get(index));
        let mut chunks = Vec::new();
        let decoded = group.columns().iter().enumerate().filter(|(index, _)| columns.leaf_included(*index));
        for (index, column) in decoded {
            let bytes = slice(file, start(column), column.compressed_size()).ok_or_else(|| mismatch(column))?;
            let chunk = Chunk::check(group.num_rows(), column, start(column), file.slice_ref(bytes), budget)?;
            if let Some(index) = locations.and_then(|columns| columns.get(index)) {
                chunk.check_locations(index.page_locations(), group.num_rows())?;
            }
            chunks.push(chunk);
        }
        batch_rows = rows_of_batch(&chunks, batch_rows)?;
    }
    Ok(batch_rows)
}

/// Checks the pages of the columns of a row group that are within a range of a file whose footer is checked.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_range<'a>(
    group: &'a RowGroupMetaData,
    range: &Range<u64>,
    bytes: &Bytes,
    budget: &mut Budget,
) -> Result<Vec<Chunk<'a>>> {
    let offset = i64::try_from(range.start).map_err(|_| invalid_claim())?;
    let columns = group.columns().iter();
    let columns = columns.filter_map(|column| {
        let of_column = slice(bytes, start(column).checked_sub(offset)?, column.compressed_size())?;
        Some((column, bytes.slice_ref(of_column)))
    });
    columns.map(|(column, bytes)| Chunk::check(group.num_rows(), column, start(column), bytes, budget)).collect()
}

/// Checks pages of a row group of a file whose footer is checked. Each range has pages of one column, as the index of pages
/// says.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_parts<'a>(
    group: &'a RowGroupMetaData,
    ranges: &[Range<u64>],
    parts: &[Bytes],
    budget: &mut Budget,
) -> Result<Vec<Chunk<'a>>> {
    let contains = |column: &ColumnChunkMetaData, range: &Range<u64>| {
        let (start, length) = column.byte_range();
        start <= range.start && range.end <= start.saturating_add(length)
    };
    let part = |(range, bytes): (&Range<u64>, &Bytes)| {
        let column = group.columns().iter().find(|column| contains(column, range)).ok_or_else(invalid_claim)?;
        let first = i64::try_from(range.start).map_err(|_| invalid_claim())?;
        Chunk::check(group.num_rows(), column, first, bytes.clone(), budget)
    };
    ranges.iter().zip(parts).map(part).collect()
}

/// Returns how many rows of some columns may be decoded at once. Each row may have the longest value of a dictionary.
///
/// # Errors
/// `CorruptData`.
pub(super) fn rows_of_batch(chunks: &[Chunk<'_>], max_rows: usize) -> Result<usize> {
    let at_most: u64 = chunks.iter().map(|chunk| chunk.width().max(chunk.dictionary)).sum();
    if at_most.saturating_mul(max_rows as u64) <= BATCH_BYTES {
        return Ok(max_rows);
    }
    let width: u64 = chunks.iter().map(Chunk::longest_value).sum::<Result<_>>()?;
    Ok(usize::try_from(BATCH_BYTES / width.max(1)).unwrap_or(max_rows).clamp(1, max_rows))
}

/// The bytes of a column in a row group, or of some of its pages, whose pages are checked.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    column: &'a ColumnChunkMetaData,
    bytes: Bytes,
    /// The size of the dictionary.
    dictionary: u64,
    /// The offset and the size of each data page, with its header.
    pages: Vec<(i64, i32)>,
}

impl<'a> Chunk<'a> {
    /// Checks the pages of a column of a number of rows. `first` is the offset in the file at which the bytes start.
    fn check(
        rows: i64,
        column: &'a ColumnChunkMetaData,
        first: i64,
        bytes: Bytes,
        budget: &mut Budget,
    ) -> Result<Self> {
        let unsupported = |what: &str, hint: &str| {
            let error = exceeds(&format!("has {what} that is not supported"));
            Err(error.with("column", column.column_path()).with_hint(hint))
        };
        // The others may decompress to more than the size that a page has.
        use Compression::{LZ4_RAW, SNAPPY, UNCOMPRESSED, ZSTD};
        if !matches!(column.compression(), UNCOMPRESSED | SNAPPY | LZ4_RAW | ZSTD(_)) {
            return unsupported("a compression", "compress it with Snappy, ZSTD or LZ4_RAW");
        }
        let invalid = || mismatch(column);
        let lists = u64::try_from(column.column_descr().max_rep_level()).map_err(|_| invalid())?;
        let (mut chunk, mut values_of_lists) = (Chunk { column, bytes, dictionary: 0, pages: Vec::new() }, 0);
        let mut offset = 0;
        while offset < chunk.bytes.len() {
            let page = PageHeader::read(&chunk.bytes[offset..]).ok_or_else(invalid)?;
            if DELTA_ENCODINGS.contains(&page.encoding) {
                return unsupported("an encoding", "write its strings as PLAIN, or with a dictionary");
            }
            // What is not compressed has the size that it has in the file.
            let bytes = page.uncompressed.max(page.compressed);
            // It is in memory as it is and, in part, as values of a batch.
            budget.take(bytes.saturating_mul(2))?;
            let size = page.length as u64 + page.compressed;
            if page.is_dictionary {
                // The one dictionary of a column is its first page.
                if offset > 0 || first != start(column) {
                    return Err(invalid());
                }
                budget.take(page.values.saturating_mul(VALUE_BYTES))?;
                chunk.dictionary = bytes;
            } else {
                let place = first.checked_add_unsigned(offset as u64);
                chunk.pages.push(place.zip(i32::try_from(size).ok()).ok_or_else(invalid)?);
                if lists > 0 {
                    values_of_lists += page.values;
                } else if page.values > unsigned(rows)? {
                    return Err(invalid());
                }
            }
            let end = usize::try_from(size).ok().and_then(|size| offset.checked_add(size));
            offset = end.filter(|end| *end <= chunk.bytes.len()).ok_or_else(invalid)?;
        }
        if values_of_lists > 0 {
            // A row may have any number of values, each in a list in a list.
            budget.take(values_of_lists.saturating_mul(chunk.longest_value()? + lists * VALUE_BYTES))?;
        }
        Ok(chunk)
    }

    /// Checks the places of pages in an index, where rows of a range are read.
    fn check_locations(&self, locations: &[PageLocation], rows: i64) -> Result<()> {
        let starts = locations.iter().map(|page| page.first_row_index).chain([rows]);
        let is_ascending = locations.first().is_none_or(|page| page.first_row_index == 0) && starts.is_sorted();
        let places = locations.iter().map(|page| (page.offset, page.compressed_page_size));
        if is_ascending && places.eq(self.pages.iter().copied()) {
            return Ok(());
        }
        Err(exceeds("has an index that does not match its pages").with("column", self.column.column_path()))
    }

    fn width(&self) -> u64 {
        width(self.column.column_descr())
    }

    /// Returns the number of bytes that the longest value of the dictionary takes. Other values take the memory of their
    /// pages.
    fn longest_value(&self) -> Result<u64> {
        if self.dictionary == 0 || self.column.column_type() != Type::BYTE_ARRAY {
            return Ok(self.width());
        }
        let unreadable = |cause| mismatch(self.column).with_source(cause);
        let column = self.column.clone().into_builder().set_dictionary_page_offset(Some(0));
        let column = column.build().map_err(unreadable)?;
        let pages = SerializedPageReader::new(Arc::new(self.bytes.clone()), &column, 0, None);
        let page = pages.and_then(|mut pages| pages.get_next_page()).map_err(unreadable)?;
        let Some(Page::DictionaryPage { buf, .. }) = page else { return Err(mismatch(self.column)) };
        let (mut rest, mut longest) = (&buf[..], self.width());
        while let Some((length, values)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes(*length);
            rest = values.get(length as usize..).ok_or_else(|| mismatch(self.column))?;
            longest = longest.max(length.into());
        }
        Ok(longest)
    }
}

/// The field of a page's header that a dictionary has.
const DICTIONARY_HEADER: i16 = 7;

/// The header of a page.
#[derive(Debug)]
struct PageHeader {
    is_dictionary: bool,
    /// The length of the header.
    length: usize,
    uncompressed: u64,
    compressed: u64,
    values: u64,
    encoding: u64,
}

impl PageHeader {
    /// Reads a header. It has the fields of its kind and no others: the decoder looks at some of them whatever the kind.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (mut field_of_kind, mut has_others) = (0, false);
        let [mut uncompressed, mut compressed, mut values, mut encoding] = [-1; 4];
        let extent = read_struct(bytes, PAGE_HEADER, |path, value| match *path {
            [1] => {
                field_of_kind = match value {
                    0 => 5, // a data page
                    2 => DICTIONARY_HEADER,
                    3 => 8, // a data page of version 2
                    _ => 0,
                }
            }
            [2] => uncompressed = value,
            [3] => compressed = value,
            [field @ 5..=8, ..] if field != field_of_kind => has_others = true,
            [5..=8, 1] => values = value,
            [5 | 7, 2] | [8, 4] => encoding = value,
            _ => {}
        })?;
        let unsigned = |number: i64| u64::try_from(number).ok();
        (!has_others).then_some(PageHeader {
            is_dictionary: field_of_kind == DICTIONARY_HEADER,
            length: extent.bytes,
            uncompressed: unsigned(uncompressed)?,
            compressed: unsigned(compressed)?,
            values: unsigned(values)?,
            encoding: unsigned(encoding)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;
    use parquet::schema::types::{ColumnPath, Type as SchemaType};

    use super::*;

    fn varint(value: i64) -> Vec<u8> {
        let mut rest = (value << 1 ^ value >> 63) as u64;
        let mut bytes = Vec::new();
        while rest > 0x7f {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    fn integers(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| [vec![0x15], varint(*value)].concat()).collect()
    }

    /// Returns a page of four bytes. `kind` is the header of the field with the data page (5) or the dictionary (7).
    fn page(kind: u8, uncompressed: i64, values: i64, encoding: i64) -> Vec<u8> {
        let sizes = integers(&[if kind == DATA { 0 } else { 2 }, uncompressed, 4]);
        [sizes, vec![kind], integers(&[values, encoding]), vec![0, 0], vec![1; 4]].concat()
    }

    const DATA: u8 = 0x2c;
    const DICTIONARY: u8 = 0x4c;

    /// Checks a column of strings, or of lists of them, and calls `then` with it.
    fn check_as<T>(
        levels: i16,
        compression: Compression,
        pages: &[Vec<u8>],
        budget: u64,
        then: impl FnOnce(Chunk<'_>) -> T,
    ) -> Result<T> {
        let file = Bytes::from(pages.concat());
        let column = SchemaType::primitive_type_builder("a", Type::BYTE_ARRAY).build().unwrap();
        let column = ColumnDescriptor::new(Arc::new(column), levels, levels, ColumnPath::from("a"));
        let column = ColumnChunkMetaData::builder(Arc::new(column)).set_total_compressed_size(file.len() as i64);
        let column = column.set_compression(compression).set_data_page_offset(0).build().unwrap();
        Chunk::check(10, &column, start(&column), file, &mut Budget { limit: budget, left: budget }).map(then)
    }

    /// Checks a column of ten strings.
    fn check(pages: &[Vec<u8>], budget: u64) -> Result<()> {
        check_as(0, Compression::SNAPPY, pages, budget, |_| ())
    }

    #[test]
    fn pages_are_found_with_their_sizes() {
        let pages = [page(DICTIONARY, 100, 3, 0), page(DATA, 8, 5, 8), page(DATA, 9, 5, 0)];
        let starts = [pages[0].len(), pages[0].len() + pages[1].len()].map(|start| start as i64);
        let sizes = [pages[1].len(), pages[2].len()].map(|size| size as i32);
        let budget = 2 * 117 + 3 * VALUE_BYTES;
        check_as(0, Compression::SNAPPY, &pages, budget, |found| {
            assert_eq!(found.dictionary, 100);
            assert_eq!(found.pages, starts.into_iter().zip(sizes).collect::<Vec<_>>());
        })
        .unwrap();
        check(&pages, budget - 1).unwrap_err();
    }

    #[test]
    fn index_must_name_all_pages_in_order() {
        let place =
            |offset, size, first_row_index| PageLocation { offset, compressed_page_size: size, first_row_index };
        let pages = [page(DATA, 8, 5, 0), page(DATA, 9, 5, 0)];
        let [first, second] = [0, 1].map(|index| pages[index].len() as i32);
        let places = [place(0, first, 0), place(first.into(), second, 5)];
        let is_valid = |places: &[PageLocation]| {
            check_as(0, Compression::SNAPPY, &pages, 100, |found| found.check_locations(places, 10).is_ok()).unwrap()
        };
        assert!(is_valid(&places));
        assert!(!is_valid(&places[..1]) && !is_valid(&places[1..]) && !is_valid(&[]));
        for (offset, size, row) in [(0, second, 5), (first, second + 1, 5), (first, second, -5), (first, second, 11)] {
            assert!(!is_valid(&[places[0].clone(), place(offset.into(), size, row)]), "{offset} {size} {row}");
        }
        assert!(!is_valid(&[place(0, first, 1), places[1].clone()]));
    }

    #[test]
    fn pages_that_claim_too_much_are_corrupt() {
        check(&[page(DATA, 8, 5, 5)], 16).unwrap();
        check(&[page(DICTIONARY, 8, 1, 0), page(DATA, 8, 5, 8)], 64).unwrap();
        let many = i64::from(i32::MAX);
        for (page, budget) in [
            (page(DATA, 8, 5, 0), 15),
            // What is not compressed takes the size in the file.
            (page(DATA, 1, 5, 0), 7),
            (page(DATA, many, 5, 0), u64::from(u32::MAX) - 2),
            (page(DATA, -1, 5, 0), u64::MAX),
            (page(DATA, 8, 11, 0), u64::MAX),
            (page(DATA, 8, -1, 0), u64::MAX),
            (page(DICTIONARY, 8, many, 0), 16 + many as u64),
            // A dictionary after the first page.
            ([page(DATA, 8, 5, 0), page(DICTIONARY, 8, 1, 0)].concat(), u64::MAX),
            (page(DATA, 8, 5, DELTA_ENCODINGS[0] as i64), u64::MAX),
            (page(DATA, 8, 5, DELTA_ENCODINGS[1] as i64), u64::MAX),
            (page(DATA, 8, 5, 0)[1..].to_vec(), u64::MAX),
            (page(DATA, 8, 5, 0)[..12].to_vec(), u64::MAX),
        ] {
            let error = check(std::slice::from_ref(&page), budget).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData, "{page:?}");
        }
    }

    #[test]
    fn compressions_that_do_not_stop_at_the_size_of_a_page_are_refused() {
        let check = |compression| check_as(0, compression, &[page(DATA, 8, 5, 0)], 100, |_| ());
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ] {
            check(compression).unwrap();
        }
        for compression in
            [Compression::LZ4, Compression::GZIP(Default::default()), Compression::BROTLI(Default::default())]
        {
            let error = check(compression).unwrap_err().to_string();
            assert!(error.contains("a compression that is not supported"), "{error}");
        }
    }

    #[test]
    fn headers_of_two_kinds_are_corrupt() {
        let header = |kind: i64, fields: &[(u8, &[i64])]| {
            let fields = fields.iter().map(|(field, values)| [vec![*field], integers(values), vec![0]].concat());
            [integers(&[kind, 8, 4]), fields.collect::<Vec<_>>().concat(), vec![0], vec![1; 4]].concat()
        };
        let is_valid = |kind, fields: &[(u8, &[i64])]| check(&[header(kind, fields)], 100).is_ok();
        let many = i64::from(i32::MAX);
        assert!(is_valid(0, &[(0x2c, &[5, 0, 3, 3])]) && is_valid(3, &[(0x5c, &[5, 0, 5, 0, 0, 0])]));
        // A dictionary of many values, and a header of a data page (v2) after it.
        assert!(is_valid(2, &[(0x4c, &[1, 0])]) && !is_valid(2, &[(0x4c, &[many, 0])]));
        assert!(!is_valid(2, &[(0x4c, &[many, 0]), (0x1c, &[1, 0, 1, 0, 0, 0])]));
        assert!(!is_valid(0, &[(0x2c, &[5, 0, 3, 3]), (0x2c, &[1, 0])]));
        // The header of another kind, of a page that is none, and none.
        assert!(!is_valid(2, &[(0x5c, &[1, 0, 1, 0, 0, 0])]) && !is_valid(0, &[(0x4c, &[1, 0])]));
        assert!(!is_valid(1, &[(0x2c, &[5, 0, 3, 3])]) && !is_valid(4, &[(0x2c, &[5, 0])]) && !is_valid(0, &[]));
        assert!(!is_valid(-1, &[(0x2c, &[5, 0, 3, 3])]));
        // The header of a data page (v2) twice.
        assert!(!is_valid(3, &[(0x5c, &[1, 0, 1, 0, 0, 0]), (0x0c, &[])]));
    }

    #[test]
    fn values_of_lists_are_counted() {
        let list =
            |depth, budget| check_as(depth, Compression::SNAPPY, &[page(DATA, 8, 1_000, 0)], budget, |_| ()).is_ok();
        assert!(list(1, 24_016) && !list(1, 24_015));
        assert!(list(3, 56_016) && !list(3, 56_015));
    }

    #[test]
    fn values_of_lists_are_as_long_as_the_longest_of_their_dictionary() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value(vec![Some("x".repeat(1_000)); 100_000]);
        let (metadata, file) = write(vec![("a".to_owned(), Arc::new(lists.finish()))]);
        assert!(file.len() < 10_000, "{}", file.len());
        let check = |left| {
            check_pages(&metadata, &file, &ProjectionMask::all(), 8_192, &mut Budget { limit: left, left }).map(drop)
        };
        check(102_000_000).unwrap();
        assert_eq!(check(101_000_000).unwrap_err().kind(), crate::Kind::CorruptData);
    }

    /// Returns a footer with these elements of the schema: each a name and a number of children, 0 for a column.
    fn footer(elements: &[(&str, i64)]) -> Vec<u8> {
        let element = |(name, children): &(&str, i64)| {
            let name = [&[if *children == 0 { 0x18 } else { 0x48 }, name.len() as u8], name.as_bytes()].concat();
            match children {
                0 => [integers(&[1]), integers(&[0, 0]), name, vec![0]].concat(),
                children => [name, integers(&[*children]), vec![0]].concat(),
            }
        };
        let elements: Vec<_> = elements.iter().map(element).collect();
        let mut count = vec![0xfc];
        let mut rest = elements.len();
        while rest > 0x7f {
            count.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        count.push(rest as u8);
        let metadata = [integers(&[1]), vec![0x19], count, elements.concat(), vec![0x16, 0, 0x19, 0x0c, 0]].concat();
        [&metadata[..], &(metadata.len() as u32).to_le_bytes(), b"PAR1"].concat()
    }

    #[test]
    fn schemas_that_take_much_memory_are_corrupt() {
        let is_valid = |elements: &[(&str, i64)]| check_footer(&footer(elements), &mut Budget::of_file(1_000)).is_ok();
        assert!(is_valid(&[("a", 2), ("b", 0), ("c", 0)]));
        assert!(is_valid(&[("a", 2), ("b", 1), ("c", 0), ("d", 1), ("e", 0)]));
        // More children than elements, and fewer.
        assert!(!is_valid(&[("a", 3), ("b", 0), ("c", 0)]) && !is_valid(&[("a", i64::from(i32::MAX)), ("b", 0)]));
        assert!(!is_valid(&[("a", 1), ("b", 0), ("c", 0)]) && !is_valid(&[("a", -1)]) && !is_valid(&[]));
        // Groups in groups, and next to each other.
        let nested = |depth: usize| [vec![("a", 1); depth], vec![("b", 0)]].concat();
        assert!(is_valid(&nested(MAX_GROUP_DEPTH - 1)) && !is_valid(&nested(MAX_GROUP_DEPTH)));
        assert!(is_valid(&[&[("a", 500)], &[("b", 1), ("c", 0)].repeat(500)[..]].concat()));
        // Many columns, and some in groups with long names.
        let flat = |columns: usize| [vec![("a", columns as i64)], vec![("b", 0); columns]].concat();
        assert!(is_valid(&flat(20_000)) && !is_valid(&flat(400_000)));
        let long = "x".repeat(100);
        let long_paths = [vec![(long.as_str(), 1); 30], flat(140_000)].concat();
        assert!(is_valid(&flat(140_000)) && !is_valid(&long_paths));
    }

    /// Writes a file with these columns.
    fn write(columns: Vec<(String, ArrayRef)>) -> (ParquetMetaData, Bytes) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_dictionary_page_size_limit(4 << 20);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        let file = Bytes::from(writer.into_inner().unwrap());
        (ParquetMetaDataReader::new().parse_and_finish(&file).unwrap(), file)
    }

    /// Writes a file with columns that have a dictionary of these strings, of which most rows have the first one.
    fn file_of_dictionaries(columns: usize, strings: Vec<String>, rows: usize) -> (ParquetMetaData, Bytes) {
        let keys = (0..rows).map(|row| if row < strings.len() { row as i32 } else { 0 }).collect::<Vec<_>>();
        let values = DictionaryArray::<Int32Type>::new(keys.into(), Arc::new(StringArray::from(strings)));
        write((0..columns).map(|column| (column.to_string(), Arc::new(values.clone()) as ArrayRef)).collect())
    }

    #[test]
    fn batches_are_small_where_each_row_may_have_long_values() {
        let rows = |(metadata, file): &(ParquetMetaData, Bytes), columns: &ProjectionMask| {
            check_pages(metadata, file, columns, 8_192, &mut Budget::of_file(file.len() as u64)).unwrap()
        };
        let all = ProjectionMask::all();
        let long = file_of_dictionaries(4, vec!["x".repeat(1 << 20)], 200);
        assert!(long.1.len() < 50_000, "{}", long.1.len());
        assert_eq!(rows(&long, &all), 32);
        let one = ProjectionMask::leaves(long.0.file_metadata().schema_descr(), [2]);
        assert_eq!(rows(&long, &one), 128);
        // What counts is the longest value, not the size of the dictionary.
        let short = file_of_dictionaries(4, (0..20_000).map(|number| format!("{number:042}")).collect(), 20_000);
        assert_eq!(rows(&short, &all), 8_192);
        // The same for a range of a file.
        let group = long.0.row_group(0);
        let (start, length) = group.column(1).byte_range();
        let bytes = long.1.slice(start as usize..(start + length) as usize);
        let chunks = check_range(group, &(start..start + length), &bytes, &mut Budget::of_file(0)).unwrap();
        assert_eq!((chunks.len(), rows_of_batch(&chunks, 8_192).unwrap()), (1, 128));
    }

    #[test]
    fn budgets_grow_with_the_file() {
        for (size, limit) in [(0, 384 << 20), (1 << 20, (384 + 64) << 20)] {
            let mut budget = Budget::of_file(size);
            assert_eq!(budget.room_for(1 << 20) as u64, limit >> 20);
            budget.take(limit).unwrap();
            assert_eq!(budget.room_for(8), 0);
            assert_eq!(budget.take(1).unwrap_err().kind(), crate::Kind::CorruptData);
        }
    }
}
