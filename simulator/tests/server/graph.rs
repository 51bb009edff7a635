//! Tests of The Graph's API.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::{AAVE, COMPOUND, deployments, sample, start, tiny};
use defi_shared::config::Schema;
use defi_shared::error::Kind;
use defi_simulator::recording::Recording;
use defi_simulator::sample::{SampleOptions, chain};
use defi_simulator::server::{Deployment, SchemaVersion, Server, ServerOptions};
use serde_json::{Value, json};

async fn post(server: &Server, subgraph: &str, query: &str, variables: Value) -> Value {
    let url = format!("{}/subgraphs/id/{subgraph}", server.graph_url());
    let body = json!({"query": query, "variables": variables});
    let response = crate::support::client().post(url).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn data(server: &Server, subgraph: &str, query: &str, variables: Value) -> Value {
    let mut body = post(server, subgraph, query, variables).await;
    assert!(body.get("errors").is_none(), "{query}: {body}");
    body["data"].take()
}

async fn error_message(server: &Server, subgraph: &str, query: &str) -> String {
    let body = post(server, subgraph, query, json!({})).await;
    assert!(body.get("data").is_none(), "{query}: {body}");
    body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{query}: {body}")).to_owned()
}

async fn ids(server: &Server, subgraph: &str, arguments: &str) -> Vec<String> {
    let found = data(server, subgraph, &format!("{{ positions({arguments}) {{ id }} }}"), json!({})).await;
    let rows = found["positions"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().map_or_else(|| row["id"].to_string(), str::to_owned)).collect()
}

const PAGE: &str = "query Page($block: Int!, $first: Int!) {
    _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors }
    positions(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: {id_gt: \"LAST\"}) {
        id balance side isCollateral market { id name } account { id }
    }
}";

#[tokio::test]
async fn paging_by_id_returns_all_positions() {
    let recording = sample();
    let server = start(&recording).await;
    let block = recording.blocks[7];
    for (protocol, subgraph) in [("aave-v2-eth", AAVE), ("compound-v2-eth", COMPOUND)] {
        let mut rows = Vec::new();
        loop {
            let last = rows.last().map_or("", |row: &Value| row["id"].as_str().unwrap()).to_owned();
            let query = PAGE.replace("LAST", &last);
            let page = data(&server, subgraph, &query, json!({"block": block.number, "first": 7})).await;
            assert_eq!(page["_meta"]["block"]["number"], block.number);
            assert_eq!(page["_meta"]["block"]["timestamp"], block.timestamp);
            assert_eq!(page["_meta"]["block"]["hash"].as_str().unwrap().len(), 66);
            assert_eq!(page["_meta"]["hasIndexingErrors"], false);
            let page = page["positions"].as_array().unwrap().clone();
            let is_full = page.len() == 7;
            rows.extend(page);
            if !is_full {
                break;
            }
        }
        // The list of collaterals is not asked for.
        let asked = |row: &Arc<Value>| {
            let mut row = Value::clone(row);
            row["account"].as_object_mut().unwrap().remove("_enabledCollaterals");
            row
        };
        let recorded: Vec<Value> = recording.positions[protocol][&block.number].iter().map(asked).collect();
        assert!(recorded.len() > 40, "{}", recorded.len());
        assert_eq!(rows, recorded);
    }
    assert!(server.request_count() > 10);
}

#[tokio::test]
async fn markets_are_returned_as_recorded() {
    let recording = sample();
    let server = start(&recording).await;
    let fields = "id name maximumLTV liquidationThreshold inputTokenPriceUSD totalDepositBalanceUSD \
                  totalBorrowBalanceUSD inputToken { id symbol decimals }";
    for (protocol, subgraph) in [("aave-v2-eth", AAVE), ("compound-v2-eth", COMPOUND)] {
        let block = recording.blocks[4].number;
        let query = format!("{{ markets(first: 1000, block: {{number: {block}}}) {{ {fields} }} }}");
        let found = data(&server, subgraph, &query, json!({})).await;
        let recorded: Vec<Value> = recording.markets[protocol][&block].iter().map(|row| Value::clone(row)).collect();
        assert_eq!(found["markets"], Value::from(recorded));
    }
}

#[tokio::test]
async fn totals_of_markets_are_null_unless_recorded() {
    let recording = sample();
    let block = recording.blocks[4].number;
    let query = "{ markets(first: 1, block: {number: BLOCK}) { totalDepositBalanceUSD totalBorrowBalanceUSD } }";
    let query = query.replace("BLOCK", &block.to_string());
    let mut recording = Recording::clone(&recording);
    let rows = recording.markets.get_mut("aave-v2-eth").unwrap().get_mut(&block).unwrap();
    Arc::make_mut(&mut rows[0]).as_object_mut().unwrap().retain(|field, _| !field.starts_with("total"));
    let server = start(&Arc::new(recording)).await;
    let found = data(&server, AAVE, &query, json!({})).await;
    assert_eq!(found["markets"][0], json!({"totalDepositBalanceUSD": null, "totalBorrowBalanceUSD": null}));
}

#[tokio::test]
async fn block_between_snapshots_has_the_earlier_one() {
    let recording = sample();
    let server = start(&recording).await;
    let (block, next) = (recording.blocks[5].number, recording.blocks[6].number);
    let at = |block: u64| ids_at(&server, block);
    assert_eq!(at(block).await, at(next - 1).await);
    assert_ne!(at(block).await, at(next).await);
    // The newest state also has the positions that were closed.
    assert_eq!(
        at(recording.blocks[10].number).await,
        ids(&server, AAVE, "first: 1000, where: {balance_not: \"0\"}").await
    );
}

async fn ids_at(server: &Server, block: u64) -> Vec<String> {
    ids(server, AAVE, &format!("first: 1000, block: {{number: {block}}}")).await
}

/// Returns a query of users with ids after `0x4` that meet a filter, too.
fn alternatives(filter: &str) -> String {
    format!(
        "{{ userReserves(first: 1000, where: {{and: [{{id_gt: \"0x4\"}}, {filter}]}}) {{ id scaledATokenBalance scaledVariableDebt }} }}"
    )
}

#[tokio::test]
async fn aaves_own_subgraph_has_reserves_and_balances_of_users() {
    let deployments = vec![Deployment {
        protocol: "aave-v2-eth".to_owned(),
        subgraph_id: AAVE.to_owned(),
        schema: SchemaVersion::Aave,
        history: None,
    }];
    let recording =
        chain(&SampleOptions { wallets: 150, days: 10, seed: 3, ..SampleOptions::default() }, Schema::Aave).unwrap();
    let options = ServerOptions { deployments, ..ServerOptions::default() };
    let server = Server::start(Arc::new(recording), options).await.unwrap();
    let pool = "0xb53c1a33016b2dc2ff3653530bff1848a515c8c5";
    let query = format!(
        "query Q($last: ID!) {{ reserves(where: {{pool: \"{pool}\"}}) {{ id underlyingAsset liquidityIndex aToken {{ id }} price {{ priceInEth }} }}
           userReserves(first: 5, where: {{id_gt: $last, pool: \"{pool}\", scaledATokenBalance: \"0\", scaledVariableDebt_not: \"0\"}}) {{
             id user {{ id }} scaledATokenBalance scaledVariableDebt reserve {{ name aToken {{ id }} }} }} }}"
    );
    let found = data(&server, AAVE, &query, json!({"last": "0x4"})).await;
    let reserves = found["reserves"].as_array().unwrap();
    assert_eq!(reserves.len(), 9);
    let is_valid = |row: &Value| row["aToken"]["id"].is_string() && row["price"]["priceInEth"].is_string();
    assert!(reserves.iter().all(is_valid), "{reserves:?}");
    let rows = found["userReserves"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert!(row["id"].as_str().unwrap().starts_with(row["user"]["id"].as_str().unwrap()));
        assert!(row["scaledATokenBalance"] == "0" && row["scaledVariableDebt"] != "0", "{row}");
        assert!(row["reserve"]["aToken"]["id"].is_string() && row["reserve"]["name"].is_string(), "{row}");
    }
    let query = alternatives("{or: [{scaledATokenBalance_not: \"0\"}, {scaledVariableDebt_not: \"0\"}]}");
    let found = data(&server, AAVE, &query, json!({})).await;
    let rows = found["userReserves"].as_array().unwrap();
    let has_both = |row: &&Value| row["scaledATokenBalance"] != "0" && row["scaledVariableDebt"] != "0";
    assert!(rows.iter().all(|row| row["scaledATokenBalance"] != "0" || row["scaledVariableDebt"] != "0"), "{rows:?}");
    assert!(rows.iter().any(|row| row["scaledATokenBalance"] == "0") && rows.iter().any(|row| !has_both(&row)));
    assert!(rows.iter().all(|row| row["id"].as_str().unwrap() > "0x4"), "the condition beside the alternatives holds");
    for (filter, message) in [
        ("{or: [{scaledATokenBalance_not: \"0\"}], id_gt: \"0x4\"}", "Cannot mix column filters with 'or' operator"),
        ("{and: [{scaledATokenBalance_not: \"0\"}], id_gt: \"0x4\"}", "Filter must by an object"),
    ] {
        let error = error_message(&server, AAVE, &alternatives(filter)).await;
        assert!(error.contains(message), "{error}");
    }
    let other = "{ userReserves(where: {pool: \"0x00\"}) { id } markets { id } }";
    assert!(error_message(&server, AAVE, other).await.contains("markets"));
}

#[tokio::test]
async fn meta_has_neither_hash_nor_time_unless_set() {
    let options = ServerOptions { deployments: deployments(), ..ServerOptions::default() };
    let recording = sample();
    let server = Server::start(Arc::clone(&recording), options).await.unwrap();
    let number = recording.blocks[3].number;
    for block in [String::new(), format!("(block: {{number: {number}}})")] {
        let query = format!("{{ _meta{block} {{ block {{ number timestamp hash }} }} }}");
        let found = data(&server, COMPOUND, &query, json!({})).await;
        let block = &found["_meta"]["block"];
        assert!(block["number"].is_u64() && block["timestamp"].is_null() && block["hash"].is_null(), "{block}");
    }
}

#[tokio::test]
async fn head_is_one_hour_after_the_last_first_block() {
    let recording = sample();
    let server = start(&recording).await;
    let last = recording.blocks[10];
    let found = data(&server, AAVE, "{ _meta { block { number timestamp hash } deployment } }", json!({})).await;
    assert_eq!(found["_meta"]["block"]["number"], last.number + 300);
    assert_eq!(found["_meta"]["block"]["timestamp"], last.timestamp + 3600);
    let deployment = found["_meta"]["deployment"].as_str().unwrap();
    let (head, beyond) = (last.number + 300, last.number + 301);
    for selector in ["number", "number_gte"] {
        let query = format!("{{ positions(block: {{{selector}: {beyond}}}) {{ id }} }}");
        let expected = format!(
            "Failed to decode `block.number` value: `subgraph {deployment} has only indexed up to block number {head} \
             and data for block number {beyond} is therefore not yet available`"
        );
        assert_eq!(error_message(&server, AAVE, &query).await, expected);
    }
    let early = recording.blocks[0].number - 1;
    let message =
        error_message(&server, AAVE, &format!("{{ _meta(block: {{number: {early}}}) {{ deployment }} }}")).await;
    let starts = format!("only has data starting at block number {}", early + 1);
    assert!(message.contains(&starts) && message.contains(&format!("block number {early} is")), "{message}");
    let hash = found["_meta"]["block"]["hash"].as_str().unwrap();
    let by_hash = format!("{{ _meta(block: {{hash: \"{hash}\"}}) {{ block {{ number }} }} }}");
    assert_eq!(data(&server, AAVE, &by_hash, json!({})).await["_meta"]["block"]["number"], head);
    let unknown = error_message(&server, AAVE, "{ _meta(block: {hash: \"0x00\"}) { deployment } }").await;
    assert_eq!(unknown, "Failed to decode `block.hash` value: `no block with that hash found`");
}

#[tokio::test]
async fn page_arguments_are_limited() {
    let server = start(&sample()).await;
    for (arguments, message) in [
        ("first: 1001", "The `first` argument must be between 0 and 1000, but is 1001"),
        ("first: -1", "The `first` argument must be between 0 and 1000, but is -1"),
        ("skip: 5001", "The `skip` argument must be between 0 and 5000, but is 5001"),
    ] {
        assert_eq!(error_message(&server, AAVE, &format!("{{ positions({arguments}) {{ id }} }}")).await, message);
    }
    assert_eq!(ids(&server, AAVE, "skip: 0").await.len(), 100);
    assert_eq!(ids(&server, AAVE, "first: 0").await.len(), 0);
    let all = ids(&server, AAVE, "first: 1000, skip: 0").await;
    assert_eq!(ids(&server, AAVE, "first: 3, skip: 5").await, all[5..8]);
}

#[tokio::test]
async fn rejects_queries_that_the_schema_does_not_allow() {
    let server = start(&sample()).await;
    for query in [
        "{ positions { id balanceUSD } }",
        "{ positions(limit: 3) { id } }",
        "{ positions(where: {owner: \"0xaa\"}) { id } }",
        "{ positions(where: {side_gt: BORROWER}) { id } }",
        "{ positions(orderBy: owner) { id } }",
        "{ positions(first: \"3\") { id } }",
        "{ positions(block: {time: 3}) { id } }",
        "{ positions { market } }",
        "{ accounts { id } }",
        "{ positions { id }",
        "mutation { positions { id } }",
    ] {
        assert!(!error_message(&server, AAVE, query).await.is_empty());
    }
}

#[tokio::test]
async fn schemas_differ_in_id_type_and_sides() {
    let server = start(&sample()).await;
    let query = |id_type: &str| format!("query Q($last: {id_type}) {{ markets(where: {{id_gt: $last}}) {{ id }} }}");
    assert!(error_message(&server, AAVE, &query("ID")).await.contains("Bytes"));
    assert!(error_message(&server, COMPOUND, &query("Bytes")).await.contains("ID"));
    for (subgraph, id_type) in [(AAVE, "Bytes"), (COMPOUND, "ID")] {
        let found = data(&server, subgraph, &query(id_type), json!({"last": ""})).await;
        assert_eq!(found["markets"].as_array().unwrap().len(), 8);
    }
    let odd_length = "{ markets(where: {id_gt: \"0xabc\"}) { id } }";
    assert_eq!(
        error_message(&server, AAVE, odd_length).await,
        "Failed to decode `Bytes` value: `Odd number of digits`"
    );
    assert!(data(&server, COMPOUND, odd_length, json!({})).await["markets"].is_array());
    // The id of a position is `ID` in both, and starts with any digits of an account.
    for subgraph in [AAVE, COMPOUND] {
        let query = "query Q($last: ID) { positions(where: {id_gt: $last}) { id } }";
        let found = data(&server, subgraph, query, json!({"last": "0x8"})).await;
        let rows = found["positions"].as_array().unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row["id"].as_str().unwrap() > "0x8"));
    }
    let lenders = "{ positions(where: {side: LENDER}) { side } }";
    assert!(error_message(&server, AAVE, lenders).await.contains("COLLATERAL, BORROWER"));
    let found = data(&server, COMPOUND, lenders, json!({})).await;
    assert!(found["positions"].as_array().unwrap().iter().all(|row| row["side"] == "LENDER"));
}

fn position(id: &str, balance: &str, account: &str, flag: Value) -> Value {
    let market = json!({"id": "0xaa", "name": "A"});
    json!({"id": id, "balance": balance, "side": "BORROWER", "isCollateral": flag, "market": market,
           "account": {"id": account}})
}

#[tokio::test]
async fn filters_orders_and_limits_are_applied() {
    let rows = vec![
        position("0x03", "0", "0xc3", json!(true)),
        position("0x01", "-5", "0xc1", Value::Null),
        position("0x04", "9", "0xc1", json!(false)),
        position("0x02", "10", "0xc2", json!(true)),
    ];
    let server = start(&tiny("aave-v2-eth", rows)).await;
    for (arguments, expected) in [
        ("first: 9", vec!["0x01", "0x02", "0x03", "0x04"]),
        ("orderDirection: desc", vec!["0x04", "0x03", "0x02", "0x01"]),
        ("orderBy: balance", vec!["0x01", "0x03", "0x04", "0x02"]),
        ("orderBy: balance, orderDirection: desc, first: 2", vec!["0x02", "0x04"]),
        ("where: {id: \"0x02\"}", vec!["0x02"]),
        ("where: {id_gt: \"0x02\"}", vec!["0x03", "0x04"]),
        ("where: {id_gte: \"0x02\", id_lt: \"0x04\"}", vec!["0x02", "0x03"]),
        ("where: {id_gt: \"0x01\", id_gte: \"0x01\", id_lte: \"0x02\"}", vec!["0x02"]),
        ("where: {id_gt: \"0x04\", id_lt: \"0x01\"}", vec![]),
        ("where: {id_in: [\"0x04\", \"0x01\"]}", vec!["0x01", "0x04"]),
        ("where: {balance_not: \"0\"}", vec!["0x01", "0x02", "0x04"]),
        ("where: {balance_gt: \"0\"}", vec!["0x02", "0x04"]),
        ("where: {balance_lte: 9}", vec!["0x01", "0x03", "0x04"]),
        ("where: {account: \"0xC1\"}", vec!["0x01", "0x04"]),
        ("where: {account_in: [\"0xc3\", \"0xc2\"], id_gt: \"0x02\"}", vec!["0x03"]),
        ("where: {market: \"0xab\"}", vec![]),
        ("where: {isCollateral: true}", vec!["0x02", "0x03"]),
        ("where: {isCollateral: null}", vec!["0x01"]),
        ("where: {isCollateral_not: true}", vec!["0x04"]),
        ("block: {number: 1099}", vec![]),
    ] {
        assert_eq!(ids(&server, AAVE, arguments).await, expected, "{arguments}");
    }
}

#[tokio::test]
async fn invalid_rows_are_returned_unchanged() {
    let mut invalid = position("0x02", "1e400", "0xc1", json!("perhaps"));
    invalid["side"] = json!("SOMETHING");
    invalid["market"] = Value::Null;
    let duplicate = position("0x02", "7", "0xc9", json!(true));
    let without_id = json!({"id": null, "balance": 12.5, "account": {"id": 4}});
    let server = start(&tiny("aave-v2-eth", vec![without_id, invalid, duplicate])).await;
    let query = "{ positions { id balance side isCollateral market { id } account { id } } }";
    let found = data(&server, AAVE, query, json!({})).await;
    let rows = found["positions"].as_array().unwrap();
    assert_eq!(rows[0]["balance"], "1e400");
    assert_eq!(rows[0]["side"], "SOMETHING");
    assert_eq!(rows[0]["isCollateral"], "perhaps");
    assert_eq!(rows[0]["market"]["id"], Value::Null);
    assert_eq!(rows[1]["balance"], "7");
    assert_eq!(
        (&rows[2]["id"], &rows[2]["balance"], &rows[2]["account"]["id"]),
        (&Value::Null, &json!(12.5), &json!(4))
    );
}

#[tokio::test]
async fn gateway_errors_have_status_200() {
    let options =
        ServerOptions { api_key: Some("right".to_owned()), deployments: deployments(), ..ServerOptions::default() };
    let server = Server::start(tiny("aave-v2-eth", vec![]), options).await.unwrap();
    let request = async |subgraph: &str, key: Option<&str>, body: &str| {
        let url = format!("{}/subgraphs/id/{subgraph}", server.graph_url());
        let mut builder = crate::support::client().post(url).header("content-type", "application/json");
        builder = builder.body(body.to_owned());
        if let Some(key) = key {
            builder = builder.bearer_auth(key);
        }
        let response = builder.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.unwrap()
    };
    let message = |body: Value| body["errors"][0]["message"].as_str().map(str::to_owned);
    let query = r#"{"query": "{ positions { id } }"}"#;
    assert_eq!(request(AAVE, Some("right"), query).await, json!({"data": {"positions": []}}));
    assert_eq!(message(request(AAVE, Some("wrong"), query).await).unwrap(), "auth error: API key not found");
    assert_eq!(message(request(AAVE, None, query).await).unwrap(), "auth error: missing authorization header");
    assert_eq!(message(request("Nowhere", Some("right"), query).await).unwrap(), "subgraph not found: Nowhere");
    // Configured, but not in the recording.
    assert_eq!(
        message(request(COMPOUND, Some("right"), query).await).unwrap(),
        format!("subgraph not found: {COMPOUND}")
    );
    assert!(message(request(AAVE, Some("right"), "{").await).unwrap().starts_with("bad query: "));
    assert_eq!(server.request_count(), 6);
}

#[tokio::test]
async fn port_is_in_use_until_the_server_stops() {
    let recording = tiny("aave-v2-eth", vec![]);
    let first = start(&recording).await;
    let port: u16 = first.graph_url().rsplit(':').next().unwrap().parse().unwrap();
    let options = ServerOptions { port, ..ServerOptions::default() };
    let error = Server::start(Arc::clone(&recording), options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert!(error.to_string().contains(&format!("port {port} is in use")), "{error}");
    first.stop().await;
    let second = Server::start(recording, options).await.unwrap();
    let url = second.graph_url();
    drop(second);
    let mut outcomes = BTreeSet::new();
    for _ in 0..50 {
        outcomes.insert(crate::support::client().get(&url).send().await.is_ok());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if outcomes.contains(&false) {
            return;
        }
    }
    panic!("a dropped server still responds");
}

/// Starts a server whose subgraph of Compound keeps the states of 500 blocks.
async fn start_pruned(recording: &Arc<Recording>) -> Server {
    let mut deployments = deployments();
    deployments.iter_mut().for_each(|deployment| deployment.history = Some(500));
    let options = ServerOptions { deployments, ..ServerOptions::default() };
    Server::start(Arc::clone(recording), options).await.unwrap()
}

#[tokio::test]
async fn past_states_are_pruned_and_snapshots_are_not() {
    let recording = sample();
    let server = start_pruned(&recording).await;
    let [past, last] = [&recording.blocks[3], recording.blocks.last().unwrap()];
    let pinned = |block: u64| format!("{{ positions(first: 1, block: {{number: {block}}}) {{ id }} }}");
    let message = error_message(&server, COMPOUND, &pinned(past.number)).await;
    assert!(message.contains("only has data starting at block number"), "{message}");
    data(&server, COMPOUND, &pinned(last.number), json!({})).await;

    let query = "query Q($upTo: PositionSnapshot_filter!, $opened: BigInt!) {
        positions(first: 1000, where: {blockNumberOpened_lte: $opened}) {
            id balance blockNumberOpened
            snapshots(where: $upTo, orderBy: blockNumber, orderDirection: desc) { blockNumber logIndex balance }
        } }";
    let block = past.number.to_string();
    let variables = json!({"upTo": {"blockNumber_lte": block}, "opened": block});
    let found = data(&server, COMPOUND, query, variables).await;
    let (mut open, mut with_many) = (BTreeSet::new(), 0);
    let key = |snapshot: &Value| {
        (snapshot["blockNumber"].as_str().unwrap().parse::<u64>().unwrap(), snapshot["logIndex"].as_u64().unwrap())
    };
    for position in found["positions"].as_array().unwrap() {
        let snapshots = position["snapshots"].as_array().unwrap();
        assert!(snapshots.iter().all(|snapshot| key(snapshot).0 <= past.number), "{position}");
        assert!(snapshots.is_sorted_by(|one, other| key(one).0 >= key(other).0), "the newest block first: {position}");
        let newest = snapshots.iter().max_by_key(|snapshot| key(snapshot)).unwrap();
        with_many += usize::from(snapshots.iter().filter(|other| key(other).0 == key(newest).0).count() > 10);
        if newest["balance"] != "0" {
            let pair = [position["id"].as_str().unwrap(), newest["balance"].as_str().unwrap()].map(str::to_owned);
            open.insert(pair);
        }
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let recorded = &recording.positions["compound-v2-eth"][&past.number];
    let expected: BTreeSet<_> = recorded.iter().map(|row| [text(&row["id"]), text(&row["balance"])]).collect();
    assert_eq!(open, expected, "the positions that were open at the block");
    assert!(with_many > 0, "no position has more than ten events in its last block");
}

#[tokio::test]
async fn newest_state_has_closed_positions_and_hourly_prices_of_the_past() {
    let recording = sample();
    let server = start_pruned(&recording).await;
    let ids = |block: &defi_simulator::recording::Block| -> BTreeSet<String> {
        let rows = &recording.positions["compound-v2-eth"][&block.number];
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let last = ids(recording.blocks.last().unwrap());
    let closed: BTreeSet<String> = recording.blocks.iter().flat_map(ids).filter(|id| !last.contains(id)).collect();
    let found = data(&server, COMPOUND, "{ positions(first: 1000, where: {balance: \"0\"}) { id } }", json!({})).await;
    let found = found["positions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
    assert_eq!(found.collect::<BTreeSet<_>>(), closed);
    assert!(!closed.is_empty());

    let past = recording.blocks[3];
    let query = "query Q($upTo: MarketHourlySnapshot_filter!) { markets { id hourlySnapshots(first: 1, where: $upTo,
        orderBy: blockNumber, orderDirection: desc) { inputTokenPriceUSD totalDepositBalanceUSD } } }";
    let variables = json!({"upTo": {"blockNumber_lte": past.number.to_string()}});
    let markets = data(&server, COMPOUND, query, variables).await;
    let rows = &recording.markets["compound-v2-eth"][&past.number];
    assert!(!rows.is_empty());
    for row in rows {
        let market = markets["markets"].as_array().unwrap().iter().find(|market| market["id"] == row["id"]).unwrap();
        let [snapshot] = &market["hourlySnapshots"].as_array().unwrap()[..] else { panic!("{market}") };
        for field in ["inputTokenPriceUSD", "totalDepositBalanceUSD"] {
            assert_eq!(snapshot[field], row[field], "{market}");
        }
    }
}
