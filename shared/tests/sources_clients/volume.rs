//! A source that sends without end is stopped by the limits of the configuration.

use defi_shared::config::SourceLimits;
use defi_shared::error::{Error, Kind};
use defi_shared::sources::Traffic;
use defi_shared::sources::graph::{GraphClient, GraphSettings};
use defi_shared::sources::transpose::{TransposeClient, TransposeSettings};
use serde_json::{Value, json};

use super::graph::{BLOCK, SUBGRAPH, meta, position, settings};
use super::loopback::{TestRequest, TestResponse, TestServer};
use super::transpose;

const ROWS_PER_PAGE: usize = 10;

/// Returns a full page of positions for any request: more ids follow every id.
fn endless_positions(request: &TestRequest) -> Value {
    let filter = &request.body["variables"]["where"];
    let lower = filter.get("id_gt").or(filter.get("id_gte")).and_then(Value::as_str).unwrap();
    let lower = if lower.is_empty() { "0x00" } else { lower };
    (0..ROWS_PER_PAGE).map(|n| position(&format!("{lower}-{n}"))).collect()
}

async fn snapshot_error(limits: SourceLimits) -> (Error, usize) {
    let server = TestServer::start(|request| {
        TestResponse::json(&json!({"data": {"_meta": meta(BLOCK, "QmA"), "positions": endless_positions(request)}}))
    })
    .await;
    let settings = GraphSettings { rows_per_page: ROWS_PER_PAGE, limits, ..settings(&server, "") };
    let client = GraphClient::new(settings).unwrap();
    (client.positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap_err(), server.count())
}

async fn events_error(limits: SourceLimits) -> (Error, usize) {
    let server = TestServer::start(|request| {
        let event = |n: usize| {
            let (first, metadata) = (request.number * (ROWS_PER_PAGE - 1), "x".repeat(100));
            let timestamp = 1_672_531_200 + first + n;
            json!({"timestamp": timestamp, "log_index": n, "metadata": metadata})
        };
        let rows: Vec<Value> = (0..ROWS_PER_PAGE).map(event).collect();
        TestResponse::json(&json!({"status": "success", "stats": {}, "results": rows}))
    })
    .await;
    let settings = TransposeSettings { rows_per_page: ROWS_PER_PAGE, limits, ..transpose::settings(&server, "") };
    let client = TransposeClient::new(settings).unwrap();
    (client.events(&transpose::query(), &Traffic::new()).await.unwrap_err(), server.count())
}

fn assert_names(error: &Error, entry: &str, limit: u64) {
    assert_eq!(error.kind(), Kind::CorruptData, "{error}");
    assert!(error.details().contains(&format!("{entry}={limit}")), "{error}");
    assert!(error.hint().contains(&format!("raise {entry} under [source_limits]")), "{error}");
}

#[tokio::test]
async fn snapshot_without_an_end_stops_at_the_limits() {
    let (error, requests) = snapshot_error(SourceLimits { snapshot_rows: 500, ..SourceLimits::default() }).await;
    assert_names(&error, "snapshot_rows", 500);
    assert!(requests <= 70, "{requests} requests");
    let (error, requests) = snapshot_error(SourceLimits { snapshot_bytes: 99_999, ..SourceLimits::default() }).await;
    assert_names(&error, "snapshot_bytes", 99_999);
    assert!(requests <= 100, "{requests} requests");
}

#[tokio::test]
async fn events_without_an_end_stop_at_the_limits() {
    let (error, requests) = events_error(SourceLimits { event_rows: 500, ..SourceLimits::default() }).await;
    assert_names(&error, "event_rows", 500);
    assert_eq!(requests, 51);
    let (error, requests) = events_error(SourceLimits { event_bytes: 99_999, ..SourceLimits::default() }).await;
    assert_names(&error, "event_bytes", 99_999);
    assert!(requests <= 100, "{requests} requests");
}

#[tokio::test]
async fn field_that_is_too_long_is_an_error() {
    let limits = SourceLimits { field_bytes: 99, ..SourceLimits::default() };
    assert_names(&events_error(limits).await.0, "field_bytes", 99);
    let limits = SourceLimits { field_bytes: 5, ..SourceLimits::default() };
    assert_names(&snapshot_error(limits).await.0, "field_bytes", 5);
}

#[tokio::test]
async fn block_and_deployment_with_long_names_are_errors() {
    let long = "x".repeat(100_000);
    let mut hash = meta(BLOCK, "QmA");
    hash["block"]["hash"] = json!(long);
    for meta in [meta(BLOCK, &long), hash] {
        let server = TestServer::start(move |_| TestResponse::json(&json!({"data": {"_meta": meta}}))).await;
        let error = GraphClient::new(settings(&server, "")).unwrap().head(SUBGRAPH, &Traffic::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CorruptData, "{error}");
        assert!(error.to_string().len() < 1_000);
    }
    let block = json!({"block_number": 7, "timestamp": "2023-01-01T00:00:11Z", "block_hash": long});
    let number = json!({"block_number": long, "timestamp": "2023-01-01T00:00:11Z"});
    for row in [block, number] {
        let body = json!({"status": "success", "stats": {}, "results": [row]});
        let server = TestServer::start(move |_| TestResponse::json(&body)).await;
        let client = TransposeClient::new(transpose::settings(&server, "")).unwrap();
        let error = client.head_block(&Traffic::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CorruptData, "{error}");
        assert!(error.to_string().chars().count() < 1_000, "{error}");
    }
}

#[tokio::test]
async fn response_of_many_short_rows_or_errors_is_an_error() {
    let many = |item: &str| vec![item; 1_000_000].join(",");
    let rows = format!("{{\"status\": \"success\", \"stats\": {{}}, \"results\": [{}]}}", many("{}"));
    let server = TestServer::start(move |_| TestResponse::new(200, rows.clone())).await;
    let client = TransposeClient::new(transpose::settings(&server, "")).unwrap();
    let error = client.events(&transpose::query(), &Traffic::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::CorruptData, "{error}");
    assert!(error.details().contains("too many rows"), "{error}");
    let errors = format!("{{\"errors\": [{}, {{\"message\": \"pruned\"}}]}}", many("0"));
    let server = TestServer::start(move |_| TestResponse::new(200, errors.clone())).await;
    let error = GraphClient::new(settings(&server, "")).unwrap().head(SUBGRAPH, &Traffic::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceUnavailable, "{error}");
    assert!(error.to_string().chars().count() < 1_000, "{error}");
}
