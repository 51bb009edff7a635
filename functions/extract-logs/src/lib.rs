//! Extracts the logs of the contracts of each protocol from an Ethereum node or another feed of logs: one object per protocol
//! and day. It has the logs from the day's first block up to and including the next day's first block, since the snapshot of
//! a day is the state after its first block. A month before the first day of a run is one object.

mod blocks;
mod checks;
mod known;
mod rates;
mod senders;

use std::collections::BTreeSet;
use std::sync::Arc;

use defi_shared::domain::Day;
use defi_shared::feeds::{BlockTime, LogQuery};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::sources::ethereum::LogBatch;
use defi_shared::step::contracts::Contracts;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{RAW_LOGS, RawLog, Timestamp};
use defi_shared::{Error, Result};

/// The step of this crate.
pub const STEP: Step = Step::ExtractLogs;

/// The number of days that are extracted concurrently. The client limits the concurrent requests of all of them together.
const CONCURRENCY: usize = 4;

/// Extracts the logs of each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day whose end is not final yet, `CorruptData` for logs that are malformed or incomplete, and the errors
/// of the node and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    if units.is_empty() {
        return Ok(Report::default());
    }
    let contracts = context.contracts_of_units(&units).await?;
    let lost = Arc::new(context.lake.lost_units(&RAW_LOGS).await?);
    let work = |context, unit: WorkUnit| {
        let lost = Arc::clone(&lost);
        let contracts = unit.as_protocol_days().ok().and_then(|(_, protocol)| contracts.get(&protocol).cloned());
        async move {
            let contracts = contracts.ok_or_else(|| Error::internal("the protocol of a unit has no contracts"))?;
            // Boxed, because the compiler limits how deep futures nest.
            Box::pin(extract(context, unit, &contracts, &lost)).await
        }
    };
    // The logs of a month fill the memory that those of several days have.
    let is_month = |unit: &WorkUnit| matches!(unit, WorkUnit::ProtocolMonth(..));
    let concurrency = if units.iter().any(is_month) { 1 } else { CONCURRENCY };
    let report = context.run_units(STEP, &units, concurrency, work).await?;
    context.registry.register(&RAW_LOGS, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

/// Extracts the logs of a unit. `lost` are the units that lack rates of liquidations since an earlier run.
async fn extract(context: Context, unit: WorkUnit, contracts: &Contracts, lost: &BTreeSet<WorkUnit>) -> Result<Report> {
    let blocks = blocks_of(&context, &unit).await?;
    let addresses = contracts.addresses();
    let query = LogQuery { addresses: &addresses, first: blocks.first, last: blocks.last };
    let feed = context.feed()?.logs(&query, &context.traffic).await?;
    let (headers, times) = blocks::headers_and_times(&context, &blocks, &feed).await?;
    let batch = &feed.batch;
    checks::compare_with_blocks(&context, &addresses, &blocks, &batch.logs, &headers).await?;
    known::require(&context, contracts, &blocks, &batch.logs, &times).await?;
    checks::reject_malformed(contracts, &batch.logs)?;
    let senders = senders::of_transactions(&context, &feed).await?;
    let rates = rates::of_liquidations(&context, contracts, &batch.logs).await?;
    let facts = batch.logs.iter().map(|log| {
        let time = times.get(&log.block_number).ok_or_else(|| Error::internal("a log without a block"))?;
        let sender = senders.get(&log.transaction_hash).copied();
        let sender = sender.ok_or_else(|| Error::internal("a log without a sender"))?;
        Ok((*time, sender, rates.known.get(&(log.block_number, log.log_index)).copied()))
    });
    let facts = facts.collect::<Result<Vec<_>>>()?;
    let LogBatch { logs, repeats } = feed.batch;
    let rows_in = logs.len() as u64 + repeats;
    // Each row is made when it is written: a month may have a million.
    let rows = logs.into_iter().zip(facts).map(|(log, (time, sender, exchange_rate))| {
        let topic = |number: usize| log.topics.get(number).copied();
        RawLog {
            block_number: i64::try_from(log.block_number).unwrap_or(i64::MAX),
            log_index: i64::try_from(log.log_index).unwrap_or(i64::MAX),
            block_timestamp: Timestamp::from_epoch_seconds(time),
            transaction_hash: log.transaction_hash,
            sender_address: sender,
            contract_address: log.address,
            topic0: topic(0),
            topic1: topic(1),
            topic2: topic(2),
            topic3: topic(3),
            data: const_hex::encode_prefixed(&log.data).into(),
            exchange_rate,
        }
    });
    let metadata = FileMetadata::from([
        ("blocks".to_owned(), format!("{}-{}", blocks.first.number, blocks.last.number)),
        ("deployment".to_owned(), contracts.deployment().to_string()),
    ]);
    // Written before the logs: they are in the lake then, and nothing else would ask for the rates again.
    if let Some(reason) = rates.lost.clone() {
        context.lake.write_tombstone(&RAW_LOGS, &unit, reason).await?;
    }
    let written = context.commit(&RAW_LOGS, &unit, rows, metadata).await?;
    if rates.lost.is_none() && lost.contains(&unit) {
        context.lake.delete_tombstone(&RAW_LOGS, &unit).await?;
    }
    Ok(Report { rows_in, repeats, ..Report::default() }.with_written(written))
}

/// The blocks of a unit: the first one of its days and the first one of the day after them.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    first: BlockTime,
    last: BlockTime,
}

impl Blocks {
    /// Returns the number of days, at least 1.
    fn days(&self) -> usize {
        usize::try_from((self.last.timestamp - self.first.timestamp) / 86_400).unwrap_or(1).max(1)
    }
}

async fn blocks_of(context: &Context, unit: &WorkUnit) -> Result<Blocks> {
    let (days, protocol) = unit.as_protocol_days()?;
    let start = days.start.max(context.config.protocol(&protocol)?.first_day()?);
    let (first, last) = (first_block(context, start).await?, first_block(context, days.end).await?);
    if first.number >= last.number {
        return Err(Error::corrupt("the first block of a day is not before that of a later day").with("unit", unit));
    }
    Ok(Blocks { first, last })
}

async fn first_block(context: &Context, day: Day) -> Result<BlockTime> {
    let block = context.first_block(day).await?;
    Ok(BlockTime { number: block.number()?, timestamp: block.epoch_timestamp })
}
