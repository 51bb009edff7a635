//! Checks that a Parquet file does not decode to much more than its size: a small file can claim any number of rows, and
//! compressed pages any size. The decoder allocates memory for what it is told.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;

use super::thrift::read_struct;
use crate::error::{Error, Result};

/// The maximum size of a footer. Most have less than 100 KB.
const MAX_FOOTER_BYTES: usize = 16 << 20;

/// The maximum size of an uncompressed page. The pages of the lake have about 1 MB at most.
const MAX_PAGE_BYTES: i64 = 256 << 20;

/// What a file of any size may decode to, in bytes.
const BASE_BYTES: u64 = 512 << 20;

/// What a file may decode to in addition, in bytes per byte of the file. Rows of the lake take up to 20 times the memory
/// of their compressed columns.
const BYTES_PER_BYTE: u64 = 64;

/// The memory of the values of a batch of rows that refer to a dictionary, in bytes.
const BATCH_BYTES: usize = 512 << 20;

/// The encodings whose pages state sizes of their own (DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and
/// DELTA_BYTE_ARRAY). The lake does not use them.
const DELTA_ENCODINGS: [i64; 3] = [5, 6, 7];

fn exceeds(message: &str) -> Error {
    Error::corrupt(format!("the Parquet file {message}"))
}

/// What the rows of a file may take in memory.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub(super) fn of_file(size: u64) -> Self {
        let limit = BASE_BYTES.saturating_add(size.saturating_mul(BYTES_PER_BYTE));
        Budget { limit, left: limit }
    }

    /// # Errors
    /// `CorruptData` if less than `bytes` is left.
    pub(super) fn take(&mut self, bytes: u64) -> Result<()> {
        let left = self.left.checked_sub(bytes);
        self.left =
            left.ok_or_else(|| exceeds("decodes to too many bytes for its size").with("limit_bytes", self.limit))?;
        Ok(())
    }
}

/// Checks that the footer at the end of some bytes of a file is well-formed. Bytes that do not contain a whole footer
/// are left to the decoder.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_footer(suffix: &Bytes) -> Result<()> {
    let Some((rest, [a, b, c, d, b'P', b'A', b'R', b'1'])) = suffix.split_last_chunk() else { return Ok(()) };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if length > MAX_FOOTER_BYTES {
        return Err(exceeds("has a footer that is too long").with("limit_bytes", MAX_FOOTER_BYTES));
    }
    let Some(start) = rest.len().checked_sub(length) else { return Ok(()) };
    read_struct(&rest[start..], |_, _| {}).map(drop).ok_or_else(|| exceeds("has a malformed footer"))
}

/// Checks what the footer of a file of `size` bytes says of its rows and columns. A value takes at least eight bytes in
/// memory.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_claims(metadata: &ParquetMetaData, size: u64) -> Result<()> {
    let invalid = || exceeds("has a footer that does not match its size");
    let count = |number: i64| u64::try_from(number).map_err(|_| invalid());
    let rows = count(metadata.file_metadata().num_rows())?;
    let columns = metadata.file_metadata().schema_descr().num_columns() as u64;
    Budget::of_file(size).take(rows.saturating_mul(8 * columns))?;
    let (mut rows_of_groups, mut compressed, mut uncompressed) = (0, 0, Budget::of_file(size));
    for group in metadata.row_groups() {
        rows_of_groups += u128::from(count(group.num_rows())?);
        for column in group.columns() {
            let (start, length) = (count(start(column))?, count(column.compressed_size())?);
            if start.checked_add(length).is_none_or(|end| end > size) {
                return Err(invalid());
            }
            compressed += u128::from(length);
            uncompressed.take(count(column.uncompressed_size())?)?;
        }
    }
    // Columns do not share bytes.
    if rows_of_groups != u128::from(rows) || compressed > u128::from(size) {
        return Err(invalid());
    }
    Ok(())
}

/// Checks the pages of a file whose footer is checked. Returns the number of rows that may be decoded at once.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_pages(metadata: &ParquetMetaData, file: &Bytes, max_batch_rows: usize) -> Result<usize> {
    let (mut uncompressed, mut dictionary) = (Budget::of_file(file.len() as u64), 0);
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let locations = metadata.offset_index().and_then(|groups| groups.get(index));
        for (index, column) in group.columns().iter().enumerate() {
            let (rows, location) = (group.num_rows(), locations.and_then(|columns| columns.get(index)));
            let bytes = usize::try_from(start(column)).ok().zip(usize::try_from(column.compressed_size()).ok());
            let bytes = bytes.and_then(|(start, length)| file.get(start..)?.get(..length));
            let pages = check_column(rows, column, bytes.ok_or_else(|| mismatch(column))?, &mut uncompressed)?;
            if pages.has_delta_encodings {
                return Err(mismatch(column));
            }
            dictionary = dictionary.max(pages.dictionary);
            // Rows of a range are read at the places that the index names.
            let is_listed = |place: &PageLocation| pages.data.contains(&(place.offset, place.compressed_page_size));
            if location.is_some_and(|index| !index.page_locations().iter().all(is_listed)) {
                return Err(exceeds("has an index that does not match its pages").with("column", column.column_path()));
            }
        }
    }
    Ok((BATCH_BYTES / dictionary.max(1)).clamp(1, max_batch_rows))
}

/// Checks the pages of the columns that are within a range of a file whose footer is checked. Others may use any encoding.
///
/// # Errors
/// `CorruptData`.
pub(super) fn check_range(
    metadata: &ParquetMetaData,
    range: &Range<u64>,
    bytes: &Bytes,
    uncompressed: &mut Budget,
) -> Result<()> {
    for group in metadata.row_groups() {
        for column in group.columns() {
            let (start, length) = column.byte_range();
            let Some(offset) = start.checked_sub(range.start).and_then(|offset| usize::try_from(offset).ok()) else {
                continue;
            };
            let column_bytes = bytes.get(offset..).zip(usize::try_from(length).ok());
            if let Some(column_bytes) = column_bytes.and_then(|(rest, length)| rest.get(..length)) {
                check_column(group.num_rows(), column, column_bytes, uncompressed)?;
            }
        }
    }
    Ok(())
}

fn mismatch(column: &ColumnChunkMetaData) -> Error {
    exceeds("has a page that does not match its footer").with("column", column.column_path())
}

/// The pages of a column.
#[derive(Debug, Default)]
struct Pages {
    /// Whether a page has an encoding that states sizes of its own.
    has_delta_encodings: bool,
    /// The size of the dictionary.
    dictionary: usize,
    /// The offset and the size of each data page, with its header.
    data: BTreeSet<(i64, i32)>,
}

/// Checks the pages of a column of a number of rows, from its bytes.
fn check_column(rows: i64, column: &ColumnChunkMetaData, bytes: &[u8], uncompressed: &mut Budget) -> Result<Pages> {
    let invalid = || mismatch(column);
    let start = usize::try_from(start(column)).map_err(|_| invalid())?;
    let (mut pages, mut rest, end) = (Pages::default(), bytes, start + bytes.len());
    let is_list = column.column_descr().max_rep_level() > 0;
    while !rest.is_empty() {
        let page = PageHeader::read(rest).ok_or_else(invalid)?;
        let bytes = u64::try_from(page.uncompressed).map_err(|_| invalid())?;
        let fits = match page.is_dictionary {
            true => page.values <= page.uncompressed,
            false => page.values <= rows || is_list,
        };
        if is_list {
            // A row may have any number of values, each with an offset at least.
            uncompressed.take(u64::try_from(page.values).map_err(|_| invalid())?.saturating_mul(4))?;
        }
        if page.uncompressed > MAX_PAGE_BYTES || page.values < 0 || !fits {
            return Err(invalid());
        }
        pages.has_delta_encodings |= DELTA_ENCODINGS.contains(&page.encoding);
        uncompressed.take(bytes)?;
        let compressed = usize::try_from(page.compressed).map_err(|_| invalid())?;
        let size = page.length.checked_add(compressed).ok_or_else(invalid)?;
        if page.is_dictionary {
            pages.dictionary = pages.dictionary.max(page.uncompressed as usize);
        } else {
            let (offset, size) = (i64::try_from(end - rest.len()), i32::try_from(size));
            pages.data.insert((offset.map_err(|_| invalid())?, size.map_err(|_| invalid())?));
        }
        rest = rest.get(size..).ok_or_else(invalid)?;
    }
    Ok(pages)
}

/// Returns the offset of the first page of a column.
fn start(column: &ColumnChunkMetaData) -> i64 {
    column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())
}

/// The header of a page.
#[derive(Debug, Default)]
struct PageHeader {
    /// The length of the header.
    length: usize,
    uncompressed: i64,
    compressed: i64,
    values: i64,
    encoding: i64,
    is_dictionary: bool,
}

impl PageHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut header = PageHeader::default();
        // The fields of `PageHeader` in parquet.thrift: of a data page (5), a dictionary (7) and a data page v2 (8).
        let length = read_struct(bytes, |path, value| match path {
            [2] => header.uncompressed = value,
            [3] => header.compressed = value,
            [5 | 7 | 8, 1] => {
                header.values = value;
                header.is_dictionary |= path[0] == 7;
            }
            [5 | 7, 2] | [8, 4] => header.encoding = value,
            _ => {}
        })?;
        Some(PageHeader { length, ..header })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Type;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type as SchemaType};

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

    /// Returns a page of four bytes. `kind` is the header of the field with the data page (5) or the dictionary (7).
    fn page(kind: u8, uncompressed: i64, values: i64, encoding: i64) -> Vec<u8> {
        let integers = |values: &[i64]| values.iter().flat_map(|value| [vec![0x15], varint(*value)].concat()).collect();
        let sizes: Vec<u8> = integers(&[0, uncompressed, 4]);
        let of_kind: Vec<u8> = integers(&[values, encoding]);
        [sizes, vec![kind], of_kind, vec![0, 0], vec![1; 4]].concat()
    }

    const DATA: u8 = 0x2c;
    const DICTIONARY: u8 = 0x4c;

    fn check(pages: &[Vec<u8>], rows: i64, budget: u64) -> Result<Pages> {
        let file = Bytes::from(pages.concat());
        let column = SchemaType::primitive_type_builder("a", Type::BYTE_ARRAY).build().unwrap();
        let column = ColumnDescriptor::new(Arc::new(column), 0, 0, ColumnPath::from("a"));
        let column = ColumnChunkMetaData::builder(Arc::new(column)).set_total_compressed_size(file.len() as i64);
        let column = column.set_data_page_offset(0).build().unwrap();
        check_column(rows, &column, &file, &mut Budget { limit: budget, left: budget })
    }

    #[test]
    fn pages_are_found_with_their_sizes() {
        let pages = [page(DICTIONARY, 100, 3, 0), page(DATA, 8, 5, 8), page(DATA, 9, 5, 0)];
        let found = check(&pages, 10, 117).unwrap();
        let starts = [pages[0].len(), pages[0].len() + pages[1].len()].map(|start| start as i64);
        let sizes = [pages[1].len(), pages[2].len()].map(|size| size as i32);
        assert_eq!(found.dictionary, 100);
        assert_eq!(found.data, starts.into_iter().zip(sizes).collect());
    }

    #[test]
    fn encodings_that_state_sizes_of_their_own_are_noticed() {
        let is_delta = |encoding| check(&[page(DATA, 8, 5, encoding)], 10, 100).unwrap().has_delta_encodings;
        assert!(DELTA_ENCODINGS.into_iter().all(is_delta));
        assert!(![0, 8].into_iter().any(is_delta));
    }

    #[test]
    fn pages_that_claim_too_much_are_corrupt() {
        for (page, budget) in [
            (page(DATA, 8, 5, 0), 7),
            (page(DATA, MAX_PAGE_BYTES + 1, 5, 0), u64::MAX),
            (page(DATA, i64::from(i32::MAX), 5, 0), u64::MAX),
            (page(DATA, -1, 5, 0), u64::MAX),
            (page(DATA, 8, 11, 0), u64::MAX),
            (page(DATA, 8, -1, 0), u64::MAX),
            (page(DICTIONARY, 8, 9, 0), u64::MAX),
            (page(DATA, 8, 5, 0)[1..].to_vec(), u64::MAX),
            (page(DATA, 8, 5, 0)[..12].to_vec(), u64::MAX),
        ] {
            let error = check(std::slice::from_ref(&page), 10, budget).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData, "{page:?}");
        }
    }
}
