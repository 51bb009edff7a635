//! Markets from an Ethereum node: what the contracts say at the day's first block.

use std::sync::Arc;

use alloy_primitives::{U256, uint};
use alloy_sol_types::{SolCall, sol};
use defi_shared::contracts::aave_v2::{AToken, AddressesProvider, Pool, PriceOracle};
use defi_shared::contracts::compound_v2::{CToken, Comptroller, PriceOracle as CompoundOracle};
use defi_shared::domain::price::PriceUnit;
use defi_shared::domain::replay::aave_v2::Reserve;
use defi_shared::domain::{Address, decimal};
use defi_shared::lake::FileMetadata;
use defi_shared::sources::ethereum::{Call, CallOutcome};
use defi_shared::step::Context;
use defi_shared::step::contracts::{CompoundMarket, Contracts, NATIVE_ETH, call, of_address, returned, to_address};
use defi_shared::step::snapshots::{RawPage, RawSnapshot};
use defi_shared::step::staging::{sort_and_dedup, text_sort_key};
use defi_shared::tables::{DailyBlock, RawMarket};
use defi_shared::{Error, Result};

sol! {
    /// What every token says of itself.
    interface Token {
        function symbol() external view returns (string);
        function decimals() external view returns (uint8);
    }
}

/// The decimals of prices in Aave's oracle.
const PRICE_DECIMALS: usize = 18;

/// The decimals of a price in Compound's oracle, together with those of the token.
const COMPOUND_PRICE_DECIMALS: usize = 36;

/// The price of ETH in an oracle that has its prices in ETH.
const ONE_ETH: U256 = uint!(1_000_000_000_000_000_000_U256);

/// Reads the markets of a protocol that are listed at the day's first block. A market whose price call fails has no price.
pub(crate) async fn fetch(
    context: Context,
    contracts: &Contracts,
    name: Arc<str>,
    block: DailyBlock,
) -> Result<RawSnapshot> {
    let markets = Markets { context: &context, protocol: &name, block: &block, number: block.number()? };
    let rows = match contracts {
        Contracts::AaveV2 { addresses_provider, pool, reserves } => {
            markets.of_aave(*addresses_provider, *pool, reserves).await?
        }
        Contracts::CompoundV2 { comptroller, markets: listed } => markets.of_compound(*comptroller, listed).await?,
    };
    let by_id = |rows: &mut Vec<RawMarket>| sort_and_dedup(rows, |row| text_sort_key(&row.id));
    Ok(RawSnapshot {
        deployment: contracts.deployment().to_string(),
        pages: vec![RawPage::new(rows, |row| row, by_id)?],
        metadata: FileMetadata::new(),
    })
}

/// The markets of one protocol at one block.
struct Markets<'a> {
    context: &'a Context,
    protocol: &'a str,
    block: &'a DailyBlock,
    number: u64,
}

impl Markets<'_> {
    async fn call(&self, calls: &[Call]) -> Result<Vec<CallOutcome>> {
        self.context.node()?.call(calls, self.number, &self.context.traffic).await
    }

    /// Returns whether a contract exists at the block.
    async fn exists(&self, contract: Address) -> Result<bool> {
        let code = self.context.node()?.has_code(&[contract], self.number, &self.context.traffic).await?;
        Ok(code.first() == Some(&true))
    }

    async fn of_aave(&self, provider: Address, pool: Address, reserves: &[Reserve]) -> Result<Vec<RawMarket>> {
        if !self.exists(pool).await? {
            return Ok(Vec::new());
        }
        let mut calls = vec![call(provider, &AddressesProvider::getPriceOracleCall {})];
        for reserve in reserves {
            let asset = of_address(&reserve.asset);
            calls.extend([
                call(pool, &Pool::getReserveDataCall { asset }),
                call(pool, &Pool::getReserveNormalizedIncomeCall { asset }),
                call(pool, &Pool::getReserveNormalizedVariableDebtCall { asset }),
                call(reserve.a_token, &AToken::scaledTotalSupplyCall {}),
                call(reserve.variable_debt_token, &AToken::scaledTotalSupplyCall {}),
                call(reserve.a_token, &Token::symbolCall {}),
                call(reserve.asset, &Token::symbolCall {}),
            ]);
        }
        let outcomes = self.call(&calls).await?;
        let (oracle, outcomes) = outcomes.split_first().ok_or_else(|| Error::internal("no answer to a call"))?;
        let prices = self.aave_prices(returned::<AddressesProvider::getPriceOracleCall>(oracle), reserves).await?;
        let mut rows = Vec::new();
        for ((reserve, answers), price) in reserves.iter().zip(outcomes.chunks(7)).zip(prices) {
            let [data, income, debt, supply, total_debt, name, symbol] = answers else { continue };
            let data = returned::<Pool::getReserveDataCall>(data);
            let Some(data) = data.filter(|data| !data.aTokenAddress.is_zero()) else { continue };
            let required = |value: Option<U256>| {
                value.ok_or_else(|| {
                    Error::corrupt("a contract of a listed reserve gives no answer").with("asset", reserve.asset)
                })
            };
            rows.push(RawMarket {
                maximum_ltv: text(decimal(bits(data.configuration, 0, 16), 2)),
                liquidation_threshold: text(decimal(bits(data.configuration, 16, 16), 2)),
                input_token_price_usd: price.map(|price| decimal(price, PRICE_DECIMALS).into()),
                input_token_decimals: text(bits(data.configuration, 48, 8)),
                price_unit: text(PriceUnit::Eth.name()),
                supply_index: text(required(returned::<Pool::getReserveNormalizedIncomeCall>(income))?),
                debt_index: text(required(returned::<Pool::getReserveNormalizedVariableDebtCall>(debt))?),
                own_token_supply: text(required(returned::<AToken::scaledTotalSupplyCall>(supply))?),
                total_debt: text(required(returned::<AToken::scaledTotalSupplyCall>(total_debt))?),
                stable_debt_token: text(to_address(data.stableDebtTokenAddress)),
                variable_debt_token: text(to_address(data.variableDebtTokenAddress)),
                ..self.market(reserve.a_token, reserve.asset, name, Some(symbol))
            });
        }
        Ok(rows)
    }

    /// Returns the prices of reserves in wei. `None`: the call failed or gave 0.
    async fn aave_prices(
        &self,
        oracle: Option<alloy_primitives::Address>,
        reserves: &[Reserve],
    ) -> Result<Vec<Option<U256>>> {
        let Some(oracle) = oracle else { return Ok(vec![None; reserves.len()]) };
        let price = |reserve: &Reserve| {
            call(to_address(oracle), &PriceOracle::getAssetPriceCall { asset: of_address(&reserve.asset) })
        };
        let outcomes = self.call(&reserves.iter().map(price).collect::<Vec<_>>()).await?;
        Ok(outcomes.iter().map(usable::<PriceOracle::getAssetPriceCall>).collect())
    }

    async fn of_compound(&self, comptroller: Address, markets: &[CompoundMarket]) -> Result<Vec<RawMarket>> {
        if !self.exists(comptroller).await? {
            return Ok(Vec::new());
        }
        let mut calls = vec![call(comptroller, &Comptroller::oracleCall {})];
        for market in markets {
            let token = if market.underlying == NATIVE_ETH { market.c_token } else { market.underlying };
            calls.extend([
                call(comptroller, &Comptroller::marketsCall { cToken: of_address(&market.c_token) }),
                call(market.c_token, &CToken::exchangeRateStoredCall {}),
                call(market.c_token, &CToken::borrowIndexCall {}),
                call(market.c_token, &CToken::totalSupplyCall {}),
                call(market.c_token, &CToken::totalBorrowsCall {}),
                call(market.c_token, &Token::symbolCall {}),
                call(token, &Token::symbolCall {}),
                call(token, &Token::decimalsCall {}),
            ]);
        }
        let outcomes = self.call(&calls).await?;
        let (oracle, outcomes) = outcomes.split_first().ok_or_else(|| Error::internal("no answer to a call"))?;
        let prices = self.compound_prices(returned::<Comptroller::oracleCall>(oracle), markets).await?;
        let eth = markets.iter().zip(&prices).find(|(market, _)| market.underlying == NATIVE_ETH);
        let unit = if eth.is_some_and(|(_, price)| *price == Some(ONE_ETH)) { PriceUnit::Eth } else { PriceUnit::Usd };
        let mut rows = Vec::new();
        for ((market, answers), price) in markets.iter().zip(outcomes.chunks(8)).zip(prices) {
            let [listing, rate, index, supply, borrows, name, symbol, decimals] = answers else { continue };
            let listing = returned::<Comptroller::marketsCall>(listing);
            let Some(listing) = listing.filter(|listing| listing.isListed) else { continue };
            let missing =
                || Error::corrupt("a contract of a listed market gives no answer").with("market", market.c_token);
            let is_eth = market.underlying == NATIVE_ETH;
            let decimals = match returned::<Token::decimalsCall>(decimals) {
                _ if is_eth => PRICE_DECIMALS,
                decimals => decimals.map(usize::from).ok_or_else(missing)?,
            };
            let factor = decimal(listing.collateralFactorMantissa, PRICE_DECIMALS - 2);
            let price_decimals = COMPOUND_PRICE_DECIMALS.saturating_sub(decimals);
            rows.push(RawMarket {
                maximum_ltv: text(&factor),
                liquidation_threshold: text(&factor),
                input_token_price_usd: price.map(|price| decimal(price, price_decimals).into()),
                input_token_decimals: text(decimals),
                price_unit: text(unit.name()),
                supply_index: text(returned::<CToken::exchangeRateStoredCall>(rate).ok_or_else(missing)?),
                debt_index: text(returned::<CToken::borrowIndexCall>(index).ok_or_else(missing)?),
                own_token_supply: text(returned::<CToken::totalSupplyCall>(supply).ok_or_else(missing)?),
                total_debt: text(returned::<CToken::totalBorrowsCall>(borrows).ok_or_else(missing)?),
                ..self.market(market.c_token, market.underlying, name, (!is_eth).then_some(symbol))
            });
        }
        Ok(rows)
    }

    /// Returns the prices of markets as the oracle has them. `None`: the call failed or gave 0.
    async fn compound_prices(
        &self,
        oracle: Option<alloy_primitives::Address>,
        markets: &[CompoundMarket],
    ) -> Result<Vec<Option<U256>>> {
        let Some(oracle) = oracle else { return Ok(vec![None; markets.len()]) };
        let price = |market: &CompoundMarket| {
            call(to_address(oracle), &CompoundOracle::getUnderlyingPriceCall { cToken: of_address(&market.c_token) })
        };
        let outcomes = self.call(&markets.iter().map(price).collect::<Vec<_>>()).await?;
        Ok(outcomes.iter().map(usable::<CompoundOracle::getUnderlyingPriceCall>).collect())
    }

    /// Returns the row of a market with what it says of itself, and with the columns of the snapshot. `symbol` is the answer
    /// of the token that is lent; `None` for ETH.
    fn market(&self, id: Address, token: Address, name: &CallOutcome, symbol: Option<&CallOutcome>) -> RawMarket {
        let symbol_of = |outcome: &CallOutcome| returned::<Token::symbolCall>(outcome).map(Arc::from);
        RawMarket {
            id: text(id),
            name: symbol_of(name),
            input_token_id: text(token),
            input_token_symbol: symbol.map_or_else(|| text("ETH"), symbol_of),
            protocol: self.protocol.into(),
            block_number: self.block.block_number,
            block_timestamp: self.block.timestamp,
            ..RawMarket::default()
        }
    }
}

fn text(value: impl ToString) -> Option<Arc<str>> {
    Some(value.to_string().into())
}

/// Returns a price, unless the call failed or gave 0.
fn usable<F: SolCall<Return = U256>>(outcome: &CallOutcome) -> Option<U256> {
    returned::<F>(outcome).filter(|price| !price.is_zero())
}

/// Returns some bits of a packed word.
fn bits(word: U256, from: usize, count: usize) -> U256 {
    (word >> from) & ((U256::ONE << count) - U256::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_last() {
        assert_eq!(bits(uint!(0x0012_3456_U256), 8, 16), uint!(0x1234_U256));
    }
}
