//! The API keys of the sources never appear in what a run prints, logs or writes, even if the run fails and the source
//! repeats the key in its response.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use defi_shared::testing::{Request, Server};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::runtime::Runtime;

use crate::support::command::{command, output, path_str, succeed};
use crate::support::server::ServeProcess;
use crate::support::tree::Tree;

/// The keys of The Graph and Transpose, and a second key of The Graph.
const KEYS: [&str; 3] = ["gr4ph-k3y-0123456789abcdef", "tr4nspose-k3y-0123456789", "s3cond-k3y-0123456789"];

/// Returns the status and body of a response that repeats the key of the request.
type KeyEcho = fn(&str) -> (u16, Value);

const KEY_ECHOES: [(&str, KeyEcho); 8] = [
    ("a rejected key", |key| (401, json!({"message": format!("bad key {key}")}))),
    ("a key without credits", |key| (402, json!({"status": "error", "message": format!("{key} is out of credits")}))),
    ("a rejected query", |key| (400, json!({"status": "error", "message": format!("sent with {key}")}))),
    ("a GraphQL error", |key| (200, json!({"errors": [{"message": format!("auth error: {key}")}]}))),
    ("a transient GraphQL error", |key| (200, json!({"errors": [{"message": format!("bad indexers: {key}")}]}))),
    ("an unavailable server", |key| (503, json!({"message": format!("no backend for {key}")}))),
    ("an unexpected JSON value", |key| (200, json!([key, {"authorization": key}]))),
    ("wrong types", |key| (200, json!({"data": {"_meta": key}, "status": key, "results": key, "stats": key}))),
];

fn key_of(request: &Request) -> String {
    format!("{}{}", request.header("authorization"), request.header("x-api-key"))
}

/// Runs with all keys at the highest log level. Returns its output and the keys and contents of all objects.
fn run_output_and_objects(arguments: &[&str], lake: &Path) -> String {
    let mut run = command(&["run", "--lake", path_str(lake), "--as-of", "2023-01-03", "--from", "2023-01-01"]);
    run.args(arguments).env("GRAPH_API_KEY", format!("{},{}", KEYS[0], KEYS[2])).env("TRANSPOSE_API_KEY", KEYS[1]);
    let output = output(run.env("RUST_LOG", "trace"));
    let mut bytes = [output.stdout, output.stderr].concat();
    let logged = String::from_utf8_lossy(&bytes).contains("DEBUG");
    assert!(logged, "the log is empty: {}", String::from_utf8_lossy(&bytes));
    let tree = Tree::read(lake);
    bytes.extend(tree.paths().flat_map(str::bytes));
    bytes.extend(tree.0.values().flatten());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn assert_contains_no_key(context: &str, text: &str) {
    for key in KEYS {
        let text_before = text.find(key).map(|at| text.get(at.saturating_sub(200)..at).unwrap_or_default().to_owned());
        assert_eq!(text_before, None, "{context}: a key follows this text");
    }
}

#[test]
fn host_of_a_node_is_not_logged() {
    let lake = tempdir().expect("a temporary folder");
    let url = "https://s3cret-host-0123456789.invalid/v2/s3cret-path-0123456789";
    let mut doctor = command(&["doctor", "--lake", path_str(lake.path())]);
    let output = output(doctor.env("ETHEREUM_RPC_URL", url).env("RUST_LOG", "trace"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("Ethereum node"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn failing_run_does_not_reveal_keys() {
    let runtime = Runtime::new().expect("a runtime");
    for (name, response) in KEY_ECHOES {
        let lake = tempdir().expect("a temporary folder");
        let server = runtime.block_on(Server::start(move |request| response(&key_of(request)))).expect("a server");
        // A path may contain a key: the gateway accepted URLs of that form.
        let url = format!("{}/{}", server.url(), KEYS[2]);
        let text = run_output_and_objects(&["--graph-url", &url, "--transpose-url", &url, "--send-keys"], lake.path());
        assert!(text.contains("error: "), "{name}: the run did not fail");
        assert!(server.requests().iter().any(|request| key_of(request).contains(KEYS[1])), "{name}: no key was sent");
        assert_contains_no_key(name, &text);
    }
}

#[test]
fn successful_run_does_not_reveal_keys() {
    let server = ServeProcess::start(&mut command(&["serve", "--port", "0", "--wallets", "20", "--days", "2"]));
    let lake = tempdir().expect("a temporary folder");
    let text = run_output_and_objects(
        &["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url, "--send-keys"],
        lake.path(),
    );
    let tables = succeed(&mut command(&["tables", "--lake", path_str(lake.path())]));
    assert!(tables.contains("defi_features"), "the run failed: {tables}");
    assert_contains_no_key("a run", &text);
}

/// Sends a request on to another server and returns its response.
fn relay(server: &str, request: &Request) -> (u16, Value) {
    let address = server.strip_prefix("http://").expect("a server on loopback");
    let (path, body) = (&request.path, request.body.to_string());
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head}")))
}

#[test]
fn key_in_a_field_of_the_data_does_not_reach_the_lake() {
    let runtime = Runtime::new().expect("a runtime");
    let chain = ServeProcess::start(&mut command(&["serve", "--port", "0", "--wallets", "20", "--days", "2"]));
    for pointer in [
        "/results/0/block_hash",
        "/results/0/metadata",
        "/results/0/transaction_hash",
        "/data/_meta/deployment",
        "/data/markets/0/name",
        "/data/positions/0/market/name",
        "/data/positions/0/account/id",
    ] {
        let lake = tempdir().expect("a temporary folder");
        let url = chain.graph_url.clone();
        let respond = move |request: &Request| {
            let (status, mut body) = relay(&url, request);
            if let Some(field) = body.pointer_mut(pointer) {
                *field = json!(format!("a {}", key_of(request)));
            }
            (status, body)
        };
        let server = runtime.block_on(Server::start(respond)).expect("a server");
        let urls = ["--graph-url", server.url(), "--transpose-url", server.url(), "--send-keys"];
        let text = run_output_and_objects(&urls, lake.path());
        assert!(text.contains("the data in the response contain the API key"), "{pointer}: {text}");
        assert_contains_no_key(pointer, &text);
    }
}
