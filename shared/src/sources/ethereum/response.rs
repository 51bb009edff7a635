//! Parsing of JSON-RPC responses, and their errors.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::messages::{Meaning, classify, classify_code};
use crate::error::{Error, Kind, Result};
use crate::sources::endpoint::{invalid_json_error, source_error};
use crate::sources::http::{HttpResponse, MAX_TEXT_BYTES};

const REJECTED_HINT: &str = "check that the URL is that of an Ethereum node, and that its plan includes this method";

/// The answer to one request.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Reply<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Reads a field that is there. `Option` alone would read null as a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Reply<'a> {
    /// Returns the id, if it is a number. Some proxies send it as a string.
    pub(super) fn id(&self) -> Option<usize> {
        self.id?.get().trim_matches('"').parse().ok()
    }

    /// Returns the result, which may be null, or the error of the node.
    pub(super) fn result(&self, response: &HttpResponse) -> Result<&'a RawValue> {
        match (self.error.filter(|error| error.get() != "null"), self.result) {
            (Some(error), _) => Err(node_error(response, &ErrorText::parse(error.get()))),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(wrong("an answer of the node has neither a result nor an error")),
        }
    }
}

/// The answers in a response.
pub(super) enum Replies<'a> {
    One(Reply<'a>),
    Many(Vec<Reply<'a>>),
}

impl<'a> Replies<'a> {
    /// Parses a response with at most `limit` answers.
    ///
    /// # Errors
    /// The error of a status, or of a body that is not JSON-RPC.
    pub(super) fn parse(response: &'a HttpResponse, limit: usize) -> Result<Self> {
        if response.kind_of_status().is_some() {
            return Err(status_error(response));
        }
        let invalid = |error: serde_json::Error| match error.is_data() {
            true => wrong("the response is not JSON-RPC").with("line", error.line()),
            false => invalid_json_error(response, &error),
        };
        if !response.body.trim_ascii_start().starts_with(b"[") {
            return serde_json::from_slice(&response.body).map(Replies::One).map_err(invalid);
        }
        let mut parser = serde_json::Deserializer::from_slice(&response.body);
        let replies = parser.deserialize_seq(RepliesVisitor { limit }).map_err(invalid)?;
        parser.end().map_err(invalid)?;
        Ok(Replies::Many(replies))
    }
}

/// Reads a list of at most `limit` answers.
struct RepliesVisitor {
    limit: usize,
}

impl<'de> Visitor<'de> for RepliesVisitor {
    type Value = Vec<Reply<'de>>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "at most {} answers", self.limit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self::Value, A::Error> {
        let mut replies = Vec::new();
        while let Some(reply) = items.next_element()? {
            if replies.len() == self.limit {
                return Err(serde::de::Error::invalid_length(self.limit + 1, &self));
            }
            replies.push(reply);
        }
        Ok(replies)
    }
}

/// The message, the data and the code of an error.
#[derive(Default)]
struct ErrorText {
    message: String,
    data: String,
    code: Option<i64>,
}

impl ErrorText {
    /// Reads an error: an object with a message, or a text.
    fn parse(json: &str) -> Self {
        // Parsed values take many times the memory of their text.
        let value =
            if json.len() > MAX_TEXT_BYTES { Value::Null } else { serde_json::from_str(json).unwrap_or_default() };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let whole = || value.as_str().map_or_else(|| json.chars().take(MAX_TEXT_BYTES).collect(), str::to_owned);
        ErrorText {
            message: text("message").unwrap_or_else(whole),
            data: text("data").unwrap_or_default(),
            code: value.get("code").and_then(Value::as_i64),
        }
    }

    /// Reads the error of a response whose status is an error: of JSON-RPC, of a gateway (`{"message": …}`), or any
    /// text.
    fn of_response(response: &HttpResponse) -> Self {
        let text = response.text();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(&value);
        match value.get("error").filter(|error| !error.is_null()) {
            Some(error) => ErrorText::parse(&error.to_string()),
            None if value.get("message").is_some() => ErrorText::parse(&value.to_string()),
            None => ErrorText { message: text.into_owned(), ..ErrorText::default() },
        }
    }
}

/// Returns the error of a response whose status is an error. The text of a page, which a proxy sends, means nothing.
fn status_error(response: &HttpResponse) -> Error {
    if response.is_proxy_page() {
        let meaning = meaning_of_status(response).unwrap_or(Meaning::Plain(Kind::SourceUnavailable));
        return error(response, meaning, &response.text());
    }
    node_error(response, &ErrorText::of_response(response))
}

/// Returns the error that a node sent: by its text, else by its code, else by the status. An unknown error is retried:
/// a wrong guess costs a few requests.
fn node_error(response: &HttpResponse, text: &ErrorText) -> Error {
    // OpenEthereum and its successors name the reason in the data.
    let is_reverted = text.data.to_lowercase().starts_with("reverted");
    let meaning = if is_reverted { Some(Meaning::Reverted) } else { classify(&text.message) };
    let meaning = meaning.or_else(|| text.code.and_then(classify_code)).or_else(|| meaning_of_status(response));
    let error = error(response, meaning.unwrap_or(Meaning::Plain(Kind::SourceUnavailable)), &text.message);
    match text.code {
        Some(code) => error.with("code", code),
        None => error,
    }
}

fn meaning_of_status(response: &HttpResponse) -> Option<Meaning> {
    match response.status.as_u16() {
        413 => Some(Meaning::TooMuch),
        _ => response.kind_of_status().map(Meaning::Plain),
    }
}

fn error(response: &HttpResponse, meaning: Meaning, message: &str) -> Error {
    let error = source_error(meaning.kind(), response, message);
    match meaning {
        Meaning::Plain(Kind::SourceRejected) => error.with_hint(REJECTED_HINT),
        Meaning::Plain(_) => error,
        _ if meaning.kind() == Kind::SourceRejected => error.with_source(meaning).with_hint(REJECTED_HINT),
        _ => error.with_source(meaning),
    }
}

/// Returns the error for an answer that contradicts itself or the request. It is retried, because another backend may
/// answer the next request.
pub(super) fn wrong(message: &str) -> Error {
    Error::new(Kind::SourceUnavailable, message).with_source(Meaning::Wrong)
}
