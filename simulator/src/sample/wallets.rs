//! The wallets of the sample chain.

use super::accounts::Account;
use super::rng::SeededRng;
use super::{SampleOptions, Scenario};

/// The behaviour of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalletKind {
    /// Deposits for interest and never borrows.
    Lender,
    /// Borrows stablecoins against volatile collateral, at a moderate risk.
    Borrower,
    /// Repeatedly borrows and deposits the borrowed value as collateral. Loopers are the first to be liquidated.
    Looper,
    /// A borrower that acts through a proxy contract, which is the account of its positions.
    ProxyUser,
    /// Liquidates others.
    Liquidator,
    /// Acts once.
    Dormant,
    /// A borrower that joins in the last third of the days.
    LateJoiner,
    /// A borrower of the credit scenario.
    Habitual(Habits),
}

/// The habits of a borrower, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habits {
    /// How careful it is. The more, the more often it acts, the more it repays and the less it borrows at once.
    pub(super) care: u64,
    /// The probability that it looks at its risk on a day.
    pub(super) attention: u64,
}

impl Habits {
    /// Half of all borrowers look almost every day, a third hardly ever.
    fn new(rng: &mut SeededRng) -> Habits {
        let care = rng.below(1000);
        Habits { care, attention: 20 + (care.saturating_sub(350) * 7 / 2).min(850) }
    }
}

/// A wallet, its accounts and its behaviour.
#[derive(Clone, Copy)]
pub(super) struct Wallet {
    pub(super) kind: WalletKind,
    /// The account of the wallet's address, which sends its transactions.
    pub(super) own: usize,
    /// The account of its positions: the wallet's own or that of its proxy contract.
    pub(super) account: usize,
    pub(super) protocol: usize,
    pub(super) uses_both_protocols: bool,
    /// The day of the first action.
    pub(super) first_day: usize,
    /// Its assets, in dollars.
    pub(super) wealth: f64,
    /// The risk up to which it borrows.
    pub(super) target_risk: f64,
    /// The probability of an action on a day, in thousandths.
    pub(super) activity_per_mille: u64,
}

/// Creates wallets and their accounts. The first wallet is a liquidator.
pub(super) fn create_wallets(options: &SampleOptions, rng: &mut SeededRng) -> (Vec<Wallet>, Vec<Account>) {
    let SampleOptions { scenario, wallets: count, days, .. } = *options;
    let mut accounts = Vec::new();
    let mut wallets = Vec::with_capacity(count as usize);
    for index in 0..count {
        let kind = match scenario {
            _ if index == 0 => WalletKind::Liquidator,
            Scenario::Mixed => kind(rng),
            Scenario::Credit => credit_kind(rng),
        };
        let own = accounts.len();
        accounts.push(Account::new(rng.hex(20)));
        let has_proxy = kind == WalletKind::ProxyUser || (kind == WalletKind::Liquidator && rng.per_mille(500));
        if has_proxy {
            accounts.push(Account::new(rng.hex(20)));
        }
        let (low, high) = target_risks(kind);
        wallets.push(Wallet {
            kind,
            own,
            account: if has_proxy { own + 1 } else { own },
            protocol: usize::from(rng.per_mille(400)),
            uses_both_protocols: rng.per_mille(200),
            first_day: first_day(kind, days as usize, rng),
            // A Pareto distribution: the n-th richest wallet has about 1/n of the richest.
            wealth: 400.0 / (1.0 - 0.9998 * rng.unit()),
            target_risk: rng.between(low, high),
            activity_per_mille: match kind {
                WalletKind::Dormant => 0,
                WalletKind::Habitual(_) => 1000,
                _ => 30 + rng.below(170),
            },
        });
    }
    (wallets, accounts)
}

fn kind(rng: &mut SeededRng) -> WalletKind {
    match rng.below(100) {
        0..34 => WalletKind::Lender,
        34..58 => WalletKind::Borrower,
        58..68 => WalletKind::Looper,
        68..77 => WalletKind::ProxyUser,
        77..79 => WalletKind::Liquidator,
        79..90 => WalletKind::Dormant,
        _ => WalletKind::LateJoiner,
    }
}

fn credit_kind(rng: &mut SeededRng) -> WalletKind {
    match rng.below(100) {
        0..2 => WalletKind::Liquidator,
        2..10 => WalletKind::Lender,
        _ => WalletKind::Habitual(Habits::new(rng)),
    }
}

fn target_risks(kind: WalletKind) -> (f64, f64) {
    match kind {
        WalletKind::Looper => (0.84, 0.93),
        WalletKind::Dormant => (0.3, 0.85),
        WalletKind::Habitual(_) => (0.72, 0.95),
        _ => (0.25, 0.8),
    }
}

fn first_day(kind: WalletKind, days: usize, rng: &mut SeededRng) -> usize {
    let third = days / 3;
    match kind {
        WalletKind::Dormant => rng.below(third as u64 / 2 + 1) as usize,
        WalletKind::LateJoiner => days - 1 - rng.below(third as u64 + 1).min(days as u64 - 1) as usize,
        WalletKind::Habitual(_) => rng.below(2 * third as u64 + 1) as usize,
        _ => rng.below(third as u64 + 1) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wallets_join_in_time_and_have_accounts() {
        let options = SampleOptions::default();
        for days in [1, 2, 45] {
            let (wallets, accounts) =
                create_wallets(&SampleOptions { wallets: 400, days, ..options }, &mut SeededRng::new(1, 2));
            assert_eq!(wallets.len(), 400);
            assert!(wallets.iter().all(|wallet| wallet.first_day < days as usize));
            assert!(wallets.iter().all(|wallet| wallet.account < accounts.len() && wallet.wealth > 0.0));
        }
    }

    #[test]
    fn all_kinds_exist_and_proxies_have_own_accounts() {
        let options = SampleOptions::default();
        let (wallets, accounts) = create_wallets(&SampleOptions { wallets: 400, ..options }, &mut SeededRng::new(1, 2));
        for kind in [
            WalletKind::Lender,
            WalletKind::Borrower,
            WalletKind::Looper,
            WalletKind::ProxyUser,
            WalletKind::Liquidator,
            WalletKind::Dormant,
            WalletKind::LateJoiner,
        ] {
            assert!(wallets.iter().any(|wallet| wallet.kind == kind), "{kind:?}");
        }
        assert!(wallets.iter().all(|wallet| (wallet.kind != WalletKind::ProxyUser) || wallet.account != wallet.own));
        assert!(accounts.len() > wallets.len());
        let late = wallets.iter().filter(|wallet| wallet.kind == WalletKind::LateJoiner);
        assert!(late.clone().all(|wallet| wallet.first_day >= 29), "{:?}", late.map(|wallet| wallet.first_day).min());
    }
}
