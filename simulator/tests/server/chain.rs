//! A canned Ethereum node behind the server with faults: blocks with up to three logs each.

use axum::Router;
use axum::routing::post;
use defi_shared::contracts::multicall::{CallResult, aggregate3Call};
use defi_shared::domain::{Address, HexBytes};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use alloy_sol_types::SolCall;

pub const HEAD: u64 = 1200;
pub const START: i64 = 1_600_000_000;
pub const A: Address = HexBytes([0xaa; 20]);
pub const B: Address = HexBytes([0xbb; 20]);
pub const MULTICALL: Address = HexBytes([0x11; 20]);

pub fn hash(number: u64) -> String {
    format!("0x{number:064x}")
}

fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

fn block(number: u64) -> Value {
    json!({
        "number": format!("{number:#x}"), "hash": hash(number + 1), "parentHash": hash(number),
        "timestamp": format!("{:#x}", START + 12 * number as i64), "logsBloom": format!("0x{}", "00".repeat(256)),
    })
}

fn logs(number: u64) -> Vec<Value> {
    let log = |index: u64| {
        let address = if index.is_multiple_of(2) { A } else { B };
        json!({
            "address": address.to_string(), "blockHash": hash(number + 1),
            "blockNumber": format!("{number:#x}"), "data": format!("0x{:064x}", number * 10 + index),
            "logIndex": format!("{index:#x}"), "removed": false, "topics": [hash(99), hash(98)],
            "transactionHash": hash(10_000 + number), "transactionIndex": "0x0",
        })
    };
    (0..number % 4).map(log).collect()
}

fn answer(method: &str, params: &Value) -> Value {
    match method {
        "eth_chainId" => json!("0x7"),
        "eth_blockNumber" => json!(format!("{HEAD:#x}")),
        "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
            "latest" => block(HEAD),
            "finalized" => block(HEAD - 64),
            _ => block(quantity(&params[0])),
        },
        "eth_getLogs" => {
            let addresses = params[0]["address"].as_array().unwrap();
            let blocks = quantity(&params[0]["fromBlock"])..=quantity(&params[0]["toBlock"]);
            blocks.flat_map(logs).filter(|log| addresses.contains(&log["address"])).collect()
        }
        "eth_getBlockReceipts" => json!([{ "blockNumber": params[0], "logs": logs(quantity(&params[0])) }]),
        "eth_getTransactionReceipt" => json!({ "transactionHash": params[0], "from": A.to_string() }),
        "eth_getCode" => json!(if params[0] == MULTICALL.to_string() { "0x60" } else { "0x" }),
        "eth_call" if params[0]["to"] == MULTICALL.to_string() => {
            let data = const_hex::decode(params[0]["data"].as_str().unwrap()).unwrap();
            let calls = aggregate3Call::abi_decode(&data).unwrap().calls;
            let result = |data| CallResult { success: true, returnData: data };
            let results: Vec<_> = calls.into_iter().map(|call| result(call.callData)).collect();
            json!(const_hex::encode_prefixed(aggregate3Call::abi_encode_returns(&results)))
        }
        "eth_call" => params[0]["data"].clone(),
        _ => panic!("{method}"),
    }
}

/// Starts the node and returns its URL.
pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let one = |request: &Value| {
        let result = answer(request["method"].as_str().unwrap(), &request["params"]);
        json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
    };
    let handle = move |body: String| async move {
        let body: Value = serde_json::from_str(&body).unwrap();
        axum::Json(body.as_array().map_or_else(|| one(&body), |list| list.iter().map(one).collect()))
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(post(handle))).await.unwrap() });
    url
}
