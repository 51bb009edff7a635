//! The chain that is served: the recorded first blocks of days, and the hour of blocks after the last one.

use defi_shared::error::{Error, Result};
use sha2::{Digest, Sha256};

use crate::recording::{BLOCKS_AFTER_LAST_DAY, Block, Recording, SECONDS_PER_BLOCK};

/// All blocks that the server knows by number, ascending.
pub(crate) struct Timeline {
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

    /// The blocks that are known one by one.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn first(&self) -> Block {
        self.first
    }

    pub(crate) fn head(&self) -> Block {
        self.head
    }

    /// The block of a number from the first to the head. The time of one that is not known lies between its neighbours'.
    pub(crate) fn block(&self, number: u64) -> Block {
        let after = self.blocks.partition_point(|block| block.number <= number);
        let before = after.checked_sub(1).and_then(|index| self.blocks.get(index)).copied().unwrap_or(self.first);
        let timestamp = match self.blocks.get(after) {
            Some(next) if number > before.number => {
                let share = (number - before.number) as i64;
                before.timestamp + (next.timestamp - before.timestamp) * share / (next.number - before.number) as i64
            }
            _ => before.timestamp,
        };
        Block { number, timestamp }
    }

    /// The known block of a hash.
    pub(crate) fn by_hash(&self, hash: &str) -> Option<Block> {
        self.blocks.iter().find(|block| block_hash(block.number) == hash).copied()
    }
}

/// A made-up hash, the same for a number for good.
pub(crate) fn block_hash(number: u64) -> String {
    fingerprint(&format!("block {number}"))
}

/// 32 bytes of hex that a text stands for.
pub(crate) fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SampleOptions, chain};

    #[test]
    fn the_chain_goes_on_after_the_last_day_begins() {
        let recording = chain(&SampleOptions { wallets: 1, days: 2, seed: 0 }).unwrap();
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
