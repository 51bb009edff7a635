//! The headers of blocks, and the times of those that have logs.

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::Result;
use defi_shared::feeds::FeedLogs;
use defi_shared::sources::ethereum::Header;
use defi_shared::step::Context;

use crate::Blocks;
use crate::checks::step_of_sample;

/// Returns headers by number, and the times of the blocks that have logs.
///
/// The node is asked for the blocks at the ends of the unit and for those whose time the feed does not know, and for a few
/// of the others. If it knows another time of one of these, all times are those of the node.
pub(crate) async fn headers_and_times(
    context: &Context,
    blocks: &Blocks,
    feed: &FeedLogs,
) -> Result<(BTreeMap<u64, Header>, BTreeMap<u64, i64>)> {
    let with_logs: BTreeSet<u64> = feed.batch.logs.iter().map(|log| log.block_number).collect();
    let unknown = with_logs.iter().filter(|number| !feed.times.contains_key(number));
    let sampled = with_logs.iter().step_by(step_of_sample(with_logs.len(), blocks)).chain(with_logs.last());
    let numbers = unknown.chain(sampled).chain([&blocks.first.number, &blocks.last.number]);
    let headers = headers_of(context, numbers.copied().collect()).await?;
    let agrees = |header: &Header| feed.times.get(&header.number).is_none_or(|time| *time == header.timestamp);
    if headers.values().all(agrees) {
        let of_node = headers.values().map(|header| (header.number, header.timestamp));
        let times = feed.times.iter().map(|(number, time)| (*number, *time)).chain(of_node).collect();
        return Ok((headers, times));
    }
    tracing::warn!("the times of blocks differ from those of the node, which are used");
    let headers =
        headers_of(context, with_logs.into_iter().chain([blocks.first.number, blocks.last.number]).collect()).await?;
    let times = headers.values().map(|header| (header.number, header.timestamp)).collect();
    Ok((headers, times))
}

async fn headers_of(context: &Context, numbers: BTreeSet<u64>) -> Result<BTreeMap<u64, Header>> {
    let numbers: Vec<_> = numbers.into_iter().collect();
    let headers = context.node()?.headers(&numbers, &context.traffic).await?;
    Ok(headers.into_iter().map(|header| (header.number, header)).collect())
}
