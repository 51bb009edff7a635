//! A canned Ethereum node: a chain of 20,000 blocks, each with a log of two contracts and of another one.

use alloy_primitives::Bytes;
use alloy_sol_types::SolCall;
use defi_shared::contracts::multicall::{CallResult, aggregate3Call};
use defi_shared::domain::{Address, HexBytes};
use defi_shared::sources::ethereum::{EthereumClient, EthereumSettings};
use defi_shared::sources::{RateLimit, RetryPolicy, Secret};
use serde_json::{Value, json};

use super::loopback::{TestRequest, TestResponse, TestServer};

pub const CHAIN_ID: u64 = 7;
pub const HEAD: u64 = 20_000;
pub const START: i64 = 1_600_000_000;
pub const A: Address = HexBytes([0xaa; 20]);
pub const B: Address = HexBytes([0xbb; 20]);
pub const OTHER: Address = HexBytes([0xcc; 20]);
pub const MULTICALL: Address = HexBytes([0x11; 20]);
/// The first block in which Multicall3 has code.
pub const MULTICALL_BLOCK: u64 = 1_000;

pub fn settings(url: &str) -> EthereumSettings {
    EthereumSettings {
        rate: RateLimit::per_second(100_000),
        retry: RetryPolicy::LOOPBACK,
        ..EthereumSettings::new(Secret::new(url), CHAIN_ID)
    }
}

pub fn client(server: &TestServer) -> EthereumClient {
    EthereumClient::new(settings(&server.url)).unwrap()
}

/// A hash that depends on a number.
pub fn hash(number: u64) -> String {
    format!("0x{number:064x}")
}

pub fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

pub fn block(number: u64) -> Value {
    json!({
        "number": format!("{number:#x}"), "hash": hash(number + 1), "parentHash": hash(number),
        "timestamp": format!("{:#x}", START + 12 * number as i64), "logsBloom": format!("0x{}", "00".repeat(256)),
        "transactions": [],
    })
}

/// The log of a contract in a block. Each block has three: of `A`, `B` and `OTHER`.
pub fn log(number: u64, address: Address) -> Value {
    let index = [A, B, OTHER].iter().position(|other| *other == address).unwrap();
    json!({
        "address": address.to_string(), "blockHash": hash(number + 1), "blockNumber": format!("{number:#x}"),
        "data": format!("0x{:064x}", number), "logIndex": format!("{index:#x}"), "removed": false,
        "topics": [hash(99)], "transactionHash": hash(1_000_000 + number), "transactionIndex": "0x0",
    })
}

pub fn logs(params: &Value) -> Vec<Value> {
    let filter = &params[0];
    let (from, to) = (quantity(&filter["fromBlock"]), quantity(&filter["toBlock"]));
    let addresses = filter["address"].as_array().unwrap();
    let is_wanted = |address: &Address| addresses.contains(&json!(address.to_string()));
    let wanted: Vec<Address> = [A, B].into_iter().filter(is_wanted).collect();
    (from..=to.min(HEAD)).flat_map(|number| wanted.iter().map(move |address| log(number, *address))).collect()
}

/// The result of a request, or an error.
pub type Outcome = Result<Value, Value>;

pub fn refusal(code: i64, message: &str) -> Outcome {
    Err(json!({ "code": code, "message": message }))
}

/// Answers a request as the node does.
pub fn answer(method: &str, params: &Value) -> Outcome {
    Ok(match method {
        "eth_chainId" => json!(format!("{CHAIN_ID:#x}")),
        "eth_blockNumber" => json!(format!("{HEAD:#x}")),
        "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
            "latest" => block(HEAD),
            "finalized" => block(HEAD - 70),
            _ => Some(quantity(&params[0])).filter(|number| *number <= HEAD).map_or(Value::Null, block),
        },
        "eth_getLogs" => json!(logs(params)),
        "eth_getBlockReceipts" => {
            let number = quantity(&params[0]);
            let logs: Vec<_> = [A, B, OTHER].map(|address| log(number, address)).into();
            json!([{ "blockNumber": format!("{number:#x}"), "transactionHash": hash(1), "logs": logs }])
        }
        "eth_getTransactionReceipt" => {
            let sender = &params[0].as_str().unwrap()[26..];
            json!({ "transactionHash": params[0], "from": format!("0x{sender}") })
        }
        "eth_getCode" => {
            let exists = params[0] == MULTICALL.to_string() && quantity(&params[1]) >= MULTICALL_BLOCK;
            json!(if exists || params[0] == A.to_string() { "0x60" } else { "0x" })
        }
        "eth_call" => return call(params[0]["to"].as_str().unwrap(), params[0]["data"].as_str().unwrap()),
        _ => return refusal(-32601, "method not found"),
    })
}

/// Contracts return what they are called with, `OTHER` rejects all calls, and Multicall3 is what it is.
fn call(to: &str, data: &str) -> Outcome {
    if to == OTHER.to_string() {
        return refusal(3, "execution reverted");
    }
    if to != MULTICALL.to_string() {
        return Ok(json!(data));
    }
    let call = aggregate3Call::abi_decode(&const_hex::decode(data).unwrap()).unwrap();
    let results: Vec<CallResult> = call
        .calls
        .iter()
        .map(|call| match call.target.0.0 == OTHER.0 {
            true => CallResult { success: false, returnData: Bytes::new() },
            false => CallResult { success: true, returnData: call.callData.clone() },
        })
        .collect();
    Ok(json!(const_hex::encode_prefixed(aggregate3Call::abi_encode_returns(&results))))
}

/// Answers an HTTP request, with an outcome for each request in it.
pub fn respond(body: &Value, answer: impl Fn(&str, &Value) -> Outcome) -> Value {
    let one = |request: &Value| {
        let mut reply = json!({ "jsonrpc": "2.0", "id": request["id"] });
        match answer(request["method"].as_str().unwrap(), &request["params"]) {
            Ok(result) => reply["result"] = result,
            Err(error) => reply["error"] = error,
        }
        reply
    };
    match body.as_array() {
        Some(list) => list.iter().map(one).collect(),
        None => one(body),
    }
}

/// The requests in an HTTP request.
pub fn members(request: &TestRequest) -> Vec<Value> {
    request.body.as_array().cloned().unwrap_or_else(|| vec![request.body.clone()])
}

/// Starts a node that answers each request by a function.
pub async fn start(answer: impl Fn(&str, &Value) -> Outcome + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |request| TestResponse::json(&respond(&request.body, &answer))).await
}

/// Starts a node without faults.
pub async fn node() -> TestServer {
    start(answer).await
}

/// Returns how many requests of a method a node got, in batches or alone.
pub fn count(server: &TestServer, method: &str) -> usize {
    server.requests().iter().flat_map(members).filter(|member| member["method"] == method).count()
}
