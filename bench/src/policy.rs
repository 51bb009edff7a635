//! Compares policies for writing Parquet on one day of `wallet_health_daily`: file size, and the time of a write, of a
//! full scan and of the lookup of one wallet.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use defi_shared::lake::Facts;
use defi_shared::lake::parquet::{POLICY, Policy, decode, decode_between, encode_by};
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
        .map_err(|source| Error::bad_input("can't read the object").with("path", path.display()).because(source))?;
    let rows: Vec<WalletHealth> = decode(Bytes::from(file))?;
    let Some(middle) = rows.get(rows.len() / 2).map(|row| row.wallet_address.to_string()) else { return Ok(()) };
    println!("{} rows\n", rows.len());
    println!("| policy | MB | write ms | scan ms | one wallet ms |\n|---|---|---|---|---|");
    for (name, policy) in policies() {
        let (write_time, file) =
            fastest(|| Ok(encode_by(&policy, rows.clone(), WALLET_HEALTH.sorted_by, &Facts::new())?.0))?;
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

fn policies() -> Vec<(&'static str, Policy)> {
    vec![
        ("the lake's", POLICY),
        ("ZSTD 1", Policy { zstd_level: 1, ..POLICY }),
        ("ZSTD 3", Policy { zstd_level: 3, ..POLICY }),
        ("ZSTD 9", Policy { zstd_level: 9, ..POLICY }),
        ("dictionaries up to 1 MB", Policy { dictionary_bytes: 1 << 20, ..POLICY }),
        ("dictionaries up to 64 kB", Policy { dictionary_bytes: 64 << 10, ..POLICY }),
        ("dictionaries up to 16 kB", Policy { dictionary_bytes: 16 << 10, ..POLICY }),
        ("doubles byte by byte", Policy { split_doubles: true, ..POLICY }),
        ("doubles value by value", Policy { split_doubles: false, ..POLICY }),
        ("doubles not compressed", Policy { compressed_doubles: false, ..POLICY }),
        ("doubles compressed", Policy { compressed_doubles: true, ..POLICY }),
        ("pages of 1,024 rows", Policy { rows_per_page: 1 << 10, ..POLICY }),
        ("pages of 32,768 rows", Policy { rows_per_page: 32 << 10, ..POLICY }),
        ("row groups of 32,768 rows", Policy { rows_per_row_group: 32 << 10, ..POLICY }),
        ("row groups of 1 M rows", Policy { rows_per_row_group: 1 << 20, ..POLICY }),
        ("Bloom filters", Policy { bloom_filters: true, ..POLICY }),
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
        decode_between(file.clone(), "wallet_address", &(wallet.to_owned()..=wallet.to_owned()))?;
    Ok(rows.iter().filter(|row| row.wallet_address.to_string() == wallet).count())
}
