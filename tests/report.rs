//! The report of a run: the same bytes from the same lake, the figures that the lake has, nothing of the data as markup, and a word
//! where there is nothing to report on.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::lake::{Facts, FolderStore, Lake, Unit};
use defi_shared::plan::Plan;
use defi_shared::step::{Gaps, RunId, RunReport};
use defi_shared::tables::{
    FEATURES_HISTORY, FeatureRow, QuarantinedRow, STAGE_DEPOSITS, STAGE_POSITIONS, WALLET_HEALTH, WalletHealth,
};
use report_run::gather::{Gathered, gather, newest_run};
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, succeed, text};

const CHAIN: [&str; 6] = ["--wallets", "60", "--days", "12", "--seed", "3"];

/// A lake with a set published before another, and what the second run printed.
static MADE: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    let folder = tempdir().expect("a folder");
    let run = |args: &[&str]| succeed(command(&["run", "--lake", text(folder.path())]).args(CHAIN).args(args));
    run(&["--as-of", "2023-01-07"]);
    let printed = run(&[]);
    (folder, printed)
});

fn folder() -> &'static Path {
    MADE.0.path()
}

/// A copy of that lake, to be changed.
fn copy() -> TempDir {
    let to = tempdir().expect("a folder");
    let copied = std::process::Command::new("cp").arg("-r").arg(folder().join(".")).arg(to.path()).status();
    assert!(copied.expect("cp").success());
    to
}

async fn gathered(folder: &Path) -> Gathered {
    let lake = Lake::new(FolderStore::new(folder));
    let run = newest_run(&lake).await.expect("a run");
    let config = Config::built_in().expect("a configuration");
    gather(&lake, &catalog::in_lake(&lake, "dev"), &config, &run).await.expect("what it tells")
}

fn report(folder: &Path, args: &[&str]) -> String {
    let path = succeed(command(&["report", "--lake", text(folder)]).args(args));
    fs::read_to_string(path.trim()).expect("a page")
}

#[test]
fn a_run_leaves_its_report_and_says_where() {
    let line = MADE.1.lines().find_map(|line| line.strip_prefix("report ")).expect("a line");
    let page = fs::read_to_string(line.trim()).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && line.trim().ends_with("/report.html"), "{line}");
}

#[test]
fn equal_lakes_give_equal_bytes() {
    let (one, other) = (report(folder(), &[]), copy());
    assert!(one == report(other.path(), &[]), "another copy");
    let elsewhere = other.path().join("page.html");
    assert!(one == report(folder(), &["--output", text(&elsewhere)]), "another file");
    assert!(!one.contains(text(folder())), "the page names a folder of this machine");
}

#[tokio::test]
async fn figures_are_the_lakes() {
    let told = gathered(folder()).await;
    let lake = Lake::new(FolderStore::new(folder()));
    let mut rows: Vec<FeatureRow> = Vec::new();
    for shard in 0..4 {
        rows.extend(lake.require(&FEATURES_HISTORY, &Unit::AsOfAndShard(told.as_of, shard)).await.expect("rows"));
    }
    assert_eq!(
        (told.as_of.to_string(), told.before.map(|day| day.to_string())),
        ("2023-01-13".into(), Some("2023-01-07".into()))
    );
    assert_eq!(told.features.len(), 26);
    let borrows = told.features.iter().find(|feature| feature.name == "borrow_count").expect("a feature");
    let sum: i64 = rows.iter().map(|row| row.borrow_count).sum();
    assert_eq!((borrows.now.wallets, borrows.now.mean), (rows.len(), Some(sum as f64 / rows.len() as f64)));
    let without = rows.iter().filter(|row| row.time_since_first_deposit.is_none()).count();
    let deposits = told.features.iter().find(|feature| feature.name == "time_since_first_deposit").expect("a feature");
    assert_eq!(deposits.now.null, without as f64 / rows.len() as f64);

    let checked = told.checked.as_ref().expect("checks");
    assert_eq!(checked.wallets, rows.len() as u64);
    assert_eq!(told.history.last().map(|(run, of)| (run, of)), Some((&told.run, checked)));
    assert_eq!(told.history.len(), 2);
    let steps = &told.report.as_ref().expect("a report").steps;
    let unpriced = |step: &str| steps.iter().find(|of| of.step.name() == step).map_or(0, |of| of.report.unpriced);
    assert!(told.unpriced.events.0 >= unpriced("price-events"), "the days of earlier runs come to those of this one");

    let unit = Unit::DayAndProtocol(told.as_of, "aave-v2-eth".into());
    let (_, positions) = lake.facts(&STAGE_POSITIONS, &unit).await.expect("facts").expect("a unit");
    assert_eq!(told.days.positions["aave-v2-eth"].last(), Some(&Some(positions)));
    let health: Vec<WalletHealth> = lake.require(&WALLET_HEALTH, &Unit::Day(told.as_of)).await.expect("rows");
    let of_aave = health.iter().filter(|row| &*row.protocol == "aave-v2-eth").map(|row| row.wallet_address);
    let wallets = of_aave.collect::<std::collections::BTreeSet<_>>().len() as u64;
    assert_eq!(told.days.wallets["aave-v2-eth"].last(), Some(&Some(wallets)));
    assert_eq!(told.days.events["aave-v2-eth"].last(), Some(&None), "the day of the snapshot has no events yet");
    let movers = told.movers.expect("a set before");
    assert_eq!(movers.new + movers.changed + movers.unchanged, rows.len() as u64);
}

#[tokio::test]
async fn what_comes_from_data_is_escaped() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let evil = "<script>alert(1)</script>\" onload=\"x";
    let unit = Unit::Day("2023-01-10".parse::<Day>().expect("a day"));
    let row = QuarantinedRow {
        row_number: 0,
        reason: evil.to_owned(),
        row: format!("{{\"{evil}\": \"</code>{}\"}}", "é".repeat(900)),
    };
    lake.quarantine(&STAGE_DEPOSITS, &unit, vec![row]).await.expect("a row");
    lake.write_json("chain.json", &evil).await.expect("a chain");
    let page = report(folder.path(), &[]);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the reason is not shown");
    assert!(!page.contains("<script") && !page.contains("\" onload=\""), "markup from data");
    assert!(page.contains("é…"), "a long row is shortened");
}

#[tokio::test]
async fn lost_days_are_named_and_break_their_lines() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let (run, lost) = (
        newest_run(&lake).await.expect("a run"),
        ["2023-01-09", "2023-01-10"].map(|day| day.parse::<Day>().expect("a day")),
    );
    for day in lost {
        let unit = Unit::DayAndProtocol(day, "aave-v2-eth".into());
        lake.store().delete(&unit.key(&STAGE_POSITIONS)).await.expect("deleted");
    }
    let mut told: RunReport = lake.read_json(&run.key("report.json")).await.expect("JSON").expect("a report");
    told.gaps = Gaps { positions: [("aave-v2-eth".to_owned(), lost.to_vec())].into(), ..Gaps::default() };
    lake.write_json(&run.key("report.json"), &told).await.expect("written");
    let days = gathered(folder.path()).await.days;
    let missing = days.days.iter().zip(&days.positions["aave-v2-eth"]).filter(|(_, count)| count.is_none());
    assert_eq!(missing.map(|(day, _)| *day).collect::<Vec<_>>(), lost);
    assert!(report(folder.path(), &[]).contains("2023-01-09 to 2023-01-10"), "the gap is not named");
}

#[tokio::test]
async fn a_run_that_died_and_a_set_without_wallets_have_a_report_too() {
    let folder = copy();
    let lake = Lake::new(FolderStore::new(folder.path()));
    let died: RunId = "2023-02-01-0a1b2c".parse().expect("a name");
    lake.write_json(&died.key("plan.json"), &Plan::default()).await.expect("a plan");
    assert!(report(folder.path(), &[]).contains("did not reach its checks"), "a run that died");
    let empty: Vec<FeatureRow> = Vec::new();
    lake.write(&FEATURES_HISTORY, &Unit::AsOfAndShard("2023-02-01".parse().expect("a day"), 0), empty, Facts::new())
        .await
        .expect("a set");
    assert!(report(folder.path(), &[]).contains("no wallets as of this day"), "a set without wallets");
}

#[test]
fn a_failed_check_leaves_a_report_and_still_fails() {
    let folder = tempdir().expect("a folder");
    let config =
        include_str!("../shared/config.toml").replace("price_jump_factor = 10.0", "price_jump_factor = 1.0000001");
    let config = config.replace("price_jumps = { warn = 0 }", "price_jumps = { fail = 0 }");
    let (lake, file) = (folder.path().join("lake"), folder.path().join("config.toml"));
    fs::write(&file, config).expect("a configuration");
    let mut run = command(&["run", "--lake", text(&lake)]);
    let failed = output(run.args(CHAIN).env("DEFI_CONFIG", &file));
    let (said, error) = (String::from_utf8_lossy(&failed.stdout), String::from_utf8_lossy(&failed.stderr));
    assert!(!failed.status.success() && error.contains("error: QualityFailed: "), "{error}");
    let path =
        said.lines().find_map(|line| line.strip_prefix("report ")).unwrap_or_else(|| panic!("no report: {said}"));
    let page = fs::read_to_string(path.trim()).expect("a page");
    assert!(page.contains("so this set was not published"), "the page does not say that it failed");
}

#[test]
fn without_a_run_there_is_a_word_and_a_next_step() {
    let folder = tempdir().expect("a folder");
    fs::create_dir(folder.path().join("catalog")).expect("a catalog");
    let unknown = ["report", "--lake", text(self::folder()), "--run", "2023-01-01-abc"];
    for (args, word) in [
        (&["report", "--lake", text(folder.path())][..], "no runs"),
        (&["report", "--lake", "/nowhere"], "no lake"),
        (&unknown, "no run 2023-01-01-abc"),
        (&["report", "--lake", text(self::folder()), "--run", "../x"], "is not a run id"),
        (&["report", "--lake", text(self::folder()), "--output", "/nowhere/x.html"], "can't be written"),
    ] {
        let output = output(&mut command(args));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{args:?}: {error}");
        assert!(
            error.starts_with("error: BadInput: ") && error.contains(word) && error.contains("; next: "),
            "{error}"
        );
    }
}
