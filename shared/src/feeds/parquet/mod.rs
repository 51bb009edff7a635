//! Parquet files of all logs, in a folder or a bucket, as AWS's public data set and cryo write them.
//!
//! Logs don't tell whether a block is missing, for many have none. That is known from the table of blocks, or from the names
//! of the files.

mod blocks;
mod columns;
mod files;
mod filters;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::Schema;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use rustc_hash::FxHashSet;
use tokio::sync::Semaphore;

use super::{FeedLogs, LogFeed, LogQuery};
use crate::cpu::run_cpu;
use crate::domain::{Address, TxHash};
use crate::error::{Error, Result};
use crate::lake::scan::ParquetScan;
use crate::lake::{Entry, Store};
use crate::sources::ethereum::LogBatch;
use crate::sources::{RetryPolicy, Traffic};
use blocks::{BlockTable, agreeing_times, times_of_rows};
use files::Files;
use tables::Reading;

/// The number of files that are read at once, by all queries together. The columns of a row group are in memory while it is
/// read.
const CONCURRENT_FILES: usize = 2;

/// Files of all logs as a feed.
#[derive(Debug)]
pub struct ParquetLogs {
    store: Arc<dyn Store>,
    prefix: String,
    files: Files,
    chain_id: u64,
    retry: RetryPolicy,
    permits: Semaphore,
}

impl ParquetLogs {
    /// Lists the files of a chain below a prefix of a store, which is empty or ends in `/`. Files that come later are not
    /// seen.
    ///
    /// # Errors
    /// `BadInput` if there are no files of logs, or nothing by which missing blocks would be noticed; the errors of the
    /// store.
    pub async fn open(store: Arc<dyn Store>, prefix: &str, chain_id: u64) -> Result<Self> {
        let files = Files::list(&*store, prefix).await?;
        let (prefix, permits) = (prefix.to_owned(), Semaphore::new(CONCURRENT_FILES));
        Ok(ParquetLogs { store, prefix, files, chain_id, retry: RetryPolicy::REQUEST, permits })
    }

    /// Reads rows of files, in the order of the files.
    async fn read<T: Send>(
        &self,
        files: &[&Entry],
        traffic: &Traffic,
        reading: impl Fn(&Schema) -> Result<Reading<T>> + Sync,
    ) -> Result<Vec<T>> {
        let read_file = |file| {
            let reading = &reading;
            // Requests have their own retries. A connection that breaks while a part is read is tried again here.
            let attempt = move || async move {
                let scan = ParquetScan::open(&*self.store, file).await?;
                let reading = reading(scan.schema()).map_err(|error| error.with("file", scan.location()))?;
                scan.read(&reading.columns, &reading.filters, reading.convert).await
            };
            async move {
                let _permit = self.permits.acquire().await;
                self.retry.run(traffic, attempt).await
            }
        };
        let parts: Vec<_> = files.iter().map(|file| read_file(*file)).collect();
        let parts: Vec<Vec<T>> = stream::iter(parts).buffered(CONCURRENT_FILES).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Reads the senders of the transactions of logs, as far as the files have them.
    async fn senders(
        &self,
        files: &[&Entry],
        query: &LogQuery<'_>,
        batch: &LogBatch,
        traffic: &Traffic,
    ) -> Result<BTreeMap<TxHash, Address>> {
        let hashes: FxHashSet<TxHash> = batch.logs.iter().map(|log| log.transaction_hash).collect();
        let mut senders = BTreeMap::new();
        if hashes.is_empty() {
            return Ok(senders);
        }
        for (hash, sender) in self.read(files, traffic, |schema| tables::senders(schema, query, &hashes)).await? {
            if senders.insert(hash, sender).is_some_and(|other| other != sender) {
                return Err(Error::corrupt("a transaction has two senders").with("transaction", hash));
            }
        }
        Ok(senders)
    }

    async fn read_all(&self, query: &LogQuery<'_>, traffic: &Traffic) -> Result<FeedLogs> {
        let files = self.files.select(query)?;
        let rows = self.read(&files.logs, traffic, |schema| tables::logs(schema, query, self.chain_id)).await?;
        let mut times = times_of_rows(&rows);
        let mut batch = run_cpu(|| LogBatch::of_unordered(rows.into_iter().map(|row| row.log).collect()))?;
        if let Some(files) = &files.blocks {
            let rows = self.read(files, traffic, |schema| tables::blocks(schema, query)).await?;
            let table = BlockTable::new(rows, query)?;
            table.check(&mut batch.logs)?;
            times = table.times(&batch.logs);
        }
        let senders = self.senders(&files.transactions, query, &batch, traffic).await?;
        Ok(FeedLogs { times: agreeing_times(times, query), batch, senders })
    }
}

#[async_trait]
impl LogFeed for ParquetLogs {
    async fn logs(&self, query: &LogQuery<'_>, traffic: &Traffic) -> Result<FeedLogs> {
        let location = || self.store.location(&self.prefix);
        self.read_all(query, traffic).await.map_err(|error| error.with("logs", location()))
    }
}
