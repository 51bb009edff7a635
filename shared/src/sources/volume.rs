//! Limits on how much a source may send for one snapshot or one day's events. A source whose pages have no end would
//! otherwise fill the memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::text::{Text, TextRow};
use crate::config::SourceLimits;
use crate::error::{Error, Result};

/// A limit, and its entry in the configuration.
type Limit = (&'static str, u64);

/// What a source has sent so far for one result.
#[derive(Debug)]
pub(crate) struct Volume {
    rows: AtomicU64,
    bytes: AtomicU64,
    max_rows: Limit,
    max_bytes: Limit,
    max_field_bytes: Limit,
}

impl Volume {
    /// Starts to count a snapshot.
    pub(crate) fn of_snapshot(limits: &SourceLimits) -> Self {
        Volume::new(("snapshot_rows", limits.snapshot_rows), ("snapshot_bytes", limits.snapshot_bytes), limits)
    }

    /// Starts to count the events of a query.
    pub(crate) fn of_events(limits: &SourceLimits) -> Self {
        Volume::new(("event_rows", limits.event_rows), ("event_bytes", limits.event_bytes), limits)
    }

    /// Starts to count the logs of a number of days, each of which may have as many as the events of a day.
    pub(crate) fn of_logs(limits: &SourceLimits, days: u64) -> Self {
        let [rows, bytes] = [limits.event_rows, limits.event_bytes].map(|limit| limit.saturating_mul(days.max(1)));
        Volume::new(("event_rows", rows), ("event_bytes", bytes), limits)
    }

    fn new(max_rows: Limit, max_bytes: Limit, limits: &SourceLimits) -> Self {
        let max_field_bytes = ("field_bytes", limits.field_bytes);
        Volume { rows: AtomicU64::new(0), bytes: AtomicU64::new(0), max_rows, max_bytes, max_field_bytes }
    }

    /// Adds the rows of a response of a number of bytes.
    ///
    /// # Errors
    /// `CorruptData` if a limit is exceeded.
    pub(crate) fn add(&self, rows: &[impl TextRow], bytes: usize) -> Result<()> {
        let mut longest = 0;
        let mut visit = |field: &Text| longest = longest.max(field.as_deref().map_or(0, str::len));
        rows.iter().for_each(|row| row.for_each(&mut visit));
        self.add_sizes(rows.len(), bytes, longest)
    }

    /// Adds a number of rows of a response of a number of bytes, the longest field of which has a length.
    ///
    /// # Errors
    /// As [`Volume::add`].
    pub(crate) fn add_sizes(&self, rows: usize, bytes: usize, longest: usize) -> Result<()> {
        let sum = |sum: &AtomicU64, count: usize| sum.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        check(sum(&self.rows, rows), self.max_rows, "too many rows")?;
        check(sum(&self.bytes, bytes), self.max_bytes, "too many bytes")?;
        check(longest as u64, self.max_field_bytes, "a field that is too long")
    }
}

fn check(value: u64, (entry, limit): Limit, what: &str) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::corrupt(format!("the source sent {what}"))
        .with(entry, limit)
        .with_hint(format!("if the data are right, raise {entry} under [source_limits] in the configuration")))
}
