//! Runs over one chain with and without faults, and checks the lakes that they leave.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use defi_local::run::complete;
use defi_shared::catalog;
use defi_shared::config::{Checks, Config};
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind};
use defi_shared::lake::{FolderStore, Lake, parquet};
use defi_shared::plan::Scope;
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::sources::{RateLimit, RetryPolicy, Traffic};
use defi_shared::step::{Clients, Context, Report, today};
use defi_simulator::faults::{Fault, FaultCounts, Faults};
use defi_simulator::recording::Recording;
use defi_simulator::server::{Deployment, Server, ServerOptions};
use tempfile::tempdir;
use tokio::runtime::Runtime;

use super::fault_tally::{Tally, Verdict};
use super::tree::{Tree, is_of_runs};

/// Request timeout of the clients. It is short because the server is local: a response that never comes costs no more
/// than this.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// The time after which a failed run must have released the lock of its lake, even on a busy machine.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A run that takes longer than this is considered to hang.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);

/// A rate limit that no test reaches.
const RATE: RateLimit = RateLimit { per_second: 5_000, shared_by: 1 };

/// A page size so small that a small chain has many pages.
const ROWS_PER_PAGE: usize = 20;

/// A chain, and the lake of a run over it without faults.
pub struct FaultBench {
    recording: Arc<Recording>,
    config: Arc<Config>,
    runtime: Runtime,
    /// A server without faults.
    server: Server,
    /// The lake of a run without faults.
    expected: Tree,
    rejected: u64,
}

impl FaultBench {
    pub fn new(recording: Recording) -> FaultBench {
        FaultBench::with_checks(recording, |_| ())
    }

    /// Like [`FaultBench::new`] with other limits of the quality checks.
    pub fn with_checks(recording: Recording, set: impl FnOnce(&mut Checks)) -> FaultBench {
        let mut bench = FaultBench::without_a_run(recording, set);
        let folder = tempdir().expect("a temporary folder");
        let report = bench.run(folder.path(), &bench.server, |scope| scope).expect("a run without faults");
        assert_eq!(report.lost.count, 0);
        (bench.expected, bench.rejected) = (tree(folder.path()), report.rejected());
        bench
    }

    fn without_a_run(recording: Recording, set: impl FnOnce(&mut Checks)) -> FaultBench {
        let mut config = Config::built_in().expect("the configuration");
        set(&mut config.checks);
        recording.restrict(&mut config).expect("known protocols");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let recording = Arc::new(recording);
        let server = runtime.block_on(serve(&recording, &config, None));
        FaultBench { recording, config: Arc::new(config), runtime, server, expected: Tree::default(), rejected: 0 }
    }

    /// Runs over a chain without faults of the server.
    ///
    /// # Errors
    /// The error of the run.
    pub fn run_once(recording: Recording) -> Result<Report, Error> {
        let bench = FaultBench::without_a_run(recording, |_| ());
        let folder = tempdir().expect("a temporary folder");
        bench.run(folder.path(), &bench.server, |scope| scope)
    }

    /// Returns the number of rows in the raw layer.
    pub fn raw_rows(&self) -> u64 {
        let objects = self.expected.0.iter().filter(|(path, _)| is_raw(path));
        objects.map(|(_, object)| row_count(object)).sum()
    }

    /// Returns the number of rejected rows.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns the errors of `count` requests without retries, each for a different block.
    pub fn request_errors(&self, faults: Faults, count: u64) -> Vec<Error> {
        self.runtime.block_on(async {
            let server = serve(&self.recording, &self.config, Some(faults)).await;
            let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
            let settings = GraphSettings { retry, rate: RATE, ..GraphSettings::new(server.graph_url(), Vec::new()) };
            let client = GraphClient::new(settings).expect("a client");
            let (subgraph, traffic) = (&self.config.protocols[0].subgraph_id, Traffic::new());
            let mut errors = Vec::new();
            for block in 0..count {
                errors.push(
                    client
                        .markets(subgraph.as_deref().unwrap_or_default(), block, &traffic)
                        .await
                        .expect_err("a fault"),
                );
            }
            errors
        })
    }

    /// Runs with a script of faults and checks the lake. If the run failed, or lost units, lets a run without faults
    /// complete the lake first. Returns the kind of the failure, if any.
    ///
    /// # Errors
    /// The lake is wrong, or the failure does not fit the faults.
    pub fn play(&self, faults: &Faults, tally: &mut Tally) -> Result<Option<Kind>, String> {
        let folder = tempdir().expect("a temporary folder");
        let server = self.runtime.block_on(serve(&self.recording, &self.config, Some(faults.clone())));
        let outcome = self.run(folder.path(), &server, |scope| scope);
        let counts = server.fault_counts();
        let failure = match &outcome {
            Ok(report) if report.lost.count == 0 => None,
            Ok(report) => Some((Kind::HistoryPruned, format!("{} units are lost", report.lost.count))),
            Err(error) => Some((error.kind(), error.to_string())),
        };
        tally.count(&counts, failure.as_ref().map(|(kind, _)| kind.name()));
        if let Some((kind, message)) = &failure {
            if !fitting_kinds(&counts).contains(kind.name()) {
                return Err(format!("{message}: the error kind does not fit the faults {counts:?}"));
            }
            self.complete(folder.path(), tally).map_err(|problem| format!("after {message}: {problem}"))?;
        }
        self.compare(&tree(folder.path()), |_| true, tally)
            .map_err(|problem| format!("after {failure:?}: {problem}"))?;
        Ok(failure.map(|(kind, _)| kind))
    }

    /// Runs over the lake in a folder, without faults or with those of a script.
    ///
    /// # Errors
    /// The error of the run.
    pub fn run_over(&self, folder: &Path, faults: Option<Faults>, retry_lost: bool) -> Result<Report, Error> {
        let server = self.runtime.block_on(serve(&self.recording, &self.config, faults));
        self.run(folder, &server, |scope| Scope { retry_lost, ..scope })
    }

    /// Runs over the lake in a folder, with a server that keeps only the last 500 blocks of the states of some protocols.
    ///
    /// # Errors
    /// The error of the run.
    pub fn run_pruned(&self, folder: &Path, pruned: &[&str], rebuild_lost: bool) -> Result<Report, Error> {
        let mut deployments = Deployment::all(&self.config);
        for deployment in deployments.iter_mut().filter(|deployment| pruned.contains(&deployment.protocol.as_str())) {
            deployment.history = Some(500);
        }
        let options = ServerOptions { deployments, ..ServerOptions::default() };
        let server = self.runtime.block_on(Server::start(Arc::clone(&self.recording), options)).expect("a server");
        self.run(folder, &server, |scope| Scope { rebuild_lost, ..scope })
    }

    /// Checks that the lake in a folder has all objects of a run without faults. It may have others.
    ///
    /// # Errors
    /// An object is missing or differs.
    pub fn check(&self, folder: &Path) -> Result<(), String> {
        self.compare(&tree(folder), |path| self.expected.0.contains_key(path), &mut Tally::default())
    }

    /// Checks the raw objects that a failed run left, and completes the lake by a run without faults.
    fn complete(&self, folder: &Path, tally: &mut Tally) -> Result<(), String> {
        let partial = tree(folder);
        self.compare(&partial, |path| is_raw(path) && partial.0.contains_key(path), tally)?;
        match self.run(folder, &self.server, |scope| Scope { retry_lost: true, ..scope }) {
            Ok(report) if report.lost.count == 0 => Ok(()),
            Ok(report) => Err(format!("{} units are still lost", report.lost.count)),
            Err(error) => Err(format!("a run without faults failed: {error}")),
        }
    }

    /// Compares the objects of a lake whose paths match the filter with those of a run without faults.
    fn compare(&self, lake: &Tree, filter: impl Fn(&str) -> bool, tally: &mut Tally) -> Result<(), String> {
        let paths: BTreeSet<_> = lake.paths().chain(self.expected.paths()).filter(|path| filter(path)).collect();
        let (mut verdict, mut differing) = (Verdict::default(), Vec::new());
        for path in paths {
            let (actual, expected) = (lake.0.get(path), self.expected.0.get(path));
            if actual == expected {
                continue;
            }
            if is_raw(path) {
                let rows = |object: Option<&Vec<u8>>| object.map_or(0, |object| row_count(object));
                verdict.rows_lost += rows(expected).saturating_sub(rows(actual));
                verdict.rows_duplicated += rows(actual).saturating_sub(rows(expected));
            }
            differing.push(format!("{path}: {:?} bytes, expected {:?}", actual.map(Vec::len), expected.map(Vec::len)));
        }
        verdict.wrong_lakes = u64::from(!differing.is_empty());
        tally.add_verdict(verdict);
        if differing.is_empty() { Ok(()) } else { Err(format!("a wrong lake:\n{}", differing.join("\n"))) }
    }

    fn run(&self, lake: &Path, server: &Server, set: impl FnOnce(Scope) -> Scope) -> Result<Report, Error> {
        let context = self.context(open(lake), server)?;
        let as_of: Day = self.recording.last_day.parse()?;
        let scope = Scope::new(&self.config, context.today, Some(as_of), None, false)?;
        let scope = set(scope);
        self.runtime.block_on(async {
            let run = tokio::time::timeout(RUN_TIMEOUT, complete(&context, &scope, None));
            run.await.expect("the run ends")
        })
    }

    fn context(&self, lake: Lake, server: &Server) -> Result<Context, Error> {
        let (rate, retry, timeout) = (RATE, RetryPolicy::LOOPBACK, TIMEOUT);
        let graph = GraphSettings::new(server.graph_url(), Vec::new());
        let graph = GraphSettings { rate, retry, timeout, rows_per_page: ROWS_PER_PAGE, ..graph };
        let transpose = TransposeSettings::new(server.transpose_url(), Vec::new());
        let transpose = TransposeSettings { rate, retry, timeout, rows_per_page: ROWS_PER_PAGE, ..transpose };
        let (graph, transpose) = (Arc::new(GraphClient::new(graph)?), Arc::new(TransposeClient::new(transpose)?));
        let registry = catalog::registry_in_lake(&lake, "dev");
        let context = Context::new(
            lake,
            registry,
            Arc::clone(&self.config),
            Clients { graph, transpose, node: None, feed: None },
            today()?,
        );
        Ok(Context { wait_for_readers: Duration::ZERO, ..context })
    }
}

/// Opens a lake for a run. Retries while it is locked: the last write of a failed run may still be in progress.
fn open(folder: &Path) -> Lake {
    let start = Instant::now();
    loop {
        match FolderStore::open_for_run(folder) {
            Ok(store) => return Lake::new(store),
            Err(error) => assert!(start.elapsed() < LOCK_TIMEOUT, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn serve(recording: &Arc<Recording>, config: &Config, faults: Option<Faults>) -> Server {
    // A block can be another one with the same number only if its hash is said.
    let has_hashes = |faults: &Faults| faults.script.iter().any(|rule| rule.fault == Fault::ReorganisedBlock);
    let block_details = faults.as_ref().is_some_and(has_hashes);
    let deployments = Deployment::all(config);
    let options = ServerOptions { deployments, block_details, faults, ..ServerOptions::default() };
    Server::start(Arc::clone(recording), options).await.expect("a server")
}

/// Reads the objects of a lake, without the objects of runs.
fn tree(folder: &Path) -> Tree {
    let mut tree = Tree::read(folder);
    tree.0.retain(|path, _| !is_of_runs(path));
    tree
}

fn is_raw(path: &str) -> bool {
    path.starts_with("raw/")
}

fn row_count(object: &[u8]) -> u64 {
    parquet::file_metadata(&object.to_vec().into()).expect("a Parquet file").1
}

/// Returns the error kinds with which a run may fail that encountered the given faults.
fn fitting_kinds(counts: &FaultCounts) -> BTreeSet<&'static str> {
    let occurred = |fault: &&Fault| counts.faults.contains_key(fault.name());
    Fault::ALL.iter().filter(occurred).flat_map(|fault| kinds_of(*fault)).map(|kind| kind.name()).collect()
}

fn kinds_of(fault: Fault) -> &'static [Kind] {
    match fault {
        Fault::TooManyRequests | Fault::RetryAfter | Fault::RetryAfterAnHour => &[Kind::Throttled],
        Fault::WrongShape => &[Kind::CorruptData],
        Fault::HeadBehind => &[Kind::NotReady],
        Fault::TransientErrors => &[Kind::Throttled, Kind::SourceUnavailable, Kind::NotReady],
        Fault::PermanentErrors => &[Kind::QuotaExceeded, Kind::BadCredentials, Kind::SourceRejected],
        // Without the snapshot of the as-of day itself no set of features is published.
        Fault::Pruned | Fault::PrunedByOne | Fault::MissingBlock => &[Kind::HistoryPruned, Kind::QualityFailed],
        Fault::IndexingErrors => &[Kind::SourceRejected],
        Fault::OutOfCredits => &[Kind::QuotaExceeded],
        _ => &[Kind::SourceUnavailable],
    }
}
