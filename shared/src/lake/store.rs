//! Objects by key: what a bucket and a folder both promise.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There was no object of that key.
    Created,
    /// There was one with other bytes.
    Replaced,
    /// There was one with the same bytes; nothing was written.
    Unchanged,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its key, such as `raw/the_graph/…/2023-01-01.aave-v2-eth.parquet`.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Objects by key. A put is atomic: a reader sees the old object or the new one, never a part.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// The object's bytes; `None` where there is no such object.
    ///
    /// # Errors
    /// Anything but "not there": a failure is never read as an absence.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// What a put of these bytes would do.
    ///
    /// # Errors
    /// As of [`Store::get`].
    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<Put>;

    /// Writes an object, unless the same bytes are there already.
    ///
    /// # Errors
    /// The object could not be written; the old one, if any, is still whole. `AlreadyRunning` where another process wrote
    /// other bytes to it at the same time, as far as the store can tell.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put>;

    /// The objects whose keys begin with `prefix`, in order of their keys.
    ///
    /// # Errors
    /// The listing could not be made.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object is still there.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Waits for the end of what was begun and then given up, such as a write of a step that failed beside another one.
    async fn settle(&self) {}

    /// Where an object or a folder is, for people: a path or a URL.
    fn location(&self, key: &str) -> String;
}
