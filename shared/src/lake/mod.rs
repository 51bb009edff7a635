//! The lake: an object store in a bucket or a folder, with Parquet objects of tables, states, and JSON objects.

mod bounds;
mod digest;
mod features;
mod folder;
pub mod lookup;
mod lost;
pub mod parquet;
mod records;
pub mod requests;
#[cfg(feature = "aws")]
mod s3;
pub mod scan;
mod state;
mod store;
mod structures;
mod thrift;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

pub use digest::ObjectDigest;
pub use features::{FeatureSet, SetDigest};
pub use folder::FolderStore;
pub use lost::{Tombstone, lost_error};
use parquet::FooterRead;
pub use parquet::{FileMetadata, Footer};
pub use records::Provenance;
use requests::{SMALL_REQUESTS, in_order};
#[cfg(feature = "aws")]
pub use s3::S3Store;
pub use state::{PassedCheck, State};
pub use store::{Entry, ObjectVersion, PutOutcome, Store, Tail};
pub use unit::WorkUnit;
pub(crate) use unit::parse_month;

use crate::cpu::spawn_cpu;
use crate::domain::Address;
use crate::error::{Error, Result};
use crate::tables::{QuarantinedRow, Row, Table};

/// The number of bytes at the end of an object that usually contain its footer.
const FOOTER_BYTES: usize = 64 << 10;

/// The result of writing a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The key of the object.
    pub key: String,
    /// The digest of the object.
    pub digest: ObjectDigest,
    /// Whether the object was created, replaced or unchanged.
    pub put: PutOutcome,
    /// The size of the object, in bytes.
    pub bytes: u64,
    /// The number of rows.
    pub rows: u64,
}

/// The object of a unit, encoded but not written yet.
#[derive(Debug, Clone)]
pub struct EncodedUnit {
    key: String,
    bytes: Bytes,
    digest: ObjectDigest,
    rows: u64,
}

/// The lake.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Arc<dyn Store>,
    /// Every running unit holds a read guard, until it ends or is aborted.
    in_progress: Arc<RwLock<()>>,
    /// The records that were listed for the units of a call.
    listed: Option<Arc<records::ListedFolders>>,
}

impl Lake {
    /// Creates a lake over an object store.
    pub fn new(store: impl Store + 'static) -> Self {
        Lake { store: Arc::new(store), in_progress: Arc::default(), listed: None }
    }

    /// Returns the object store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Marks a unit as running until the returned guard is dropped. See [`Lake::drain`].
    pub async fn track(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.in_progress).read_owned().await
    }

    /// Waits until nothing writes to the lake anymore. A step that is aborted because a concurrent step failed may
    /// still be writing.
    pub async fn drain(&self) {
        drop(self.in_progress.write().await);
        self.store.drain().await;
    }

    /// Encodes the rows of a unit, without writing the object.
    ///
    /// # Errors
    /// The rows could not be encoded.
    pub async fn encode<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        rows: impl IntoIterator<Item = R> + Send + 'static,
        metadata: FileMetadata,
    ) -> Result<EncodedUnit> {
        let (sorted_by, metadata) = (table.sorted_by, with_table_metadata(table, unit, metadata));
        let encode = move || with_digest(parquet::encode(rows, sorted_by, &metadata));
        let key = unit.key(table);
        let (bytes, rows, digest) = spawn_cpu(encode).await.map_err(|error| error.with("object", &key))?;
        Ok(EncodedUnit { key, bytes, digest, rows })
    }

    /// Returns the effect that [`Lake::put`] would have, without writing the object.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn compare(&self, object: &EncodedUnit) -> Result<PutOutcome> {
        self.store.compare(&object.key, &object.bytes).await
    }

    /// Writes the object of a unit, unless it exists with the same bytes, and the record of its digest.
    ///
    /// # Errors
    /// The object could not be written; the old object is intact.
    pub async fn put(&self, object: EncodedUnit) -> Result<WriteOutcome> {
        let EncodedUnit { key, bytes, digest, rows } = object;
        let size = bytes.len() as u64;
        let put = self.put_recorded(&key, bytes, digest).await?;
        Ok(WriteOutcome { key, digest, put, bytes: size, rows })
    }

    /// Encodes and writes one unit of a table. Steps use [`Context::commit`](crate::step::Context::commit), which also
    /// deletes the states that contain an older version of the unit.
    ///
    /// # Errors
    /// As [`Lake::encode`] and [`Lake::put`].
    pub async fn write<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        rows: impl IntoIterator<Item = R> + Send + 'static,
        metadata: FileMetadata,
    ) -> Result<WriteOutcome> {
        self.put(self.encode(table, unit, rows, metadata).await?).await
    }

    /// Like [`Lake::encode`], for the columns of a row type in record batches, which use less memory than rows.
    ///
    /// # Errors
    /// As [`Lake::encode`].
    pub async fn encode_columns<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        batches: Vec<RecordBatch>,
        metadata: FileMetadata,
    ) -> Result<EncodedUnit> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let (sorted_by, metadata) = (table.sorted_by, with_table_metadata(table, unit, metadata));
        let encode = move || {
            let encoded = parquet::encode_batches::<R>(batches, sorted_by, &metadata);
            with_digest(encoded.map(|bytes| (bytes, rows)))
        };
        let key = unit.key(table);
        let (bytes, rows, digest) = spawn_cpu(encode).await.map_err(|error| error.with("object", &key))?;
        Ok(EncodedUnit { key, bytes, digest, rows })
    }

    /// Reads the rows of one unit of a table. Returns `None` if the unit is missing.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn read<R: Row>(&self, table: &Table, unit: &WorkUnit) -> Result<Option<Vec<R>>> {
        self.read_object(unit.key(table)).await
    }

    /// Reads the rows of a unit that must exist.
    ///
    /// # Errors
    /// `NotReady` if the unit is missing, `HistoryPruned` if that is because a snapshot of its day is lost, and as
    /// [`Lake::read`].
    pub async fn require<R: Row>(&self, table: &Table, unit: &WorkUnit) -> Result<Vec<R>> {
        match self.read(table, unit).await? {
            Some(rows) => Ok(rows),
            None => Err(self.missing_unit(table, unit).await),
        }
    }

    /// Reads the columns of a row type that a unit has, which must exist, as one batch.
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_columns<R: Row>(&self, table: &Table, unit: &WorkUnit) -> Result<RecordBatch> {
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Err(self.missing_unit(table, unit).await) };
        let columns = spawn_cpu(move || parquet::decode_columns::<R>(bytes)).await;
        columns.map_err(|error| error.with("object", key))
    }

    /// Reads the rows of a unit that must exist, from the pages that may contain addresses in a range. The range
    /// applies to the table's first sort column. The result may include rows outside the range.
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_in_range<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        range: RangeInclusive<Address>,
    ) -> Result<Vec<R>> {
        let Some(column) = table.sorted_by.first().filter(|_| range != (Address::MIN..=Address::MAX)) else {
            return self.require(table, unit).await;
        };
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Err(self.missing_unit(table, unit).await) };
        let range = range.start().to_string()..=range.end().to_string();
        let rows = spawn_cpu(move || parquet::decode_range(bytes, column, &range)).await;
        rows.map_err(|error| error.with("object", key))
    }

    /// Reads the rows of a unit that must exist which have one of some addresses in one of some columns of the row type.
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_with_any<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        columns: &'static [&'static str],
        addresses: Arc<BTreeSet<String>>,
    ) -> Result<Vec<R>> {
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Err(self.missing_unit(table, unit).await) };
        let rows = spawn_cpu(move || parquet::decode_with_any(bytes, columns, addresses)).await;
        rows.map_err(|error| error.with("object", key))
    }

    /// Reads the rows of a unit that must exist, and its [metadata](FileMetadata).
    ///
    /// # Errors
    /// As [`Lake::require`].
    pub async fn require_with_metadata<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
    ) -> Result<(Vec<R>, FileMetadata)> {
        let key = unit.key(table);
        let Some(bytes) = self.store.get(&key).await? else { return Err(self.missing_unit(table, unit).await) };
        let decode = move || {
            let (metadata, _) = parquet::file_metadata(&bytes)?;
            Ok((parquet::decode(bytes)?, metadata))
        };
        spawn_cpu(decode).await.map_err(|error| error.with("object", key))
    }

    /// Reads the [metadata](FileMetadata) and the number of rows of a unit, without its rows. Returns `None` if the unit
    /// is missing.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn file_metadata(&self, table: &Table, unit: &WorkUnit) -> Result<Option<(FileMetadata, u64)>> {
        let key = unit.key(table);
        let Some(object) = self.store.list(&key).await?.into_iter().find(|object| object.key == key) else {
            return Ok(None);
        };
        let Footer { metadata, rows, .. } = self.footer(&object).await?;
        Ok(Some((metadata, rows)))
    }

    /// Returns the units of a table that are in the lake.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn units(&self, table: &Table) -> Result<BTreeSet<WorkUnit>> {
        Ok(self.objects(table).await?.into_keys().collect())
    }

    /// Returns the units of a table that are in the lake, each with its object.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn objects(&self, table: &Table) -> Result<BTreeMap<WorkUnit, Entry>> {
        let entries = self.store.list(&format!("{}/", table.prefix())).await?;
        Ok(entries.into_iter().filter_map(|entry| Some((WorkUnit::from_key(table, &entry.key)?, entry))).collect())
    }

    /// Reads the footer of an object, without the rest of the object.
    ///
    /// # Errors
    /// `CorruptData` with the object's key if it is not a Parquet file, and the errors of the store.
    pub async fn footer(&self, object: &Entry) -> Result<Footer> {
        let with_key = |error: Error| error.with("object", &object.key);
        let mut length = FOOTER_BYTES;
        loop {
            let suffix = self.store.get_suffix(&object.key, length).await?.unwrap_or_default();
            match parquet::footer(&suffix, object.size).map_err(with_key)? {
                FooterRead::Complete(footer) => return Ok(footer),
                FooterRead::Needs(bytes) if bytes > length => length = bytes,
                FooterRead::Needs(_) => return Err(with_key(Error::corrupt("the object is shorter than its footer"))),
            }
        }
    }

    /// Deletes objects without records, many at once.
    ///
    /// # Errors
    /// An object could not be deleted. Others may have been.
    pub(crate) async fn delete_keys(&self, keys: impl IntoIterator<Item = String>) -> Result<()> {
        let delete = |key: String| async move { self.store.delete(&key).await };
        in_order(keys, SMALL_REQUESTS, delete).await.map(drop)
    }

    /// Replaces the quarantine object of a unit with these rejected rows. Deletes the object if there are none.
    ///
    /// # Errors
    /// The object could not be written or deleted.
    pub async fn quarantine(&self, table: &Table, unit: &WorkUnit, rows: Vec<QuarantinedRow>) -> Result<()> {
        let key = format!("quarantine/{}/{}", table.name, unit.path(table.layout));
        if rows.is_empty() {
            return self.store.delete(&key).await;
        }
        let metadata = FileMetadata::from([("unit".to_owned(), unit.in_table().to_string())]);
        let encode = move || parquet::encode(rows, &["row_number"], &metadata);
        let (bytes, _) = spawn_cpu(encode).await?;
        self.store.put(&key, bytes).await.map(drop)
    }

    /// Writes a value as a JSON object.
    ///
    /// # Errors
    /// The object could not be written.
    pub async fn write_json(&self, key: &str, value: &impl Serialize) -> Result<PutOutcome> {
        let json = serde_json::to_vec_pretty(value);
        let mut json = json.map_err(|cause| Error::internal("cannot serialize a value as JSON").with_source(cause))?;
        json.push(b'\n');
        self.store.put(key, json.into()).await
    }

    /// Reads a value from a JSON object. Returns `None` if the object is missing.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(key).await? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|cause| {
            Error::corrupt("an object is not valid JSON of the expected type").with("object", key).with_source(cause)
        })
    }

    async fn read_object<R: Row>(&self, key: String) -> Result<Option<Vec<R>>> {
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let rows = spawn_cpu(move || parquet::decode(bytes)).await;
        rows.map(Some).map_err(|error| error.with("object", key))
    }
}

/// Adds the digest of the bytes to an encoded object and the number of its rows.
fn with_digest(encoded: Result<(Bytes, u64)>) -> Result<(Bytes, u64, ObjectDigest)> {
    encoded.map(|(bytes, rows)| {
        let digest = ObjectDigest::of(&bytes);
        (bytes, rows, digest)
    })
}

/// Adds to the metadata of an object the entries that every object of a table has.
fn with_table_metadata(table: &Table, unit: &WorkUnit, metadata: FileMetadata) -> FileMetadata {
    let common = [
        ("table", table.full_name()),
        ("unit", unit.in_table().to_string()),
        ("schema_version", table.version.to_string()),
    ];
    metadata.into_iter().chain(common.map(|(name, value)| (name.to_owned(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HexBytes, Link};
    use crate::tables::{WALLET_LINKS, WalletLink};

    pub(super) fn lake() -> (tempfile::TempDir, Lake) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
        (folder, lake)
    }

    pub(super) fn link(since: i64) -> WalletLink {
        Link { account: HexBytes([1; 20]), wallet: HexBytes([2; 20]), since }.into()
    }

    #[tokio::test]
    async fn written_unit_is_read_and_listed() {
        let (_folder, lake) = lake();
        let unit = WorkUnit::Day("2023-01-31".parse().unwrap());
        assert_eq!(lake.read::<WalletLink>(&WALLET_LINKS, &unit).await.unwrap(), None);
        let written = lake.write(&WALLET_LINKS, &unit, vec![link(5)], FileMetadata::new()).await.unwrap();
        assert_eq!((written.put, written.rows), (PutOutcome::Created, 1));
        assert_eq!(lake.read(&WALLET_LINKS, &unit).await.unwrap(), Some(vec![link(5)]));
        assert_eq!(lake.units(&WALLET_LINKS).await.unwrap().into_iter().collect::<Vec<_>>(), [unit]);
    }

    #[tokio::test]
    async fn footer_tells_the_table_and_unit_of_an_object() {
        let (_folder, lake) = lake();
        let unit = WorkUnit::Day("2023-01-31".parse().unwrap());
        lake.write(&WALLET_LINKS, &unit, vec![link(5)], FileMetadata::new()).await.unwrap();
        let objects = lake.objects(&WALLET_LINKS).await.unwrap();
        let footer = lake.footer(&objects[&unit]).await.unwrap();
        assert_eq!((footer.metadata["table"].as_str(), footer.rows), ("analytics.wallet_links", 1));
        assert_eq!(footer.metadata["unit"], unit.to_string());
        for content in [&b""[..], b"PAR1", b"no Parquet file at all"] {
            let key = objects[&unit].key.clone();
            lake.store().put(&key, Bytes::from_static(content)).await.unwrap();
            let error = lake.footer(&Entry { key: key.clone(), size: content.len() as u64 }).await.unwrap_err();
            assert_eq!(error.kind(), crate::Kind::CorruptData);
            assert!(error.to_string().contains(&key), "{error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn drain_waits_for_aborted_writes() {
        let (folder, lake) = lake();
        let unit = WorkUnit::Day("2023-01-31".parse().unwrap());
        for since in 0..50 {
            let writing = lake.clone();
            let unit = unit.clone();
            let work = tokio::spawn(async move {
                let _guard = writing.track().await;
                writing.write(&WALLET_LINKS, &unit, vec![link(since)], FileMetadata::new()).await.map(drop)
            });
            tokio::time::sleep(std::time::Duration::from_micros(100 * (since as u64 % 10))).await;
            work.abort();
            lake.drain().await;
            let unfinished = folder.path().join(".unfinished");
            assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0, "a write is still running");
        }
    }

    #[tokio::test]
    async fn quarantine_is_deleted_when_no_row_is_rejected() {
        let (_folder, lake) = lake();
        let unit = WorkUnit::Day("2023-01-31".parse().unwrap());
        let row = QuarantinedRow { row_number: 0, reason: "odd".to_owned(), row: "{}".to_owned() };
        lake.quarantine(&WALLET_LINKS, &unit, vec![row]).await.unwrap();
        let entries = lake.store().list("quarantine/").await.unwrap();
        assert_eq!(entries[0].key, "quarantine/wallet_links/year=2023/month=01/2023-01-31.parquet");
        lake.quarantine(&WALLET_LINKS, &unit, vec![]).await.unwrap();
        assert!(lake.store().list("quarantine/").await.unwrap().is_empty());
    }
}
