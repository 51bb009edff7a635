//! When the blocks of the sample chain were made.

use defi_shared::error::{Error, Result};
use jiff::civil::{Date, date};

use super::dice::Dice;
use crate::recording::Block;

/// The first day, and its first block as it was on mainnet.
const FIRST_DAY: Date = date(2023, 1, 1);
const FIRST_BLOCK: u64 = 16_308_190;
const FIRST_BLOCK_SECOND: i64 = 11;
const DAY: i64 = 86_400;

/// The blocks of `days` whole days, and of the beginning of one more.
pub(super) struct Calendar {
    midnight: i64,
    /// The first block of each day, the last one included.
    pub(super) first_blocks: Vec<Block>,
}

impl Calendar {
    /// Every day has about 7,150 blocks. One in six begins exactly at midnight, as an edge that the meaning of a day
    /// depends on; the others a few seconds later.
    pub(super) fn new(days: u32, dice: &mut Dice) -> Result<Calendar> {
        let midnight = epoch_seconds(FIRST_DAY)?;
        let mut number = FIRST_BLOCK;
        let mut first_blocks = vec![Block { number, timestamp: midnight + FIRST_BLOCK_SECOND }];
        for day in 1..=i64::from(days) {
            number += 7_130 + dice.below(41);
            let second = if dice.below(6) == 0 { 0 } else { 1 + dice.below(11) as i64 };
            first_blocks.push(Block { number, timestamp: midnight + day * DAY + second });
        }
        Ok(Calendar { midnight, first_blocks })
    }

    /// How many blocks a day has; of the last day only those that the chain has got to.
    pub(super) fn blocks_of(&self, day: usize) -> u64 {
        match self.first_blocks.get(day..day + 2) {
            Some([first, next]) => next.number - first.number,
            _ => crate::recording::BLOCKS_AFTER_LAST_DAY,
        }
    }

    /// A block of a day, by its place in it. Blocks are spread evenly, which makes them twelve seconds apart, at times
    /// thirteen for a slot that was missed.
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

/// The name of a day by its place in the chain.
pub(super) fn day_name(day: u32) -> Result<String> {
    let span = jiff::Span::new()
        .try_days(i64::from(day))
        .map_err(|error| Error::bad_input("the sample chain can't have so many days").because(error))?;
    let day = FIRST_DAY
        .checked_add(span)
        .map_err(|error| Error::bad_input("the sample chain can't have so many days").because(error))?;
    Ok(day.to_string())
}

fn epoch_seconds(day: Date) -> Result<i64> {
    let midnight = day
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_err(|error| Error::internal("the first day of the sample chain is no day").because(error))?;
    Ok(midnight.timestamp().as_second())
}

/// A time as Transpose writes it.
pub(super) fn iso(timestamp: i64) -> Result<String> {
    let time = jiff::Timestamp::from_second(timestamp)
        .map_err(|error| Error::internal("a block of the sample chain has no time").because(error))?;
    Ok(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_ascend_and_stay_within_their_day() {
        let calendar = Calendar::new(12, &mut Dice::new(3, 0)).unwrap();
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
    fn some_days_begin_exactly_at_midnight_and_most_do_not() {
        let calendar = Calendar::new(60, &mut Dice::new(0, 0)).unwrap();
        let exact = calendar.first_blocks.iter().filter(|block| block.timestamp % DAY == 0).count();
        assert!((1..30).contains(&exact), "{exact}");
        assert_eq!(iso(calendar.first_blocks[0].timestamp).unwrap(), "2023-01-01T00:00:11Z");
        assert_eq!(day_name(45).unwrap(), "2023-02-15");
    }
}
