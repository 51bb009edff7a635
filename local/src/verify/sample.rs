//! Chooses the accounts that are compared. The choice follows from the accounts alone, so that it is the same each time.

use std::collections::BTreeSet;

use defi_shared::domain::Address;
use defi_shared::domain::health::Health;

/// An account in one protocol, as the lake has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Account {
    pub address: Address,
    /// Zeros for an account that has no row.
    pub health: Health,
}

/// The accounts of one protocol in a day's snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Accounts {
    /// The accounts with collateral or debt.
    pub with_health: Vec<Account>,
    /// Accounts that the lake knows from positions and events, and that have neither collateral nor debt in it. Sorted.
    pub without_health: Vec<Address>,
}

/// One of so many accounts is one without collateral and debt, if there are any.
const SHARE_WITHOUT_HEALTH: usize = 10;

/// One of so many accounts is one of the largest, and another one is one of the riskiest.
const SHARE_OF_EXTREMES: usize = 4;

impl Accounts {
    /// Returns at most `count` accounts: a tenth without collateral and debt; of the others a quarter are the largest, a
    /// quarter the riskiest, and the rest is spread evenly over the others by size. The largest are first.
    pub(super) fn choose(&self, count: usize) -> Vec<Account> {
        let share = (count / SHARE_WITHOUT_HEALTH).max(count.saturating_sub(self.with_health.len()));
        let without_health = spread(self.without_health.clone(), share);
        let mut chosen = choose_by_size_and_risk(&self.with_health, count - without_health.len());
        chosen.extend(without_health.into_iter().map(|address| Account { address, health: Health::default() }));
        chosen
    }
}

fn choose_by_size_and_risk(accounts: &[Account], count: usize) -> Vec<Account> {
    let size = |account: &Account| account.health.collateral_eth + account.health.debt_eth;
    let mut by_size = accounts.to_vec();
    by_size.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.address.cmp(&b.address)));
    let extremes = count / SHARE_OF_EXTREMES;
    let mut chosen: BTreeSet<usize> = (0..extremes.min(by_size.len())).collect();
    let mut by_risk: Vec<(usize, f64)> =
        by_size.iter().map(|account| account.health.risk()).enumerate().skip(chosen.len()).collect();
    // A stable sort: of accounts with the same risk, the larger ones are first.
    by_risk.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    chosen.extend(by_risk.into_iter().take(extremes).map(|(rank, _)| rank));
    let others: Vec<usize> = (0..by_size.len()).filter(|rank| !chosen.contains(rank)).collect();
    chosen.extend(spread(others, count - chosen.len()));
    chosen.into_iter().filter_map(|rank| by_size.get(rank).copied()).collect()
}

/// Returns `count` of the items, or all if there are fewer, at equal distances from the first to the last.
fn spread<T: Copy>(items: Vec<T>, count: usize) -> Vec<T> {
    if items.len() <= count {
        return items;
    }
    let (last, steps) = (items.len() - 1, count.saturating_sub(1).max(1));
    (0..count).filter_map(|step| items.get(step * last / steps).copied()).collect()
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::HexBytes;

    use super::*;

    fn address(number: u8) -> Address {
        HexBytes([number; 20])
    }

    fn account(number: u8, collateral_eth: f64, debt_eth: f64) -> Account {
        let health =
            Health { collateral_eth, threshold_weighted_eth: collateral_eth / 2.0, debt_eth, ..Health::default() };
        Account { address: address(number), health }
    }

    /// Accounts 1 to `count`, the first the largest. Only the smallest two have debts.
    fn accounts(count: u8) -> Accounts {
        let debt = |number| if number + 2 > count { f64::from(number) / 100.0 } else { 0.0 };
        let with_health = (1..=count).map(|number| account(number, f64::from(count + 1 - number), debt(number)));
        Accounts { with_health: with_health.rev().collect(), without_health: (200..220).map(address).collect() }
    }

    fn chosen(accounts: &Accounts, count: usize) -> Vec<u8> {
        accounts.choose(count).iter().map(|account| account.address.0[0]).collect()
    }

    #[test]
    fn the_largest_the_riskiest_and_a_spread_of_the_others_are_chosen() {
        // Of 10 accounts, 1 without a row, 2 of the largest, 2 of the riskiest, and 5 from the 3rd to the 98th.
        assert_eq!(chosen(&accounts(100), 10), [1, 2, 3, 26, 50, 74, 98, 99, 100, 200]);
        assert_eq!(chosen(&accounts(100), 1), [1]);
        assert_eq!(chosen(&accounts(100), 2), [1, 100], "without quarters, the whole range");
        assert_eq!(chosen(&accounts(100), 20)[18..], [200, 219]);
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_the_rows() {
        let (forwards, mut backwards) = (accounts(50), accounts(50));
        backwards.with_health.reverse();
        assert_eq!(forwards.choose(17), backwards.choose(17));
        let same = [3, 1, 2].map(|number| account(number, 1.0, 0.5));
        let same = Accounts { with_health: same.to_vec(), ..Accounts::default() };
        assert_eq!(chosen(&same, 2), [1, 3]);
    }

    #[test]
    fn every_account_is_chosen_once_if_there_are_few() {
        let few = accounts(5);
        assert_eq!(chosen(&few, 5), [1, 2, 3, 4, 5]);
        assert_eq!(chosen(&few, 7), [1, 2, 3, 4, 5, 200, 219], "the rest has no row");
        assert_eq!(few.choose(1000).len(), 25);
        assert!(Accounts::default().choose(10).is_empty());
        let none_with_health = Accounts { with_health: Vec::new(), ..few };
        assert_eq!(chosen(&none_with_health, 2), [200, 219]);
    }

    #[test]
    fn as_many_as_asked_for_are_chosen() {
        for count in 1..130 {
            let chosen = chosen(&accounts(100), count);
            let distinct: BTreeSet<_> = chosen.iter().collect();
            assert_eq!((chosen.len(), distinct.len()), (count.min(120), count.min(120)));
        }
    }
}
