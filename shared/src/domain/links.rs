//! Which accounts a wallet acts through: itself, and every account that it borrowed through by then.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Address;

/// A wallet's link to an account, in force from `since` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The account that was borrowed for.
    pub account: Address,
    /// The sender of the borrow.
    pub wallet: Address,
    /// Epoch seconds of the first such borrow.
    pub since: i64,
}

/// All links known: by account the wallets that are linked to it, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Links(FxHashMap<Address, BTreeMap<Address, i64>>);

impl Links {
    /// Adds a link; of several between one wallet and one account the earliest holds. A wallet's link to itself says
    /// nothing that isn't so without it, and is left out.
    pub fn add(&mut self, link: Link) {
        if link.account != link.wallet {
            let since = self.0.entry(link.account).or_default().entry(link.wallet).or_insert(link.since);
            *since = (*since).min(link.since);
        }
    }

    /// The links, by account, then wallet.
    #[must_use]
    pub fn in_order(&self) -> Vec<Link> {
        let of_account = |(account, wallets): (&Address, &BTreeMap<Address, i64>)| {
            let account = *account;
            wallets
                .iter()
                .map(move |(wallet, since)| Link { account, wallet: *wallet, since: *since })
                .collect::<Vec<_>>()
        };
        let mut links: Vec<_> = self.0.iter().flat_map(of_account).collect();
        links.sort_unstable();
        links
    }

    /// The wallets for which `account` counts when only links with a `since` below `before` (epoch seconds) hold: the
    /// account itself, then the linked wallets in order.
    pub fn wallets_of(&self, account: Address, before: i64) -> impl Iterator<Item = Address> + '_ {
        let linked = self.0.get(&account).into_iter().flatten();
        let in_force = linked.filter(move |(_, since)| **since < before).map(|(wallet, _)| *wallet);
        std::iter::once(account).chain(in_force)
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
    fn a_link_holds_from_its_smallest_since_and_never_backwards() {
        let mut links = Links::default();
        links.extend([link(1, 50), link(1, 20), link(1, 70), link(2, 60)]);
        let wallets = |before| links.wallets_of(PROXY, before).collect::<Vec<_>>();
        assert_eq!(wallets(20), [PROXY]);
        assert_eq!(wallets(21), [PROXY, HexBytes([1; 20])]);
        assert_eq!(wallets(61), [PROXY, HexBytes([1; 20]), HexBytes([2; 20])]);
    }

    #[test]
    fn a_wallet_counts_once_for_itself() {
        let mut links = Links::default();
        links.add(link(9, 1));
        assert_eq!(links.wallets_of(PROXY, 100).collect::<Vec<_>>(), [PROXY]);
        assert_eq!(links.in_order(), []);
    }
}
