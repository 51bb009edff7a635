//! From rows as they came to valid ones: order and repeats of the raw layer, validity and keys of the stage layer.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use serde::Serialize;

use super::{Context, Report};
use crate::error::{Error, Result};
use crate::lake::{Facts, Unit};
use crate::tables::{QuarantinedRow, Reason, Row, Table};

/// Why a valid row is put aside: of several with one key the first delivered counts.
const SECOND_OF_KEY: &str = "another valid row with the same key came first";

/// Sorts raw rows by their key, keeping the order of delivery within one key, and drops rows that repeat another word for
/// word. Returns how many it dropped.
pub fn tidy<R: PartialEq, K: Ord>(rows: &mut Vec<R>, key: impl Fn(&R) -> K) -> u64 {
    let is_tidy = |rows: &[R]| rows.is_sorted_by(|a, b| key(a) < key(b));
    if is_tidy(rows) {
        return 0;
    }
    rows.sort_by_cached_key(|row| key(row));
    if is_tidy(rows) {
        return 0;
    }
    let before = rows.len();
    let mut kept: Vec<R> = Vec::with_capacity(before);
    for row in rows.drain(..) {
        let same_key = kept.iter().rev().take_while(|earlier| key(earlier) == key(&row));
        if !same_key.into_iter().any(|earlier| *earlier == row) {
            kept.push(row);
        }
    }
    *rows = kept;
    (before - rows.len()) as u64
}

/// A raw text as a sort key: missing ones last, any case alike.
#[must_use]
pub fn sort_text(text: &Option<Arc<str>>) -> (bool, Option<Arc<str>>) {
    let lower = |text: &Arc<str>| match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Arc::from(text.to_ascii_lowercase()),
        false => Arc::clone(text),
    };
    (text.is_none(), text.as_ref().map(lower))
}

/// A raw number as a sort key: by value, and what is none last.
#[must_use]
pub fn sort_number(text: &Option<Arc<str>>) -> (bool, i64, Option<Arc<str>>) {
    let number = text.as_deref().and_then(|text| text.parse::<i64>().ok());
    (number.is_none(), number.unwrap_or_default(), text.clone())
}

/// What a unit's raw rows come to.
#[derive(Debug)]
pub struct Staged<S> {
    /// Valid rows, one a key, in the order of the raw rows.
    pub rows: Vec<S>,
    /// The others, with reasons.
    pub quarantined: Vec<QuarantinedRow>,
    rows_in: u64,
}

/// Splits raw rows into valid ones, one a key, and bad ones.
///
/// # Errors
/// A row that can't be written as JSON: a defect.
pub fn stage<R: Serialize, S, K: Hash + Eq>(
    raw: &[R],
    convert: impl Fn(&R) -> Result<S, Reason>,
    key: impl Fn(&S) -> K,
) -> Result<Staged<S>> {
    let mut seen: HashSet<K, FxBuildHasher> = HashSet::default();
    let mut staged = Staged { rows: Vec::with_capacity(raw.len()), quarantined: Vec::new(), rows_in: raw.len() as u64 };
    for (row_number, row) in (0i64..).zip(raw) {
        let reason = match convert(row) {
            Ok(valid) if seen.insert(key(&valid)) => {
                staged.rows.push(valid);
                continue;
            }
            Ok(_) => SECOND_OF_KEY.to_owned(),
            Err(reason) => reason.to_string(),
        };
        let row = serde_json::to_string(row).map_err(|cause| Error::internal("a row is no JSON").because(cause))?;
        staged.quarantined.push(QuarantinedRow { row_number, reason, row });
    }
    Ok(staged)
}

/// What a snapshot's object says of its source: the block that it is pinned to, and the deployment that answered.
#[must_use]
pub fn provenance(facts: &Facts) -> Facts {
    let of_source = facts.iter().filter(|(name, _)| matches!(name.as_str(), "block" | "deployment"));
    of_source.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Writes a unit's valid rows, and its bad ones into quarantine. The object's facts say how many of each there were.
///
/// # Errors
/// The lake's.
pub async fn write<S: Row>(
    context: &Context,
    table: &Table,
    unit: &Unit,
    staged: Staged<S>,
    facts: Facts,
) -> Result<Report> {
    let mut rejected = BTreeMap::new();
    for row in &staged.quarantined {
        *rejected.entry(row.reason.clone()).or_default() += 1;
    }
    let mut facts = facts;
    facts.insert("rows_in".to_owned(), staged.rows_in.to_string());
    facts.insert("rejected".to_owned(), staged.quarantined.len().to_string());
    // Quarantine first: once the unit is there it is done, and nobody would come back for its bad rows.
    context.lake.quarantine(table, unit, staged.quarantined).await?;
    let written = context.commit(table, unit, staged.rows, facts).await?;
    Ok(Report { rows_in: staged.rows_in, rejected, ..Report::default() }.wrote(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_repeats_go_and_the_order_of_delivery_stays() {
        let mut rows = vec![("b", 1), ("a", 2), ("b", 0), ("b", 1), ("a", 2), ("a", 1)];
        assert_eq!(tidy(&mut rows, |row| row.0), 2);
        assert_eq!(rows, [("a", 2), ("a", 1), ("b", 1), ("b", 0)]);
    }

    #[test]
    fn the_first_valid_row_of_a_key_counts_and_the_rest_is_kept_aside() {
        let raw = [(1, "bad"), (1, "x"), (1, "y"), (2, "z")];
        let convert =
            |row: &(i32, &'static str)| if row.1 == "bad" { Err(Reason::new("column", "is bad")) } else { Ok(*row) };
        let staged = stage(&raw, convert, |row| row.0).unwrap();
        assert_eq!(staged.rows, [(1, "x"), (2, "z")]);
        let reasons: Vec<_> = staged.quarantined.iter().map(|row| (row.row_number, row.reason.as_str())).collect();
        assert_eq!(reasons, [(0, "column is bad"), (2, SECOND_OF_KEY)]);
        assert_eq!(staged.quarantined[1].row, r#"[1,"y"]"#);
    }

    #[test]
    fn numbers_sort_as_numbers_and_missing_ones_last() {
        let mut texts = [None, Some("10"), Some("9"), Some("x")].map(|text| text.map(Arc::from));
        texts.sort_by_key(sort_number);
        assert_eq!(texts.each_ref().map(Option::as_deref), [Some("9"), Some("10"), None, Some("x")]);
    }
}
