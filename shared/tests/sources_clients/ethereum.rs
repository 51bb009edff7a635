//! Tests of the client of an Ethereum node: what it asks for, and how it adapts to the limits of nodes.

use std::collections::BTreeMap;

use defi_shared::domain::{Address, HexBytes, TxHash};
use defi_shared::error::Kind;
use defi_shared::sources::Traffic;
use defi_shared::sources::ethereum::{Call, CallOutcome, EthereumClient, EthereumSettings, Log, Meaning, messages};
use serde_json::{Value, json};

use super::ethereum_node::{
    A, B, CHAIN_ID, HEAD, MULTICALL, MULTICALL_BLOCK, OTHER, Outcome, START, answer, client, count, hash, members,
    node, quantity, refusal, respond, settings, start,
};
use super::loopback::{TestResponse, TestServer};

fn traffic() -> Traffic {
    Traffic::new()
}

/// The blocks and the contracts of logs.
fn keys(logs: &[Log]) -> Vec<(u64, Address)> {
    logs.iter().map(|log| (log.block_number, log.address)).collect()
}

fn expected(from: u64, to: u64) -> Vec<(u64, Address)> {
    (from..=to).flat_map(|number| [(number, A), (number, B)]).collect()
}

#[tokio::test]
async fn blocks_are_read_by_number_and_tag() {
    let server = node().await;
    let client = client(&server);
    let head = client.head(&traffic()).await.unwrap();
    assert_eq!((head.number, head.timestamp), (HEAD, START + 12 * HEAD as i64));
    assert_eq!(client.finalized(&traffic()).await.unwrap().number, HEAD - 70);
    let numbers: Vec<u64> = (0..250).map(|n| n * 7 % 251).collect();
    let headers = client.headers(&numbers, &traffic()).await.unwrap();
    assert_eq!(headers.iter().map(|header| header.number).collect::<Vec<_>>(), numbers);
    assert_eq!(headers[3].hash.to_string(), hash(numbers[3] + 1));
    // The chain id, the head, the final block, and three batches of a hundred.
    assert_eq!(server.count(), 6);
    assert_eq!(client.headers(&[], &traffic()).await.unwrap(), []);
}

#[tokio::test]
async fn another_chain_is_refused() {
    let server = node().await;
    let client = EthereumClient::new(EthereumSettings { chain_id: 1, ..settings(&server.url) }).unwrap();
    for error in [
        client.head(&traffic()).await.unwrap_err(),
        client.logs(&[A], 1, 2, &traffic()).await.unwrap_err(),
        client.has_code(&[A], 1, &traffic()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::BadInput);
        assert!(error.details().contains(&format!("chain_id={CHAIN_ID}, configured=1")), "{error}");
    }
    assert_eq!(server.count(), count(&server, "eth_chainId"));
}

#[tokio::test]
async fn a_node_without_finalized_gives_a_block_64_deep() {
    let forms: [fn() -> Outcome; 5] = [
        || Ok(Value::Null),
        || refusal(-32000, "finalized block not found"),
        || refusal(-39001, "Unknown block"),
        || refusal(-32602, "invalid argument 0: hex string without 0x prefix"),
        || refusal(-32000, "'finalized' tag not supported on pre-merge network: invalid params"),
    ];
    for form in forms {
        let server = start(move |method, params| match params[0].as_str() {
            Some("finalized") => form(),
            _ => answer(method, params),
        })
        .await;
        let finalized = client(&server).finalized(&traffic()).await.unwrap();
        assert_eq!((finalized.number, server.count()), (HEAD - 64, 4));
    }
}

#[tokio::test]
async fn the_first_block_at_a_time_is_found_with_few_requests() {
    let server = node().await;
    let client = client(&server);
    for (time, number) in [
        (START + 12 * 5000, Some(5000)),
        (START + 12 * 5000 - 11, Some(5000)),
        (START + 12 * 5000 + 1, Some(5001)),
        (START - 100_000, Some(0)),
        (START, Some(0)),
        (START + 1, Some(1)),
        (START + 12 * HEAD as i64, Some(HEAD)),
        (START + 12 * HEAD as i64 + 1, None),
    ] {
        let before = server.count();
        let found = client.first_block(time, &traffic()).await.unwrap();
        assert_eq!(found.map(|header| header.number), number, "{time}");
        assert!(server.count() - before <= 8, "{time}: {}", server.count() - before);
    }
}

#[tokio::test]
async fn logs_are_read_in_ranges_and_in_order() {
    let server = node().await;
    let traffic = traffic();
    let batch = client(&server).logs(&[B, A, B], 0, HEAD, &traffic).await.unwrap();
    assert_eq!((keys(&batch.logs), batch.repeats), (expected(0, HEAD), 0));
    assert_eq!(batch.logs[1].topics, [TxHash::parse(&hash(99)).unwrap()]);
    assert_eq!(batch.logs[2].data[31], 1);
    assert_eq!(count(&server, "eth_getLogs"), 3);
    assert_eq!(traffic.report().retries.values().sum::<u64>(), 0);
    let error = client(&server).logs(&[A], 2, 1, &traffic).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
}

#[tokio::test]
async fn long_lists_of_addresses_are_split() {
    let server = node().await;
    let mut addresses: Vec<Address> = (0..2500_u16)
        .map(|n| {
            let mut bytes = [0x99; 20];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            HexBytes(bytes)
        })
        .collect();
    addresses.extend([A, B]);
    let batch = client(&server).logs(&addresses, 7, 9, &traffic()).await.unwrap();
    assert_eq!(keys(&batch.logs), expected(7, 9));
    let sizes: Vec<usize> = server.requests()[2..]
        .iter()
        .map(|request| request.body["params"][0]["address"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 2502);
    assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
}

/// A node that accepts ranges of at most some blocks, with the error of a provider.
async fn limited(max: u64, failure: impl Fn(u64) -> Outcome + Send + Sync + 'static) -> TestServer {
    start(move |method, params| {
        if method == "eth_getLogs" {
            let (from, to) = (quantity(&params[0]["fromBlock"]), quantity(&params[0]["toBlock"]));
            if to - from >= max {
                return failure(from);
            }
        }
        answer(method, params)
    })
    .await
}

#[tokio::test]
async fn ranges_are_halved_on_every_text_of_a_provider() {
    let texts = messages().filter(|(meaning, _)| matches!(meaning, Meaning::TooManyBlocks | Meaning::TooMuch));
    let mut count_of_texts = 0;
    for (_, text) in texts {
        for code in [-32005, -32602] {
            let server = limited(100, move |_| refusal(code, text)).await;
            let client = client(&server);
            let batch = client.logs(&[A, B], 1000, 1999, &traffic()).await.unwrap();
            assert_eq!(keys(&batch.logs), expected(1000, 1999), "{text}");
            // The client keeps to the size: 63 blocks.
            let before = count(&server, "eth_getLogs");
            client.logs(&[A, B], 3000, 3061, &traffic()).await.unwrap();
            assert_eq!(count(&server, "eth_getLogs"), before + 1, "{text}");
            count_of_texts += 1;
        }
    }
    assert!(count_of_texts >= 40, "{count_of_texts}");
}

#[tokio::test]
async fn a_suggested_range_is_used() {
    for text in
        ["query exceeds max results 20000, retry with the range {}-{}", "this block range should work: [{}, {}]"]
    {
        let server = limited(100, move |from| {
            refusal(-32005, &text.replacen("{}", &from.to_string(), 1).replacen("{}", &(from + 99).to_string(), 1))
        })
        .await;
        let batch = client(&server).logs(&[A, B], 1000, 1999, &traffic()).await.unwrap();
        assert_eq!(keys(&batch.logs), expected(1000, 1999));
        assert_eq!(count(&server, "eth_getLogs"), 11, "{text}");
    }
    // Not inside of ours: the range is halved.
    let server = limited(100, |from| {
        refusal(-32005, &format!("query exceeds max results 9, retry with the range {}-{}", from - 1, from + 8))
    })
    .await;
    client(&server).logs(&[A], 1000, 1199, &traffic()).await.unwrap();
    assert_eq!(count(&server, "eth_getLogs"), 3);
}

#[tokio::test]
async fn statuses_and_long_bodies_halve_ranges_too() {
    let server = TestServer::start(|request| match members(request)[0]["method"].as_str() {
        Some("eth_getLogs") => {
            let filter = &request.body["params"][0];
            match quantity(&filter["toBlock"]) - quantity(&filter["fromBlock"]) {
                400.. => TestResponse::new(413, "<html>413 Request Entity Too Large</html>"),
                200.. => TestResponse::new(400, r#"{"message": "block range is too wide"}"#),
                _ => TestResponse::json(&respond(&request.body, answer)),
            }
        }
        _ => TestResponse::json(&respond(&request.body, answer)),
    })
    .await;
    let batch = client(&server).logs(&[A, B], 1000, 1999, &traffic()).await.unwrap();
    assert_eq!(keys(&batch.logs), expected(1000, 1999));

    let server = node().await;
    let settings = EthereumSettings { max_body_bytes: 64 << 10, ..settings(&server.url) };
    let client = EthereumClient::new(settings).unwrap();
    let batch = client.logs(&[A, B], 1000, 1999, &traffic()).await.unwrap();
    assert_eq!(keys(&batch.logs), expected(1000, 1999));
    let numbers: Vec<u64> = (0..100).collect();
    assert_eq!(client.headers(&numbers, &traffic()).await.unwrap().len(), 100);
}

#[tokio::test]
async fn one_block_that_is_too_large_fails_clearly() {
    let server = start(|method, params| match method {
        "eth_getLogs" if quantity(&params[0]["toBlock"]) >= 1500 && quantity(&params[0]["fromBlock"]) <= 1500 => {
            refusal(-32005, "query returned more than 10000 results")
        }
        _ => answer(method, params),
    })
    .await;
    let error = client(&server).logs(&[A], 1000, 1999, &traffic()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceRejected);
    assert!(error.details().contains("one block") && error.details().contains("block=1500"), "{error}");
    assert!(error.details().contains("more than 10000 results"), "{error}");
}

#[tokio::test]
async fn senders_and_block_logs_come_from_receipts() {
    let server = node().await;
    let client = client(&server);
    let hashes: Vec<TxHash> = (0..150).map(|n| TxHash::parse(&hash(n % 120)).unwrap()).collect();
    let senders = client.senders(&hashes, &traffic()).await.unwrap();
    let sender = |number: u64| Address::parse(&format!("0x{number:040x}")).unwrap();
    assert_eq!(senders, (0..120).map(|n| (TxHash::parse(&hash(n)).unwrap(), sender(n))).collect::<BTreeMap<_, _>>());
    let logs = client.block_logs(17, &traffic()).await.unwrap().unwrap();
    assert_eq!(keys(&logs), [(17, A), (17, B), (17, OTHER)]);
}

#[tokio::test]
async fn a_node_without_block_receipts_is_asked_once() {
    let texts = messages().filter(|(meaning, _)| *meaning == Meaning::NoMethod).map(|(_, text)| text);
    for text in texts.chain(["unknown text"]) {
        let server = start(move |method, params| match method {
            "eth_getBlockReceipts" => refusal(-32601, text),
            _ => answer(method, params),
        })
        .await;
        let client = client(&server);
        assert_eq!(client.block_logs(17, &traffic()).await.unwrap(), None);
        assert_eq!(client.block_logs(18, &traffic()).await.unwrap(), None);
        assert_eq!(count(&server, "eth_getBlockReceipts"), 1, "{text}");
    }
}

fn calls(count: usize) -> Vec<Call> {
    (0..count).map(|n| Call { to: if n % 10 == 3 { OTHER } else { A }, data: n.to_be_bytes().to_vec() }).collect()
}

fn outcomes(calls: &[Call]) -> Vec<CallOutcome> {
    let outcome = |call: &Call| match call.to == OTHER {
        true => CallOutcome::Reverted,
        false => CallOutcome::Returned(call.data.clone()),
    };
    calls.iter().map(outcome).collect()
}

fn with_multicall(server: &TestServer) -> EthereumClient {
    EthereumClient::new(EthereumSettings { multicall: Some(MULTICALL), ..settings(&server.url) }).unwrap()
}

#[tokio::test]
async fn calls_use_multicall_where_it_has_code() {
    let (server, calls) = (node().await, calls(600));
    let client = with_multicall(&server);
    for block in [MULTICALL_BLOCK, MULTICALL_BLOCK + 5] {
        assert_eq!(client.call(&calls, block, &traffic()).await.unwrap(), outcomes(&calls));
    }
    // Twice three Multicalls, and 60 failed calls alone.
    assert_eq!((count(&server, "eth_call"), count(&server, "eth_getCode")), (2 * (3 + 60), 1));
    for block in [MULTICALL_BLOCK - 1, 5] {
        assert_eq!(client.call(&calls, block, &traffic()).await.unwrap(), outcomes(&calls));
    }
    assert_eq!((count(&server, "eth_call"), count(&server, "eth_getCode")), (126 + 1200, 2));
    assert_eq!(client.call(&[], MULTICALL_BLOCK, &traffic()).await.unwrap(), []);
}

#[tokio::test]
async fn calls_without_multicall_are_batched() {
    let (server, calls) = (node().await, calls(250));
    assert_eq!(client(&server).call(&calls, 1, &traffic()).await.unwrap(), outcomes(&calls));
    assert_eq!(server.count(), 1 + 3);
    let client = with_multicall(&server);
    assert_eq!(client.call_alone(&calls, MULTICALL_BLOCK, &traffic()).await.unwrap(), outcomes(&calls));
    assert_eq!(server.count(), 4 + 4);
}

#[tokio::test]
async fn an_empty_answer_is_returned_and_code_is_asked_for() {
    let server = node().await;
    let client = with_multicall(&server);
    let call = Call { to: B, data: Vec::new() };
    for block in [1, MULTICALL_BLOCK] {
        let outcome = client.call(std::slice::from_ref(&call), block, &traffic()).await.unwrap();
        assert_eq!(outcome, [CallOutcome::Returned(Vec::new())]);
    }
    assert_eq!(client.has_code(&[A, B, MULTICALL], 5, &traffic()).await.unwrap(), [true, false, false]);
}

#[tokio::test]
async fn a_multicall_that_runs_out_of_gas_is_halved() {
    let texts = messages().filter(|(meaning, _)| *meaning == Meaning::OutOfGas).map(|(_, text)| text);
    for text in texts {
        let server = start(move |method, params| {
            let length = params[0]["data"].as_str().map_or(0, str::len);
            if method == "eth_call" && length > 20_000 { refusal(-32000, text) } else { answer(method, params) }
        })
        .await;
        let (client, calls) = (with_multicall(&server), calls(600));
        assert_eq!(client.call(&calls, MULTICALL_BLOCK, &traffic()).await.unwrap(), outcomes(&calls), "{text}");
        let before = count(&server, "eth_call");
        client.call(&calls[4..13], MULTICALL_BLOCK, &traffic()).await.unwrap();
        assert_eq!(count(&server, "eth_call"), before + 1);
    }
}

#[tokio::test]
async fn a_reverted_call_has_many_forms() {
    let forms = messages().filter(|(meaning, _)| matches!(meaning, Meaning::Reverted | Meaning::OutOfGas));
    let forms = forms.map(|(_, text)| json!({ "code": -32000, "message": text }));
    let other = [
        json!({ "code": 3, "message": "boom", "data": "0x08c379a0" }),
        json!({ "code": -32015, "message": "VM execution error.", "data": "Reverted 0x" }),
    ];
    for form in forms.chain(other) {
        let server = start({
            let form = form.clone();
            move |method, params| if method == "eth_call" { Err(form.clone()) } else { answer(method, params) }
        })
        .await;
        let outcome = client(&server).call(&calls(2), 1, &traffic()).await.unwrap();
        assert_eq!(outcome, [CallOutcome::Reverted, CallOutcome::Reverted], "{form}");
    }
}

#[tokio::test]
async fn refused_batches_are_halved_down_to_single_requests() {
    let refusals: [(u16, &str); 6] = [
        (200, r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "batch too large"}}"#),
        (200, r#"{"error": {"code": -32005, "message": "batch limit exceeded"}}"#),
        (200, r#"[{"id": null, "error": {"code": -32000, "message": "batch item count exceeded"}}]"#),
        (413, "Request Entity Too Large"),
        (400, r#"{"error": "batch requests are not supported"}"#),
        (403, r#"{"error": {"code": -32600, "message": "Batch size too large"}}"#),
    ];
    for (status, refusal) in refusals {
        for max in [30, 1] {
            let server = TestServer::start(move |request| match members(request).len() > max {
                true => TestResponse::new(status, refusal),
                false => TestResponse::json(&respond(&request.body, answer)),
            })
            .await;
            let client = client(&server);
            let numbers: Vec<u64> = (0..100).collect();
            let headers = client.headers(&numbers, &traffic()).await.unwrap();
            assert_eq!(headers.iter().map(|header| header.number).collect::<Vec<_>>(), numbers, "{refusal}");
            // The client keeps to the size.
            let before = server.count();
            client.headers(&numbers, &traffic()).await.unwrap();
            assert_eq!(server.count() - before, if max == 1 { 100 } else { 4 }, "{refusal}");
        }
    }
}

#[tokio::test]
async fn only_failed_members_of_a_batch_are_asked_again() {
    let server = TestServer::start(|request| {
        let is_first = request.number == 1;
        let mut body = respond(&request.body, |method, params| match params[0].as_str() {
            Some("0x3" | "0x8") if is_first => refusal(-32005, "limit exceeded"),
            _ => answer(method, params),
        });
        if let Some(list) = body.as_array_mut() {
            list.reverse();
        }
        TestResponse::json(&body)
    })
    .await;
    let traffic = traffic();
    let numbers: Vec<u64> = (0..10).collect();
    let headers = client(&server).headers(&numbers, &traffic).await.unwrap();
    assert_eq!(headers.iter().map(|header| header.number).collect::<Vec<_>>(), numbers);
    let again: Vec<Value> = members(&server.requests()[2]).iter().map(|member| member["params"][0].clone()).collect();
    assert_eq!((again, server.count()), (vec![json!("0x3"), json!("0x8")], 3));
    assert_eq!(traffic.report().retries["Throttled"], 1);
}

#[tokio::test]
async fn futures_of_the_client_can_be_spawned() {
    fn spawnable<T: Send>(future: T) -> T {
        future
    }
    let server = node().await;
    let (client, traffic) = (client(&server), traffic());
    spawnable(client.logs(&[A], 1, 2, &traffic)).await.unwrap();
    spawnable(client.first_block(START, &traffic)).await.unwrap();
    spawnable(client.call(&calls(1), 1, &traffic)).await.unwrap();
    spawnable(client.senders(&[], &traffic)).await.unwrap();
    spawnable(client.finalized(&traffic)).await.unwrap();
}
