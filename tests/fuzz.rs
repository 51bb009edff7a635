//! Fuzz tests of all parsers of external input. A parser accepts its input or returns an error that describes the
//! problem. It does not panic, hang or allocate excessive memory. There is one test per parser. `DEFI_FUZZ_CASES` is
//! the total number of cases of all parsers, `DEFI_FUZZ_SEED` the seed.

// clippy.toml allows these in test functions, but not in the helper functions of tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support {
    pub mod mutation;
    pub mod objects;
}

use std::alloc::System;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cap::Cap;
use defi_shared::config::Config;
use defi_shared::domain::{Address, BaseUnits, Day, TxHash, parse_time};
use defi_shared::lake::WorkUnit;
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::step::{RunId, UnitInput, context_from, parse};
use defi_shared::tables::TABLES;
use defi_shared::{Error, Kind, Result};
use defi_simulator::recording::Recording;
use proptest::prelude::*;
use proptest::test_runner::{Config as Fuzzing, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::mutation::{mutated_bytes, mutated_json, mutated_json_text, mutated_string};
use support::objects;

/// Memory limit of the process, more than any case needs: an allocation above it aborts the test. The page headers of a
/// damaged file can state sizes of up to 512 MiB, which the decoder allocates (but does not touch) before it checks the
/// page.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 3 << 29);

/// The default of `DEFI_FUZZ_CASES`.
const DEFAULT_CASES: u32 = 30_000;

/// A case that takes longer than this is considered to hang.
const CASE_TIMEOUT: Duration = Duration::from_secs(20);

type Outcome = Result<(), TestCaseError>;

/// Runs a parser's share (in thousandths) of all cases. Equal seeds give equal cases.
fn fuzz<S: Strategy>(parser: &str, per_mille: u32, strategy: &S, property: impl Fn(S::Value) -> Outcome) {
    let cases =
        std::env::var("DEFI_FUZZ_CASES").map_or(DEFAULT_CASES, |cases| cases.parse().expect("a number of cases"));
    let cases = cases / 1000 * per_mille;
    let seed = std::env::var("DEFI_FUZZ_SEED").map_or(0, |seed| seed.parse().expect("a seed"));
    let settings = Fuzzing { cases, failure_persistence: None, ..Fuzzing::default() };
    let mut runner = TestRunner::new_with_rng(settings, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let start = Instant::now();
    let outcome = runner.run(strategy, |case| {
        let start = Instant::now();
        property(case)?;
        prop_assert!(start.elapsed() < CASE_TIMEOUT, "the case took {:?}", start.elapsed());
        Ok(())
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("| fuzzed: {parser} | {cases} |\n{parser}: {seconds:.1} s");
    if let Err(failure) = outcome {
        panic!("{parser}: {failure}");
    }
}

/// Checks that an error has one of the kinds, is one line, and does not repeat long input.
fn check_error<T>(outcome: Result<T>, kinds: &[Kind]) -> Outcome {
    if let Err(error) = outcome {
        prop_assert!(kinds.contains(&error.kind()), "{error}");
        let text = error.to_string();
        prop_assert!(text.lines().count() == 1 && text.len() < 4_000, "{text}");
    }
    Ok(())
}

/// The error kinds that an invalid response of a source may cause.
const RESPONSE_ERRORS: [Kind; 9] = [
    Kind::CorruptData,
    Kind::SourceUnavailable,
    Kind::SourceRejected,
    Kind::Throttled,
    Kind::NotReady,
    Kind::HistoryPruned,
    Kind::QuotaExceeded,
    Kind::BadCredentials,
    Kind::BadInput,
];

static GRAPH: LazyLock<GraphClient> =
    LazyLock::new(|| GraphClient::new(GraphSettings::new("http://127.0.0.1:9", vec![])).expect("a client"));

static TRANSPOSE: LazyLock<TransposeClient> =
    LazyLock::new(|| TransposeClient::new(TransposeSettings::new("http://127.0.0.1:9", vec![])).expect("a client"));

const ADDRESS: &str = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";

/// Returns responses of The Graph with rows, with a head, and with errors.
fn graph_responses(rows: &[(&str, Value)]) -> Vec<Value> {
    let block = json!({"number": 16308190, "timestamp": 1672531211, "hash": "0xab"});
    let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
    let responses = rows.iter().map(|(entity, row)| json!({"data": {"_meta": meta, (*entity): [row, row]}}));
    let head = json!({"data": {"_meta": meta}});
    let errors = ["Store error: database unavailable", "block not found", "payment required"];
    let errors = errors.map(|message| json!({"data": null, "errors": [{"message": message, "path": ["_meta"]}]}));
    responses.chain([head]).chain(errors).collect()
}

#[test]
fn parses_graph_heads() {
    fuzz("heads of The Graph", 50, &mutated_json_text(graph_responses(&[])), |body| {
        check_error(GRAPH.parse_head(&body), &RESPONSE_ERRORS)
    });
}

#[test]
fn parses_graph_markets() {
    let token = json!({"id": ADDRESS, "symbol": "WETH", "decimals": 18});
    let row = json!({"id": ADDRESS, "name": "Aave WETH", "maximumLTV": "82.5", "liquidationThreshold": "86",
        "inputTokenPriceUSD": "1200.5", "inputToken": token});
    let bodies = mutated_json_text(graph_responses(&[("markets", row)]));
    fuzz("markets of The Graph", 100, &bodies, |body| check_error(GRAPH.parse_markets(&body), &RESPONSE_ERRORS));
}

#[test]
fn parses_graph_positions() {
    let row = json!({"id": format!("{ADDRESS}-{ADDRESS}-LENDER-0"), "balance": "17", "side": "LENDER", "isCollateral": true,
        "market": {"id": ADDRESS, "name": "USDC"}, "account": {"id": ADDRESS}});
    let bodies = mutated_json_text(graph_responses(&[("positions", row)]));
    fuzz("positions of The Graph", 100, &bodies, |body| check_error(GRAPH.parse_positions(&body), &RESPONSE_ERRORS));
}

/// Returns responses of Transpose with rows, complete and truncated, and with an error.
fn transpose_responses(row: &Value) -> Vec<Value> {
    let body = |truncated| json!({"status": "success", "stats": {"truncated": truncated}, "results": [row, row, row]});
    vec![body(false), body(true), json!({"status": "error", "message": "Rate limit exceeded"})]
}

#[test]
fn parses_transpose_events() {
    let row = json!({"category": "borrow", "block_number": 16308190, "log_index": 7, "timestamp": "2023-01-01T00:00:11Z",
        "transaction_hash": "0xab", "protocol_name": "aave", "contract_version": "v2", "sender_address": ADDRESS,
        "quantity": "1500000", "metadata": {"a": [1, 2.5]}});
    let bodies = mutated_json_text(transpose_responses(&row));
    fuzz("events of Transpose", 100, &bodies, |body| check_error(TRANSPOSE.parse_events(&body), &RESPONSE_ERRORS));
}

#[test]
fn parses_transpose_blocks() {
    let row = json!({"block_number": 16308190, "timestamp": "2023-01-01T00:00:11Z", "block_hash": "0xab"});
    let bodies = mutated_json_text(transpose_responses(&row));
    fuzz("blocks of Transpose", 70, &bodies, |body| check_error(TRANSPOSE.parse_blocks(&body), &RESPONSE_ERRORS));
}

/// Checks that an input is rejected, or unchanged after serialization and parsing.
fn check_round_trip<I: DeserializeOwned + Serialize + PartialEq + Debug>(input: &Value) -> Outcome {
    let parsed: Result<I> = parse(input.clone());
    if let Ok(parsed) = &parsed {
        let parsed_again: I = parse(serde_json::to_value(parsed).expect("JSON")).expect("a serialized input is valid");
        prop_assert_eq!(parsed, &parsed_again);
    }
    check_error(parsed, &[Kind::BadInput])
}

#[test]
fn parses_step_inputs() {
    let day = json!("2023-01-02");
    let step = json!({"as_of": day, "from": day, "days": [day, "2023-01-03"], "force": true, "retry_lost": true, "rebuild_lost": true,
        "verify": day, "resume": {"count": 1, "first": [day], "list": "runs/x/reports/y/remaining/z.json", "idle_calls": 1},
        "run_id": "2023-01-02-0a1b2c", "events": ["borrow"], "protocols": ["aave-v2-eth"]});
    let current = json!({"as_of": day, "block": 17, "addresses": [ADDRESS], "run_id": "2023-01-02-0a1b2c"});
    let run = json!({"as_of": day, "from": day, "force": false, "retry_lost": true, "rebuild_lost": true, "after": "runs/2023-01-02-0a1b2c/plan.json",
        "allow_concurrent": true, "execution": "arn"});
    let features = json!({"as_of": day, "shards": [0, 3], "run_id": "2023-01-02-0a1b2c"});
    fuzz("inputs of steps", 120, &mutated_json(vec![step, current, run, features, json!({}), json!(null)]), |input| {
        check_round_trip::<UnitInput>(&input)?;
        check_round_trip::<plan_run::Input>(&input)?;
        check_round_trip::<extract_current_positions::Input>(&input)?;
        check_round_trip::<build_features::Input>(&input)?;
        check_round_trip::<check_features::Input>(&input)?;
        check_round_trip::<publish_features::Input>(&input)?;
        check_round_trip::<report_run::Input>(&input)?;
        check_round_trip::<get_features::Input>(&input)
    });
}

#[test]
fn parses_configurations() {
    let built_in = include_str!("../shared/config.toml").as_bytes().to_vec();
    fuzz("configurations", 20, &mutated_bytes(vec![built_in]), |text| {
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        let config = Config::parse(&text);
        if let Ok(config) = &config {
            prop_assert!(config.shards > 0 && !config.protocols.is_empty());
        }
        check_error(config, &[Kind::BadInput])
    });
}

#[test]
fn parses_environment_variables() {
    const URLS: &[&str] = &["https://gateway.thegraph.com/api", "http://127.0.0.1:80/x", ""];
    const LAKES: &[&str] = &["/tmp/lake", "s3://bucket", "s3://", ""];
    const WORDS: &[&str] = &["dev", "prod", "1", "4", ""];
    const KEYS: &[&str] = &["", ",hunter2", "1"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let variables = (
        mutated_string(URLS),
        mutated_string(LAKES),
        mutated_string(WORDS),
        mutated_string(WORDS),
        mutated_string(KEYS),
    );
    fuzz("environments", 1, &variables, |(url, lake, env, share, key)| {
        let key = format!("hunter2{key}");
        let values = BTreeMap::from([
            ("GRAPH_URL", url.as_str()),
            ("LAKE", &lake),
            ("DEFI_ENV", &env),
            ("SHARE_OF_SOURCE", &share),
            ("GRAPH_API_KEY", &key),
        ]);
        let context = runtime.block_on(context_from(&|name| values.get(name).map(|value| (*value).to_owned())));
        if let Err(error) = &context {
            prop_assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        }
        check_error(context, &[Kind::BadInput, Kind::BadCredentials])
    });
}

#[test]
fn parses_names_and_numbers() {
    const TEXTS: &[&str] = &[
        "2023-01-02",
        "2023-01-02-0a1b2c",
        "2023-01-02T00:00:11.250Z",
        "2023-01-02 02:00:11+02:00",
        "1672531211",
        ADDRESS,
        "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "99999999999999999999999999999999999999",
        "-1",
        "year=2023/month=01/2023-01-02.parquet",
        "year=2023/month=01/2023-01-02.aave-v2-eth.parquet",
        "as_of=2023-01-02/3.parquet",
        "aave-v2-eth.parquet",
    ];
    fuzz("names and numbers", 350, &mutated_string(TEXTS), |text| {
        if let Ok(day) = text.parse::<Day>() {
            prop_assert_eq!((day.to_string(), day.next().previous()), (text.clone(), day));
        }
        check_error(text.parse::<Day>(), &[Kind::BadInput])?;
        if let Ok(run) = text.parse::<RunId>() {
            prop_assert!(!run.key("plan.json").contains(".."));
        }
        if let Some(time) = parse_time(&text).filter(|time| time.as_second() >= 0) {
            prop_assert_eq!(parse_time(&time.to_string()), Some(time));
        }
        let lower = text.to_ascii_lowercase();
        prop_assert!(Address::parse(&text).is_none_or(|address| address.to_string() == lower));
        prop_assert!(TxHash::parse(&text).is_none_or(|hash| hash.to_string() == lower));
        if let Ok(amount) = BaseUnits::parse(&text) {
            prop_assert!((0..10i128.pow(38)).contains(&amount.0) && amount.to_tokens(77).is_finite());
        }
        for table in TABLES {
            if let Some(unit) = WorkUnit::from_path(table, &text) {
                prop_assert_eq!(unit.key(table), format!("{}/{text}", table.prefix()));
            }
        }
        Ok(())
    });
}

#[test]
fn parses_recordings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = br#"{"name":"tiny","protocols":["aave-v2-eth"],"first_day":"2023-01-01","last_day":"2023-01-02"}"#;
    let files = [
        ("manifest.json", manifest.to_vec()),
        (
            "blocks.jsonl",
            b"{\"block_number\":10,\"timestamp\":1672531211}\n{\"block_number\":20,\"timestamp\":1672617600}\n"
                .to_vec(),
        ),
        (
            "lending_events.jsonl",
            b"{\"category\":\"borrow\",\"quantity\":1.50,\"timestamp\":\"2023-01-01\"}\n".to_vec(),
        ),
        ("markets.aave-v2-eth.jsonl", b"{\"block_number\":10,\"market\":{\"id\":\"0xaa\"}}\n".to_vec()),
        ("positions.aave-v2-eth.jsonl", b"{\"block_number\":20,\"position\":{\"id\":7}}\n\n".to_vec()),
    ];
    for (name, text) in &files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let mutated = (0..files.len()).prop_flat_map(|file| (Just(file), mutated_bytes(vec![files[file].1.clone()])));
    fuzz("recordings", 15, &mutated, |(file, text)| {
        let path = folder.path().join(files[file].0);
        fs::write(&path, text).expect("a file");
        let recording = Recording::load(folder.path());
        fs::write(&path, &files[file].1).expect("a file");
        if let Err(error) = &recording {
            // A mutated manifest can name a protocol that has no files.
            let folder = folder.path().display().to_string();
            prop_assert!(error.to_string().contains(&folder), "{error}");
        }
        check_error(recording, &[Kind::CorruptData, Kind::BadInput])
    });
}

#[test]
fn parses_parquet_objects() {
    let files = objects::parquet_files();
    let readers = objects::READERS;
    let cases = (mutated_bytes(files), 0..readers.len());
    fuzz("Parquet objects", 60, &cases, |(file, reader)| check_object_error((readers[reader])(file.into())));
}

#[test]
fn parses_json_objects() {
    let plan = json!({"extract-daily-blocks": ["2023-01-02"], "extract-events": ["2023-01-02 borrow"],
        "extract-account-positions": ["2023-01-02 aave-v2-eth"], "extract-current-positions": ["aave-v2-eth"],
        "link-wallets": [], "build-features": ["2023-01-03"]});
    let column = json!({"name": "a", "type": "bigint", "comment": "b"});
    let table = json!({"description": "a", "columns": [column], "partition_columns": ["year"], "location": "raw",
        "parameters": {"as_of": "2023-01-02"}});
    let partition = json!({"values": ["2023", "01"], "location": "raw"});
    fuzz("JSON objects", 10, &mutated_json_text(vec![plan, table, partition]), |text| {
        for outcome in objects::read_json(&text.into()) {
            check_object_error(outcome)?;
        }
        Ok(())
    });
}

#[test]
fn restores_fold_states() {
    fuzz("states of the fold", 4, &objects::state_rows(), |rows| check_object_error(objects::resume_fold(rows)));
}

/// Checks that an object is accepted, or rejected with a `CorruptData` error that contains its key.
fn check_object_error(outcome: Result<()>) -> Outcome {
    let is_named = |error: &Error| error.to_string().contains(objects::KEY);
    prop_assert!(outcome.as_ref().err().is_none_or(is_named), "{outcome:?}");
    check_error(outcome, &[Kind::CorruptData])
}
