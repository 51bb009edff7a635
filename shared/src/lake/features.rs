//! Feature sets: the objects of all shards of one as-of day. Where a set lies depends on how far it is: the unchecked
//! build and the checked copy are outside every table, the published set is in the folder of the table.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use super::{Lake, ObjectDigest, WorkUnit, parquet};
use crate::cpu::spawn_cpu;
use crate::domain::{Address, Day};
use crate::error::{Error, Kind, Result};
use crate::tables::{FEATURES_BUILD, FEATURES_CHECKED, FEATURES_HISTORY, FeatureRow, Table};

/// The number of shards of a set that are read at the same time, where their rows are used in order.
const READ_AHEAD_SHARDS: usize = 2;

/// A feature set: an as-of day, and the folder that has one object per shard, `{shard}.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureSet {
    /// The as-of day.
    pub as_of: Day,
    /// The folder, without a slash at its end.
    pub folder: String,
}

/// The digest of the objects of a feature set. Its text, of 64 hexadecimal digits, is what the record of a passed check
/// names: nobody can make another set with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDigest {
    shards: BTreeMap<u32, ObjectDigest>,
}

impl FeatureSet {
    /// Returns the build of a day: what build-features writes, before it is checked. No catalog entry points to it.
    #[must_use]
    pub fn build(as_of: Day) -> Self {
        FeatureSet::in_table(&FEATURES_BUILD, as_of)
    }

    /// Returns the published set of a day, in the folder of the table.
    #[must_use]
    pub fn published(as_of: Day) -> Self {
        FeatureSet::in_table(&FEATURES_HISTORY, as_of)
    }

    /// Returns the checked copy of a build. Its folder is named after its digest and never changes, so that catalog
    /// entries can point to it while the folder of the table is being rewritten.
    #[must_use]
    pub fn checked(as_of: Day, digest: &str) -> Self {
        FeatureSet { as_of, folder: format!("{}/{digest}", FeatureSet::in_table(&FEATURES_CHECKED, as_of).folder) }
    }

    /// Returns whether this is the checked copy of a build.
    #[must_use]
    pub fn is_checked_copy(&self) -> bool {
        self.folder.starts_with(&format!("{}/", FeatureSet::in_table(&FEATURES_CHECKED, self.as_of).folder))
    }

    /// Returns whether a catalog entry of the day can point here: to the folder of the table, or to a checked copy.
    #[must_use]
    pub fn can_be_published(&self) -> bool {
        *self == FeatureSet::published(self.as_of) || self.is_checked_copy()
    }

    fn in_table(table: &Table, as_of: Day) -> Self {
        let key = WorkUnit::Shard(as_of, 0).key(table);
        FeatureSet { as_of, folder: key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned() }
    }

    /// Returns the key of the object of a shard.
    #[must_use]
    pub fn key(&self, shard: u32) -> String {
        format!("{}/{shard}.parquet", self.folder)
    }
}

impl SetDigest {
    /// Returns whether a set has no other objects than this one.
    #[must_use]
    pub fn contains(&self, other: &SetDigest) -> bool {
        other.shards.iter().all(|(shard, digest)| self.shards.get(shard) == Some(digest))
    }

    /// Returns the shards of the set.
    pub fn shards(&self) -> impl Iterator<Item = u32> {
        self.shards.keys().copied()
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digest = Sha256::new();
        for (shard, bytes) in &self.shards {
            digest.update(shard.to_be_bytes());
            digest.update(bytes.as_bytes());
        }
        f.write_str(&const_hex::encode(digest.finalize()))
    }
}

impl Lake {
    /// Returns the shards of a set that are in the lake.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn shards(&self, set: &FeatureSet) -> Result<Vec<u32>> {
        let prefix = format!("{}/", set.folder);
        let shard = |key: &str| {
            let name = key.strip_prefix(&prefix)?.strip_suffix(".parquet")?;
            // Not `01` or `+1`.
            name.parse::<u32>().ok().filter(|shard| shard.to_string() == name)
        };
        let entries = self.store.list(&prefix).await?;
        let mut shards: Vec<_> = entries.iter().filter_map(|entry| shard(&entry.key)).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    /// Returns the shards of a published set for a reader: all that the record of its check names.
    ///
    /// # Errors
    /// `CorruptData` if the set has other shards, and the errors of the store.
    pub async fn published_shards(&self, set: &FeatureSet) -> Result<Vec<u32>> {
        let build = FeatureSet::build(set.as_of);
        let (shards, passed, build) =
            tokio::try_join!(self.shards(set), self.recorded_check(set.as_of), self.shards(&build))?;
        // The record of a day that is being built again is that of the build.
        let expected = passed.filter(|_| build.is_empty()).map(|passed| passed.shards);
        match expected {
            Some(expected) if !shards.iter().copied().eq(0..expected) => Err(Error::corrupt(format!(
                "the published set has the shards {shards:?} instead of 0 to {}",
                expected - 1
            ))
            .with("folder", &set.folder)
            .with_hint(format!("build it again: defi run --as-of {} --force", set.as_of))),
            _ => Ok(shards),
        }
    }

    /// Reads the rows of a shard of a set, from the pages that may contain wallets in a range. The result may include
    /// rows outside the range.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn read_shard(
        &self,
        set: &FeatureSet,
        shard: u32,
        wallets: RangeInclusive<Address>,
    ) -> Result<Vec<FeatureRow>> {
        let bytes = self.shard(set, shard).await?;
        let range = wallets.start().to_string()..=wallets.end().to_string();
        let rows = spawn_cpu(move || parquet::decode_range(bytes, "wallet_address", &range)).await;
        rows.map_err(|error| error.with("object", set.key(shard)))
    }

    /// Reads the rows of a set, ordered by shard and wallet, and its digest. A set without objects has no rows.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn features(&self, set: &FeatureSet) -> Result<(Vec<FeatureRow>, SetDigest)> {
        self.fold_features(set, Vec::new(), Vec::extend).await
    }

    /// Like [`Lake::features`], but adds the rows to `sum` in parts, in their order: all of them may not fit into memory.
    ///
    /// # Errors
    /// As [`Lake::features`].
    pub async fn fold_features<T: Send + 'static>(
        &self,
        set: &FeatureSet,
        mut sum: T,
        add: fn(&mut T, Vec<FeatureRow>),
    ) -> Result<(T, SetDigest)> {
        let read = |shard: u32| async move { Ok::<_, Error>((shard, self.shard(set, shard).await?)) };
        let shards = self.shards(set).await?;
        let mut objects = stream::iter(shards.into_iter().map(read)).buffered(READ_AHEAD_SHARDS);
        let mut digests = BTreeMap::new();
        while let Some((shard, bytes)) = objects.try_next().await? {
            digests.insert(shard, ObjectDigest::of_object(&bytes).await?);
            let added = spawn_cpu(move || {
                parquet::decode_parts(bytes, |rows| {
                    add(&mut sum, rows);
                    Ok(())
                })?;
                Ok(sum)
            });
            sum = added.await.map_err(|error| error.with("object", set.key(shard)))?;
        }
        Ok((sum, SetDigest { shards: digests }))
    }

    /// Reads the digest of a set. Returns `None` for a set without objects.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn set_digest(&self, set: &FeatureSet) -> Result<Option<SetDigest>> {
        let digest =
            |shard: u32| async move { Ok((shard, ObjectDigest::of_object(&self.shard(set, shard).await?).await?)) };
        let shards: BTreeMap<_, _> =
            in_order(self.shards(set).await?, WHOLE_OBJECTS, digest).await?.into_iter().collect();
        Ok((!shards.is_empty()).then_some(SetDigest { shards }))
    }

    /// Copies the objects of a set, and then deletes the objects of shards that the set does not have. Fails before
    /// anything is written in place of an object that is not the one of the digest.
    ///
    /// # Errors
    /// `CorruptData` if an object differs from the digest, and the errors of the store.
    pub async fn copy_set(&self, from: &FeatureSet, digest: &SetDigest, to: &FeatureSet) -> Result<()> {
        let copy = |(shard, expected): (u32, ObjectDigest)| async move {
            let bytes = self.shard(from, shard).await?;
            if ObjectDigest::of_object(&bytes).await? != expected {
                return Err(Error::corrupt("an object of a feature set changed while the set was being published")
                    .with("object", from.key(shard))
                    .with_hint("run again"));
            }
            if to.is_checked_copy() {
                self.store.put(&to.key(shard), bytes).await
            } else {
                self.put_recorded(&to.key(shard), bytes, expected).await
            }
        };
        in_order(digest.shards.clone(), WHOLE_OBJECTS, copy).await?;
        let others = self.shards(to).await?.into_iter().filter(|shard| !digest.shards.contains_key(shard));
        let delete = |shard: u32| async move { self.delete_object(&to.key(shard)).await };
        in_order(others, SMALL_REQUESTS, delete).await.map(drop)
    }

    /// Deletes checked copies of builds, except one, and then the builds. A build is deleted last because it marks a
    /// publication that is not finished.
    ///
    /// # Errors
    /// The objects could not be listed or deleted.
    pub async fn delete_builds(&self, except: Option<&FeatureSet>) -> Result<()> {
        let is_kept = |key: &str| except.is_some_and(|set| key.starts_with(&format!("{}/", set.folder)));
        let list = |table: &'static Table| async move { self.store.list(&format!("{}/", table.prefix())).await };
        let (copies, builds) = tokio::try_join!(list(&FEATURES_CHECKED), list(&FEATURES_BUILD))?;
        for entries in [copies, builds] {
            self.delete_keys(entries.into_iter().map(|entry| entry.key).filter(|key| !is_kept(key))).await?;
        }
        Ok(())
    }

    async fn shard(&self, set: &FeatureSet, shard: u32) -> Result<Bytes> {
        let key = set.key(shard);
        self.store.get(&key).await?.ok_or_else(|| {
            Error::new(Kind::NotReady, "an object of a feature set disappeared while the set was being read")
                .with("object", key)
                .with_hint("run again: another run published the set meanwhile")
        })
    }
}
