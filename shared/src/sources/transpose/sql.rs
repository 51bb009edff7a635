//! The SQL that is sent. Text that never changes: every value goes as a parameter.

use serde_json::{Map, Value};

use super::EventsQuery;
use super::paging::Ask;
use super::rows::{EVENT_COLUMNS, moment_of};
use crate::error::Result;

/// A statement and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub sql: String,
    pub parameters: Map<String, Value>,
}

/// One page of a query's events.
pub(super) fn events(query: &EventsQuery, ask: &Ask, rows: usize) -> Result<Statement> {
    let columns = EVENT_COLUMNS.join(", ");
    let (condition, cursor) = condition(ask);
    // Equality on the leading columns of the index and an order by the others: the page is a range of it, read in order.
    let sql = format!(
        "SELECT {columns} FROM ethereum.lending_events \
         WHERE protocol_name = {{{{protocol_name}}}} AND contract_version = {{{{contract_version}}}} \
         AND category = {{{{category}}}} AND timestamp >= {{{{from}}}} AND timestamp < {{{{to}}}}{condition} \
         ORDER BY timestamp, log_index LIMIT {rows}"
    );
    let mut parameters = Map::from_iter([
        ("protocol_name".to_owned(), Value::from(query.protocol_name.as_str())),
        ("contract_version".to_owned(), Value::from(query.contract_version.as_str())),
        ("category".to_owned(), Value::from(query.category.as_str())),
        ("from".to_owned(), Value::from(moment_of(query.from)?.to_string())),
        ("to".to_owned(), Value::from(moment_of(query.to)?.to_string())),
    ]);
    parameters.extend(cursor.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(Statement { sql, parameters })
}

fn condition(ask: &Ask) -> (&'static str, Vec<(&'static str, Value)>) {
    match ask {
        Ask::First => ("", vec![]),
        Ask::After(key) => (
            " AND (timestamp, log_index) > ({{after_timestamp}}, {{after_log_index}})",
            vec![("after_timestamp", key.time.to_string().into()), ("after_log_index", key.log_index.into())],
        ),
        Ask::Exactly(key) => (
            " AND timestamp = {{at_timestamp}} AND log_index = {{at_log_index}}",
            vec![("at_timestamp", key.time.to_string().into()), ("at_log_index", key.log_index.into())],
        ),
        Ask::Unplaced(time) => {
            (" AND timestamp = {{at_timestamp}} AND log_index IS NULL", vec![("at_timestamp", time.to_string().into())])
        }
    }
}

/// The first block at or after a time.
pub(super) fn first_block(at_or_after: i64) -> Result<Statement> {
    let sql = "SELECT block_number, timestamp, block_hash FROM ethereum.blocks \
               WHERE timestamp >= {{at_or_after}} ORDER BY timestamp LIMIT 1";
    let at_or_after = Value::from(moment_of(at_or_after)?.to_string());
    Ok(Statement { sql: sql.to_owned(), parameters: Map::from_iter([("at_or_after".to_owned(), at_or_after)]) })
}

/// The newest block.
pub(super) fn head_block() -> Statement {
    let sql = "SELECT block_number, timestamp, block_hash FROM ethereum.blocks ORDER BY timestamp DESC LIMIT 1";
    Statement { sql: sql.to_owned(), parameters: Map::new() }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Key, moment};
    use super::*;

    fn query() -> EventsQuery {
        EventsQuery {
            protocol_name: "o'hara; --".to_owned(),
            contract_version: "v2".to_owned(),
            category: "borrow".to_owned(),
            from: 1_672_531_200,
            to: 1_672_617_600,
        }
    }

    #[test]
    fn a_page_of_events_is_a_range_of_the_index() {
        let key = Key { time: moment("2023-01-01T00:00:11Z").unwrap(), log_index: 7 };
        let statement = events(&query(), &Ask::After(key), 10_000).unwrap();
        let (_, rest) = statement.sql.split_once(" FROM ").unwrap();
        assert_eq!(
            rest,
            "ethereum.lending_events WHERE protocol_name = {{protocol_name}} AND contract_version = {{contract_version}} \
             AND category = {{category}} AND timestamp >= {{from}} AND timestamp < {{to}} \
             AND (timestamp, log_index) > ({{after_timestamp}}, {{after_log_index}}) \
             ORDER BY timestamp, log_index LIMIT 10000"
        );
        let wanted = serde_json::json!({
            "protocol_name": "o'hara; --", "contract_version": "v2", "category": "borrow",
            "from": "2023-01-01T00:00:00Z", "to": "2023-01-02T00:00:00Z",
            "after_timestamp": "2023-01-01T00:00:11Z", "after_log_index": 7
        });
        assert_eq!(Value::Object(statement.parameters), wanted);
    }

    #[test]
    fn every_placeholder_has_its_parameter_and_no_other() {
        let key = Key { time: moment("2023-01-01T00:00:11.5Z").unwrap(), log_index: 7 };
        let asks = [Ask::First, Ask::After(key), Ask::Exactly(key), Ask::Unplaced(key.time)];
        let statements = asks.iter().map(|ask| events(&query(), ask, 10).unwrap());
        for statement in statements.chain([first_block(0).unwrap(), head_block()]) {
            let placeholders = statement.sql.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0);
            let mut placeholders: Vec<&str> = placeholders.collect();
            let mut names: Vec<&str> = statement.parameters.keys().map(String::as_str).collect();
            placeholders.sort_unstable();
            names.sort_unstable();
            assert_eq!(placeholders, names, "{}", statement.sql);
            assert!(!statement.sql.contains("o'hara"));
        }
    }
}
