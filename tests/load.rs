//! A chain of a busy day's size is extracted at the rate that the sources allow: all of it, without a request too many, and in
//! little memory. The extraction is a process of its own, so that its memory is its own.
//!
//! `DEFI_LOAD` chooses the long form: 200,000 positions and 50,000 events a day, and a day of ten times as many. Its share of the
//! rate is an assertion there only, where nothing else keeps the machine busy.

#![cfg(target_os = "linux")]
// clippy.toml allows these in tests, but doesn't see that all of this is one.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use defi_local::recording::Recording;
use defi_local::sample::{SampleOptions, chain};
use defi_local::server::{Server, ServerOptions};
use defi_local::source::deployments;
use defi_shared::catalog;
use defi_shared::domain::{Category, Day};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::sources::{Rate, Secret, TrafficReport};
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::testing::{AAVE, COMPOUND, Lab, config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};

/// What an extraction may hold of days of the usual size, in bytes: all its functions in one process, days side by side.
const MEMORY: u64 = 300 << 20;

/// What the functions have of it that meet a day's rows, in their order: `infra/steps.tf`, in MB.
const OF_FUNCTIONS: [(&str, u64); 10] = [
    (extract_daily_blocks::STEP, 1024),
    (extract_events::STEP, 1024),
    (extract_market_data::STEP, 1024),
    (extract_account_positions::STEP, 1769),
    (stage_events::STEP, 1769),
    (stage_market_data::STEP, 1024),
    (stage_account_positions::STEP, 3008),
    (link_wallets::STEP, 1769),
    (price_events::STEP, 1769),
    (value_positions::STEP, 3008),
];

/// The share of the allowed rate that is to be used.
const SHARE: f64 = 0.95;

/// A chain, and how its servers answer.
struct Load {
    recording: Recording,
    /// Of each key.
    per_second: u32,
    keys: usize,
    latency: Duration,
    /// Rows in a page of events.
    rows_per_page: usize,
}

/// What the extracting process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    url: String,
    lake: PathBuf,
    /// Of one function.
    step: String,
    as_of: Day,
    per_second: u32,
    keys: usize,
    rows_per_page: usize,
}

/// What it says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Extracted {
    positions: u64,
    events: u64,
    graph: Asked,
    transpose: Asked,
    /// The most memory that it held, in bytes.
    memory: u64,
    /// The processor time that it took, in seconds.
    cpu: f64,
}

/// What one source was asked.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    traffic: TrafficReport,
    seconds: f64,
}

impl Asked {
    fn retries(&self) -> u64 {
        self.traffic.retries.values().sum()
    }

    /// How much of the rate was used.
    fn share(&self, per_second: f64) -> f64 {
        self.traffic.requests as f64 / self.seconds / per_second
    }
}

const TASK: &str = "DEFI_TEST_EXTRACTION";

/// The process that a test starts to extract at a limit. Its last line says what it did.
#[test]
#[ignore = "started by another test, with what it is to do"]
fn an_extraction() {
    work(async |_, context| extract(&context).await);
}

/// The same, to do what one function would have to do.
#[test]
#[ignore = "started by another test, with what it is to do"]
fn one_function() {
    work(async |task, context| call(&task.step, context).await);
}

fn work<T: Serialize>(work: impl AsyncFnOnce(&Task, Context) -> defi_shared::Result<T>) {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Task = serde_json::from_str(&task).expect("a task");
    let lake = Lake::new(FolderStore::new(&task.lake));
    let lab = Lab::new(&[AAVE, COMPOUND], task.as_of).expect("a context");
    let done = Runtime::new().expect("threads").block_on(async {
        let (graph, transpose) = (graph(&task)?, transpose(&task)?);
        let context =
            Context { registry: catalog::in_lake(&lake, "dev"), lake, graph, transpose, ..lab.context.clone() };
        work(&task, context).await
    });
    println!("\n{}", serde_json::to_string(&done.expect("it succeeds")).expect("JSON"));
}

fn keys(task: &Task) -> Vec<Secret> {
    (0..task.keys).map(|number| Secret::new(format!("key-{number}"))).collect()
}

fn graph(task: &Task) -> defi_shared::Result<Arc<GraphClient>> {
    let rate = Rate::per_second(task.per_second);
    Ok(Arc::new(GraphClient::new(GraphSettings { rate, ..GraphSettings::new(&task.url, keys(task)) })?))
}

fn transpose(task: &Task) -> defi_shared::Result<Arc<TransposeClient>> {
    let (rate, rows_per_page) = (Rate::per_second(task.per_second), task.rows_per_page);
    let settings = TransposeSettings::new(&task.url, keys(task));
    // The rate of the live API is a sixth of this one, and wants no more than four.
    let settings = TransposeSettings { rate, rows_per_page, concurrency: 8, ..settings };
    Ok(Arc::new(TransposeClient::new(settings)?))
}

/// Extracts from both sources side by side, as a run does.
async fn extract(context: &Context) -> defi_shared::Result<Extracted> {
    let context = || context.clone();
    extract_daily_blocks::handle(context(), UnitInput::default()).await?;
    let begun = Instant::now();
    let seconds = || begun.elapsed().as_secs_f64();
    let events = async { Ok((extract_events::handle(context(), UnitInput::default()).await?, seconds())) };
    let snapshots = async {
        let markets = extract_market_data::handle(context(), UnitInput::default());
        let positions = extract_account_positions::handle(context(), UnitInput::default());
        let (mut markets, positions) = tokio::try_join!(markets, positions)?;
        markets.traffic += &positions.traffic;
        Ok((markets.traffic, positions.rows_out, seconds()))
    };
    let ((events, events_took), (graph, positions, graph_took)) = tokio::try_join!(events, snapshots)?;
    Ok(Extracted {
        positions,
        events: events.rows_out,
        graph: Asked { traffic: graph, seconds: graph_took },
        transpose: Asked { traffic: events.traffic, seconds: events_took },
        memory: peak_memory(),
        cpu: cpu_seconds(),
    })
}

/// Calls one function, or those of events once a category, as the state machine does; how many rows it read and how much memory
/// the process held at most, in bytes.
async fn call(step: &str, context: Context) -> defi_shared::Result<(u64, u64)> {
    let by_category = Category::ALL.map(|category| UnitInput { events: Some(vec![category]), ..UnitInput::default() });
    let mut report = Report::default();
    match step {
        extract_daily_blocks::STEP => report = extract_daily_blocks::handle(context, UnitInput::default()).await?,
        extract_market_data::STEP => report = extract_market_data::handle(context, UnitInput::default()).await?,
        extract_account_positions::STEP => {
            report = extract_account_positions::handle(context, UnitInput::default()).await?;
        }
        stage_market_data::STEP => report = stage_market_data::handle(context, UnitInput::default()).await?,
        stage_account_positions::STEP => {
            report = stage_account_positions::handle(context, UnitInput::default()).await?;
        }
        link_wallets::STEP => report = link_wallets::handle(context, UnitInput::default()).await?,
        value_positions::STEP => report = value_positions::handle(context, UnitInput::default()).await?,
        of_events => {
            for input in by_category {
                report.merge(match of_events {
                    extract_events::STEP => extract_events::handle(context.clone(), input).await?,
                    stage_events::STEP => stage_events::handle(context.clone(), input).await?,
                    price_events::STEP => price_events::handle(context.clone(), input).await?,
                    _ => panic!("{of_events} is not called here"),
                });
            }
        }
    }
    Ok((report.rows_in, peak_memory()))
}

fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// User and system time of this process: the 14th and 15th field of its state, in hundredths of a second.
fn cpu_seconds() -> f64 {
    let state = fs::read_to_string("/proc/self/stat").expect("the state of this process");
    let (_, fields) = state.rsplit_once(')').expect("the end of its name");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<f64>().expect("a time")).sum::<f64>() / 100.0
}

/// Rows without exact repeats: what the raw layer is to hold of a recording.
struct Wanted {
    positions: u64,
    events: u64,
}

impl Wanted {
    fn of(recording: &Recording) -> Wanted {
        let snapshots = recording.positions.values().flat_map(|by_block| by_block.values());
        let open = |row: &&defi_local::recording::Row| row["balance"] != "0";
        let positions = snapshots.map(|rows| rows.iter().filter(open).count()).sum::<usize>();
        // Of the last day there is only the beginning, which is not final.
        let is_final = |event: &&Map<String, Value>| event["timestamp"].as_str() < Some(recording.last_day.as_str());
        let events = recording.events.iter().filter(is_final);
        let mut events: Vec<_> = events.map(|event| json!(event).to_string()).collect();
        events.sort_unstable();
        events.dedup();
        Wanted { positions: positions as u64, events: events.len() as u64 }
    }
}

/// A chain that is served, for other processes to work on.
struct Served {
    /// Ends with this value.
    _runtime: Runtime,
    lake: TempDir,
    task: Task,
}

impl Served {
    fn new(load: Load) -> Served {
        // More threads than processors: a request is not to wait for the rendering of another's answer before it is counted.
        let runtime = Builder::new_multi_thread().worker_threads(8).enable_all().build().expect("threads");
        let options = ServerOptions {
            deployments: deployments(&config(&[AAVE, COMPOUND], 1).expect("a configuration")),
            latency: load.latency,
            requests_per_second: Some(load.per_second),
            ..ServerOptions::default()
        };
        let as_of = load.recording.last_day.parse().expect("a day");
        let server = runtime.block_on(Server::start(Arc::new(load.recording), options)).expect("a server");
        let lake = tempdir().expect("a folder");
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
            let _served = server;
            std::future::pending::<()>().await;
        });
        Served { _runtime: runtime, lake, task }
    }

    /// Lets another process work, and returns what it says.
    fn work_on<T: DeserializeOwned>(&self, work: &str, step: &str) -> T {
        assert!(self.lake.path().exists());
        let task = Task { step: step.to_owned(), ..self.task.clone() };
        let mut process = Command::new(std::env::current_exe().expect("this test"));
        process.args(["--exact", work, "--ignored", "--nocapture"]);
        process.env(TASK, serde_json::to_string(&task).expect("JSON")).stderr(Stdio::inherit());
        // As Terraform gives it to the functions.
        process.env("MALLOC_ARENA_MAX", "2");
        let output = process.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{work} {step}: {said}");
        let done = said.lines().find_map(|line| serde_json::from_str(line).ok());
        done.unwrap_or_else(|| panic!("{work} {step}: nothing was said: {said}"))
    }
}

/// Extracts a chain at a limit, and holds what came of it to what there is.
fn extract_at_limit(name: &str, load: Load) {
    let wanted = Wanted::of(&load.recording);
    let days = load.recording.blocks.len() as u64 - 1;
    let per_second = f64::from(load.per_second) * load.keys as f64;
    let extracted: Extracted = Served::new(load).work_on("an_extraction", "");
    let (positions, events) = (wanted.positions / (days + 1), wanted.events / days);
    println!(
        "\n{name}, {per_second} requests a second, {positions} positions and {events} events a day, {days} days:\n"
    );
    println!(
        "| source | requests | refused and asked again | seconds | at the limit | share of it |\n|---|---|---|---|---|---|"
    );
    for (source, asked) in [("The Graph", &extracted.graph), ("Transpose", &extracted.transpose)] {
        let (requests, retries, seconds) = (asked.traffic.requests, asked.retries(), asked.seconds);
        let (ideal, share) = (requests as f64 / per_second, 100.0 * asked.share(per_second));
        println!("| {source} | {requests} | {retries} | {seconds:.1} | {ideal:.1} | {share:.1} % |");
    }
    let rows = (extracted.positions + extracted.events) as f64;
    let (memory, per_million) = (extracted.memory >> 20, extracted.cpu / rows * 1e6);
    println!("\n{memory} MB of memory at most, {per_million:.1} s of a processor for a million rows\n");
    assert_eq!((extracted.positions, extracted.events), (wanted.positions, wanted.events), "rows");
    assert!(extracted.memory < MEMORY, "{} MB", extracted.memory >> 20);
    for asked in [&extracted.graph, &extracted.transpose] {
        assert!(asked.share(per_second) <= 1.0, "{asked:?}");
        // Where a machine stands still for a moment requests arrive together; a client without pace breaks every second.
        let bearable = if is_long() { asked.traffic.requests / 500 } else { asked.traffic.requests / 10 };
        assert!(asked.retries() <= bearable, "the limit was broken: {asked:?}");
    }
    if is_long() {
        assert!(extracted.graph.share(per_second) >= SHARE, "{:?}", extracted.graph);
    }
}

fn is_long() -> bool {
    std::env::var_os("DEFI_LOAD").is_some()
}

/// About one position and three quarters of an event a day for each wallet.
fn sample(days: u32, seed: u64) -> Recording {
    let wallets = if is_long() { 165_000 } else { 2_000 };
    chain(&SampleOptions { wallets, days, seed }).expect("a chain")
}

#[test]
fn a_limit_is_used_and_not_broken_and_memory_is_bounded() {
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
fn several_keys_share_the_load() {
    let load = Load {
        recording: sample(if is_long() { 10 } else { 3 }, 2),
        per_second: 10,
        keys: 3,
        latency: Duration::from_millis(if is_long() { 100 } else { 20 }),
        rows_per_page: if is_long() { 1_000 } else { 100 },
    };
    extract_at_limit("three keys", load);
}

/// Memory follows the rows of a day, and leaves room for one of ten times the usual size.
#[test]
fn a_day_of_ten_times_the_usual_size_fits_into_the_functions() {
    const TIMES: u8 = 10;
    let mut recording = sample(3, 3);
    let usual = Wanted::of(&recording);
    multiply(&mut recording, 2, TIMES);
    let wanted = Wanted::of(&recording);
    assert!(wanted.positions > usual.positions && wanted.events > usual.events);
    let load = Load { recording, per_second: 10_000, keys: 1, latency: Duration::ZERO, rows_per_page: 10_000 };
    let served = Served::new(load);
    println!(
        "\na day of {TIMES} times the usual size:\n\n| step | rows | MB at most | of the function |\n|---|---|---|---|"
    );
    for (step, of_function) in OF_FUNCTIONS {
        let (rows, memory): (u64, u64) = served.work_on("one_function", step);
        println!("| {step} | {rows} | {} | {of_function} |", memory >> 20);
        assert!(rows > 0, "{step} had nothing to do");
        assert!(memory >> 20 < of_function, "{step}: {} MB", memory >> 20);
        if step == extract_account_positions::STEP {
            assert_eq!(rows, wanted.positions);
        }
    }
}

/// Makes one day of a chain so many times as large: its snapshot and its events come so often, each time of other accounts.
fn multiply(recording: &mut Recording, day: usize, times: u8) {
    let (block, next) = (recording.blocks[day], recording.blocks[day + 1]);
    for by_block in recording.positions.values_mut() {
        let rows = by_block.get_mut(&block.number).expect("a snapshot");
        let copies = (1..times).flat_map(|copy| {
            rows.iter().map(move |row| {
                let mut row = Value::clone(row);
                row["id"] = of_other(&row["id"], copy);
                row["account"]["id"] = of_other(&row["account"]["id"], copy);
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
                event[column] = of_other(&event[column], copy);
            }
            event
        }));
    }
}

/// An address, or what begins with one, of another account.
fn of_other(text: &Value, copy: u8) -> Value {
    let Some(text) = text.as_str() else { return text.clone() };
    let first = u8::from_str_radix(&text[2..4], 16).expect("hex digits");
    json!(format!("0x{:02x}{}", first.wrapping_add(25 * copy), &text[4..]))
}
