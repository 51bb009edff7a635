//! The SQL statements, with values as literals.
//!
//! Transpose replaces `{{name}}` by a parameter. Whether the placeholder must be quoted depends on whether the server
//! binds the value or inserts its text, and the documentation and the behaviour have not always agreed. Literals work
//! in either case, and in any PostgreSQL. Only timestamps, integers and names of safe characters become literals: no
//! other string from a response or a user is ever part of a statement.

use std::ops::RangeInclusive;

use super::EventsQuery;
use super::paging::PageRequest;
use super::rows::{EVENT_COLUMNS, timestamp_from_seconds};
use crate::error::{Error, Result};

/// Returns the statement for one page of a query's events.
pub(super) fn events(query: &EventsQuery, request: &PageRequest, rows: usize) -> Result<String> {
    let columns = EVENT_COLUMNS.join(", ");
    let (selection, condition) = (selection(query)?, condition(request));
    // With equality on the leading columns of the index and an order by the others, a page is a range of the index, in
    // order.
    Ok(format!(
        "SELECT {columns} FROM ethereum.lending_events WHERE {selection}{condition} \
         ORDER BY timestamp, log_index LIMIT {rows}"
    ))
}

/// Returns the statement for the number of events that match any of the queries, which must be disjoint.
pub(super) fn count(queries: &[EventsQuery]) -> Result<String> {
    let selections = queries.iter().map(|query| Ok(format!("({})", selection(query)?))).collect::<Result<Vec<_>>>()?;
    let selections = if selections.is_empty() { "1 = 0".to_owned() } else { selections.join(" OR ") };
    Ok(format!("SELECT COUNT(*) AS count FROM ethereum.lending_events WHERE {selections}"))
}

/// Returns the condition that selects the events of a query.
fn selection(query: &EventsQuery) -> Result<String> {
    let (protocol_name, contract_version) = (literal(&query.protocol_name)?, literal(&query.contract_version)?);
    let category = literal(&query.category)?;
    let (from, to) = (timestamp_from_seconds(query.from)?, timestamp_from_seconds(query.to)?);
    Ok(format!(
        "protocol_name = {protocol_name} AND contract_version = {contract_version} AND category = {category} \
         AND timestamp >= '{from}' AND timestamp < '{to}'"
    ))
}

fn condition(request: &PageRequest) -> String {
    match request {
        PageRequest::First => String::new(),
        PageRequest::After(key) => format!(" AND (timestamp, log_index) > ('{}', {})", key.time, key.log_index),
        PageRequest::Exactly(key) => format!(" AND timestamp = '{}' AND log_index = {}", key.time, key.log_index),
        PageRequest::WithoutLogIndex(time) => format!(" AND timestamp = '{time}' AND log_index IS NULL"),
    }
}

/// Returns a name as a literal. Only letters, digits, `_`, `-` and `.` are allowed, which are safe under the quoting
/// rules of any server.
fn literal(name: &str) -> Result<String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || !name.bytes().all(safe) {
        return Err(Error::bad_input(format!("{name:?} is not a valid name of a protocol, version or category")));
    }
    Ok(format!("'{name}'"))
}

/// Returns the statement for the first block at or after a time.
pub(super) fn first_block(at_or_after: i64) -> Result<String> {
    let at_or_after = timestamp_from_seconds(at_or_after)?;
    Ok(format!(
        "SELECT block_number, timestamp, block_hash FROM ethereum.blocks \
         WHERE timestamp >= '{at_or_after}' ORDER BY timestamp LIMIT 1"
    ))
}

/// Returns the statement for the block with a number, whose time is in a range: the table has no index of numbers.
pub(super) fn block(number: u64, times: RangeInclusive<i64>) -> Result<String> {
    let (from, to) = (timestamp_from_seconds(*times.start())?, timestamp_from_seconds(*times.end())?);
    Ok(format!(
        "SELECT block_number, timestamp, block_hash FROM ethereum.blocks \
         WHERE timestamp >= '{from}' AND timestamp <= '{to}' AND block_number = {number} ORDER BY timestamp LIMIT 1"
    ))
}

/// Returns the statement for the newest block.
pub(super) fn head_block() -> String {
    "SELECT block_number, timestamp, block_hash FROM ethereum.blocks ORDER BY timestamp DESC LIMIT 1".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::rows::EventKey;
    use super::*;
    use crate::domain::parse_time;

    fn query() -> EventsQuery {
        EventsQuery {
            protocol_name: "aave".to_owned(),
            contract_version: "v2".to_owned(),
            category: "borrow".to_owned(),
            from: 1_672_531_200,
            to: 1_672_617_600,
        }
    }

    #[test]
    fn a_page_of_events_is_an_index_range() {
        let key = EventKey { time: parse_time("2023-01-01T00:00:11Z").unwrap(), log_index: 7 };
        let statement = events(&query(), &PageRequest::After(key), 10_000).unwrap();
        let (_, rest) = statement.split_once(" FROM ").unwrap();
        assert_eq!(
            rest,
            "ethereum.lending_events WHERE protocol_name = 'aave' AND contract_version = 'v2' \
             AND category = 'borrow' AND timestamp >= '2023-01-01T00:00:00Z' AND timestamp < '2023-01-02T00:00:00Z' \
             AND (timestamp, log_index) > ('2023-01-01T00:00:11Z', 7) \
             ORDER BY timestamp, log_index LIMIT 10000"
        );
    }

    #[test]
    fn the_events_of_several_protocols_are_counted_in_one_statement() {
        let compound = EventsQuery { protocol_name: "compound".to_owned(), ..query() };
        let condition = |protocol| {
            format!(
                "(protocol_name = '{protocol}' AND contract_version = 'v2' AND category = 'borrow' \
                 AND timestamp >= '2023-01-01T00:00:00Z' AND timestamp < '2023-01-02T00:00:00Z')"
            )
        };
        let (aave, other) = (condition("aave"), condition("compound"));
        let expected = format!("SELECT COUNT(*) AS count FROM ethereum.lending_events WHERE {aave} OR {other}");
        assert_eq!(count(&[query(), compound]).unwrap(), expected);
    }

    #[test]
    fn rejects_names_with_unsafe_characters() {
        for name in ["", "o'hara", "x; --", "a\\'", "{{key}}", "a b", "ä"] {
            let query = EventsQuery { protocol_name: name.to_owned(), ..query() };
            assert_eq!(events(&query, &PageRequest::First, 10).unwrap_err().kind(), crate::Kind::BadInput, "{name}");
        }
    }
}
