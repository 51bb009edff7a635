//! Checks of the logs that a node or another feed returned: answers can be successful and incomplete.

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::contracts::{aave_v2, compound_v2, decode_event};
use defi_shared::domain::Address;
use defi_shared::lake::requests::in_order;
use defi_shared::sources::ethereum::{Header, Log};
use defi_shared::step::Context;
use defi_shared::step::contracts::Contracts;
use defi_shared::{Error, Kind, Result};

use crate::Blocks;

/// The number of blocks a day, spread over the unit, whose headers are looked at if they have no logs.
const SAMPLED_BLOCKS: u64 = 16;

/// The number of blocks with logs a day, spread over the unit, whose receipts are compared.
const SAMPLED_BLOCKS_WITH_LOGS: usize = 4;

/// The number of blocks whose receipts are asked for at once.
const CONCURRENT_BLOCKS: usize = 8;

/// Compares the logs with the headers and the receipts of their blocks: that every block is the one of its header, as far as
/// there are hashes and headers, and, in a sample of the blocks, that the receipts have the same logs.
///
/// # Errors
/// If a block is another one than that of its header: `SourceUnavailable`, or `CorruptData` where the logs are not the
/// node's. `CorruptData` if the receipts of a block have other logs, and the errors of the node.
pub(crate) async fn compare_with_blocks(
    context: &Context,
    addresses: &[Address],
    blocks: &Blocks,
    logs: &[Log],
    headers: &BTreeMap<u64, Header>,
) -> Result<()> {
    for log in logs {
        let header = headers.get(&log.block_number);
        if header.zip(log.block_hash).is_some_and(|(header, hash)| header.hash != hash) {
            let (kind, hint) = match context.feed {
                Some(_) => (Kind::CorruptData, "the files or the node have a block that was replaced: use others"),
                None => (Kind::SourceUnavailable, "run again: the nodes behind the URL may disagree"),
            };
            let error = Error::new(kind, "the block of a log is not the one of its header");
            return Err(error.with("block", log.block_number).with_hint(hint));
        }
    }
    let with_logs: Vec<u64> = logs.iter().map(|log| log.block_number).collect::<BTreeSet<_>>().into_iter().collect();
    let step = step_of_sample(with_logs.len(), blocks);
    let mut sample: Vec<u64> = with_logs.iter().step_by(step).copied().collect();
    sample.extend(may_have_logs(context, addresses, blocks, &with_logs).await?);
    let compare = |number| compare_with_receipts(context, addresses, number, logs);
    in_order(sample, CONCURRENT_BLOCKS, compare).await.map(drop)
}

/// Compares the logs of a block with those in its receipts, if the node has them.
async fn compare_with_receipts(context: &Context, addresses: &[Address], number: u64, logs: &[Log]) -> Result<()> {
    let Some(receipts) = context.node()?.block_logs(number, &context.traffic).await? else { return Ok(()) };
    let of_contracts: Vec<_> = receipts.iter().filter(|log| addresses.contains(&log.address)).collect();
    let of_block: Vec<_> = logs.iter().filter(|log| log.block_number == number).collect();
    let is_same = of_contracts.iter().zip(&of_block).all(|(receipt, log)| receipt.is_same_event(log));
    if is_same && of_contracts.len() == of_block.len() {
        return Ok(());
    }
    let hint = match context.feed {
        Some(_) => "get the files of this block again, or run without --logs",
        None => "run again, or use another node: this one does not return all logs",
    };
    Err(Error::corrupt("the logs of a block differ from those in its receipts").with("block", number).with_hint(hint))
}

/// Returns the step through the blocks with logs at which they are sampled.
pub(crate) fn step_of_sample(with_logs: usize, blocks: &Blocks) -> usize {
    with_logs.div_ceil(SAMPLED_BLOCKS_WITH_LOGS.saturating_mul(blocks.days())).max(1)
}

/// Returns the blocks of a sample of those without logs whose header says that they may have one.
async fn may_have_logs(
    context: &Context,
    addresses: &[Address],
    blocks: &Blocks,
    with_logs: &[u64],
) -> Result<Vec<u64>> {
    let (first, last) = (blocks.first.number, blocks.last.number);
    let days = u64::try_from(blocks.days()).unwrap_or(u64::MAX);
    let step = (last - first).div_ceil(SAMPLED_BLOCKS.saturating_mul(days)).max(1);
    let numbers = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let numbers: Vec<_> = numbers.filter(|number| with_logs.binary_search(number).is_err()).collect();
    let headers = context.node()?.headers(&numbers, &context.traffic).await?;
    let may_have = |header: &Header| addresses.iter().any(|address| header.may_have_log_of(address));
    Ok(headers.into_iter().filter(may_have).map(|header| header.number).collect())
}

/// Rejects logs that are not a valid event of their contract.
///
/// # Errors
/// `CorruptData` for an event with the wrong number of topics or with data that are too short.
pub(crate) fn reject_malformed(contracts: &Contracts, logs: &[Log]) -> Result<()> {
    for log in logs {
        let topics: Vec<[u8; 32]> = log.topics.iter().map(|topic| topic.0).collect();
        is_valid(contracts, log, &topics).map_err(|error| {
            error
                .with("block", log.block_number)
                .with("log_index", log.log_index)
                .with("contract", log.address)
                .with_hint("run again, or use another node: this one changes logs")
        })?;
    }
    Ok(())
}

fn is_valid(contracts: &Contracts, log: &Log, topics: &[[u8; 32]]) -> Result<()> {
    macro_rules! decode {
        ($($events:path),+) => {{
            $( decode_event::<$events>(<$events>::SELECTORS, topics, &log.data)?; )+
            Ok(())
        }};
    }
    match contracts {
        Contracts::AaveV2 { pool, .. } if log.address == *pool => decode!(aave_v2::Pool::PoolEvents),
        Contracts::AaveV2 { reserves, .. } => {
            let is = |token: fn(&defi_shared::domain::replay::aave_v2::Reserve) -> Address| {
                reserves.iter().any(|reserve| token(reserve) == log.address)
            };
            if is(|reserve| reserve.a_token) {
                decode!(aave_v2::AToken::ATokenEvents)
            } else if is(|reserve| reserve.variable_debt_token) {
                decode!(aave_v2::VariableDebtToken::VariableDebtTokenEvents)
            } else {
                decode!(aave_v2::StableDebtToken::StableDebtTokenEvents)
            }
        }
        Contracts::CompoundV2 { comptroller, .. } if log.address == *comptroller => {
            decode!(compound_v2::Comptroller::ComptrollerEvents)
        }
        Contracts::CompoundV2 { .. } => decode!(
            compound_v2::CToken::CTokenEvents,
            compound_v2::OldCToken::OldCTokenEvents,
            compound_v2::NewCToken::NewCTokenEvents
        ),
    }
}
