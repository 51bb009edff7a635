//! The features of a set, each compared with the previous published set.

use defi_shared::domain::SECONDS_PER_DAY;
use defi_shared::error::Result;
use defi_shared::lake::{FeatureSet, Lake};
use defi_shared::tables::{FeatureRow, Row};

use defi_pages::chart::Bins;

/// What the values of a feature measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// An amount in ETH.
    Eth,
    /// A count.
    Count,
    /// A factor.
    Factor,
    /// Yes or no, as 1 or 0.
    Flag,
    /// Seconds from an event to the as-of day; NULL without such an event.
    Seconds,
}

impl Measure {
    /// Returns the name of the unit that a report shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Eth => "ETH",
            Measure::Count => "count",
            Measure::Factor => "factor",
            Measure::Flag => "yes or no",
            Measure::Seconds => "days",
        }
    }

    /// Returns the factor between the stored and the shown unit: seconds are shown as days.
    #[must_use]
    pub fn unit(self) -> f64 {
        if self == Measure::Seconds { SECONDS_PER_DAY as f64 } else { 1.0 }
    }
}

/// A feature: its column, its measure, and a function that reads its value from a row.
pub(super) type Reader = (&'static str, Measure, fn(&FeatureRow) -> Option<f64>);

/// Defines the readers. Counts and seconds become doubles, which are exact up to 2^53; yes is 1, and no is 0.
macro_rules! readers {
    ($( $name:ident $measure:ident $kind:ident; )+) => {
        /// The readers of all features, in column order.
        pub(super) const READERS: &[Reader] = &[
            $( (stringify!($name), Measure::$measure, |row| readers!(@$kind row.$name)), )+
        ];
    };
    (@double $value:expr) => { Some($value) };
    (@bigint $value:expr) => { Some($value as f64) };
    (@option $value:expr) => { $value.map(|value| value as f64) };
    (@flag $value:expr) => { $value.map(|value| f64::from(u8::from(value))) };
}

readers! {
    risk_factor Factor double;
    total_collateral_eth Eth double;
    total_collateral_avg_eth Eth double;
    total_available_borrows_eth Eth double;
    total_available_borrows_avg_eth Eth double;
    avg_weighted_risk_factor Factor double;
    risk_factor_above_threshold_daily_count Count bigint;
    avg_risk_factor Factor double;
    max_risk_factor Factor double;
    borrow_amount_sum_eth Eth double;
    borrow_amount_avg_eth Eth double;
    borrow_count Count bigint;
    repay_amount_sum_eth Eth double;
    repay_amount_avg_eth Eth double;
    repay_count Count bigint;
    borrow_repay_diff_eth Eth double;
    deposit_count Count bigint;
    deposit_amount_sum_eth Eth double;
    time_since_first_deposit Seconds option;
    withdraw_amount_sum_eth Eth double;
    withdraw_deposit_diff_eth Eth double;
    liquidation_count Count bigint;
    time_since_last_liquidated Seconds option;
    liquidation_amount_sum_eth Eth double;
    unique_borrow_protocol_count Count bigint;
    unique_lending_protocol_count Count bigint;
    has_health_now Flag flag;
    health_days Count option;
}

/// The values of a feature in a set and in the previous published set.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The name of the column.
    pub name: &'static str,
    /// The description of the column.
    pub about: String,
    /// What the values measure.
    pub measure: Measure,
    /// Statistics of the set.
    pub now: FeatureStatistics,
    /// Statistics of the previous published set, if there is one.
    pub before: Option<FeatureStatistics>,
    /// The distribution in both sets, in the shown unit.
    pub bins: Bins,
}

/// Statistics of the values of a feature. Median, mean and maximum ignore NULL; they are `None` if all values are NULL.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FeatureStatistics {
    /// The number of wallets.
    pub wallets: usize,
    /// The share of wallets whose value is zero.
    pub zero: f64,
    /// The share of wallets whose value is NULL.
    pub null: f64,
    /// The median.
    pub median: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The maximum.
    pub max: Option<f64>,
}

impl FeatureStatistics {
    /// Computes the statistics of the values that are not NULL. Sums follow the order of the values.
    fn of(values: &[f64], wallets: usize) -> FeatureStatistics {
        let share = |count: usize| count as f64 / wallets.max(1) as f64;
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let get = |index: usize| sorted.get(index).copied();
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => None,
            length if length % 2 == 1 => get(middle),
            _ => get(middle - 1).zip(get(middle)).map(|(below, above)| below / 2.0 + above / 2.0),
        };
        FeatureStatistics {
            wallets,
            zero: share(values.iter().filter(|value| **value == 0.0).count()),
            null: share(wallets - values.len()),
            median,
            mean: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
            max: sorted.last().copied(),
        }
    }
}

/// Reads the rows of a set, ordered by shard and wallet; no rows if there is no set.
pub(super) async fn rows(lake: &Lake, set: Option<&FeatureSet>) -> Result<Vec<FeatureRow>> {
    let Some(set) = set else { return Ok(Vec::new()) };
    Ok(lake.features(set).await?.0)
}

/// Compares each feature of two sets. Returns nothing for a set without wallets.
pub(super) fn compare(now: &[FeatureRow], before: &[FeatureRow]) -> Vec<Feature> {
    if now.is_empty() {
        return Vec::new();
    }
    let about = FeatureRow::columns().into_iter().skip(1).map(|column| column.doc);
    let features = READERS.iter().zip(about).map(|((name, measure, read), about)| {
        let values = |rows: &[FeatureRow]| rows.iter().filter_map(read).collect::<Vec<f64>>();
        let (values_now, values_before) = (values(now), values(before));
        let scale = |values: &[f64]| values.iter().map(|value| value / measure.unit()).collect::<Vec<f64>>();
        let scaled = [scale(&values_now), scale(&values_before)];
        let sets = [(scaled[0].as_slice(), now.len()), (scaled[1].as_slice(), before.len())];
        let shown = if before.is_empty() { &sets[..1] } else { &sets[..] };
        Feature {
            name,
            about,
            measure: *measure,
            now: FeatureStatistics::of(&values_now, now.len()),
            before: (!before.is_empty()).then(|| FeatureStatistics::of(&values_before, before.len())),
            bins: Bins::of(shown),
        }
    });
    features.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_follow_the_column_order() {
        let columns: Vec<_> = FeatureRow::columns().iter().skip(1).map(|column| column.name).collect();
        assert_eq!(READERS.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), columns);
    }

    #[test]
    fn statistics_ignore_null() {
        let statistics = FeatureStatistics::of(&[4.0, 0.0, 1.0, 0.0], 5);
        assert_eq!((statistics.zero, statistics.null), (0.4, 0.2));
        assert_eq!((statistics.median, statistics.mean, statistics.max), (Some(0.5), Some(1.25), Some(4.0)));
        assert_eq!(FeatureStatistics::of(&[3.0, 1.0, 2.0], 3).median, Some(2.0));
        let empty = FeatureStatistics::of(&[], 2);
        assert_eq!((empty.null, empty.median, empty.mean, empty.max), (1.0, None, None, None));
    }
}
