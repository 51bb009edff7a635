//! Blocks: the head, the newest final block, headers by number, and the first block at a time.

use std::sync::atomic::Ordering;

use alloy_primitives::{Bloom, BloomInput};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::hex::{quantity, to_quantity};
use super::messages::{Expected, Meaning};
use super::response::wrong;
use super::rpc::Request;
use super::{EthereumClient, NEAR_HEAD, missing};
use crate::domain::{Address, FINAL_DEPTH, HexBytes, TxHash};
use crate::error::{Error, Kind, Result};
use crate::sources::Traffic;

/// The mean time between two blocks, in seconds, for the first guess of a block's number.
const BLOCK_SECONDS: i64 = 12;

/// The number of guesses by time; after those, ranges are halved. A search that guesses well needs fewer.
const GUESSES: u32 = 24;

/// A block without its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The block number.
    pub number: u64,
    /// The block hash.
    pub hash: HexBytes<32>,
    /// The hash of the block before.
    pub parent_hash: HexBytes<32>,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub timestamp: i64,
    /// The Bloom filter of the addresses and topics of the block's logs.
    pub logs_bloom: HexBytes<256>,
}

impl Header {
    /// Returns whether the block may have a log of a contract. If not, it has none.
    ///
    /// ```
    /// # use defi_shared::domain::{Address, HexBytes};
    /// # use defi_shared::sources::ethereum::Header;
    /// # let (hash, parent_hash) = (HexBytes::MIN, HexBytes::MIN);
    /// let empty = Header { number: 1, hash, parent_hash, timestamp: 0, logs_bloom: HexBytes::MIN };
    /// assert!(!empty.may_have_log_of(&Address::MAX));
    /// ```
    #[must_use]
    pub fn may_have_log_of(&self, contract: &Address) -> bool {
        Bloom::from(self.logs_bloom.0).contains_input(BloomInput::Raw(&contract.0))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeaderJson<'a> {
    #[serde(borrow)]
    number: &'a str,
    hash: &'a str,
    parent_hash: &'a str,
    timestamp: &'a str,
    logs_bloom: &'a str,
}

impl HeaderJson<'_> {
    fn to_header(&self) -> Option<Header> {
        Some(Header {
            number: quantity(self.number)?,
            hash: TxHash::parse(self.hash)?,
            parent_hash: TxHash::parse(self.parent_hash)?,
            timestamp: i64::try_from(quantity(self.timestamp)?).ok()?,
            logs_bloom: HexBytes::parse(self.logs_bloom)?,
        })
    }
}

/// Parses a block, or null.
fn parse_header(result: &RawValue) -> Result<Option<Header>> {
    if result.get() == "null" {
        return Ok(None);
    }
    let json: Option<HeaderJson<'_>> = serde_json::from_str(result.get()).ok();
    let header = json.and_then(|json| json.to_header());
    header.map(Some).ok_or_else(|| wrong("a field of a block is missing or malformed"))
}

impl EthereumClient {
    /// Returns the newest block; a reorganization may still replace it.
    ///
    /// # Errors
    /// See [`EthereumClient`]. `CorruptData` also if it stays far below a block that the node has named before.
    pub async fn head(&self, traffic: &Traffic) -> Result<Header> {
        let newest = self.newest.load(Ordering::Relaxed);
        let request = block_request("latest", Expected::Newest);
        let parse = |_, result: &RawValue| {
            let header = parse_header(result)?.ok_or_else(|| missing("newest block"))?;
            match header.number.saturating_add(FINAL_DEPTH) < newest {
                true => Err(wrong("the newest block of the node is far below an earlier one")
                    .with("newest", header.number)
                    .with("earlier", newest)),
                false => Ok(header),
            }
        };
        let header = self.one(&request, &parse, traffic).await?;
        self.newest.fetch_max(header.number, Ordering::Relaxed);
        Ok(header)
    }

    /// Returns the newest final block: the block that the node calls `finalized`, or the block [`FINAL_DEPTH`] below the
    /// head where the node has no such block. A node that has named one has it: where it is missing later, it is asked for
    /// again.
    ///
    /// # Errors
    /// See [`EthereumClient`]. `CorruptData` also if it stays far below a final block that the node has named before.
    pub async fn finalized(&self, traffic: &Traffic) -> Result<Header> {
        let earlier = self.newest_final.load(Ordering::Relaxed);
        let is_known = earlier > 0;
        let request = Request { is_missing_retried: is_known, ..block_request("finalized", Expected::Newest) };
        let parse = |_, result: &RawValue| match parse_header(result)? {
            None if is_known => Err(missing("final block")),
            Some(header) if header.number.saturating_add(NEAR_HEAD) < earlier => {
                Err(wrong("the final block of the node is far below an earlier one")
                    .with("final", header.number)
                    .with("earlier", earlier))
            }
            header => Ok(header),
        };
        match self.one(&request, &parse, traffic).await {
            Ok(Some(header)) => {
                self.newest.fetch_max(header.number, Ordering::Relaxed);
                self.newest_final.fetch_max(header.number, Ordering::Relaxed);
                return Ok(header);
            }
            Ok(None) => {}
            Err(error) if !is_known && has_no_finalized(&error) => {}
            Err(error) => return Err(error),
        }
        let head = self.head(traffic).await?;
        let number = head.number.saturating_sub(FINAL_DEPTH);
        self.header(number, traffic).await
    }

    /// Returns blocks by number, in the order of the numbers.
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn headers(&self, numbers: &[u64], traffic: &Traffic) -> Result<Vec<Header>> {
        let requests: Vec<Request> =
            numbers.iter().map(|number| block_request(&to_quantity(*number), Expected::Block(*number))).collect();
        let parse = |index: usize, result: &RawValue| {
            let header = parse_header(result)?.ok_or_else(|| missing("block"));
            let number = numbers.get(index).copied().unwrap_or_default();
            match header {
                Ok(header) if header.number != number => Err(wrong("the node answered with another block")
                    .with("block", number)
                    .with("answered", header.number)),
                header => header.map_err(|error| error.with("block", number)),
            }
        };
        self.all(&requests, &parse, traffic).await?.into_iter().collect()
    }

    /// Returns a block by number.
    async fn header(&self, number: u64, traffic: &Traffic) -> Result<Header> {
        let headers = self.headers(&[number], traffic).await?;
        headers.into_iter().next().ok_or_else(|| Error::internal("a request has no answer"))
    }

    /// Returns the first block whose timestamp is at or after a time, or `None` if there is no such block yet. The
    /// block before it was read as well, and is before that time.
    ///
    /// # Errors
    /// See [`EthereumClient`]. `CorruptData` also if times don't rise with numbers, or the block does not follow the one
    /// before.
    pub async fn first_block(&self, time: i64, traffic: &Traffic) -> Result<Option<Header>> {
        // Each request has its own retries. All of it is repeated only where its answers contradict each other.
        let attempt = || async {
            match self.search(time, traffic).await {
                Err(error) if Meaning::of(&error) == Some(Meaning::Wrong) => Err(error),
                other => Ok(other),
            }
        };
        match self.rpc.endpoint.retry().run(traffic, attempt).await {
            Ok(found) => found,
            Err(error) => Err(super::final_error(error).with("time", time)),
        }
    }

    async fn search(&self, time: i64, traffic: &Traffic) -> Result<Option<Header>> {
        let head = self.head(traffic).await?;
        if head.timestamp < time {
            return Ok(None);
        }
        let mut search = Search { time, before: None, found: head, steps: 0, repeats: 0 };
        while let Some(guess) = search.guess() {
            search.narrow(self.header(guess, traffic).await?)?;
        }
        search.result().map(Some)
    }
}

/// The state of a search for the first block at or after a time.
struct Search {
    time: i64,
    /// The highest known block before the time.
    before: Option<Header>,
    /// The lowest known block at or after the time.
    found: Header,
    steps: u32,
    /// How often in a row the same side was narrowed.
    repeats: i32,
}

impl Search {
    /// Returns the number of the next block to look at, or `None` if the block is found.
    fn guess(&self) -> Option<u64> {
        let high = self.found.number;
        let low = match &self.before {
            Some(before) => before.number + 1,
            None => 0,
        };
        if low >= high {
            return None;
        }
        let guess = match &self.before {
            _ if self.steps >= GUESSES => low + (high - low) / 2,
            Some(before) => self.interpolate(before),
            None => {
                let blocks = (self.found.timestamp - self.time) / BLOCK_SECONDS + 1;
                high.saturating_sub(u64::try_from(blocks).unwrap_or(1).saturating_add(self.overshoot()))
            }
        };
        Some(guess.clamp(low, high - 1))
    }

    /// Guesses by the times of both ends. If one side was narrowed several times in a row, the guess moves towards the
    /// other one, in growing steps: otherwise it would approach the block from one side only.
    fn interpolate(&self, before: &Header) -> u64 {
        let (blocks, seconds) = (self.found.number - before.number, self.found.timestamp - before.timestamp);
        let share = i128::from(blocks) * i128::from(self.time - before.timestamp) / i128::from(seconds.max(1));
        let guess = before.number + u64::try_from(share).unwrap_or(0);
        if self.repeats > 0 { guess.saturating_sub(self.overshoot()) } else { guess.saturating_add(self.overshoot()) }
    }

    fn overshoot(&self) -> u64 {
        match self.repeats.unsigned_abs() {
            0 | 1 => 0,
            repeats => 1 << repeats.min(40),
        }
    }

    /// Takes a block between the two ends.
    fn narrow(&mut self, header: Header) -> Result<()> {
        let is_ordered = header.timestamp <= self.found.timestamp
            && self.before.as_ref().is_none_or(|before| before.timestamp <= header.timestamp);
        if !is_ordered {
            return Err(wrong("the times of blocks do not rise with their numbers").with("block", header.number));
        }
        self.steps += 1;
        if header.timestamp >= self.time {
            self.repeats = self.repeats.max(0) + 1;
            self.found = header;
        } else {
            self.repeats = self.repeats.min(0) - 1;
            self.before = Some(header);
        }
        Ok(())
    }

    fn result(self) -> Result<Header> {
        let follows = self.before.is_none_or(|before| before.hash == self.found.parent_hash);
        match follows {
            true => Ok(self.found),
            false => Err(wrong("a block does not follow the one before").with("block", self.found.number)),
        }
    }
}

fn block_request(block: &str, expected: Expected) -> Request {
    Request::new("eth_getBlockByNumber", json!([block, false]), expected)
}

/// Returns whether an error means that the node does not know `finalized`, and not that it cannot answer now.
fn has_no_finalized(error: &Error) -> bool {
    matches!(error.kind(), Kind::SourceRejected | Kind::NotReady | Kind::HistoryPruned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(number: u64, timestamp: i64) -> Header {
        let hash = |number: u64| HexBytes(std::array::from_fn(|index| number.to_le_bytes()[index % 8]));
        let (hash, parent_hash) = (hash(number), hash(number.wrapping_sub(1)));
        Header { number, hash, parent_hash, timestamp, logs_bloom: HexBytes::MIN }
    }

    /// Searches a chain of these times, and returns the block and the number of blocks looked at.
    fn search(times: &[i64], time: i64) -> (u64, u32) {
        let at = |number: usize| header(number as u64, times[number]);
        let mut search = Search { time, before: None, found: at(times.len() - 1), steps: 0, repeats: 0 };
        while let Some(guess) = search.guess() {
            search.narrow(at(guess as usize)).unwrap();
        }
        (search.found.number, search.steps)
    }

    proptest! {
        #[test]
        fn the_first_block_is_found(gaps in prop::collection::vec(1..40_i64, 1..400), share in 0.0..1.0_f64) {
            let times: Vec<i64> = gaps.iter().scan(1000, |time, gap| { *time += gap; Some(*time) }).collect();
            let time = 900 + ((times[times.len() - 1] - 900) as f64 * share) as i64;
            let (found, _) = search(&times, time);
            prop_assert_eq!(Some(found as usize), times.iter().position(|t| *t >= time));
        }
    }

    #[test]
    fn few_blocks_are_looked_at() {
        // Half of the chain with 13 to 15 seconds a block, then 12 with missed slots.
        let gap = |n: i64| if n < 500_000 { 13 + n % 3 } else { 12 + 12 * i64::from(n % 97 == 0) };
        let times: Vec<i64> = (0..1_000_000)
            .scan(0, |time, n| {
                *time += gap(n);
                Some(*time)
            })
            .collect();
        let end = times[times.len() - 1];
        let steps: Vec<u32> = (1..200).map(|n| search(&times, end / 200 * n).1).collect();
        assert!(steps.iter().sum::<u32>() < 200 * 9 && steps.iter().all(|steps| *steps < 30), "{steps:?}");
    }

    #[test]
    fn the_bloom_filter_tells_which_contracts_may_have_logs() {
        let mut bloom = Bloom::ZERO;
        bloom.accrue(BloomInput::Raw(&[0xaa; 20]));
        let header = Header { logs_bloom: HexBytes(bloom.into_array()), ..header(1, 1) };
        assert!(header.may_have_log_of(&HexBytes([0xaa; 20])));
        assert!(!header.may_have_log_of(&HexBytes([0xbb; 20])));
    }

    #[test]
    fn times_and_hashes_are_checked() {
        let start = || Search { time: 50, before: Some(header(1, 10)), found: header(9, 90), steps: 0, repeats: 0 };
        assert!(start().narrow(header(5, 95)).is_err());
        assert!(start().narrow(header(5, 5)).is_err());
        let unlinked = Search { before: Some(header(7, 40)), ..start() };
        assert!(unlinked.result().is_err());
        let linked = Search { before: Some(header(8, 40)), ..start() };
        assert_eq!(linked.result().unwrap().number, 9);
    }
}
