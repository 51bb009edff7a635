//! The lake: objects in a bucket or a folder, Parquet in and out, and where each table's units lie.

mod folder;
pub mod parquet;
#[cfg(feature = "aws")]
mod s3;
mod store;
mod unit;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

pub use folder::FolderStore;
pub use parquet::Facts;
#[cfg(feature = "aws")]
pub use s3::S3Store;
pub use store::{Entry, Put, Store};
pub use unit::Unit;

use crate::domain::{Address, Day};
use crate::error::{Error, Result};
use crate::processor::off_thread;
use crate::tables::{QuarantinedRow, Row, Table};

/// Where the states lie that spare a run the whole history.
const STATE: &str = "state";

/// A kind of state, kept by as_of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The fold, by shard.
    Fold,
    /// All links with a `since` before the day.
    Links,
}

impl State {
    fn prefix(self) -> String {
        let name = match self {
            State::Fold => "fold",
            State::Links => "links",
        };
        format!("{STATE}/{name}/as_of=")
    }

    /// The key of a part as of a day.
    #[must_use]
    pub fn key(self, as_of: Day, part: &str) -> String {
        format!("{}{as_of}/{part}.parquet", self.prefix())
    }
}

/// What writing a unit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Whether the object is new, other than before, or as it was.
    pub put: Put,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// The object of a unit, encoded but not written yet.
#[derive(Debug, Clone)]
pub struct EncodedUnit {
    key: String,
    bytes: Bytes,
    rows: u64,
}

/// The lake.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Arc<dyn Store>,
    /// Held for reading by whoever works on a unit, until the work has ended or is given up.
    under_way: Arc<RwLock<()>>,
}

impl Lake {
    /// A lake over a store of objects.
    pub fn new(store: impl Store + 'static) -> Self {
        Lake { store: Arc::new(store), under_way: Arc::default() }
    }

    /// The objects themselves.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Says that a unit is worked on, until what is returned is dropped.
    pub async fn hold(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.under_way).read_owned().await
    }

    /// Waits until nothing writes to the lake any more, however its steps ended: one that is given up because another has failed
    /// may be in the middle of its work.
    pub async fn settle(&self) {
        drop(self.under_way.write().await);
        self.store.settle().await;
    }

    /// Encodes the rows of a unit as its object.
    ///
    /// # Errors
    /// The rows can't be encoded.
    pub async fn encode<R: Row>(
        &self,
        table: &Table,
        unit: &Unit,
        rows: impl IntoIterator<Item = R> + Send + 'static,
        facts: Facts,
    ) -> Result<EncodedUnit> {
        let (sorted_by, facts) = (table.sorted_by, facts_of(table, unit, facts));
        let encoded = off_thread(move || parquet::encode(rows, sorted_by, &facts)).await;
        let key = unit.key(table);
        let (bytes, rows) = encoded.map_err(|error| error.with("object", &key))?;
        Ok(EncodedUnit { key, bytes, rows })
    }

    /// Returns what [`Lake::put`] would do with an object.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn compare(&self, object: &EncodedUnit) -> Result<Put> {
        self.store.compare(&object.key, &object.bytes).await
    }

    /// Writes the object of a unit. An object with the same bytes is not written again.
    ///
    /// # Errors
    /// The object can't be written; the old one is intact then.
    pub async fn put(&self, object: EncodedUnit) -> Result<Written> {
        let EncodedUnit { key, bytes, rows } = object;
        let size = bytes.len() as u64;
        let put = self.store.put(&key, bytes).await.map_err(|error| error.with("object", &key))?;
        Ok(Written { put, bytes: size, rows })
    }

    /// Encodes and writes one unit of a table. Steps use [`Context::commit`](crate::step::Context::commit), which also deletes the
    /// states that contain an older version of the unit.
    ///
    /// # Errors
    /// As [`Lake::encode`] and [`Lake::put`].
    pub async fn write<R: Row>(
        &self,
        table: &Table,
        unit: &Unit,
        rows: impl IntoIterator<Item = R> + Send + 'static,
        facts: Facts,
    ) -> Result<Written> {
        self.put(self.encode(table, unit, rows, facts).await?).await
    }

    /// Like [`Lake::write`] for batches of rows, which take less memory than the rows themselves. For tables that no state is
    /// computed from.
    ///
    /// # Errors
    /// As [`Lake::write`].
    pub async fn write_batches<R: Row>(
        &self,
        table: &Table,
        unit: &Unit,
        batches: Vec<RecordBatch>,
        facts: Facts,
    ) -> Result<Written> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let (sorted_by, facts) = (table.sorted_by, facts_of(table, unit, facts));
        let encoded = off_thread(move || parquet::encode_batches::<R>(batches, sorted_by, &facts)).await;
        let key = unit.key(table);
        let bytes = encoded.map_err(|error| error.with("object", &key))?;
        self.put(EncodedUnit { key, bytes, rows }).await
    }

    /// The rows of one unit of a table; `None` where it is missing.
    ///
    /// # Errors
    /// `CorruptData` that names the object, or the store's errors.
    pub async fn read<R: Row>(&self, table: &Table, unit: &Unit) -> Result<Option<Vec<R>>> {
        self.read_object(unit.key(table)).await
    }

    /// The rows of a unit that must be there.
    ///
    /// # Errors
    /// `NotReady` where it is missing, else as [`Lake::read`].
    pub async fn require<R: Row>(&self, table: &Table, unit: &Unit) -> Result<Vec<R>> {
        self.read(table, unit).await?.ok_or_else(|| missing(table, unit))
    }

    /// The rows of a unit that must be there, of those only the pages that may hold addresses of a range: tables are sorted by
    /// their wallets.
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_between<R: Row>(
        &self,
        table: &Table,
        unit: &Unit,
        range: RangeInclusive<Address>,
    ) -> Result<Vec<R>> {
        let Some(column) = table.sorted_by.first().filter(|_| range != (Address::FIRST..=Address::LAST)) else {
            return self.require(table, unit).await;
        };
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Err(missing(table, unit)) };
        let texts = range.start().to_string()..=range.end().to_string();
        let rows = off_thread(move || parquet::decode_between(bytes, column, &texts)).await;
        rows.map_err(|error| error.with("object", key))
    }

    /// The rows of a unit that must be there, and the facts of its object.
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_with_facts<R: Row>(&self, table: &Table, unit: &Unit) -> Result<(Vec<R>, Facts)> {
        let rows = self.require(table, unit).await?;
        let facts = self.facts(table, unit).await?.map(|(facts, _)| facts);
        Ok((rows, facts.unwrap_or_default()))
    }

    /// The facts of a unit and the number of its rows; `None` where it is missing.
    ///
    /// # Errors
    /// `CorruptData` that names the object, or the store's errors.
    pub async fn facts(&self, table: &Table, unit: &Unit) -> Result<Option<(Facts, u64)>> {
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        parquet::facts(&bytes).map(Some).map_err(|error| error.with("object", key))
    }

    /// The units of a table that are in the lake, in order.
    ///
    /// # Errors
    /// The listing could not be made.
    pub async fn units(&self, table: &Table) -> Result<BTreeSet<Unit>> {
        let prefix = format!("{}/", table.prefix());
        let entries = self.store.list(&prefix).await?;
        Ok(entries.iter().filter_map(|entry| Unit::of_key(table, entry.key.strip_prefix(&prefix)?)).collect())
    }

    /// Puts a unit's bad rows into quarantine, and takes out what is no longer bad.
    ///
    /// # Errors
    /// The object can't be written.
    pub async fn quarantine(&self, table: &Table, unit: &Unit, rows: Vec<QuarantinedRow>) -> Result<()> {
        let key = format!("quarantine/{}/{}", table.name, unit.path(table.layout));
        if rows.is_empty() {
            return self.store.delete(&key).await;
        }
        let facts = Facts::from([("unit".to_owned(), unit.in_table().to_string())]);
        let encode = move || parquet::encode(rows, &["row_number"], &facts);
        let (bytes, _) = off_thread(encode).await?;
        self.store.put(&key, bytes).await.map(drop)
    }

    /// The newest as_of up to `last` of which a part of a state is kept, with its rows.
    ///
    /// # Errors
    /// `CorruptData` that names the object, or the store's errors.
    pub async fn newest_state<R: Row>(&self, state: State, last: Day, part: &str) -> Result<Option<(Day, Vec<R>)>> {
        let kept = self.kept_states(state).await?;
        let newest =
            kept.range(..=(last.next(), String::new())).rev().find(|(as_of, kept)| *as_of <= last && kept == part);
        let Some((as_of, _)) = newest else { return Ok(None) };
        let rows = self.read_object(state.key(*as_of, part)).await?;
        Ok(rows.map(|rows| (*as_of, rows)))
    }

    /// The as_of and part of every state of a kind that is kept.
    ///
    /// # Errors
    /// The listing could not be made.
    pub async fn kept_states(&self, state: State) -> Result<BTreeSet<(Day, String)>> {
        let prefix = state.prefix();
        let entries = self.store.list(&prefix).await?;
        let parse = |key: &str| -> Option<(Day, String)> {
            let (as_of, part) = key.strip_prefix(&prefix)?.split_once('/')?;
            Some((as_of.parse().ok()?, part.strip_suffix(".parquet")?.to_owned()))
        };
        Ok(entries.iter().filter_map(|entry| parse(&entry.key)).collect())
    }

    /// Keeps a part of a state.
    ///
    /// # Errors
    /// The object can't be written.
    pub async fn keep_state<R: Row>(
        &self,
        state: State,
        as_of: Day,
        part: &str,
        rows: impl IntoIterator<Item = R> + Send + 'static,
    ) -> Result<()> {
        let (bytes, _) = off_thread(move || parquet::encode(rows, &[], &Facts::new())).await?;
        self.store.put(&state.key(as_of, part), bytes).await.map(drop)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// The object can't be written.
    pub async fn write_json(&self, key: &str, value: &impl Serialize) -> Result<Put> {
        let mut text = serde_json::to_vec_pretty(value).map_err(|cause| Error::internal("no JSON").because(cause))?;
        text.push(b'\n');
        self.store.put(key, text.into()).await
    }

    /// Reads a value from JSON; `None` where the object is missing.
    ///
    /// # Errors
    /// `CorruptData` that names the object, or the store's errors.
    pub async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(key).await? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|cause| {
            Error::corrupt("an object is not the JSON that it must be").with("object", key).because(cause)
        })
    }

    async fn read_object<R: Row>(&self, key: String) -> Result<Option<Vec<R>>> {
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let rows = off_thread(move || parquet::decode(bytes)).await;
        rows.map(Some).map_err(|error| error.with("object", key))
    }
}

fn missing(table: &Table, unit: &Unit) -> Error {
    Error::new(crate::Kind::NotReady, "an input is not in the lake yet")
        .with("object", unit.key(table))
        .next("run the steps before this one first")
}

/// What every object of a table says of itself, besides what its step says.
fn facts_of(table: &Table, unit: &Unit, facts: Facts) -> Facts {
    let of_all = [
        ("table", format!("{}.{}", table.layer.name(), table.name)),
        ("unit", unit.in_table().to_string()),
        ("schema_version", "1".to_owned()),
    ];
    facts.into_iter().chain(of_all.map(|(name, value)| (name.to_owned(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HexBytes, Link};
    use crate::tables::{WALLET_LINKS, WalletLink};

    fn lake() -> (tempfile::TempDir, Lake) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
        (folder, lake)
    }

    fn link(since: i64) -> WalletLink {
        Link { account: HexBytes([1; 20]), wallet: HexBytes([2; 20]), since }.into()
    }

    #[tokio::test]
    async fn a_unit_is_written_read_and_listed() {
        let (_folder, lake) = lake();
        let unit = Unit::Day("2023-01-31".parse().unwrap());
        assert_eq!(lake.read::<WalletLink>(&WALLET_LINKS, &unit).await.unwrap(), None);
        let written = lake.write(&WALLET_LINKS, &unit, vec![link(5)], Facts::new()).await.unwrap();
        assert_eq!((written.put, written.rows), (Put::Created, 1));
        assert_eq!(lake.read(&WALLET_LINKS, &unit).await.unwrap(), Some(vec![link(5)]));
        assert_eq!(lake.units(&WALLET_LINKS).await.unwrap().into_iter().collect::<Vec<_>>(), [unit]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lake_is_settled_once_what_was_given_up_has_ended() {
        let (folder, lake) = lake();
        let unit = Unit::Day("2023-01-31".parse().unwrap());
        for since in 0..50 {
            let writing = lake.clone();
            let unit = unit.clone();
            let work = tokio::spawn(async move {
                let _held = writing.hold().await;
                writing.write(&WALLET_LINKS, &unit, vec![link(since)], Facts::new()).await.map(drop)
            });
            tokio::time::sleep(std::time::Duration::from_micros(100 * (since as u64 % 10))).await;
            work.abort();
            lake.settle().await;
            let unfinished = folder.path().join(".unfinished");
            assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0, "a write goes on");
        }
    }

    #[tokio::test]
    async fn quarantine_follows_what_is_bad_now() {
        let (_folder, lake) = lake();
        let unit = Unit::Day("2023-01-31".parse().unwrap());
        let row = QuarantinedRow { row_number: 0, reason: "odd".to_owned(), row: "{}".to_owned() };
        lake.quarantine(&WALLET_LINKS, &unit, vec![row]).await.unwrap();
        let entries = lake.store().list("quarantine/").await.unwrap();
        assert_eq!(entries[0].key, "quarantine/wallet_links/year=2023/month=01/2023-01-31.parquet");
        lake.quarantine(&WALLET_LINKS, &unit, vec![]).await.unwrap();
        assert!(lake.store().list("quarantine/").await.unwrap().is_empty());
    }
}
