//! Tombstones of lost units: those that their source no longer has. A tombstone says that asking again is useless. A snapshot that
//! is lost and in the lake nevertheless was rebuilt from other data of its source. A tombstone of logs says that only the rates
//! of their liquidations are lost.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::unit::parse_month;
use super::{Lake, WorkUnit};
use crate::domain::Day;
use crate::error::{Error, Kind, Result};
use crate::tables::{Layout, RAW_MARKETS, RAW_POSITIONS, STAGE_MARKETS, STAGE_POSITIONS, Table, WALLET_HEALTH};

/// The prefix of the tombstones: one object per lost unit.
const LOST: &str = "state/lost";

/// The tables of snapshots, and those that are computed from the snapshots of the same day.
const OF_SNAPSHOTS: [&Table; 5] = [&RAW_MARKETS, &RAW_POSITIONS, &STAGE_MARKETS, &STAGE_POSITIONS, &WALLET_HEALTH];

/// Why a unit is lost. Contains no time, so that equal answers of a source give equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The unit.
    pub unit: String,
    /// What the source said.
    pub reason: String,
}

fn prefix(table: &Table) -> String {
    format!("{LOST}/{}/", table.name)
}

fn key(table: &Table, unit: &WorkUnit) -> String {
    format!("{}{}.json", prefix(table), unit.to_string().replace(' ', "."))
}

/// Returns the error for work that needs a lost snapshot. It will not come by waiting.
#[must_use]
pub fn lost_error(message: &str) -> Error {
    Error::new(Kind::HistoryPruned, message).with_hint(
        "its source no longer had it; extract it with defi run --retry-lost from one that has it (for a day of the chain, an \
         archive node), rebuild it with --rebuild-lost (Compound v2), or choose a later day",
    )
}

impl Lake {
    /// Returns the lost units of a table of snapshots or logs, including units that are in the lake after all.
    ///
    /// # Errors
    /// The objects could not be listed, or the table has neither snapshots nor logs.
    pub async fn lost_units(&self, table: &Table) -> Result<BTreeSet<WorkUnit>> {
        if ![Layout::ProtocolDay, Layout::ProtocolDayOrMonth].contains(&table.layout) {
            return Err(Error::internal("only snapshots and logs can be lost").with("table", table.name));
        }
        let prefix = prefix(table);
        let parse = |key: &str| -> Option<WorkUnit> {
            let (days, protocol) = key.strip_prefix(&prefix)?.strip_suffix(".json")?.split_once('.')?;
            match parse_month(days).filter(|_| table.layout == Layout::ProtocolDayOrMonth) {
                Some(first) => Some(WorkUnit::ProtocolMonth(first, protocol.into())),
                None => Some(WorkUnit::ProtocolDay(days.parse().ok()?, protocol.into())),
            }
        };
        let entries = self.store().list(&prefix).await?;
        Ok(entries.iter().filter_map(|entry| parse(&entry.key)).collect())
    }

    /// Returns the units of a table of snapshots that were rebuilt because they are lost.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn rebuilt_units(&self, table: &Table) -> Result<BTreeSet<WorkUnit>> {
        let mut units = self.lost_units(table).await?;
        if !units.is_empty() {
            let present = self.units(table).await?;
            units.retain(|unit| present.contains(unit));
        }
        Ok(units)
    }

    /// Records that a unit is lost.
    ///
    /// # Errors
    /// The object could not be written.
    pub async fn write_tombstone(&self, table: &Table, unit: &WorkUnit, reason: String) -> Result<()> {
        let tombstone = Tombstone { unit: unit.to_string(), reason };
        self.write_json(&key(table, unit), &tombstone).await.map(drop)
    }

    /// Reads the tombstone of a unit. Returns `None` if it has none.
    ///
    /// # Errors
    /// The errors of [`Lake::read_json`].
    pub async fn tombstone(&self, table: &Table, unit: &WorkUnit) -> Result<Option<Tombstone>> {
        self.read_json(&key(table, unit)).await
    }

    /// Returns whether a snapshot of one of the days is lost. A function that may not read the tombstones does not know.
    pub async fn has_lost_day(&self, is_asked: impl Fn(Day) -> bool) -> bool {
        for table in [&RAW_MARKETS, &RAW_POSITIONS] {
            let lost = self.lost_units(table).await.unwrap_or_default();
            if lost.iter().filter_map(WorkUnit::day).any(&is_asked) {
                return true;
            }
        }
        false
    }

    /// Returns the error for a unit that must exist.
    pub(crate) async fn missing_unit(&self, table: &Table, unit: &WorkUnit) -> Error {
        let is_lost = OF_SNAPSHOTS.contains(&table) && self.has_lost_day(|day| unit.day() == Some(day)).await;
        let error = match is_lost {
            true => lost_error("an input is not in the lake, because a snapshot of its day is lost"),
            false => {
                Error::new(Kind::NotReady, "an input is not in the lake yet").with_hint("run the preceding steps first")
            }
        };
        error.with("object", unit.key(table))
    }

    /// Deletes the tombstone of a unit, if it has one.
    ///
    /// # Errors
    /// The object could not be deleted.
    pub async fn delete_tombstone(&self, table: &Table, unit: &WorkUnit) -> Result<()> {
        self.store().delete(&key(table, unit)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::FolderStore;
    use crate::tables::{RAW_LOGS, RawMarket};

    #[tokio::test]
    async fn an_input_that_is_lost_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
        let unit = |day: &str| WorkUnit::ProtocolDay(day.parse().unwrap(), "aave-v2-eth".into());
        lake.write_tombstone(&RAW_MARKETS, &unit("2023-01-31"), "pruned".to_owned()).await.unwrap();
        let lost = lake.require::<RawMarket>(&STAGE_MARKETS, &unit("2023-01-31")).await.unwrap_err();
        assert_eq!(lost.kind(), Kind::HistoryPruned);
        assert!(lost.hint().contains("--retry-lost") && !lost.hint().contains("later:"), "{lost}");
        for (table, day) in [(&RAW_MARKETS, "2023-01-30"), (&RAW_LOGS, "2023-01-31")] {
            let missing = lake.missing_unit(table, &unit(day)).await;
            assert_eq!((missing.kind(), missing.hint()), (Kind::NotReady, "run the preceding steps first"), "{day}");
        }
        let wallets = lake.missing_unit(&WALLET_HEALTH, &WorkUnit::Day("2023-01-31".parse().unwrap())).await;
        assert_eq!(wallets.kind(), Kind::HistoryPruned);
    }

    #[tokio::test]
    async fn tombstones_are_listed_by_table_until_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::open_for_run(folder.path()).unwrap());
        let unit = WorkUnit::ProtocolDay("2023-01-31".parse().unwrap(), "aave-v2.1-eth".into());
        lake.write_tombstone(&RAW_POSITIONS, &unit, "pruned".to_owned()).await.unwrap();
        let entries = lake.store().list("state/").await.unwrap();
        assert_eq!(entries[0].key, "state/lost/the_graph_historical_account_positions/2023-01-31.aave-v2.1-eth.json");
        assert_eq!(lake.lost_units(&RAW_POSITIONS).await.unwrap(), BTreeSet::from([unit.clone()]));
        assert!(lake.lost_units(&RAW_MARKETS).await.unwrap().is_empty());
        let expected = Tombstone { unit: unit.to_string(), reason: "pruned".to_owned() };
        assert_eq!(lake.tombstone(&RAW_POSITIONS, &unit).await.unwrap(), Some(expected));
        for _ in 0..2 {
            lake.delete_tombstone(&RAW_POSITIONS, &unit).await.unwrap();
        }
        assert!(lake.lost_units(&RAW_POSITIONS).await.unwrap().is_empty());

        let month = WorkUnit::ProtocolMonth("2023-01-01".parse().unwrap(), "aave-v2.1-eth".into());
        for unit in [&month, &unit] {
            lake.write_tombstone(&RAW_LOGS, unit, "pruned".to_owned()).await.unwrap();
        }
        assert_eq!(lake.lost_units(&RAW_LOGS).await.unwrap(), BTreeSet::from([month, unit]));
    }
}
