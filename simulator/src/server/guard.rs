//! Keeps web pages away from the server. A page that a browser on this machine shows can send requests to loopback, and
//! with a name that resolves to loopback (DNS rebinding) even read the answers.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// The media type of requests. A browser sends it to another origin only if that origin allows it, which this server
/// never does.
const JSON: &str = "application/json";

/// Returns an error response for a request that a web page could have sent: to a host other than loopback, from another
/// origin, or with a body of a type that needs no permission.
pub(super) fn reject(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let Some(host) = only(headers, &HOST).and_then(|host| host.parse().ok()).filter(is_loopback) else {
        return Some(response(StatusCode::MISDIRECTED_REQUEST, "the Host header is not localhost or loopback"));
    };
    let own_origin = format!("http://{host}");
    if headers.contains_key(ORIGIN) && only(headers, &ORIGIN) != Some(own_origin.as_str()) {
        return Some(response(StatusCode::FORBIDDEN, "requests of web pages of other origins are not answered"));
    }
    if request.method() == Method::POST && !only(headers, &CONTENT_TYPE).is_some_and(is_json) {
        return Some(response(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the header Content-Type: application/json"));
    }
    None
}

/// Returns the value of a header that is there once and is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// Whether an authority is `localhost` or a loopback address. The port is not checked: it may be forwarded.
fn is_loopback(host: &Authority) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    !host.as_str().contains('@') && (is_address || name.eq_ignore_ascii_case("localhost"))
}

/// Whether a media type is JSON, with parameters or without.
fn is_json(value: &str) -> bool {
    value.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(JSON))
}

fn response(status: StatusCode, message: &'static str) -> Response {
    (status, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(HeaderName, &str)]) -> u16 {
        let mut request = Request::post("/sql");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        reject(&request.body(axum::body::Body::empty()).unwrap()).map_or(200, |response| response.status().as_u16())
    }

    #[test]
    fn only_loopback_is_a_host() {
        for host in ["127.0.0.1:8700", "127.0.0.1", "localhost:9", "LocalHost", "[::1]:8700", "127.9.9.9:1"] {
            assert_eq!(status(&[(HOST, host), (CONTENT_TYPE, JSON)]), 200, "{host}");
        }
        for host in [
            "attacker.example:8700",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "10.0.0.1:8700",
            "0.0.0.0:8700",
            "user@127.0.0.1",
            "localhost, attacker.example",
            "",
        ] {
            assert_eq!(status(&[(HOST, host), (CONTENT_TYPE, JSON)]), 421, "{host}");
        }
        assert_eq!(status(&[(CONTENT_TYPE, JSON)]), 421, "a request without a host");
        let twice = [(HOST, "localhost"), (HOST, "attacker.example"), (CONTENT_TYPE, JSON)];
        assert_eq!(status(&twice), 421, "a request with two hosts");
    }

    #[test]
    fn only_its_own_origin_is_answered() {
        let status = |origin| status(&[(HOST, "127.0.0.1:8700"), (CONTENT_TYPE, JSON), (ORIGIN, origin)]);
        assert_eq!(status("http://127.0.0.1:8700"), 200);
        for origin in [
            "http://attacker.example",
            "https://127.0.0.1:8700",
            "http://127.0.0.1:3000",
            "http://localhost:8700",
            "null",
            "",
        ] {
            assert_eq!(status(origin), 403, "{origin}");
        }
    }

    #[test]
    fn only_json_is_a_body() {
        for media_type in [JSON, "application/json; charset=utf-8", "Application/JSON;charset=utf-8"] {
            assert_eq!(status(&[(HOST, "localhost"), (CONTENT_TYPE, media_type)]), 200, "{media_type}");
        }
        // The three types that a page may send to any origin come first.
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/plain; application/json",
            "application/jsonp",
            "",
        ] {
            assert_eq!(status(&[(HOST, "localhost"), (CONTENT_TYPE, media_type)]), 415, "{media_type}");
        }
        assert_eq!(status(&[(HOST, "localhost")]), 415, "a body without a type");
    }
}
