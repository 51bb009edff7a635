//! Tests of Transpose's API.

use std::sync::Arc;

use crate::support::{deployments, sample, start, tiny};
use defi_simulator::server::{Server, ServerOptions};
use serde_json::{Map, Value, json};

async fn post(server: &Server, body: &Value) -> (u16, Value) {
    let url = format!("{}/sql", server.transpose_url());
    let response = crate::support::client().post(url).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn query(server: &Server, sql: &str, parameters: Value) -> Value {
    let body = json!({"sql": sql, "parameters": parameters, "options": {"stringify_numbers": true, "timeout": 20_000}});
    let (status, body) = post(server, &body).await;
    assert_eq!((status, &body["status"]), (200, &json!("success")), "{body}");
    body
}

/// A query of keyset paging, without the limit.
const PAGE: &str = "SELECT * FROM ethereum.lending_events
    WHERE protocol_name = {{protocol}} AND contract_version = {{version}}
      AND timestamp >= {{from}} AND timestamp < {{until}} AND (timestamp, log_index) > ({{after}}, {{log}})
    ORDER BY timestamp, log_index LIMIT ";

/// Pages through all events of a protocol. Returns the rows, the number of pages and the number of truncated pages.
async fn page_through(server: &Server, protocol: &str, limit: usize) -> (Vec<Value>, usize, usize) {
    let (mut rows, mut pages, mut truncated): (Vec<Value>, _, _) = (Vec::new(), 0, 0);
    loop {
        let (after, log) = rows
            .last()
            .map_or((json!("1970-01-01"), json!(0)), |row| (row["timestamp"].clone(), row["log_index"].clone()));
        let parameters = json!({"protocol": protocol, "version": "v2", "from": "2023-01-01T00:00:00Z",
            "until": "2023-01-11T00:00:00Z", "after": after, "log": log});
        let body = query(server, &format!("{PAGE}{limit}"), parameters).await;
        let page = body["results"].as_array().unwrap().clone();
        assert_eq!(body["stats"]["count"], page.len());
        pages += 1;
        let is_truncated = body["stats"]["truncated"] == true;
        truncated += usize::from(is_truncated);
        let is_last = page.len() < limit && !is_truncated;
        rows.extend(page);
        if is_last {
            return (rows, pages, truncated);
        }
    }
}

/// Returns the expected rows of a protocol in block order, without duplicates: paging by key can skip the second of two
/// equal rows at the end of a page.
fn expected(events: &[Map<String, Value>], protocol: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = events
        .iter()
        .filter(|row| row["protocol_name"] == protocol && row["timestamp"].as_str().unwrap() < "2023-01-11")
        .map(|row| Value::from(row.clone()))
        .collect();
    rows.sort_by_key(|row| (row["timestamp"].as_str().unwrap().to_owned(), row["log_index"].as_u64()));
    rows.dedup();
    rows
}

#[tokio::test]
async fn paging_by_key_returns_all_events() {
    let recording = sample();
    let server = start(&recording).await;
    for protocol in ["aave", "compound"] {
        let (mut rows, pages, truncated) = page_through(&server, protocol, 50).await;
        assert!(pages > 2);
        assert_eq!(truncated, 0);
        rows.dedup();
        assert_eq!(rows, expected(&recording.events, protocol));
    }
}

#[tokio::test]
async fn large_page_is_truncated_and_marked() {
    let recording = sample();
    let options = ServerOptions { page_bytes: 5_000, deployments: deployments(), ..ServerOptions::default() };
    let server = Server::start(Arc::clone(&recording), options).await.unwrap();
    let (mut rows, pages, truncated) = page_through(&server, "aave", 1000).await;
    assert!(truncated > 10 && truncated == pages - 1, "{truncated} of {pages}");
    rows.dedup();
    assert_eq!(rows, expected(&recording.events, "aave"));
    let body = query(&server, "SELECT * FROM ethereum.lending_events", json!({})).await;
    let size = serde_json::to_string(&body["results"]).unwrap().len();
    assert_eq!(body["stats"]["size"].as_u64().unwrap() as usize, size - 2);
    assert!((4_000..=5_000).contains(&size), "{size}");
}

#[tokio::test]
async fn first_block_of_a_day_is_found_and_final() {
    let recording = sample();
    let server = start(&recording).await;
    let sql =
        "SELECT block_number, timestamp FROM ethereum.blocks WHERE timestamp >= {{day}} ORDER BY timestamp LIMIT 1";
    for (index, day) in [(0, "2023-01-01"), (10, "2023-01-11")] {
        let body = query(&server, sql, json!({"day": format!("{day}T00:00:00Z")})).await;
        assert_eq!(body["results"][0]["block_number"], recording.blocks[index].number);
    }
    let head = query(&server, "SELECT max(block_number) AS head FROM ethereum.blocks", json!({})).await;
    assert_eq!(head["results"][0]["head"], recording.blocks[10].number + 300);
}

#[tokio::test]
async fn numbers_are_text_only_with_stringify_numbers() {
    let server = start(&sample()).await;
    let sql = "SELECT quantity FROM ethereum.lending_events LIMIT 1";
    for (options, is_text) in [(json!({"stringify_numbers": true}), true), (json!({}), false)] {
        let (status, body) = post(&server, &json!({"sql": sql, "options": options})).await;
        assert_eq!(status, 200);
        assert_eq!(body["results"][0]["quantity"].is_string(), is_text);
        assert_eq!(body["results"][0]["quantity"].is_number(), !is_text);
    }
}

#[tokio::test]
async fn invalid_requests_get_an_error_with_the_reason() {
    let server = start(&sample()).await;
    for (body, message) in [
        (json!({"sql": "SELECT {{day}}"}), "missing parameter: day"),
        (json!({"sql": "SELECT 1", "parameters": {"day": 1}}), "unknown parameter: day"),
        (json!({"sql": "SELECT gas FROM ethereum.blocks"}), "no such column: gas"),
        (json!({"sql": "SELECT * FROM ethereum.swaps"}), "no such table: ethereum.swaps"),
        (json!({"sql": "SELEC 1"}), "syntax error"),
        (json!({"sql": "DELETE FROM ethereum.blocks"}), "not authorized"),
        (json!({"query": "SELECT 1"}), "missing field `sql`"),
    ] {
        let (status, response) = post(&server, &body).await;
        assert_eq!((status, &response["status"]), (400, &json!("error")), "{body}");
        assert!(response["message"].as_str().unwrap().contains(message), "{response}");
    }
}

#[tokio::test]
async fn rejects_invalid_keys() {
    let options = ServerOptions { api_key: Some("right".to_owned()), ..ServerOptions::default() };
    let server = Server::start(tiny("aave-v2-eth", vec![]), options).await.unwrap();
    for (key, status) in [(Some("right"), 200), (Some("wrong"), 401), (None, 401)] {
        let mut request = crate::support::client().post(format!("{}/sql", server.transpose_url()));
        if let Some(key) = key {
            request = request.header("X-API-KEY", key);
        }
        let response = request.json(&json!({"sql": "SELECT 1 AS one"})).send().await.unwrap();
        assert_eq!(response.status(), status, "{key:?}");
        let body: Value = response.json().await.unwrap();
        if status == 401 {
            assert_eq!(body, json!({"status": "error", "message": "invalid API key"}));
        }
    }
}

#[tokio::test]
async fn concurrent_requests_are_independent() {
    let server = start(&sample()).await;
    let request = |number: u64| query_number(&server, number);
    let responses = futures::future::join_all((0..40).map(request)).await;
    assert_eq!(responses, (0..40).collect::<Vec<_>>());
    assert_eq!(server.request_count(), 40);
}

async fn query_number(server: &Server, number: u64) -> u64 {
    query(server, "SELECT {{n}} AS n", json!({"n": number})).await["results"][0]["n"].as_u64().unwrap()
}
