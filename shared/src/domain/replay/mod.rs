//! Balances from the logs of a protocol's contracts: each log is applied in the order of the chain, with the integers of
//! the contracts, so that a balance equals the contracts' own to the last unit. No I/O.
//!
//! | module | contents |
//! |---|---|
//! | [`aave_v2`] | the pool and the tokens of each reserve |
//! | [`compound_v2`] | the Comptroller and the cTokens |
//! | `ray` | the fixed-point arithmetic of the contracts |

pub mod aave_v2;
pub mod compound_v2;
#[cfg(test)]
pub(crate) mod fixture;
mod ray;

use alloy_primitives::U256;
use rustc_hash::FxHashMap;

pub use self::ray::{RAY, WAD, compounded, mul_div, ray_div, ray_mul};
use super::{Address, HexBytes, Side, TxHash};
use crate::error::Result;

/// The version of the rules. It rises with each change that gives other balances: states of another version are not
/// used.
pub const VERSION: u32 = 1;

/// The address that tokens come from when they are created, and go to when they are destroyed.
const ZERO: Address = Address::MIN;

/// A log of a contract, as a node returns it.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// The contract.
    pub contract: Address,
    /// One to four topics; the first one tells the event.
    pub topics: &'a [[u8; 32]],
    /// The arguments that are not indexed.
    pub data: &'a [u8],
    /// The transaction.
    pub transaction: TxHash,
    /// The index of the log in its block.
    pub index: i64,
    /// The time of the block, in seconds since 1 January 1970 UTC.
    pub time: i64,
}

/// What a replay knows of one account in one market. Aave's numbers are scaled by the reserve's index; Compound's supply
/// is in cTokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Aave: the scaled balance of aTokens. Compound: the cTokens.
    pub supply: i128,
    /// Aave: the scaled debt at the variable rate. Compound: the debt at the time of `debt_index`.
    pub debt: i128,
    /// Compound: the market's borrow index when the debt was last changed.
    pub debt_index: i128,
    /// Aave: the debt at a stable rate. Few accounts have one, so it has a place of its own.
    pub stable: Option<Box<StableLoan>>,
    /// Whether the account uses its supply as collateral.
    pub is_collateral: bool,
}

impl Balance {
    fn is_empty(&self) -> bool {
        *self == Balance::default()
    }
}

/// A debt at a stable rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StableLoan {
    /// The debt at `since`.
    pub principal: i128,
    /// The yearly rate in rays.
    pub rate: i128,
    /// When the debt was last changed, in seconds since 1 January 1970 UTC.
    pub since: i64,
}

/// The kind of a position: the last part of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PositionKind {
    /// A supply.
    Supply,
    /// Compound: a debt.
    Borrow,
    /// Aave: a debt at the variable rate.
    Variable,
    /// Aave: a debt at a stable rate.
    Stable,
}

impl PositionKind {
    /// Returns the name, as in the id of a position.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PositionKind::Supply => "supply",
            PositionKind::Borrow => "borrow",
            PositionKind::Variable => "variable",
            PositionKind::Stable => "stable",
        }
    }

    /// Returns the side.
    #[must_use]
    pub fn side(self) -> Side {
        if self == PositionKind::Supply { Side::Lender } else { Side::Borrower }
    }
}

/// An open position: its balance is above 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The account.
    pub account: Address,
    /// The market: the aToken or the cToken.
    pub market: Address,
    /// The kind.
    pub kind: PositionKind,
    /// The balance in base units of the market's token.
    pub balance: U256,
    /// Whether the supply is enabled as collateral. `None` for a debt.
    pub is_collateral: Option<bool>,
}

/// A value of a market that is not what the contract says: a sum over its balances, or the balance of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The market.
    pub market: Address,
    /// The account, if the value is not a sum.
    pub account: Option<Address>,
    /// The name of the value in the contract.
    pub value: &'static str,
    /// What follows from the logs.
    pub replayed: U256,
    /// What the contract says.
    pub actual: U256,
}

/// A part of a replay's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// One account in one market.
    Account {
        /// The market: the aToken or the cToken.
        market: Address,
        /// The account.
        account: Address,
        /// Its balance.
        balance: Balance,
    },
    /// Compound: a market itself.
    Market {
        /// The cToken.
        market: Address,
        /// Its index and counters.
        values: Accruals,
    },
}

/// Compound: what a replay knows of a market itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accruals {
    /// The index with which debts grow, as of the last accrual.
    pub borrow_index: i128,
    /// The number of accruals of interest, each of which rounds.
    pub accruals: i64,
    /// The number of loans and repayments, each of which rounds.
    pub changes: i64,
}

fn address(address: alloy_primitives::Address) -> Address {
    HexBytes(address.into_array())
}

/// Returns the sum of balances.
fn total(balances: impl Iterator<Item = i128>) -> U256 {
    balances.map(unsigned).fold(U256::ZERO, U256::saturating_add)
}

/// Widens a balance, which is never negative.
fn unsigned(number: i128) -> U256 {
    U256::from(number.unsigned_abs())
}

/// Changes the balance of an account in a market, and forgets it once it is empty.
fn change_balance(
    balances: &mut FxHashMap<(Address, Address), Balance>,
    market: Address,
    account: Address,
    change: impl FnOnce(&mut Balance) -> Result<()>,
) -> Result<()> {
    let balance = balances.entry((market, account)).or_default();
    change(balance)?;
    if balance.is_empty() {
        balances.remove(&(market, account));
    }
    Ok(())
}

/// Adds to a balance.
fn add(balance: &mut i128, amount: U256) -> Result<()> {
    *balance = ray::narrow(unsigned(*balance).saturating_add(amount))?;
    Ok(())
}

/// Subtracts from a balance. It can only fall below 0 where a token does not follow the rules of its protocol: then it
/// stays at 0, and the market's sum differs from what the contract says.
fn subtract(balance: &mut i128, amount: U256) -> Result<()> {
    *balance = ray::narrow(unsigned(*balance).saturating_sub(amount))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_but_a_supply_is_a_debt() {
        let kinds = [PositionKind::Supply, PositionKind::Borrow, PositionKind::Variable, PositionKind::Stable];
        let sides = kinds.map(|kind| (kind.name(), kind.side()));
        let debt = |name| (name, Side::Borrower);
        assert_eq!(sides, [("supply", Side::Lender), debt("borrow"), debt("variable"), debt("stable")]);
    }
}
