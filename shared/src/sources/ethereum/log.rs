//! A log, and its JSON.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::hex::{bytes, quantity};
use super::response::wrong;
use crate::domain::{Address, HexBytes, TxHash};
use crate::error::Result;

/// The maximum number of topics of a log.
const MAX_TOPICS: usize = 4;

/// A log of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The number of its block.
    pub block_number: u64,
    /// The hash of its block. A node always sends it.
    pub block_hash: Option<HexBytes<32>>,
    /// Its index among all logs of the block.
    pub log_index: u64,
    /// The transaction that caused it.
    pub transaction_hash: TxHash,
    /// The index of that transaction in the block. 0 where the source does not say it.
    pub transaction_index: u64,
    /// The contract.
    pub address: Address,
    /// The indexed fields, at most four. The first one tells the event, except for anonymous events.
    pub topics: Vec<HexBytes<32>>,
    /// The other fields, encoded.
    pub data: Vec<u8>,
    /// The time of the block in seconds since 1970-01-01T00:00:00Z, where the node sends it.
    pub block_timestamp: Option<i64>,
}

impl Log {
    /// Returns whether two logs are the same event at the same place, whatever their sources say of the block and of the
    /// place of the transaction in it.
    #[must_use]
    pub fn is_same_event(&self, other: &Log) -> bool {
        let content = |log: &Log| (log.block_number, log.log_index, log.transaction_hash, log.address);
        content(self) == content(other) && self.topics == other.topics && self.data == other.data
    }
}

/// The logs of a range of blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// The logs in the order of block number and index.
    pub logs: Vec<Log>,
    /// The number of identical copies that were dropped.
    pub repeats: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogJson<'a> {
    #[serde(borrow)]
    block_number: &'a str,
    block_hash: &'a str,
    log_index: &'a str,
    transaction_hash: &'a str,
    transaction_index: &'a str,
    address: &'a str,
    topics: Vec<&'a str>,
    data: &'a str,
    #[serde(default)]
    removed: Option<bool>,
    /// Any JSON: it is used only if it is a number in hex.
    #[serde(borrow, default)]
    block_timestamp: Option<&'a RawValue>,
}

impl LogJson<'_> {
    /// Returns the log, or the name of a malformed field.
    fn to_log(&self) -> Result<Log, &'static str> {
        if self.topics.len() > MAX_TOPICS {
            return Err("topics");
        }
        let hash = |text: &str, field| HexBytes::<32>::parse(text).ok_or(field);
        let number = |text: &str, field| quantity(text).ok_or(field);
        let timestamp = self.block_timestamp.and_then(|json| quantity(json.get().trim_matches('"')));
        Ok(Log {
            block_number: number(self.block_number, "blockNumber")?,
            block_hash: Some(hash(self.block_hash, "blockHash")?),
            log_index: number(self.log_index, "logIndex")?,
            transaction_hash: hash(self.transaction_hash, "transactionHash")?,
            transaction_index: number(self.transaction_index, "transactionIndex")?,
            address: Address::parse(self.address).ok_or("address")?,
            topics: self.topics.iter().map(|topic| hash(topic, "topics")).collect::<Result<_, _>>()?,
            data: bytes(self.data).ok_or("data")?,
            block_timestamp: timestamp.and_then(|time| i64::try_from(time).ok()).filter(|time| *time > 0),
        })
    }
}

/// Parses a list of logs, none of which a reorganization has removed.
pub(super) fn parse_logs(json: &str) -> Result<Vec<Log>> {
    let logs: Vec<LogJson<'_>> = serde_json::from_str(json)
        .map_err(|error| wrong("a log lacks a field, or one is of another type").with("column", error.column()))?;
    let parse = |(position, log): (usize, &LogJson<'_>)| {
        if log.removed == Some(true) {
            return Err(wrong("a log is marked as removed").with("position", position));
        }
        log.to_log()
            .map_err(|field| wrong("a field of a log is malformed").with("field", field).with("position", position))
    };
    logs.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::messages::Meaning;
    use super::*;

    #[test]
    fn malformed_logs_are_refused() {
        let log = |change: &dyn Fn(&mut serde_json::Value)| {
            let hash = format!("0x{}", "ab".repeat(32));
            let mut log = json!({
                "blockNumber": "0x0064", "blockHash": hash, "logIndex": "0x0", "transactionHash": hash,
                "transactionIndex": "0x0", "address": format!("0x{}", "cd".repeat(20)), "topics": [hash],
                "data": "0x", "removed": false, "blockTimestamp": "0x5f",
            });
            change(&mut log);
            parse_logs(&json!([log]).to_string())
        };
        let parsed = log(&|_| {}).unwrap();
        assert_eq!((parsed[0].block_number, parsed[0].block_timestamp), (100, Some(95)));
        for time in [json!("0x0"), json!(null), json!("x"), json!({}), json!(7)] {
            let parsed = log(&|log| log["blockTimestamp"] = time.clone()).unwrap();
            assert_eq!(parsed[0].block_timestamp, None, "{time}");
        }
        let hash = json!(format!("0x{}", "ab".repeat(32)));
        for (field, value) in [
            ("blockNumber", json!(null)),
            ("blockHash", json!("0x12")),
            ("logIndex", json!(0)),
            ("transactionHash", json!("")),
            ("transactionIndex", json!("0x")),
            ("address", hash.clone()),
            ("topics", json!([hash, hash, hash, hash, hash])),
            ("topics", json!(["0x12"])),
            ("topics", json!(null)),
            ("data", json!("0x0")),
            ("data", json!("zz")),
            ("removed", json!(true)),
        ] {
            let error = log(&|log| log[field] = value.clone()).unwrap_err();
            assert_eq!(Meaning::of(&error), Some(Meaning::Wrong), "{field}: {value}");
        }
        assert!(log(&|log| drop(log.as_object_mut().unwrap().remove("data"))).is_err());
        assert!(parse_logs("{}").is_err() && parse_logs("null").is_err());
    }
}
