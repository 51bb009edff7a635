//! Reads rows of published sets, and keeps between two calls what does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use defi_shared::catalog::Registry;
use defi_shared::domain::{Address, Day, shard_of};
use defi_shared::error::{Error, Kind, Result};
use defi_shared::lake::lookup::ObjectIndex;
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{FeatureSet, Lake, Store};
use defi_shared::tables::Column;

use crate::columns::WALLET;

/// The number of times that a set is read if it is published again meanwhile, or has other shards than expected.
const ATTEMPTS: usize = 3;

/// The number of requested days whose indexes are kept. An index takes some hundred kilobytes per shard.
const KEPT_DAYS: usize = 4;

/// The wallets to find in each shard, as they are written in the objects.
type Keys = BTreeMap<u32, BTreeSet<String>>;

/// Reads rows of published sets.
///
/// A call of a process that has just started makes three requests, one after another: the catalog's pointer to the set;
/// the end of the shard's object, with its index of pages, together with a listing of the shards; and the pages of the
/// wallet. Of these only the index is kept. The pointer and the pages are asked for in every call, but at once, so that a warm
/// call waits for one request: the pages are read of the set that the pointer showed before, and are read again if it has
/// moved. No time is chosen for which an old answer is good enough.
///
/// A set whose day is published again has other objects under the same keys. So pages are read only of the version of an
/// object that the index is from, and without it everything is read again.
#[derive(Debug)]
pub struct FeatureReader {
    lake: Lake,
    registry: Registry,
    /// The number of shards of a set that was built with the configuration of this process.
    configured_shards: u32,
    kept: Mutex<BTreeMap<Option<Day>, Arc<KeptSet>>>,
}

/// The indexes of a set that were read.
#[derive(Debug, Clone)]
struct KeptSet {
    set: FeatureSet,
    count: u32,
    shards: BTreeMap<u32, ObjectIndex>,
}

impl FeatureReader {
    /// Creates a reader of a lake. `configured_shards` is the number of shards that sets have probably; it saves a request if
    /// it is right.
    #[must_use]
    pub fn new(lake: Lake, registry: Registry, configured_shards: u32) -> Self {
        FeatureReader { lake, registry, configured_shards, kept: Mutex::default() }
    }

    /// Reads columns of the rows of some wallets, of the set of a day or of the newest set.
    ///
    /// # Errors
    /// `BadInput` for a day that is not published, `NotReady` if nothing is published yet or the set is being published again,
    /// and the errors of the lake and the catalog.
    pub(crate) async fn read(
        &self,
        as_of: Option<Day>,
        wallets: &BTreeSet<Address>,
        columns: &[Column],
    ) -> Result<(FeatureSet, Vec<RecordBatch>)> {
        if let Some((kept, keys)) = self.kept(as_of, wallets) {
            let (current, rows) = futures::join!(self.published(as_of), self.rows(&kept.shards, &keys, columns));
            // An error of a set that is published no longer does not matter.
            let current = current?;
            if current == kept.set
                && let Some(rows) = rows?
            {
                return Ok((current, rows));
            }
        }
        let mut count = self.configured_shards;
        for _ in 0..ATTEMPTS {
            let set = self.published(as_of).await?;
            let keys = by_shard(wallets, count);
            let (found, shards) = futures::try_join!(self.lake.published_shards(&set), self.indexes(&set, &keys))?;
            if found.is_empty() {
                return Err(Error::corrupt("the published set has no objects").with("folder", &set.folder));
            }
            let expected = std::mem::replace(&mut count, u32::try_from(found.len()).unwrap_or(u32::MAX));
            if let Some(shards) = shards.filter(|_| count == expected)
                && let Some(rows) = self.rows(&shards, &keys, columns).await?
            {
                self.keep(as_of, &set, count, &shards);
                return Ok((set, rows));
            }
        }
        Err(Error::new(Kind::NotReady, "the features are being published again").with_hint("try again in a moment"))
    }

    /// Returns the set that the catalog shows for a day, or the newest set.
    async fn published(&self, as_of: Option<Day>) -> Result<FeatureSet> {
        let set = match as_of {
            None => self.registry.newest_set().await?,
            Some(day) => self.registry.published_set(day).await?,
        };
        match (set, as_of) {
            (Some(set), _) => Ok(set),
            (None, Some(day)) => Err(not_published(day, &self.registry.published().await?)),
            (None, None) => Err(nothing_published()),
        }
    }

    /// Reads the index of each shard. Returns `None` if one is missing.
    async fn indexes(&self, set: &FeatureSet, keys: &Keys) -> Result<Option<BTreeMap<u32, ObjectIndex>>> {
        let read = |shard: u32| async move {
            let index = ObjectIndex::read(self.lake.store(), &set.key(shard)).await?;
            Ok(index.map(|index| (shard, index)))
        };
        Ok(in_order(keys.keys().copied(), SMALL_REQUESTS, read).await?.into_iter().collect())
    }

    /// Reads rows of shards. Returns `None` if an object has another version by now.
    async fn rows(
        &self,
        shards: &BTreeMap<u32, ObjectIndex>,
        keys: &Keys,
        columns: &[Column],
    ) -> Result<Option<Vec<RecordBatch>>> {
        let columns: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let columns = columns.as_slice();
        let both = shards.iter().filter_map(|(shard, index)| Some((index, keys.get(shard)?)));
        let read = |(index, keys): (_, _)| rows_of(self.lake.store(), index, keys, columns);
        let rows: Option<Vec<_>> = in_order(both, WHOLE_OBJECTS, read).await?.into_iter().collect();
        Ok(rows.map(|shards| shards.into_iter().flatten().collect()))
    }

    /// Returns the kept set of a day if it has the index of every shard, and there are pages to read of each: reading them
    /// shows whether the index is still right. Returns the wallets by shard, too.
    fn kept(&self, as_of: Option<Day>, wallets: &BTreeSet<Address>) -> Option<(Arc<KeptSet>, Keys)> {
        let kept = Arc::clone(self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&as_of)?);
        let keys = by_shard(wallets, kept.count);
        let may_have =
            |(shard, keys)| kept.shards.get(shard).is_some_and(|index: &ObjectIndex| index.may_have(WALLET, keys));
        keys.iter().all(may_have).then_some((kept, keys))
    }

    /// Keeps the indexes of shards, with those that are kept of the same set.
    fn keep(&self, as_of: Option<Day>, set: &FeatureSet, count: u32, shards: &BTreeMap<u32, ObjectIndex>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.remove(&as_of).filter(|before| before.set == *set && before.count == count);
        if kept.len() >= KEPT_DAYS {
            kept.clear();
        }
        let mut all = before.map(|before| before.shards.clone()).unwrap_or_default();
        all.extend(shards.iter().map(|(shard, index)| (*shard, index.to_keep())));
        kept.insert(as_of, Arc::new(KeptSet { set: set.clone(), count, shards: all }));
    }
}

async fn rows_of(
    store: &dyn Store,
    index: &ObjectIndex,
    keys: &BTreeSet<String>,
    columns: &[&str],
) -> Result<Option<Vec<RecordBatch>>> {
    index.rows(store, WALLET, keys, columns).await
}

/// Returns the wallets of each of `count` shards.
fn by_shard(wallets: &BTreeSet<Address>, count: u32) -> Keys {
    let mut shards = Keys::new();
    for wallet in wallets {
        shards.entry(shard_of(*wallet, count)).or_default().insert(wallet.to_string());
    }
    shards
}

fn nothing_published() -> Error {
    Error::new(Kind::NotReady, "no features are published yet").with_hint("publish them with defi run")
}

/// Returns the error of a day that is not among the published ones, which names the nearest.
fn not_published(day: Day, published: &[Day]) -> Error {
    let (Some(first), Some(last)) = (published.first(), published.last()) else { return nothing_published() };
    let days = match published.len() {
        1 => format!("only {first} is published"),
        count => format!("{count} days are published, from {first} to {last}"),
    };
    let nearest = published.iter().min_by_key(|other| other.epoch_days().abs_diff(day.epoch_days())).unwrap_or(last);
    Error::bad_input(format!("no features are published as of {day}: {days}"))
        .with_hint(format!("the nearest published day is {nearest}"))
}
