//! A lake in an S3 bucket.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::store::{Entry, Put, Store};
use crate::aws::{code, failed};
use crate::error::{Error, Kind, Result};

/// Larger objects go up in parts of this size, so that a broken connection costs one part. S3 takes 10,000 of them.
const PART: usize = 16 << 20;

/// Parts under way at once.
const PARTS_AT_ONCE: usize = 4;

/// The metadata that holds an object's SHA-256: whether bytes are equal is seen without fetching them. An ETag would not tell:
/// that of a multipart upload is no digest of the bytes.
const DIGEST: &str = "sha256";

/// Objects in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
}

/// An object as a HEAD shows it.
struct Seen {
    etag: Option<String>,
    size: u64,
    digest: Option<String>,
}

impl S3Store {
    /// The objects of a bucket.
    pub fn new(aws: &SdkConfig, bucket: impl Into<String>) -> Self {
        let mut config = aws_sdk_s3::config::Builder::from(aws);
        // A bucket's name as a part of the host can't be resolved where the endpoint is this machine.
        config.set_force_path_style(Some(aws.endpoint_url().is_some()));
        S3Store { client: Client::from_conf(config.build()), bucket: bucket.into() }
    }

    fn failed<E, R>(&self, call: &'static str, key: &str, error: SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        failed(call, error).with("object", self.location(key))
    }

    async fn head(&self, key: &str) -> Result<Option<Seen>> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(head) => Ok(Some(Seen {
                etag: head.e_tag,
                size: head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                digest: head.metadata.and_then(|mut metadata| metadata.remove(DIGEST)),
            })),
            // A HEAD has no body to tell NoSuchBucket by; a bucket that is not there fails the put after it.
            Err(error) if matches!(code(&error), Some("NotFound" | "NoSuchKey")) => Ok(None),
            Err(error) => Err(self.failed("HeadObject", key, error)),
        }
    }

    async fn is_equal(&self, key: &str, seen: &Seen, bytes: &Bytes, digest: &str) -> Result<bool> {
        match &seen.digest {
            _ if seen.size != bytes.len() as u64 => Ok(false),
            Some(there) => Ok(there == digest),
            // Put there by something else.
            None => Ok(self.get(key).await?.as_ref() == Some(bytes)),
        }
    }

    /// Writes what was seen to be other, on the condition that nobody else did so since. `false` where someone did.
    async fn write(&self, key: &str, bytes: Bytes, digest: &str, seen: Option<&Seen>) -> Result<bool> {
        if bytes.len() > PART {
            return self.write_in_parts(key, bytes, digest, seen).await;
        }
        let put = self.client.put_object().bucket(&self.bucket).key(key).metadata(DIGEST, digest).body(bytes.into());
        let put = match seen {
            None => put.if_none_match("*"),
            Some(seen) => put.set_if_match(seen.etag.clone()),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_overtaken(&error) => Ok(false),
            Err(error) => Err(self.failed("PutObject", key, error)),
        }
    }

    async fn write_in_parts(&self, key: &str, bytes: Bytes, digest: &str, seen: Option<&Seen>) -> Result<bool> {
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(key).metadata(DIGEST, digest);
        let begun = begun.send().await.map_err(|error| self.failed("CreateMultipartUpload", key, error))?;
        let id = begun.upload_id().unwrap_or_default();
        let done = match self.upload_parts(key, id, &bytes).await {
            Ok(parts) => self.complete(key, id, parts, seen).await,
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(true)) {
            // Parts that are left cost money; should this fail too, the bucket's lifecycle removes them.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
            if let Err(error) = abort.send().await {
                tracing::warn!(key, error = %failed("AbortMultipartUpload", error), "parts of an upload are left");
            }
        }
        done
    }

    async fn upload_parts(&self, key: &str, id: &str, bytes: &Bytes) -> Result<Vec<CompletedPart>> {
        let starts = (0..bytes.len()).step_by(PART).zip(1..);
        let uploads = starts.map(|(start, number)| {
            let body = bytes.slice(start..bytes.len().min(start + PART));
            let part = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id).part_number(number);
            async move {
                let sent = part.body(body.into()).send().await;
                let sent = sent.map_err(|error| self.failed("UploadPart", key, error))?;
                let part = CompletedPart::builder().part_number(number);
                Ok(part.set_e_tag(sent.e_tag).set_checksum_crc32(sent.checksum_crc32).build())
            }
        });
        stream::iter(uploads).buffered(PARTS_AT_ONCE).try_collect().await
    }

    async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>, seen: Option<&Seen>) -> Result<bool> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        let complete = match seen {
            None => complete.if_none_match("*"),
            Some(seen) => complete.set_if_match(seen.etag.clone()),
        };
        match complete.multipart_upload(parts).send().await {
            Ok(_) => Ok(true),
            Err(error) if is_overtaken(&error) => Ok(false),
            Err(error) => Err(self.failed("CompleteMultipartUpload", key, error)),
        }
    }
}

/// Whether a conditional write found the object other than it was seen, or met another write of it.
fn is_overtaken<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(code(error), Some("PreconditionFailed" | "ConditionalRequestConflict"))
}

fn digest(bytes: &Bytes) -> String {
    const_hex::encode(Sha256::digest(bytes))
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let object = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => object,
            Err(error) if code(&error) == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.failed("GetObject", key, error)),
        };
        let body = object.body.collect().await.map_err(|cause| {
            Error::new(Kind::SourceUnavailable, "an object's bytes did not all come")
                .with("object", self.location(key))
                .because(cause)
        })?;
        Ok(Some(body.into_bytes()))
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<Put> {
        let Some(seen) = self.head(key).await? else { return Ok(Put::Created) };
        let is_equal = self.is_equal(key, &seen, bytes, &digest(bytes)).await?;
        Ok(if is_equal { Put::Unchanged } else { Put::Replaced })
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put> {
        let digest = digest(&bytes);
        // Twice: whoever came first may have written the same bytes.
        for _ in 0..2 {
            let seen = self.head(key).await?;
            if let Some(seen) = &seen
                && self.is_equal(key, seen, &bytes, &digest).await?
            {
                return Ok(Put::Unchanged);
            }
            if self.write(key, bytes.clone(), &digest, seen.as_ref()).await? {
                return Ok(if seen.is_some() { Put::Replaced } else { Put::Created });
            }
        }
        Err(Error::new(Kind::AlreadyRunning, "another writer changed an object at the same time")
            .with("object", self.location(key)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator();
        let mut pages = pages.send();
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed("ListObjectsV2", prefix, error))?;
            entries.extend(page.contents.into_iter().flatten().filter_map(|object| {
                let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                Some(Entry { key: object.key?, size })
            }));
        }
        entries.sort_unstable();
        Ok(entries)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        deleted.map(drop).map_err(|error| self.failed("DeleteObject", key, error))
    }

    fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}
