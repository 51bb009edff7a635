//! Which rows of a file are read. Values that are missing or malformed pass, so that they are reported and not left out.

use std::ops::RangeInclusive;

use arrow_array::{Array, BooleanArray};
use parquet::file::statistics::Statistics;
use rustc_hash::FxHashSet;

use super::columns::{fixed, number};
use crate::domain::HexBytes;
use crate::lake::scan::ColumnFilter;

/// Numbers within a range.
#[derive(Debug)]
pub(super) struct Between {
    pub column: String,
    pub range: RangeInclusive<u64>,
}

impl ColumnFilter for Between {
    fn column(&self) -> &str {
        &self.column
    }

    fn may_match(&self, statistics: &Statistics) -> bool {
        let bounds = match statistics {
            Statistics::Int32(values) => {
                values.min_opt().zip(values.max_opt()).map(|(min, max)| (i64::from(*min), i64::from(*max)))
            }
            Statistics::Int64(values) => values.min_opt().zip(values.max_opt()).map(|(min, max)| (*min, *max)),
            _ => None,
        };
        // Numbers that are not signed have other bounds above the largest signed one: those say nothing here.
        let bounds = bounds.and_then(|(min, max)| Some((u64::try_from(min).ok()?, u64::try_from(max).ok()?)));
        bounds.is_none_or(|(min, max)| min <= *self.range.end() && max >= *self.range.start())
    }

    fn matches(&self, values: &dyn Array) -> BooleanArray {
        let is_within = |row| !matches!(number(values, row), Ok(Some(number)) if !self.range.contains(&number));
        (0..values.len()).map(|row| Some(is_within(row))).collect()
    }
}

/// Some addresses or hashes.
#[derive(Debug)]
pub(super) struct OneOf<const N: usize> {
    pub column: String,
    pub values: FxHashSet<HexBytes<N>>,
    /// Whether they are written as text.
    pub is_text: bool,
}

impl<const N: usize> ColumnFilter for OneOf<N> {
    fn column(&self) -> &str {
        &self.column
    }

    fn may_match(&self, statistics: &Statistics) -> bool {
        let Some((min, max)) = statistics.min_bytes_opt().zip(statistics.max_bytes_opt()) else { return true };
        self.values.iter().any(|value| {
            if !self.is_text {
                return min <= value.0.as_slice() && value.0.as_slice() <= max;
            }
            // The digits may be of any case. Upper case comes before lower case.
            let (lower, upper) = (const_hex::encode_prefixed(value.0), const_hex::encode_upper(value.0));
            min <= lower.as_bytes() && format!("0x{upper}").as_bytes() <= max
        })
    }

    fn matches(&self, values: &dyn Array) -> BooleanArray {
        let is_one = |row| !matches!(fixed::<N>(values, row), Ok(Some(value)) if !self.values.contains(&value));
        (0..values.len()).map(|row| Some(is_one(row))).collect()
    }
}
