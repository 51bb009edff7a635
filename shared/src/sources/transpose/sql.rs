//! The SQL that is sent, with its values as literals.
//!
//! Transpose replaces `{{name}}` by a parameter, but whether it binds the value or pastes its text decides whether the name
//! must stand in quotes, and its documentation and its behaviour have not always agreed. A literal holds either way and for
//! any PostgreSQL. Only values of this module's own making become literals: times and integers, and names that are checked
//! to be plain words; nothing that an answer or a user said is ever part of a statement as text.

use super::EventsQuery;
use super::paging::Ask;
use super::rows::{EVENT_COLUMNS, moment_of};
use crate::error::{Error, Result};

/// One page of a query's events.
pub(super) fn events(query: &EventsQuery, ask: &Ask, rows: usize) -> Result<String> {
    let columns = EVENT_COLUMNS.join(", ");
    let (protocol_name, contract_version) = (word(&query.protocol_name)?, word(&query.contract_version)?);
    let category = word(&query.category)?;
    let (from, to) = (moment_of(query.from)?, moment_of(query.to)?);
    let condition = condition(ask);
    // Equality on the leading columns of the index and an order by the others: the page is a range of it, read in order.
    Ok(format!(
        "SELECT {columns} FROM ethereum.lending_events \
         WHERE protocol_name = {protocol_name} AND contract_version = {contract_version} \
         AND category = {category} AND timestamp >= '{from}' AND timestamp < '{to}'{condition} \
         ORDER BY timestamp, log_index LIMIT {rows}"
    ))
}

fn condition(ask: &Ask) -> String {
    match ask {
        Ask::First => String::new(),
        Ask::After(key) => format!(" AND (timestamp, log_index) > ('{}', {})", key.time, key.log_index),
        Ask::Exactly(key) => format!(" AND timestamp = '{}' AND log_index = {}", key.time, key.log_index),
        Ask::Unplaced(time) => format!(" AND timestamp = '{time}' AND log_index IS NULL"),
    }
}

/// A name as a literal: letters, digits, `_`, `-` and `.`, which no quoting rule of any server can misread.
fn word(name: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::bad_input(format!("{name:?} is no name of a protocol, version or category")));
    }
    Ok(format!("'{name}'"))
}

/// The first block at or after a time.
pub(super) fn first_block(at_or_after: i64) -> Result<String> {
    let at_or_after = moment_of(at_or_after)?;
    Ok(format!(
        "SELECT block_number, timestamp, block_hash FROM ethereum.blocks \
         WHERE timestamp >= '{at_or_after}' ORDER BY timestamp LIMIT 1"
    ))
}

/// The newest block.
pub(super) fn head_block() -> String {
    "SELECT block_number, timestamp, block_hash FROM ethereum.blocks ORDER BY timestamp DESC LIMIT 1".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Key, moment};
    use super::*;

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
    fn a_page_of_events_is_a_range_of_the_index() {
        let key = Key { time: moment("2023-01-01T00:00:11Z").unwrap(), log_index: 7 };
        let statement = events(&query(), &Ask::After(key), 10_000).unwrap();
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
    fn a_name_that_is_more_than_a_word_never_becomes_sql() {
        for name in ["", "o'hara", "x; --", "a\\'", "{{key}}", "a b", "ä"] {
            let query = EventsQuery { protocol_name: name.to_owned(), ..query() };
            assert_eq!(events(&query, &Ask::First, 10).unwrap_err().kind(), crate::Kind::BadInput, "{name}");
        }
    }
}
