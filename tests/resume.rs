//! Runs that continue earlier ones: with events that arrived late at the source, and with days that it lost.

use std::fs;
use std::path::{Path, PathBuf};

use defi_shared::config::Schema;
use defi_shared::step::Report;
use defi_simulator::faults::{Attempts, Fault, FaultRule, Faults};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use serde_json::{Map, Value};
use tempfile::tempdir;

use crate::support::fault_bench::FaultBench;

fn sample() -> Recording {
    chain(&SampleOptions { wallets: 40, days: 4, seed: 5, ..SampleOptions::default() }, Schema::Aave).expect("a chain")
}

fn field<'a>(event: &'a Map<String, Value>, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the names of the records of late events, of all runs over a lake.
fn late_events(lake: &Path) -> Vec<String> {
    let runs = fs::read_dir(lake.join("runs")).expect("runs");
    let folders =
        runs.filter_map(|run| fs::read_dir(run.expect("a run").path().join("reports/extract-events/late-events")).ok());
    let mut names: Vec<_> =
        folders.flatten().map(|entry| entry.expect("a record").file_name().into_string().expect("a name")).collect();
    names.sort_unstable();
    names
}

#[test]
fn events_that_arrive_after_their_day_was_extracted_are_in_the_next_set() {
    let full = sample();
    let last_event_day = full.events.iter().map(|event| &field(event, "timestamp")[..10]).max().expect("events");
    // The run before ended a day earlier, and its last event day lacked the borrows.
    let as_of = full.blocks.iter().rev().nth(1).expect("three days");
    let as_of = defi_shared::domain::Day::from_epoch_seconds(as_of.timestamp);
    let late_day = as_of.previous().to_string();
    let mut early = full.clone();
    early.last_day = as_of.to_string();
    let is_late = |event: &Map<String, Value>| {
        field(event, "timestamp").starts_with(&late_day) && field(event, "category") == "borrow"
    };
    early.events.retain(|event| !is_late(event));
    assert!(early.events.len() < full.events.len() && last_event_day > late_day.as_str(), "{late_day}");

    let folder = tempdir().expect("a temporary folder");
    FaultBench::new(early).run_over(folder.path(), None, false).expect("the early run");
    let full = FaultBench::new(full);
    full.run_over(folder.path(), None, false).expect("the next run");
    assert_eq!(late_events(folder.path()), [format!("{late_day}.borrow.json")], "only this day is extracted again");
    full.check(folder.path()).expect("the lake of a run that had all events");
    assert_eq!(full.run_over(folder.path(), None, false).expect("a run"), Report::default(), "sends no request");
}

#[test]
fn run_over_a_lake_with_lost_days_finds_nothing_to_do() {
    let bench = FaultBench::new(sample());
    let script = vec![FaultRule { fault: Fault::Pruned, per_mille: 60, attempts: Attempts::Any }];
    let faults = |seed| Some(Faults { seed, script: script.clone(), ..Faults::default() });
    for seed in 0..100 {
        let folder = tempdir().expect("a temporary folder");
        // Without the snapshot of the as-of day, no set is published.
        let Ok(first) = bench.run_over(folder.path(), faults(seed), false) else { continue };
        // The newest positions have no day: they are extracted at another block in the next run.
        if first.lost.count == 0 || first.lost.first.iter().any(|unit| !unit.contains(' ')) {
            continue;
        }
        assert_eq!(count_files(&folder.path().join("state/lost")), first.lost.count);
        assert_eq!(bench.run_over(folder.path(), faults(seed), false).expect("a run"), Report::default());
        let again = bench.run_over(folder.path(), faults(seed), true).expect("a run");
        assert_eq!(again.lost.count, first.lost.count, "they are asked for again, and lost again");
        bench.run_over(folder.path(), None, true).expect("a run without faults");
        bench.check(folder.path()).expect("the lake of a run without faults");
        assert_eq!(count_files(&folder.path().join("state/lost")), 0, "nothing is lost any more");
        return;
    }
    panic!("no seed loses a day but the last");
}

/// Returns the number of files in a folder.
fn count_files(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |path: PathBuf| if path.is_dir() { count_files(&path) } else { 1 };
    entries.map(|entry| count(entry.expect("an entry").path())).sum()
}
