//! Logic shared by both APIs: API keys with rate limits, a limit on concurrent requests, and retries.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;

use super::http::{HttpClient, HttpResponse, key_header};
use super::limits::{KeyRing, KeySlot, RateLimit, Secret};
use super::retry::RetryPolicy;
use super::traffic::Traffic;
use crate::cpu::run_cpu;
use crate::error::{Error, Kind, Result};

/// The maximum number of characters of a source's message that an error includes: enough for an error message, too few
/// for an HTML page.
const MAX_MESSAGE_CHARS: usize = 500;

/// Sends requests to one of the two APIs.
pub(crate) struct Endpoint {
    source: &'static str,
    http: HttpClient,
    keys: KeyRing,
    header: KeyHeader,
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
        let endpoint = Endpoint {
            source: settings.source,
            http: HttpClient::new(settings.base, settings.timeout, settings.max_body_bytes)?,
            keys: KeyRing::new(settings.keys, settings.rate)?,
            header: settings.header,
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
                let (slot, response) = self.send(url, body, traffic).await?;
                let parsed = run_cpu(|| parse(&response)).map_err(|error| {
                    let error = error.with_retry_after(response.retry_after);
                    match self.keys.name_of(slot).filter(|_| is_about_key(&error)) {
                        Some(name) => error.with("key", name),
                        None => error,
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
        self.retry.run(traffic, attempt).await.map_err(|error| error.with("source", self.source))
    }

    /// Sends a request once, with the next key. Returns the key, too.
    async fn send(&self, url: &Url, body: &impl Serialize, traffic: &Traffic) -> Result<(&KeySlot, HttpResponse)> {
        let _permit =
            self.permits.acquire().await.map_err(|e| Error::internal("the semaphore is closed").with_source(e))?;
        let slot = self.keys.acquire().await?;
        let response = self.http.post(url.clone(), self.headers(slot.key())?, body, traffic).await?;
        Ok((slot, response))
    }

    /// Returns an error with the source's message, truncated and with API keys redacted.
    pub(crate) fn source_error(&self, kind: Kind, response: &HttpResponse, message: &str) -> Error {
        let message = self.keys.redact(message);
        let mut message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        if message.is_empty() {
            message.push_str("the source returned an error without a message");
        }
        let mut error = Error::new(kind, message);
        if !response.status.is_success() {
            error = error.with("status", response.status.as_u16());
        }
        error
    }

    /// Returns the error for a response that is not valid JSON: usually the HTML page of a proxy in front of an
    /// unavailable source. The parser's message is omitted because it can quote the response, including API keys.
    pub(crate) fn invalid_json_error(&self, response: &HttpResponse, error: &serde_json::Error) -> Error {
        let kind = response.kind_of_status().unwrap_or(Kind::SourceUnavailable);
        let body = String::from_utf8_lossy(&response.body);
        self.source_error(kind, response, &format!("the response is not valid JSON: {body}")).with("line", error.line())
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap> {
        let Some(key) = key else { return Ok(HeaderMap::new()) };
        let value = format!("{}{}", self.header.prefix, key.expose());
        Ok(HeaderMap::from_iter([key_header(&self.header.name, &value)?]))
    }
}

/// Returns whether the error is about the API key of the request, so that it should say which of several that was.
fn is_about_key(error: &Error) -> bool {
    matches!(error.kind(), Kind::QuotaExceeded | Kind::BadCredentials)
}
