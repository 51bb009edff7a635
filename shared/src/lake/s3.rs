//! A store in an S3 bucket.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::ObjectDigest;
use super::store::{Entry, ObjectVersion, PutOutcome, Store, Tail};
use crate::aws::{error_code, sdk_error, status};
use crate::cpu::spawn_cpu;
use crate::error::{Error, Kind, Result};

/// The size in bytes up to which an object is uploaded by one request. S3 then keeps the checksum of the whole object, so that
/// nobody has to read it to know its digest.
const LARGEST_UPLOAD: usize = 64 << 20;

/// The part size in bytes of a multipart upload, used for larger objects. If a connection breaks, only one part is
/// repeated. S3 accepts up to 10,000 parts.
const PART_SIZE: usize = 16 << 20;

/// The number of parts that are uploaded concurrently.
const CONCURRENT_PARTS: usize = 4;

/// A store whose objects are in an S3 bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Limits the objects that are read whole for their digests: callers ask for many digests at once.
    whole_digests: Arc<Semaphore>,
}

/// The attributes of an object, as returned by `HeadObject`.
struct ObjectHead {
    etag: Option<String>,
    size: u64,
    /// The SHA-256 checksum that S3 computed. None for an object that was uploaded with another checksum.
    checksum: Option<String>,
}

/// The SHA-256 checksums of an object and of the parts that it is uploaded in, in Base64. S3 rejects an upload that has
/// another checksum. A writer of an object can't choose its checksum therefore, unlike its metadata.
struct Checksums {
    parts: Vec<String>,
    /// Of an object that is uploaded in parts: the checksum of the parts' checksums, and the number of parts.
    whole: String,
}

impl Checksums {
    fn of(bytes: &Bytes) -> Self {
        if bytes.len() <= LARGEST_UPLOAD {
            let whole = STANDARD.encode(Sha256::digest(bytes));
            return Checksums { parts: vec![whole.clone()], whole };
        }
        let parts: Vec<_> = bytes.chunks(PART_SIZE).map(Sha256::digest).collect();
        let whole = format!("{}-{}", STANDARD.encode(Sha256::digest(parts.concat())), parts.len());
        Checksums { parts: parts.iter().map(|part| STANDARD.encode(part)).collect(), whole }
    }

    async fn of_object(bytes: &Bytes) -> Result<Self> {
        let bytes = bytes.clone();
        spawn_cpu(move || Ok(Checksums::of(&bytes))).await
    }
}

/// Returns the number of parts in the checksum of a multipart upload, `None` for the checksum of an object's bytes.
fn part_count(checksum: &str) -> Option<&str> {
    checksum.rsplit_once('-').map(|(_, count)| count)
}

/// Returns the digest in the checksum of an object's bytes, `None` for the checksum of a multipart upload.
fn digest_of(checksum: &str) -> Option<ObjectDigest> {
    Some(<[u8; 32]>::try_from(STANDARD.decode(checksum).ok()?).ok()?.into())
}

impl S3Store {
    /// Creates a store of the objects of a bucket.
    pub fn new(aws: &SdkConfig, bucket: impl Into<String>) -> Self {
        let mut config = aws_sdk_s3::config::Builder::from(aws);
        // A local endpoint can't resolve a host name that contains the bucket's name.
        config.set_force_path_style(Some(aws.endpoint_url().is_some()));
        S3Store {
            client: Client::from_conf(config.build()),
            bucket: bucket.into(),
            whole_digests: Arc::new(Semaphore::new(CONCURRENT_PARTS)),
        }
    }

    fn object_error<E>(&self, call: &'static str, key: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        sdk_error(call, error).with("object", self.location(key))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head =
            || self.client.head_object().bucket(&self.bucket).key(key).checksum_mode(ChecksumMode::Enabled).send();
        match self.unless_missing(key, head).await {
            Ok(head) => Ok(head.map(|head| ObjectHead {
                etag: head.e_tag,
                size: head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                checksum: head.checksum_sha256,
            })),
            // The response to a HEAD has no body that could name NoSuchBucket. If the bucket is missing, the next put
            // fails.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.object_error("HeadObject", key, error)),
        }
    }

    /// Makes a call that reads an object. Returns `None` if access was denied because the object is missing: S3 says "not
    /// found" only to callers that may list the whole bucket.
    async fn unless_missing<T, E, F>(
        &self,
        key: &str,
        call: impl Fn() -> F,
    ) -> Result<Option<T>, SdkError<E, HttpResponse>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        match call().await {
            Err(error) if status(&error) == Some(403) => {}
            result => return result.map(Some),
        }
        if self.is_missing(key).await {
            return Ok(None);
        }
        // It may have been created since access was denied.
        call().await.map(Some)
    }

    /// Returns whether an object is missing. Returns `false` if listing the key is denied, too.
    async fn is_missing(&self, key: &str) -> bool {
        // Among the keys that start with this one, it is the first.
        let first = self.client.list_objects_v2().bucket(&self.bucket).prefix(key).max_keys(1).send().await;
        first.is_ok_and(|page| page.contents().first().and_then(|object| object.key()) != Some(key))
    }

    /// Returns whether an object has the given bytes. Compares the checksums, or the bytes of an object that was uploaded
    /// with another kind of checksum or in other parts.
    async fn is_equal(&self, key: &str, current: &ObjectHead, bytes: &Bytes, checksums: &Checksums) -> Result<bool> {
        match &current.checksum {
            _ if current.size != bytes.len() as u64 => Ok(false),
            Some(current) if part_count(current) == part_count(&checksums.whole) => Ok(*current == checksums.whole),
            _ => Ok(self.get(key).await?.as_ref() == Some(bytes)),
        }
    }

    /// Reads a range of an object in the syntax of the HTTP header, or the whole object.
    async fn read(&self, key: &str, range: Option<String>) -> Result<Option<Bytes>> {
        Ok(self.read_tail(key, range, None).await?.map(|read| read.bytes))
    }

    /// Reads a range of an object in the syntax of the HTTP header, or the whole object, with its size and version. Returns
    /// `None` if it is missing, or has another version than the given one.
    async fn read_tail(
        &self,
        key: &str,
        range: Option<String>,
        version: Option<&ObjectVersion>,
    ) -> Result<Option<Tail>> {
        let get = || {
            let get = self.client.get_object().bucket(&self.bucket).key(key).set_range(range.clone());
            get.set_if_match(version.map(|version| version.0.clone())).send()
        };
        let object = match self.unless_missing(key, get).await {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(None),
            Err(error) if matches!(error_code(&error), Some("NoSuchKey" | "PreconditionFailed")) => return Ok(None),
            // The range starts at the end of the object, or after it.
            Err(error) if error_code(&error) == Some("InvalidRange") => {
                return Ok(Some(Tail { bytes: Bytes::new(), size: 0, version: ObjectVersion(String::new()) }));
            }
            Err(error) => return Err(self.object_error("GetObject", key, error)),
        };
        // `bytes 90-99/100` of a range; the whole object has no such header.
        let size = object.content_range.as_deref().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let version = ObjectVersion(object.e_tag.unwrap_or_default());
        let body = object.body.collect().await.map_err(|cause| {
            Error::new(Kind::SourceUnavailable, "the connection broke while reading an object")
                .with("object", self.location(key))
                .with_source(cause)
        })?;
        let bytes = body.into_bytes();
        Ok(Some(Tail { size: size.unwrap_or(bytes.len() as u64), bytes, version }))
    }

    /// Writes an object on the condition that it is still as in `current`. Returns `false` if another writer changed
    /// it.
    async fn write(
        &self,
        key: &str,
        bytes: Bytes,
        checksums: &Checksums,
        current: Option<&ObjectHead>,
    ) -> Result<bool> {
        if bytes.len() > LARGEST_UPLOAD {
            return self.write_in_parts(key, bytes, checksums, current).await;
        }
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(bytes.into());
        let put = put.set_content_type(content_type(key).map(str::to_owned));
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).checksum_sha256(&checksums.whole);
        let put = match current {
            None => put.if_none_match("*"),
            Some(current) => put.set_if_match(current.etag.clone()),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(self.object_error("PutObject", key, error)),
        }
    }

    async fn write_in_parts(
        &self,
        key: &str,
        bytes: Bytes,
        checksums: &Checksums,
        current: Option<&ObjectHead>,
    ) -> Result<bool> {
        let upload = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let upload = upload.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let upload = upload.set_content_type(content_type(key).map(str::to_owned));
        let upload = upload.send().await.map_err(|error| self.object_error("CreateMultipartUpload", key, error))?;
        let id = upload.upload_id().unwrap_or_default();
        let result = match self.upload_parts(key, id, &bytes, checksums).await {
            Ok(parts) => self.complete(key, id, parts, current).await,
            Err(error) => Err(error),
        };
        if !matches!(result, Ok(true)) {
            // Uploaded parts are billed. If the abort fails too, the bucket's lifecycle rule removes them.
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
            if let Err(error) = abort.send().await {
                let error = sdk_error("AbortMultipartUpload", error);
                tracing::warn!(key, %error, "cannot abort a multipart upload");
            }
        }
        result
    }

    async fn upload_parts(
        &self,
        key: &str,
        id: &str,
        bytes: &Bytes,
        checksums: &Checksums,
    ) -> Result<Vec<CompletedPart>> {
        let starts = (0..bytes.len()).step_by(PART_SIZE).zip(1..);
        let uploads = starts.zip(checksums.parts.clone()).map(|((start, number), checksum)| {
            let body = bytes.slice(start..bytes.len().min(start + PART_SIZE));
            let part = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id).part_number(number);
            let part = part.checksum_algorithm(ChecksumAlgorithm::Sha256).checksum_sha256(&checksum);
            async move {
                let uploaded = part.body(body.into()).send().await;
                let uploaded = uploaded.map_err(|error| self.object_error("UploadPart", key, error))?;
                let part = CompletedPart::builder().part_number(number);
                Ok(part.set_e_tag(uploaded.e_tag).checksum_sha256(checksum).build())
            }
        });
        stream::iter(uploads).buffered(CONCURRENT_PARTS).try_collect().await
    }

    async fn complete(
        &self,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        current: Option<&ObjectHead>,
    ) -> Result<bool> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        let complete = match current {
            None => complete.if_none_match("*"),
            Some(current) => complete.set_if_match(current.etag.clone()),
        };
        match complete.multipart_upload(parts).send().await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(self.object_error("CompleteMultipartUpload", key, error)),
        }
    }
}

/// Returns whether a conditional write failed because the object was changed or deleted, or is being changed, by another
/// writer.
fn is_conflict<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error_code(error) {
        // `NoSuchKey` says that there is no object for the condition. `NoSuchUpload` and `NoSuchBucket` are other errors.
        Some("PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" | "NoSuchKey") => true,
        Some(_) => false,
        None => matches!(status(error), Some(404 | 409 | 412)),
    }
}

/// Returns the media type of an object, with which a browser shows it. `None` for the default of S3.
fn content_type(key: &str) -> Option<&'static str> {
    match key.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "json" => Some("application/json"),
        "parquet" => Some("application/vnd.apache.parquet"),
        _ => None,
    }
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.read(key, None).await
    }

    async fn get_suffix(&self, key: &str, length: usize) -> Result<Option<Bytes>> {
        self.read(key, Some(format!("bytes=-{length}"))).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if range.is_empty() {
            // The header can't name an empty range.
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        self.read(key, Some(format!("bytes={}-{}", range.start, range.end - 1))).await
    }

    async fn get_tail(&self, key: &str, length: usize) -> Result<Option<Tail>> {
        // The ETag of an object depends on its bytes and on how it was uploaded, so that another one follows each change.
        self.read_tail(key, Some(format!("bytes=-{length}")), None).await
    }

    async fn get_range_of(&self, version: &ObjectVersion, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let range = format!("bytes={}-{}", range.start, range.end - 1);
        Ok(self.read_tail(key, Some(range), Some(version)).await?.map(|read| read.bytes))
    }

    async fn digest(&self, key: &str) -> Result<Option<ObjectDigest>> {
        let Some(head) = self.head(key).await? else { return Ok(None) };
        if let Some(digest) = head.checksum.as_deref().and_then(digest_of) {
            return Ok(Some(digest));
        }
        let _permit = self.whole_digests.acquire().await;
        match self.get(key).await? {
            Some(bytes) => ObjectDigest::of_object(&bytes).await.map(Some),
            None => Ok(None),
        }
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome> {
        let Some(current) = self.head(key).await? else { return Ok(PutOutcome::Created) };
        let is_equal = self.is_equal(key, &current, bytes, &Checksums::of_object(bytes).await?).await?;
        Ok(if is_equal { PutOutcome::Unchanged } else { PutOutcome::Replaced })
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome> {
        let checksums = Checksums::of_object(&bytes).await?;
        // If another writer was first, try once more: it may have written the same bytes.
        for _ in 0..2 {
            let current = self.head(key).await?;
            if let Some(current) = &current
                && self.is_equal(key, current, &bytes, &checksums).await?
            {
                return Ok(PutOutcome::Unchanged);
            }
            if self.write(key, bytes.clone(), &checksums, current.as_ref()).await? {
                return Ok(if current.is_some() { PutOutcome::Replaced } else { PutOutcome::Created });
            }
        }
        Err(Error::new(Kind::AlreadyRunning, "another writer changed an object concurrently")
            .with("object", self.location(key)))
    }

    async fn swap(&self, key: &str, expected: Option<&Bytes>, bytes: Bytes) -> Result<bool> {
        let current = self.head(key).await?;
        let is_expected = match (&current, expected) {
            (None, None) => true,
            (Some(current), Some(expected)) => {
                self.is_equal(key, current, expected, &Checksums::of_object(expected).await?).await?
            }
            _ => false,
        };
        let checksums = Checksums::of_object(&bytes).await?;
        Ok(is_expected && self.write(key, bytes, &checksums, current.as_ref()).await?)
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<()> {
        if self.write(key, bytes.clone(), &Checksums::of_object(&bytes).await?, None).await? {
            return Ok(());
        }
        // The object exists after all.
        self.put(key, bytes).await.map(drop)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator();
        let mut pages = pages.send();
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.object_error("ListObjectsV2", prefix, error))?;
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
        deleted.map(drop).map_err(|error| self.object_error("DeleteObject", key, error))
    }

    fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_s3_reports() {
        let checksums = Checksums::of(&Bytes::from_static(b"hello"));
        let hello = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        assert_eq!((&checksums.parts[..], checksums.whole.as_str()), (&[hello.to_owned()][..], hello));
        assert_eq!(Checksums::of(&Bytes::new()).whole, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        let large = Bytes::from(vec![7; LARGEST_UPLOAD]);
        assert_eq!(Checksums::of(&large).parts.len(), 1);
        let larger = Bytes::from(vec![7; LARGEST_UPLOAD + 1]);
        let checksums = Checksums::of(&larger);
        let digests: Vec<_> = larger.chunks(PART_SIZE).map(Sha256::digest).collect();
        assert_eq!(digests.len(), 5);
        assert_eq!(checksums.parts, digests.iter().map(|digest| STANDARD.encode(digest)).collect::<Vec<_>>());
        assert_eq!(checksums.whole, format!("{}-5", STANDARD.encode(Sha256::digest(digests.concat()))));
    }

    #[test]
    fn objects_have_the_media_type_of_their_extension() {
        for (key, expected) in [
            ("runs/1/report.html", Some("text/html; charset=utf-8")),
            ("runs/lease.json", Some("application/json")),
            ("raw/a/2023-01-01.parquet", Some("application/vnd.apache.parquet")),
            ("digests/raw/a/2023-01-01.parquet.1f", None),
            ("name", None),
        ] {
            assert_eq!(content_type(key), expected, "{key}");
        }
    }

    #[test]
    fn digest_is_read_only_from_the_checksum_of_all_bytes() {
        let checksum = Checksums::of(&Bytes::from_static(b"hello")).whole;
        assert_eq!(digest_of(&checksum), Some(ObjectDigest::of(b"hello")));
        assert_eq!((part_count(&checksum), part_count(&format!("{checksum}-2"))), (None, Some("2")));
        for text in [&format!("{checksum}-1"), "", "aGVsbG8=", "?"] {
            assert_eq!(digest_of(text), None, "{text}");
        }
    }
}
