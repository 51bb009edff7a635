//! Looks up single rows of a Parquet object by its index of pages: one read of the end of the object, which has the footer and
//! the index, and then at most two reads of the pages that may have the rows.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};

use super::bounds::{self, Budget};
use super::parquet::{catch_panics, pages_where, read_error, reader_options};
use super::requests::in_order;
use super::{ObjectVersion, Store, Tail};
use crate::cpu::run_cpu;
use crate::error::{Error, Result};

/// The number of bytes at the end of an object that usually contain its footer and its index: those of 100,000 rows of
/// features take less.
const TAIL_BYTES: usize = 128 << 10;

/// The maximum number of reads of the pages of a row group. The pages of a column are together, so those of a row are in as
/// many places as there are columns. Reading what is between two places costs less than another request, until it is much.
const READS: usize = 2;

/// What is always read with the pages around it, in bytes: it arrives sooner than another request is answered.
const SMALL_GAP: u64 = 64 << 10;

/// The number of row groups that are read concurrently.
const CONCURRENT_GROUPS: usize = 4;

/// The number of rows that are decoded at once, at most.
const BATCH_ROWS: usize = 8 * 1024;

/// The index of an object: its footer and its index of pages. They stay right as long as the object has the same version, so
/// that they can be kept.
#[derive(Debug, Clone)]
pub struct ObjectIndex {
    key: String,
    size: u64,
    version: ObjectVersion,
    metadata: ArrowReaderMetadata,
    /// The end of the object, as it was read with the index. Small objects are in it whole. Empty in a kept index.
    tail: Bytes,
}

impl ObjectIndex {
    /// Reads the index of an object. Returns `None` if the object does not exist.
    ///
    /// # Errors
    /// `CorruptData` if it is not a Parquet file, and the errors of the store.
    pub async fn read(store: &dyn Store, key: &str) -> Result<Option<Self>> {
        let mut length = TAIL_BYTES;
        loop {
            let Some(tail) = store.get_tail(key, length).await? else { return Ok(None) };
            match run_cpu(|| catch_panics(|| parse(&tail))).map_err(|error| error.with("object", key))? {
                Parsed::Index(metadata) => {
                    let Tail { bytes, size, version } = tail;
                    return Ok(Some(ObjectIndex {
                        key: key.to_owned(),
                        size,
                        version,
                        metadata: *metadata,
                        tail: bytes,
                    }));
                }
                Parsed::Needs(bytes) if bytes > length => length = bytes,
                Parsed::Needs(_) => return Err(truncated().with("object", key)),
            }
        }
    }

    /// Returns the index without rows, to keep it: reading rows then asks the store whether the object still has this
    /// version.
    #[must_use]
    pub fn to_keep(&self) -> Self {
        ObjectIndex { tail: Bytes::new(), ..self.clone() }
    }

    /// Returns the columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Returns whether a page may have one of the keys. Without one, [`ObjectIndex::rows`] reads nothing, and does not learn
    /// whether the object still has this version.
    #[must_use]
    pub fn may_have(&self, key_column: &str, keys: &BTreeSet<String>) -> bool {
        let groups = 0..self.metadata.metadata().num_row_groups();
        run_cpu(|| {
            groups.into_iter().any(|group| self.select(group, key_column, keys).is_none_or(|rows| rows.selects_any()))
        })
    }

    /// Reads columns of the rows that have one of the keys in the key column, which is a string column and among the columns
    /// of the result. Columns that the object does not have are left out. Returns `None` if the object has another version
    /// by now.
    ///
    /// # Errors
    /// `CorruptData` with the object's key if it is not intact or would take much more memory than its size suggests, and the
    /// errors of the store.
    pub async fn rows(
        &self,
        store: &dyn Store,
        key_column: &str,
        keys: &BTreeSet<String>,
        columns: &[&str],
    ) -> Result<Option<Vec<RecordBatch>>> {
        let select = |group| {
            let rows = self.select(group, key_column, keys);
            rows.as_ref().is_none_or(RowSelection::selects_any).then_some((group, rows))
        };
        let groups = 0..self.metadata.metadata().num_row_groups();
        let groups: Vec<_> = run_cpu(|| groups.filter_map(select).collect());
        let projection = ProjectionMask::columns(self.metadata.parquet_schema(), columns.iter().copied());
        let read = |(group, selection)| {
            let lookup = GroupLookup { index: self, store, group, selection, projection: projection.clone() };
            async move { lookup.rows(key_column, keys).await }
        };
        let found = in_order(groups, CONCURRENT_GROUPS, read).await.map_err(|error| error.with("object", &self.key))?;
        let found: Option<Vec<_>> = found.into_iter().collect();
        Ok(found.map(|groups| groups.into_iter().flatten().collect()))
    }

    /// Selects the rows of the pages of a row group that may have one of the keys. `None`: all, because the object has no
    /// index of pages.
    fn select(&self, group: usize, key_column: &str, keys: &BTreeSet<String>) -> Option<RowSelection> {
        let may_have = |min: Option<&str>, max: Option<&str>| {
            let between =
                (min.map_or(Bound::Unbounded, Bound::Included), max.map_or(Bound::Unbounded, Bound::Included));
            // A range that ends before it starts is not one.
            min.zip(max).is_none_or(|(min, max)| min <= max) && keys.range::<str, _>(between).next().is_some()
        };
        pages_where(&self.metadata, key_column, &[group], may_have)
    }

    /// Reads ranges of the object. Returns `None` if it has another version by now.
    async fn ranges(&self, store: &dyn Store, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let tail_start = self.size - self.tail.len() as u64;
        if ranges.iter().all(|range| range.start >= tail_start) {
            let tail = [(tail_start..self.size, self.tail.clone())];
            return ranges.iter().map(|range| cut(&tail, range)).collect::<Result<_>>().map(Some);
        }
        let read = |range: Range<u64>| async move {
            let bytes = store.get_range_of(&self.version, &self.key, range.clone()).await?;
            Ok(bytes.map(|bytes| (range, bytes)))
        };
        let reads: Option<Vec<_>> = in_order(joined(ranges), READS, read).await?.into_iter().collect();
        reads.map(|reads| ranges.iter().map(|range| cut(&reads, range)).collect()).transpose()
    }
}

/// Returns a range out of one of the parts of an object that were read.
fn cut(reads: &[(Range<u64>, Bytes)], range: &Range<u64>) -> Result<Bytes> {
    let part = reads.iter().find_map(|(read, bytes)| {
        let start = usize::try_from(range.start.checked_sub(read.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(read.start)?).ok()?;
        (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
    });
    part.ok_or_else(truncated)
}

fn truncated() -> Error {
    Error::corrupt("the object is shorter than its footer says")
}

/// Joins ranges to at most [`READS`] ranges, which leave out the widest gaps between them.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let gaps = sorted.windows(2).map(|pair| pair[1].start.saturating_sub(pair[0].end));
    let mut wide: Vec<(u64, usize)> = gaps.zip(1..).filter(|(gap, _)| *gap > SMALL_GAP).collect();
    wide.sort_unstable_by(|a, b| b.cmp(a));
    let mut cuts = vec![0, sorted.len()];
    cuts.extend(wide.into_iter().take(READS - 1).map(|(_, after)| after));
    cuts.sort_unstable();
    let joined = cuts.windows(2).filter_map(|cut| {
        let near = sorted.get(cut[0]..cut[1])?;
        Some(near.first()?.start..near.iter().map(|range| range.end).max()?)
    });
    joined.collect()
}

/// The parsed end of an object, or the number of bytes of it that contain the footer and the index.
enum Parsed {
    Index(Box<ArrowReaderMetadata>),
    Needs(usize),
}

/// Parses the footer and the index of pages at the end of an object. Checks what they claim.
fn parse(tail: &Tail) -> Result<Parsed> {
    let mut budget = Budget::of_file(tail.size);
    bounds::check_footer(&tail.bytes, &mut budget)?;
    let mut reader = ParquetMetaDataReader::new();
    match reader.try_parse_sized(&tail.bytes, tail.size) {
        Err(ParquetError::NeedMoreData(bytes)) => return Ok(Parsed::Needs(bytes)),
        result => result.map_err(read_error)?,
    }
    let metadata = reader.finish().map_err(read_error)?;
    bounds::check_claims(&metadata, tail.size)?;
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let starts = columns.flat_map(|column| [column.column_index_offset(), column.offset_index_offset()]).flatten();
    let tail_start = tail.size.saturating_sub(tail.bytes.len() as u64);
    let index_start = starts.min().and_then(|start| u64::try_from(start).ok()).unwrap_or(tail_start);
    if index_start < tail_start {
        return Ok(Parsed::Needs(usize::try_from(tail.size - index_start).unwrap_or(usize::MAX)));
    }
    let offset = i64::try_from(tail_start).map_err(read_error)?;
    bounds::check_index(&metadata, &tail.bytes, offset, &mut budget)?;
    let reader = ParquetMetaDataReader::new_with_metadata(metadata);
    let mut reader = reader.with_page_index_policy(PageIndexPolicy::Optional);
    reader.read_page_indexes_sized(&tail.bytes, tail.size).map_err(read_error)?;
    let metadata = Arc::new(reader.finish().map_err(read_error)?);
    let metadata = ArrowReaderMetadata::try_new(metadata, reader_options()).map_err(read_error)?;
    Ok(Parsed::Index(Box::new(metadata)))
}

/// A lookup in one row group.
struct GroupLookup<'a> {
    index: &'a ObjectIndex,
    store: &'a dyn Store,
    group: usize,
    /// The rows of the pages to read. `None`: all rows.
    selection: Option<RowSelection>,
    projection: ProjectionMask,
}

impl GroupLookup<'_> {
    /// Reads the rows that have one of the keys. Returns `None` if the object has another version by now.
    async fn rows(&self, key_column: &str, keys: &BTreeSet<String>) -> Result<Option<Vec<RecordBatch>>> {
        let group = self.index.metadata.metadata().row_group(self.group);
        let (mut budget, mut rows) = (Budget::of_file(self.index.size), Vec::new());
        let mut decoder = self.decoder(BATCH_ROWS)?;
        loop {
            match run_cpu(|| catch_panics(|| decoder.try_decode().map_err(read_error)))? {
                DecodeResult::Finished => return Ok(Some(rows)),
                DecodeResult::Data(batch) => {
                    budget.take(batch.get_array_memory_size() as u64)?;
                    rows.push(run_cpu(|| with_keys(&batch, key_column, keys))?);
                }
                DecodeResult::NeedsData(ranges) => {
                    let Some(parts) = self.index.ranges(self.store, &ranges).await? else { return Ok(None) };
                    let check = || {
                        let parts = bounds::check_parts(group, &ranges, &parts, &mut budget)?;
                        bounds::rows_of_batch(&parts, BATCH_ROWS)
                    };
                    let batch_rows = run_cpu(|| catch_panics(check))?;
                    if batch_rows < BATCH_ROWS {
                        // The decoder asks for everything before it returns rows. So it can start again.
                        decoder = self.decoder(batch_rows)?;
                    }
                    decoder.push_ranges(ranges, parts).map_err(read_error)?;
                }
            }
        }
    }

    fn decoder(&self, batch_rows: usize) -> Result<ParquetPushDecoder> {
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(self.index.metadata.clone())
            .with_row_groups(vec![self.group])
            .with_projection(self.projection.clone())
            .with_batch_size(batch_rows);
        if let Some(selection) = &self.selection {
            builder = builder.with_row_selection(selection.clone());
        }
        builder.build().map_err(read_error)
    }
}

/// Returns the rows of a batch that have one of the keys.
fn with_keys(batch: &RecordBatch, key_column: &str, keys: &BTreeSet<String>) -> Result<RecordBatch> {
    let column = batch.column_by_name(key_column).and_then(|column| column.as_string_opt::<i32>());
    let column = column
        .ok_or_else(|| Error::corrupt("the object has no column of this name with text").with("column", key_column))?;
    let is_wanted: BooleanArray = column.iter().map(|key| Some(key.is_some_and(|key| keys.contains(key)))).collect();
    filter_record_batch(batch, &is_wanted).map_err(read_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::FolderStore;
    use crate::lake::parquet::{FileMetadata, WRITER_POLICY, WriterPolicy, encode_with_policy};
    use crate::tables::{QuarantinedRow, Row};

    /// Small pages and row groups.
    const POLICY: WriterPolicy = WriterPolicy { rows_per_row_group: 400, rows_per_page: 50, ..WRITER_POLICY };

    fn row(number: i64) -> QuarantinedRow {
        QuarantinedRow { row_number: number, reason: format!("{number:05}"), row: format!("{{{number}}}").repeat(200) }
    }

    /// Writes an object of rows with even numbers.
    async fn object(store: &FolderStore, count: i64) {
        let rows = (0..count).map(|number| row(2 * number));
        let (bytes, _) = encode_with_policy(&POLICY, rows, &["reason"], &FileMetadata::new()).unwrap();
        store.put("o", bytes).await.unwrap();
    }

    fn keys(numbers: &[i64]) -> BTreeSet<String> {
        numbers.iter().map(|number| format!("{number:05}")).collect()
    }

    async fn found(index: &ObjectIndex, store: &dyn Store, numbers: &[i64]) -> Option<Vec<QuarantinedRow>> {
        let columns: Vec<_> = QuarantinedRow::columns().into_iter().map(|column| column.name).collect();
        let batches = index.rows(store, "reason", &keys(numbers), &columns).await.unwrap()?;
        let mut rows = Vec::new();
        batches.iter().for_each(|batch| QuarantinedRow::decode(batch, &mut rows).unwrap());
        Some(rows)
    }

    #[tokio::test]
    async fn rows_are_found_in_every_page_and_row_group() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path());
        for count in [0, 1, 50, 51, 400, 1_000] {
            object(&store, count).await;
            let index = ObjectIndex::read(&store, "o").await.unwrap().unwrap();
            for index in [index.clone(), index.to_keep()] {
                let numbers: Vec<i64> = (0..2 * count).step_by(7).chain([-1, 2 * count]).collect();
                let expected: Vec<_> =
                    numbers.iter().filter(|n| (0..2 * count).contains(n) && *n % 2 == 0).map(|n| row(*n)).collect();
                assert_eq!(found(&index, &store, &numbers).await.unwrap(), expected, "{count} rows");
                for number in [0, 98, 100, 798, 800, 2 * count - 2] {
                    let is_row = (0..2 * count).contains(&number);
                    let expected: Vec<_> = is_row.then(|| row(number)).into_iter().collect();
                    assert_eq!(found(&index, &store, &[number]).await.unwrap(), expected, "{number} of {count} rows");
                    assert!(!is_row || index.may_have("reason", &keys(&[number])));
                }
            }
            assert!(!index.may_have("reason", &keys(&[99_999])), "after the last page");
        }
    }

    #[tokio::test]
    async fn index_that_is_longer_than_expected_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path());
        let policy = WriterPolicy { rows_per_page: 1, ..POLICY };
        let rows = (0..3_000).map(|number| row(2 * number));
        let (bytes, _) = encode_with_policy(&policy, rows, &["reason"], &FileMetadata::new()).unwrap();
        store.put("o", bytes).await.unwrap();
        let index = ObjectIndex::read(&store, "o").await.unwrap().unwrap();
        assert!(index.tail.len() > TAIL_BYTES, "{}", index.tail.len());
        assert_eq!(found(&index.to_keep(), &store, &[0, 3, 5_998]).await.unwrap(), [row(0), row(5_998)]);
    }

    #[tokio::test]
    async fn kept_index_of_a_replaced_object_gives_no_rows() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path());
        object(&store, 500).await;
        let index = ObjectIndex::read(&store, "o").await.unwrap().unwrap().to_keep();
        assert_eq!(found(&index, &store, &[10]).await, Some(vec![row(10)]));
        object(&store, 501).await;
        assert_eq!(found(&index, &store, &[10]).await, None);
        store.delete("o").await.unwrap();
        assert_eq!(found(&index, &store, &[10]).await, None);
        assert!(ObjectIndex::read(&store, "o").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn object_that_is_not_parquet_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path());
        object(&store, 500).await;
        let file = store.get("o").await.unwrap().unwrap();
        let half = file.slice(file.len() / 2..);
        for bytes in [Bytes::new(), Bytes::from_static(b"PAR1"), Bytes::from(vec![b'x'; 200_000]), half] {
            store.put("o", bytes).await.unwrap();
            let error = ObjectIndex::read(&store, "o").await.unwrap_err();
            assert!(error.kind() == crate::Kind::CorruptData && error.to_string().contains("object=o"), "{error}");
        }
    }

    #[test]
    fn ranges_are_joined_over_the_narrowest_gaps() {
        const KB: u64 = 1 << 10;
        let of = |ranges: &[(u64, u64)]| -> Vec<Range<u64>> {
            ranges.iter().map(|(start, end)| start * KB..end * KB).collect()
        };
        for (ranges, expected) in [
            (&[][..], &[][..]),
            (&[(5, 6)], &[(5, 6)]),
            (&[(0, 1), (2, 3), (40, 41)], &[(0, 41)]),
            (&[(300, 301), (0, 1), (100, 101)], &[(0, 101), (300, 301)]),
            (&[(0, 1), (900, 901), (100, 101), (1_000, 1_001)], &[(0, 101), (900, 1_001)]),
            (&[(0, 10), (10, 20), (500, 510)], &[(0, 20), (500, 510)]),
        ] {
            assert_eq!(joined(&of(ranges)), of(expected), "{ranges:?}");
        }
    }
}
