//! Tombstones of lost units: those that their source no longer has. A tombstone says that asking again is useless. A unit that is
//! lost and in the lake nevertheless was rebuilt from other data of its source.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Lake, WorkUnit};
use crate::error::Result;
use crate::tables::{Layout, Table};

/// The prefix of the tombstones: one object per lost unit.
const LOST: &str = "state/lost";

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

impl Lake {
    /// Returns the lost units of a table of snapshots, including those that were rebuilt.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn lost_units(&self, table: &Table) -> Result<BTreeSet<WorkUnit>> {
        debug_assert!(table.layout == Layout::ProtocolDay);
        let prefix = prefix(table);
        let parse = |key: &str| -> Option<WorkUnit> {
            let (day, protocol) = key.strip_prefix(&prefix)?.strip_suffix(".json")?.split_once('.')?;
            Some(WorkUnit::ProtocolDay(day.parse().ok()?, protocol.into()))
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
    use crate::tables::{RAW_MARKETS, RAW_POSITIONS};

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
    }
}
