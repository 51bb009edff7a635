//! Runs SQL queries over a local lake with DataFusion. Tables have their database names.

mod arithmetic;
mod rows;
mod sum;
mod table;

use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::ArrowError;
use datafusion::catalog::MemorySchemaProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::prelude::{SessionConfig, SessionContext};
use defi_shared::catalog;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::lake::parquet;
use defi_shared::tables::{self, FEATURES_PUBLISHED, Layer, TABLES};
use futures::FutureExt;

use crate::lake::LakeOptions;
use crate::output::Format;
use arithmetic::CheckArithmetic;
use sum::CheckedSum;
use table::{LakeTable, ObjectsRead};

/// Where the SQL of a query comes from.
#[derive(Debug)]
pub enum Sql {
    /// The text itself.
    Text(String),
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Sql {
    /// Reads the SQL, without the byte order mark that some editors write before it.
    ///
    /// # Errors
    /// `BadInput` if it can't be read or is not UTF-8.
    fn read(self) -> Result<String> {
        let mut text = String::new();
        let text = match self {
            Sql::Text(sql) => sql,
            Sql::Stdin => std::io::stdin()
                .read_to_string(&mut text)
                .map(|_| text)
                .map_err(|cause| Error::bad_input("the SQL can't be read from standard input").with_source(cause))?,
            Sql::File(path) => std::fs::read_to_string(&path).map_err(|cause| {
                Error::bad_input("the file with the SQL can't be read").with("path", path.display()).with_source(cause)
            })?,
        };
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }
}

/// Runs one query and writes the result to standard output.
///
/// # Errors
/// `BadInput` if there is no lake, the SQL can't be read, or the query can't be executed; `CorruptData` with the key of
/// the object if an object that the query reads is damaged.
pub async fn query(sql: Sql, args: &LakeOptions, format: Format) -> Result<()> {
    let lake = crate::lake::in_folder(args)?;
    let sql = sql.read()?;
    let (session, read) = open(&lake, args.env.name()).await?;
    // The decoder panics on some damaged objects.
    match AssertUnwindSafe(answer(&session, &sql, format)).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Output(error))) => Err(error),
        Ok(Err(Failure::Query(cause))) => Err(query_error(&lake, args.env.name(), &read, cause).await),
        Err(_) => Err(match first_damaged(&lake, &read).await {
            Some(error) => error,
            None => Error::internal("the query panicked").with_hint("please report this as a defect, with the query"),
        }),
    }
}

/// Why a query has no answer.
enum Failure {
    Query(DataFusionError),
    Output(Error),
}

impl From<DataFusionError> for Failure {
    fn from(cause: DataFusionError) -> Self {
        Failure::Query(cause)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Output(error)
    }
}

async fn answer(session: &SessionContext, sql: &str, format: Format) -> Result<(), Failure> {
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let answer = session.sql_with_options(sql, read_only).await?;
    let schema = Arc::clone(answer.schema().inner());
    rows::write(schema, answer.execute_stream().await?, format).await
}

/// Returns the error for a failed query.
async fn query_error(lake: &Lake, env: &str, read: &ObjectsRead, cause: DataFusionError) -> Error {
    let cause = match own_error(cause) {
        Ok(error) => return error,
        Err(cause) => cause,
    };
    if is_about_an_object(&cause) {
        let damaged = first_damaged(lake, read).await;
        return damaged.unwrap_or_else(|| Error::corrupt("an object of the lake can't be read").with_source(cause));
    }
    invalid_query(&cause, env)
}

/// What DataFusion adds to some faults of a query: that they may be faults of its own.
const OWN_FAULT: &str = "This issue was likely caused by a bug in DataFusion";

fn invalid_query(cause: &DataFusionError, env: &str) -> Error {
    let cause = cause.strip_backtrace();
    let cause = cause.split(OWN_FAULT).next().unwrap_or_default().trim_end().to_owned();
    let hint = if cause.contains("datafusion.public.") {
        let table = format!("{}.{}", FEATURES_PUBLISHED.database(env), FEATURES_PUBLISHED.name);
        format!("write the table with its database, such as {table}; defi tables lists them")
    } else if cause.contains("Cannot cast string") {
        "write days in quotes; cast columns of the raw layer, which are text, or use the stage layer".to_owned()
    } else {
        "correct the SQL; defi tables lists the tables".to_owned()
    };
    Error::bad_input("the query can't be executed").with_source(cause).with_hint(hint)
}

/// Returns the error of this project that an error of DataFusion wraps.
fn own_error(cause: DataFusionError) -> Result<Error, DataFusionError> {
    match cause {
        DataFusionError::External(error) => error.downcast().map(|error| *error).map_err(DataFusionError::External),
        DataFusionError::Context(text, inner) => {
            own_error(*inner).map_err(|inner| DataFusionError::Context(text, Box::new(inner)))
        }
        other => Err(other),
    }
}

/// Whether an error is about the bytes of an object, and not about the SQL: a cast, a division by zero, an overflow or a
/// regular expression fails with an [`ArrowError`], too.
fn is_about_an_object(cause: &DataFusionError) -> bool {
    match cause.find_root() {
        DataFusionError::ParquetError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::ExecutionJoin(_) => true,
        DataFusionError::ArrowError(cause, _) => {
            matches!(**cause, ArrowError::ParquetError(_) | ArrowError::IoError(..))
        }
        _ => false,
    }
}

/// Finds the first object that a query reads and that is damaged. DataFusion's errors do not name it.
async fn first_damaged(lake: &Lake, read: &ObjectsRead) -> Option<Error> {
    for key in read.keys() {
        let verified = match lake.store().get(&key).await {
            Ok(Some(bytes)) => defi_shared::cpu::spawn_cpu(move || parquet::verify(bytes)).await,
            Ok(None) => Err(Error::corrupt("it was deleted during the query")),
            Err(error) => Err(error),
        };
        if let Err(cause) = verified {
            return Some(Error::corrupt("an object of the lake can't be read").with("object", key).with_source(cause));
        }
    }
    None
}

/// Returns a session with every registered table of a lake in a folder, named `db_{layer}_{env}.{table}`.
///
/// # Errors
/// The errors of the catalog and of DataFusion.
pub async fn session(lake: &Lake, env: &str) -> Result<SessionContext> {
    Ok(open(lake, env).await?.0)
}

/// Returns a session, and the objects that its queries read.
async fn open(lake: &Lake, env: &str) -> Result<(SessionContext, ObjectsRead)> {
    let (session, read) = (new_session(lake, env)?, ObjectsRead::default());
    let catalog = session.catalog("datafusion").ok_or_else(|| Error::internal("the session has no catalog"))?;
    for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
        let schema = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(&tables::database(layer, env), schema).map_err(|cause| invalid_query(&cause, env))?;
    }
    let registry = catalog::registry_in_lake(lake, env);
    for table in TABLES {
        if registry.is_registered(table).await? {
            let provider = LakeTable::new(lake, &registry, table, &read);
            let name = format!("{}.{}", table.database(env), table.name);
            session.register_table(name.as_str(), Arc::new(provider)).map_err(|cause| invalid_query(&cause, env))?;
        }
    }
    Ok((session, read))
}

/// Returns a session whose object store is the lake. Integers and sums that overflow are an error in it.
fn new_session(lake: &Lake, env: &str) -> Result<SessionContext> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
    let folder = lake.store().location("");
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|cause| {
        Error::bad_input("the lake's folder can't be opened").with("path", &folder).with_source(cause)
    })?;
    session.register_object_store(table::store_url()?.as_ref(), Arc::new(store));
    session.register_udaf(AggregateUDF::from(CheckedSum::default()));
    session
        .state_ref()
        .write()
        .register_function_rewrite(Arc::new(CheckArithmetic))
        .map_err(|cause| invalid_query(&cause, env))?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_asker_are_not_about_an_object() {
        for (arrow, expected) in [
            (ArrowError::DivideByZero, false),
            (ArrowError::CastError("x".to_owned()), false),
            (ArrowError::ArithmeticOverflow("x".to_owned()), false),
            (ArrowError::ComputeError("x".to_owned()), false),
            (ArrowError::ParquetError("x".to_owned()), true),
        ] {
            let cause = DataFusionError::from(arrow).context("while reading");
            assert_eq!(is_about_an_object(&cause), expected, "{cause}");
        }
    }
}
