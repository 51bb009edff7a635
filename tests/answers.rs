//! Queries of users: wallets and explanations of their features, exports, plans, shell completions, logs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, path_str, succeed};
use crate::support::recording::recording_folder;
use crate::support::tree::Tree;

/// Returns a lake with two published as-of days of the sample chain, shared by all tests that only read it.
fn sample_lake() -> &'static Path {
    static LAKE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, lake) = LAKE.get_or_init(|| {
        let folder = tempdir().expect("a temporary folder");
        let lake = folder.path().join("lake");
        for as_of in ["2023-01-12", "2023-01-20"] {
            let sample = ["--wallets", "120", "--days", "19", "--seed", "5", "--as-of", as_of];
            succeed(command(&["run", "--lake", path_str(&lake)]).args(sample));
        }
        (folder, lake)
    });
    lake
}

/// Runs the command over a lake and returns its output.
fn defi(lake: &Path, args: &[&str]) -> String {
    succeed(command(args).arg("--lake").arg(lake))
}

/// Runs the command over a lake and parses its output as JSON.
fn json(lake: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&defi(lake, args)).expect("JSON")
}

/// Returns the wallets of the newest published set.
fn wallets(lake: &Path) -> Vec<String> {
    let csv = defi(
        lake,
        &["query", "--format", "csv", "select wallet_address from db_analytics_dev.defi_features order by 1"],
    );
    csv.lines().skip(1).map(str::to_owned).collect()
}

/// Asserts that the explanation of every feature of a wallet gives the published value.
fn assert_explanations_agree(lake: &Path, wallet: &str) {
    let all = json(lake, &["wallet", wallet, "--explain", "all", "--json"]);
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 28, "26 features, and two columns on their health");
    for explanation in all {
        assert_eq!(explanation["agrees"], true, "{wallet}: {explanation:#}");
        assert_eq!(explanation["value"], explanation["published"]);
    }
}

#[test]
fn explanations_equal_published_features() {
    let lake = sample_lake();
    let wallets = wallets(lake);
    assert!(wallets.len() > 60, "{}", wallets.len());
    wallets.iter().step_by(12).for_each(|wallet| assert_explanations_agree(lake, wallet));
}

#[test]
fn explanations_equal_published_features_of_recordings() {
    for (name, step, minimum) in [("golden-two-protocols", 3, 10), ("compound-v2-2019", 150, 9)] {
        let Some(recording) = recording_folder(name) else { continue };
        let folder = tempdir().expect("a temporary folder");
        let lake = folder.path().join("lake");
        succeed(&mut command(&["run", "--lake", path_str(&lake), "--recording", path_str(&recording)]));
        let wallets: Vec<_> = wallets(&lake).into_iter().step_by(step).collect();
        assert!(wallets.len() >= minimum, "{name}: {}", wallets.len());
        wallets.iter().for_each(|wallet| assert_explanations_agree(&lake, wallet));
        // The last day of compound-v2-2019 has no markets: the names of the tokens are those of earlier days.
        let wallet = json(&lake, &["wallet", &wallets[wallets.len() / 2], "--json"]);
        let events = wallet["events"].as_array().expect("events");
        assert!(!events.is_empty() && events.iter().all(|event| event["token_symbol"].is_string()), "{events:?}");
    }
}

#[test]
fn wallet_command_matches_the_tables() {
    let lake = sample_lake();
    let busiest = defi(
        lake,
        &[
            "query",
            "--format",
            "csv",
            "select wallet_address from db_analytics_dev.defi_features order by liquidation_count desc, borrow_count desc, 1 limit 1",
        ],
    );
    let wallet = busiest.lines().nth(1).expect("a wallet").to_owned();
    let details = json(lake, &["wallet", &wallet, "--json"]);
    let query = |sql: &str| -> Value {
        json(lake, &["query", "--format", "json", &sql.replace("{wallet}", &format!("'{wallet}'"))])
    };
    let mut row = query("select * from db_analytics_dev.defi_features where wallet_address = {wallet}")[0].clone();
    let row = row.as_object_mut().expect("a row");
    row.remove("wallet_address");
    row.remove("as_of");
    assert_eq!(details["features"].as_object(), Some(&*row));
    let borrows = query(
        "select count(*) as n from db_analytics_dev.transpose_borrow_events where sender_address = {wallet} and timestamp < '2023-01-20'",
    );
    let counted_borrows = |events: &Value| {
        let is_counted_borrow = |event: &&Value| event["category"] == "borrow" && event["counts"] == true;
        events.as_array().expect("events").iter().filter(is_counted_borrow).count() as u64
    };
    assert_eq!(Some(counted_borrows(&details["events"])), borrows[0]["n"].as_u64());
    let days = query("select count(*) as n from db_analytics_dev.wallet_health_daily where wallet_address = {wallet}");
    assert_eq!(details["health"].as_array().map(|days| days.len() as u64), days[0]["n"].as_u64());

    let output = defi(lake, &["wallet", &wallet]);
    for word in ["risk_factor", "accounts", "itself", "health from", "█", "events before 2023-01-20", "borrow"] {
        assert!(output.contains(word), "{word} is not in:\n{output}");
    }
    assert!(!output.contains('\u{1b}'), "colours are written to a pipe");
    let folder = tempdir().expect("a temporary folder");
    let page = folder.path().join("wallet.html");
    assert_eq!(defi(lake, &["wallet", &wallet, "--html", path_str(&page)]).trim_end(), path_str(&page));
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains(&wallet) && page.matches("<details id=").count() == 28 && page.matches("<svg").count() == 2);
    let earlier = json(lake, &["wallet", &wallet, "--json", "--as-of", "2023-01-12"]);
    assert!(earlier["events"].as_array().expect("events").len() < details["events"].as_array().expect("events").len());
}

#[test]
fn tables_show_the_partitions_of_the_catalog() {
    let lake = sample_lake();
    let listed = json(lake, &["tables", "--format", "json"]);
    let (views, tables): (Vec<_>, Vec<_>) = listed
        .as_array()
        .expect("tables")
        .iter()
        .partition(|table| table["about"].as_str().is_some_and(|about| about.starts_with("View: ")));
    let events =
        |table: &&&Value| table["table"].as_str().is_some_and(|name| name.starts_with("db_analytics_dev.transpose_"));
    let rows = |table: &Value| table["rows"].as_u64().expect("a number");
    let view = views.first().expect("a view");
    assert_eq!((view["table"].as_str(), views.len()), (Some("db_analytics_dev.lending_events"), 1));
    assert_eq!(rows(view), tables.iter().filter(events).map(|table| rows(table)).sum::<u64>());
    for table in tables {
        let (database, name) = table["table"].as_str().and_then(|name| name.split_once('.')).expect("a name");
        let entry = fs::read_to_string(lake.join(format!("catalog/{database}/{name}.json"))).expect("an entry");
        let entry: Value = serde_json::from_str(&entry).expect("JSON");
        let partitions: Vec<_> =
            entry["partition_columns"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!(table["partitioned_by"], partitions.join(", "), "{name}");
    }
}

#[test]
fn invalid_requests_fail_with_a_hint() {
    let lake = sample_lake();
    let unknown_wallet = format!("0x{}", "0".repeat(39) + "1");
    for (args, words) in [
        (vec!["wallet", "0x12"], "not an address"),
        (vec!["wallet", &unknown_wallet], " as of 2023-01-20: no event before that day involves it"),
        (vec!["wallet", &unknown_wallet, "--as-of", "2023-01-13"], "no features are published as of 2023-01-13"),
        (vec!["features", "--as-of", "2023-01-13"], "no features are published as of 2023-01-13"),
        (vec!["verify"], "no Ethereum node is named"),
        (vec!["verify", "--rpc-url", "ftp://127.0.0.1"], "the URL of the Ethereum node"),
        (
            vec!["verify", "--rpc-url", "http://127.0.0.1:1", "--as-of", "2023-01-13"],
            "no features are published as of 2023-01-13",
        ),
        (vec!["verify", "--rpc-url", "http://127.0.0.1:1", "--accounts", "0"], "0"),
        (vec!["features", "--as-of", "soon"], "invalid day"),
        (vec!["features", "--wallets", "/nowhere"], "can't be read"),
    ] {
        let output = output(command(&args).arg("--lake").arg(lake));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(words) && error.contains("; next: ") && error.lines().count() == 1, "{args:?}: {error}");
    }
    let wallet = wallets(lake).remove(0);
    let unknown_feature = output(command(&["wallet", &wallet, "--explain", "wealth"]).arg("--lake").arg(lake));
    assert!(String::from_utf8_lossy(&unknown_feature.stderr).contains("choose one of risk_factor, "));
}

#[test]
fn export_contains_the_published_rows() {
    let lake = sample_lake();
    let exported = defi(lake, &["features"]);
    let queried = defi(
        lake,
        &["query", "--format", "csv", "select * from db_analytics_dev.defi_features order by wallet_address"],
    );
    assert_eq!(exported, queried);
    let both = defi(lake, &["features", "--as-of", "all"]);
    let days: BTreeSet<_> = both.lines().skip(1).filter_map(|line| line.rsplit(',').next()).collect();
    assert_eq!(days, BTreeSet::from(["2023-01-12", "2023-01-20"]));
    assert_eq!(defi(lake, &["features", "--as-of", "2023-01-12,2023-01-20"]), both);
    assert_eq!(defi(lake, &["features", "--as-of", "2023-01-01..2023-01-31"]), both);

    let folder = tempdir().expect("a temporary folder");
    let wallet_list = folder.path().join("some.csv");
    let names: Vec<_> = wallets(lake).into_iter().step_by(10).collect();
    let unknown_wallet = format!("0x{}", "0".repeat(39) + "1");
    fs::write(
        &wallet_list,
        format!("wallet_address\n{}\n{unknown_wallet}\n", names.join("\n").to_uppercase().replace("0X", "0x")),
    )
    .expect("a file");
    let output = output(command(&["features", "--wallets", path_str(&wallet_list)]).arg("--lake").arg(lake));
    let rows = String::from_utf8_lossy(&output.stdout).into_owned();
    let exported: Vec<_> = rows.lines().skip(1).filter_map(|line| line.split(',').next()).map(str::to_owned).collect();
    assert_eq!(exported, names);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of the requested wallets have no row"));
    fs::write(&wallet_list, "wallet_address\nabc\n").expect("a file");
    let invalid = crate::support::command::output(
        command(&["features", "--wallets", path_str(&wallet_list)]).arg("--lake").arg(lake),
    );
    assert!(String::from_utf8_lossy(&invalid.stderr).contains("line 2: \"abc\" is not an address"));
}

#[test]
fn export_of_nothing_says_so() {
    let lake = sample_lake();
    let wallet = format!("0x{}", "0".repeat(39) + "1");
    let folder = tempdir().expect("a temporary folder");
    let [wallets, times, empty] = ["wallets.csv", "times.csv", "empty.csv"].map(|name| folder.path().join(name));
    fs::write(&wallets, format!("\u{feff}{wallet}\n")).expect("a file");
    fs::write(&times, format!("\u{feff}0x{}2,2023-01-10\n", "0".repeat(39))).expect("a file");
    fs::write(&empty, "wallet_address,time\n").expect("a file");
    let lines = |args: &[&str]| {
        let output = output(command(args).arg("--lake").arg(lake));
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        let rows = String::from_utf8(output.stdout).expect("UTF-8").lines().count();
        (output.status.code(), rows, told)
    };
    for (args, words) in [
        (
            &["--from", "2023-01-20"][..],
            "0 rows: the lake has no borrow from 2023-01-20; it has the borrows of 2023-01-01 to 2023-01-19\n",
        ),
        (&["--until", "2022-01-01"], "0 rows: the lake has no borrow until 2022-01-01; "),
        (&["--wallets", path_str(&wallets)], "0 rows: the lake has no borrow of the requested wallets; "),
    ] {
        let (code, rows, told) = lines(&[&["features", "--at-borrows"], args].concat());
        assert_eq!((code, rows), (Some(0), 1), "{args:?}: {told}");
        assert!(told.starts_with(words) && told.lines().count() == 1, "{args:?}: {told}");
    }
    let (code, rows, told) = lines(&["features", "--at", path_str(&times), "--wallets", path_str(&wallets)]);
    assert_eq!((code, rows), (Some(0), 1), "{told}");
    assert_eq!(told, format!("0 rows: no line of {} is of the requested wallets\n", times.display()));
    let (code, _, told) = lines(&["features", "--at", path_str(&empty)]);
    assert!(code == Some(2) && told.contains("contains no wallet and time"), "{told}");
}

#[test]
fn wallet_that_the_lake_does_not_know_is_named() {
    let lake = sample_lake();
    let (known, unknown) = (wallets(lake).remove(0), format!("0x{}", "0".repeat(39) + "1"));
    let folder = tempdir().expect("a temporary folder");
    let times = folder.path().join("times.csv");
    let at = |line: String| {
        fs::write(&times, line).expect("a file");
        output(command(&["features", "--at", path_str(&times), "--lake"]).arg(lake))
    };
    let answer = at(format!("{known},2023-01-19\n{unknown},2023-01-19\n"));
    let told = String::from_utf8(answer.stderr).expect("UTF-8");
    assert!(answer.status.success() && String::from_utf8_lossy(&answer.stdout).lines().count() == 3, "{told}");
    assert_eq!(
        told,
        format!(
            "the lake has nothing of 1 wallets up to 2023-01-19, so that their features are 0: {unknown}\n2 rows\n"
        )
    );
    for (line, problem) in [
        ("0x12,2023-01-19".to_owned(), "line 1: \"0x12\" is not an address"),
        (known.replacen(|c: char| c.is_ascii_digit(), "g", 2) + ",2023-01-19", "is not an address"),
        (format!("{known},noon"), "line 1: \"noon\" is not a time"),
        (format!("wallet_address,time\n{known}"), "line 2: it is not an address and a time"),
    ] {
        let answer = at(line);
        let told = String::from_utf8(answer.stderr).expect("UTF-8");
        let error = told.lines().last().unwrap_or_default();
        assert!(answer.status.code() == Some(2) && error.contains(problem), "{told}");
    }
}

#[test]
fn plan_calls_no_day_lost_that_it_will_extract() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let plan =
        || succeed(&mut command(&["plan", "--lake", path_str(&lake), "--wallets", "40", "--days", "6", "--seed", "2"]));
    assert!(!plan().contains("lost:"), "{}", plan());
    let tombstones = lake.join("state/lost/the_graph_historical_market_data");
    fs::create_dir_all(&tombstones).expect("a folder");
    fs::write(tombstones.join("2023-01-02.aave-v2-eth.json"), "{}").expect("a tombstone");
    let shown = plan();
    let lost: Vec<_> = shown.lines().filter(|line| line.starts_with("lost:")).collect();
    assert_eq!(lost, ["lost: 1 days of markets of aave-v2-eth, pruned at the source: 2023-01-02"], "{shown}");
}

#[test]
fn plan_predicts_the_run_and_changes_nothing() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let sample = ["--wallets", "40", "--days", "6", "--seed", "2"];
    let plan = |args: &[&str]| -> Value {
        let output = succeed(command(&["plan", "--json", "--lake", path_str(&lake)]).args(sample).args(args));
        serde_json::from_str(&output).expect("JSON")
    };
    let before = plan(&["--units"]);
    assert!(!lake.exists(), "plan created a lake");
    let units = |plan: &Value, step: &str| -> u64 {
        let steps = plan["steps"].as_array().expect("steps");
        steps.iter().find(|item| item["step"] == step).map_or(0, |item| item["units"].as_u64().expect("a number"))
    };
    assert_eq!(units(&before, "extract-daily-blocks"), 7, "six days, and the day of the last snapshot");
    assert_eq!(units(&before, "extract-events"), 30);
    assert_eq!(units(&before, "extract-account-positions"), 14);
    let names = before["steps"][1]["names"].as_array().expect("names");
    assert_eq!((names.len(), &names[0]), (30, &Value::from("2023-01-01 borrow")));

    let output = succeed(command(&["run", "--json", "--lake", path_str(&lake)]).args(sample));
    let run: Value = serde_json::from_str(&output).expect("JSON only");
    assert_eq!((&run["checked"]["passed"], &run["newest"]), (&Value::from(true), &Value::from("2023-01-07")));
    for step in run["steps"].as_array().expect("steps") {
        let (name, units_done) = (step["step"].as_str().expect("a name"), step["report"]["units"].as_u64());
        // The units of build-features are shards.
        let expected = if name == "build-features" { 4 } else { units(&before, name) };
        assert_eq!(units_done, Some(expected), "{name}");
    }
    let tree = Tree::read(&lake);
    let after = plan(&[]);
    assert_eq!(after["steps"].as_array().map(Vec::len), Some(0));
    let forced = plan(&["--force"]);
    assert_eq!(units(&forced, "extract-events"), 30);
    assert_eq!(forced["steps"][1]["measured"], true);
    assert!(forced["requests"].as_u64() >= before["requests"].as_u64());
    assert!(Tree::read(&lake) == tree, "plan changed the lake");
    let output = succeed(command(&["plan", "--lake", path_str(&lake)]).args(sample));
    assert!(output.contains("no unit is missing"), "{output}");
    let output = succeed(command(&["plan", "--force", "--lake", path_str(&lake)]).args(sample));
    assert!(output.lines().any(|line| line.contains(" requests; extraction takes ")), "{output}");
    assert!(!output.contains("\\n"), "{output}");
}

#[test]
fn completions_and_manual_contain_every_command() {
    let commands = [
        "run", "plan", "serve", "query", "tables", "wallet", "get", "features", "feast", "dbt", "verify", "doctor",
        "start", "status", "backfill",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&mut command(&["completions", shell]));
        commands.iter().for_each(|name| assert!(script.contains(name), "{shell}: {name}"));
    }
    let folder = tempdir().expect("a temporary folder");
    succeed(&mut command(&["man", path_str(&folder.path().join("man"))]));
    for name in commands {
        let page = fs::read_to_string(folder.path().join(format!("man/defi-{name}.1"))).expect("a page");
        assert!(page.contains("Example"), "{name} shows no example");
    }
}

#[test]
fn json_log_lines_have_run_step_and_unit() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    let sample = ["--wallets", "20", "--days", "3", "--log-format", "json"];
    let run = output(command(&["run", "--lake", path_str(&lake)]).args(sample).env("RUST_LOG", "info"));
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty(), "the log is empty: {errors}");
    let mut units = 0;
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("a JSON object");
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["fields"].is_object(), "{line}");
        if line["fields"]["message"] == "unit completed" {
            let spans = line["spans"].to_string();
            assert!(["run_id", "step", "unit"].iter().all(|name| spans.contains(&format!("\"{name}\":"))), "{line}");
            units += 1;
        }
    }
    assert!(units > 20, "{units}");
}
