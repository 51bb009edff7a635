//! The catalog: which tables and partitions there are, and which set of features is published.

mod differences;
mod folder;
#[cfg(feature = "aws")]
mod glue;

use std::collections::BTreeMap;
use std::fmt::Debug;

use arrow::datatypes::{DataType, TimeUnit};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use differences::Differences;
pub use folder::FolderCatalog;
#[cfg(feature = "aws")]
pub use glue::GlueCatalog;

use crate::domain::Day;
use crate::error::{Error, Result};
use crate::lake::{Lake, Unit};
use crate::tables::{FEATURES_HISTORY, FEATURES_PUBLISHED, Table};

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogColumn {
    /// Name.
    pub name: String,
    /// Type in Glue's words, such as `decimal(38,0)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// What it means.
    pub comment: String,
}

/// A table as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogTable {
    /// What a row is.
    pub description: String,
    /// The columns of the objects.
    pub columns: Vec<CatalogColumn>,
    /// The names of the partition columns, all strings.
    pub partition_columns: Vec<String>,
    /// The folder of its objects: a key of the lake.
    pub location: String,
    /// Further facts, such as the published `as_of`.
    pub parameters: BTreeMap<String, String>,
}

/// A partition: the values of the partition columns, and its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    /// Values, in the order of the partition columns.
    pub values: Vec<String>,
    /// The folder of its objects: a key of the lake.
    pub location: String,
}

/// Which tables and partitions there are.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// A table; `None` where it is not registered.
    ///
    /// # Errors
    /// Anything but "not there": a failure is never read as an absence.
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>>;

    /// Registers a table, or changes it where it differs; its database is made with it.
    ///
    /// # Errors
    /// The catalog is as it was.
    async fn put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<()>;

    /// The partitions of a table, in order of their values.
    ///
    /// # Errors
    /// The listing could not be made.
    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>>;

    /// Registers partitions; those that are there already stay as they are.
    ///
    /// # Errors
    /// Some may be registered and some not; doing it again is safe.
    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()>;
}

/// The parameter of `defi_features` that names the published day.
const PUBLISHED: &str = "as_of";

/// The catalog of one environment: what steps do with it.
#[derive(Debug, Clone)]
pub struct Registry {
    catalog: std::sync::Arc<dyn Catalog>,
    env: String,
}

impl Registry {
    /// The tables of an environment, `dev` or `prod`, in a catalog.
    pub fn new(catalog: impl Catalog + 'static, env: impl Into<String>) -> Self {
        Registry { catalog: std::sync::Arc::new(catalog), env: env.into() }
    }

    /// The environment: `dev` or `prod`.
    #[must_use]
    pub fn env(&self) -> &str {
        &self.env
    }

    /// Registers a table and the partitions that these units lie in.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn register<'a>(&self, table: &Table, units: impl IntoIterator<Item = &'a Unit>) -> Result<()> {
        let entry = describe(table)?;
        self.catalog.put_table(&table.database(&self.env), table.name, &entry).await?;
        let mut partitions: Vec<_> = units.into_iter().map(|unit| partition(table, unit)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if table.layout.partition_columns().is_empty() {
            return Ok(());
        }
        self.catalog.put_partitions(&table.database(&self.env), table.name, &partitions).await
    }

    /// Whether a table is registered.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn is_registered(&self, table: &Table) -> Result<bool> {
        Ok(self.catalog.table(&table.database(&self.env), table.name).await?.is_some())
    }

    /// The published days, in order.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn published(&self) -> Result<Vec<Day>> {
        let partitions = self.catalog.partitions(&FEATURES_HISTORY.database(&self.env), FEATURES_HISTORY.name).await?;
        let mut days: Vec<Day> =
            partitions.iter().filter_map(|partition| partition.values.first()?.parse().ok()).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// The day that `defi_features` shows.
    ///
    /// # Errors
    /// The catalog's, and `CorruptData` where the pointer holds no day.
    pub async fn newest_published(&self) -> Result<Option<Day>> {
        let table = self.catalog.table(&FEATURES_PUBLISHED.database(&self.env), FEATURES_PUBLISHED.name).await?;
        let as_of = table.as_ref().and_then(|table| table.parameters.get(PUBLISHED));
        as_of
            .map(|day| day.parse().map_err(|cause: Error| Error::corrupt("the catalog names no day").because(cause)))
            .transpose()
    }

    /// Whether a day is published: it is in the history, and `defi_features` shows it or a later one. Who publishes may have
    /// died between the two.
    ///
    /// # Errors
    /// As [`Registry::newest_published`].
    pub async fn is_published(&self, day: Day) -> Result<bool> {
        let is_shown = self.newest_published().await?.is_some_and(|newest| newest >= day);
        Ok(is_shown && self.published().await?.contains(&day))
    }

    /// Publishes the features of a day: the history's partition first, then the pointer of `defi_features`, which never
    /// points back in time.
    ///
    /// # Errors
    /// The catalog's; what was published before is still shown then.
    pub async fn publish(&self, as_of: Day) -> Result<()> {
        self.register(&FEATURES_HISTORY, [&Unit::AsOfAndShard(as_of, 0)]).await?;
        if self.newest_published().await?.is_some_and(|newest| newest > as_of) {
            return Ok(());
        }
        let mut entry = describe(&FEATURES_PUBLISHED)?;
        // One folder, not a set of partitions: to publish is to change this one entry.
        entry.partition_columns.clear();
        entry.location = partition(&FEATURES_PUBLISHED, &Unit::AsOfAndShard(as_of, 0)).location;
        entry.parameters.insert(PUBLISHED.to_owned(), as_of.to_string());
        self.catalog.put_table(&FEATURES_PUBLISHED.database(&self.env), FEATURES_PUBLISHED.name, &entry).await
    }
}

/// The catalog's entry of a table.
///
/// # Errors
/// None but a defect: a column of a type that the catalog has no name for.
pub fn describe(table: &Table) -> Result<CatalogTable> {
    let columns = (table.columns)().into_iter().map(|column| {
        let data_type = glue_type(&column.data_type)?;
        Ok(CatalogColumn { name: column.name.to_owned(), data_type, comment: column.doc })
    });
    Ok(CatalogTable {
        description: table.doc.trim().to_owned(),
        columns: columns.collect::<Result<_>>()?,
        partition_columns: table.layout.partition_columns().iter().map(|&name| name.to_owned()).collect(),
        location: table.prefix(),
        parameters: BTreeMap::new(),
    })
}

/// The partition that a unit lies in.
fn partition(table: &Table, unit: &Unit) -> Partition {
    let key = unit.key(table);
    let location = key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    Partition { values: unit.partition(), location }
}

/// Glue's name of an Arrow type. A type that is not listed is refused, never read as a string.
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
        other => return Err(Error::internal(format!("the catalog has no type for {other}"))),
    };
    Ok(name.to_owned())
}

/// The catalog that lies in a lake itself, one small object a table and a partition.
#[must_use]
pub fn in_lake(lake: &Lake, env: &str) -> Registry {
    Registry::new(FolderCatalog::new(lake.clone()), env)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lake::FolderStore;
    use crate::tables::{RAW_MARKETS, TABLES};

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::new(FolderStore::new(folder.path()));
        (folder, in_lake(&lake, "dev"))
    }

    #[tokio::test]
    async fn a_table_and_its_partitions_are_registered_once() {
        let (_folder, registry) = registry();
        let units: Vec<_> = ["2023-01-30", "2023-01-31", "2023-02-01"]
            .map(|day| Unit::DayAndProtocol(day.parse().unwrap(), "aave-v2-eth".into()))
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

    #[tokio::test]
    async fn publishing_never_points_back_in_time() {
        let (_folder, registry) = registry();
        let [early, late] = ["2023-01-30", "2023-02-01"].map(|day| day.parse::<Day>().unwrap());
        assert_eq!(registry.newest_published().await.unwrap(), None);
        for day in [late, early] {
            registry.publish(day).await.unwrap();
        }
        assert_eq!(registry.newest_published().await.unwrap(), Some(late));
        assert_eq!(registry.published().await.unwrap(), [early, late]);
    }

    #[tokio::test]
    async fn a_day_is_published_once_it_is_shown() {
        let (_folder, registry) = registry();
        let [early, late] = ["2023-01-30", "2023-02-01"].map(|day| day.parse::<Day>().unwrap());
        registry.publish(early).await.unwrap();
        registry.register(&FEATURES_HISTORY, [&Unit::AsOfAndShard(late, 0)]).await.unwrap();
        assert!(registry.is_published(early).await.unwrap());
        assert!(!registry.is_published(late).await.unwrap(), "the pointer was not moved");
        assert!(!registry.is_published(early.previous()).await.unwrap());
    }

    #[tokio::test]
    async fn what_the_catalog_lacks_has_too_much_of_or_has_otherwise_is_a_difference() {
        let (_folder, registry) = registry();
        let unit = |day: &str| Unit::DayAndProtocol(day.parse().unwrap(), "aave-v2-eth".into());
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
        registry.catalog.put_table("db_raw_dev", RAW_MARKETS.name, &entry).await.unwrap();
        let differences = registry.differences(&RAW_MARKETS, &units).await.unwrap().unwrap();
        assert_eq!(differences.columns, ["id", "name", "old"]);
    }

    #[test]
    fn every_column_of_every_table_has_a_type_in_glue() {
        for table in TABLES {
            describe(table).unwrap();
        }
        assert!(glue_type(&DataType::Utf8View).is_err());
    }
}
