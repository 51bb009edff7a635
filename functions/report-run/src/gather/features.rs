//! The 26 features of a set, one by one, beside those of the set published before it.

use std::collections::BTreeSet;

use defi_shared::domain::{Day, SECONDS_PER_DAY};
use defi_shared::error::Result;
use defi_shared::lake::Lake;
use defi_shared::tables::{FEATURES_HISTORY, FeatureRow, Row};

use defi_pages::chart::Bins;

/// What a feature's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Amounts in ETH.
    Eth,
    /// Counts.
    Count,
    /// Factors.
    Factor,
    /// Seconds between a time and the day: NULL where there was none.
    Seconds,
}

impl Measure {
    /// What they are shown in.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Eth => "ETH",
            Measure::Count => "count",
            Measure::Factor => "factor",
            Measure::Seconds => "days",
        }
    }

    /// How many of them go into one that is shown: seconds are read as days.
    #[must_use]
    pub fn unit(self) -> f64 {
        if self == Measure::Seconds { SECONDS_PER_DAY as f64 } else { 1.0 }
    }
}

/// A feature: its name, and how to read it off a row.
pub(super) type Reader = (&'static str, Measure, fn(&FeatureRow) -> Option<f64>);

/// Counts and seconds as numbers to calculate with: up to 2^53 exactly.
macro_rules! readers {
    ($( $name:ident $measure:ident $kind:ident; )+) => {
        /// The features in the order of their columns.
        pub(super) const READERS: &[Reader] = &[
            $( (stringify!($name), Measure::$measure, |row| readers!(@$kind row.$name)), )+
        ];
    };
    (@double $value:expr) => { Some($value) };
    (@bigint $value:expr) => { Some($value as f64) };
    (@option $value:expr) => { $value.map(|value| value as f64) };
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
}

/// A feature of a set, and of the set published before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Its column.
    pub name: &'static str,
    /// What it means.
    pub about: String,
    /// What its numbers are.
    pub measure: Measure,
    /// In the set.
    pub now: Sample,
    /// In the set before it, where there is one.
    pub before: Option<Sample>,
    /// How it is distributed, now and before, in what it is shown in.
    pub bins: Bins,
}

/// What a feature's values come to. Mean, median and largest are over the values that are not NULL; none where all are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Wallets.
    pub wallets: usize,
    /// The share of them whose value is zero.
    pub zero: f64,
    /// The share of them whose value is NULL.
    pub null: f64,
    /// The value in the middle.
    pub median: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

impl Sample {
    /// Of values in the order of the wallets.
    fn of(values: &[f64], wallets: usize) -> Sample {
        let share = |count: usize| count as f64 / wallets.max(1) as f64;
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied();
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => None,
            length if length % 2 == 1 => at(middle),
            _ => at(middle - 1).zip(at(middle)).map(|(below, above)| below / 2.0 + above / 2.0),
        };
        Sample {
            wallets,
            zero: share(values.iter().filter(|value| **value == 0.0).count()),
            null: share(wallets - values.len()),
            median,
            mean: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
            max: sorted.last().copied(),
        }
    }
}

/// The rows of a set, by shard and wallet; none where there is no set.
pub(super) async fn rows(lake: &Lake, as_of: Option<Day>) -> Result<Vec<FeatureRow>> {
    let mut rows = Vec::new();
    let units = if as_of.is_some() { lake.units(&FEATURES_HISTORY).await? } else { BTreeSet::new() };
    for unit in units.iter().filter(|unit| unit.day() == as_of) {
        rows.extend(lake.require::<FeatureRow>(&FEATURES_HISTORY, unit).await?);
    }
    Ok(rows)
}

/// The features one by one; none of a set without wallets.
pub(super) fn of(now: &[FeatureRow], before: &[FeatureRow]) -> Vec<Feature> {
    if now.is_empty() {
        return Vec::new();
    }
    let about = FeatureRow::columns().into_iter().skip(1).map(|column| column.doc);
    let features = READERS.iter().zip(about).map(|((name, measure, read), about)| {
        let values = |rows: &[FeatureRow]| rows.iter().filter_map(read).collect::<Vec<f64>>();
        let (values_now, values_before) = (values(now), values(before));
        let drawn = |values: &[f64]| values.iter().map(|value| value / measure.unit()).collect::<Vec<f64>>();
        let drawn = [drawn(&values_now), drawn(&values_before)];
        let sets = [(drawn[0].as_slice(), now.len()), (drawn[1].as_slice(), before.len())];
        let shown = if before.is_empty() { &sets[..1] } else { &sets[..] };
        Feature {
            name,
            about,
            measure: *measure,
            now: Sample::of(&values_now, now.len()),
            before: (!before.is_empty()).then(|| Sample::of(&values_before, before.len())),
            bins: Bins::of(shown),
        }
    });
    features.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_read_in_the_order_of_the_columns() {
        let columns: Vec<_> = FeatureRow::columns().iter().skip(1).map(|column| column.name).collect();
        assert_eq!(READERS.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), columns);
    }

    #[test]
    fn a_sample_is_over_the_values_that_are_there() {
        let sample = Sample::of(&[4.0, 0.0, 1.0, 0.0], 5);
        assert_eq!((sample.zero, sample.null), (0.4, 0.2));
        assert_eq!((sample.median, sample.mean, sample.max), (Some(0.5), Some(1.25), Some(4.0)));
        assert_eq!(Sample::of(&[3.0, 1.0, 2.0], 3).median, Some(2.0));
        let empty = Sample::of(&[], 2);
        assert_eq!((empty.null, empty.median, empty.mean, empty.max), (1.0, None, None, None));
    }
}
