//! S3 and Glue in memory, on a [simulated clock](SimulatedClock): every call takes a time, and is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::SimulatedClock;
use crate::catalog::{Catalog, CatalogTable, CatalogView, Partition};
use crate::error::Result;
use crate::lake::{Entry, ObjectDigest, PutOutcome, Store};

/// The keys in a page of `ListObjectsV2`, and the partitions in a page of `GetPartitions`.
const PER_PAGE: usize = 1_000;

/// The partitions that one call of `BatchCreatePartition` creates.
const PARTITIONS_PER_CALL: usize = 100;

/// A call to AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AwsCall {
    /// `ListObjectsV2`: one page.
    List,
    /// `HeadObject`.
    Head,
    /// `GetObject`, of a whole object or of a part of it.
    Get,
    /// `PutObject`.
    Put,
    /// `DeleteObject`.
    Delete,
    /// Any call to Glue.
    Glue,
}

impl AwsCall {
    /// All calls.
    pub const ALL: [AwsCall; 6] =
        [AwsCall::List, AwsCall::Head, AwsCall::Get, AwsCall::Put, AwsCall::Delete, AwsCall::Glue];
}

/// The calls that were made, and how many of them at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsCalls {
    counts: BTreeMap<AwsCall, usize>,
    /// The calls that wait for their response.
    open: usize,
    /// The largest number of calls that waited for their response at once.
    pub peak: usize,
}

impl AwsCalls {
    /// Returns the number of calls of a kind.
    #[must_use]
    pub fn count(&self, call: AwsCall) -> usize {
        self.counts.get(&call).copied().unwrap_or(0)
    }
}

/// An account of AWS: a clock, the time that each call takes, and the calls that were made.
#[derive(Debug, Clone)]
pub struct SimulatedAws {
    clock: SimulatedClock,
    latency: Duration,
    calls: Arc<Mutex<AwsCalls>>,
}

impl SimulatedAws {
    /// Creates an account in which each call takes the given time.
    #[must_use]
    pub fn new(clock: &SimulatedClock, latency: Duration) -> Self {
        SimulatedAws { clock: clock.clone(), latency, calls: Arc::default() }
    }

    /// Returns the calls that were made since the last time. None may be waiting for its response.
    pub fn take_calls(&self) -> AwsCalls {
        std::mem::take(&mut *lock(&self.calls))
    }

    async fn call(&self, call: AwsCall) {
        {
            let mut calls = lock(&self.calls);
            *calls.counts.entry(call).or_default() += 1;
            calls.open += 1;
            calls.peak = calls.peak.max(calls.open);
        }
        let _open = OpenCall(self);
        self.clock.sleep(self.latency).await;
    }

    /// Asks for the pages of a list of `count` items, one after another.
    async fn pages(&self, call: AwsCall, count: usize) {
        for _ in 0..count.div_ceil(PER_PAGE).max(1) {
            self.call(call).await;
        }
    }
}

/// A call that waits for its response. Ends when it is dropped, also if the caller gave up.
struct OpenCall<'a>(&'a SimulatedAws);

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let mut calls = lock(&self.0.calls);
        calls.open = calls.open.saturating_sub(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bucket in memory. Makes the calls that `S3Store` makes for objects that are not uploaded in
/// parts.
#[derive(Clone)]
pub struct SimulatedS3 {
    aws: SimulatedAws,
    objects: Arc<Mutex<Objects>>,
}

/// The objects by key, each with its digest.
type Objects = BTreeMap<String, (Bytes, ObjectDigest)>;

impl SimulatedS3 {
    /// Creates an empty bucket.
    #[must_use]
    pub fn new(aws: &SimulatedAws) -> Self {
        SimulatedS3 { aws: aws.clone(), objects: Arc::default() }
    }

    /// Copies an object, unless the copy exists. Returns the digest of a new copy. Makes no call.
    pub fn copy(&self, from: &str, to: &str) -> Option<ObjectDigest> {
        let mut objects = lock(&self.objects);
        let object = objects.get(from).filter(|_| !objects.contains_key(to)).cloned()?;
        let (_, digest) = object;
        objects.insert(to.to_owned(), object);
        Some(digest)
    }

    /// Returns the keys that start with a prefix. Makes no call.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        lock(&self.objects).keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Reads an object as a caller does that may not list the whole bucket: S3 then denies access to a missing object, and the
    /// caller lists its key to learn that it is missing.
    async fn read(&self, call: AwsCall, key: &str) -> Option<(Bytes, ObjectDigest)> {
        self.aws.call(call).await;
        let found = lock(&self.objects).get(key).cloned();
        if found.is_none() {
            self.aws.call(AwsCall::List).await;
        }
        found
    }

    fn effect(&self, key: &str, bytes: &Bytes) -> PutOutcome {
        match lock(&self.objects).get(key) {
            None => PutOutcome::Created,
            Some((current, _)) if current == bytes => PutOutcome::Unchanged,
            Some(_) => PutOutcome::Replaced,
        }
    }
}

impl fmt::Debug for SimulatedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedS3").field("objects", &lock(&self.objects).len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SimulatedS3 {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.read(AwsCall::Get, key).await.map(|(bytes, _)| bytes))
    }

    async fn digest(&self, key: &str) -> Result<Option<ObjectDigest>> {
        Ok(self.read(AwsCall::Head, key).await.map(|(_, digest)| digest))
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome> {
        self.read(AwsCall::Head, key).await;
        Ok(self.effect(key, bytes))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome> {
        let outcome = self.compare(key, &bytes).await?;
        if outcome != PutOutcome::Unchanged {
            self.create(key, bytes).await?;
        }
        Ok(outcome)
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.aws.call(AwsCall::Put).await;
        let digest = ObjectDigest::of(&bytes);
        lock(&self.objects).insert(key.to_owned(), (bytes, digest));
        Ok(())
    }

    async fn swap(&self, key: &str, expected: Option<&Bytes>, bytes: Bytes) -> Result<bool> {
        self.read(AwsCall::Head, key).await;
        let is_expected = || lock(&self.objects).get(key).map(|(bytes, _)| bytes) == expected;
        if !is_expected() {
            return Ok(false);
        }
        self.aws.call(AwsCall::Put).await;
        // S3 compares once more, with the tag of the object that the call before has found.
        let is_unchanged = is_expected();
        if is_unchanged {
            lock(&self.objects).insert(key.to_owned(), (bytes.clone(), ObjectDigest::of(&bytes)));
        }
        Ok(is_unchanged)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let entries: Vec<_> = {
            let objects = lock(&self.objects);
            let listed = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            listed.map(|(key, (bytes, _))| Entry { key: key.clone(), size: bytes.len() as u64 }).collect()
        };
        self.aws.pages(AwsCall::List, entries.len()).await;
        Ok(entries)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.aws.call(AwsCall::Delete).await;
        lock(&self.objects).remove(key);
        Ok(())
    }

    fn location(&self, key: &str) -> String {
        format!("s3://simulated/{key}")
    }
}

/// A catalog in memory. Makes the calls that `GlueCatalog` makes for tables of existing
/// databases.
#[derive(Debug, Clone)]
pub struct SimulatedGlue {
    aws: SimulatedAws,
    tables: Arc<Mutex<Tables>>,
    views: Arc<Mutex<BTreeMap<(String, String), CatalogView>>>,
}

/// The tables by database and name.
type Tables = BTreeMap<(String, String), RegisteredTable>;

#[derive(Debug, Clone)]
struct RegisteredTable {
    entry: CatalogTable,
    /// The partitions by their values.
    partitions: BTreeMap<Vec<String>, Partition>,
}

impl SimulatedGlue {
    /// Creates an empty catalog.
    #[must_use]
    pub fn new(aws: &SimulatedAws) -> Self {
        SimulatedGlue { aws: aws.clone(), tables: Arc::default(), views: Arc::default() }
    }

    /// Calls a function with a table, unless it is not registered.
    fn with<T>(&self, database: &str, name: &str, work: impl FnOnce(&mut RegisteredTable) -> T) -> Option<T> {
        lock(&self.tables).get_mut(&(database.to_owned(), name.to_owned())).map(work)
    }
}

#[async_trait]
impl Catalog for SimulatedGlue {
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>> {
        self.aws.call(AwsCall::Glue).await;
        Ok(self.with(database, name, |table| table.entry.clone()))
    }

    async fn put_table(&self, database: &str, name: &str, entry: &CatalogTable) -> Result<()> {
        if self.table(database, name).await?.as_ref() == Some(entry) {
            return Ok(());
        }
        self.aws.call(AwsCall::Glue).await;
        let is_updated = self.with(database, name, |table| table.entry.clone_from(entry)).is_some();
        if !is_updated {
            let table = RegisteredTable { entry: entry.clone(), partitions: BTreeMap::new() };
            lock(&self.tables).insert((database.to_owned(), name.to_owned()), table);
        }
        Ok(())
    }

    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>> {
        let partitions = self.with(database, name, |table| table.partitions.values().cloned().collect());
        let partitions: Vec<_> = partitions.unwrap_or_default();
        self.aws.pages(AwsCall::Glue, partitions.len()).await;
        Ok(partitions)
    }

    async fn partition(&self, database: &str, name: &str, values: &[String]) -> Result<Option<Partition>> {
        self.aws.call(AwsCall::Glue).await;
        Ok(self.with(database, name, |table| table.partitions.get(values).cloned()).flatten())
    }

    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        // One call for the columns of the table.
        self.aws.call(AwsCall::Glue).await;
        for chunk in partitions.chunks(PARTITIONS_PER_CALL) {
            self.aws.call(AwsCall::Glue).await;
            self.with(database, name, |table| {
                for partition in chunk {
                    table.partitions.entry(partition.values.clone()).or_insert_with(|| partition.clone());
                }
            });
        }
        Ok(())
    }

    async fn move_partition(&self, database: &str, name: &str, partition: &Partition) -> Result<()> {
        // One call for the columns of the table, and one for the partition.
        self.aws.call(AwsCall::Glue).await;
        self.aws.call(AwsCall::Glue).await;
        self.with(database, name, |table| {
            table.partitions.insert(partition.values.clone(), partition.clone());
        });
        Ok(())
    }

    async fn put_view(&self, database: &str, name: &str, view: &CatalogView) -> Result<()> {
        self.aws.call(AwsCall::Glue).await;
        let name = (database.to_owned(), name.to_owned());
        if lock(&self.views).get(&name) != Some(view) {
            self.aws.call(AwsCall::Glue).await;
            lock(&self.views).insert(name, view.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract;

    const LATENCY: Duration = Duration::from_millis(30);

    #[test]
    fn bucket_and_catalog_fulfill_their_contracts() {
        let clock = SimulatedClock::new();
        let aws = SimulatedAws::new(&clock, LATENCY);
        clock.runtime().unwrap().block_on(async {
            contract::check_store(Arc::new(SimulatedS3::new(&aws))).await.unwrap();
            contract::check_catalog(&SimulatedGlue::new(&aws)).await.unwrap();
        });
    }

    #[test]
    fn calls_take_their_time_and_are_counted() {
        let clock = SimulatedClock::new();
        let aws = SimulatedAws::new(&clock, LATENCY);
        let store = SimulatedS3::new(&aws);
        clock.runtime().unwrap().block_on(async {
            for _ in 0..2 {
                store.put("a", Bytes::from_static(b"1")).await.unwrap();
            }
            // A HEAD, the listing of what is missing, and a PUT; then a HEAD.
            assert_eq!(clock.now(), 4 * LATENCY, "an object is written only once");
            for number in 0..1_500 {
                store.copy("a", &format!("b/{number}"));
            }
            assert_eq!(store.list("b/").await.unwrap().len(), 1_500);
            assert_eq!(clock.now(), 6 * LATENCY, "a page after the other");
            let (first, second) = tokio::join!(store.get("a"), store.get_suffix("b/7", 1));
            assert_eq!(first.unwrap(), second.unwrap());
            assert_eq!(clock.now(), 7 * LATENCY, "at the same time");
        });
        let calls = aws.take_calls();
        let counts = AwsCall::ALL.map(|call| calls.count(call));
        assert_eq!((counts, calls.peak), ([3, 2, 2, 1, 0, 0], 2));
    }
}
