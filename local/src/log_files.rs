//! Opens Parquet files of logs, in a folder or a bucket.

use std::path::Path;
use std::sync::Arc;

use defi_shared::error::{Error, Result};
use defi_shared::feeds::ParquetLogs;
use defi_shared::lake::{FolderStore, Store};

/// Opens the files of a chain's logs in a folder, or in a bucket where the location begins with `s3://`.
///
/// # Errors
/// `BadInput` if there are no such files, or for a bucket in a build without AWS support; the errors of AWS.
pub(crate) async fn open(location: &str, chain_id: u64) -> Result<ParquetLogs> {
    let invalid = || {
        Error::bad_input("--logs names neither a folder nor a bucket")
            .with_hint("write it as DIR or s3://BUCKET/PREFIX; other URLs, users and queries are not supported")
    };
    match location.strip_prefix("s3://") {
        Some(path) if path.contains(['@', '?', '#']) => Err(invalid()),
        None if location.contains("://") => Err(invalid()),
        Some(path) => {
            let (bucket, prefix) = bucket_and_prefix(path);
            ParquetLogs::open(in_bucket(bucket).await?, &prefix, chain_id).await
        }
        None if Path::new(location).is_file() => {
            Err(Error::bad_input("--logs names a file, not a folder of Parquet files of logs")
                .with("path", location)
                .with_hint("name the folder that has the files; which files, docs/chain.md says"))
        }
        None => ParquetLogs::open(Arc::new(FolderStore::new(Path::new(location))), "", chain_id).await,
    }
}

/// Splits what follows `s3://` into the bucket and the prefix of its files, which is empty or ends in `/`.
fn bucket_and_prefix(path: &str) -> (&str, String) {
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let prefix = prefix.trim_end_matches('/');
    (bucket, if prefix.is_empty() { String::new() } else { format!("{prefix}/") })
}

#[cfg(feature = "aws")]
async fn in_bucket(bucket: &str) -> Result<Arc<dyn Store>> {
    if bucket.is_empty() {
        return Err(Error::bad_input("--logs names no bucket").with_hint("write it as s3://BUCKET/PREFIX"));
    }
    Ok(Arc::new(defi_shared::lake::S3Store::new(&defi_shared::aws::configuration().await, bucket)))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "builds with AWS support need async")]
async fn in_bucket(_: &str) -> Result<Arc<dyn Store>> {
    let error = Error::bad_input("this build has no AWS support");
    Err(error.with_hint("build with AWS support: make build"))
}

#[cfg(test)]
mod tests {
    use defi_shared::error::Kind;

    use super::*;

    #[tokio::test]
    async fn urls_that_may_hold_a_secret_are_refused_and_not_repeated() {
        for location in ["https://bucket.example/x?sig=s3cret", "s3://s3cret@bucket/x", "s3://bucket/x?sig=s3cret"] {
            let error = open(location, 1).await.unwrap_err().to_string();
            assert!(error.contains("neither a folder nor a bucket") && !error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_is_no_folder_of_logs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(file.path().to_str().unwrap(), 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
        assert!(error.details().starts_with("--logs names a file, not a folder"), "{error}");
    }

    #[test]
    fn prefixes_are_folders() {
        for (path, bucket, prefix) in [
            ("bucket", "bucket", ""),
            ("bucket/", "bucket", ""),
            ("bucket/v1.0/eth", "bucket", "v1.0/eth/"),
            ("bucket/v1.0/eth/", "bucket", "v1.0/eth/"),
            ("", "", ""),
        ] {
            assert_eq!(bucket_and_prefix(path), (bucket, prefix.to_owned()), "{path}");
        }
    }
}
