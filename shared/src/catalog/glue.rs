//! A catalog in AWS Glue, as used by Athena.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::{Column, DatabaseInput, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::{Catalog, CatalogColumn, CatalogTable, CatalogView, Partition, presto};
use crate::aws::{error_code, sdk_error};
use crate::error::{Error, Kind, Result};
use crate::tables::{Layer, database};

/// The maximum number of partitions that Glue accepts in one call.
const PARTITIONS_PER_CALL: usize = 100;

/// The number of attempts to update a table, in case of concurrent updates: parallel calls of a step register the same
/// table.
const MAX_ATTEMPTS: u32 = 5;

/// The pause after the first attempt. It is longer after each further one.
const PAUSE: Duration = Duration::from_millis(20);

/// The error code of Glue for a missing database, table or partition.
const NOT_FOUND: &str = "EntityNotFoundException";

/// The error code of Glue for a database, table or partition that exists.
const ALREADY_EXISTS: &str = "AlreadyExistsException";

/// The Hive input format, output format and SerDe of Parquet.
const FORMAT: [&str; 3] = [
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
];

/// The parameters of every table, besides its own. Athena and Spark need them.
const PARAMETERS: [(&str, &str); 2] = [("classification", "parquet"), ("EXTERNAL", "TRUE")];

/// A catalog in AWS Glue.
#[derive(Debug, Clone)]
pub struct GlueCatalog {
    client: Client,
    /// The URL of the lake: `s3://{bucket}/`.
    root: String,
}

/// The parameter by which Athena recognizes a view.
const VIEW_PARAMETER: (&str, &str) = ("presto_view", "true");

/// What is registered under a name.
#[derive(Clone, Copy)]
enum Entry<'a> {
    Table(&'a CatalogTable),
    View(&'a CatalogView),
}

/// The result of an attempt to create or update a table.
enum Attempt {
    Done,
    /// Another call changed the table concurrently.
    Conflict,
}

impl GlueCatalog {
    /// Creates a client of the account's catalog, for tables in a bucket.
    #[must_use]
    pub fn new(aws: &SdkConfig, bucket: &str) -> Self {
        GlueCatalog { client: Client::new(aws), root: format!("s3://{bucket}/") }
    }

    /// Returns a table or view. An update of it must specify its version.
    async fn find(&self, database: &str, name: &str) -> Result<Option<Table>> {
        match self.client.get_table().database_name(database).name(name).send().await {
            Ok(response) => Ok(response.table),
            Err(error) if error_code(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(sdk_error("GetTable", error).with("table", format!("{database}.{name}"))),
        }
    }

    /// Converts a table of Glue into a catalog table.
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

    /// Converts a partition of Glue.
    fn read_partition(&self, partition: aws_sdk_glue::types::Partition) -> Partition {
        let storage = partition.storage_descriptor;
        Partition {
            values: partition.values.unwrap_or_default(),
            location: self.key(storage.and_then(|storage| storage.location).as_deref()),
        }
    }

    /// Converts a URL into a prefix in the lake.
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
        let partitions =
            table.partition_columns.iter().map(|name| Column::builder().name(name).r#type("string").build());
        let fixed = PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters: HashMap<_, _> = table.parameters.clone().into_iter().chain(fixed).collect();
        TableInput::builder()
            .name(name)
            .description(&table.description)
            .table_type("EXTERNAL_TABLE")
            .storage_descriptor(self.storage(Some(columns(&table.columns)?), &table.location))
            .set_partition_keys(Some(partitions.collect::<Result<_, _>>().map_err(build_error)?))
            .set_parameters(Some(parameters))
            .build()
            .map_err(build_error)
    }

    async fn create(&self, database: &str, input: TableInput) -> Result<Attempt> {
        match self.client.create_table().database_name(database).table_input(input).send().await {
            Ok(_) => Ok(Attempt::Done),
            Err(error) if error_code(&error) == Some(ALREADY_EXISTS) => Ok(Attempt::Conflict),
            Err(error) if is_busy(&error) => Ok(Attempt::Conflict),
            Err(error) if error_code(&error) == Some(NOT_FOUND) => {
                self.create_database(database).await?;
                Ok(Attempt::Conflict)
            }
            Err(error) => Err(sdk_error("CreateTable", error)),
        }
    }

    async fn create_database(&self, database: &str) -> Result<()> {
        let input = DatabaseInput::builder().name(database).build().map_err(build_error)?;
        match self.client.create_database().database_input(input).send().await {
            Err(error) if error_code(&error) != Some(ALREADY_EXISTS) => {
                Err(sdk_error("CreateDatabase", error).with("database", database))
            }
            _ => Ok(()),
        }
    }

    /// Updates a table without archiving its old version. The version makes Glue reject an update that conflicts with a
    /// concurrent one.
    async fn update(&self, database: &str, input: TableInput, version: Option<String>) -> Result<Attempt> {
        let update = self.client.update_table().database_name(database).table_input(input);
        match update.skip_archive(true).set_version_id(version).send().await {
            Ok(_) => Ok(Attempt::Done),
            Err(error) if is_busy(&error) => Ok(Attempt::Conflict),
            Err(error) => Err(sdk_error("UpdateTable", error)),
        }
    }

    async fn try_to_put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<Attempt> {
        let Some(found) = self.find(database, name).await? else {
            return self.create(database, self.input(name, table)?).await;
        };
        let (version, found) = (found.version_id.clone(), self.read(found));
        // Keep parameters that other software has set, such as the statistics of a crawler.
        let parameters = found.parameters.clone().into_iter().chain(table.parameters.clone()).collect();
        let merged = CatalogTable { parameters, ..table.clone() };
        if found == merged {
            return Ok(Attempt::Done);
        }
        self.update(database, self.input(name, &merged)?, version).await
    }

    async fn try_to_put_view(&self, database: &str, name: &str, view: &CatalogView) -> Result<Attempt> {
        let input = view_input(database, name, view)?;
        let Some(found) = self.find(database, name).await? else { return self.create(database, input).await };
        let (version, text) = (found.version_id.clone(), found.view_original_text.clone());
        let found = self.read(found);
        let is_current =
            text == input.view_original_text && found.description == view.description && found.columns == view.columns;
        if is_current { Ok(Attempt::Done) } else { self.update(database, input, version).await }
    }

    /// Creates or updates a table or view, again after each conflict.
    async fn put(&self, database: &str, name: &str, entry: Entry<'_>) -> Result<()> {
        for number in 1..=MAX_ATTEMPTS {
            let attempt = match entry {
                Entry::Table(table) => self.try_to_put_table(database, name, table).await,
                Entry::View(view) => self.try_to_put_view(database, name, view).await,
            };
            if let Attempt::Done = attempt.map_err(|error| error.with("table", format!("{database}.{name}")))? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE * number).await;
        }
        Err(Error::new(Kind::Throttled, "other writers keep changing a table in Glue")
            .with("table", format!("{database}.{name}")))
    }

    /// Returns the columns of a table that is registered.
    async fn columns(&self, database: &str, name: &str) -> Result<Vec<Column>> {
        let table = self.client.get_table().database_name(database).name(name).send().await;
        let table = table.map_err(|error| sdk_error("GetTable", error).with("table", format!("{database}.{name}")))?;
        Ok(table.table.and_then(|table| table.storage_descriptor?.columns).unwrap_or_default())
    }

    fn partition_input(&self, partition: &Partition, columns: &[Column]) -> PartitionInput {
        PartitionInput::builder()
            .set_values(Some(partition.values.clone()))
            .storage_descriptor(self.storage(Some(columns.to_vec()), &partition.location))
            .build()
    }

    /// Creates partitions with one call. Glue reports failures of single partitions in a successful response.
    async fn create_partitions(&self, database: &str, name: &str, partitions: Vec<PartitionInput>) -> Result<()> {
        let create = self.client.batch_create_partition().database_name(database).table_name(name);
        let response = create.set_partition_input_list(Some(partitions)).send().await;
        let response = response.map_err(|error| sdk_error("BatchCreatePartition", error))?;
        let errors = response.errors.into_iter().flatten();
        let mut errors = errors.filter_map(|error| Some((error.partition_values, error.error_detail?)));
        match errors.find(|(_, detail)| detail.error_code.as_deref() != Some(ALREADY_EXISTS)) {
            None => Ok(()),
            Some((values, detail)) => {
                let code = detail.error_code.unwrap_or_default();
                Err(Error::new(
                    Kind::SourceUnavailable,
                    format!("{code}: {}", detail.error_message.unwrap_or_default()),
                )
                .with("call", "BatchCreatePartition")
                .with("partition", values.unwrap_or_default().join("/"))
                .with_hint("run again; partitions that are registered already stay registered"))
            }
        }
    }
}

/// Finds the bucket of an environment's lake: that of the location of its database `db_analytics_{env}`, which Terraform
/// sets.
///
/// # Errors
/// `BadInput` if there is no such database or it has no location, and the errors of Glue.
pub async fn lake_bucket(aws: &SdkConfig, env: &str) -> Result<String> {
    let name = database(Layer::Analytics, env);
    let without = |what: &str| {
        Error::bad_input(format!("the Glue database {name} {what}, so the bucket of the lake is unknown"))
            .with_hint(format!("deploy the environment: make deploy ENV={env}"))
    };
    let location = match Client::new(aws).get_database().name(&name).send().await {
        Ok(response) => response.database.and_then(|database| database.location_uri).unwrap_or_default(),
        Err(error) if error_code(&error) == Some(NOT_FOUND) => return Err(without("does not exist")),
        Err(error) => return Err(sdk_error("GetDatabase", error).with("database", &name)),
    };
    let bucket = location.strip_prefix("s3://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if bucket.is_empty() { Err(without("has no location in S3")) } else { Ok(bucket.to_owned()) }
}

/// Returns whether Glue rejected a call because another one changes the same database or table.
fn is_busy<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(error_code(error), Some("ConcurrentModificationException" | "ResourceNotReadyException"))
}

fn columns(columns: &[CatalogColumn]) -> Result<Vec<Column>> {
    let column = |column: &CatalogColumn| {
        Column::builder().name(&column.name).r#type(&column.data_type).comment(&column.comment).build()
    };
    columns.iter().map(column).collect::<Result<_, _>>().map_err(build_error)
}

/// Returns a view in the form in which Athena stores its own: without a location, and with the query in a comment.
fn view_input(database: &str, name: &str, view: &CatalogView) -> Result<TableInput> {
    let storage = StorageDescriptor::builder()
        .set_columns(Some(columns(&view.columns)?))
        .location("")
        .serde_info(SerDeInfo::builder().build());
    let (parameter, value) = VIEW_PARAMETER;
    TableInput::builder()
        .name(name)
        .description(&view.description)
        .table_type("VIRTUAL_VIEW")
        .view_original_text(presto::view_text(database, view)?)
        .view_expanded_text(presto::EXPANDED_TEXT)
        .storage_descriptor(storage.build())
        .set_partition_keys(Some(Vec::new()))
        .parameters(parameter, value)
        .build()
        .map_err(build_error)
}

fn build_error(cause: BuildError) -> Error {
    Error::internal("incomplete input of a Glue call").with_source(cause)
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn table(&self, database: &str, name: &str) -> Result<Option<CatalogTable>> {
        Ok(self.find(database, name).await?.map(|found| self.read(found)))
    }

    async fn put_table(&self, database: &str, name: &str, table: &CatalogTable) -> Result<()> {
        self.put(database, name, Entry::Table(table)).await
    }

    async fn put_view(&self, database: &str, name: &str, view: &CatalogView) -> Result<()> {
        self.put(database, name, Entry::View(view)).await
    }

    async fn partitions(&self, database: &str, name: &str) -> Result<Vec<Partition>> {
        let pages = self.client.get_partitions().database_name(database).table_name(name).exclude_column_schema(true);
        let mut pages = pages.into_paginator().send();
        let mut partitions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                // An unregistered table has no partitions.
                Err(error) if error_code(&error) == Some(NOT_FOUND) => return Ok(Vec::new()),
                Err(error) => return Err(sdk_error("GetPartitions", error).with("table", format!("{database}.{name}"))),
            };
            partitions.extend(page.partitions.into_iter().flatten().map(|partition| self.read_partition(partition)));
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    async fn partition(&self, database: &str, name: &str, values: &[String]) -> Result<Option<Partition>> {
        let get = self.client.get_partition().database_name(database).table_name(name);
        match get.set_partition_values(Some(values.to_vec())).send().await {
            Ok(response) => Ok(response.partition.map(|partition| self.read_partition(partition))),
            Err(error) if error_code(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(sdk_error("GetPartition", error).with("table", format!("{database}.{name}"))),
        }
    }

    async fn put_partitions(&self, database: &str, name: &str, partitions: &[Partition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let with_table = |error: Error| error.with("table", format!("{database}.{name}"));
        let columns = self.columns(database, name).await?;
        for chunk in partitions.chunks(PARTITIONS_PER_CALL) {
            let inputs = chunk.iter().map(|partition| self.partition_input(partition, &columns)).collect();
            self.create_partitions(database, name, inputs).await.map_err(with_table)?;
        }
        Ok(())
    }

    async fn move_partition(&self, database: &str, name: &str, partition: &Partition) -> Result<()> {
        let columns = self.columns(database, name).await?;
        let update = self.client.update_partition().database_name(database).table_name(name);
        let update = update.set_partition_value_list(Some(partition.values.clone()));
        match update.partition_input(self.partition_input(partition, &columns)).send().await {
            Ok(_) => Ok(()),
            Err(error) if error_code(&error) == Some(NOT_FOUND) => {
                self.put_partitions(database, name, std::slice::from_ref(partition)).await
            }
            Err(error) => Err(sdk_error("UpdatePartition", error)
                .with("table", format!("{database}.{name}"))
                .with("partition", partition.values.join("/"))),
        }
    }
}
