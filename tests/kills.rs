//! Runs that are killed, or whose store fails, at any point: all objects and the published sets in the catalog are
//! complete, and the next run produces the lake of an undisturbed run, byte for byte.
//!
//! The short form tries a few points of failure. `DEFI_KILLS` selects the long form: it is the number of points of each
//! kind in each scenario, and the scenarios include the recordings in `../shared/data`.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use defi_shared::lake::{FolderStore, Lake};
use defi_shared::testing::{FaultyStore, Operation};
use defi_shared::{Error, Kind, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Signal, getpid, kill_process};
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};
use crate::support::reader::{BackgroundReader, missing_published_shards};
use crate::support::scenarios::{Chain, Scenario};
use crate::support::tree::{Tree, is_of_runs};

/// The seed of all random numbers.
const SEED: u64 = 4;

/// Returns the number of points of failure of each kind in the long form, or `None` in the short form.
fn long_form_points() -> Option<usize> {
    let points = std::env::var("DEFI_KILLS").ok()?;
    Some(points.parse().expect("DEFI_KILLS is a number"))
}

/// Returns numbers from 1 to `count`, evenly spaced and including both ends: `default_points` of them, or as many as
/// the long form tries.
fn evenly_spaced(count: usize, default_points: usize) -> Vec<usize> {
    let points = long_form_points().unwrap_or(default_points).max(2);
    if count <= points {
        return (1..=count).collect();
    }
    (0..points).map(|i| 1 + i * (count - 1) / (points - 1)).collect()
}

/// Returns the scenarios, which are created once.
fn scenarios() -> &'static [Scenario] {
    static SCENARIOS: LazyLock<Vec<Scenario>> = LazyLock::new(|| Scenario::all(long_form_points().is_some()));
    &SCENARIOS
}

/// Returns the `defi run` command over a chain.
fn run_command(chain: &Chain, lake: &Path) -> Command {
    command(&chain.arguments(lake).iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs over a lake in this process. Dropping the runtime ends all tasks of a failed run, as the end of a process does.
fn run(chain: &Chain, lake: impl FnOnce() -> Result<Lake>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let run = defi_local::run::Run::prepare(&chain.options()).await?;
        let context = run.open(lake()?).await?;
        run.execute(&context).await.map(drop)
    })
}

/// Runs over a lake whose store calls `before` before each operation.
fn run_with<F>(chain: &Chain, lake: &Path, before: F) -> Result<()>
where
    F: Fn(Operation, usize) -> Result<()> + Send + Sync + 'static,
{
    run(chain, || Ok(Lake::new(FaultyStore::new(FolderStore::open_for_run(lake)?, before))))
}

/// Returns the path in the folder of the table for a path of a build or of its checked copy; other paths unchanged.
fn as_published(path: &str) -> String {
    if let Some((before, rest)) = path.split_once("analytics/features/builds/") {
        return format!("{before}analytics/features/defi_features/{rest}");
    }
    let Some((before, rest)) = path.split_once("analytics/features/checked/") else { return path.to_owned() };
    // The copy is in a folder that is named after its digest.
    let (day, rest) = rest.split_once('/').expect("the digest");
    let (_, file) = rest.split_once('/').expect("the file");
    format!("{before}analytics/features/defi_features/{day}/{file}")
}

/// Returns a catalog entry that points to the checked copy of a build as one that points to the folder of the table.
fn entry_as_published(entry: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(entry);
    let Some((before, rest)) = text.split_once("analytics/features/checked/") else { return entry.to_owned() };
    let (day, rest) = rest.split_once('/').expect("the day");
    let (_, rest) = rest.split_once('"').expect("the end of the location");
    format!("{before}analytics/features/defi_features/{day}\"{rest}").into_bytes()
}

/// A lake of a scenario in which a run is disturbed while a reader reads it.
struct DisturbedLake<'a> {
    scenario: &'a Scenario,
    lake: TempDir,
    reader: BackgroundReader,
}

impl DisturbedLake<'_> {
    fn new(scenario: &Scenario) -> DisturbedLake<'_> {
        let lake = tempdir().expect("a temporary folder");
        scenario.write_initial(lake.path());
        let reader = BackgroundReader::start(lake.path());
        DisturbedLake { scenario, lake, reader }
    }

    /// Checks that each object is the initial or the expected one, and that the published sets are complete. Returns
    /// the problems.
    fn check(&self) -> Vec<String> {
        let current = Tree::read(self.lake.path());
        let (old, new) = (&self.scenario.initial, &self.scenario.expected);
        let is_object = |path: &str| !is_of_runs(path) && !path.starts_with('.');
        let is_known = |path: &str, bytes: &Vec<u8>| [old, new].iter().any(|tree| tree.0.get(path) == Some(bytes));
        // A build has the objects of the set that is published later, and catalog entries may point to its copy.
        let is_known = |path: &str, bytes: &Vec<u8>| {
            is_known(path, bytes) || is_known(&as_published(path), bytes) || is_known(path, &entry_as_published(bytes))
        };
        let unknown = current.0.iter().filter(|(path, bytes)| is_object(path) && !is_known(path, bytes));
        let mut problems: Vec<_> =
            unknown.map(|(path, _)| format!("{path} is neither the old object nor the new one")).collect();
        problems.extend(missing_published_shards(self.lake.path()));
        problems
    }

    /// Runs again, and checks that the lake is the expected one and that the reader found only complete objects.
    /// Returns the problems.
    fn complete(self) -> Vec<String> {
        let folder = self.lake.path();
        let result = run(&self.scenario.chain, || Ok(Lake::new(FolderStore::open_for_run(folder)?)));
        let mut problems: Vec<_> =
            result.err().map(|error| format!("the next run failed: {error}")).into_iter().collect();
        let observations = self.reader.stop();
        problems.extend(observations.problems);
        if observations.objects == 0 {
            problems.push("the reader read no object".to_owned());
        }
        problems.extend(self.scenario.expected.differences(&Tree::read(folder)));
        problems
    }
}

/// The number of cases, and the problems. A test fails only after all cases have run.
#[derive(Default)]
struct Tally {
    cases: usize,
    problems: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &str, problems: Vec<String>) {
        self.cases += 1;
        if !problems.is_empty() {
            self.problems.push(format!("{case}:\n  {}", problems.join("\n  ")));
        }
    }

    fn assert_no_problems(self, label: &str) {
        println!("| {label} | {} |\n| wrong lakes | {} |", self.cases, self.problems.len());
        assert!(self.cases > 0, "no case ran");
        let (count, problems) = (self.problems.len(), self.problems.join("\n"));
        assert!(self.problems.is_empty(), "{count} of {} cases have problems:\n{problems}", self.cases);
    }
}

/// Returns how often a run of a scenario calls each operation of the store.
fn count_calls(scenario: &Scenario) -> Vec<(Operation, usize)> {
    let lake = tempdir().expect("a temporary folder");
    scenario.write_initial(lake.path());
    let (sender, calls) = std::sync::mpsc::channel();
    run_with(&scenario.chain, lake.path(), move |operation, _| {
        sender.send(operation).ok();
        Ok(())
    })
    .expect("an undisturbed run");
    let calls: Vec<_> = calls.iter().collect();
    let count = |operation| calls.iter().filter(|call| **call == operation).count();
    Operation::ALL.into_iter().map(|operation| (operation, count(operation))).collect()
}

/// Makes calls of the operations fail, one call per run, with the error that `error` returns for the call's number.
fn fail_and_complete(operations: &[Operation], default_points: usize, error: fn(usize) -> Error) -> Tally {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let calls = count_calls(scenario).into_iter();
        for (operation, count) in calls.filter(|(operation, _)| operations.contains(operation)) {
            for nth in evenly_spaced(count, default_points) {
                let disturbed = DisturbedLake::new(scenario);
                let result = run_with(&scenario.chain, disturbed.lake.path(), move |called, number| {
                    if (called, number) == (operation, nth) { Err(error(nth)) } else { Ok(()) }
                });
                // The order of the calls differs between runs, but not their number: the call happens.
                let kind = result.err().map(|error| error.kind());
                let mut problems = disturbed.check();
                if kind != Some(error(nth).kind()) {
                    problems.push(format!("the run ended with {kind:?}"));
                }
                problems.extend(disturbed.complete());
                tally.add(&format!("{}, call {nth} of {count} of {operation:?}", scenario.name), problems);
            }
        }
    }
    tally
}

#[test]
fn run_after_a_failed_store_call_completes_the_lake() {
    let tally = fail_and_complete(&Operation::ALL, 2, |nth| {
        let kinds = [Kind::SourceUnavailable, Kind::Throttled, Kind::BadCredentials];
        Error::new(kinds[nth % kinds.len()], "simulated store failure")
    });
    tally.assert_no_problems("failed calls of the store");
}

#[test]
fn run_after_a_full_disk_completes_the_lake() {
    let tally = fail_and_complete(&[Operation::Put], 3, |_| {
        let source = std::io::Error::from(ErrorKind::StorageFull);
        Error::internal("simulated full disk").with_source(source)
    });
    tally.assert_no_problems("writes to a full disk");
}

/// Environment variables of [`child_process_that_kills_itself`]: the number of the write, the lake and the chain.
const KILL_VARIABLES: [&str; 3] = ["DEFI_TEST_KILL_AT", "DEFI_TEST_KILL_LAKE", "DEFI_TEST_KILL_CHAIN"];

/// The process that [`kill_at`] starts: a run that kills itself just before its n-th write, or during it.
#[test]
#[ignore = "run in a child process by another test"]
fn child_process_that_kills_itself() {
    let [Ok(at), Ok(lake), Ok(chain)] = KILL_VARIABLES.map(std::env::var) else { return };
    let at: usize = at.parse().expect("a number");
    // The maximum is about the duration of a write.
    let micros = ChaCha8Rng::seed_from_u64(SEED + at as u64).random_range(0..1_500);
    let delay = Duration::from_micros(if at.is_multiple_of(2) { 0 } else { micros });
    let kill = || kill_process(getpid(), Signal::KILL).expect("the signal is sent");
    let result = run_with(&Chain::new(&chain), Path::new(&lake), move |operation, nth| {
        if (operation, nth) == (Operation::Put, at) {
            if delay.is_zero() {
                kill();
            }
            thread::spawn(move || {
                thread::sleep(delay);
                kill();
            });
        }
        Ok(())
    });
    panic!("the run ended before it was killed: {result:?}");
}

/// Starts the process that kills itself at its n-th write, and returns its exit status.
fn kill_at(nth: usize, lake: &Path, chain: &Chain) -> ExitStatus {
    let mut process = Command::new(std::env::current_exe().expect("the path of this executable"));
    process.args(["--exact", "kills::child_process_that_kills_itself", "--ignored"]);
    process.envs(KILL_VARIABLES.into_iter().zip([&nth.to_string(), path_str(lake), &chain.name]));
    process.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the process starts")
}

#[test]
fn run_after_a_kill_at_a_write_completes_the_lake() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let writes = count_calls(scenario).into_iter().find(|(operation, _)| *operation == Operation::Put);
        let writes = writes.map_or(0, |(_, count)| count);
        for nth in evenly_spaced(writes, 4) {
            let disturbed = DisturbedLake::new(scenario);
            let status = kill_at(nth, disturbed.lake.path(), &scenario.chain);
            let mut problems = disturbed.check();
            // After one of the last writes the process may end before the signal arrives.
            if status.signal() != Some(Signal::KILL.as_raw()) && nth + 3 < writes {
                problems.push(format!("the process ended with {status}"));
            }
            problems.extend(disturbed.complete());
            tally.add(&format!("{}, killed at write {nth} of {writes}", scenario.name), problems);
        }
    }
    tally.assert_no_problems("kills at a write");
}

/// Starts a run and kills it after a delay.
fn kill_after(delay: Duration, chain: &Chain, lake: &Path) {
    let mut process = run_command(chain, lake);
    let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the process starts");
    thread::sleep(delay);
    process.kill().expect("the process is killed");
    process.wait().expect("the process ends");
}

#[test]
fn run_after_repeated_random_kills_completes_the_lake() {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut tally = Tally::default();
    for scenario in scenarios() {
        let (lake, start) = (tempdir().expect("a temporary folder"), Instant::now());
        scenario.write_initial(lake.path());
        succeed(&mut run_command(&scenario.chain, lake.path()));
        let run_time = start.elapsed();
        for round in 0..long_form_points().unwrap_or(2) {
            let disturbed = DisturbedLake::new(scenario);
            let mut problems = Vec::new();
            for _ in 0..random.random_range(1..4) {
                let delay = run_time.mul_f64(random.random_range(0.1..1.0));
                kill_after(delay, &scenario.chain, disturbed.lake.path());
                problems.extend(disturbed.check());
            }
            problems.extend(disturbed.complete());
            tally.add(&format!("{}, round {round}", scenario.name), problems);
        }
    }
    tally.assert_no_problems("rounds of kills at random moments");
}

#[test]
fn run_after_a_file_size_limit_completes_the_lake() {
    let mut tally = Tally::default();
    let scenario = &scenarios()[0];
    for blocks in [0, 4, 8] {
        let disturbed = DisturbedLake::new(scenario);
        let run = run_command(&scenario.chain, disturbed.lake.path());
        let mut limited = Command::new("sh");
        // With SIGXFSZ ignored, a write beyond the limit returns an error, as on a full disk.
        limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh"]);
        limited.arg(run.get_program()).args(run.get_args());
        let output = output(&mut limited);
        let error = String::from_utf8_lossy(&output.stderr);
        let mut problems = disturbed.check();
        if output.status.code() != Some(1) || !error.lines().any(|line| line.starts_with("error: Internal: ")) {
            problems.push(format!("the run ended with {}: {error}", output.status));
        }
        problems.extend(disturbed.complete());
        tally.add(&format!("files of at most {blocks} blocks"), problems);
    }
    tally.assert_no_problems("limits of a file's size");
}
