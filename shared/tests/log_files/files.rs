//! A small chain, and its files in both shapes.
#![allow(clippy::unwrap_used)] // in the test helpers

use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use defi_shared::domain::{Address, Day, HexBytes, TxHash};
use defi_shared::sources::ethereum::Log;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

pub const CHAIN: u64 = 1;
pub const FIRST: u64 = 100;
/// The number of blocks in a day.
pub const PER_DAY: u64 = 10;
/// The number of logs in a block, of which the last one is of another contract.
const PER_BLOCK: u64 = 3;

pub type Columns = Vec<(&'static str, ArrayRef)>;

pub fn contract() -> Address {
    HexBytes([0xab; 20])
}

pub fn day() -> Day {
    "2023-01-01".parse().unwrap()
}

pub fn time(block: u64) -> i64 {
    day().start() + 10 + i64::try_from((block - FIRST) * 86_400 / PER_DAY).unwrap()
}

pub fn hash(block: u64) -> HexBytes<32> {
    HexBytes([u8::try_from(block).unwrap(); 32])
}

fn transaction(block: u64) -> TxHash {
    HexBytes(std::array::from_fn(|index| if index == 0 { 0xee } else { u8::try_from(block).unwrap() }))
}

fn sender(block: u64) -> Address {
    HexBytes([u8::try_from(block).unwrap(); 20])
}

/// The logs of blocks, those of other contracts included.
pub fn logs(blocks: std::ops::Range<u64>) -> Vec<Log> {
    let log = |number: u64| {
        let (block, index) = (number / PER_BLOCK, number % PER_BLOCK);
        Log {
            block_number: block,
            block_hash: Some(hash(block)),
            log_index: index,
            transaction_hash: transaction(block),
            transaction_index: 0,
            address: if index + 1 == PER_BLOCK { HexBytes([0xcd; 20]) } else { contract() },
            topics: (0..number % 5).map(|topic| HexBytes([u8::try_from(topic).unwrap() + 1; 32])).collect(),
            data: vec![0x5a; usize::try_from(number % 4).unwrap() * 16],
            block_timestamp: None,
        }
    };
    (blocks.start * PER_BLOCK..blocks.end * PER_BLOCK).map(log).collect()
}

/// The logs that a query of the first day gives.
pub fn expected() -> Vec<Log> {
    logs(FIRST..FIRST + PER_DAY + 1).into_iter().filter(|log| log.address == contract()).collect()
}

pub fn without_hashes(logs: Vec<Log>) -> Vec<Log> {
    logs.into_iter().map(|log| Log { block_hash: None, ..log }).collect()
}

fn text<const N: usize>(values: impl Iterator<Item = HexBytes<N>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values.map(|value| value.to_string())))
}

fn binary<const N: usize>(values: impl Iterator<Item = Option<HexBytes<N>>>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter(values.map(|value| value.map(|value| value.0))))
}

fn signed(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|value| i64::try_from(value).unwrap())))
}

fn unsigned(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values.map(|value| u32::try_from(value).unwrap())))
}

fn microseconds(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times.map(|time| time * 1_000_000)))
}

/// Logs as AWS's public data set has them.
pub fn aws_logs(logs: &[Log]) -> Columns {
    let mut topics = ListBuilder::new(StringBuilder::new());
    logs.iter().for_each(|log| topics.append_value(log.topics.iter().map(|topic| Some(topic.to_string()))));
    let data = logs.iter().map(|log| const_hex::encode_prefixed(&log.data));
    vec![
        ("log_index", signed(logs.iter().map(|log| log.log_index))),
        ("transaction_hash", text(logs.iter().map(|log| log.transaction_hash))),
        ("transaction_index", signed(logs.iter().map(|_| 0))),
        ("address", text(logs.iter().map(|log| log.address))),
        ("data", Arc::new(StringArray::from_iter_values(data))),
        ("topics", Arc::new(topics.finish())),
        ("block_timestamp", microseconds(logs.iter().map(|log| time(log.block_number)))),
        ("block_number", signed(logs.iter().map(|log| log.block_number))),
        ("block_hash", text(logs.iter().map(|log| log.block_hash.unwrap()))),
    ]
}

pub fn aws_blocks(blocks: std::ops::Range<u64>) -> Columns {
    vec![
        ("timestamp", microseconds(blocks.clone().map(time))),
        ("number", signed(blocks.clone())),
        ("hash", text(blocks.clone().map(hash))),
        ("parent_hash", text(blocks.map(|block| hash(block - 1)))),
    ]
}

fn aws_transactions(blocks: std::ops::Range<u64>) -> Columns {
    vec![
        ("hash", text(blocks.clone().map(transaction))),
        ("from_address", text(blocks.clone().map(sender))),
        ("block_number", signed(blocks)),
    ]
}

/// Logs as cryo writes them.
pub fn cryo_logs(logs: &[Log]) -> Columns {
    let topic = |number: usize| binary(logs.iter().map(move |log| log.topics.get(number).copied()));
    vec![
        ("block_number", unsigned(logs.iter().map(|log| log.block_number))),
        ("transaction_index", unsigned(logs.iter().map(|_| 0))),
        ("log_index", unsigned(logs.iter().map(|log| log.log_index))),
        ("transaction_hash", binary(logs.iter().map(|log| Some(log.transaction_hash)))),
        ("address", binary(logs.iter().map(|log| Some(log.address)))),
        ("topic0", topic(0)),
        ("topic1", topic(1)),
        ("topic2", topic(2)),
        ("topic3", topic(3)),
        ("data", Arc::new(BinaryArray::from_iter_values(logs.iter().map(|log| &log.data)))),
        ("n_data_bytes", unsigned(logs.iter().map(|log| log.data.len() as u64))),
        ("chain_id", Arc::new(UInt64Array::from_iter_values(logs.iter().map(|_| CHAIN)))),
    ]
}

fn cryo_transactions(blocks: std::ops::Range<u64>) -> Columns {
    vec![
        ("block_number", unsigned(blocks.clone())),
        ("transaction_hash", binary(blocks.clone().map(|block| Some(transaction(block))))),
        ("from_address", binary(blocks.map(|block| Some(sender(block))))),
    ]
}

/// Replaces a column, or adds it.
pub fn with(mut columns: Columns, name: &'static str, column: ArrayRef) -> Columns {
    columns.retain(|(other, _)| *other != name);
    columns.push((name, column));
    columns
}

pub fn without(mut columns: Columns, name: &str) -> Columns {
    columns.retain(|(other, _)| *other != name);
    columns
}

pub fn write(path: &Path, columns: Columns, compression: Compression) {
    let properties = WriterProperties::builder().set_compression(compression);
    write_with(path, columns, properties.set_max_row_group_row_count(Some(7)).build());
}

pub fn write_with(path: &Path, columns: Columns, properties: WriterProperties) {
    create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The path of a file of a day.
pub fn of_day(folder: &tempfile::TempDir, table: &str, days: i32, name: &str) -> PathBuf {
    folder.path().join(format!("{table}/date={}/{name}.snappy.parquet", day().plus_days(days)))
}

pub fn blocks_of_day(days: u64) -> std::ops::Range<u64> {
    FIRST + days * PER_DAY..FIRST + (days + 1) * PER_DAY
}

/// Two days as in AWS's public data set.
pub fn aws() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (days, blocks) in [(0, blocks_of_day(0)), (1, blocks_of_day(1))] {
        let file = |table, columns| write(&of_day(&folder, table, days, "part-0"), columns, Compression::SNAPPY);
        file("logs", aws_logs(&logs(blocks.clone())));
        file("blocks", aws_blocks(blocks.clone()));
        file("transactions", aws_transactions(blocks));
    }
    folder
}

/// The path of a file of a range of blocks.
pub fn of_range(folder: &tempfile::TempDir, kind: &str, blocks: &std::ops::Range<u64>) -> PathBuf {
    folder.path().join(format!("ethereum__{kind}__{:08}_to_{:08}.parquet", blocks.start, blocks.end - 1))
}

/// The same blocks as cryo writes them, in files of seven blocks.
pub fn cryo() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for first in (FIRST - 5..FIRST + 2 * PER_DAY).step_by(7) {
        let blocks = first..first + 7;
        let file = |kind, columns| write(&of_range(&folder, kind, &blocks), columns, Compression::LZ4_RAW);
        file("logs", cryo_logs(&logs(blocks.clone())));
        file("transactions", cryo_transactions(blocks.clone()));
    }
    folder
}

/// Writes blocks with times as INT96, as old versions of Spark do. Days count from the Julian epoch.
pub fn write_int96_blocks(path: &Path, blocks: std::ops::Range<u64>) {
    let schema = "message blocks { required int64 number; required binary hash (UTF8); required int96 timestamp; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Default::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let numbers: Vec<i64> = blocks.clone().map(|block| i64::try_from(block).unwrap()).collect();
    let hashes: Vec<ByteArray> = blocks.clone().map(|block| hash(block).to_string().as_str().into()).collect();
    let times: Vec<Int96> = blocks.map(time).map(int96).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&hashes, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

fn int96(time: i64) -> Int96 {
    let nanoseconds = u64::try_from(time.rem_euclid(86_400)).unwrap() * 1_000_000_000;
    let julian = u32::try_from(time.div_euclid(86_400)).unwrap() + 2_440_588;
    let mut value = Int96::new();
    value.set_data(nanoseconds as u32, (nanoseconds >> 32) as u32, julian);
    value
}

/// The senders that a query of the first day gives.
pub fn senders() -> Vec<(TxHash, Address)> {
    (FIRST..=FIRST + PER_DAY).map(|block| (transaction(block), sender(block))).collect()
}
