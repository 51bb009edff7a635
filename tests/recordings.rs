//! The recordings in `../shared/data` give the features that are expected of them, cell by cell, and lose no row on the way.
//! They are read where they are. Where they are missing the tests say so; on a build server that is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use defi_shared::lake::parquet::decode;
use defi_shared::tables::QuarantinedRow;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, succeed, text};

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
    manifest: Value,
    /// Options of every run over it.
    options: &'static [&'static str],
}

impl Recording {
    fn open(name: &str, options: &'static [&'static str]) -> Option<Recording> {
        let folder = crate::support::recording::recording(name)?;
        let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
        Some(Recording { folder, manifest: serde_json::from_slice(&manifest).expect("a manifest"), options })
    }

    /// The days that it has expected features for, in order.
    fn days(&self) -> Vec<String> {
        let names =
            fs::read_dir(&self.folder).expect("the recording").map(|entry| entry.expect("an entry").file_name());
        let day = |name: &str| Some(name.strip_prefix("expected.")?.strip_suffix(".csv")?.to_owned());
        let mut days: Vec<_> = names.filter_map(|name| day(&name.to_string_lossy())).collect();
        days.sort();
        assert!(days.len() >= 2, "{} has two days or more to compare", self.folder.display());
        days
    }

    fn expected(&self, as_of: &str) -> (Vec<String>, Features) {
        features(&fs::read_to_string(self.folder.join(format!("expected.{as_of}.csv"))).expect("expected features"))
    }

    /// The rows of a file.
    fn rows(&self, file: &str) -> impl Iterator<Item = Value> {
        let lines = BufReader::new(File::open(self.folder.join(file)).expect("a file of the recording")).lines();
        lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
    }

    /// The names of the protocols.
    fn protocols(&self) -> Vec<&str> {
        self.manifest["protocols"].as_array().expect("protocols").iter().filter_map(Value::as_str).collect()
    }

    fn run(&self, as_of: &str, lake: &Lake) {
        let args = ["run", "--recording", text(&self.folder), "--as-of", as_of, "--lake", lake.path()];
        succeed(&mut command(&[&args, self.options].concat()));
    }
}

struct Lake(TempDir);

impl Lake {
    fn new() -> Lake {
        Lake(tempdir().expect("a folder"))
    }

    fn path(&self) -> &str {
        text(self.0.path())
    }

    /// The answer to a question, as CSV.
    fn ask(&self, sql: &str) -> String {
        succeed(&mut command(&["query", "--lake", self.path(), "--format", "csv", sql]))
    }

    /// The only column of the answer's only row, a number.
    fn number(&self, sql: &str) -> usize {
        let answer = self.ask(sql);
        answer.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{sql}: {answer}"))
    }

    /// The rows of a table in quarantine.
    fn quarantined(&self, table: &str) -> usize {
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

fn features(csv: &str) -> (Vec<String>, Features) {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    (header, reader.deserialize().map(|row| row.expect("a row")).collect())
}

/// Holds an answer to the expected features: the same columns first, the same wallets, every cell.
fn compare(what: &str, answer: &str, (columns, expected): &(Vec<String>, Features)) {
    let (header, rows) = features(answer);
    assert_eq!(header[..columns.len()], columns[..], "{what}: the expected columns come first");
    let wallets = |rows: &Features| rows.iter().map(|row| row["wallet_address"].clone()).collect::<Vec<_>>();
    assert_eq!(wallets(&rows), wallets(expected), "{what}: wallets");
    let mut wrong = Vec::new();
    for (row, expected) in rows.iter().zip(expected) {
        for column in &columns[1..] {
            if !is_equal(&row[column], &expected[column]) {
                wrong
                    .push(format!("{} {column}: {:?}, not {:?}", row["wallet_address"], row[column], expected[column]));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{what}: {} cells differ, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

/// Whether two cells are equal to a relative 1e-9. An empty one is NULL, and equal to no number.
fn is_equal(cell: &str, expected: &str) -> bool {
    if cell.is_empty() || expected.is_empty() {
        return cell == expected;
    }
    let [cell, expected] = [cell, expected].map(|cell| cell.parse::<f64>().unwrap_or(f64::NAN));
    cell == expected || (cell - expected).abs() <= 1e-9 * cell.abs().max(expected.abs())
}

const FEATURES: &str = "select * from db_analytics_dev.defi_features order by wallet_address";

/// Each day in a lake of its own.
fn gives_what_is_expected_in_fresh_lakes(recording: &Recording) {
    for as_of in recording.days() {
        let lake = Lake::new();
        recording.run(&as_of, &lake);
        compare(&as_of, &lake.ask(FEATURES), &recording.expected(&as_of));
    }
}

/// All days in one lake, the newest first: the history has each, and `defi_features` never goes back.
fn gives_what_is_expected_in_one_lake(recording: &Recording) {
    let lake = Lake::new();
    let mut days = recording.days();
    days.reverse();
    for as_of in &days {
        recording.run(as_of, &lake);
        compare(&format!("the newest, after {as_of}"), &lake.ask(FEATURES), &recording.expected(&days[0]));
    }
    for as_of in &days {
        let sql = format!(
            "select * from db_analytics_dev.defi_features_history where as_of = '{as_of}' order by wallet_address"
        );
        compare(&format!("the history of {as_of}"), &lake.ask(&sql), &recording.expected(as_of));
    }
    let published = lake.ask("select distinct as_of from db_analytics_dev.defi_features_history order by 1 desc");
    assert_eq!(published.lines().skip(1).collect::<Vec<_>>(), days);
}

/// Every table answers by its name, and every recorded row is in the raw layer and then staged or in quarantine.
fn loses_nothing(recording: &Recording) -> usize {
    let last = recording.manifest["last_day"].as_str().expect("a day");
    let lake = Lake::new();
    recording.run(last, &lake);
    let counts = TABLES.map(|table| format!("select '{table}' as name, count(*) as n from {table}"));
    assert_eq!(lake.ask(&counts.join(" union all ")).lines().count(), 1 + TABLES.len());

    let protocols = recording.protocols();
    for category in ["borrow", "deposit", "liquidation", "repay", "withdraw"] {
        let is_known = |row: &Value| {
            let protocol =
                [&row["protocol_name"], &row["contract_version"]].map(|part| part.as_str().unwrap_or_default());
            row["category"] == category && protocols.contains(&format!("{}-eth", protocol.join("-")).as_str())
        };
        // A row that repeats another word for word is one row.
        let recorded: BTreeSet<_> =
            recording.rows("lending_events.jsonl").filter(is_known).map(|row| row.to_string()).collect();
        let table = format!("transpose_{category}_events");
        check_counts(&lake, &table, recorded.len());
        let staged = lake.number(&format!("select count(*) from db_stage_dev.{table}"));
        assert_eq!(lake.number(&format!("select count(*) from db_analytics_dev.{table}")), staged, "priced {table}");
    }
    for (kind, table) in
        [("markets", "the_graph_historical_market_data"), ("positions", "the_graph_historical_account_positions")]
    {
        let recorded =
            protocols.iter().map(|protocol| recording.rows(&format!("{kind}.{protocol}.jsonl")).count()).sum();
        check_counts(&lake, table, recorded);
    }
    let days = recording.rows("blocks.jsonl").count();
    assert_eq!(lake.number("select count(*) from db_raw_dev.ethereum_daily_blocks"), days);
    lake.quarantined("")
}

fn check_counts(lake: &Lake, table: &str, recorded: usize) {
    let [raw, staged] =
        ["raw", "stage"].map(|layer| lake.number(&format!("select count(*) from db_{layer}_dev.{table}")));
    assert_eq!(raw, recorded, "raw rows of {table}");
    assert_eq!(staged + lake.quarantined(table), recorded, "rows of {table} that are staged or in quarantine");
}

fn compound() -> Option<Recording> {
    Recording::open("compound-v2-2019", &[])
}

fn golden() -> Option<Recording> {
    Recording::open("golden-two-protocols", &["--from", "2023-02-20"])
}

#[test]
fn compound_gives_what_is_expected_in_fresh_lakes() {
    compound().iter().for_each(gives_what_is_expected_in_fresh_lakes);
}

#[test]
fn compound_gives_what_is_expected_in_one_lake() {
    compound().iter().for_each(gives_what_is_expected_in_one_lake);
}

#[test]
fn compound_loses_nothing() {
    let Some(recording) = compound() else { return };
    assert_eq!(loses_nothing(&recording), 0, "there is no bad row in it");
}

#[test]
fn golden_gives_what_is_expected_in_fresh_lakes() {
    golden().iter().for_each(gives_what_is_expected_in_fresh_lakes);
}

#[test]
fn golden_gives_what_is_expected_in_one_lake() {
    golden().iter().for_each(gives_what_is_expected_in_one_lake);
}

#[test]
fn golden_loses_nothing() {
    let Some(recording) = golden() else { return };
    assert!(loses_nothing(&recording) > 0, "bad rows are in it on purpose");
}

#[test]
fn cells_are_compared_to_a_relative_1e_9() {
    for (cell, expected) in [("", ""), ("0", "0.0"), ("1e3", "1000"), ("1.0000000005", "1"), ("-2.000000001", "-2")] {
        assert!(is_equal(cell, expected), "{cell} {expected}");
    }
    for (cell, expected) in
        [("", "0"), ("0", ""), ("0", "1e-30"), ("1.00000001", "1"), ("-1", "1"), ("x", "x"), ("NaN", "NaN")]
    {
        assert!(!is_equal(cell, expected), "{cell} {expected}");
    }
}
