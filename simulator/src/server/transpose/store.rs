//! The tables behind the SQL API, in SQLite.
//!
//! SQLite is no PostgreSQL; what matters to a client is the same for plain queries, with these differences:
//! - Timestamps are text of the form `2023-01-01T00:00:11Z`, which sorts by time.
//! - A missing value in a column that pages go by (`block_number`, `log_index`, `timestamp`) is stored as a marker that
//!   sorts last, as PostgreSQL sorts nulls, and comes out as null. It compares as the largest value, not as unknown. In
//!   all other columns null is null; sorting by one of those puts nulls first.
//! - `block_number` and `log_index` are integers, also where a recording or a parameter writes them as text. All other
//!   values come out as they went in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use defi_shared::error::{Error, Result};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, ErrorCode, Row, Statement, params_from_iter};
use serde_json::{Map, Value};

use super::sql;
use crate::recording::Recording;
use crate::timeline::{Timeline, block_hash};

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
/// The columns that pages go by.
const KEY_COLUMNS: [&str; 3] = ["block_number", "log_index", "timestamp"];
/// How many of SQLite's steps there are between two looks at the clock.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// What a query asks for besides its SQL.
pub(super) struct Limits {
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

/// Why there is no page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The query is wrong.
    Query(String),
    /// The time was over before the first row.
    Timeout,
}

/// The tables. One connection is enough: a page takes milliseconds.
pub(super) struct Store(Mutex<Connection>);

impl Store {
    pub(super) fn new(recording: &Recording, timeline: &Timeline) -> Result<Store> {
        let fill = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open_in_memory()?;
            create_tables(&connection)?;
            insert_events(&mut connection, &recording.events)?;
            insert_blocks(&mut connection, timeline)?;
            connection.authorizer(Some(authorize))?;
            Ok(connection)
        };
        let connection = fill().map_err(|error| Error::internal("the SQL tables can't be filled").because(error))?;
        Ok(Store(Mutex::new(connection)))
    }

    /// Runs one query. Takes as long as the query takes: not for an async thread.
    pub(super) fn run(&self, sql: &str, parameters: &Map<String, Value>, limits: &Limits) -> Result<Page, Refusal> {
        let prepared = sql::prepare(sql).map_err(Refusal::Query)?;
        check_names(&prepared.names, parameters)?;
        // A panic in another query leaves nothing half done here: all of them only read.
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + limits.timeout;
        let late = move || Instant::now() > deadline;
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(late)).map_err(query_error)?;
        let mut statement = connection.prepare(&prepared.sql).map_err(query_error)?;
        if statement.column_count() == 0 {
            return Err(Refusal::Query("only SELECT statements are allowed".to_owned()));
        }
        bind(&mut statement, &prepared.names, parameters)?;
        collect(&mut statement, limits)
    }
}

fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    let columns = EVENT_COLUMNS.map(|column| match column {
        "block_number" | "log_index" => format!("{column} INTEGER"),
        // Without a type, values come out as they went in.
        other => other.to_owned(),
    });
    connection.execute_batch(&format!(
        "ATTACH ':memory:' AS ethereum;
         CREATE TABLE ethereum.lending_events ({});
         CREATE TABLE ethereum.blocks (block_number INTEGER, timestamp, block_hash);
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
        let places = vec!["?"; EVENT_COLUMNS.len()].join(", ");
        let mut insert = transaction.prepare(&format!("INSERT INTO ethereum.lending_events VALUES ({places})"))?;
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

/// Text, integers, floats and nulls as they are; all other JSON, and a missing key, as a blob that holds the JSON.
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

/// Reading the two tables, and nothing else.
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

fn check_names(names: &[String], parameters: &Map<String, Value>) -> Result<(), Refusal> {
    if let Some(name) = names.iter().find(|name| !parameters.contains_key(*name)) {
        return Err(Refusal::Query(format!("missing parameter: {name}")));
    }
    match parameters.keys().find(|name| !names.contains(name)) {
        Some(name) => Err(Refusal::Query(format!("unknown parameter: {name}"))),
        None => Ok(()),
    }
}

fn bind(statement: &mut Statement<'_>, names: &[String], parameters: &Map<String, Value>) -> Result<(), Refusal> {
    if statement.parameter_count() != names.len() {
        return Err(Refusal::Query("parameters are written as {{name}}".to_owned()));
    }
    for name in names {
        let value = parameters.get(name).unwrap_or(&Value::Null);
        let value = match value {
            Value::Array(_) | Value::Object(_) => return Err(Refusal::Query(format!("invalid parameter: {name}"))),
            Value::Bool(flag) => ToSqlOutput::Owned(SqlValue::Integer(i64::from(*flag))),
            scalar => to_sql("", scalar),
        };
        let index = statement.parameter_index(&format!(":{name}")).map_err(query_error)?.unwrap_or(0);
        statement.raw_bind_parameter(index, value).map_err(query_error)?;
    }
    Ok(())
}

/// Takes rows until the page is full or the time is over. The first row goes out whatever its size, or else a client
/// could never get past it.
fn collect(statement: &mut Statement<'_>, limits: &Limits) -> Result<Page, Refusal> {
    let keys: Vec<Vec<u8>> = statement.column_names().map(|name| Value::from(name).to_string().into_bytes()).collect();
    let mut page = Page::default();
    let mut rows = statement.raw_query();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(page),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                page.truncated = true;
                return if page.count == 0 { Err(Refusal::Timeout) } else { Ok(page) };
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
            // Large numbers are kept as text. Without the option they go out as they stand, and lose their last digits in
            // any reader that takes a JSON number for a float.
            ValueRef::Text(text) if !stringify_numbers && is_integer(text) => json.extend(text),
            ValueRef::Text(text) => json.extend(Value::from(String::from_utf8_lossy(text)).to_string().as_bytes()),
            ValueRef::Blob(stored) => json.extend(stored),
        }
    }
    json.push(b'}');
    Ok(json)
}

/// Whether a text could be a JSON number: digits without a leading zero.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let starts_well = digits == b"0" || digits.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    starts_well && digits.iter().all(u8::is_ascii_digit)
}

fn query_error(error: rusqlite::Error) -> Refusal {
    Refusal::Query(match error {
        // Without the SQL, which is not quite what the caller wrote.
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
