//! Rows of Transpose's tables, and their timestamps and keys.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::parse_time;
use crate::error::{Error, Result};
use crate::sources::Block;
use crate::sources::text::{MAX_NAME_BYTES, Text, TextRow};

/// Declares [`Event`] and [`EVENT_COLUMNS`] together, so that the queried columns and the parsed fields are the same.
macro_rules! event_columns {
    ($($(#[$doc:meta])* $column:ident,)+) => {
        /// A row of `ethereum.lending_events`, with one field per column, exactly as the source sent it.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        pub struct Event {
            $($(#[$doc])* pub $column: Text,)+
        }

        impl TextRow for Event {
            fn for_each(&self, visit: &mut impl FnMut(&Text)) {
                $(visit(&self.$column);)+
            }

            fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text)) {
                $(visit(&mut self.$column);)+
            }
        }

        /// The columns of [`Event`], in the order of its fields.
        pub const EVENT_COLUMNS: &[&str] = &[$(stringify!($column)),+];
    };
}

event_columns! {
    /// The category: deposit, borrow, repay, withdraw or liquidation.
    category,
    /// The block number.
    block_number,
    /// The index of the log in its block.
    log_index,
    /// The block's timestamp, in any of the forms of [`parse_time`].
    timestamp,
    /// The transaction hash.
    transaction_hash,
    /// The protocol (`aave`, `compound`, …).
    protocol_name,
    /// The protocol version (`v2`, …).
    contract_version,
    /// The market's address.
    market_address,
    /// The address of the token that was moved; for a liquidation, the seized collateral.
    token_address,
    /// The token's id, if it has one.
    token_id,
    /// The address that owns the position.
    account_address,
    /// The address that sent the transaction.
    sender_address,
    /// The amount of `token_address`, in base units.
    quantity,
    /// The address of the liquidator.
    liquidator_address,
    /// For a liquidation, the address of the token of the repaid debt.
    liquidated_token_address,
    /// The amount of `liquidated_token_address`, in base units.
    quantity_liquidated,
    /// Additional data, as JSON text.
    metadata,
}

/// The sort key of an event: its position in the order of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKey {
    pub time: Timestamp,
    pub log_index: i64,
}

impl Event {
    /// Returns the timestamp, or `None` if it is missing or invalid.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.timestamp.as_deref().and_then(parse_time)
    }

    /// Returns the sort key, or `None` if the timestamp or the log index is missing or invalid.
    pub(super) fn key(&self) -> Option<EventKey> {
        Some(EventKey { time: self.time()?, log_index: self.log_index.as_deref()?.parse().ok()? })
    }
}

/// Converts seconds since 1970-01-01T00:00:00Z to a timestamp, which is formatted as `2023-01-01T00:00:11Z`.
///
/// # Errors
/// `BadInput` if the time is out of range.
pub(super) fn timestamp_from_seconds(epoch_seconds: i64) -> Result<Timestamp> {
    Timestamp::from_second(epoch_seconds)
        .map_err(|e| Error::bad_input("the time is out of range").with("epoch_seconds", epoch_seconds).with_source(e))
}

/// The row of a count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct CountRow {
    pub count: Text,
}

/// A row of `ethereum.blocks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct BlockRow {
    pub block_number: Text,
    pub timestamp: Text,
    pub block_hash: Text,
}

impl BlockRow {
    /// Converts the row to a block.
    pub(super) fn into_block(self) -> Result<Block> {
        if self.block_hash.as_deref().is_some_and(|hash| hash.len() > MAX_NAME_BYTES) {
            return Err(Error::corrupt("a row of ethereum.blocks has an invalid hash").with("hash", &self.block_hash));
        }
        let number = self.block_number.as_deref().and_then(|number| number.parse().ok());
        let time = self.timestamp.as_deref().and_then(parse_time);
        match (number, time) {
            (Some(number), Some(time)) => {
                Ok(Block { number, timestamp: Some(time.as_second()), hash: self.block_hash.0 })
            }
            _ => Err(Error::corrupt("a row of ethereum.blocks has a missing or invalid number or timestamp")
                .with("block_number", &self.block_number)
                .with("timestamp", &self.timestamp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_statements_are_in_utc() {
        assert_eq!(timestamp_from_seconds(1_672_531_211).unwrap().to_string(), "2023-01-01T00:00:11Z");
        assert!(timestamp_from_seconds(i64::MAX).is_err());
    }

    #[test]
    fn events_keep_values_as_sent() {
        let event: Event = serde_json::from_str(
            r#"{"timestamp": "2023-01-01T00:00:11Z", "log_index": 7, "metadata": {"a": [1, 2.50]},
                "quantity": 115792089237316195423570985008687907853269984665640564039457584007913129639935}"#,
        )
        .unwrap();
        assert_eq!(event.key().map(|key| key.log_index), Some(7));
        assert_eq!(event.metadata.as_deref(), Some(r#"{"a":[1,2.50]}"#));
        assert_eq!(event.quantity.as_deref().map(str::len), Some(78));
        assert!(event.token_id.is_none());
    }

    #[test]
    fn blocks_need_a_number_and_a_timestamp() {
        let block = |json| serde_json::from_str::<BlockRow>(json).unwrap().into_block();
        let expected = Block { number: 17, timestamp: Some(1_672_531_211), hash: Some("0xa".into()) };
        let number = r#"{"block_number": 17, "timestamp": "2023-01-01T00:00:11Z", "block_hash": "0xa"}"#;
        let string = r#"{"block_number": "17", "timestamp": "2023-01-01T00:00:11.999Z", "block_hash": "0xa"}"#;
        assert_eq!(block(number).unwrap(), expected);
        assert_eq!(block(string).unwrap(), expected);
        assert!(block(r#"{"block_number": 17}"#).is_err());
        assert!(block(r#"{"block_number": "x", "timestamp": "2023-01-01T00:00:11Z"}"#).is_err());
    }
}
