//! Runs the step against a test server whose newest block is 5,000.

use defi_shared::lake::WorkUnit;
use defi_shared::tables::{CURRENT_POSITIONS, DAILY_BLOCKS, StagedPosition};
use defi_shared::testing::{
    AAVE, COMPOUND, Request, Server, TestLake, address, block_at_its_number, daily_block, first_block, january, kind,
    snapshot,
};
use defi_shared::{Kind, Result};
use extract_current_positions::{Input, Pin, handle};
use serde_json::{Value, json};

fn position(account: u8, balance: &str) -> Value {
    let [account, market] = [address(account), address(9)];
    json!({
        "id": format!("{account}-{market}-LENDER-0"), "balance": balance, "side": "COLLATERAL", "isCollateral": null,
        "market": {"id": market.to_string(), "name": "nine"}, "account": {"id": account.to_string()},
    })
}

/// Returns the rows, and blocks whose time is their number.
fn respond(request: &Request, rows: Value) -> (u16, Value) {
    if request.sql().is_empty() { snapshot(request, rows) } else { block_at_its_number(request, 5_000) }
}

/// Starts a server that returns two positions for every request.
async fn server_with_two_positions() -> Result<Server> {
    Server::start(|request| respond(request, json!([position(2, "17"), position(1, "5")]))).await
}

fn unit() -> WorkUnit {
    WorkUnit::Protocol(AAVE.into())
}

async fn rows(test_lake: &TestLake) -> Result<Vec<StagedPosition>> {
    test_lake.rows(&CURRENT_POSITIONS, &unit()).await
}

/// Returns the requests for pages of positions.
fn page_requests(server: &Server) -> Vec<Request> {
    server.requests().into_iter().filter(|request| !request.variable("block").is_null()).collect()
}

#[tokio::test]
async fn default_block_is_64_blocks_below_the_newest() -> Result<()> {
    let server = server_with_two_positions().await?;
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?.with_sources(&server)?;
    let report = handle(test_lake.context(), Input::default()).await?;
    assert_eq!((report.units, report.rows_out), (2, 4));
    assert!(page_requests(&server).iter().all(|request| request.variable("block") == 4_936));
    let rows = rows(&test_lake).await?;
    assert_eq!(rows.iter().map(|row| row.account_address).collect::<Vec<_>>(), [address(1), address(2)]);
    assert!(rows.iter().all(|row| (row.block_number, row.epoch_timestamp) == (4_936, 4_936)));
    assert_eq!((rows[0].side.name(), rows[0].is_collateral), ("LENDER", None));
    assert_eq!(test_lake.file_metadata(&CURRENT_POSITIONS, &unit()).await?["block"], "4936");
    Ok(())
}

#[tokio::test]
async fn block_can_be_a_day_or_a_number() -> Result<()> {
    let server = server_with_two_positions().await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?;
    let input = |block| Input { block, as_of: Some(january(1)), ..Input::default() };
    assert_eq!(kind(handle(test_lake.context(), input(Pin::Day)).await), Some(Kind::NotReady));
    test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(1)), vec![daily_block(january(1))]).await?;
    handle(test_lake.context(), input(Pin::Day)).await?;
    handle(test_lake.context(), input(Pin::Number(17))).await?;
    let blocks: Vec<_> = page_requests(&server).iter().map(|request| request.variable("block").as_i64()).collect();
    assert_eq!(blocks, [Some(first_block(january(1))), Some(17)]);
    let rows = rows(&test_lake).await?;
    let is_newest = |row: &StagedPosition| (row.block_number, row.epoch_timestamp) == (17, 17);
    assert!(rows.iter().all(is_newest), "the table holds the newest snapshot");
    let later = handle(test_lake.context(), input(Pin::Number(5_001))).await;
    assert_eq!(kind(later), Some(Kind::NotReady), "the table of blocks ends before");
    Ok(())
}

#[tokio::test]
async fn requests_only_the_positions_of_the_given_addresses() -> Result<()> {
    let server = server_with_two_positions().await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?;
    let addresses = vec!["0xABABABABABABABABABABABABABABABABABABABAB".to_owned(), address(1).to_string()];
    handle(test_lake.context(), Input { addresses: Some(addresses), ..Input::default() }).await?;
    let filters: Vec<_> =
        page_requests(&server).iter().map(|request| request.variable("where")["account_in"].clone()).collect();
    assert_eq!(filters, [json!([address(1).to_string(), address(0xab).to_string()])]);
    Ok(())
}

#[tokio::test]
async fn rejects_bad_addresses_and_protocols_without_requests() -> Result<()> {
    let server = server_with_two_positions().await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?;
    let invalid_inputs = [
        Input { addresses: Some(vec![address(1).to_string(), "0x1234".to_owned()]), ..Input::default() },
        Input { protocols: Some(vec![COMPOUND.to_owned()]), ..Input::default() },
    ];
    for input in invalid_inputs {
        assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::BadInput));
    }
    assert!(server.requests().is_empty() && test_lake.objects("").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn invalid_rows_are_quarantined() -> Result<()> {
    let response_rows = json!([position(1, "-5"), position(2, "17"), position(2, "18")]);
    let server = Server::start(move |request| respond(request, response_rows.clone())).await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?;
    let report = handle(test_lake.context(), Input::default()).await?;
    assert_eq!((report.rows_in, report.rows_out, report.rejected()), (3, 1, 2));
    assert_eq!(rows(&test_lake).await?[0].balance.0, 17);
    let reasons = ["balance is negative", "another valid row with the same key came first"];
    let expected: Vec<_> = [0, 2].into_iter().zip(reasons.map(str::to_owned)).collect();
    assert_eq!(test_lake.quarantined(&CURRENT_POSITIONS, &unit()).await?, expected);
    Ok(())
}

#[tokio::test]
async fn balances_of_users_are_worth_the_indexes_of_the_same_block() -> Result<()> {
    let [token, market, pool] = [8, 9, 0x0b].map(|byte| address(byte).to_string());
    let ray = "1000000000000000000000000000";
    let reserve = json!({
        "id": format!("{token}{pool}"), "underlyingAsset": token, "decimals": 6, "aToken": {"id": market},
        "liquidityIndex": format!("2{}", &ray[1..]), "liquidityRate": "0", "variableBorrowIndex": ray,
        "variableBorrowRate": "0", "lastUpdateTimestamp": 4_000,
    });
    let user = json!({
        "id": format!("{}{token}{pool}", address(1)), "user": {"id": address(1).to_string()},
        "usageAsCollateralEnabledOnUser": true, "scaledATokenBalance": "5", "scaledVariableDebt": "0",
        "principalStableDebt": "0", "reserve": {"aToken": {"id": market}},
    });
    let server = Server::start(move |request| {
        let is_reserves = request.body["query"].as_str().is_some_and(|query| query.contains(" reserves("));
        respond(request, if is_reserves { json!([reserve]) } else { json!([user]) })
    });
    let server = server.await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?.with_aaves_schema(AAVE);
    let addresses = Some(vec![address(1).to_string()]);
    handle(test_lake.context(), Input { addresses, ..Input::default() }).await?;
    let rows = rows(&test_lake).await?;
    assert_eq!(rows.iter().map(|row| (row.balance.0, row.is_collateral)).collect::<Vec<_>>(), [(10, Some(true))]);
    assert!(page_requests(&server).iter().all(|request| request.variable("block") == 4_936));
    Ok(())
}
