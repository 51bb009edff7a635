//! Files that lack something, or contradict themselves, are refused.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, UInt64Array};
use parquet::basic::Compression;

use super::files::*;
use super::refusal;

fn starts_with(error: &str, start: &str) {
    assert!(error.starts_with(start), "{error}");
}

#[tokio::test]
async fn day_without_the_next_one_is_not_ready() {
    let folder = aws();
    std::fs::remove_dir_all(of_day(&folder, "logs", 1, "x").parent().unwrap()).unwrap();
    let error = refusal(&folder).await;
    starts_with(&error, "NotReady: the files of a day are not there yet");
    assert!(error.contains("day=2023-01-02, table=logs"), "{error}");

    let folder = aws();
    std::fs::remove_dir_all(of_day(&folder, "blocks", 1, "x").parent().unwrap()).unwrap();
    starts_with(&refusal(&folder).await, "NotReady");
    let folder = aws();
    std::fs::remove_dir_all(of_day(&folder, "logs", 0, "x").parent().unwrap()).unwrap();
    starts_with(&refusal(&folder).await, "CorruptData: the files of a day are missing");
}

/// A value of 257 MB, all zeros, takes 8 KB in a file.
#[tokio::test]
async fn small_file_with_a_huge_page_is_refused_before_it_is_decoded() {
    let folder = aws();
    let all = logs(blocks_of_day(0));
    let huge = format!("0x{}", "0".repeat(257 << 20));
    let data =
        StringArray::from_iter_values(all.iter().enumerate().map(|(row, _)| if row == 0 { &huge } else { "0x" }));
    let path = of_day(&folder, "logs", 0, "part-0");
    write(&path, with(aws_logs(&all), "data", Arc::new(data)), Compression::ZSTD(Default::default()));
    assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
    starts_with(&refusal(&folder).await, "CorruptData: the Parquet file decodes to too many bytes for its size");
}

/// The decoder reads no bytes for a list of booleans that it skips, and finds a list of 2³¹ - 1 row groups in them.
#[tokio::test]
async fn small_file_with_a_footer_that_hides_a_huge_list_is_refused() {
    let folder = aws();
    let path = of_day(&folder, "logs", 0, "part-0");
    let file = std::fs::read(&path).unwrap();
    let (rest, length) = file[..file.len() - 4].split_last_chunk().unwrap();
    let field = [0x09, 0xc8, 0x01, 0xf2, 0x08, 0x09, 0x08, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    let length = u32::from_le_bytes(*length) - 1 + u32::try_from(field.len()).unwrap();
    let forged = [&rest[..rest.len() - 1], &field, &length.to_le_bytes(), b"PAR1"].concat();
    std::fs::write(&path, forged).unwrap();
    starts_with(&refusal(&folder).await, "CorruptData: the Parquet file has a malformed footer");
}

#[tokio::test]
async fn compression_whose_decoder_ignores_the_size_of_a_page_is_refused() {
    let folder = aws();
    write(&of_day(&folder, "logs", 0, "part-0"), aws_logs(&logs(blocks_of_day(0))), Compression::LZ4);
    let error = refusal(&folder).await;
    starts_with(&error, "CorruptData: the Parquet file has a compression that is not supported (column=");
    assert!(error.contains("compress it with Snappy, ZSTD or LZ4_RAW"), "{error}");
}

#[tokio::test]
async fn missing_blocks_are_noticed() {
    let folder = aws();
    let numbers = || blocks_of_day(0).filter(|block| *block != FIRST + 4);
    let blocks = vec![("number", Arc::new(UInt64Array::from_iter_values(numbers())) as ArrayRef)];
    write(&of_day(&folder, "blocks", 0, "part-0"), blocks, Compression::SNAPPY);
    let error = refusal(&folder).await;
    starts_with(&error, "CorruptData: a block is missing in the table of blocks (block=104");

    let folder = cryo();
    std::fs::remove_file(of_range(&folder, "logs", &(102..109))).unwrap();
    starts_with(&refusal(&folder).await, "CorruptData: blocks are missing between the files of logs (from=102, to=108");
    let folder = cryo();
    for first in [109, 116] {
        std::fs::remove_file(of_range(&folder, "logs", &(first..first + 7))).unwrap();
    }
    starts_with(&refusal(&folder).await, "NotReady: the files of logs end before the last block");
}

#[tokio::test]
async fn folders_without_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    starts_with(&refusal(&folder).await, "BadInput: there are no Parquet files of logs here");
    let folder = aws();
    std::fs::remove_dir_all(folder.path().join("blocks")).unwrap();
    starts_with(&refusal(&folder).await, "BadInput: there is no table of blocks beside the logs");
}

#[tokio::test]
async fn two_logs_under_one_key() {
    let folder = aws();
    let mut changed = logs(blocks_of_day(0));
    changed[4].data = vec![1];
    write(&of_day(&folder, "logs", 0, "part-1"), aws_logs(&changed), Compression::SNAPPY);
    let error = refusal(&folder).await;
    starts_with(&error, "CorruptData: two different logs have the same block and index (block=101, log_index=1");
    assert!(error.contains("logs="), "{error}");
}

#[tokio::test]
async fn blocks_that_were_replaced() {
    let folder = aws();
    let mut changed = logs(blocks_of_day(0));
    changed.iter_mut().filter(|log| log.block_number == FIRST + 2).for_each(|log| log.block_hash = Some(hash(7)));
    write(&of_day(&folder, "logs", 0, "part-0"), aws_logs(&changed), Compression::SNAPPY);
    starts_with(&refusal(&folder).await, "CorruptData: a log is of another block than that in the table of blocks");
    // Both versions.
    write(&of_day(&folder, "logs", 0, "part-1"), aws_logs(&logs(blocks_of_day(0))), Compression::SNAPPY);
    starts_with(&refusal(&folder).await, "CorruptData: the logs of a block have two block hashes");

    let folder = aws();
    let parents = StringArray::from_iter_values(blocks_of_day(0).map(|_| hash(7).to_string()));
    let blocks = with(aws_blocks(blocks_of_day(0)), "parent_hash", Arc::new(parents));
    write(&of_day(&folder, "blocks", 0, "part-0"), blocks, Compression::SNAPPY);
    starts_with(&refusal(&folder).await, "CorruptData: a block does not follow the one before");
}

#[tokio::test]
async fn columns_that_are_missing_or_of_another_type() {
    for name in ["block_number", "log_index", "transaction_hash", "address", "data", "topic0", "topic3"] {
        let folder = cryo();
        let blocks = 102..109;
        write(
            &of_range(&folder, "logs", &blocks),
            without(cryo_logs(&logs(blocks.clone())), name),
            Compression::SNAPPY,
        );
        let error = refusal(&folder).await;
        starts_with(&error, &format!("BadInput: a Parquet file lacks a column (column={name}"));
        assert!(error.contains("ethereum__logs__00000102_to_00000108.parquet"), "{error}");
    }
    let folder = aws();
    let numbers = Int64Array::from_iter_values(logs(blocks_of_day(0)).iter().map(|_| 1));
    let columns = with(aws_logs(&logs(blocks_of_day(0))), "address", Arc::new(numbers));
    write(&of_day(&folder, "logs", 0, "part-0"), columns, Compression::SNAPPY);
    let error = refusal(&folder).await;
    starts_with(&error, "BadInput: a column of a Parquet file has another type than bytes or hex text (column=address");
    assert!(error.contains("type=Int64") && error.contains("part-0.snappy.parquet"), "{error}");
}

#[tokio::test]
async fn values_that_are_missing_or_malformed() {
    let logs = logs(102..109);
    let count = logs.len();
    let short = || Arc::new(BinaryArray::from_iter_values((0..count).map(|_| [1, 2]))) as ArrayRef;
    let none = || Arc::new(BinaryArray::from_iter((0..count).map(|_| None::<&[u8]>))) as ArrayRef;
    let odd = || Arc::new(StringArray::from_iter_values((0..count).map(|_| "0x0"))) as ArrayRef;
    // Statistics that exclude the contract would exclude a row group with malformed addresses only.
    let other =
        |index: usize, address: &[u8]| if index.is_multiple_of(2) { contract().0.to_vec() } else { address.to_vec() };
    let short_address = BinaryArray::from_iter_values((0..count).map(|index| other(index, &[0xab, 1])));
    let contract_text = contract().to_string();
    let odd_address = (0..count).map(|index| if index.is_multiple_of(2) { contract_text.as_str() } else { "0xabz" });
    let odd_address = StringArray::from_iter_values(odd_address);
    let negative = Arc::new(Int64Array::from_iter_values((0..count).map(|_| -1))) as ArrayRef;
    let columns: [(&str, ArrayRef); 9] = [
        ("address", Arc::new(short_address)),
        ("address", none()),
        ("address", Arc::new(odd_address)),
        ("transaction_hash", short()),
        ("topic0", short()),
        ("data", none()),
        ("data", odd()),
        ("log_index", Arc::clone(&negative)),
        ("block_number", negative),
    ];
    for (name, column) in columns {
        let folder = cryo();
        let path = of_range(&folder, "logs", &(102..109));
        write(&path, with(cryo_logs(&logs), name, column), Compression::UNCOMPRESSED);
        let error = refusal(&folder).await;
        starts_with(&error, "CorruptData: a value of a Parquet file is m");
        assert!(error.contains(&format!("column={name}")) && error.contains("00000102_to_00000108"), "{error}");
    }
    let folder = cryo();
    let columns = with(cryo_logs(&logs), "topic0", none());
    write(&of_range(&folder, "logs", &(102..109)), columns, Compression::UNCOMPRESSED);
    starts_with(&refusal(&folder).await, "CorruptData: a log has a topic after one that is missing");
}

#[tokio::test]
async fn logs_of_another_chain() {
    let folder = cryo();
    let logs = logs(102..109);
    let chains = UInt64Array::from_iter_values(logs.iter().map(|_| 137));
    let columns = with(cryo_logs(&logs), "chain_id", Arc::new(chains));
    write(&of_range(&folder, "logs", &(102..109)), columns, Compression::UNCOMPRESSED);
    starts_with(&refusal(&folder).await, "BadInput: the logs are those of another chain");
}

#[tokio::test]
async fn files_that_are_cut_off_or_no_parquet() {
    for cut in [0, 5, 100] {
        let folder = cryo();
        let path = of_range(&folder, "logs", &(102..109));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..if cut == 0 { 0 } else { bytes.len() - cut }]).unwrap();
        let error = refusal(&folder).await;
        starts_with(&error, "CorruptData");
        assert!(error.contains("00000102_to_00000108"), "{error}");
    }
}
