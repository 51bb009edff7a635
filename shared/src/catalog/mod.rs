//! The catalog: the registered tables and partitions, and the published features.

mod differences;
mod folder;
#[cfg(feature = "aws")]
mod glue;
#[cfg(feature = "aws")]
mod presto;

use std::collections::BTreeMap;
use std::fmt::Debug;

use arrow_schema::{DataType, TimeUnit};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use differences::Differences;
pub use folder::FolderCatalog;
#[cfg(feature = "aws")]
pub use glue::{GlueCatalog, lake_bucket};

use crate::domain::{Address, Day};
use crate::error::{Error, Result};
use crate::lake::{FeatureSet, Lake, WorkUnit};
use crate::tables::{Column, FEATURES_HISTORY, FEATURES_PUBLISHED, Table, View};

/// A column in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogColumn {
    /// The name.
    pub name: String,
    /// The Glue type, such as `decimal(38,0)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// The description.
    pub comment: String,
}

/// A table in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogTable {
    /// The description of a row.
    pub description: String,
    /// The columns of the objects.
    pub columns: Vec<CatalogColumn>,
    /// The names of the partition columns. Their type is string.
    pub partition_columns: Vec<String>,
    /// The prefix of its objects in the lake.
    pub location: String,
    /// Further properties, such as the published `as_of`.
    pub parameters: BTreeMap<String, String>,
}

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    /// The values of the partition columns, in their order.
    pub values: Vec<String>,
    /// The prefix of its objects in the lake.
    pub location: String,
}

/// A view in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogView {
    /// The description of a row.
    pub description: String,
    /// The columns of the query.
    pub columns: Vec<CatalogColumn>,
    /// The query.
    pub sql: String,
}

/// Stores the registered tables and partitions.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// Returns a table, or `None` if it is not registered.
    ///
    /// # Errors
    /// The table could not be read. A failure is never reported as a missing table.
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>>;

    /// Registers a table, or updates it if it differs. Creates the database if it is missing.
    ///
    /// # Errors
    /// The table could not be registered; its entry is unchanged.
    async fn put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<()>;

    /// Returns the partitions of a table, sorted by value.
    ///
    /// # Errors
    /// The partitions could not be listed.
    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>>;

    /// Returns the partition with these values, or `None` if it is not registered.
    ///
    /// # Errors
    /// The partition could not be read.
    async fn partition(&self, database: &str, name: &str, values: &[String]) -> Result<Option<Partition>>;

    /// Registers partitions. Partitions that are already registered are not changed.
    ///
    /// # Errors
    /// Some partitions could not be registered. Repeating the call is safe.
    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()>;

    /// Registers a partition, or changes the location of a registered one, in one atomic update.
    ///
    /// # Errors
    /// The partition could not be registered or changed; its entry is unchanged.
    async fn move_partition(&self, database: &str, name: &str, partition: &Partition) -> Result<()>;

    /// Registers a view, or updates it if it differs.
    ///
    /// # Errors
    /// The view could not be registered; its entry is unchanged.
    async fn put_view(&self, database: &str, name: &str, view: &CatalogView) -> Result<()>;
}

/// The parameter of `defi_features` that contains the published as-of day.
const PUBLISHED: &str = "as_of";

/// The catalog of one environment, with the operations that steps use.
#[derive(Debug, Clone)]
pub struct Registry {
    catalog: std::sync::Arc<dyn Catalog>,
    env: String,
}

impl Registry {
    /// Creates the registry of an environment, `dev` or `prod`, over a catalog.
    pub fn new(catalog: impl Catalog + 'static, env: impl Into<String>) -> Self {
        Registry { catalog: std::sync::Arc::new(catalog), env: env.into() }
    }

    /// Returns the environment: `dev` or `prod`.
    #[must_use]
    pub fn env(&self) -> &str {
        &self.env
    }

    /// Registers a table and the partitions of the given units.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn register<'a>(&self, table: &Table, units: impl IntoIterator<Item = &'a WorkUnit>) -> Result<()> {
        let entry = catalog_table(table)?;
        self.catalog.put_table(&table.database(&self.env), table.name, &entry).await?;
        let mut partitions: Vec<_> = units.into_iter().map(|unit| partition(table, unit)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if table.layout.partition_columns().is_empty() {
            return Ok(());
        }
        self.catalog.put_partitions(&table.database(&self.env), table.name, &partitions).await
    }

    /// Returns whether a table is registered.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn is_registered(&self, table: &Table) -> Result<bool> {
        Ok(self.catalog.table(&table.database(&self.env), table.name).await?.is_some())
    }

    /// Registers a view.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn register_view(&self, view: &View, wrapped_ether: &Address) -> Result<()> {
        let entry = catalog_view(view, &self.env, wrapped_ether)?;
        self.catalog.put_view(&view.database(&self.env), view.name, &entry).await
    }

    /// Returns the published as-of days, sorted.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn published(&self) -> Result<Vec<Day>> {
        Ok(self.published_sets().await?.into_iter().map(|set| set.as_of).collect())
    }

    /// Returns the published feature sets, sorted by day: where the partitions of the history point.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn published_sets(&self) -> Result<Vec<FeatureSet>> {
        let partitions = self.catalog.partitions(&FEATURES_HISTORY.database(&self.env), FEATURES_HISTORY.name).await?;
        let mut sets: Vec<_> = partitions.into_iter().filter_map(set_of).collect();
        sets.sort_unstable();
        Ok(sets)
    }

    /// Returns the published feature set of a day.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn published_set(&self, as_of: Day) -> Result<Option<FeatureSet>> {
        let (database, values) = (FEATURES_HISTORY.database(&self.env), [as_of.to_string()]);
        Ok(self.catalog.partition(&database, FEATURES_HISTORY.name, &values).await?.and_then(set_of))
    }

    /// Returns the set of a day that checks and reports are about: its build if there is one, or else its published
    /// set, or else the set in the folder of the table, which another environment published.
    ///
    /// # Errors
    /// The errors of the catalog and of the lake.
    pub async fn latest_set(&self, lake: &Lake, as_of: Day) -> Result<FeatureSet> {
        let build = FeatureSet::build(as_of);
        if !lake.shards(&build).await?.is_empty() {
            return Ok(build);
        }
        Ok(self.published_set(as_of).await?.unwrap_or_else(|| FeatureSet::published(as_of)))
    }

    /// Returns the as-of day that `defi_features` points to.
    ///
    /// # Errors
    /// The errors of the catalog, and `CorruptData` if the table's `as_of` parameter is not a day.
    pub async fn newest_published(&self) -> Result<Option<Day>> {
        Ok(self.newest_set().await?.map(|set| set.as_of))
    }

    /// Returns the feature set that `defi_features` points to.
    ///
    /// # Errors
    /// As [`Registry::newest_published`].
    pub async fn newest_set(&self) -> Result<Option<FeatureSet>> {
        let table = self.catalog.table(&FEATURES_PUBLISHED.database(&self.env), FEATURES_PUBLISHED.name).await?;
        let Some(mut table) = table else { return Ok(None) };
        let Some(day) = table.parameters.remove(PUBLISHED) else { return Ok(None) };
        let corrupt = |cause: Error| Error::corrupt("the published day in the catalog is invalid").with_source(cause);
        Ok(Some(FeatureSet { as_of: day.parse().map_err(corrupt)?, folder: table.location }))
    }

    /// Returns whether a day is published: the history points to its set in the folder of the table, and
    /// `defi_features` points to it or to a later day. A run that is interrupted while publishing may have done only a
    /// part.
    ///
    /// # Errors
    /// As [`Registry::newest_published`].
    pub async fn is_published(&self, day: Day) -> Result<bool> {
        let set = FeatureSet::published(day);
        let newest = self.newest_set().await?;
        let is_current = newest.is_some_and(|newest| newest.as_of > day || newest == set);
        Ok(is_current && self.published_sets().await?.contains(&set))
    }

    /// Points the history to a feature set, and then `defi_features`, unless it points to a later day.
    ///
    /// # Errors
    /// The errors of the catalog. `defi_features` still points to the previous set then.
    pub async fn point_to(&self, set: &FeatureSet) -> Result<()> {
        self.register(&FEATURES_HISTORY, []).await?;
        let partition = Partition { values: vec![set.as_of.to_string()], location: set.folder.clone() };
        let database = FEATURES_HISTORY.database(&self.env);
        self.catalog.move_partition(&database, FEATURES_HISTORY.name, &partition).await?;
        if self.newest_published().await?.is_some_and(|newest| newest > set.as_of) {
            return Ok(());
        }
        let mut entry = catalog_table(&FEATURES_PUBLISHED)?;
        // The table has a location and no partitions, so that publishing is one atomic update of this entry.
        entry.location.clone_from(&set.folder);
        entry.parameters.insert(PUBLISHED.to_owned(), set.as_of.to_string());
        self.catalog.put_table(&FEATURES_PUBLISHED.database(&self.env), FEATURES_PUBLISHED.name, &entry).await
    }
}

/// Returns the catalog entry of a table.
///
/// # Errors
/// `Internal` if a column has a type without a Glue equivalent.
pub fn catalog_table(table: &Table) -> Result<CatalogTable> {
    Ok(CatalogTable {
        description: table.doc.trim().to_owned(),
        columns: catalog_columns((table.columns)())?,
        partition_columns: table.partition_columns().iter().map(|&name| name.to_owned()).collect(),
        location: table.prefix(),
        parameters: BTreeMap::new(),
    })
}

/// Returns the feature set that a partition of the history points to.
fn set_of(partition: Partition) -> Option<FeatureSet> {
    Some(FeatureSet { as_of: partition.values.first()?.parse().ok()?, folder: partition.location })
}

/// Returns the catalog entry of a view in an environment. `wrapped_ether` is the token whose price is the price of ETH.
///
/// # Errors
/// As [`catalog_table`].
pub fn catalog_view(view: &View, env: &str, wrapped_ether: &Address) -> Result<CatalogView> {
    Ok(CatalogView {
        description: view.doc.to_owned(),
        columns: catalog_columns((view.columns)())?,
        sql: view.sql(env, wrapped_ether),
    })
}

fn catalog_columns(columns: Vec<Column>) -> Result<Vec<CatalogColumn>> {
    let entry = |column: Column| {
        let data_type = glue_type(&column.data_type)?;
        Ok(CatalogColumn { name: column.name.to_owned(), data_type, comment: column.doc })
    };
    columns.into_iter().map(entry).collect()
}

/// Returns the partition of a unit.
fn partition(table: &Table, unit: &WorkUnit) -> Partition {
    let key = unit.key(table);
    let location = key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    Partition { values: unit.partition(), location }
}

/// Returns the Glue type of an Arrow type. Other types are an error instead of defaulting to string.
fn glue_type(data_type: &DataType) -> Result<String> {
    let name = match data_type {
        DataType::Utf8 => "string",
        DataType::Int64 => "bigint",
        DataType::Int32 => "int",
        DataType::Float64 => "double",
        DataType::Boolean => "boolean",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) if &**zone == "UTC" => "timestamp",
        DataType::Decimal128(precision, scale) => return Ok(format!("decimal({precision},{scale})")),
        other => return Err(Error::internal(format!("no Glue type for the Arrow type {other}"))),
    };
    Ok(name.to_owned())
}

/// Creates a registry over a catalog that is stored in the lake itself.
#[must_use]
pub fn registry_in_lake(lake: &Lake, env: &str) -> Registry {
    Registry::new(FolderCatalog::new(lake.clone()), env)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lake::FolderStore;
    use crate::tables::{RAW_MARKETS, TABLES, VIEWS};

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::new(folder.path()));
        (folder, registry_in_lake(&lake, "dev"))
    }

    #[tokio::test]
    async fn registers_tables_and_partitions_once() {
        let (_folder, registry) = registry();
        let units: Vec<_> = ["2023-01-30", "2023-01-31", "2023-02-01"]
            .map(|day| WorkUnit::ProtocolDay(day.parse().unwrap(), "aave-v2-eth".into()))
            .into();
        for _ in 0..2 {
            registry.register(&RAW_MARKETS, &units).await.unwrap();
        }
        let partitions = registry.catalog.partitions("db_raw_dev", RAW_MARKETS.name).await.unwrap();
        assert_eq!(partitions.iter().map(|p| p.values.join("-")).collect::<Vec<_>>(), ["2023-01", "2023-02"]);
        assert_eq!(partitions[0].location, "raw/the_graph/the_graph_historical_market_data/year=2023/month=01");
        let table = registry.catalog.table("db_raw_dev", RAW_MARKETS.name).await.unwrap().unwrap();
        assert_eq!(table.partition_columns, ["year", "month"]);
        assert_eq!(registry.catalog.table("db_raw_prod", RAW_MARKETS.name).await.unwrap(), None);
    }

    fn set(day: &str) -> FeatureSet {
        FeatureSet::published(day.parse().unwrap())
    }

    #[tokio::test]
    async fn publishing_an_earlier_day_keeps_the_pointer() {
        let (_folder, registry) = registry();
        let [early, late] = ["2023-01-30", "2023-02-01"].map(set);
        assert_eq!(registry.newest_published().await.unwrap(), None);
        for set in [&late, &early] {
            registry.point_to(set).await.unwrap();
        }
        assert_eq!(registry.newest_set().await.unwrap(), Some(late.clone()));
        assert_eq!(registry.published_sets().await.unwrap(), [early, late]);
    }

    #[tokio::test]
    async fn day_is_published_only_when_both_pointers_are_at_its_folder() {
        let (_folder, registry) = registry();
        let [early, late] = ["2023-01-30", "2023-02-01"].map(set);
        registry.point_to(&early).await.unwrap();
        registry.register(&FEATURES_HISTORY, [&WorkUnit::Shard(late.as_of, 0)]).await.unwrap();
        assert!(registry.is_published(early.as_of).await.unwrap());
        assert!(!registry.is_published(late.as_of).await.unwrap(), "defi_features was not moved");
        assert!(!registry.is_published(early.as_of.previous()).await.unwrap());
        registry.point_to(&FeatureSet::checked(early.as_of, "0a")).await.unwrap();
        assert!(!registry.is_published(early.as_of).await.unwrap(), "the folder of the table was not rewritten");
        registry.point_to(&early).await.unwrap();
        assert!(registry.is_published(early.as_of).await.unwrap());
    }

    #[tokio::test]
    async fn differences_lists_wrong_columns_and_partitions() {
        let (_folder, registry) = registry();
        let unit = |day: &str| WorkUnit::ProtocolDay(day.parse().unwrap(), "aave-v2-eth".into());
        let units = BTreeSet::from([unit("2023-01-30"), unit("2023-02-01")]);
        assert_eq!(registry.differences(&RAW_MARKETS, &units).await.unwrap(), None);
        registry.register(&RAW_MARKETS, &units).await.unwrap();
        assert_eq!(registry.differences(&RAW_MARKETS, &units).await.unwrap(), Some(Differences::default()));
        let other = BTreeSet::from([unit("2023-01-30"), unit("2023-03-01")]);
        let months = |partitions: &[Partition]| partitions.iter().map(|p| p.values.join("-")).collect::<Vec<_>>();
        let differences = registry.differences(&RAW_MARKETS, &other).await.unwrap().unwrap();
        assert_eq!(months(&differences.unregistered), ["2023-03"]);
        assert_eq!(months(&differences.empty), ["2023-02"]);
        let mut entry = registry.catalog.table("db_raw_dev", RAW_MARKETS.name).await.unwrap().unwrap();
        "int".clone_into(&mut entry.columns[0].data_type);
        entry.columns[1].name = "old".to_owned();
        entry.location = "elsewhere".to_owned();
        registry.catalog.put_table("db_raw_dev", RAW_MARKETS.name, &entry).await.unwrap();
        let differences = registry.differences(&RAW_MARKETS, &units).await.unwrap().unwrap();
        assert_eq!(differences.columns, ["id", "name", "old"]);
        assert_eq!(differences.location.as_deref(), Some("elsewhere"));
    }

    #[test]
    fn every_column_has_a_glue_type() {
        for table in TABLES {
            catalog_table(table).unwrap();
        }
        for view in VIEWS {
            catalog_view(view, "dev", &Address::MIN).unwrap();
        }
        assert!(glue_type(&DataType::Utf8View).is_err());
    }
}
