//! The wallets whose features changed the most from one set to the next.

use std::collections::BTreeMap;

use defi_shared::domain::Address;
use defi_shared::tables::FeatureRow;

use super::features::{Measure, READERS, Reader};

/// Wallets that are named.
const MOVERS_SHOWN: usize = 20;

/// Changes that are named of a wallet.
const CHANGES_SHOWN: usize = 4;

/// How a set differs from the one before it, wallet by wallet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Movers {
    /// Wallets that the set before did not have.
    pub new: u64,
    /// Wallets of both with any other value; times since something grow of themselves, and don't count.
    pub changed: u64,
    /// The others.
    pub unchanged: u64,
    /// Those that changed the most, the first the most.
    pub most: Vec<Mover>,
}

/// A wallet whose features changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    /// The wallet.
    pub wallet: Address,
    /// How far it moved: of each feature the distance in standard deviations over all wallets, added up.
    pub distance: f64,
    /// How many of its features changed.
    pub count: usize,
    /// Its largest changes.
    pub changes: Vec<Change>,
}

/// A value that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The feature.
    pub feature: &'static str,
    /// Before.
    pub before: f64,
    /// Now.
    pub now: f64,
    /// How far that is, in standard deviations.
    pub distance: f64,
}

/// Compares two sets.
pub(super) fn of(now: &[FeatureRow], before: &[FeatureRow]) -> Movers {
    let compared: Vec<_> = READERS.iter().filter(|(_, measure, _)| *measure != Measure::Seconds).collect();
    let spreads: Vec<f64> = compared.iter().map(|(.., read)| spread(now.iter().filter_map(read))).collect();
    let earlier: BTreeMap<Address, &FeatureRow> = before.iter().map(|row| (row.wallet_address, row)).collect();
    let mut movers = Movers::default();
    for row in now {
        let Some(earlier) = earlier.get(&row.wallet_address) else {
            movers.new += 1;
            continue;
        };
        let mut changes = changes(&compared, &spreads, earlier, row);
        if changes.is_empty() {
            movers.unchanged += 1;
            continue;
        }
        movers.changed += 1;
        let (distance, count) = (changes.iter().map(|change| change.distance).sum(), changes.len());
        changes.sort_by(|a, b| b.distance.total_cmp(&a.distance));
        changes.truncate(CHANGES_SHOWN);
        movers.most.push(Mover { wallet: row.wallet_address, distance, count, changes });
    }
    movers.most.sort_by(|a, b| b.distance.total_cmp(&a.distance).then(a.wallet.cmp(&b.wallet)));
    movers.most.truncate(MOVERS_SHOWN);
    movers
}

fn changes(compared: &[&Reader], spreads: &[f64], before: &FeatureRow, now: &FeatureRow) -> Vec<Change> {
    let changes = compared.iter().zip(spreads).filter_map(|((feature, _, read), spread)| {
        let (before, now) = read(before).zip(read(now))?;
        // The bits, since a value that is no number differs from itself.
        let is_other = before.to_bits() != now.to_bits();
        let distance = (place(now) - place(before)).abs() / spread;
        let distance = if distance.is_finite() { distance } else { 0.0 };
        is_other.then_some(Change { feature, before, now, distance })
    });
    changes.collect()
}

/// Large values by their logarithm: from 1,000 to 2,000 ETH is no longer a way than from 1 to 2.
fn place(value: f64) -> f64 {
    value.asinh()
}

/// The standard deviation of a feature over all wallets.
fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let places: Vec<f64> = values.map(place).filter(|place| place.is_finite()).collect();
    let count = places.len().max(1) as f64;
    let mean = places.iter().sum::<f64>() / count;
    (places.iter().map(|place| (place - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::fold::WalletState;
    use defi_shared::domain::{Day, HexBytes};

    use super::*;

    fn row(wallet: u8, borrow_count: i64) -> FeatureRow {
        let row = FeatureRow::new(HexBytes([wallet; 20]), &WalletState::default(), Day::from_epoch_days(19_000));
        FeatureRow { borrow_count, ..row }
    }

    #[test]
    fn who_changed_most_comes_first_and_new_wallets_are_no_movers() {
        let before = [row(1, 1), row(2, 1), row(3, 1)];
        let later = FeatureRow { time_since_first_deposit: Some(5), ..row(1, 1) };
        let movers = of(&[later, row(2, 3), row(3, 9), row(4, 100)], &before);
        assert_eq!((movers.new, movers.changed, movers.unchanged), (1, 2, 1));
        let wallets: Vec<_> = movers.most.iter().map(|mover| mover.wallet.0[0]).collect();
        assert_eq!(wallets, [3, 2]);
        let change = &movers.most[0].changes[0];
        assert_eq!((change.feature, change.before, change.now), ("borrow_count", 1.0, 9.0));
    }
}
