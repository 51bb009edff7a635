//! A table of the lake as DataFusion reads it: exactly the objects that the lake knows. DataFusion does not list the
//! folder itself: it would count objects that are no units, skip empty ones and take a folder's name for a pattern.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as QueryResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use defi_shared::catalog::Registry;
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::lake::{Entry, FeatureSet, Lake, WorkUnit};
use defi_shared::tables::{self, FEATURES_PUBLISHED, Layout, Table};
use futures::{StreamExt, stream};

/// Returns the URL of the object store whose objects are those of the lake.
pub(super) fn store_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("lake://objects")
        .map_err(|cause| Error::internal("the URL of the lake is invalid").with_source(cause))
}

/// The keys of the objects that the queries of a session read.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectsRead(Arc<Mutex<BTreeSet<String>>>);

impl ObjectsRead {
    /// Returns the keys, sorted.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the keys.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, keys: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }
}

/// A table of the lake. The partition columns follow the columns of the table. Of the features, only published sets are
/// included.
pub(super) struct LakeTable {
    lake: Lake,
    registry: Registry,
    table: &'static Table,
    schema: TableSchema,
    read: ObjectsRead,
}

impl fmt::Debug for LakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeTable").field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl LakeTable {
    /// Creates the table. Its objects are listed by each query.
    pub(super) fn new(lake: &Lake, registry: &Registry, table: &'static Table, read: &ObjectsRead) -> Self {
        let partitions = table.layout.partition_columns().iter();
        let partitions: Vec<FieldRef> =
            partitions.map(|name| Arc::new(Field::new(*name, DataType::Utf8, false))).collect();
        let schema = tables::schema_of(&(table.columns)());
        let schema = TableSchema::builder(schema).with_table_partition_cols(partitions).build();
        LakeTable { lake: lake.clone(), registry: registry.clone(), table, schema, read: read.clone() }
    }

    /// Returns the objects of the table.
    async fn objects(&self) -> Result<Vec<(WorkUnit, Entry)>> {
        match self.table.layout {
            Layout::Shard => self.published_objects().await,
            _ => Ok(self.lake.objects(self.table).await?.into_iter().collect()),
        }
    }

    /// Returns the files to read, each with the values of the partition columns.
    fn files(&self, objects: Vec<(WorkUnit, Entry)>) -> Result<Vec<PartitionedFile>> {
        self.read.add(objects.iter().map(|(_, object)| object.key.clone()));
        let file = |(unit, object): (WorkUnit, Entry)| {
            if object.size == 0 {
                return Err(Error::corrupt("an object of the lake is empty: 0 bytes").with("object", object.key));
            }
            let partition = unit.partition().into_iter().map(|value| ScalarValue::Utf8(Some(value))).collect();
            Ok(PartitionedFile::new(object.key, object.size).with_partition_values(partition))
        };
        objects.into_iter().map(file).collect()
    }

    /// Checks the footers of objects, because DataFusion allocates memory for whatever they claim.
    async fn check_footers(&self, objects: &[(WorkUnit, Entry)]) -> Result<()> {
        let objects: Vec<_> = objects.iter().filter(|(_, object)| object.size > 0).collect();
        let checks: Vec<_> = objects.into_iter().map(|(_, object)| self.lake.footer(object)).collect();
        let mut checks = stream::iter(checks).buffer_unordered(SMALL_REQUESTS);
        while let Some(footer) = checks.next().await {
            footer
                .map_err(|cause| Error::new(cause.kind(), "an object of the lake can't be read").with_source(cause))?;
        }
        Ok(())
    }

    /// Removes the objects whose partition has no row that passes the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr], objects: &mut Vec<(WorkUnit, Entry)>) -> QueryResult<()> {
        let partitions = self.schema.table_partition_cols();
        let is_of_partition = |filter: &&Expr| {
            let is_partition = |column: &Column| partitions.find(&column.name).is_some();
            !filter.is_volatile() && filter.column_refs().into_iter().all(is_partition)
        };
        let schema = Arc::new(Schema::new(partitions.clone()));
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        for filter in filters.iter().filter(is_of_partition) {
            let values: Vec<_> = objects.iter().map(|(unit, _)| unit.partition()).collect();
            let column = |index: usize| values.iter().map(|values| values.get(index)).collect::<StringArray>();
            let columns = (0..partitions.len()).map(|index| Arc::new(column(index)) as ArrayRef).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(objects.len()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
            let passes =
                state.create_physical_expr(filter.clone(), &df_schema).and_then(|filter| filter.evaluate(&batch));
            // A filter that can't be evaluated here excludes nothing: a subquery, or a fault that the query reports.
            let Ok(passes) = passes.and_then(|passes| passes.into_array(objects.len())) else { continue };
            let mut passes = passes.as_boolean().iter();
            objects.retain(|_| passes.next().flatten().unwrap_or(false));
        }
        Ok(())
    }

    /// Returns the objects of the published sets of features.
    async fn published_objects(&self) -> Result<Vec<(WorkUnit, Entry)>> {
        let list = |FeatureSet { as_of, folder }: FeatureSet| async move {
            let prefix = format!("{folder}/");
            let entries = self.lake.store().list(&prefix).await?;
            // The name of an object tells its shard, in whatever folder the set is.
            let unit =
                |key: &str| WorkUnit::from_path(self.table, &format!("as_of={as_of}/{}", key.strip_prefix(&prefix)?));
            let set: Vec<_> = entries.into_iter().filter_map(|entry| Some((unit(&entry.key)?, entry))).collect();
            if set.is_empty() {
                return Err(Error::corrupt("a published set of features has no objects").with("as_of", as_of));
            }
            Ok(set)
        };
        let sets = published_sets(&self.registry, self.table).await?;
        Ok(in_order(sets, SMALL_REQUESTS, list).await?.into_iter().flatten().collect())
    }
}

/// Returns the published sets that a table of features shows.
async fn published_sets(registry: &Registry, table: &Table) -> Result<Vec<FeatureSet>> {
    match *table == FEATURES_PUBLISHED {
        true => Ok(registry.newest_set().await?.into_iter().collect()),
        false => registry.published_sets().await,
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        // A filter excludes objects and pages, but not every row.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let external = |error: Error| DataFusionError::External(Box::new(error));
        let mut objects = self.objects().await.map_err(external)?;
        self.prune(state, filters, &mut objects)?;
        self.check_footers(&objects).await.map_err(external)?;
        let files = self.files(objects).map_err(external)?;
        if files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let format = ParquetFormat::default();
        let source = format.file_source(self.schema.clone());
        let config = FileScanConfigBuilder::new(store_url().map_err(external)?, source)
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await
    }
}
