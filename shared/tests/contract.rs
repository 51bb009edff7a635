//! Both stores and both catalogs keep the same promises. Those in AWS are held to them on the local AWS of `tests/aws`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // in what the tests share

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
async fn a_folder_keeps_what_a_store_promises() {
    let folder = TempDir::new().unwrap();
    contract::store(Arc::new(FolderStore::open_for_run(folder.path()).unwrap())).await.unwrap();
}

#[tokio::test]
async fn a_catalog_in_a_lake_keeps_what_a_catalog_promises() {
    let folder = TempDir::new().unwrap();
    let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
    contract::catalog(&FolderCatalog::new(lake)).await.unwrap();
}

/// The local AWS; it ends with the test.
struct LocalAws {
    process: Child,
    url: String,
}

impl LocalAws {
    /// None where the virtual environment is missing that `make test` makes; on a build server that is a failure.
    fn start() -> Option<LocalAws> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = root.join(".venv/aws/bin/python");
        if !python.exists() {
            let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
            assert!(!in_ci, "there is no {}", python.display());
            // Past the capture of the test harness, which would keep it to itself.
            writeln!(std::io::stderr(), "NOT RUN: the local AWS needs {}; make test makes it", python.display())
                .expect("standard error");
            return None;
        }
        let mut command = Command::new(python);
        command.args(["-m", "local_aws", "--port", "0"]).current_dir(root.join("tests/aws"));
        // It ends when its standard input does.
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| Some(line[line.find("http://")?..].trim().to_owned()));
        Some(LocalAws { process, url: url.expect("the local AWS says where it is") })
    }

    fn configuration(&self) -> SdkConfig {
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
async fn a_bucket_and_glue_keep_what_a_store_and_a_catalog_promise() {
    let Some(aws) = LocalAws::start() else { return };
    let configuration = aws.configuration();
    let s3 = aws_sdk_s3::config::Builder::from(&configuration).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket("contract").send().await.unwrap();
    let store = Arc::new(S3Store::new(&configuration, "contract"));
    contract::store(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    contract::catalog(&GlueCatalog::new(&configuration, "contract")).await.unwrap();

    let missing = S3Store::new(&configuration, "no-such-bucket");
    assert!(missing.get("a").await.is_err(), "a bucket that is not there is no absence of an object");
    assert!(missing.list("").await.is_err());
    assert!(missing.put("a", bytes::Bytes::new()).await.is_err());
}
