//! Sorts and deduplicates rows of the raw layer, and validates rows for the stage layer.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use serde::Serialize;

use super::{Context, Report};
use crate::error::{Error, Result};
use crate::lake::{FileMetadata, WorkUnit};
use crate::tables::{QuarantinedRow, Row, Table};

/// The quarantine reason of a valid row whose key an earlier valid row has.
pub const DUPLICATE_KEY: &str = "another valid row with the same key came first";

/// Sorts raw rows by key and drops exact duplicates. The sort is stable: rows with equal keys keep their order of
/// delivery. Returns the number of dropped rows.
pub fn sort_and_dedup<R: PartialEq, K: Ord>(rows: &mut Vec<R>, key: impl Fn(&R) -> K) -> u64 {
    let is_strictly_sorted = |rows: &[R]| rows.is_sorted_by(|a, b| key(a) < key(b));
    if is_strictly_sorted(rows) {
        return 0;
    }
    rows.sort_by_cached_key(|row| key(row));
    if is_strictly_sorted(rows) {
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

/// Returns the sort key of a raw string: case-insensitive, missing strings last.
#[must_use]
pub fn text_sort_key(text: &Option<Arc<str>>) -> (bool, Option<Arc<str>>) {
    let lower = |text: &Arc<str>| match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Arc::from(text.to_ascii_lowercase()),
        false => Arc::clone(text),
    };
    (text.is_none(), text.as_ref().map(lower))
}

/// Returns the sort key of a raw integer: by value, with missing and invalid integers last.
#[must_use]
pub fn number_sort_key(text: &Option<Arc<str>>) -> (bool, i64, Option<Arc<str>>) {
    let number = text.as_deref().and_then(|text| text.parse::<i64>().ok());
    (number.is_none(), number.unwrap_or_default(), text.clone())
}

/// The validated rows of a unit.
#[derive(Debug)]
pub struct Staged<R> {
    /// The valid rows, one per key.
    pub rows: R,
    /// The rejected rows, with reasons.
    pub quarantined: Vec<QuarantinedRow>,
    /// The number of raw rows.
    pub rows_in: u64,
}

/// Returns the row of the quarantine for a raw row and its number in its unit.
///
/// # Errors
/// `Internal` if the row can't be serialized as JSON.
pub fn quarantined<R: Serialize>(row_number: i64, reason: String, row: &R) -> Result<QuarantinedRow> {
    let row = serde_json::to_string(row);
    let row = row.map_err(|cause| Error::internal("cannot serialize a row as JSON").with_source(cause))?;
    Ok(QuarantinedRow { row_number, reason, row })
}

/// Splits raw rows, or references to them, into valid rows, one per key and in the order of the raw rows, and rejected
/// rows. `convert` returns a valid row or the reason for which the raw row is rejected.
///
/// # Errors
/// `Internal` if a rejected row can't be serialized as JSON.
pub fn stage<R: Serialize, S, K: Hash + Eq, E: fmt::Display>(
    raw: impl IntoIterator<Item: Borrow<R>>,
    convert: impl Fn(&R) -> Result<S, E>,
    key: impl Fn(&S) -> K,
) -> Result<Staged<Vec<S>>> {
    let mut seen: HashSet<K, FxBuildHasher> = HashSet::default();
    let raw = raw.into_iter();
    let mut staged = Staged { rows: Vec::with_capacity(raw.size_hint().0), quarantined: Vec::new(), rows_in: 0 };
    for (row_number, row) in (0i64..).zip(raw) {
        let row = row.borrow();
        staged.rows_in += 1;
        let reason = match convert(row) {
            Ok(valid) if seen.insert(key(&valid)) => {
                staged.rows.push(valid);
                continue;
            }
            Ok(_) => DUPLICATE_KEY.to_owned(),
            Err(reason) => reason.to_string(),
        };
        staged.quarantined.push(quarantined(row_number, reason, row)?);
    }
    Ok(staged)
}

/// The metadata entry, `true`, of a snapshot without positions whose markets say that none is open.
pub const CLOSED: &str = "closed";

/// The metadata entry that names the schema of the rows of a snapshot, if it is not Messari's.
pub const SCHEMA: &str = "schema";

/// The metadata entry, `true`, of a snapshot that was made from what the newest state of a subgraph keeps of the past.
pub const REBUILT: &str = "rebuilt";

/// The metadata entry that names the day whose limits the markets of a rebuilt snapshot have, or `head` for those of the newest
/// state.
pub const LTV_DAY: &str = "ltv_day";

/// Returns the entries of a snapshot's metadata that describe its source: the pinned block, the deployment, whether
/// all positions are closed, and whether it was rebuilt.
#[must_use]
pub fn source_metadata(metadata: &FileMetadata) -> FileMetadata {
    let is_of_source = |name: &str| matches!(name, "block" | "deployment" | CLOSED | REBUILT | LTV_DAY);
    let entries = metadata.iter().filter(|(name, _)| is_of_source(name));
    entries.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Writes a unit's valid rows to the table and its rejected rows to quarantine. The object's metadata contains the
/// number of raw and of rejected rows.
///
/// # Errors
/// The errors of the lake.
pub async fn write<R: Row>(
    context: &Context,
    table: &Table,
    unit: &WorkUnit,
    staged: Staged<impl IntoIterator<Item = R> + Send + 'static>,
    metadata: FileMetadata,
) -> Result<Report> {
    let mut rejected = BTreeMap::new();
    for row in &staged.quarantined {
        *rejected.entry(row.reason.clone()).or_default() += 1;
    }
    let mut metadata = metadata;
    metadata.insert("rows_in".to_owned(), staged.rows_in.to_string());
    metadata.insert("rejected".to_owned(), staged.quarantined.len().to_string());
    // Write the quarantine first: a unit that exists is not processed again, so its rejected rows would be lost.
    context.lake.quarantine(table, unit, staged.quarantined).await?;
    let written = context.commit(table, unit, staged.rows, metadata).await?;
    Ok(Report { rows_in: staged.rows_in, rejected, ..Report::default() }.with_written(written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Reason;

    #[test]
    fn sort_and_dedup_is_stable_and_drops_duplicates() {
        let mut rows = vec![("b", 1), ("a", 2), ("b", 0), ("b", 1), ("a", 2), ("a", 1)];
        assert_eq!(sort_and_dedup(&mut rows, |row| row.0), 2);
        assert_eq!(rows, [("a", 2), ("a", 1), ("b", 1), ("b", 0)]);
    }

    #[test]
    fn rows_in_any_order_are_sorted_and_sorted_rows_deduplicated() {
        for (mut rows, sorted, dropped) in [
            (vec![("c", 1), ("b", 1), ("a", 1)], vec![("a", 1), ("b", 1), ("c", 1)], 0),
            (vec![("a", 1), ("b", 1), ("c", 1)], vec![("a", 1), ("b", 1), ("c", 1)], 0),
            (vec![("a", 1), ("a", 1), ("b", 1)], vec![("a", 1), ("b", 1)], 1),
            (vec![("a", 1), ("a", 1), ("a", 1)], vec![("a", 1)], 2),
            (vec![("a", 1), ("a", 2)], vec![("a", 1), ("a", 2)], 0),
        ] {
            assert_eq!((sort_and_dedup(&mut rows, |row| row.0), rows), (dropped, sorted));
        }
    }

    #[test]
    fn first_valid_row_of_a_key_is_kept_others_are_quarantined() {
        let raw = [(1, "bad"), (1, "x"), (1, "y"), (2, "z")];
        let convert =
            |row: &(i32, &'static str)| if row.1 == "bad" { Err(Reason::new("column", "is bad")) } else { Ok(*row) };
        let staged = stage(&raw, convert, |row| row.0).unwrap();
        assert_eq!(staged.rows, [(1, "x"), (2, "z")]);
        let reasons: Vec<_> = staged.quarantined.iter().map(|row| (row.row_number, row.reason.as_str())).collect();
        assert_eq!(reasons, [(0, "column is bad"), (2, DUPLICATE_KEY)]);
        assert_eq!(staged.quarantined[1].row, r#"[1,"y"]"#);
    }

    #[test]
    fn integers_sort_by_value_with_missing_ones_last() {
        let mut texts = [None, Some("10"), Some("9"), Some("x")].map(|text| text.map(Arc::from));
        texts.sort_by_key(number_sort_key);
        assert_eq!(texts.each_ref().map(Option::as_deref), [Some("9"), Some("10"), None, Some("x")]);
    }

    #[test]
    fn strings_sort_ignoring_case_with_missing_ones_last() {
        let mut texts = [None, Some("0xB"), Some("0xa"), Some("0xC"), Some("")].map(|text| text.map(Arc::from));
        texts.sort_by_key(text_sort_key);
        assert_eq!(texts.each_ref().map(Option::as_deref), [Some(""), Some("0xa"), Some("0xB"), Some("0xC"), None]);
    }

    #[test]
    fn metadata_of_the_source_is_its_block_and_deployment_and_how_it_was_read() {
        let metadata = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), format!("the {name}"))).collect();
        let raw: FileMetadata = metadata(&["block", "deployment", "duplicates", "ltv_day", "rebuilt", "rows_in"]);
        assert_eq!(source_metadata(&raw), metadata(&["block", "deployment", "ltv_day", "rebuilt"]));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn every_rejected_row_is_kept_and_counted_by_reason() -> Result<()> {
        use crate::tables::{RawPosition, STAGE_POSITIONS, StagedPosition};
        use crate::testing::{AAVE, TestLake, address, january, raw_position, unit};

        let test_lake = TestLake::new(&[AAVE], january(1))?;
        let raw = ["5", "0", "7", "-1", "0"].map(|balance| RawPosition {
            id: Some(format!("position of {balance}").into()),
            ..raw_position(AAVE, january(1), address(1), address(2), "LENDER", balance)
        });
        let staged = stage(&raw, StagedPosition::from_raw, |row| row.id.clone())?;
        let unit = unit(AAVE, january(1));
        let report = write(&test_lake.context, &STAGE_POSITIONS, &unit, staged, FileMetadata::new()).await?;
        assert_eq!((report.rows_in, report.rows_out), (5, 2));
        let rejected = [("balance is negative", 1), ("balance is zero", 2)];
        assert_eq!(report.rejected, rejected.map(|(reason, count)| (reason.to_owned(), count)).into());
        let quarantined = [(1, "balance is zero"), (3, "balance is negative"), (4, "balance is zero")];
        assert_eq!(
            test_lake.quarantined(&STAGE_POSITIONS, &unit).await?,
            quarantined.map(|(row, reason)| (row, reason.to_owned()))
        );
        let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &unit).await?;
        assert_eq!([&metadata["rows_in"], &metadata["rejected"]], ["5", "3"]);
        Ok(())
    }
}
