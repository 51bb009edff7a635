//! Parsing of Transpose's responses.

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::sources::endpoint::{invalid_json_error, source_error};
use crate::sources::http::{HttpResponse, MAX_TEXT_BYTES};
use crate::sources::text::{Lenient, Rows, Text};

/// The rows of a response, and whether the server truncated it (at 10 MB, or at its time limit).
#[derive(Debug)]
pub(super) struct Results<T> {
    pub rows: Vec<T>,
    pub truncated: bool,
    /// The size of the response body.
    pub bytes: usize,
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
    results: Option<Rows<T>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    count: Text,
    truncated: Text,
}

/// Returns the rows of a response, or the error that it reports.
pub(super) fn parse<T: Default + DeserializeOwned>(response: &HttpResponse) -> Result<Results<T>> {
    if let Some(kind) = response.kind_of_status() {
        let message = error_message(response);
        return Err(source_error(refine_kind(kind, &message, response), response, &message));
    }
    let body: Body<T> = serde_json::from_slice(&response.body).map_err(|e| parse_error(response, &e))?;
    match (body.status.as_deref(), body.results) {
        (Some("error"), _) => {
            let message = start(body.message.to_string());
            let kind = classify(&message).unwrap_or(Kind::SourceRejected);
            Err(source_error(kind, response, &message))
        }
        (_, Some(rows)) => {
            let (rows, stats) = (rows.into_vec()?, body.stats.0);
            let truncated = stats.truncated.as_deref() == Some("true");
            let count = stats.count.as_deref().and_then(|count| count.parse().ok()).unwrap_or(0);
            // The count of a truncated response may include the rows that were cut off.
            if rows.len() < count && !truncated {
                return Err(Error::new(Kind::SourceUnavailable, "the response has fewer rows than its row count")
                    .with("count", count)
                    .with("rows", rows.len()));
            }
            Ok(Results { rows, truncated, bytes: response.body.len() })
        }
        (_, None) => {
            let message = "the response has neither results nor an error";
            Err(source_error(Kind::SourceUnavailable, response, message))
        }
    }
}

fn parse_error(response: &HttpResponse, error: &serde_json::Error) -> Error {
    if error.is_data() {
        // The parser's message is omitted because it could quote the response.
        return Error::corrupt("the response does not have the expected structure").with("line", error.line());
    }
    invalid_json_error(response, error)
}

/// Returns the `message` of an error response, or the body if there is none: the start of it.
fn error_message(response: &HttpResponse) -> String {
    let parsed = serde_json::from_slice::<Lenient<ErrorBody>>(&response.body).ok();
    let message = parsed.and_then(|body| body.0.message.0);
    message.map_or_else(|| response.text().into_owned(), |message| start(message.to_string()))
}

/// Cuts off a message that is longer than any that a server sends.
fn start(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_TEXT_BYTES));
    message
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    message: Text,
}

/// Returns the kind of the status, except for a 403 of Transpose itself, which means that the account is out of credits
/// unless the message is about the API key.
fn refine_kind(kind: Kind, message: &str, response: &HttpResponse) -> Kind {
    let is_refused = response.status == StatusCode::FORBIDDEN && kind == Kind::BadCredentials;
    if is_refused && classify(message) != Some(Kind::BadCredentials) { Kind::QuotaExceeded } else { kind }
}

/// Lower-case substrings that identify error messages; the first match wins. Only used where the status is not
/// conclusive (200, 403). Credits come before the API key, because "this API key is out of credits" mentions both.
const MESSAGE_KINDS: &[(Kind, &str)] = &[
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

fn classify(message: &str) -> Option<Kind> {
    let message = message.to_lowercase();
    MESSAGE_KINDS.iter().find(|(_, substring)| message.contains(substring)).map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message for each entry of `MESSAGE_KINDS`, in its order.
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
    fn each_entry_matches_its_message() {
        assert_eq!(MESSAGES.len(), MESSAGE_KINDS.len());
        for (message, entry) in MESSAGES.iter().zip(MESSAGE_KINDS) {
            let lower = message.to_lowercase();
            assert_eq!(MESSAGE_KINDS.iter().find(|(_, substring)| lower.contains(substring)), Some(entry), "{message}");
            assert_eq!(classify(message), Some(entry.0), "{message}");
        }
    }

    #[test]
    fn status_403_means_out_of_credits_unless_about_the_key() {
        let kind = |status: u16, message: &str| {
            let (status, body) = (StatusCode::from_u16(status).unwrap(), message.as_bytes().to_vec());
            let response = HttpResponse { status, retry_after: None, body };
            refine_kind(response.kind_of_status().unwrap(), message, &response)
        };
        assert_eq!(kind(403, "You are out of credits"), Kind::QuotaExceeded);
        assert_eq!(kind(403, "This API key is out of credits"), Kind::QuotaExceeded);
        assert_eq!(kind(403, "Forbidden"), Kind::QuotaExceeded);
        assert_eq!(kind(403, "Invalid API key"), Kind::BadCredentials);
        assert_eq!(
            kind(403, "<html>Cloudflare: you are unable to access this API key</html>"),
            Kind::SourceUnavailable
        );
        assert_eq!(kind(401, "no credits"), Kind::BadCredentials);
        assert_eq!(kind(400, "statement timeout"), Kind::SourceRejected);
    }

    #[test]
    fn error_message_is_the_message_field_or_the_body() {
        let message = |body: &str| {
            let (status, body) = (StatusCode::BAD_REQUEST, body.as_bytes().to_vec());
            error_message(&HttpResponse { status, retry_after: None, body })
        };
        assert_eq!(message(r#"{"status": "error", "message": "no"}"#), "no");
        assert_eq!(message("<html>no</html>"), "<html>no</html>");
        assert_eq!(message(r#"{"error": "no"}"#), r#"{"error": "no"}"#);
        assert_eq!(message(&format!(r#"{{"message": "{}"}}"#, "ä".repeat(100_000))).len(), MAX_TEXT_BYTES);
    }
}
