//! Runs over the recordings in `../shared/data` produce the expected features, cell by cell, and lose no row. If a
//! recording is missing, its tests print `NOT RUN`, or fail where `CI` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use defi_shared::lake::parquet::decode;
use defi_shared::tables::QuarantinedRow;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, path_str, succeed};
use crate::support::recording::{case_folder, recording_folder};

const TABLES: [&str; 25] = [
    "db_raw_dev.the_graph_historical_market_data",
    "db_raw_dev.the_graph_historical_account_positions",
    "db_raw_dev.transpose_borrow_events",
    "db_raw_dev.transpose_deposit_events",
    "db_raw_dev.transpose_liquidation_events",
    "db_raw_dev.transpose_repay_events",
    "db_raw_dev.transpose_withdraw_events",
    "db_raw_dev.ethereum_daily_blocks",
    "db_stage_dev.the_graph_historical_market_data",
    "db_stage_dev.the_graph_historical_account_positions",
    "db_stage_dev.transpose_borrow_events",
    "db_stage_dev.transpose_deposit_events",
    "db_stage_dev.transpose_liquidation_events",
    "db_stage_dev.transpose_repay_events",
    "db_stage_dev.transpose_withdraw_events",
    "db_analytics_dev.the_graph_current_collateral_positions",
    "db_analytics_dev.transpose_borrow_events",
    "db_analytics_dev.transpose_deposit_events",
    "db_analytics_dev.transpose_liquidation_events",
    "db_analytics_dev.transpose_repay_events",
    "db_analytics_dev.transpose_withdraw_events",
    "db_analytics_dev.wallet_links",
    "db_analytics_dev.wallet_health_daily",
    "db_analytics_dev.defi_features",
    "db_analytics_dev.defi_features_history",
];

/// The features of each wallet, column by column.
type Features = Vec<BTreeMap<String, String>>;

struct Recording {
    folder: PathBuf,
    /// The folder with the expected features.
    expected: PathBuf,
    manifest: Value,
    /// Options of every run over the recording.
    options: &'static [&'static str],
}

impl Recording {
    fn open(name: &str, options: &'static [&'static str]) -> Option<Recording> {
        let folder = recording_folder(name)?;
        let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
        let manifest = serde_json::from_slice(&manifest).expect("a manifest");
        Some(Recording { expected: folder.clone(), folder, manifest, options })
    }

    /// Returns the as-of days for which the recording has expected features, in order.
    fn days(&self) -> Vec<String> {
        let names = fs::read_dir(&self.expected)
            .expect("the expected features")
            .map(|entry| entry.expect("an entry").file_name());
        let day = |name: &str| Some(name.strip_prefix("expected.")?.strip_suffix(".csv")?.to_owned());
        let mut days: Vec<_> = names.filter_map(|name| day(&name.to_string_lossy())).collect();
        days.sort();
        assert!(days.len() >= 2, "{} has expected features for fewer than two days", self.expected.display());
        days
    }

    fn expected(&self, as_of: &str) -> (Vec<String>, Features) {
        parse_features(
            &fs::read_to_string(self.expected.join(format!("expected.{as_of}.csv"))).expect("expected features"),
        )
    }

    /// Returns the rows of a file of the recording.
    fn rows(&self, file: &str) -> impl Iterator<Item = Value> {
        let lines = BufReader::new(File::open(self.folder.join(file)).expect("a file of the recording")).lines();
        lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
    }

    /// Returns the names of the protocols.
    fn protocols(&self) -> Vec<&str> {
        self.manifest["protocols"].as_array().expect("protocols").iter().filter_map(Value::as_str).collect()
    }

    fn run(&self, as_of: &str, lake: &Lake) {
        let args = ["run", "--recording", path_str(&self.folder), "--as-of", as_of, "--lake", lake.path()];
        succeed(&mut command(&[&args, self.options].concat()));
    }
}

struct Lake(TempDir);

impl Lake {
    fn new() -> Lake {
        Lake(tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &str {
        path_str(self.0.path())
    }

    /// Runs a query and returns its result as CSV.
    fn query(&self, sql: &str) -> String {
        succeed(&mut command(&["query", "--lake", self.path(), "--format", "csv", sql]))
    }

    /// Runs a query with one row and one column, and returns its number.
    fn query_number(&self, sql: &str) -> usize {
        let result = self.query(sql);
        result.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{sql}: {result}"))
    }

    /// Returns the number of quarantined rows of a table.
    fn quarantined_rows(&self, table: &str) -> usize {
        let mut rows = 0;
        let mut folders = vec![self.0.path().join("quarantine").join(table)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    rows += decode::<QuarantinedRow>(fs::read(path).expect("a file").into()).expect("rows").len();
                }
            }
        }
        rows
    }
}

fn parse_features(csv: &str) -> (Vec<String>, Features) {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    (header, reader.deserialize().map(|row| row.expect("a row")).collect())
}

/// Compares a query result with the expected features: the columns, which come first, the wallets, and every cell.
fn compare(context: &str, result: &str, (columns, expected): &(Vec<String>, Features)) {
    let (header, rows) = parse_features(result);
    assert_eq!(header[..columns.len()], columns[..], "{context}: columns");
    let wallets = |rows: &Features| rows.iter().map(|row| row["wallet_address"].clone()).collect::<Vec<_>>();
    assert_eq!(wallets(&rows), wallets(expected), "{context}: wallets");
    let mut differing = Vec::new();
    for (row, expected) in rows.iter().zip(expected) {
        for column in &columns[1..] {
            if !is_equal(&row[column], &expected[column]) {
                let (actual, expected) = (&row[column], &expected[column]);
                differing.push(format!("{} {column}: {actual:?}, expected {expected:?}", row["wallet_address"]));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "{context}: {} cells differ, such as\n{}",
        differing.len(),
        differing[..differing.len().min(20)].join("\n")
    );
}

/// Returns whether two cells are equal with a relative tolerance of 1e-9. An empty cell is NULL, and differs from any
/// number.
fn is_equal(cell: &str, expected: &str) -> bool {
    if cell.is_empty() || expected.is_empty() {
        return cell == expected;
    }
    let [cell, expected] = [cell, expected].map(|cell| cell.parse::<f64>().unwrap_or(f64::NAN));
    cell == expected || (cell - expected).abs() <= 1e-9 * cell.abs().max(expected.abs())
}

const FEATURES: &str = "select * from db_analytics_dev.defi_features order by wallet_address";

/// Runs each as-of day into a new lake.
fn check_in_new_lakes(recording: &Recording) {
    for as_of in recording.days() {
        let lake = Lake::new();
        recording.run(&as_of, &lake);
        compare(&as_of, &lake.query(FEATURES), &recording.expected(&as_of));
    }
}

/// Runs all as-of days into one lake, the newest first. The history has every day, and `defi_features` stays at the
/// newest.
fn check_in_one_lake(recording: &Recording) {
    let lake = Lake::new();
    let mut days = recording.days();
    days.reverse();
    for as_of in &days {
        recording.run(as_of, &lake);
        compare(&format!("the newest features after {as_of}"), &lake.query(FEATURES), &recording.expected(&days[0]));
    }
    for as_of in &days {
        let sql = format!(
            "select * from db_analytics_dev.defi_features_history where as_of = '{as_of}' order by wallet_address"
        );
        compare(&format!("the history of {as_of}"), &lake.query(&sql), &recording.expected(as_of));
    }
    let published = lake.query("select distinct as_of from db_analytics_dev.defi_features_history order by 1 desc");
    assert_eq!(published.lines().skip(1).collect::<Vec<_>>(), days);
}

/// Checks that every table can be queried, and that every recorded row is in the raw layer and is either staged or
/// quarantined. Returns the number of quarantined rows.
fn check_row_counts(recording: &Recording) -> usize {
    let last = recording.manifest["last_day"].as_str().expect("a day");
    let lake = Lake::new();
    recording.run(last, &lake);
    let counts = TABLES.map(|table| format!("select '{table}' as name, count(*) as n from {table}"));
    assert_eq!(lake.query(&counts.join(" union all ")).lines().count(), 1 + TABLES.len());

    let protocols = recording.protocols();
    for category in ["borrow", "deposit", "liquidation", "repay", "withdraw"] {
        let is_known = |row: &Value| {
            let protocol =
                [&row["protocol_name"], &row["contract_version"]].map(|part| part.as_str().unwrap_or_default());
            row["category"] == category && protocols.contains(&format!("{}-eth", protocol.join("-")).as_str())
        };
        // Identical rows are one row.
        let recorded: BTreeSet<_> =
            recording.rows("lending_events.jsonl").filter(is_known).map(|row| row.to_string()).collect();
        let table = format!("transpose_{category}_events");
        check_table_rows(&lake, &table, recorded.len());
        let staged = lake.query_number(&format!("select count(*) from db_stage_dev.{table}"));
        assert_eq!(
            lake.query_number(&format!("select count(*) from db_analytics_dev.{table}")),
            staged,
            "priced rows of {table}"
        );
    }
    for (kind, table) in
        [("markets", "the_graph_historical_market_data"), ("positions", "the_graph_historical_account_positions")]
    {
        let recorded =
            protocols.iter().map(|protocol| recording.rows(&format!("{kind}.{protocol}.jsonl")).count()).sum();
        check_table_rows(&lake, table, recorded);
    }
    let days = recording.rows("blocks.jsonl").count();
    assert_eq!(lake.query_number("select count(*) from db_raw_dev.ethereum_daily_blocks"), days);
    lake.quarantined_rows("")
}

fn check_table_rows(lake: &Lake, table: &str, recorded: usize) {
    let [raw, staged] =
        ["raw", "stage"].map(|layer| lake.query_number(&format!("select count(*) from db_{layer}_dev.{table}")));
    assert_eq!(raw, recorded, "raw rows of {table}");
    assert_eq!(staged + lake.quarantined_rows(table), recorded, "staged and quarantined rows of {table}");
}

fn compound() -> Option<Recording> {
    Recording::open("compound-v2-2019", &[])
}

/// The expected features beside this recording count supply at a liquidation threshold of 0 as collateral. Those of the
/// case do not.
fn golden() -> Option<Recording> {
    let recording = Recording::open("golden-two-protocols", &["--from", "2023-02-20"])?;
    Some(Recording { expected: case_folder("threshold-of-zero")?, ..recording })
}

#[test]
fn compound_features_match_in_new_lakes() {
    compound().iter().for_each(check_in_new_lakes);
}

#[test]
fn compound_features_match_in_one_lake() {
    compound().iter().for_each(check_in_one_lake);
}

#[test]
fn compound_loses_no_rows() {
    let Some(recording) = compound() else { return };
    assert_eq!(check_row_counts(&recording), 0, "this recording has no invalid rows");
}

#[test]
fn golden_features_match_in_new_lakes() {
    golden().iter().for_each(check_in_new_lakes);
}

#[test]
fn golden_features_match_in_one_lake() {
    golden().iter().for_each(check_in_one_lake);
}

#[test]
fn golden_loses_no_rows() {
    let Some(recording) = golden() else { return };
    assert!(check_row_counts(&recording) > 0, "this recording has invalid rows on purpose");
}

#[test]
fn is_equal_has_a_relative_tolerance_of_1e_9() {
    for (cell, expected) in [("", ""), ("0", "0.0"), ("1e3", "1000"), ("1.0000000005", "1"), ("-2.000000001", "-2")] {
        assert!(is_equal(cell, expected), "{cell} {expected}");
    }
    for (cell, expected) in
        [("", "0"), ("0", ""), ("0", "1e-30"), ("1.00000001", "1"), ("-1", "1"), ("x", "x"), ("NaN", "NaN")]
    {
        assert!(!is_equal(cell, expected), "{cell} {expected}");
    }
}
