//! The id space, split into ranges that are paged in parallel.

use serde_json::{Map, Value};

use super::rows::Entity;
use crate::error::{Error, Kind, Result};

/// The boundaries between ranges: by the first hex digit of the account, with an even number of digits as `Bytes`
/// requires.
const BOUNDARIES: [&str; 15] = [
    "0x10", "0x20", "0x30", "0x40", "0x50", "0x60", "0x70", "0x80", "0x90", "0xa0", "0xb0", "0xc0", "0xd0", "0xe0",
    "0xf0",
];

/// A range of ids, in string order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdRange {
    lower: LowerBound,
    /// The exclusive upper bound; `None` for the last range.
    end: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LowerBound {
    /// Excludes an id that has been read already.
    After(String),
    /// Includes the boundary: an id that equals it belongs to this range.
    From(&'static str),
}

impl IdRange {
    /// Returns the range of all ids.
    pub(super) fn all() -> Self {
        IdRange { lower: LowerBound::After(String::new()), end: None }
    }

    /// Returns the rest of this range after an id.
    pub(super) fn after(&self, id: &str) -> Self {
        IdRange { lower: LowerBound::After(id.to_owned()), end: self.end }
    }

    /// Splits the ids after `id` into ranges without gaps or overlaps. The first range starts right after `id`, and the
    /// last one has no upper bound, so that ids of a form other than `0x…` are in one of these two, and none is lost.
    pub(super) fn split_after(id: &str) -> Vec<Self> {
        let mut ranges = Vec::with_capacity(BOUNDARIES.len() + 1);
        let mut lower = LowerBound::After(id.to_owned());
        for boundary in BOUNDARIES.into_iter().filter(|boundary| *boundary > id) {
            ranges.push(IdRange { lower, end: Some(boundary) });
            lower = LowerBound::From(boundary);
        }
        ranges.push(IdRange { lower, end: None });
        ranges
    }

    /// Adds the conditions of this range to a filter.
    pub(super) fn add_to_filter(&self, filter: &mut Map<String, Value>) {
        match &self.lower {
            LowerBound::After(id) => filter.insert("id_gt".to_owned(), Value::from(id.as_str())),
            LowerBound::From(boundary) => filter.insert("id_gte".to_owned(), Value::from(*boundary)),
        };
        if let Some(end) = self.end {
            filter.insert("id_lt".to_owned(), Value::from(end));
        }
    }

    fn contains(&self, id: &str) -> bool {
        let above = match &self.lower {
            LowerBound::After(last) => id > last.as_str(),
            LowerBound::From(boundary) => id >= *boundary,
        };
        above && self.end.is_none_or(|end| id < end)
    }

    /// Returns the id after which the next page starts, or `None` if this page was the last of the range. A page with
    /// `page_size` rows is full, so that more rows may follow.
    ///
    /// # Errors
    /// `SourceUnavailable` if the rows are out of order or outside the range, so that paging could lose or repeat rows.
    /// `CorruptData` if the page is full and no row has an id.
    pub(super) fn next_cursor<E: Entity>(&self, rows: &[E], page_size: usize) -> Result<Option<String>> {
        if rows.len() < page_size && *self == IdRange::all() {
            // The only page: its order does not matter, and an unexpected id must not cause an error.
            return Ok(None);
        }
        let ids = || rows.iter().filter_map(E::id);
        if !ids().is_sorted() || !ids().all(|id| self.contains(id)) {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "the page is out of order or contains rows outside the requested range",
            ));
        }
        if rows.len() < page_size {
            return Ok(None);
        }
        let last = ids().next_back().map(str::to_owned);
        last.map(Some).ok_or_else(|| Error::corrupt("a full page has no row with an id, so the next page is unknown"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::Market;
    use super::*;

    const PAGE_SIZE: usize = 10;

    fn rows(ids: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Market> {
        ids.into_iter().map(|id| Market { id: id.as_ref().into(), ..Market::default() }).collect()
    }

    proptest! {
        #[test]
        fn each_later_id_is_in_exactly_one_range(last in "(0x)?[0-9a-fA-F-]{0,6}|.{0,3}", id in "(0x)?[0-9a-fA-F-]{0,6}|.{0,3}|0x[1-9a-f]0") {
            let ranges = IdRange::split_after(&last);
            let count = ranges.iter().filter(|range| range.contains(&id)).count();
            prop_assert_eq!(count, usize::from(id > last));
        }

        #[test]
        fn ranges_are_in_id_order(a in "0x[0-9a-f]{2}", b in "0x[0-9a-f]{2}") {
            let ranges = IdRange::split_after("");
            let index = |id: &str| ranges.iter().position(|range| range.contains(id)).unwrap();
            prop_assert!((a <= b) == (index(&a) <= index(&b)) || index(&a) == index(&b));
        }
    }

    #[test]
    fn filters_match_the_ranges() {
        let filters: Vec<Value> = IdRange::split_after("0xd5")
            .iter()
            .map(|range| {
                let mut filter = Map::new();
                range.add_to_filter(&mut filter);
                Value::Object(filter)
            })
            .collect();
        let expected = serde_json::json!([
            {"id_gt": "0xd5", "id_lt": "0xe0"}, {"id_gte": "0xe0", "id_lt": "0xf0"}, {"id_gte": "0xf0"}
        ]);
        assert_eq!(Value::from(filters), expected);
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last_of_its_range() {
        assert_eq!(IdRange::all().next_cursor(&rows(["b", "a"]), PAGE_SIZE).unwrap(), None);
        assert_eq!(IdRange::all().after("a").next_cursor(&rows(["b", "c"]), PAGE_SIZE).unwrap(), None);
        let full = rows((0..PAGE_SIZE).map(|n| format!("0x{n:04}")));
        assert_eq!(IdRange::all().next_cursor(&full, PAGE_SIZE).unwrap().as_deref(), Some("0x0009"));
    }

    #[test]
    fn rejects_pages_that_would_lose_or_repeat_rows() {
        let error = |range: &IdRange, rows: &[Market]| range.next_cursor(rows, PAGE_SIZE).unwrap_err().kind();
        let out_of_order = rows((0..PAGE_SIZE).rev().map(|n| format!("0x{n:04}")));
        assert_eq!(error(&IdRange::all(), &out_of_order), Kind::SourceUnavailable);
        assert_eq!(error(&IdRange::all().after("b"), &rows(["b"])), Kind::SourceUnavailable);
        assert_eq!(error(&IdRange::split_after("0xe1")[0], &rows(["0xf1"])), Kind::SourceUnavailable);
    }

    #[test]
    fn a_full_page_without_ids_is_an_error() {
        let without_ids = vec![Market::default(); PAGE_SIZE];
        assert_eq!(IdRange::all().next_cursor(&without_ids, PAGE_SIZE).unwrap_err().kind(), Kind::CorruptData);
    }
}
