//! The tables behind the SQL API, in SQLite.
//!
//! For simple queries SQLite behaves like PostgreSQL, with these differences:
//! - Timestamps are text in the form of the recording, compared and sorted by time. Text that is not a time sorts last.
//! - A missing value in a key column (`block_number`, `log_index`, `timestamp`) is stored as a marker that sorts last,
//!   as nulls do in PostgreSQL, and is returned as null. It compares as the largest value, not as unknown. In all other
//!   columns null is stored as null, which sorts first.
//! - `block_number` and `log_index` are integers, even if a recording or a parameter has them as text. All other values
//!   are returned as they were inserted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use defi_shared::error::{Error, Result};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, ErrorCode, Row, Statement, params_from_iter};
use serde_json::{Map, Value};

use super::sql;
use crate::recording::Recording;
use crate::timeline::{Timeline, block_hash};
use crate::times::compare_times;

const EVENT_COLUMNS: [&str; 17] = [
    "block_number",
    "log_index",
    "transaction_hash",
    "timestamp",
    "protocol_name",
    "contract_version",
    "market_address",
    "token_address",
    "token_id",
    "category",
    "account_address",
    "quantity",
    "sender_address",
    "liquidator_address",
    "quantity_liquidated",
    "liquidated_token_address",
    "metadata",
];
/// The columns by which clients page.
const KEY_COLUMNS: [&str; 3] = ["block_number", "log_index", "timestamp"];
/// The number of SQLite's virtual machine instructions between two checks of the deadline.
const STEPS_PER_DEADLINE_CHECK: i32 = 10_000;

/// The limits of SQLite: the length of a value, of a row and of a statement, the number of columns, terms and
/// instructions, and the length of a pattern. A single function, such as `hex(zeroblob(1000000000))`, ends before the
/// deadline is checked again.
const SQL_LIMITS: [(Limit, i32); 8] = [
    (Limit::SQLITE_LIMIT_LENGTH, 4 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 256 << 10),
    (Limit::SQLITE_LIMIT_COLUMN, 64),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 64),
    (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// The limits and options of a query.
pub(super) struct QueryLimits {
    pub(super) page_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) stringify_numbers: bool,
}

/// Rows as JSON objects, separated by commas.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub(super) rows: Vec<u8>,
    pub(super) count: usize,
    pub(super) truncated: bool,
}

/// The reason why a query has no page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// The query is invalid.
    Invalid(String),
    /// The timeout expired before the first row.
    Timeout,
}

/// The tables. All queries share one connection, because a page takes milliseconds.
pub(super) struct Store(Mutex<Connection>);

impl Store {
    pub(super) fn new(recording: &Recording, timeline: &Timeline) -> Result<Store> {
        let fill = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open_in_memory()?;
            connection.create_collation("instant", compare_times)?;
            create_tables(&connection)?;
            insert_events(&mut connection, &recording.events)?;
            insert_blocks(&mut connection, timeline)?;
            connection.authorizer(Some(authorize))?;
            SQL_LIMITS.into_iter().try_for_each(|(limit, value)| connection.set_limit(limit, value).map(drop))?;
            Ok(connection)
        };
        let connection = fill().map_err(|error| Error::internal("cannot fill the SQL tables").with_source(error))?;
        Ok(Store(Mutex::new(connection)))
    }

    /// Runs a query. It blocks, so it must not be called on an async thread.
    pub(super) fn run(
        &self,
        sql: &str,
        parameters: &Map<String, Value>,
        limits: &QueryLimits,
    ) -> Result<Page, QueryError> {
        let prepared = sql::prepare(sql).map_err(QueryError::Invalid)?;
        check_names(&prepared.names, parameters)?;
        let deadline = Instant::now() + limits.timeout;
        let is_late = move || Instant::now() > deadline;
        // A panic in another query cannot leave the tables inconsistent, because queries only read.
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_late() {
            return Err(QueryError::Timeout);
        }
        connection.progress_handler(STEPS_PER_DEADLINE_CHECK, Some(is_late)).map_err(query_error)?;
        let mut statement = connection.prepare(&prepared.sql).map_err(query_error)?;
        if statement.column_count() == 0 {
            return Err(QueryError::Invalid("only SELECT statements are allowed".to_owned()));
        }
        bind(&mut statement, &prepared.names, parameters)?;
        collect(&mut statement, limits)
    }
}

fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    let columns = EVENT_COLUMNS.map(|column| match column {
        "block_number" | "log_index" => format!("{column} INTEGER"),
        "timestamp" => format!("{column} TEXT COLLATE instant"),
        // Without a type, values are returned as they were inserted.
        other => other.to_owned(),
    });
    connection.execute_batch(&format!(
        "ATTACH ':memory:' AS ethereum;
         CREATE TABLE ethereum.lending_events ({});
         CREATE TABLE ethereum.blocks (block_number INTEGER, timestamp TEXT COLLATE instant, block_hash);
         CREATE INDEX ethereum.events_by_time
             ON lending_events (protocol_name, contract_version, timestamp, log_index);
         CREATE INDEX ethereum.blocks_by_time ON blocks (timestamp);
         CREATE INDEX ethereum.blocks_by_number ON blocks (block_number);",
        columns.join(", ")
    ))
}

fn insert_events(connection: &mut Connection, events: &[Map<String, Value>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let placeholders = vec!["?"; EVENT_COLUMNS.len()].join(", ");
        let mut insert =
            transaction.prepare(&format!("INSERT INTO ethereum.lending_events VALUES ({placeholders})"))?;
        for event in events {
            let values = EVENT_COLUMNS.iter().map(|column| to_sql(column, event.get(*column).unwrap_or(&Value::Null)));
            insert.execute(params_from_iter(values))?;
        }
    }
    transaction.commit()
}

fn insert_blocks(connection: &mut Connection, timeline: &Timeline) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let iso = "strftime('%Y-%m-%dT%H:%M:%SZ', ?2, 'unixepoch')";
        let mut insert = transaction.prepare(&format!("INSERT INTO ethereum.blocks VALUES (?1, {iso}, ?3)"))?;
        for block in timeline.blocks() {
            insert.execute((block.number as i64, block.timestamp, block_hash(block.number)))?;
        }
    }
    transaction.commit()
}

/// Converts a JSON value to an SQL value. Booleans, lists, objects and too large numbers become a blob with the JSON,
/// as does a null in a key column.
fn to_sql<'a>(column: &str, value: &'a Value) -> ToSqlOutput<'a> {
    let json = || ToSqlOutput::Owned(SqlValue::Blob(value.to_string().into_bytes()));
    match value {
        Value::Null if KEY_COLUMNS.contains(&column) => json(),
        Value::Null => ToSqlOutput::Owned(SqlValue::Null),
        Value::String(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ToSqlOutput::Owned(SqlValue::Integer(integer)),
            (None, Some(float)) if number.is_f64() => ToSqlOutput::Owned(SqlValue::Real(float)),
            _ => json(),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => json(),
    }
}

/// Allows reading the two tables, and nothing else.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Function { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Read { table_name, .. } => match (context.database_name, table_name) {
            (Some("ethereum"), "lending_events" | "blocks") => Authorization::Allow,
            // A common table expression or a subquery has no database.
            (None | Some("main"), name) if !name.starts_with("sqlite_") => Authorization::Allow,
            _ => Authorization::Deny,
        },
        _ => Authorization::Deny,
    }
}

fn check_names(names: &[String], parameters: &Map<String, Value>) -> Result<(), QueryError> {
    if let Some(name) = names.iter().find(|name| !parameters.contains_key(*name)) {
        return Err(QueryError::Invalid(format!("missing parameter: {name}")));
    }
    match parameters.keys().find(|name| !names.contains(name)) {
        Some(name) => Err(QueryError::Invalid(format!("unknown parameter: {name}"))),
        None => Ok(()),
    }
}

fn bind(statement: &mut Statement<'_>, names: &[String], parameters: &Map<String, Value>) -> Result<(), QueryError> {
    if statement.parameter_count() != names.len() {
        return Err(QueryError::Invalid("parameters are written as {{name}}".to_owned()));
    }
    for name in names {
        let value = parameters.get(name).unwrap_or(&Value::Null);
        let value = match value {
            Value::Array(_) | Value::Object(_) => {
                return Err(QueryError::Invalid(format!("invalid parameter: {name}")));
            }
            Value::Bool(flag) => ToSqlOutput::Owned(SqlValue::Integer(i64::from(*flag))),
            scalar => to_sql("", scalar),
        };
        let index = statement.parameter_index(&format!(":{name}")).map_err(query_error)?.unwrap_or(0);
        statement.raw_bind_parameter(index, value).map_err(query_error)?;
    }
    Ok(())
}

/// Collects rows until the page is full or the timeout expires. The first row is returned whatever its size, because
/// otherwise a client could never page past it.
fn collect(statement: &mut Statement<'_>, limits: &QueryLimits) -> Result<Page, QueryError> {
    let keys: Vec<Vec<u8>> = statement.column_names().map(|name| Value::from(name).to_string().into_bytes()).collect();
    let mut page = Page::default();
    let mut rows = statement.raw_query();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(page),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                page.truncated = true;
                return if page.count == 0 { Err(QueryError::Timeout) } else { Ok(page) };
            }
            Err(error) => return Err(query_error(error)),
        };
        let json = to_json(row, &keys, limits.stringify_numbers).map_err(query_error)?;
        if page.count > 0 && page.rows.len() + 1 + json.len() > limits.page_bytes {
            page.truncated = true;
            return Ok(page);
        }
        if page.count > 0 {
            page.rows.push(b',');
        }
        page.rows.extend(json);
        page.count += 1;
    }
}

fn to_json(row: &Row<'_>, keys: &[Vec<u8>], stringify_numbers: bool) -> rusqlite::Result<Vec<u8>> {
    let mut json = vec![b'{'];
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend(key);
        json.push(b':');
        match row.get_ref(index)? {
            ValueRef::Null => json.extend(b"null"),
            ValueRef::Integer(integer) => json.extend(integer.to_string().as_bytes()),
            ValueRef::Real(float) => json.extend(Value::from(float).to_string().as_bytes()),
            // Large integers are stored as text. Without the option they are returned as JSON numbers, which lose their
            // last digits in readers that parse them as floats.
            ValueRef::Text(text) if !stringify_numbers && is_integer(text) => json.extend(text),
            ValueRef::Text(text) => json.extend(Value::from(String::from_utf8_lossy(text)).to_string().as_bytes()),
            ValueRef::Blob(stored) => json.extend(stored),
        }
    }
    json.push(b'}');
    Ok(json)
}

/// Returns whether a text is an integer in JSON: digits without a leading zero.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_start_valid = digits == b"0" || digits.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    is_start_valid && digits.iter().all(u8::is_ascii_digit)
}

fn query_error(error: rusqlite::Error) -> QueryError {
    QueryError::Invalid(match error {
        // Without the SQL, which differs from that of the request.
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
