//! What a lake holds depends on its rows alone: not on the order or the number of the runs that made it, nor on the way the
//! rows came. All of it over a small sample chain, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use tempfile::{TempDir, tempdir};

use crate::support::command::{command, succeed, text};
use crate::support::server::Served;
use crate::support::tree::Tree;

const CHAIN: [&str; 6] = ["--wallets", "60", "--days", "12", "--seed", "3"];
const FIRST_DAY: &str = "2023-01-01";
const MIDDLE_DAY: &str = "2023-01-07";
const LAST_DAY: &str = "2023-01-13";

/// Folders whose objects depend on the chain and the as_of days alone. `runs/` tells what each run had to do and to ask.
const TABLES: [&str; 5] = ["raw/", "stage/", "analytics/", "quarantine/", "state/"];

/// A lake of the last day, made by one run.
static AT_ONCE: LazyLock<Tree> = LazyLock::new(|| tree(&lake_as_of(&[LAST_DAY])));

/// One run over the chain; what it printed.
fn run(lake: &Path, args: &[&str]) -> String {
    succeed(&mut command(&[&["run", "--lake", text(lake)], args].concat()))
}

/// Runs over the chain as of these days.
fn lake_as_of(days: &[&str]) -> TempDir {
    let lake = tempdir().expect("a folder");
    for day in days {
        run(lake.path(), &[&CHAIN[..], &["--as-of", day]].concat());
    }
    lake
}

/// A copy of the lake of the last day.
fn copy() -> TempDir {
    let lake = tempdir().expect("a folder");
    for (path, bytes) in &AT_ONCE.0 {
        let path = lake.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    lake
}

fn tree(lake: &TempDir) -> Tree {
    Tree::read(lake.path())
}

fn is_of_a_table(path: &str) -> bool {
    TABLES.iter().any(|folder| path.starts_with(folder))
}

/// Holds every file of one tree, as far as `chosen`, to be in another with the same bytes.
fn assert_holds(lake: &Tree, wanted: &Tree, chosen: impl Fn(&str) -> bool) {
    let mut differing = Vec::new();
    let mut count = 0;
    for (path, bytes) in wanted.0.iter().filter(|(path, _)| chosen(path)) {
        count += 1;
        match lake.0.get(path) {
            Some(there) if there == bytes => {}
            Some(_) => differing.push(format!("{path} differs")),
            None => differing.push(format!("{path} is missing")),
        }
    }
    assert!(count > 0, "there is nothing to compare");
    assert!(differing.is_empty(), "{} of {count} files:\n{}", differing.len(), differing.join("\n"));
}

/// Holds two trees to be equal, as far as `chosen`.
fn assert_equal(lake: &Tree, wanted: &Tree, chosen: impl Fn(&str) -> bool) {
    assert_holds(lake, wanted, &chosen);
    let additional: Vec<_> = lake.paths().filter(|path| chosen(path) && !wanted.0.contains_key(*path)).collect();
    assert!(additional.is_empty(), "files that should not be there:\n{}", additional.join("\n"));
}

#[test]
fn the_lake_holds_every_kind_of_object() {
    for folder in TABLES.into_iter().chain(["catalog/", "runs/"]) {
        assert!(AT_ONCE.paths().any(|path| path.starts_with(folder)), "{folder}");
    }
    let features: Vec<_> = AT_ONCE.paths().filter(|path| path.contains("/defi_features/")).collect();
    assert!(features.iter().all(|path| path.contains(LAST_DAY)) && !features.is_empty(), "{features:?}");
}

#[test]
fn day_by_day_comes_to_the_same_as_at_once() {
    let days: Vec<_> = (1..=13).map(|day| format!("2023-01-{day:02}")).collect();
    let day_by_day = tree(&lake_as_of(&days.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_holds(&day_by_day, &AT_ONCE, |path| !path.starts_with("runs/"));
    // The only further objects are those of the earlier as_of days.
    let further: Vec<_> = day_by_day.paths().filter(|path| !AT_ONCE.0.contains_key(*path)).collect();
    let is_of_an_as_of = |path: &str| days.iter().any(|day| path.contains(&format!("as_of={day}/")));
    let is_expected = |path: &&&str| {
        is_of_an_as_of(path)
            || path.starts_with("runs/")
            || path.starts_with("catalog/db_analytics_dev/defi_features_history/")
    };
    assert_eq!(further.iter().filter(|path| !is_expected(path)).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn days_in_any_order_come_to_the_same() {
    let backwards = tree(&lake_as_of(&[MIDDLE_DAY, LAST_DAY, "2023-01-03", "2023-01-10"]));
    assert_holds(&backwards, &AT_ONCE, |path| !path.starts_with("runs/"));
}

#[test]
fn a_second_run_finds_nothing_missing_and_touches_nothing() {
    let lake = copy();
    let printed = run(lake.path(), &CHAIN);
    assert!(printed.contains("nothing is missing"), "{printed}");
    assert_equal(&tree(&lake), &AT_ONCE, |_| true);
}

#[test]
fn equal_options_give_equal_bytes_and_another_seed_others() {
    assert_equal(&tree(&lake_as_of(&[LAST_DAY])), &AT_ONCE, |path| !path.contains("/report"));

    let other = tempdir().expect("a folder");
    run(other.path(), &["--wallets", "60", "--days", "12", "--seed", "4"]);
    let other = tree(&other);
    for (path, bytes) in AT_ONCE.0.iter().filter(|(path, _)| path.contains("/defi_features/")) {
        assert_ne!(other.0.get(path), Some(bytes), "{path}");
    }
}

#[test]
fn force_makes_the_same_again() {
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--force"]].concat());
    assert_equal(&tree(&lake), &AT_ONCE, |path| !path.starts_with("runs/"));
}

/// Deletes objects from a lake of the last day, and holds the next run to bring them back.
fn assert_heals(lake: &TempDir, is_deleted: impl Fn(&str) -> bool) {
    let deleted: Vec<_> = AT_ONCE.paths().filter(|path| is_deleted(path)).collect();
    assert!(!deleted.is_empty());
    for path in &deleted {
        fs::remove_file(lake.path().join(path)).expect("an object");
    }
    let printed = run(lake.path(), &CHAIN);
    assert!(!printed.contains("nothing is missing"), "{deleted:?} went unnoticed");
    assert_equal(&tree(lake), &AT_ONCE, |path| !path.starts_with("runs/"));
}

#[test]
fn a_lake_without_a_day_of_a_layer_is_healed() {
    let lake = copy();
    for layer in ["raw/", "stage/", "analytics/"] {
        assert_heals(&lake, |path| path.starts_with(layer) && path.contains(MIDDLE_DAY));
    }
}

#[test]
fn a_lake_without_one_object_of_a_table_is_healed() {
    let lake = copy();
    // Of the tables with days that of the day in the middle, of the features the last shard.
    let mut objects = BTreeMap::new();
    for path in AT_ONCE.paths().filter(|path| path.contains(MIDDLE_DAY) || path.contains("/defi_features/")) {
        let table = path.rsplit_once('=').map(|(folder, _)| folder.split("/year=").next());
        objects.insert(table, path);
    }
    let objects: Vec<_> = objects.into_values().filter(|path| !path.starts_with("quarantine/")).collect();
    // Ten tables have an object a day, six an object a day and protocol; the features are the last one.
    assert_eq!(objects.len(), 8 + 7 + 7 + 1, "{objects:?}");
    for object in objects {
        assert_heals(&lake, |path| path == object);
    }
}

#[test]
fn a_lake_without_the_current_positions_is_healed() {
    assert_heals(&copy(), |path| path.contains("/the_graph_current_collateral_positions/"));
}

#[test]
fn a_lake_without_the_state_is_healed() {
    assert_heals(&copy(), |path| path.starts_with("state/fold/"));
}

#[test]
fn a_run_that_was_killed_leaves_whole_objects_and_the_next_one_ends_it() {
    let lake = tempdir().expect("a folder");
    let args = ["run", "--lake", text(lake.path())];
    let mut killed =
        command(&[&args, &CHAIN[..]].concat()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let progress = BufReader::new(killed.stderr.take().expect("its output")).lines().map(|line| line.expect("text"));
    assert!(progress.into_iter().any(|line| line.starts_with("stage-")), "it was under way");
    killed.kill().expect("it can be killed");
    killed.wait().expect("it ends");

    let left = tree(&lake);
    assert_holds(&AT_ONCE, &left, is_of_a_table);
    assert!(
        !left.paths().any(|path| path.starts_with("analytics/features/defi_features/")),
        "it was killed before its end"
    );
    run(lake.path(), &CHAIN);
    assert_equal(&tree(&lake), &AT_ONCE, |path| !path.starts_with("runs/"));
}

#[test]
fn an_earlier_day_knows_nothing_of_later_ones() {
    let earlier = tree(&lake_as_of(&[MIDDLE_DAY]));
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--as-of", MIDDLE_DAY]].concat());
    let both = tree(&lake);
    // The links so far are kept where they were made anew, and here they were not.
    assert_holds(&both, &earlier, |path| is_of_a_table(path) && !path.starts_with("state/links/"));
    assert_holds(&both, &AT_ONCE, |_| true);
}

#[test]
fn the_environment_names_the_databases() {
    let lake = tempdir().expect("a folder");
    run(lake.path(), &[&CHAIN[..], &["--env", "prod"]].concat());
    let prod = tree(&lake);
    assert_equal(&prod, &AT_ONCE, is_of_a_table);
    let catalog = AT_ONCE.0.iter().filter(|(path, _)| path.starts_with("catalog/"));
    let catalog = catalog.map(|(path, bytes)| (path.replacen("_dev/", "_prod/", 1), bytes.clone())).collect();
    assert_equal(&prod, &Tree(catalog), |path| path.starts_with("catalog/"));

    let tables = succeed(&mut command(&["tables", "--lake", text(lake.path()), "--env", "prod", "--format", "csv"]));
    let names: Vec<_> = tables.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names.len(), 25, "{names:?}");
    for name in names {
        assert!(
            ["db_raw_prod.", "db_stage_prod.", "db_analytics_prod."].iter().any(|name_of| name.starts_with(name_of)),
            "{name}"
        );
    }
}

#[test]
fn a_server_gives_what_the_chain_gives() {
    let server = Served::start(&mut command(&[&["serve", "--port", "0"], &CHAIN[..]].concat()));
    let lake = tempdir().expect("a folder");
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url];
    run(lake.path(), &[&urls[..], &["--from", FIRST_DAY, "--as-of", LAST_DAY]].concat());
    // All but the object that says which chain it is: of a server nobody knows.
    assert_equal(&tree(&lake), &AT_ONCE, |path| path != "chain.json" && !path.contains("/report"));
}

#[test]
fn another_environment_of_a_lake_that_is_there_has_all_of_its_tables_too() {
    let lake = copy();
    run(lake.path(), &[&CHAIN[..], &["--env", "prod"]].concat());
    let tables = |env: &str| {
        let args = ["tables", "--lake", text(lake.path()), "--env", env, "--format", "csv"];
        succeed(&mut command(&args)).replace(&format!("_{env}."), ".")
    };
    assert_eq!(tables("prod"), tables("dev"));
}
