//! Finds the first block of each day, to which the snapshots of the day are pinned.

use defi_shared::domain::{Day, FINAL_DEPTH};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::sources::{Block, Traffic};
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, DailyBlock, Timestamp};
use defi_shared::{Error, Kind, Result};

/// The step of this crate.
pub const STEP: Step = Step::ExtractDailyBlocks;

/// The age in seconds at which a block is considered final regardless of the source's head. An orphaned block could
/// only be that old if the source had not indexed any block for a day.
const FINAL_AGE_SECONDS: i64 = 86_400;

/// Finds the first block of each day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day whose first block is not final yet, and the errors of Transpose and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    if units.is_empty() {
        return Ok(Report::default());
    }
    let traffic = Traffic::new();
    let head = match context.config.source {
        DataSource::Apis => context.transpose.head_block(&traffic).await?,
        // What is final is deep enough.
        DataSource::Chain => {
            let finalized = context.node()?.finalized(&traffic).await?;
            Block {
                number: finalized.number.saturating_add(FINAL_DEPTH),
                timestamp: Some(finalized.timestamp),
                hash: None,
            }
        }
    };
    let work = |context: Context, unit| extract(context, unit, head.clone());
    let mut report = context.run_units(STEP, &units, CONCURRENT_UNITS, work).await?;
    report.traffic += &traffic.report();
    context.registry.register(&DAILY_BLOCKS, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn extract(context: Context, unit: WorkUnit, head: Block) -> Result<Report> {
    let day = unit.as_day()?;
    let block = match context.config.source {
        DataSource::Apis => context.transpose.first_block(day.start(), &context.traffic).await?,
        DataSource::Chain => {
            let header = context.node()?.first_block(day.start(), &context.traffic).await?;
            header.map(|header| Block {
                number: header.number,
                timestamp: Some(header.timestamp),
                hash: Some(header.hash.to_string().into()),
            })
        }
    };
    let row = final_block(day, block, &head, context.today)?;
    let written = context.commit(&DAILY_BLOCKS, &unit, vec![row], FileMetadata::new()).await?;
    Ok(Report { rows_in: 1, ..Report::default() }.with_written(written))
}

/// Returns the row of a day, if its first block is final.
fn final_block(day: Day, block: Option<Block>, head: &Block, today: Day) -> Result<DailyBlock> {
    let not_ready = |message: &str| Error::new(Kind::NotReady, message).with("day", day);
    let block = block.ok_or_else(|| not_ready("the day has no block yet"))?;
    let missing_timestamp = || Error::corrupt("a block has no timestamp").with("block", block.number);
    let time = block.timestamp.ok_or_else(missing_timestamp)?;
    if !day.seconds().contains(&time) {
        return Err(Error::new(Kind::NotReady, "the source has no block of the day")
            .with("day", day)
            .with_hint("choose days for which the source has data"));
    }
    let is_deep = head.number >= block.number.saturating_add(FINAL_DEPTH);
    let is_old = today.start() - time >= FINAL_AGE_SECONDS;
    if !is_deep && !is_old {
        let message = format!("the day's first block is not {FINAL_DEPTH} blocks deep yet");
        return Err(not_ready(&message).with("block", block.number));
    }
    let number =
        i64::try_from(block.number).map_err(|cause| Error::corrupt("invalid block number").with_source(cause))?;
    Ok(DailyBlock {
        day,
        block_number: number,
        timestamp: Timestamp::from_epoch_seconds(time),
        epoch_timestamp: time,
        block_hash: block.hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, timestamp: i64) -> Block {
        Block { number, timestamp: Some(timestamp), hash: None }
    }

    fn kind(block: Option<Block>, head: u64, today: i32) -> Option<Kind> {
        let day = Day::from_epoch_days(19_000);
        let head = self::block(head, 0);
        final_block(day, block, &head, day.plus_days(today)).err().map(|error| error.kind())
    }

    #[test]
    fn block_is_final_if_64_deep_or_a_day_old() {
        let start = Day::from_epoch_days(19_000).start();
        let first = Some(block(1000, start + 11));
        assert_eq!(kind(first.clone(), 1063, 0), Some(Kind::NotReady));
        assert_eq!(kind(first.clone(), 1064, 0), None);
        assert_eq!(kind(first.clone(), 1000, 1), Some(Kind::NotReady));
        assert_eq!(kind(first, 1000, 2), None);
    }

    #[test]
    fn rejects_missing_blocks_and_blocks_of_other_days() {
        let start = Day::from_epoch_days(19_000).start();
        assert_eq!(kind(None, 5000, 3), Some(Kind::NotReady));
        assert_eq!(kind(Some(block(1, start + 86_400)), 5000, 3), Some(Kind::NotReady));
        assert_eq!(kind(Some(block(1, start + 86_399)), 5000, 3), None);
    }
}
