//! Paging by key through answers that may be cut short anywhere, without losing a row.
//!
//! A page that is full or truncated is *cut*: its last rows may have siblings that were cut away. What could be incomplete
//! is put back and asked for again: the rows of the page's last second, or, if the whole page is of one second, those of its
//! last log index, or, if the whole page is of one log index, that one key alone.
//!
//! Rows without a readable log index are why whole seconds are put back where possible: PostgreSQL sorts NULLs last, but
//! `(timestamp, log_index) > (…)` is never true for a NULL of the cursor's own second. Where paging had to go on within a
//! second, those rows are asked for by themselves ([`Ask::Unplaced`]).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::rows::{Event, Key};
use crate::error::{Error, Kind, Result};

/// The next page to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// From the beginning.
    First,
    /// What comes after a key.
    After(Key),
    /// All rows of one key.
    Exactly(Key),
    /// All rows of one second that have no log index.
    Unplaced(Timestamp),
}

/// An answer's rows, and whether there may be more of them.
#[derive(Debug, Clone)]
pub(super) struct EventPage {
    pub rows: Vec<Event>,
    pub cut: bool,
}

/// Above every log index, and within PostgreSQL's `integer`.
const AFTER_ALL_LOGS: i64 = i32::MAX as i64;

impl Ask {
    /// Whether an answer can be what was asked for. One that can't is broken, and asked for again.
    ///
    /// # Errors
    /// `SourceUnavailable`.
    pub(super) fn check(&self, page: &EventPage) -> Result<()> {
        let broken = |what: &str| Err(Error::new(Kind::SourceUnavailable, what));
        let keys = || page.rows.iter().filter_map(Event::key);
        if !keys().is_sorted() {
            return broken("the rows are out of order");
        }
        match self {
            Ask::After(after) if !keys().all(|key| key > *after) => {
                return broken("there are rows from before the page");
            }
            Ask::Exactly(at) if !keys().all(|key| key == *at) => return broken("there are rows of another place"),
            Ask::Exactly(_) | Ask::Unplaced(_) if page.cut => return broken("the rows of one place are cut short"),
            Ask::Unplaced(_) if keys().next().is_some() => return broken("there are rows of another place"),
            _ => {}
        }
        if page.cut && page.rows.is_empty() {
            return broken("the page was cut short before its first row");
        }
        Ok(())
    }
}

/// The rows so far, and what to ask for next.
#[derive(Debug)]
pub(super) struct Pager {
    rows: Vec<Event>,
    ask: Ask,
    /// The seconds within which paging went on: their rows without a log index are still to be asked for.
    within: BTreeSet<Timestamp>,
    /// What comes after that.
    then: Option<Ask>,
}

impl Pager {
    pub(super) fn new() -> Self {
        Pager { rows: Vec::new(), ask: Ask::First, within: BTreeSet::new(), then: None }
    }

    pub(super) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Takes a checked page in. Returns all rows once there are no more.
    ///
    /// # Errors
    /// `CorruptData` if a page is cut and has no key to page on from.
    pub(super) fn take(mut self, page: EventPage) -> Result<Progress> {
        let next = match self.ask {
            Ask::Exactly(key) => {
                self.rows.extend(page.rows);
                Some(Ask::After(key))
            }
            Ask::Unplaced(time) => {
                self.insert_unplaced(time, page.rows);
                self.then.take()
            }
            Ask::First | Ask::After(_) if page.cut => Some(self.take_cut(page.rows)?),
            Ask::First | Ask::After(_) => {
                self.keep(page.rows);
                None
            }
        };
        self.go_on(next)
    }

    /// Before paging leaves a second that it went on within, that second's rows without a log index are fetched.
    fn go_on(mut self, next: Option<Ask>) -> Result<Progress> {
        let leaves = |time: Timestamp| match next {
            Some(Ask::After(key) | Ask::Exactly(key)) => key.time > time,
            _ => true,
        };
        let left = self.within.first().copied().filter(|time| leaves(*time));
        self.ask = match (left, next) {
            (Some(time), next) => {
                self.within.remove(&time);
                self.then = next;
                Ask::Unplaced(time)
            }
            (None, Some(next)) => next,
            (None, None) => return Ok(Progress::Done(self.rows)),
        };
        Ok(Progress::More(self))
    }

    /// Without room for more: a day may be large, and of room that is doubled half could stay empty.
    fn keep(&mut self, rows: Vec<Event>) {
        self.rows.reserve_exact(rows.len());
        self.rows.extend(rows);
    }

    /// Keeps what is surely complete of a cut page, and says what to ask for next.
    fn take_cut(&mut self, rows: Vec<Event>) -> Result<Ask> {
        let stuck = || Error::corrupt("a page that was cut short has no row to page on from").with("rows", rows.len());
        let last_time = rows.iter().filter_map(Event::time).max().ok_or_else(stuck)?;
        let complete = rows.iter().filter_map(Event::time).filter(|time| *time < last_time).max();
        if let Some(time) = complete {
            let in_it = rows.iter().filter_map(Event::key).filter(|key| key.time == time);
            let log_index = in_it.map(|key| key.log_index).max().unwrap_or(AFTER_ALL_LOGS);
            // A row without a readable time is kept wherever it stands: it may not come again.
            self.keep(rows.into_iter().filter(|row| row.time() != Some(last_time)).collect());
            return Ok(Ask::After(Key { time, log_index }));
        }
        let last = rows.iter().filter_map(Event::key).max().ok_or_else(stuck)?;
        let before = rows.iter().filter_map(Event::key).filter(|key| *key < last).max();
        self.within.insert(last_time);
        self.rows.extend(rows.into_iter().filter(|row| row.key() != Some(last) && !is_unplaced(row, last_time)));
        Ok(before.map_or(Ask::Exactly(last), Ask::After))
    }

    /// Puts the rows of a second that have no log index behind the others of it, in place of those that came along.
    fn insert_unplaced(&mut self, time: Timestamp, unplaced: Vec<Event>) {
        self.rows.retain(|row| !is_unplaced(row, time));
        let behind = self.rows.iter().rposition(|row| row.time().is_some_and(|other| other <= time));
        let place = behind.map_or(0, |place| place + 1);
        self.rows.splice(place..place, unplaced);
    }
}

/// What [`Pager::take`] comes to.
#[derive(Debug)]
pub(super) enum Progress {
    More(Pager),
    Done(Vec<Event>),
}

fn is_unplaced(row: &Event, time: Timestamp) -> bool {
    row.log_index.is_none() && row.time() == Some(time)
}
