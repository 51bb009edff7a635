//! Receipts: the senders of transactions, and all logs of a block.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::hex::quantity;
use super::log::{Log, parse_logs};
use super::log_checks::{check_order, without_copies};
use super::messages::Expected;
use super::response::wrong;
use super::rpc::Request;
use super::{EthereumClient, missing};
use crate::domain::{Address, TxHash};
use crate::error::Result;
use crate::sources::Traffic;
use crate::sources::volume::Volume;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SenderJson<'a> {
    #[serde(borrow)]
    transaction_hash: &'a str,
    from: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson<'a> {
    #[serde(borrow)]
    block_number: &'a str,
    logs: &'a RawValue,
}

impl EthereumClient {
    /// Returns the sender (`from`) of each transaction, from its receipt.
    ///
    /// # Errors
    /// See [`EthereumClient`]. `HistoryPruned` if the node does not have the receipt of a transaction: it is never
    /// without a sender.
    pub async fn senders(&self, transactions: &[TxHash], traffic: &Traffic) -> Result<BTreeMap<TxHash, Address>> {
        let volume = &Volume::of_events(&self.limits);
        let transactions: Vec<TxHash> = BTreeSet::from_iter(transactions.iter().copied()).into_iter().collect();
        let requests: Vec<Request> = transactions
            .iter()
            .map(|hash| Request::new("eth_getTransactionReceipt", json!([hash.to_string()]), Expected::Past))
            .collect();
        let parse = |index: usize, result: &RawValue| {
            volume.add_sizes(1, result.get().len(), 0)?;
            let hash = transactions.get(index).copied().unwrap_or(TxHash::MIN);
            parse_sender(result, hash).map_err(|error| error.with("transaction", hash))
        };
        self.all(&requests, &parse, traffic).await?.into_iter().collect()
    }
}

fn parse_sender(result: &RawValue, hash: TxHash) -> Result<(TxHash, Address)> {
    if result.get() == "null" {
        return Err(missing("receipt of a transaction"));
    }
    let json: Option<SenderJson<'_>> = serde_json::from_str(result.get()).ok();
    let pair = json.and_then(|json| Some((TxHash::parse(json.transaction_hash)?, Address::parse(json.from)?)));
    match pair {
        Some(pair) if pair.0 == hash => Ok(pair),
        Some(_) => Err(wrong("the node answered with the receipt of another transaction")),
        None => Err(wrong("a field of a receipt is missing or malformed")),
    }
}

/// Parses the logs in the receipts of a block. Their indexes must be complete.
pub(super) fn parse_block_logs(result: &RawValue, number: u64) -> Result<Vec<Log>> {
    if result.get() == "null" {
        return Err(missing("receipts of a block"));
    }
    let receipts: Vec<ReceiptJson<'_>> = serde_json::from_str(result.get())
        .map_err(|error| wrong("a receipt lacks a field, or one is of another type").with("column", error.column()))?;
    let mut logs = Vec::new();
    for receipt in &receipts {
        if quantity(receipt.block_number) != Some(number) {
            return Err(wrong("a receipt is of another block"));
        }
        logs.extend(parse_logs(receipt.logs.get())?);
    }
    let checked = without_copies(logs)?;
    check_order(&checked.logs)?;
    let is_complete = checked.logs.iter().zip(0..).all(|(log, index)| log.log_index == index);
    if !is_complete || checked.logs.iter().any(|log| log.block_number != number) {
        return Err(wrong("the receipts of a block don't have its logs with complete indexes"));
    }
    Ok(checked.logs)
}
