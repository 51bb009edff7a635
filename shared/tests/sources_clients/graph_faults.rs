//! What the gateway, its indexers and what stands before them can do wrong.

use std::time::{Duration, Instant};

use axum::body::Body;
use defi_shared::error::{Error, Kind};
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::{RetryPolicy, Secret, Traffic};
use futures::stream;
use serde_json::{Value, json};

use super::graph::{BLOCK, SUBGRAPH, answer, client, meta, settings};
use super::loopback::{Reply, Request, Server};

const TRIES: usize = RetryPolicy::LOOPBACK.tries;
const KEY: &str = "hunter2hunter2";

fn markets(block: u64, deployment: &str) -> Reply {
    Reply::json(&json!({ "data": { "_meta": meta(block, deployment), "markets": [] } }))
}

/// The error of a server that always answers so, and how often it was asked.
async fn failure(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Error, usize) {
    let server = Server::start(reply).await;
    let error = client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
    (error, server.count())
}

/// A fault that goes away after two answers.
async fn recovers(fault: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Traffic {
    let server =
        Server::start(move |request| if request.number < 2 { fault(request) } else { markets(BLOCK, "QmA") }).await;
    let traffic = Traffic::new();
    client(&server).markets(SUBGRAPH, BLOCK, &traffic).await.unwrap();
    assert_eq!(server.count(), 3);
    traffic
}

fn errors(message: &str) -> Value {
    json!({ "errors": [{ "message": message }] })
}

#[tokio::test]
async fn a_status_that_passes_is_tried_again_and_counted() {
    let traffic = recovers(|_| Reply::new(500, "oops")).await;
    let report = traffic.report();
    assert_eq!((report.requests, report.pages, report.retries["SourceUnavailable"]), (3, 1, 2));
    let traffic = recovers(|_| Reply::new(429, "slow down")).await;
    assert_eq!(traffic.report().retries["Throttled"], 2);
}

#[tokio::test]
async fn a_retry_after_is_waited_out() {
    let server = Server::start(|request| match request.number {
        0 => Reply::new(429, "{}").with("retry-after", 1),
        _ => markets(BLOCK, "QmA"),
    })
    .await;
    let start = Instant::now();
    client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let (error, requests) = failure(|_| Reply::new(429, "{}").with("retry-after", 3600)).await;
    assert_eq!((error.kind(), error.retry_after(), requests), (Kind::Throttled, Some(Duration::from_secs(3600)), 1));
}

#[tokio::test]
async fn statuses_have_their_kinds() {
    for (status, kind, asked) in [
        (400, Kind::SourceRejected, 1),
        (401, Kind::BadCredentials, 1),
        (402, Kind::QuotaExceeded, 1),
        (403, Kind::BadCredentials, 1),
        (404, Kind::SourceRejected, 1),
        (429, Kind::Throttled, TRIES),
        (500, Kind::SourceUnavailable, TRIES),
        (503, Kind::SourceUnavailable, TRIES),
    ] {
        let (error, requests) = failure(move |_| Reply::new(status, "{}")).await;
        assert_eq!((error.kind(), requests), (kind, asked), "{status}");
        assert!(error.details().contains(&format!("status={status}")), "{error}");
    }
    // A server that answers GraphQL errors with 400 is understood all the same.
    let (error, _) = failure(|_| Reply::new(400, errors("block 17 was pruned").to_string())).await;
    assert_eq!(error.kind(), Kind::HistoryPruned);
}

#[tokio::test]
async fn a_page_of_html_is_a_passing_fault() {
    recovers(|_| Reply::new(200, "<html>Bad gateway</html>")).await;
    let (error, requests) = failure(|_| Reply::new(200, "<html>Bad gateway</html>")).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
    assert!(error.details().contains("<html>Bad gateway"), "{error}");
}

#[tokio::test]
async fn messages_decide_although_the_status_is_200() {
    for (message, kind) in [
        ("Query timed out", Kind::SourceUnavailable),
        ("bad indexers: {0xab: Timeout}", Kind::SourceUnavailable),
        ("something never seen", Kind::SourceUnavailable),
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
        let (error, requests) = failure(move |_| Reply::json(&errors(message))).await;
        assert_eq!((error.kind(), requests), (kind, if kind.is_transient() { TRIES } else { 1 }), "{message}");
        assert!(error.details().contains(message), "{error}");
        assert!(error.details().contains(&format!("subgraph={SUBGRAPH}, block={BLOCK}")), "{error}");
    }
}

#[tokio::test]
async fn data_beside_errors_is_an_error() {
    let both = || json!({ "data": { "_meta": meta(BLOCK, "QmA"), "markets": [] }, "errors": [{ "message": "Query timed out" }] });
    let (error, requests) = failure(move |_| Reply::json(&both())).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
    // Of several, what won't pass decides.
    let several = || json!({ "errors": [{ "message": "Query timed out" }, { "message": "auth error: no" }] });
    assert_eq!(failure(move |_| Reply::json(&several())).await.0.kind(), Kind::BadCredentials);
    // No errors is no errors.
    let server = Server::start(|_| {
        Reply::json(&json!({ "data": { "_meta": meta(BLOCK, "QmA"), "markets": [] }, "errors": [] }))
    })
    .await;
    client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_data_or_of_another_shape_is_none() {
    for empty in ["{}", r#"{"data": null}"#] {
        assert_eq!(failure(move |_| Reply::new(200, empty)).await.0.kind(), Kind::SourceUnavailable, "{empty}");
    }
    for shape in [r#"{"data": {}}"#, r#"{"data": {"_meta": null, "markets": []}}"#, r#"{"data": {"markets": {}}}"#] {
        let (error, requests) = failure(move |_| Reply::new(200, shape)).await;
        assert_eq!((error.kind(), requests), (Kind::CorruptData, 1), "{shape}");
    }
}

#[tokio::test]
async fn an_answer_of_another_block_is_not_taken() {
    recovers(|_| markets(BLOCK - 1, "QmA")).await;
    let (error, requests) = failure(|_| markets(BLOCK - 1, "QmA")).await;
    assert_eq!((error.kind(), requests), (Kind::SourceUnavailable, TRIES));
}

#[tokio::test]
async fn indexing_errors_are_final() {
    let (error, requests) = failure(|_| {
        let mut meta = meta(BLOCK, "QmA");
        meta["hasIndexingErrors"] = json!(true);
        Reply::json(&json!({ "data": { "_meta": meta, "markets": [] } }))
    })
    .await;
    assert_eq!((error.kind(), requests), (Kind::SourceRejected, 1));
}

/// A table of two pages, whose second page differs in a field of `_meta`.
async fn two_states(field: &'static str, value: Value, until: usize) -> (Result<String, Error>, usize, Traffic) {
    let ids: Vec<String> = (0..1500).map(|n| format!("0xff{n:04}")).collect();
    let server = Server::start(move |request| {
        let mut body = answer(&ids, request);
        if request.number % 2 == 1 && request.number < until {
            *body.pointer_mut(&format!("/data/_meta/{field}")).unwrap() = value.clone();
        }
        Reply::json(&body)
    })
    .await;
    let traffic = Traffic::new();
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, None, &traffic).await;
    let deployment = snapshot.map(|snapshot| {
        assert_eq!(snapshot.rows.len(), 1500);
        snapshot.deployment
    });
    (deployment, server.count(), traffic)
}

#[tokio::test]
async fn a_snapshot_is_of_one_deployment_and_one_block() {
    for (field, value) in [("deployment", json!("QmB")), ("block/hash", json!("0xdef"))] {
        // The second page is of another state once; then the whole snapshot is asked again.
        let (deployment, requests, traffic) = two_states(field, value.clone(), 2).await;
        assert_eq!((deployment.unwrap().as_str(), requests), ("QmA", 4));
        assert_eq!(traffic.report().retries["SourceUnavailable"], 1);

        let (outcome, requests, _) = two_states(field, value, usize::MAX).await;
        assert_eq!((outcome.unwrap_err().kind(), requests), (Kind::SourceUnavailable, 2 * TRIES));
    }
}

#[tokio::test]
async fn a_failed_page_does_not_start_the_snapshot_again() {
    let ids: Vec<String> = (0..1500).map(|n| format!("0xff{n:04}")).collect();
    let server = Server::start(move |request| match request.number {
        0 => Reply::json(&answer(&ids, request)),
        _ => Reply::new(500, ""),
    })
    .await;
    let error = client(&server).positions(SUBGRAPH, BLOCK, None, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 1 + TRIES));
}

#[tokio::test]
async fn a_server_that_ignores_the_filter_ends_with_an_error_and_not_never() {
    let ids: Vec<String> = (0..1000).map(|n| format!("0xff{n:04}")).collect();
    let server = Server::start(move |request| {
        let mut unfiltered = request.clone();
        unfiltered.body["variables"]["where"] = json!({});
        Reply::json(&answer(&ids, &unfiltered))
    })
    .await;
    let error = client(&server).positions(SUBGRAPH, BLOCK, None, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 1 + TRIES));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(|_| markets(BLOCK, "QmA")).await;
    for status in [301, 302, 303, 307, 308] {
        let there = other.url.clone();
        let (error, requests) = failure(move |_| Reply::new(status, "").with("location", &there)).await;
        assert_eq!((error.kind(), requests), (Kind::SourceRejected, 1), "{status}");
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let chunk = || Ok::<_, std::io::Error>(vec![b' '; 600]);
    let announced = Server::start(|_| Reply::new(200, vec![b' '; 1200])).await;
    let streamed = Server::start(move |_| Reply::new(200, Body::from_stream(stream::iter([chunk(), chunk()])))).await;
    for server in [announced, streamed] {
        let client = GraphClient::new(GraphSettings { max_body_bytes: 1000, ..settings(&server, "k3y") }).unwrap();
        let error = client.markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
        assert_eq!((error.kind(), server.count()), (Kind::CorruptData, 1));
    }
}

#[tokio::test]
async fn silence_is_bounded() {
    let server = Server::start(|_| markets(BLOCK, "QmA").after(Duration::from_secs(60))).await;
    let retry = RetryPolicy { tries: 2, ..RetryPolicy::LOOPBACK };
    let settings = GraphSettings { timeout: Duration::from_millis(50), retry, ..settings(&server, "k3y") };
    let error = GraphClient::new(settings).unwrap().markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 2));
}

#[tokio::test]
async fn no_error_shows_the_key() {
    let said = format!("no such key: Bearer {KEY}");
    let bodies = [
        errors(&said).to_string(),
        json!({ "errors": [{ "message": format!("auth error: {said}") }] }).to_string(),
        json!({ "data": said }).to_string(),
        json!({ "message": said }).to_string(),
        json!(said).to_string(),
        format!("<html>{said}</html>"),
        format!("{}{KEY}", " ".repeat(495)),
    ];
    for status in [200, 302, 400, 401, 402, 403, 404, 429, 500] {
        for body in bodies.clone() {
            let server = Server::start(move |_| Reply::new(status, body.clone())).await;
            let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
            let client = GraphClient::new(GraphSettings { retry, ..settings(&server, KEY) }).unwrap();
            let error = client.markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap_err();
            let all = format!("{error} {error:?} {error:#?} {client:?}");
            assert!(!all.contains("hunter"), "{status}: {all}");
            assert_eq!(server.requests()[0].header("authorization"), Some("Bearer hunter2hunter2"));
        }
    }
    // A key in the path (the gateway's old form of address) stays out of it too.
    let url = format!("http://127.0.0.1:1/{KEY}");
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
    let client = GraphClient::new(GraphSettings { retry, ..GraphSettings::new(url, vec![Secret::new(KEY)]) }).unwrap();
    let error = client.head(SUBGRAPH, &Traffic::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceUnavailable);
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
}
