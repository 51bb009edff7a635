//! Runs the step against a test server that returns markets.

use defi_shared::lake::WorkUnit;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, RAW_MARKETS, RawMarket};
use defi_shared::testing::WETH;
use defi_shared::testing::{
    AAVE, COMPOUND, KEY, Request, Server, TestLake, address, daily_block, first_block, graph_error, january, kind,
    raw_market, snapshot, unit,
};
use defi_shared::{Kind, Result};
use extract_market_data::handle;
use serde_json::{Value, json};

const PRUNED: &str = "Failed to decode `block.number` value: `subgraph QmX only has data starting at block number 99 \
                      and data for block number 17 is therefore not available`";

fn market(id: u8) -> Value {
    json!({
        "id": address(id).to_string(), "name": null, "maximumLTV": "75", "liquidationThreshold": "80",
        "inputTokenPriceUSD": "1200.5", "inputToken": {"id": WETH.to_string(), "symbol": null, "decimals": 18},
    })
}

/// Creates a test lake on 2 January in which each day has its first block.
async fn test_lake(server: &Server) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?.with_sources(server)?;
    for day in [january(1), january(2)] {
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(day), vec![daily_block(day)]).await?;
    }
    Ok(test_lake)
}

/// Returns whether the request is for the snapshot of a protocol and day.
fn is_for_snapshot(request: &Request, protocol: &str, day: i32) -> bool {
    request.is_for(protocol) && request.variable("block") == first_block(january(day))
}

#[tokio::test]
async fn reserves_of_aaves_own_subgraph_are_markets_with_prices_in_eth() -> Result<()> {
    let [token, market, pool] = [8, 9, 0x0b].map(|byte| address(byte).to_string());
    let reserve = json!({
        "id": format!("{token}{pool}"), "underlyingAsset": token, "name": "USD Coin", "symbol": "USDC", "decimals": 6,
        "baseLTVasCollateral": "8000", "reserveLiquidationThreshold": "8750", "liquidityIndex": "1", "liquidityRate": "2",
        "variableBorrowIndex": "3", "variableBorrowRate": "4", "lastUpdateTimestamp": 5, "totalScaledVariableDebt": "6",
        "totalATokenSupply": "7", "lifetimeReserveFactorAccrued": "8",
        "price": {"priceInEth": "836120401337792", "lastUpdateTimestamp": 9}, "aToken": {"id": market},
    });
    let server = Server::start(move |request| snapshot(request, json!([reserve]))).await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let input =
        UnitInput { protocols: Some(vec![AAVE.to_owned()]), days: Some(vec![january(2)]), ..UnitInput::default() };
    handle(test_lake.context(), input).await?;
    let text = |text: &str| Some(std::sync::Arc::from(text));
    let expected = RawMarket {
        name: text("USD Coin"),
        maximum_ltv: text("80"),
        liquidation_threshold: text("87.5"),
        input_token_symbol: text("USDC"),
        input_token_decimals: text("6"),
        price_unit: text("ETH"),
        supply_index: text("1"),
        supply_rate: text("2"),
        debt_index: text("3"),
        debt_rate: text("4"),
        index_time: text("5"),
        total_debt: text("6"),
        total_supply: text("7"),
        treasury_mints: text("8"),
        price_time: text("9"),
        ..raw_market(AAVE, january(2), address(9), address(8), "0.000836120401337792")
    };
    let unit = unit(AAVE, january(2));
    assert_eq!(test_lake.rows::<RawMarket>(&RAW_MARKETS, &unit).await?, [expected]);
    assert_eq!(test_lake.file_metadata(&RAW_MARKETS, &unit).await?["schema"], "aave");
    assert!(server.requests().iter().all(|request| request.variable("where")["pool"] == pool));
    Ok(())
}

#[tokio::test]
async fn pool_without_reserves_is_bad_input() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([]))).await?;
    let test_lake = test_lake(&server).await?.with_aaves_schema(AAVE);
    let input = |protocol: &str| UnitInput {
        protocols: Some(vec![protocol.to_owned()]),
        days: Some(vec![january(2)]),
        ..UnitInput::default()
    };
    let error = handle(test_lake.context(), input(AAVE)).await.unwrap_err().to_string();
    assert!(error.starts_with("BadInput: the subgraph has no reserves") && error.contains("set pool to"), "{error}");
    assert_eq!(handle(test_lake.context(), input(COMPOUND)).await?.units, 1, "Messari's markets may be empty");
    assert!(test_lake.context.lake.file_metadata(&RAW_MARKETS, &unit(AAVE, january(2))).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn snapshot_is_taken_at_the_first_block_and_flattened() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([market(9), market(9), market(10)]))).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.repeats, report.rows_out), (4, 12, 4, 8));
    let unit = unit(COMPOUND, january(2));
    let expected = [9, 10].map(|id| raw_market(COMPOUND, january(2), address(id), WETH, "1200.5"));
    assert_eq!(test_lake.rows::<RawMarket>(&RAW_MARKETS, &unit).await?, expected);
    let metadata = test_lake.file_metadata(&RAW_MARKETS, &unit).await?;
    let block = first_block(january(2)).to_string();
    assert_eq!([&metadata["block"], &metadata["deployment"], &metadata["repeats"]], [&*block, "QmDeployment", "1"]);
    for (protocol, day) in [(AAVE, 1), (AAVE, 2), (COMPOUND, 1), (COMPOUND, 2)] {
        assert_eq!(
            server.requests().iter().filter(|request| is_for_snapshot(request, protocol, day)).count(),
            1,
            "{protocol} {day}"
        );
    }
    assert!(server.requests().iter().all(|request| request.header("authorization") == format!("Bearer {KEY}")));
    Ok(())
}

#[tokio::test]
async fn totals_are_kept_and_a_schema_may_lack_them() -> Result<()> {
    let mut with_totals = market(9);
    with_totals["totalDepositBalanceUSD"] = json!("1000.50");
    with_totals["totalBorrowBalanceUSD"] = json!("0");
    let server = Server::start(move |request| match request.body["query"].as_str() {
        Some(query) if request.is_for(COMPOUND) && query.contains("totalBorrowBalanceUSD") => {
            graph_error("Type `Market` has no field `totalDepositBalanceUSD`")
        }
        _ if request.is_for(COMPOUND) => snapshot(request, json!([market(9)])),
        _ => snapshot(request, json!([with_totals])),
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), UnitInput { days: Some(vec![january(2)]), ..UnitInput::default() }).await?;
    for (protocol, totals) in [(AAVE, [Some("1000.50"), Some("0")]), (COMPOUND, [None, None])] {
        let row = test_lake.rows::<RawMarket>(&RAW_MARKETS, &unit(protocol, january(2))).await?.remove(0);
        assert_eq!([row.total_deposit_balance_usd.as_deref(), row.total_borrow_balance_usd.as_deref()], totals);
    }
    assert_eq!(server.requests().len(), 3);
    Ok(())
}

#[tokio::test]
async fn second_run_sends_no_requests() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([market(9)]))).await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default());
    assert_eq!(server.requests().len(), 4);
    Ok(())
}

#[tokio::test]
async fn pruned_day_is_lost_and_other_days_are_written() -> Result<()> {
    let server = Server::start(|request| {
        if is_for_snapshot(request, AAVE, 1) { graph_error(PRUNED) } else { snapshot(request, json!([market(9)])) }
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.lost.count, report.lost.first), (3, 1, vec![format!("2023-01-01 {AAVE}")]));
    let units: Vec<_> = test_lake.context.lake.units(&RAW_MARKETS).await?.into_iter().collect();
    assert_eq!(units, [unit(COMPOUND, january(1)), unit(AAVE, january(2)), unit(COMPOUND, january(2))]);
    Ok(())
}

/// A market in the newest state, with its last hourly snapshot.
fn past_market(id: u8, snapshots: Value) -> Value {
    let mut market = market(id);
    market["maximumLTV"] = json!("1");
    market["inputTokenPriceUSD"] = json!("9");
    market["hourlySnapshots"] = snapshots;
    market
}

#[tokio::test]
async fn lost_day_is_rebuilt_with_the_limits_of_the_nearest_day() -> Result<()> {
    let price = json!([{"blockNumber": "7", "inputTokenPriceUSD": "1200.5", "totalDepositBalanceUSD": "2",
        "totalBorrowBalanceUSD": "3"}]);
    let server = Server::start(move |request| {
        if !request.variable("block").is_null() {
            return graph_error(PRUNED);
        }
        // Market 11 has no snapshot up to the block: it was not there yet.
        let rows = json!([past_market(9, price.clone()), past_market(10, price.clone()), past_market(11, json!([]))]);
        newest(first_block(january(9)), rows)
    });
    let server = server.await?;
    let test_lake = TestLake::new(&[COMPOUND], january(6))?.with_sources(&server)?;
    for day in 1..=6 {
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(day)), vec![daily_block(january(day))]).await?;
    }
    let limits = |day: i32, limit: &str| RawMarket {
        maximum_ltv: Some(limit.into()),
        liquidation_threshold: Some(limit.into()),
        ..raw_market(COMPOUND, january(day), address(9), WETH, "5")
    };
    // 2 and 4 January are equally near to the 3rd; 6 January has no rows.
    for day in [2, 4] {
        test_lake.put(&RAW_MARKETS, &unit(COMPOUND, january(day)), vec![limits(day, &format!("{day}0"))]).await?;
    }
    test_lake.put(&RAW_MARKETS, &unit(COMPOUND, january(6)), Vec::<RawMarket>::new()).await?;
    let report = handle(test_lake.context(), UnitInput { rebuild_lost: true, ..UnitInput::default() }).await?;
    assert_eq!((report.units, report.lost.count, report.rebuilt.count), (3, 0, 3));
    for (day, known) in [(1, 2), (3, 2), (5, 4)] {
        let unit = unit(COMPOUND, january(day));
        let totals = |market: RawMarket| RawMarket {
            total_deposit_balance_usd: Some("2".into()),
            total_borrow_balance_usd: Some("3".into()),
            input_token_price_usd: Some("1200.5".into()),
            ..market
        };
        let unknown = RawMarket {
            maximum_ltv: Some("1".into()),
            ..raw_market(COMPOUND, january(day), address(10), WETH, "1200.5")
        };
        let expected = [totals(limits(day, &format!("{known}0"))), totals(unknown)];
        assert_eq!(test_lake.rows::<RawMarket>(&RAW_MARKETS, &unit).await?, expected, "{day}");
        let metadata = test_lake.file_metadata(&RAW_MARKETS, &unit).await?;
        assert_eq!([&metadata["rebuilt"], &metadata["ltv_day"]], ["true", &*january(known).to_string()], "{day}");
    }
    Ok(())
}

/// Returns a response with markets of the newest state, at a block.
fn newest(block: i64, rows: Value) -> (u16, Value) {
    let block = json!({"number": block, "timestamp": null, "hash": null});
    let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
    (200, json!({"data": {"_meta": meta, "markets": rows}}))
}

#[tokio::test]
async fn without_a_known_day_the_limits_are_those_of_the_newest_state_which_must_be_after_the_block() -> Result<()> {
    for (head, is_ready) in [(first_block(january(1)), true), (first_block(january(1)) - 1, false)] {
        let server = Server::start(move |request| match request.variable("block").is_null() {
            true => newest(head, json!([past_market(9, json!([{"blockNumber": "7", "inputTokenPriceUSD": "5"}]))])),
            false => graph_error(PRUNED),
        });
        let server = server.await?;
        let test_lake = test_lake(&server).await?;
        let input = UnitInput {
            rebuild_lost: true,
            days: Some(vec![january(1)]),
            protocols: Some(vec![COMPOUND.to_owned()]),
            ..UnitInput::default()
        };
        let report = handle(test_lake.context(), input).await;
        let unit = unit(COMPOUND, january(1));
        if !is_ready {
            assert_eq!(kind(report), Some(Kind::NotReady));
            assert!(test_lake.context.lake.units(&RAW_MARKETS).await?.is_empty());
            continue;
        }
        assert_eq!(report?.rebuilt.count, 1);
        assert_eq!(test_lake.file_metadata(&RAW_MARKETS, &unit).await?["ltv_day"], "head");
        let rows = test_lake.rows::<RawMarket>(&RAW_MARKETS, &unit).await?;
        assert_eq!(rows[0].maximum_ltv.as_deref(), Some("1"));
    }
    Ok(())
}

#[tokio::test]
async fn source_errors_have_their_kind_and_write_nothing() -> Result<()> {
    let not_indexed = "Failed to decode `block.number` value: `subgraph QmX has only indexed up to block number 16 and \
                       data for block number 17 is therefore not yet available`";
    for (message, expected) in [
        ("auth error: API key not found", Kind::BadCredentials),
        ("auth error: payment required for subsequent requests", Kind::QuotaExceeded),
        (not_indexed, Kind::NotReady),
    ] {
        let server = Server::start(move |_| graph_error(message)).await?;
        let test_lake = test_lake(&server).await?;
        let one_unit =
            UnitInput { days: Some(vec![january(1)]), protocols: Some(vec![AAVE.to_owned()]), ..Default::default() };
        assert_eq!(kind(handle(test_lake.context(), one_unit).await), Some(expected));
        assert!(test_lake.context.lake.units(&RAW_MARKETS).await?.is_empty(), "{expected}");
        assert_eq!(server.requests().len() > 1, expected.is_transient(), "{expected}");
    }
    Ok(())
}

#[tokio::test]
async fn day_without_a_known_block_sends_no_requests() -> Result<()> {
    let server = Server::start(|request| snapshot(request, json!([market(9)]))).await?;
    let test_lake = TestLake::new(&[AAVE], january(1))?.with_sources(&server)?;
    assert_eq!(kind(handle(test_lake.context(), UnitInput::default()).await), Some(Kind::NotReady));
    assert!(server.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_day_may_have_no_markets() -> Result<()> {
    let server = Server::start(|request| {
        let is_first = request.variable("block") == first_block(january(1));
        snapshot(request, if is_first { json!([market(9)]) } else { json!([]) })
    });
    let server = server.await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out), (4, 2));
    Ok(())
}
