//! Tests of the client of an Ethereum node with nodes and proxies that stumble or lie.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use defi_shared::config::SourceLimits;
use defi_shared::domain::TxHash;
use defi_shared::error::{Error, Kind};
use defi_shared::sources::ethereum::{Call, EthereumClient, EthereumSettings, Meaning, messages};
use defi_shared::sources::{RetryPolicy, Secret, Traffic};
use serde_json::{Value, json};

use super::ethereum_node::{
    A, B, HEAD, MULTICALL, OTHER, Outcome, START, answer, block, client, count, hash, log, logs, members, refusal,
    respond, settings, start,
};
use super::keys::Log;
use super::loopback::{TestRequest, TestResponse, TestServer};

const TRIES: usize = RetryPolicy::LOOPBACK.tries;

/// Returns the error if a method always has an outcome, and the number of requests with it.
async fn failure(
    method: &'static str,
    outcome: impl Fn(&Value) -> Outcome + Send + Sync + 'static,
    call: impl AsyncFn(&EthereumClient) -> Result<(), Error>,
) -> (Error, usize) {
    let answer =
        move |asked: &str, params: &Value| if asked == method { outcome(params) } else { answer(asked, params) };
    let server = start(answer).await;
    let error = call(&client(&server)).await.unwrap_err();
    (error, count(&server, method))
}

/// Asserts that a call succeeds if a method has the outcome twice, with as many more requests.
async fn recovers(
    method: &'static str,
    outcome: impl Fn(&Value) -> Outcome + Send + Sync + 'static,
    call: impl AsyncFn(&EthereumClient) -> Result<(), Error>,
) {
    let number = AtomicUsize::new(0);
    let answer = move |asked: &str, params: &Value| match asked == method && number.fetch_add(1, Ordering::SeqCst) < 2 {
        true => outcome(params),
        false => answer(asked, params),
    };
    let server = start(answer).await;
    call(&client(&server)).await.unwrap();
    assert_eq!(count(&server, method), 3);
}

async fn read_logs(client: &EthereumClient) -> Result<(), Error> {
    let batch = client.logs(&[A, B], 100, 102, &Traffic::new()).await?;
    assert_eq!((batch.logs.len(), batch.repeats), (6, 0));
    Ok(())
}

async fn read_head(client: &EthereumClient) -> Result<(), Error> {
    client.head(&Traffic::new()).await.map(drop)
}

#[tokio::test]
async fn texts_codes_and_statuses_have_kinds() {
    let texts: Vec<(Meaning, &str)> = messages().collect();
    for (meaning, text) in texts {
        let kind = match meaning {
            // A missing newest block.
            Meaning::Missing(_) => Kind::NotReady,
            meaning => meaning.kind(),
        };
        for status in [200, 400, 500] {
            let server = TestServer::start(move |request| match request.body["method"].as_str() {
                Some("eth_chainId") => TestResponse::json(&respond(&request.body, answer)),
                _ => TestResponse::new(status, json!({"error": {"code": -32000, "message": text}}).to_string()),
            })
            .await;
            let error = read_head(&client(&server)).await.unwrap_err();
            let requests = if kind.is_transient() { TRIES } else { 1 };
            assert_eq!((error.kind(), server.count() - 1), (kind, requests), "{status}: {text}");
            assert!(error.details().contains(text), "{error}");
            assert!(
                error.details().contains("code=-32000, source=Ethereum node, method=eth_getBlockByNumber"),
                "{error}"
            );
        }
    }
    for (code, kind) in [
        (-32005, Kind::Throttled),
        (429, Kind::Throttled),
        (4444, Kind::HistoryPruned),
        (-32602, Kind::SourceRejected),
        (-32603, Kind::SourceUnavailable),
        (-32000, Kind::SourceUnavailable),
    ] {
        let (error, _) = failure("eth_getBlockByNumber", move |_| refusal(code, "an unknown text"), read_head).await;
        assert_eq!(error.kind(), kind, "{code}");
    }
}

#[tokio::test]
async fn answers_of_proxies_have_kinds() {
    for (status, body, kind) in [
        (401, "Unauthorized", Kind::BadCredentials),
        (403, r#"{"message": "Forbidden"}"#, Kind::BadCredentials),
        (403, "<html>Attention Required! | Cloudflare</html>", Kind::SourceUnavailable),
        (402, "", Kind::QuotaExceeded),
        (404, "", Kind::SourceRejected),
        (429, r#"{"error": "Too Many Requests"}"#, Kind::Throttled),
        (429, r#"{"error": {"message": "Monthly capacity limit exceeded"}}"#, Kind::QuotaExceeded),
        (429, r#"[{"error": {"message": "per second capacity"}}, {}]"#, Kind::Throttled),
        (500, "", Kind::SourceUnavailable),
        (502, "<html>Bad gateway</html>", Kind::SourceUnavailable),
        (200, "<html>Bad gateway</html>", Kind::SourceUnavailable),
        (200, "", Kind::SourceUnavailable),
        (200, r#"{"jsonrpc": "2.0", "id": 1, "result": {"num"#, Kind::SourceUnavailable),
        (200, "{}", Kind::CorruptData),
        (200, "7", Kind::CorruptData),
        (200, r#"{"id": 2, "result": {}}"#, Kind::CorruptData),
        (200, r#"{"id": 1, "result": {}}"#, Kind::CorruptData),
        (200, r#"[{"id": 1, "result": null}, {"id": 2, "result": null}]"#, Kind::CorruptData),
        (307, "", Kind::SourceRejected),
    ] {
        for fault_at in [0, 1] {
            let server = TestServer::start(move |request| match request.number >= fault_at {
                true => TestResponse::new(status, body),
                false => TestResponse::json(&respond(&request.body, answer)),
            })
            .await;
            let error = read_head(&client(&server)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault_at}: {status} {body}");
            let is_retried = kind.is_transient() || kind == Kind::CorruptData;
            assert_eq!(server.count() - fault_at, if is_retried { TRIES } else { 1 }, "{status} {body}");
        }
    }
}

#[tokio::test]
async fn waits_for_retry_after() {
    let server = TestServer::start(|request| match request.number {
        0 => TestResponse::new(429, "{}").with_header("retry-after", 1),
        _ => TestResponse::json(&respond(&request.body, answer)),
    })
    .await;
    let start = Instant::now();
    read_head(&client(&server)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_backend_that_is_behind_is_retried() {
    let behind = messages().filter(|(meaning, _)| meaning.kind() == Kind::NotReady).map(|(_, text)| text);
    for text in behind {
        recovers("eth_getLogs", move |_| refusal(-32602, text), read_logs).await;
    }
}

#[tokio::test]
async fn a_missing_block_is_not_ready_near_the_head_and_pruned_before() {
    let null = |_: &Value| Ok(Value::Null);
    for (number, kind) in [
        (HEAD + 5, Kind::NotReady),
        (HEAD, Kind::NotReady),
        (HEAD - 128, Kind::NotReady),
        (HEAD - 129, Kind::HistoryPruned),
        (0, Kind::HistoryPruned),
    ] {
        let call = async |client: &EthereumClient| client.headers(&[number], &Traffic::new()).await.map(drop);
        let (error, requests) = failure("eth_getBlockByNumber", null, call).await;
        assert_eq!((error.kind(), requests), (kind, TRIES), "{number}: {error}");
        let call = async |client: &EthereumClient| client.block_logs(number, &Traffic::new()).await.map(drop);
        let (error, _) = failure("eth_getBlockReceipts", null, call).await;
        assert_eq!(error.kind(), kind, "{number}: {error}");
        let call = async |client: &EthereumClient| {
            let call = Call { to: A, data: Vec::new() };
            client.call(&[call], number, &Traffic::new()).await.map(drop)
        };
        let (error, _) = failure("eth_call", |_| refusal(-32000, "header not found"), call).await;
        assert_eq!(error.kind(), kind, "{number}: {error}");
    }
    // A range that ends beyond the head is never pruned.
    let (error, _) =
        failure("eth_getLogs", |_| refusal(-32602, "block range extends beyond current head block"), read_logs).await;
    assert_eq!(error.kind(), Kind::NotReady);
    // Nodes without such an error answer with the logs up to their head.
    let call = async |client: &EthereumClient| client.logs(&[A], HEAD - 5, HEAD + 1, &Traffic::new()).await.map(drop);
    let (error, requests) = failure("eth_getLogs", |params| Ok(json!(logs(params))), call).await;
    assert_eq!((error.kind(), requests), (Kind::NotReady, 0));
    let number = |_: &Value| Ok(block(17));
    let call = async |client: &EthereumClient| client.headers(&[16], &Traffic::new()).await.map(drop);
    assert_eq!(failure("eth_getBlockByNumber", number, call).await.0.kind(), Kind::CorruptData);
}

#[tokio::test]
async fn a_pruned_state_is_pruned_history_at_once() {
    for (_, text) in messages().filter(|(meaning, _)| meaning.kind() == Kind::HistoryPruned) {
        let call = async |client: &EthereumClient| client.has_code(&[A], 17, &Traffic::new()).await.map(drop);
        let (error, requests) = failure("eth_getCode", move |_| refusal(-32000, text), call).await;
        assert_eq!((error.kind(), requests), (Kind::HistoryPruned, 1), "{text}");
        // In a search for a block, too.
        let call = async |client: &EthereumClient| client.first_block(START + 17, &Traffic::new()).await.map(drop);
        let old = move |params: &Value| match params[0] == "latest" {
            true => Ok(block(HEAD)),
            false => refusal(4444, text),
        };
        assert_eq!(failure("eth_getBlockByNumber", old, call).await.0.kind(), Kind::HistoryPruned);
    }
}

#[tokio::test]
async fn a_transaction_without_a_receipt_is_an_error() {
    let call = async |client: &EthereumClient| {
        let hashes = [1, 2].map(|number| TxHash::parse(&hash(number)).unwrap());
        client.senders(&hashes, &Traffic::new()).await.map(drop)
    };
    let (error, _) = failure("eth_getTransactionReceipt", |_| Ok(Value::Null), call).await;
    assert_eq!(error.kind(), Kind::HistoryPruned);
    assert!(error.details().contains(&format!("transaction={}", hash(1))), "{error}");
    let other = |_: &Value| Ok(json!({ "transactionHash": hash(3), "from": A.to_string() }));
    assert_eq!(failure("eth_getTransactionReceipt", other, call).await.0.kind(), Kind::CorruptData);
    let without = |params: &Value| Ok(json!({ "transactionHash": params[0], "from": null }));
    assert_eq!(failure("eth_getTransactionReceipt", without, call).await.0.kind(), Kind::CorruptData);
}

/// A change that makes an answer with logs wrong.
type Lie = (&'static str, fn(&mut Vec<Value>));

const LIES: &[Lie] = &[
    ("outside the range", |logs| logs.push(log(103, A))),
    ("outside the range", |logs| logs.insert(0, log(99, A))),
    ("contract that was not asked for", |logs| logs.push(log(102, OTHER))),
    ("out of order", |logs| logs.reverse()),
    ("out of order", |logs| logs.swap(0, 1)),
    ("removed", |logs| logs[3]["removed"] = json!(true)),
    ("malformed", |logs| logs[3]["topics"] = json!([hash(1), hash(1), hash(1), hash(1), hash(1)])),
    ("malformed", |logs| logs[3]["topics"] = json!(["0x12"])),
    ("malformed", |logs| logs[3]["data"] = json!("0x123")),
    ("malformed", |logs| logs[3]["logIndex"] = json!("1")),
    ("lacks a field", |logs| logs[3]["blockHash"] = Value::Null),
    ("lacks a field", |logs| logs[3] = Value::Null),
    ("two block hashes", |logs| logs[3]["blockHash"] = json!(hash(7))),
    ("two different logs", |logs| {
        let mut other = logs[3].clone();
        other["data"] = json!("0x");
        logs.push(other);
    }),
];

#[tokio::test]
async fn wrong_answers_are_asked_for_again_and_corrupt_if_they_stay() {
    for (message, lie) in LIES {
        let outcome = |params: &Value| {
            let mut logs = logs(params);
            lie(&mut logs);
            Ok(json!(logs))
        };
        recovers("eth_getLogs", outcome, read_logs).await;
        let (error, requests) = failure("eth_getLogs", outcome, read_logs).await;
        assert_eq!((error.kind(), requests), (Kind::CorruptData, TRIES), "{message}");
        assert!(error.details().contains(message), "{message}: {error}");
    }
    for outcome in [Value::Null, json!({}), json!("0x")] {
        let (error, _) = failure("eth_getLogs", move |_| Ok(outcome.clone()), read_logs).await;
        assert_eq!(error.kind(), Kind::CorruptData);
    }
}

#[tokio::test]
async fn identical_copies_are_dropped_and_counted() {
    let server = start(|method, params| match method {
        "eth_getLogs" => {
            let logs = logs(params);
            Ok(json!([logs.clone(), logs[..3].to_vec()].concat()))
        }
        _ => answer(method, params),
    })
    .await;
    let batch = client(&server).logs(&[A, B], 100, 102, &Traffic::new()).await.unwrap();
    assert_eq!((batch.logs.len(), batch.repeats), (6, 3));
}

/// Addresses that need two requests, with `A` in the first one and `B` in the second one.
fn many_addresses() -> Vec<defi_shared::domain::Address> {
    let mut addresses = vec![A, B];
    addresses.extend((0..1200_u16).map(|number| {
        let mut bytes = [0xab; 20];
        bytes[18..].copy_from_slice(&number.to_be_bytes());
        defi_shared::domain::HexBytes(bytes)
    }));
    addresses
}

#[tokio::test]
async fn a_block_has_one_hash_in_all_answers() {
    let addresses = many_addresses();
    let read = async |faults: usize| {
        let number = AtomicUsize::new(0);
        let server = start(move |method, params| match method {
            "eth_getLogs" => {
                let mut logs = logs(params);
                let is_of_b = logs.iter().any(|log| log["address"] == B.to_string());
                if is_of_b && number.fetch_add(1, Ordering::SeqCst) < faults {
                    logs[0]["blockHash"] = json!(hash(7));
                }
                Ok(json!(logs))
            }
            _ => answer(method, params),
        })
        .await;
        client(&server).logs(&addresses, 100, 102, &Traffic::new()).await
    };
    assert_eq!(read(2).await.unwrap().logs.len(), 6);
    let error = read(usize::MAX).await.unwrap_err();
    assert_eq!(error.kind(), Kind::CorruptData);
    assert!(error.details().contains("the hash of a block differs"), "{error}");
}

#[tokio::test]
async fn receipts_of_a_block_have_complete_logs() {
    let receipts = |logs: Value| Ok(json!([{ "blockNumber": "0x11", "logs": logs }]));
    let call = async |client: &EthereumClient| client.block_logs(17, &Traffic::new()).await.map(drop);
    for outcome in [
        receipts(json!([log(17, A), log(17, OTHER)])),
        receipts(json!([log(17, B)])),
        receipts(json!([log(18, A)])),
        receipts(json!([log(17, B), log(17, A)])),
        Ok(json!([{ "blockNumber": "0x12", "logs": [] }])),
        Ok(json!([{ "blockNumber": "0x11" }])),
    ] {
        let (error, _) = failure("eth_getBlockReceipts", move |_| outcome.clone(), call).await;
        assert_eq!(error.kind(), Kind::CorruptData, "{error}");
    }
}

#[tokio::test]
async fn a_chain_whose_times_or_hashes_do_not_fit_is_corrupt() {
    let call = async |client: &EthereumClient| client.first_block(START + 12 * 5000, &Traffic::new()).await.map(drop);
    let unlinked = |params: &Value| {
        let mut block = answer("eth_getBlockByNumber", params).unwrap();
        block["parentHash"] = json!(hash(3));
        Ok(block)
    };
    let (error, _) = failure("eth_getBlockByNumber", unlinked, call).await;
    assert_eq!(error.kind(), Kind::CorruptData);
    assert!(error.details().contains("does not follow"), "{error}");
    let late = |params: &Value| {
        let mut block = answer("eth_getBlockByNumber", params).unwrap();
        if params[0] != "latest" {
            block["timestamp"] = json!("0x7fffffff");
        }
        Ok(block)
    };
    let (error, _) = failure("eth_getBlockByNumber", late, call).await;
    assert_eq!(error.kind(), Kind::CorruptData);
    assert!(error.details().contains("do not rise"), "{error}");
}

#[tokio::test]
async fn a_head_that_falls_back_is_refused() {
    for (depth, kind) in [(64, None), (65, Some(Kind::CorruptData))] {
        let number = AtomicUsize::new(0);
        let server = start(move |method, params| match params[0].as_str() {
            Some("latest") if number.fetch_add(1, Ordering::SeqCst) > 0 => Ok(block(HEAD - depth)),
            _ => answer(method, params),
        })
        .await;
        let client = client(&server);
        read_head(&client).await.unwrap();
        assert_eq!(read_head(&client).await.err().map(|error| error.kind()), kind, "{depth}");
    }
}

#[tokio::test]
async fn a_final_block_that_was_named_is_not_replaced_by_a_guess() {
    let forms: [fn() -> Outcome; 3] =
        [|| Ok(Value::Null), || refusal(-32000, "finalized block not found"), || refusal(-32000, "Unknown block")];
    for form in forms {
        // The second to the fourth answer, or all but the first one.
        for (faults, kind) in [(1..=3, None), (1..=usize::MAX, Some(Kind::NotReady))] {
            let number = AtomicUsize::new(0);
            let server = start(move |method, params| match params[0].as_str() {
                Some("finalized") if faults.contains(&number.fetch_add(1, Ordering::SeqCst)) => form(),
                _ => answer(method, params),
            })
            .await;
            let client = client(&server);
            assert_eq!(client.finalized(&Traffic::new()).await.unwrap().number, HEAD - 70);
            let again = client.finalized(&Traffic::new()).await;
            assert_eq!(again.as_ref().err().map(|error| error.kind()), kind, "{again:?}");
            assert!(again.is_err() || again.unwrap().number == HEAD - 70);
        }
    }
}

#[tokio::test]
async fn a_final_block_that_falls_back_is_refused() {
    for (depth, kind) in [(128, None), (129, Some(Kind::CorruptData))] {
        let number = AtomicUsize::new(0);
        let server = start(move |method, params| match params[0].as_str() {
            Some("finalized") if number.fetch_add(1, Ordering::SeqCst) > 0 => Ok(block(HEAD - 70 - depth)),
            _ => answer(method, params),
        })
        .await;
        let client = client(&server);
        client.finalized(&Traffic::new()).await.unwrap();
        let again = client.finalized(&Traffic::new()).await;
        assert_eq!(again.err().map(|error| error.kind()), kind, "{depth}");
    }
}

#[tokio::test]
async fn batches_with_missing_surplus_or_repeated_ids_are_asked_for_again() {
    let changes: [fn(&mut Vec<Value>); 6] = [
        |list| drop(list.pop()),
        |list| list.clear(),
        |list| list.push(json!({"id": 99, "result": null})),
        |list| list[0]["id"] = json!(99),
        |list| list[0] = list[1].clone(),
        |list| list[0]["id"] = Value::Null,
    ];
    for change in changes {
        for (faults, outcome) in [(3, None), (usize::MAX, Some(Kind::CorruptData))] {
            let server = TestServer::start(move |request: &TestRequest| {
                let mut body = respond(&request.body, answer);
                if let Some(list) = body.as_array_mut()
                    && request.number < faults
                {
                    change(list);
                }
                TestResponse::json(&body)
            })
            .await;
            let numbers: Vec<u64> = (0..4).collect();
            let headers = client(&server).headers(&numbers, &Traffic::new()).await;
            match outcome {
                None => assert_eq!(headers.unwrap().len(), 4),
                // A node that leaves out one answer of each batch gives all of them in the end.
                Some(kind) => assert!(headers.is_ok() || headers.unwrap_err().kind() == kind),
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_answer_of_multicall_is_corrupt() {
    let read = async |returned: &'static str| {
        let server = start(move |method, params| match method {
            "eth_call" => Ok(json!(returned)),
            _ => answer(method, params),
        })
        .await;
        let settings = EthereumSettings { multicall: Some(MULTICALL), ..settings(&server.url) };
        let call = Call { to: A, data: Vec::new() };
        EthereumClient::new(settings).unwrap().call(&[call], HEAD, &Traffic::new()).await.unwrap_err()
    };
    for returned in ["0x", "0x12", "hello", &format!("0x{}", "00".repeat(64))].map(|text| &*text.to_owned().leak()) {
        assert_eq!(read(returned).await.kind(), Kind::CorruptData, "{returned}");
    }
}

#[tokio::test]
async fn limits_on_rows_bytes_and_fields_are_kept() {
    let server = start(answer).await;
    for (limits, entry) in [
        (SourceLimits { event_rows: 5, ..SourceLimits::default() }, "event_rows"),
        (SourceLimits { event_bytes: 500, ..SourceLimits::default() }, "event_bytes"),
        (SourceLimits { field_bytes: 31, ..SourceLimits::default() }, "field_bytes"),
    ] {
        let settings = EthereumSettings { limits, ..settings(&server.url) };
        let error = read_logs(&EthereumClient::new(settings).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CorruptData);
        assert!(error.details().contains(entry), "{error}");
    }
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    let invalid = [
        EthereumSettings { batch: 0, ..settings("http://127.0.0.1:1") },
        EthereumSettings { concurrency: 0, ..settings("http://127.0.0.1:1") },
        settings("http://node.example/hunter2hunter2"),
        settings("hunter2hunter2"),
    ];
    for settings in invalid {
        let error = EthereumClient::new(settings).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

const PATH_KEY: &str = "4f1c9a7e2b8d4065a3f7e91c6d20b85a";
const QUERY_KEY: &str = "query-key-9c1f";
const PASSWORD: &str = "p4ssw0rd-of-the-node";

#[tokio::test]
async fn the_url_appears_nowhere() {
    let (log, _subscriber) = Log::start();
    let server = TestServer::start(|request| {
        assert!(request.path.contains(PATH_KEY));
        let echo = format!("{} key={QUERY_KEY} {:?} {PASSWORD}", request.path, request.headers);
        match request.number % 4 {
            0 => TestResponse::new(404, json!({ "message": format!("no page {echo}") }).to_string()),
            1 => TestResponse::json(&json!({ "id": 1, "error": { "code": -32000, "message": echo } })),
            2 => TestResponse::new(200, format!("<html>{echo}</html>")),
            _ => TestResponse::json(&json!({ "id": 1, "result": echo })),
        }
    })
    .await;
    let address = server.url.strip_prefix("http://").unwrap();
    let url = format!("http://somebody:{PASSWORD}@{address}/v2/{PATH_KEY}?key={QUERY_KEY}");
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::LOOPBACK };
    let settings = EthereumSettings { retry, ..settings(&url) };
    let client = EthereumClient::new(settings.clone()).unwrap();
    let mut shown = format!("{settings:?} {client:?} {:?}", Secret::new(&url));
    for _ in 0..8 {
        let error = read_head(&client).await.unwrap_err();
        shown += &format!("{error} {error:?}");
    }
    shown += &log.take();
    for secret in [PATH_KEY, QUERY_KEY, PASSWORD, &url] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(shown.contains("no page /v2/***"), "{shown}");
    // A server that is not there.
    let gone = EthereumClient::new(EthereumSettings {
        url: Secret::new(format!("http://127.0.0.1:9/{PATH_KEY}")),
        ..settings
    });
    let error = read_head(&gone.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceUnavailable);
    assert!(!format!("{error} {error:?}").contains(PATH_KEY));
}

#[tokio::test]
async fn an_error_that_names_the_url_keeps_its_meaning() {
    let server = TestServer::start(|request| {
        let blocks = request.body["params"][0]["toBlock"].as_str().unwrap_or_default().to_owned();
        match members(request)[0]["method"] == "eth_getLogs" && blocks == "0x66" {
            true => TestResponse::json(&json!({ "id": 1, "error": { "code": -32005,
                "message": format!("query returned more than 10000 results: {}", request.path) } })),
            false => TestResponse::json(&respond(&request.body, answer)),
        }
    })
    .await;
    let settings = settings(&format!("{}/{PATH_KEY}", server.url));
    let error = read_logs(&EthereumClient::new(settings).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceRejected);
    assert!(error.details().contains("one block"), "{error}");
}
