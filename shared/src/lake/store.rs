//! The interface of an object store, implemented for S3 buckets and local folders.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::ObjectDigest;
use crate::error::Result;

/// The effect of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// No object with that key existed.
    Created,
    /// The object existed with different bytes.
    Replaced,
    /// The object existed with the same bytes. Nothing was written.
    Unchanged,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The key, such as `raw/the_graph/…/2023-01-01.aave-v2-eth.parquet`.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
}

/// Tells the contents of an object apart: another version follows each change of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion(pub(super) String);

/// The end of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The last bytes.
    pub bytes: Bytes,
    /// The size of the whole object in bytes.
    pub size: u64,
    /// The version of the object that the bytes are from.
    pub version: ObjectVersion,
}

/// An object store. A put is atomic: a reader sees the old object or the new object, never a part of one.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Returns the bytes of an object, or `None` if it does not exist.
    ///
    /// # Errors
    /// The object could not be read. A failure is never reported as a missing object.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Returns the last `length` bytes of an object, the whole object if it is shorter, or `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn get_suffix(&self, key: &str, length: usize) -> Result<Option<Bytes>> {
        Ok(self.get(key).await?.map(|bytes| bytes.slice(bytes.len().saturating_sub(length)..)))
    }

    /// Returns a range of the bytes of an object, fewer if the object ends before, or `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(self.get(key).await?.map(|bytes| slice(&bytes, &range)))
    }

    /// Returns the last `length` bytes of an object, the whole object if it is shorter, with its size and version. `None` if
    /// it does not exist.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn get_tail(&self, key: &str, length: usize) -> Result<Option<Tail>> {
        Ok(self.get(key).await?.map(|bytes| Tail {
            size: bytes.len() as u64,
            version: ObjectVersion(ObjectDigest::of(&bytes).to_string()),
            bytes: bytes.slice(bytes.len().saturating_sub(length)..),
        }))
    }

    /// Returns a range of the bytes of a version of an object. `None` if the object has another version now, or does not
    /// exist. So several ranges, and an index that was read long before, are of the same bytes.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn get_range_of(&self, version: &ObjectVersion, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        match self.get_tail(key, usize::MAX).await? {
            Some(whole) if whole.version == *version => Ok(Some(slice(&whole.bytes, &range))),
            _ => Ok(None),
        }
    }

    /// Returns the digest of the bytes of an object, or `None` if it does not exist. Never what a writer of the object
    /// says of it.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn digest(&self, key: &str) -> Result<Option<ObjectDigest>> {
        match self.get(key).await? {
            Some(bytes) => ObjectDigest::of_object(&bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the effect that a put of these bytes would have, without writing them.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome>;

    /// Writes an object, unless it exists with the same bytes.
    ///
    /// # Errors
    /// The object could not be written; the old object, if any, is intact. `AlreadyRunning` if the store detects that
    /// another process wrote different bytes at the same time.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome>;

    /// Writes an object if it still has the bytes `expected`, or does not exist if those are `None`. Returns whether it
    /// was written: not if another process was faster.
    ///
    /// # Errors
    /// As [`Store::put`].
    async fn swap(&self, key: &str, expected: Option<&Bytes>, bytes: Bytes) -> Result<bool> {
        if self.get(key).await?.as_ref() != expected {
            return Ok(false);
        }
        self.put(key, bytes).await.map(|_| true)
    }

    /// Writes an object that does not exist, as far as the caller knows. One request, where [`Store::put`] also asks what
    /// exists.
    ///
    /// # Errors
    /// As [`Store::put`].
    async fn create(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.put(key, bytes).await.map(drop)
    }

    /// Returns the objects whose keys start with `prefix`, sorted by key.
    ///
    /// # Errors
    /// The objects could not be listed.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Returns the files that [`Store::list`] leaves out although other readers may see them, sorted by key: in a folder,
    /// those whose path has a name that starts with a dot or is not UTF-8.
    ///
    /// # Errors
    /// As [`Store::list`].
    async fn list_hidden(&self) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    /// Deletes an object. Deleting a missing object is not an error.
    ///
    /// # Errors
    /// The object could not be deleted.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Waits until operations whose callers were dropped have ended, such as a write of a step that was aborted because
    /// a concurrent step failed.
    async fn drain(&self) {}

    /// Returns the location of an object or folder for display: a path or a URL.
    fn location(&self, key: &str) -> String;
}

/// Returns the part of the bytes that is within a range.
fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let within = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(within(range.start).min(within(range.end))..within(range.end))
}
