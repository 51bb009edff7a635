//! What `defi doctor` finds in a lake that somebody has been at.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, succeed, text};
use crate::support::server::Served;

fn made() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a folder");
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", text(&lake), "--wallets", "30", "--days", "5"]));
    (folder, lake)
}

/// What is not as it should be, and the exit code.
fn complaints(lake: &Path, more: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = output(command(&["doctor", "--json", "--lake", text(lake)]).args(more));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(findings.len() > 25, "{findings:?}");
    (findings.into_iter().filter(|finding| finding["state"] != "ok").collect(), output.status.code())
}

fn of_table<'a>(complaints: &'a [Value], table: &str) -> Vec<&'a Value> {
    complaints.iter().filter(|complaint| complaint["what"] == table).collect()
}

#[test]
fn a_lake_as_it_should_be_gives_no_cause_for_complaint() {
    let (_folder, lake) = made();
    assert_eq!(complaints(&lake, &[]), (Vec::new(), Some(0)));
    let bad = lake.join("quarantine/transpose_borrow_events/year=2023/month=01");
    fs::create_dir_all(&bad).expect("a folder");
    fs::write(bad.join("2023-01-02.parquet"), b"").expect("an object");
    let shown = succeed(&mut command(&["doctor", "--lake", text(&lake)]));
    assert!(shown.contains("published features") && shown.contains("WARN"), "bad rows are no failure: {shown}");
}

#[test]
fn missing_partitions_stray_objects_and_other_columns_are_found() {
    let (_folder, lake) = made();
    let catalog = lake.join("catalog/db_stage_dev");
    let partition = catalog.join("the_graph_historical_market_data/2023-01.json");
    fs::remove_file(&partition).expect("a partition");
    let entry = catalog.join("transpose_borrow_events.json");
    let other = fs::read_to_string(&entry).expect("an entry").replacen("\"bigint\"", "\"int\"", 1);
    fs::write(&entry, other).expect("an entry");
    let stray = lake.join("analytics/features/wallet_links/year=2023/month=01/copy.parquet");
    fs::write(&stray, b"x").expect("a stray object");
    let broken = lake.join("stage/transpose/transpose_repay_events/year=2023/month=01/2023-01-05.parquet");
    fs::write(&broken, b"PAR1").expect("a broken object");
    fs::remove_dir_all(lake.join("raw/transpose/transpose_deposit_events")).expect("a table's objects");

    let (complaints, code) = complaints(&lake, &[]);
    assert_eq!(code, Some(1));
    for (table, words) in [
        ("stage.the_graph_historical_market_data", "partitions with objects are not in the catalog: 2023-01"),
        ("stage.transpose_borrow_events", "columns differ from the code's: log_index"),
        ("analytics.wallet_links", "copy.parquet"),
        ("stage.transpose_repay_events", "CorruptData"),
        ("raw.transpose_deposit_events", "partitions of the catalog have no object: 2023-01"),
    ] {
        let found = of_table(&complaints, table);
        assert!(
            found.iter().any(|complaint| complaint["found"].as_str().is_some_and(|found| found.contains(words))),
            "{table}: {complaints:#?}"
        );
        assert!(found.iter().all(|complaint| complaint["mend"].as_str().is_some_and(|mend| !mend.is_empty())));
    }
}

#[test]
fn sources_are_asked_for_their_heads() {
    let (_folder, lake) = made();
    let nobody = ["--graph-url", "http://127.0.0.1:9", "--transpose-url", "http://127.0.0.1:9"];
    let (complaints, code) = complaints(&lake, &nobody);
    assert_eq!(code, Some(1));
    let what: Vec<_> = complaints.iter().filter_map(|complaint| complaint["what"].as_str()).collect();
    assert!(what.contains(&"Transpose") && what.contains(&"The Graph, aave-v2-eth"), "{what:?}");
    let no_keys = output(&mut command(&["doctor", "--json", "--lake", text(&lake), "--live"]));
    assert!(String::from_utf8_lossy(&no_keys.stdout).contains("GRAPH_API_KEY"), "{no_keys:?}");
}

#[test]
fn sources_that_answer_are_told_with_their_deployments() {
    let (_folder, lake) = made();
    let served = Served::start(&mut command(&["serve", "--port", "0", "--wallets", "30", "--days", "5"]));
    let urls = ["--graph-url", &served.graph_url, "--transpose-url", &served.transpose_url];
    let output = output(command(&["doctor", "--json", "--lake", text(&lake)]).args(urls));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |what: &str| findings.iter().find(|finding| finding["what"] == what).expect("a finding").clone();
    for what in ["Transpose", "The Graph, aave-v2-eth", "The Graph, compound-v2-eth"] {
        // The made-up chain ended long ago.
        assert_eq!(of(what)["state"], "warn", "{:?}", of(what));
        assert!(of(what)["found"].as_str().is_some_and(|found| found.contains("head block")));
    }
    assert_eq!(of("The Graph, aave-v2-eth, deployment")["state"], "ok");
}
