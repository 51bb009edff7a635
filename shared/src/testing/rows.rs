//! Valid rows from few arguments. A test changes what it is about: `StagedEvent { quantity, ..staged_event(…) }`.

use std::sync::Arc;

use crate::domain::health::Health;
use crate::domain::{Address, BaseUnits, Category, Day, HexBytes, Link, Side, TxHash, WETH};
use crate::tables::{
    DailyBlock, PricedEvent, RawEvent, RawMarket, RawPosition, StagedEvent, StagedMarket, StagedPosition, Timestamp,
    WalletHealth, WalletLink,
};

use super::AAVE;

/// Ethereum's blocks a day, so that every day has a first block of its own.
const BLOCKS_PER_DAY: i64 = 7_200;

/// An address of one byte, again and again: `address(0xda)` is `0xdada…da`.
#[must_use]
pub fn address(byte: u8) -> Address {
    HexBytes([byte; 20])
}

/// The base units of whole tokens with 18 decimals.
#[must_use]
pub fn whole(tokens: i128) -> BaseUnits {
    BaseUnits(tokens * 1_000_000_000_000_000_000)
}

/// The number of a day's first block.
#[must_use]
pub fn first_block(day: Day) -> i64 {
    i64::from(day.epoch_days()) * BLOCKS_PER_DAY
}

/// The row of a day's first block, 11 seconds after midnight.
#[must_use]
pub fn daily_block(day: Day) -> DailyBlock {
    DailyBlock {
        day,
        block_number: first_block(day),
        timestamp: Timestamp::from_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
        block_hash: None,
    }
}

fn text(text: impl ToString) -> Option<Arc<str>> {
    Some(text.to_string().into())
}

/// An event of Aave at a time, as Transpose gives it: one WETH by and for `0x0101…01`; of a liquidation one `0x0d0d…0d` of
/// debt was repaid.
#[must_use]
pub fn raw_event(category: Category, time: i64, log_index: i64) -> RawEvent {
    let is_liquidation = category == Category::Liquidation;
    let second = jiff::Timestamp::from_second(time).unwrap_or_default();
    RawEvent {
        block_number: text(time / 12),
        log_index: text(log_index),
        timestamp: text(second),
        transaction_hash: text(hash(address(1), time)),
        protocol_name: text("aave"),
        contract_version: text("v2"),
        market_address: None,
        token_address: text(WETH),
        token_id: None,
        category: text(category),
        account_address: text(address(1)),
        sender_address: text(address(1)),
        quantity: text(whole(1).0),
        liquidator_address: None,
        liquidated_token_address: is_liquidation.then(|| address(0x0d).to_string().into()),
        quantity_liquidated: is_liquidation.then(|| whole(1).0.to_string().into()),
        metadata: None,
    }
}

/// A hash that sender and time make unlike others.
fn hash(sender: Address, time: i64) -> TxHash {
    let [byte, ..] = sender.0;
    let mut hash = [byte; 32];
    hash[24..].copy_from_slice(&time.to_be_bytes());
    HexBytes(hash)
}

/// An event of Aave at a time, of one WETH; of a liquidation one `0x0d0d…0d` of debt was repaid.
#[must_use]
pub fn staged_event(category: Category, sender: Address, account: Address, time: i64) -> StagedEvent {
    let is_liquidation = category == Category::Liquidation;
    StagedEvent {
        sender_address: sender,
        transaction_hash: hash(sender, time),
        log_index: 0,
        block_number: time / 12,
        timestamp: Timestamp::from_seconds(time),
        epoch_timestamp: time,
        protocol: AAVE.into(),
        category,
        account_address: account,
        market_address: None,
        token_address: WETH,
        token_id: None,
        quantity: whole(1),
        liquidator_address: None,
        liquidated_token_address: is_liquidation.then(|| address(0x0d)),
        quantity_liquidated: is_liquidation.then(|| whole(1)),
        metadata: None,
    }
}

/// An event of Aave at a time, with its amount in ETH or without a price.
#[must_use]
pub fn priced_event(
    category: Category,
    sender: Address,
    account: Address,
    time: i64,
    quantity_eth: impl Into<Option<f64>>,
) -> PricedEvent {
    let event = staged_event(category, sender, account, time);
    let quantity_eth = quantity_eth.into();
    PricedEvent {
        index_address: if category == Category::Liquidation { account } else { sender },
        transaction_hash: event.transaction_hash,
        log_index: event.log_index,
        block_number: event.block_number,
        timestamp: event.timestamp,
        epoch_timestamp: event.epoch_timestamp,
        protocol: event.protocol,
        category: event.category,
        sender_address: event.sender_address,
        account_address: event.account_address,
        market_address: event.market_address,
        token_address: event.token_address,
        quantity: event.quantity,
        quantity_eth,
        price_eth: quantity_eth,
        token_decimals: quantity_eth.map(|_| 18),
        price_day: quantity_eth.map(|_| Day::of_seconds(time)),
        price_protocol: quantity_eth.map(|_| AAVE.into()),
        price_market_id: quantity_eth.map(|_| WETH),
        liquidation_threshold: quantity_eth.map(|_| 0.8),
        liquidator_address: event.liquidator_address,
        liquidated_token_address: event.liquidated_token_address,
        quantity_liquidated: event.quantity_liquidated,
    }
}

/// A market, as The Graph gives it: 75 % LTV, a threshold of 80 %, 18 decimals.
#[must_use]
pub fn raw_market(protocol: &str, day: Day, market: Address, token: Address, price_usd: &str) -> RawMarket {
    RawMarket {
        id: text(market),
        name: None,
        maximum_ltv: text("75"),
        liquidation_threshold: text("80"),
        input_token_price_usd: text(price_usd),
        input_token_id: text(token),
        input_token_symbol: None,
        input_token_decimals: text("18"),
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_seconds(day.start() + 11),
    }
}

/// A market: 75 % LTV, a threshold of 80 %, 18 decimals.
#[must_use]
pub fn staged_market(protocol: &str, day: Day, market: Address, token: Address, price_usd: f64) -> StagedMarket {
    StagedMarket {
        market_id: market,
        name: None,
        input_token_address: token,
        input_token_symbol: None,
        input_token_decimals: 18,
        input_token_price_usd: Some(price_usd),
        maximum_ltv: 0.75,
        liquidation_threshold: 0.8,
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
    }
}

/// An open position, as The Graph gives it; a supply is enabled as collateral.
#[must_use]
pub fn raw_position(
    protocol: &str,
    day: Day,
    account: Address,
    market: Address,
    side: &str,
    balance: &str,
) -> RawPosition {
    RawPosition {
        id: Some(format!("{account}-{market}-{side}-0").into()),
        balance: text(balance),
        side: text(side),
        is_collateral: text(side != "BORROWER"),
        market_id: text(market),
        market_name: None,
        account_id: text(account),
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_seconds(day.start() + 11),
    }
}

/// An open position of whole tokens with 18 decimals; a supply is enabled as collateral.
#[must_use]
pub fn staged_position(
    protocol: &str,
    day: Day,
    account: Address,
    market: Address,
    side: Side,
    tokens: i128,
) -> StagedPosition {
    StagedPosition {
        account_address: account,
        id: format!("{account}-{market}-{}-0", side.name()).into(),
        market_id: market,
        market_name: None,
        side,
        balance: whole(tokens),
        is_collateral: Some(side == Side::Lender),
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
    }
}

/// A link of a wallet to an account from a time on.
#[must_use]
pub fn link(wallet: Address, account: Address, since: i64) -> WalletLink {
    Link { account, wallet, since }.into()
}

/// The health of one account on Aave on one day, for a wallet: all collateral has an LTV of 75 % and a threshold of 80 %.
#[must_use]
pub fn wallet_health(wallet: Address, account: Address, day: Day, collateral_eth: f64, debt_eth: f64) -> WalletHealth {
    let health = Health {
        collateral_eth,
        threshold_weighted_eth: collateral_eth * 0.8,
        borrow_power_eth: collateral_eth * 0.75,
        debt_eth,
    };
    WalletHealth {
        wallet_address: wallet,
        account_address: account,
        protocol: AAVE.into(),
        day,
        collateral_eth,
        threshold_weighted_collateral_eth: health.threshold_weighted_eth,
        borrow_power_eth: health.borrow_power_eth,
        debt_eth,
        available_borrows_eth: health.available_eth(),
        risk_factor: health.risk(),
    }
}
