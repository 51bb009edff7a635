//! Parsing of Transpose's responses.

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::sources::endpoint::Endpoint;
use crate::sources::http::HttpResponse;
use crate::sources::text::{Lenient, Text};

/// The rows of a response, and whether the server truncated it (at 10 MB, or at its time limit).
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

/// Returns the rows of a response, or the error that it reports.
pub(super) fn parse<T: Default + DeserializeOwned>(endpoint: &Endpoint, response: &HttpResponse) -> Result<Results<T>> {
    if let Some(kind) = response.kind_of_status() {
        let message = error_message(&response.body);
        return Err(endpoint.source_error(refine_kind(kind, &message, response), response, &message));
    }
    let body: Body<T> = serde_json::from_slice(&response.body).map_err(|e| parse_error(endpoint, response, &e))?;
    match (body.status.as_deref(), body.results) {
        (Some("error"), _) => {
            let message = body.message.to_string();
            let kind = classify(&message).unwrap_or(Kind::SourceRejected);
            Err(endpoint.source_error(kind, response, &message))
        }
        (_, Some(rows)) => {
            let stats = body.stats.0;
            let truncated = stats.truncated.as_deref() == Some("true");
            let count = stats.count.as_deref().and_then(|count| count.parse().ok()).unwrap_or(0);
            // The count of a truncated response may include the rows that were cut off.
            if rows.len() < count && !truncated {
                return Err(Error::new(Kind::SourceUnavailable, "the response has fewer rows than its row count")
                    .with("count", count)
                    .with("rows", rows.len()));
            }
            Ok(Results { rows: rows.into_iter().map(|row| row.0).collect(), truncated })
        }
        (_, None) => {
            let message = "the response has neither results nor an error";
            Err(endpoint.source_error(Kind::SourceUnavailable, response, message))
        }
    }
}

fn parse_error(endpoint: &Endpoint, response: &HttpResponse, error: &serde_json::Error) -> Error {
    if error.is_data() {
        // The parser's message is omitted because it could quote the response.
        return Error::corrupt("the response does not have the expected structure").with("line", error.line());
    }
    endpoint.invalid_json_error(response, error)
}

/// Returns the `message` of an error response, or the whole body if there is none.
fn error_message(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Lenient<ErrorBody>>(body).ok();
    let message = parsed.and_then(|body| body.0.message.0);
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |message| message.to_string())
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
        assert_eq!(error_message(br#"{"status": "error", "message": "no"}"#), "no");
        assert_eq!(error_message(b"<html>no</html>"), "<html>no</html>");
        assert_eq!(error_message(br#"{"error": "no"}"#), r#"{"error": "no"}"#);
    }
}
