//! Reserves and users' balances in the schema of Aave's own subgraphs. Balances are scaled by the indexes of their reserve.

use serde::Deserialize;

use super::rows::Entity;
use crate::sources::text::{Lenient, Text, TextRow};

/// A reserve of an Aave pool at a block: a lending market.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserve {
    /// `id`: `{token}{pool}`.
    pub id: Text,
    /// `aToken { id }`: the token of supplies, which identifies the market.
    pub a_token: Text,
    /// `underlyingAsset`: the token that is lent.
    pub underlying_asset: Text,
    /// `name` of that token.
    pub name: Text,
    /// `symbol` of that token.
    pub symbol: Text,
    /// `decimals` of that token.
    pub decimals: Text,
    /// `baseLTVasCollateral`, in basis points.
    pub base_ltv: Text,
    /// `reserveLiquidationThreshold`, in basis points.
    pub liquidation_threshold: Text,
    /// `price { priceInEth }`: the price in the oracle of the pool.
    pub price: Text,
    /// `price { lastUpdateTimestamp }`: when the subgraph last saw that price change.
    pub price_time: Text,
    /// `liquidityIndex`, in rays, at `last_update`.
    pub liquidity_index: Text,
    /// `liquidityRate`: the yearly rate of supplies, in rays.
    pub liquidity_rate: Text,
    /// `variableBorrowIndex`, in rays, at `last_update`.
    pub variable_borrow_index: Text,
    /// `variableBorrowRate`: the yearly rate of debts, in rays.
    pub variable_borrow_rate: Text,
    /// `lastUpdateTimestamp`, in seconds since 1 January 1970 UTC.
    pub last_update: Text,
    /// `totalScaledVariableDebt`.
    pub scaled_variable_debt: Text,
    /// `totalATokenSupply`: the sum of all supplies at `last_update`, with those of the pool's treasury.
    pub supply: Text,
    /// `lifetimeReserveFactorAccrued`: what was minted to the treasury, which no user's balance has.
    pub treasury_mints: Text,
}

/// The balances of a user in a reserve, at a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserReserve {
    /// `id`: `{user}{token}{pool}`.
    pub id: Text,
    /// `user { id }`.
    pub user: Text,
    /// `reserve { aToken { id } }`: the market.
    pub a_token: Text,
    /// `reserve { name }`.
    pub name: Text,
    /// `usageAsCollateralEnabledOnUser`: whether the supply is enabled as collateral.
    pub is_collateral: Text,
    /// `scaledATokenBalance`.
    pub scaled_supply: Text,
    /// `scaledVariableDebt`.
    pub scaled_variable_debt: Text,
    /// `principalStableDebt`: the debt at a stable rate at `stable_last_update`.
    pub stable_debt: Text,
    /// `stableBorrowRate`: its yearly rate, in rays.
    pub stable_rate: Text,
    /// `stableBorrowLastUpdateTimestamp`, in seconds since 1 January 1970 UTC.
    pub stable_last_update: Text,
}

impl TextRow for Reserve {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        let Reserve {
            id,
            a_token,
            underlying_asset,
            name,
            symbol,
            decimals,
            base_ltv,
            liquidation_threshold,
            price,
            price_time,
            liquidity_index,
            liquidity_rate,
            variable_borrow_index,
            variable_borrow_rate,
            last_update,
            scaled_variable_debt,
            supply,
            treasury_mints,
        } = self;
        [id, a_token, underlying_asset, name, symbol, decimals, base_ltv, liquidation_threshold]
            .into_iter()
            .for_each(&mut *visit);
        [price, liquidity_index, liquidity_rate, variable_borrow_index, variable_borrow_rate]
            .into_iter()
            .for_each(&mut *visit);
        [last_update, scaled_variable_debt, price_time, supply, treasury_mints].into_iter().for_each(visit);
    }

    /// Visits no field: a page contains each reserve once.
    fn for_each_repeated(&mut self, _: &mut impl FnMut(&mut Text)) {}
}

impl TextRow for UserReserve {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        let UserReserve {
            id,
            user,
            a_token,
            name,
            is_collateral,
            scaled_supply,
            scaled_variable_debt,
            stable_debt,
            stable_rate,
            stable_last_update,
        } = self;
        [id, user, a_token, name, is_collateral, scaled_supply].into_iter().for_each(&mut *visit);
        [scaled_variable_debt, stable_debt, stable_rate, stable_last_update].into_iter().for_each(visit);
    }

    fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text)) {
        let UserReserve {
            id: _,
            user,
            a_token,
            name,
            is_collateral,
            scaled_supply: _,
            scaled_variable_debt,
            stable_debt,
            stable_rate,
            stable_last_update,
        } = self;
        // Most users have no debts: zeros.
        [user, a_token, name, is_collateral, scaled_variable_debt].into_iter().for_each(&mut *visit);
        [stable_debt, stable_rate, stable_last_update].into_iter().for_each(visit);
    }
}

impl Entity for Reserve {
    const QUERY: &'static str = "query Reserves($block: Int!, $first: Int!, $where: Reserve_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        reserves(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id underlyingAsset name symbol decimals baseLTVasCollateral reserveLiquidationThreshold liquidityIndex \
        liquidityRate variableBorrowIndex variableBorrowRate lastUpdateTimestamp totalScaledVariableDebt \
        totalATokenSupply lifetimeReserveFactorAccrued price { priceInEth lastUpdateTimestamp } aToken { id } } }";
    type Json = ReserveJson;

    fn from_json(json: ReserveJson) -> Self {
        let price = json.price.0;
        Reserve {
            id: json.id,
            a_token: json.a_token.0.id,
            underlying_asset: json.underlying_asset,
            name: json.name,
            symbol: json.symbol,
            decimals: json.decimals,
            base_ltv: json.base_ltv,
            liquidation_threshold: json.reserve_liquidation_threshold,
            price: price.price_in_eth,
            price_time: price.last_update_timestamp,
            liquidity_index: json.liquidity_index,
            liquidity_rate: json.liquidity_rate,
            variable_borrow_index: json.variable_borrow_index,
            variable_borrow_rate: json.variable_borrow_rate,
            last_update: json.last_update_timestamp,
            scaled_variable_debt: json.total_scaled_variable_debt,
            supply: json.supply,
            treasury_mints: json.lifetime_reserve_factor_accrued,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Entity for UserReserve {
    const QUERY: &'static str = "query UserReserves($block: Int!, $first: Int!, $where: UserReserve_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        userReserves(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id usageAsCollateralEnabledOnUser scaledATokenBalance scaledVariableDebt principalStableDebt stableBorrowRate \
        stableBorrowLastUpdateTimestamp user { id } reserve { name aToken { id } } } }";
    type Json = UserReserveJson;

    fn from_json(json: UserReserveJson) -> Self {
        let reserve = json.reserve.0;
        UserReserve {
            id: json.id,
            user: json.user.0.id,
            a_token: reserve.a_token.0.id,
            name: reserve.name,
            is_collateral: json.usage_as_collateral_enabled_on_user,
            scaled_supply: json.scaled_supply,
            scaled_variable_debt: json.scaled_variable_debt,
            stable_debt: json.principal_stable_debt,
            stable_rate: json.stable_borrow_rate,
            stable_last_update: json.stable_borrow_last_update_timestamp,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReserveJson {
    id: Text,
    underlying_asset: Text,
    name: Text,
    symbol: Text,
    decimals: Text,
    #[serde(rename = "baseLTVasCollateral")]
    base_ltv: Text,
    reserve_liquidation_threshold: Text,
    liquidity_index: Text,
    liquidity_rate: Text,
    variable_borrow_index: Text,
    variable_borrow_rate: Text,
    last_update_timestamp: Text,
    total_scaled_variable_debt: Text,
    #[serde(rename = "totalATokenSupply")]
    supply: Text,
    lifetime_reserve_factor_accrued: Text,
    price: Lenient<PriceJson>,
    a_token: Lenient<IdJson>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UserReserveJson {
    id: Text,
    usage_as_collateral_enabled_on_user: Text,
    #[serde(rename = "scaledATokenBalance")]
    scaled_supply: Text,
    scaled_variable_debt: Text,
    principal_stable_debt: Text,
    stable_borrow_rate: Text,
    stable_borrow_last_update_timestamp: Text,
    user: Lenient<IdJson>,
    reserve: Lenient<ReserveReferenceJson>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PriceJson {
    price_in_eth: Text,
    last_update_timestamp: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IdJson {
    id: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReserveReferenceJson {
    name: Text,
    a_token: Lenient<IdJson>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<E: Entity>(json: &str) -> E {
        E::from_json(serde_json::from_str::<Lenient<E::Json>>(json).unwrap().0)
    }

    #[test]
    fn flattens_a_reserve() {
        let reserve: Reserve = parse(
            r#"{"id": "0xa0xp", "underlyingAsset": "0xa", "name": "Wrapped Ether", "symbol": "WETH", "decimals": 18,
                "baseLTVasCollateral": "8250", "reserveLiquidationThreshold": "8600", "liquidityIndex": "1", "liquidityRate": "2",
                "variableBorrowIndex": "3", "variableBorrowRate": "4", "lastUpdateTimestamp": 5, "totalScaledVariableDebt": "6",
                "totalATokenSupply": "8", "lifetimeReserveFactorAccrued": "9",
                "price": {"priceInEth": "7", "lastUpdateTimestamp": 10}, "aToken": {"id": "0xc"}}"#,
        );
        let expected = Reserve {
            id: "0xa0xp".into(),
            a_token: "0xc".into(),
            underlying_asset: "0xa".into(),
            name: "Wrapped Ether".into(),
            symbol: "WETH".into(),
            decimals: "18".into(),
            base_ltv: "8250".into(),
            liquidation_threshold: "8600".into(),
            price: "7".into(),
            liquidity_index: "1".into(),
            liquidity_rate: "2".into(),
            variable_borrow_index: "3".into(),
            variable_borrow_rate: "4".into(),
            last_update: "5".into(),
            scaled_variable_debt: "6".into(),
            supply: "8".into(),
            treasury_mints: "9".into(),
            price_time: "10".into(),
        };
        assert_eq!(reserve, expected);
    }

    #[test]
    fn flattens_the_balances_of_a_user() {
        let row: UserReserve = parse(
            r#"{"id": "0xu0xa0xp", "usageAsCollateralEnabledOnUser": true, "scaledATokenBalance": "1", "scaledVariableDebt": "2",
                "principalStableDebt": "3", "stableBorrowRate": "4", "stableBorrowLastUpdateTimestamp": 5,
                "user": {"id": "0xu"}, "reserve": {"name": "Wrapped Ether", "aToken": {"id": "0xc"}}}"#,
        );
        let expected = UserReserve {
            id: "0xu0xa0xp".into(),
            user: "0xu".into(),
            a_token: "0xc".into(),
            name: "Wrapped Ether".into(),
            is_collateral: "true".into(),
            scaled_supply: "1".into(),
            scaled_variable_debt: "2".into(),
            stable_debt: "3".into(),
            stable_rate: "4".into(),
            stable_last_update: "5".into(),
        };
        assert_eq!(row, expected);
    }

    #[test]
    fn missing_fields_are_none() {
        assert_eq!(parse::<Reserve>(r#"{"price": null, "aToken": "0xc"}"#), Reserve::default());
        assert_eq!(parse::<UserReserve>(r#"{"reserve": {"aToken": null}}"#), UserReserve::default());
    }
}
