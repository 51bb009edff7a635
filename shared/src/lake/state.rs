//! States: what a run continues from instead of reading the whole history. Also the records of the feature sets that
//! passed their checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{FileMetadata, Lake, ObjectDigest, parquet, with_digest};
use crate::cpu::spawn_cpu;
use crate::domain::{Day, fold, replay};
use crate::error::{Error, Result};
use crate::tables::Row;

/// A kind of state. States are stored by as-of day, under the version of the rules that computed them. A state of
/// another version is never read: it is computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The fold of the wallets; one part per shard.
    Fold,
    /// All links with a `since` before the as-of day; one part.
    Links,
    /// The balances after the first block of the day, replayed from the logs of a node; one part per protocol.
    Replay,
}

impl State {
    /// Every kind of state.
    pub const ALL: [State; 3] = [State::Fold, State::Links, State::Replay];

    /// Returns the folder of all versions of the state.
    pub(super) fn folder(self) -> &'static str {
        match self {
            State::Fold => "state/fold/",
            State::Links => "state/links/",
            State::Replay => "state/replay/",
        }
    }

    /// Returns whether a key is that of a state that each run leaves: one of the fold or of the links, of any version.
    pub(super) fn is_of_a_run(key: &str) -> bool {
        let is_state = |rest: &str| match rest.split('/').collect::<Vec<_>>()[..] {
            [version, as_of, part] => {
                let is_version = version.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
                let is_day = as_of.strip_prefix("as_of=").is_some_and(|day| day.parse::<Day>().is_ok());
                is_version && is_day && part.ends_with(".parquet")
            }
            _ => false,
        };
        [State::Fold, State::Links].iter().any(|state| key.strip_prefix(state.folder()).is_some_and(is_state))
    }

    fn prefix(self) -> String {
        let version = match self {
            State::Fold => fold::VERSION,
            State::Links => 1,
            State::Replay => replay::VERSION,
        };
        format!("{}v{version}/as_of=", self.folder())
    }

    /// Returns the key of a part of the state as of a day.
    #[must_use]
    pub fn key(self, as_of: Day, part: &str) -> String {
        format!("{}{as_of}/{part}.parquet", self.prefix())
    }
}

/// The folder of the records of passed checks.
const PASSED: &str = "state/passed/as_of=";

/// The record that a feature set passed its checks. Publishing requires it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedCheck {
    /// The digest of the set that was checked.
    pub digest: String,
    /// The number of shards of the set.
    pub shards: u32,
    /// The number of wallets of the set.
    pub wallets: u64,
    /// The version of the fold that computed the set.
    pub fold_version: u32,
}

fn passed_key(as_of: Day) -> String {
    format!("{PASSED}{as_of}.json")
}

impl Lake {
    /// Reads a part of the newest state whose as-of day is `last` or earlier. Returns the as-of day and the rows.
    ///
    /// # Errors
    /// `CorruptData` with the object's key, or the errors of the store.
    pub async fn newest_state<R: Row>(&self, state: State, last: Day, part: &str) -> Result<Option<(Day, Vec<R>)>> {
        self.collect_newest_state(state, last, part, Vec::new()).await
    }

    /// Like [`Lake::newest_state`], for rows that take less memory once they are collected.
    ///
    /// # Errors
    /// As [`Lake::newest_state`].
    pub async fn collect_newest_state<R: Row, T: Extend<R> + Send + 'static>(
        &self,
        state: State,
        last: Day,
        part: &str,
        mut collected: T,
    ) -> Result<Option<(Day, T)>> {
        let stored = self.stored_states(state).await?;
        let newest = stored
            .range(..=(last.next(), String::new()))
            .rev()
            .find(|(as_of, stored)| *as_of <= last && stored == part);
        let Some((as_of, _)) = newest else { return Ok(None) };
        let key = state.key(*as_of, part);
        let Some(file) = self.store.get(&key).await? else { return Ok(None) };
        let collect = move || {
            parquet::decode_parts(file, |rows: Vec<R>| {
                collected.extend(rows);
                Ok(())
            })?;
            Ok(collected)
        };
        let collected = spawn_cpu(collect).await.map_err(|error: Error| error.with("object", key))?;
        Ok(Some((*as_of, collected)))
    }

    /// Returns the as-of day and part of every stored state of a kind that has the current version.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn stored_states(&self, state: State) -> Result<BTreeSet<(Day, String)>> {
        let prefix = state.prefix();
        let entries = self.store.list(&prefix).await?;
        let parse = |key: &str| -> Option<(Day, String)> {
            let (as_of, part) = key.strip_prefix(&prefix)?.split_once('/')?;
            Some((as_of.parse().ok()?, part.strip_suffix(".parquet")?.to_owned()))
        };
        Ok(entries.iter().filter_map(|entry| parse(&entry.key)).collect())
    }

    /// Writes a part of a state, and the record of its digest. Returns its key and its digest.
    ///
    /// # Errors
    /// The object could not be written.
    pub async fn write_state<R: Row>(
        &self,
        state: State,
        as_of: Day,
        part: &str,
        rows: impl IntoIterator<Item = R> + Send + 'static,
    ) -> Result<(String, ObjectDigest)> {
        let encode = move || with_digest(parquet::encode(rows, &[], &FileMetadata::new()));
        let (bytes, _, digest) = spawn_cpu(encode).await?;
        let key = state.key(as_of, part);
        self.put_recorded(&key, bytes, digest).await?;
        Ok((key, digest))
    }

    /// Deletes the states that are not among the newest `daily` as-of days and not the last of their month. Also
    /// deletes the states of other versions.
    ///
    /// # Errors
    /// The objects could not be listed or deleted.
    pub async fn prune_states(&self, daily: usize) -> Result<()> {
        for state in State::ALL {
            let stored = self.stored_states(state).await?;
            let days: BTreeSet<_> = stored.iter().map(|(as_of, _)| *as_of).collect();
            let kept = kept_days(&days, daily);
            let kept: BTreeSet<_> = stored
                .into_iter()
                .filter(|(as_of, _)| kept.contains(as_of))
                .map(|(as_of, part)| state.key(as_of, &part))
                .collect();
            let all = self.store.list(state.folder()).await?.into_iter().map(|entry| entry.key);
            self.delete_keys(all.filter(|key| !kept.contains(key))).await?;
        }
        Ok(())
    }

    /// Returns the record that the feature set of a day passed its checks. `None` if there is no record, or if another
    /// version of the fold computed the set.
    ///
    /// # Errors
    /// `CorruptData` for a record that can't be read, and the errors of the store.
    pub async fn passed_check(&self, as_of: Day) -> Result<Option<PassedCheck>> {
        Ok(self.recorded_check(as_of).await?.filter(|record| record.fold_version == fold::VERSION))
    }

    /// Returns the record that the feature set of a day passed its checks, whatever version of the fold computed the set.
    ///
    /// # Errors
    /// As [`Lake::passed_check`].
    pub async fn recorded_check(&self, as_of: Day) -> Result<Option<PassedCheck>> {
        self.read_json(&passed_key(as_of)).await
    }

    /// Records that the feature set of a day passed its checks.
    ///
    /// # Errors
    /// The object could not be written.
    pub async fn write_passed_check(&self, as_of: Day, record: &PassedCheck) -> Result<()> {
        self.write_json(&passed_key(as_of), record).await.map(drop)
    }

    /// Deletes the record of a passed check.
    ///
    /// # Errors
    /// The object could not be deleted.
    pub async fn delete_passed_check(&self, as_of: Day) -> Result<()> {
        self.store.delete(&passed_key(as_of)).await
    }

    /// Returns the as-of days with a record of a passed check.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn passed_days(&self) -> Result<BTreeSet<Day>> {
        let entries = self.store.list(PASSED).await?;
        let day = |key: &str| key.strip_prefix(PASSED)?.strip_suffix(".json")?.parse().ok();
        Ok(entries.iter().filter_map(|entry| day(&entry.key)).collect())
    }
}

/// Returns the newest `daily` days and the last day of each month.
fn kept_days(days: &BTreeSet<Day>, daily: usize) -> BTreeSet<Day> {
    let last_of_month: BTreeMap<_, _> = days.iter().map(|day| ((day.year(), day.month()), *day)).collect();
    days.iter().rev().take(daily).copied().chain(last_of_month.into_values()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HexBytes, Link};
    use crate::lake::FolderStore;
    use crate::tables::WalletLink;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn lake() -> (tempfile::TempDir, Lake) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
        (folder, lake)
    }

    #[test]
    fn newest_days_and_the_last_of_each_month_are_kept() {
        let days: BTreeSet<_> = day("2023-01-01").through(day("2023-03-10")).collect();
        let kept: Vec<_> = kept_days(&days, 3).iter().map(Day::to_string).collect();
        assert_eq!(kept, ["2023-01-31", "2023-02-28", "2023-03-08", "2023-03-09", "2023-03-10"]);
        assert_eq!(kept_days(&days, 100), days);
        assert!(kept_days(&BTreeSet::new(), 3).is_empty());
    }

    #[tokio::test]
    async fn prune_deletes_old_states_and_other_versions() {
        let (_folder, lake) = lake();
        let link = || WalletLink::from(Link { account: HexBytes([1; 20]), wallet: HexBytes([2; 20]), since: 5 });
        for as_of in day("2023-01-29").through(day("2023-02-03")) {
            lake.write_state(State::Links, as_of, "all", vec![link()]).await.unwrap();
        }
        let others = ["state/fold/as_of=2023-02-03/0-of-1.parquet", "state/links/v0/as_of=2023-02-03/all.parquet"];
        for key in others {
            lake.store().put(key, "x".into()).await.unwrap();
        }
        lake.store().put("state/passed/as_of=2023-01-01.json", "x".into()).await.unwrap();
        assert_eq!(lake.stored_states(State::Fold).await.unwrap(), BTreeSet::new());
        lake.prune_states(2).await.unwrap();
        let days: Vec<_> =
            lake.stored_states(State::Links).await.unwrap().iter().map(|(day, _)| day.to_string()).collect();
        assert_eq!(days, ["2023-01-31", "2023-02-02", "2023-02-03"]);
        let keys: Vec<_> = lake.store().list("state/").await.unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
    }

    #[tokio::test]
    async fn passed_check_of_another_fold_version_does_not_count() {
        let (_folder, lake) = lake();
        let as_of = day("2023-02-03");
        assert_eq!(lake.passed_check(as_of).await.unwrap(), None);
        let record =
            PassedCheck { digest: "d".to_owned(), shards: 4, wallets: 9, fold_version: crate::domain::fold::VERSION };
        lake.write_passed_check(as_of, &record).await.unwrap();
        assert_eq!(lake.passed_check(as_of).await.unwrap(), Some(record.clone()));
        lake.write_passed_check(as_of, &PassedCheck { fold_version: 0, ..record }).await.unwrap();
        assert_eq!(lake.passed_check(as_of).await.unwrap(), None);
        assert_eq!(lake.passed_days().await.unwrap(), BTreeSet::from([as_of]));
    }
}
