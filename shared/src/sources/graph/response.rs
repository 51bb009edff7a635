//! Parsing of The Graph's responses. The body determines the result; its errors take precedence over its data.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::messages::{classify, kind_after_retries};
use super::rows::Entity;
use crate::error::{Error, Kind, Result};
use crate::sources::Block;
use crate::sources::endpoint::{invalid_json_error, source_error};
use crate::sources::http::{HttpResponse, MAX_TEXT_BYTES};
use crate::sources::text::{Lenient, MAX_NAME_BYTES, Rows, Text, intern};

/// The block and the deployment that a response describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubgraphState {
    pub block: Block,
    pub deployment: String,
}

/// The rows of a response, and the state that they describe.
#[derive(Debug)]
pub(super) struct Page<E> {
    pub state: SubgraphState,
    pub rows: Vec<E>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Box<RawValue>>,
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
    #[serde(alias = "markets", alias = "positions", alias = "reserves", alias = "userReserves")]
    rows: Rows<T>,
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

/// Parses the response to the query for the newest state.
pub(super) fn parse_head(response: &HttpResponse) -> Result<SubgraphState> {
    let data: HeadData = parse_data(response)?;
    state_of(data.meta.0)
}

/// Parses a response with a page of rows.
pub(super) fn parse_page<E: Entity>(response: &HttpResponse) -> Result<Page<E>> {
    let data: PageData<E::Json> = parse_data(response)?;
    let mut rows: Vec<E> = data.rows.into_vec()?.into_iter().map(E::from_json).collect();
    intern(&mut rows);
    Ok(Page { state: state_of(data.meta.0)?, rows })
}

fn parse_data<T: DeserializeOwned>(response: &HttpResponse) -> Result<T> {
    let body: Body = serde_json::from_slice(&response.body).map_err(|e| invalid_json_error(response, &e))?;
    let messages = error_messages(body.errors.as_deref());
    if let Some(kind) = error_kind(response, &messages) {
        let message = if messages.is_empty() { response.text().into_owned() } else { messages.join("; ") };
        let final_kind = messages.iter().find_map(|message| kind_after_retries(message));
        return Err(source_error(kind, response, &message).with_final_kind(final_kind.filter(|_| kind.is_transient())));
    }
    let Some(data) = body.data.filter(|data| data.get() != "null") else {
        let message = "the response has neither data nor errors";
        return Err(source_error(Kind::SourceUnavailable, response, message));
    };
    // The parser's message is omitted because it could quote the response.
    serde_json::from_str(data.get())
        .map_err(|e| Error::corrupt("the data of the response does not match the query").with("line", e.line()))
}

/// Returns the error kind of a response whose status is an error or that contains error messages, even next to data.
fn error_kind(response: &HttpResponse, messages: &[String]) -> Option<Kind> {
    let status = response.kind_of_status();
    if messages.is_empty() || status.is_some_and(|kind| kind != Kind::SourceRejected) {
        return status;
    }
    // An unknown message is treated as a transient error. Retries are bounded, so a wrong guess costs a few requests.
    // Treating it as permanent could lose a day, because its block is pruned within hours.
    let kinds = messages.iter().map(|message| classify(message).or(status).unwrap_or(Kind::SourceUnavailable));
    let kinds: Vec<Kind> = kinds.collect();
    // A permanent error takes precedence over a transient one.
    kinds.iter().find(|kind| !kind.is_transient()).or(kinds.first()).copied()
}

fn error_messages(errors: Option<&RawValue>) -> Vec<String> {
    let Some(errors) = errors else { return Vec::new() };
    // Parsed values take many times the memory of their text.
    if errors.get().len() > MAX_TEXT_BYTES {
        return vec![errors.get().chars().take(MAX_TEXT_BYTES).collect()];
    }
    let message = |error: &Value| match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    };
    match serde_json::from_str(errors.get()) {
        Ok(Value::Null) => Vec::new(),
        Ok(Value::Array(errors)) => errors.iter().map(message).collect(),
        Ok(other) => vec![message(&other)],
        // A string that is not valid Unicode, or lists in lists without end.
        Err(_) => vec![errors.get().to_owned()],
    }
}

fn state_of(meta: Meta) -> Result<SubgraphState> {
    let invalid = |field: &'static str| {
        Error::corrupt("a field of _meta in the response is missing or invalid").with("field", field)
    };
    if meta.has_indexing_errors.as_deref() == Some("true") {
        let message = "the subgraph has indexing errors, so its data may be wrong";
        return Err(Error::new(Kind::SourceRejected, message));
    }
    let block = meta.block.0;
    let number =
        block.number.as_deref().and_then(|number| number.parse().ok()).ok_or_else(|| invalid("block.number"))?;
    let timestamp = block.timestamp.as_deref().and_then(|timestamp| timestamp.parse().ok());
    let is_short = |text: &&str| text.len() <= MAX_NAME_BYTES;
    let deployment = meta.deployment.as_deref().filter(is_short).ok_or_else(|| invalid("deployment"))?.to_owned();
    if block.hash.as_deref().is_some_and(|hash| !is_short(&hash)) {
        return Err(invalid("block.hash"));
    }
    Ok(SubgraphState { block: Block { number, timestamp, hash: block.hash.0 }, deployment })
}
