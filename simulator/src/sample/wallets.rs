//! The people of the sample chain.

use super::accounts::Account;
use super::dice::Dice;

/// How a wallet behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lends for interest, owes nothing.
    Lender,
    /// Borrows dollars on volatile tokens, with some care.
    Borrower,
    /// Buys more of its collateral with what it borrows, again and again: the first to be liquidated.
    Looper,
    /// A borrower that acts through a contract, which is the account that holds its positions.
    ProxyUser,
    /// Repays the debt of others for their collateral.
    Liquidator,
    /// Does something once, and never again.
    Dormant,
    /// A borrower that comes in the last third.
    LateJoiner,
}

/// A person: an own address, and how it acts.
#[derive(Clone, Copy)]
pub(super) struct Wallet {
    pub(super) kind: Kind,
    /// The account of the own address, which sends every transaction.
    pub(super) own: usize,
    /// The account that holds the positions: the own one or a proxy's.
    pub(super) account: usize,
    pub(super) protocol: usize,
    pub(super) uses_both_protocols: bool,
    /// The day of the first action.
    pub(super) joins: usize,
    /// Dollars.
    pub(super) wealth: f64,
    /// The risk that it is content with.
    pub(super) target: f64,
    /// In how many days of a thousand it does something.
    pub(super) activity: u64,
}

/// Makes so many wallets, and the accounts that belong to them. There is always a liquidator.
pub(super) fn people(count: u32, days: u32, dice: &mut Dice) -> (Vec<Wallet>, Vec<Account>) {
    let mut accounts = Vec::new();
    let mut wallets = Vec::with_capacity(count as usize);
    for index in 0..count {
        let kind = if index == 0 { Kind::Liquidator } else { kind(dice) };
        let own = accounts.len();
        accounts.push(Account::new(dice.hex(20)));
        let has_contract = kind == Kind::ProxyUser || (kind == Kind::Liquidator && dice.per_mille(500));
        if has_contract {
            accounts.push(Account::new(dice.hex(20)));
        }
        let (low, high) = targets(kind);
        wallets.push(Wallet {
            kind,
            own,
            account: if has_contract { own + 1 } else { own },
            protocol: usize::from(dice.per_mille(400)),
            uses_both_protocols: dice.per_mille(200),
            joins: joins(kind, days as usize, dice),
            // Few have much: the n-th richest has a n-th of the richest.
            wealth: 400.0 / (1.0 - 0.9998 * dice.unit()),
            target: dice.between(low, high),
            activity: if kind == Kind::Dormant { 0 } else { 30 + dice.below(170) },
        });
    }
    (wallets, accounts)
}

fn kind(dice: &mut Dice) -> Kind {
    match dice.below(100) {
        0..34 => Kind::Lender,
        34..58 => Kind::Borrower,
        58..68 => Kind::Looper,
        68..77 => Kind::ProxyUser,
        77..79 => Kind::Liquidator,
        79..90 => Kind::Dormant,
        _ => Kind::LateJoiner,
    }
}

fn targets(kind: Kind) -> (f64, f64) {
    match kind {
        Kind::Looper => (0.84, 0.93),
        Kind::Dormant => (0.3, 0.85),
        _ => (0.25, 0.8),
    }
}

fn joins(kind: Kind, days: usize, dice: &mut Dice) -> usize {
    let third = days / 3;
    match kind {
        Kind::Dormant => dice.below(third as u64 / 2 + 1) as usize,
        Kind::LateJoiner => days - 1 - dice.below(third as u64 + 1).min(days as u64 - 1) as usize,
        _ => dice.below(third as u64 + 1) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_joins_in_time_and_has_an_account() {
        for days in [1, 2, 45] {
            let (wallets, accounts) = people(400, days, &mut Dice::new(1, 2));
            assert_eq!(wallets.len(), 400);
            assert!(wallets.iter().all(|wallet| wallet.joins < days as usize));
            assert!(wallets.iter().all(|wallet| wallet.account < accounts.len() && wallet.wealth > 0.0));
        }
    }

    #[test]
    fn every_kind_is_there_and_proxies_are_accounts_of_their_own() {
        let (wallets, accounts) = people(400, 45, &mut Dice::new(1, 2));
        for kind in [
            Kind::Lender,
            Kind::Borrower,
            Kind::Looper,
            Kind::ProxyUser,
            Kind::Liquidator,
            Kind::Dormant,
            Kind::LateJoiner,
        ] {
            assert!(wallets.iter().any(|wallet| wallet.kind == kind), "{kind:?}");
        }
        assert!(wallets.iter().all(|wallet| (wallet.kind != Kind::ProxyUser) || wallet.account != wallet.own));
        assert!(accounts.len() > wallets.len());
        let late = wallets.iter().filter(|wallet| wallet.kind == Kind::LateJoiner);
        assert!(late.clone().all(|wallet| wallet.joins >= 29), "{:?}", late.map(|wallet| wallet.joins).min());
    }
}
