//! The senders of the transactions that have logs.

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::Result;
use defi_shared::domain::{Address, TxHash};
use defi_shared::feeds::FeedLogs;
use defi_shared::step::Context;

/// Returns the sender of each transaction: as the feed knows it, else as the node does.
pub(crate) async fn of_transactions(context: &Context, feed: &FeedLogs) -> Result<BTreeMap<TxHash, Address>> {
    let transactions: BTreeSet<_> = feed.batch.logs.iter().map(|log| log.transaction_hash).collect();
    let unknown: Vec<_> = transactions.into_iter().filter(|hash| !feed.senders.contains_key(hash)).collect();
    let mut senders = context.node()?.senders(&unknown, &context.traffic).await?;
    senders.extend(feed.senders.iter().map(|(hash, sender)| (*hash, *sender)));
    Ok(senders)
}
