//! Compound v2: balances from the events of the Comptroller and of the cTokens.

use alloy_primitives::U256;
use rustc_hash::FxHashMap;

use super::ray::WAD;
use super::{
    Accruals, Balance, Difference, Entry, Log, Position, PositionKind, add, address, change_balance, mul_div, ray,
    subtract, total, unsigned,
};
use crate::contracts::compound_v2::{CToken, Comptroller, NewCToken, OldCToken};
use crate::contracts::decode_event;
use crate::domain::{Address, TxHash};
use crate::error::Result;

/// What the contracts say of a market at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarketValues {
    /// The cToken.
    pub c_token: Address,
    /// Underlying tokens per cToken, with 18 decimals.
    pub exchange_rate: U256,
    /// The index with which debts grow.
    pub borrow_index: U256,
    /// The sum of the cTokens.
    pub total_supply: U256,
    /// The sum of the debts.
    pub total_borrows: U256,
}

/// Tokens that were sent to the cToken itself: destroyed, if the next log says so.
#[derive(Debug, Clone, Copy)]
struct SentBack {
    market: Address,
    amount: U256,
    transaction: TxHash,
    index: i64,
}

/// The balances of all accounts, as of the last log.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    comptroller: Option<Address>,
    markets: FxHashMap<Address, Accruals>,
    balances: FxHashMap<(Address, Address), Balance>,
    sent_back: Option<SentBack>,
}

/// Adds the entries of a state, from which the replay continues.
impl Extend<Entry> for Replay {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        for entry in entries {
            match entry {
                Entry::Account { market, account, balance } => drop(self.balances.insert((market, account), balance)),
                Entry::Market { market, values } => drop(self.markets.insert(market, values)),
            }
        }
    }
}

impl Replay {
    /// Sets the contracts whose logs are applied.
    pub fn set_contracts(&mut self, comptroller: Address, c_tokens: &[Address]) {
        self.comptroller = Some(comptroller);
        for c_token in c_tokens {
            self.markets.entry(*c_token).or_default();
        }
    }

    /// Applies a log. Logs of other contracts change nothing.
    ///
    /// # Errors
    /// `CorruptData` for an event that is malformed or has a number that no contract can have.
    pub fn apply(&mut self, log: &Log<'_>) -> Result<()> {
        if self.comptroller == Some(log.contract) {
            self.apply_comptroller(log)
        } else if self.markets.contains_key(&log.contract) {
            self.settle(log)?;
            self.apply_c_token(log)
        } else {
            Ok(())
        }
    }

    fn apply_comptroller(&mut self, log: &Log<'_>) -> Result<()> {
        use Comptroller::ComptrollerEvents::{MarketEntered, MarketExited};
        let known = Comptroller::ComptrollerEvents::SELECTORS;
        let (market, account, is_collateral) = match decode_event(known, log.topics, log.data)? {
            Some(MarketEntered(event)) => (event.cToken, event.account, true),
            Some(MarketExited(event)) => (event.cToken, event.account, false),
            _ => return Ok(()),
        };
        self.change(address(market), address(account), |balance| {
            balance.is_collateral = is_collateral;
            Ok(())
        })
    }

    fn apply_c_token(&mut self, log: &Log<'_>) -> Result<()> {
        use CToken::CTokenEvents::{Borrow, RepayBorrow, Transfer};
        let market = log.contract;
        if let Some(borrow_index) = accrued_index(log)? {
            let values = self.markets.entry(market).or_default();
            values.borrow_index = ray::narrow(borrow_index)?;
            values.accruals += 1;
            return Ok(());
        }
        match decode_event(CToken::CTokenEvents::SELECTORS, log.topics, log.data)? {
            Some(Transfer(event)) => self.transfer(log, address(event.from), address(event.to), event.amount),
            Some(Borrow(event)) => self.change_debt(market, address(event.borrower), event.accountBorrows),
            Some(RepayBorrow(event)) => self.change_debt(market, address(event.borrower), event.accountBorrows),
            _ => Ok(()),
        }
    }

    /// Moves cTokens. Those that come from the cToken itself are new. Those that are sent to it are destroyed if the
    /// next log is a redemption or an addition to the reserves; otherwise the cToken holds them.
    fn transfer(&mut self, log: &Log<'_>, from: Address, to: Address, amount: U256) -> Result<()> {
        let market = log.contract;
        if from != market {
            self.change(market, from, |balance| subtract(&mut balance.supply, amount))?;
        }
        if to == market {
            self.sent_back = Some(SentBack { market, amount, transaction: log.transaction, index: log.index });
            return Ok(());
        }
        self.change(market, to, |balance| add(&mut balance.supply, amount))
    }

    /// Decides what became of the tokens that were sent to their own cToken, by the log that comes after them.
    fn settle(&mut self, log: &Log<'_>) -> Result<()> {
        use CToken::CTokenEvents::{Redeem, ReservesAdded};
        let Some(sent) = self.sent_back.take() else { return Ok(()) };
        let is_next = log.transaction == sent.transaction && log.index == sent.index + 1 && log.contract == sent.market;
        let event = if is_next { decode_event(CToken::CTokenEvents::SELECTORS, log.topics, log.data)? } else { None };
        match event {
            Some(Redeem(_) | ReservesAdded(_)) => Ok(()),
            _ => self.hold(sent),
        }
    }

    fn hold(&mut self, sent: SentBack) -> Result<()> {
        self.change(sent.market, sent.market, |balance| add(&mut balance.supply, sent.amount))
    }

    /// Ends a sequence of logs that is complete up to the end of a block. Call it before reading balances.
    ///
    /// # Errors
    /// As [`Replay::apply`].
    pub fn finish_block(&mut self) -> Result<()> {
        self.sent_back.take().map_or(Ok(()), |sent| self.hold(sent))
    }

    fn change_debt(&mut self, market: Address, borrower: Address, debt: U256) -> Result<()> {
        let values = self.markets.entry(market).or_default();
        values.changes += 1;
        let (debt, index) = (ray::narrow(debt)?, values.borrow_index);
        self.change(market, borrower, |balance| {
            (balance.debt, balance.debt_index) = if debt == 0 { (0, 0) } else { (debt, index) };
            Ok(())
        })
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
        let accounts = self.balances.iter().map(|((market, account), balance)| Entry::Account {
            market: *market,
            account: *account,
            balance: balance.clone(),
        });
        let markets = self.markets.iter().map(|(market, values)| Entry::Market { market: *market, values: *values });
        accounts.chain(markets)
    }

    /// Returns the open positions in the given markets, in no particular order. cTokens that the cToken itself holds are
    /// no position.
    ///
    /// # Errors
    /// `CorruptData` for a number that no contract can have.
    pub fn positions(&self, markets: &[MarketValues]) -> Result<Vec<Position>> {
        let markets: FxHashMap<Address, &MarketValues> =
            markets.iter().map(|market| (market.c_token, market)).collect();
        let mut positions = Vec::with_capacity(self.balances.len());
        for ((market, account), balance) in &self.balances {
            let Some(values) = markets.get(market).filter(|_| account != market) else { continue };
            for (kind, amount) in [
                (PositionKind::Supply, mul_div(unsigned(balance.supply), values.exchange_rate, WAD)?),
                (PositionKind::Borrow, debt(balance, values.borrow_index)?),
            ] {
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

    /// Returns the cTokens that a market has itself: its part of what liquidations seized, which is no position.
    #[must_use]
    pub fn held_by_market(&self, market: Address) -> U256 {
        self.balances.get(&(market, market)).map_or(U256::ZERO, |balance| unsigned(balance.supply))
    }

    /// Compares the sums of the balances with what the contracts say. The contracts round the sum of the debts at each
    /// accrual, loan and repayment.
    ///
    /// # Errors
    /// `CorruptData` for a number that no contract can have.
    pub fn differences(&self, markets: &[MarketValues]) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        for values in markets {
            let market = values.c_token;
            let balances = || self.balances.iter().filter(|((of, _), _)| *of == market).map(|(_, balance)| balance);
            let supply = total(balances().map(|balance| balance.supply));
            let mut debts = U256::ZERO;
            for balance in balances() {
                debts = debts.saturating_add(debt(balance, values.borrow_index)?);
            }
            let Accruals { accruals, changes, .. } = self.markets.get(&market).copied().unwrap_or_default();
            let per_accrual = values.total_borrows / WAD + U256::ONE;
            let count = |count: i64| U256::from(count.unsigned_abs());
            let tolerance = count(accruals).saturating_mul(per_accrual).saturating_add(count(changes));
            if supply != values.total_supply {
                let (replayed, actual) = (supply, values.total_supply);
                differences.push(Difference { market, account: None, value: "totalSupply", replayed, actual });
            }
            if debts.abs_diff(values.total_borrows) > tolerance {
                let (replayed, actual) = (debts, values.total_borrows);
                differences.push(Difference { market, account: None, value: "totalBorrows", replayed, actual });
            }
        }
        Ok(differences)
    }
}

/// Returns a debt at a borrow index.
fn debt(balance: &Balance, borrow_index: U256) -> Result<U256> {
    if balance.debt == 0 {
        return Ok(U256::ZERO);
    }
    mul_div(unsigned(balance.debt), borrow_index, unsigned(balance.debt_index))
}

/// Returns the borrow index of an accrual of interest, `None` for another event. Later cTokens have a field more.
fn accrued_index(log: &Log<'_>) -> Result<Option<U256>> {
    use NewCToken::NewCTokenEvents;
    use OldCToken::OldCTokenEvents;
    let event = decode_event(NewCTokenEvents::SELECTORS, log.topics, log.data)?;
    if let Some(NewCTokenEvents::AccrueInterest(event)) = event {
        return Ok(Some(event.borrowIndex));
    }
    let event = decode_event(OldCTokenEvents::SELECTORS, log.topics, log.data)?;
    Ok(event.map(|OldCTokenEvents::AccrueInterest(event)| event.borrowIndex))
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolEvent;

    use super::super::fixture::{OwnedLog, address, argument, number};
    use super::*;

    const COMPTROLLER: u8 = 1;
    const MARKET: u8 = 2;
    const USER: u8 = 7;

    /// Returns values with an exchange rate and an index of 1.
    fn values() -> MarketValues {
        MarketValues {
            c_token: address(MARKET),
            exchange_rate: WAD,
            borrow_index: number(100),
            total_supply: U256::ZERO,
            total_borrows: U256::ZERO,
        }
    }

    fn replay(logs: &[OwnedLog]) -> Replay {
        let mut replay = Replay::default();
        replay.set_contracts(address(COMPTROLLER), &[address(MARKET)]);
        for log in logs {
            replay.apply(&log.log()).unwrap();
        }
        replay.finish_block().unwrap();
        replay
    }

    fn positions(replay: &Replay, values: MarketValues) -> Vec<(u8, &'static str, u128, Option<bool>)> {
        let positions = replay.positions(&[values]).unwrap();
        let mut positions: Vec<_> = positions
            .into_iter()
            .map(|p| (p.account.0[0], p.kind.name(), u128::try_from(p.balance).unwrap(), p.is_collateral))
            .collect();
        positions.sort_unstable();
        positions
    }

    fn log(event: &impl SolEvent) -> OwnedLog {
        OwnedLog::new(address(MARKET), event)
    }

    fn transfer(from: u8, to: u8, amount: u128) -> OwnedLog {
        log(&CToken::Transfer { from: argument(from), to: argument(to), amount: number(amount) })
    }

    fn accrual(borrow_index: u128) -> OwnedLog {
        log(&OldCToken::AccrueInterest {
            interestAccumulated: number(1),
            borrowIndex: number(borrow_index),
            totalBorrows: number(1),
        })
    }

    fn borrow(account_borrows: u128) -> OwnedLog {
        log(&CToken::Borrow {
            borrower: argument(USER),
            borrowAmount: number(1),
            accountBorrows: number(account_borrows),
            totalBorrows: number(1),
        })
    }

    #[test]
    fn supply_is_the_c_tokens_times_the_exchange_rate() {
        let replay = replay(&[transfer(MARKET, USER, 1000), transfer(USER, 8, 300)]);
        // 1.5, cut off.
        let values =
            MarketValues { exchange_rate: WAD * number(3) / number(2), total_supply: number(1000), ..values() };
        let expected = [(USER, "supply", 1050, Some(false)), (8, "supply", 450, Some(false))];
        assert_eq!(positions(&replay, values), expected);
        assert_eq!(replay.differences(&[values]).unwrap(), []);
        let other = MarketValues { total_supply: number(999), ..values };
        assert_eq!(replay.differences(&[other]).unwrap()[0].value, "totalSupply");
    }

    #[test]
    fn tokens_sent_to_their_own_contract_are_destroyed_only_before_a_redemption_or_an_addition_to_the_reserves() {
        let redeem =
            log(&CToken::Redeem { redeemer: argument(USER), redeemAmount: number(1), redeemTokens: number(400) });
        let added = log(&CToken::ReservesAdded {
            benefactor: argument(MARKET),
            addAmount: number(1),
            newTotalReserves: number(1),
        });
        let sent = || vec![transfer(MARKET, USER, 1000).at(3, 0), transfer(USER, MARKET, 400).at(4, 0)];
        let then = |log: OwnedLog| [sent(), vec![log]].concat();
        for (logs, held) in [
            (then(redeem.clone().at(5, 0)), 0),
            (then(added.at(5, 0)), 0),
            (sent(), 400),
            (then(redeem.clone().at(6, 0)), 400),
            (then(redeem.at(5, 0).in_transaction(2)), 400),
            (then(accrual(200).at(5, 0)), 400),
        ] {
            let replay = replay(&logs);
            // What the cToken holds is no position, but a part of the sum.
            assert_eq!(positions(&replay, values()), [(USER, "supply", 600, Some(false))]);
            let values = MarketValues { total_supply: number(600 + held), ..values() };
            assert_eq!(replay.differences(&[values]).unwrap(), [], "{held}");
        }
    }

    #[test]
    fn debt_grows_with_the_index_since_its_last_change() {
        let repay = log(&CToken::RepayBorrow {
            payer: argument(8),
            borrower: argument(USER),
            repayAmount: number(1),
            accountBorrows: number(50),
            totalBorrows: number(1),
        });
        let later = log(&NewCToken::AccrueInterest {
            cashPrior: number(1),
            interestAccumulated: number(1),
            borrowIndex: number(150),
            totalBorrows: number(1),
        });
        let now = MarketValues { borrow_index: number(300), ..values() };
        let logs = [accrual(100), borrow(1000)];
        assert_eq!(positions(&replay(&logs), now), [(USER, "borrow", 3000, None)]);
        let logs = [accrual(100), borrow(1000), later, repay];
        assert_eq!(positions(&replay(&logs), now), [(USER, "borrow", 100, None)]);
        let logs = [accrual(100), borrow(1000), borrow(0)];
        assert_eq!(positions(&replay(&logs), now), []);
    }

    #[test]
    fn sum_of_debts_may_differ_by_the_roundings() {
        // Two accruals and one loan: 2 · (total / 1e18 + 1) + 1.
        let replay = replay(&[accrual(100), accrual(100), borrow(1000)]);
        let differs = |total: u128| {
            let values = MarketValues { total_borrows: number(total), ..values() };
            replay.differences(&[values]).unwrap().iter().any(|difference| difference.value == "totalBorrows")
        };
        assert_eq!([1003, 1004, 997, 996].map(differs), [false, true, false, true]);
        let large = 3 * 10u128.pow(18);
        let replay = self::replay(&[accrual(100), borrow(large)]);
        let differs = |total: u128| {
            let values = MarketValues { total_borrows: number(total), ..values() };
            !replay.differences(&[values]).unwrap().is_empty()
        };
        assert_eq!([large + 5, large + 6].map(differs), [false, true]);
    }

    #[test]
    fn collateral_is_a_market_that_the_account_entered() {
        let entered = |market| {
            let event = Comptroller::MarketEntered { cToken: argument(market), account: argument(USER) };
            OwnedLog::new(address(COMPTROLLER), &event)
        };
        let exited = Comptroller::MarketExited { cToken: argument(MARKET), account: argument(USER) };
        let exited = OwnedLog::new(address(COMPTROLLER), &exited);
        let supply = transfer(MARKET, USER, 10);
        for (logs, flag) in [
            (vec![entered(MARKET), supply.clone()], true),
            (vec![supply.clone(), entered(MARKET), exited], false),
            (vec![supply, entered(3)], false),
        ] {
            assert_eq!(positions(&replay(&logs), values()), [(USER, "supply", 10, Some(flag))]);
        }
    }

    #[test]
    fn logs_of_other_contracts_change_nothing() {
        let other = OwnedLog { contract: address(0x66), ..transfer(MARKET, USER, 10) };
        let replay = replay(&[other]);
        assert_eq!((replay.entries().count(), positions(&replay, values())), (1, vec![]), "the market itself");
    }

    #[test]
    fn tokens_of_the_market_itself_are_no_position() {
        let replay = replay(&[transfer(MARKET, USER, 10), transfer(MARKET, MARKET, 4)]);
        assert_eq!(positions(&replay, values()), [(USER, "supply", 10, Some(false))]);
        let held = [MARKET, USER].map(|market| replay.held_by_market(address(market)));
        assert_eq!(held, [U256::from(4), U256::ZERO]);
    }

    #[test]
    fn replay_continues_from_its_state() {
        let before = replay(&[accrual(100), borrow(1000), transfer(MARKET, USER, 10)]);
        let mut after = Replay::default();
        after.extend(before.entries());
        after.set_contracts(address(COMPTROLLER), &[address(MARKET)]);
        // Without an accrual, the index is that of the state.
        after.apply(&borrow(2000).log()).unwrap();
        let expected = [(USER, "borrow", 2000, None), (USER, "supply", 10, Some(false))];
        assert_eq!(positions(&after, values()), expected);
        assert_eq!(after.markets[&address(MARKET)], Accruals { borrow_index: 100, accruals: 1, changes: 2 });
    }

    #[test]
    fn malformed_events_are_corrupt() {
        let mut short = borrow(1);
        short.data.truncate(64);
        let large = transfer(MARKET, USER, u128::MAX);
        for log in [short, large] {
            assert_eq!(replay(&[]).apply(&log.log()).unwrap_err().kind(), crate::Kind::CorruptData);
        }
        // A debt without an index.
        let without_index = replay(&[borrow(1000)]);
        assert_eq!(without_index.positions(&[values()]).unwrap_err().kind(), crate::Kind::CorruptData);
    }
}
