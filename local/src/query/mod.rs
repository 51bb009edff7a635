//! Runs SQL queries over a local lake with DataFusion. Tables have their database names.

mod arithmetic;
mod completion;
mod functions;
mod prompt;
mod rows;
mod session;
mod statements;
mod sum;
mod table;

use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::lake::parquet;
use defi_shared::tables::FEATURES_PUBLISHED;
use futures::FutureExt;

use crate::config::configuration;
use crate::lake::LakeOptions;
use crate::output::RowFormat;
pub use prompt::prompt;
use session::{Session, tables_named};
use table::ObjectsRead;

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

/// Runs one query and writes the result to a file, or to standard output if `output` is `None`.
///
/// # Errors
/// `BadInput` if there is no lake, the SQL can't be read, the query can't be executed, or the file can't be written;
/// `CorruptData` with the key of the object if an object that the query reads is damaged.
pub async fn query(sql: Sql, args: &LakeOptions, format: RowFormat, output: Option<&Path>) -> Result<()> {
    let lake = crate::lake::in_folder(args)?;
    let sql = sql.read()?;
    let session = open(&lake, args.env.name()).await?;
    answer(&lake, args.env.name(), &session, &sql, format, output).await
}

/// Runs one query of a session.
async fn answer(
    lake: &Lake,
    env: &str,
    session: &Session,
    sql: &str,
    format: RowFormat,
    output: Option<&Path>,
) -> Result<()> {
    session.read.clear();
    // The decoder panics on some damaged objects.
    match AssertUnwindSafe(execute(&session.context, sql, format, output)).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Output(error))) => Err(error),
        Ok(Err(Failure::Query(cause))) => Err(query_error(lake, env, &session.read, cause).await),
        Err(_) => Err(match first_damaged(lake, &session.read).await {
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

async fn execute(context: &SessionContext, sql: &str, format: RowFormat, output: Option<&Path>) -> Result<(), Failure> {
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let answer = context.sql_with_options(sql, read_only).await?;
    let schema = Arc::clone(answer.schema().inner());
    rows::write(schema, answer.execute_stream().await?, format, output).await
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
    let cause = cause.split(OWN_FAULT).next().unwrap_or_default();
    // All columns of all tables of a query would follow.
    let (cause, columns) = cause.split_once("Valid fields are ").unwrap_or((cause, ""));
    let cause = cause.trim_end().to_owned();
    let hint = if !columns.is_empty() {
        "correct the SQL; defi query 'describe TABLE' lists the columns of a table".to_owned()
    } else if let Some((_, table)) = cause.split_once("datafusion.public.") {
        let name = table.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        format!("write the table with its database, such as {}; defi tables lists them", full_name(name, env))
    } else if cause.contains("Cannot cast string") {
        "write days in quotes; cast columns of the raw layer, which are text, or use the stage layer".to_owned()
    } else {
        "correct the SQL; defi tables lists the tables".to_owned()
    };
    Error::bad_input("the query can't be executed").with_source(cause).with_hint(hint)
}

/// Returns a table of this name, or else that of the features, with its database. Of the layers, the last one has the
/// tables for people.
fn full_name(name: &str, env: &str) -> String {
    let table = tables_named(name).last().unwrap_or(&FEATURES_PUBLISHED);
    format!("{}.{}", table.database(env), table.name)
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

/// Returns a session with every registered table and view of a lake in a folder, named `db_{layer}_{env}.{table}`.
///
/// # Errors
/// The errors of the catalog, of the configuration and of DataFusion.
pub async fn session(lake: &Lake, env: &str) -> Result<SessionContext> {
    Ok(open(lake, env).await?.context)
}

async fn open(lake: &Lake, env: &str) -> Result<Session> {
    Session::open(lake, env, &configuration()?.chain.wrapped_ether).await
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
