//! Files in a bucket.

use std::sync::Arc;

use defi_shared::lake::{FolderStore, S3Store, Store};

use super::files::{aws, expected, senders};
use super::first_day;
use crate::local_aws::LocalAws;

#[tokio::test]
async fn files_in_a_bucket() {
    let Some(local) = LocalAws::shared() else { return };
    local.bucket("logs").await;
    let (folder, bucket) = (aws(), Arc::new(S3Store::new(&local.sdk_config(), "logs")));
    let files = FolderStore::new(folder.path());
    for file in files.list("").await.unwrap() {
        let bytes = files.get(&file.key).await.unwrap().unwrap();
        bucket.put(&format!("v1.0/eth/{}", file.key), bytes).await.unwrap();
    }
    let read = first_day(bucket, "v1.0/eth/").await.unwrap();
    assert_eq!(read.batch.logs, expected());
    assert_eq!(read.senders.into_iter().collect::<Vec<_>>(), senders());
}
