//! Logs of contracts in a range of blocks.
//!
//! The range is read in parts. A part that is too much for the node is halved, down to one block, and the client keeps
//! to the size that worked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use serde_json::value::RawValue;

use super::EthereumClient;
use super::hex::to_quantity;
use super::log::{Log, LogBatch, parse_logs};
use super::log_checks::{Checked, check_order, is_one_hash_per_block, without_copies};
use super::messages::{Expected, Meaning, suggested_range};
use super::response::wrong;
use super::rpc::Request;
use crate::domain::Address;
use crate::error::{Error, Kind, Result};
use crate::sources::Traffic;
use crate::sources::http::BodyTooLong;
use crate::sources::volume::Volume;

/// The maximum number of blocks in a request, and the first size that is tried: a day has 7,200. Most providers accept
/// 1,000 to 10,000.
const MAX_BLOCKS: u64 = 10_000;

/// The number of blocks in a day, one every 12 seconds. Before the Merge there were fewer.
const BLOCKS_PER_DAY: u64 = 7_200;

/// The maximum number of addresses in a request.
const MAX_ADDRESSES: usize = 1000;

/// The number of full requests without an error after which the size is doubled: the limit of most nodes is on rows, and
/// the density of logs changes.
const GROW_AFTER: u32 = 16;

/// The number of blocks in a request, which adapts to the node.
#[derive(Debug)]
pub(super) struct RangeSize {
    blocks: AtomicU64,
    /// The node refuses longer ranges, whatever is in them.
    cap: AtomicU64,
    successes: AtomicU32,
}

impl RangeSize {
    pub(super) fn new() -> Self {
        RangeSize { blocks: AtomicU64::new(MAX_BLOCKS), cap: AtomicU64::new(MAX_BLOCKS), successes: AtomicU32::new(0) }
    }

    fn get(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed).max(1)
    }

    /// Takes note that a part was too much, and that the next one has a number of blocks.
    fn shrink(&self, blocks: u64, meaning: Meaning) {
        if meaning == Meaning::TooManyBlocks {
            self.cap.fetch_min(blocks, Ordering::Relaxed);
        }
        self.successes.store(0, Ordering::Relaxed);
        self.blocks.fetch_min(blocks, Ordering::Relaxed);
    }

    /// Takes note that a part of a number of blocks worked.
    fn worked(&self, blocks: u64) {
        if blocks < self.get() || self.successes.fetch_add(1, Ordering::Relaxed) + 1 < GROW_AFTER {
            return;
        }
        self.successes.store(0, Ordering::Relaxed);
        let doubled = blocks.saturating_mul(2).min(self.cap.load(Ordering::Relaxed));
        self.blocks.fetch_max(doubled, Ordering::Relaxed);
    }
}

/// A range of blocks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    from: u64,
    to: u64,
}

impl Blocks {
    fn count(self) -> u64 {
        (self.to - self.from).saturating_add(1)
    }

    /// Splits off the first blocks, if there are more.
    fn split(self, count: u64) -> (Blocks, Option<Blocks>) {
        if count >= self.count() {
            return (self, None);
        }
        let next = self.from + count.max(1);
        (Blocks { to: next - 1, ..self }, Some(Blocks { from: next, ..self }))
    }

    /// Returns the number of blocks to try after these were too much: as many as the node suggests, if that is a range
    /// within these, else half of them.
    fn fewer(self, message: &str) -> u64 {
        let suggested = suggested_range(message).filter(|(from, to)| *from >= self.from && *to <= self.to);
        let suggested = suggested.map(|(from, to)| (to - from).saturating_add(1)).filter(|count| *count < self.count());
        suggested.unwrap_or(self.count() / 2)
    }
}

/// What is asked for: some addresses, in some blocks.
struct Query<'a> {
    addresses: &'a [Address],
    blocks: Blocks,
    volume: &'a Volume,
}

impl EthereumClient {
    /// Returns the logs of contracts in the blocks `from` to `to`, both included.
    ///
    /// Each answer is checked: its logs are within the range, of these contracts, not removed, well-formed, in the
    /// order of their indexes, and have one block hash per block. A log that the node leaves out can't be noticed here:
    /// see [`EthereumClient::block_logs`].
    ///
    /// # Errors
    /// See [`EthereumClient`]. `BadInput` if the range is empty, `NotReady` if it ends above the head. `SourceRejected` if the logs of one block are too much
    /// for the node. `CorruptData` also for two different logs under one block hash and index.
    pub async fn logs(&self, addresses: &[Address], from: u64, to: u64, traffic: &Traffic) -> Result<LogBatch> {
        if from > to {
            return Err(Error::bad_input("a range of blocks is empty").with("from", from).with("to", to));
        }
        self.require_block(to, traffic).await?;
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let addresses = &addresses;
        // Each request has its own retries. All of it is repeated only where its answers contradict each other.
        let attempt = || async move {
            let parts = match self.read_parts(addresses, Blocks { from, to }, traffic).await {
                Ok(parts) => parts,
                Err(error) => return Ok(Err(error)),
            };
            let mut batch = LogBatch { logs: Vec::new(), repeats: parts.iter().map(|part| part.repeats).sum() };
            batch.logs = parts.into_iter().flat_map(|part| part.logs).collect();
            batch.logs.sort_by_key(|log| (log.block_number, log.log_index));
            if !is_one_hash_per_block(&batch.logs) {
                return Err(wrong("the hash of a block differs between two answers"));
            }
            Ok(Ok(batch))
        };
        let outcome = self.rpc.endpoint.retry().run(traffic, attempt).await;
        outcome.map_err(super::final_error)?
    }

    /// Checks that the node has a block. Many nodes answer for a range that ends above their head, without an error.
    async fn require_block(&self, block: u64, traffic: &Traffic) -> Result<()> {
        if block <= self.newest.load(Ordering::Relaxed) {
            return Ok(());
        }
        let head = self.head(traffic).await?.number;
        if block <= head {
            return Ok(());
        }
        Err(Error::new(Kind::NotReady, "the node does not have the last block of the range yet")
            .with("to", block)
            .with("head", head))
    }

    /// Reads the parts of a range, concurrently and in order.
    async fn read_parts(&self, addresses: &[Address], all: Blocks, traffic: &Traffic) -> Result<Vec<Checked>> {
        let volume = &Volume::of_logs(&self.limits, all.count().div_ceil(BLOCKS_PER_DAY));
        let mut queries = Vec::new();
        let mut rest = Some(all);
        while let Some(blocks) = rest {
            let (blocks, after) = blocks.split(self.range.get());
            queries.extend(addresses.chunks(MAX_ADDRESSES).map(|addresses| Query { addresses, blocks, volume }));
            rest = after;
        }
        let parts: Vec<_> = queries.iter().map(|query| self.read_part(query, traffic)).collect();
        let parts: Vec<Vec<Checked>> = stream::iter(parts).buffered(self.rpc.concurrency.max(1)).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Reads one part, in smaller ones if the node asks for it.
    async fn read_part(&self, query: &Query<'_>, traffic: &Traffic) -> Result<Vec<Checked>> {
        let (mut read, mut rest) = (Vec::new(), Some(query.blocks));
        while let Some(blocks) = rest {
            // The size may have changed since the range was split: other parts run at the same time.
            let (blocks, after) = blocks.split(self.range.get());
            match self.read_blocks(query, blocks, traffic).await {
                Ok(logs) => {
                    self.range.worked(blocks.count());
                    read.push(logs);
                    rest = after;
                }
                Err(error) => match too_much(&error) {
                    Some(meaning) if blocks.count() > 1 => {
                        let fewer = blocks.fewer(&error.details());
                        tracing::debug!(error = error.details(), blocks = fewer, "the range of blocks is shortened");
                        self.range.shrink(fewer, meaning);
                        rest = Some(Blocks { from: blocks.from, to: query.blocks.to });
                    }
                    Some(_) => return Err(one_block_error(error, blocks.from)),
                    None => return Err(error.with("from", blocks.from).with("to", blocks.to)),
                },
            }
        }
        Ok(read)
    }

    /// Reads the logs of blocks in one request.
    async fn read_blocks(&self, query: &Query<'_>, blocks: Blocks, traffic: &Traffic) -> Result<Checked> {
        let addresses: Vec<String> = query.addresses.iter().map(Address::to_string).collect();
        let (from, to) = (to_quantity(blocks.from), to_quantity(blocks.to));
        let filter = json!([{ "fromBlock": from, "toBlock": to, "address": addresses }]);
        let request = Request::new("eth_getLogs", filter, Expected::Block(blocks.to));
        let parse = |_, result: &RawValue| {
            let logs = parse_logs(result.get())?;
            let longest = logs.iter().map(|log| log.data.len()).max().unwrap_or(0);
            let checked = without_copies(logs)?;
            check_range(&checked.logs, query.addresses, blocks)?;
            check_order(&checked.logs)?;
            query.volume.add_sizes(checked.logs.len(), result.get().len(), longest)?;
            Ok(checked)
        };
        self.one(&request, &parse, traffic).await
    }

    /// Returns all logs of a block, of all contracts, from its receipts. `None` where the node does not have this
    /// method, which the client remembers. The indexes of the logs are complete from 0.
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn block_logs(&self, number: u64, traffic: &Traffic) -> Result<Option<Vec<Log>>> {
        if self.lacks_block_receipts.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let request = Request::new("eth_getBlockReceipts", json!([to_quantity(number)]), Expected::Block(number));
        let parse = |_, result: &RawValue| super::receipts::parse_block_logs(result, number);
        match self.one(&request, &parse, traffic).await {
            Ok(logs) => Ok(Some(logs)),
            Err(error) if Meaning::of(&error) == Some(Meaning::NoMethod) => {
                self.lacks_block_receipts.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.with("block", number)),
        }
    }
}

/// Returns why a request was too much for the node or the client, if it was.
fn too_much(error: &Error) -> Option<Meaning> {
    match Meaning::of(error) {
        Some(meaning @ (Meaning::TooManyBlocks | Meaning::TooMuch)) => Some(meaning),
        _ => BodyTooLong::caused(error).then_some(Meaning::TooMuch),
    }
}

fn one_block_error(error: Error, block: u64) -> Error {
    Error::new(error.kind(), "the logs of one block are too much for the node")
        .with("block", block)
        .with_source(error)
        .with_hint("use a node whose limits are higher")
}

/// Checks that logs are within the range and of the contracts that were asked for, which are sorted.
fn check_range(logs: &[Log], addresses: &[Address], blocks: Blocks) -> Result<()> {
    for log in logs {
        let named = |error: Error| error.with("block", log.block_number).with("log_index", log.log_index);
        if !(blocks.from..=blocks.to).contains(&log.block_number) {
            return Err(named(wrong("a log is outside the range that was asked for")));
        }
        if addresses.binary_search(&log.address).is_err() {
            return Err(named(wrong("a log is of a contract that was not asked for")).with("address", log.address));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Blocks = Blocks { from: 100, to: 199 };

    #[test]
    fn ranges_are_split_without_gaps() {
        assert_eq!(RANGE.split(100), (RANGE, None));
        assert_eq!(RANGE.split(u64::MAX), (RANGE, None));
        assert_eq!(RANGE.split(1), (Blocks { from: 100, to: 100 }, Some(Blocks { from: 101, to: 199 })));
        assert_eq!(RANGE.split(0).0.count(), 1);
        let all = Blocks { from: 0, to: u64::MAX };
        assert_eq!(all.split(7).1, Some(Blocks { from: 7, to: u64::MAX }));
    }

    #[test]
    fn a_suggested_range_is_used_only_inside_ours() {
        assert_eq!(RANGE.fewer("retry with the range 100-109"), 10);
        assert_eq!(RANGE.fewer("this block range should work: [0x64, 0x64]"), 1);
        for message in
            ["retry with the range 99-109", "retry with the range 100-200", "retry with the range 100-199", ""]
        {
            assert_eq!(RANGE.fewer(message), 50, "{message}");
        }
    }

    #[test]
    fn the_size_grows_again_up_to_a_limit_on_blocks() {
        let size = RangeSize::new();
        size.shrink(4000, Meaning::TooManyBlocks);
        size.shrink(1000, Meaning::TooMuch);
        let grow = |blocks| (0..GROW_AFTER).for_each(|_| size.worked(blocks));
        grow(999);
        assert_eq!(size.get(), 1000, "shorter ranges say nothing");
        grow(1000);
        assert_eq!(size.get(), 2000);
        grow(2000);
        grow(4000);
        assert_eq!(size.get(), 4000);
    }
}
