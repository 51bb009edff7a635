//! Whatever ends a run, and wherever: what is in the lake is whole, what the catalog shows is whole, and the next run comes to
//! the same lake, byte for byte, as a run that nothing disturbs.
//!
//! A few of the places at which a run can end are tried; with `DEFI_KILLS` set to a number as many as that of each kind and
//! beginning, over the recordings in `../shared/data` too.

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

use crate::support::beginnings::{Beginning, Chain};
use crate::support::command::{command, output, succeed, text};
use crate::support::reader::{Reader, published_without};
use crate::support::tree::Tree;

/// Of all random choices.
const SEED: u64 = 4;

/// How many places of a kind are tried in the long form.
fn places() -> Option<usize> {
    let places = std::env::var("DEFI_KILLS").ok()?;
    Some(places.parse().expect("DEFI_KILLS is a number"))
}

/// The numbers from 1 to `all`, or as many of them as are tried, spread evenly, first and last among them.
fn spread(all: usize, bounded: usize) -> Vec<usize> {
    let bounded = places().unwrap_or(bounded).max(2);
    if all <= bounded {
        return (1..=all).collect();
    }
    (0..bounded).map(|i| 1 + i * (all - 1) / (bounded - 1)).collect()
}

/// The lakes that are begun with, made once.
fn beginnings() -> &'static [Beginning] {
    static BEGINNINGS: LazyLock<Vec<Beginning>> = LazyLock::new(|| Beginning::all(places().is_some()));
    &BEGINNINGS
}

/// The command for a run.
fn command_of(chain: &Chain, lake: &Path) -> Command {
    command(&chain.arguments(lake).iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs over a lake in this process. What is under way when it fails ends with it, as in a process of its own.
fn run(chain: &Chain, lake: impl FnOnce() -> Result<Lake>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let run = defi_local::run::Run::prepare(&chain.options()).await?;
        let context = run.open(lake()?).await?;
        run.carry_out(&context).await.map(drop)
    })
}

/// Runs over a lake whose store is told of every call.
fn run_with<F>(chain: &Chain, lake: &Path, before: F) -> Result<()>
where
    F: Fn(Operation, usize) -> Result<()> + Send + Sync + 'static,
{
    run(chain, || Ok(Lake::new(FaultyStore::new(FolderStore::open_for_run(lake)?, before))))
}

/// A lake in which a run is disturbed.
struct Disturbed<'a> {
    beginning: &'a Beginning,
    lake: TempDir,
    reader: Reader,
}

impl Disturbed<'_> {
    fn new(beginning: &Beginning) -> Disturbed<'_> {
        let lake = tempdir().expect("a folder");
        beginning.put_into(lake.path());
        let reader = Reader::of(lake.path());
        Disturbed { beginning, lake, reader }
    }

    /// Each object is the one from before or the one that comes, and the published set is whole. What is wrong with that.
    fn look(&self) -> Vec<String> {
        let left = Tree::read(self.lake.path());
        let (old, new) = (&self.beginning.lake, &self.beginning.outcome);
        let is_object = |path: &str| !path.starts_with("runs/") && !path.starts_with('.');
        let is_known = |path: &str, bytes| [old, new].iter().any(|tree| tree.0.get(path) == Some(bytes));
        let strange = left.0.iter().filter(|(path, bytes)| is_object(path) && !is_known(path, bytes));
        let mut wrong: Vec<_> =
            strange.map(|(path, _)| format!("{path} is neither the old object nor the new one")).collect();
        wrong.extend(published_without(self.lake.path()));
        wrong
    }

    /// The next run comes to the lake of a run that nothing disturbed, and a reader saw nothing but whole objects. What is
    /// wrong with that.
    fn complete(self) -> Vec<String> {
        let folder = self.lake.path();
        let done = run(&self.beginning.chain, || Ok(Lake::new(FolderStore::open_for_run(folder)?)));
        let mut wrong: Vec<_> = done.err().map(|error| format!("the next run fails: {error}")).into_iter().collect();
        let seen = self.reader.stop();
        wrong.extend(seen.wrong);
        if seen.objects == 0 {
            wrong.push("the reader saw nothing".to_owned());
        }
        wrong.extend(self.beginning.outcome.differing(&Tree::read(folder)));
        wrong
    }
}

/// What was tried, and what went wrong: all of it is tried before a test fails.
#[derive(Default)]
struct Tally {
    tried: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: &str, wrong: Vec<String>) {
        self.tried += 1;
        if !wrong.is_empty() {
            self.wrong.push(format!("{what}:\n  {}", wrong.join("\n  ")));
        }
    }

    fn assert_nothing_wrong(self, what: &str) {
        println!("| {what} | {} |\n| wrong lakes | {} |", self.tried, self.wrong.len());
        assert!(self.tried > 0, "nothing was tried");
        assert!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.tried, self.wrong.join("\n"));
    }
}

/// How often a run of a beginning calls each operation.
fn calls(beginning: &Beginning) -> Vec<(Operation, usize)> {
    let lake = tempdir().expect("a folder");
    beginning.put_into(lake.path());
    let (heard, calls) = std::sync::mpsc::channel();
    run_with(&beginning.chain, lake.path(), move |operation, _| {
        heard.send(operation).ok();
        Ok(())
    })
    .expect("an undisturbed run");
    let calls: Vec<_> = calls.iter().collect();
    let count = |operation| calls.iter().filter(|call| **call == operation).count();
    Operation::ALL.into_iter().map(|operation| (operation, count(operation))).collect()
}

/// Fails the calls of the operations, one a run, with what `error` makes of its number.
fn fail_and_heal(operations: &[Operation], bounded: usize, error: fn(usize) -> Error) -> Tally {
    let mut tally = Tally::default();
    for beginning in beginnings() {
        for (operation, count) in calls(beginning).into_iter().filter(|(operation, _)| operations.contains(operation)) {
            for nth in spread(count, bounded) {
                let disturbed = Disturbed::new(beginning);
                let done = run_with(&beginning.chain, disturbed.lake.path(), move |called, number| {
                    if (called, number) == (operation, nth) { Err(error(nth)) } else { Ok(()) }
                });
                // The order of the calls differs from run to run, their number does not.
                let kind = done.err().map(|error| error.kind());
                let mut wrong = disturbed.look();
                if kind != Some(error(nth).kind()) {
                    wrong.push(format!("the run came to {kind:?}"));
                }
                wrong.extend(disturbed.complete());
                tally.add(&format!("{}, call {nth} of {count} of {operation:?}", beginning.name), wrong);
            }
        }
    }
    tally
}

#[test]
fn a_store_that_fails_once_fails_the_run_and_the_next_one_completes_it() {
    let failed = fail_and_heal(&Operation::ALL, 2, |nth| {
        let kinds = [Kind::SourceUnavailable, Kind::Throttled, Kind::BadCredentials];
        Error::new(kinds[nth % kinds.len()], "the store was told to fail")
    });
    failed.assert_nothing_wrong("calls of the store that failed");
}

#[test]
fn a_disk_that_is_full_fails_the_run_and_the_next_one_completes_it() {
    let full = fail_and_heal(&[Operation::Put], 3, |_| {
        let cause = std::io::Error::from(ErrorKind::StorageFull);
        Error::internal("the store was told to be full").because(cause)
    });
    full.assert_nothing_wrong("writes to a full disk");
}

/// Names the write at which [`a_process_that_kills_itself`] does so, its lake and its chain.
const KILL: [&str; 3] = ["DEFI_TEST_KILL_AT", "DEFI_TEST_KILL_LAKE", "DEFI_TEST_KILL_CHAIN"];

/// The process that the next test starts: a run that is killed at its n-th write, before it or at any moment of it.
#[test]
#[ignore = "started by another test, to be killed"]
fn a_process_that_kills_itself() {
    let [Ok(at), Ok(lake), Ok(chain)] = KILL.map(std::env::var) else { return };
    let at: usize = at.parse().expect("a number");
    // A write takes about as long as this.
    let micros = ChaCha8Rng::seed_from_u64(SEED + at as u64).random_range(0..1_500);
    let delay = Duration::from_micros(if at.is_multiple_of(2) { 0 } else { micros });
    let kill = || kill_process(getpid(), Signal::KILL).expect("the end");
    let done = run_with(&Chain::named(&chain), Path::new(&lake), move |operation, nth| {
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
    panic!("it was to be killed, and ended: {done:?}");
}

/// Starts the process that kills itself; how it ended.
fn kill_at(nth: usize, lake: &Path, chain: &Chain) -> ExitStatus {
    let mut process = Command::new(std::env::current_exe().expect("this test"));
    process.args(["--exact", "kills::a_process_that_kills_itself", "--ignored"]);
    process.envs(KILL.into_iter().zip([&nth.to_string(), text(lake), &chain.name]));
    process.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts")
}

#[test]
fn a_run_that_is_killed_at_a_write_is_completed_by_the_next_one() {
    let mut tally = Tally::default();
    for beginning in beginnings() {
        let writes = calls(beginning).into_iter().find(|(operation, _)| *operation == Operation::Put);
        let writes = writes.map_or(0, |(_, count)| count);
        for nth in spread(writes, 4) {
            let disturbed = Disturbed::new(beginning);
            let status = kill_at(nth, disturbed.lake.path(), &beginning.chain);
            let mut wrong = disturbed.look();
            // After one of the last writes it may end before the signal comes.
            if status.signal() != Some(Signal::KILL.as_raw()) && nth + 3 < writes {
                wrong.push(format!("it ended with {status}"));
            }
            wrong.extend(disturbed.complete());
            tally.add(&format!("{}, killed at write {nth} of {writes}", beginning.name), wrong);
        }
    }
    tally.assert_nothing_wrong("kills at a write");
}

/// Lets the command run for a while, and kills it.
fn kill_after(delay: Duration, chain: &Chain, lake: &Path) {
    let mut process = command_of(chain, lake);
    let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    thread::sleep(delay);
    process.kill().expect("it can be killed");
    process.wait().expect("it ends");
}

#[test]
fn a_run_that_is_killed_again_and_again_is_completed_by_the_next_one() {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut tally = Tally::default();
    for beginning in beginnings() {
        let (lake, begun) = (tempdir().expect("a folder"), Instant::now());
        beginning.put_into(lake.path());
        succeed(&mut command_of(&beginning.chain, lake.path()));
        let usual = begun.elapsed();
        for round in 0..places().unwrap_or(2) {
            let disturbed = Disturbed::new(beginning);
            let mut wrong = Vec::new();
            for _ in 0..random.random_range(1..4) {
                let delay = usual.mul_f64(random.random_range(0.1..1.0));
                kill_after(delay, &beginning.chain, disturbed.lake.path());
                wrong.extend(disturbed.look());
            }
            wrong.extend(disturbed.complete());
            tally.add(&format!("{}, round {round}", beginning.name), wrong);
        }
    }
    tally.assert_nothing_wrong("rounds of kills at random moments");
}

#[test]
fn files_that_can_not_grow_fail_the_run_and_the_next_one_completes_it() {
    let mut tally = Tally::default();
    let beginning = &beginnings()[0];
    for blocks in [0, 4, 8] {
        let disturbed = Disturbed::new(beginning);
        let run = command_of(&beginning.chain, disturbed.lake.path());
        let mut limited = Command::new("sh");
        // Without the signal a write beyond the limit is an error, as on a full disk.
        limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh"]);
        limited.arg(run.get_program()).args(run.get_args());
        let output = output(&mut limited);
        let error = String::from_utf8_lossy(&output.stderr);
        let mut wrong = disturbed.look();
        if output.status.code() != Some(1) || !error.lines().any(|line| line.starts_with("error: Internal: ")) {
            wrong.push(format!("it ended with {}: {error}", output.status));
        }
        wrong.extend(disturbed.complete());
        tally.add(&format!("files of at most {blocks} blocks"), wrong);
    }
    tally.assert_nothing_wrong("limits of a file's size");
}
