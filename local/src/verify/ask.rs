//! Asks the contracts of a protocol about accounts, at a block.

use defi_shared::contracts::U256;
use defi_shared::contracts::aave_v2::Pool;
use defi_shared::contracts::compound_v2::{Comptroller, PriceOracle};
use defi_shared::domain::price::PriceUnit;
use defi_shared::domain::{Address, HexBytes};
use defi_shared::error::{Error, Result};
use defi_shared::sources::ethereum::CallOutcome;
use defi_shared::step::Context;
use defi_shared::step::contracts::{CompoundMarket, Contracts, call, of_address, returned, to_address};

use super::compare::Answer;
use super::sample::Account;

/// 10^18: amounts, prices and factors of the contracts have 18 decimals.
const WAD: f64 = 1e18;

/// What the contracts of a protocol say.
#[derive(Debug)]
pub(super) struct Answers {
    /// The unit of the amounts.
    pub unit: PriceUnit,
    /// The price of ETH in that unit.
    pub eth_price: f64,
    /// The answer for each account, or why there is none.
    pub accounts: Vec<(Account, Result<Answer, String>)>,
}

/// Asks the contracts of a protocol about accounts.
///
/// # Errors
/// `BadInput` if the contracts do not exist at the block, and the errors of the node.
pub(super) async fn ask(context: &Context, protocol: &str, block: u64, accounts: Vec<Account>) -> Result<Answers> {
    let listed = context.node()?.finalized(&context.traffic).await?.number;
    let contracts = context.contracts(protocol, listed, &context.traffic).await?;
    let contract = contracts.deployment();
    let exists = context.node()?.has_code(&[contract], block, &context.traffic).await?;
    if exists.first() != Some(&true) {
        return Err(Error::bad_input("the contract of the protocol does not exist at the day's first block")
            .with("contract", contract)
            .with("block", block)
            .with_hint("correct the entry chain of the protocol in the configuration, or use a newer day"));
    }
    match &contracts {
        Contracts::AaveV2 { pool, .. } => ask_aave_v2(context, *pool, block, accounts).await,
        Contracts::CompoundV2 { comptroller, markets } => {
            ask_compound_v2(context, *comptroller, markets, block, accounts).await
        }
    }
}

async fn ask_aave_v2(context: &Context, pool: Address, block: u64, accounts: Vec<Account>) -> Result<Answers> {
    let request = |account: &Account| call(pool, &Pool::getUserAccountDataCall { user: of_address(&account.address) });
    let calls: Vec<_> = accounts.iter().map(request).collect();
    let outcomes = context.node()?.call(&calls, block, &context.traffic).await?;
    let answers = outcomes.iter().map(aave_v2_answer);
    Ok(Answers { unit: PriceUnit::Eth, eth_price: 1.0, accounts: accounts.into_iter().zip(answers).collect() })
}

fn aave_v2_answer(outcome: &CallOutcome) -> Result<Answer, String> {
    let data = returned::<Pool::getUserAccountDataCall>(outcome).ok_or("the call of getUserAccountData is rejected")?;
    Ok(Answer::AaveV2 {
        collateral: wad(data.totalCollateralETH),
        debt: wad(data.totalDebtETH),
        available: wad(data.availableBorrowsETH),
        health_factor: wad(data.healthFactor),
    })
}

async fn ask_compound_v2(
    context: &Context,
    comptroller: Address,
    markets: &[CompoundMarket],
    block: u64,
    accounts: Vec<Account>,
) -> Result<Answers> {
    let price = eth_price(context, comptroller, markets, block).await?;
    let Some(price) = price else {
        let reason = || Err("the oracle of the protocol has no price of ETH at the block".to_owned());
        let accounts = accounts.into_iter().map(|account| (account, reason())).collect();
        return Ok(Answers { unit: PriceUnit::Usd, eth_price: 1.0, accounts });
    };
    let request = |account: &Account| {
        call(comptroller, &Comptroller::getAccountLiquidityCall { account: of_address(&account.address) })
    };
    let calls: Vec<_> = accounts.iter().map(request).collect();
    let outcomes = context.node()?.call(&calls, block, &context.traffic).await?;
    let answers = outcomes.iter().map(compound_v2_answer);
    // As extract-market-data: an oracle for which ETH costs 1 has its prices in ETH.
    let unit = if price == 1.0 { PriceUnit::Eth } else { PriceUnit::Usd };
    Ok(Answers { unit, eth_price: price, accounts: accounts.into_iter().zip(answers).collect() })
}

fn compound_v2_answer(outcome: &CallOutcome) -> Result<Answer, String> {
    let data = returned::<Comptroller::getAccountLiquidityCall>(outcome)
        .ok_or("the call of getAccountLiquidity is rejected")?;
    if !data.error.is_zero() {
        return Err(format!("getAccountLiquidity answers with the error {}", data.error));
    }
    Ok(Answer::CompoundV2 { liquidity: wad(data.liquidity) - wad(data.shortfall) })
}

/// Returns the price of ETH in the unit of Compound's oracle: that of the market of ETH with the smallest address that has
/// one, as for the features.
async fn eth_price(
    context: &Context,
    comptroller: Address,
    markets: &[CompoundMarket],
    block: u64,
) -> Result<Option<f64>> {
    let (node, traffic) = (context.node()?, &context.traffic);
    let oracle = node.call(&[call(comptroller, &Comptroller::oracleCall {})], block, traffic).await?;
    let Some(oracle) = oracle.first().and_then(returned::<Comptroller::oracleCall>) else { return Ok(None) };
    let wrapped = context.config.chain.wrapped_ether;
    let is_eth = |market: &&CompoundMarket| market.underlying.is_native_eth() || market.underlying == wrapped;
    let mut of_eth: Vec<Address> = markets.iter().filter(is_eth).map(|market| market.c_token).collect();
    of_eth.sort();
    let price = |c_token: &HexBytes<20>| {
        call(to_address(oracle), &PriceOracle::getUnderlyingPriceCall { cToken: of_address(c_token) })
    };
    let outcomes = node.call(&of_eth.iter().map(price).collect::<Vec<_>>(), block, traffic).await?;
    let mut prices = outcomes.iter().filter_map(returned::<PriceOracle::getUnderlyingPriceCall>);
    Ok(prices.find(|price| !price.is_zero()).map(wad))
}

/// Converts a number with 18 decimals. The nearest DOUBLE, as in the lake.
fn wad(value: U256) -> f64 {
    f64::from(value) / WAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[u64]) -> CallOutcome {
        let word = |value: &u64| [[0; 24].as_slice(), &value.to_be_bytes()].concat();
        CallOutcome::Returned(values.iter().flat_map(word).collect())
    }

    #[test]
    fn answer_of_aave_has_18_decimals() {
        let quarter = 250_000_000_000_000_000;
        let answer = aave_v2_answer(&words(&[4 * quarter, quarter, 2 * quarter, 8_000, 7_500, 6 * quarter]));
        let expected = Answer::AaveV2 { collateral: 1.0, debt: 0.25, available: 0.5, health_factor: 1.5 };
        assert_eq!(answer, Ok(expected));
    }

    #[test]
    fn rejected_and_empty_answers_leave_the_account_out() {
        for outcome in [CallOutcome::Reverted, CallOutcome::Returned(Vec::new())] {
            assert!(aave_v2_answer(&outcome).unwrap_err().contains("getUserAccountData"));
            assert!(compound_v2_answer(&outcome).unwrap_err().contains("getAccountLiquidity"));
        }
    }

    #[test]
    fn error_of_compound_is_read_before_its_amounts() {
        let one = 1_000_000_000_000_000_000;
        assert_eq!(compound_v2_answer(&words(&[0, 2 * one, 0])), Ok(Answer::CompoundV2 { liquidity: 2.0 }));
        assert_eq!(compound_v2_answer(&words(&[0, 0, one])), Ok(Answer::CompoundV2 { liquidity: -1.0 }));
        assert!(compound_v2_answer(&words(&[13, 2 * one, 0])).unwrap_err().contains("13"));
    }
}
