//! JSON over HTTP: POST requests with limits on time and size, and the error kinds of status codes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};
use serde::Serialize;
use url::{Host, Url, form_urlencoded};

use super::limits::Secret;
use super::traffic::Traffic;
use crate::error::{Error, Kind, Result};

/// The part of a body that is looked at to understand an error, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 64 << 10;

/// The timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The idle time after which a connection is closed. It is shorter than the idle timeout of load balancers, and short
/// enough that a Lambda function that was frozen between two invocations opens a new connection instead of writing to a
/// dead one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// An HTTP response with any status.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Returns the error kind of the status, or `None` for a success. Each source refines it based on the body.
    pub(crate) fn kind_of_status(&self) -> Option<Kind> {
        match self.status.as_u16() {
            200..=299 => None,
            429 => Some(Kind::Throttled),
            // The API itself responds with JSON. A proxy in front of it, such as Cloudflare, refuses requests for a
            // while, whatever their key.
            403 if self.is_proxy_page() => Some(Kind::SourceUnavailable),
            // 408 means that the server timed out, not that the request is invalid.
            408 | 500..=599 => Some(Kind::SourceUnavailable),
            401 | 403 => Some(Kind::BadCredentials),
            402 => Some(Kind::QuotaExceeded),
            // Includes redirects: they are not followed, because one could send the key to another host.
            _ => Some(Kind::SourceRejected),
        }
    }

    /// Returns the start of the body, for error messages.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body.get(..MAX_TEXT_BYTES).unwrap_or(&self.body))
    }

    /// Returns whether the body is an HTML page, or the text `error code: …` that Cloudflare sends to programs.
    pub(crate) fn is_proxy_page(&self) -> bool {
        let body = self.body.trim_ascii_start();
        body.starts_with(b"<") || body.starts_with(b"error code:")
    }
}

/// Sends JSON in POST requests. Follows no redirects and does not retry.
pub(crate) struct HttpClient {
    client: reqwest::Client,
    max_body_bytes: usize,
}

impl HttpClient {
    /// Creates a client for a base URL. `timeout` covers a whole request, including the response body.
    pub(crate) fn new(base: &Url, timeout: Duration, max_body_bytes: usize) -> Result<Self> {
        // Installed once per process. For later clients this returns an error, which is harmless.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("defi-features/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(timeout);
        if is_loopback(base) {
            // A proxy from the environment could read the key of a plain http request, and cannot reach this machine
            // anyway.
            builder = builder.no_proxy();
            if base.scheme() == "http" {
                // No certificate is verified, so the roots of this machine, which take a while to parse, are not read.
                builder = builder.tls_certs_only([]);
            }
        }
        let client =
            builder.build().map_err(|e| Error::internal("the HTTP client could not be created").with_source(e))?;
        Ok(HttpClient { client, max_body_bytes })
    }

    /// Sends a POST request and reads the response. A response with any status is `Ok`; errors are failures to receive
    /// a complete response.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: &impl Serialize,
        traffic: &Traffic,
    ) -> Result<HttpResponse> {
        traffic.count_request();
        let response = self.client.post(url).headers(headers).json(body).send().await.map_err(transport_error)?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), Timestamp::now()));
        let body = self.read_body(response, traffic).await?;
        Ok(HttpResponse { status, retry_after, body })
    }

    async fn read_body(&self, mut response: Response, traffic: &Traffic) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let too_long = |length: u64| length > self.max_body_bytes as u64;
        if response.content_length().is_some_and(too_long) {
            return Err(self.body_too_long());
        }
        while let Some(chunk) = response.chunk().await.map_err(transport_error)? {
            traffic.count_bytes(chunk.len());
            if too_long((body.len() + chunk.len()) as u64) {
                return Err(self.body_too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn body_too_long(&self) -> Error {
        Error::corrupt(BodyTooLong.to_string()).with("limit_bytes", self.max_body_bytes).with_source(BodyTooLong)
    }
}

/// The cause of the error for a response body that is too long, for clients that can ask for less.
#[derive(Debug)]
pub(crate) struct BodyTooLong;

impl fmt::Display for BodyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response body is too long")
    }
}

impl std::error::Error for BodyTooLong {}

impl BodyTooLong {
    /// Returns whether this is the cause of an error.
    pub(crate) fn caused(error: &Error) -> bool {
        std::error::Error::source(error).is_some_and(|source| source.is::<BodyTooLong>())
    }
}

/// Converts an error of reqwest, without the URL: a user may have put an API key into its path (the gateway's old URL
/// format).
fn transport_error(error: reqwest::Error) -> Error {
    let kind = if error.is_builder() { Kind::Internal } else { Kind::SourceUnavailable };
    Error::new(kind, "the source did not respond").with_source(error.without_url())
}

/// Parses `Retry-After`, in seconds or as an HTTP date. Returns `None` if the header is missing or invalid.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Returns the header that carries an API key. The value is marked as sensitive, so that `Debug` does not show it.
pub(crate) fn key_header(name: &HeaderName, value: &str) -> Result<(HeaderName, HeaderValue)> {
    // The message must not contain the value.
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::bad_input("an API key contains a character that is not allowed in a header"))?;
    value.set_sensitive(true);
    Ok((name.clone(), value))
}

/// Parses and checks a base URL: https, or http for a loopback address. A user name, a password, a query and a fragment
/// are rejected because they could contain an API key.
///
/// # Errors
/// `BadInput`. The message does not contain the URL, for the same reason.
pub(crate) fn base_url(source: &'static str, text: &str) -> Result<Url> {
    let invalid = |reason: &str| Error::bad_input(format!("the URL of {source} {reason}"));
    let url = Url::parse(text.trim()).map_err(|e| invalid("is invalid").with_source(e))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("contains a user name or a password; API keys are sent in a header"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("contains a query or a fragment; API keys are sent in a header"));
    }
    require_encryption(source, url)
}

/// Parses and checks a URL that is a secret as a whole, and may have a key in any part but the fragment: https, or http
/// for a loopback address.
///
/// # Errors
/// `BadInput`. The message does not contain the URL.
pub(crate) fn secret_url(source: &'static str, url: &Secret) -> Result<Url> {
    let invalid = |reason: &str| Error::bad_input(format!("the URL of {source} {reason}"));
    let url = Url::parse(url.expose()).map_err(|e| invalid("is invalid").with_source(e))?;
    if url.fragment().is_some() {
        return Err(invalid("contains a fragment"));
    }
    require_encryption(source, url)
}

fn require_encryption(source: &'static str, url: Url) -> Result<Url> {
    let invalid = |reason: &str| Error::bad_input(format!("the URL of {source} {reason}"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(invalid("uses http, which would expose the API key; only loopback addresses may use http")),
        _ => Err(invalid("must use https or http")),
    }
}

/// The texts of a secret URL that must not appear anywhere.
#[derive(Debug, Default)]
pub(crate) struct UrlSecrets {
    /// The parts that can be a key. A short part that is a word of the URL's format (`v2`), or that could stand in hex
    /// data by chance, is none.
    pub keys: Vec<Secret>,
    /// The URL and its host, which are secret as a whole: the documents of a provider have a similar host.
    pub names: Vec<Secret>,
}

impl UrlSecrets {
    pub(crate) fn of(url: &Url) -> Self {
        let value = |pair: &'_ str| pair.split_once('=').map_or(pair, |(_, value)| value).to_owned();
        let mut keys = vec![url.username().to_owned(), url.password().unwrap_or_default().to_owned()];
        keys.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        keys.extend(url.query().into_iter().flat_map(|query| query.split('&')).map(value));
        let decoded: Vec<String> = keys.iter().map(|text| percent_decoded(text)).collect();
        keys.extend(decoded);
        keys.retain(|key| key.len() >= MIN_SECRET_CHARS && !could_be_data(key));
        let host = url.domain().filter(|_| !is_loopback(url));
        let names = host.into_iter().chain([url.as_str().trim_end_matches('/')]);
        UrlSecrets { keys: keys.into_iter().map(Secret::new).collect(), names: names.map(Secret::new).collect() }
    }
}

/// Returns a part of a URL without its percent encoding.
pub(crate) fn percent_decoded(part: &str) -> String {
    // A form has signs with a meaning of their own.
    let part = part.replace('+', "%2B").replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(part.as_bytes()).map(|(text, _)| text.into_owned()).next().unwrap_or_default()
}

/// The minimum length of a part of a secret URL that may be a key.
const MIN_SECRET_CHARS: usize = 8;

/// Returns whether hex data may contain a text by chance.
pub(crate) fn could_be_data(text: &str) -> bool {
    text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns whether a secret URL is one of this machine.
#[must_use]
pub fn is_on_this_machine(url: &Secret) -> bool {
    Url::parse(url.expose()).is_ok_and(|url| is_loopback(&url))
}

/// Returns the origin of a URL (scheme, host and port): all of a URL that may be shown, because its path may contain an
/// API key. Returns `None` for text that is not a URL with a host.
///
/// ```
/// use defi_shared::sources::origin;
/// assert_eq!(origin("https://u:p@a.example:444/api/key?x").as_deref(), Some("https://a.example:444"));
/// assert_eq!(origin("no url"), None);
/// ```
#[must_use]
pub fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url.trim()).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Returns the URL of a resource: the base URL with path segments appended.
pub(crate) fn append_path(base: &Url, segments: &[&str]) -> Result<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Error::bad_input("the URL of a source cannot have a path"))?
        .pop_if_empty()
        .extend(segments);
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

    fn parse_retry_after(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        retry_after(&headers, "2015-10-21T07:27:30Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("17"), Some(Duration::from_secs(17)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::now()), None);
    }

    #[test]
    fn status_403_of_a_proxy_is_transient() {
        let kind = |body: &str| {
            let body = body.as_bytes().to_vec();
            HttpResponse { status: StatusCode::FORBIDDEN, retry_after: None, body }.kind_of_status()
        };
        let page = "\n<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title>Your API key …</html>";
        assert_eq!(kind(page), Some(Kind::SourceUnavailable));
        assert_eq!(kind("error code: 1020"), Some(Kind::SourceUnavailable));
        assert_eq!(kind(r#"{"message": "Invalid API key"}"#), Some(Kind::BadCredentials));
        assert_eq!(kind(""), Some(Kind::BadCredentials));
    }

    #[test]
    fn maps_status_codes_to_error_kinds() {
        let kind = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            HttpResponse { status, retry_after: None, body: Vec::new() }.kind_of_status()
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
    fn rejects_base_urls_that_could_leak_a_key() {
        for valid in [
            "https://a.example/api",
            "http://127.0.0.1:80",
            "http://localhost:9/x",
            "http://[::1]:9",
            "http://127.9.9.9",
        ] {
            assert!(base_url("X", valid).is_ok(), "{valid}");
        }
        for invalid in [
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
            let error = base_url("X", invalid).unwrap_err();
            assert_eq!(error.kind(), Kind::BadInput, "{invalid}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_secret_url_may_have_a_key_in_any_part() {
        let url = |text: &str| secret_url("X", &Secret::new(text));
        for valid in ["https://user:pass@a.example/v2/key?key=k", "http://127.0.0.1:8545", "http://localhost:1/?a=b"] {
            assert!(url(valid).is_ok(), "{valid}");
        }
        for invalid in
            ["http://a.example/hunter2", "https://a.example/#hunter2", "ws://a.example/hunter2", "hunter2", ""]
        {
            let error = url(invalid).unwrap_err();
            assert_eq!(error.kind(), Kind::BadInput, "{invalid}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let secrets = |text: &str| {
            let UrlSecrets { keys, names } = UrlSecrets::of(&url(text).unwrap());
            [keys, names].map(|all| all.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>())
        };
        let [keys, names] =
            secrets("https://somebody:pass%2fword@a.example/v2/0123456789abcdef0?apikey=query-key&x=00000000");
        for key in ["somebody", "pass%2fword", "pass/word", "0123456789abcdef0", "query-key"] {
            assert!(keys.contains(&key.to_owned()), "{key}: {keys:?}");
        }
        let [encoded, _] = secrets("https://a.example/v2/Ab1+cd%2Fef2+gh%3D=?key=i%2Bj%26k-l-m-n");
        for key in ["Ab1+cd/ef2+gh==", "i+j&k-l-m-n"] {
            assert!(encoded.contains(&key.to_owned()), "{key}: {encoded:?}");
        }
        assert!(!keys.iter().any(|key| ["v2", "apikey", "00000000"].contains(&key.as_str())), "{keys:?}");
        assert_eq!(names[0], "a.example");
        assert_eq!(secrets("http://localhost:8545/"), [vec![], vec!["http://localhost:8545".to_owned()]]);
    }

    #[test]
    fn appends_path_with_or_without_trailing_slash() {
        for base in ["https://a.example/api", "https://a.example/api/"] {
            let url = append_path(&Url::parse(base).unwrap(), &["subgraphs", "id", "a/b"]).unwrap();
            assert_eq!(url.as_str(), "https://a.example/api/subgraphs/id/a%2Fb");
        }
    }
}
