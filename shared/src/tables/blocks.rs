//! The first block of each day.

use super::Timestamp;
use super::row::row;
use crate::domain::Day;
use crate::error::{Error, Result};

row! {
    /// The first block of a UTC day, to which the snapshots of the day are pinned.
    pub struct DailyBlock {
        /// The UTC day.
        pub day: Day,
        /// Number of the day's first block: the one with the smallest timestamp at or after midnight UTC.
        pub block_number: i64,
        /// Time of that block.
        pub timestamp: Timestamp,
        /// Time of that block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Hash of that block, where the source gives it.
        pub block_hash: Option<std::sync::Arc<str>>,
    }
}

impl DailyBlock {
    /// Returns the block number as the unsigned integer that the sources expect.
    ///
    /// # Errors
    /// `CorruptData` if the number is negative.
    pub fn number(&self) -> Result<u64> {
        u64::try_from(self.block_number).map_err(|source| Error::corrupt("negative block number").with_source(source))
    }
}
