//! What the checks use of the rows of a feature set. The rows of a large set do not fit into the memory of a function.

use std::fmt::Display;

use defi_shared::Result;
use defi_shared::domain::Address;
use defi_shared::lake::{FeatureSet, Lake, SetDigest};
use defi_shared::tables::FeatureRow;

/// The sums and counts of the rows of a set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// The wallets, in the order of the rows.
    pub wallets: Vec<Address>,
    /// Every amount, factor and count. Empty if there are no rows.
    pub features: Vec<Feature>,
    /// The wallets with a negative count or time.
    pub negative: Culprits,
    /// The wallets with an amount or a factor that is not finite.
    pub not_finite: Culprits,
}

/// The values of a feature in a set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feature {
    pub name: &'static str,
    pub sum: f64,
    /// The number of wallets with a value other than 0.
    pub non_zero: usize,
}

/// Wallets with a wrong value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Culprits {
    pub count: usize,
    /// The value of the first one.
    pub first: Option<String>,
}

impl Summary {
    /// Adds up the rows of a set as they are read. Also returns the digest of the set.
    ///
    /// # Errors
    /// As [`Lake::features`].
    pub(crate) async fn read(lake: &Lake, set: &FeatureSet) -> Result<(Self, SetDigest)> {
        lake.fold_features(set, Summary::default(), Summary::add).await
    }

    /// Adds rows, in their order.
    pub(crate) fn add(&mut self, rows: Vec<FeatureRow>) {
        for row in &rows {
            self.wallets.push(row.wallet_address);
            let (doubles, counts) = (doubles(row), counts(row));
            let values = doubles.into_iter().chain(counts.map(|(name, count)| (name, count as f64)));
            for (index, (name, value)) in values.enumerate() {
                if self.features.len() <= index {
                    self.features.push(Feature { name, sum: 0.0, non_zero: 0 });
                }
                let feature = &mut self.features[index];
                feature.sum += value;
                feature.non_zero += usize::from(value != 0.0);
            }
            let times = [
                ("time_since_first_deposit", row.time_since_first_deposit.unwrap_or(0)),
                ("time_since_last_liquidated", row.time_since_last_liquidated.unwrap_or(0)),
            ];
            self.negative.add(row, counts.into_iter().chain(times).find(|(_, value)| *value < 0));
            self.not_finite.add(row, doubles.into_iter().find(|(_, value)| !value.is_finite()));
        }
    }

    /// Returns the number of wallets with a value of a feature other than 0.
    pub(crate) fn non_zero(&self, feature: &str) -> usize {
        self.features.iter().find(|other| other.name == feature).map_or(0, |feature| feature.non_zero)
    }
}

impl Culprits {
    fn add(&mut self, row: &FeatureRow, wrong: Option<(&str, impl Display)>) {
        if let Some((name, value)) = wrong {
            self.count += 1;
            self.first.get_or_insert_with(|| format!("{name} of wallet {} is {value}", row.wallet_address));
        }
    }
}

/// Returns the name and value of each count of a row.
fn counts(row: &FeatureRow) -> [(&'static str, i64); 7] {
    [
        ("risk_factor_above_threshold_daily_count", row.risk_factor_above_threshold_daily_count),
        ("borrow_count", row.borrow_count),
        ("repay_count", row.repay_count),
        ("deposit_count", row.deposit_count),
        ("liquidation_count", row.liquidation_count),
        ("unique_borrow_protocol_count", row.unique_borrow_protocol_count),
        ("unique_lending_protocol_count", row.unique_lending_protocol_count),
    ]
}

/// Returns the name and value of each amount and factor of a row.
fn doubles(row: &FeatureRow) -> [(&'static str, f64); 17] {
    [
        ("risk_factor", row.risk_factor),
        ("total_collateral_eth", row.total_collateral_eth),
        ("total_collateral_avg_eth", row.total_collateral_avg_eth),
        ("total_available_borrows_eth", row.total_available_borrows_eth),
        ("total_available_borrows_avg_eth", row.total_available_borrows_avg_eth),
        ("avg_weighted_risk_factor", row.avg_weighted_risk_factor),
        ("avg_risk_factor", row.avg_risk_factor),
        ("max_risk_factor", row.max_risk_factor),
        ("borrow_amount_sum_eth", row.borrow_amount_sum_eth),
        ("borrow_amount_avg_eth", row.borrow_amount_avg_eth),
        ("repay_amount_sum_eth", row.repay_amount_sum_eth),
        ("repay_amount_avg_eth", row.repay_amount_avg_eth),
        ("borrow_repay_diff_eth", row.borrow_repay_diff_eth),
        ("deposit_amount_sum_eth", row.deposit_amount_sum_eth),
        ("withdraw_amount_sum_eth", row.withdraw_amount_sum_eth),
        ("withdraw_deposit_diff_eth", row.withdraw_deposit_diff_eth),
        ("liquidation_amount_sum_eth", row.liquidation_amount_sum_eth),
    ]
}
