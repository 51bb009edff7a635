//! Files of both shapes give the logs of the chain.
#![allow(clippy::panic)] // in the test helpers

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampSecondArray};
use async_trait::async_trait;
use bytes::Bytes;
use defi_shared::Result;
use defi_shared::lake::scan::ParquetScan;
use defi_shared::lake::{Entry, FolderStore, PutOutcome, Store};
use defi_shared::sources::ethereum::Log;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::files::*;
use super::{first_day, first_day_in};

fn times() -> Vec<(u64, i64)> {
    (FIRST..=FIRST + PER_DAY).map(|block| (block, time(block))).collect()
}

#[tokio::test]
async fn days_of_awss_data_set() {
    let read = first_day_in(&aws()).await.unwrap();
    assert_eq!((read.batch.logs, read.batch.repeats), (expected(), 0));
    assert_eq!(read.times.into_iter().collect::<Vec<_>>(), times());
    assert_eq!(read.senders.into_iter().collect::<Vec<_>>(), senders());
}

/// The longest value of a dictionary decides how many rows are decoded at once.
#[tokio::test]
async fn rows_that_may_have_a_long_value_are_decoded_in_small_batches() {
    let folder = tempfile::tempdir().unwrap();
    let texts = StringArray::from_iter_values(std::iter::repeat_n("x".repeat(100_000), 1_500));
    let path = folder.path().join("a");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default()));
    write_with(&path, vec![("a", Arc::new(texts))], properties.build());
    let file = Entry { key: "a".to_owned(), size: std::fs::metadata(&path).unwrap().len() };
    let store = FolderStore::new(folder.path());
    let scan = ParquetScan::open(&store, &file).await.unwrap();
    let rows_of_batches = scan.read(&["a"], &[], |batch| Ok(vec![batch.num_rows()])).await.unwrap();
    assert_eq!(rows_of_batches, [1_342, 158]);
}

/// The size of a batch is known only after rows were filtered by another column.
#[tokio::test]
async fn long_data_that_repeats() {
    let folder = aws();
    let long =
        |logs: Vec<Log>| -> Vec<Log> { logs.into_iter().map(|log| Log { data: vec![0x5a; 50_000], ..log }).collect() };
    let path = of_day(&folder, "logs", 0, "part-0");
    write(&path, aws_logs(&long(logs(blocks_of_day(0)))), Compression::ZSTD(Default::default()));
    let (mut of_day, of_the_next) = (first_day_in(&folder).await.unwrap().batch.logs, expected());
    let next = of_day.split_off(of_the_next.len() - 2);
    assert_eq!(next, of_the_next[of_day.len()..]);
    assert_eq!(of_day, long(of_the_next[..of_day.len()].to_vec()));
}

#[tokio::test]
async fn ranges_of_cryo() {
    let read = first_day_in(&cryo()).await.unwrap();
    assert_eq!((read.batch.logs, read.batch.repeats), (without_hashes(expected()), 0));
    assert!(read.times.is_empty(), "cryo leaves times out");
    assert_eq!(read.senders.into_iter().collect::<Vec<_>>(), senders());
}

#[tokio::test]
async fn ranges_of_cryo_with_hex_text_times_and_the_old_name_of_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = FIRST..FIRST + PER_DAY + 1;
    let logs = logs(blocks.clone());
    let seconds = Int64Array::from_iter_values(logs.iter().map(|log| time(log.block_number)));
    let addresses = StringArray::from_iter_values(logs.iter().map(|log| log.address.to_string()));
    let columns = with(cryo_logs(&logs), "timestamp", Arc::new(seconds));
    let columns = with(without(columns, "address"), "contract_address", Arc::new(addresses));
    write(&of_range(&folder, "logs", &blocks), columns, Compression::UNCOMPRESSED);
    let read = first_day_in(&folder).await.unwrap();
    assert_eq!(read.batch.logs, without_hashes(expected()));
    assert_eq!(read.times.into_iter().collect::<Vec<_>>(), times());
    assert!(read.senders.is_empty(), "there are no transactions");
}

#[tokio::test]
async fn times_are_used_only_if_they_agree_with_the_ends() {
    let blocks = FIRST..FIRST + PER_DAY + 1;
    let logs = logs(blocks.clone());
    let of = |change: &dyn Fn(u64, i64) -> i64| {
        let times = logs.iter().map(|log| change(log.block_number, time(log.block_number)));
        Arc::new(TimestampSecondArray::from_iter_values(times)) as ArrayRef
    };
    let cases: [(&str, ArrayRef, usize); 6] = [
        ("right", of(&|_, time| time), 11),
        ("missing once", of(&|block, time| if block == FIRST + 3 { 0 } else { time }), 10),
        ("an hour off", of(&|_, time| time + 3600), 0),
        ("beyond the end", of(&|block, time| if block == FIRST + 5 { time + 86_400 } else { time }), 0),
        ("falling", of(&|block, time| if block == FIRST + 5 { time - 9_000 } else { time }), 0),
        ("all missing", of(&|_, _| 0), 0),
    ];
    for (case, column, known) in cases {
        let folder = tempfile::tempdir().unwrap();
        let columns = with(cryo_logs(&logs), "block_timestamp", column);
        write(&of_range(&folder, "logs", &blocks), columns, Compression::UNCOMPRESSED);
        assert_eq!(first_day_in(&folder).await.unwrap().times.len(), known, "{case}");
    }
}

#[tokio::test]
async fn times_as_int96() {
    let folder = aws();
    write_int96_blocks(&of_day(&folder, "blocks", 0, "part-0"), blocks_of_day(0));
    assert_eq!(first_day_in(&folder).await.unwrap().times.into_iter().collect::<Vec<_>>(), times());
}

#[tokio::test]
async fn day_that_is_there_twice_counts_once() {
    let folder = aws();
    for table in ["logs", "blocks", "transactions"] {
        let copy = of_day(&folder, table, 0, "part-1");
        std::fs::copy(of_day(&folder, table, 0, "part-0"), copy).unwrap();
    }
    let read = first_day_in(&folder).await.unwrap();
    assert_eq!((read.batch.logs, read.batch.repeats), (expected(), 20));
    assert_eq!(read.times.len(), 11);
}

/// A folder that counts the bytes of what is read.
#[derive(Debug)]
struct Counting(FolderStore, AtomicU64);

#[async_trait]
impl Store for Counting {
    async fn get(&self, _: &str) -> Result<Option<Bytes>> {
        panic!("a file is read whole");
    }
    async fn get_suffix(&self, key: &str, length: usize) -> Result<Option<Bytes>> {
        self.0.get_suffix(key, length).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.1.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.0.get_range(key, range).await
    }
    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome> {
        self.0.compare(key, bytes).await
    }
    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome> {
        self.0.put(key, bytes).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.0.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }
    fn location(&self, key: &str) -> String {
        self.0.location(key)
    }
}

#[tokio::test]
async fn row_groups_and_columns_that_are_not_needed_are_not_read() {
    let blocks = FIRST..FIRST + PER_DAY + 1;
    let mut logs = logs(blocks.clone());
    // The other contract's logs are large, and in row groups of their own.
    logs.iter_mut().filter(|log| log.address != contract()).for_each(|log| log.data = vec![7; 100_000]);
    logs.sort_by_key(|log| log.address);
    let folder = tempfile::tempdir().unwrap();
    let path = of_range(&folder, "logs", &blocks);
    let unused = StringArray::from_iter_values(logs.iter().map(|_| "x".repeat(50_000)));
    let columns = with(cryo_logs(&logs), "unused", Arc::new(unused));
    let properties = WriterProperties::builder().set_dictionary_enabled(false);
    write_with(&path, columns, properties.set_max_row_group_row_count(Some(11)).build());
    assert!(path.metadata().unwrap().len() > 1_500_000);
    let store = Arc::new(Counting(FolderStore::new(folder.path()), AtomicU64::new(0)));
    let read = first_day(store.clone(), "").await.unwrap();
    assert_eq!(read.batch.logs, without_hashes(expected()));
    assert!(store.1.load(Ordering::Relaxed) < 20_000, "{store:?}");
}

#[tokio::test]
async fn addresses_of_any_case_are_found_through_statistics() {
    let blocks = FIRST..FIRST + PER_DAY + 1;
    let logs: Vec<_> = logs(blocks.clone()).into_iter().filter(|log| log.address == contract()).collect();
    for spelling in ["0xABabABabABabABabABabABabABabABabABabABab", "0xABABABABABABABABABABABABABABABABABABABAB"] {
        let folder = tempfile::tempdir().unwrap();
        let addresses = StringArray::from_iter_values(logs.iter().map(|_| spelling));
        let columns = with(cryo_logs(&logs), "address", Arc::new(addresses));
        write(&of_range(&folder, "logs", &blocks), columns, Compression::UNCOMPRESSED);
        assert_eq!(first_day_in(&folder).await.unwrap().batch.logs, without_hashes(expected()), "{spelling}");
    }
}

#[tokio::test]
async fn files_below_a_prefix_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("v1")).unwrap();
    std::fs::rename(aws().keep(), folder.path().join("v1/eth")).unwrap();
    let read = first_day(Arc::new(FolderStore::new(folder.path())), "v1/eth/").await.unwrap();
    assert_eq!(read.batch.logs, expected());
}
