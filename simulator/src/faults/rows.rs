//! Answers of rows, taken apart and put together again. The rows themselves stay the text that they are: no number in them is
//! read and written anew.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{Fault, Hit, below};

type Object = BTreeMap<String, Box<RawValue>>;
type Row = Box<RawValue>;

/// An answer of rows of either API.
pub(super) struct Answer {
    whole: Object,
    /// The `data` of The Graph; of Transpose none.
    data: Option<Object>,
    /// Where the rows stand; a question for the head has none.
    field: Option<&'static str>,
}

/// The fields of a row that its place is made of.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    id: Option<String>,
    timestamp: Option<String>,
    log_index: Value,
}

/// Where a row stands: of events in the order of the chain, else in that of the ids.
type Place = (Option<String>, Option<i64>);

impl Answer {
    /// Takes an answer apart; what is no answer of rows is none.
    pub(super) fn read(body: &[u8]) -> Option<Answer> {
        let whole: Object = serde_json::from_slice(body).ok()?;
        let data: Option<Object> = whole.get("data").and_then(|data| parse(data));
        let holder = data.as_ref().unwrap_or(&whole);
        let field = ["markets", "positions", "results"].into_iter().find(|field| holder.contains_key(*field));
        (data.is_some() || field.is_some()).then_some(Answer { whole, data, field })
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows().is_some()
    }

    /// Puts it together again.
    pub(super) fn body(mut self) -> Option<Bytes> {
        if let Some(data) = &self.data {
            self.whole.insert("data".to_owned(), to_raw_value(data).ok()?);
        }
        serde_json::to_vec(&self.whole).ok().map(Bytes::from)
    }

    /// Puts a fault into it, if it has what the fault takes.
    pub(super) fn spoil(&mut self, hit: Hit) -> Option<()> {
        match hit.fault {
            Fault::WrongShape => self.set(self.field?, &json!({})),
            Fault::Reordered => self.reorder(),
            Fault::DataWithErrors => {
                let errors = json!([{"message": "Query timed out"}]);
                self.whole.insert("errors".to_owned(), to_raw_value(&errors).ok()?);
                self.data.as_ref().map(drop)
            }
            Fault::NoData => {
                self.data.take()?;
                self.whole.insert("data".to_owned(), to_raw_value(&Value::Null).ok()?);
                Some(())
            }
            Fault::OtherBlock => self.say("/block/number", |number| number.as_u64().map(|number| json!(number - 1))),
            Fault::OtherDeployment => self.say("/deployment", |_| Some(json!("QmOtherDeployment"))),
            Fault::ReorganisedBlock => self.say("/block/hash", |_| Some(json!("0xreorganised"))),
            Fault::IndexingErrors => self.say("/hasIndexingErrors", |_| Some(json!(true))),
            Fault::Truncated => {
                let rows = self.rows()?;
                let left = 1 + below(hit.draw, rows.len());
                self.truncate(rows.into_iter().take(left).collect())
            }
            Fault::RowsWithheld => {
                let rows = self.rows()?;
                let left = below(hit.draw, rows.len());
                self.set("results", &rows.into_iter().take(left).collect::<Vec<_>>())
            }
            Fault::EmptyTruncated => self.truncate(Vec::new()),
            Fault::ReorganisedRows => self.reorganise(hit.draw),
            _ => None,
        }
    }

    /// The rows, if there are any.
    fn rows(&self) -> Option<Vec<Row>> {
        let rows: Vec<Row> = parse(self.data.as_ref().unwrap_or(&self.whole).get(self.field?)?)?;
        (!rows.is_empty()).then_some(rows)
    }

    fn set(&mut self, field: &str, value: &impl Serialize) -> Option<()> {
        let value = to_raw_value(value).ok()?;
        self.data.as_mut().unwrap_or(&mut self.whole).insert(field.to_owned(), value);
        Some(())
    }

    /// Changes a value of `_meta`.
    fn say(&mut self, pointer: &str, change: impl FnOnce(&Value) -> Option<Value>) -> Option<()> {
        let mut meta: Value = parse(self.data.as_ref()?.get("_meta")?)?;
        let value = meta.pointer_mut(pointer)?;
        *value = change(value)?;
        self.set("_meta", &meta)
    }

    /// Turns the order around, but for rows of one place. The sort is stable.
    fn reorder(&mut self) -> Option<()> {
        let mut rows = self.rows()?;
        if rows.first().map(place) == rows.last().map(place) {
            return None;
        }
        rows.sort_by_cached_key(|row| std::cmp::Reverse(place(row)));
        self.set(self.field?, &rows)
    }

    /// Leaves these rows, as a server does that stops at its limits.
    fn truncate(&mut self, rows: Vec<Row>) -> Option<()> {
        let mut stats: Value = parse(self.whole.get("stats")?)?;
        let object = stats.as_object_mut()?;
        object.insert("count".to_owned(), json!(rows.len()));
        object.insert("truncated".to_owned(), json!(true));
        self.set("stats", &stats)?;
        self.set("results", &rows)
    }

    /// Stops after the rows of one moment, which are of other transactions than those that remain.
    fn reorganise(&mut self, draw: u64) -> Option<()> {
        let mut rows = self.rows()?;
        let times: Vec<_> = rows.iter().map(|row| place(row).0).collect();
        // Where another moment begins: the rows before it stay.
        let begins: Vec<usize> = (1..rows.len()).filter(|index| times.get(*index) != times.get(index - 1)).collect();
        let begin = *begins.get(below(draw, begins.len()))?;
        let time = times.get(begin)?.clone()?;
        let end = times.iter().skip(begin).take_while(|other| other.as_ref() == Some(&time)).count() + begin;
        rows.truncate(end);
        for row in rows.iter_mut().skip(begin) {
            let mut fields: Object = parse(row)?;
            fields.insert("transaction_hash".to_owned(), to_raw_value("0xorphaned").ok()?);
            *row = to_raw_value(&fields).ok()?;
        }
        self.truncate(rows)
    }
}

fn parse<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

fn place(row: &Row) -> Place {
    let fields: Fields = parse(row).unwrap_or_default();
    let log_index = match &fields.log_index {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    (fields.timestamp.or(fields.id), log_index)
}
