//! Small inputs that once went wrong, in `../shared/data/cases`. If a case is missing, its test prints `NOT RUN`, or fails
//! where `CI` is set.

use std::path::Path;

use tempfile::tempdir;

use crate::support::command::{command, path_str, succeed};
use crate::support::recording::case_folder;

/// Runs a query over a lake and returns the rows of its result as CSV.
fn query(lake: &Path, sql: &str) -> Vec<String> {
    let csv = succeed(&mut command(&["query", "--lake", path_str(lake), "--format", "csv", sql]));
    csv.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn one_log_twice_counts_once() {
    let Some(recording) = case_folder("one-log-twice") else { return };
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let run = ["run", "--json", "--recording", path_str(&recording), "--lake", path_str(&lake)];
    let result: serde_json::Value = serde_json::from_str(&succeed(&mut command(&run))).expect("JSON");
    let steps = result["steps"].as_array().expect("steps");
    let staged = steps.iter().find(|step| step["step"] == "stage-events").expect("the step");
    let repeat = |category| format!("another valid row with the same key came first in {category}s");
    let rejected = serde_json::json!({ repeat("deposit"): 1, repeat("borrow"): 1 });
    assert_eq!(staged["report"]["rejected"], rejected);
    let sql = "select right(wallet_address, 2), deposit_count, borrow_count, withdraw_amount_sum_eth
               from db_analytics_dev.defi_features order by 1";
    assert_eq!(query(&lake, sql), ["01,1,0,0.0", "02,1,1,0.0"]);
}
