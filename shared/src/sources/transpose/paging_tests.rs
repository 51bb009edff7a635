//! Tests of paging with a simulated PostgreSQL that truncates responses anywhere.

use jiff::Timestamp;
use proptest::prelude::*;

use super::paging::{EventPage, PageRequest, Pager, Progress};
use super::rows::{Event, EventKey};
use crate::error::{Kind, Result};
use crate::sources::Text;

const DAY: i64 = 1_672_531_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(DAY + second).unwrap()
}

/// Creates a row with a second, a log index (or none) and a number that identifies it.
fn row(second: i64, log_index: Option<i64>, number: usize) -> Event {
    Event {
        timestamp: Text(Some(time(second).to_string().into())),
        log_index: Text(log_index.map(|index| index.to_string().into())),
        transaction_hash: Text(Some(number.to_string().into())),
        ..Event::default()
    }
}

/// Returns whether PostgreSQL's WHERE condition is true; a comparison with NULL is not.
fn matches(request: &PageRequest, row: &Event) -> bool {
    let (row_time, index) = (row.time().unwrap(), row.log_index.as_deref().map(|index| index.parse::<i64>().unwrap()));
    match request {
        PageRequest::First => true,
        PageRequest::After(key) => {
            row_time > key.time || (row_time == key.time && index.is_some_and(|index| index > key.log_index))
        }
        PageRequest::Exactly(key) => row.key() == Some(*key),
        PageRequest::WithoutLogIndex(at) => row_time == *at && index.is_none(),
    }
}

/// Sorts as ORDER BY timestamp, log_index: NULLs last.
fn sorted(mut rows: Vec<Event>) -> Vec<Event> {
    rows.sort_by_key(|row| (row.time(), row.key().is_none(), row.key()));
    rows
}

/// Reads all pages. Returns the rows and the number of requests. `lengths` contains the length at which each response
/// is truncated, if at all. Responses for a single key are never truncated, because the client would retry such a
/// request.
fn read_all(table: &[Event], limit: usize, lengths: &[Option<usize>]) -> Result<(Vec<Event>, usize)> {
    let mut pager = Pager::new();
    for number in 0.. {
        let mut rows: Vec<Event> = table.iter().filter(|row| matches(pager.request(), row)).cloned().collect();
        let complete = matches!(pager.request(), PageRequest::Exactly(_) | PageRequest::WithoutLogIndex(_));
        let length = lengths[number % lengths.len()].filter(|_| !complete);
        let limit = if complete { usize::MAX } else { limit };
        let truncated = length.is_some_and(|length| length < rows.len());
        rows.truncate(length.unwrap_or(usize::MAX).min(limit));
        let page = EventPage { partial: truncated || rows.len() >= limit, rows };
        pager.request().check(&page)?;
        match pager.add(page)? {
            Progress::More(more) => pager = more,
            Progress::Done(rows) => return Ok((rows, number + 1)),
        }
    }
    unreachable!()
}

/// Generates rows with many equal seconds and log indices, and some without a log index.
fn tables() -> impl Strategy<Value = Vec<Event>> {
    let key = (0i64..6, prop_oneof![9 => (0i64..4).prop_map(Some), 1 => Just(None)]);
    let table = |keys: Vec<_>| keys.into_iter().enumerate().map(|(n, (second, index))| row(second, index, n)).collect();
    prop::collection::vec(key, 0..60).prop_map(table).prop_map(sorted)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A page makes progress if it has a row with a key, even if other rows have none.
    #[test]
    fn truncation_does_not_lose_repeat_or_reorder_rows(
        table in tables(),
        limit in 1usize..70,
        lengths in prop::collection::vec(prop::option::of(1usize..9), 1..6),
    ) {
        match read_all(&table, limit, &lengths) {
            Ok((rows, _)) => prop_assert_eq!(rows, table),
            // A partial page whose rows all lack a log index is an error; its rows are not skipped.
            Err(error) => {
                prop_assert_eq!(error.kind(), Kind::CorruptData);
                prop_assert!(table.iter().any(|row| row.key().is_none()));
            }
        }
    }
}

#[test]
fn a_page_that_is_not_full_or_truncated_is_the_last() {
    let table = vec![row(0, Some(1), 0), row(0, Some(2), 1)];
    assert_eq!(read_all(&table, 3, &[None]).unwrap(), (table.clone(), 1));
    assert_eq!(read_all(&[], 3, &[None]).unwrap(), (Vec::new(), 1));
    // The page is full, so there could be a third row.
    assert!(read_all(&table, 2, &[None]).unwrap().1 > 1);
}

#[test]
fn rows_without_log_index_survive_truncation_in_their_second() {
    let table = sorted((0..6).map(|n| row(0, (n < 4).then_some(n), n as usize)).chain([row(1, Some(0), 6)]).collect());
    for length in 1..=6 {
        assert_eq!(read_all(&table, 100, &[Some(length), None]).unwrap().0, table, "{length}");
    }
}

#[test]
fn rows_without_a_timestamp_are_kept() {
    let without_time = Event { log_index: "3".into(), ..Event::default() };
    let rows = vec![row(0, Some(1), 0), row(1, Some(2), 1), without_time.clone()];
    let Progress::More(pager) = Pager::new().add(EventPage { rows, partial: true }).unwrap() else { panic!("partial") };
    assert_eq!(*pager.request(), PageRequest::After(EventKey { time: time(0), log_index: 1 }));
    let rows = vec![row(1, Some(2), 1)];
    let Progress::Done(rows) = pager.add(EventPage { rows, partial: false }).unwrap() else { panic!("complete") };
    assert_eq!(rows, [row(0, Some(1), 0), without_time, row(1, Some(2), 1)]);
}

#[test]
fn a_partial_page_without_a_key_is_an_error() {
    for rows in [vec![Event::default()], vec![row(0, None, 0), row(0, None, 1)]] {
        let error = Pager::new().add(EventPage { rows, partial: true }).unwrap_err();
        assert_eq!(error.kind(), Kind::CorruptData);
    }
}

#[test]
fn responses_that_do_not_match_the_request_are_retried() {
    let key = EventKey { time: time(1), log_index: 1 };
    let (at, later) = (row(1, Some(1), 0), row(2, Some(1), 1));
    let invalid = [
        (PageRequest::First, vec![later.clone(), at.clone()], false),
        (PageRequest::After(key), vec![at.clone(), later.clone()], false),
        (PageRequest::Exactly(key), vec![later.clone()], false),
        (PageRequest::Exactly(key), vec![at.clone()], true),
        (PageRequest::WithoutLogIndex(time(1)), vec![at.clone()], false),
        (PageRequest::WithoutLogIndex(time(1)), vec![row(1, None, 2)], true),
        (PageRequest::First, vec![], true),
    ];
    for (request, rows, partial) in invalid {
        let error = request.check(&EventPage { rows, partial }).unwrap_err();
        assert_eq!(error.kind(), Kind::SourceUnavailable, "{request:?}");
    }
    assert!(PageRequest::After(key).check(&EventPage { rows: vec![later], partial: true }).is_ok());
    assert!(PageRequest::Exactly(key).check(&EventPage { rows: vec![at.clone(), at], partial: false }).is_ok());
}
