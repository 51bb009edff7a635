//! Lakes that a run can begin with, and what an undisturbed run makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use defi_local::env::Env;
use defi_local::run::Options;
use defi_local::source::Source;
use defi_shared::domain::Day;
use defi_shared::lake::{Facts, FolderStore, Lake, Unit};
use defi_shared::tables::{RAW_BORROWS, RAW_MARKETS, RAW_POSITIONS, RawEvent, RawMarket, RawPosition};
use defi_simulator::sample::SampleOptions;
use tempfile::tempdir;

use super::command::{command, succeed, text};
use super::tree::Tree;

/// A chain, and the day that the features are for.
#[derive(Debug, Clone)]
pub struct Chain {
    /// `sample`, or the recording's name.
    pub name: String,
    /// The day that the features are for.
    pub as_of: Option<&'static str>,
}

const SAMPLE: SampleOptions = SampleOptions { wallets: 12, days: 3, seed: 3 };
const EARLIER_DAY: &str = "2023-01-03";
const LATE_DAY: &str = "2023-01-02";
const PROTOCOL: &str = "aave-v2-eth";
const RECORDINGS: [&str; 2] = ["golden-two-protocols", "compound-v2-2019"];

impl Chain {
    /// A small sample chain.
    pub fn sample() -> Chain {
        Chain::named("sample")
    }

    pub fn named(name: &str) -> Chain {
        Chain { name: name.to_owned(), as_of: None }
    }

    fn recording(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/recordings").join(&self.name)
    }

    /// The options of a run; the lake is not theirs to say.
    pub fn options(&self) -> Options {
        let source = if self.name == "sample" { Source::Sample(SAMPLE) } else { Source::Recording(self.recording()) };
        let as_of = self.as_of.map(|day| day.parse().expect("a day"));
        Options { as_of, from: None, force: false, lake: PathBuf::new(), env: Env::Dev, source, json: false }
    }

    /// The arguments of the command for the same run.
    pub fn arguments(&self, lake: &Path) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), "--lake".to_owned(), text(lake).to_owned()];
        if self.name == "sample" {
            let SampleOptions { wallets, days, seed } = SAMPLE;
            let options = [("--wallets", u64::from(wallets)), ("--days", u64::from(days)), ("--seed", seed)];
            arguments.extend(options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        } else {
            arguments.extend(["--recording".to_owned(), text(&self.recording()).to_owned()]);
        }
        arguments.extend(self.as_of.iter().flat_map(|day| ["--as-of".to_owned(), (*day).to_owned()]));
        arguments
    }

    fn run(&self, lake: &Path) {
        let arguments = self.arguments(lake);
        succeed(&mut command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

/// A lake before a run, and after one that nothing disturbed.
pub struct Beginning {
    pub name: String,
    pub chain: Chain,
    pub lake: Tree,
    pub outcome: Tree,
}

impl Beginning {
    /// What the tests begin with; the long form takes the recordings too.
    pub fn all(is_long: bool) -> Vec<Beginning> {
        let sample = Chain::sample;
        let mut all = vec![Beginning::empty(sample()), Beginning::earlier(sample()), Beginning::late(sample())];
        if is_long {
            let there = RECORDINGS.into_iter().map(Chain::named).filter(Chain::is_there);
            all.extend(there.map(Beginning::empty));
        }
        all
    }

    /// Nothing.
    pub fn empty(chain: Chain) -> Beginning {
        Beginning::new(format!("an empty lake of {}", chain.name), chain, Tree::default())
    }

    /// The lake of an earlier day.
    fn earlier(chain: Chain) -> Beginning {
        let lake = tempdir().expect("a folder");
        Chain { as_of: Some(EARLIER_DAY), ..chain.clone() }.run(lake.path());
        Beginning::new("a lake of an earlier day".to_owned(), chain, Tree::read(lake.path()))
    }

    /// A lake that was made when the sources had nothing for a day, which they have now.
    fn late(chain: Chain) -> Beginning {
        let lake = tempdir().expect("a folder");
        chain.run(lake.path());
        let day: Day = LATE_DAY.parse().expect("a day");
        let units = [Unit::DayAndProtocol(day, PROTOCOL.into()), Unit::Day(day)];
        let staged = ["historical_market_data/", "historical_account_positions/", "borrow_events/"];
        let is_late = |path: &str| staged.iter().any(|table| path.contains(table)) && path.contains(LATE_DAY);
        remove(lake.path(), |path| path.starts_with("stage/") && is_late(path) || path.starts_with("analytics/"));
        remove(lake.path(), |path| path.starts_with("state/"));
        empty_units(lake.path(), &units);
        chain.run(lake.path());
        let is_protocols = |path: &str| path.contains(PROTOCOL) || path.contains("borrow_events");
        remove(lake.path(), |path| {
            (path.starts_with("raw/") || path.starts_with("stage/")) && is_late(path) && is_protocols(path)
        });
        Beginning::new("a lake with a late day".to_owned(), chain, Tree::read(lake.path()))
    }

    fn new(name: String, chain: Chain, before: Tree) -> Beginning {
        let lake = tempdir().expect("a folder");
        put(&before, lake.path());
        chain.run(lake.path());
        Beginning { name, chain, lake: before, outcome: Tree::read(lake.path()) }
    }

    /// Makes the lake in a folder.
    pub fn put_into(&self, folder: &Path) {
        put(&self.lake, folder);
    }
}

impl Chain {
    /// Whether it can be had; on a build server it must be.
    fn is_there(&self) -> bool {
        let is_there = self.recording().join("manifest.json").exists();
        let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
        assert!(is_there || !in_ci, "there is no recording in {}", self.recording().display());
        if !is_there {
            eprintln!("NOT RUN: there is no recording in {}", self.recording().display());
        }
        is_there
    }
}

impl Tree {
    /// The paths of objects that differ, those of the runs apart.
    pub fn differing(&self, other: &Tree) -> Vec<String> {
        let paths = self.paths().chain(other.paths()).filter(|path| !path.starts_with("runs/"));
        let differing = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        let mut differing: Vec<_> = differing.map(|path| self.difference(other, path)).collect();
        differing.sort();
        differing.dedup();
        differing
    }

    fn difference(&self, other: &Tree, path: &str) -> String {
        match (self.0.contains_key(path), other.0.contains_key(path)) {
            (true, false) => format!("{path} is missing"),
            (false, true) => format!("{path} should not be there"),
            _ => format!("{path} differs"),
        }
    }
}

fn put(tree: &Tree, folder: &Path) {
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

/// Empties raw units of a protocol and day, and of a day.
fn empty_units(lake: &Path, [of_protocol, of_day]: &[Unit; 2]) {
    let lake = Lake::new(FolderStore::new(lake));
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let rows = "an empty object";
        lake.write::<RawMarket>(&RAW_MARKETS, of_protocol, vec![], Facts::new()).await.expect(rows);
        lake.write::<RawPosition>(&RAW_POSITIONS, of_protocol, vec![], Facts::new()).await.expect(rows);
        lake.write::<RawEvent>(&RAW_BORROWS, of_day, vec![], Facts::new()).await.expect(rows);
    });
}
