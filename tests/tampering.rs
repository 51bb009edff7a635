//! Objects that somebody else wrote into the lake of a run are named: by `defi doctor`, and by the check of the next set.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};

const CHAIN: [&str; 4] = ["--wallets", "30", "--days", "5"];

const RAW_REPAYS: &str = "raw/transpose/transpose_repay_events/year=2023/month=01";

/// Returns the arguments of a run as of a day of January 2023.
fn run_as_of(lake: &Path, day: u32) -> Vec<String> {
    let as_of = format!("2023-01-{day:02}");
    let args = [&["run", "--lake", path_str(lake), "--as-of", &as_of], &CHAIN[..]].concat();
    args.into_iter().map(str::to_owned).collect()
}

fn run(lake: &Path, day: u32) -> std::process::Output {
    output(command(&[]).args(run_as_of(lake, day)))
}

/// Returns a lake with a set as of 4 January, published by a run.
fn lake_as_of_the_fourth() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    succeed(command(&[]).args(run_as_of(&lake, 4)));
    (folder, lake)
}

/// Changes an object so that it stays readable and has the same size and rows: only the name of its writer differs.
fn change(path: &Path) {
    let mut bytes = fs::read(path).expect("an object");
    let writer = b"parquet-rs";
    let at = bytes.windows(writer.len()).rposition(|window| window == writer).expect("the writer's name");
    bytes[at] = b'q';
    fs::write(path, bytes).expect("an object");
}

/// Returns what doctor finds about digests, and its exit code.
fn digests(lake: &Path) -> (Vec<String>, Option<i32>) {
    let output = output(&mut command(&["doctor", "--json", "--lake", path_str(lake)]));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of_digests = findings.iter().filter(|finding| finding["what"] == "digests");
    (of_digests.map(|finding| format!("{} {}", finding["state"], finding["found"])).collect(), output.status.code())
}

/// Asserts that doctor names an object, and that the run of the next day fails the check and names it.
fn assert_is_noticed(lake: &Path, key: &str, found: &str) {
    let (findings, code) = digests(lake);
    assert!(findings.iter().any(|finding| finding.contains(found) && finding.contains(key)), "{findings:?}");
    assert_eq!(code, Some(1));
    let output = run(lake, 5);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(message.contains("QualityFailed") && message.contains("foreign_inputs"), "{message}");
    assert!(message.replace(' ', "").contains(key), "{message}");
}

/// Returns the key of the first object below a folder of the lake.
fn first_below(lake: &Path, folder: &str) -> String {
    let mut names: Vec<_> = fs::read_dir(lake.join(folder)).expect("a folder").flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    format!("{folder}/{}", names[0].file_name().to_string_lossy())
}

#[test]
fn forged_raw_object_that_was_there_before_its_run_is_noticed() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let forged = format!("{RAW_REPAYS}/2023-01-04.parquet");
    fs::copy(lake.join(RAW_REPAYS).join("2023-01-03.parquet"), lake.join(&forged)).expect("an object");
    assert_is_noticed(&lake, &forged, "1 objects were written by no step");
    fs::remove_file(lake.join(&forged)).expect("the object is deleted");
    assert!(run(&lake, 5).status.success(), "the run extracts the day");
    assert_eq!(digests(&lake).1, Some(0));
}

#[test]
fn forged_raw_object_in_a_new_lake_does_not_pass_as_older_than_the_records() {
    let (_folder, other) = lake_as_of_the_fourth();
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let forged = format!("{RAW_REPAYS}/2023-01-03.parquet");
    let lost = "state/lost/the_graph_historical_market_data/2022-12-01.aave-v2-eth.json";
    // Any other folder with files is refused.
    fs::create_dir_all(lake.join("catalog")).expect("a folder");
    for key in [&forged, "state/fold/notes.parquet", "state/x", lost] {
        let path = lake.join(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "{}").expect("an object");
    }
    fs::copy(other.join(RAW_REPAYS).join("2023-01-02.parquet"), lake.join(&forged)).expect("an object");
    let output = run(&lake, 4);
    let message = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join("");
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("foreign_inputs") && message.contains(&forged), "{message}");
}

#[test]
fn forged_raw_object_does_not_pass_if_the_list_of_older_objects_is_deleted() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let forged = format!("{RAW_REPAYS}/2023-01-04.parquet");
    fs::copy(lake.join(RAW_REPAYS).join("2023-01-03.parquet"), lake.join(&forged)).expect("an object");
    fs::remove_file(lake.join("digests/before.json")).expect("the list is deleted");
    let output = run(&lake, 5);
    let message = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join("");
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("foreign_inputs") && message.contains(&forged), "{message}");
}

#[test]
fn changed_state_is_noticed() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let version = first_below(&lake, "state/fold");
    let key = first_below(&lake, &format!("{version}/as_of=2023-01-04"));
    change(&lake.join(&key));
    assert_is_noticed(&lake, &key, "1 objects differ from what a step wrote");
    fs::remove_dir_all(lake.join(version)).expect("the states are deleted");
    assert!(run(&lake, 5).status.success(), "the run folds all days");
    assert_eq!(digests(&lake).1, Some(0));
}

#[test]
fn changed_object_of_a_day_that_is_folded_again_is_noticed() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let key = first_below(&lake, "analytics/transpose/transpose_deposit_events/year=2023/month=01");
    change(&lake.join(&key));
    // Without states the run folds the day of the object again.
    fs::remove_dir_all(lake.join("state/fold")).expect("the states are deleted");
    assert_is_noticed(&lake, &key, "1 objects differ from what a step wrote");
}

#[test]
fn rewritten_published_object_is_noticed() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let key = first_below(&lake, "analytics/features/defi_features/as_of=2023-01-04");
    change(&lake.join(&key));
    assert_is_noticed(&lake, &key, "1 objects differ from what a step wrote");
    fs::remove_file(lake.join(&key)).expect("the object is deleted");
    for day in [4, 5] {
        assert!(run(&lake, day).status.success(), "the run publishes the day");
    }
    assert_eq!(digests(&lake).1, Some(0));
}

#[test]
fn every_object_is_as_a_step_wrote_it_and_its_run_knows_its_digest() {
    let (_folder, lake) = lake_as_of_the_fourth();
    let (findings, code) = digests(&lake);
    assert!(findings.len() == 1 && findings[0].contains("objects are as a step wrote them"), "{findings:?}");
    assert!(!findings[0].contains("no record") && code == Some(0), "{findings:?}");

    let run =
        fs::read_dir(lake.join("runs")).expect("runs").flatten().find(|run| run.path().join("plan.json").exists());
    let reports = run.expect("a run").path().join("reports/extract-events");
    let reports = fs::read_dir(reports).expect("reports").flatten().map(|report| fs::read_to_string(report.path()));
    let reports: String = reports.map(|report| report.expect("a report")).collect();
    let key = format!("{RAW_REPAYS}/2023-01-03.parquet");
    let records = fs::read_dir(lake.join("digests").join(RAW_REPAYS)).expect("records").flatten();
    let records: Vec<_> = records.map(|record| record.file_name().to_string_lossy().into_owned()).collect();
    let record = records.iter().find_map(|record| record.strip_prefix("2023-01-03.parquet.")).expect("a record");
    assert!(reports.contains(&format!("\"{key}\": \"{record}\"")), "{reports}");
}

#[test]
fn lake_from_before_the_records_is_not_accused() {
    let (_folder, lake) = lake_as_of_the_fourth();
    fs::remove_dir_all(lake.join("digests")).expect("the records are deleted");
    let (findings, code) = digests(&lake);
    assert!(findings.len() == 1 && findings[0].contains("0 objects are as a step wrote them; "), "{findings:?}");
    assert!(findings[0].contains("have no record") && code == Some(0), "{findings:?}");
    assert!(run(&lake, 5).status.success());
    let (findings, code) = digests(&lake);
    assert!(findings.len() == 1 && findings[0].contains("have no record") && code == Some(0), "{findings:?}");
    let forged = format!("{RAW_REPAYS}/2023-01-09.parquet");
    fs::copy(lake.join(RAW_REPAYS).join("2023-01-03.parquet"), lake.join(&forged)).expect("an object");
    let (findings, _) = digests(&lake);
    assert!(findings.iter().any(|finding| finding.contains(&forged)), "later objects have records: {findings:?}");
}
