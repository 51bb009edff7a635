//! The keys of the sources are in nothing that a run prints, logs or writes, whatever goes wrong, and whatever a source makes of
//! the key that it was sent.

use std::path::Path;

use defi_shared::testing::{Request, Server};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::runtime::Runtime;

use crate::support::command::{command, output, succeed, text};
use crate::support::server::Served;
use crate::support::tree::Tree;

/// Of the two sources; the last one is of a list.
const KEYS: [&str; 3] = ["gr4ph-k3y-0123456789abcdef", "tr4nspose-k3y-0123456789", "s3cond-k3y-0123456789"];

/// What a server of bad manners says, with the request's keys in it, and with what status.
type Manners = fn(&str) -> (u16, Value);

const MANNERS: [(&str, Manners); 8] = [
    ("a refused key", |key| (401, json!({"message": format!("bad key {key}")}))),
    ("a key without credits", |key| (402, json!({"status": "error", "message": format!("{key} is out of credits")}))),
    ("a question that is refused", |key| (400, json!({"status": "error", "message": format!("sent with {key}")}))),
    ("an error of GraphQL", |key| (200, json!({"errors": [{"message": format!("auth error: {key}")}]}))),
    ("an error of GraphQL that passes", |key| (200, json!({"errors": [{"message": format!("bad indexers: {key}")}]}))),
    ("a server that is down", |key| (503, json!({"message": format!("no backend for {key}")}))),
    ("an answer of no shape", |key| (200, json!([key, {"authorization": key}]))),
    ("wrong types", |key| (200, json!({"data": {"_meta": key}, "status": key, "results": key, "stats": key}))),
];

fn key_of(request: &Request) -> String {
    format!("{}{}", request.header("authorization"), request.header("x-api-key"))
}

/// What a run with all keys prints at the highest level of logging, and every object that it leaves.
fn everything(arguments: &[&str], lake: &Path) -> String {
    let mut run = command(&["run", "--lake", text(lake), "--as-of", "2023-01-03", "--from", "2023-01-01"]);
    run.args(arguments).env("GRAPH_API_KEY", format!("{},{}", KEYS[0], KEYS[2])).env("TRANSPOSE_API_KEY", KEYS[1]);
    let output = output(run.env("RUST_LOG", "trace"));
    let mut all = [output.stdout, output.stderr].concat();
    let logged = String::from_utf8_lossy(&all).contains("TRACE");
    assert!(logged, "nothing is logged: {}", String::from_utf8_lossy(&all));
    let left = Tree::read(lake);
    all.extend(left.paths().flat_map(str::bytes));
    all.extend(left.0.values().flatten());
    String::from_utf8_lossy(&all).into_owned()
}

fn assert_no_key(what: &str, all: &str) {
    for key in KEYS {
        let around = all.find(key).map(|at| all.get(at.saturating_sub(200)..at).unwrap_or_default().to_owned());
        assert_eq!(around, None, "{what}: a key was shown after this");
    }
}

#[test]
fn no_key_is_in_what_a_failing_run_prints_logs_and_writes() {
    let runtime = Runtime::new().expect("threads");
    for (what, manners) in MANNERS {
        let lake = tempdir().expect("a folder");
        let server = runtime.block_on(Server::start(move |request| manners(&key_of(request)))).expect("a server");
        let all = everything(&["--graph-url", server.url(), "--transpose-url", server.url()], lake.path());
        assert!(all.contains("error: "), "{what}: the run did not fail");
        assert!(server.requests().iter().any(|request| key_of(request).contains(KEYS[1])), "{what}: no key was sent");
        assert_no_key(what, &all);
    }
}

#[test]
fn no_key_is_in_what_a_run_prints_logs_and_writes() {
    let served = Served::start(&mut command(&["serve", "--port", "0", "--wallets", "20", "--days", "2"]));
    let lake = tempdir().expect("a folder");
    let all = everything(&["--graph-url", &served.graph_url, "--transpose-url", &served.transpose_url], lake.path());
    let tables = succeed(&mut command(&["tables", "--lake", text(lake.path())]));
    assert!(tables.contains("defi_features"), "the run failed: {tables}");
    assert_no_key("a run", &all);
}
