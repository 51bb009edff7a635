//! Checks of logs that answers can fail although they are well-formed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxBuildHasher;

use super::final_error;
use super::log::{Log, LogBatch};
use super::response::wrong;
use crate::error::Result;

/// Logs without copies, and the number of copies.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub logs: Vec<Log>,
    pub repeats: u64,
}

impl LogBatch {
    /// Puts logs in order, drops identical copies, and checks that those of a block have one hash.
    ///
    /// # Errors
    /// `CorruptData` for two different logs under one block and index, or two hashes of a block.
    pub fn of_unordered(logs: Vec<Log>) -> Result<LogBatch> {
        let order = |logs| {
            let Checked { mut logs, repeats } = without_copies(logs)?;
            logs.sort_by_key(|log| (log.block_number, log.log_index));
            check_order(&logs)?;
            Ok(LogBatch { logs, repeats })
        };
        order(logs).map_err(final_error)
    }
}

/// Drops identical copies, of which the first one stays.
///
/// # Errors
/// A wrong answer if two different logs have the same block hash and index.
pub(super) fn without_copies(logs: Vec<Log>) -> Result<Checked> {
    let mut checked = Checked { logs: Vec::with_capacity(logs.len()), repeats: 0 };
    let mut known = HashMap::with_capacity_and_hasher(logs.len(), FxBuildHasher);
    for log in logs {
        // A log without the hash of its block is known by the number.
        match known.entry((log.block_hash.ok_or(log.block_number), log.log_index)) {
            Entry::Vacant(entry) => {
                entry.insert(checked.logs.len());
                checked.logs.push(log);
            }
            Entry::Occupied(entry) if checked.logs.get(*entry.get()) == Some(&log) => checked.repeats += 1,
            Entry::Occupied(_) => {
                return Err(wrong("two different logs have the same block and index")
                    .with("block", log.block_number)
                    .with("log_index", log.log_index));
            }
        }
    }
    Ok(checked)
}

/// Checks that logs are in the order of block and index, and that those of a block have one hash and one time. The
/// transactions of a block's logs rise with the indexes.
///
/// # Errors
/// A wrong answer.
pub(super) fn check_order(logs: &[Log]) -> Result<()> {
    for (before, log) in logs.iter().zip(logs.iter().skip(1)) {
        let problem = match before.block_number.cmp(&log.block_number) {
            Ordering::Less => continue,
            Ordering::Greater => "the logs are out of order",
            Ordering::Equal if before.block_hash != log.block_hash => "the logs of a block have two block hashes",
            Ordering::Equal if before.block_timestamp != log.block_timestamp => "the logs of a block have two times",
            Ordering::Equal if before.log_index >= log.log_index => "the logs are out of order",
            Ordering::Equal if before.transaction_index > log.transaction_index => "the logs are out of order",
            Ordering::Equal => continue,
        };
        return Err(wrong(problem).with("block", log.block_number).with("log_index", log.log_index));
    }
    Ok(())
}

/// Returns whether the logs of each block, which are next to each other, have one block hash.
pub(super) fn is_one_hash_per_block(logs: &[Log]) -> bool {
    let mut pairs = logs.iter().zip(logs.iter().skip(1));
    pairs.all(|(before, log)| before.block_number != log.block_number || before.block_hash == log.block_hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HexBytes;

    fn log(block_number: u64, log_index: u64) -> Log {
        Log {
            block_number,
            block_hash: Some(HexBytes([u8::try_from(block_number).unwrap(); 32])),
            log_index,
            transaction_hash: HexBytes([1; 32]),
            transaction_index: log_index / 2,
            address: HexBytes([2; 20]),
            topics: Vec::new(),
            data: Vec::new(),
            block_timestamp: None,
        }
    }

    #[test]
    fn copies_are_dropped_and_counted() {
        let checked = without_copies(vec![log(1, 0), log(1, 1), log(2, 0), log(1, 0), log(1, 0)]).unwrap();
        assert_eq!((checked.logs, checked.repeats), (vec![log(1, 0), log(1, 1), log(2, 0)], 2));
        let other = Log { data: vec![1], ..log(1, 0) };
        assert!(without_copies(vec![log(1, 0), log(1, 1), other]).is_err());
    }

    #[test]
    fn logs_without_hashes_are_known_by_their_block() {
        let without = |block, index| Log { block_hash: None, ..log(block, index) };
        let logs = vec![without(2, 0), without(1, 1), without(1, 0), without(2, 0)];
        let batch = LogBatch::of_unordered(logs).unwrap();
        assert_eq!(batch, LogBatch { logs: vec![without(1, 0), without(1, 1), without(2, 0)], repeats: 1 });
        let other = Log { data: vec![1], ..without(1, 0) };
        let error = LogBatch::of_unordered(vec![without(1, 0), other]).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::CorruptData);
        assert!(LogBatch::of_unordered(vec![without(1, 0), log(1, 1)]).is_err());
    }

    #[test]
    fn order_and_hashes_are_checked() {
        check_order(&[log(1, 0), log(1, 3), log(2, 1), log(7, 0)]).unwrap();
        assert!(check_order(&[log(1, 3), log(1, 0)]).is_err());
        assert!(check_order(&[log(2, 0), log(1, 3)]).is_err());
        let other_hash = Log { block_hash: Some(HexBytes([9; 32])), ..log(1, 1) };
        assert!(check_order(&[log(1, 0), other_hash.clone()]).is_err());
        assert!(!is_one_hash_per_block(&[log(1, 0), other_hash.clone()]));
        assert!(is_one_hash_per_block(&[log(1, 0), log(1, 1), log(2, 0)]));
        assert!(check_order(&[log(1, 0), Log { block_timestamp: Some(1), ..log(1, 1) }]).is_err());
        assert!(check_order(&[log(1, 6), Log { transaction_index: 0, ..log(1, 7) }]).is_err());
    }
}
