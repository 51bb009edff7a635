//! The blocks of the served chain: the recorded first block of each day, and one hour of blocks after the last of them.

use defi_shared::error::{Error, Result};
use sha2::{Digest, Sha256};

use crate::recording::{BLOCKS_AFTER_LAST_DAY, Block, Recording, SECONDS_PER_BLOCK};

/// The blocks of the served chain.
pub(crate) struct Timeline {
    /// The known blocks, in ascending order.
    blocks: Vec<Block>,
    first: Block,
    head: Block,
}

impl Timeline {
    pub(crate) fn new(recording: &Recording) -> Result<Timeline> {
        let (Some(first), Some(last)) = (recording.blocks.first(), recording.blocks.last()) else {
            return Err(Error::bad_input("the recording has no blocks"));
        };
        let after = (1..=BLOCKS_AFTER_LAST_DAY).map(|index| Block {
            number: last.number + index,
            timestamp: last.timestamp + index as i64 * SECONDS_PER_BLOCK,
        });
        let blocks: Vec<Block> = recording.blocks.iter().copied().chain(after).collect();
        let head = blocks.last().copied().unwrap_or(*last);
        Ok(Timeline { blocks, first: *first, head })
    }

    /// Returns the known blocks: the first of each day and those after the last day's, in ascending order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn first(&self) -> Block {
        self.first
    }

    pub(crate) fn head(&self) -> Block {
        self.head
    }

    /// Returns the block with a number between the first block and the head. The timestamp of an unknown block is
    /// interpolated between the nearest known blocks.
    pub(crate) fn block(&self, number: u64) -> Block {
        let after = self.blocks.partition_point(|block| block.number <= number);
        let before = after.checked_sub(1).and_then(|index| self.blocks.get(index)).copied().unwrap_or(self.first);
        let timestamp = match self.blocks.get(after) {
            Some(next) if number > before.number => {
                let offset = (number - before.number) as i64;
                before.timestamp + (next.timestamp - before.timestamp) * offset / (next.number - before.number) as i64
            }
            _ => before.timestamp,
        };
        Block { number, timestamp }
    }

    /// Returns the known block with a hash.
    pub(crate) fn by_hash(&self, hash: &str) -> Option<Block> {
        self.blocks.iter().find(|block| block_hash(block.number) == hash).copied()
    }
}

/// Returns the hash of a block. It depends on the block number only.
pub(crate) fn block_hash(number: u64) -> String {
    fingerprint(&format!("block {number}"))
}

/// Returns the SHA-256 digest of a string as hex with `0x`.
pub(crate) fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SampleOptions, chain};
    use defi_shared::config::Schema;

    #[test]
    fn head_is_300_blocks_after_last_first_block() {
        let recording =
            chain(&SampleOptions { wallets: 1, days: 2, seed: 0, ..SampleOptions::default() }, Schema::Aave).unwrap();
        let timeline = Timeline::new(&recording).unwrap();
        let last = recording.blocks[2];
        assert_eq!(timeline.head(), Block { number: last.number + 300, timestamp: last.timestamp + 3600 });
        assert_eq!(timeline.block(last.number + 5).timestamp, last.timestamp + 60);
        assert_eq!(timeline.block(last.number), last);
        let between = timeline.block(last.number - 1);
        assert!(between.timestamp < last.timestamp && between.timestamp > last.timestamp - 20);
        assert_eq!(timeline.by_hash(&block_hash(last.number)), Some(last));
        assert_eq!(timeline.by_hash("0x00"), None);
    }
}
