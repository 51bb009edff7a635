//! The records of what steps wrote: for each object of a table and each state, an empty object whose key has the SHA-256
//! digest of the object. Whoever may write an object of the lake, but not its record, can't replace it unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::OnceCell;

use super::requests::{SMALL_REQUESTS, in_order};
use super::{Entry, Lake, ObjectDigest, PutOutcome, State, WorkUnit};
use crate::error::{Error, Result};
use crate::tables::{FEATURES_BUILD, TABLES, Table};

/// The prefix of the records: `digests/{key}.{digest}`. Records are kept as long as their objects.
const RECORDS: &str = "digests/";

/// The object that lists the objects from before there were records. It exists in every lake that a run was planned for.
const BEFORE: &str = "digests/before.json";

/// The prefixes below which objects have records.
const RECORDED: [&str; 4] = ["raw/", "stage/", "analytics/", "state/"];

/// How objects compare with the records of what steps wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The number of objects that are as a step wrote them.
    pub as_written: usize,
    /// The keys of objects that differ from what a step wrote.
    pub changed: Vec<String>,
    /// The keys of objects that no step wrote.
    pub foreign: Vec<String>,
    /// The keys of objects without a record that are older than the records.
    pub older: Vec<String>,
}

/// The records of a folder: the digests of each key. A key has several only after an interruption.
type Records = BTreeMap<String, BTreeSet<ObjectDigest>>;

/// The records of folders as they were before a call of a step wrote its first object into the folder.
#[derive(Debug, Default)]
pub(super) struct ListedFolders(Mutex<BTreeMap<String, Arc<OnceCell<Records>>>>);

impl ListedFolders {
    fn of(&self, folder: &str) -> Arc<OnceCell<Records>> {
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(folders.entry(folder.to_owned()).or_default())
    }
}

impl Lake {
    /// Writes an object, and the record of it. The record is written first, so that an object that a step wrote is
    /// never without one. The records of bytes that the object replaces are deleted last: an interruption leaves the
    /// records of both, until the object is written again.
    pub(super) async fn put_recorded(&self, key: &str, bytes: Bytes, digest: ObjectDigest) -> Result<PutOutcome> {
        let mut records = self.records_of(key).await?;
        let is_recorded = records.remove(&digest);
        // Records of an object that was deleted.
        if !records.is_empty() && self.store.get_suffix(key, 1).await?.is_none() {
            self.delete_records(key, std::mem::take(&mut records)).await?;
        }
        if !is_recorded {
            self.store.create(&record_key(key, digest), Bytes::new()).await?;
        }
        let put = self.store.put(key, bytes).await.map_err(|error| error.with("object", key))?;
        self.delete_records(key, records).await?;
        Ok(put)
    }

    /// Deletes an object that may have records, and then the records.
    ///
    /// # Errors
    /// The object or a record could not be deleted.
    pub async fn delete_object(&self, key: &str) -> Result<()> {
        self.store.delete(key).await?;
        self.delete_records(key, self.records_of(key).await?).await
    }

    /// Deletes the records of builds and states that were deleted.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn delete_records_of_deleted(&self) -> Result<()> {
        let left = self.records_of_deleted().await?;
        self.delete_keys(left.iter().flat_map(|(key, digests)| digests.iter().map(|digest| record_key(key, *digest))))
            .await
    }

    /// Returns whether an interruption left records of builds or states that were deleted.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn has_records_of_deleted(&self) -> Result<bool> {
        Ok(!self.records_of_deleted().await?.is_empty())
    }

    async fn records_of_deleted(&self) -> Result<Records> {
        let states = State::ALL.into_iter().map(|state| state.folder().to_owned());
        let folders = states.chain([format!("{}/", FEATURES_BUILD.prefix())]);
        let left = try_join_all(folders.map(|folder| async move {
            let mut records = self.records_below(&folder).await?;
            if !records.is_empty() {
                self.store.list(&folder).await?.iter().for_each(|object| drop(records.remove(&object.key)));
            }
            Ok::<_, Error>(records)
        }));
        Ok(left.await?.into_iter().flatten().collect())
    }

    async fn delete_records(&self, key: &str, digests: BTreeSet<ObjectDigest>) -> Result<()> {
        self.delete_keys(digests.into_iter().map(|digest| record_key(key, digest))).await
    }

    /// Lists the objects that should have a record: those of the tables, the builds and the states.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn recorded_objects(&self) -> Result<Vec<Entry>> {
        let objects = try_join_all(RECORDED.map(|prefix| self.store.list(prefix))).await?;
        Ok(objects.into_iter().flatten().filter(|entry| is_recorded(&entry.key)).collect())
    }

    /// Returns the keys of the objects of tables that a step wrote and that are not there. After an interruption, a record
    /// may have no object yet.
    ///
    /// # Errors
    /// The objects or records could not be listed.
    pub async fn missing_objects(&self) -> Result<BTreeSet<String>> {
        let builds = format!("{}/", FEATURES_BUILD.prefix());
        let missing = try_join_all(["raw/", "stage/", "analytics/"].map(|prefix| async move {
            let mut records = self.records_below(prefix).await?;
            self.store.list(prefix).await?.iter().for_each(|object| drop(records.remove(&object.key)));
            Ok::<_, Error>(records)
        }));
        // Builds are deleted once they are no longer needed.
        Ok(missing.await?.into_iter().flatten().map(|(key, _)| key).filter(|key| !key.starts_with(&builds)).collect())
    }

    /// Marks the lake as one with records, before the first run writes to it. Lists the objects that an earlier version
    /// of the program wrote without a record. Does nothing if the lake is marked.
    ///
    /// An earlier version wrote to a lake with a state of the fold or of the links that has no record: every run of it that
    /// came to its end left one, and in AWS no step that asks a source may write it. Without one, objects are not listed: no
    /// step wrote them.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn begin_records(&self) -> Result<()> {
        if self.store.get_suffix(BEFORE, 1).await?.is_some() {
            return Ok(());
        }
        let mut before = BTreeSet::new();
        if self.store.list("state/").await?.iter().any(|entry| State::is_of_a_run(&entry.key)) {
            let recorded = self.records_below("").await?;
            let objects = self.recorded_objects().await?.into_iter().map(|entry| entry.key);
            before.extend(objects.filter(|key| !recorded.contains_key(key)));
        }
        if !before.iter().any(|key| State::is_of_a_run(key)) {
            before.clear();
        }
        self.write_json(BEFORE, &before).await.map(drop)
    }

    /// Compares objects with the records of what steps wrote. Objects that no longer exist are left out. In a lake that
    /// no run was planned for since there are records, an object without a record counts as older than the records.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn provenance(&self, keys: &BTreeSet<String>) -> Result<Provenance> {
        let folders: BTreeSet<_> = keys.iter().filter_map(|key| Some(key.rsplit_once('/')?.0)).collect();
        let records = |folder: &str| {
            let prefix = format!("{folder}/");
            async move { self.records_below(&prefix).await }
        };
        let records: Records = in_order(folders, SMALL_REQUESTS, records).await?.into_iter().flatten().collect();
        let mut provenance = Provenance::default();
        let (recorded, unrecorded): (Vec<_>, Vec<_>) = keys.iter().partition(|key| records.contains_key(*key));
        if !unrecorded.is_empty() {
            let before: Option<BTreeSet<String>> = self.read_json(BEFORE).await?;
            let is_older = |key: &&String| before.as_ref().is_none_or(|before| before.contains(*key));
            let (older, foreign): (Vec<_>, Vec<_>) = unrecorded.into_iter().partition(is_older);
            provenance.older = older.into_iter().cloned().collect();
            provenance.foreign = foreign.into_iter().cloned().collect();
        }
        let digest = |key: String| async move {
            let digest = self.store.digest(&key).await.map_err(|error| error.with("object", &key))?;
            Ok((key, digest))
        };
        for (key, digest) in in_order(recorded.into_iter().cloned(), SMALL_REQUESTS, digest).await? {
            match digest {
                None => {}
                Some(digest) if records.get(&key).is_some_and(|records| records.contains(&digest)) => {
                    provenance.as_written += 1;
                }
                Some(_) => provenance.changed.push(key),
            }
        }
        Ok(provenance)
    }

    /// Returns the lake for the units of one call of a step, which write each object once. It lists the records of a
    /// folder once for all objects of the folder.
    pub(crate) fn for_units(&self) -> Lake {
        Lake { listed: Some(Arc::default()), ..self.clone() }
    }

    /// Returns the digests of the records of an object.
    async fn records_of(&self, key: &str) -> Result<BTreeSet<ObjectDigest>> {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let Some(listed) = self.listed.as_ref().map(|listed| listed.of(folder)) else {
            return Ok(self.records_below(&format!("{key}.")).await?.remove(key).unwrap_or_default());
        };
        let prefix = format!("{folder}/");
        let records = listed.get_or_try_init(|| self.records_below(&prefix)).await?;
        Ok(records.get(key).cloned().unwrap_or_default())
    }

    /// Returns the records of the objects whose keys start with a prefix.
    async fn records_below(&self, prefix: &str) -> Result<Records> {
        let mut records = Records::new();
        for entry in self.store.list(&format!("{RECORDS}{prefix}")).await? {
            if let Some((key, digest)) = parse_record(&entry.key) {
                records.entry(key.to_owned()).or_default().insert(digest);
            }
        }
        Ok(records)
    }
}

fn record_key(key: &str, digest: ObjectDigest) -> String {
    format!("{RECORDS}{key}.{digest}")
}

/// Returns the key of the object and the digest of a record.
fn parse_record(record: &str) -> Option<(&str, ObjectDigest)> {
    let (key, digest) = record.strip_prefix(RECORDS)?.rsplit_once('.')?;
    Some((key, digest.parse().ok()?))
}

/// Returns whether an object should have a record. The checked copies of builds have none: their folder is named after
/// their digest.
fn is_recorded(key: &str) -> bool {
    let is_unit = |table: &Table| WorkUnit::from_key(table, key).is_some();
    let is_state = || State::ALL.iter().any(|state| key.starts_with(state.folder())) && key.ends_with(".parquet");
    is_state() || is_unit(&FEATURES_BUILD) || TABLES.iter().copied().any(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Day;
    use crate::lake::tests::{lake, link};
    use crate::lake::{FeatureSet, FileMetadata};
    use crate::tables::{RAW_BORROWS, WALLET_LINKS};

    fn day() -> Day {
        "2023-01-31".parse().unwrap()
    }

    async fn write(lake: &Lake, since: i64) -> String {
        let unit = WorkUnit::Day(day());
        lake.write(&WALLET_LINKS, &unit, [link(since)], FileMetadata::new()).await.unwrap();
        unit.key(&WALLET_LINKS)
    }

    async fn provenance(lake: &Lake) -> Provenance {
        let objects = lake.recorded_objects().await.unwrap();
        lake.provenance(&objects.into_iter().map(|entry| entry.key).collect()).await.unwrap()
    }

    async fn records(lake: &Lake) -> Vec<String> {
        let records = lake.store().list("digests/").await.unwrap();
        records.into_iter().map(|entry| entry.key).filter(|key| key != BEFORE).collect()
    }

    fn as_written(as_written: usize) -> Provenance {
        Provenance { as_written, ..Provenance::default() }
    }

    #[tokio::test]
    async fn objects_of_tables_and_states_are_as_written() {
        let (_folder, lake) = lake();
        lake.begin_records().await.unwrap();
        let key = write(&lake, 5).await;
        lake.write_state(State::Links, day(), "all", [link(5)]).await.unwrap();
        assert_eq!(provenance(&lake).await, as_written(2));
        let bytes = lake.store().get(&key).await.unwrap().unwrap();
        let record = format!("digests/{key}.{}", ObjectDigest::of(&bytes));
        assert!(records(&lake).await.contains(&record), "the record names the digest: {record}");
    }

    #[tokio::test]
    async fn changed_object_is_named_until_a_step_writes_it_again() {
        let (_folder, lake) = lake();
        let key = write(&lake, 5).await;
        let original = lake.store().get(&key).await.unwrap().unwrap();
        lake.store().put(&key, "forged".into()).await.unwrap();
        let changed = Provenance { changed: vec![key.clone()], ..Provenance::default() };
        assert_eq!(provenance(&lake).await, changed);
        write(&lake, 6).await;
        assert_eq!(provenance(&lake).await, as_written(1));
        lake.store().put(&key, original).await.unwrap();
        assert_eq!(provenance(&lake).await, changed, "bytes that a step wrote before");
    }

    #[tokio::test]
    async fn object_that_no_step_wrote_is_foreign() {
        let (_folder, lake) = lake();
        let forged = WorkUnit::Day(day()).key(&RAW_BORROWS);
        lake.store().put(&forged, "forged".into()).await.unwrap();
        lake.begin_records().await.unwrap();
        write(&lake, 5).await;
        let foreign = Provenance { as_written: 1, foreign: vec![forged], ..Provenance::default() };
        assert_eq!(provenance(&lake).await, foreign, "even if it was there before the first run");
    }

    #[tokio::test]
    async fn objects_from_before_the_records_are_told_apart() {
        let (_folder, lake) = lake();
        let old = WorkUnit::Day(day()).key(&RAW_BORROWS);
        let state = "state/fold/v1/as_of=2023-01-31/0-of-4.parquet".to_owned();
        for key in [&old, &state] {
            lake.store().put(key, "written by an earlier version".into()).await.unwrap();
        }
        let older = Provenance { older: vec![old.clone(), state.clone()], ..Provenance::default() };
        assert_eq!(provenance(&lake).await, older, "no run was planned yet");
        write(&lake, 5).await;
        lake.begin_records().await.unwrap();
        let forged = WorkUnit::Day(day().next()).key(&RAW_BORROWS);
        lake.store().put(&forged, "forged".into()).await.unwrap();
        lake.begin_records().await.unwrap();
        let older = vec![old, state];
        let expected = Provenance { as_written: 1, foreign: vec![forged], older, ..Provenance::default() };
        assert_eq!(provenance(&lake).await, expected);
    }

    #[tokio::test]
    async fn only_a_state_of_a_run_without_a_record_shows_that_an_earlier_version_wrote_the_lake() {
        let forged = WorkUnit::Day(day().next()).key(&RAW_BORROWS);
        for (key, is_older) in [
            ("state/fold/v7/as_of=2023-01-31/0-of-4.parquet", true),
            ("state/links/v1/as_of=2023-01-31/all.parquet", true),
            ("state/replay/v1/as_of=2023-01-31/aave-v2-eth.parquet", false),
            ("state/lost/the_graph_historical_market_data/2023-01-31.aave-v2-eth.json", false),
            ("state/fold/x", false),
            ("state/fold/v1/x.parquet", false),
            ("state/fold/v1/as_of=x/0-of-4.parquet", false),
            ("state/x", false),
            ("state/versions.json", false),
        ] {
            let (_folder, lake) = lake();
            for key in [key, &forged] {
                lake.store().put(key, "forged".into()).await.unwrap();
            }
            lake.begin_records().await.unwrap();
            assert_eq!(provenance(&lake).await.older.contains(&forged), is_older, "{key}");
        }
        let (_folder, lake) = lake();
        lake.write_state(State::Links, day(), "all", [link(5)]).await.unwrap();
        lake.store().put(&forged, "forged".into()).await.unwrap();
        lake.begin_records().await.unwrap();
        let foreign = Provenance { as_written: 1, foreign: vec![forged], ..Provenance::default() };
        assert_eq!(provenance(&lake).await, foreign, "the state has a record: this version wrote the lake");
    }

    #[tokio::test]
    async fn object_has_one_record_and_none_when_it_is_deleted() {
        let (_folder, lake) = lake();
        write(&lake, 5).await;
        let first = records(&lake).await;
        write(&lake, 5).await;
        assert_eq!(records(&lake).await, first, "equal bytes change nothing");
        let key = write(&lake, 6).await;
        let second = records(&lake).await;
        assert!(first.len() == 1 && second.len() == 1 && first != second, "{first:?} {second:?}");
        lake.delete_object(&key).await.unwrap();
        assert_eq!(records(&lake).await, [""; 0]);
    }

    #[tokio::test]
    async fn interrupted_write_leaves_no_object_that_seems_changed() {
        let (_folder, lake) = lake();
        let key = write(&lake, 5).await;
        let next = ObjectDigest::of(b"the next bytes");
        lake.store().put(&record_key(&key, next), Bytes::new()).await.unwrap();
        assert_eq!(provenance(&lake).await, as_written(1), "the record was written, the object was not");
        write(&lake, 5).await;
        assert_eq!(records(&lake).await.len(), 1, "the next write removes what the interruption left");
    }

    #[tokio::test]
    async fn records_of_deleted_states_and_builds_are_deleted() {
        let (_folder, lake) = lake();
        write(&lake, 5).await;
        for state_day in [day(), day().next()] {
            lake.write_state(State::Links, state_day, "all", [link(5)]).await.unwrap();
        }
        let kept = records(&lake).await.len() - 1;
        lake.store().delete(&State::Links.key(day(), "all")).await.unwrap();
        lake.store()
            .put(&record_key(&FeatureSet::build(day()).key(0), ObjectDigest::of(b"")), Bytes::new())
            .await
            .unwrap();
        assert!(lake.has_records_of_deleted().await.unwrap());
        lake.delete_records_of_deleted().await.unwrap();
        assert!(!lake.has_records_of_deleted().await.unwrap());
        assert_eq!(records(&lake).await.len(), kept);
        assert_eq!(provenance(&lake).await, as_written(2));
    }

    #[tokio::test]
    async fn object_that_was_deleted_and_written_again_has_one_record() {
        let (_folder, lake) = lake();
        let key = write(&lake, 5).await;
        lake.store().delete(&key).await.unwrap();
        write(&lake, 6).await;
        assert_eq!(records(&lake).await.len(), 1);
        assert_eq!(provenance(&lake).await, as_written(1));
    }

    #[cfg(feature = "testing")]
    #[test]
    fn records_of_a_folder_are_listed_once_for_the_units_of_a_call() {
        use crate::testing::{AwsCall, SimulatedAws, SimulatedClock, SimulatedS3};

        let clock = SimulatedClock::new();
        let aws = SimulatedAws::new(&clock, std::time::Duration::from_millis(30));
        let lake = Lake::new(SimulatedS3::new(&aws));
        clock.runtime().unwrap().block_on(async {
            for since in [5, 6] {
                aws.take_calls();
                let lake = lake.for_units();
                for day in [day().previous(), day()] {
                    let (unit, rows) = (WorkUnit::Day(day), [link(since)]);
                    lake.write(&WALLET_LINKS, &unit, rows, FileMetadata::new()).await.unwrap();
                }
                // One for the records, and one for each object that is missing before it is written.
                let lists = if since == 5 { 3 } else { 1 };
                assert_eq!(aws.take_calls().count(AwsCall::List), lists);
            }
            assert_eq!((records(&lake).await.len(), provenance(&lake).await), (2, as_written(2)));
        });
    }

    #[test]
    fn records_are_of_units_builds_and_states() {
        let build = FeatureSet::build(day()).key(0);
        let published = FeatureSet::published(day()).key(0);
        let raw = WorkUnit::Day(day()).key(&RAW_BORROWS);
        for key in [&build, &published, &raw, &State::Fold.key(day(), "0-of-4"), &State::Links.key(day(), "all")] {
            assert!(is_recorded(key), "{key}");
        }
        let copy = FeatureSet::checked(day(), "0123456789abcdef").key(0);
        for key in [&copy, "state/versions.json", "state/passed/as_of=2023-01-31.json", "raw/stray.parquet"] {
            assert!(!is_recorded(key), "{key}");
        }
    }
}
