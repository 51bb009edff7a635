//! `defi get`: it returns what the lake shows as published, in each format.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::command::{command, output, path_str, succeed};

const UNKNOWN: &str = "0x0000000000000000000000000000000000000007";

/// Returns the rows of a CSV file as JSON objects with text.
fn csv(text: &str) -> Vec<Value> {
    let mut lines = text.lines().map(|line| line.split(','));
    let names: Vec<_> = lines.next().unwrap().collect();
    let row = |line: std::str::Split<'_, char>| {
        names.iter().map(|name| (*name).to_owned()).zip(line.map(Value::from)).collect()
    };
    lines.map(row).collect()
}

/// Returns the output of `defi get` and its messages.
fn get(lake: &Path, args: &[&str]) -> (String, String) {
    let got = output(command(&["get", "--lake", path_str(lake)]).args(args));
    let messages = String::from_utf8(got.stderr).unwrap();
    assert!(got.status.success(), "{args:?}: {messages}");
    (String::from_utf8(got.stdout).unwrap(), messages)
}

#[test]
fn get_returns_the_published_features_in_each_format() {
    let folder = tempdir().unwrap();
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "30", "--days", "5"]));
    let exported = csv(&succeed(&mut command(&["features", "--lake", path_str(&lake)])));
    let wallets: Vec<&str> = exported.iter().take(3).map(|row| row["wallet_address"].as_str().unwrap()).collect();
    let day = exported[0]["as_of"].as_str().unwrap();

    let (text, messages) = get(&lake, &[&wallets[..], &[UNKNOWN, "--format", "json"]].concat());
    let got: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&got["as_of"], &got["unknown"]), (&json!(day), &json!([UNKNOWN])));
    assert!(got["age_seconds"].as_i64() > Some(86_400) && messages.is_empty(), "{messages}");
    for (wallet, row) in wallets.iter().zip(got["rows"].as_array().unwrap()) {
        let shown = succeed(&mut command(&["wallet", wallet, "--json", "--lake", path_str(&lake)]));
        let mut expected = serde_json::from_str::<Value>(&shown).unwrap()["features"].clone();
        expected["wallet_address"] = json!(wallet);
        assert_eq!(*row, expected);
    }

    let upper = wallets[0].to_uppercase().replacen("0X", "0x", 1);
    let few = ["--features", "borrow_count,risk_factor", "--as-of", day];
    let (text, messages) = get(&lake, &[&[wallets[1], &upper, UNKNOWN][..], &few, &["--format", "csv"]].concat());
    let rows = csv(&text);
    assert!(text.starts_with("wallet_address,borrow_count,risk_factor\n"), "{text}");
    assert_eq!([&rows[0], &rows[1]].map(|row| row["wallet_address"].as_str()), [wallets[1], wallets[0]].map(Some));
    assert_eq!(rows[1]["borrow_count"], exported[0]["borrow_count"]);
    assert!(messages.contains(&format!("features as of {day}, ")) && messages.contains(UNKNOWN), "{messages}");

    let (text, _) = get(&lake, &[&[wallets[0]][..], &few].concat());
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["wallet_address", wallets[0]]);
    assert_eq!(lines[2], ["borrow_count", exported[0]["borrow_count"].as_str().unwrap()]);
}

#[test]
fn get_rejects_what_is_not_there() {
    let folder = tempdir().unwrap();
    let lake = folder.path().join("lake");
    let missing = output(&mut command(&["get", UNKNOWN, "--lake", path_str(&lake)]));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no lake in this folder"));
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "10", "--days", "3"]));
    for (args, message) in [
        (&["0x1234"][..], "is not an address"),
        (&[UNKNOWN, "--features", "riskfactor"], "did you mean risk_factor?"),
        (&[UNKNOWN, "--as-of", "2020-01-01"], "no features are published as of 2020-01-01: only "),
        (&[UNKNOWN, "--env", "prod"], "no features are published yet"),
        (&[], "<ADDRESS>"),
    ] {
        let got = output(command(&["get", "--lake", path_str(&lake)]).args(args));
        let error = String::from_utf8_lossy(&got.stderr).into_owned();
        assert!(!got.status.success() && error.contains(message) && error.lines().count() == 1, "{args:?}: {error}");
    }
}
