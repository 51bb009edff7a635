//! A map from wallets to states, optimized for rows that are sorted by wallet, as in most tables: the next wallet is
//! found a few entries ahead of the previous one, without a hash lookup and close to it in memory.

use rustc_hash::FxHashMap;

use super::Address;

/// The smallest number of unsorted entries that are merged into the sorted ones.
const MIN_MERGE: usize = 1024;

/// A map from wallets to states.
#[derive(Debug, Clone, Default)]
pub struct WalletMap<S> {
    /// Entries sorted by address.
    sorted: Entries<S>,
    /// Entries added since the last merge, in insertion order.
    unsorted: Entries<S>,
    /// Index of each wallet in `unsorted`.
    unsorted_index: FxHashMap<Address, usize>,
    /// Index in `sorted` of the wallet that was last looked up.
    last: usize,
}

/// Wallets and their states. The wallets are together, so that a search reads little memory.
#[derive(Debug, Clone, Default)]
struct Entries<S> {
    wallets: Vec<Address>,
    states: Vec<S>,
}

impl<S: Default> WalletMap<S> {
    /// Returns the state of a wallet, which is created if it does not exist.
    pub fn get_or_default(&mut self, wallet: Address) -> &mut S {
        if let Some(index) = self.find_sorted(wallet, self.last) {
            self.last = index;
            return &mut self.sorted.states[index];
        }
        let (sorted, unsorted) = (self.sorted.wallets.len(), self.unsorted.wallets.len());
        if !self.unsorted_index.contains_key(&wallet) && unsorted >= MIN_MERGE.max(sorted / 4) {
            self.merge();
        }
        let index = *self.unsorted_index.entry(wallet).or_insert_with(|| {
            self.unsorted.wallets.push(wallet);
            self.unsorted.states.push(S::default());
            self.unsorted.wallets.len() - 1
        });
        &mut self.unsorted.states[index]
    }

    /// Merges the unsorted entries into the sorted ones: in place, from the end, because states are large.
    fn merge(&mut self) {
        let Entries { wallets, mut states } = std::mem::take(&mut self.unsorted);
        let mut added: Vec<_> = wallets.into_iter().enumerate().collect();
        added.sort_unstable_by_key(|(_, wallet)| *wallet);
        let Entries { wallets: sorted, states: sorted_states } = &mut self.sorted;
        // The number of entries that are still to be moved, and the place behind the next one.
        let mut left = sorted.len();
        let mut end = left + added.len();
        sorted.reserve_exact(added.len());
        sorted.resize(end, Address::MIN);
        sorted_states.reserve_exact(added.len());
        sorted_states.resize_with(end, S::default);
        while let Some((index, wallet)) = added.pop() {
            while left > 0 && sorted[left - 1] > wallet {
                (left, end) = (left - 1, end - 1);
                sorted[end] = sorted[left];
                sorted_states.swap(left, end);
            }
            end -= 1;
            sorted[end] = wallet;
            sorted_states[end] = std::mem::take(&mut states[index]);
        }
        self.unsorted_index.clear();
        self.last = 0;
    }
}

impl<S> WalletMap<S> {
    /// Returns the state of a wallet, if it exists.
    #[must_use]
    pub fn get(&self, wallet: Address) -> Option<&S> {
        let sorted = self.find_sorted(wallet, self.last).map(|index| &self.sorted.states[index]);
        sorted.or_else(|| self.unsorted_index.get(&wallet).map(|index| &self.unsorted.states[*index]))
    }

    /// Returns the index of a wallet in `sorted`, by an exponential search from index `start`.
    fn find_sorted(&self, wallet: Address, start: usize) -> Option<usize> {
        let wallets = &self.sorted.wallets;
        let is_at_most = |index: usize| wallets.get(index).is_some_and(|other| *other <= wallet);
        let (mut low, mut step) = (if is_at_most(start) { start } else { 0 }, 1);
        while is_at_most(low + step) {
            low += step;
            step *= 2;
        }
        let high = wallets.len().min(low + step);
        wallets[low..high].binary_search(&wallet).ok().map(|offset| low + offset)
    }

    /// Returns the indices of all entries, sorted by address.
    #[must_use]
    pub fn sorted_indices(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.sorted.wallets.len() + self.unsorted.wallets.len()).collect();
        // Fast, because the larger part is sorted.
        order.sort_by_key(|index| self.at(*index).0);
        order
    }

    /// Returns the wallet and its state at an index of [`WalletMap::sorted_indices`].
    #[must_use]
    pub fn at(&self, index: usize) -> (Address, &S) {
        let (entries, index) = match index.checked_sub(self.sorted.wallets.len()) {
            None => (&self.sorted, index),
            Some(index) => (&self.unsorted, index),
        };
        (entries.wallets[index], &entries.states[index])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::HexBytes;
    use super::*;

    fn address(number: u32) -> Address {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        HexBytes(bytes)
    }

    #[test]
    fn new_wallets_are_merged_at_a_quarter_of_the_sorted_ones() {
        let mut wallets = WalletMap::<u32>::default();
        let mut sizes = Vec::new();
        for number in 0..8_000 {
            wallets.get_or_default(address(number));
            if sizes.last() != Some(&wallets.sorted.wallets.len()) {
                sizes.push(wallets.sorted.wallets.len());
            }
        }
        assert_eq!(sizes, [0, 1024, 2048, 3072, 4096, 5120, 6400]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn wallet_map_equals_a_btree_map(
            days in prop::collection::vec((prop::collection::vec(0..6_000_u32, 0..3_000), any::<bool>()), 1..6),
        ) {
            let (mut wallets, mut expected) = (WalletMap::<u32>::default(), BTreeMap::new());
            for (day, (numbers, is_sorted)) in days.into_iter().enumerate() {
                let mut rows: Vec<_> = numbers.into_iter().map(|number| address(number / (day as u32 % 3 + 1))).collect();
                if is_sorted {
                    rows.sort_unstable();
                }
                for wallet in rows {
                    *wallets.get_or_default(wallet) += 1;
                    *expected.entry(wallet).or_insert(0) += 1;
                }
            }
            let found: Vec<_> = wallets.sorted_indices().into_iter().map(|index| wallets.at(index)).map(|(wallet, count)| (wallet, *count)).collect();
            prop_assert_eq!(found, expected.iter().map(|(wallet, count)| (*wallet, *count)).collect::<Vec<_>>());
            for number in 0..6_100 {
                prop_assert_eq!(wallets.get(address(number)), expected.get(&address(number)));
            }
        }
    }
}
