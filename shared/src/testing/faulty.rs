//! A store that injects faults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::lake::{Entry, PutOutcome, Store};

/// An operation of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::compare`].
    Compare,
    /// [`Store::put`].
    Put,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 5] =
        [Operation::Get, Operation::Compare, Operation::Put, Operation::List, Operation::Delete];
}

/// Wraps a store and calls a function before each operation, with the operation and the number of its calls so far,
/// starting at 1. If the function returns an error, the operation returns that error instead of being executed.
pub struct FaultyStore<S, F> {
    store: S,
    before: F,
    counts: Mutex<BTreeMap<Operation, usize>>,
}

impl<S: Store, F: Fn(Operation, usize) -> Result<()>> FaultyStore<S, F> {
    /// Wraps `store` so that `before` is called before each operation.
    pub fn new(store: S, before: F) -> Self {
        FaultyStore { store, before, counts: Mutex::default() }
    }

    fn call(&self, operation: Operation) -> Result<()> {
        let nth = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(operation).or_default();
            *count += 1;
            *count
        };
        (self.before)(operation, nth)
    }
}

impl<S: Store, F> fmt::Debug for FaultyStore<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("store", &self.store).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Store, F: Fn(Operation, usize) -> Result<()> + Send + Sync> Store for FaultyStore<S, F> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.call(Operation::Get)?;
        self.store.get(key).await
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome> {
        self.call(Operation::Compare)?;
        self.store.compare(key, bytes).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome> {
        self.call(Operation::Put)?;
        self.store.put(key, bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.call(Operation::List)?;
        self.store.list(prefix).await
    }

    async fn drain(&self) {
        self.store.drain().await;
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.call(Operation::Delete)?;
        self.store.delete(key).await
    }

    fn location(&self, key: &str) -> String {
        self.store.location(key)
    }
}
