//! What a user can get wrong: each is one line that says what to do, a non-zero exit, and nothing half written.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};
use tokio::net::TcpSocket;

use crate::support::command::{command, output, succeed, text};
use crate::support::server::Served;
use crate::support::tree::Tree;

/// A place for one test's lake, which is not made yet.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A call with this place's lake.
    fn defi(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.arg("--lake").arg(self.path("lake"));
        command
    }

    /// Runs what must be refused with an error of a kind before a lake is made. The error's line.
    fn refused(&self, kind: &str, args: &[&str]) -> String {
        let error = refused(kind, &mut self.defi(args));
        assert!(!self.path("lake").exists(), "{args:?} left a lake");
        error
    }

    /// What a run leaves that found its source closed: a plan and a catalog, and no object of a table.
    fn assert_no_table(&self) {
        let lake = Tree::read(&self.path("lake"));
        let is_object = |path: &&str| {
            ["raw/", "stage/", "analytics/", "state/", "quarantine/"].iter().any(|folder| path.starts_with(folder))
        };
        assert_eq!(lake.paths().filter(is_object).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

/// Runs what must be refused with an error of a kind: one line, a next step, an exit that is none of success. The line.
fn refused(kind: &str, command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    assert!(error.starts_with(&format!("error: {kind}: ")), "{command:?}: {error}");
    let next = error.split_once("; next: ").map(|(_, next)| next.trim());
    assert!(next.is_some_and(|next| !next.is_empty()), "{command:?}: {error}");
    let code = output.status.code();
    assert_eq!(code, Some(if kind == "BadInput" { 2 } else { 1 }), "{command:?}: {error}");
    error
}

/// The error speaks of all of these.
fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn unknown_words_on_the_command_line() {
    for (args, word) in [
        (&["run", "--no-such-option"][..], "--no-such-option"),
        (&["run", "--wallets", "many"], "many"),
        (&["run", "--env", "test"], "test"),
        (&["run", "surplus"], "surplus"),
        (&["serve", "--port", "99999"], "99999"),
        (&["no-such-subcommand"], "no-such-subcommand"),
        (&["query"], "SQL"),
        (&["tables", "--format", "xml"], "xml"),
    ] {
        assert_names(&refused("BadInput", &mut command(args)), &[word, "--help"]);
    }
}

#[test]
fn options_that_exclude_each_other() {
    let place = Place::new();
    let urls = ["--graph-url", "http://127.0.0.1:1", "--transpose-url", "http://127.0.0.1:1"];
    for args in [
        &["run", "--live", "--recording", "r"][..],
        &["run", "--live", "--wallets", "5"],
        &["run", "--recording", "r", "--seed", "5"],
        &["run", "--live", urls[0], urls[1], urls[2], urls[3]],
        &["run", "--recording", "r", urls[0], urls[1], urls[2], urls[3]],
        &["run", "--graph-url", "http://127.0.0.1:1"],
        &["run", "--transpose-url", "http://127.0.0.1:1"],
    ] {
        assert_names(&place.refused("BadInput", args), &["defi run --help"]);
    }
}

#[test]
fn days_that_are_none() {
    let place = Place::new();
    for day in ["2023-13-01", "2023-02-29", "2023-1-1", "today", ""] {
        for option in ["--as-of", "--from"] {
            assert_names(&place.refused("BadInput", &["run", option, day]), &[&format!("{day:?}"), "YYYY-MM-DD"]);
        }
    }
}

#[test]
fn days_that_the_source_does_not_cover() {
    let place = Place::new();
    let chain = ["run", "--wallets", "5", "--days", "5"];
    for day in ["2022-12-31", "2023-01-07", "2199-01-01"] {
        for option in ["--as-of", "--from"] {
            let error = place.refused("BadInput", &[&chain[..], &[option, day]].concat());
            assert_names(&error, &[option, day, "2023-01-01", "2023-01-06"]);
        }
    }
    let error = place.refused("BadInput", &[&chain[..], &["--from", "2023-01-05", "--as-of", "2023-01-04"]].concat());
    assert_names(&error, &["2023-01-05", "2023-01-04", "--from", "--as-of"]);
}

#[test]
fn a_day_in_the_future() {
    let url = "http://127.0.0.1:1";
    let error =
        Place::new().refused("BadInput", &["run", "--graph-url", url, "--transpose-url", url, "--as-of", "2199-01-01"]);
    assert_names(&error, &["2199-01-01", "future"]);
}

#[test]
fn a_chain_of_no_size() {
    let place = Place::new();
    for args in [["--wallets", "0"], ["--days", "0"], ["--wallets", "4000000000"], ["--days", "4000000000"]] {
        assert_names(&place.refused("BadInput", &[&["run"], &args[..]].concat()), &["sample chain"]);
    }
}

#[test]
fn a_lake_that_cannot_be_written() {
    let place = Place::new();
    fs::write(place.path("file"), "text").expect("a file");
    for lake in ["file", "file/lake"] {
        let path = place.path(lake);
        let error = refused("BadInput", &mut command(&["run", "--wallets", "5", "--days", "5", "--lake", text(&path)]));
        assert_names(&error, &[text(&path), "--lake"]);
    }
    assert_eq!(fs::read_to_string(place.path("file")).expect("the file"), "text");
}

/// A recording of one protocol and two days that a run accepts.
fn recording(folder: &Path) {
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
    for (name, text) in [
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
        fs::write(folder.join(name), text).expect("a file");
    }
}

#[test]
fn a_recording_that_is_whole_is_taken() {
    let place = Place::new();
    recording(&place.path("recording"));
    let printed = succeed(&mut place.defi(&["run", "--recording", text(&place.path("recording"))]));
    assert_names(&printed, &["1 wallets as of 2023-01-02"]);
}

#[test]
fn a_recording_with_a_file_missing() {
    let place = Place::new();
    let folder = place.path("recording");
    let run = ["run", "--recording", text(&folder)];
    assert_names(&place.refused("BadInput", &run), &[text(&folder), "manifest.json"]);
    for file in [
        "manifest.json",
        "blocks.jsonl",
        "lending_events.jsonl",
        "markets.aave-v2-eth.jsonl",
        "positions.aave-v2-eth.jsonl",
    ] {
        recording(&folder);
        fs::remove_file(folder.join(file)).expect("a file");
        assert_names(&place.refused("BadInput", &run), &[text(&folder.join(file)), "missing"]);
        assert_names(
            &refused("BadInput", &mut command(&["serve", "--port", "0", "--recording", text(&folder)])),
            &[file],
        );
        fs::remove_dir_all(&folder).expect("the folder");
    }
}

#[test]
fn a_recording_with_a_broken_line() {
    let place = Place::new();
    let folder = place.path("recording");
    for (file, broken) in [
        ("blocks.jsonl", "{\"block_number\":30}"),
        ("lending_events.jsonl", "{\"category\":"),
        ("markets.aave-v2-eth.jsonl", "[]"),
        ("positions.aave-v2-eth.jsonl", "{\"block_number\":20,\"position\":7}"),
    ] {
        recording(&folder);
        let path = folder.join(file);
        let lines = fs::read_to_string(&path).expect("a file");
        fs::write(&path, format!("{lines}{broken}\n")).expect("a file");
        let line = format!("line={}", lines.lines().count() + 1);
        assert_names(&place.refused("CorruptData", &["run", "--recording", text(&folder)]), &[text(&path), &line]);
        fs::remove_dir_all(&folder).expect("the folder");
    }
}

#[test]
fn a_recording_with_a_manifest_that_is_none() {
    let place = Place::new();
    let folder = place.path("recording");
    recording(&folder);
    for (manifest, word) in [
        ("{", "manifest.json"),
        (r#"{"name":"n","protocols":[],"first_day":"2023-01-01","last_day":"2023-01-02"}"#, "no protocol"),
        (r#"{"name":"n","protocols":["aave-v2-eth"],"first_day":"2023-01-02","last_day":"2023-01-01"}"#, "in order"),
    ] {
        fs::write(folder.join("manifest.json"), manifest).expect("a file");
        assert_names(&place.refused("CorruptData", &["run", "--recording", text(&folder)]), &["manifest.json", word]);
    }
}

#[test]
fn wrong_keys_are_refused_and_never_shown() {
    let serve = ["serve", "--port", "0", "--wallets", "5", "--days", "5"];
    let server = Served::start(command(&serve).env("DEFI_SERVE_API_KEY", "the-right-key"));
    let urls = ["--graph-url", &server.graph_url, "--transpose-url", &server.transpose_url];
    let run = [&["run", "--from", "2023-01-01", "--as-of", "2023-01-03"], &urls[..]].concat();
    let place = Place::new();
    for (graph, transpose) in
        [("wr0ng-graph", "wr0ng-transpose"), ("the-right-key", "wr0ng-transpose"), ("wr0ng-graph", "the-right-key")]
    {
        // A lake of its own for each: what a right key brings may stay.
        let other = Place::new();
        let mut call = other.defi(&run);
        call.env("GRAPH_API_KEY", graph).env("TRANSPOSE_API_KEY", transpose);
        let output = output(&mut call);
        let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        assert!(!output.status.success());
        let errors: Vec<_> = printed[1].lines().filter(|line| line.starts_with("error: BadCredentials: ")).collect();
        assert_eq!(errors.len(), 1, "{printed:?}");
        assert_names(errors[0], &["; next: "]);
        assert!(!printed.concat().contains("wr0ng"), "{printed:?}");
        assert!(!printed.concat().contains("the-right-key"), "{printed:?}");
    }
    let mut call = place.defi(&run);
    call.env("GRAPH_API_KEY", "wr0ng-graph").env("TRANSPOSE_API_KEY", "wr0ng-transpose");
    assert_names(&refused("BadCredentials", &mut call), &["Transpose"]);
    place.assert_no_table();
    succeed(call.env("GRAPH_API_KEY", "the-right-key").env("TRANSPOSE_API_KEY", "the-right-key"));
}

#[test]
fn live_without_keys() {
    let place = Place::new();
    assert_names(&place.refused("BadCredentials", &["run", "--live"]), &["GRAPH_API_KEY", "TRANSPOSE_API_KEY"]);
    assert_names(
        &refused("BadCredentials", place.defi(&["run", "--live"]).env("GRAPH_API_KEY", "k")),
        &["TRANSPOSE_API_KEY is not set"],
    );
    assert!(!place.path("lake").exists());
}

#[test]
fn a_server_that_is_not_there() {
    // A socket that is bound but does not listen refuses connections, and keeps its port from the servers of other tests.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let port = socket.local_addr().expect("its address").port();
    let url = format!("http://127.0.0.1:{port}");
    let args = ["run", "--graph-url", &url, "--transpose-url", &url, "--from", "2023-01-01", "--as-of", "2023-01-02"];
    let place = Place::new();
    // Which of the two it is must be said. Its URL must not: there are those who write a key into it.
    assert_names(&refused("SourceUnavailable", &mut place.defi(&args)), &["Transpose", "refused"]);
    place.assert_no_table();
}

#[test]
fn urls_that_are_none() {
    let place = Place::new();
    for url in ["no url", "ftp://127.0.0.1", "127.0.0.1:1"] {
        let error =
            place.refused("BadInput", &["run", "--as-of", "2023-01-02", "--graph-url", url, "--transpose-url", url]);
        assert_names(&error, &["URL of The Graph"]);
    }
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    assert_names(
        &refused("BadInput", &mut command(&["serve", "--port", &port, "--wallets", "5", "--days", "5"])),
        &[&port, "another port"],
    );
}

#[test]
fn a_configuration_that_says_what_it_may_not() {
    let place = Place::new();
    let config = place.path("config.toml");
    let built_in = include_str!("../shared/config.toml");
    let run = ["run", "--wallets", "5", "--days", "3"];
    let refused_with = |text: &str| {
        fs::write(&config, text).expect("a file");
        let error = refused("BadInput", place.defi(&run).env("DEFI_CONFIG", &config));
        assert!(!place.path("lake").exists());
        error
    };
    assert_names(&refused_with(&format!("colour = \"red\"\n{built_in}")), &["colour", "config.toml"]);
    assert_names(&refused_with(&built_in.replace("shards = 4", "shards = 0")), &["shards"]);
    assert_names(&refused_with("shards = 4"), &["missing field"]);
    fs::remove_file(&config).expect("the file");
    assert_names(&refused("BadInput", place.defi(&run).env("DEFI_CONFIG", &config)), &["config.toml"]);
    // The one that is built in is taken as a file too.
    fs::write(&config, built_in).expect("a file");
    succeed(place.defi(&run).env("DEFI_CONFIG", &config));
}

#[test]
fn two_runs_on_one_lake() {
    let place = Place::new();
    fs::create_dir(place.path("lake")).expect("a folder");
    let lock = File::create(place.path("lake").join(".lock")).expect("a file");
    lock.try_lock().expect("the lock");
    let run = ["run", "--wallets", "5", "--days", "3"];
    assert_names(&refused("AlreadyRunning", &mut place.defi(&run)), &[text(&place.path("lake"))]);
    place.assert_no_table();
    drop(lock);
    succeed(&mut place.defi(&run));
}

#[test]
fn another_chain_for_the_same_lake() {
    let place = Place::new();
    let run = ["run", "--wallets", "5", "--days", "3", "--seed"];
    succeed(&mut place.defi(&[&run[..], &["1"]].concat()));
    let before = Tree::read(&place.path("lake"));
    let error = refused("BadInput", &mut place.defi(&[&run[..], &["2"]].concat()));
    assert_names(&error, &["seed 1", "seed 2", text(&place.path("lake")), "--lake"]);
    assert_eq!(Tree::read(&place.path("lake")), before);
}

#[test]
fn a_folder_without_a_lake() {
    let place = Place::new();
    let lake = place.path("lake");
    assert_names(&place.refused("BadInput", &["tables"]), &[text(&lake), "--lake"]);
    #[cfg(feature = "sql")]
    assert_names(&place.refused("BadInput", &["query", "select 1"]), &[text(&lake), "--lake"]);
}

#[test]
fn the_other_environment() {
    let place = Place::new();
    succeed(&mut place.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_names(&refused("BadInput", &mut place.defi(&["tables", "--env", "prod"])), &["db_analytics_prod", "--env"]);
}

#[cfg(feature = "sql")]
#[test]
fn questions_that_cannot_be_answered() {
    let place = Place::new();
    succeed(&mut place.defi(&["run", "--wallets", "5", "--days", "3"]));
    let before = Tree::read(&place.path("lake"));
    let target = place.path("out.csv");
    let features = "db_analytics_dev.defi_features";
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
            let error = refused("BadInput", &mut place.defi(&["query", "--format", format, sql]));
            assert_names(&error, &[word, "defi tables"]);
        }
    }
    assert_eq!(Tree::read(&place.path("lake")), before, "a question changes nothing");
    assert!(!target.exists());
}

/// Calls the command with an output whose reader has gone away.
fn assert_survives_a_closed_pipe(command: &mut Command) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .expect("it ran");
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!error.contains("panicked") && !error.contains("error"), "{command:?}: {error}");
    assert!(output.status.success(), "{command:?}: {error}");
}

#[test]
fn an_output_that_nobody_reads() {
    let place = Place::new();
    assert_survives_a_closed_pipe(&mut place.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_survives_a_closed_pipe(&mut place.defi(&["run", "--wallets", "5", "--days", "3"]));
    assert_survives_a_closed_pipe(&mut command(&["--help"]));
    for format in ["table", "csv", "json"] {
        assert_survives_a_closed_pipe(&mut place.defi(&["tables", "--format", format]));
        #[cfg(feature = "sql")]
        assert_survives_a_closed_pipe(&mut place.defi(&[
            "query",
            "--format",
            format,
            "select * from db_raw_dev.ethereum_daily_blocks",
        ]));
    }
}
