//! Responses with rows, parsed so that faults can change them. The rows stay raw JSON: no number in them is parsed and
//! formatted again.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{Fault, SelectedFault, below};

type Object = BTreeMap<String, Box<RawValue>>;
type Row = Box<RawValue>;

/// A response with rows, of either API.
pub(super) struct RowsResponse {
    envelope: Object,
    /// The `data` of The Graph; `None` for Transpose.
    data: Option<Object>,
    /// The field that holds the rows; `None` for a query of the head.
    field: Option<&'static str>,
}

/// The fields of a row that its sort key consists of.
#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyFields {
    id: Option<String>,
    timestamp: Option<String>,
    log_index: Value,
}

/// The sort key of a row: timestamp and log index of an event, the id of any other row.
type SortKey = (Option<String>, Option<i64>);

impl RowsResponse {
    /// Parses a response. Returns `None` if it is neither a response with rows nor one with `data`.
    pub(super) fn parse(body: &[u8]) -> Option<RowsResponse> {
        let envelope: Object = serde_json::from_slice(body).ok()?;
        let data: Option<Object> = envelope.get("data").and_then(|data| parse(data));
        let holder = data.as_ref().unwrap_or(&envelope);
        let field = ["markets", "positions", "reserves", "userReserves", "results"]
            .into_iter()
            .find(|field| holder.contains_key(*field));
        (data.is_some() || field.is_some()).then_some(RowsResponse { envelope, data, field })
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows().is_some()
    }

    /// Serializes the response.
    pub(super) fn into_body(mut self) -> Option<Bytes> {
        if let Some(data) = &self.data {
            self.envelope.insert("data".to_owned(), to_raw_value(data).ok()?);
        }
        serde_json::to_vec(&self.envelope).ok().map(Bytes::from)
    }

    /// Applies a fault. Returns `None` if the fault is not applicable to the response.
    pub(super) fn apply(&mut self, selected: SelectedFault) -> Option<()> {
        match selected.fault {
            Fault::WrongShape => self.set(self.field?, &json!({})),
            Fault::Reordered => self.reorder(),
            Fault::DataWithErrors => {
                let errors = json!([{"message": "Query timed out"}]);
                self.envelope.insert("errors".to_owned(), to_raw_value(&errors).ok()?);
                self.data.as_ref().map(drop)
            }
            Fault::NoData => {
                self.data.take()?;
                self.envelope.insert("data".to_owned(), to_raw_value(&Value::Null).ok()?);
                Some(())
            }
            Fault::OtherBlock => {
                self.change_meta("/block/number", |number| number.as_u64().map(|number| json!(number - 1)))
            }
            Fault::OtherDeployment => self.change_meta("/deployment", |_| Some(json!("QmOtherDeployment"))),
            Fault::ReorganisedBlock => {
                self.change_meta("/block/hash", |hash| (!hash.is_null()).then(|| json!("0xreorganised")))
            }
            Fault::IndexingErrors => self.change_meta("/hasIndexingErrors", |_| Some(json!(true))),
            Fault::Truncated => {
                let rows = self.rows()?;
                let kept = 1 + below(selected.random, rows.len());
                self.truncate_to(rows.into_iter().take(kept).collect())
            }
            Fault::RowsWithheld => {
                let rows = self.rows()?;
                let kept = below(selected.random, rows.len());
                self.set("results", &rows.into_iter().take(kept).collect::<Vec<_>>())
            }
            Fault::EmptyTruncated => self.truncate_to(Vec::new()),
            Fault::ReorganisedRows => self.reorganise(selected.random),
            _ => None,
        }
    }

    /// Returns the rows, or `None` if there are none.
    fn rows(&self) -> Option<Vec<Row>> {
        let rows: Vec<Row> = parse(self.data.as_ref().unwrap_or(&self.envelope).get(self.field?)?)?;
        (!rows.is_empty()).then_some(rows)
    }

    fn set(&mut self, field: &str, value: &impl Serialize) -> Option<()> {
        let value = to_raw_value(value).ok()?;
        self.data.as_mut().unwrap_or(&mut self.envelope).insert(field.to_owned(), value);
        Some(())
    }

    /// Changes a value of `_meta`.
    fn change_meta(&mut self, pointer: &str, change: impl FnOnce(&Value) -> Option<Value>) -> Option<()> {
        let mut meta: Value = parse(self.data.as_ref()?.get("_meta")?)?;
        let value = meta.pointer_mut(pointer)?;
        *value = change(value)?;
        self.set("_meta", &meta)
    }

    /// Reverses the order of the rows, except among rows with equal sort keys (the sort is stable).
    fn reorder(&mut self) -> Option<()> {
        let mut rows = self.rows()?;
        if rows.first().map(sort_key) == rows.last().map(sort_key) {
            return None;
        }
        rows.sort_by_cached_key(|row| std::cmp::Reverse(sort_key(row)));
        self.set(self.field?, &rows)
    }

    /// Replaces the rows and marks the response as truncated, as a server does at its limits.
    fn truncate_to(&mut self, rows: Vec<Row>) -> Option<()> {
        let mut stats: Value = parse(self.envelope.get("stats")?)?;
        let object = stats.as_object_mut()?;
        object.insert("count".to_owned(), json!(rows.len()));
        object.insert("truncated".to_owned(), json!(true));
        self.set("stats", &stats)?;
        self.set("results", &rows)
    }

    /// Truncates the response after all rows of one timestamp and gives these rows another transaction hash.
    fn reorganise(&mut self, random: u64) -> Option<()> {
        let mut rows = self.rows()?;
        let times: Vec<_> = rows.iter().map(|row| sort_key(row).0).collect();
        // The indices at which the timestamp changes. The rows before the selected one are unchanged.
        let starts: Vec<usize> = (1..rows.len()).filter(|index| times.get(*index) != times.get(index - 1)).collect();
        let start = *starts.get(below(random, starts.len()))?;
        let time = times.get(start)?.clone()?;
        let end = times.iter().skip(start).take_while(|other| other.as_ref() == Some(&time)).count() + start;
        rows.truncate(end);
        for row in rows.iter_mut().skip(start) {
            let mut fields: Object = parse(row)?;
            fields.insert("transaction_hash".to_owned(), to_raw_value("0xorphaned").ok()?);
            *row = to_raw_value(&fields).ok()?;
        }
        self.truncate_to(rows)
    }
}

fn parse<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

fn sort_key(row: &Row) -> SortKey {
    let fields: KeyFields = parse(row).unwrap_or_default();
    let log_index = match &fields.log_index {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    (fields.timestamp.or(fields.id), log_index)
}
