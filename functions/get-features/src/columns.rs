//! The columns of a request, and the values of rows as JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use defi_shared::error::{Error, Result};
use defi_shared::tables::{Column, FeatureRow, Row};
use serde_json::{Map, Value};
use strsim::levenshtein;

/// The column of the wallet, by which the rows of a set are sorted.
pub(crate) const WALLET: &str = "wallet_address";

/// Returns the column of the wallet and those of the requested features, by default of all, each once.
///
/// # Errors
/// `BadInput` for an unknown feature.
pub(crate) fn requested(features: Option<&[String]>) -> Result<Vec<Column>> {
    let mut all = FeatureRow::columns();
    let Some(names) = features else { return Ok(all) };
    let mut columns: Vec<_> = all.extract_if(.., |column| column.name == WALLET).collect();
    for name in names.iter().map(|name| name.trim()) {
        match all.iter().position(|column| column.name == name) {
            Some(index) => columns.push(all.remove(index)),
            None if columns.iter().skip(1).any(|column| column.name == name) => {}
            None => return Err(unknown(name)),
        }
    }
    Ok(columns)
}

/// The number of wrong characters up to which a name is taken for another one that was misspelled.
const MAX_DISTANCE: usize = 4;

/// Returns the error of an unknown feature. It names the feature that begins so, or that was misspelled.
fn unknown(name: &str) -> Error {
    let all = FeatureRow::columns();
    let names = all.iter().map(|column| column.name).filter(|other| *other != WALLET);
    let is_close = |other: &&str| {
        (!name.is_empty() && other.starts_with(name)) || levenshtein(name, other) <= MAX_DISTANCE.min(name.len() / 2)
    };
    let nearest = names.filter(is_close).min_by_key(|other| levenshtein(name, other));
    let hint = nearest.map_or_else(
        || "the names are the columns of the table defi_features".to_owned(),
        |nearest| format!("did you mean {nearest}?"),
    );
    Error::bad_input(format!("there is no feature {name:?}")).with_hint(hint)
}

/// Returns the rows of a batch as JSON objects with these columns, each with its wallet.
///
/// # Errors
/// `CorruptData` if a column is missing that was not added later.
pub(crate) fn rows(batch: &RecordBatch, columns: &[Column]) -> Result<Vec<(String, Map<String, Value>)>> {
    let arrays = columns.iter().map(|column| match batch.column_by_name(column.name) {
        Some(array) => Ok((column.name, Some(array.as_ref()))),
        None if column.null_if_absent => Ok((column.name, None)),
        None => Err(Error::corrupt("a feature set lacks a column").with("column", column.name)),
    });
    let arrays: Vec<(&str, Option<&dyn Array>)> = arrays.collect::<Result<_>>()?;
    let row = |index: usize| {
        let mut row = Map::new();
        for (name, array) in &arrays {
            let value = array.map_or(Ok(Value::Null), |array| value(array, index));
            row.insert((*name).to_owned(), value.map_err(|error| error.with("column", *name))?);
        }
        let wallet = row.get(WALLET).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((wallet, row))
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Returns a value as JSON. NULL is null.
///
/// # Errors
/// `Internal` for a type that no feature has.
fn value(array: &dyn Array, index: usize) -> Result<Value> {
    if array.is_null(index) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(index).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(index).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(index).into(),
        DataType::Boolean => array.as_boolean().value(index).into(),
        other => return Err(Error::internal(format!("a feature of the type {other} can't be written as JSON"))),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;

    fn names(features: &[&str]) -> Result<Vec<&'static str>> {
        let features: Vec<_> = features.iter().map(|name| (*name).to_owned()).collect();
        Ok(requested(Some(&features))?.into_iter().map(|column| column.name).collect())
    }

    #[test]
    fn requested_columns_are_the_wallet_and_each_feature_once() {
        assert_eq!(requested(None).unwrap(), FeatureRow::columns());
        assert_eq!(names(&[]).unwrap(), [WALLET]);
        let found = names(&["borrow_count", "risk_factor", "borrow_count"]).unwrap();
        assert_eq!(found, [WALLET, "borrow_count", "risk_factor"]);
    }

    #[test]
    fn unknown_feature_names_the_nearest() {
        for (name, nearest) in [
            ("riskfactor", "risk_factor"),
            ("Borrow_Count", "borrow_count"),
            ("max_risk", "max_risk_factor"),
            (" risk_facto ", "risk_factor"),
            ("liquidations_count", "liquidation_count"),
        ] {
            let error = names(&["risk_factor", name]).unwrap_err();
            assert_eq!(error.kind(), defi_shared::Kind::BadInput);
            assert!(error.to_string().contains(&format!("did you mean {nearest}?")), "{error}");
        }
        for name in [WALLET, "", "as_of"] {
            let error = names(&[name]).unwrap_err().to_string();
            assert!(error.contains("the names are the columns"), "{error}");
        }
    }

    #[test]
    fn each_type_of_a_feature_has_its_form_in_json() {
        let arrays: [(ArrayRef, Value, Value); 4] = [
            (Arc::new(StringArray::from(vec![Some("0xab"), None])), "0xab".into(), Value::Null),
            (Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)])), 0.1.into(), Value::Null),
            (Arc::new(Int64Array::from(vec![Some(i64::MAX), None])), i64::MAX.into(), Value::Null),
            (Arc::new(BooleanArray::from(vec![Some(true), None])), true.into(), Value::Null),
        ];
        for (array, first, second) in arrays {
            assert_eq!((value(&array, 0).unwrap(), value(&array, 1).unwrap()), (first, second));
        }
        assert!(value(&Int32Array::from(vec![1]), 0).is_err());
    }

    #[test]
    fn column_that_was_added_later_is_null_where_it_is_absent() {
        let column = |name, null_if_absent| Column {
            name,
            data_type: DataType::Int64,
            nullable: true,
            null_if_absent,
            doc: String::new(),
        };
        let wallets = Arc::new(StringArray::from(vec!["0x1"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([(WALLET, wallets)]).unwrap();
        let rows = rows(&batch, &[column(WALLET, false), column("added", true)]).unwrap();
        assert_eq!((rows[0].0.as_str(), &rows[0].1["added"]), ("0x1", &Value::Null));
        assert!(super::rows(&batch, &[column(WALLET, false), column("lost", false)]).is_err());
    }
}
