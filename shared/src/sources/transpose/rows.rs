//! The columns of Transpose's tables, and what a row's moments and places are.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::sources::Block;
use crate::sources::text::{Text, Texts};

/// Declares [`Event`] and the list of its columns from one place, so that what is asked for is what is read.
macro_rules! event_columns {
    ($($(#[$doc:meta])* $column:ident,)+) => {
        /// A row of `ethereum.lending_events`: a field per column, as the source said it.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        pub struct Event {
            $($(#[$doc])* pub $column: Text,)+
        }

        impl Texts for Event {
            fn each_text(&mut self, take: &mut impl FnMut(&mut Text)) {
                $(take(&mut self.$column);)+
            }
        }

        /// The columns of an [`Event`], in its order.
        pub const EVENT_COLUMNS: &[&str] = &[$(stringify!($column)),+];
    };
}

event_columns! {
    /// deposit, borrow, repay, withdraw or liquidation.
    category,
    /// The block's number.
    block_number,
    /// The log's place in its block.
    log_index,
    /// The block's time, as `2023-01-01T00:00:11Z`.
    timestamp,
    /// The transaction's hash.
    transaction_hash,
    /// The protocol (`aave`, `compound`, …).
    protocol_name,
    /// Its version (`v2`, …).
    contract_version,
    /// The market's address.
    market_address,
    /// The token that was moved; of a liquidation, the collateral that was seized.
    token_address,
    /// The token's id, where it has one.
    token_id,
    /// Who owns the position.
    account_address,
    /// Who sent the transaction.
    sender_address,
    /// How much of `token_address`, in base units.
    quantity,
    /// Who liquidated.
    liquidator_address,
    /// Of a liquidation, the token of the debt that was repaid.
    liquidated_token_address,
    /// How much of `liquidated_token_address`, in base units.
    quantity_liquidated,
    /// What else is known, as JSON text.
    metadata,
}

/// The place of an event in the order of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub time: Timestamp,
    pub log_index: i64,
}

impl Event {
    /// When it was, if the row says so in a form that can be read.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.timestamp.as_deref().and_then(moment)
    }

    /// Where it is, if the row says both time and log index.
    pub(super) fn key(&self) -> Option<Key> {
        Some(Key { time: self.time()?, log_index: self.log_index.as_deref()?.parse().ok()? })
    }
}

/// A timestamp of Transpose's: `2023-01-01T00:00:11Z`, with or without a fraction. The column has no time zone and is UTC,
/// also where a server leaves the `Z` out.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))
}

/// A time in seconds as a parameter: `2023-01-01T00:00:11Z`.
///
/// # Errors
/// `BadInput` for a second that no calendar has.
pub(super) fn moment_of(epoch_seconds: i64) -> Result<Timestamp> {
    Timestamp::from_second(epoch_seconds)
        .map_err(|e| Error::bad_input("no such time").with("epoch_seconds", epoch_seconds).with_source(e))
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
    /// The block that the row describes.
    pub(super) fn block(self) -> Result<Block> {
        let number = self.block_number.as_deref().and_then(|number| number.parse().ok());
        let time = self.timestamp.as_deref().and_then(moment);
        match (number, time) {
            (Some(number), Some(time)) => {
                Ok(Block { number, timestamp: Some(time.as_second()), hash: self.block_hash.0 })
            }
            _ => Err(Error::corrupt("a row of ethereum.blocks has no number or no time")
                .with("block_number", &self.block_number)
                .with("timestamp", &self.timestamp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_in_every_form_that_it_comes_in() {
        let second = |text| moment(text).map(|moment| moment.as_second());
        assert_eq!(second("2023-01-01T00:00:11Z"), Some(1_672_531_211));
        assert_eq!(second("2023-01-01T00:00:11.250Z"), Some(1_672_531_211));
        assert_eq!(second("2023-01-01T00:00:11+00:00"), Some(1_672_531_211));
        assert_eq!(second("2023-01-01T00:00:11"), Some(1_672_531_211));
        assert_eq!(second("2023-01-01 00:00:11.5"), Some(1_672_531_211));
        assert_eq!(second("yesterday"), None);
        assert_eq!(moment_of(1_672_531_211).unwrap().to_string(), "2023-01-01T00:00:11Z");
        assert!(moment_of(i64::MAX).is_err());
    }

    #[test]
    fn an_event_keeps_what_was_sent() {
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
    fn a_block_needs_a_number_and_a_time() {
        let block = |json| serde_json::from_str::<BlockRow>(json).unwrap().block();
        let wanted = Block { number: 17, timestamp: Some(1_672_531_211), hash: Some("0xa".into()) };
        let number = r#"{"block_number": 17, "timestamp": "2023-01-01T00:00:11Z", "block_hash": "0xa"}"#;
        let string = r#"{"block_number": "17", "timestamp": "2023-01-01T00:00:11.999Z", "block_hash": "0xa"}"#;
        assert_eq!(block(number).unwrap(), wanted);
        assert_eq!(block(string).unwrap(), wanted);
        assert!(block(r#"{"block_number": 17}"#).is_err());
        assert!(block(r#"{"block_number": "x", "timestamp": "2023-01-01T00:00:11Z"}"#).is_err());
    }
}
