//! The local AWS of `tests/aws`, as a process.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // in the test helpers

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use serde_json::{Value, json};

/// The number of attempts of a call.
pub const ATTEMPTS: u32 = 3;

/// A local AWS process, which all tests share. Each test has a bucket of its own.
pub struct LocalAws {
    /// The process exits when its standard input is closed, and thus with this process.
    _process: Child,
    url: String,
}

static SHARED: OnceLock<Option<LocalAws>> = OnceLock::new();

impl LocalAws {
    /// Returns the local AWS, started by the first call. Returns `None` if the virtual environment that `make test` creates
    /// is missing.
    ///
    /// # Panics
    /// The virtual environment is missing in CI.
    pub fn shared() -> Option<&'static LocalAws> {
        SHARED.get_or_init(LocalAws::start).as_ref()
    }

    fn start() -> Option<LocalAws> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = root.join(".venv/aws/bin/python");
        if !python.exists() {
            let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
            assert!(!in_ci, "{} is missing", python.display());
            // Written directly to standard error, because the test harness captures `eprintln!`.
            writeln!(std::io::stderr(), "NOT RUN: the local AWS needs {}; make test creates it", python.display())
                .expect("standard error");
            return None;
        }
        let mut command = Command::new(python);
        command.args(["-m", "local_aws", "--port", "0"]).current_dir(root.join("tests/aws"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| Some(line[line.find("http://")?..].trim().to_owned()));
        Some(LocalAws { _process: process, url: url.expect("the local AWS prints its URL") })
    }

    /// Creates a bucket. Returns a client that writes to it as other software does.
    pub async fn bucket(&self, name: &str) -> Client {
        let config = aws_sdk_s3::config::Builder::from(&self.sdk_config()).force_path_style(true).build();
        let client = Client::from_conf(config);
        client.create_bucket().bucket(name).send().await.unwrap();
        client
    }

    pub fn sdk_config(&self) -> SdkConfig {
        let credentials = Credentials::new("administrator", "administrator", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(
                RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(1)),
            )
            .build()
    }

    /// Orders an answer of S3. `tests/aws/local_aws/controls.py` describes the fields.
    pub fn order_answer(&self, answer: &Value) {
        self.control("POST", answer);
    }

    /// Cancels the answers to requests for the objects of a pattern. Returns those that were not given.
    pub fn cancel_answers(&self, object: &str) -> Vec<Value> {
        serde_json::from_str(&self.control("DELETE", &json!({"object": object}))).unwrap()
    }

    fn control(&self, method: &str, values: &Value) -> String {
        let (address, body) = (self.url.trim_start_matches("http://"), values.to_string());
        let mut stream = TcpStream::connect(address).unwrap();
        let head =
            format!("{method} /_local-aws/answers HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}", body.len());
        write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}
