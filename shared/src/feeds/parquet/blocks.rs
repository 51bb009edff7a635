//! What files say of blocks: which there are, their hashes and their times.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::tables::{BlockRow, LogRow};
use crate::error::{Error, Result};
use crate::feeds::LogQuery;
use crate::sources::ethereum::Log;

/// The blocks of a range, by number: none is missing, and each follows the one before.
pub(super) struct BlockTable(BTreeMap<u64, BlockRow>);

impl BlockTable {
    /// Creates a table of the blocks of a query.
    ///
    /// # Errors
    /// `CorruptData` if a block is missing, has two different rows or does not follow the one before.
    pub(super) fn new(rows: Vec<BlockRow>, query: &LogQuery<'_>) -> Result<Self> {
        let mut blocks = BTreeMap::new();
        for row in rows {
            match blocks.entry(row.number) {
                Entry::Vacant(entry) => drop(entry.insert(row)),
                Entry::Occupied(entry) if *entry.get() == row => {}
                Entry::Occupied(_) => {
                    return Err(Error::corrupt("two rows of the table of blocks differ").with("block", row.number));
                }
            }
        }
        let missing = (query.first.number..=query.last.number).find(|number| !blocks.contains_key(number));
        if let Some(number) = missing {
            return Err(Error::corrupt("a block is missing in the table of blocks")
                .with("block", number)
                .with_hint("add the missing files, or run without --logs"));
        }
        for (before, block) in blocks.values().zip(blocks.values().skip(1)) {
            if before.hash.zip(block.parent_hash).is_some_and(|(hash, parent)| hash != parent) {
                return Err(Error::corrupt("a block does not follow the one before").with("block", block.number));
            }
        }
        Ok(BlockTable(blocks))
    }

    /// Checks that logs are of the blocks of this table, and fills in the hashes of those that have none.
    ///
    /// # Errors
    /// `CorruptData` if the block of a log has another hash.
    pub(super) fn check(&self, logs: &mut [Log]) -> Result<()> {
        for log in logs {
            let Some(hash) = self.0.get(&log.block_number).and_then(|block| block.hash) else { continue };
            if *log.block_hash.get_or_insert(hash) != hash {
                return Err(Error::corrupt("a log is of another block than that in the table of blocks")
                    .with("block", log.block_number)
                    .with("log_index", log.log_index));
            }
        }
        Ok(())
    }

    /// Returns the times of the ends of the range and of the blocks that have logs.
    pub(super) fn times(&self, logs: &[Log]) -> BTreeMap<u64, i64> {
        let ends = [self.0.keys().next(), self.0.keys().next_back()].into_iter().flatten().copied();
        let numbers = logs.iter().map(|log| log.block_number).chain(ends);
        numbers.filter_map(|number| Some((number, self.0.get(&number)?.time?))).collect()
    }
}

/// Returns the times that rows of logs have. A block whose rows differ has none.
pub(super) fn times_of_rows(rows: &[LogRow]) -> BTreeMap<u64, i64> {
    let mut times: BTreeMap<u64, Option<i64>> = BTreeMap::new();
    for row in rows {
        let time = times.entry(row.log.block_number).or_insert(row.time);
        *time = time.filter(|time| Some(*time) == row.time);
    }
    times.into_iter().filter_map(|(number, time)| Some((number, time?))).collect()
}

/// Returns the times if they agree with those of the ends of the range and rise with the numbers, else none: they are then
/// asked of a node.
pub(super) fn agreeing_times(times: BTreeMap<u64, i64>, query: &LogQuery<'_>) -> BTreeMap<u64, i64> {
    let ends = [query.first, query.last];
    let is_of_ends = |(number, time): (&u64, &i64)| {
        let of_end = ends.iter().find(|end| end.number == *number);
        of_end.map_or(query.first.timestamp < *time && *time < query.last.timestamp, |end| end.timestamp == *time)
    };
    let rise = times.values().zip(times.values().skip(1)).all(|(before, time)| before < time);
    if rise && times.iter().all(is_of_ends) { times } else { BTreeMap::new() }
}
