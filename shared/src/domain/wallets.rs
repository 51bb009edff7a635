//! States by wallet, for rows that come in the order of their wallets, as those of every table do: the next wallet is found a few
//! places on, without a hash table and without a jump through memory.

use rustc_hash::FxHashMap;

use super::Address;

/// Fewer newcomers than this are not worth a merge.
const FEW: usize = 1024;

/// A state for each wallet.
#[derive(Debug, Clone, Default)]
pub struct Wallets<S> {
    /// In the order of their addresses.
    settled: Vec<(Address, S)>,
    /// Those that have come since, in the order in which they came.
    newcomers: Vec<(Address, S)>,
    /// Where each newcomer is.
    places: FxHashMap<Address, usize>,
    /// The settled wallet that was asked for last.
    last: usize,
}

impl<S: Default> Wallets<S> {
    /// The state of a wallet, made if it is new.
    pub fn state(&mut self, wallet: Address) -> &mut S {
        if let Some(place) = self.settled_place(wallet, self.last) {
            self.last = place;
            return &mut self.settled[place].1;
        }
        if !self.places.contains_key(&wallet) && self.newcomers.len() >= FEW.max(self.settled.len() / 4) {
            self.settle();
        }
        let place = *self.places.entry(wallet).or_insert_with(|| {
            self.newcomers.push((wallet, S::default()));
            self.newcomers.len() - 1
        });
        &mut self.newcomers[place].1
    }

    /// Takes the newcomers in among the others.
    fn settle(&mut self) {
        self.newcomers.sort_unstable_by_key(|(wallet, _)| *wallet);
        self.settled.append(&mut self.newcomers);
        // Two runs in order, which a stable sort merges.
        self.settled.sort_by_key(|(wallet, _)| *wallet);
        self.places.clear();
        self.last = 0;
    }
}

impl<S> Wallets<S> {
    /// The state of a wallet, if it has one.
    #[must_use]
    pub fn get(&self, wallet: Address) -> Option<&S> {
        let settled = self.settled_place(wallet, self.last).map(|place| &self.settled[place]);
        settled.or_else(|| self.places.get(&wallet).map(|place| &self.newcomers[*place])).map(|(_, state)| state)
    }

    /// Where a wallet is among the settled ones: looked for in steps that double, from another one's place.
    fn settled_place(&self, wallet: Address, near: usize) -> Option<usize> {
        let is_up_to = |place: usize| self.settled.get(place).is_some_and(|(other, _)| *other <= wallet);
        let (mut low, mut step) = (if is_up_to(near) { near } else { 0 }, 1);
        while is_up_to(low + step) {
            low += step;
            step *= 2;
        }
        let high = self.settled.len().min(low + step);
        let found = self.settled[low..high].binary_search_by_key(&wallet, |(other, _)| *other);
        found.ok().map(|place| low + place)
    }

    /// The places of all wallets, in the order of their addresses.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let all = self.settled.iter().chain(&self.newcomers).enumerate();
        let mut order: Vec<_> = all.map(|(place, (wallet, _))| (*wallet, place)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, place)| place).collect()
    }

    /// The wallet at a place of [`Wallets::order`].
    #[must_use]
    pub fn at(&self, place: usize) -> &(Address, S) {
        self.settled.get(place).unwrap_or_else(|| &self.newcomers[place - self.settled.len()])
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_wallet_keeps_its_own_state(
            days in prop::collection::vec((prop::collection::vec(0..6_000_u32, 0..3_000), any::<bool>()), 1..6),
        ) {
            let (mut wallets, mut expected) = (Wallets::<u32>::default(), BTreeMap::new());
            for (day, (numbers, is_sorted)) in days.into_iter().enumerate() {
                let mut rows: Vec<_> = numbers.into_iter().map(|number| address(number / (day as u32 % 3 + 1))).collect();
                if is_sorted {
                    rows.sort_unstable();
                }
                for wallet in rows {
                    *wallets.state(wallet) += 1;
                    *expected.entry(wallet).or_insert(0) += 1;
                }
            }
            let found: Vec<_> = wallets.order().into_iter().map(|place| *wallets.at(place)).collect();
            prop_assert_eq!(found, expected.iter().map(|(wallet, count)| (*wallet, *count)).collect::<Vec<_>>());
            for number in 0..6_100 {
                prop_assert_eq!(wallets.get(address(number)), expected.get(&address(number)));
            }
        }
    }
}
