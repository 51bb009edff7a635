//! The steps as the rest of the repository lists them: the crates, Terraform, the state machine and the command.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use defi_shared::pipeline::{InputKind, Step};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn step_names() -> BTreeSet<String> {
    Step::ALL.iter().map(|step| step.name().to_owned()).collect()
}

/// The strings between a prefix and the next quotation mark.
fn quoted_after(text: &str, prefix: &str) -> BTreeSet<String> {
    text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn every_step_has_a_crate_and_every_crate_a_step() {
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let crates: BTreeSet<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(crates, step_names());
}

#[test]
fn terraform_deploys_every_step() {
    let text = fs::read_to_string(root().join("infra/steps.tf")).unwrap();
    let table = text.split("step_table = {\n").nth(1).unwrap().split("\n  }\n").next().unwrap();
    let is_key = |line: &&str| line.starts_with("    ") && !line.starts_with("     ") && line.ends_with(" = {");
    let keys = table.lines().filter(is_key).map(|line| line.trim().trim_end_matches(" = {").to_owned());
    assert_eq!(keys.collect::<BTreeSet<_>>(), step_names());
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
