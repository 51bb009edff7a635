//! The results of check-features, which it writes and report-run reads.

use serde::{Deserialize, Serialize};

use super::StepOutput;
use crate::domain::Day;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The value is within the limits.
    Pass,
    /// The value is above the warning limit.
    Warn,
    /// The value is above the failure limit.
    Fail,
}

/// A quality check: its measured value, its limits and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The name of the check.
    pub name: String,
    /// The measured value.
    pub figure: f64,
    /// The largest value without a warning.
    pub warn: Option<f64>,
    /// The largest value that does not fail.
    pub fail: Option<f64>,
    /// The outcome.
    pub outcome: Outcome,
    /// A description of what the value measures.
    pub about: String,
}

/// The check results of a feature set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResults {
    /// The day that the features are for.
    pub as_of: Day,
    /// The number of rows in the set.
    pub wallets: u64,
    /// Whether no check failed.
    pub passed: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl StepOutput for CheckResults {
    fn metrics(&self) -> Vec<(&'static str, f64)> {
        let value = |name: &str| self.checks.iter().find(|check| check.name == name).map_or(0.0, |check| check.figure);
        vec![
            ("Wallets", self.wallets as f64),
            ("UnpricedShare", value("unpriced_events_share").max(value("unpriced_positions_share"))),
            ("QuarantinedShare", value("quarantined_share")),
        ]
    }
}
