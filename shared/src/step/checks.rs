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
    /// The measured value. In JSON, a value that is not a number is the text `NaN`, `Infinity` or `-Infinity`.
    #[serde(with = "figure")]
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

/// A value in JSON, which has no notation for numbers that are not finite.
mod figure {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use serde_json::value::RawValue;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match *value {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value => serializer.serialize_str(if value > 0.0 { "Infinity" } else { "-Infinity" }),
        }
    }

    /// Parses the text of the value: serde_json's own numbers may differ in the last digit.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        match json.get() {
            "\"NaN\"" => Ok(f64::NAN),
            "\"Infinity\"" => Ok(f64::INFINITY),
            "\"-Infinity\"" => Ok(f64::NEG_INFINITY),
            text => text.parse().map_err(|_| de::Error::custom(format!("{text} is not a number"))),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_not_finite_survive_json() {
        for (figure, json) in [
            (0.25, "0.25"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (f64::NAN, "\"NaN\""),
        ] {
            let (name, about) = ("x".to_owned(), String::new());
            let check = Check { name, figure, warn: None, fail: Some(1.0), outcome: Outcome::Fail, about };
            let text = serde_json::to_string(&check).unwrap();
            assert!(text.contains(&format!("\"figure\":{json}")), "{text}");
            let read: Check = serde_json::from_str(&text).unwrap();
            assert_eq!(read.figure.to_bits(), figure.to_bits());
            let value: Check = serde_json::from_value(serde_json::to_value(&check).unwrap()).unwrap();
            assert_eq!(value.outcome, check.outcome);
        }
        let text = r#"{"name":"x","figure":"many","warn":null,"fail":null,"outcome":"pass","about":""}"#;
        assert!(serde_json::from_str::<Check>(text).is_err());
    }
}
