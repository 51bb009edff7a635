//! Scenarios of runs: a lake before a run, and the lake that an undisturbed run produces from it.

use std::fs;
use std::path::{Path, PathBuf};

use defi_local::env::Env;
use defi_local::run::Options;
use defi_local::source::Source;
use defi_shared::domain::Day;
use defi_shared::lake::{FileMetadata, FolderStore, Lake, WorkUnit};
use defi_shared::tables::{RAW_BORROWS, RAW_MARKETS, RAW_POSITIONS, RawEvent, RawMarket, RawPosition};
use defi_simulator::sample::{self, SampleOptions};
use tempfile::tempdir;

use super::command::{command, path_str, succeed};
use super::tree::{Tree, is_of_runs};

/// A chain, and the as-of day of a run over it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// `sample`, or the name of a recording.
    pub name: String,
    /// The as-of day; `None` for the last day of the chain.
    pub as_of: Option<&'static str>,
}

const SAMPLE: SampleOptions = SampleOptions { scenario: sample::Scenario::Mixed, wallets: 12, days: 3, seed: 3 };
const EARLIER_DAY: &str = "2023-01-03";
const LATE_DAY: &str = "2023-01-02";
const PROTOCOL: &str = "aave-v2-eth";
const RECORDINGS: [&str; 2] = ["golden-two-protocols", "compound-v2-2019"];

impl Chain {
    /// Returns a small sample chain.
    pub fn sample() -> Chain {
        Chain::new("sample")
    }

    /// Returns the chain with a name: `sample`, or the name of a recording.
    pub fn new(name: &str) -> Chain {
        Chain { name: name.to_owned(), as_of: None }
    }

    fn recording_folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/recordings").join(&self.name)
    }

    /// Returns the options of a run over the chain, without the lake.
    pub fn options(&self) -> Options {
        let source =
            if self.name == "sample" { Source::Sample(SAMPLE) } else { Source::Recording(self.recording_folder()) };
        let as_of = self.as_of.map(|day| day.parse().expect("a valid day"));
        Options {
            as_of,
            from: None,
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            lake: PathBuf::new(),
            env: Env::Dev,
            source,
            json: false,
        }
    }

    /// Returns the arguments of the `defi` command for the same run.
    pub fn arguments(&self, lake: &Path) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), "--lake".to_owned(), path_str(lake).to_owned()];
        if self.name == "sample" {
            let SampleOptions { wallets, days, seed, .. } = SAMPLE;
            let options = [("--wallets", u64::from(wallets)), ("--days", u64::from(days)), ("--seed", seed)];
            arguments.extend(options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        } else {
            arguments.extend(["--recording".to_owned(), path_str(&self.recording_folder()).to_owned()]);
        }
        arguments.extend(self.as_of.iter().flat_map(|day| ["--as-of".to_owned(), (*day).to_owned()]));
        arguments
    }

    fn run(&self, lake: &Path) {
        let arguments = self.arguments(lake);
        succeed(&mut command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

/// The lake before a run, and the lake after an undisturbed run.
pub struct Scenario {
    pub name: String,
    pub chain: Chain,
    pub initial: Tree,
    pub expected: Tree,
}

impl Scenario {
    /// Returns all scenarios. The long form includes the recordings.
    pub fn all(is_long: bool) -> Vec<Scenario> {
        let sample = Chain::sample;
        let mut all = vec![Scenario::empty(sample()), Scenario::earlier_day(sample()), Scenario::late_data(sample())];
        if is_long {
            let available = RECORDINGS.into_iter().map(Chain::new).filter(Chain::is_available);
            all.extend(available.map(Scenario::empty));
        }
        all
    }

    /// An empty lake.
    pub fn empty(chain: Chain) -> Scenario {
        Scenario::new(format!("an empty lake of {}", chain.name), chain, Tree::default())
    }

    /// A lake that a run for an earlier as-of day produced.
    fn earlier_day(chain: Chain) -> Scenario {
        let lake = tempdir().expect("a temporary folder");
        Chain { as_of: Some(EARLIER_DAY), ..chain.clone() }.run(lake.path());
        Scenario::new("a lake of an earlier day".to_owned(), chain, Tree::read(lake.path()))
    }

    /// A lake from a time when the sources had no data for a day. They have it now, and its raw and stage units are
    /// missing.
    fn late_data(chain: Chain) -> Scenario {
        let lake = tempdir().expect("a temporary folder");
        chain.run(lake.path());
        let day: Day = LATE_DAY.parse().expect("a valid day");
        let units = [WorkUnit::ProtocolDay(day, PROTOCOL.into()), WorkUnit::Day(day)];
        let tables = ["historical_market_data/", "historical_account_positions/", "borrow_events/"];
        let is_late = |path: &str| tables.iter().any(|table| path.contains(table)) && path.contains(LATE_DAY);
        remove(lake.path(), |path| path.starts_with("stage/") && is_late(path) || path.starts_with("analytics/"));
        remove(lake.path(), |path| path.starts_with("state/"));
        write_empty_units(lake.path(), &units);
        chain.run(lake.path());
        let is_of_protocol = |path: &str| path.contains(PROTOCOL) || path.contains("borrow_events");
        remove(lake.path(), |path| {
            (path.starts_with("raw/") || path.starts_with("stage/")) && is_late(path) && is_of_protocol(path)
        });
        Scenario::new("a lake with a late day".to_owned(), chain, Tree::read(lake.path()))
    }

    fn new(name: String, chain: Chain, initial: Tree) -> Scenario {
        let lake = tempdir().expect("a temporary folder");
        write_files(&initial, lake.path());
        chain.run(lake.path());
        Scenario { name, chain, initial, expected: Tree::read(lake.path()) }
    }

    /// Writes the initial lake into a folder.
    pub fn write_initial(&self, folder: &Path) {
        write_files(&self.initial, folder);
    }
}

impl Chain {
    /// Returns whether the recording is present. It must be where `CI` is set.
    fn is_available(&self) -> bool {
        let is_present = self.recording_folder().join("manifest.json").exists();
        let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
        assert!(is_present || !in_ci, "there is no recording in {}", self.recording_folder().display());
        if !is_present {
            eprintln!("NOT RUN: there is no recording in {}", self.recording_folder().display());
        }
        is_present
    }
}

impl Tree {
    /// Returns the differences between two trees, one per path, without the objects of runs.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let paths = self.paths().chain(other.paths()).filter(|path| !is_of_runs(path));
        let differing = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        let mut differences: Vec<_> = differing.map(|path| self.difference(other, path)).collect();
        differences.sort();
        differences.dedup();
        differences
    }

    fn difference(&self, other: &Tree, path: &str) -> String {
        match (self.0.contains_key(path), other.0.contains_key(path)) {
            (true, false) => format!("{path} is missing"),
            (false, true) => format!("{path} is unexpected"),
            _ => format!("{path} differs"),
        }
    }
}

fn write_files(tree: &Tree, folder: &Path) {
    for (path, bytes) in &tree.0 {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

fn remove(lake: &Path, is_removed: impl Fn(&str) -> bool) {
    for path in Tree::read(lake).paths().filter(|path| is_removed(path)) {
        fs::remove_file(lake.join(path)).expect("an object");
    }
}

/// Replaces raw units with empty ones: markets and positions of a protocol and day, and borrows of a day.
fn write_empty_units(lake: &Path, [protocol_and_day, day]: &[WorkUnit; 2]) {
    let lake = Lake::new(FolderStore::new(lake));
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let message = "an empty object is written";
        lake.write::<RawMarket>(&RAW_MARKETS, protocol_and_day, vec![], FileMetadata::new()).await.expect(message);
        lake.write::<RawPosition>(&RAW_POSITIONS, protocol_and_day, vec![], FileMetadata::new()).await.expect(message);
        lake.write::<RawEvent>(&RAW_BORROWS, day, vec![], FileMetadata::new()).await.expect(message);
    });
}
