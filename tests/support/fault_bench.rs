//! Runs over one chain with and without faults, and the judgement of what they left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use defi_local::run::complete;
use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind};
use defi_shared::lake::{FolderStore, Lake, parquet};
use defi_shared::plan::Scope;
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::sources::{Rate, RetryPolicy, Traffic};
use defi_shared::step::{Context, NoProgress, Report, today};
use defi_simulator::faults::{Counts, Fault, Faults};
use defi_simulator::recording::Recording;
use defi_simulator::server::{Deployment, Server, ServerOptions};
use tempfile::tempdir;
use tokio::runtime::Runtime;

use super::fault_tally::{Tally, Verdict};
use super::tree::Tree;

/// What a client waits for an answer here. The server is on this machine; one that is silent costs a test no more than this.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// A run that has failed must have let go of its lake by then, on the busiest of machines.
const LETTING_GO: Duration = Duration::from_secs(5);

/// A run that takes longer than this hangs.
const LONGEST_RUN: Duration = Duration::from_secs(300);

/// No limit that a test would notice.
const RATE: Rate = Rate { per_second: 5_000, shared_by: 1 };

/// Pages so small that a small chain has many.
const ROWS_PER_PAGE: usize = 20;

/// A chain, and the lake of a run over it without faults.
pub struct Bench {
    recording: Arc<Recording>,
    config: Arc<Config>,
    runtime: Runtime,
    /// Never fails.
    server: Server,
    lake: Tree,
    rejected: u64,
}

impl Bench {
    pub fn new(recording: Recording) -> Bench {
        let mut config = Config::built_in().expect("the configuration");
        recording.restrict(&mut config).expect("protocols that are known");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        let recording = Arc::new(recording);
        let server = runtime.block_on(serve(&recording, &config, None));
        let mut bench =
            Bench { recording, config: Arc::new(config), runtime, server, lake: Tree::default(), rejected: 0 };
        let folder = tempdir().expect("a folder");
        let report = bench.run(folder.path(), &bench.server).expect("a run without faults");
        assert_eq!(report.lost.count, 0);
        (bench.lake, bench.rejected) = (tree(folder.path()), report.rejected());
        bench
    }

    /// Rows of the raw layer.
    pub fn raw_rows(&self) -> u64 {
        let objects = self.lake.0.iter().filter(|(path, _)| is_raw(path));
        objects.map(|(_, object)| rows_of(object)).sum()
    }

    /// Rows that are put aside.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// The errors of so many single requests, each of them of another block.
    pub fn refusals(&self, faults: Faults, count: u64) -> Vec<Error> {
        self.runtime.block_on(async {
            let server = serve(&self.recording, &self.config, Some(faults)).await;
            let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
            let settings = GraphSettings { retry, rate: RATE, ..GraphSettings::new(server.graph_url(), Vec::new()) };
            let client = GraphClient::new(settings).expect("a client");
            let (subgraph, traffic) = (&self.config.protocols[0].subgraph_id, Traffic::new());
            let mut errors = Vec::new();
            for block in 0..count {
                errors.push(client.markets(subgraph, block, &traffic).await.expect_err("a refusal"));
            }
            errors
        })
    }

    /// Plays a script, judges the lake, and lets a run without faults complete it where it is not complete. Returns why it was
    /// not, or what is wrong.
    pub fn play(&self, faults: &Faults, tally: &mut Tally) -> Result<Option<Kind>, String> {
        let folder = tempdir().expect("a folder");
        let server = self.runtime.block_on(serve(&self.recording, &self.config, Some(faults.clone())));
        let outcome = self.run(folder.path(), &server);
        let counts = server.faults();
        let failed = match &outcome {
            Ok(report) if report.lost.count == 0 => None,
            Ok(report) => Some((Kind::HistoryPruned, format!("{} units are lost", report.lost.count))),
            Err(error) => Some((error.kind(), error.to_string())),
        };
        tally.count(&counts, failed.as_ref().map(|(kind, _)| kind.name()));
        if let Some((kind, why)) = &failed {
            if !fitting(&counts).contains(kind.name()) {
                return Err(format!("{why}: that does not fit {counts:?}"));
            }
            self.complete(folder.path(), tally).map_err(|wrong| format!("after {why}: {wrong}"))?;
        }
        self.compare(&tree(folder.path()), |_| true, tally).map_err(|wrong| format!("after {failed:?}: {wrong}"))?;
        Ok(failed.map(|(kind, _)| kind))
    }

    /// Completes what a run has left: rows that are right as far as they go.
    fn complete(&self, folder: &Path, tally: &mut Tally) -> Result<(), String> {
        let left = tree(folder);
        self.compare(&left, |path| is_raw(path) && left.0.contains_key(path), tally)?;
        match self.run(folder, &self.server) {
            Ok(report) if report.lost.count == 0 => Ok(()),
            Ok(report) => Err(format!("{} units are still lost", report.lost.count)),
            Err(error) => Err(format!("a run without faults: {error}")),
        }
    }

    /// Holds a lake to that of a run without faults.
    fn compare(&self, lake: &Tree, chosen: impl Fn(&str) -> bool, tally: &mut Tally) -> Result<(), String> {
        let paths: BTreeSet<_> = lake.paths().chain(self.lake.paths()).filter(|path| chosen(path)).collect();
        let (mut verdict, mut differing) = (Verdict::default(), Vec::new());
        for path in paths {
            let (there, wanted) = (lake.0.get(path), self.lake.0.get(path));
            if there == wanted {
                continue;
            }
            if is_raw(path) {
                let rows = |object: Option<&Vec<u8>>| object.map_or(0, |object| rows_of(object));
                verdict.rows_lost += rows(wanted).saturating_sub(rows(there));
                verdict.rows_doubled += rows(there).saturating_sub(rows(wanted));
            }
            differing.push(format!("{path}: {:?} bytes instead of {:?}", there.map(Vec::len), wanted.map(Vec::len)));
        }
        verdict.wrong_lakes = u64::from(!differing.is_empty());
        tally.judge(verdict);
        if differing.is_empty() { Ok(()) } else { Err(format!("a wrong lake:\n{}", differing.join("\n"))) }
    }

    fn run(&self, lake: &Path, server: &Server) -> Result<Report, Error> {
        let context = self.context(open(lake), server)?;
        let as_of: Day = self.recording.last_day.parse()?;
        let scope = Scope::new(&self.config, context.today, Some(as_of), None, false)?;
        self.runtime.block_on(async {
            let run = tokio::time::timeout(LONGEST_RUN, complete(&context, &scope, None));
            run.await.expect("a run that ends")
        })
    }

    fn context(&self, lake: Lake, server: &Server) -> Result<Context, Error> {
        let (rate, retry, timeout) = (RATE, RetryPolicy::LOOPBACK, TIMEOUT);
        let graph = GraphSettings::new(server.graph_url(), Vec::new());
        let graph = GraphSettings { rate, retry, timeout, rows_per_page: ROWS_PER_PAGE, ..graph };
        let transpose = TransposeSettings::new(server.transpose_url(), Vec::new());
        let transpose = TransposeSettings { rate, retry, timeout, rows_per_page: ROWS_PER_PAGE, ..transpose };
        Ok(Context {
            registry: catalog::in_lake(&lake, "dev"),
            lake,
            config: Arc::clone(&self.config),
            graph: Arc::new(GraphClient::new(graph)?),
            transpose: Arc::new(TransposeClient::new(transpose)?),
            traffic: Arc::default(),
            today: today()?,
            deadline: None,
            progress: Arc::new(NoProgress),
            executions: None,
        })
    }
}

/// Opens a lake. The last write of a run that has failed may still be under way, but nothing begins after it.
fn open(folder: &Path) -> Lake {
    let begun = Instant::now();
    loop {
        match FolderStore::open_for_run(folder) {
            Ok(store) => return Lake::new(store),
            Err(error) => assert!(begun.elapsed() < LETTING_GO, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn serve(recording: &Arc<Recording>, config: &Config, faults: Option<Faults>) -> Server {
    let options = ServerOptions { deployments: Deployment::all(config), faults, ..ServerOptions::default() };
    Server::start(Arc::clone(recording), options).await.expect("a server")
}

/// What a lake holds, but for what its runs say of themselves.
fn tree(folder: &Path) -> Tree {
    let mut tree = Tree::read(folder);
    tree.0.retain(|path, _| !path.starts_with("runs/"));
    tree
}

fn is_raw(path: &str) -> bool {
    path.starts_with("raw/")
}

fn rows_of(object: &[u8]) -> u64 {
    parquet::facts(&object.to_vec().into()).expect("a Parquet file").1
}

/// The kinds with which a run may end that met these faults.
fn fitting(counts: &Counts) -> BTreeSet<&'static str> {
    let happened = |fault: &&Fault| counts.faults.contains_key(fault.name());
    Fault::ALL.iter().filter(happened).flat_map(|fault| kinds_of(*fault)).map(|kind| kind.name()).collect()
}

fn kinds_of(fault: Fault) -> &'static [Kind] {
    match fault {
        Fault::TooManyRequests | Fault::RetryAfter | Fault::RetryAfterAnHour => &[Kind::Throttled],
        Fault::WrongShape => &[Kind::CorruptData],
        Fault::HeadBehind => &[Kind::NotReady],
        Fault::PassingErrors => &[Kind::Throttled, Kind::SourceUnavailable, Kind::NotReady],
        Fault::LastingErrors => &[Kind::QuotaExceeded, Kind::BadCredentials, Kind::SourceRejected],
        // Of the as_of day itself there is no set without its snapshot.
        Fault::Pruned => &[Kind::HistoryPruned, Kind::QualityFailed],
        Fault::IndexingErrors => &[Kind::SourceRejected],
        Fault::OutOfCredits => &[Kind::QuotaExceeded],
        _ => &[Kind::SourceUnavailable],
    }
}
