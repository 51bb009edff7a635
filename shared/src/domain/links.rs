//! Links between wallets and accounts: a wallet is linked to every account for which it has borrowed.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Address;

/// A link of a wallet to an account, valid from `since` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The account that owns the borrow position.
    pub account: Address,
    /// The sender of the borrow transaction.
    pub wallet: Address,
    /// Time of the first such borrow, in epoch seconds.
    pub since: i64,
}

/// A set of links: for each account, the linked wallets in address order, with the `since` of each link.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Links(FxHashMap<Address, BTreeMap<Address, i64>>);

impl Links {
    /// Adds a link. Of several links between the same wallet and account, the earliest is kept. A link of a wallet to
    /// itself is redundant and is ignored.
    pub fn add(&mut self, link: Link) {
        if link.account != link.wallet {
            let since = self.0.entry(link.account).or_default().entry(link.wallet).or_insert(link.since);
            *since = (*since).min(link.since);
        }
    }

    /// Returns the links, sorted by account, then wallet.
    #[must_use]
    pub fn sorted(&self) -> Vec<Link> {
        let links_of = |(account, wallets): (&Address, &BTreeMap<Address, i64>)| {
            let account = *account;
            wallets
                .iter()
                .map(move |(wallet, since)| Link { account, wallet: *wallet, since: *since })
                .collect::<Vec<_>>()
        };
        let mut links: Vec<_> = self.0.iter().flat_map(links_of).collect();
        links.sort_unstable();
        links
    }

    /// Returns the wallets to which `account` is attributed: the account itself, then the wallets in address order
    /// whose link has a `since` before `before` (epoch seconds).
    pub fn wallets_of(&self, account: Address, before: i64) -> impl Iterator<Item = Address> + '_ {
        let linked = self.0.get(&account).into_iter().flatten();
        let linked = linked.filter(move |(_, since)| **since < before).map(|(wallet, _)| *wallet);
        std::iter::once(account).chain(linked)
    }
}

impl Extend<Link> for Links {
    fn extend<T: IntoIterator<Item = Link>>(&mut self, links: T) {
        links.into_iter().for_each(|link| self.add(link));
    }
}

#[cfg(test)]
mod tests {
    use super::super::HexBytes;
    use super::*;

    const PROXY: Address = HexBytes([9; 20]);

    fn link(wallet: u8, since: i64) -> Link {
        Link { account: PROXY, wallet: HexBytes([wallet; 20]), since }
    }

    #[test]
    fn link_is_valid_only_after_its_earliest_since() {
        let mut links = Links::default();
        links.extend([link(1, 50), link(1, 20), link(1, 70), link(2, 60)]);
        let wallets = |before| links.wallets_of(PROXY, before).collect::<Vec<_>>();
        assert_eq!(wallets(20), [PROXY]);
        assert_eq!(wallets(21), [PROXY, HexBytes([1; 20])]);
        assert_eq!(wallets(61), [PROXY, HexBytes([1; 20]), HexBytes([2; 20])]);
    }

    #[test]
    fn links_are_sorted_by_account_then_wallet_with_since() {
        let other = Link { account: HexBytes([3; 20]), ..link(4, 80) };
        let mut links = Links::default();
        links.extend([link(2, 60), link(1, 50), other, link(1, 20)]);
        assert_eq!(links.sorted(), [other, link(1, 20), link(2, 60)]);
    }

    #[test]
    fn link_holds_for_its_own_account_only() {
        let mut links = Links::default();
        links.add(link(1, 20));
        let other = HexBytes([3; 20]);
        assert_eq!(links.wallets_of(other, 100).collect::<Vec<_>>(), [other]);
        let wallet = HexBytes([1; 20]);
        assert_eq!(links.wallets_of(wallet, 100).collect::<Vec<_>>(), [wallet], "a link has one direction");
    }

    #[test]
    fn link_of_a_wallet_to_itself_is_ignored() {
        let mut links = Links::default();
        links.add(link(9, 1));
        assert_eq!(links.wallets_of(PROXY, 100).collect::<Vec<_>>(), [PROXY]);
        assert_eq!(links.sorted(), []);
    }
}
