//! User errors: each gives one line with a hint and a non-zero exit code, and leaves nothing half written.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};
use tokio::net::TcpSocket;

use crate::support::command::{command, output, path_str, succeed};
use crate::support::server::ServeProcess;
use crate::support::tree::Tree;

/// A temporary folder for the files and the lake of one test. The lake does not exist at first.
struct Workspace(TempDir);

impl Workspace {
    fn new() -> Workspace {
        Workspace(tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the command with the lake of this workspace.
    fn defi(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.arg("--lake").arg(self.path("lake"));
        command
    }

    /// Asserts that a command fails with an error of a kind before it creates a lake, and returns the error.
    fn expect_error(&self, kind: &str, args: &[&str]) -> String {
        let error = expect_error(kind, &mut self.defi(args));
        assert!(!self.path("lake").exists(), "{args:?} created a lake");
        error
    }

    /// Asserts that the lake has no object of a table, and no state of one.
    fn assert_no_table_objects(&self) {
        let lake = Tree::read(&self.path("lake"));
        let is_object = |path: &&str| {
            let folders = ["raw/", "stage/", "analytics/", "state/fold/", "state/links/", "quarantine/"];
            folders.iter().any(|folder| path.starts_with(folder))
        };
        assert_eq!(lake.paths().filter(is_object).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

/// Asserts that a command fails with an error of a kind, on one line and with a hint, and returns the error.
fn expect_error(kind: &str, command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    assert!(error.starts_with(&format!("error: {kind}: ")), "{command:?}: {error}");
    let hint = error.split_once("; next: ").map(|(_, hint)| hint.trim());
    assert!(hint.is_some_and(|hint| !hint.is_empty()), "{command:?}: {error}");
    let code = output.status.code();
    assert_eq!(code, Some(if kind == "BadInput" { 2 } else { 1 }), "{command:?}: {error}");
    error
}

/// Asserts that an error contains all of the words.
fn assert_mentions(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn rejects_invalid_arguments() {
    for (args, word) in [
        (&["run", "--no-such-option"][..], "--no-such-option"),
        (&["run", "--wallets", "many"], "many"),
        (&["run", "--env", "test"], "test"),
        (&["run", "surplus"], "surplus"),
        (&["serve", "--port", "99999"], "99999"),
        (&["no-such-subcommand"], "no-such-subcommand"),
        (&["query", "--format", "xml"], "xml"),
        (&["tables", "--format", "xml"], "xml"),
    ] {
        assert_mentions(&expect_error("BadInput", &mut command(args)), &[word, "--help"]);
    }
    for args in [&["features", "--format", "parquet", "--csv-safe"][..], &["query", "select 1", "--csv-safe"]] {
        assert_mentions(&expect_error("BadInput", &mut command(args)), &["--csv-safe", "--format csv"]);
    }
}

#[test]
fn rejects_conflicting_options() {
    let workspace = Workspace::new();
    let urls = ["--graph-url", "http://127.0.0.1:1", "--transpose-url", "http://127.0.0.1:1"];
    for args in [
        &["run", "--live", "--recording", "r"][..],
        &["run", "--live", "--wallets", "5"],
        &["run", "--recording", "r", "--seed", "5"],
        &["run", "--live", urls[0], urls[1], urls[2], urls[3]],
        &["run", "--recording", "r", urls[0], urls[1], urls[2], urls[3]],
        &["run", "--recording", "r", "--send-keys"],
        &["run", "--graph-url", "http://127.0.0.1:1"],
        &["run", "--transpose-url", "http://127.0.0.1:1"],
    ] {
        assert_mentions(&workspace.expect_error("BadInput", args), &["defi run --help"]);
    }
}

#[test]
fn rejects_invalid_days() {
    let workspace = Workspace::new();
    for day in ["2023-13-01", "2023-02-29", "2023-1-1", "today", ""] {
        for option in ["--as-of", "--from"] {
            let error = workspace.expect_error("BadInput", &["run", option, day]);
            assert_mentions(&error, &[&format!("{day:?}"), "YYYY-MM-DD"]);
            assert_eq!((error.matches("BadInput").count(), error.matches("next:").count()), (1, 1), "{error}");
        }
    }
}

#[test]
fn rejects_days_outside_the_source() {
    let workspace = Workspace::new();
    let chain = ["run", "--wallets", "5", "--days", "5"];
    for day in ["2022-12-31", "2023-01-07", "2199-01-01"] {
        for option in ["--as-of", "--from"] {
            let error = workspace.expect_error("BadInput", &[&chain[..], &[option, day]].concat());
            assert_mentions(&error, &[option, day, "2023-01-01", "2023-01-06"]);
        }
    }
    let error =
        workspace.expect_error("BadInput", &[&chain[..], &["--from", "2023-01-05", "--as-of", "2023-01-04"]].concat());
    assert_mentions(&error, &["2023-01-05", "2023-01-04", "--from", "--as-of"]);
}

#[test]
fn rejects_a_day_in_the_future() {
    let url = "http://127.0.0.1:1";
    let error = Workspace::new()
        .expect_error("BadInput", &["run", "--graph-url", url, "--transpose-url", url, "--as-of", "2199-01-01"]);
    assert_mentions(&error, &["2199-01-01", "future"]);
}

#[test]
fn rejects_invalid_sizes_of_the_sample_chain() {
    let workspace = Workspace::new();
    for args in [["--wallets", "0"], ["--days", "0"], ["--wallets", "4000000000"], ["--days", "4000000000"]] {
        assert_mentions(&workspace.expect_error("BadInput", &[&["run"], &args[..]].concat()), &["sample chain"]);
    }
}

#[test]
fn scenario_of_the_sample_chain_has_its_own_size_and_is_one_of_two() {
    let workspace = Workspace::new();
    let options = ["run", "--scenario", "credit", "--wallets", "5", "--as-of", "2024-01-01"];
    let error = workspace.expect_error("BadInput", &options);
    assert_mentions(&error, &["the credit sample chain of 5 wallets, 210 days and seed 1, 2023-01-01 to 2023-07-30"]);
    let error = workspace.expect_error("BadInput", &["run", "--scenario", "debt"]);
    assert_mentions(&error, &["debt", "mixed", "credit"]);
    for other in [&["--recording", "folder"][..], &["--live"]] {
        let error = workspace.expect_error("BadInput", &[&["run", "--scenario", "credit"], other].concat());
        assert_mentions(&error, &["--scenario", other[0]]);
    }
}

#[test]
fn rejects_a_lake_that_is_not_a_folder() {
    let workspace = Workspace::new();
    fs::write(workspace.path("file"), "text").expect("a file");
    for lake in ["file", "file/lake"] {
        let path = workspace.path(lake);
        let error = expect_error(
            "BadInput",
            &mut command(&["run", "--wallets", "5", "--days", "5", "--lake", path_str(&path)]),
        );
        assert_mentions(&error, &[path_str(&path), "--lake"]);
    }
    assert_eq!(fs::read_to_string(workspace.path("file")).expect("the file"), "text");
}

/// Writes a valid recording of one protocol and two days.
pub fn write_recording(folder: &Path) {
    fs::create_dir(folder).expect("a folder");
    let (account, token) = (format!("0x{}", "a1".repeat(20)), "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2");
    let event = format!(
        r#"{{"category":"deposit","protocol_name":"aave","contract_version":"v2","block_number":12,"log_index":1,"timestamp":"2023-01-01T00:01:00Z","transaction_hash":"0x{}","account_address":"{account}","sender_address":"{account}","token_address":"{token}","quantity":"1000000000000000000"}}"#,
        "b2".repeat(32),
    );
    let market = |block| {
        format!(
            r#"{{"block_number":{block},"market":{{"id":"{token}","name":"WETH","liquidationThreshold":"82","maximumLTV":"80","inputTokenPriceUSD":"1500","inputToken":{{"id":"{token}","symbol":"WETH","decimals":18}}}}}}"#
        )
    };
    let position = format!(
        r#"{{"block_number":20,"position":{{"id":"{account}-{token}-COLLATERAL-0","balance":"1000000000000000000","isCollateral":true,"side":"COLLATERAL","market":{{"id":"{token}","name":"WETH"}},"account":{{"id":"{account}"}}}}}}"#
    );
    for (name, content) in [
        (
            "manifest.json",
            r#"{"name":"tiny","protocols":["aave-v2-eth"],"first_day":"2023-01-01","last_day":"2023-01-02"}"#
                .to_owned(),
        ),
        (
            "blocks.jsonl",
            "{\"block_number\":10,\"timestamp\":1672531200}\n{\"block_number\":20,\"timestamp\":1672617600}\n"
                .to_owned(),
        ),
        ("lending_events.jsonl", format!("{event}\n")),
        ("markets.aave-v2-eth.jsonl", format!("{}\n{}\n", market(10), market(20))),
        ("positions.aave-v2-eth.jsonl", format!("{position}\n")),
    ] {
        fs::write(folder.join(name), content).expect("a file");
    }
}

#[test]
fn accepts_a_complete_recording() {
    let workspace = Workspace::new();
    write_recording(&workspace.path("recording"));
    let printed = succeed(&mut workspace.defi(&["run", "--recording", path_str(&workspace.path("recording"))]));
    assert_mentions(&printed, &["1 wallets as of 2023-01-02"]);
}

#[test]
fn rejects_a_recording_with_a_missing_file() {
    let workspace = Workspace::new();
    let folder = workspace.path("recording");
    let run = ["run", "--recording", path_str(&folder)];
    assert_mentions(&workspace.expect_error("BadInput", &run), &[path_str(&folder), "manifest.json"]);
    for file in [
        "manifest.json",
        "blocks.jsonl",
        "lending_events.jsonl",
        "markets.aave-v2-eth.jsonl",
        "positions.aave-v2-eth.jsonl",
    ] {
        write_recording(&folder);
        fs::remove_file(folder.join(file)).expect("a file");
        assert_mentions(&workspace.expect_error("BadInput", &run), &[path_str(&folder.join(file)), "missing"]);
        assert_mentions(
            &expect_error("BadInput", &mut command(&["serve", "--port", "0", "--recording", path_str(&folder)])),
            &[file],
        );
        fs::remove_dir_all(&folder).expect("the folder");
    }
}

#[test]
fn rejects_a_recording_with_an_invalid_line() {
    let workspace = Workspace::new();
    let folder = workspace.path("recording");
    for (file, invalid) in [
        ("blocks.jsonl", "{\"block_number\":30}"),
        ("lending_events.jsonl", "{\"category\":"),
        ("markets.aave-v2-eth.jsonl", "[]"),
        ("positions.aave-v2-eth.jsonl", "{\"block_number\":20,\"position\":7}"),
    ] {
        write_recording(&folder);
        let path = folder.join(file);
        let lines = fs::read_to_string(&path).expect("a file");
        fs::write(&path, format!("{lines}{invalid}\n")).expect("a file");
        let line = format!("line={}", lines.lines().count() + 1);
        assert_mentions(
            &workspace.expect_error("CorruptData", &["run", "--recording", path_str(&folder)]),
            &[path_str(&path), &line],
        );
        fs::remove_dir_all(&folder).expect("the folder");
    }
}

#[test]
fn rejects_a_recording_with_an_invalid_manifest() {
    let workspace = Workspace::new();
    let folder = workspace.path("recording");
    write_recording(&folder);
    for (manifest, word) in [
        ("{", "manifest.json"),
        (r#"{"name":"n","protocols":[],"first_day":"2023-01-01","last_day":"2023-01-02"}"#, "no protocol"),
        (
            r#"{"name":"n","protocols":["aave-v2-eth"],"first_day":"2023-01-02","last_day":"2023-01-01"}"#,
            "in ascending order",
        ),
    ] {
        fs::write(folder.join("manifest.json"), manifest).expect("a file");
        assert_mentions(
            &workspace.expect_error("CorruptData", &["run", "--recording", path_str(&folder)]),
            &["manifest.json", word],
        );
    }
}

#[test]
fn rejects_wrong_api_keys_without_printing_them() {
    let serve = ["serve", "--port", "0", "--wallets", "5", "--days", "5"];
    let server = ServeProcess::start(command(&serve).env("DEFI_SERVE_API_KEY", "the-right-key"));
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url, "--send-keys"];
    let run = [&["run", "--from", "2023-01-01", "--as-of", "2023-01-03"], &urls[..]].concat();
    let workspace = Workspace::new();
    for (graph, transpose) in
        [("wr0ng-graph", "wr0ng-transpose"), ("the-right-key", "wr0ng-transpose"), ("wr0ng-graph", "the-right-key")]
    {
        // A new lake for each pair: data that a valid key extracts may stay.
        let new_workspace = Workspace::new();
        let mut call = new_workspace.defi(&run);
        call.env("GRAPH_API_KEY", graph).env("TRANSPOSE_API_KEY", transpose);
        let output = output(&mut call);
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert!(!output.status.success());
        let errors: Vec<_> = printed[1].lines().filter(|line| line.starts_with("error: BadCredentials: ")).collect();
        assert_eq!(errors.len(), 1, "{printed:?}");
        assert_mentions(errors[0], &["; next: "]);
        assert!(!printed.concat().contains("wr0ng"), "{printed:?}");
        assert!(!printed.concat().contains("the-right-key"), "{printed:?}");
    }
    let mut call = workspace.defi(&run);
    call.env("GRAPH_API_KEY", "wr0ng-graph").env("TRANSPOSE_API_KEY", "wr0ng-transpose");
    assert_mentions(&expect_error("BadCredentials", &mut call), &["Transpose"]);
    workspace.assert_no_table_objects();
    succeed(call.env("GRAPH_API_KEY", "the-right-key").env("TRANSPOSE_API_KEY", "the-right-key"));
}

#[test]
fn keys_go_to_other_servers_only_on_request() {
    let server = ServeProcess::start(
        command(&["serve", "--port", "0", "--wallets", "5", "--days", "5"]).env("DEFI_SERVE_API_KEY", "the-right-key"),
    );
    let workspace = Workspace::new();
    let defi = |args: &[&str]| {
        let mut call = workspace.defi(&[&["run", "--from", "2023-01-01", "--as-of", "2023-01-03"], args].concat());
        call.env("GRAPH_API_KEY", "the-right-key").env("TRANSPOSE_API_KEY", "the-right-key");
        call
    };
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url];
    let told = String::from_utf8(output(&mut defi(&urls)).stderr).expect("UTF-8");
    assert_mentions(&told, &["error: BadCredentials: ", "no API key was sent", "--send-keys"]);
    for source in [["GRAPH_API_KEY", &server.graph_url], ["TRANSPOSE_API_KEY", &server.transpose_url]] {
        assert_mentions(&told, &[&format!("{} is not sent to {}: --send-keys", source[0], source[1])]);
    }
    for variable in ["GRAPH_URL", "TRANSPOSE_URL"] {
        let mut live = defi(&["--live"]);
        live.env(variable, format!("{}/a-path", server.graph_url));
        let error = expect_error("BadInput", &mut live);
        assert_mentions(&error, &[variable, "--send-keys", &server.graph_url]);
        assert!(!error.contains("a-path"), "{error}");
    }
    workspace.assert_no_table_objects();
    succeed(&mut defi(&[&urls[..], &["--send-keys"]].concat()));
}

#[test]
fn live_run_requires_api_keys() {
    let workspace = Workspace::new();
    assert_mentions(
        &workspace.expect_error("BadCredentials", &["run", "--live"]),
        &["GRAPH_API_KEY", "TRANSPOSE_API_KEY"],
    );
    assert_mentions(
        &expect_error("BadCredentials", workspace.defi(&["run", "--live"]).env("GRAPH_API_KEY", "k")),
        &["TRANSPOSE_API_KEY is not set"],
    );
    assert!(!workspace.path("lake").exists());
}

#[test]
fn reports_an_unreachable_server() {
    // A socket that is bound but does not listen refuses connections, and keeps its port from the servers of other
    // tests.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let port = socket.local_addr().expect("the local address").port();
    let url = format!("http://127.0.0.1:{port}");
    let args = ["run", "--graph-url", &url, "--transpose-url", &url, "--from", "2023-01-01", "--as-of", "2023-01-02"];
    let workspace = Workspace::new();
    // The error names the source, but not its URL, which may contain a key.
    assert_mentions(&expect_error("SourceUnavailable", &mut workspace.defi(&args)), &["Transpose", "refused"]);
    workspace.assert_no_table_objects();
}

#[test]
fn rejects_invalid_urls() {
    let workspace = Workspace::new();
    for url in ["no url", "ftp://127.0.0.1", "127.0.0.1:1"] {
        let error = workspace
            .expect_error("BadInput", &["run", "--as-of", "2023-01-02", "--graph-url", url, "--transpose-url", url]);
        assert_mentions(&error, &["URL of The Graph"]);
    }
}

#[test]
fn rejects_a_port_in_use() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("the local address").port().to_string();
    assert_mentions(
        &expect_error("BadInput", &mut command(&["serve", "--port", &port, "--wallets", "5", "--days", "5"])),
        &[&port, "another port"],
    );
}

#[test]
fn rejects_an_invalid_configuration() {
    let workspace = Workspace::new();
    let config = workspace.path("config.toml");
    let built_in = include_str!("../shared/config.toml");
    let run = ["run", "--wallets", "5", "--days", "3"];
    let error_with = |content: &str| {
        fs::write(&config, content).expect("a file");
        let error = expect_error("BadInput", workspace.defi(&run).env("DEFI_CONFIG", &config));
        assert!(!workspace.path("lake").exists());
        error
    };
    assert_mentions(&error_with(&format!("colour = \"red\"\n{built_in}")), &["colour", "config.toml"]);
    assert_mentions(&error_with(&built_in.replace("shards = 4", "shards = 0")), &["shards"]);
    assert_mentions(&error_with("[requests_per_second]\nthe_graph = 1"), &["missing field"]);
    fs::remove_file(&config).expect("the file");
    assert_mentions(&expect_error("BadInput", workspace.defi(&run).env("DEFI_CONFIG", &config)), &["config.toml"]);
    // The built-in configuration is valid as a file.
    fs::write(&config, built_in).expect("a file");
    succeed(workspace.defi(&run).env("DEFI_CONFIG", &config));
}

#[test]
fn rejects_a_second_run_on_a_locked_lake() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("lake")).expect("a folder");
    let lock = File::create(workspace.path("lake").join(".lock")).expect("a file");
    lock.try_lock().expect("the lock");
    let run = ["run", "--wallets", "5", "--days", "3"];
    assert_mentions(&expect_error("AlreadyRunning", &mut workspace.defi(&run)), &[path_str(&workspace.path("lake"))]);
    workspace.assert_no_table_objects();
    drop(lock);
    succeed(&mut workspace.defi(&run));
}

#[test]
fn rejects_another_chain_for_an_existing_lake() {
    let workspace = Workspace::new();
    let run = ["run", "--wallets", "5", "--days", "3", "--seed"];
    succeed(&mut workspace.defi(&[&run[..], &["1"]].concat()));
    let before = Tree::read(&workspace.path("lake"));
    let error = expect_error("BadInput", &mut workspace.defi(&[&run[..], &["2"]].concat()));
    assert_mentions(&error, &["seed 1", "seed 2", path_str(&workspace.path("lake")), "--lake"]);
    assert_eq!(Tree::read(&workspace.path("lake")), before);
}

#[test]
fn run_into_a_folder_of_other_files_writes_nothing() {
    let workspace = Workspace::new();
    let lake = workspace.path("lake");
    fs::create_dir(&lake).expect("a folder");
    fs::write(lake.join("guide.md"), "text").expect("a file");
    let before = Tree::read(&lake);
    let sample = ["--wallets", "5", "--days", "3"];
    for args in [&["run"][..], &["step", "extract-daily-blocks"]] {
        let error = expect_error("BadInput", &mut workspace.defi(&[args, &sample].concat()));
        assert_mentions(&error, &["not a lake", path_str(&lake), "guide.md", "--lake"]);
        assert_eq!(Tree::read(&lake), before);
        assert_eq!(fs::read_dir(&lake).expect("the folder").count(), 1, "not even a lock");
    }
    fs::rename(lake.join("guide.md"), lake.join(".guide.md")).expect("the file");
    succeed(&mut workspace.defi(&[&["run"], &sample[..]].concat()));
    fs::rename(lake.join(".guide.md"), lake.join("guide.md")).expect("the file");
    succeed(&mut workspace.defi(&[&["run"], &sample[..]].concat()));
}

#[test]
fn input_of_a_step_names_the_field_and_what_is_expected() {
    let workspace = Workspace::new();
    for (step, input, words) in [
        ("link-wallets", r#"{"day": "2023-01-02"}"#, ["(field=day)", "unknown field `day`, expected one of `as_of`"]),
        ("link-wallets", r#"{"as_of": "2023-1-2"}"#, ["(field=as_of)", "write a day as YYYY-MM-DD"]),
        ("stage-events", r#"{"days": "2023-01-02"}"#, ["(field=days)", "expected a sequence"]),
        ("stage-events", r#"{"events": ["sale"]}"#, ["(field=events[0])", "expected one of `borrow`"]),
        ("build-features", r#"{"shard": "x"}"#, ["field", "expected"]),
        ("report-run", r#"{"run_id": "a/b"}"#, ["(field=run_id)", "\"a/b\" is not a run id"]),
        (
            "extract-current-positions",
            r#"{"block": "tail"}"#,
            ["(field=block)", "`head`, `day` or the number of a block"],
        ),
    ] {
        let error = workspace.expect_error("BadInput", &["step", step, input, "--wallets", "5", "--days", "3"]);
        assert_mentions(&error, &words);
        assert_eq!((error.matches("next: ").count(), error.matches("BadInput").count()), (1, 1), "{error}");
    }
}

#[test]
fn reversed_ranges_name_both_days() {
    let workspace = Workspace::new();
    let days = ["2023-01-31", "2023-01-02"];
    for args in [
        &["features", "--at-borrows", "--from", days[0], "--until", days[1]][..],
        #[cfg(feature = "aws")]
        &["start", "--from", days[0], "--as-of", days[1]],
        #[cfg(feature = "aws")]
        &["backfill", days[0], days[1]],
        #[cfg(feature = "aws")]
        &["backfill", days[1], "2023-02-01", "--from", days[0]],
    ] {
        assert_mentions(&expect_error("BadInput", &mut command(args)), &days);
    }
    succeed(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    let error = expect_error("BadInput", &mut workspace.defi(&["features", "--as-of", "2023-01-31..2023-01-02"]));
    assert_mentions(
        &error,
        &["2023-01-31 of a range is after its last day 2023-01-02", "write 2023-01-02..2023-01-31"],
    );
}

#[test]
fn hints_repeat_the_options_of_the_call() {
    let workspace = Workspace::new();
    let lake = workspace.path("lake");
    let options = format!("--lake {} --env prod", path_str(&lake));
    let error = workspace.expect_error("BadInput", &["tables", "--env", "prod"]);
    assert_mentions(&error, &[&format!("defi run {options}")]);
    succeed(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3", "--env", "prod"]));
    let error = expect_error("BadInput", &mut workspace.defi(&["features", "--as-of", "2023-01-01", "--env", "prod"]));
    assert_mentions(&error, &[&format!("defi run {options} --as-of")]);
    #[cfg(feature = "sql")]
    {
        let query = ["query", "select * from transpose_borrow_events", "--env", "prod"];
        let error = expect_error("BadInput", &mut workspace.defi(&query));
        assert_mentions(
            &error,
            &["such as db_analytics_prod.transpose_borrow_events", &format!("defi tables {options}")],
        );
    }
    fs::remove_dir_all(lake.join("catalog/db_stage_prod")).expect("the catalog");
    let doctor = output(&mut workspace.defi(&["doctor", "--json", "--env", "prod"]));
    let printed = String::from_utf8(doctor.stdout).expect("UTF-8");
    assert_mentions(&printed, &[&format!("register it: defi run {options} --force")]);
    let told = String::from_utf8(doctor.stderr).expect("UTF-8");
    assert_mentions(&told, &[&format!("defi doctor {options}")]);
}

/// Returns a command in AWS without any configuration of the user, and without the metadata of a machine in AWS.
#[cfg(feature = "aws")]
fn in_aws(home: &Path, args: &[&str]) -> Command {
    let mut call = command(args);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        call.env_remove(name);
    }
    call.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    call
}

#[cfg(feature = "aws")]
#[test]
fn missing_credentials_and_region_have_their_kinds() {
    let workspace = Workspace::new();
    for args in [&["status"][..], &["start"], &["backfill", "2023-01-01", "2023-01-02"], &["tables", "--aws"]] {
        let mut call = in_aws(workspace.0.path(), args);
        let error = expect_error("BadCredentials", call.env("AWS_REGION", "eu-central-1"));
        assert_mentions(&error, &["there are no AWS credentials", "aws sso login"]);
        let mut call = in_aws(workspace.0.path(), args);
        let error = expect_error(
            "BadInput",
            call.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret"),
        );
        assert_mentions(&error, &["no AWS region is set", "AWS_REGION"]);
    }
}

#[test]
fn rejects_a_folder_without_a_lake() {
    let workspace = Workspace::new();
    let lake = workspace.path("lake");
    assert_mentions(&workspace.expect_error("BadInput", &["tables"]), &[path_str(&lake), "--lake"]);
    #[cfg(feature = "sql")]
    assert_mentions(&workspace.expect_error("BadInput", &["query", "select 1"]), &[path_str(&lake), "--lake"]);
}

#[test]
fn verify_needs_a_node_and_the_contracts_of_the_lake() {
    let workspace = Workspace::new();
    let url = "http://127.0.0.1:1/s3cret-key";
    let verify = ["verify", "--rpc-url", url];
    assert_mentions(&workspace.expect_error("BadInput", &verify), &["no lake", "--lake"]);
    succeed(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    let before = Tree::read(&workspace.path("lake"));
    let with_protocols = |protocols: &str| {
        let config = workspace.path("config.toml");
        fs::write(&config, protocols).expect("a configuration");
        expect_error("BadInput", workspace.defi(&verify).env("DEFI_CONFIG", &config))
    };
    let aave = "[[protocols]]\nname = \"aave-v2-eth\"\nkind = \"aave-v2\"\n";
    assert_mentions(&with_protocols(aave), &["aave-v2-eth has no chain", "docs/adding-a-protocol.md"]);
    let chain = "chain = { addresses_provider = \"0xb53c1a33016b2dc2ff3653530bff1848a515c8c5\", first_block = 1, first_day = \"2020-11-30\" }\n";
    let only_aave = with_protocols(&format!("{aave}{chain}"));
    assert_mentions(&only_aave, &["unknown protocol \"compound-v2-eth\"", "add the protocol"]);
    let error = expect_error("SourceUnavailable", &mut workspace.defi(&verify));
    assert!(!error.contains("s3cret-key") && !error.contains("127.0.0.1"), "{error}");
    assert!(Tree::read(&workspace.path("lake")) == before, "verify changed the lake");
}

#[test]
fn rejects_an_environment_without_tables() {
    let workspace = Workspace::new();
    succeed(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_mentions(
        &expect_error("BadInput", &mut workspace.defi(&["tables", "--env", "prod"])),
        &["db_analytics_prod", "--env"],
    );
}

#[cfg(feature = "sql")]
#[test]
fn rejects_invalid_queries() {
    let workspace = Workspace::new();
    succeed(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    let before = Tree::read(&workspace.path("lake"));
    let target = workspace.path("out.csv");
    let features = "db_analytics_dev.defi_features";
    // An unknown column's next step is the list of the columns of its table, all others' the list of tables.
    for (sql, word) in [
        ("selec 1", "selec"),
        ("", "SQL"),
        ("select * from db_analytics_dev.no_such_table", "no_such_table"),
        (&format!("select no_such_column from {features}"), "no_such_column"),
        (&format!("select 1 from {features} where wallet_address + 1"), "SQL"),
        (&format!("insert into {features} select * from {features}"), "DML"),
        (&format!("delete from {features}"), "DML"),
        (&format!("drop table {features}"), "DDL"),
        ("create table t as select 1", "DDL"),
        (&format!("copy (select 1) to '{}'", target.display()), "DML"),
        (&format!("create external table t stored as csv location '{}'", target.display()), "DDL"),
        ("set datafusion.execution.batch_size = 1", "tatement"),
        ("select 1; drop table t", "SQL"),
    ] {
        for format in ["table", "csv", "json"] {
            let error = expect_error("BadInput", &mut workspace.defi(&["query", "--format", format, sql]));
            assert_mentions(&error, &[word, if word == "no_such_column" { "describe TABLE" } else { "defi tables" }]);
        }
    }
    assert_eq!(Tree::read(&workspace.path("lake")), before, "a query changed the lake");
    assert!(!target.exists());
}

/// Asserts that a command succeeds although the reader of its output is closed.
fn assert_tolerates_closed_pipe(command: &mut Command) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .expect("the process runs");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!error.contains("panicked") && !error.contains("error"), "{command:?}: {error}");
    assert!(output.status.success(), "{command:?}: {error}");
}

#[test]
fn tolerates_a_closed_output_pipe() {
    let workspace = Workspace::new();
    assert_tolerates_closed_pipe(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_tolerates_closed_pipe(&mut workspace.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_tolerates_closed_pipe(&mut command(&["--help"]));
    for format in ["table", "csv", "json"] {
        assert_tolerates_closed_pipe(&mut workspace.defi(&["tables", "--format", format]));
        #[cfg(feature = "sql")]
        assert_tolerates_closed_pipe(&mut workspace.defi(&[
            "query",
            "--format",
            format,
            "select * from db_raw_dev.ethereum_daily_blocks",
        ]));
    }
}
