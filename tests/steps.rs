//! The steps as the rest of the repository lists them: the crates, Terraform, the state machine and the command.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use defi_shared::pipeline::{InputKind, Step};
use tempfile::tempdir;

use crate::support::command::{command, output, path_str, succeed};
use crate::support::tree::{Tree, is_of_runs};

/// The options of a small sample chain.
const SAMPLE: [&str; 4] = ["--wallets", "40", "--days", "5"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn step_names() -> BTreeSet<String> {
    Step::ALL.iter().map(|step| step.name().to_owned()).collect()
}

/// The steps, and the function that no run calls.
fn function_names() -> BTreeSet<String> {
    step_names().into_iter().chain([get_features::NAME.to_owned()]).collect()
}

/// The strings between a prefix and the next quotation mark.
fn quoted_after(text: &str, prefix: &str) -> BTreeSet<String> {
    text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn every_function_has_a_crate_and_every_crate_a_function() {
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let crates: BTreeSet<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(crates, function_names());
}

/// `cargo test` builds the executable of a crate only for its integration tests, and the local AWS runs the executables.
#[test]
fn every_crate_of_a_function_has_integration_tests() {
    let without = |name: &String| !root().join("functions").join(name).join("tests").is_dir();
    assert_eq!(function_names().into_iter().filter(without).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn terraform_deploys_every_function() {
    let text = fs::read_to_string(root().join("infra/steps.tf")).unwrap();
    let table = text.split("step_table = {\n").nth(1).unwrap().split("\n  }\n").next().unwrap();
    let is_key = |line: &&str| line.starts_with("    ") && !line.starts_with("     ") && line.ends_with(" = {");
    let keys = table.lines().filter(is_key).map(|line| line.trim().trim_end_matches(" = {").to_owned());
    assert_eq!(keys.collect::<BTreeSet<_>>(), function_names());
}

#[test]
fn state_machine_calls_every_step() {
    let text = fs::read_to_string(root().join("infra/state-machine.asl.json")).unwrap();
    let (single, maps) = (quoted_after(&text, "${function[\""), quoted_after(&text, "${batches[\""));
    let planned: BTreeSet<_> = Step::planned().map(|step| step.name().to_owned()).collect();
    assert_eq!(maps, planned, "a step with units is called by a map over its batches");
    let whole_run = Step::ALL.iter().filter(|step| step.input() == InputKind::Run);
    assert_eq!(single, whole_run.map(|step| step.name().to_owned()).collect());
}

#[test]
fn steps_by_hand_produce_the_lake_of_a_run() {
    let folder = tempdir().unwrap();
    let (by_run, by_hand) = (folder.path().join("run"), folder.path().join("steps"));
    succeed(command(&["run", "--lake", path_str(&by_run)]).args(SAMPLE));
    for step in Step::ALL.into_iter().filter(|step| *step != Step::ReportRun) {
        let report = succeed(command(&["step", step.name(), "--lake", path_str(&by_hand)]).args(SAMPLE));
        assert!(serde_json::from_str::<serde_json::Value>(&report).unwrap().is_object(), "{step}: {report}");
    }
    let tables = |lake: &Path| {
        let mut objects = Tree::read(lake).0;
        objects.retain(|path, _| !is_of_runs(path));
        objects
    };
    let (expected, actual) = (tables(&by_run), tables(&by_hand));
    assert_eq!(actual.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(actual == expected, "objects differ");
}

#[test]
fn step_takes_the_input_of_its_function() {
    let folder = tempdir().unwrap();
    let lake = path_str(folder.path());
    let input = r#"{"days": ["2023-01-02"]}"#;
    let report = succeed(command(&["step", "extract-daily-blocks", input, "--lake", lake]).args(SAMPLE));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["units"], &report["rows_out"]), (&1.into(), &1.into()));
    for (args, message) in [
        (&["step", "extract-everything"][..], "unknown step"),
        (&["step", "stage-events", "{"], "not JSON"),
        (&["step", "stage-events", r#"{"protocols": []}"#], "has no field `protocols`"),
        (&["step", "link-wallets", r#"{"day": "2023-01-02"}"#], "unknown field"),
        (&["step", "stage-events", r#"{"days": ["2023-01-02"]}"#], "NotReady"),
        (&["step"], "<NAME>"),
    ] {
        let output = output(command(args).args(["--lake", lake]).args(SAMPLE));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(message) && error.lines().count() == 1, "{args:?}: {error}");
    }
}

#[test]
fn step_with_an_invalid_input_writes_nothing() {
    let folder = tempdir().unwrap();
    let lake = folder.path().join("lake");
    let output = output(command(&["step", "link-wallets", r#"{"day": 1}"#, "--lake", path_str(&lake)]).args(SAMPLE));
    assert!(!output.status.success() && !lake.exists());
}

#[test]
fn step_list_names_every_step() {
    let table = succeed(&mut command(&["step", "--list"]));
    let json = succeed(&mut command(&["step", "--list", "--json"]));
    let listed: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(listed.len(), Step::ALL.len());
    for (step, entry) in Step::ALL.into_iter().zip(&listed) {
        assert!(table.contains(step.name()) && entry["step"] == step.name(), "{step}");
    }
}
