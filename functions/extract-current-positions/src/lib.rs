//! Extracts the newest open positions, for users and for use between runs. No feature is computed from them.

use std::sync::Arc;

use defi_shared::config::Schema;
use defi_shared::domain::{Address, Day, FINAL_DEPTH};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::sources::graph::UserReserve;
use defi_shared::step::aave::stage_user_reserves;
use defi_shared::step::raw::{raw_position, raw_reserve, raw_user_reserve};
use defi_shared::step::staging::{Staged, stage, write};
use defi_shared::step::{CONCURRENT_LARGE_UNITS, Context, Remaining, Report, RunId};
use defi_shared::tables::{CURRENT_POSITIONS, StagedPosition, Timestamp};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::ExtractCurrentPositions;

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
    let block = pinned_block(&context, &input, &protocol).await?;
    let (deployment, staged) = match context.config.protocol(&protocol)?.schema {
        Schema::Messari => positions(&context, &input, &protocol, &block).await?,
        Schema::Aave => user_reserves(&context, &input, &protocol, &block).await?,
    };
    let metadata =
        FileMetadata::from([("block".to_owned(), block.number.to_string()), ("deployment".to_owned(), deployment)]);
    write(&context, &CURRENT_POSITIONS, &unit, staged, metadata).await
}

/// The block to which the positions are pinned.
struct Pinned {
    number: u64,
    time: Timestamp,
}

impl Pinned {
    fn row(&self) -> Result<i64> {
        i64::try_from(self.number).map_err(|cause| Error::corrupt("invalid block number").with_source(cause))
    }
}

/// Returns the requested block. Its time comes from the table of blocks: a subgraph often does not say it.
async fn pinned_block(context: &Context, input: &Input, protocol: &str) -> Result<Pinned> {
    let number = match input.block {
        Pin::Number(number) => number,
        Pin::Day => {
            let block = context.first_block(context.as_of(input.as_of)?).await?;
            return Ok(Pinned { number: block.number()?, time: block.timestamp });
        }
        Pin::Head => {
            let subgraph = context.config.protocol(protocol)?.subgraph()?;
            let head = context.graph.head(subgraph, &context.traffic).await?.block;
            head.number.saturating_sub(FINAL_DEPTH)
        }
    };
    let time = context.transpose.time_of_block(number, &context.traffic).await?;
    Ok(Pinned { number, time: Timestamp::from_epoch_seconds(time) })
}

/// Returns the deployment and the positions in Messari's schema.
async fn positions(
    context: &Context,
    input: &Input,
    protocol: &Arc<str>,
    block: &Pinned,
) -> Result<(String, Staged<Vec<StagedPosition>>)> {
    let configured = context.config.protocol(protocol)?;
    let (addresses, collaterals) = (input.addresses.as_deref(), configured.lists_collaterals());
    let positions =
        context.graph.positions(configured.subgraph()?, block.number, addresses, collaterals, &context.traffic);
    let snapshot = positions.await?;
    let number = block.row()?;
    let raw = snapshot.rows.into_iter().map(|position| raw_position(position, protocol, number, block.time));
    let mut staged = stage(raw, StagedPosition::from_raw, |position| position.id.clone())?;
    staged.rows.sort_by_cached_key(|position| (position.account_address, position.id.clone()));
    Ok((snapshot.deployment, staged))
}

/// Returns the deployment and the positions in Aave's schema, with the indexes of the reserves at the same block.
async fn user_reserves(
    context: &Context,
    input: &Input,
    protocol: &Arc<str>,
    block: &Pinned,
) -> Result<(String, Staged<Vec<StagedPosition>>)> {
    let configured = context.config.protocol(protocol)?;
    let (subgraph, pool, traffic, number) =
        (configured.subgraph()?, configured.pool()?, &context.traffic, block.row()?);
    let raw = |page: Vec<UserReserve>| {
        let rows = page.into_iter().map(|row| raw_user_reserve(row, protocol, number, block.time));
        Ok(rows.collect::<Vec<_>>())
    };
    let addresses = input.addresses.as_deref();
    let rows = context.graph.process_user_reserve_pages(subgraph, pool, block.number, addresses, raw, traffic);
    let (reserves, rows) = tokio::try_join!(context.reserves(protocol, block.number), rows)?;
    if reserves.deployment != rows.deployment {
        return Err(Error::new(Kind::SourceUnavailable, "the deployment of the subgraph changed between two requests"));
    }
    let markets = reserves.rows.into_iter();
    let markets = markets.map(|row| raw_reserve(row, configured.prices, protocol, number, block.time));
    let (staged, _) = stage_user_reserves(rows.rows.into_iter().flatten(), &markets.collect::<Vec<_>>())?;
    Ok((rows.deployment, staged))
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
