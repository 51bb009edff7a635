//! The features of a row, with their names and meanings.

use std::fmt;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use defi_shared::domain::Figure;
use defi_shared::error::{Error, Result};
use defi_shared::tables::{FeatureRow, Row};
use serde::{Serialize, Serializer};

/// The value of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FeatureValue {
    /// An amount in ETH, or a risk.
    Double(f64),
    /// A count, or a number of seconds.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// The wallet has no such event, or the set is older than the column.
    Null,
}

impl FeatureValue {
    /// Whether two values are bit-identical.
    pub(super) fn is_identical(self, other: Self) -> bool {
        match (self, other) {
            (FeatureValue::Double(a), FeatureValue::Double(b)) => a.to_bits() == b.to_bits(),
            _ => self == other,
        }
    }
}

impl fmt::Display for FeatureValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeatureValue::Double(number) => Figure(*number).fmt(f),
            FeatureValue::Integer(number) => number.fmt(f),
            FeatureValue::Boolean(value) => value.fmt(f),
            FeatureValue::Null => f.write_str("NULL"),
        }
    }
}

impl Serialize for FeatureValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FeatureValue::Double(number) => serializer.serialize_f64(*number),
            FeatureValue::Integer(number) => serializer.serialize_i64(*number),
            FeatureValue::Boolean(value) => serializer.serialize_bool(*value),
            FeatureValue::Null => serializer.serialize_unit(),
        }
    }
}

/// A feature of a wallet.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Feature {
    /// The name of the column.
    pub name: &'static str,
    /// The value.
    pub value: FeatureValue,
    /// The description of the column.
    pub meaning: String,
}

/// Returns the features of a row, in the order of its columns.
///
/// # Errors
/// `Internal` for a column of an unsupported type, which is a bug.
pub(super) fn features(row: &FeatureRow) -> Result<Vec<Feature>> {
    let batch = FeatureRow::encode(std::slice::from_ref(row))?;
    let columns = FeatureRow::columns().into_iter().zip(batch.columns()).skip(1);
    let features = columns.map(|(column, array)| {
        let doubles = array.as_primitive_opt::<Float64Type>().map(|array| FeatureValue::Double(array.value(0)));
        let integers = || array.as_primitive_opt::<Int64Type>().map(|array| FeatureValue::Integer(array.value(0)));
        let booleans = || array.as_boolean_opt().map(|array| FeatureValue::Boolean(array.value(0)));
        let number = || doubles.or_else(integers).or_else(booleans);
        let value = if array.is_null(0) { Some(FeatureValue::Null) } else { number() };
        let value = value
            .ok_or_else(|| Error::internal("the type of the feature is not supported").with("feature", column.name))?;
        Ok(Feature { name: column.name, value, meaning: column.doc })
    });
    features.collect()
}
