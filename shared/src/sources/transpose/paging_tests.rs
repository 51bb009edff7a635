//! Paging against a stand-in for PostgreSQL that cuts its answers wherever it likes.

use jiff::Timestamp;
use proptest::prelude::*;

use super::paging::{Ask, EventPage, Pager, Progress};
use super::rows::{Event, Key};
use crate::error::{Kind, Result};
use crate::sources::Text;

const DAY: i64 = 1_672_531_200;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(DAY + second).unwrap()
}

/// A row at a second and a log index (or without one), told apart by a number.
fn row(second: i64, log_index: Option<i64>, number: usize) -> Event {
    Event {
        timestamp: Text(Some(time(second).to_string().into())),
        log_index: Text(log_index.map(|index| index.to_string().into())),
        transaction_hash: Text(Some(number.to_string().into())),
        ..Event::default()
    }
}

/// Whether PostgreSQL's WHERE holds: a comparison with NULL doesn't.
fn answers(ask: &Ask, row: &Event) -> bool {
    let (row_time, index) = (row.time().unwrap(), row.log_index.as_deref().map(|index| index.parse::<i64>().unwrap()));
    match ask {
        Ask::First => true,
        Ask::After(key) => {
            row_time > key.time || (row_time == key.time && index.is_some_and(|index| index > key.log_index))
        }
        Ask::Exactly(key) => row.key() == Some(*key),
        Ask::Unplaced(at) => row_time == *at && index.is_none(),
    }
}

/// ORDER BY timestamp, log_index: NULLs last.
fn in_order(mut rows: Vec<Event>) -> Vec<Event> {
    rows.sort_by_key(|row| (row.time(), row.key().is_none(), row.key()));
    rows
}

/// Pages to the end. `cuts` says, request by request, after how many rows the answer is truncated, if at all; an answer
/// for one place is cut only as often as the retry around it would ask again.
fn page_through(table: &[Event], limit: usize, cuts: &[Option<usize>]) -> Result<(Vec<Event>, usize)> {
    let mut pager = Pager::new();
    for request in 0.. {
        let mut rows: Vec<Event> = table.iter().filter(|row| answers(pager.ask(), row)).cloned().collect();
        let whole = matches!(pager.ask(), Ask::Exactly(_) | Ask::Unplaced(_));
        let cut = cuts[request % cuts.len()].filter(|_| !whole);
        let limit = if whole { usize::MAX } else { limit };
        let truncated = cut.is_some_and(|cut| cut < rows.len());
        rows.truncate(cut.unwrap_or(usize::MAX).min(limit));
        let page = EventPage { cut: truncated || rows.len() >= limit, rows };
        pager.ask().check(&page)?;
        match pager.take(page)? {
            Progress::More(more) => pager = more,
            Progress::Done(rows) => return Ok((rows, request + 1)),
        }
    }
    unreachable!()
}

/// Rows with many ties of second and log index, and some without a log index.
fn tables() -> impl Strategy<Value = Vec<Event>> {
    let place = (0i64..6, prop_oneof![9 => (0i64..4).prop_map(Some), 1 => Just(None)]);
    let table =
        |places: Vec<_>| places.into_iter().enumerate().map(|(n, (second, index))| row(second, index, n)).collect();
    prop::collection::vec(place, 0..60).prop_map(table).prop_map(in_order)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A cut of at least one row with a key makes progress; rows without one can't stop it as long as a key is on the page.
    #[test]
    fn no_cut_loses_repeats_or_moves_a_row(
        table in tables(),
        limit in 1usize..70,
        cuts in prop::collection::vec(prop::option::of(1usize..9), 1..6),
    ) {
        match page_through(&table, limit, &cuts) {
            Ok((rows, _)) => prop_assert_eq!(rows, table),
            // A page of nothing but rows without a log index is told, not skipped.
            Err(error) => {
                prop_assert_eq!(error.kind(), Kind::CorruptData);
                prop_assert!(table.iter().any(|row| row.key().is_none()));
            }
        }
    }
}

#[test]
fn a_page_that_is_neither_full_nor_truncated_is_the_end() {
    let table = vec![row(0, Some(1), 0), row(0, Some(2), 1)];
    assert_eq!(page_through(&table, 3, &[None]).unwrap(), (table.clone(), 1));
    assert_eq!(page_through(&[], 3, &[None]).unwrap(), (Vec::new(), 1));
    // Full: there could be a third row.
    assert!(page_through(&table, 2, &[None]).unwrap().1 > 1);
}

#[test]
fn rows_without_a_log_index_survive_a_cut_within_their_second() {
    let table =
        in_order((0..6).map(|n| row(0, (n < 4).then_some(n), n as usize)).chain([row(1, Some(0), 6)]).collect());
    for cut in 1..=6 {
        assert_eq!(page_through(&table, 100, &[Some(cut), None]).unwrap().0, table, "{cut}");
    }
}

#[test]
fn a_row_without_a_time_is_kept() {
    let lost = Event { log_index: "3".into(), ..Event::default() };
    let rows = vec![row(0, Some(1), 0), row(1, Some(2), 1), lost.clone()];
    let Progress::More(pager) = Pager::new().take(EventPage { rows, cut: true }).unwrap() else { panic!("cut") };
    assert_eq!(*pager.ask(), Ask::After(Key { time: time(0), log_index: 1 }));
    let rows = vec![row(1, Some(2), 1)];
    let Progress::Done(rows) = pager.take(EventPage { rows, cut: false }).unwrap() else { panic!("not cut") };
    assert_eq!(rows, [row(0, Some(1), 0), lost, row(1, Some(2), 1)]);
}

#[test]
fn a_cut_page_without_a_key_is_an_error_and_no_loop() {
    for rows in [vec![Event::default()], vec![row(0, None, 0), row(0, None, 1)]] {
        let error = Pager::new().take(EventPage { rows, cut: true }).unwrap_err();
        assert_eq!(error.kind(), Kind::CorruptData);
    }
}

#[test]
fn a_broken_answer_is_asked_for_again() {
    let key = Key { time: time(1), log_index: 1 };
    let (at, later) = (row(1, Some(1), 0), row(2, Some(1), 1));
    let broken = [
        (Ask::First, vec![later.clone(), at.clone()], false),
        (Ask::After(key), vec![at.clone(), later.clone()], false),
        (Ask::Exactly(key), vec![later.clone()], false),
        (Ask::Exactly(key), vec![at.clone()], true),
        (Ask::Unplaced(time(1)), vec![at.clone()], false),
        (Ask::Unplaced(time(1)), vec![row(1, None, 2)], true),
        (Ask::First, vec![], true),
    ];
    for (ask, rows, cut) in broken {
        let error = ask.check(&EventPage { rows, cut }).unwrap_err();
        assert_eq!(error.kind(), Kind::SourceUnavailable, "{ask:?}");
    }
    assert!(Ask::After(key).check(&EventPage { rows: vec![later], cut: true }).is_ok());
    assert!(Ask::Exactly(key).check(&EventPage { rows: vec![at.clone(), at], cut: false }).is_ok());
}
