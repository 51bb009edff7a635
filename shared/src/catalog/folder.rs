//! A catalog in the lake itself: one small JSON object per table and per partition, so that registering one never
//! rewrites another.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Catalog, CatalogTable, CatalogView, Partition};
use crate::error::Result;
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::lake::{Entry, Lake};

/// The prefix of the catalog's objects.
const FOLDER: &str = "catalog";

/// A catalog stored as objects of a lake: `catalog/{database}/{table}.json` and
/// `catalog/{database}/{table}/{partition}.json`.
#[derive(Debug)]
pub struct FolderCatalog {
    lake: Lake,
}

impl FolderCatalog {
    /// Creates a catalog that is stored in a lake.
    #[must_use]
    pub fn new(lake: Lake) -> Self {
        FolderCatalog { lake }
    }
}

fn partition_key(database: &str, name: &str, values: &[String]) -> String {
    format!("{FOLDER}/{database}/{name}/{}.json", values.join("-"))
}

#[async_trait]
impl Catalog for FolderCatalog {
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>> {
        self.lake.read_json(&format!("{FOLDER}/{database}/{name}.json")).await
    }

    async fn put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<()> {
        self.lake.write_json(&format!("{FOLDER}/{database}/{name}.json"), table).await.map(drop)
    }

    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>> {
        let entries = self.lake.store().list(&format!("{FOLDER}/{database}/{name}/")).await?;
        let read = |entry: Entry| async move { self.lake.read_json::<Partition>(&entry.key).await };
        let mut partitions: Vec<_> = in_order(entries, SMALL_REQUESTS, read).await?.into_iter().flatten().collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    async fn partition(&self, database: &str, name: &str, values: &[String]) -> Result<Option<Partition>> {
        self.lake.read_json(&partition_key(database, name, values)).await
    }

    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()> {
        let prefix = format!("{FOLDER}/{database}/{name}/");
        let registered: BTreeSet<_> =
            self.lake.store().list(&prefix).await?.into_iter().map(|entry| entry.key).collect();
        for partition in partitions {
            if !registered.contains(&partition_key(database, name, &partition.values)) {
                self.move_partition(database, name, partition).await?;
            }
        }
        Ok(())
    }

    async fn move_partition(&self, database: &str, name: &str, partition: &Partition) -> Result<()> {
        self.lake.write_json(&partition_key(database, name, &partition.values), partition).await.map(drop)
    }

    /// Stores nothing: only `defi query` reads this catalog, and it has the definitions of the views.
    async fn put_view(&self, _: &str, _: &str, _: &CatalogView) -> Result<()> {
        Ok(())
    }
}
