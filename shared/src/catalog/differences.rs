//! Compares a table's catalog entry with its columns in the code and its objects in the lake.

use std::collections::BTreeSet;

use super::{Partition, Registry, catalog_table, partition};
use crate::error::Result;
use crate::lake::WorkUnit;
use crate::tables::{FEATURES_CHECKED, FEATURES_HISTORY, FEATURES_PUBLISHED, Table};

/// The differences between a table's catalog entry and its actual columns and objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Names of columns that are missing from the entry, unknown to the code, or of another type.
    pub columns: Vec<String>,
    /// The folder to which the entry points, if the objects are elsewhere: queries read other objects, or none.
    pub location: Option<String>,
    /// Partitions that have objects but are not registered. Queries of the table don't see them.
    pub unregistered: Vec<Partition>,
    /// Registered partitions without objects.
    pub empty: Vec<Partition>,
}

impl Registry {
    /// Compares a table's entry with its columns in the code and its units in the lake. Returns `None` if the table is
    /// not registered. Features that are built but not published are not a difference.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn differences(&self, table: &Table, units: &BTreeSet<WorkUnit>) -> Result<Option<Differences>> {
        let database = table.database(&self.env);
        let Some(entry) = self.catalog.table(&database, table.name).await? else { return Ok(None) };
        let expected = catalog_table(table)?;
        let columns = |columns: &[super::CatalogColumn]| -> BTreeSet<(String, String)> {
            columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect()
        };
        let (registered, expected) = (columns(&entry.columns), columns(&expected.columns));
        let names: BTreeSet<_> = registered.symmetric_difference(&expected).map(|(name, _)| name.clone()).collect();
        let mut differences = Differences { columns: names.into_iter().collect(), ..Differences::default() };
        // That of the published features moves with each set.
        if *table != FEATURES_PUBLISHED && entry.location != table.prefix() {
            differences.location = Some(entry.location);
        }
        if *table != FEATURES_PUBLISHED && !table.layout.partition_columns().is_empty() {
            let stored: BTreeSet<_> = units.iter().map(|unit| partition(table, unit)).collect();
            let registered = BTreeSet::from_iter(self.catalog.partitions(&database, table.name).await?);
            let is_publishing = |partition: &&Partition| {
                *table == FEATURES_HISTORY && partition.location.starts_with(&format!("{}/", FEATURES_CHECKED.prefix()))
            };
            let empty = registered.difference(&stored).filter(|partition| !is_publishing(partition));
            differences.empty = empty.cloned().collect();
            if *table != FEATURES_HISTORY {
                differences.unregistered = stored.difference(&registered).cloned().collect();
            }
        }
        Ok(Some(differences))
    }
}
