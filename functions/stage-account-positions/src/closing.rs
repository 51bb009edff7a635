//! Closes a day of the replay: balances that no sum shows to be wrong are compared with what the contracts say, and the
//! balances of a market that differs are asked by call.

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::contracts::U256;
use defi_shared::contracts::aave_v2::{AToken, StableDebtToken};
use defi_shared::contracts::compound_v2::CToken;
use defi_shared::domain::Address;
use defi_shared::domain::replay::aave_v2::AccountValue;
use defi_shared::domain::replay::{Difference, Position, PositionKind, WAD, mul_div, ray_mul};
use defi_shared::sources::ethereum::{Call, CallOutcome};
use defi_shared::step::Context;
use defi_shared::step::aave::ComparedSums;
use defi_shared::step::contracts::{call, of_address, returned};
use defi_shared::tables::RawMarket;
use defi_shared::{Error, Kind, Result};

use crate::markets::{Markets, address, number};

/// Returns the values of accounts that are not what the contracts say. A node that no longer has the state of the block
/// says nothing: then only the sums are compared, which were asked before the logs.
pub(crate) async fn differing_accounts(
    context: &Context,
    markets: &Markets,
    values: &[AccountValue],
) -> Result<Vec<Difference>> {
    let tokens = Tokens::new(markets);
    let values: Vec<_> = values.iter().filter(|value| tokens.0.contains_key(&value.market)).collect();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let calls = values.iter().map(|value| {
        let user = of_address(&value.account);
        let token = tokens.of(value.market, value.kind)?;
        Ok(match value.kind {
            PositionKind::Stable => call(token, &StableDebtToken::principalBalanceOfCall { user }),
            _ => call(token, &AToken::scaledBalanceOfCall { user }),
        })
    });
    let calls = calls.collect::<Result<Vec<_>>>()?;
    let outcomes = match context.node()?.call(&calls, markets.block.number()?, &context.traffic).await {
        Err(error) if error.kind() == Kind::HistoryPruned => {
            tracing::warn!(
                error = error.details(),
                "balances are not compared, because the node no longer has the state"
            );
            return Ok(Vec::new());
        }
        outcomes => outcomes?,
    };
    Ok(values.iter().zip(&outcomes).filter_map(|(value, outcome)| difference(value, outcome)).collect())
}

/// Returns the difference between a value and what a contract returned, if there is one.
fn difference(value: &AccountValue, outcome: &CallOutcome) -> Option<Difference> {
    let (name, actual) = match value.kind {
        PositionKind::Stable => ("principalBalanceOf", returned::<StableDebtToken::principalBalanceOfCall>(outcome)?),
        _ => ("scaledBalanceOf", returned::<AToken::scaledBalanceOfCall>(outcome)?),
    };
    let (market, account, replayed) = (value.market, Some(value.account), value.replayed);
    (actual != replayed).then_some(Difference { market, account, value: name, replayed, actual })
}

/// Replaces the balances in markets that differ by what the contracts say of each account. Returns the ids of the positions
/// of which a contract says nothing: they keep their balances.
pub(crate) async fn ask(
    context: &Context,
    markets: &Markets,
    positions: &mut Vec<Position>,
    differences: &[Difference],
) -> Result<Vec<String>> {
    let differing: BTreeSet<Address> = differences.iter().map(|difference| difference.market).collect();
    if differing.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = Tokens::new(markets);
    let mut asked: Vec<_> = positions.iter_mut().filter(|position| differing.contains(&position.market)).collect();
    asked.sort_unstable_by_key(|position| (position.market, position.account, position.kind));
    let calls = asked.iter().map(|position| balance_call(&tokens, position)).collect::<Result<Vec<_>>>()?;
    let outcomes = context.node()?.call(&calls, markets.block.number()?, &context.traffic).await?;
    let mut unanswered = Vec::new();
    for (position, outcome) in asked.into_iter().zip(&outcomes) {
        match balance(&tokens, position, outcome)? {
            Some(balance) => position.balance = balance,
            None => unanswered.push(position_id(position)),
        }
    }
    positions.retain(|position| !position.balance.is_zero());
    Ok(unanswered)
}

fn balance_call(tokens: &Tokens<'_>, position: &Position) -> Result<Call> {
    let account = of_address(&position.account);
    Ok(match position.kind {
        PositionKind::Borrow => call(position.market, &CToken::borrowBalanceStoredCall { account }),
        kind => call(tokens.of(position.market, kind)?, &AToken::balanceOfCall { user: account }),
    })
}

/// Returns the balance of a position that a contract returned.
fn balance(tokens: &Tokens<'_>, position: &Position, outcome: &CallOutcome) -> Result<Option<U256>> {
    if position.kind == PositionKind::Borrow {
        return Ok(returned::<CToken::borrowBalanceStoredCall>(outcome));
    }
    let Some(balance) = returned::<AToken::balanceOfCall>(outcome) else { return Ok(None) };
    match tokens.exchange_rate(position.market)? {
        // A cToken says how many cTokens an account has.
        Some(rate) => mul_div(balance, rate, WAD).map(Some),
        None => Ok(Some(balance)),
    }
}

/// Compares the sums of the closed positions of each market with what its contracts say: accounts that no log tells of can't
/// be asked, so their balances are still missing. Each balance is rounded: a difference of a thousandth is none. `own` returns
/// the cTokens that a market of Compound has itself, which are no position.
pub(crate) fn compare_sums(
    markets: &Markets,
    positions: &[Position],
    own: impl Fn(Address) -> U256,
) -> Result<ComparedSums> {
    let mut sums: BTreeMap<(Address, PositionKind), U256> = BTreeMap::new();
    for position in positions {
        let sum = sums.entry((position.market, position.kind)).or_default();
        *sum = sum.saturating_add(position.balance);
    }
    let rounding = U256::from(ROUNDING);
    let mut compared = ComparedSums::default();
    for market in &markets.rows {
        let id = address("id", &market.id)?;
        let supply = number("own_token_supply", &market.own_token_supply)?;
        let index = number("supply_index", &market.supply_index)?;
        let debt = number("total_debt", &market.total_debt)?;
        let totals = match market.variable_debt_token {
            Some(_) => [
                (PositionKind::Supply, ray_mul(supply, index)?),
                (PositionKind::Variable, ray_mul(debt, number("debt_index", &market.debt_index)?)?),
            ],
            None => {
                let of_accounts = supply.saturating_sub(own(id));
                [(PositionKind::Supply, mul_div(of_accounts, index, WAD)?), (PositionKind::Borrow, debt)]
            }
        };
        for (kind, total) in totals {
            let sum = sums.get(&(id, kind)).copied().unwrap_or_default();
            let tolerance = (total / rounding).max(rounding);
            compared.compared += 1;
            compared.differing += u64::from(sum.abs_diff(total) > tolerance);
        }
    }
    Ok(compared)
}

/// A sum differs by more than this part of the total, and by more than so many base units.
const ROUNDING: u64 = 1000;

/// Returns the id of a position.
pub(crate) fn position_id(Position { account, market, kind, .. }: &Position) -> String {
    format!("{account}-{market}-{}", kind.name())
}

/// The tokens of the markets of a day.
struct Tokens<'a>(BTreeMap<Address, &'a RawMarket>);

impl<'a> Tokens<'a> {
    fn new(markets: &'a Markets) -> Self {
        let market = |market: &'a RawMarket| Some((Address::parse(market.id.as_deref()?)?, market));
        Tokens(markets.rows.iter().filter_map(market).collect())
    }

    fn market(&self, market: Address) -> Result<&'a RawMarket> {
        self.0.get(&market).copied().ok_or_else(|| Error::internal("a position in no market").with("market", market))
    }

    /// Returns the token whose balances are those of a kind of position.
    fn of(&self, market: Address, kind: PositionKind) -> Result<Address> {
        match kind {
            PositionKind::Supply | PositionKind::Borrow => Ok(market),
            PositionKind::Variable => address("variable_debt_token", &self.market(market)?.variable_debt_token),
            PositionKind::Stable => address("stable_debt_token", &self.market(market)?.stable_debt_token),
        }
    }

    /// Returns the supply per cToken, `None` of a market of Aave.
    fn exchange_rate(&self, market: Address) -> Result<Option<U256>> {
        let market = self.market(market)?;
        match market.variable_debt_token {
            Some(_) => Ok(None),
            None => number("supply_index", &market.supply_index).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use defi_shared::domain::HexBytes;
    use defi_shared::testing::{daily_block, january, raw_market};

    use super::*;

    fn word(number: u8) -> CallOutcome {
        CallOutcome::Returned([vec![0; 31], vec![number]].concat())
    }

    #[test]
    fn sums_of_positions_are_compared_with_the_totals_of_their_market() {
        let text = |number: u64| Some(Arc::from(number.to_string()));
        let (market, other) = (HexBytes([1; 20]), HexBytes([3; 20]));
        let ray = || Some(Arc::from("1000000000000000000000000000"));
        let aave = RawMarket {
            id: Some(market.to_string().into()),
            own_token_supply: text(2_000_000),
            supply_index: ray(),
            total_debt: text(5_000),
            debt_index: ray(),
            variable_debt_token: Some(HexBytes([2; 20]).to_string().into()),
            ..raw_market("aave-v2-eth", january(1), market, HexBytes([4; 20]), "1")
        };
        let compound = RawMarket {
            id: Some(other.to_string().into()),
            own_token_supply: text(73),
            supply_index: Some("1000000000000000000000".into()),
            variable_debt_token: None,
            ..aave.clone()
        };
        let block = daily_block(january(1));
        let markets = Markets { deployment: market, rows: vec![aave, compound], block };
        let position = |market, kind, balance: u64| Position {
            account: HexBytes([9; 20]),
            market,
            kind,
            balance: U256::from(balance),
            is_collateral: None,
        };
        let all = |supply| {
            [
                position(market, PositionKind::Supply, supply),
                position(market, PositionKind::Supply, 1_000_000),
                position(market, PositionKind::Stable, 77),
                position(market, PositionKind::Variable, 4_001),
                position(other, PositionKind::Supply, 70_000),
                position(other, PositionKind::Borrow, 5_000),
            ]
        };
        let own = |market| if market == other { U256::from(3) } else { U256::ZERO };
        let differing = |positions: &[Position]| compare_sums(&markets, positions, own).unwrap().differing;
        for (supply, count) in [(998_000, 0), (997_999, 1), (1_002_000, 0), (1_002_001, 1)] {
            assert_eq!(differing(&all(supply)), count, "{supply}");
        }
        assert_eq!(compare_sums(&markets, &[], own).unwrap(), ComparedSums { compared: 4, differing: 4 });
        assert_eq!(differing(&all(1_000_000)[..5]), 1, "a debt is missing");
    }

    #[test]
    fn value_differs_from_another_answer_of_its_contract() {
        let (market, account) = (HexBytes([1; 20]), HexBytes([2; 20]));
        for (kind, name) in [(PositionKind::Supply, "scaledBalanceOf"), (PositionKind::Stable, "principalBalanceOf")] {
            let value = AccountValue { market, account, kind, replayed: U256::from(5) };
            assert_eq!(difference(&value, &word(5)), None);
            let other = difference(&value, &word(6)).unwrap();
            let expected = Difference {
                market,
                account: Some(account),
                value: name,
                replayed: U256::from(5),
                actual: U256::from(6),
            };
            assert_eq!(other, expected);
            assert_eq!(difference(&value, &CallOutcome::Reverted), None, "no answer says nothing");
        }
    }
}
