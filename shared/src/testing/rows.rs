//! Functions that create valid rows from few arguments. A test sets the fields that it tests:
//! `StagedEvent { quantity, ..staged_event(…) }`.

use std::sync::Arc;

use crate::domain::health::Health;
use crate::domain::{Address, BaseUnits, Category, Day, HexBytes, Link, Side, TxHash};
use crate::tables::{
    DailyBlock, PricedEvent, RawEvent, RawMarket, RawPosition, StagedEvent, StagedMarket, StagedPosition, Timestamp,
    WalletHealth, WalletLink,
};

use super::AAVE;

/// The number of blocks per day on Ethereum, so that every day has its own first block.
const BLOCKS_PER_DAY: i64 = 7_200;

/// Wrapped ether, as the built-in configuration has it.
pub const WETH: Address = HexBytes([
    0xc0, 0x2a, 0xaa, 0x39, 0xb2, 0x23, 0xfe, 0x8d, 0x0a, 0x0e, 0x5c, 0x4f, 0x27, 0xea, 0xd9, 0x08, 0x3c, 0x75, 0x6c,
    0xc2,
]);

/// Returns an address of one repeated byte: `address(0xda)` is `0xdada…da`.
#[must_use]
pub fn address(byte: u8) -> Address {
    HexBytes([byte; 20])
}

/// Returns the base units of a number of whole tokens with 18 decimals.
#[must_use]
pub fn whole(tokens: i128) -> BaseUnits {
    BaseUnits(tokens * 1_000_000_000_000_000_000)
}

/// Returns the number of a day's first block.
#[must_use]
pub fn first_block(day: Day) -> i64 {
    i64::from(day.epoch_days()) * BLOCKS_PER_DAY
}

/// Returns the row of a day's first block, 11 seconds after midnight.
#[must_use]
pub fn daily_block(day: Day) -> DailyBlock {
    DailyBlock {
        day,
        block_number: first_block(day),
        timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
        block_hash: None,
    }
}

fn text(text: impl ToString) -> Option<Arc<str>> {
    Some(text.to_string().into())
}

/// Returns an event of Aave as Transpose sends it, with an amount of one WETH and `0x0101…01` as sender and account. A
/// liquidation repays one token `0x0d0d…0d` of debt.
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

/// Returns a transaction hash that is unique to the sender and the time.
fn hash(sender: Address, time: i64) -> TxHash {
    let [byte, ..] = sender.0;
    let mut hash = [byte; 32];
    hash[24..].copy_from_slice(&time.to_be_bytes());
    HexBytes(hash)
}

/// Returns an event of Aave with an amount of one WETH. A liquidation repays one token `0x0d0d…0d` of debt.
#[must_use]
pub fn staged_event(category: Category, sender: Address, account: Address, time: i64) -> StagedEvent {
    let is_liquidation = category == Category::Liquidation;
    StagedEvent {
        sender_address: sender,
        transaction_hash: hash(sender, time),
        log_index: 0,
        block_number: time / 12,
        timestamp: Timestamp::from_epoch_seconds(time),
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

/// Returns an event of Aave with an amount in ETH, or without a price.
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
        price_day: quantity_eth.map(|_| Day::from_epoch_seconds(time)),
        price_protocol: quantity_eth.map(|_| AAVE.into()),
        price_market_id: quantity_eth.map(|_| WETH),
        liquidation_threshold: quantity_eth.map(|_| 0.8),
        liquidator_address: event.liquidator_address,
        liquidated_token_address: event.liquidated_token_address,
        quantity_liquidated: event.quantity_liquidated,
    }
}

/// Returns a market as The Graph sends it, with a maximum LTV of 75 %, a liquidation threshold of 80 % and 18 decimals.
#[must_use]
pub fn raw_market(protocol: &str, day: Day, market: Address, token: Address, price_usd: &str) -> RawMarket {
    RawMarket {
        id: text(market),
        maximum_ltv: text("75"),
        liquidation_threshold: text("80"),
        input_token_price_usd: text(price_usd),
        input_token_id: text(token),
        input_token_decimals: text("18"),
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
        ..RawMarket::default()
    }
}

/// Returns a market with a maximum LTV of 75 %, a liquidation threshold of 80 % and 18 decimals.
#[must_use]
pub fn staged_market(protocol: &str, day: Day, market: Address, token: Address, price_usd: f64) -> StagedMarket {
    StagedMarket {
        market_id: market,
        name: None,
        input_token_address: token,
        input_token_symbol: None,
        input_token_decimals: 18,
        input_token_price_usd: Some(price_usd),
        price_unit: None,
        total_deposit_balance_usd: None,
        total_borrow_balance_usd: None,
        maximum_ltv: 0.75,
        liquidation_threshold: 0.8,
        protocol: protocol.into(),
        block_number: first_block(day),
        block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
    }
}

/// Returns an open position as The Graph sends it. A supply position is enabled as collateral.
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
        block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
        ..RawPosition::default()
    }
}

/// Returns an open position of whole tokens with 18 decimals. A supply position is enabled as collateral.
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
        block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
        epoch_timestamp: day.start() + 11,
    }
}

/// Returns a link of a wallet to an account that is valid from a time on.
#[must_use]
pub fn link(wallet: Address, account: Address, since: i64) -> WalletLink {
    Link { account, wallet, since }.into()
}

/// Returns the health of an account of a wallet on Aave on a day. All collateral has a maximum LTV of 75 % and a
/// liquidation threshold of 80 %.
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
