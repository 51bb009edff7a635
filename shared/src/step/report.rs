//! What a step says of its work: few numbers, below 8 KB however much there was to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Day;
use crate::lake::{Put, Unit, Written};
use crate::sources::TrafficReport;

/// More lost or remaining units than this are counted, and only the first are named.
const NAMED_UNITS: usize = 20;

/// Counts of a step's work. Reports of parts add up to the report of the whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Units made.
    pub units: u64,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Rows that came more than once, word for word; one of each was kept.
    pub repeats: u64,
    /// Rows in quarantine, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events or positions without a price.
    pub unpriced: u64,
    /// Supply positions.
    pub supply_positions: u64,
    /// Supply positions whose flag is null.
    pub null_is_collateral: u64,
    /// Objects that are new or other than before.
    pub objects_written: u64,
    /// Objects that were there already with the same bytes.
    pub objects_unchanged: u64,
    /// Bytes of those objects.
    pub bytes: u64,
    /// Units that can't be had any more, and why.
    pub lost: Units,
    /// Units that were left for another call because the deadline was near.
    pub remaining: Remaining,
    /// What went over the wire. It depends on the network's mood, and reaches nothing in the lake but the reports of runs.
    #[serde(skip_serializing_if = "is_silent")]
    pub traffic: TrafficReport,
}

fn is_silent(traffic: &TrafficReport) -> bool {
    *traffic == TrafficReport::default()
}

/// A number of units, the first of them named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Units {
    /// How many.
    pub count: u64,
    /// The first of them, in order.
    pub first: Vec<String>,
}

/// Units that are left for another call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// How many, and the first of them.
    #[serde(flatten)]
    pub units: Units,
    /// The first day of any: the `resume_at` of the call that goes on.
    pub next: Option<Day>,
}

impl Units {
    /// Adds one.
    pub fn add(&mut self, unit: impl Into<String>) {
        self.merge(Units { count: 1, first: vec![unit.into()] });
    }

    fn merge(&mut self, other: Units) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.sort_unstable();
        self.first.truncate(NAMED_UNITS);
    }
}

impl Report {
    /// Counts one unit that was written.
    #[must_use]
    pub fn wrote(mut self, written: Written) -> Self {
        self.units += 1;
        self.rows_out += written.rows;
        self.bytes += written.bytes;
        match written.put {
            Put::Unchanged => self.objects_unchanged += 1,
            Put::Created | Put::Replaced => self.objects_written += 1,
        }
        self
    }

    /// Counts one unit that can't be had.
    #[must_use]
    pub fn lost(unit: &Unit) -> Self {
        let mut report = Report::default();
        report.lost.add(unit.to_string());
        report
    }

    /// Counts one unit that is left for another call.
    #[must_use]
    pub fn remaining(unit: &Unit) -> Self {
        let mut report = Report::default();
        report.remaining.units.add(unit.to_string());
        report.remaining.next = unit.day();
        report
    }

    /// Rows in quarantine.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds another part's counts.
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
        self.lost.merge(other.lost);
        self.remaining.units.merge(other.remaining.units);
        self.remaining.next = self.remaining.next.into_iter().chain(other.remaining.next).min();
        self.traffic += &other.traffic;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_in_any_order() {
        let mut parts = Vec::new();
        for i in 0..50u64 {
            let mut part = Report::lost(&Unit::Protocol(format!("unit {:02}", i * 7 % 50).into()));
            part.rows_in = i;
            part.rejected.insert(format!("reason {}", i % 3), 1);
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
    }

    #[test]
    fn a_report_stays_below_8_kilobytes() {
        let mut report = Report::default();
        for i in 0..10_000 {
            report.lost.add(format!("2023-01-01 a-protocol-with-a-rather-long-name-v2-eth {i}"));
            report.remaining.units.add(format!("2023-01-01 a-protocol-with-a-rather-long-name-v2-eth {i}"));
        }
        for column in 0..20 {
            report.rejected.insert(format!("some_column_name_{column} is not an integer"), u64::MAX);
        }
        assert!(serde_json::to_string(&report).unwrap().len() < 8 * 1024);
    }
}
