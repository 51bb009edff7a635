//! What has happened in many runs with faults, as the rows of a table; `make soak` adds up those of the same name.

use std::collections::BTreeMap;
use std::fmt;

use defi_simulator::faults::{Counts, Fault};

/// Sums over runs.
#[derive(Debug, Default)]
pub struct Tally {
    faults: BTreeMap<&'static str, u64>,
    messages: BTreeMap<&'static str, u64>,
    runs: u64,
    failed: BTreeMap<&'static str, u64>,
    verdicts: Verdict,
}

/// What was wrong with lakes that were called good, or completed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Lakes that are not those of a run without faults.
    pub wrong_lakes: u64,
    /// Rows of the raw layer that are missing.
    pub rows_lost: u64,
    /// Rows of the raw layer that are there too often.
    pub rows_doubled: u64,
}

impl Tally {
    /// A run, what it met, and why it failed if it did.
    pub fn count(&mut self, counts: &Counts, failed: Option<&'static str>) {
        self.runs += 1;
        sum(&mut self.faults, &counts.faults);
        sum(&mut self.messages, &counts.messages);
        if let Some(why) = failed {
            *self.failed.entry(why).or_default() += 1;
        }
    }

    /// The judgement of a lake.
    pub fn judge(&mut self, verdict: Verdict) {
        self.verdicts.wrong_lakes += verdict.wrong_lakes;
        self.verdicts.rows_lost += verdict.rows_lost;
        self.verdicts.rows_doubled += verdict.rows_doubled;
    }

    pub fn add(&mut self, other: Tally) {
        self.runs += other.runs;
        sum(&mut self.faults, &other.faults);
        sum(&mut self.messages, &other.messages);
        sum(&mut self.failed, &other.failed);
        self.judge(other.verdicts);
    }

    pub fn happened(&self, fault: Fault) -> bool {
        self.faults.contains_key(fault.name())
    }
}

fn sum(into: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>) {
    for (name, count) in from {
        *into.entry(name).or_default() += count;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, count: u64| writeln!(f, "| {name} | {count} |");
        for (name, count) in &self.faults {
            row(name, *count)?;
        }
        row("faults of all kinds", self.faults.values().sum())?;
        row("different GraphQL errors", self.messages.len() as u64)?;
        row("runs with faults", self.runs)?;
        for (why, count) in &self.failed {
            row(&format!("runs that ended with {why}"), *count)?;
        }
        row("wrong lakes", self.verdicts.wrong_lakes)?;
        row("rows lost", self.verdicts.rows_lost)?;
        row("rows doubled", self.verdicts.rows_doubled)
    }
}
