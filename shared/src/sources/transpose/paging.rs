//! Keyset paging through responses that may be truncated anywhere, without losing a row.
//!
//! A page that is full or truncated is *partial*: rows that belong with its last ones may be missing. The possibly
//! incomplete rows are dropped and requested again: the rows of the last second of the page; or, if all rows have the
//! same second, those of its last log index; or, if all rows have the same log index, those of that key alone.
//!
//! Whole seconds are dropped where possible because of rows without a valid log index: PostgreSQL sorts NULLs last, but
//! `(timestamp, log_index) > (…)` is never true for a NULL in the second of the cursor. If paging continues within a
//! second, its rows without a log index are requested separately ([`PageRequest::WithoutLogIndex`]).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::rows::{Event, EventKey};
use crate::error::{Error, Kind, Result};

/// The rows to request as the next page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageRequest {
    /// The rows from the start.
    First,
    /// The rows after a key.
    After(EventKey),
    /// All rows of a key.
    Exactly(EventKey),
    /// All rows of a second that have no log index.
    WithoutLogIndex(Timestamp),
}

/// The rows of a response.
#[derive(Debug, Clone)]
pub(super) struct EventPage {
    pub rows: Vec<Event>,
    /// Whether the request may match more rows than these.
    pub partial: bool,
}

/// Greater than any log index, and within the range of PostgreSQL's `integer`.
const AFTER_ALL_LOGS: i64 = i32::MAX as i64;

impl PageRequest {
    /// Checks that a page is a possible response to this request. Otherwise the request is retried.
    ///
    /// # Errors
    /// `SourceUnavailable`.
    pub(super) fn check(&self, page: &EventPage) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(Kind::SourceUnavailable, message));
        let keys = || page.rows.iter().filter_map(Event::key);
        if !keys().is_sorted() {
            return invalid("the rows are out of order");
        }
        match self {
            PageRequest::After(after) if !keys().all(|key| key > *after) => {
                return invalid("the response has rows that precede the requested page");
            }
            PageRequest::Exactly(exact) if !keys().all(|key| key == *exact) => {
                return invalid("the response has rows with another timestamp or log index than requested");
            }
            PageRequest::Exactly(_) | PageRequest::WithoutLogIndex(_) if page.partial => {
                return invalid("the response is truncated, and smaller pages cannot be requested");
            }
            PageRequest::WithoutLogIndex(_) if keys().next().is_some() => {
                return invalid("the response has rows with a log index, but rows without one were requested");
            }
            _ => {}
        }
        if page.partial && page.rows.is_empty() {
            return invalid("the page was truncated before its first row");
        }
        Ok(())
    }
}

/// The rows read so far, and the next request.
#[derive(Debug)]
pub(super) struct Pager {
    rows: Vec<Event>,
    request: PageRequest,
    /// The seconds within which paging continued: their rows without a log index have not been requested yet.
    split_seconds: BTreeSet<Timestamp>,
    /// The request after the current one, if that is for rows without a log index.
    deferred: Option<PageRequest>,
}

impl Pager {
    pub(super) fn new() -> Self {
        Pager { rows: Vec::new(), request: PageRequest::First, split_seconds: BTreeSet::new(), deferred: None }
    }

    pub(super) fn request(&self) -> &PageRequest {
        &self.request
    }

    /// Adds a checked page. Returns all rows when there are no more pages.
    ///
    /// # Errors
    /// `CorruptData` if a page is partial and has no key to continue from.
    pub(super) fn add(mut self, page: EventPage) -> Result<Progress> {
        let next = match self.request {
            PageRequest::Exactly(key) => {
                self.rows.extend(page.rows);
                Some(PageRequest::After(key))
            }
            PageRequest::WithoutLogIndex(time) => {
                self.insert_without_log_index(time, page.rows);
                self.deferred.take()
            }
            PageRequest::First | PageRequest::After(_) if page.partial => Some(self.add_partial(page.rows)?),
            PageRequest::First | PageRequest::After(_) => {
                self.extend(page.rows);
                None
            }
        };
        self.advance(next)
    }

    /// Sets the next request. Before paging leaves a second within which it continued, that second's rows without a log
    /// index are requested.
    fn advance(mut self, next: Option<PageRequest>) -> Result<Progress> {
        let leaves = |time: Timestamp| match next {
            Some(PageRequest::After(key) | PageRequest::Exactly(key)) => key.time > time,
            _ => true,
        };
        let left = self.split_seconds.first().copied().filter(|time| leaves(*time));
        self.request = match (left, next) {
            (Some(time), next) => {
                self.split_seconds.remove(&time);
                self.deferred = next;
                PageRequest::WithoutLogIndex(time)
            }
            (None, Some(next)) => next,
            (None, None) => return Ok(Progress::Done(self.rows)),
        };
        Ok(Progress::More(self))
    }

    /// Appends rows without spare capacity: a day can be large, and doubling the capacity could leave half of it
    /// unused.
    fn extend(&mut self, rows: Vec<Event>) {
        self.rows.reserve_exact(rows.len());
        self.rows.extend(rows);
    }

    /// Adds the rows of a partial page that are certainly complete. Returns the next request.
    fn add_partial(&mut self, rows: Vec<Event>) -> Result<PageRequest> {
        let no_cursor = || Error::corrupt("a partial page has no row to continue from").with("rows", rows.len());
        let last_time = rows.iter().filter_map(Event::time).max().ok_or_else(no_cursor)?;
        let complete = rows.iter().filter_map(Event::time).filter(|time| *time < last_time).max();
        if let Some(time) = complete {
            let keys = rows.iter().filter_map(Event::key).filter(|key| key.time == time);
            let log_index = keys.map(|key| key.log_index).max().unwrap_or(AFTER_ALL_LOGS);
            // Keeps rows without a valid timestamp wherever they are: they may not be sent again.
            self.extend(rows.into_iter().filter(|row| row.time() != Some(last_time)).collect());
            return Ok(PageRequest::After(EventKey { time, log_index }));
        }
        let last = rows.iter().filter_map(Event::key).max().ok_or_else(no_cursor)?;
        let previous = rows.iter().filter_map(Event::key).filter(|key| *key < last).max();
        self.split_seconds.insert(last_time);
        let is_complete = |row: &Event| row.key() != Some(last) && !lacks_log_index(row, last_time);
        self.rows.extend(rows.into_iter().filter(is_complete));
        Ok(previous.map_or(PageRequest::Exactly(last), PageRequest::After))
    }

    /// Inserts the rows of a second that have no log index after its other rows. Replaces those that were read before.
    fn insert_without_log_index(&mut self, time: Timestamp, rows: Vec<Event>) {
        self.rows.retain(|row| !lacks_log_index(row, time));
        let last = self.rows.iter().rposition(|row| row.time().is_some_and(|other| other <= time));
        let index = last.map_or(0, |last| last + 1);
        self.rows.splice(index..index, rows);
    }
}

/// The result of [`Pager::add`].
#[derive(Debug)]
pub(super) enum Progress {
    More(Pager),
    Done(Vec<Event>),
}

fn lacks_log_index(row: &Event, time: Timestamp) -> bool {
    row.log_index.is_none() && row.time() == Some(time)
}
