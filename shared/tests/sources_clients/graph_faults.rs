//! Tests of faults of the gateway, its indexers and the proxies in front of them.

use std::time::{Duration, Instant};

use axum::body::Body;
use defi_shared::error::{Error, Kind};
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::{RetryPolicy, Secret, Traffic};
use futures::stream;
use serde_json::{Value, json};

use super::graph::{BLOCK, SUBGRAPH, client, meta, respond, settings};
use super::loopback::{TestRequest, TestResponse, TestServer};

const TRIES: usize = RetryPolicy::LOOPBACK.tries;
const KEY: &str = "hunter2hunter2";

fn markets(block: u64, deployment: &str) -> TestResponse {
    TestResponse::json(&json!({ "data": { "_meta": meta(block, deployment), "markets": [] } }))
}

/// Returns the error if the server always responds with a fault, and the number of requests.
async fn failure(fault: impl Fn(&TestRequest) -> TestResponse + Send + Sync + 'static) -> (Error, usize) {
    let server = TestServer::start(fault).await;
    let error = client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
    (error, server.count())
}

/// Checks that the client succeeds if the server responds with a fault twice.
async fn recovers(fault: impl Fn(&TestRequest) -> TestResponse + Send + Sync + 'static) -> Traffic {
    let server =
        TestServer::start(move |request| if request.number < 2 { fault(request) } else { markets(BLOCK, "QmA") }).await;
    let traffic = Traffic::new();
    client(&server).markets(SUBGRAPH, BLOCK, &traffic).await.unwrap();
    assert_eq!(server.count(), 3);
    traffic
}

fn errors(message: &str) -> Value {
    json!({ "errors": [{ "message": message }] })
}

#[tokio::test]
async fn transient_statuses_are_retried_and_counted() {
    let traffic = recovers(|_| TestResponse::new(500, "oops")).await;
    let report = traffic.report();
    assert_eq!((report.requests, report.pages, report.retries["SourceUnavailable"]), (3, 1, 2));
    let traffic = recovers(|_| TestResponse::new(429, "slow down")).await;
    assert_eq!(traffic.report().retries["Throttled"], 2);
}

#[tokio::test]
async fn waits_for_retry_after() {
    let server = TestServer::start(|request| match request.number {
        0 => TestResponse::new(429, "{}").with_header("retry-after", 1),
        _ => markets(BLOCK, "QmA"),
    })
    .await;
    let start = Instant::now();
    client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let (error, requests) = failure(|_| TestResponse::new(429, "{}").with_header("retry-after", 3600)).await;
    assert_eq!((error.kind(), error.retry_after(), requests), (Kind::Throttled, Some(Duration::from_secs(3600)), 1));
}

#[tokio::test]
async fn maps_statuses_to_error_kinds() {
    for (status, kind, expected_requests) in [
        (400, Kind::SourceRejected, 1),
        (401, Kind::BadCredentials, 1),
        (402, Kind::QuotaExceeded, 1),
        (403, Kind::BadCredentials, 1),
        (404, Kind::SourceRejected, 1),
        (429, Kind::Throttled, TRIES),
        (500, Kind::SourceUnavailable, TRIES),
        (503, Kind::SourceUnavailable, TRIES),
    ] {
        let (error, requests) = failure(move |_| TestResponse::new(status, "{}")).await;
        assert_eq!((error.kind(), requests), (kind, expected_requests), "{status}");
        assert!(error.details().contains(&format!("status={status}")), "{error}");
    }
    // Some servers return GraphQL errors with status 400.
    let (error, _) = failure(|_| TestResponse::new(400, errors("block 17 was pruned").to_string())).await;
    assert_eq!(error.kind(), Kind::HistoryPruned);
}

#[tokio::test]
async fn an_html_page_is_a_transient_error() {
    recovers(|_| TestResponse::new(200, "<html>Bad gateway</html>")).await;
    let (error, requests) = failure(|_| TestResponse::new(200, "<html>Bad gateway</html>")).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
    assert!(error.details().contains("<html>Bad gateway"), "{error}");
}

#[tokio::test]
async fn status_403_of_a_proxy_is_retried() {
    let page = "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>";
    recovers(move |_| TestResponse::new(403, page)).await;
    let (error, requests) = failure(move |_| TestResponse::new(403, page)).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
}

#[tokio::test]
async fn messages_determine_the_kind_if_the_status_is_200() {
    for (message, kind) in [
        ("Query timed out", Kind::SourceUnavailable),
        ("bad indexers: {0xab: Timeout}", Kind::SourceUnavailable),
        ("an unknown message", Kind::SourceUnavailable),
        (
            "subgraph QmA has only indexed up to block number 1 and data for block number 2 is therefore not yet available",
            Kind::NotReady,
        ),
        (
            "subgraph QmA only has data starting at block number 9 and data for block number 2 is therefore not available",
            Kind::HistoryPruned,
        ),
        ("auth error: payment required for subsequent requests for this API key", Kind::QuotaExceeded),
        ("auth error: API key not found", Kind::BadCredentials),
        ("Type `Market` has no field `ltv`", Kind::SourceRejected),
    ] {
        let (error, requests) = failure(move |_| TestResponse::json(&errors(message))).await;
        assert_eq!((error.kind(), requests), (kind, if kind.is_transient() { TRIES } else { 1 }), "{message}");
        assert!(error.details().contains(message), "{error}");
        assert!(error.details().contains(&format!("subgraph={SUBGRAPH}, block={BLOCK}")), "{error}");
    }
}

#[tokio::test]
async fn data_with_errors_is_an_error() {
    let both = || json!({ "data": { "_meta": meta(BLOCK, "QmA"), "markets": [] }, "errors": [{ "message": "Query timed out" }] });
    let (error, requests) = failure(move |_| TestResponse::json(&both())).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
    // A permanent error takes precedence over a transient one.
    let several = || json!({ "errors": [{ "message": "Query timed out" }, { "message": "auth error: no" }] });
    assert_eq!(failure(move |_| TestResponse::json(&several())).await.0.kind(), Kind::BadCredentials);
    // An empty list of errors is a success.
    let server = TestServer::start(|_| {
        TestResponse::json(&json!({ "data": { "_meta": meta(BLOCK, "QmA"), "markets": [] }, "errors": [] }))
    })
    .await;
    client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap();
}

#[tokio::test]
async fn rejects_responses_without_data_or_malformed() {
    for empty in ["{}", r#"{"data": null}"#] {
        assert_eq!(failure(move |_| TestResponse::new(200, empty)).await.0.kind(), Kind::SourceUnavailable, "{empty}");
    }
    for malformed in [r#"{"data": {}}"#, r#"{"data": {"_meta": null, "markets": []}}"#, r#"{"data": {"markets": {}}}"#]
    {
        let (error, requests) = failure(move |_| TestResponse::new(200, malformed)).await;
        assert_eq!((error.kind(), requests), (Kind::CorruptData, 1), "{malformed}");
    }
}

#[tokio::test]
async fn rejects_responses_for_another_block() {
    recovers(|_| markets(BLOCK - 1, "QmA")).await;
    let (error, requests) = failure(|_| markets(BLOCK - 1, "QmA")).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
}

#[tokio::test]
async fn indexing_errors_are_permanent() {
    let (error, requests) = failure(|_| {
        let mut meta = meta(BLOCK, "QmA");
        meta["hasIndexingErrors"] = json!(true);
        TestResponse::json(&json!({ "data": { "_meta": meta, "markets": [] } }))
    })
    .await;
    assert_eq!((error.kind(), requests), (Kind::SourceRejected, 1));
}

/// Reads a snapshot of two pages. In requests before number `end`, the second page has another value in a field of
/// `_meta`.
async fn read_two_states(field: &'static str, value: Value, end: usize) -> (Result<String, Error>, usize, Traffic) {
    let ids: Vec<String> = (0..1500).map(|n| format!("0xff{n:04}")).collect();
    let server = TestServer::start(move |request| {
        let mut body = respond(&ids, request);
        if request.number % 2 == 1 && request.number < end {
            *body.pointer_mut(&format!("/data/_meta/{field}")).unwrap() = value.clone();
        }
        TestResponse::json(&body)
    })
    .await;
    let traffic = Traffic::new();
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, None, false, &traffic).await;
    let deployment = snapshot.map(|snapshot| {
        assert_eq!(snapshot.rows.len(), 1500);
        snapshot.deployment
    });
    (deployment, server.count(), traffic)
}

#[tokio::test]
async fn a_snapshot_has_one_deployment_and_one_block() {
    for (field, value) in [("deployment", json!("QmB")), ("block/hash", json!("0xdef"))] {
        // The second page has another state once; then the whole snapshot is read again.
        let (deployment, requests, traffic) = read_two_states(field, value.clone(), 2).await;
        assert_eq!((deployment.unwrap().as_str(), requests), ("QmA", 4));
        assert_eq!(traffic.report().retries["SourceUnavailable"], 1);

        let (outcome, requests, _) = read_two_states(field, value, usize::MAX).await;
        assert_eq!((outcome.unwrap_err().kind(), requests), (Kind::SourceUnavailable, 2 * TRIES));
    }
}

#[tokio::test]
async fn a_failed_page_does_not_restart_the_snapshot() {
    let ids: Vec<String> = (0..1500).map(|n| format!("0xff{n:04}")).collect();
    let server = TestServer::start(move |request| match request.number {
        0 => TestResponse::json(&respond(&ids, request)),
        _ => TestResponse::new(500, ""),
    })
    .await;
    let error = client(&server).positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 1 + TRIES));
}

#[tokio::test]
async fn an_ignored_filter_is_an_error_and_not_an_endless_loop() {
    let ids: Vec<String> = (0..1000).map(|n| format!("0xff{n:04}")).collect();
    let server = TestServer::start(move |request| {
        let mut unfiltered = request.clone();
        unfiltered.body["variables"]["where"] = json!({});
        TestResponse::json(&respond(&ids, &unfiltered))
    })
    .await;
    let error = client(&server).positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 1 + TRIES));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = TestServer::start(|_| markets(BLOCK, "QmA")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = other.url.clone();
        let (error, requests) =
            failure(move |_| TestResponse::new(status, "").with_header("location", &location)).await;
        assert_eq!((error.kind(), requests), (Kind::SourceRejected, 1), "{status}");
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn rejects_a_body_that_is_too_long() {
    let chunk = || Ok::<_, std::io::Error>(vec![b' '; 600]);
    let with_length = TestServer::start(|_| TestResponse::new(200, vec![b' '; 1200])).await;
    let streamed =
        TestServer::start(move |_| TestResponse::new(200, Body::from_stream(stream::iter([chunk(), chunk()])))).await;
    for server in [with_length, streamed] {
        let client = GraphClient::new(GraphSettings { max_body_bytes: 1000, ..settings(&server, "k3y") }).unwrap();
        let error = client.markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
        assert_eq!((error.kind(), server.count()), (Kind::CorruptData, 1));
    }
}

/// The gateway waits 20 seconds for an indexer and asks three before it answers. Without an answer for so long, a request is still
/// open; `requests_time_out` shows that the setting is what ends it.
#[tokio::test]
async fn default_timeout_is_longer_than_the_gateway_takes() {
    let server = TestServer::start(|_| markets(BLOCK, "QmA")).await;
    let gateway = 3 * Duration::from_secs(20);
    let timeout = settings(&server, "k3y").timeout;
    assert!(timeout >= gateway + Duration::from_secs(30), "{timeout:?}");
}

#[tokio::test]
async fn requests_time_out() {
    let server = TestServer::start(|_| markets(BLOCK, "QmA").with_delay(Duration::from_secs(60))).await;
    let retry = RetryPolicy { tries: 2, ..RetryPolicy::LOOPBACK };
    let settings = GraphSettings { timeout: Duration::from_millis(50), retry, ..settings(&server, "k3y") };
    let error = GraphClient::new(settings).unwrap().markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 2));
}

#[tokio::test]
async fn errors_do_not_contain_the_key() {
    let message = format!("no such key: Bearer {KEY}");
    let bodies = [
        errors(&message).to_string(),
        json!({ "errors": [{ "message": format!("auth error: {message}") }] }).to_string(),
        json!({ "data": message }).to_string(),
        json!({ "message": message }).to_string(),
        json!(message).to_string(),
        format!("<html>{message}</html>"),
        format!("{}{KEY}", " ".repeat(495)),
    ];
    for status in [200, 302, 400, 401, 402, 403, 404, 429, 500] {
        for body in bodies.clone() {
            let server = TestServer::start(move |_| TestResponse::new(status, body.clone())).await;
            let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
            let client = GraphClient::new(GraphSettings { retry, ..settings(&server, KEY) }).unwrap();
            let error = client.markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
            let all = format!("{error} {error:?} {error:#?} {client:?}");
            assert!(!all.contains("hunter"), "{status}: {all}");
            assert_eq!(server.requests()[0].header("authorization"), Some("Bearer hunter2hunter2"));
        }
    }
    // Errors do not contain a key in the URL path (the gateway's old URL format) either.
    let url = format!("http://127.0.0.1:1/{KEY}");
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
    let client = GraphClient::new(GraphSettings { retry, ..GraphSettings::new(url, vec![Secret::new(KEY)]) }).unwrap();
    let error = client.head(SUBGRAPH, &Traffic::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceUnavailable);
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
}
