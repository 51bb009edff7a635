//! Runs the step against a test server that returns positions.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use defi_shared::lake::WorkUnit;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, RAW_POSITIONS, RawPosition};
use defi_shared::testing::{
    AAVE, Server, TestLake, address, daily_block, first_block, graph_error, january, kind, raw_position, snapshot, unit,
};
use defi_shared::{Kind, Result};
use extract_account_positions::handle;
use serde_json::{Value, json};

fn position(account: u8) -> Value {
    let [account, market] = [address(account), address(9)];
    json!({
        "id": format!("{account}-{market}-LENDER-0"), "balance": "17", "side": "LENDER", "isCollateral": true,
        "market": {"id": market.to_string(), "name": null}, "account": {"id": account.to_string()},
    })
}

/// Creates a test lake on 2 January in which each day has its first block.
async fn test_lake(server: &Server) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(server)?;
    for day in [january(1), january(2)] {
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(day), vec![daily_block(day)]).await?;
    }
    Ok(test_lake)
}

fn text(text: &str) -> Option<Arc<str>> {
    Some(text.into())
}

fn days(days: &[i32]) -> UnitInput {
    UnitInput { days: Some(days.iter().map(|day| january(*day)).collect()), ..UnitInput::default() }
}

fn row(day: i32, account: u8) -> RawPosition {
    raw_position(AAVE, january(day), address(account), address(9), "LENDER", "17")
}

#[tokio::test]
async fn snapshot_is_taken_at_the_first_block_and_flattened() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([position(1), position(1), position(2)]))).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), days(&[2])).await?;
    assert_eq!((report.units, report.rows_in, report.repeats, report.rows_out), (1, 3, 1, 2));
    let unit = unit(AAVE, january(2));
    assert_eq!(test_lake.rows::<RawPosition>(&RAW_POSITIONS, &unit).await?, [row(2, 1), row(2, 2)]);
    let metadata = test_lake.file_metadata(&RAW_POSITIONS, &unit).await?;
    assert_eq!([&metadata["block"], &metadata["deployment"]], [&*first_block(january(2)).to_string(), "QmDeployment"]);
    assert!(server.requests().iter().all(|request| request.variable("block") == first_block(january(2))));
    Ok(())
}

/// A row of Aave's own subgraph.
fn user_reserve(account: u8, supply: &str, variable: &str, stable: &str) -> Value {
    let [account, token, market, pool] = [account, 8, 9, 0x0b].map(|byte| address(byte).to_string());
    json!({
        "id": format!("{account}{token}{pool}"), "user": {"id": account}, "usageAsCollateralEnabledOnUser": true,
        "reserve": {"name": "Wrapped Ether", "aToken": {"id": market}}, "scaledATokenBalance": supply,
        "scaledVariableDebt": variable, "principalStableDebt": stable, "stableBorrowRate": "4",
        "stableBorrowLastUpdateTimestamp": 6,
    })
}

#[tokio::test]
async fn users_with_any_balance_are_asked_for_at_once() -> Result<()> {
    let rows = [user_reserve(1, "0", "7", "0"), user_reserve(2, "0", "0", "9"), user_reserve(3, "5", "7", "0")];
    let server = Server::start(move |request| snapshot(request, json!(rows))).await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let report = handle(test_lake.context(), days(&[2])).await?;
    assert_eq!((report.rows_in, report.rows_out, report.traffic.requests), (3, 3, 1));
    let pool = address(0x0b).to_string();
    // graph-node accepts alternatives only where no other conditions are beside them.
    let not_zero = ["scaledATokenBalance_not", "scaledVariableDebt_not", "principalStableDebt_not"];
    let filter = json!({"and": [{"pool": pool, "id_gt": ""}, {"or": not_zero.map(|name| json!({name: "0"}))}]});
    assert_eq!(server.requests()[0].variable("where"), &filter);
    let unit = unit(AAVE, january(2));
    let rows: Vec<RawPosition> = test_lake.rows(&RAW_POSITIONS, &unit).await?;
    assert_eq!(
        rows.iter().map(|row| row.account_id.clone()).collect::<Vec<_>>(),
        [1, 2, 3].map(|account| text(&address(account).to_string()))
    );
    let expected = RawPosition {
        id: text(&format!("{}{}{pool}", address(3), address(8))),
        is_collateral: text("true"),
        market_id: text(&address(9).to_string()),
        market_name: text("Wrapped Ether"),
        account_id: text(&address(3).to_string()),
        scaled_supply: text("5"),
        scaled_variable_debt: text("7"),
        stable_debt: text("0"),
        stable_debt_rate: text("4"),
        stable_debt_time: text("6"),
        balance: None,
        side: None,
        ..row(2, 3)
    };
    assert_eq!(rows[2], expected);
    assert_eq!(test_lake.file_metadata(&RAW_POSITIONS, &unit).await?["schema"], "aave");
    Ok(())
}

#[tokio::test]
async fn pool_without_reserves_is_bad_input_and_writes_nothing() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([]))).await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let error = handle(test_lake.context(), days(&[2])).await.unwrap_err().to_string();
    assert!(error.starts_with("BadInput: the subgraph has no reserves of the configured pool"), "{error}");
    let named = [format!("protocol={AAVE}"), format!("pool={}", address(0x0b)), "set pool to one of".to_owned()];
    assert!(named.iter().all(|text| error.contains(text)), "{error}");
    assert!(test_lake.objects("raw/the_graph/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn pool_with_reserves_may_have_no_users() -> Result<()> {
    let server = Server::start(|request| {
        let is_reserves = request.body["query"].as_str().is_some_and(|query| query.contains(" reserves("));
        snapshot(request, if is_reserves { json!([{"id": "0x0b"}]) } else { json!([]) })
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let report = handle(test_lake.context(), days(&[1])).await?;
    assert_eq!((report.units, report.rows_out), (1, 0));
    Ok(())
}

#[tokio::test]
async fn full_page_is_followed_by_id_range_queries() -> Result<()> {
    // A full page of 1,000 positions, and one more position in the last id range.
    let first: Vec<Value> = (0..1000).map(|n| json!({"id": format!("0x{n:040x}-x")})).collect();
    let server = Server::start(move |request| match request.variable("where").get("id_gte").and_then(Value::as_str) {
        Some("0xf0") => snapshot(request, json!([position(0xff)])),
        None if request.variable("where")["id_gt"] == "" => snapshot(request, json!(first)),
        _ => snapshot(request, json!([])),
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), days(&[1])).await?;
    assert_eq!((report.rows_out, report.traffic.pages), (1001, 17));
    let rows: Vec<RawPosition> = test_lake.rows(&RAW_POSITIONS, &unit(AAVE, january(1))).await?;
    assert_eq!(rows.last(), Some(&row(1, 0xff)));
    Ok(())
}

#[tokio::test]
async fn pruned_day_is_lost_and_other_days_are_written() -> Result<()> {
    let server = Server::start(|request| {
        let is_first = request.variable("block") == first_block(january(1));
        if is_first { graph_error("the state at block 17 was pruned") } else { snapshot(request, json!([position(1)])) }
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.lost.count, report.lost.first), (1, 1, vec![format!("2023-01-01 {AAVE}")]));
    assert_eq!(report.traffic.requests, 2, "requests for the lost day count too");
    let units: Vec<_> = test_lake.context.lake.units(&RAW_POSITIONS).await?.into_iter().collect();
    assert_eq!(units, [unit(AAVE, january(2))]);
    Ok(())
}

#[tokio::test]
async fn lost_day_is_requested_again_only_with_retry_lost() -> Result<()> {
    let is_pruned = Arc::new(AtomicBool::new(true));
    let pruned = Arc::clone(&is_pruned);
    let server = Server::start(move |request| {
        let is_first = request.variable("block") == first_block(january(1));
        if is_first && pruned.load(Ordering::Relaxed) {
            graph_error("the state at block 17 was pruned")
        } else {
            snapshot(request, json!([position(1)]))
        }
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    let (lake, lost) = (&test_lake.context.lake, unit(AAVE, january(1)));
    handle(test_lake.context(), UnitInput::default()).await?;
    let tombstone = lake.tombstone(&RAW_POSITIONS, &lost).await?.unwrap();
    assert!(tombstone.reason.contains("the state at block 17 was pruned"), "{tombstone:?}");
    let first = test_lake.objects("state/lost/").await?;

    let retry = || UnitInput { retry_lost: true, ..UnitInput::default() };
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default(), "sends no request");
    assert_eq!(server.requests().len(), 2);
    assert_eq!(handle(test_lake.context(), retry()).await?.lost.count, 1);
    assert_eq!(test_lake.objects("state/lost/").await?, first, "equal bytes");

    is_pruned.store(false, Ordering::Relaxed);
    assert_eq!(handle(test_lake.context(), retry()).await?.units, 1);
    assert!(lake.units(&RAW_POSITIONS).await?.contains(&lost));
    assert!(test_lake.objects("state/lost/").await?.is_empty(), "the day is not lost any more");
    Ok(())
}

/// A server that has pruned 1 January, and keeps three positions in its newest state: an open one with two snapshots in its
/// last block, one that was closed, and one that had more snapshots in its last block than a page.
fn pruned_server() -> impl Future<Output = Result<Server>> {
    Server::start(|request| {
        let block = first_block(january(1));
        if request.variable("block") == block {
            return graph_error("the state at block 17 was pruned");
        }
        if !request.variable("block").is_null() {
            return snapshot(request, json!([position(1)]));
        }
        assert_eq!(request.variable("upTo"), &json!({"blockNumber_lte": block.to_string()}));
        let with = |account: u8, snapshots: &[(i64, i64, &str)]| {
            let mut position = position(account);
            position["balance"] = json!("99");
            let json = |(block, log, balance): &(i64, i64, &str)| json!({"blockNumber": block.to_string(), "logIndex": log, "balance": balance});
            position["snapshots"] = snapshots.iter().map(json).collect();
            position
        };
        let many: Vec<_> = (0..10).map(|log| (block, log, "5")).collect();
        let rows = match request.variable("where").get("id_in") {
            Some(ids) => {
                assert_eq!(ids, &json!([position(3)["id"]]));
                assert_eq!(request.variable("snapshots"), 1000);
                json!([with(3, &[&many[..], &[(block, 70, "17")]].concat())])
            }
            None => {
                assert_eq!(request.variable("where")["blockNumberOpened_lte"], block.to_string());
                json!([
                    with(1, &[(block, 3, "16"), (block, 20, "17"), (block - 1, 90, "15")]),
                    with(2, &[(block - 1, 3, "0"), (block - 2, 20, "17")]),
                    with(3, &many),
                    with(4, &[]),
                ])
            }
        };
        let block = json!({"number": block, "timestamp": null, "hash": null});
        let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
        (200, json!({"data": {"_meta": meta, "positions": rows}}))
    })
}

#[tokio::test]
async fn lost_day_is_rebuilt_from_snapshots_of_balances() -> Result<()> {
    let server = pruned_server().await?;
    let test_lake = test_lake(&server).await?;
    let (lake, lost) = (&test_lake.context.lake, unit(AAVE, january(1)));
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?.lost.count, 1);

    let rebuild = || UnitInput { rebuild_lost: true, ..UnitInput::default() };
    let report = handle(test_lake.context(), rebuild()).await?;
    assert_eq!((report.units, report.lost.count, report.rebuilt.first), (1, 0, vec![lost.to_string()]));
    assert_eq!(test_lake.rows::<RawPosition>(&RAW_POSITIONS, &lost).await?, [row(1, 1), row(1, 3)]);
    let metadata = test_lake.file_metadata(&RAW_POSITIONS, &lost).await?;
    assert_eq!([&metadata["rebuilt"], &metadata["block"]], ["true", &*first_block(january(1)).to_string()]);
    assert!(lake.rebuilt_units(&RAW_POSITIONS).await?.contains(&lost), "its tombstone tells it from the others");
    let requests = server.requests().len();
    assert_eq!(handle(test_lake.context(), rebuild()).await?, Report::default());
    assert_eq!(server.requests().len(), requests, "sends no request");

    let objects = test_lake.objects("").await?;
    let forced = UnitInput { force: true, ..rebuild() };
    let report = handle(test_lake.context(), forced).await?;
    assert_eq!((report.units, report.objects_unchanged), (2, 2));
    assert_eq!(test_lake.objects("").await?, objects, "equal bytes");
    Ok(())
}

#[tokio::test]
async fn day_that_was_read_at_its_block_is_not_rebuilt() -> Result<()> {
    let server = pruned_server().await?;
    let test_lake = test_lake(&server).await?;
    test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1)), vec![row(1, 7)]).await?;
    let report = handle(test_lake.context(), UnitInput { rebuild_lost: true, ..days(&[1]) }).await?;
    assert_eq!((report.lost.count, report.rebuilt.count), (1, 0));
    assert_eq!(test_lake.rows::<RawPosition>(&RAW_POSITIONS, &unit(AAVE, january(1))).await?, [row(1, 7)]);
    Ok(())
}

#[tokio::test]
async fn rebuilt_day_is_replaced_when_the_source_has_it_again() -> Result<()> {
    let server = pruned_server().await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), UnitInput { rebuild_lost: true, ..days(&[1]) }).await?;
    let whole = Server::start(|request| snapshot(request, json!([position(5)]))).await?;
    let test_lake = test_lake.with_sources(&whole)?;
    handle(test_lake.context(), days(&[1])).await?;
    let unit = unit(AAVE, january(1));
    assert_eq!(test_lake.rows::<RawPosition>(&RAW_POSITIONS, &unit).await?, [row(1, 5)]);
    assert!(!test_lake.file_metadata(&RAW_POSITIONS, &unit).await?.contains_key("rebuilt"));
    assert!(test_lake.objects("state/lost/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn lost_day_of_aaves_own_subgraph_stays_lost() -> Result<()> {
    let server = Server::start(|_| graph_error("the state at block 17 was pruned")).await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let report = handle(test_lake.context(), UnitInput { rebuild_lost: true, ..days(&[1]) }).await?;
    assert_eq!((report.units, report.lost.count, report.rebuilt.count), (0, 1, 0));
    assert!(test_lake.context.lake.tombstone(&RAW_POSITIONS, &unit(AAVE, january(1))).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn day_that_is_in_the_lake_gets_no_tombstone() -> Result<()> {
    let server = Server::start(|_| graph_error("the state at block 17 was pruned")).await?;
    let test_lake = test_lake(&server).await?;
    test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1)), vec![row(1, 1)]).await?;
    let report = handle(test_lake.context(), days(&[1])).await?;
    assert_eq!(report.lost.count, 1);
    assert!(test_lake.objects("state/lost/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn rejects_an_empty_snapshot_after_a_day_with_positions() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([]))).await?;
    let test_lake = test_lake(&server).await?;
    test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1)), vec![row(1, 1)]).await?;
    assert_eq!(kind(handle(test_lake.context(), days(&[2])).await), Some(Kind::SourceUnavailable));
    assert!(!test_lake.context.lake.units(&RAW_POSITIONS).await?.contains(&unit(AAVE, january(2))));
    Ok(())
}

#[tokio::test]
async fn days_of_one_call_are_checked_against_each_other() -> Result<()> {
    let server = Server::start(|request| {
        let is_first = request.variable("block") == first_block(january(1));
        snapshot(request, if is_first { json!([position(1)]) } else { json!([]) })
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    assert_eq!(kind(handle(test_lake.context(), UnitInput::default()).await), Some(Kind::SourceUnavailable));
    let units: Vec<_> = test_lake.context.lake.units(&RAW_POSITIONS).await?.into_iter().collect();
    assert_eq!(units, [unit(AAVE, january(1))], "writes the day with positions, but not the empty day");
    Ok(())
}

/// Starts a server without positions, whose only market has these totals in US dollars.
async fn closed_server(totals: Value) -> Result<Server> {
    Server::start(move |request| {
        let query = request.body["query"].as_str().unwrap_or_default();
        snapshot(request, if query.contains("totalBorrowBalanceUSD") { json!([totals]) } else { json!([]) })
    })
    .await
}

#[tokio::test]
async fn empty_snapshot_is_written_as_closed_if_the_markets_agree() -> Result<()> {
    let totals = json!({"id": "0xa", "totalDepositBalanceUSD": "0.02", "totalBorrowBalanceUSD": "0"});
    let server = closed_server(totals).await?;
    let test_lake = test_lake(&server).await?;
    // The newest earlier snapshot counts, even if days between are missing.
    test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1).previous()), vec![row(0, 1)]).await?;
    for day in [2, 3] {
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(day)), vec![daily_block(january(day))]).await?;
        let report = handle(Context { today: january(3), ..test_lake.context() }, days(&[day])).await?;
        assert_eq!((report.units, report.rows_out, report.traffic.requests), (1, 0, 2), "January {day}");
        let metadata = test_lake.file_metadata(&RAW_POSITIONS, &unit(AAVE, january(day))).await?;
        assert_eq!([&metadata["closed"], &metadata["deployment"]], ["true", "QmDeployment"]);
    }
    let blocks = [2, 2, 3, 3].map(|day| Value::from(first_block(january(day))));
    assert!(server.requests().iter().map(|request| request.variable("block")).eq(&blocks));
    Ok(())
}

#[tokio::test]
async fn empty_snapshot_is_rejected_if_the_markets_say_otherwise_or_nothing() -> Result<()> {
    for totals in [
        json!({"id": "0xa", "totalDepositBalanceUSD": "0", "totalBorrowBalanceUSD": "1500.5"}),
        json!({"id": "0xa", "totalDepositBalanceUSD": "0", "totalBorrowBalanceUSD": null}),
        json!({"id": "0xa"}),
    ] {
        let test_lake = test_lake(&closed_server(totals.clone()).await?).await?;
        test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1)), vec![row(1, 1)]).await?;
        let result = handle(test_lake.context(), days(&[2])).await;
        assert_eq!(kind(result), Some(Kind::SourceUnavailable), "{totals}");
    }
    let without_totals = Server::start(|request| match request.body["query"].as_str() {
        Some(query) if query.contains("totalBorrowBalanceUSD") => {
            graph_error("Type `Market` has no field `totalDepositBalanceUSD`")
        }
        _ => snapshot(request, json!([])),
    });
    let test_lake = test_lake(&without_totals.await?).await?;
    test_lake.put(&RAW_POSITIONS, &unit(AAVE, january(1)), vec![row(1, 1)]).await?;
    assert_eq!(kind(handle(test_lake.context(), days(&[2])).await), Some(Kind::SourceUnavailable));
    assert!(!test_lake.context.lake.units(&RAW_POSITIONS).await?.contains(&unit(AAVE, january(2))));
    Ok(())
}

#[tokio::test]
async fn first_days_of_a_protocol_may_have_no_positions() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([]))).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out), (2, 0));
    Ok(())
}

#[tokio::test]
async fn invalid_key_ends_the_step_after_one_request() -> Result<()> {
    let server = Server::start(|_| (401, json!({"errors": [{"message": "auth error: API key not found"}]}))).await?;
    let test_lake = test_lake(&server).await?;
    assert_eq!(kind(handle(test_lake.context(), days(&[1])).await), Some(Kind::BadCredentials));
    assert_eq!(server.requests().len(), 1);
    assert!(test_lake.context.lake.units(&RAW_POSITIONS).await?.is_empty());
    Ok(())
}
