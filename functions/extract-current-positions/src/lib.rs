//! Extracts the newest open positions, for users and for use between runs. No feature is computed from them.

use std::sync::Arc;

use defi_shared::domain::{Address, Day, FINAL_DEPTH};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::sources::graph::{Position, Snapshot};
use defi_shared::step::raw::raw_position;
use defi_shared::step::staging::{stage, write};
use defi_shared::step::{CONCURRENT_LARGE_UNITS, Context, Remaining, Report, RunId};
use defi_shared::tables::{CURRENT_POSITIONS, StagedPosition, Timestamp};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::ExtractCurrentPositions;

/// The time between blocks on Ethereum since proof of stake, in seconds.
const SECONDS_PER_BLOCK: u64 = 12;

/// The block at which to extract positions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "`head`, `day` or the number of a block")]
pub enum Pin {
    /// The newest block that is [final](FINAL_DEPTH).
    #[default]
    Head,
    /// The first block of the as-of day.
    Day,
    /// The block with this number.
    #[serde(untagged)]
    Number(u64),
}

/// The input of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day, whose first block is used if `block` is `day`. Default: today (UTC).
    pub as_of: Option<Day>,
    /// These protocols. Default: all of the configuration.
    pub protocols: Option<Vec<String>>,
    /// `head` (the default), `day`, or a block number.
    pub block: Pin,
    /// Only the positions of these accounts. Default: all open positions.
    pub addresses: Option<Vec<String>>,
    /// Only these units of the others. A call that continues another one passes the `remaining` of its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Remaining>,
    /// The run that the call belongs to. The report of the call is written to `runs/{run_id}/reports/`.
    pub run_id: Option<RunId>,
}

/// Extracts each protocol's open positions at one pinned block.
///
/// # Errors
/// `BadInput` for a malformed address or an unknown protocol, and the errors of The Graph and of the lake.
pub async fn handle(context: Context, input: Input) -> Result<Report> {
    let protocols = context.protocols(input.protocols.as_deref())?;
    let mut input = input;
    for address in input.addresses.iter_mut().flatten() {
        *address = address.parse::<Address>()?.to_string();
    }
    let input = Arc::new(input);
    let units = protocols.iter().map(|protocol| WorkUnit::Protocol(protocol.as_str().into())).collect();
    let units = context.call_units(STEP, units, input.resume.as_ref()).await?;
    let work = |context, unit| extract(context, Arc::clone(&input), unit);
    let report = context.run_units(STEP, &units, CONCURRENT_LARGE_UNITS, work).await?;
    context.registry.register(&CURRENT_POSITIONS, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn extract(context: Context, input: Arc<Input>, unit: WorkUnit) -> Result<Report> {
    let protocol = unit.as_protocol()?;
    let (snapshot, time) = snapshot(&context, &input, &protocol).await?;
    let block = i64::try_from(snapshot.block.number)
        .map_err(|cause| Error::corrupt("invalid block number").with_source(cause))?;
    let metadata =
        FileMetadata::from([("block".to_owned(), block.to_string()), ("deployment".to_owned(), snapshot.deployment)]);
    let raw: Vec<_> = snapshot
        .rows
        .into_iter()
        .map(|position| raw_position(position, &protocol, block, Timestamp::from_epoch_seconds(time)))
        .collect();
    let mut staged = stage(&raw, StagedPosition::from_raw, |position| position.id.clone())?;
    staged.rows.sort_by_cached_key(|position| (position.account_address, position.id.clone()));
    write(&context, &CURRENT_POSITIONS, &unit, staged, metadata).await
}

/// Fetches the positions at the requested block. Returns them and the block's timestamp.
async fn snapshot(context: &Context, input: &Input, name: &str) -> Result<(Snapshot<Position>, i64)> {
    let subgraph = context.config.protocol(name)?.subgraph()?;
    let (number, time) = match input.block {
        Pin::Number(number) => (number, None),
        Pin::Day => {
            let block = context.first_block(context.as_of(input.as_of)?).await?;
            (block.number()?, Some(block.epoch_timestamp))
        }
        Pin::Head => {
            let head = context.graph.head(subgraph, &context.traffic).await?.block;
            // Older nodes return the timestamp of the head only. Slots have a fixed length, so this is off by a few
            // slots at most.
            let time = head.timestamp.map(|time| time.saturating_sub_unsigned(SECONDS_PER_BLOCK * FINAL_DEPTH));
            (head.number.saturating_sub(FINAL_DEPTH), time)
        }
    };
    let snapshot = context.graph.positions(subgraph, number, input.addresses.as_deref(), &context.traffic).await?;
    let time = snapshot.block.timestamp.or(time).ok_or_else(|| {
        Error::new(Kind::SourceUnavailable, "the subgraph does not return the block's timestamp").with("block", number)
    })?;
    Ok((snapshot, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_parses_head_day_and_numbers() {
        let block =
            |text: &str| serde_json::from_str::<Input>(&format!("{{\"block\": {text}}}")).map(|input| input.block);
        assert_eq!(block("\"head\"").unwrap(), Pin::Head);
        assert_eq!(block("\"day\"").unwrap(), Pin::Day);
        assert_eq!(block("17").unwrap(), Pin::Number(17));
        assert!(block("\"tail\"").is_err());
    }
}
