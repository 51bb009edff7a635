//! Records the objects that a run recomputes because their inputs change. If the run is interrupted, such an object may
//! still be in the lake, computed from inputs that no longer exist. Its key alone does not show that, so a run records
//! their keys before it starts. Likewise for the objects that were computed by an older version of their table's rules.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, RunId};
use crate::error::Result;
use crate::lake::Lake;
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::plan::Inventory;
use crate::tables::{TABLES, Table};

/// The prefix of the records: one object per run that recomputes objects. Unlike `runs/`, objects of `state/` do not
/// expire.
const RECORDS: &str = "state/unfinished/";

/// The prefix of the records of earlier versions, which are read, and moved by the next run.
const EARLIER_RECORDS: &str = "runs/unfinished/";

/// The keys of the objects to recompute, by run.
type Records = BTreeMap<RunId, BTreeSet<String>>;

fn record_key(run: &RunId) -> String {
    format!("{RECORDS}{run}.json")
}

/// Returns the runs that have a record, each with the key of the record: runs that did not finish, or finished since the
/// last run started, and [`OLDER_RULES`].
///
/// # Errors
/// The records could not be listed.
pub async fn recorded_runs(lake: &Lake) -> Result<Vec<(RunId, String)>> {
    let run = |key: &str| key.rsplit_once('/')?.1.strip_suffix(".json")?.parse().ok();
    let entries = in_order([EARLIER_RECORDS, RECORDS], SMALL_REQUESTS, |prefix| lake.store().list(prefix)).await?;
    Ok(entries.into_iter().flatten().filter_map(|entry| Some((run(&entry.key)?, entry.key))).collect())
}

/// The name, in place of a run's, of the record of the objects that older rules computed. It is never a finished run: its
/// objects count as missing until runs have recomputed them.
pub const OLDER_RULES: &str = "older-rules";

/// The versions of the tables' rules that the objects of the lake are computed by, by the tables' names.
const VERSIONS: &str = "state/versions.json";

impl Context {
    /// Returns the keys of the objects in the lake that count as missing when a run is planned: those that interrupted
    /// runs did not recompute, without those of the run `own`, and those that older rules computed.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn keys_to_replace(&self, inventory: &Inventory, own: Option<&RunId>) -> Result<BTreeSet<String>> {
        let mut keys = self.unfinished_keys(own).await?;
        keys.append(&mut self.outdated_keys(inventory).await?);
        Ok(keys)
    }

    /// Returns the keys of the objects whose table had another version when the last run started. A lake without
    /// versions is older than the versions: all of them were 1.
    async fn outdated_keys(&self, inventory: &Inventory) -> Result<BTreeSet<String>> {
        let versions: BTreeMap<String, u32> = self.lake.read_json(VERSIONS).await?.unwrap_or_default();
        let version = |table: &Table| versions.get(&table.full_name()).copied().unwrap_or(1);
        Ok(inventory.keys_of(|table| version(table) != table.version))
    }

    /// Records the versions of the tables. Before that, records the objects of other versions as unfinished: the run that
    /// starts may be interrupted, and need not recompute the days of all of them.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn record_versions(&self, inventory: &Inventory) -> Result<()> {
        let outdated = self.outdated_keys(inventory).await?;
        if !outdated.is_empty() {
            self.record_unfinished(&OLDER_RULES.parse()?, outdated).await?;
        }
        let versions: BTreeMap<_, _> = TABLES.iter().map(|table| (table.full_name(), table.version)).collect();
        self.lake.write_json(VERSIONS, &versions).await.map(drop)
    }

    /// Returns the keys of the objects that interrupted runs did not recompute, without those of the run `own`. These
    /// objects count as missing.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn unfinished_keys(&self, own: Option<&RunId>) -> Result<BTreeSet<String>> {
        let unfinished = self.unfinished_records(recorded_runs(&self.lake).await?).await?;
        Ok(unfinished.into_iter().filter(|(run, _)| Some(run) != own).flat_map(|(_, keys)| keys).collect())
    }

    /// Records the keys of the objects that a run will recompute, and removes those that other runs have recomputed
    /// since.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn record_unfinished(&self, run: &RunId, keys: BTreeSet<String>) -> Result<()> {
        let recorded = recorded_runs(&self.lake).await?;
        let mut unfinished = self.unfinished_records(recorded.clone()).await?;
        if !keys.is_empty() {
            unfinished.entry(run.clone()).or_default().extend(keys);
        }
        unfinished.retain(|_, keys| !keys.is_empty());
        for (run, keys) in &unfinished {
            self.lake.write_json(&record_key(run), keys).await?;
        }
        // Delete records last: until the others are written, the records of finished runs say which objects are done.
        let written: BTreeSet<_> = unfinished.keys().map(record_key).collect();
        self.lake.delete_keys(recorded.into_iter().map(|(_, key)| key).filter(|key| !written.contains(key))).await
    }

    /// Reads the records of unfinished runs, without the objects that finished runs recomputed.
    async fn unfinished_records(&self, recorded: Vec<(RunId, String)>) -> Result<Records> {
        let (mut finished, mut unfinished) = (Records::new(), Records::new());
        let read = |(run, key): (RunId, String)| async move {
            let (keys, is_reported) =
                tokio::try_join!(self.lake.read_json::<BTreeSet<String>>(&key), self.is_reported(&run))?;
            Ok((run, keys, is_reported))
        };
        for (run, keys, is_reported) in in_order(recorded, SMALL_REQUESTS, read).await? {
            let records = if is_reported { &mut finished } else { &mut unfinished };
            if let Some(keys) = keys {
                records.entry(run).or_default().extend(keys);
            }
        }
        let recomputed: BTreeSet<_> = finished.values().flatten().collect();
        unfinished.values_mut().for_each(|keys| keys.retain(|key| !recomputed.contains(key)));
        Ok(unfinished)
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn unfinished_objects_are_recorded_until_recomputed() {
        let test_lake = crate::testing::TestLake::new(&[crate::testing::AAVE], crate::testing::january(1)).unwrap();
        let context = test_lake.context();
        let run = |name: &str| name.parse::<RunId>().unwrap();
        let report = |name| run(name).key(crate::step::RUN_REPORT);
        let finish = async |name| context.lake.write_json(&report(name), &"done").await.unwrap();
        context.record_unfinished(&run("1"), keys(&["a", "b", "c"])).await.unwrap();
        assert_eq!(context.unfinished_keys(None).await.unwrap(), keys(&["a", "b", "c"]));
        assert_eq!(context.unfinished_keys(Some(&run("1"))).await.unwrap(), keys(&[]));

        context.record_unfinished(&run("2"), keys(&["a", "b"])).await.unwrap();
        finish("2").await;
        assert_eq!(context.unfinished_keys(None).await.unwrap(), keys(&["c"]));
        context.record_unfinished(&run("3"), keys(&[])).await.unwrap();
        let left = test_lake.objects(RECORDS).await.unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["state/unfinished/1.json"]);

        context.record_unfinished(&run("4"), keys(&["c"])).await.unwrap();
        finish("4").await;
        context.record_unfinished(&run("4"), keys(&["d"])).await.unwrap();
        context.delete_reports(&run("4")).await.unwrap();
        assert_eq!(context.unfinished_keys(None).await.unwrap(), keys(&["d"]));
    }

    #[tokio::test]
    async fn records_of_earlier_versions_are_moved() {
        let test_lake = crate::testing::TestLake::new(&[crate::testing::AAVE], crate::testing::january(1)).unwrap();
        let context = test_lake.context();
        let run = |name: &str| name.parse::<RunId>().unwrap();
        context.lake.write_json("runs/unfinished/1.json", &keys(&["a", "b"])).await.unwrap();
        assert_eq!(context.unfinished_keys(None).await.unwrap(), keys(&["a", "b"]));
        context.record_unfinished(&run("2"), keys(&["c"])).await.unwrap();
        assert!(test_lake.objects(EARLIER_RECORDS).await.unwrap().is_empty());
        assert_eq!(context.unfinished_keys(None).await.unwrap(), keys(&["a", "b", "c"]));
    }
}
