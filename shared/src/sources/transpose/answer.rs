//! Reading an answer of Transpose.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::sources::endpoint::Endpoint;
use crate::sources::http::Answer;
use crate::sources::text::{Lenient, Text};

/// Rows, and whether the answer stopped before all of them (at 10 MB, or at its time limit).
#[derive(Debug)]
pub(super) struct Results<T> {
    pub rows: Vec<T>,
    pub truncated: bool,
}

#[derive(Deserialize)]
#[serde(bound = "T: Default + DeserializeOwned")]
struct Body<T> {
    #[serde(default)]
    status: Text,
    #[serde(default)]
    message: Text,
    #[serde(default)]
    stats: Lenient<Stats>,
    #[serde(default)]
    results: Option<Vec<Lenient<T>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    count: Text,
    truncated: Text,
}

/// The rows in an answer, or the error that it is.
pub(super) fn read<T: Default + DeserializeOwned>(endpoint: &Endpoint, answer: &Answer) -> Result<Results<T>> {
    if let Some(kind) = answer.kind_of_status() {
        let message = message_of(&answer.body);
        return Err(endpoint.said(kind_of(answer.status.as_u16(), kind, &message), answer, &message));
    }
    let body: Body<T> = serde_json::from_slice(&answer.body).map_err(|e| unreadable(endpoint, answer, &e))?;
    match (body.status.as_deref(), body.results) {
        (Some("error"), _) => {
            let message = body.message.to_string();
            let kind = kind_of_message(&message).unwrap_or(Kind::SourceRejected);
            Err(endpoint.said(kind, answer, &message))
        }
        (_, Some(rows)) => {
            let stats = body.stats.0;
            let truncated = stats.truncated.as_deref() == Some("true");
            let count = stats.count.as_deref().and_then(|count| count.parse().ok()).unwrap_or(0);
            // Of an answer that is cut short, the count may be of what it would have held.
            if rows.len() < count && !truncated {
                return Err(Error::new(Kind::SourceUnavailable, "the answer counts more rows than it holds")
                    .with("count", count)
                    .with("rows", rows.len()));
            }
            Ok(Results { rows: rows.into_iter().map(|row| row.0).collect(), truncated })
        }
        (_, None) => Err(endpoint.said(Kind::SourceUnavailable, answer, "the answer has neither results nor an error")),
    }
}

fn unreadable(endpoint: &Endpoint, answer: &Answer, error: &serde_json::Error) -> Error {
    if error.is_data() {
        // The parser's words could quote the answer.
        return Error::corrupt("the answer does not have the shape that it must have").with("line", error.line());
    }
    endpoint.not_json(answer, error)
}

/// The `message` of a body, or the whole of it if it is something else.
fn message_of(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Lenient<Failure>>(body).ok();
    let message = parsed.and_then(|body| body.0.message.0);
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |message| message.to_string())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    message: Text,
}

/// The status decides, but for 403: that is an account out of credits, unless the message speaks of the key.
fn kind_of(status: u16, kind: Kind, message: &str) -> Kind {
    match status {
        403 if kind_of_message(message) != Some(Kind::BadCredentials) => Kind::QuotaExceeded,
        _ => kind,
    }
}

/// Messages by a piece of them, in lower case; the first that fits counts. Only needed where the status says nothing (200,
/// 403). Credits come before the key, since "this API key is out of credits" speaks of both.
const MEANINGS: &[(Kind, &str)] = &[
    (Kind::QuotaExceeded, "credit"),
    (Kind::QuotaExceeded, "quota"),
    (Kind::QuotaExceeded, "payment required"),
    (Kind::Throttled, "rate limit"),
    (Kind::Throttled, "too many requests"),
    (Kind::BadCredentials, "api key"),
    (Kind::BadCredentials, "api-key"),
    (Kind::BadCredentials, "unauthorized"),
    (Kind::BadCredentials, "not authorized"),
    (Kind::SourceUnavailable, "timed out"),
    (Kind::SourceUnavailable, "timeout"),
    (Kind::SourceUnavailable, "overloaded"),
    (Kind::SourceUnavailable, "unavailable"),
    (Kind::SourceUnavailable, "internal"),
];

fn kind_of_message(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    MEANINGS.iter().find(|(_, piece)| message.contains(piece)).map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message for each row of the table, in its order.
    const MESSAGES: &[&str] = &[
        "This API key is out of credits",
        "Monthly quota reached",
        "Payment Required",
        "Rate limit exceeded",
        "Too Many Requests",
        "Invalid API key",
        "Missing X-API-KEY header",
        "Unauthorized",
        "Your team is not authorized",
        "Execution error: the statement timed out",
        "Execution error: statement timeout",
        "The server is overloaded",
        "Service unavailable",
        "Internal error",
    ];

    #[test]
    fn each_row_of_the_table_has_its_message() {
        assert_eq!(MESSAGES.len(), MEANINGS.len());
        for (message, meaning) in MESSAGES.iter().zip(MEANINGS) {
            let lower = message.to_lowercase();
            assert_eq!(MEANINGS.iter().find(|(_, piece)| lower.contains(piece)), Some(meaning), "{message}");
            assert_eq!(kind_of_message(message), Some(meaning.0), "{message}");
        }
    }

    #[test]
    fn a_refusal_is_about_credits_unless_it_speaks_of_the_key() {
        assert_eq!(kind_of(403, Kind::BadCredentials, "You are out of credits"), Kind::QuotaExceeded);
        assert_eq!(kind_of(403, Kind::BadCredentials, "This API key is out of credits"), Kind::QuotaExceeded);
        assert_eq!(kind_of(403, Kind::BadCredentials, "Forbidden"), Kind::QuotaExceeded);
        assert_eq!(kind_of(403, Kind::BadCredentials, "Invalid API key"), Kind::BadCredentials);
        assert_eq!(kind_of(401, Kind::BadCredentials, "no credits"), Kind::BadCredentials);
        assert_eq!(kind_of(400, Kind::SourceRejected, "statement timeout"), Kind::SourceRejected);
    }

    #[test]
    fn the_message_of_a_body_is_found_or_is_the_body() {
        assert_eq!(message_of(br#"{"status": "error", "message": "no"}"#), "no");
        assert_eq!(message_of(b"<html>no</html>"), "<html>no</html>");
        assert_eq!(message_of(br#"{"error": "no"}"#), r#"{"error": "no"}"#);
    }
}
