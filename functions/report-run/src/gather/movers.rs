//! Finds the wallets whose features changed the most since the previous published set.

use std::collections::BTreeMap;

use defi_shared::domain::Address;
use defi_shared::tables::FeatureRow;

use super::features::{Measure, READERS, Reader};

/// The number of wallets that a report lists.
const MOVERS_SHOWN: usize = 20;

/// The number of changes that a report lists for a wallet.
const CHANGES_SHOWN: usize = 4;

/// The differences between a set and the previous published set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Movers {
    /// The number of wallets that are not in the previous set.
    pub new: u64,
    /// The number of wallets of both sets with at least one changed value. Ignores features that count the time since
    /// an event.
    pub changed: u64,
    /// The number of wallets of both sets without a changed value.
    pub unchanged: u64,
    /// The wallets with the largest distance, largest first.
    pub most: Vec<Mover>,
}

/// A wallet whose features changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    /// The address of the wallet.
    pub wallet: Address,
    /// The sum of the distances of all features. The distance of a feature is its change in standard deviations over
    /// all wallets.
    pub distance: f64,
    /// The number of features that changed.
    pub count: usize,
    /// The largest changes.
    pub changes: Vec<Change>,
}

/// The change of a feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The name of the feature.
    pub feature: &'static str,
    /// The value in the previous set.
    pub before: f64,
    /// The value in the set.
    pub now: f64,
    /// The change in standard deviations over all wallets.
    pub distance: f64,
}

/// Compares two sets wallet by wallet.
pub(super) fn compare(now: &[FeatureRow], before: &[FeatureRow]) -> Movers {
    let compared: Vec<_> = READERS.iter().filter(|(_, measure, _)| *measure != Measure::Seconds).collect();
    let deviations: Vec<f64> =
        compared.iter().map(|(.., read)| standard_deviation(now.iter().filter_map(read))).collect();
    let previous: BTreeMap<Address, &FeatureRow> = before.iter().map(|row| (row.wallet_address, row)).collect();
    let mut movers = Movers::default();
    for row in now {
        let Some(previous) = previous.get(&row.wallet_address) else {
            movers.new += 1;
            continue;
        };
        let mut changes = changes(&compared, &deviations, previous, row);
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

/// Returns the features of a wallet that changed, with their distances.
fn changes(compared: &[&Reader], deviations: &[f64], before: &FeatureRow, now: &FeatureRow) -> Vec<Change> {
    let changes = compared.iter().zip(deviations).filter_map(|((feature, _, read), deviation)| {
        let (before, now) = read(before).zip(read(now))?;
        // Compares bits, because NaN is not equal to itself.
        let has_changed = before.to_bits() != now.to_bits();
        let distance = (log_scale(now) - log_scale(before)).abs() / deviation;
        let distance = if distance.is_finite() { distance } else { 0.0 };
        has_changed.then_some(Change { feature, before, now, distance })
    });
    changes.collect()
}

/// Maps large values to their logarithm, so that a change from 1,000 to 2,000 ETH is about as far as one from 1 to 2
/// ETH.
fn log_scale(value: f64) -> f64 {
    value.asinh()
}

/// Returns the standard deviation of a feature over all wallets, on the logarithmic scale.
fn standard_deviation(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.map(log_scale).filter(|value| value.is_finite()).collect();
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
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
    fn movers_are_sorted_and_exclude_new_wallets() {
        let before = [row(1, 1), row(2, 1), row(3, 1)];
        let later = FeatureRow { time_since_first_deposit: Some(5), ..row(1, 1) };
        let movers = compare(&[later, row(2, 3), row(3, 9), row(4, 100)], &before);
        assert_eq!((movers.new, movers.changed, movers.unchanged), (1, 2, 1));
        let wallets: Vec<_> = movers.most.iter().map(|mover| mover.wallet.0[0]).collect();
        assert_eq!(wallets, [3, 2]);
        let change = &movers.most[0].changes[0];
        assert_eq!((change.feature, change.before, change.now), ("borrow_count", 1.0, 9.0));
    }
}
