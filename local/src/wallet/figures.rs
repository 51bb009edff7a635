//! The features of a row by their names.

use std::fmt;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use defi_shared::error::{Error, Result};
use defi_shared::tables::{FeatureRow, Row};
use serde::{Serialize, Serializer};

/// The value of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figure {
    /// An amount in ETH, or a risk.
    Double(f64),
    /// A count, or seconds.
    Integer(i64),
    /// Nothing of the kind ever happened.
    Null,
}

impl Figure {
    /// Whether they are the same to the last bit.
    pub(super) fn is(self, other: Self) -> bool {
        match (self, other) {
            (Figure::Double(a), Figure::Double(b)) => a.to_bits() == b.to_bits(),
            _ => self == other,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Double(number) => number.fmt(f),
            Figure::Integer(number) => number.fmt(f),
            Figure::Null => f.write_str("NULL"),
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Figure::Double(number) => serializer.serialize_f64(*number),
            Figure::Integer(number) => serializer.serialize_i64(*number),
            Figure::Null => serializer.serialize_unit(),
        }
    }
}

/// A feature of a wallet.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Figure,
    /// What it means.
    pub meaning: String,
}

/// The 26 features of a row, in the order of its columns.
///
/// # Errors
/// None but a defect.
pub(super) fn features(row: &FeatureRow) -> Result<Vec<Feature>> {
    let batch = FeatureRow::encode(std::slice::from_ref(row))?;
    let columns = FeatureRow::columns().into_iter().zip(batch.columns()).skip(1);
    let features = columns.map(|(column, array)| {
        let doubles = array.as_primitive_opt::<Float64Type>().map(|array| Figure::Double(array.value(0)));
        let integers = || array.as_primitive_opt::<Int64Type>().map(|array| Figure::Integer(array.value(0)));
        let value = if array.is_null(0) { Some(Figure::Null) } else { doubles.or_else(integers) };
        let value =
            value.ok_or_else(|| Error::internal("a feature of an unknown type").with("feature", column.name))?;
        Ok(Feature { name: column.name, value, meaning: column.doc })
    });
    features.collect()
}
