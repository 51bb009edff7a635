//! The HTML report of a run: equal lakes give equal bytes, its values match the lake, data is escaped, and a missing
//! run or lake gives an error with a hint.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::lake::{FileMetadata, FolderStore, Lake, WorkUnit};
use defi_shared::plan::Plan;
use defi_shared::step::{Gaps, RUN_REPORT, RunId, RunReport};
use defi_shared::tables::{
    FEATURES_HISTORY, FeatureRow, QuarantinedRow, STAGE_DEPOSITS, STAGE_POSITIONS, WALLET_HEALTH, WalletHealth,
};
use report_run::gather::{ReportData, gather, newest_run};
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};

const CHAIN: [&str; 6] = ["--wallets", "60", "--days", "12", "--seed", "3"];

/// A lake with two published sets of features, and the output of the second run.
static SAMPLE: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    let folder = tempdir().expect("a temporary folder");
    let run = |args: &[&str]| succeed(command(&["run", "--lake", path_str(folder.path())]).args(CHAIN).args(args));
    run(&["--as-of", "2023-01-07"]);
    let printed = run(&[]);
    (folder, printed)
});

fn sample_lake() -> &'static Path {
    SAMPLE.0.path()
}

/// Returns a copy of the sample lake that a test may change.
fn copy() -> TempDir {
    let to = tempdir().expect("a temporary folder");
    let copied = std::process::Command::new("cp").arg("-r").arg(sample_lake().join(".")).arg(to.path()).status();
    assert!(copied.expect("cp").success());
    to
}

async fn gathered(folder: &Path) -> ReportData {
    let lake = Lake::new(FolderStore::new(folder));
    let run = newest_run(&lake).await.expect("a run");
    let config = Config::built_in().expect("a configuration");
    gather(&lake, &catalog::registry_in_lake(&lake, "dev"), &config, &run).await.expect("the report data")
}

/// Runs `defi report` and returns the page.
fn report(folder: &Path, args: &[&str]) -> String {
    let path = succeed(command(&["report", "--lake", path_str(folder)]).args(args));
    fs::read_to_string(path.trim()).expect("a page")
}

#[test]
fn run_writes_its_report_and_prints_its_path() {
    let line = SAMPLE.1.lines().find_map(|line| line.strip_prefix("report ")).expect("a line");
    let page = fs::read_to_string(line.trim()).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && line.trim().ends_with("/report.html"), "{line}");
}

#[test]
fn equal_lakes_give_equal_bytes() {
    let (one, other) = (report(sample_lake(), &[]), copy());
    assert!(one == report(other.path(), &[]), "the page of a copy of the lake differs");
    let elsewhere = other.path().join("page.html");
    assert!(one == report(sample_lake(), &["--output", path_str(&elsewhere)]), "the page in another file differs");
    assert!(!one.contains(path_str(sample_lake())), "the page contains the path of the lake");
}

#[tokio::test]
async fn values_match_the_lake() {
    let data = gathered(sample_lake()).await;
    let lake = Lake::new(FolderStore::new(sample_lake()));
    let mut rows: Vec<FeatureRow> = Vec::new();
    for shard in 0..4 {
        rows.extend(lake.require(&FEATURES_HISTORY, &WorkUnit::Shard(data.as_of, shard)).await.expect("rows"));
    }
    assert_eq!(
        (data.as_of.to_string(), data.before.map(|day| day.to_string())),
        ("2023-01-13".into(), Some("2023-01-07".into()))
    );
    assert_eq!(data.features.len(), 28, "26 features, and two columns on their health");
    let borrows = data.features.iter().find(|feature| feature.name == "borrow_count").expect("a feature");
    let sum: i64 = rows.iter().map(|row| row.borrow_count).sum();
    assert_eq!((borrows.now.wallets, borrows.now.mean), (rows.len(), Some(sum as f64 / rows.len() as f64)));
    let without = rows.iter().filter(|row| row.time_since_first_deposit.is_none()).count();
    let deposits = data.features.iter().find(|feature| feature.name == "time_since_first_deposit").expect("a feature");
    assert_eq!(deposits.now.null, without as f64 / rows.len() as f64);

    let checked = data.checked.as_ref().expect("checks");
    assert_eq!(checked.wallets, rows.len() as u64);
    assert_eq!(data.history.last().map(|(run, of)| (run, of)), Some((&data.run, checked)));
    assert_eq!(data.history.len(), 2);
    let steps = &data.report.as_ref().expect("a report").steps;
    let unpriced =
        |step: &str| steps.iter().find(|item| item.step.name() == step).map_or(0, |item| item.report.unpriced);
    assert!(
        data.unpriced.events.0 >= unpriced("price-events"),
        "unpriced events of all days are fewer than those of the last run"
    );

    let unit = WorkUnit::ProtocolDay(data.as_of, "aave-v2-eth".into());
    let (_, positions) = lake.file_metadata(&STAGE_POSITIONS, &unit).await.expect("metadata").expect("a unit");
    assert_eq!(data.days.positions["aave-v2-eth"].last(), Some(&Some(positions)));
    let health: Vec<WalletHealth> = lake.require(&WALLET_HEALTH, &WorkUnit::Day(data.as_of)).await.expect("rows");
    let of_aave = health.iter().filter(|row| &*row.protocol == "aave-v2-eth").map(|row| row.wallet_address);
    let wallets = of_aave.collect::<std::collections::BTreeSet<_>>().len() as u64;
    assert_eq!(data.days.wallets["aave-v2-eth"].last(), Some(&Some(wallets)));
    assert_eq!(data.days.events["aave-v2-eth"].last(), Some(&None), "the as-of day has events");
    let movers = data.movers.expect("a set before");
    assert_eq!(movers.new + movers.changed + movers.unchanged, rows.len() as u64);
}

#[tokio::test]
async fn data_is_escaped() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let markup = "<script>alert(1)</script>\" onload=\"x";
    let unit = WorkUnit::Day("2023-01-10".parse::<Day>().expect("a valid day"));
    let row = QuarantinedRow {
        row_number: 0,
        reason: markup.to_owned(),
        row: format!("{{\"{markup}\": \"</code>{}\"}}", "é".repeat(900)),
    };
    lake.quarantine(&STAGE_DEPOSITS, &unit, vec![row]).await.expect("a row");
    lake.write_json("chain.json", &markup).await.expect("a chain");
    let page = report(folder.path(), &[]);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the page does not contain the reason");
    assert!(!page.contains("<script") && !page.contains("\" onload=\""), "the page contains markup from the data");
    assert!(page.contains("é…"), "a long row is not shortened");
}

#[tokio::test]
async fn lost_days_are_listed_and_interrupt_the_charts() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let (run, lost) = (
        newest_run(&lake).await.expect("a run"),
        ["2023-01-09", "2023-01-10"].map(|day| day.parse::<Day>().expect("a valid day")),
    );
    for day in lost {
        let unit = WorkUnit::ProtocolDay(day, "aave-v2-eth".into());
        lake.store().delete(&unit.key(&STAGE_POSITIONS)).await.expect("the object is deleted");
    }
    let mut run_report: RunReport = lake.read_json(&run.key(RUN_REPORT)).await.expect("JSON").expect("a report");
    let rebuilt = vec!["2023-01-04".parse::<Day>().expect("a valid day")];
    run_report.gaps = Gaps {
        positions: [("aave-v2-eth".to_owned(), lost.to_vec())].into(),
        rebuilt_markets: [("compound-v2-eth".to_owned(), rebuilt)].into(),
        ..Gaps::default()
    };
    lake.write_json(&run.key(RUN_REPORT), &run_report).await.expect("the report is written");
    let days = gathered(folder.path()).await.days;
    let missing = days.days.iter().zip(&days.positions["aave-v2-eth"]).filter(|(_, count)| count.is_none());
    assert_eq!(missing.map(|(day, _)| *day).collect::<Vec<_>>(), lost);
    let page = report(folder.path(), &[]);
    assert!(page.contains("2023-01-09 to 2023-01-10"), "the page does not list the gap");
    assert!(
        page.contains("</strong>, rebuilt days: <data value=\"1\">1</data> (2023-01-04)"),
        "the page does not list the rebuilt day"
    );
}

#[tokio::test]
async fn unfinished_run_and_set_without_wallets_have_a_report() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let unfinished: RunId = "2023-02-01-0a1b2c".parse().expect("a valid run id");
    lake.write_json(&unfinished.key("plan.json"), &Plan::default()).await.expect("a plan");
    assert!(report(folder.path(), &[]).contains("did not reach its checks"), "an unfinished run");
    let empty: Vec<FeatureRow> = Vec::new();
    lake.write(
        &FEATURES_HISTORY,
        &WorkUnit::Shard("2023-02-01".parse().expect("a valid day"), 0),
        empty,
        FileMetadata::new(),
    )
    .await
    .expect("a set");
    assert!(report(folder.path(), &[]).contains("no wallets as of this day"), "a set without wallets");
}

#[test]
fn failed_check_fails_the_run_and_has_a_report() {
    let folder = tempdir().expect("a temporary folder");
    let config =
        include_str!("../shared/config.toml").replace("price_jump_factor = 10.0", "price_jump_factor = 1.0000001");
    let config = config.replace("price_jumps = { warn = 0 }", "price_jumps = { fail = 0 }");
    let (lake, file) = (folder.path().join("lake"), folder.path().join("config.toml"));
    fs::write(&file, config).expect("a configuration");
    let mut run = command(&["run", "--lake", path_str(&lake)]);
    let failed = output(run.args(CHAIN).env("DEFI_CONFIG", &file));
    let (stdout, error) = (String::from_utf8_lossy(&failed.stdout), String::from_utf8_lossy(&failed.stderr));
    assert!(!failed.status.success() && error.contains("error: QualityFailed: "), "{error}");
    let path =
        stdout.lines().find_map(|line| line.strip_prefix("report ")).unwrap_or_else(|| panic!("no report: {stdout}"));
    let page = fs::read_to_string(path.trim()).expect("a page");
    assert!(page.contains("so this set was not published"), "the page does not say that the check failed");
}

#[test]
fn missing_run_or_lake_fails_with_a_hint() {
    let folder = tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("catalog")).expect("a catalog");
    let unknown = ["report", "--lake", path_str(sample_lake()), "--run", "2023-01-01-abc"];
    for (args, message) in [
        (&["report", "--lake", path_str(folder.path())][..], "no runs"),
        (&["report", "--lake", "/nowhere"], "no lake"),
        (&unknown, "no run 2023-01-01-abc"),
        (&["report", "--lake", path_str(sample_lake()), "--run", "../x"], "is not a run id"),
        (&["report", "--lake", path_str(sample_lake()), "--output", "/nowhere/x.html"], "can't be written"),
    ] {
        let output = output(&mut command(args));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{args:?}: {error}");
        assert!(
            error.starts_with("error: BadInput: ") && error.contains(message) && error.contains("; next: "),
            "{error}"
        );
    }
}
