//! Reading an answer of The Graph: the body decides, its errors before its data.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::messages::kind_of;
use super::rows::Entity;
use crate::error::{Error, Kind, Result};
use crate::sources::Block;
use crate::sources::endpoint::Endpoint;
use crate::sources::http::Answer;
use crate::sources::text::{Lenient, Text, share};

/// Which state of which deployment an answer is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub block: Block,
    pub deployment: String,
}

/// Rows with the state that they are of.
#[derive(Debug)]
pub(super) struct Page<E> {
    pub state: State,
    pub rows: Vec<E>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Value>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeadData {
    #[serde(rename = "_meta")]
    meta: Lenient<Meta>,
}

#[derive(Deserialize)]
#[serde(bound = "T: Default + DeserializeOwned")]
struct PageData<T> {
    #[serde(default, rename = "_meta")]
    meta: Lenient<Meta>,
    #[serde(alias = "markets", alias = "positions")]
    rows: Vec<Lenient<T>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    block: Lenient<MetaBlock>,
    deployment: Text,
    has_indexing_errors: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetaBlock {
    number: Text,
    timestamp: Text,
    hash: Text,
}

/// The state in an answer to the question for the newest one.
pub(super) fn parse_head(endpoint: &Endpoint, answer: &Answer) -> Result<State> {
    let data: HeadData = read_data(endpoint, answer)?;
    state_of(data.meta.0)
}

/// The rows in an answer, with the state that they are of.
pub(super) fn read_page<E: Entity>(endpoint: &Endpoint, answer: &Answer) -> Result<Page<E>> {
    let data: PageData<E::Sent> = read_data(endpoint, answer)?;
    let mut rows: Vec<E> = data.rows.into_iter().map(|row| E::flat(row.0)).collect();
    share(&mut rows);
    Ok(Page { state: state_of(data.meta.0)?, rows })
}

fn read_data<T: DeserializeOwned>(endpoint: &Endpoint, answer: &Answer) -> Result<T> {
    let body: Body = serde_json::from_slice(&answer.body).map_err(|e| endpoint.not_json(answer, &e))?;
    let messages = messages_of(body.errors.as_ref());
    if let Some(kind) = kind_of_answer(answer, &messages) {
        let body = || String::from_utf8_lossy(&answer.body).into_owned();
        let message = if messages.is_empty() { body() } else { messages.join("; ") };
        return Err(endpoint.said(kind, answer, &message));
    }
    let Some(data) = body.data.filter(|data| data.get() != "null") else {
        return Err(endpoint.said(Kind::SourceUnavailable, answer, "the answer has neither data nor errors"));
    };
    // The parser's words could quote the answer.
    serde_json::from_str(data.get()).map_err(|e| {
        Error::corrupt("the answer's data does not have the shape that was asked for").with("line", e.line())
    })
}

/// The kind of an answer that is an error: one with a status that says so, or with messages, data or not.
fn kind_of_answer(answer: &Answer, messages: &[String]) -> Option<Kind> {
    let status = answer.kind_of_status();
    if messages.is_empty() || status.is_some_and(|kind| kind != Kind::SourceRejected) {
        return status;
    }
    // An unknown message passes for a passing fault. The tries are bounded, so a wrong guess costs a few requests; the
    // other way around it could cost a day for good, since its block is pruned within hours.
    let kinds = messages.iter().map(|message| kind_of(message).or(status).unwrap_or(Kind::SourceUnavailable));
    let kinds: Vec<Kind> = kinds.collect();
    // Of several, what won't pass outweighs what may.
    kinds.iter().find(|kind| !kind.is_transient()).or(kinds.first()).copied()
}

fn messages_of(errors: Option<&Value>) -> Vec<String> {
    let message = |error: &Value| match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    match errors {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(errors)) => errors.iter().map(message).collect(),
        Some(other) => vec![message(other)],
    }
}

fn state_of(meta: Meta) -> Result<State> {
    let shapeless =
        |field: &'static str| Error::corrupt("the answer's _meta does not say what it must").with("field", field);
    if meta.has_indexing_errors.as_deref() == Some("true") {
        return Err(Error::new(Kind::SourceRejected, "the subgraph has indexing errors: its data can't be trusted"));
    }
    let block = meta.block.0;
    let number =
        block.number.as_deref().and_then(|number| number.parse().ok()).ok_or_else(|| shapeless("block.number"))?;
    let timestamp = block.timestamp.as_deref().and_then(|timestamp| timestamp.parse().ok());
    let deployment = meta.deployment.as_deref().ok_or_else(|| shapeless("deployment"))?.to_owned();
    Ok(State { block: Block { number, timestamp, hash: block.hash.0 }, deployment })
}
