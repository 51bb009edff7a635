//! Tests of events and blocks.

use std::time::Duration;

use defi_shared::error::{Error, Kind};
use defi_shared::sources::transpose::{EVENT_COLUMNS, EventsQuery, TransposeClient, TransposeSettings};
use defi_shared::sources::{RateLimit, RetryPolicy, Secret, Traffic};
use serde_json::{Value, json};

use super::loopback::{TestRequest, TestResponse, TestServer, pseudo_random};

const DAY: i64 = 1_672_531_200;
const TRIES: usize = RetryPolicy::LOOPBACK.tries;

pub fn settings(server: &TestServer, keys: &str) -> TransposeSettings {
    let settings = TransposeSettings::new(&server.url, Secret::parse_list(keys));
    TransposeSettings {
        rate: RateLimit::per_second(100_000),
        retry: RetryPolicy::LOOPBACK,
        rows_per_page: 100,
        ..settings
    }
}

fn client(server: &TestServer) -> TransposeClient {
    TransposeClient::new(settings(server, "k3y")).unwrap()
}

pub fn query() -> EventsQuery {
    EventsQuery {
        protocol_name: "aave".to_owned(),
        contract_version: "v2".to_owned(),
        category: "borrow".to_owned(),
        from: DAY,
        to: DAY + 86_400,
    }
}

fn success(rows: &[Value], truncated: bool) -> TestResponse {
    let stats = json!({ "count": rows.len(), "size": 1, "time": 1, "truncated": truncated });
    TestResponse::json(&json!({ "status": "success", "stats": stats, "results": rows }))
}

fn error_body(message: &str) -> String {
    json!({ "status": "error", "message": message }).to_string()
}

/// The second of the day and the log index of an event.
type Key = (i64, i64);

fn event(key: Key, number: usize) -> Value {
    let (hour, minute, second) = (key.0 / 3600, key.0 / 60 % 60, key.0 % 60);
    json!({
        "timestamp": format!("2023-01-01T{hour:02}:{minute:02}:{second:02}Z"),
        "log_index": key.1,
        "transaction_hash": number.to_string(),
        "quantity": "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        "metadata": { "n": number },
    })
}

/// Returns the rows that PostgreSQL would return for a request. Only parses the paging condition of the SQL.
fn select(table: &[(Key, Value)], request: &TestRequest) -> Vec<Value> {
    let sql = request.body["sql"].as_str().unwrap();
    // Parses the key after a prefix: the timestamp, a separator, and the log index up to the next parenthesis or space.
    let bound = |prefix: &str, separator: &str| {
        let rest = sql.split_once(prefix).unwrap().1;
        let (time, rest) = rest.split_once(separator).unwrap();
        let log_index = rest.split([')', ' ']).next().unwrap();
        (time.to_owned(), log_index.parse::<i64>().unwrap())
    };
    let matches = |row: &Value| {
        let key = (row["timestamp"].as_str().unwrap().to_owned(), row["log_index"].as_i64().unwrap());
        if sql.contains("IS NULL") {
            false
        } else if sql.contains("(timestamp, log_index) > (") {
            key > bound("(timestamp, log_index) > ('", "', ")
        } else if sql.contains("log_index = ") {
            key == bound(" AND timestamp = '", "' AND log_index = ")
        } else {
            true
        }
    };
    table.iter().map(|(_, row)| row).filter(|row| matches(row)).take(100).cloned().collect()
}

/// Generates events with many equal keys, in order.
fn table(count: usize) -> Vec<(Key, Value)> {
    let key = |n: usize| ((pseudo_random(n) % 700) as i64, (pseudo_random(n + count) % 4) as i64);
    let mut keys: Vec<Key> = (0..count).map(key).collect();
    keys.sort_unstable();
    keys.into_iter().enumerate().map(|(n, key)| (key, event(key, n))).collect()
}

fn numbers(events: &[defi_shared::sources::transpose::Event]) -> Vec<usize> {
    events.iter().map(|event| event.transaction_hash.as_deref().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn reads_all_events_from_truncated_responses() {
    let rows = table(3000);
    let server = TestServer::start(move |request| {
        let mut page = select(&rows, request);
        // Responses for a single key are not truncated, because the client cannot request less.
        let exact = request.body["sql"].as_str().unwrap().contains(" AND timestamp = '");
        let length = 1 + pseudo_random(request.number) % 60;
        let truncated = !exact && request.number % 3 != 0 && length < page.len();
        if truncated {
            page.truncate(length);
        }
        success(&page, truncated)
    })
    .await;
    let traffic = Traffic::new();
    let events = client(&server).events(&query(), &traffic).await.unwrap();
    assert!(numbers(&events).into_iter().eq(0..3000), "{} events", events.len());
    assert_eq!(events[17].metadata.as_deref(), Some("{\"n\":17}"));
    assert_eq!(events[17].quantity.as_deref().map(str::len), Some(78));
    let report = traffic.report();
    assert_eq!((report.requests, report.retries.len()), (server.count() as u64, 0));
    assert!(server.count() > 30);
}

#[tokio::test]
async fn a_timestamp_in_any_form_is_kept_and_paged_by_its_time() {
    let forms = ["2023-01-01T00:10:00Z", "2023-01-01 00:10:12", "2023-01-01T02:10:24.500+02:00", "1672531836"];
    let row = |form: &str| json!({ "timestamp": form, "log_index": 1, "transaction_hash": form });
    let server = TestServer::start(move |request| match request.number {
        0 => success(&[row(forms[0]), row(forms[1]), row(forms[2])], true),
        _ => success(&[row(forms[2]), row(forms[3])], false),
    })
    .await;
    let events = client(&server).events(&query(), &Traffic::new()).await.unwrap();
    let timestamps: Vec<_> = events.iter().filter_map(|event| event.timestamp.as_deref()).collect();
    assert_eq!(timestamps, forms);
    let sql = server.requests()[1].body["sql"].as_str().unwrap().to_owned();
    assert!(sql.contains("(timestamp, log_index) > ('2023-01-01T00:10:12Z', 1)"), "{sql}");
}

#[tokio::test]
async fn requests_have_the_expected_sql_options_and_key() {
    let server = TestServer::start(|_| success(&[], false)).await;
    assert!(client(&server).events(&query(), &Traffic::new()).await.unwrap().is_empty());
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].path.as_str(), requests[0].header("x-api-key")), ("/sql", Some("k3y")));
    assert_eq!(requests[0].body["options"], json!({ "stringify_numbers": true, "timeout": 25_000 }));
    assert_eq!(requests[0].body["parameters"], json!({}));
    let sql = requests[0].body["sql"].as_str().unwrap();
    assert!(
        sql.starts_with(&format!("SELECT {} FROM ethereum.lending_events WHERE ", EVENT_COLUMNS.join(", "))),
        "{sql}"
    );
    let condition = "protocol_name = 'aave' AND contract_version = 'v2' AND category = 'borrow' \
        AND timestamp >= '2023-01-01T00:00:00Z' AND timestamp < '2023-01-02T00:00:00Z'";
    assert!(sql.ends_with(&format!("{condition} ORDER BY timestamp, log_index LIMIT 100")), "{sql}");

    let keyless = TestServer::start(|_| success(&[], false)).await;
    TransposeClient::new(settings(&keyless, "")).unwrap().events(&query(), &Traffic::new()).await.unwrap();
    assert_eq!(keyless.requests()[0].header("x-api-key"), None);
}

#[tokio::test]
async fn keys_rotate() {
    let server = TestServer::start(|_| success(&[], false)).await;
    let client = TransposeClient::new(settings(&server, "a, b")).unwrap();
    for _ in 0..6 {
        client.events(&query(), &Traffic::new()).await.unwrap();
    }
    assert_eq!(server.requests().iter().filter(|request| request.header("x-api-key") == Some("b")).count(), 3);
}

#[tokio::test]
async fn invalid_pages_are_retried() {
    let (first, second) = (event((1, 0), 0), event((2, 0), 1));
    let invalid = [(vec![], true), (vec![second.clone(), first.clone()], false)];
    for (rows, truncated) in invalid {
        let correct = vec![first.clone(), second.clone()];
        let server = TestServer::start(move |request| match request.number {
            0 => success(&rows, truncated),
            _ => success(&correct, false),
        })
        .await;
        let traffic = Traffic::new();
        assert_eq!(numbers(&client(&server).events(&query(), &traffic).await.unwrap()), [0, 1]);
        assert_eq!(traffic.report().retries["SourceUnavailable"], 1);
    }
}

#[tokio::test]
async fn rows_of_one_key_that_stay_truncated_are_an_error() {
    let rows: Vec<Value> = (0..3).map(|n| event((1, 7), n)).collect();
    let two = rows[..2].to_vec();
    let server = TestServer::start(move |_| success(&two, true)).await;
    let error = client(&server).events(&query(), &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::SourceUnavailable, 1 + TRIES));

    // Truncated twice, complete the third time.
    let server = TestServer::start(move |request| {
        let exact = request.body["sql"].as_str().unwrap().contains("log_index = ");
        match (exact, request.number) {
            (_, 0 | 1) => success(&rows[..2], true),
            (true, _) => success(&rows, false),
            (false, _) => success(&[], false),
        }
    })
    .await;
    assert_eq!(numbers(&client(&server).events(&query(), &Traffic::new()).await.unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn malformed_rows_are_kept() {
    let rows = json!([{ "timestamp": null }, { "timestamp": "invalid", "log_index": {} }, null, { "quantity": 1.50 }]);
    let server = TestServer::start(move |_| success(rows.as_array().unwrap(), false)).await;
    let events = client(&server).events(&query(), &Traffic::new()).await.unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(events[1].timestamp.as_deref(), Some("invalid"));
    assert_eq!(events[3].quantity.as_deref(), Some("1.5"));
}

/// Returns the error kind and the number of requests if the server keeps returning these rows and this count.
async fn outcome_of(rows: Value, count: usize) -> (Option<Kind>, usize) {
    let stats = json!({ "count": count, "truncated": false });
    let body = json!({ "status": "success", "stats": stats, "results": rows });
    let server = TestServer::start(move |request| match request.number {
        0..TRIES => TestResponse::json(&body),
        _ => success(&[], false),
    })
    .await;
    let outcome = client(&server).events(&query(), &Traffic::new()).await;
    (outcome.err().map(|error| error.kind()), server.count())
}

#[tokio::test]
async fn retries_if_there_are_fewer_rows_than_the_count() {
    let row = event((1, 0), 0);
    assert_eq!(outcome_of(json!([row]), 1).await, (None, 1));
    assert_eq!(outcome_of(json!([row]), 2).await, (Some(Kind::SourceUnavailable), TRIES));
    assert_eq!(outcome_of(json!([]), 1).await, (Some(Kind::SourceUnavailable), TRIES));
}

#[tokio::test]
async fn rejects_rows_that_do_not_match_the_query() {
    let mut row = event((1, 0), 0);
    for (field, matching, other) in [
        ("category", "borrow", "repay"),
        ("protocol_name", "aave", "compound"),
        ("contract_version", "v2", "v3"),
        ("timestamp", "2023-01-01T23:59:59.9Z", "2023-01-02T00:00:00Z"),
        ("timestamp", "2023-01-01T00:00:00Z", "2022-12-31T23:59:59Z"),
    ] {
        row[field] = json!(matching);
        assert_eq!(outcome_of(json!([row]), 1).await, (None, 1), "{matching}");
        row[field] = json!(other);
        assert_eq!(outcome_of(json!([row]), 1).await, (Some(Kind::SourceUnavailable), TRIES), "{other}");
        row[field] = json!(matching);
    }
}

async fn failure(status: u16, body: String) -> (Error, usize) {
    let server = TestServer::start(move |_| TestResponse::new(status, body.clone())).await;
    let error = client(&server).events(&query(), &Traffic::new()).await.unwrap_err();
    (error, server.count())
}

#[tokio::test]
async fn maps_errors_to_kinds() {
    for (status, message, kind) in [
        (400, "Execution error: Table 'x' does not exist", Kind::SourceRejected),
        (401, "Invalid API key", Kind::BadCredentials),
        (403, "You are out of credits", Kind::QuotaExceeded),
        (403, "Invalid API key", Kind::BadCredentials),
        (429, "Too many requests", Kind::Throttled),
        (500, "Internal error", Kind::SourceUnavailable),
        (504, "Timeout", Kind::SourceUnavailable),
        (200, "Rate limit exceeded", Kind::Throttled),
        (200, "Execution error: Table 'x' does not exist", Kind::SourceRejected),
    ] {
        let (error, requests) = failure(status, error_body(message)).await;
        assert_eq!((error.kind(), requests), (kind, if kind.is_transient() { TRIES } else { 1 }), "{status} {message}");
        assert!(error.details().contains(message), "{error}");
        assert!(error.details().contains("category=borrow"), "{error}");
    }
    assert_eq!(failure(200, "<html></html>".to_owned()).await.0.kind(), Kind::SourceUnavailable);
    assert_eq!(failure(200, r#"{"status": "success", "#.to_owned()).await.0.kind(), Kind::SourceUnavailable);
    assert_eq!(failure(200, "{}".to_owned()).await.0.kind(), Kind::SourceUnavailable);
    assert_eq!(failure(200, r#"{"results": 7}"#.to_owned()).await.0.kind(), Kind::CorruptData);
}

#[tokio::test]
async fn transient_errors_are_retried_after_retry_after() {
    let server = TestServer::start(|request| match request.number {
        0 => TestResponse::new(429, error_body("Too many requests")).with_header("retry-after", 1),
        1 => TestResponse::new(500, "oops"),
        _ => success(&[event((1, 0), 0)], false),
    })
    .await;
    let (start, traffic) = (std::time::Instant::now(), Traffic::new());
    assert_eq!(client(&server).events(&query(), &traffic).await.unwrap().len(), 1);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let retries = traffic.report().retries;
    assert_eq!((retries["Throttled"], retries["SourceUnavailable"]), (1, 1));
}

#[tokio::test]
async fn finds_blocks_by_time() {
    let server = TestServer::start(|request| {
        let head = request.body["sql"].as_str().unwrap().contains("DESC");
        let late = request.body["sql"].as_str().unwrap().contains("timestamp >= '2023-01-02T00:00:00Z'");
        match (head, late) {
            (true, _) => success(
                &[json!({ "block_number": "99", "timestamp": "2023-01-01T12:00:00Z", "block_hash": "0xh" })],
                false,
            ),
            (false, true) => success(&[], false),
            (false, false) => success(&[json!({ "block_number": 17, "timestamp": "2023-01-01T00:00:11.000Z" })], false),
        }
    })
    .await;
    let (client, traffic) = (client(&server), Traffic::new());
    let first = client.first_block(DAY, &traffic).await.unwrap().unwrap();
    assert_eq!((first.number, first.timestamp, first.hash), (17, Some(DAY + 11), None));
    assert_eq!(client.first_block(DAY + 86_400, &traffic).await.unwrap(), None);
    let head = client.head_block(&traffic).await.unwrap();
    assert_eq!((head.number, head.timestamp, head.hash.as_deref()), (99, Some(DAY + 43_200), Some("0xh")));
    assert_eq!(traffic.report().requests, 3);
}

#[tokio::test]
async fn rejects_invalid_blocks() {
    let early =
        TestServer::start(|_| success(&[json!({ "block_number": 17, "timestamp": "2022-12-31T23:59:59Z" })], false))
            .await;
    let error = client(&early).first_block(DAY, &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), early.count()), (Kind::SourceUnavailable, TRIES));
    let truncated = TestServer::start(|_| success(&[], true)).await;
    assert_eq!(client(&truncated).first_block(DAY, &Traffic::new()).await.unwrap_err().kind(), Kind::SourceUnavailable);
    let empty = TestServer::start(|_| success(&[], false)).await;
    assert_eq!(client(&empty).head_block(&Traffic::new()).await.unwrap_err().kind(), Kind::SourceUnavailable);
    let malformed = TestServer::start(|_| success(&[json!({ "block_number": null })], false)).await;
    assert_eq!(client(&malformed).head_block(&Traffic::new()).await.unwrap_err().kind(), Kind::CorruptData);
}

/// Responds to the given keys that they are out of credits, and to others with no rows.
async fn server_without_credits_for(exhausted: &'static [&'static str]) -> TestServer {
    TestServer::start(move |request| match request.header("x-api-key") {
        Some(key) if exhausted.contains(&key) => TestResponse::new(403, error_body("You are out of credits")),
        _ => success(&[], false),
    })
    .await
}

#[tokio::test]
async fn key_without_credits_is_set_aside_and_others_go_on() {
    let server = server_without_credits_for(&["hunter-a", "hunter-c"]).await;
    let client = TransposeClient::new(settings(&server, "hunter-a,hunter-b,hunter-c")).unwrap();
    let traffic = Traffic::new();
    for _ in 0..6 {
        client.events(&query(), &traffic).await.unwrap();
    }
    let requests = server.requests();
    let of_key = |key| requests.iter().filter(|request| request.header("x-api-key") == Some(key)).count();
    assert_eq!(["hunter-a", "hunter-b", "hunter-c"].map(of_key), [1, 6, 1], "each exhausted key is tried once");
    assert_eq!(traffic.report().retries["QuotaExceeded"], 2);
}

#[tokio::test]
async fn quota_is_exceeded_only_if_no_key_is_left() {
    let server = server_without_credits_for(&["hunter-a", "hunter-b"]).await;
    let client = TransposeClient::new(settings(&server, "hunter-a,hunter-b")).unwrap();
    let error = client.events(&query(), &Traffic::new()).await.unwrap_err();
    assert_eq!((error.kind(), server.count()), (Kind::QuotaExceeded, 2));
    let message = error.to_string();
    assert!(message.contains("key=2 of 2") && !message.contains("hunter"), "{message}");
}

#[tokio::test]
async fn errors_do_not_contain_the_key() {
    let key = "hunter2hunter2";
    for status in [200, 307, 400, 401, 403, 429, 500] {
        for body in [
            error_body(&format!("bad key {key}")),
            format!("<p>{key}"),
            json!(key).to_string(),
            json!({ "results": key }).to_string(),
        ] {
            let server = TestServer::start(move |_| TestResponse::new(status, body.clone())).await;
            let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
            let client = TransposeClient::new(TransposeSettings { retry, ..settings(&server, key) }).unwrap();
            let error = client.events(&query(), &Traffic::new()).await.unwrap_err();
            let all = format!("{error} {error:?} {client:?}");
            assert!(!all.contains("hunter"), "{status}: {all}");
            assert_eq!(server.requests()[0].header("x-api-key"), Some(key));
        }
    }
}

#[tokio::test]
async fn counts_events_and_rejects_other_answers() {
    let count = |rows: Value| async move {
        let server = TestServer::start(move |_| success(rows.as_array().unwrap(), false)).await;
        client(&server).count_events(&[query()], &Traffic::new()).await.map_err(|error| error.kind())
    };
    assert_eq!(count(json!([{ "count": "17" }])).await, Ok(17));
    assert_eq!(count(json!([{ "count": 17 }])).await, Ok(17));
    assert_eq!(count(json!([])).await, Err(Kind::SourceUnavailable));
    for other in [json!([{ "count": "-1" }]), json!([{ "count": null }]), json!([{ "number": 17 }])] {
        assert_eq!(count(other).await, Err(Kind::CorruptData));
    }
}

#[tokio::test]
async fn rejects_invalid_input() {
    let server = TestServer::start(|_| success(&[], false)).await;
    let out_of_range = EventsQuery { to: i64::MAX, ..query() };
    assert_eq!(client(&server).events(&out_of_range, &Traffic::new()).await.unwrap_err().kind(), Kind::BadInput);
    assert_eq!(server.count(), 0);
    let empty_pages = TransposeSettings { rows_per_page: 0, ..settings(&server, "k3y") };
    assert_eq!(TransposeClient::new(empty_pages).unwrap_err().kind(), Kind::BadInput);
}

#[test]
fn futures_are_send() {
    fn assert_send<T: Send>(_: T) {}
    let check = |client: &'static TransposeClient, query: &'static EventsQuery, traffic: &'static Traffic| {
        assert_send(client.events(query, traffic));
        assert_send(client.count_events(&[], traffic));
        assert_send(client.first_block(DAY, traffic));
        assert_send(client.head_block(traffic));
    };
    let _ = check;
}
