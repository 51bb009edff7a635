//! Load tests: extraction at the rate limit of the sources. It extracts every row, does not exceed the limit, and stays
//! within a memory limit. Each extraction runs in a child process, so that its memory is measured separately.
//!
//! `DEFI_LOAD` selects the long form: 200,000 positions and 50,000 events per day, and a day of ten times that size.
//! Only the long form, which expects an otherwise idle machine, asserts the used share of the rate limit.

#![cfg(target_os = "linux")]
// clippy.toml allows these in test functions, but not in the helper functions of tests.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use defi_local::handlers;
use defi_shared::catalog;
use defi_shared::config::Schema;
use defi_shared::domain::{Category, Day};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::pipeline::{InputKind, Step};
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::sources::{RateLimit, Secret, TrafficReport};
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::testing::{AAVE, COMPOUND, TestLake, config};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use defi_simulator::server::{Deployment, Server, ServerOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};

/// The memory limit, in bytes, of an extraction of days of the usual size. All extraction steps run in one process,
/// with several days in parallel.
const MEMORY_LIMIT: u64 = 300 << 20;

/// The memory in MB (as in `infra/steps.tf`) of the functions that process a day's rows, in the order of a run.
const FUNCTION_MEMORY: [(Step, u64); 10] = [
    (Step::ExtractDailyBlocks, 1024),
    (Step::ExtractEvents, 1024),
    (Step::ExtractMarketData, 1024),
    (Step::ExtractAccountPositions, 1769),
    (Step::StageEvents, 1769),
    (Step::StageMarketData, 1024),
    (Step::StageAccountPositions, 3008),
    (Step::LinkWallets, 1769),
    (Step::PriceEvents, 1769),
    (Step::ValuePositions, 3008),
];

/// The minimum share of the rate limit of The Graph that an extraction must use.
const MIN_SHARE: f64 = 0.95;

/// A chain, and the settings of the simulated server.
struct Load {
    recording: Recording,
    /// Rate limit of each key.
    per_second: u32,
    keys: usize,
    latency: Duration,
    /// Number of rows in a page of events.
    rows_per_page: usize,
}

/// The task of a child process.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    url: String,
    lake: PathBuf,
    /// The step that [`child_process_function`] calls.
    step: String,
    as_of: Day,
    per_second: u32,
    keys: usize,
    rows_per_page: usize,
}

/// The results of [`child_process_extraction`].
#[derive(Debug, Serialize, Deserialize)]
struct Extracted {
    positions: u64,
    events: u64,
    graph: SourceLoad,
    transpose: SourceLoad,
    /// Peak memory, in bytes.
    memory: u64,
    /// CPU time, in seconds.
    cpu: f64,
}

/// The requests to a source.
#[derive(Debug, Serialize, Deserialize)]
struct SourceLoad {
    traffic: TrafficReport,
    seconds: f64,
}

impl SourceLoad {
    fn retries(&self) -> u64 {
        self.traffic.retries.values().sum()
    }

    /// Returns the used share of the rate limit.
    fn share(&self, per_second: f64) -> f64 {
        self.traffic.requests as f64 / self.seconds / per_second
    }
}

/// The environment variable with the [`Task`] of a child process, as JSON.
const TASK: &str = "DEFI_TEST_EXTRACTION";

/// Extracts from both sources in a child process. The last line of the output has the results as JSON.
#[test]
#[ignore = "run in a child process by another test"]
fn child_process_extraction() {
    run_task(async |_, context| extract(&context).await);
}

/// Calls the handler of one function in a child process.
#[test]
#[ignore = "run in a child process by another test"]
fn child_process_function() {
    run_task(async |task, context| call(task.step.parse()?, context).await);
}

/// Runs the task of this child process and prints its result as JSON. Does nothing in the parent process.
fn run_task<T: Serialize>(work: impl AsyncFnOnce(&Task, Context) -> defi_shared::Result<T>) {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Task = serde_json::from_str(&task).expect("a task");
    let lake = Lake::new(FolderStore::new(&task.lake));
    let lab = TestLake::new(&[AAVE, COMPOUND], task.as_of).expect("a context");
    let result = Runtime::new().expect("a runtime").block_on(async {
        let (graph, transpose) = (graph(&task)?, transpose(&task)?);
        let context = Context {
            registry: catalog::registry_in_lake(&lake, "dev"),
            lake,
            graph,
            transpose,
            ..lab.context.clone()
        };
        work(&task, context).await
    });
    println!("\n{}", serde_json::to_string(&result.expect("the task succeeds")).expect("JSON"));
}

fn keys(task: &Task) -> Vec<Secret> {
    (0..task.keys).map(|number| Secret::new(format!("key-{number}"))).collect()
}

fn graph(task: &Task) -> defi_shared::Result<Arc<GraphClient>> {
    let rate = RateLimit::per_second(task.per_second);
    Ok(Arc::new(GraphClient::new(GraphSettings { rate, ..GraphSettings::new(&task.url, keys(task)) })?))
}

fn transpose(task: &Task) -> defi_shared::Result<Arc<TransposeClient>> {
    let (rate, rows_per_page) = (RateLimit::per_second(task.per_second), task.rows_per_page);
    let settings = TransposeSettings::new(&task.url, keys(task));
    // The rate of the live API is a sixth of this one, for which four concurrent requests are enough.
    let settings = TransposeSettings { rate, rows_per_page, concurrency: 8, ..settings };
    Ok(Arc::new(TransposeClient::new(settings)?))
}

/// Extracts from both sources concurrently, as a run does.
async fn extract(context: &Context) -> defi_shared::Result<Extracted> {
    let context = || context.clone();
    extract_daily_blocks::handle(context(), UnitInput::default()).await?;
    let start = Instant::now();
    let seconds = || start.elapsed().as_secs_f64();
    let events = async { Ok((extract_events::handle(context(), UnitInput::default()).await?, seconds())) };
    let snapshots = async {
        let markets = extract_market_data::handle(context(), UnitInput::default());
        let positions = extract_account_positions::handle(context(), UnitInput::default());
        let (mut markets, positions) = tokio::try_join!(markets, positions)?;
        markets.traffic += &positions.traffic;
        Ok((markets.traffic, positions.rows_out, seconds()))
    };
    let ((events, events_seconds), (graph, positions, graph_seconds)) = tokio::try_join!(events, snapshots)?;
    Ok(Extracted {
        positions,
        events: events.rows_out,
        graph: SourceLoad { traffic: graph, seconds: graph_seconds },
        transpose: SourceLoad { traffic: events.traffic, seconds: events_seconds },
        memory: peak_memory(),
        cpu: cpu_seconds(),
    })
}

/// Calls one function (those of events once per category, as the state machine does). Returns the number of rows read
/// and the peak memory of the process, in bytes.
async fn call(step: Step, context: Context) -> defi_shared::Result<(u64, u64)> {
    let inputs = match step.input() {
        InputKind::EventDays => Category::ALL.map(|category| json!({"events": [category]})).to_vec(),
        _ => vec![json!({})],
    };
    let mut report = Report::default();
    for input in inputs {
        let output = handlers::prepare(step, input)?(context.clone()).await?;
        report.merge(serde_json::from_value(output).expect("a report"));
    }
    Ok((report.rows_in, peak_memory()))
}

/// Returns the peak memory of this process, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Returns the user and system time of this process, from fields 14 and 15 of its `stat` file, in hundredths of a
/// second.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("the status of this process");
    let (_, fields) = stat.rsplit_once(')').expect("the end of the process name");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<f64>().expect("a time")).sum::<f64>() / 100.0
}

/// The expected number of rows in the raw layer: the rows of a recording without exact duplicates.
struct ExpectedRows {
    positions: u64,
    events: u64,
}

impl ExpectedRows {
    fn of(recording: &Recording) -> ExpectedRows {
        let snapshots = recording.positions.values().flat_map(|by_block| by_block.values());
        let open = |row: &&defi_simulator::recording::Row| row["balance"] != "0";
        let positions = snapshots.map(|rows| rows.iter().filter(open).count()).sum::<usize>();
        // The last day is incomplete and not final.
        let is_final = |event: &&Map<String, Value>| event["timestamp"].as_str() < Some(recording.last_day.as_str());
        let events = recording.events.iter().filter(is_final);
        let mut events: Vec<_> = events.map(|event| json!(event).to_string()).collect();
        events.sort_unstable();
        events.dedup();
        ExpectedRows { positions: positions as u64, events: events.len() as u64 }
    }
}

/// A simulated server over a chain, for child processes.
struct SimulatedServer {
    /// Runs the server. Dropping it stops the server.
    _runtime: Runtime,
    lake: TempDir,
    task: Task,
}

impl SimulatedServer {
    fn new(load: Load) -> SimulatedServer {
        // More threads than CPUs, so that a request is counted without waiting until another response is rendered.
        let runtime = Builder::new_multi_thread().worker_threads(8).enable_all().build().expect("a runtime");
        let options = ServerOptions {
            deployments: Deployment::all(&config(&[AAVE, COMPOUND], 1).expect("a configuration")),
            latency: load.latency,
            requests_per_second: Some(load.per_second),
            ..ServerOptions::default()
        };
        let as_of = load.recording.last_day.parse().expect("a valid day");
        let server = runtime.block_on(Server::start(Arc::new(load.recording), options)).expect("a server");
        let lake = tempdir().expect("a temporary folder");
        let task = Task {
            url: server.graph_url(),
            lake: lake.path().to_owned(),
            step: String::new(),
            as_of,
            per_second: load.per_second,
            keys: load.keys,
            rows_per_page: load.rows_per_page,
        };
        runtime.spawn(async move {
            let _server = server;
            std::future::pending::<()>().await;
        });
        SimulatedServer { _runtime: runtime, lake, task }
    }

    /// Runs a test of this file in a child process, and returns its result.
    fn run_child<T: DeserializeOwned>(&self, test: &str, step: &str) -> T {
        assert!(self.lake.path().exists());
        let task = Task { step: step.to_owned(), ..self.task.clone() };
        let mut process = Command::new(std::env::current_exe().expect("the path of this executable"));
        process.args(["--exact", test, "--ignored", "--nocapture"]);
        process.env(TASK, serde_json::to_string(&task).expect("JSON")).stderr(Stdio::inherit());
        // As in the functions that Terraform deploys.
        process.env("MALLOC_ARENA_MAX", "2");
        process.env("MALLOC_MMAP_THRESHOLD_", "33554432").env("MALLOC_TRIM_THRESHOLD_", "67108864");
        let output = process.output().expect("the process starts");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{test} {step}: {stdout}");
        let result = stdout.lines().find_map(|line| serde_json::from_str(line).ok());
        result.unwrap_or_else(|| panic!("{test} {step}: no result in the output: {stdout}"))
    }
}

/// Extracts a chain at a rate limit, prints a table, and checks rows, memory and requests.
fn extract_at_limit(name: &str, load: Load) {
    let expected = ExpectedRows::of(&load.recording);
    let days = load.recording.blocks.len() as u64 - 1;
    let per_second = f64::from(load.per_second) * load.keys as f64;
    let extracted: Extracted = SimulatedServer::new(load).run_child("child_process_extraction", "");
    let (positions, events) = (expected.positions / (days + 1), expected.events / days);
    println!(
        "\n{name}, {per_second} requests per second, {positions} positions and {events} events per day, {days} days:\n"
    );
    println!(
        "| source | requests | rejected and retried | seconds | at the limit | share of it |\n|---|---|---|---|---|---|"
    );
    for (source, load) in [("The Graph", &extracted.graph), ("Transpose", &extracted.transpose)] {
        let (requests, retries, seconds) = (load.traffic.requests, load.retries(), load.seconds);
        let (ideal, share) = (requests as f64 / per_second, 100.0 * load.share(per_second));
        println!("| {source} | {requests} | {retries} | {seconds:.1} | {ideal:.1} | {share:.1} % |");
    }
    let rows = (extracted.positions + extracted.events) as f64;
    let (memory, per_million) = (extracted.memory >> 20, extracted.cpu / rows * 1e6);
    println!("\n{memory} MB of memory at most, {per_million:.1} s of CPU time per million rows\n");
    assert_eq!((extracted.positions, extracted.events), (expected.positions, expected.events), "rows");
    assert!(extracted.memory < MEMORY_LIMIT, "{} MB", extracted.memory >> 20);
    for load in [&extracted.graph, &extracted.transpose] {
        assert!(load.share(per_second) <= 1.0, "{load:?}");
        // The server renders responses on the CPUs of the client. If both are busy for a moment, requests arrive together and
        // a few exceed the limit. A client without rate limiting exceeds it in every second.
        let allowed = if is_long() { load.traffic.requests / 100 } else { load.traffic.requests / 10 };
        assert!(load.retries() <= allowed, "the rate limit was exceeded: {load:?}");
    }
    if is_long() {
        assert!(extracted.graph.share(per_second) >= MIN_SHARE, "{:?}", extracted.graph);
    }
}

fn is_long() -> bool {
    std::env::var_os("DEFI_LOAD").is_some()
}

/// Returns a sample chain. It has about one position and three quarters of an event per wallet and day.
fn sample(days: u32, seed: u64) -> Recording {
    let wallets = if is_long() { 165_000 } else { 2_000 };
    chain(&SampleOptions { wallets, days, seed, ..SampleOptions::default() }, Schema::Messari).expect("a chain")
}

#[test]
fn extraction_uses_the_rate_limit_in_bounded_memory() {
    let load = Load {
        recording: sample(if is_long() { 10 } else { 3 }, 1),
        per_second: 30,
        keys: 1,
        latency: Duration::from_millis(if is_long() { 100 } else { 20 }),
        rows_per_page: if is_long() { 1_000 } else { 100 },
    };
    extract_at_limit("one key", load);
}

#[test]
fn several_keys_multiply_the_rate_limit() {
    let load = Load {
        recording: sample(if is_long() { 10 } else { 3 }, 2),
        per_second: 10,
        keys: 3,
        latency: Duration::from_millis(if is_long() { 100 } else { 20 }),
        rows_per_page: if is_long() { 1_000 } else { 100 },
    };
    extract_at_limit("three keys", load);
}

/// A function's memory depends on the rows of a day, and is enough for a day of ten times the usual size.
#[test]
fn day_of_ten_times_the_usual_size_fits_function_memory() {
    const TIMES: u8 = 10;
    let mut recording = sample(3, 3);
    let usual = ExpectedRows::of(&recording);
    multiply(&mut recording, 2, TIMES);
    let expected = ExpectedRows::of(&recording);
    assert!(expected.positions > usual.positions && expected.events > usual.events);
    let load = Load { recording, per_second: 10_000, keys: 1, latency: Duration::ZERO, rows_per_page: 10_000 };
    let server = SimulatedServer::new(load);
    println!(
        "\na day of {TIMES} times the usual size:\n\n| step | rows | peak MB | MB of the function |\n|---|---|---|---|"
    );
    for (step, function_memory) in FUNCTION_MEMORY {
        let (rows, memory): (u64, u64) = server.run_child("child_process_function", step.name());
        println!("| {step} | {rows} | {} | {function_memory} |", memory >> 20);
        assert!(rows > 0, "{step} read no rows");
        assert!(memory >> 20 < function_memory, "{step}: {} MB", memory >> 20);
        if step == extract_account_positions::STEP {
            assert_eq!(rows, expected.positions);
        }
    }
}

/// Multiplies the snapshot and the events of one day of a chain. Each copy has other accounts.
fn multiply(recording: &mut Recording, day: usize, times: u8) {
    let (block, next) = (recording.blocks[day], recording.blocks[day + 1]);
    for by_block in recording.positions.values_mut() {
        let rows = by_block.get_mut(&block.number).expect("a snapshot");
        let copies = (1..times).flat_map(|copy| {
            rows.iter().map(move |row| {
                let mut row = Value::clone(row);
                row["id"] = for_other_account(&row["id"], copy);
                row["account"]["id"] = for_other_account(&row["account"]["id"], copy);
                Arc::new(row)
            })
        });
        let copies: Vec<_> = copies.collect();
        rows.extend(copies);
    }
    let is_of_day = |event: &&Map<String, Value>| {
        (block.number..next.number).contains(&event["block_number"].as_u64().unwrap_or_default())
    };
    let of_day: Vec<_> = recording.events.iter().filter(is_of_day).cloned().collect();
    for copy in 1..times {
        recording.events.extend(of_day.iter().cloned().map(|mut event| {
            for column in ["transaction_hash", "account_address", "sender_address"] {
                event[column] = for_other_account(&event[column], copy);
            }
            event
        }));
    }
}

/// Replaces the address at the start of a string by that of another account, one for each copy.
fn for_other_account(text: &Value, copy: u8) -> Value {
    let Some(text) = text.as_str() else { return text.clone() };
    let first = u8::from_str_radix(&text[2..4], 16).expect("hex digits");
    json!(format!("0x{:02x}{}", first.wrapping_add(25 * copy), &text[4..]))
}
