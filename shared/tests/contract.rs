//! Checks both stores and both catalogs against the same contract. S3 and Glue run on the local AWS of `tests/aws`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // in the test helpers

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use defi_shared::catalog::{FolderCatalog, GlueCatalog};
use defi_shared::lake::{FolderStore, Lake, S3Store, Store};
use defi_shared::testing::contract;
use tempfile::TempDir;

#[tokio::test]
async fn folder_store_fulfills_the_store_contract() {
    let folder = TempDir::new().unwrap();
    contract::check_store(Arc::new(FolderStore::open_for_run(folder.path()).unwrap())).await.unwrap();
}

#[tokio::test]
async fn folder_catalog_fulfills_the_catalog_contract() {
    let folder = TempDir::new().unwrap();
    let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
    contract::check_catalog(&FolderCatalog::new(lake)).await.unwrap();
}

/// A local AWS process, which is killed on drop.
struct LocalAws {
    process: Child,
    url: String,
}

impl LocalAws {
    /// Starts the local AWS. Returns `None` if the virtual environment that `make test` creates is missing.
    ///
    /// # Panics
    /// The virtual environment is missing in CI.
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
        // The process exits when its standard input is closed.
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| Some(line[line.find("http://")?..].trim().to_owned()));
        Some(LocalAws { process, url: url.expect("the local AWS prints its URL") })
    }

    fn sdk_config(&self) -> SdkConfig {
        let credentials = Credentials::new("administrator", "administrator", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn s3_and_glue_fulfill_the_contracts() {
    let Some(aws) = LocalAws::start() else { return };
    let config = aws.sdk_config();
    let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket("contract").send().await.unwrap();
    let store = Arc::new(S3Store::new(&config, "contract"));
    contract::check_store(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    contract::check_catalog(&GlueCatalog::new(&config, "contract")).await.unwrap();

    let missing = S3Store::new(&config, "no-such-bucket");
    assert!(missing.get("a").await.is_err(), "a missing bucket is an error, not a missing object");
    assert!(missing.list("").await.is_err());
    assert!(missing.put("a", bytes::Bytes::new()).await.is_err());
}
