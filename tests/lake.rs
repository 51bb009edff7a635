//! The bytes of a lake depend only on its rows, and not on the order or number of the runs that wrote it or on the
//! source. All tests use a small sample chain.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use tempfile::{TempDir, tempdir};

use crate::support::command::{command, path_str, succeed};
use crate::support::server::ServeProcess;
use crate::support::tree::{Tree, is_of_runs};

const CHAIN: [&str; 6] = ["--wallets", "60", "--days", "12", "--seed", "3"];
const FIRST_DAY: &str = "2023-01-01";
const MIDDLE_DAY: &str = "2023-01-07";
const LAST_DAY: &str = "2023-01-13";

/// Prefixes of objects that depend only on the chain and the as-of days, as do their records in `digests/`. Those of which
/// [`is_of_runs`] tells also depend on the work of each run.
const TABLE_PREFIXES: [&str; 5] = ["raw/", "stage/", "analytics/", "quarantine/", "state/"];

/// A lake as of the last day, written by one run.
static SINGLE_RUN: LazyLock<Tree> = LazyLock::new(|| tree(&lake_as_of(&[LAST_DAY])));

/// Runs the command into a lake and returns its output.
fn run(lake: &Path, args: &[&str]) -> String {
    succeed(&mut command(&[&["run", "--lake", path_str(lake)], args].concat()))
}

/// Returns a new lake after runs over the chain for each of the as-of days.
fn lake_as_of(days: &[&str]) -> TempDir {
    let lake = tempdir().expect("a temporary folder");
    for day in days {
        run(lake.path(), &[&CHAIN[..], &["--as-of", day]].concat());
    }
    lake
}

/// Returns a copy of the single-run lake.
fn copy() -> TempDir {
    let lake = tempdir().expect("a temporary folder");
    for (path, bytes) in &SINGLE_RUN.0 {
        let path = lake.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    lake
}

fn tree(lake: &TempDir) -> Tree {
    Tree::read(lake.path())
}

/// Returns whether a path is that of a build or of a checked copy. The copy of the set that was published last stays in
/// the lake.
fn is_build(path: &str) -> bool {
    ["analytics/features/builds/", "analytics/features/checked/"].iter().any(|folder| path.starts_with(folder))
}

fn is_table_object(path: &str) -> bool {
    !is_of_runs(path) && TABLE_PREFIXES.iter().any(|folder| path.starts_with(folder))
}

/// Asserts that a lake contains every expected file that the filter selects, with the same bytes.
fn assert_contains(lake: &Tree, expected: &Tree, filter: impl Fn(&str) -> bool) {
    let mut differing = Vec::new();
    let mut count = 0;
    for (path, bytes) in expected.0.iter().filter(|(path, _)| filter(path)) {
        count += 1;
        match lake.0.get(path) {
            Some(actual) if actual == bytes => {}
            Some(_) => differing.push(format!("{path} differs")),
            None => differing.push(format!("{path} is missing")),
        }
    }
    assert!(count > 0, "the filter selects no file");
    assert!(differing.is_empty(), "{} of {count} files differ:\n{}", differing.len(), differing.join("\n"));
}

/// Asserts that the files that the filter selects are equal in both trees.
fn assert_equal(lake: &Tree, expected: &Tree, filter: impl Fn(&str) -> bool) {
    assert_contains(lake, expected, &filter);
    let additional: Vec<_> = lake.paths().filter(|path| filter(path) && !expected.0.contains_key(*path)).collect();
    assert!(additional.is_empty(), "unexpected files:\n{}", additional.join("\n"));
}

#[test]
fn lake_has_every_kind_of_object() {
    for folder in TABLE_PREFIXES.into_iter().chain(["catalog/", "runs/"]) {
        assert!(SINGLE_RUN.paths().any(|path| path.starts_with(folder)), "{folder}");
    }
    let features: Vec<_> = SINGLE_RUN.paths().filter(|path| path.contains("/defi_features/")).collect();
    assert!(features.iter().all(|path| path.contains(LAST_DAY)) && !features.is_empty(), "{features:?}");
}

#[test]
fn daily_runs_give_the_lake_of_a_single_run() {
    let days: Vec<_> = (1..=13).map(|day| format!("2023-01-{day:02}")).collect();
    let day_by_day = tree(&lake_as_of(&days.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_contains(&day_by_day, &SINGLE_RUN, |path| !is_of_runs(path));
    // The only additional objects are those of the earlier as-of days.
    let additional: Vec<_> = day_by_day.paths().filter(|path| !SINGLE_RUN.0.contains_key(*path)).collect();
    let is_of_as_of_day = |path: &str| days.iter().any(|day| path.contains(&format!("as_of={day}")));
    let is_expected = |path: &&&str| {
        is_of_as_of_day(path) || is_of_runs(path) || path.starts_with("catalog/db_analytics_dev/defi_features_history/")
    };
    assert_eq!(additional.iter().filter(|path| !is_expected(path)).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn as_of_days_in_any_order_give_the_same_lake() {
    let unordered = tree(&lake_as_of(&[MIDDLE_DAY, LAST_DAY, "2023-01-03", "2023-01-10"]));
    assert_contains(&unordered, &SINGLE_RUN, |path| !is_of_runs(path) && !is_build(path));
}

#[test]
fn second_run_changes_nothing() {
    let lake = copy();
    let printed = run(lake.path(), &CHAIN);
    assert!(printed.contains("no unit is missing"), "{printed}");
    assert_equal(&tree(&lake), &SINGLE_RUN, |_| true);
}

#[test]
fn equal_options_give_equal_bytes_and_other_seeds_do_not() {
    assert_equal(&tree(&lake_as_of(&[LAST_DAY])), &SINGLE_RUN, |path| !path.contains("/report"));

    let other = tempdir().expect("a temporary folder");
    run(other.path(), &["--wallets", "60", "--days", "12", "--seed", "4"]);
    let other = tree(&other);
    for (path, bytes) in SINGLE_RUN.0.iter().filter(|(path, _)| path.contains("/defi_features/")) {
        assert_ne!(other.0.get(path), Some(bytes), "{path}");
    }
}

#[test]
fn force_rewrites_equal_bytes() {
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--force"]].concat());
    assert_equal(&tree(&lake), &SINGLE_RUN, |path| !is_of_runs(path));
}

/// Deletes objects from a copy of the single-run lake, and asserts that the next run restores them.
fn assert_restores(lake: &TempDir, is_deleted: impl Fn(&str) -> bool) {
    let deleted: Vec<_> = SINGLE_RUN.paths().filter(|path| is_deleted(path)).collect();
    assert!(!deleted.is_empty());
    for path in &deleted {
        fs::remove_file(lake.path().join(path)).expect("an object");
    }
    let printed = run(lake.path(), &CHAIN);
    assert!(!printed.contains("no unit is missing"), "the run did not notice that {deleted:?} are missing");
    assert_equal(&tree(lake), &SINGLE_RUN, |path| !is_of_runs(path));
}

#[test]
fn run_restores_a_missing_day_of_a_layer() {
    let lake = copy();
    for layer in ["raw/", "stage/", "analytics/"] {
        assert_restores(&lake, |path| path.starts_with(layer) && path.contains(MIDDLE_DAY));
    }
}

#[test]
fn run_restores_a_missing_object_of_each_table() {
    let lake = copy();
    // For tables with daily units the object of the middle day, for the features the last shard.
    let mut objects = BTreeMap::new();
    let is_chosen = |path: &&str| path.contains(MIDDLE_DAY) || path.contains("/defi_features/");
    for path in SINGLE_RUN.paths().filter(|path| is_table_object(path)).filter(is_chosen) {
        let table = path.rsplit_once('=').map(|(folder, _)| folder.split("/year=").next());
        objects.insert(table, path);
    }
    let objects: Vec<_> = objects.into_values().filter(|path| !path.starts_with("quarantine/")).collect();
    // The middle day of the raw, stage and analytics tables, and one shard of the features.
    assert_eq!(objects.len(), 8 + 7 + 7 + 1, "{objects:?}");
    for object in objects {
        assert_restores(&lake, |path| path == object);
    }
}

#[test]
fn run_restores_missing_current_positions() {
    assert_restores(&copy(), |path| path.contains("/the_graph_current_collateral_positions/"));
}

#[test]
fn published_features_need_no_state() {
    let lake = copy();
    for path in SINGLE_RUN.paths().filter(|path| path.starts_with("state/fold/") || path.starts_with("state/links/")) {
        fs::remove_file(lake.path().join(path)).expect("a state");
    }
    assert!(run(lake.path(), &CHAIN).contains("no unit is missing"));
}

#[test]
fn features_without_a_record_of_their_check_are_built_and_checked_again() {
    assert_restores(&copy(), |path| path.starts_with("state/passed/"));
}

/// The steps with missing units, according to `defi plan`, and whether a run would send requests for them.
fn planned(lake: &TempDir) -> (Vec<String>, bool) {
    let args = ["plan", "--json", "--lake", path_str(lake.path())];
    let plan = succeed(&mut command(&[&args, &CHAIN[..]].concat()));
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let steps = plan["steps"].as_array().expect("steps").iter();
    (steps.map(|step| step["step"].as_str().expect("a step").to_owned()).collect(), plan["requests"] != 0)
}

#[test]
fn run_recomputes_a_lake_of_older_rules_once_and_extracts_nothing() {
    let lake = copy();
    assert_eq!(planned(&lake).0.len(), 0);
    fs::remove_file(lake.path().join("state/versions.json")).expect("the versions");
    let recomputed = ["stage-events", "link-wallets", "price-events", "value-positions", "build-features"];
    assert_eq!(planned(&lake), (recomputed.map(str::to_owned).into(), false));
    run(lake.path(), &CHAIN);
    assert_equal(&tree(&lake), &SINGLE_RUN, |path| !is_of_runs(path));
    assert_eq!(planned(&lake).0.len(), 0);
}

#[test]
fn killed_run_leaves_complete_objects_and_next_run_completes() {
    let lake = tempdir().expect("a temporary folder");
    let args = ["run", "--lake", path_str(lake.path())];
    let mut killed = command(&[&args, &CHAIN[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the process starts");
    let progress =
        BufReader::new(killed.stderr.take().expect("stderr is piped")).lines().map(|line| line.expect("UTF-8"));
    assert!(progress.into_iter().any(|line| line.starts_with("stage-")), "the run ended before staging");
    killed.kill().expect("the process is killed");
    killed.wait().expect("the process ends");

    let partial = tree(&lake);
    assert_contains(&SINGLE_RUN, &partial, is_table_object);
    assert!(
        !partial.paths().any(|path| path.starts_with("analytics/features/defi_features/")),
        "the run ended before it was killed"
    );
    run(lake.path(), &CHAIN);
    assert_equal(&tree(&lake), &SINGLE_RUN, |path| !is_of_runs(path));
}

#[test]
fn earlier_as_of_day_does_not_depend_on_later_data() {
    let earlier = tree(&lake_as_of(&[MIDDLE_DAY]));
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--as-of", MIDDLE_DAY]].concat());
    let both = tree(&lake);
    // The second run did not rebuild the links, so that it wrote no state of them.
    assert_contains(&both, &earlier, |path| is_table_object(path) && !path.starts_with("state/links/"));
    assert_contains(&both, &SINGLE_RUN, |path| !is_build(path));
}

#[test]
fn environment_is_part_of_the_database_names() {
    let lake = tempdir().expect("a temporary folder");
    run(lake.path(), &[&CHAIN[..], &["--env", "prod"]].concat());
    let prod = tree(&lake);
    assert_equal(&prod, &SINGLE_RUN, is_table_object);
    let catalog = SINGLE_RUN.0.iter().filter(|(path, _)| path.starts_with("catalog/"));
    let catalog = catalog.map(|(path, bytes)| (path.replacen("_dev/", "_prod/", 1), bytes.clone())).collect();
    assert_equal(&prod, &Tree(catalog), |path| path.starts_with("catalog/"));

    let tables =
        succeed(&mut command(&["tables", "--lake", path_str(lake.path()), "--env", "prod", "--format", "csv"]));
    let names: Vec<_> = tables.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names.len(), 26, "25 tables and a view: {names:?}");
    for name in names {
        assert!(
            ["db_raw_prod.", "db_stage_prod.", "db_analytics_prod."].iter().any(|database| name.starts_with(database)),
            "{name}"
        );
    }
}

#[test]
fn run_from_a_server_gives_the_same_lake() {
    let server = ServeProcess::start(&mut command(&[&["serve", "--port", "0"], &CHAIN[..]].concat()));
    let lake = tempdir().expect("a temporary folder");
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url];
    run(lake.path(), &[&urls[..], &["--from", FIRST_DAY, "--as-of", LAST_DAY]].concat());
    // Without `chain.json`, which names the chain: the chain of a server is unknown.
    assert_equal(&tree(&lake), &SINGLE_RUN, |path| path != "chain.json" && !path.contains("/report"));
}

#[test]
fn second_environment_of_a_lake_has_all_tables() {
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--env", "prod"]].concat());
    let tables = |env: &str| {
        let args = ["tables", "--lake", path_str(lake.path()), "--env", env, "--format", "csv"];
        succeed(&mut command(&args)).replace(&format!("_{env}."), ".")
    };
    assert_eq!(tables("prod"), tables("dev"));
}
