//! The blocks of the sample chain and their timestamps.

use defi_shared::error::{Error, Result};
use jiff::civil::{Date, date};

use super::rng::SeededRng;
use crate::recording::Block;

/// The first day and its first block, which are those of mainnet.
const FIRST_DAY: Date = date(2023, 1, 1);
const FIRST_BLOCK: u64 = 16_308_190;
const FIRST_BLOCK_SECOND: i64 = 11;
const DAY: i64 = 86_400;

/// The blocks of a number of complete days and the first hour of one more day.
pub(super) struct Calendar {
    midnight: i64,
    /// The first block of each day, including the last, incomplete day.
    pub(super) first_blocks: Vec<Block>,
}

impl Calendar {
    /// Creates days of about 7,150 blocks. The first block of one day in six is exactly at midnight, to test the
    /// boundary between days; on the others it is a few seconds later.
    pub(super) fn new(days: u32, rng: &mut SeededRng) -> Result<Calendar> {
        let midnight = epoch_seconds(FIRST_DAY)?;
        let mut number = FIRST_BLOCK;
        let mut first_blocks = vec![Block { number, timestamp: midnight + FIRST_BLOCK_SECOND }];
        for day in 1..=i64::from(days) {
            number += 7_130 + rng.below(41);
            let second = if rng.below(6) == 0 { 0 } else { 1 + rng.below(11) as i64 };
            first_blocks.push(Block { number, timestamp: midnight + day * DAY + second });
        }
        Ok(Calendar { midnight, first_blocks })
    }

    /// Returns the number of blocks of a day. The last day has only those of its first hour.
    pub(super) fn blocks_of(&self, day: usize) -> u64 {
        match self.first_blocks.get(day..day + 2) {
            Some([first, next]) => next.number - first.number,
            _ => crate::recording::BLOCKS_AFTER_LAST_DAY,
        }
    }

    /// Returns a block of a day by its index in the day. Blocks are evenly spaced, twelve or sometimes thirteen seconds
    /// apart.
    pub(super) fn block(&self, day: usize, index: u64) -> Option<Block> {
        let first = self.first_blocks.get(day)?;
        let seconds = match self.first_blocks.get(day + 1) {
            Some(next) => {
                let end = self.midnight + (day as i64 + 1) * DAY;
                let count = (next.number - first.number) as i64;
                (end - first.timestamp) * index as i64 / count
            }
            None => index as i64 * crate::recording::SECONDS_PER_BLOCK,
        };
        Some(Block { number: first.number + index, timestamp: first.timestamp + seconds })
    }
}

/// Formats a day, given by its index in the chain, as `YYYY-MM-DD`.
pub(super) fn day_name(day: u32) -> Result<String> {
    let span = jiff::Span::new()
        .try_days(i64::from(day))
        .map_err(|error| Error::bad_input("the sample chain has too many days").because(error))?;
    let day = FIRST_DAY
        .checked_add(span)
        .map_err(|error| Error::bad_input("the sample chain has too many days").because(error))?;
    Ok(day.to_string())
}

fn epoch_seconds(day: Date) -> Result<i64> {
    let midnight = day
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_err(|error| Error::internal("invalid first day of the sample chain").because(error))?;
    Ok(midnight.timestamp().as_second())
}

/// Formats a timestamp as Transpose does.
pub(super) fn iso(timestamp: i64) -> Result<String> {
    let time = jiff::Timestamp::from_second(timestamp)
        .map_err(|error| Error::internal("invalid timestamp of a block of the sample chain").because(error))?;
    Ok(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_ascend_and_stay_within_their_day() {
        let calendar = Calendar::new(12, &mut SeededRng::new(3, 0)).unwrap();
        assert_eq!(calendar.first_blocks.len(), 13);
        let mut last = Block { number: 0, timestamp: 0 };
        for day in 0..=12 {
            let midnight = 1_672_531_200 + day as i64 * DAY;
            for index in 0..calendar.blocks_of(day) {
                let block = calendar.block(day, index).unwrap();
                assert!(block.number > last.number && block.timestamp > last.timestamp, "{day} {index}");
                assert!((midnight..midnight + DAY).contains(&block.timestamp));
                last = block;
            }
        }
    }

    #[test]
    fn some_first_blocks_are_at_midnight() {
        let calendar = Calendar::new(60, &mut SeededRng::new(0, 0)).unwrap();
        let exact = calendar.first_blocks.iter().filter(|block| block.timestamp % DAY == 0).count();
        assert!((1..30).contains(&exact), "{exact}");
        assert_eq!(iso(calendar.first_blocks[0].timestamp).unwrap(), "2023-01-01T00:00:11Z");
        assert_eq!(day_name(45).unwrap(), "2023-02-15");
    }
}
