//! Tests of snapshots: paging, requests and responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use defi_shared::error::Kind;
use defi_shared::sources::graph::{GraphClient, GraphSettings, Position};
use defi_shared::sources::{RateLimit, RetryPolicy, Secret, Traffic};
use serde_json::{Value, json};

use super::loopback::{TestRequest, TestResponse, TestServer, pseudo_random};

pub const SUBGRAPH: &str = "C2zniPn45RnLDGzVeGZCx2Sw3GXrbc9gL4ZfL8B8Em2j";
pub const BLOCK: u64 = 16_315_721;

pub fn settings(server: &TestServer, keys: &str) -> GraphSettings {
    let settings = GraphSettings::new(&server.url, Secret::parse_list(keys));
    GraphSettings { rate: RateLimit::per_second(100_000), retry: RetryPolicy::LOOPBACK, ..settings }
}

pub fn client(server: &TestServer) -> GraphClient {
    GraphClient::new(settings(server, "k3y")).unwrap()
}

pub fn meta(block: u64, deployment: &str) -> Value {
    json!({
        "block": { "number": block, "timestamp": 1_672_531_211, "hash": "0xabc" },
        "deployment": deployment,
        "hasIndexingErrors": false,
    })
}

pub fn position(id: &str) -> Value {
    let account = id.split('-').next().unwrap();
    json!({
        "id": id, "balance": "17", "side": "LENDER", "isCollateral": null,
        "market": { "id": "0xm", "name": "M" }, "account": { "id": account },
    })
}

fn bound<'a>(filter: &'a Value, name: &str) -> Option<&'a str> {
    filter.get(name).map(|value| value.as_str().unwrap())
}

/// Responds as graph-node does, with a filter, `first` and `orderBy: id`.
pub fn respond(ids: &[String], request: &TestRequest) -> Value {
    let filter = &request.body["variables"]["where"];
    let accounts = filter.get("account_in").map(|accounts| accounts.as_array().unwrap().clone());
    let matches = |id: &&String| {
        let account = id.split('-').next().unwrap();
        bound(filter, "id_gt").is_none_or(|bound| id.as_str() > bound)
            && bound(filter, "id_gte").is_none_or(|bound| id.as_str() >= bound)
            && bound(filter, "id_lt").is_none_or(|bound| id.as_str() < bound)
            && accounts.as_ref().is_none_or(|accounts| accounts.contains(&json!(account)))
    };
    let mut ids: Vec<&String> = ids.iter().filter(matches).collect();
    ids.sort_unstable();
    let first = request.body["variables"]["first"].as_u64().unwrap() as usize;
    let rows: Vec<Value> = ids.into_iter().take(first).map(|id| position(id)).collect();
    let block = request.body["variables"]["block"].as_u64().unwrap();
    json!({ "data": { "_meta": meta(block, "QmA"), "positions": rows } })
}

/// Generates position ids across the whole id space, and some of a form that no subgraph uses.
fn ids(count: usize) -> Vec<String> {
    let id = |n: usize| format!("0x{:08x}{:032x}-0xm-LENDER-0", pseudo_random(n) as u32, n);
    let unusual = ["!", "-1", "0x", "0x10", "0X10", "0xf", "0xf0", "0xFF", "0xa", "abc", "zzz", "é"];
    (0..count).map(id).chain(unusual.map(str::to_owned)).collect()
}

fn ids_of(rows: &[Position]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_deref().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_id_order_regardless_of_timing() {
    let table = Arc::new(ids(20_500));
    let served = table.clone();
    // Responses arrive out of order.
    let delay = |request: &TestRequest| Duration::from_millis(pseudo_random(request.number) as u64 % 20);
    let server =
        TestServer::start(move |request| TestResponse::json(&respond(&served, request)).with_delay(delay(request)))
            .await;
    let client = GraphClient::new(GraphSettings { concurrency: 5, ..settings(&server, "k3y") }).unwrap();
    let traffic = Traffic::new();
    let snapshot = client.positions(SUBGRAPH, BLOCK, None, false, &traffic).await.unwrap();

    let mut sorted: Vec<&str> = table.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    assert!(ids_of(&snapshot.rows) == sorted, "{} of {} rows", snapshot.rows.len(), sorted.len());
    assert_eq!((snapshot.block.number, snapshot.block.timestamp), (BLOCK, Some(1_672_531_211)));
    assert_eq!((snapshot.block.hash.as_deref(), snapshot.deployment.as_str()), (Some("0xabc"), "QmA"));
    assert!(server.max_concurrent() <= 5, "{}", server.max_concurrent());
    let report = traffic.report();
    assert_eq!((report.requests, report.pages), (server.count() as u64, server.count() as u64));
    assert!(report.bytes > 20_000 * 100 && report.retries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_paged_concurrently() {
    let (table, waiting) = (ids(3000), AtomicUsize::new(0));
    let server = TestServer::start(move |request| {
        let response = TestResponse::json(&respond(&table, request));
        // The first two requests for ranges wait for each other. Without concurrency, both would time out.
        if request.number == 1 || request.number == 2 {
            waiting.fetch_add(1, Ordering::SeqCst);
            let start = Instant::now();
            // Other tasks of this thread, perhaps the other request, continue on another thread meanwhile.
            let arrived = tokio::task::block_in_place(|| {
                while waiting.load(Ordering::SeqCst) < 2 && start.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                waiting.load(Ordering::SeqCst) >= 2
            });
            if !arrived {
                return TestResponse::new(400, "the other request did not arrive");
            }
        }
        response
    })
    .await;
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap();
    assert_eq!(snapshot.rows.len(), 3012);
}

#[tokio::test]
async fn a_first_page_that_is_not_full_needs_one_request() {
    let table: Vec<String> = (0..999).map(|n| format!("0x{n:04}")).collect();
    let server = TestServer::start(move |request| TestResponse::json(&respond(&table, request))).await;
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap();
    assert_eq!(snapshot.rows.len(), 999);

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, format!("/subgraphs/id/{SUBGRAPH}"));
    assert_eq!(requests[0].header("authorization"), Some("Bearer k3y"));
    let expected = json!({ "block": BLOCK, "first": 1000, "where": { "balance_not": "0", "id_gt": "" } });
    assert_eq!(requests[0].body["variables"], expected);
    let query = requests[0].body["query"].as_str().unwrap();
    assert!(query.contains("$block: Int!, $first: Int!, $where: Position_filter!"), "{query}");
    assert!(query.contains("_meta(block: {number: $block})"), "{query}");
    assert!(query.contains("first: $first, orderBy: id, orderDirection: asc, block: {number: $block}"), "{query}");
}

#[tokio::test]
async fn a_full_first_page_needs_a_second_request() {
    let table: Vec<String> = (0..1000).map(|n| format!("0xff{n:04}")).collect();
    let server = TestServer::start(move |request| TestResponse::json(&respond(&table, request))).await;
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, None, false, &Traffic::new()).await.unwrap();
    assert_eq!((snapshot.rows.len(), server.count()), (1000, 2));
}

#[tokio::test]
async fn markets_are_flattened_and_may_be_malformed() {
    let server = TestServer::start(|_| {
        let token = json!({ "id": "0xt", "symbol": "T", "decimals": 18 });
        let market = json!({
            "id": "0xm", "name": "M", "maximumLTV": "80", "liquidationThreshold": 82.5, "inputTokenPriceUSD": "1", "inputToken": token,
        });
        let markets = json!([market, { "id": 7, "inputToken": null }, null]);
        TestResponse::json(&json!({ "data": { "_meta": meta(BLOCK, "QmA"), "markets": markets } }))
    })
    .await;
    let snapshot = client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap();
    let [first, second, third] = &snapshot.rows[..] else { panic!("{snapshot:?}") };
    assert_eq!((first.input_token_id.as_deref(), first.input_token_decimals.as_deref()), (Some("0xt"), Some("18")));
    assert_eq!(first.liquidation_threshold.as_deref(), Some("82.5"));
    assert_eq!((second.id.as_deref(), second.input_token_id.as_deref()), (Some("7"), None));
    assert!(third.id.is_none());
    let query = server.requests()[0].body["query"].as_str().unwrap().to_owned();
    assert!(query.contains("$where: Market_filter!"), "{query}");
    assert_eq!(server.requests()[0].body["variables"]["where"], json!({ "id_gt": "" }));
}

#[tokio::test]
async fn accounts_are_split_and_sent_in_lower_case() {
    let account = |n: usize| format!("0x{n:040x}");
    let table: Vec<String> = (0..4000).map(|n| format!("{}-0xm-LENDER-0", account(n))).collect();
    let server = TestServer::start(move |request| TestResponse::json(&respond(&table, request))).await;
    let accounts: Vec<String> = (0..2500).rev().map(|n| account(n).to_uppercase().replace("0X", "0x")).collect();
    let snapshot = client(&server).positions(SUBGRAPH, BLOCK, Some(&accounts), false, &Traffic::new()).await.unwrap();
    let sorted: Vec<String> = (0..2500).map(|n| format!("{}-0xm-LENDER-0", account(n))).collect();
    assert!(ids_of(&snapshot.rows) == sorted);

    let none = client(&server).positions(SUBGRAPH, BLOCK, Some(&[]), false, &Traffic::new()).await.unwrap();
    assert_eq!((none.rows.len(), none.block.number), (0, BLOCK));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_accounts_are_queried_as_concurrently_as_configured() {
    let account = |n: usize| format!("0x{n:040x}");
    let accounts: Vec<String> = (0..12_000).map(account).collect();
    let delay = Duration::from_millis(500);
    let server = TestServer::start(move |request| TestResponse::json(&respond(&[], request)).with_delay(delay)).await;
    for concurrency in [2, 12] {
        let client = GraphClient::new(GraphSettings { concurrency, ..settings(&server, "k3y") }).unwrap();
        client.positions(SUBGRAPH, BLOCK, Some(&accounts), false, &Traffic::new()).await.unwrap();
        assert_eq!(server.max_concurrent(), concurrency);
    }
}

#[tokio::test]
async fn head_query_has_no_block() {
    let server = TestServer::start(|_| TestResponse::json(&json!({ "data": { "_meta": meta(99, "QmA") } }))).await;
    let head = client(&server).head(SUBGRAPH, &Traffic::new()).await.unwrap();
    assert_eq!((head.block.number, head.deployment.as_str()), (99, "QmA"));
    assert!(!server.requests()[0].body["query"].as_str().unwrap().contains("number:"));
}

#[tokio::test]
async fn older_nodes_may_omit_timestamp_and_hash() {
    let server = TestServer::start(|_| {
        let meta =
            json!({ "block": { "number": BLOCK, "timestamp": null }, "deployment": "QmA", "hasIndexingErrors": false });
        TestResponse::json(&json!({ "data": { "_meta": meta, "markets": [] } }))
    })
    .await;
    let block = client(&server).markets(SUBGRAPH, BLOCK, &Traffic::new()).await.unwrap().block;
    assert_eq!((block.number, block.timestamp, block.hash), (BLOCK, None, None));
}

#[tokio::test]
async fn keys_rotate_and_no_key_means_no_header() {
    let empty = |_: &TestRequest| TestResponse::json(&json!({ "data": { "_meta": meta(BLOCK, "QmA") } }));
    let server = TestServer::start(empty).await;
    let client = GraphClient::new(settings(&server, "a,b,c")).unwrap();
    for _ in 0..9 {
        client.head(SUBGRAPH, &Traffic::new()).await.unwrap();
    }
    for key in ["Bearer a", "Bearer b", "Bearer c"] {
        assert_eq!(server.requests().iter().filter(|request| request.header("authorization") == Some(key)).count(), 3);
    }
    let keyless = TestServer::start(empty).await;
    GraphClient::new(settings(&keyless, "")).unwrap().head(SUBGRAPH, &Traffic::new()).await.unwrap();
    assert_eq!(keyless.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn rate_limit_applies_to_the_whole_client() {
    let server = TestServer::start(|_| TestResponse::json(&json!({ "data": { "_meta": meta(BLOCK, "QmA") } }))).await;
    let client =
        GraphClient::new(GraphSettings { rate: RateLimit::per_second(50), ..settings(&server, "k3y") }).unwrap();
    let (start, traffic) = (Instant::now(), Traffic::new());
    futures::future::try_join_all((0..11).map(|_| client.head(SUBGRAPH, &traffic))).await.unwrap();
    // A busy machine only makes this longer.
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.count(), 11);
}

#[tokio::test]
async fn rejects_invalid_input_before_any_request() {
    let server = TestServer::start(|_| TestResponse::new(500, "")).await;
    let client = client(&server);
    for id in ["", "../x", "a/b", "a?b"] {
        assert_eq!(client.head(id, &Traffic::new()).await.unwrap_err().kind(), Kind::BadInput);
    }
    let error = client.markets(SUBGRAPH, 1 << 31, &Traffic::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert_eq!(server.count(), 0);
    for keys in [vec![Secret::new(" ")], vec![Secret::new("hunter2\nx")]] {
        let error = GraphClient::new(GraphSettings { keys, ..settings(&server, "") }).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    for invalid in [
        GraphSettings { concurrency: 0, ..settings(&server, "") },
        GraphSettings { rate: RateLimit::per_second(0), ..settings(&server, "") },
        GraphSettings { url: "http://gateway.example".to_owned(), ..settings(&server, "") },
    ] {
        assert_eq!(GraphClient::new(invalid).unwrap_err().kind(), Kind::BadInput);
    }
}

#[test]
fn futures_are_send() {
    fn assert_send<T: Send>(_: T) {}
    let check = |client: &'static GraphClient, traffic: &'static Traffic| {
        assert_send(client.positions(SUBGRAPH, BLOCK, None, false, traffic));
        assert_send(client.markets(SUBGRAPH, BLOCK, traffic));
        assert_send(client.head(SUBGRAPH, traffic));
    };
    let _ = check;
}
