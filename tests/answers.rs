//! What people ask a lake: a wallet and how its features came about, exports, the plan of a run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::command::{command, output, succeed, text};
use crate::support::recording::recording;
use crate::support::tree::Tree;

/// A lake with two published days of the sample chain, made once for all tests that only look at it.
fn sample() -> &'static Path {
    static LAKE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, lake) = LAKE.get_or_init(|| {
        let folder = tempdir().expect("a folder");
        let lake = folder.path().join("lake");
        for as_of in ["2023-01-12", "2023-01-20"] {
            let sample = ["--wallets", "120", "--days", "19", "--seed", "5", "--as-of", as_of];
            succeed(command(&["run", "--lake", text(&lake)]).args(sample));
        }
        (folder, lake)
    });
    lake
}

fn defi(lake: &Path, args: &[&str]) -> String {
    succeed(command(args).arg("--lake").arg(lake))
}

fn json(lake: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&defi(lake, args)).expect("JSON")
}

/// The wallets of the newest published set.
fn wallets(lake: &Path) -> Vec<String> {
    let csv = defi(
        lake,
        &["query", "--format", "csv", "select wallet_address from db_analytics_dev.defi_features order by 1"],
    );
    csv.lines().skip(1).map(str::to_owned).collect()
}

/// Every feature of a wallet, explained. The command fails where the rows do not come to what is published.
fn assert_explained(lake: &Path, wallet: &str) {
    let all = json(lake, &["wallet", wallet, "--explain", "all", "--json"]);
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 26);
    for explanation in all {
        assert_eq!(explanation["agrees"], true, "{wallet}: {explanation:#}");
        assert_eq!(explanation["value"], explanation["published"]);
    }
}

#[test]
fn every_feature_is_explained_to_the_last_bit() {
    let lake = sample();
    let wallets = wallets(lake);
    assert!(wallets.len() > 60, "{}", wallets.len());
    wallets.iter().step_by(12).for_each(|wallet| assert_explained(lake, wallet));
}

#[test]
fn every_feature_of_the_recordings_is_explained_to_the_last_bit() {
    for (name, every, least) in [("golden-two-protocols", 3, 10), ("compound-v2-2019", 150, 9)] {
        let Some(recording) = recording(name) else { continue };
        let folder = tempdir().expect("a folder");
        let lake = folder.path().join("lake");
        succeed(&mut command(&["run", "--lake", text(&lake), "--recording", text(&recording)]));
        let wallets: Vec<_> = wallets(&lake).into_iter().step_by(every).collect();
        assert!(wallets.len() >= least, "{name}: {}", wallets.len());
        wallets.iter().for_each(|wallet| assert_explained(&lake, wallet));
        // On the last day of the real one there are no markets: tokens have their names from the days before.
        let told = json(&lake, &["wallet", &wallets[wallets.len() / 2], "--json"]);
        let events = told["events"].as_array().expect("events");
        assert!(!events.is_empty() && events.iter().all(|event| event["token_symbol"].is_string()), "{events:?}");
    }
}

#[test]
fn a_wallet_is_told_as_the_tables_have_it() {
    let lake = sample();
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
    let told = json(lake, &["wallet", &wallet, "--json"]);
    let query = |what: &str| -> Value {
        json(lake, &["query", "--format", "json", &what.replace("{wallet}", &format!("'{wallet}'"))])
    };
    let mut row = query("select * from db_analytics_dev.defi_features where wallet_address = {wallet}")[0].clone();
    let row = row.as_object_mut().expect("a row");
    row.remove("wallet_address");
    row.remove("as_of");
    assert_eq!(told["features"].as_object(), Some(&*row));
    let sent = query(
        "select count(*) as n from db_analytics_dev.transpose_borrow_events where sender_address = {wallet} and timestamp < '2023-01-20'",
    );
    let borrows = |events: &Value| {
        let of = |event: &&Value| event["category"] == "borrow" && event["counts"] == true;
        events.as_array().expect("events").iter().filter(of).count() as u64
    };
    assert_eq!(Some(borrows(&told["events"])), sent[0]["n"].as_u64());
    let days = query("select count(*) as n from db_analytics_dev.wallet_health_daily where wallet_address = {wallet}");
    assert_eq!(told["health"].as_array().map(|days| days.len() as u64), days[0]["n"].as_u64());

    let shown = defi(lake, &["wallet", &wallet]);
    for word in ["risk_factor", "accounts", "itself", "health from", "█", "events before 2023-01-20", "borrow"] {
        assert!(shown.contains(word), "{word} is not in:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "a pipe gets no colours");
    let folder = tempdir().expect("a folder");
    let page = folder.path().join("wallet.html");
    assert_eq!(defi(lake, &["wallet", &wallet, "--html", text(&page)]).trim_end(), text(&page));
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains(&wallet) && page.matches("<details id=").count() == 26 && page.matches("<svg").count() == 2);
    let earlier = json(lake, &["wallet", &wallet, "--json", "--as-of", "2023-01-12"]);
    assert!(earlier["events"].as_array().expect("events").len() < told["events"].as_array().expect("events").len());
}

#[test]
fn what_can_not_be_told_is_said_with_a_next_step() {
    let lake = sample();
    let nobody = format!("0x{}", "0".repeat(39) + "1");
    for (args, words) in [
        (vec!["wallet", "0x12"], "not an address"),
        (vec!["wallet", &nobody], " as of 2023-01-20: no event before that day involves it"),
        (vec!["wallet", &nobody, "--as-of", "2023-01-13"], "no features are published as of 2023-01-13"),
        (vec!["features", "--as-of", "2023-01-13"], "no features are published as of 2023-01-13"),
        (vec!["features", "--as-of", "soon"], "invalid day"),
        (vec!["features", "--wallets", "/nowhere"], "can't be read"),
        (vec!["features", "--at-borrows", "--until", "2022-01-01"], "no instant"),
    ] {
        let output = output(command(&args).arg("--lake").arg(lake));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(words) && error.contains("; next: ") && error.lines().count() == 1, "{args:?}: {error}");
    }
    let wallet = wallets(lake).remove(0);
    let unknown = output(command(&["wallet", &wallet, "--explain", "wealth"]).arg("--lake").arg(lake));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("choose one of risk_factor, "));
}

#[test]
fn an_export_holds_the_published_rows() {
    let lake = sample();
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

    let folder = tempdir().expect("a folder");
    let some = folder.path().join("some.csv");
    let names: Vec<_> = wallets(lake).into_iter().step_by(10).collect();
    let nobody = format!("0x{}", "0".repeat(39) + "1");
    fs::write(&some, format!("wallet_address\n{}\n{nobody}\n", names.join("\n").to_uppercase().replace("0X", "0x")))
        .expect("a file");
    let output = output(command(&["features", "--wallets", text(&some)]).arg("--lake").arg(lake));
    let rows = String::from_utf8_lossy(&output.stdout).into_owned();
    let of: Vec<_> = rows.lines().skip(1).filter_map(|line| line.split(',').next()).map(str::to_owned).collect();
    assert_eq!(of, names);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of the requested wallets have no row"));
    fs::write(&some, "wallet_address\nabc\n").expect("a file");
    let wrong =
        crate::support::command::output(command(&["features", "--wallets", text(&some)]).arg("--lake").arg(lake));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("line 2 does not start with an address"));
}

#[test]
fn a_plan_says_what_a_run_then_does_and_touches_nothing() {
    let folder = tempdir().expect("a folder");
    let lake = folder.path().join("lake");
    let sample = ["--wallets", "40", "--days", "6", "--seed", "2"];
    let plan = |more: &[&str]| -> Value {
        let shown = succeed(command(&["plan", "--json", "--lake", text(&lake)]).args(sample).args(more));
        serde_json::from_str(&shown).expect("JSON")
    };
    let before = plan(&["--units"]);
    assert!(!lake.exists(), "a plan made a lake");
    let units = |plan: &Value, step: &str| -> u64 {
        let steps = plan["steps"].as_array().expect("steps");
        steps.iter().find(|of| of["step"] == step).map_or(0, |of| of["units"].as_u64().expect("a number"))
    };
    assert_eq!(units(&before, "extract-daily-blocks"), 7, "six days, and the snapshot at their end");
    assert_eq!(units(&before, "extract-events"), 30);
    assert_eq!(units(&before, "extract-account-positions"), 14);
    let names = before["steps"][1]["names"].as_array().expect("names");
    assert_eq!((names.len(), &names[0]), (30, &Value::from("2023-01-01 borrow")));

    let done = succeed(command(&["run", "--json", "--lake", text(&lake)]).args(sample));
    let done: Value = serde_json::from_str(&done).expect("JSON and nothing else");
    assert_eq!((&done["checked"]["passed"], &done["newest"]), (&Value::from(true), &Value::from("2023-01-07")));
    for step in done["steps"].as_array().expect("steps") {
        let (name, made) = (step["step"].as_str().expect("a name"), step["report"]["units"].as_u64());
        let by_shard = if name == "build-features" { 4 } else { units(&before, name) };
        assert_eq!(made, Some(by_shard), "{name}");
    }
    let held = Tree::read(&lake);
    let after = plan(&[]);
    assert_eq!(after["steps"].as_array().map(Vec::len), Some(0));
    let forced = plan(&["--force"]);
    assert_eq!(units(&forced, "extract-events"), 30);
    assert_eq!(forced["steps"][1]["measured"], true);
    assert!(forced["requests"].as_u64() >= before["requests"].as_u64());
    assert!(Tree::read(&lake) == held, "a plan changed the lake");
    let shown = succeed(command(&["plan", "--lake", text(&lake)]).args(sample));
    assert!(shown.contains("nothing is missing"), "{shown}");
}

#[test]
fn shells_and_the_manual_know_every_command() {
    let commands =
        ["run", "plan", "serve", "query", "tables", "wallet", "features", "doctor", "start", "status", "backfill"];
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&mut command(&["completions", shell]));
        commands.iter().for_each(|name| assert!(script.contains(name), "{shell}: {name}"));
    }
    let folder = tempdir().expect("a folder");
    succeed(&mut command(&["man", text(&folder.path().join("man"))]));
    for name in commands {
        let page = fs::read_to_string(folder.path().join(format!("man/defi-{name}.1"))).expect("a page");
        assert!(page.contains("Example"), "{name} shows no example");
    }
}

#[test]
fn a_log_is_text_or_json_as_it_is_asked_for() {
    let folder = tempdir().expect("a folder");
    let lake = folder.path().join("lake");
    let sample = ["--wallets", "20", "--days", "3", "--log-format", "json"];
    let run = output(command(&["run", "--lake", text(&lake)]).args(sample).env("RUST_LOG", "info"));
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty(), "nothing is logged: {errors}");
    let mut units = 0;
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("a JSON object");
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["fields"].is_object(), "{line}");
        if line["fields"]["message"] == "the unit is done" {
            let said = line["spans"].to_string();
            assert!(["run_id", "step", "unit"].iter().all(|name| said.contains(&format!("\"{name}\":"))), "{line}");
            units += 1;
        }
    }
    assert!(units > 20, "{units}");
}
