//! Aave v2: balances from the events of the pool and of the tokens of each reserve.

use std::collections::BTreeSet;

use alloy_primitives::U256;
use rustc_hash::FxHashMap;

use super::{
    Balance, Difference, Entry, Log, Position, PositionKind, StableLoan, ZERO, add, address, change_balance,
    compounded, ray, ray_div, ray_mul, subtract, total, unsigned,
};
use crate::contracts::aave_v2::{AToken, Pool, StableDebtToken, VariableDebtToken};
use crate::contracts::decode_event;
use crate::domain::{Address, TxHash};
use crate::error::Result;

/// The contracts of a reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// The token that is lent.
    pub asset: Address,
    /// The token of supplies, which identifies the market.
    pub a_token: Address,
    /// The token of debts at a stable rate.
    pub stable_debt_token: Address,
    /// The token of debts at the variable rate.
    pub variable_debt_token: Address,
}

/// What the contracts say of a reserve at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReserveValues {
    /// The token of supplies.
    pub a_token: Address,
    /// Supply per scaled balance, in rays.
    pub normalized_income: U256,
    /// Debt per scaled debt at the variable rate, in rays.
    pub normalized_variable_debt: U256,
    /// The sum of the scaled balances.
    pub scaled_supply: U256,
    /// The sum of the scaled debts at the variable rate.
    pub scaled_variable_debt: U256,
}

/// What a scaled balance of a reserve is worth at a block, in rays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexes {
    /// Supply per scaled balance.
    pub income: U256,
    /// Debt per scaled debt at the variable rate.
    pub variable_debt: U256,
}

/// The indexes of a reserve when they were last stored, and the yearly rates since then, in rays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredIndexes {
    /// The liquidity index and the rate of supplies.
    pub income: (U256, U256),
    /// The variable borrow index and the variable rate of debts.
    pub variable_debt: (U256, U256),
}

impl StoredIndexes {
    /// Returns the indexes some seconds later, as the contracts compute them: interest is linear for supplies, and compound
    /// for debts.
    ///
    /// # Errors
    /// `CorruptData` for a number that no contract can have.
    pub fn after(&self, seconds: u64) -> Result<Indexes> {
        let ((income, income_rate), (debt, debt_rate)) = (self.income, self.variable_debt);
        Ok(Indexes {
            income: ray_mul(ray::linear(income_rate, seconds)?, income)?,
            variable_debt: ray_mul(compounded(debt_rate, seconds)?, debt)?,
        })
    }
}

/// Returns what a balance in a reserve is worth at a time: its supply, and its debts at the variable and at a stable rate.
///
/// # Errors
/// `CorruptData` for a number that no contract can have.
pub fn amounts(balance: &Balance, indexes: &Indexes, time: i64) -> Result<[(PositionKind, U256); 3]> {
    let stable = balance.stable.as_ref().map(|loan| stable_debt(loan, time)).transpose()?.unwrap_or_default();
    Ok([
        (PositionKind::Supply, ray_mul(unsigned(balance.supply), indexes.income)?),
        (PositionKind::Variable, ray_mul(unsigned(balance.debt), indexes.variable_debt)?),
        (PositionKind::Stable, stable),
    ])
}

/// What a contract is to the pool.
#[derive(Debug, Clone, Copy)]
enum Role {
    Pool,
    AToken,
    VariableDebt,
    StableDebt,
}

/// The transfer of a stable debt token from the zero address: a loan, if the event Mint comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Created {
    token: Address,
    account: Address,
    transaction: TxHash,
    index: i64,
}

/// The balances of all accounts, as of the last log.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// The role of each contract, and the market to which it belongs.
    roles: FxHashMap<Address, (Role, Address)>,
    /// The market of each asset.
    markets: FxHashMap<Address, Address>,
    balances: FxHashMap<(Address, Address), Balance>,
    created: Option<Created>,
    /// The market and account of those who sent or received supplies: see [`Replay::forget_transfers`].
    transferred: BTreeSet<(Address, Address)>,
}

/// The balance of an account, to be compared with what the contract says, because no sum shows that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountValue {
    /// The market.
    pub market: Address,
    /// The account.
    pub account: Address,
    /// [`PositionKind::Supply`]: its scaled balance. [`PositionKind::Stable`]: the principal of its loan.
    pub kind: PositionKind,
    /// What follows from the logs.
    pub replayed: U256,
}

/// Adds the entries of a state, from which the replay continues.
impl Extend<Entry> for Replay {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        self.balances.extend(entries.into_iter().filter_map(|entry| match entry {
            Entry::Account { market, account, balance } => Some(((market, account), balance)),
            Entry::Market { .. } => None,
        }));
    }
}

impl Replay {
    /// Sets the contracts whose logs are applied.
    pub fn set_contracts(&mut self, pool: Address, reserves: &[Reserve]) {
        self.roles = FxHashMap::from_iter([(pool, (Role::Pool, pool))]);
        for reserve in reserves {
            self.roles.insert(reserve.a_token, (Role::AToken, reserve.a_token));
            self.roles.insert(reserve.variable_debt_token, (Role::VariableDebt, reserve.a_token));
            self.roles.insert(reserve.stable_debt_token, (Role::StableDebt, reserve.a_token));
        }
        self.markets = reserves.iter().map(|reserve| (reserve.asset, reserve.a_token)).collect();
    }

    /// Applies a log. Logs of other contracts change nothing.
    ///
    /// # Errors
    /// `CorruptData` for an event that is malformed or has a number that no contract can have.
    pub fn apply(&mut self, log: &Log<'_>) -> Result<()> {
        match self.roles.get(&log.contract).copied() {
            Some((Role::Pool, _)) => self.apply_pool(log),
            Some((Role::AToken, market)) => self.apply_a_token(log, market),
            Some((Role::VariableDebt, market)) => self.apply_variable_debt(log, market),
            Some((Role::StableDebt, market)) => self.apply_stable_debt(log, market),
            None => Ok(()),
        }
    }

    fn apply_pool(&mut self, log: &Log<'_>) -> Result<()> {
        use Pool::PoolEvents::{ReserveUsedAsCollateralDisabled, ReserveUsedAsCollateralEnabled};
        let (reserve, user, is_collateral) = match decode_event(Pool::PoolEvents::SELECTORS, log.topics, log.data)? {
            Some(ReserveUsedAsCollateralEnabled(event)) => (event.reserve, event.user, true),
            Some(ReserveUsedAsCollateralDisabled(event)) => (event.reserve, event.user, false),
            _ => return Ok(()),
        };
        let Some(market) = self.markets.get(&address(reserve)).copied() else { return Ok(()) };
        self.change(market, address(user), |balance| {
            balance.is_collateral = is_collateral;
            Ok(())
        })
    }

    fn apply_a_token(&mut self, log: &Log<'_>, market: Address) -> Result<()> {
        use AToken::ATokenEvents::{BalanceTransfer, Burn, Mint};
        match decode_event(AToken::ATokenEvents::SELECTORS, log.topics, log.data)? {
            Some(Mint(event)) => {
                let scaled = ray_div(event.value, event.index)?;
                self.change(market, address(event.from), |balance| add(&mut balance.supply, scaled))
            }
            Some(Burn(event)) => {
                let scaled = ray_div(event.value, event.index)?;
                self.change(market, address(event.from), |balance| subtract(&mut balance.supply, scaled))
            }
            Some(BalanceTransfer(event)) => {
                let scaled = ray_div(event.value, event.index)?;
                self.transferred.extend([event.from, event.to].map(|account| (market, address(account))));
                self.change(market, address(event.from), |balance| subtract(&mut balance.supply, scaled))?;
                self.change(market, address(event.to), |balance| add(&mut balance.supply, scaled))
            }
            None => Ok(()),
        }
    }

    fn apply_variable_debt(&mut self, log: &Log<'_>, market: Address) -> Result<()> {
        use VariableDebtToken::VariableDebtTokenEvents::{Burn, Mint};
        let known = VariableDebtToken::VariableDebtTokenEvents::SELECTORS;
        match decode_event(known, log.topics, log.data)? {
            Some(Mint(event)) => {
                let scaled = ray_div(event.value, event.index)?;
                self.change(market, address(event.onBehalfOf), |balance| add(&mut balance.debt, scaled))
            }
            Some(Burn(event)) => {
                let scaled = ray_div(event.amount, event.index)?;
                self.change(market, address(event.user), |balance| subtract(&mut balance.debt, scaled))
            }
            None => Ok(()),
        }
    }

    fn apply_stable_debt(&mut self, log: &Log<'_>, market: Address) -> Result<()> {
        use StableDebtToken::StableDebtTokenEvents::{Burn, Mint, Transfer};
        let known = StableDebtToken::StableDebtTokenEvents::SELECTORS;
        let created = self.created.take();
        match decode_event(known, log.topics, log.data)? {
            Some(Transfer(event)) => {
                let (transaction, index) = (log.transaction, log.index);
                self.created = (address(event.from) == ZERO).then(|| Created {
                    token: log.contract,
                    account: address(event.to),
                    transaction,
                    index,
                });
                Ok(())
            }
            Some(Mint(event)) => {
                let account = address(event.onBehalfOf);
                let loan = Created {
                    token: log.contract,
                    account,
                    transaction: log.transaction,
                    index: log.index.saturating_sub(1),
                };
                // The same event tells that interest was added to a debt, because a repayment was smaller than it. The
                // amount of a loan is on top of the interest that is due; this amount is what is left of the interest.
                let before = match created == Some(loan) {
                    true => event.currentBalance,
                    false => event.currentBalance.saturating_sub(event.balanceIncrease),
                };
                let principal = ray::narrow(before.saturating_add(event.amount))?;
                let rate = ray::narrow(event.newRate)?;
                self.change(market, account, |balance| {
                    balance.stable = Some(Box::new(StableLoan { principal, rate, since: log.time }));
                    Ok(())
                })
            }
            Some(Burn(event)) => {
                let left = event.currentBalance.saturating_sub(event.balanceIncrease).saturating_sub(event.amount);
                let principal = ray::narrow(left)?;
                self.change(market, address(event.user), |balance| {
                    match &mut balance.stable {
                        Some(loan) if principal > 0 => **loan = StableLoan { principal, since: log.time, ..**loan },
                        stable => *stable = None,
                    }
                    Ok(())
                })
            }
            None => Ok(()),
        }
    }

    fn change(
        &mut self,
        market: Address,
        account: Address,
        change: impl FnOnce(&mut Balance) -> Result<()>,
    ) -> Result<()> {
        change_balance(&mut self.balances, market, account, change)
    }

    /// Returns the state, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.balances.iter().map(|((market, account), balance)| Entry::Account {
            market: *market,
            account: *account,
            balance: balance.clone(),
        })
    }

    /// Returns the open positions in the given markets at a time, in no particular order.
    ///
    /// # Errors
    /// `CorruptData` for a number that no contract can have.
    pub fn positions(&self, reserves: &[ReserveValues], time: i64) -> Result<Vec<Position>> {
        let reserves: FxHashMap<Address, &ReserveValues> =
            reserves.iter().map(|reserve| (reserve.a_token, reserve)).collect();
        let mut positions = Vec::with_capacity(self.balances.len());
        for ((market, account), balance) in &self.balances {
            let Some(reserve) = reserves.get(market) else { continue };
            let indexes =
                Indexes { income: reserve.normalized_income, variable_debt: reserve.normalized_variable_debt };
            for (kind, amount) in amounts(balance, &indexes, time)? {
                if !amount.is_zero() {
                    let is_collateral = (kind == PositionKind::Supply).then_some(balance.is_collateral);
                    positions.push(Position {
                        account: *account,
                        market: *market,
                        kind,
                        balance: amount,
                        is_collateral,
                    });
                }
            }
        }
        Ok(positions)
    }

    /// Forgets who sent and received supplies so far.
    pub fn forget_transfers(&mut self) {
        self.transferred.clear();
    }

    /// Returns the values of accounts that no sum shows to be wrong: all loans at a stable rate, whose total in the contract
    /// drifts, and at most `sample` balances of those who sent or received supplies. Sorted by market and account.
    #[must_use]
    pub fn account_values(&self, sample: usize) -> Vec<AccountValue> {
        let loans = self.balances.iter().filter_map(|((market, account), balance)| {
            let replayed = unsigned(balance.stable.as_ref()?.principal);
            Some(AccountValue { market: *market, account: *account, kind: PositionKind::Stable, replayed })
        });
        let step = self.transferred.len().div_ceil(sample.max(1)).max(1);
        let transferred = self.transferred.iter().step_by(step).map(|(market, account)| {
            let replayed = unsigned(self.balances.get(&(*market, *account)).map_or(0, |balance| balance.supply));
            AccountValue { market: *market, account: *account, kind: PositionKind::Supply, replayed }
        });
        let mut values: Vec<_> = loans.chain(transferred).collect();
        values.sort_unstable_by_key(|value| (value.market, value.account, value.kind));
        values
    }

    /// Compares the sums of the scaled balances with what the contracts say.
    #[must_use]
    pub fn differences(&self, reserves: &[ReserveValues]) -> Vec<Difference> {
        let mut differences = Vec::new();
        for reserve in reserves {
            let balances = || self.balances.iter().filter(|((market, _), _)| *market == reserve.a_token);
            let supply = total(balances().map(|(_, balance)| balance.supply));
            let debt = total(balances().map(|(_, balance)| balance.debt));
            for (value, replayed, actual) in [
                ("scaledTotalSupply", supply, reserve.scaled_supply),
                ("scaledTotalSupply of the variable debt", debt, reserve.scaled_variable_debt),
            ] {
                if replayed != actual {
                    let market = reserve.a_token;
                    differences.push(Difference { market, account: None, value, replayed, actual });
                }
            }
        }
        differences
    }
}

/// Returns a debt at a stable rate, at a time.
fn stable_debt(loan: &StableLoan, time: i64) -> Result<U256> {
    let seconds = u64::try_from(time.saturating_sub(loan.since)).unwrap_or(0);
    ray_mul(unsigned(loan.principal), compounded(unsigned(loan.rate), seconds)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OwnedLog, address, argument, number};
    use super::super::ray::RAY;
    use super::*;

    const POOL: u8 = 1;
    const ASSET: u8 = 2;
    const A_TOKEN: u8 = 3;
    const STABLE: u8 = 4;
    const VARIABLE: u8 = 5;
    const USER: u8 = 7;

    fn reserve() -> Reserve {
        let [asset, a_token, stable_debt_token, variable_debt_token] = [ASSET, A_TOKEN, STABLE, VARIABLE].map(address);
        Reserve { asset, a_token, stable_debt_token, variable_debt_token }
    }

    /// Returns values with both indexes at 1.
    fn values() -> ReserveValues {
        let (scaled_supply, scaled_variable_debt) = (U256::ZERO, U256::ZERO);
        let (normalized_income, normalized_variable_debt) = (RAY, RAY);
        ReserveValues {
            a_token: address(A_TOKEN),
            normalized_income,
            normalized_variable_debt,
            scaled_supply,
            scaled_variable_debt,
        }
    }

    fn replay(logs: &[OwnedLog]) -> Replay {
        let mut replay = Replay::default();
        replay.set_contracts(address(POOL), &[reserve()]);
        for log in logs {
            replay.apply(&log.log()).unwrap();
        }
        replay
    }

    /// Returns the balances, as account, kind, balance and collateral flag.
    fn positions(replay: &Replay, values: ReserveValues, time: i64) -> Vec<(u8, &'static str, u128, Option<bool>)> {
        let positions = replay.positions(&[values], time).unwrap();
        let mut positions: Vec<_> = positions
            .into_iter()
            .map(|p| (p.account.0[0], p.kind.name(), u128::try_from(p.balance).unwrap(), p.is_collateral))
            .collect();
        positions.sort_unstable();
        positions
    }

    #[test]
    fn indexes_grow_from_when_they_were_stored() {
        // 31.536 % per year is 1e-8 per second.
        let rate = RAY * number(31_536) / number(100_000);
        let stored = StoredIndexes { income: (RAY * number(2), rate), variable_debt: (RAY * number(3), rate) };
        let same = Indexes { income: RAY * number(2), variable_debt: RAY * number(3) };
        assert_eq!(stored.after(0).unwrap(), same);
        let per_second = RAY / number(100_000_000);
        let later = stored.after(10).unwrap();
        assert_eq!(later.income, (RAY + per_second * number(10)) * number(2));
        // 1 + 10·1e-8 + 10·9·1e-16 ÷ 2 + 10·9·8·1e-24 ÷ 6
        let growth = RAY + per_second * number(10) + number(4_500_000_000_000) + number(120_000);
        assert_eq!(later.variable_debt, growth * number(3));
        let too_large = StoredIndexes { income: (U256::MAX, rate), ..stored };
        assert!(too_large.after(1).is_err());
    }

    fn a_token(event: &impl alloy_sol_types::SolEvent) -> OwnedLog {
        OwnedLog::new(address(A_TOKEN), event)
    }

    fn mint(user: u8, value: u128, index: U256) -> OwnedLog {
        a_token(&AToken::Mint { from: argument(user), value: number(value), index })
    }

    #[test]
    fn supply_is_the_scaled_balance_times_the_income() {
        let index = RAY * number(2);
        let burn = AToken::Burn { from: argument(USER), target: argument(9), value: number(200), index };
        let transfer = AToken::BalanceTransfer { from: argument(USER), to: argument(8), value: number(100), index };
        let logs = [mint(USER, 1000, index), a_token(&burn), a_token(&transfer)];
        let replay = replay(&logs);
        // 500 scaled, less 100 and 50.
        let values = ReserveValues { normalized_income: RAY * number(3), ..values() };
        let expected = [(USER, "supply", 1050, Some(false)), (8, "supply", 150, Some(false))];
        assert_eq!(positions(&replay, values, 0), expected);
        let own = ReserveValues { scaled_supply: number(400), ..values };
        assert_eq!(replay.differences(&[own]), []);
        let other = ReserveValues { scaled_supply: number(401), ..values };
        let difference = Difference {
            market: address(A_TOKEN),
            account: None,
            value: "scaledTotalSupply",
            replayed: number(400),
            actual: number(401),
        };
        assert_eq!(replay.differences(&[other]), [difference]);
    }

    #[test]
    fn values_of_accounts_are_all_stable_loans_and_some_transfers() {
        let transfer = |from, to| {
            a_token(&AToken::BalanceTransfer { from: argument(from), to: argument(to), value: number(10), index: RAY })
        };
        let logs = [mint(USER, 500, RAY), transfer(USER, 8), transfer(USER, 9), transfer(9, 10)];
        let mut replay = replay(&logs);
        let values = |replay: &Replay, sample| -> Vec<_> {
            let values = replay.account_values(sample).into_iter();
            values.map(|value| (value.account, value.kind.name(), value.replayed)).collect()
        };
        let all = [(USER, 480), (8, 10), (9, 0), (10, 10)];
        let all = all.map(|(account, scaled)| (address(account), "supply", number(scaled)));
        assert_eq!(values(&replay, 4), all);
        assert_eq!(values(&replay, 3), [all[0], all[2]], "every second one");
        assert_eq!((values(&replay, 1), values(&replay, 0)), (vec![all[0]], vec![all[0]]));
        replay.forget_transfers();
        assert_eq!(values(&replay, 4), []);
        for log in [created(STABLE, USER), stable_mint(70, 0, 0)] {
            replay.apply(&log.log()).unwrap();
        }
        assert_eq!(values(&replay, 0), [(address(USER), "stable", number(70))]);
    }

    #[test]
    fn whole_balance_that_is_burnt_leaves_nothing() {
        let burn = AToken::Burn { from: argument(USER), target: argument(USER), value: number(10), index: RAY };
        let replay = replay(&[mint(USER, 10, RAY), a_token(&burn)]);
        assert_eq!((replay.entries().count(), positions(&replay, values(), 0)), (0, vec![]));
    }

    #[test]
    fn collateral_flag_is_that_of_the_pool() {
        let pool = |event| OwnedLog::new(address(POOL), &event);
        let enabled = pool(Pool::ReserveUsedAsCollateralEnabled { reserve: argument(ASSET), user: argument(USER) });
        let disabled = OwnedLog::new(
            address(POOL),
            &Pool::ReserveUsedAsCollateralDisabled { reserve: argument(ASSET), user: argument(USER) },
        );
        let other = pool(Pool::ReserveUsedAsCollateralEnabled { reserve: argument(0x55), user: argument(8) });
        let supply = mint(USER, 10, RAY);
        for (logs, flag) in [
            (vec![supply.clone(), enabled.clone(), other], true),
            (vec![enabled.clone(), supply.clone()], true),
            (vec![supply.clone(), enabled, disabled], false),
            (vec![supply], false),
        ] {
            assert_eq!(positions(&replay(&logs), values(), 0), [(USER, "supply", 10, Some(flag))]);
        }
    }

    #[test]
    fn variable_debt_is_that_of_on_behalf_of() {
        let index = RAY * number(2);
        let token = |event: &VariableDebtToken::Mint| OwnedLog::new(address(VARIABLE), event);
        let mint = VariableDebtToken::Mint { from: argument(8), onBehalfOf: argument(USER), value: number(100), index };
        let burn = VariableDebtToken::Burn { user: argument(USER), amount: number(40), index };
        let replay = replay(&[token(&mint), OwnedLog::new(address(VARIABLE), &burn)]);
        let values =
            ReserveValues { normalized_variable_debt: RAY * number(4), scaled_variable_debt: number(30), ..values() };
        assert_eq!(positions(&replay, values, 0), [(USER, "variable", 120, None)]);
        assert_eq!(replay.differences(&[values]), []);
        let other = ReserveValues { scaled_variable_debt: number(29), ..values };
        assert_eq!(replay.differences(&[other])[0].value, "scaledTotalSupply of the variable debt");
    }

    fn stable_mint(amount: u128, current: u128, increase: u128) -> OwnedLog {
        let event = StableDebtToken::Mint {
            user: argument(8),
            onBehalfOf: argument(USER),
            amount: number(amount),
            currentBalance: number(current),
            balanceIncrease: number(increase),
            newRate: RAY,
            avgStableRate: U256::ZERO,
            newTotalSupply: U256::ZERO,
        };
        OwnedLog::new(address(STABLE), &event)
    }

    fn created(contract: u8, user: u8) -> OwnedLog {
        let event = StableDebtToken::Transfer { from: argument(0), to: argument(user), value: number(1) };
        OwnedLog::new(address(contract), &event)
    }

    #[test]
    fn loan_comes_after_its_transfer_and_adds_to_the_interest() {
        // The current balance has the interest that is due.
        let loan = stable_mint(100, 1010, 10).at(5, 0);
        for (before, principal) in [
            (created(STABLE, USER).at(4, 0), 1110),
            // The same event after another log adds what a repayment left of the interest.
            (created(STABLE, USER).at(3, 0), 1100),
            (created(STABLE, 8).at(4, 0), 1100),
            (created(STABLE, USER).at(4, 0).in_transaction(9), 1100),
        ] {
            assert_eq!(positions(&replay(&[before, loan.clone()]), values(), 0), [(USER, "stable", principal, None)]);
        }
        assert_eq!(positions(&replay(&[loan]), values(), 0), [(USER, "stable", 1100, None)]);
    }

    #[test]
    fn transfer_counts_only_for_the_next_log() {
        let logs = [created(STABLE, USER).at(4, 0), stable_mint(1, 1, 1).at(5, 0), stable_mint(100, 1010, 10).at(5, 0)];
        assert_eq!(positions(&replay(&logs), values(), 0), [(USER, "stable", 1100, None)]);
        let from_user = StableDebtToken::Transfer { from: argument(9), to: argument(USER), value: number(1) };
        let logs = [OwnedLog::new(address(STABLE), &from_user).at(4, 0), stable_mint(100, 1010, 10).at(5, 0)];
        assert_eq!(positions(&replay(&logs), values(), 0), [(USER, "stable", 1100, None)]);
    }

    #[test]
    fn stable_debt_grows_from_its_last_change() {
        let burn = |amount: u128| StableDebtToken::Burn {
            user: argument(USER),
            amount: number(amount),
            currentBalance: number(1_000_100),
            balanceIncrease: number(100),
            avgStableRate: U256::ZERO,
            newTotalSupply: U256::ZERO,
        };
        let loan = [created(STABLE, USER).at(4, 0), stable_mint(1_000_000, 0, 0).at(5, 0)];
        // A rate of 1 a year, for a year: three terms of e.
        let year = 31_536_000;
        let [(_, _, debt, _)] = positions(&replay(&loan), values(), year)[..] else { panic!() };
        assert_eq!(debt, 2_666_669, "8/3, with the rounding of the contracts");
        let repaid = [&loan[..], &[OwnedLog::new(address(STABLE), &burn(400_000)).at(6, year)]].concat();
        assert_eq!(positions(&replay(&repaid), values(), year), [(USER, "stable", 600_000, None)]);
        let [(_, _, debt, _)] = positions(&replay(&repaid), values(), 2 * year)[..] else { panic!() };
        assert_eq!(debt, 1_600_001, "the rate stays");
        let closed = [&loan[..], &[OwnedLog::new(address(STABLE), &burn(1_000_000)).at(6, year)]].concat();
        assert_eq!(replay(&closed).entries().count(), 0);
    }

    #[test]
    fn logs_of_other_contracts_and_other_events_change_nothing() {
        let other = OwnedLog { contract: address(0x66), ..mint(USER, 10, RAY) };
        let mut unknown = mint(USER, 10, RAY);
        unknown.topics[0] = [9; 32];
        assert_eq!(replay(&[other, unknown]).entries().count(), 0);
    }

    #[test]
    fn malformed_events_are_corrupt() {
        let mut short = mint(USER, 10, RAY);
        short.data.truncate(40);
        let mut few = mint(USER, 10, RAY);
        few.topics.truncate(1);
        let no_index = mint(USER, 10, U256::ZERO);
        let large = mint(USER, u128::MAX, U256::ONE);
        for log in [short, few, no_index, large] {
            let mut replay = replay(&[]);
            assert_eq!(replay.apply(&log.log()).unwrap_err().kind(), crate::Kind::CorruptData);
        }
    }

    #[test]
    fn replay_continues_from_its_state() {
        let before = replay(&[mint(USER, 10, RAY), created(STABLE, USER).at(4, 0), stable_mint(7, 0, 0).at(5, 0)]);
        let mut after = Replay::default();
        after.extend(before.entries());
        after.set_contracts(address(POOL), &[reserve()]);
        after.apply(&mint(USER, 5, RAY).log()).unwrap();
        let expected = [(USER, "stable", 7, None), (USER, "supply", 15, Some(false))];
        assert_eq!(positions(&after, values(), 0), expected);
    }

    #[test]
    fn market_that_is_not_listed_has_no_positions() {
        let replay = replay(&[mint(USER, 10, RAY)]);
        assert_eq!(replay.positions(&[], 0).unwrap(), []);
    }
}
