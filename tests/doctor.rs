//! `defi doctor` over intact and damaged lakes, and with sources.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};
use crate::support::server::ServeProcess;

/// Runs the sample chain into a new lake.
fn sample_lake() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "30", "--days", "5"]));
    (folder, lake)
}

/// Returns the findings that are not `ok`, and the exit code.
fn problems(lake: &Path, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = output(command(&["doctor", "--json", "--lake", path_str(lake)]).args(args));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(findings.len() > 25, "{findings:?}");
    (findings.into_iter().filter(|finding| finding["state"] != "ok").collect(), output.status.code())
}

fn problems_of_table<'a>(problems: &'a [Value], table: &str) -> Vec<&'a Value> {
    problems.iter().filter(|problem| problem["what"] == table).collect()
}

#[test]
fn intact_lake_has_no_problems() {
    let (_folder, lake) = sample_lake();
    assert_eq!(problems(&lake, &[]), (Vec::new(), Some(0)));
    let quarantine = lake.join("quarantine/transpose_borrow_events/year=2023/month=01");
    fs::create_dir_all(&quarantine).expect("a folder");
    fs::write(quarantine.join("2023-01-02.parquet"), b"").expect("an object");
    let shown = succeed(&mut command(&["doctor", "--lake", path_str(&lake)]));
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[2].contains("quarantine") && lines[2].contains("WARN"), "rejected rows are only a warning: {shown}");
    assert!(lines.last().unwrap().ends_with("checks are ok; --all lists them"), "{shown}");
    assert!(!shown.contains("published features"), "what is right is one line: {shown}");
    let all = succeed(&mut command(&["doctor", "--all", "--lake", path_str(&lake)]));
    assert!(all.contains("published features") && all.contains("WARN"), "{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 100), "a table without a terminal has 100 columns: {all}");
}

#[test]
fn finds_published_sets_that_passed_no_check() {
    let (_folder, lake) = sample_lake();
    let features = lake.join("analytics/features");
    let published = features.join("defi_features/as_of=2023-01-06");
    let partition = lake.join("catalog/db_analytics_dev/defi_features_history/2023-01-06.json");
    let pointer = fs::read_to_string(&partition).expect("the catalog");
    let of_features = |lake: &Path| {
        let (problems, code) = problems(lake, &[]);
        (problems_of_table(&problems, "published features").len(), code)
    };
    // A copy that nothing checked, in a place of checked copies, and one in a place of none.
    for folder in ["checked/as_of=2023-01-06/0123456789abcdef", "elsewhere/as_of=2023-01-06"] {
        fs::create_dir_all(features.join(folder)).expect("a folder");
        for shard in 0..4 {
            let name = format!("{shard}.parquet");
            fs::copy(published.join(&name), features.join(folder).join(&name)).expect("a shard");
        }
        fs::rename(features.join(folder).join("0.parquet"), features.join(folder).join("4.parquet")).expect("a shard");
        fs::write(&partition, pointer.replace("defi_features/as_of=2023-01-06", folder)).expect("the catalog");
        assert_eq!(of_features(&lake), (1, Some(1)), "{folder}");
    }
    fs::write(&partition, &pointer).expect("the catalog");
    // A set that lost an object.
    fs::remove_file(published.join("2.parquet")).expect("a shard");
    assert_eq!(of_features(&lake), (1, Some(1)));
    for args in [&["features"][..], &["wallet", "0x0000000000000000000000000000000000000001"]] {
        let output = output(command(args).args(["--lake", path_str(&lake)]));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("CorruptData: the published set has the shards [0, 1, 3]"), "{args:?} {message}");
    }
}

#[test]
fn finds_deleted_objects() {
    let (_folder, lake) = sample_lake();
    let markets = lake.join("raw/the_graph/the_graph_historical_market_data/year=2023/month=01");
    let deleted = "2023-01-02.aave-v2-eth.parquet";
    fs::remove_file(markets.join(deleted)).expect("an object");
    let (problems, code) = problems(&lake, &[]);
    let [missing] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(
        (&missing["what"], code),
        (&Value::from("digests"), Some(0)),
        "only a warning: a run may have been killed"
    );
    assert!(
        missing.to_string().contains("1 objects that a step wrote are missing")
            && missing.to_string().contains(deleted)
    );
}

#[test]
fn lists_lost_days() {
    let (_folder, lake) = sample_lake();
    let tombstones = lake.join("state/lost/the_graph_historical_account_positions");
    fs::create_dir_all(&tombstones).expect("a folder");
    fs::write(tombstones.join("2022-12-31.aave-v2-eth.json"), "{}").expect("a tombstone");
    let (problems, code) = problems(&lake, &[]);
    let [lost] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!((&lost["what"], code), (&Value::from("lost days"), Some(0)), "only a warning");
    assert!(lost.to_string().contains("2022-12-31 aave-v2-eth") && lost.to_string().contains("--retry-lost"), "{lost}");
}

#[test]
fn lost_day_that_is_in_the_lake_was_rebuilt() {
    let (_folder, lake) = sample_lake();
    let tombstones = lake.join("state/lost/the_graph_historical_account_positions");
    fs::create_dir_all(&tombstones).expect("a folder");
    fs::write(tombstones.join("2023-01-02.aave-v2-eth.json"), "{}").expect("a tombstone");
    assert_eq!(problems(&lake, &[]), (Vec::new(), Some(0)));
    let shown = succeed(&mut command(&["doctor", "--all", "--lake", path_str(&lake)]));
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("1 snapshots were rebuilt: 2023-01-02 aave-v2-eth"), "{shown}");
}

#[test]
fn finds_missing_partitions_stray_objects_and_other_columns() {
    let (_folder, lake) = sample_lake();
    let catalog = lake.join("catalog/db_stage_dev");
    let partition = catalog.join("the_graph_historical_market_data/2023-01.json");
    fs::remove_file(&partition).expect("a partition");
    let entry = catalog.join("transpose_borrow_events.json");
    let other = fs::read_to_string(&entry).expect("an entry").replacen("\"bigint\"", "\"int\"", 1);
    fs::write(&entry, other).expect("an entry");
    let entry = catalog.join("transpose_deposit_events.json");
    let folder = "stage/transpose/transpose_deposit_events";
    let other = fs::read_to_string(&entry).expect("an entry").replace(folder, "stage/transpose/elsewhere");
    fs::write(&entry, other).expect("an entry");
    let stray = lake.join("analytics/features/wallet_links/year=2023/month=01/copy.parquet");
    fs::write(&stray, b"x").expect("a stray object");
    let broken = lake.join("stage/transpose/transpose_repay_events/year=2023/month=01/2023-01-05.parquet");
    fs::write(&broken, b"PAR1").expect("a broken object");
    fs::remove_dir_all(lake.join("raw/transpose/transpose_deposit_events")).expect("a table's objects");

    let (problems, code) = problems(&lake, &[]);
    assert_eq!(code, Some(1));
    for (table, words) in [
        ("stage.the_graph_historical_market_data", "partitions with objects are not in the catalog: 2023-01"),
        ("stage.transpose_borrow_events", "columns differ from the code's: log_index"),
        ("stage.transpose_deposit_events", "the catalog points to stage/transpose/elsewhere"),
        ("analytics.wallet_links", "copy.parquet"),
        ("stage.transpose_repay_events", "CorruptData"),
        ("raw.transpose_deposit_events", "partitions of the catalog have no object: 2023-01"),
    ] {
        let found = problems_of_table(&problems, table);
        assert!(
            found.iter().any(|problem| problem["found"].as_str().is_some_and(|found| found.contains(words))),
            "{table}: {problems:#?}"
        );
        assert!(found.iter().all(|problem| problem["mend"].as_str().is_some_and(|fix| !fix.is_empty())));
    }
}

#[test]
fn looks_inside_every_object() {
    let (_folder, lake) = sample_lake();
    let blocks = "raw/transpose/ethereum_daily_blocks/year=2023/month=01";
    let block = |day: u32| lake.join(blocks).join(format!("2023-01-0{day}.parquet"));
    // Neither is the newest object.
    fs::write(block(1), b"").expect("an empty object");
    fs::write(block(2), b"PAR1 and no footer").expect("a damaged object");
    fs::copy(block(4), block(3)).expect("the object of another day");
    let staged = lake.join("stage/transpose/transpose_repay_events/year=2023/month=01/2023-01-02.parquet");
    fs::copy(lake.join("stage/transpose/transpose_borrow_events/year=2023/month=01/2023-01-02.parquet"), staged)
        .expect("the object of another table");
    let state = fs::read_dir(lake.join("state/fold")).expect("a state").flatten().next().expect("a state").path();
    fs::write(state.join("0.parquet"), b"").expect("a damaged state");

    let (problems, code) = problems(&lake, &[]);
    assert_eq!(code, Some(1));
    for (item, words) in [
        (
            "raw.ethereum_daily_blocks",
            format!(
                "2 objects are damaged (CorruptData): {blocks}/2023-01-01.parquet (0 bytes), {blocks}/2023-01-02.parquet"
            ),
        ),
        (
            "raw.ethereum_daily_blocks",
            format!(
                "1 objects are of another table or unit: {blocks}/2023-01-03.parquet (table raw.ethereum_daily_blocks, unit 2023-01-04)"
            ),
        ),
        ("stage.transpose_repay_events", "1 objects are of another table or unit: ".to_owned()),
        ("states and builds", "1 objects are damaged".to_owned()),
    ] {
        let found = problems_of_table(&problems, item);
        let is_found =
            found.iter().any(|problem| problem["found"].as_str().is_some_and(|found| found.contains(&words)));
        assert!(is_found, "{item} {words}: {problems:#?}");
    }
}

#[test]
fn finds_files_that_belong_to_nothing() {
    let (_folder, lake) = sample_lake();
    let blocks = lake.join("raw/transpose/ethereum_daily_blocks");
    for (path, content) in [
        ("raw/transpose/ethereum_daily_blocks/year=2023/month=01/._2023-01-01.parquet", "x"),
        ("raw/transpose/ethereum_daily_blocks/year=2023/month=01/2023-01-01 (1).parquet", "x"),
        ("raw/transpose/ethereum_daily_blocks/.DS_Store", "x"),
        ("raw/transpose/no_table/year=2023/month=01/2023-01-01.parquet", "x"),
        ("notes.txt", "x"),
        // What belongs to the lake.
        ("runs/a/notes.json", "{}"),
        (".unfinished/half", "x"),
        (".lock", ""),
    ] {
        let path = lake.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    assert!(blocks.is_dir());
    let (problems, code) = problems(&lake, &[]);
    assert_eq!(code, Some(1));
    let found = |item: &str| -> String {
        problems_of_table(&problems, item).iter().filter_map(|problem| problem["found"].as_str()).collect()
    };
    let in_table = found("raw.ethereum_daily_blocks");
    assert!(in_table.starts_with("2 objects were not written by any step: "), "{problems:#?}");
    assert!(in_table.contains("/._2023-01-01.parquet") && in_table.contains("/2023-01-01 (1).parquet"), "{in_table}");
    let elsewhere = found("stray files");
    assert!(elsewhere.starts_with("3 files belong to nothing in the lake: "), "{problems:#?}");
    for name in [".DS_Store", "no_table", "notes.txt"] {
        assert!(elsewhere.contains(name), "{elsewhere}");
    }
    assert_eq!(problems.len(), 2, "{problems:#?}");
}

#[test]
fn unreachable_sources_are_problems() {
    let (_folder, lake) = sample_lake();
    let unreachable = ["--graph-url", "http://127.0.0.1:9", "--transpose-url", "http://127.0.0.1:9"];
    let (problems, code) = problems(&lake, &unreachable);
    assert_eq!(code, Some(1));
    let names: Vec<_> = problems.iter().filter_map(|problem| problem["what"].as_str()).collect();
    assert!(names.contains(&"Transpose") && names.contains(&"The Graph, aave-v2-eth"), "{names:?}");
    let no_keys = output(&mut command(&["doctor", "--json", "--lake", path_str(&lake), "--live"]));
    assert!(String::from_utf8_lossy(&no_keys.stdout).contains("GRAPH_API_KEY"), "{no_keys:?}");
}

#[test]
fn reports_source_heads_and_deployments() {
    let (_folder, lake) = sample_lake();
    let server = ServeProcess::start(&mut command(&["serve", "--port", "0", "--wallets", "30", "--days", "5"]));
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url];
    let output = output(command(&["doctor", "--json", "--lake", path_str(&lake)]).args(urls));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let finding = |name: &str| findings.iter().find(|item| item["what"] == name).expect("a finding").clone();
    for name in ["Transpose", "The Graph, aave-v2-eth", "The Graph, compound-v2-eth"] {
        // The head of the sample chain is years old.
        assert_eq!(finding(name)["state"], "warn", "{:?}", finding(name));
        assert!(finding(name)["found"].as_str().is_some_and(|found| found.contains("head block")));
    }
    assert_eq!(finding("The Graph, aave-v2-eth, deployment")["state"], "ok");
}
