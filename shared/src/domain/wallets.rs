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
    sorted: Vec<(Address, S)>,
    /// Entries added since the last merge, in insertion order.
    unsorted: Vec<(Address, S)>,
    /// Index of each wallet in `unsorted`.
    unsorted_index: FxHashMap<Address, usize>,
    /// Index in `sorted` of the wallet that was last looked up.
    last: usize,
}

impl<S: Default> WalletMap<S> {
    /// Returns the state of a wallet, which is created if it does not exist.
    pub fn get_or_default(&mut self, wallet: Address) -> &mut S {
        if let Some(index) = self.find_sorted(wallet, self.last) {
            self.last = index;
            return &mut self.sorted[index].1;
        }
        if !self.unsorted_index.contains_key(&wallet) && self.unsorted.len() >= MIN_MERGE.max(self.sorted.len() / 4) {
            self.merge();
        }
        let index = *self.unsorted_index.entry(wallet).or_insert_with(|| {
            self.unsorted.push((wallet, S::default()));
            self.unsorted.len() - 1
        });
        &mut self.unsorted[index].1
    }

    /// Merges the unsorted entries into the sorted ones.
    fn merge(&mut self) {
        self.unsorted.sort_unstable_by_key(|(wallet, _)| *wallet);
        self.sorted.append(&mut self.unsorted);
        // The stable sort merges the two sorted runs in linear time.
        self.sorted.sort_by_key(|(wallet, _)| *wallet);
        self.unsorted_index.clear();
        self.last = 0;
    }
}

impl<S> WalletMap<S> {
    /// Returns the state of a wallet, if it exists.
    #[must_use]
    pub fn get(&self, wallet: Address) -> Option<&S> {
        let sorted = self.find_sorted(wallet, self.last).map(|index| &self.sorted[index]);
        sorted.or_else(|| self.unsorted_index.get(&wallet).map(|index| &self.unsorted[*index])).map(|(_, state)| state)
    }

    /// Returns the index of a wallet in `sorted`, by an exponential search from index `start`.
    fn find_sorted(&self, wallet: Address, start: usize) -> Option<usize> {
        let is_at_most = |index: usize| self.sorted.get(index).is_some_and(|(other, _)| *other <= wallet);
        let (mut low, mut step) = (if is_at_most(start) { start } else { 0 }, 1);
        while is_at_most(low + step) {
            low += step;
            step *= 2;
        }
        let high = self.sorted.len().min(low + step);
        let found = self.sorted[low..high].binary_search_by_key(&wallet, |(other, _)| *other);
        found.ok().map(|offset| low + offset)
    }

    /// Returns the indices of all entries, sorted by address.
    #[must_use]
    pub fn sorted_indices(&self) -> Vec<usize> {
        let all = self.sorted.iter().chain(&self.unsorted).enumerate();
        let mut order: Vec<_> = all.map(|(index, (wallet, _))| (*wallet, index)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// Returns the entry at an index of [`WalletMap::sorted_indices`].
    #[must_use]
    pub fn at(&self, index: usize) -> &(Address, S) {
        self.sorted.get(index).unwrap_or_else(|| &self.unsorted[index - self.sorted.len()])
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
            if sizes.last() != Some(&wallets.sorted.len()) {
                sizes.push(wallets.sorted.len());
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
            let found: Vec<_> = wallets.sorted_indices().into_iter().map(|index| *wallets.at(index)).collect();
            prop_assert_eq!(found, expected.iter().map(|(wallet, count)| (*wallet, *count)).collect::<Vec<_>>());
            for number in 0..6_100 {
                prop_assert_eq!(wallets.get(address(number)), expected.get(&address(number)));
            }
        }
    }
}
