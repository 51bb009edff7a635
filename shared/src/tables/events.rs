//! Lending events: raw, staged and priced.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use super::validity::{Reason, base_units, hex_bytes, integer, required};
use crate::domain::fold::FoldEvent;
use crate::domain::{Address, BaseUnits, Category, Day, TxHash, parse_time};

row! {
    /// An event from Transpose. Every value is the original string of the response.
    #[derive(serde::Serialize)]
    pub struct RawEvent {
        /// Block number.
        pub block_number: Option<Arc<str>>,
        /// Index of the log in its block.
        pub log_index: Option<Arc<str>>,
        /// Time of the block, in the form that the source sent.
        pub timestamp: Option<Arc<str>>,
        /// Transaction hash.
        pub transaction_hash: Option<Arc<str>>,
        /// Protocol name, such as `aave`.
        pub protocol_name: Option<Arc<str>>,
        /// Contract version, such as `v2`.
        pub contract_version: Option<Arc<str>>,
        /// Market contract.
        pub market_address: Option<Arc<str>>,
        /// Token; of a liquidation the collateral that was seized.
        pub token_address: Option<Arc<str>>,
        /// Token id of an NFT.
        pub token_id: Option<Arc<str>>,
        /// borrow, deposit, liquidation, repay or withdraw.
        pub category: Option<Arc<str>>,
        /// Account that owns the position.
        pub account_address: Option<Arc<str>>,
        /// Account that sent the transaction.
        pub sender_address: Option<Arc<str>>,
        /// Amount in base units; of a liquidation of the collateral that was seized.
        pub quantity: Option<Arc<str>>,
        /// Who liquidated.
        pub liquidator_address: Option<Arc<str>>,
        /// Of a liquidation the token of the debt that was repaid.
        pub liquidated_token_address: Option<Arc<str>>,
        /// Of a liquidation the amount of the debt that was repaid, in base units.
        pub quantity_liquidated: Option<Arc<str>>,
        /// Further data, as JSON text.
        pub metadata: Option<Arc<str>>,
    }
}

row! {
    /// The columns of a raw event that identify its log.
    pub struct RawEventKey {
        /// Transaction hash.
        pub transaction_hash: Option<Arc<str>>,
        /// Index of the log in its block.
        pub log_index: Option<Arc<str>>,
    }
}

row! {
    /// A valid event.
    pub struct StagedEvent {
        /// Account that sent the transaction, lower case.
        pub sender_address: Address,
        /// Transaction hash, lower case.
        pub transaction_hash: TxHash,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Block number.
        pub block_number: i64,
        /// Time of the block.
        pub timestamp: Timestamp,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// borrow, deposit, liquidation, repay or withdraw.
        pub category: Category,
        /// Account that owns the position, lower case.
        pub account_address: Address,
        /// Market contract, lower case, kept as it is otherwise.
        pub market_address: Option<Arc<str>>,
        /// Token; of a liquidation the collateral that was seized.
        pub token_address: Address,
        /// Token id of an NFT.
        pub token_id: Option<Arc<str>>,
        /// Amount in base units; of a liquidation of the collateral that was seized.
        pub quantity: BaseUnits,
        /// Who liquidated, lower case, kept as it is otherwise.
        pub liquidator_address: Option<Arc<str>>,
        /// Of a liquidation the token of the debt that was repaid.
        pub liquidated_token_address: Option<Address>,
        /// Of a liquidation the amount of the debt that was repaid, in base units.
        pub quantity_liquidated: Option<BaseUnits>,
        /// Further data, as JSON text.
        pub metadata: Option<Arc<str>>,
    }
}

row! {
    /// A valid event with its amount in ETH and the wallet to which it is attributed.
    pub struct PricedEvent {
        /// The wallet that the row counts for: the sender; of a liquidation the account that was liquidated.
        pub index_address: Address,
        /// Transaction hash, lower case.
        pub transaction_hash: TxHash,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Block number.
        pub block_number: i64,
        /// Time of the block.
        pub timestamp: Timestamp,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// borrow, deposit, liquidation, repay or withdraw.
        pub category: Category,
        /// Account that sent the transaction, lower case.
        pub sender_address: Address,
        /// Account that owns the position, lower case.
        pub account_address: Address,
        /// Market contract, lower case.
        pub market_address: Option<Arc<str>>,
        /// Token; of a liquidation the collateral that was seized.
        pub token_address: Address,
        /// Amount in base units; of a liquidation of the collateral that was seized.
        pub quantity: BaseUnits,
        /// Amount in ETH; NULL without a price.
        pub quantity_eth: Option<f64>,
        /// ETH per whole token; NULL without a price.
        pub price_eth: Option<f64>,
        /// Decimals of the token in the row that gave the price.
        pub token_decimals: Option<i32>,
        /// Day of the snapshot that gave the price; NULL without a price, and for native ETH, which always costs 1.
        pub price_day: Option<Day>,
        /// Protocol whose snapshot gave the price.
        pub price_protocol: Option<Arc<str>>,
        /// Market that gave the price.
        pub price_market_id: Option<Address>,
        /// Liquidation threshold of that market, a fraction.
        pub liquidation_threshold: Option<f64>,
        /// Who liquidated.
        pub liquidator_address: Option<Arc<str>>,
        /// Of a liquidation the token of the debt that was repaid.
        pub liquidated_token_address: Option<Address>,
        /// Of a liquidation the amount of the debt that was repaid, in base units.
        pub quantity_liquidated: Option<BaseUnits>,
    }
}

row! {
    /// The columns of a borrow from which links are derived.
    pub struct BorrowLinkRow {
        /// Account that sent the transaction.
        pub sender_address: Address,
        /// Account that owns the position.
        pub account_address: Address,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
    }
}

row! {
    /// The columns of [`PricedEvent`] that the fold uses.
    pub struct FoldEventRow {
        /// Account that sent the transaction.
        pub sender_address: Address,
        /// Account that owns the position.
        pub account_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Amount in ETH; NULL without a price.
        pub quantity_eth: Option<f64>,
    }
}

/// Implements the conversion to a [`FoldEvent`] for a row type with these columns.
macro_rules! fold_event {
    ($row:ident) => {
        impl $row {
            /// Returns the event as an input of the fold.
            #[must_use]
            pub fn fold_event(&self, category: Category) -> FoldEvent<'_> {
                FoldEvent {
                    category,
                    sender: self.sender_address,
                    account: self.account_address,
                    protocol: &self.protocol,
                    time: self.epoch_timestamp,
                    quantity_eth: self.quantity_eth,
                }
            }
        }
    };
}

fold_event!(FoldEventRow);
fold_event!(BlockEventRow);

row! {
    /// A priced event and its position in the chain, used to compute features as of just before a block.
    pub struct BlockEventRow {
        /// Block number.
        pub block_number: i64,
        /// Transaction hash.
        pub transaction_hash: TxHash,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Account that sent the transaction.
        pub sender_address: Address,
        /// Account that owns the position.
        pub account_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Amount in ETH; NULL without a price.
        pub quantity_eth: Option<f64>,
    }
}

row! {
    /// A borrow, before which features are computed.
    pub struct BorrowRow {
        /// Block number.
        pub block_number: i64,
        /// Transaction hash.
        pub transaction_hash: TxHash,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Account that sent the transaction.
        pub sender_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Token.
        pub token_address: Address,
        /// Time of the block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
        /// Amount in ETH; NULL without a price.
        pub quantity_eth: Option<f64>,
    }
}

/// The values against which events are validated.
#[derive(Debug, Clone, Copy)]
pub struct EventRules<'a> {
    /// The category of the table.
    pub category: Category,
    /// The day of the unit.
    pub day: Day,
    /// The configured protocols, such as `aave-v2-eth`.
    pub protocols: &'a [&'a str],
}

/// The log of an event: its transaction hash and its index in the block. At most one valid event of a day has a given
/// log, over all categories.
pub type EventKey = (TxHash, i64);

impl RawEvent {
    /// Returns the key of the event that the row would be if it were valid. `None` if no valid row has such values.
    #[must_use]
    pub fn key(&self) -> Option<EventKey> {
        parse_key(&self.transaction_hash, &self.log_index).ok()
    }
}

impl RawEventKey {
    /// Returns the key, as [`RawEvent::key`] does.
    #[must_use]
    pub fn key(&self) -> Option<EventKey> {
        parse_key(&self.transaction_hash, &self.log_index).ok()
    }
}

fn parse_key(transaction_hash: &Option<Arc<str>>, log_index: &Option<Arc<str>>) -> Result<EventKey, Reason> {
    Ok((hex_bytes("transaction_hash", transaction_hash)?, integer("log_index", log_index)?))
}

impl StagedEvent {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> EventKey {
        (self.transaction_hash, self.log_index)
    }

    /// Validates and converts a raw row.
    ///
    /// # Errors
    /// The reason for which the row is rejected.
    pub fn from_raw(raw: &RawEvent, rules: EventRules<'_>) -> Result<Self, Reason> {
        let seconds = parse_timestamp(&raw.timestamp, rules.day)?;
        let repaid = match rules.category {
            Category::Liquidation => Some((
                hex_bytes("liquidated_token_address", &raw.liquidated_token_address)?,
                base_units("quantity_liquidated", &raw.quantity_liquidated)?,
            )),
            _ => None,
        };
        let sender_address = hex_bytes("sender_address", &raw.sender_address)?;
        let (transaction_hash, log_index) = parse_key(&raw.transaction_hash, &raw.log_index)?;
        Ok(StagedEvent {
            sender_address,
            transaction_hash,
            log_index,
            block_number: integer("block_number", &raw.block_number)?,
            timestamp: Timestamp::from_epoch_seconds(seconds),
            epoch_timestamp: seconds,
            protocol: parse_protocol(raw, rules.protocols)?,
            category: parse_category(raw, rules.category)?,
            account_address: hex_bytes("account_address", &raw.account_address)?,
            market_address: raw.market_address.as_deref().map(lower_case),
            token_address: hex_bytes("token_address", &raw.token_address)?,
            token_id: raw.token_id.clone(),
            quantity: base_units("quantity", &raw.quantity)?,
            liquidator_address: raw.liquidator_address.as_deref().map(lower_case),
            liquidated_token_address: repaid.map(|(token, _)| token),
            quantity_liquidated: repaid.map(|(_, quantity)| quantity),
            metadata: raw.metadata.clone(),
        })
    }
}

fn lower_case(text: &str) -> Arc<str> {
    text.to_ascii_lowercase().into()
}

fn parse_protocol(raw: &RawEvent, protocols: &[&str]) -> Result<Arc<str>, Reason> {
    let name = required("protocol_name", &raw.protocol_name)?;
    let version = required("contract_version", &raw.contract_version)?;
    let protocol = format!("{name}-{version}-eth");
    if protocols.contains(&protocol.as_str()) {
        Ok(protocol.into())
    } else {
        Err(Reason::new("protocol", "is unknown"))
    }
}

fn parse_category(raw: &RawEvent, category: Category) -> Result<Category, Reason> {
    let name = required("category", &raw.category)?;
    if name == category.name() { Ok(category) } else { Err(Reason::new("category", "is not that of the table")) }
}

/// Parses a time, which must be within the day. Returns epoch seconds: a block's time is in whole seconds, so that a
/// fraction is dropped.
fn parse_timestamp(text: &Option<Arc<str>>, day: Day) -> Result<i64, Reason> {
    let time = parse_time(required("timestamp", text)?).ok_or(Reason::new("timestamp", "is malformed"))?;
    let seconds = time.as_second();
    if day.seconds().contains(&seconds) { Ok(seconds) } else { Err(Reason::new("timestamp", "is outside the day")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "0x8EC16C03888Ad3e21C5CF5F1dFd9C9b9f8990071";

    fn raw(category: &str) -> RawEvent {
        let text = |text: &str| Some(text.into());
        RawEvent {
            block_number: text("16308670"),
            log_index: text("2"),
            timestamp: text("2023-02-20T23:59:59Z"),
            transaction_hash: Some(format!("0x{}", "AB".repeat(32)).into()),
            protocol_name: text("aave"),
            contract_version: text("v2"),
            market_address: text("0xAbC"),
            token_address: text(ADDRESS),
            token_id: None,
            category: text(category),
            account_address: text(ADDRESS),
            sender_address: text(ADDRESS),
            quantity: text("7"),
            liquidator_address: text("0xDEF"),
            liquidated_token_address: None,
            quantity_liquidated: None,
            metadata: None,
        }
    }

    fn stage(raw: &RawEvent, category: Category) -> Result<StagedEvent, String> {
        let day = "2023-02-20".parse().unwrap();
        let rules = EventRules { category, day, protocols: &["aave-v2-eth"] };
        StagedEvent::from_raw(raw, rules).map_err(|reason| reason.to_string())
    }

    #[test]
    fn addresses_and_hashes_become_lower_case() {
        let event = stage(&raw("borrow"), Category::Borrow).unwrap();
        assert_eq!(event.sender_address.to_string(), ADDRESS.to_lowercase());
        assert_eq!(event.transaction_hash.to_string(), format!("0x{}", "ab".repeat(32)));
        assert_eq!((event.market_address.as_deref(), &*event.protocol), (Some("0xabc"), "aave-v2-eth"));
        assert_eq!(event.epoch_timestamp, 1_676_937_599);
    }

    #[test]
    fn key_is_that_of_the_valid_row() {
        let row = raw("borrow");
        let key = stage(&row, Category::Borrow).unwrap().key();
        let columns = |row: &RawEvent| RawEventKey {
            transaction_hash: row.transaction_hash.clone(),
            log_index: row.log_index.clone(),
        };
        assert_eq!((row.key(), columns(&row).key()), (Some(key), Some(key)));
        let without = RawEvent { log_index: None, ..row };
        assert_eq!((without.key(), columns(&without).key()), (None, None));
    }

    #[test]
    fn a_timestamp_is_read_in_each_form_of_a_time() {
        for text in ["2023-02-20 23:59:59", "2023-02-21T01:59:59.999+02:00", "1676937599"] {
            let event = RawEvent { timestamp: Some(text.into()), ..raw("borrow") };
            assert_eq!(stage(&event, Category::Borrow).unwrap().epoch_timestamp, 1_676_937_599, "{text}");
        }
        let event = RawEvent { timestamp: Some("2023-02-20".into()), ..raw("borrow") };
        assert_eq!(stage(&event, Category::Borrow).unwrap_err(), "timestamp is malformed");
    }

    #[test]
    fn market_and_liquidator_are_kept_without_a_check() {
        let event = RawEvent { market_address: None, ..raw("borrow") };
        assert_eq!(stage(&event, Category::Borrow).unwrap().market_address, None);
        let event = RawEvent { liquidator_address: Some("No Address".into()), ..raw("borrow") };
        assert_eq!(stage(&event, Category::Borrow).unwrap().liquidator_address.as_deref(), Some("no address"));
    }

    #[test]
    fn event_needs_every_checked_field() {
        type Clear = fn(&mut RawEvent);
        let fields: [(Clear, &str); 11] = [
            (|e| e.sender_address = None, "sender_address"),
            (|e| e.transaction_hash = None, "transaction_hash"),
            (|e| e.log_index = None, "log_index"),
            (|e| e.block_number = None, "block_number"),
            (|e| e.timestamp = None, "timestamp"),
            (|e| e.protocol_name = None, "protocol_name"),
            (|e| e.contract_version = None, "contract_version"),
            (|e| e.category = None, "category"),
            (|e| e.account_address = None, "account_address"),
            (|e| e.token_address = None, "token_address"),
            (|e| e.quantity = None, "quantity"),
        ];
        for (clear, field) in fields {
            let mut event = raw("borrow");
            clear(&mut event);
            assert_eq!(stage(&event, Category::Borrow).unwrap_err(), format!("{field} is missing"));
        }
    }

    #[test]
    fn repaid_debt_is_not_checked_outside_liquidations() {
        let event = RawEvent { quantity_liquidated: Some("bad".into()), ..raw("borrow") };
        let event = stage(&event, Category::Borrow).unwrap();
        assert_eq!((event.liquidated_token_address, event.quantity_liquidated), (None, None));
    }

    #[test]
    fn each_invalid_field_has_its_reason() {
        type Mutation = fn(&mut RawEvent);
        let mutations: [(Mutation, &str); 11] = [
            (|e| e.sender_address = None, "sender_address is missing"),
            (|e| e.account_address = Some("0x1234".into()), "account_address is malformed"),
            (|e| e.token_address = Some("USDC".into()), "token_address is malformed"),
            (|e| e.transaction_hash = Some(ADDRESS.into()), "transaction_hash is malformed"),
            (|e| e.quantity = Some("1.5".into()), "quantity is not an integer"),
            (|e| e.quantity = Some("-7".into()), "quantity is negative"),
            (|e| e.quantity = Some("9".repeat(39).into()), "quantity is 10^38 or more"),
            (|e| e.log_index = None, "log_index is missing"),
            (|e| e.timestamp = Some("2023-02-21T00:00:00Z".into()), "timestamp is outside the day"),
            (|e| e.contract_version = Some("v9".into()), "protocol is unknown"),
            (|e| e.category = Some("flashloan".into()), "category is not that of the table"),
        ];
        for (mutate, reason) in mutations {
            let mut event = raw("borrow");
            mutate(&mut event);
            assert_eq!(stage(&event, Category::Borrow).unwrap_err(), reason);
        }
    }

    #[test]
    fn key_of_a_raw_row_is_that_of_its_event() {
        let raw = raw("borrow");
        let event = stage(&raw, Category::Borrow).unwrap();
        let lower = RawEvent {
            transaction_hash: Some(event.transaction_hash.to_string().into()),
            log_index: Some("002".into()),
            ..raw.clone()
        };
        assert_eq!([raw.key(), lower.key()], [Some(event.key()); 2]);
        assert_eq!(RawEvent { log_index: Some("2.0".into()), ..raw }.key(), None);
    }

    #[test]
    fn liquidation_requires_repaid_token_and_quantity() {
        let mut event = raw("liquidation");
        assert_eq!(stage(&event, Category::Liquidation).unwrap_err(), "liquidated_token_address is missing");
        event.liquidated_token_address = Some(ADDRESS.into());
        assert_eq!(stage(&event, Category::Liquidation).unwrap_err(), "quantity_liquidated is missing");
        event.quantity_liquidated = Some("3".into());
        assert_eq!(stage(&event, Category::Liquidation).unwrap().quantity_liquidated, Some(BaseUnits(3)));
    }
}
