//! What the newest state of a lending subgraph in Messari's schema keeps of the past: every market and position that there was,
//! and the snapshots of each. A snapshot is written once, and is therefore not pruned.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::entities::Kept;
use super::values::text_of;
use crate::recording::Row;
use crate::timeline::fingerprint;

/// One in so many changes consists of [`EVENTS`] events in one block. The others are one event.
const MANY_EVENTS_EVERY: u64 = 5;

/// The number of these events: more than a client asks for at first.
const EVENTS: u64 = 12;

/// The changes of the rows of an entity, and its rows in the newest state.
pub(super) struct Past {
    /// Every row that there was, as it was last, sorted by id.
    rows: Vec<Row>,
    /// The blocks at which a row changed, in ascending order, with the row after it, by id. `None`: it was closed.
    changes: BTreeMap<String, Vec<(u64, Option<Row>)>>,
}

impl Past {
    /// Derives them from the states at the recorded blocks.
    pub(super) fn of(states: &BTreeMap<u64, Vec<Row>>) -> Past {
        let mut changes: BTreeMap<String, Vec<(u64, Option<Row>)>> = BTreeMap::new();
        let mut last_rows: BTreeMap<String, Row> = BTreeMap::new();
        for (block, rows) in states {
            let present: BTreeMap<String, &Row> =
                rows.iter().map(|row| (text_of(&row["id"]).into_owned(), row)).collect();
            for (id, changes) in &mut changes {
                if !present.contains_key(id) && changes.last().is_some_and(|(_, row)| row.is_some()) {
                    changes.push((*block, None));
                }
            }
            for (id, row) in present {
                let changes = changes.entry(id.clone()).or_default();
                if changes.last().and_then(|(_, last)| last.as_ref()) != Some(row) {
                    changes.push((*block, Some(Row::clone(row))));
                }
                last_rows.insert(id, Row::clone(row));
            }
        }
        let current = states.last_key_value().map(|(_, rows)| rows.as_slice()).unwrap_or_default();
        let in_newest_state = |id: &str, row: &Row, is_open: bool| {
            let mut row = Value::clone(row);
            let opened = changes.get(id).and_then(|changes| changes.first()).map_or(0, |(block, _)| *block);
            if let Some(object) = row.as_object_mut() {
                object.insert("blockNumberOpened".to_owned(), opened.to_string().into());
                if let Some(balance) = object.get_mut("balance").filter(|_| !is_open) {
                    *balance = "0".into();
                }
            }
            Row::new(row)
        };
        let mut rows: Vec<Row> = current.iter().map(|row| in_newest_state(&text_of(&row["id"]), row, true)).collect();
        for row in current {
            last_rows.remove(text_of(&row["id"]).as_ref());
        }
        rows.extend(last_rows.iter().map(|(id, row)| in_newest_state(id, row, false)));
        // The sort is stable, as that of the states.
        rows.sort_by(|one, other| text_of(&one["id"]).cmp(&text_of(&other["id"])));
        Past { rows, changes }
    }

    /// Returns the rows of the newest state, sorted by id. Each has the block of its first event, and no balance if it is
    /// closed.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the snapshots of a row, sorted by id.
    pub(super) fn snapshots(&self, kept: Kept, row: &str) -> Vec<Row> {
        let changes = self.changes.get(row).into_iter().flatten();
        let mut snapshots: Vec<Value> = match kept {
            Kept::Balances => changes.flat_map(|(block, change)| balances(row, *block, change.as_deref())).collect(),
            Kept::Prices => changes.filter_map(|(block, change)| price(row, *block, change.as_deref()?)).collect(),
        };
        snapshots.sort_by(|one, other| text_of(&one["id"]).cmp(&text_of(&other["id"])));
        snapshots.into_iter().map(Row::new).collect()
    }
}

/// Returns the snapshots of a position after each event of a change. Only the last has the new balance.
fn balances(position: &str, block: u64, row: Option<&Value>) -> Vec<Value> {
    let balance = row.map_or_else(|| "0".into(), |row| row["balance"].clone());
    let digits = fingerprint(&format!("{position} {block}"));
    let seed = digits.bytes().map(u64::from).sum::<u64>();
    let count = if seed.is_multiple_of(MANY_EVENTS_EVERY) { EVENTS } else { 1 };
    let events = (1..=count).map(|event| {
        let transaction = fingerprint(&format!("{position} {block} {event}"));
        let balance = if event == count { balance.clone() } else { event.to_string().into() };
        json!({
            "id": format!("{position}-{transaction}-{event}"),
            "logIndex": event,
            "balance": balance,
            "blockNumber": block.to_string(),
        })
    });
    events.collect()
}

/// Returns the snapshot of a market after a change. `None` for a row that is no object.
fn price(market: &str, block: u64, row: &Value) -> Option<Value> {
    let fields = ["inputTokenPriceUSD", "totalDepositBalanceUSD", "totalBorrowBalanceUSD"];
    let mut snapshot = json!({"id": format!("{market}-{block}"), "blockNumber": block.to_string()});
    let object = row.as_object()?;
    fields.into_iter().for_each(|field| snapshot[field] = object.get(field).cloned().unwrap_or_default());
    Some(snapshot)
}
