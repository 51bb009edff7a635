//! JSON over HTTP: one POST, bounded in time and size, and what a status means.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};
use serde::Serialize;
use url::{Host, Url};

use super::traffic::Traffic;
use crate::error::{Error, Kind, Result};

/// A body longer than this is refused and not read into memory. Transpose stops at 10 MB, and 1,000 rows of a subgraph are
/// below 1 MB: more is no answer of theirs, and a function with 512 MB must survive it.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// A connection that isn't there by now won't come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Below the idle time after which load balancers drop a connection, and short enough that a function that was frozen
/// between two runs opens a new one instead of writing into a dead one.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// What came back, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Answer {
    /// What the status says by itself; each source refines it by what its body says.
    pub(crate) fn kind_of_status(&self) -> Option<Kind> {
        match self.status.as_u16() {
            200..=299 => None,
            429 => Some(Kind::Throttled),
            // 408 is a server that gave up waiting, not a request that is wrong.
            408 | 500..=599 => Some(Kind::SourceUnavailable),
            401 | 403 => Some(Kind::BadCredentials),
            402 => Some(Kind::QuotaExceeded),
            // Redirects too: they are not followed, since one could carry the key to another host.
            _ => Some(Kind::SourceRejected),
        }
    }
}

/// Posts JSON. It follows no redirect and repeats nothing by itself.
pub(crate) struct HttpClient {
    client: reqwest::Client,
    max_body_bytes: usize,
}

impl HttpClient {
    /// A client for one base address, with a time limit for a whole exchange.
    pub(crate) fn new(base: &Url, timeout: Duration, max_body_bytes: usize) -> Result<Self> {
        // Once a process; a second client finds it installed already, which is no error.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("defi-features/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .timeout(timeout);
        if is_loopback(base) {
            // A proxy of the environment would get to read the key of a plain request, and can't reach this machine anyway.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| Error::internal("no HTTP client").with_source(e))?;
        Ok(HttpClient { client, max_body_bytes })
    }

    /// Posts a body and reads the answer. Only an exchange that failed is an error here; a status of any kind is an answer.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: &impl Serialize,
        traffic: &Traffic,
    ) -> Result<Answer> {
        traffic.request();
        let response = self.client.post(url).headers(headers).json(body).send().await.map_err(unanswered)?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), Timestamp::now()));
        let body = self.read(response, traffic).await?;
        Ok(Answer { status, retry_after, body })
    }

    async fn read(&self, mut response: Response, traffic: &Traffic) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let too_long = |length: u64| length > self.max_body_bytes as u64;
        if response.content_length().is_some_and(too_long) {
            return Err(self.oversized());
        }
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            traffic.received(chunk.len());
            if too_long((body.len() + chunk.len()) as u64) {
                return Err(self.oversized());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn oversized(&self) -> Error {
        Error::corrupt("the source's answer is too long").with("limit_bytes", self.max_body_bytes)
    }
}

/// reqwest's error names the URL, in which a person may have put a key (the gateway's old form of address).
fn unanswered(error: reqwest::Error) -> Error {
    let kind = if error.is_builder() { Kind::Internal } else { Kind::SourceUnavailable };
    Error::new(kind, "the source did not answer").with_source(error.without_url())
}

/// `Retry-After`, in seconds or as an HTTP date; what is neither is no wish.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The header that carries a key. It is marked as sensitive, so that no debug output shows it.
pub(crate) fn key_header(name: &HeaderName, value: &str) -> Result<(HeaderName, HeaderValue)> {
    // The value is no part of the message.
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::bad_input("an API key has a character that no header may have"))?;
    value.set_sensitive(true);
    Ok((name.clone(), value))
}

/// Checks a base address: https, or http to this machine; no user, query or fragment, in which a key could stand.
///
/// # Errors
/// `BadInput`. The address itself is not in the message, for the same reason.
pub(crate) fn base_url(source: &'static str, text: &str) -> Result<Url> {
    let refuse = |why: &str| Error::bad_input(format!("the URL of {source} {why}"));
    let url = Url::parse(text.trim()).map_err(|e| refuse("can't be read").with_source(e))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("holds a user or a password; keys go into a header"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("holds a query or a fragment; keys go into a header"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(refuse("is plain http, which would show the key to the network; only this machine is asked so")),
        _ => Err(refuse("is neither https nor http")),
    }
}

/// The address of a resource below a base address.
pub(crate) fn below(base: &Url, path: &[&str]) -> Result<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Error::bad_input("the URL of a source has no path"))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        retry_after(&headers, "2015-10-21T07:27:30Z".parse().unwrap())
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        assert_eq!(asked("17"), Some(Duration::from_secs(17)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::now()), None);
    }

    #[test]
    fn a_status_has_a_kind() {
        let kind = |status| {
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body: Vec::new() };
            answer.kind_of_status()
        };
        assert_eq!(kind(200), None);
        assert_eq!(kind(429), Some(Kind::Throttled));
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(kind(status), Some(Kind::SourceUnavailable));
        }
        for status in [401, 403] {
            assert_eq!(kind(status), Some(Kind::BadCredentials));
        }
        assert_eq!(kind(402), Some(Kind::QuotaExceeded));
        for status in [302, 307, 400, 404, 413] {
            assert_eq!(kind(status), Some(Kind::SourceRejected));
        }
    }

    #[test]
    fn a_base_address_can_hold_no_key_and_leak_none() {
        for good in [
            "https://a.example/api",
            "http://127.0.0.1:80",
            "http://localhost:9/x",
            "http://[::1]:9",
            "http://127.9.9.9",
        ] {
            assert!(base_url("X", good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example/hunter2",
            "http://localhost.example/hunter2",
            "http://10.0.0.1/hunter2",
            "https://hunter2@a.example",
            "https://u:hunter2@a.example",
            "https://a.example?key=hunter2",
            "https://a.example#hunter2",
            "ftp://a.example/hunter2",
            "hunter2",
        ] {
            let error = base_url("X", bad).unwrap_err();
            assert_eq!(error.kind(), Kind::BadInput, "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_resource_is_below_its_base_with_or_without_a_slash() {
        for base in ["https://a.example/api", "https://a.example/api/"] {
            let url = below(&Url::parse(base).unwrap(), &["subgraphs", "id", "a/b"]).unwrap();
            assert_eq!(url.as_str(), "https://a.example/api/subgraphs/id/a%2Fb");
        }
    }
}
