//! What the catalog says of a table, against the code and the objects that there are.

use std::collections::BTreeSet;

use super::{Partition, Registry, describe, partition};
use crate::error::Result;
use crate::lake::Unit;
use crate::tables::{FEATURES_HISTORY, FEATURES_PUBLISHED, Table};

/// How a table's entry differs from what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Columns that the entry lacks, has too many, or has of another type.
    pub columns: Vec<String>,
    /// Partitions with objects that no reader of the table finds.
    pub unregistered: Vec<Partition>,
    /// Partitions without any object.
    pub empty: Vec<Partition>,
}

impl Registry {
    /// How a table's entry differs from its columns in the code and from its units in the lake; `None` where it is not registered.
    /// Features that are built and not published are no difference.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn differences(&self, table: &Table, units: &BTreeSet<Unit>) -> Result<Option<Differences>> {
        let database = table.database(&self.env);
        let Some(entry) = self.catalog.table(&database, table.name).await? else { return Ok(None) };
        let wanted = describe(table)?;
        let columns = |columns: &[super::CatalogColumn]| -> BTreeSet<(String, String)> {
            columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect()
        };
        let (held, wanted) = (columns(&entry.columns), columns(&wanted.columns));
        let names: BTreeSet<_> = held.symmetric_difference(&wanted).map(|(name, _)| name.clone()).collect();
        let mut differences = Differences { columns: names.into_iter().collect(), ..Differences::default() };
        if *table != FEATURES_PUBLISHED && !table.layout.partition_columns().is_empty() {
            let there: BTreeSet<_> = units.iter().map(|unit| partition(table, unit)).collect();
            let registered = BTreeSet::from_iter(self.catalog.partitions(&database, table.name).await?);
            differences.empty = registered.difference(&there).cloned().collect();
            if *table != FEATURES_HISTORY {
                differences.unregistered = there.difference(&registered).cloned().collect();
            }
        }
        Ok(Some(differences))
    }
}
