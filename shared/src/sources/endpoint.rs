//! Logic shared by both APIs: API keys with rate limits, a limit on concurrent requests, and retries.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;

use super::http::{HttpClient, HttpResponse, UrlSecrets, could_be_data, key_header, percent_decoded};
use super::limits::{KeyRing, KeySlot, RateLimit, Secret};
use super::redact::{KeyFinder, Repeated};
use super::retry::RetryPolicy;
use super::traffic::Traffic;
use crate::cpu::run_cpu;
use crate::error::{Error, Kind, Result, shorten};

/// The maximum number of characters of a source's message that an error includes: enough for an error message, too few
/// for an HTML page.
const MAX_MESSAGE_CHARS: usize = 500;

/// Returns whether a part of a URL's path may be an API key. A shorter one has letters and digits: rows may contain a word.
fn is_path_key(part: &str) -> bool {
    let has = |is: fn(&u8) -> bool| part.bytes().any(|byte| is(&byte));
    part.len() >= 16
        || !could_be_data(part) && part.len() >= 8 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

/// What to do about an API that rejects a request without a key.
pub(crate) const NO_KEY_HINT: &str =
    "no API key was sent: set one, and add --send-keys if the URL is not that of the live API";

/// Sends requests to one of the two APIs.
pub(crate) struct Endpoint {
    source: &'static str,
    http: HttpClient,
    keys: KeyRing,
    key_finder: KeyFinder,
    header: KeyHeader,
    no_key_hint: &'static str,
    /// Limits the concurrent requests of all callers together.
    permits: Semaphore,
    retry: RetryPolicy,
}

/// The header that carries the API key, and the prefix of its value.
pub(crate) struct KeyHeader {
    pub name: HeaderName,
    pub prefix: &'static str,
}

/// The settings of an [`Endpoint`].
pub(crate) struct EndpointSettings<'a> {
    /// The name of the source in errors, which must not contain the URL.
    pub source: &'static str,
    pub base: &'a Url,
    /// Texts besides the keys that must not appear anywhere.
    pub secrets: UrlSecrets,
    /// What to do about a request without a key that the source rejects.
    pub no_key_hint: &'static str,
    pub header: KeyHeader,
    pub keys: Vec<Secret>,
    pub rate: RateLimit,
    pub concurrency: usize,
    pub retry: RetryPolicy,
    pub timeout: Duration,
    pub max_body_bytes: usize,
}

impl Endpoint {
    pub(crate) fn new(settings: EndpointSettings<'_>) -> Result<Self> {
        if settings.concurrency == 0 {
            return Err(Error::bad_input("the number of concurrent requests must be at least one"));
        }
        // A user may have put a key into the path of the URL, which is the gateway's old URL format.
        let path = settings.base.path_segments().into_iter().flatten();
        let path = path.filter(|part| is_path_key(part)).flat_map(|part| [part.to_owned(), percent_decoded(part)]);
        let path: Vec<_> = path.map(Secret::new).collect();
        let endpoint = Endpoint {
            key_finder: KeyFinder::new(
                settings.keys.iter().chain(&path).chain(&settings.secrets.keys),
                &settings.secrets.names,
            )?,
            source: settings.source,
            http: HttpClient::new(settings.base, settings.timeout, settings.max_body_bytes)?,
            keys: KeyRing::new(settings.keys, settings.rate)?,
            header: settings.header,
            no_key_hint: settings.no_key_hint,
            permits: Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS)),
            retry: settings.retry,
        };
        for key in endpoint.keys.keys() {
            if key.expose().is_empty() {
                return Err(Error::bad_input("an API key is empty"));
            }
            endpoint.headers(Some(key))?;
        }
        Ok(endpoint)
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Sends a POST request and parses the response, with retries of transient errors. `parse` is part of the attempt:
    /// the request is also retried when `parse` returns a transient error. A key whose quota is used up is set aside,
    /// and the request is sent again with another key.
    pub(crate) async fn request<T>(
        &self,
        url: &Url,
        body: &impl Serialize,
        traffic: &Traffic,
        parse: impl Fn(&HttpResponse) -> Result<T>,
    ) -> Result<T> {
        let attempt = || async {
            // Ends: every turn but the last sets a key aside.
            loop {
                let (slot, mut response) = self.send(url, body, traffic).await?;
                let parsed = run_cpu(|| self.parse_without_keys(&mut response, &parse)).map_err(|error| {
                    let error = error.with_retry_after(response.retry_after);
                    match (error.kind(), slot.key(), self.keys.name_of(slot)) {
                        (Kind::BadCredentials, None, _) => error.with_hint(self.no_key_hint),
                        (Kind::QuotaExceeded | Kind::BadCredentials, _, Some(name)) => error.with("key", name),
                        _ => error,
                    }
                });
                match parsed {
                    Err(error) if error.kind() == Kind::QuotaExceeded && self.keys.set_aside(slot) => {
                        traffic.count_retry(error.kind());
                        tracing::warn!(source = self.source, error = error.details(), "an API key is set aside");
                    }
                    Err(error) => return Err(error),
                    Ok(parsed) => {
                        traffic.count_page();
                        return Ok(parsed);
                    }
                }
            }
        };
        self.retry.run(traffic, attempt).await.map_err(|error| error.finally().with("source", self.source))
    }

    /// Sends a request once, with the next key. Returns the key, too.
    async fn send(&self, url: &Url, body: &impl Serialize, traffic: &Traffic) -> Result<(&KeySlot, HttpResponse)> {
        let _permit =
            self.permits.acquire().await.map_err(|e| Error::internal("the semaphore is closed").with_source(e))?;
        let slot = self.keys.acquire().await?;
        let response = self.http.post(url.clone(), self.headers(slot.key())?, body, traffic).await;
        let response = response.map_err(|error| self.error_without_keys(error))?;
        tracing::debug!(
            source = self.source,
            status = response.status.as_u16(),
            bytes = response.body.len(),
            "response"
        );
        Ok((slot, response))
    }

    /// Removes secrets from an error of the connection: that of a certificate names the host.
    fn error_without_keys(&self, error: Error) -> Error {
        let mut details = error.details().into_bytes();
        match self.key_finder.redact(&mut details) {
            Repeated::No => error,
            Repeated::Redacted => Error::new(error.kind(), String::from_utf8_lossy(&details)),
            Repeated::Encoded => Error::new(error.kind(), "the source did not respond"),
        }
    }

    /// Parses a response in which no API key is left: whatever `parse` makes of it, rows or an error, can be stored and
    /// shown. Rows that contained a key are rejected, because they are no longer as the source sent them.
    fn parse_without_keys<T>(
        &self,
        response: &mut HttpResponse,
        parse: impl Fn(&HttpResponse) -> Result<T>,
    ) -> Result<T> {
        let repeated = self.key_finder.redact(&mut response.body);
        match (repeated, parse(response)) {
            (Repeated::No, parsed) | (Repeated::Redacted, parsed @ Err(_)) => parsed,
            (Repeated::Encoded, Err(error)) => {
                let message =
                    "the error message of the source contains the API key in an encoded form, and is left out";
                Err(source_error(error.kind(), response, message))
            }
            (Repeated::Redacted | Repeated::Encoded, Ok(_)) => {
                Err(Error::corrupt("the data in the response contain the API key").with_hint(
                    "check which server the URL of the source names, and replace the key: it may be known to others",
                ))
            }
        }
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap> {
        let Some(key) = key else { return Ok(HeaderMap::new()) };
        let value = format!("{}{}", self.header.prefix, key.expose());
        Ok(HeaderMap::from_iter([key_header(&self.header.name, &value)?]))
    }
}

/// Returns an error with the source's message, shortened. The response contains no API key: see
/// [`Endpoint::request`].
pub(crate) fn source_error(kind: Kind, response: &HttpResponse, message: &str) -> Error {
    let message = match message {
        "" => "the source returned an error without a message",
        message => message,
    };
    let error = Error::new(kind, shorten(message, MAX_MESSAGE_CHARS));
    match response.status.is_success() {
        true => error,
        false => error.with("status", response.status.as_u16()),
    }
}

/// Returns the error for a response that is not valid JSON: usually the HTML page of a proxy in front of an unavailable
/// source. The parser's message is omitted because it can quote the response.
pub(crate) fn invalid_json_error(response: &HttpResponse, error: &serde_json::Error) -> Error {
    let kind = response.kind_of_status().unwrap_or(Kind::SourceUnavailable);
    let message = format!("the response is not valid JSON: {}", response.text());
    source_error(kind, response, &message).with("line", error.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_path_are_no_key() {
        for (part, is_key) in [
            ("hunter2x", true),
            ("k3y", false),
            ("ethereum", false),
            ("20230101", false),
            ("abcdef123456", false),
            ("gr4phsecretkeyAAAA0123456789", true),
            ("abcdefghijklmnop", true),
        ] {
            assert_eq!(is_path_key(part), is_key, "{part}");
        }
    }
}
