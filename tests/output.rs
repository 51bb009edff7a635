//! Where output goes, and what of it reaches a terminal.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::bad_input::write_recording;
use crate::support::command::{command, output, path_str, succeed};

/// The wallet of the recording.
fn wallet() -> String {
    format!("0x{}", "a1".repeat(20))
}

/// A symbol that clears the screen, turns the text around and starts a new line.
const SYMBOL: &str = "W\u{1b}[2J\u{9b}1m\u{202e}ETH\nx";

/// How text shows the symbol.
const SHOWN: &str = r"W\u{1b}[2J\u{9b}1m\u{202e}ETH\nx";

/// Returns a lake over a recording whose name and symbols contain control characters.
fn lake() -> &'static Path {
    static LAKE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, lake) = LAKE.get_or_init(|| {
        let folder = tempdir().expect("a temporary folder");
        let [recording, lake] = ["recording", "lake"].map(|name| folder.path().join(name));
        write_recording(&recording);
        for (file, old) in
            [("markets.aave-v2-eth.jsonl", "\"symbol\":\"WETH\""), ("manifest.json", "\"name\":\"tiny\"")]
        {
            let text = fs::read_to_string(recording.join(file)).expect("a file");
            assert!(text.contains(old), "{text}");
            let new = old.replace("\"WETH\"", &Value::from(SYMBOL).to_string());
            let new = new.replace("\"tiny\"", &Value::from(SYMBOL).to_string());
            fs::write(recording.join(file), text.replace(old, &new)).expect("a file");
        }
        let run = output(&mut command(&["run", "--recording", path_str(&recording), "--lake", path_str(&lake)]));
        assert_is_safe(&run);
        assert!(String::from_utf8_lossy(&run.stdout).contains(SHOWN), "{run:?}");
        (folder, lake)
    });
    lake
}

/// Asserts that a command succeeded or failed without a character that a terminal obeys.
fn assert_is_safe(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        let is_unsafe = |c: char| c != '\n' && c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(is_unsafe), "{text:?}");
    }
}

#[test]
fn text_is_escaped_and_json_keeps_the_data() {
    let (lake, wallet) = (lake(), wallet());
    for args in [&["wallet", &wallet][..], &["wallet", &wallet, "--explain", "deposit_amount_sum_eth"]] {
        let shown = output(command(args).arg("--lake").arg(lake));
        assert_is_safe(&shown);
        assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains(SHOWN), "{shown:?}");
    }
    let json = succeed(command(&["wallet", &wallet, "--json"]).arg("--lake").arg(lake));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["events"][0]["token_symbol"], SYMBOL);
}

#[test]
fn csv_is_exact_or_safe_for_a_spreadsheet() {
    let lake = lake();
    let sql = "select distinct input_token_symbol as symbol, '=1+1' as formula, '-1' as number, -2 as integer, cast(null as varchar) as \"@none\"
        from db_stage_dev.the_graph_historical_market_data";
    let query = |args: &[&str]| succeed(command(&["query", sql, "--format", "csv"]).args(args).arg("--lake").arg(lake));
    let symbol = format!("\"{SYMBOL}\"");
    assert_eq!(query(&[]), format!("symbol,formula,number,integer,@none\n{symbol},=1+1,-1,-2,\n"));
    let safe = format!("\"symbol\",\"formula\",\"number\",\"integer\",\"'@none\"\n{symbol},\"'=1+1\",-1,-2,\"\"\n");
    assert_eq!(query(&["--csv-safe"]), safe);
    let features = |args: &[&str]| succeed(command(&["features"]).args(args).arg("--lake").arg(lake));
    let (exact, safe) = (features(&[]), features(&["--csv-safe"]));
    assert!(exact.contains(&wallet()) && safe.contains(&format!("\"{}\"", wallet())), "{safe}");
    assert_eq!(safe.replace('"', ""), exact, "features have no cell that a spreadsheet would run");
}

#[test]
fn findings_of_doctor_are_escaped_and_fit_the_line() {
    let folder = tempdir().expect("a temporary folder");
    let lake = folder.path().join("lake");
    succeed(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "5", "--days", "3"]));
    fs::write(lake.join("stray\u{1b}[2J"), "").expect("a file");
    for day in 1..9 {
        let quarantine = lake.join("quarantine").join("x".repeat(200));
        fs::create_dir_all(&quarantine).expect("a folder");
        fs::write(quarantine.join(format!("{day}.parquet")), "").expect("a file");
    }
    let shown = output(&mut command(&["doctor", "--lake", path_str(&lake)]));
    assert_is_safe(&shown);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains(r"stray\u{1b}[2J") && text.contains("8 units have rejected rows"), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|width| width <= 100), "{widest:?}: {text}");
}

/// Starts a server that gives every request the same response, and returns its URL.
fn serve(response: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 64 << 10];
                let _length = stream.read(&mut request);
                stream.write_all(response.as_bytes())
            });
        }
    });
    url
}

#[test]
fn message_of_a_source_is_escaped_in_errors_and_logs() {
    let folder = tempdir().expect("a temporary folder");
    for (response, log) in [
        ("HTTP/1.1 400 Bad\r\nContent-Length: 16\r\nConnection: close\r\n\r\nno\x1b[2J\u{202e}\u{9b}1m!!!", "error"),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 16\r\nConnection: close\r\n\r\nno\x1b[2J\u{202e}\u{9b}1m!!!", "warn"),
    ] {
        let url = serve(response);
        let lake = folder.path().join("lake");
        let mut run = command(&["run", "--graph-url", &url, "--transpose-url", &url, "--lake", path_str(&lake)]);
        run.args(["--from", "2023-01-01", "--as-of", "2023-01-01"]).env("RUST_LOG", log);
        let output = output(&mut run);
        assert_is_safe(&output);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(r"no\u{1b}[2J\u{202e}\u{9b}1m"), "{errors}");
        assert_eq!(errors.contains("retrying"), log == "warn", "{errors}");
    }
}

#[cfg(unix)]
mod files {
    use std::fs::{File, OpenOptions, Permissions};
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    /// Returns the commands that write a file, without the name of the file.
    fn commands() -> Vec<Command> {
        let wallet = wallet();
        let commands = [
            vec!["features", "--output"],
            vec!["features", "--format", "parquet", "--output"],
            vec!["report", "--output"],
            vec!["wallet", &wallet, "--html"],
        ];
        let commands = commands.into_iter().map(|args| {
            let mut command = command(&args[..1]);
            command.arg("--lake").arg(lake()).args(&args[1..]);
            command
        });
        commands.collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn target_of_a_link_is_replaced_with_its_mode() {
        for mut command in commands() {
            let folder = tempdir().expect("a temporary folder");
            let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
            fs::write(&target, "old").expect("a file");
            fs::set_permissions(&target, Permissions::from_mode(0o640)).expect("its mode");
            symlink("target", &link).expect("a link");
            succeed(command.arg(&link));
            assert!(link.is_symlink(), "{command:?}");
            assert!(fs::metadata(&target).expect("a file").len() > 10, "{command:?}");
            assert_eq!(fs::metadata(&target).expect("a file").permissions().mode() & 0o777, 0o640, "{command:?}");
            assert_eq!(names(folder.path()).len(), 2, "{command:?}");
        }
    }

    #[test]
    fn pipe_is_written_to() {
        for mut command in commands() {
            let folder = tempdir().expect("a temporary folder");
            let pipe = folder.path().join("pipe");
            assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
            let reader = std::thread::spawn({
                let pipe = pipe.clone();
                move || {
                    let mut bytes = Vec::new();
                    File::open(pipe).and_then(|mut pipe| pipe.read_to_end(&mut bytes)).expect("the pipe");
                    bytes
                }
            });
            let written = output(command.arg(&pipe));
            let is_pipe = fs::symlink_metadata(&pipe).expect("the pipe").file_type().is_fifo();
            if !is_pipe {
                // Lets the reader end.
                drop(OpenOptions::new().write(true).open(&pipe));
            }
            assert!(is_pipe && written.status.success(), "{command:?}: {written:?}");
            assert!(reader.join().expect("the reader").len() > 10, "{command:?}");
        }
    }

    #[test]
    fn devices_are_written_to() {
        for mut command in commands() {
            let folder = tempdir().expect("a temporary folder");
            let null = folder.path().join("null");
            symlink("/dev/null", &null).expect("a link");
            succeed(command.arg(&null));
            assert!(null.is_symlink(), "{command:?}");
            assert!(fs::metadata("/dev/null").expect("a device").file_type().is_char_device());
        }
    }

    #[test]
    fn standard_output_is_a_device_to_write_to() {
        let features = succeed(command(&["features", "--lake"]).arg(lake()));
        let folder = tempdir().expect("a temporary folder");
        let file = folder.path().join("all.csv");
        fs::write(&file, "before\n").expect("a file");
        let mut out = OpenOptions::new().append(true).open(&file).expect("a file");
        let mut export = command(&["features", "--output", "/dev/stdout", "--lake"]);
        assert!(export.arg(lake()).stdout(out.try_clone().expect("a file")).status().expect("it runs").success());
        out.write_all(b"after\n").expect("the file");
        assert_eq!(fs::read_to_string(&file).expect("a file"), format!("before\n{features}after\n"));
        assert_eq!(succeed(command(&["features", "--output", "/dev/stdout", "--lake"]).arg(lake())), features);
    }

    #[test]
    fn manual_page_replaces_a_link_and_nothing_else_is_left() {
        let folder = tempdir().expect("a temporary folder");
        let (target, man) = (folder.path().join("target"), folder.path().join("man"));
        fs::write(&target, "of the user").expect("a file");
        fs::create_dir(&man).expect("a folder");
        symlink(&target, man.join("defi-run.1")).expect("a link");
        succeed(&mut command(&["man", path_str(&man)]));
        assert_eq!(fs::read_to_string(&target).expect("a file"), "of the user");
        assert!(!man.join("defi-run.1").is_symlink());
        assert!(names(&man).iter().all(|name| name.starts_with("defi") && name.ends_with(".1")), "{:?}", names(&man));
    }

    #[test]
    fn planted_files_are_not_followed() {
        let folder = tempdir().expect("a temporary folder");
        let target = folder.path().join("target");
        for mut command in commands() {
            let file = folder.path().join("out");
            for name in ["out.unfinished", "out.tmp", ".out.unfinished", ".unfinished", ".out"] {
                fs::write(&target, "of the user").expect("a file");
                symlink(&target, folder.path().join(name)).ok();
            }
            succeed(command.arg(&file));
            assert_eq!(fs::read_to_string(&target).expect("a file"), "of the user", "{command:?}");
            fs::remove_file(&file).expect("the file");
            assert_eq!(names(folder.path()).len(), 6, "{command:?}: {:?}", names(folder.path()));
        }
    }

    #[test]
    fn lock_that_is_a_link_is_an_error() {
        let folder = tempdir().expect("a temporary folder");
        let (target, lake) = (folder.path().join("target"), folder.path().join("lake"));
        fs::write(&target, "of the user").expect("a file");
        fs::create_dir(&lake).expect("a folder");
        symlink(&target, lake.join(".lock")).expect("a link");
        let run = output(&mut command(&["run", "--lake", path_str(&lake), "--wallets", "5", "--days", "3"]));
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(error.starts_with("error: BadInput: ") && error.contains("lake/.lock"), "{error}");
        assert_eq!(fs::read_to_string(&target).expect("a file"), "of the user");
    }

    #[test]
    fn failure_leaves_no_file_and_the_old_one_as_it_was() {
        let folder = tempdir().expect("a temporary folder");
        let file = folder.path().join("features.csv");
        fs::write(&file, "old").expect("a file");
        fs::write(folder.path().join("features.csv.unfinished"), "of the user").expect("a file");
        let broken = folder.path().join("lake");
        copy(lake(), &broken);
        let object = broken.join("analytics/features/defi_features/as_of=2023-01-02/3.parquet");
        fs::write(object, "PAR1").expect("a broken object");
        let mut export = command(&["features", "--lake", path_str(&broken), "--output", path_str(&file)]);
        assert!(!output(&mut export).status.success());
        assert_eq!(fs::read_to_string(&file).expect("a file"), "old");
        assert_eq!(names(folder.path()).len(), 3, "{:?}", names(folder.path()));
        succeed(command(&["features", "--lake"]).arg(lake()).args(["--output", path_str(&file)]));
        let other = fs::read_to_string(folder.path().join("features.csv.unfinished")).expect("a file");
        assert_eq!(other, "of the user", "a name that the user chose is overwritten");
    }

    fn copy(from: &Path, to: &Path) {
        assert!(Command::new("cp").arg("-r").args([from, to]).status().expect("cp").success());
    }
}
