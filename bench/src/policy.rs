//! Compares policies for writing Parquet on one day of `wallet_health_daily`: file size, and the time of a write, of a
//! full scan and of the lookup of one wallet.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use defi_shared::lake::FileMetadata;
use defi_shared::lake::parquet::{WRITER_POLICY, WriterPolicy, decode, decode_range, encode_with_policy};
use defi_shared::tables::{WALLET_HEALTH, WalletHealth};
use defi_shared::{Error, Result};

/// The number of repetitions. The fastest one counts.
const REPETITIONS: u32 = 5;

/// Prints a table of the policies, measured with an object of `wallet_health_daily`.
///
/// # Errors
/// The file can't be read, or is of another table.
pub fn compare(path: &Path) -> Result<()> {
    let file = std::fs::read(path)
        .map_err(|source| Error::bad_input("can't read the object").with("path", path.display()).with_source(source))?;
    let rows: Vec<WalletHealth> = decode(Bytes::from(file))?;
    let Some(middle) = rows.get(rows.len() / 2).map(|row| row.wallet_address.to_string()) else { return Ok(()) };
    println!("{} rows\n", rows.len());
    println!("| policy | MB | write ms | scan ms | one wallet ms |\n|---|---|---|---|---|");
    for (name, policy) in policies() {
        let (write_time, file) =
            fastest(
                || Ok(encode_with_policy(&policy, rows.clone(), WALLET_HEALTH.sorted_by, &FileMetadata::new())?.0),
            )?;
        let (clone_time, _) = fastest(|| Ok(rows.clone()))?;
        let (scan_time, _) = fastest(|| decode::<WalletHealth>(file.clone()))?;
        let (lookup_time, _) = fastest(|| look_up(&file, &middle))?;
        let megabytes = file.len() as f64 / 1e6;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {name} | {megabytes:.2} | {:.0} | {:.0} | {:.2} |",
            ms(write_time.saturating_sub(clone_time)),
            ms(scan_time),
            ms(lookup_time)
        );
    }
    Ok(())
}

fn policies() -> Vec<(&'static str, WriterPolicy)> {
    vec![
        ("the lake's", WRITER_POLICY),
        ("ZSTD 1", WriterPolicy { zstd_level: 1, ..WRITER_POLICY }),
        ("ZSTD 3", WriterPolicy { zstd_level: 3, ..WRITER_POLICY }),
        ("ZSTD 9", WriterPolicy { zstd_level: 9, ..WRITER_POLICY }),
        ("dictionaries up to 1 MB", WriterPolicy { dictionary_bytes: 1 << 20, ..WRITER_POLICY }),
        ("dictionaries up to 64 kB", WriterPolicy { dictionary_bytes: 64 << 10, ..WRITER_POLICY }),
        ("dictionaries up to 16 kB", WriterPolicy { dictionary_bytes: 16 << 10, ..WRITER_POLICY }),
        ("doubles byte by byte", WriterPolicy { split_doubles: true, ..WRITER_POLICY }),
        ("doubles value by value", WriterPolicy { split_doubles: false, ..WRITER_POLICY }),
        ("numbers not compressed", WriterPolicy { compressed_numbers: false, ..WRITER_POLICY }),
        ("numbers compressed", WriterPolicy { compressed_numbers: true, ..WRITER_POLICY }),
        ("pages of 1,024 rows", WriterPolicy { rows_per_page: 1 << 10, ..WRITER_POLICY }),
        ("pages of 32,768 rows", WriterPolicy { rows_per_page: 32 << 10, ..WRITER_POLICY }),
        ("row groups of 32,768 rows", WriterPolicy { rows_per_row_group: 32 << 10, ..WRITER_POLICY }),
        ("row groups of 1 M rows", WriterPolicy { rows_per_row_group: 1 << 20, ..WRITER_POLICY }),
        ("Bloom filters", WriterPolicy { bloom_filters: true, ..WRITER_POLICY }),
    ]
}

/// Returns the time of the fastest repetition, and the result.
fn fastest<T>(work: impl Fn() -> Result<T>) -> Result<(Duration, T)> {
    let mut best = Duration::MAX;
    let mut result = work()?;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        result = work()?;
        best = best.min(start.elapsed());
    }
    Ok((best, result))
}

/// Returns the number of rows of a wallet. Reads only the pages that may contain it, by the page index.
fn look_up(file: &Bytes, wallet: &str) -> Result<usize> {
    let rows: Vec<WalletHealth> =
        decode_range(file.clone(), "wallet_address", &(wallet.to_owned()..=wallet.to_owned()))?;
    Ok(rows.iter().filter(|row| row.wallet_address.to_string() == wallet).count())
}
