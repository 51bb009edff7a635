//! Conversions from rows of the sources to rows of the raw layer that several steps use.

use std::sync::Arc;

use alloy_primitives::U256;

use crate::config::OraclePrices;
use crate::domain::decimal;
use crate::domain::price::PriceUnit;
use crate::sources::Text;
use crate::sources::graph::{Position, Reserve, UserReserve};
use crate::tables::{RawMarket, RawPosition, Timestamp};

/// The decimals of a percentage in basis points, and of the prices of an oracle in ETH and in US dollars.
const PERCENT_DECIMALS: usize = 2;
const ETH_DECIMALS: usize = 18;
const USD_DECIMALS: usize = 8;

/// Converts a position of The Graph, and adds the protocol and block of its snapshot.
#[must_use]
pub fn raw_position(
    position: Position,
    protocol: &Arc<str>,
    block_number: i64,
    block_timestamp: Timestamp,
) -> RawPosition {
    RawPosition {
        id: position.id.0,
        balance: position.balance.0,
        side: position.side.0,
        is_collateral: position.is_collateral.0,
        market_id: position.market_id.0,
        market_name: position.market_name.0,
        account_id: position.account_id.0,
        enabled_collaterals: position.enabled_collaterals.0,
        protocol: Arc::clone(protocol),
        block_number,
        block_timestamp,
        ..RawPosition::default()
    }
}

/// Converts a reserve of one of Aave's own subgraphs, and adds the protocol and block of its snapshot. Percentages and prices
/// get their decimal points; a text that is no integer stays as it is.
#[must_use]
pub fn raw_reserve(
    reserve: Reserve,
    prices: OraclePrices,
    protocol: &str,
    block_number: i64,
    block_timestamp: Timestamp,
) -> RawMarket {
    let (unit, decimals) = match prices {
        OraclePrices::Eth => (PriceUnit::Eth, ETH_DECIMALS),
        OraclePrices::Usd => (PriceUnit::Usd, USD_DECIMALS),
    };
    RawMarket {
        id: reserve.a_token.0,
        name: reserve.name.0,
        maximum_ltv: with_decimals(&reserve.base_ltv, PERCENT_DECIMALS),
        liquidation_threshold: with_decimals(&reserve.liquidation_threshold, PERCENT_DECIMALS),
        input_token_price_usd: with_decimals(&reserve.price, decimals),
        input_token_id: reserve.underlying_asset.0,
        input_token_symbol: reserve.symbol.0,
        input_token_decimals: reserve.decimals.0,
        price_unit: Some(unit.name().into()),
        supply_index: reserve.liquidity_index.0,
        debt_index: reserve.variable_borrow_index.0,
        total_debt: reserve.scaled_variable_debt.0,
        supply_rate: reserve.liquidity_rate.0,
        debt_rate: reserve.variable_borrow_rate.0,
        index_time: reserve.last_update.0,
        total_supply: reserve.supply.0,
        treasury_mints: reserve.treasury_mints.0,
        price_time: reserve.price_time.0,
        protocol: protocol.into(),
        block_number,
        block_timestamp,
        ..RawMarket::default()
    }
}

/// Converts the balances of a user in a reserve of one of Aave's own subgraphs, and adds the protocol and block of their
/// snapshot.
#[must_use]
pub fn raw_user_reserve(
    row: UserReserve,
    protocol: &Arc<str>,
    block_number: i64,
    block_timestamp: Timestamp,
) -> RawPosition {
    RawPosition {
        id: row.id.0,
        is_collateral: row.is_collateral.0,
        market_id: row.a_token.0,
        market_name: row.name.0,
        account_id: row.user.0,
        scaled_supply: row.scaled_supply.0,
        scaled_variable_debt: row.scaled_variable_debt.0,
        stable_debt: row.stable_debt.0,
        stable_debt_rate: row.stable_rate.0,
        stable_debt_time: row.stable_last_update.0,
        protocol: Arc::clone(protocol),
        block_number,
        block_timestamp,
        ..RawPosition::default()
    }
}

/// Writes an integer as a decimal fraction, exactly. Returns any other text unchanged.
fn with_decimals(text: &Text, decimals: usize) -> Option<Arc<str>> {
    let is_integer = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let integer = text.as_deref().filter(is_integer).and_then(|text| text.parse::<U256>().ok());
    integer.map_or_else(|| text.0.clone(), |integer| Some(decimal(integer, decimals).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_get_their_decimal_point_and_other_texts_stay() {
        for (text, expected) in [
            (Some("8250"), Some("82.5")),
            (Some("0"), Some("0")),
            (Some("-1"), Some("-1")),
            (Some("0x10"), Some("0x10")),
            (Some(""), Some("")),
            (Some("82.5"), Some("82.5")),
            (None, None),
        ] {
            let text = Text(text.map(Arc::from));
            assert_eq!(with_decimals(&text, 2).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn prices_have_the_unit_of_the_oracle() {
        let price = |prices, price: &str| {
            let reserve = Reserve { price: price.into(), ..Reserve::default() };
            let raw = raw_reserve(reserve, prices, "aave-v2-eth", 1, Timestamp(0));
            (raw.price_unit.unwrap().to_string(), raw.input_token_price_usd.unwrap().to_string())
        };
        assert_eq!(price(OraclePrices::Eth, "500000000000000"), ("ETH".to_owned(), "0.0005".to_owned()));
        assert_eq!(price(OraclePrices::Usd, "164000000000"), ("USD".to_owned(), "1640".to_owned()));
    }
}
