//! Checks both stores and both catalogs against the same contract. S3 and Glue run on the local AWS of `tests/aws`.
#![allow(clippy::unwrap_used)] // in the test helpers

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use defi_shared::catalog::{FolderCatalog, GlueCatalog};
use defi_shared::lake::{FolderStore, Lake, ObjectDigest, PutOutcome, S3Store, Store};
use defi_shared::testing::contract;
use tempfile::TempDir;

use crate::local_aws::LocalAws;

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

#[tokio::test]
async fn s3_and_glue_fulfill_the_contracts() {
    let Some(aws) = LocalAws::shared() else { return };
    let config = aws.sdk_config();
    aws.bucket("contract").await;
    let store = Arc::new(S3Store::new(&config, "contract"));
    contract::check_store(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
    contract::check_catalog(&GlueCatalog::new(&config, "contract")).await.unwrap();

    let missing = S3Store::new(&config, "no-such-bucket");
    assert!(missing.get("a").await.is_err(), "a missing bucket is an error, not a missing object");
    assert!(missing.list("").await.is_err());
    assert!(missing.put("a", Bytes::new()).await.is_err());
}

/// An object of two parts of a multipart upload of other software, which are at least 5 MiB.
const TWO_PARTS: usize = (5 << 20) + 3;

#[tokio::test]
async fn s3_objects_are_equal_by_what_s3_says_of_their_bytes() {
    let Some(aws) = LocalAws::shared() else { return };
    let client = aws.bucket("equality").await;
    let store = S3Store::new(&aws.sdk_config(), "equality");
    let [ours, forged] = [&b"right"[..], b"wrong"].map(Bytes::from_static);
    let put = async |body: &Bytes| {
        let put = client.put_object().bucket("equality").key("object").body(body.clone().into());
        put.metadata("sha256", ObjectDigest::of(&ours).to_string())
    };

    // Metadata of the writer's choice, as earlier versions of this program wrote it.
    put(&forged).await.send().await.unwrap();
    assert_eq!(store.digest("object").await.unwrap(), Some(ObjectDigest::of(&forged)));
    assert_eq!(store.compare("object", &ours).await.unwrap(), PutOutcome::Replaced);
    assert_eq!(store.put("object", ours.clone()).await.unwrap(), PutOutcome::Replaced);
    assert_eq!(store.get("object").await.unwrap(), Some(ours.clone()));

    // The same bytes with another checksum.
    put(&ours).await.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.unwrap();
    assert_eq!(store.put("object", ours.clone()).await.unwrap(), PutOutcome::Unchanged);
    assert_eq!(store.digest("object").await.unwrap(), Some(ObjectDigest::of(&ours)));

    // A checksum of the writer's choice.
    let checksum = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    assert!(put(&forged).await.checksum_sha256(checksum).send().await.is_err(), "S3 computes the checksum itself");

    // The same bytes in other parts: their checksum is not that of the bytes.
    let large: Bytes = (0..TWO_PARTS).map(|i| (i / 1000) as u8).collect();
    upload_in_two_parts(&client, "equality", "large", &large).await;
    assert_eq!(store.digest("large").await.unwrap(), Some(ObjectDigest::of(&large)));
    assert_eq!(store.put("large", large.clone()).await.unwrap(), PutOutcome::Unchanged);
    let other: Bytes = large.iter().map(|byte| byte ^ 1).collect();
    assert_eq!(store.compare("large", &other).await.unwrap(), PutOutcome::Replaced);
}

async fn upload_in_two_parts(client: &Client, bucket: &str, key: &str, bytes: &Bytes) {
    let upload = client.create_multipart_upload().bucket(bucket).key(key).checksum_algorithm(ChecksumAlgorithm::Sha256);
    let upload = upload.send().await.unwrap();
    let mut parts = CompletedMultipartUpload::builder();
    for (number, body) in (1..).zip([bytes.slice(..5 << 20), bytes.slice(5 << 20..)]) {
        let part = client.upload_part().bucket(bucket).key(key).upload_id(upload.upload_id().unwrap());
        let part = part.part_number(number).checksum_algorithm(ChecksumAlgorithm::Sha256).body(body.into());
        let part = part.send().await.unwrap();
        let completed = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag);
        parts = parts.parts(completed.set_checksum_sha256(part.checksum_sha256).build());
    }
    let complete = client.complete_multipart_upload().bucket(bucket).key(key).set_upload_id(upload.upload_id);
    complete.multipart_upload(parts.build()).send().await.unwrap();
}
