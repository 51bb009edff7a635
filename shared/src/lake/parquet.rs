//! Rows to Parquet and back: the one writer policy of the lake.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Cause, Error, Result};
use crate::tables::Row;

/// ZSTD's own default: higher levels cost far more time than they save bytes on these columns.
const ZSTD_LEVEL: i32 = 3;

/// Rows in a row group: small enough to be held in memory by any reader, large enough that its footer does not matter.
const ROWS_PER_ROW_GROUP: usize = 256 * 1024;

/// Rows in a page: what a look-up of one wallet has to read of each column.
const ROWS_PER_PAGE: usize = 8 * 1024;

/// Facts about an object that its metadata keeps: nothing in it differs between two equal runs.
pub type Facts = BTreeMap<String, String>;

/// What [`Facts`] keys begin with in the file's key-value metadata.
const FACT_PREFIX: &str = "defi.";

/// Rows as one Parquet file, which declares that they are sorted by `sorted_by`.
///
/// # Errors
/// A value that its column can't hold.
pub fn encode<R: Row>(rows: &[R], sorted_by: &[&str], facts: &Facts) -> Result<Bytes> {
    let mut file = File::new::<R>(sorted_by, facts)?;
    for chunk in rows.chunks(ROWS_PER_PAGE) {
        file.write(&R::encode(chunk)?)?;
    }
    file.close()
}

/// Batches of rows as one Parquet file: the same one as [`encode`] makes of the rows, however they are split into batches.
///
/// # Errors
/// A batch of other columns.
pub fn encode_batches<R: Row>(batches: Vec<RecordBatch>, sorted_by: &[&str], facts: &Facts) -> Result<Bytes> {
    let mut file = File::new::<R>(sorted_by, facts)?;
    let mut even = BatchCoalescer::new(R::schema(), ROWS_PER_PAGE);
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
    fn new<R: Row>(sorted_by: &[&str], facts: &Facts) -> Result<Self> {
        let columns = R::columns();
        let sorting = sorted_by.iter().filter_map(|name| columns.iter().position(|column| column.name == *name));
        let sorting = sorting.filter_map(|index| i32::try_from(index).ok());
        let sorting = sorting.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false });
        let facts = facts.iter().map(|(key, value)| KeyValue::new(format!("{FACT_PREFIX}{key}"), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(wrong)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(ROWS_PER_ROW_GROUP))
            .set_data_page_row_count_limit(ROWS_PER_PAGE)
            .set_sorting_columns(Some(sorting.collect()))
            .set_key_value_metadata(Some(facts.collect()))
            .build();
        ArrowWriter::try_new(Vec::new(), R::schema(), Some(properties)).map(File).map_err(wrong)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(wrong)
    }

    fn close(self) -> Result<Bytes> {
        self.0.into_inner().map(Bytes::from).map_err(wrong)
    }
}

/// The rows of a Parquet file.
///
/// # Errors
/// `CorruptData` for what is no Parquet file, or one with other columns.
pub fn decode<R: Row>(file: Bytes) -> Result<Vec<R>> {
    guarded(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?.build().map_err(unreadable)?;
        let mut rows = Vec::new();
        for batch in reader {
            let batch: RecordBatch = batch.map_err(unreadable)?;
            rows.append(&mut R::decode(&batch)?);
        }
        Ok(rows)
    })
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
        encode(&rows(count), &["row_number"], &facts).unwrap()
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
    fn a_truncated_file_is_corrupt_data() {
        let whole = file(100);
        for length in [0, 4, whole.len() / 2, whole.len() - 1] {
            let error = decode::<QuarantinedRow>(whole.slice(..length)).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData);
        }
    }
}
