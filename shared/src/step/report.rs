//! The report of a step: counts of its work. Its JSON is smaller than 8 KB regardless of the amount of work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Day;
use crate::lake::{ObjectDigest, PutOutcome, WorkUnit, WriteOutcome};
use crate::sources::TrafficReport;

/// The number of lost or remaining units that a report names. Further lost units are only counted; further remaining
/// units are in an object of the lake.
pub(super) const NAMED_UNITS: usize = 20;

/// Counts of a step's work. The reports of several calls can be [merged](Report::merge).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Number of units produced.
    pub units: u64,
    /// Number of input rows.
    pub rows_in: u64,
    /// Number of rows written.
    pub rows_out: u64,
    /// Number of exact duplicates dropped.
    pub repeats: u64,
    /// Number of rows in quarantine, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Number of events or positions without a price.
    pub unpriced: u64,
    /// Number of supply positions.
    pub supply_positions: u64,
    /// Number of supply positions whose `is_collateral` is null.
    pub null_is_collateral: u64,
    /// Number of objects created or replaced.
    pub objects_written: u64,
    /// Number of objects that existed with the same bytes, or that the source has no other rows for.
    pub objects_unchanged: u64,
    /// Total size of those objects, in bytes.
    pub bytes: u64,
    /// The digests of those objects, by key. Only in the report that a run keeps of the call.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// Units whose source no longer has their history.
    pub lost: UnitSummary,
    /// Units that were rebuilt, because their source no longer has their history.
    #[serde(skip_serializing_if = "UnitSummary::is_empty")]
    pub rebuilt: UnitSummary,
    /// Units left to another call because the deadline was near.
    pub remaining: Remaining,
    /// Sums of balances that differ from what the contracts say. The balances were asked by call instead.
    #[serde(skip_serializing_if = "UnitSummary::is_empty")]
    pub differing: UnitSummary,
    /// Where the fold began. Only of build-features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folded_from: Option<FoldStart>,
    /// Network traffic. It varies between equal runs, and is stored only in the reports of runs.
    #[serde(skip_serializing_if = "is_empty_traffic")]
    pub traffic: TrafficReport,
}

fn is_empty_traffic(traffic: &TrafficReport) -> bool {
    *traffic == TrafficReport::default()
}

/// Where a fold began. Ordered: a fold of all days is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldStart {
    /// The as-of day of the state that it continued. `None`: all days were folded.
    pub state: Option<Day>,
}

/// The number of units, and the names of the first few.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitSummary {
    /// The number of units.
    pub count: u64,
    /// The names of the first units, sorted.
    pub first: Vec<String>,
}

/// The units that a call left to another one because its deadline was near. The `resume` of that call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remaining {
    /// The number of units.
    pub count: u64,
    /// The names of the units, in the order in which the next call processes them. If `list` is set, only the first.
    pub first: Vec<String>,
    /// The key of the object that names all units, if they are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The number of calls in a row, including this one, that completed no unit.
    pub idle_calls: u32,
}

impl Remaining {
    /// Adds a unit. The next call processes it after the others.
    pub fn add(&mut self, unit: &WorkUnit) {
        self.count += 1;
        self.first.push(unit.to_string());
    }

    fn merge(&mut self, other: Remaining) {
        self.count += other.count;
        self.first.extend(other.first);
        self.list = self.list.take().or(other.list);
        self.idle_calls = self.idle_calls.max(other.idle_calls);
    }
}

impl UnitSummary {
    /// Adds one unit.
    pub fn add(&mut self, unit: impl Into<String>) {
        self.merge(UnitSummary { count: 1, first: vec![unit.into()] });
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn merge(&mut self, other: UnitSummary) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.sort_unstable();
        self.first.truncate(NAMED_UNITS);
    }
}

impl Report {
    /// Adds one unit that was written.
    #[must_use]
    pub fn with_written(mut self, written: WriteOutcome) -> Self {
        self.units += 1;
        self.rows_out += written.rows;
        self.bytes += written.bytes;
        self.digests.insert(written.key, written.digest.to_string());
        match written.put {
            PutOutcome::Unchanged => self.objects_unchanged += 1,
            PutOutcome::Created | PutOutcome::Replaced => self.objects_written += 1,
        }
        self
    }

    /// Adds a state that was written, with its key and its digest.
    #[must_use]
    pub fn with_state(mut self, (key, digest): (String, ObjectDigest)) -> Self {
        self.digests.insert(key, digest.to_string());
        self
    }

    /// Returns the report of one lost unit.
    #[must_use]
    pub fn lost(unit: &WorkUnit) -> Self {
        let mut report = Report::default();
        report.lost.add(unit.to_string());
        report
    }

    /// Returns the number of rows in quarantine.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds the counts of another report.
    pub fn merge(&mut self, other: Report) {
        self.units += other.units;
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.repeats += other.repeats;
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        self.unpriced += other.unpriced;
        self.supply_positions += other.supply_positions;
        self.null_is_collateral += other.null_is_collateral;
        self.objects_written += other.objects_written;
        self.objects_unchanged += other.objects_unchanged;
        self.bytes += other.bytes;
        self.digests.extend(other.digests);
        self.lost.merge(other.lost);
        self.rebuilt.merge(other.rebuilt);
        self.remaining.merge(other.remaining);
        self.differing.merge(other.differing);
        self.folded_from = self.folded_from.into_iter().chain(other.folded_from).min();
        self.traffic += &other.traffic;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_is_independent_of_order() {
        let mut parts = Vec::new();
        for i in 0..50u64 {
            let mut part = Report::lost(&WorkUnit::Protocol(format!("unit {:02}", i * 7 % 50).into()));
            part.rows_in = i;
            part.rejected.insert(format!("reason {}", i % 3), 1);
            part.folded_from = (i > 9).then(|| FoldStart { state: (i != 20).then(|| Day::from_epoch_days(7)) });
            parts.push(part);
        }
        let sum = |parts: &mut dyn Iterator<Item = Report>| {
            parts.fold(Report::default(), |mut sum, part| {
                sum.merge(part);
                sum
            })
        };
        let forwards = sum(&mut parts.clone().into_iter());
        assert_eq!(forwards, sum(&mut parts.into_iter().rev()));
        assert_eq!((forwards.lost.count, forwards.lost.first.len(), forwards.rejected()), (50, NAMED_UNITS, 50));
        assert_eq!(forwards.folded_from, Some(FoldStart { state: None }), "one shard was folded from all days");
    }

    #[test]
    fn json_is_smaller_than_8_kilobytes() {
        let mut report = Report::default();
        let name = |i| format!("2023-01-01 a-protocol-with-a-rather-long-name-v2-eth {i}");
        for i in 0..10_000 {
            report.lost.add(name(i));
            report.rebuilt.add(name(i));
        }
        let first = (0..NAMED_UNITS).map(name).collect();
        report.remaining = Remaining { count: u64::MAX, first, list: Some("k".repeat(200)), idle_calls: u32::MAX };
        for column in 0..20 {
            report.rejected.insert(format!("some_column_name_{column} is not an integer"), u64::MAX);
        }
        assert!(serde_json::to_string(&report).unwrap().len() < 8 * 1024);
    }
}
