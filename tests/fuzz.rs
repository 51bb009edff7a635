//! Whatever comes in from outside: it is read, or refused with an error that says what is wrong, and nothing panics, hangs or
//! takes memory that it has no use for. Each test is a parser; `DEFI_FUZZ_CASES` is how many cases they are fed in all.

// clippy.toml allows these in tests, but doesn't see that all of this is one.
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
use defi_local::recording::Recording;
use defi_shared::config::Config;
use defi_shared::domain::{Address, BaseUnits, Day, TxHash};
use defi_shared::lake::Unit;
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use defi_shared::step::{RunId, UnitInput, context_of, parse};
use defi_shared::tables::TABLES;
use defi_shared::{Error, Kind, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config as Fuzzing, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::mutation::{near, near_json, near_json_text, near_text};
use support::objects;

/// More than any case needs: who asks for more ends the test. A page of a damaged file may say that it holds up to 2 GiB, which the
/// decoder sets aside (and does not touch) before it looks.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 3 << 30);

/// Cases of all parsers together, where no other number is asked for.
const CASES: u32 = 30_000;

/// A case that takes longer hangs, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(20);

type Outcome = Result<(), TestCaseError>;

/// Feeds a parser its share (in thousandths) of all cases, the same ones every time.
fn fuzz<S: Strategy>(parser: &str, share: u32, strategy: &S, property: impl Fn(S::Value) -> Outcome) {
    let cases = std::env::var("DEFI_FUZZ_CASES").map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    let cases = cases / 1000 * share;
    let seed = std::env::var("DEFI_FUZZ_SEED").map_or(0, |seed| seed.parse().expect("a seed"));
    let settings = Fuzzing { cases, failure_persistence: None, ..Fuzzing::default() };
    let mut runner = TestRunner::new_with_rng(settings, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let begun = Instant::now();
    let outcome = runner.run(strategy, |case| {
        let begun = Instant::now();
        property(case)?;
        prop_assert!(begun.elapsed() < LONGEST, "it took {:?}", begun.elapsed());
        Ok(())
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("| fuzzed: {parser} | {cases} |\n{parser}: {seconds:.1} s");
    if let Err(failure) = outcome {
        panic!("{parser}: {failure}");
    }
}

/// An error is of one of these kinds, on one line, and not a page of what came in.
fn is_clear<T>(outcome: Result<T>, kinds: &[Kind]) -> Outcome {
    if let Err(error) = outcome {
        prop_assert!(kinds.contains(&error.kind()), "{error}");
        let text = error.to_string();
        prop_assert!(text.lines().count() == 1 && text.len() < 4_000, "{text}");
    }
    Ok(())
}

/// What an answer may come to that says the wrong things.
const OF_ANSWERS: [Kind; 9] = [
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

fn of_graph(rows: &[(&str, Value)]) -> Vec<Value> {
    let block = json!({"number": 16308190, "timestamp": 1672531211, "hash": "0xab"});
    let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
    let answers = rows.iter().map(|(entity, row)| json!({"data": {"_meta": meta, (*entity): [row, row]}}));
    let head = json!({"data": {"_meta": meta}});
    let refusals = ["Store error: database unavailable", "block not found", "payment required"];
    let refusals = refusals.map(|message| json!({"data": null, "errors": [{"message": message, "path": ["_meta"]}]}));
    answers.chain([head]).chain(refusals).collect()
}

#[test]
fn heads_of_the_graph() {
    fuzz("heads of The Graph", 50, &near_json_text(of_graph(&[])), |body| {
        is_clear(GRAPH.read_head(&body), &OF_ANSWERS)
    });
}

#[test]
fn markets_of_the_graph() {
    let token = json!({"id": ADDRESS, "symbol": "WETH", "decimals": 18});
    let row = json!({"id": ADDRESS, "name": "Aave WETH", "maximumLTV": "82.5", "liquidationThreshold": "86",
        "inputTokenPriceUSD": "1200.5", "inputToken": token});
    let bodies = near_json_text(of_graph(&[("markets", row)]));
    fuzz("markets of The Graph", 100, &bodies, |body| is_clear(GRAPH.read_markets(&body), &OF_ANSWERS));
}

#[test]
fn positions_of_the_graph() {
    let row = json!({"id": format!("{ADDRESS}-{ADDRESS}-LENDER-0"), "balance": "17", "side": "LENDER", "isCollateral": true,
        "market": {"id": ADDRESS, "name": "USDC"}, "account": {"id": ADDRESS}});
    let bodies = near_json_text(of_graph(&[("positions", row)]));
    fuzz("positions of The Graph", 100, &bodies, |body| is_clear(GRAPH.read_positions(&body), &OF_ANSWERS));
}

fn of_transpose(row: &Value) -> Vec<Value> {
    let body = |truncated| json!({"status": "success", "stats": {"truncated": truncated}, "results": [row, row, row]});
    vec![body(false), body(true), json!({"status": "error", "message": "Rate limit exceeded"})]
}

#[test]
fn events_of_transpose() {
    let row = json!({"category": "borrow", "block_number": 16308190, "log_index": 7, "timestamp": "2023-01-01T00:00:11Z",
        "transaction_hash": "0xab", "protocol_name": "aave", "contract_version": "v2", "sender_address": ADDRESS,
        "quantity": "1500000", "metadata": {"a": [1, 2.5]}});
    let bodies = near_json_text(of_transpose(&row));
    fuzz("events of Transpose", 100, &bodies, |body| is_clear(TRANSPOSE.read_events(&body), &OF_ANSWERS));
}

#[test]
fn blocks_of_transpose() {
    let row = json!({"block_number": 16308190, "timestamp": "2023-01-01T00:00:11Z", "block_hash": "0xab"});
    let bodies = near_json_text(of_transpose(&row));
    fuzz("blocks of Transpose", 70, &bodies, |body| is_clear(TRANSPOSE.read_blocks(&body), &OF_ANSWERS));
}

/// An input is refused, or means the same when it is written and read again.
fn reads<I: DeserializeOwned + Serialize + PartialEq + Debug>(input: &Value) -> Outcome {
    let read: Result<I> = parse(input.clone());
    if let Ok(read) = &read {
        let again: I = parse(serde_json::to_value(read).expect("JSON")).expect("what was written can be read");
        prop_assert_eq!(read, &again);
    }
    is_clear(read, &[Kind::BadInput])
}

#[test]
fn inputs_of_steps() {
    let day = json!("2023-01-02");
    let of_a_step = json!({"as_of": day, "from": day, "days": [day, "2023-01-03"], "resume_at": day, "force": true,
        "run_id": "2023-01-02-0a1b2c", "events": ["borrow"], "protocols": ["aave-v2-eth"]});
    let current = json!({"as_of": day, "block": 17, "addresses": [ADDRESS], "run_id": "2023-01-02-0a1b2c"});
    let run = json!({"as_of": day, "from": day, "force": false, "after": "runs/2023-01-02-0a1b2c/plan.json",
        "allow_concurrent": true, "execution": "arn"});
    let features = json!({"as_of": day, "shards": [0, 3], "run_id": "2023-01-02-0a1b2c"});
    fuzz(
        "inputs of steps",
        120,
        &near_json(vec![of_a_step, current, run, features, json!({}), json!(null)]),
        |input| {
            reads::<UnitInput>(&input)?;
            reads::<UnitInput>(&input)?;
            reads::<UnitInput>(&input)?;
            reads::<plan_run::Input>(&input)?;
            reads::<extract_current_positions::Input>(&input)?;
            reads::<build_features::Input>(&input)?;
            reads::<check_features::Input>(&input)?;
            reads::<publish_features::Input>(&input)?;
            reads::<report_run::Input>(&input)
        },
    );
}

#[test]
fn configurations() {
    let built_in = include_str!("../shared/config.toml").as_bytes().to_vec();
    fuzz("configurations", 20, &near(vec![built_in]), |text| {
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        let config = Config::parse(&text);
        if let Ok(config) = &config {
            prop_assert!(config.shards > 0 && !config.first_days().is_empty());
        }
        is_clear(config, &[Kind::BadInput])
    });
}

#[test]
fn environments() {
    const URLS: &[&str] = &["https://gateway.thegraph.com/api", "http://127.0.0.1:80/x", ""];
    const LAKES: &[&str] = &["/tmp/lake", "s3://bucket", "s3://", ""];
    const WORDS: &[&str] = &["dev", "prod", "1", "4", ""];
    const KEYS: &[&str] = &["", ",hunter2", "1"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
    let variables = (near_text(URLS), near_text(LAKES), near_text(WORDS), near_text(WORDS), near_text(KEYS));
    fuzz("environments", 1, &variables, |(url, lake, env, share, key)| {
        let key = format!("hunter2{key}");
        let values = BTreeMap::from([
            ("GRAPH_URL", url.as_str()),
            ("LAKE", &lake),
            ("DEFI_ENV", &env),
            ("SHARE_OF_SOURCE", &share),
            ("GRAPH_API_KEY", &key),
        ]);
        let context = runtime.block_on(context_of(&|name| values.get(name).map(|value| (*value).to_owned())));
        if let Err(error) = &context {
            prop_assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        }
        is_clear(context, &[Kind::BadInput, Kind::BadCredentials])
    });
}

#[test]
fn names_and_numbers() {
    const TEXTS: &[&str] = &[
        "2023-01-02",
        "2023-01-02-0a1b2c",
        ADDRESS,
        "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "99999999999999999999999999999999999999",
        "-1",
        "year=2023/month=01/2023-01-02.parquet",
        "year=2023/month=01/2023-01-02.aave-v2-eth.parquet",
        "as_of=2023-01-02/3.parquet",
        "aave-v2-eth.parquet",
    ];
    fuzz("names and numbers", 350, &near_text(TEXTS), |text| {
        if let Ok(day) = text.parse::<Day>() {
            prop_assert_eq!((day.to_string(), day.next().previous()), (text.clone(), day));
        }
        is_clear(text.parse::<Day>(), &[Kind::BadInput])?;
        if let Ok(run) = text.parse::<RunId>() {
            prop_assert!(!run.key("plan.json").contains(".."));
        }
        let lower = text.to_ascii_lowercase();
        prop_assert!(Address::parse(&text).is_none_or(|address| address.to_string() == lower));
        prop_assert!(TxHash::parse(&text).is_none_or(|hash| hash.to_string() == lower));
        if let Ok(amount) = BaseUnits::parse(&text) {
            prop_assert!((0..10i128.pow(38)).contains(&amount.0) && amount.to_tokens(77).is_finite());
        }
        for table in TABLES {
            if let Some(unit) = Unit::of_key(table, &text) {
                prop_assert_eq!(unit.key(table), format!("{}/{text}", table.prefix()));
            }
        }
        Ok(())
    });
}

#[test]
fn recordings() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = br#"{"name":"tiny","protocols":["aave-v2-eth"],"first_day":"2023-01-01","last_day":"2023-01-02"}"#;
    let files = [
        ("manifest.json", manifest.to_vec()),
        (
            "blocks.jsonl",
            b"{\"block_number\":10,\"timestamp\":100}\n{\"block_number\":20,\"timestamp\":200}\n".to_vec(),
        ),
        ("lending_events.jsonl", b"{\"category\":\"borrow\",\"quantity\":null}\n".to_vec()),
        ("markets.aave-v2-eth.jsonl", b"{\"block_number\":10,\"market\":{\"id\":\"0xaa\"}}\n".to_vec()),
        ("positions.aave-v2-eth.jsonl", b"{\"block_number\":20,\"position\":{\"id\":7}}\n\n".to_vec()),
    ];
    for (name, text) in &files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let changed = (0..files.len()).prop_flat_map(|file| (Just(file), near(vec![files[file].1.clone()])));
    fuzz("recordings", 15, &changed, |(file, text)| {
        let path = folder.path().join(files[file].0);
        fs::write(&path, text).expect("a file");
        let read = Recording::load(folder.path());
        fs::write(&path, &files[file].1).expect("a file");
        if let Err(error) = &read {
            // A manifest may name a protocol that has no files.
            let folder = folder.path().display().to_string();
            prop_assert!(error.to_string().contains(&folder), "{error}");
        }
        is_clear(read, &[Kind::CorruptData, Kind::BadInput])
    });
}

#[test]
fn parquet_objects() {
    let files = objects::files();
    let readers = objects::READERS;
    let cases = (near(files), 0..readers.len());
    fuzz("Parquet objects", 60, &cases, |(file, reader)| names_its_object((readers[reader])(file.into())));
}

#[test]
fn json_objects() {
    let plan = json!({"blocks": ["2023-01-02"], "extract_events": {"borrow": ["2023-01-02"]}, "extract_markets": {},
        "extract_positions": {"aave-v2-eth": ["2023-01-02"]}, "current_positions": [], "stage_events": {}, "stage_markets": {},
        "stage_positions": {}, "links": [], "price": {}, "value": [], "features": true});
    let column = json!({"name": "a", "type": "bigint", "comment": "b"});
    let table = json!({"description": "a", "columns": [column], "partition_columns": ["year"], "location": "raw",
        "parameters": {"as_of": "2023-01-02"}});
    let partition = json!({"values": ["2023", "01"], "location": "raw"});
    fuzz("JSON objects", 10, &near_json_text(vec![plan, table, partition]), |text| {
        for outcome in objects::read_json(&text.into()) {
            names_its_object(outcome)?;
        }
        Ok(())
    });
}

#[test]
fn states_of_the_fold() {
    fuzz("states of the fold", 4, &objects::states(), |rows| names_its_object(objects::fold_on(rows)));
}

/// An object is read, or it is corrupt and named.
fn names_its_object(outcome: Result<()>) -> Outcome {
    let is_named = |error: &Error| error.to_string().contains(objects::KEY);
    prop_assert!(outcome.as_ref().err().is_none_or(is_named), "{outcome:?}");
    is_clear(outcome, &[Kind::CorruptData])
}
