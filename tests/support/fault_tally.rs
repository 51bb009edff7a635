//! Counts over many runs with faults, printed as rows of a Markdown table. `make soak` adds up rows of the same name.

use std::collections::BTreeMap;
use std::fmt;

use defi_simulator::faults::{Counts, Fault};

/// Counts over runs.
#[derive(Debug, Default)]
pub struct Tally {
    faults: BTreeMap<&'static str, u64>,
    messages: BTreeMap<&'static str, u64>,
    runs: u64,
    failed: BTreeMap<&'static str, u64>,
    verdicts: Verdict,
}

/// The defects of lakes whose run succeeded, or was completed by another run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Number of lakes that differ from the lake of a run without faults.
    pub wrong_lakes: u64,
    /// Number of missing rows in the raw layer.
    pub rows_lost: u64,
    /// Number of duplicated rows in the raw layer.
    pub rows_duplicated: u64,
}

impl Tally {
    /// Adds a run with the faults that it encountered, and the error kind if it failed.
    pub fn count(&mut self, counts: &Counts, error_kind: Option<&'static str>) {
        self.runs += 1;
        sum(&mut self.faults, &counts.faults);
        sum(&mut self.messages, &counts.messages);
        if let Some(kind) = error_kind {
            *self.failed.entry(kind).or_default() += 1;
        }
    }

    /// Adds the defects of a lake.
    pub fn add_verdict(&mut self, verdict: Verdict) {
        self.verdicts.wrong_lakes += verdict.wrong_lakes;
        self.verdicts.rows_lost += verdict.rows_lost;
        self.verdicts.rows_duplicated += verdict.rows_duplicated;
    }

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: Tally) {
        self.runs += other.runs;
        sum(&mut self.faults, &other.faults);
        sum(&mut self.messages, &other.messages);
        sum(&mut self.failed, &other.failed);
        self.add_verdict(other.verdicts);
    }

    /// Returns whether a fault occurred in any run.
    pub fn occurred(&self, fault: Fault) -> bool {
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
        for (kind, count) in &self.failed {
            row(&format!("runs that ended with {kind}"), *count)?;
        }
        row("wrong lakes", self.verdicts.wrong_lakes)?;
        row("rows lost", self.verdicts.rows_lost)?;
        row("rows duplicated", self.verdicts.rows_duplicated)
    }
}
