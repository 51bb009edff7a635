//! The tables and views of a lake as a query sees them.

use std::sync::Arc;

use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::prelude::{SessionConfig, SessionContext};
use defi_shared::catalog::{self, CatalogColumn, catalog_table, catalog_view};
use defi_shared::domain::Address;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::tables::{self, Layer, TABLES, Table, VIEWS, View};

use super::arithmetic::CheckArithmetic;
use super::functions;
use super::sum::CheckedSum;
use super::table::{LakeTable, ObjectsRead, store_url};

/// A session, and what its queries read.
pub(super) struct Session {
    pub(super) context: SessionContext,
    /// The objects that its queries read.
    pub(super) read: ObjectsRead,
    /// Its tables and views.
    pub(super) relations: Vec<Relation>,
}

/// A table or a view.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) database: String,
    pub(super) name: &'static str,
    pub(super) description: String,
    /// The columns, with those of the partition.
    pub(super) columns: Vec<CatalogColumn>,
}

impl Relation {
    /// Returns the name with the database.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// Returns the shortest name by which a query can refer to it.
    pub(super) fn short_name(&self) -> String {
        if is_unique(self.name) { self.name.to_owned() } else { self.full_name() }
    }

    fn of_table(table: &Table, env: &str) -> Result<Self> {
        let entry = catalog_table(table)?;
        let partition = table.layout.partition_columns().iter().map(|name| CatalogColumn {
            name: (*name).to_owned(),
            data_type: "string".to_owned(),
            comment: "Partition.".to_owned(),
        });
        Ok(Relation {
            database: table.database(env),
            name: table.name,
            description: entry.description,
            columns: entry.columns.into_iter().chain(partition).collect(),
        })
    }

    fn of_view(view: &View, env: &str, wrapped_ether: &Address) -> Result<(Self, String)> {
        let entry = catalog_view(view, env, wrapped_ether)?;
        let (database, name) = (view.database(env), view.name);
        Ok((Relation { database, name, description: entry.description, columns: entry.columns }, entry.sql))
    }
}

/// Whether a table or view can be named without its database: no other layer has a table of that name, whichever tables
/// a lake has so far.
fn is_unique(name: &str) -> bool {
    tables_named(name).count() <= 1
}

/// Returns the tables of a name, of all layers.
pub(super) fn tables_named(name: &str) -> impl Iterator<Item = &'static Table> {
    TABLES.iter().copied().filter(move |table| table.name == name)
}

impl Session {
    /// Opens a session with every registered table of a lake in a folder, named `db_{layer}_{env}.{table}`, and the views
    /// whose tables are registered.
    ///
    /// # Errors
    /// The errors of the catalog and of DataFusion.
    pub(super) async fn open(lake: &Lake, env: &str, wrapped_ether: &Address) -> Result<Session> {
        let context = new_context(lake)?;
        let catalog = context.catalog("datafusion").ok_or_else(|| Error::internal("the session has no catalog"))?;
        for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
            let schema = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(&tables::database(layer, env), schema).map_err(unopened)?;
        }
        let mut session = Session { context, read: ObjectsRead::default(), relations: Vec::new() };
        let registry = catalog::registry_in_lake(lake, env);
        for table in TABLES {
            if registry.is_registered(table).await? {
                let provider = LakeTable::new(lake, &registry, table, &session.read);
                session.register(Relation::of_table(table, env)?, Arc::new(provider)).map_err(unopened)?;
            }
        }
        for view in VIEWS {
            if view.tables().all(|table| session.has(&table.database(env), table.name)) {
                let (relation, sql) = Relation::of_view(view, env, wrapped_ether)?;
                let plan = session.context.state().create_logical_plan(&sql).await.map_err(unopened)?;
                session.register(relation, Arc::new(ViewTable::new(plan, Some(sql)))).map_err(unopened)?;
            }
        }
        Ok(session)
    }

    fn has(&self, database: &str, name: &str) -> bool {
        self.relations.iter().any(|relation| relation.database == database && relation.name == name)
    }

    /// Adds a table or view, under its full name and, if that is unique, under its name alone.
    fn register(&mut self, relation: Relation, provider: Arc<dyn TableProvider>) -> Result<(), DataFusionError> {
        self.context.register_table(relation.full_name(), Arc::clone(&provider))?;
        if is_unique(relation.name) {
            self.context.register_table(relation.name, provider)?;
        }
        self.relations.push(relation);
        Ok(())
    }
}

/// Returns a context whose object store is the lake. Integers and sums that overflow are an error in it.
fn new_context(lake: &Lake) -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_information_schema(true)
        // Text has one type, which every reader of Parquet knows.
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    let context = SessionContext::new_with_config(config);
    let folder = lake.store().location("");
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|cause| {
        Error::bad_input("the lake's folder can't be opened").with("path", &folder).with_source(cause)
    })?;
    context.register_object_store(store_url()?.as_ref(), Arc::new(store));
    context.register_udaf(AggregateUDF::from(CheckedSum::default()));
    functions::register(&context);
    context.state_ref().write().register_function_rewrite(Arc::new(CheckArithmetic)).map_err(unopened)?;
    Ok(context)
}

fn unopened(cause: DataFusionError) -> Error {
    Error::internal("the tables of the lake can't be opened for a query").with_source(cause.strip_backtrace())
}
