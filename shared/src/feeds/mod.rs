//! Feeds of logs: where the logs of contracts in a range of blocks come from. Each feed gives the same logs; what it does
//! not know of blocks and transactions is asked of a node.
//!
//! | feed | logs | block times | senders |
//! |---|---|---|---|
//! | [`EthereumClient`](crate::sources::ethereum::EthereumClient) | `eth_getLogs` | – | – |
//! | [`ParquetLogs`] | Parquet files of all logs | where the files have them | where there are files of transactions |

mod node;
mod parquet;

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::domain::{Address, TxHash};
use crate::error::Result;
use crate::sources::Traffic;
use crate::sources::ethereum::LogBatch;
pub use parquet::ParquetLogs;

/// A block at an end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTime {
    /// The block number.
    pub number: u64,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub timestamp: i64,
}

/// Which logs are asked for: those of some contracts in some blocks.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery<'a> {
    /// The contracts.
    pub addresses: &'a [Address],
    /// The first block.
    pub first: BlockTime,
    /// The last block, included.
    pub last: BlockTime,
}

/// The logs of a query, and what the feed knows besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedLogs {
    /// The logs in the order of block number and index, and the number of copies that were dropped.
    pub batch: LogBatch,
    /// The times of blocks that have logs, in seconds since 1970-01-01T00:00:00Z.
    pub times: BTreeMap<u64, i64>,
    /// The senders of transactions that have logs.
    pub senders: BTreeMap<TxHash, Address>,
}

/// A source of the logs of contracts in a range of blocks.
#[async_trait]
pub trait LogFeed: Debug + Send + Sync {
    /// Returns all logs of a query: no block of the range is missing.
    ///
    /// # Errors
    /// `NotReady` if the feed does not reach the end of the range yet, `CorruptData` if it lacks blocks within the range or
    /// its logs contradict each other, and the errors of the feed.
    async fn logs(&self, query: &LogQuery<'_>, traffic: &Traffic) -> Result<FeedLogs>;
}
