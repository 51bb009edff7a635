//! Small recordings, each with an input that once went wrong, in `../shared/data/cases`. Its README says what a run over
//! each must give. If a case is missing, its test prints `NOT RUN`, or fails where `CI` is set.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};
use crate::support::recording::case_folder;

/// A case, and the lake of a run over it.
struct Case {
    folder: PathBuf,
    lake: TempDir,
    /// What the run printed.
    stdout: String,
    stderr: String,
}

impl Case {
    /// Runs a case into a new lake. Returns `None` if the case is missing.
    fn run(name: &str) -> Option<Case> {
        let folder = case_folder(name)?;
        let lake = tempdir().expect("a temporary folder");
        let args = ["run", "--recording", path_str(&folder), "--lake", path_str(lake.path())];
        let run = output(&mut command(&args));
        let [stdout, stderr] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
        assert!(run.status.success(), "{name}: {stderr}");
        Some(Case { folder, lake, stdout, stderr })
    }

    /// Returns the values of the first column of a query.
    fn column(&self, sql: &str) -> Vec<String> {
        let result = succeed(&mut command(&["query", "--lake", path_str(self.lake.path()), "--format", "csv", sql]));
        result.lines().skip(1).map(str::to_owned).collect()
    }

    /// Runs `defi features` over the lake with a file of the case. Returns its rows by column and its standard error.
    fn features(&self, option: &str, file: &str) -> Result<(Vec<BTreeMap<String, String>>, String), String> {
        let file = self.folder.parent().expect("a folder").join(file);
        let args = ["features", "--lake", path_str(self.lake.path()), option, path_str(&file)];
        let run = output(&mut command(&args));
        let notes = String::from_utf8_lossy(&run.stderr).into_owned();
        if !run.status.success() {
            return Err(notes);
        }
        let rows = csv::Reader::from_reader(&*run.stdout).deserialize().map(|row| row.expect("a row")).collect();
        Ok((rows, notes))
    }

    /// Asserts that no row of the lake is in quarantine.
    fn assert_nothing_is_quarantined(&self) {
        assert!(!fs::exists(self.lake.path().join("quarantine")).expect("a folder"), "rows are in quarantine");
    }
}

/// The rows of an export.
type Rows = Vec<BTreeMap<String, String>>;

fn column<'a>(rows: &'a Rows, name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[name].as_str()).collect()
}

#[test]
fn bare_integers_keep_their_digits() {
    let Some(case) = Case::run("bare-integers") else { return };
    let deposits = "select quantity from db_stage_dev.transpose_deposit_events order by log_index";
    assert_eq!(case.column(deposits), ["36893488147419103233", "18446744073709551617"]);
    let balances = "select distinct balance from db_stage_dev.the_graph_historical_account_positions";
    assert_eq!(case.column(balances), ["36893488147419103233"]);
    case.assert_nothing_is_quarantined();
}

#[test]
fn rows_that_are_never_asked_for_are_counted_and_named() {
    let Some(case) = Case::run("rows-never-asked-for") else { return };
    for words in [
        "left out: 1 row of lending_events.jsonl, of an unknown category, such as \"Borrow\" in line 3",
        "left out: 2 rows of lending_events.jsonl, of a protocol that the manifest does not list, such as \"Aave-v2-eth\" \
         in line 4",
        "left out: 2 rows of lending_events.jsonl, outside the days from 2023-01-01 until 2023-01-03, such as \
         \"2022-12-31T23:00:00Z\" in line 6",
    ] {
        assert!(case.stderr.contains(words), "{words}: {}", case.stderr);
    }
    assert!(case.stdout.contains("left out: 5 rows of the recording"), "{}", case.stdout);
    assert_eq!(case.column("select deposit_count from db_analytics_dev.defi_features"), ["1"]);
}

#[test]
fn each_spelling_of_a_time_is_read() {
    let Some(case) = Case::run("spellings-of-a-time") else { return };
    let seconds = case.column("select epoch_timestamp from db_stage_dev.transpose_deposit_events order by log_index");
    assert_eq!(seconds, ["1672531800", "1672531812", "1672531824", "1672531836", "1672531848"]);
    assert_eq!(case.column("select deposit_count from db_analytics_dev.defi_features"), ["5"]);
    case.assert_nothing_is_quarantined();
    assert!(!case.stderr.contains("left out"), "{}", case.stderr);
}

#[test]
fn instants_keep_fractions_of_a_second() {
    let Some(case) = Case::run("instants/recording") else { return };
    let (rows, notes) = case.features("--at", "fractions.csv").expect("rows");
    assert_eq!(column(&rows, "deposit_count"), ["0", "1", "0", "2"]);
    let times =
        ["2023-01-01T12:00:00Z", "2023-01-01T12:00:00.500Z", "2023-01-01T11:59:59.999Z", "2023-01-02T00:00:00.500Z"];
    assert_eq!(column(&rows, "time"), times);
    assert_eq!(rows[3]["snapshot_day"], "2023-01-02");
    assert!(notes.contains("line 1 is taken as a heading: wallet_address,time"), "{notes}");
}

#[test]
fn an_address_in_the_first_line_is_no_heading() {
    let Some(case) = Case::run("instants/recording") else { return };
    let wallet = "0x0000000000000000000000000000000000000001";
    let (rows, notes) = case.features("--at", "first-line-0X.csv").expect("rows");
    assert_eq!(column(&rows, "wallet_address"), [wallet, wallet]);
    assert!(!notes.contains("heading"), "{notes}");
    let error = case.features("--at", "first-line-short.csv").expect_err("a digit is missing");
    assert!(error.contains("line 1"), "{error}");
    let (rows, notes) = case.features("--wallets", "wallets-without-0x.txt").expect("rows");
    assert_eq!(column(&rows, "wallet_address"), [wallet]);
    assert!(!notes.contains("heading") && !notes.contains("no row"), "{notes}");
}

#[test]
fn one_log_twice_counts_once() {
    let Some(recording) = case_folder("one-log-twice") else { return };
    let lake = tempdir().expect("a temporary folder");
    let run = ["run", "--json", "--recording", path_str(&recording), "--lake", path_str(lake.path())];
    let result: serde_json::Value = serde_json::from_str(&succeed(&mut command(&run))).expect("JSON");
    let steps = result["steps"].as_array().expect("steps");
    let staged = steps.iter().find(|step| step["step"] == "stage-events").expect("the step");
    let repeat = |category| format!("another valid row with the same key came first in {category}s");
    let rejected = serde_json::json!({ repeat("deposit"): 1, repeat("borrow"): 1 });
    assert_eq!(staged["report"]["rejected"], rejected);
    let sql = "select right(wallet_address, 2), deposit_count, borrow_count, withdraw_amount_sum_eth
               from db_analytics_dev.defi_features order by 1";
    let csv = succeed(&mut command(&["query", "--lake", path_str(lake.path()), "--format", "csv", sql]));
    assert_eq!(csv.lines().skip(1).collect::<Vec<_>>(), ["01,1,0,0.0", "02,1,1,0.0"]);
}
