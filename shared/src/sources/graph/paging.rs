//! The space of ids, split into ranges that can be paged at the same time.

use serde_json::{Map, Value};

use super::rows::Entity;
use crate::error::{Error, Kind, Result};

/// Where the ranges meet: by the first hex digit of the account, with an even number of digits as `Bytes` wants it.
const SEAMS: [&str; 15] = [
    "0x10", "0x20", "0x30", "0x40", "0x50", "0x60", "0x70", "0x80", "0x90", "0xa0", "0xb0", "0xc0", "0xd0", "0xe0",
    "0xf0",
];

/// A part of the ids, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    lower: Lower,
    /// The first id that is not in it; the last range has none.
    end: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Lower {
    /// After an id that is known already.
    After(String),
    /// From a seam on: an id that is the seam itself belongs here.
    From(&'static str),
}

impl Range {
    /// Every id.
    pub(super) fn all() -> Self {
        Range { lower: Lower::After(String::new()), end: None }
    }

    /// What remains of it after an id.
    pub(super) fn after(&self, id: &str) -> Self {
        Range { lower: Lower::After(id.to_owned()), end: self.end }
    }

    /// The ids after one, in ranges without gap or overlap. The last one is open above, and the first one begins right
    /// after the id: ids of another form than `0x…` fall into one of those two, and none falls between.
    pub(super) fn split_after(id: &str) -> Vec<Self> {
        let mut ranges = Vec::with_capacity(SEAMS.len() + 1);
        let mut lower = Lower::After(id.to_owned());
        for seam in SEAMS.into_iter().filter(|seam| *seam > id) {
            ranges.push(Range { lower, end: Some(seam) });
            lower = Lower::From(seam);
        }
        ranges.push(Range { lower, end: None });
        ranges
    }

    /// Adds the range to a filter.
    pub(super) fn narrow(&self, filter: &mut Map<String, Value>) {
        match &self.lower {
            Lower::After(id) => filter.insert("id_gt".to_owned(), Value::from(id.as_str())),
            Lower::From(seam) => filter.insert("id_gte".to_owned(), Value::from(*seam)),
        };
        if let Some(end) = self.end {
            filter.insert("id_lt".to_owned(), Value::from(end));
        }
    }

    fn holds(&self, id: &str) -> bool {
        let above = match &self.lower {
            Lower::After(last) => id > last.as_str(),
            Lower::From(seam) => id >= *seam,
        };
        above && self.end.is_none_or(|end| id < end)
    }

    /// Where the next page begins after one of at most `full` rows, or `None` if this was the last of its range.
    ///
    /// # Errors
    /// `SourceUnavailable` if the page can't be trusted to page on from: out of order, or with rows of another range.
    /// `CorruptData` if it is full of rows without an id.
    pub(super) fn next<E: Entity>(&self, rows: &[E], full: usize) -> Result<Option<String>> {
        if rows.len() < full && *self == Range::all() {
            // The only page: nothing depends on its order, and a strange id must not fail it.
            return Ok(None);
        }
        let ids = || rows.iter().filter_map(E::id);
        if !ids().is_sorted() || !ids().all(|id| self.holds(id)) {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "the page holds rows that were not asked for, or is out of order",
            ));
        }
        if rows.len() < full {
            return Ok(None);
        }
        let last = ids().next_back().map(str::to_owned);
        last.map(Some).ok_or_else(|| Error::corrupt("a full page without one id can't be paged on from"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::Market;
    use super::*;

    const PAGE: usize = 10;

    fn rows(ids: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Market> {
        ids.into_iter().map(|id| Market { id: id.as_ref().into(), ..Market::default() }).collect()
    }

    proptest! {
        #[test]
        fn every_later_id_is_in_just_one_range(last in "(0x)?[0-9a-fA-F-]{0,6}|.{0,3}", id in "(0x)?[0-9a-fA-F-]{0,6}|.{0,3}|0x[1-9a-f]0") {
            let ranges = Range::split_after(&last);
            let holding = ranges.iter().filter(|range| range.holds(&id)).count();
            prop_assert_eq!(holding, usize::from(id > last));
        }

        #[test]
        fn ranges_are_in_the_order_of_ids(a in "0x[0-9a-f]{2}", b in "0x[0-9a-f]{2}") {
            let ranges = Range::split_after("");
            let place = |id: &str| ranges.iter().position(|range| range.holds(id)).unwrap();
            prop_assert!((a <= b) == (place(&a) <= place(&b)) || place(&a) == place(&b));
        }
    }

    #[test]
    fn a_filter_says_what_the_range_holds() {
        let filters: Vec<Value> = Range::split_after("0xd5")
            .iter()
            .map(|range| {
                let mut filter = Map::new();
                range.narrow(&mut filter);
                Value::Object(filter)
            })
            .collect();
        let wanted = serde_json::json!([
            {"id_gt": "0xd5", "id_lt": "0xe0"}, {"id_gte": "0xe0", "id_lt": "0xf0"}, {"id_gte": "0xf0"}
        ]);
        assert_eq!(Value::from(filters), wanted);
    }

    #[test]
    fn a_page_that_is_not_full_ends_its_range() {
        assert_eq!(Range::all().next(&rows(["b", "a"]), PAGE).unwrap(), None);
        assert_eq!(Range::all().after("a").next(&rows(["b", "c"]), PAGE).unwrap(), None);
        let full = rows((0..PAGE).map(|n| format!("0x{n:04}")));
        assert_eq!(Range::all().next(&full, PAGE).unwrap().as_deref(), Some("0x0009"));
    }

    #[test]
    fn a_page_that_would_lose_or_repeat_rows_is_asked_again() {
        let out_of_order = rows((0..PAGE).rev().map(|n| format!("0x{n:04}")));
        assert_eq!(Range::all().next(&out_of_order, PAGE).unwrap_err().kind(), Kind::SourceUnavailable);
        assert_eq!(Range::all().after("b").next(&rows(["b"]), PAGE).unwrap_err().kind(), Kind::SourceUnavailable);
        let range = &Range::split_after("0xe1")[0];
        assert_eq!(range.next(&rows(["0xf1"]), PAGE).unwrap_err().kind(), Kind::SourceUnavailable);
    }

    #[test]
    fn a_full_page_without_ids_ends_with_an_error_and_not_never() {
        let nameless = vec![Market::default(); PAGE];
        assert_eq!(Range::all().next(&nameless, PAGE).unwrap_err().kind(), Kind::CorruptData);
    }
}
