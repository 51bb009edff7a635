//! Days that a subgraph no longer has, and that are rebuilt from what its newest state keeps.

use std::path::Path;

use defi_shared::config::Schema;
use defi_shared::domain::Day;
use defi_shared::lake::{FeatureSet, FolderStore, Lake, WorkUnit};
use defi_shared::step::Report;
use defi_shared::tables::{
    FeatureRow, RAW_MARKETS, RAW_POSITIONS, Row, STAGE_MARKETS, STAGE_POSITIONS, StagedMarket, StagedPosition, Table,
};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use tempfile::tempdir;
use tokio::runtime::Runtime;

use crate::support::fault_bench::FaultBench;
use crate::support::tree::{Tree, is_of_runs};

const AAVE: &str = "aave-v2-eth";
const COMPOUND: &str = "compound-v2-eth";

fn sample() -> Recording {
    chain(&SampleOptions { wallets: 60, days: 5, seed: 5, ..SampleOptions::default() }, Schema::Aave).expect("a chain")
}

/// A lake that a test reads.
struct TestedLake {
    lake: Lake,
    runtime: Runtime,
}

impl TestedLake {
    fn new(folder: &Path) -> TestedLake {
        TestedLake { lake: Lake::new(FolderStore::new(folder)), runtime: Runtime::new().expect("a runtime") }
    }

    fn rows<R: Row>(&self, table: &Table, day: Day) -> Vec<R> {
        let unit = WorkUnit::ProtocolDay(day, COMPOUND.into());
        let rows = self.runtime.block_on(self.lake.read(table, &unit)).expect("an object");
        rows.unwrap_or_else(|| panic!("{unit} of {} is missing", table.name))
    }

    fn features(&self, as_of: Day) -> Vec<FeatureRow> {
        let set = FeatureSet::published(as_of);
        self.runtime.block_on(self.lake.features(&set)).expect("features").0
    }

    fn metadata(&self, table: &Table, day: Day, name: &str) -> Option<String> {
        let unit = WorkUnit::ProtocolDay(day, COMPOUND.into());
        let metadata = self.runtime.block_on(self.lake.file_metadata(table, &unit)).expect("an object");
        metadata.expect("an object").0.get(name).cloned()
    }

    fn lost(&self, table: &Table) -> usize {
        self.runtime.block_on(self.lake.lost_units(table)).expect("units").len()
    }
}

/// Returns the days of a recording, the last of which is the only one that a pruned subgraph has.
fn days(recording: &Recording) -> Vec<Day> {
    recording.blocks.iter().map(|block| Day::from_epoch_seconds(block.timestamp)).collect()
}

#[test]
fn rebuilt_days_are_those_that_were_read_at_their_blocks() {
    let recording = sample();
    let days = days(&recording);
    let (last, past) = days.split_last().expect("days");
    let bench = FaultBench::new(recording);
    let [undisturbed, folder, other] = [0; 3].map(|_| tempdir().expect("a temporary folder"));
    bench.run_over(undisturbed.path(), None, false).expect("a run");

    let lost = bench.run_pruned(folder.path(), &[COMPOUND], false).expect("a run that loses days");
    assert_eq!((lost.lost.count, lost.rebuilt.count), (2 * past.len() as u64, 0), "markets and positions");
    let rebuilt = bench.run_pruned(folder.path(), &[COMPOUND], true).expect("a run that rebuilds them");
    assert_eq!((rebuilt.lost.count, rebuilt.rebuilt.count), (0, lost.lost.count));
    assert!(rebuilt.rebuilt.first.iter().all(|unit| unit.ends_with(COMPOUND)), "{rebuilt:?}");

    let [expected, lake] = [&undisturbed, &folder].map(|folder| TestedLake::new(folder.path()));
    let mut count = 0;
    for day in past {
        let markets = lake.rows::<StagedMarket>(&STAGE_MARKETS, *day);
        assert_eq!(markets, expected.rows::<StagedMarket>(&STAGE_MARKETS, *day), "{day}");
        let positions = lake.rows::<StagedPosition>(&STAGE_POSITIONS, *day);
        assert_eq!(positions, expected.rows::<StagedPosition>(&STAGE_POSITIONS, *day), "{day}");
        count += positions.len();
        for table in [&RAW_MARKETS, &RAW_POSITIONS, &STAGE_MARKETS, &STAGE_POSITIONS] {
            assert_eq!(lake.metadata(table, *day, "rebuilt").as_deref(), Some("true"), "{day} {}", table.name);
        }
        for table in [&RAW_MARKETS, &STAGE_MARKETS] {
            assert_eq!(lake.metadata(table, *day, "ltv_day"), Some(last.to_string()), "{day}");
        }
    }
    assert!(count > 50, "{count} positions; the first day has none");
    assert_eq!(lake.metadata(&RAW_POSITIONS, *last, "rebuilt"), None, "the last day was read at its block");
    assert_eq!(lake.features(*last), expected.features(*last));

    let again = bench.run_pruned(folder.path(), &[COMPOUND], true).expect("a run");
    assert_eq!(again, Report::default(), "nothing to do");
    bench.run_pruned(other.path(), &[COMPOUND], true).expect("a run that rebuilds at once");
    let tree = |folder: &Path| {
        let mut tree = Tree::read(folder);
        tree.0.retain(|path, _| !is_of_runs(path));
        tree
    };
    assert!(tree(folder.path()) == tree(other.path()), "equal bytes, whether the days were lost before or not");
}

#[test]
fn lost_days_of_aave_stay_lost() {
    let recording = sample();
    let past = days(&recording).len() - 1;
    let bench = FaultBench::new(recording);
    let folder = tempdir().expect("a temporary folder");
    let report = bench.run_pruned(folder.path(), &[AAVE, COMPOUND], true).expect("a run");
    assert_eq!((report.lost.count, report.rebuilt.count), (2 * past as u64, 2 * past as u64));
    assert!(report.lost.first.iter().all(|unit| unit.ends_with(AAVE)), "{report:?}");
    let lake = TestedLake::new(folder.path());
    for table in [&RAW_MARKETS, &RAW_POSITIONS] {
        assert_eq!(lake.lost(table), 2 * past, "rebuilt days are still lost at their source");
        let units = lake.runtime.block_on(lake.lake.rebuilt_units(table)).expect("units");
        assert_eq!(units.len(), past);
        assert!(units.iter().all(|unit| unit.to_string().ends_with(COMPOUND)), "{units:?}");
    }
}
