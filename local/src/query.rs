//! Runs SQL queries over a local lake with DataFusion. Tables have their database names.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::ArrayWriter;
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use defi_shared::catalog::{self, Registry};
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::tables::{self, FEATURES_HISTORY, FEATURES_PUBLISHED, Layer, Layout, TABLES, Table};
use futures::StreamExt;

use crate::lake::LakeOptions;
use crate::output::Format;
use crate::output::allow_broken_pipe;

/// Runs one query and writes the result to standard output.
///
/// # Errors
/// `BadInput` if there is no lake or DataFusion rejects the query, `CorruptData` for an object that is not a Parquet
/// file.
pub async fn query(sql: &str, args: &LakeOptions, format: Format) -> Result<()> {
    let lake = crate::lake::in_folder(args)?;
    let session = session(&lake, args.env.name()).await?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let result = session.sql_with_options(sql, read_only).await.map_err(query_error)?;
    let schema = Arc::clone(result.schema().inner());
    let rows = result.execute_stream().await.map_err(query_error)?;
    match format {
        Format::Table => write_table(schema, rows).await,
        Format::Csv => write_csv(schema, rows).await,
        Format::Json => write_json(rows).await,
    }
}

fn query_error(cause: DataFusionError) -> Error {
    match cause.find_root() {
        DataFusionError::ParquetError(_) | DataFusionError::ArrowError(..) | DataFusionError::ObjectStore(_) => {
            Error::corrupt("an object of the lake can't be read").because(cause)
        }
        _ => Error::bad_input("the query can't be executed")
            .because(cause.strip_backtrace())
            .next("correct the SQL; defi tables lists the tables"),
    }
}

/// Returns a session with every registered table of a lake, named `db_{layer}_{env}.{table}`.
///
/// # Errors
/// The errors of the catalog and of DataFusion.
pub async fn session(lake: &Lake, env: &str) -> Result<SessionContext> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
    let catalog = session.catalog("datafusion").ok_or_else(|| Error::internal("the session has no catalog"))?;
    for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
        let schema = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(&tables::database(layer, env), schema).map_err(query_error)?;
    }
    let registry = catalog::in_lake(lake, env);
    for table in TABLES {
        if registry.is_registered(table).await? {
            let provider = provider(&session, lake, &registry, table).await?;
            let name = format!("{}.{}", table.database(env), table.name);
            session.register_table(name.as_str(), provider).map_err(query_error)?;
        }
    }
    Ok(session)
}

/// Returns the rows of a table. Of the features, only published days are included.
async fn provider(
    session: &SessionContext,
    lake: &Lake,
    registry: &Registry,
    table: &Table,
) -> Result<Arc<dyn TableProvider>> {
    let listing = listing(lake, table)?;
    if table.layout != Layout::AsOfAndShard {
        return Ok(listing);
    }
    let days = if *table == FEATURES_PUBLISHED {
        registry.newest_published().await?.into_iter().collect()
    } else {
        debug_assert!(*table == FEATURES_HISTORY);
        registry.published().await?
    };
    let days = days.into_iter().map(|day| lit(day.to_string())).collect();
    let published = session.read_table(listing).and_then(|all| all.filter(col("as_of").in_list(days, false)));
    Ok(published.map_err(query_error)?.into_view())
}

/// Returns all objects of a table. The partition columns follow the columns of the table.
fn listing(lake: &Lake, table: &Table) -> Result<Arc<dyn TableProvider>> {
    let folder = lake.store().location(&table.prefix());
    let folder = std::path::absolute(&folder).map_err(|cause| {
        Error::bad_input("the lake's folder has no absolute path").with("path", folder).because(cause)
    })?;
    let url = ListingTableUrl::parse(format!("{}/", folder.display())).map_err(query_error)?;
    let partitions = table.layout.partition_columns().iter().map(|name| ((*name).to_owned(), DataType::Utf8)).collect();
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_table_partition_cols(partitions);
    let schema = tables::schema_of(&(table.columns)());
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(query_error)?))
}

async fn write_table(schema: SchemaRef, mut rows: SendableRecordBatchStream) -> Result<()> {
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        batches.push(batch.map_err(query_error)?);
    }
    let text = pretty_format_batches_with_schema(schema, &batches);
    crate::output::line(text.map_err(|cause| Error::internal("can't format the rows as a table").because(cause))?)
}

async fn write_csv(schema: SchemaRef, mut rows: SendableRecordBatchStream) -> Result<()> {
    let format_error = |cause| Error::internal("can't format the rows as CSV").because(cause);
    // The header is written even if there are no rows.
    let mut text = Vec::new();
    WriterBuilder::new().build(&mut text).write(&RecordBatch::new_empty(schema)).map_err(format_error)?;
    allow_broken_pipe(io::stdout().lock().write_all(&text))?;
    while let Some(batch) = rows.next().await {
        let mut text = Vec::new();
        WriterBuilder::new()
            .with_header(false)
            .build(&mut text)
            .write(&batch.map_err(query_error)?)
            .map_err(format_error)?;
        allow_broken_pipe(io::stdout().lock().write_all(&text))?;
    }
    Ok(())
}

async fn write_json(mut rows: SendableRecordBatchStream) -> Result<()> {
    let format_error = |cause| Error::internal("can't format the rows as JSON").because(cause);
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer: ArrayWriter<Vec<u8>> = builder.build(Vec::new());
    while let Some(batch) = rows.next().await {
        writer.write(&batch.map_err(query_error)?).map_err(format_error)?;
    }
    writer.finish().map_err(format_error)?;
    let mut text = writer.into_inner();
    text.push(b'\n');
    allow_broken_pipe(io::stdout().lock().write_all(&text))
}
