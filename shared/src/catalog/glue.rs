//! A catalog in AWS Glue, which Athena reads, and with it everything that speaks Glue.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::error::BuildError;
use aws_sdk_glue::types::{Column, DatabaseInput, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::{Catalog, CatalogColumn, CatalogTable, Partition};
use crate::aws::{code, failed};
use crate::error::{Error, Kind, Result};

/// What Glue takes in one call.
const PARTITIONS_A_CALL: usize = 100;

/// A change is tried again this often when another call has changed the same entry in between: eight shards register one table.
const TRIES: usize = 5;

/// Glue's "it is not there", whatever it is.
const NOT_THERE: &str = "EntityNotFoundException";

/// Glue's "it is there already".
const THERE: &str = "AlreadyExistsException";

/// How readers of Hive tables are told that the objects are Parquet.
const FORMAT: [&str; 3] = [
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
];

/// What every entry says beside its own parameters: Athena and Spark go by it.
const PARAMETERS: [(&str, &str); 2] = [("classification", "parquet"), ("EXTERNAL", "TRUE")];

/// Tables and partitions in Glue.
#[derive(Debug, Clone)]
pub struct GlueCatalog {
    client: Client,
    /// Where the lake's keys begin: `s3://{bucket}/`.
    root: String,
}

/// An entry, and what an update of it has to name.
struct Found {
    table: CatalogTable,
    version: Option<String>,
}

/// What a try came to.
enum Tried {
    Done,
    /// Another call changed the entry in between.
    Overtaken,
}

impl GlueCatalog {
    /// The catalog of the account; its tables lie in a bucket.
    #[must_use]
    pub fn new(aws: &SdkConfig, bucket: &str) -> Self {
        GlueCatalog { client: Client::new(aws), root: format!("s3://{bucket}/") }
    }

    async fn find(&self, database: &str, name: &str) -> Result<Option<Found>> {
        match self.client.get_table().database_name(database).name(name).send().await {
            Ok(answer) => {
                Ok(answer.table.map(|table| Found { version: table.version_id.clone(), table: self.read(table) }))
            }
            Err(error) if code(&error) == Some(NOT_THERE) => Ok(None),
            Err(error) => Err(failed("GetTable", error).with("table", format!("{database}.{name}"))),
        }
    }

    fn read(&self, table: Table) -> CatalogTable {
        let storage = table.storage_descriptor;
        let column = |column: Column| CatalogColumn {
            name: column.name,
            data_type: column.r#type.unwrap_or_default(),
            comment: column.comment.unwrap_or_default(),
        };
        let mut parameters: BTreeMap<_, _> = table.parameters.into_iter().flatten().collect();
        parameters.retain(|name, _| PARAMETERS.iter().all(|(fixed, _)| fixed != name));
        CatalogTable {
            description: table.description.unwrap_or_default(),
            location: self.key(storage.as_ref().and_then(|storage| storage.location.as_deref())),
            columns: storage.and_then(|storage| storage.columns).into_iter().flatten().map(column).collect(),
            partition_columns: table.partition_keys.into_iter().flatten().map(|column| column.name).collect(),
            parameters,
        }
    }

    fn key(&self, location: Option<&str>) -> String {
        let location = location.unwrap_or_default();
        location.strip_prefix(&self.root).unwrap_or(location).trim_end_matches('/').to_owned()
    }

    fn storage(&self, columns: Option<Vec<Column>>, location: &str) -> StorageDescriptor {
        let [input, output, serde] = FORMAT;
        let serde = SerDeInfo::builder().serialization_library(serde).parameters("serialization.format", "1");
        StorageDescriptor::builder()
            .set_columns(columns)
            .location(format!("{}{location}/", self.root))
            .input_format(input)
            .output_format(output)
            .serde_info(serde.build())
            .build()
    }

    fn input(&self, name: &str, table: &CatalogTable) -> Result<TableInput> {
        let columns = table.columns.iter().map(|column| {
            Column::builder().name(&column.name).r#type(&column.data_type).comment(&column.comment).build()
        });
        let partitions =
            table.partition_columns.iter().map(|name| Column::builder().name(name).r#type("string").build());
        let fixed = PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters: HashMap<_, _> = table.parameters.clone().into_iter().chain(fixed).collect();
        TableInput::builder()
            .name(name)
            .description(&table.description)
            .table_type("EXTERNAL_TABLE")
            .storage_descriptor(
                self.storage(Some(columns.collect::<Result<_, _>>().map_err(incomplete)?), &table.location),
            )
            .set_partition_keys(Some(partitions.collect::<Result<_, _>>().map_err(incomplete)?))
            .set_parameters(Some(parameters))
            .build()
            .map_err(incomplete)
    }

    async fn create(&self, database: &str, input: TableInput) -> Result<Tried> {
        match self.client.create_table().database_name(database).table_input(input).send().await {
            Ok(_) => Ok(Tried::Done),
            Err(error) if code(&error) == Some(THERE) => Ok(Tried::Overtaken),
            Err(error) if code(&error) == Some(NOT_THERE) => {
                self.create_database(database).await?;
                Ok(Tried::Overtaken)
            }
            Err(error) => Err(failed("CreateTable", error)),
        }
    }

    async fn create_database(&self, database: &str) -> Result<()> {
        let input = DatabaseInput::builder().name(database).build().map_err(incomplete)?;
        match self.client.create_database().database_input(input).send().await {
            Err(error) if code(&error) != Some(THERE) => {
                Err(failed("CreateDatabase", error).with("database", database))
            }
            _ => Ok(()),
        }
    }

    /// Glue keeps every version of a table unless told not to, and lets two updates overwrite each other unless they name the
    /// version that they change.
    async fn update(&self, database: &str, input: TableInput, version: Option<String>) -> Result<Tried> {
        let update = self.client.update_table().database_name(database).table_input(input);
        match update.skip_archive(true).set_version_id(version).send().await {
            Ok(_) => Ok(Tried::Done),
            Err(error) if code(&error) == Some("ConcurrentModificationException") => Ok(Tried::Overtaken),
            Err(error) => Err(failed("UpdateTable", error)),
        }
    }

    async fn try_to_put(&self, database: &str, name: &str, table: &CatalogTable) -> Result<Tried> {
        let Some(found) = self.find(database, name).await? else {
            return self.create(database, self.input(name, table)?).await;
        };
        // What others note in the parameters (a crawler's statistics, say) is theirs, and stays.
        let parameters = found.table.parameters.clone().into_iter().chain(table.parameters.clone()).collect();
        let wanted = CatalogTable { parameters, ..table.clone() };
        if found.table == wanted {
            return Ok(Tried::Done);
        }
        self.update(database, self.input(name, &wanted)?, found.version).await
    }

    fn partition_input(&self, partition: &Partition, columns: &[Column]) -> PartitionInput {
        PartitionInput::builder()
            .set_values(Some(partition.values.clone()))
            .storage_descriptor(self.storage(Some(columns.to_vec()), &partition.location))
            .build()
    }

    /// One call's worth of partitions; the call succeeds even where it made none of them.
    async fn create_partitions(&self, database: &str, name: &str, partitions: Vec<PartitionInput>) -> Result<()> {
        let create = self.client.batch_create_partition().database_name(database).table_name(name);
        let answer = create.set_partition_input_list(Some(partitions)).send().await;
        let answer = answer.map_err(|error| failed("BatchCreatePartition", error))?;
        let errors = answer.errors.into_iter().flatten();
        let mut errors = errors.filter_map(|error| Some((error.partition_values, error.error_detail?)));
        match errors.find(|(_, detail)| detail.error_code.as_deref() != Some(THERE)) {
            None => Ok(()),
            Some((values, detail)) => {
                let code = detail.error_code.unwrap_or_default();
                Err(Error::new(
                    Kind::SourceUnavailable,
                    format!("{code}: {}", detail.error_message.unwrap_or_default()),
                )
                .with("call", "BatchCreatePartition")
                .with("partition", values.unwrap_or_default().join("/"))
                .next("run again; what is registered stays registered"))
            }
        }
    }
}

fn incomplete(cause: BuildError) -> Error {
    Error::internal("an entry for Glue is not complete").because(cause)
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>> {
        Ok(self.find(database, name).await?.map(|found| found.table))
    }

    async fn put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<()> {
        for _ in 0..TRIES {
            let tried = self.try_to_put(database, name, table).await;
            if let Tried::Done = tried.map_err(|error| error.with("table", format!("{database}.{name}")))? {
                return Ok(());
            }
        }
        Err(Error::new(Kind::Throttled, "others keep changing a table in Glue")
            .with("table", format!("{database}.{name}")))
    }

    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>> {
        let pages = self.client.get_partitions().database_name(database).table_name(name).exclude_column_schema(true);
        let mut pages = pages.into_paginator().send();
        let mut partitions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                // A table that is not registered has no partitions.
                Err(error) if code(&error) == Some(NOT_THERE) => return Ok(Vec::new()),
                Err(error) => return Err(failed("GetPartitions", error).with("table", format!("{database}.{name}"))),
            };
            partitions.extend(page.partitions.into_iter().flatten().map(|partition| Partition {
                values: partition.values.unwrap_or_default(),
                location: self.key(partition.storage_descriptor.and_then(|storage| storage.location).as_deref()),
            }));
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let there = |error: Error| error.with("table", format!("{database}.{name}"));
        let table = self.client.get_table().database_name(database).name(name).send().await;
        let table = table.map_err(|error| there(failed("GetTable", error)))?.table;
        let columns = table.and_then(|table| table.storage_descriptor?.columns).unwrap_or_default();
        for chunk in partitions.chunks(PARTITIONS_A_CALL) {
            let inputs = chunk.iter().map(|partition| self.partition_input(partition, &columns)).collect();
            self.create_partitions(database, name, inputs).await.map_err(there)?;
        }
        Ok(())
    }
}
