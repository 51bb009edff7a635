//! The rows of a recording that no step ever asks for, so that none is left out in silence.

use std::cmp::Ordering;
use std::fmt;

use defi_shared::domain::{Category, Day};
use serde_json::{Map, Value};

use crate::times;

/// The rows of one file that no step asks for, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The name of the file.
    pub file: String,
    /// The number of rows.
    pub rows: u64,
    /// The reason, such as `of an unknown category`.
    pub reason: String,
    /// The value of the first of the rows that is the reason, and its line from 1.
    pub first: (String, usize),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { file, rows, reason, first: (value, line) } = self;
        let (file, plural) = (file.escape_debug(), if *rows == 1 { "" } else { "s" });
        write!(f, "left out: {rows} row{plural} of {file}, {reason}, such as {value} in line {line}")
    }
}

/// Counts a row, whose reason and value are given.
pub(super) fn count(left_out: &mut Vec<LeftOut>, file: &str, (reason, value): (String, String), line: usize) {
    match left_out.iter_mut().find(|counted| counted.file == file && counted.reason == reason) {
        Some(counted) => counted.rows += 1,
        None => left_out.push(LeftOut { file: file.to_owned(), rows: 1, reason, first: (value, line) }),
    }
}

/// The events that are asked for: those of the known categories and of the protocols, on each day before the last.
pub(super) struct AskedEvents<'a> {
    pub protocols: &'a [String],
    pub first: Day,
    pub last: Day,
}

impl AskedEvents<'_> {
    /// Returns why no step asks for an event, and the value that is the reason. Returns `None` for an event that a step
    /// asks for.
    pub(super) fn reject(&self, event: &Map<String, Value>) -> Option<(String, String)> {
        let text = |column: &str| match event.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => Value::Null.to_string(),
        };
        let reason = |reason: &str, value: &str| Some((reason.to_owned(), format!("{value:?}")));
        let category = text("category");
        if !Category::ALL.iter().any(|known| known.name() == category) {
            return reason("of an unknown category", &category);
        }
        let protocol = format!("{}-{}-eth", text("protocol_name"), text("contract_version"));
        if !self.protocols.contains(&protocol) {
            return reason("of a protocol that the manifest does not list", &protocol);
        }
        let time = text("timestamp");
        let is_from = |day: Day| times::compare_times(&time, &day.to_string()) != Ordering::Less;
        if is_from(self.first) && !is_from(self.last) {
            return None;
        }
        if times::parse(&time).is_none() {
            return reason("without a time that can be read", &time);
        }
        reason(&format!("outside the days from {} until {}", self.first, self.last), &time)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reason_is_named_with_its_value() {
        let protocols = ["aave-v2-eth".to_owned()];
        let (first, last) = ("2023-01-01".parse().unwrap(), "2023-01-03".parse().unwrap());
        let asked = AskedEvents { protocols: &protocols, first, last };
        let reject = |column: &str, value: Value| {
            let mut event = json!({"category": "borrow", "protocol_name": "aave", "contract_version": "v2",
                "timestamp": "2023-01-02T23:59:59Z"});
            event[column] = value;
            asked.reject(event.as_object().unwrap()).map(|(reason, value)| format!("{reason}: {value}"))
        };
        assert_eq!(reject("category", json!("deposit")), None);
        assert_eq!(reject("category", json!("Borrow")).unwrap(), "of an unknown category: \"Borrow\"");
        let protocol = "of a protocol that the manifest does not list";
        assert_eq!(reject("protocol_name", json!("Aave")).unwrap(), format!("{protocol}: \"Aave-v2-eth\""));
        assert_eq!(reject("contract_version", json!(null)).unwrap(), format!("{protocol}: \"aave-null-eth\""));
        for asked in [json!("2023-01-01 00:00:00"), json!("2023-01-03T01:59:59+02:00"), json!(1_672_531_200)] {
            assert_eq!(reject("timestamp", asked), None);
        }
        let outside = "outside the days from 2023-01-01 until 2023-01-03";
        for time in ["2022-12-31T23:59:59.999Z", "2023-01-03T00:00:00Z", "2023-01-01T01:00:00+02:00"] {
            assert_eq!(reject("timestamp", json!(time)).unwrap(), format!("{outside}: {time:?}"));
        }
        for (time, shown) in [(json!("noon"), "\"noon\""), (json!(null), "\"null\"")] {
            assert_eq!(reject("timestamp", time).unwrap(), format!("without a time that can be read: {shown}"));
        }
    }
}
