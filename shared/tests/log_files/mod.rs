//! Logs from Parquet files: the shapes that AWS's public data set and cryo write, and files that are not whole.
#![allow(clippy::unwrap_used)] // in the test helpers

#[cfg(all(feature = "aws", feature = "testing"))]
mod bucket;
mod files;
mod reading;
mod refused;

use std::sync::Arc;

use defi_shared::Result;
use defi_shared::feeds::{BlockTime, FeedLogs, LogFeed, LogQuery, ParquetLogs};
use defi_shared::lake::{FolderStore, Store};
use defi_shared::sources::Traffic;
use files::{CHAIN, FIRST, PER_DAY, contract, time};

/// Reads the logs of the first day, up to and including the first block of the next one.
async fn first_day(store: Arc<dyn Store>, prefix: &str) -> Result<FeedLogs> {
    let at = |number| BlockTime { number, timestamp: time(number) };
    let addresses = [contract()];
    let query = LogQuery { addresses: &addresses, first: at(FIRST), last: at(FIRST + PER_DAY) };
    ParquetLogs::open(store, prefix, CHAIN).await?.logs(&query, &Traffic::new()).await
}

async fn first_day_in(folder: &tempfile::TempDir) -> Result<FeedLogs> {
    first_day(Arc::new(FolderStore::new(folder.path())), "").await
}

/// Reads the error of files that are refused, on one line.
async fn refusal(folder: &tempfile::TempDir) -> String {
    first_day_in(folder).await.unwrap_err().to_string()
}
