//! What both APIs have in common: a key that waits for its turn, a bound on requests at once, and tries.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;

use super::http::{Answer, HttpClient, key_header};
use super::limits::{KeyRing, RateLimit, Secret};
use super::retry::RetryPolicy;
use super::traffic::Traffic;
use crate::cpu::run_cpu;
use crate::error::{Error, Kind, Result};

/// Longest text of a source that goes into an error: enough for a message, too little for a page of HTML.
const LONGEST_MESSAGE: usize = 500;

/// How the two APIs are asked.
pub(crate) struct Endpoint {
    source: &'static str,
    http: HttpClient,
    keys: KeyRing,
    header: KeyHeader,
    /// Holds for all callers of the client together.
    at_once: Semaphore,
    retry: RetryPolicy,
}

/// The header that carries the key, and what stands before the key in it.
pub(crate) struct KeyHeader {
    pub name: HeaderName,
    pub prefix: &'static str,
}

/// What an [`Endpoint`] is made of.
pub(crate) struct EndpointSettings<'a> {
    /// What errors call it: two sources are asked at once, and the URL may not be shown.
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
            return Err(Error::bad_input("at least one request at a time must be allowed"));
        }
        let endpoint = Endpoint {
            source: settings.source,
            http: HttpClient::new(settings.base, settings.timeout, settings.max_body_bytes)?,
            keys: KeyRing::new(settings.keys, settings.rate)?,
            header: settings.header,
            at_once: Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS)),
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

    /// Posts until `read` makes something of an answer, or an error stands. `read` is part of the try: an answer that it
    /// finds broken is asked for again.
    pub(crate) async fn ask<T>(
        &self,
        url: &Url,
        body: &impl Serialize,
        traffic: &Traffic,
        read: impl Fn(&Answer) -> Result<T>,
    ) -> Result<T> {
        let once = || async {
            let answer = {
                let _permit = self.at_once.acquire().await.map_err(|e| Error::internal("no permit").with_source(e))?;
                let key = self.keys.turn().await;
                self.http.post(url.clone(), self.headers(key)?, body, traffic).await?
            };
            let found = run_cpu(|| read(&answer)).map_err(|error| error.with_retry_after(answer.retry_after))?;
            traffic.page();
            Ok(found)
        };
        self.retry.run(traffic, once).await.map_err(|error| error.with("source", self.source))
    }

    /// An error with what the source said: without keys, and not too long.
    pub(crate) fn said(&self, kind: Kind, answer: &Answer, message: &str) -> Error {
        let message = self.keys.redact(message);
        let short: String = message.chars().take(LONGEST_MESSAGE).collect();
        let mut error = Error::new(kind, if short.is_empty() { "the source gave no reason".to_owned() } else { short });
        if !answer.status.is_success() {
            error = error.with("status", answer.status.as_u16());
        }
        error
    }

    /// The error of an answer that isn't JSON: most often a proxy's page of HTML in front of a source that is down. The
    /// parser's own words are left out: they can quote the answer, keys and all.
    pub(crate) fn not_json(&self, answer: &Answer, error: &serde_json::Error) -> Error {
        let kind = answer.kind_of_status().unwrap_or(Kind::SourceUnavailable);
        let body = String::from_utf8_lossy(&answer.body);
        self.said(kind, answer, &format!("the answer is not the JSON that it must be: {body}"))
            .with("line", error.line())
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap> {
        let Some(key) = key else { return Ok(HeaderMap::new()) };
        let value = format!("{}{}", self.header.prefix, key.expose());
        Ok(HeaderMap::from_iter([key_header(&self.header.name, &value)?]))
    }
}
