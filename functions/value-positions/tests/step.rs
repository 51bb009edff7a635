//! Runs the step over staged positions, markets and links.

use defi_shared::domain::{Address, Day, HexBytes, Side};
use defi_shared::lake::{State, WorkUnit};
use defi_shared::step::history::LINKS_PART;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{
    RAW_MARKETS, STAGE_MARKETS, STAGE_POSITIONS, StagedMarket, StagedPosition, WALLET_HEALTH, WALLET_LINKS,
    WalletHealth, WalletLink,
};
use defi_shared::testing::WETH;
use defi_shared::testing::{
    AAVE, COMPOUND, TestLake, address, january, kind, link, staged_market, staged_position, unit,
};
use defi_shared::{Kind, Result};
use value_positions::handle;

const ETH_MARKET: Address = HexBytes([0xa1; 20]);
const USD_MARKET: Address = HexBytes([0xa2; 20]);
const TOKEN: Address = HexBytes([0x77; 20]);

/// Writes two markets: ETH at 2,000 USD, and a token at 500 USD, which is 0.25 ETH. Both have an LTV of 75 % and a
/// liquidation threshold of 80 %.
async fn put_markets(test_lake: &TestLake, protocol: &str, day: Day) -> Result<()> {
    let market = |market, token, usd| staged_market(protocol, day, market, token, usd);
    let rows: Vec<StagedMarket> = vec![market(ETH_MARKET, WETH, 2000.0), market(USD_MARKET, TOKEN, 500.0)];
    test_lake.put(&STAGE_MARKETS, &unit(protocol, day), rows).await
}

fn position(account: u8, market: Address, side: Side, tokens: i128) -> StagedPosition {
    staged_position(AAVE, january(2), address(account), market, side, tokens)
}

/// Creates a test lake on 2 January with the markets and these positions of Aave.
async fn test_lake(positions: Vec<StagedPosition>) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?;
    put_markets(&test_lake, AAVE, january(2)).await?;
    test_lake.put(&STAGE_POSITIONS, &unit(AAVE, january(2)), positions).await?;
    Ok(test_lake)
}

/// Runs the step, and returns its report and the rows of 2 January.
async fn value(test_lake: &TestLake) -> Result<(Report, Vec<WalletHealth>)> {
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    Ok((report, test_lake.rows(&WALLET_HEALTH, &WorkUnit::Day(january(2))).await?))
}

#[tokio::test]
async fn health_matches_values_computed_by_hand() -> Result<()> {
    let not_enabled = StagedPosition { is_collateral: None, ..position(1, USD_MARKET, Side::Lender, 1_000) };
    let positions =
        vec![position(1, ETH_MARKET, Side::Lender, 16), not_enabled, position(1, USD_MARKET, Side::Borrower, 20)];
    let (report, rows) = value(&test_lake(positions).await?).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out, report.unpriced), (1, 3, 1, 0));
    let expected = WalletHealth {
        wallet_address: address(1),
        account_address: address(1),
        protocol: AAVE.into(),
        day: january(2),
        collateral_eth: 16.0,
        threshold_weighted_collateral_eth: 12.8,
        borrow_power_eth: 12.0,
        debt_eth: 5.0,
        available_borrows_eth: 7.0,
        risk_factor: 5.0 / 12.8,
    };
    assert_eq!(rows, [expected]);
    Ok(())
}

#[tokio::test]
async fn account_without_collateral_or_debt_has_no_row() -> Result<()> {
    let not_enabled = StagedPosition { is_collateral: Some(false), ..position(1, ETH_MARKET, Side::Lender, 5) };
    let (_, rows) = value(&test_lake(vec![not_enabled, position(2, ETH_MARKET, Side::Borrower, 1)]).await?).await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.wallet_address, row.debt_eth, row.risk_factor)).collect();
    assert_eq!(rows, [(address(2), 1.0, 1e6)]);
    Ok(())
}

#[tokio::test]
async fn links_apply_from_the_day_after_their_first_borrow() -> Result<()> {
    let test_lake = test_lake(vec![position(9, ETH_MARKET, Side::Lender, 5)]).await?;
    let midnight = january(2).start();
    test_lake.put(&WALLET_LINKS, &WorkUnit::Day(january(1)), vec![link(address(1), address(9), midnight - 1)]).await?;
    test_lake.put(&WALLET_LINKS, &WorkUnit::Day(january(2)), vec![link(address(2), address(9), midnight)]).await?;
    let (_, rows) = value(&test_lake).await?;
    let wallets: Vec<_> = rows.iter().map(|row| (row.wallet_address, row.account_address)).collect();
    assert_eq!(wallets, [(address(1), address(9)), (address(9), address(9))]);
    Ok(())
}

#[tokio::test]
async fn each_day_uses_only_links_created_before_it() -> Result<()> {
    let test_lake = test_lake(vec![position(9, ETH_MARKET, Side::Lender, 5)]).await?;
    let first_day = staged_position(AAVE, january(1), address(9), ETH_MARKET, Side::Lender, 5);
    test_lake.put(&STAGE_POSITIONS, &unit(AAVE, january(1)), vec![first_day]).await?;
    put_markets(&test_lake, AAVE, january(1)).await?;
    test_lake
        .put(&WALLET_LINKS, &WorkUnit::Day(january(1)), vec![link(address(1), address(9), january(1).start())])
        .await?;
    let (report, second) = value(&test_lake).await?;
    let first: Vec<WalletHealth> = test_lake.rows(&WALLET_HEALTH, &WorkUnit::Day(january(1))).await?;
    assert_eq!((report.units, first.len(), second.len()), (2, 1, 2));
    Ok(())
}

#[tokio::test]
async fn forced_call_uses_no_state_of_the_links() -> Result<()> {
    let test_lake = test_lake(vec![position(9, ETH_MARKET, Side::Lender, 5)]).await?;
    test_lake.put(&WALLET_LINKS, &WorkUnit::Day(january(1)), Vec::<WalletLink>::new()).await?;
    let wrong = [link(address(1), address(9), january(1).start())];
    test_lake.context.lake.write_state(State::Links, january(2), LINKS_PART, wrong).await?;
    let wallets = |rows: Vec<WalletHealth>| rows.iter().map(|row| row.wallet_address).collect::<Vec<_>>();
    assert_eq!(wallets(value(&test_lake).await?.1), [address(1), address(9)]);
    handle(test_lake.context(), UnitInput { force: true, ..UnitInput::default() }).await?;
    assert_eq!(wallets(test_lake.rows(&WALLET_HEALTH, &WorkUnit::Day(january(2))).await?), [address(9)]);
    Ok(())
}

#[tokio::test]
async fn positions_are_priced_only_by_their_own_market() -> Result<()> {
    // Another market of the same token has a price, and so does a market of another protocol with the same id.
    let unpriced_market = address(0xa3);
    let test_lake =
        test_lake(vec![position(1, unpriced_market, Side::Lender, 5), position(1, ETH_MARKET, Side::Lender, 5)])
            .await?;
    let other = staged_market(COMPOUND, january(2), unpriced_market, TOKEN, 500.0);
    test_lake.put(&STAGE_MARKETS, &unit(COMPOUND, january(2)), vec![other]).await?;
    let (report, rows) = value(&test_lake).await?;
    assert_eq!((report.unpriced, rows[0].collateral_eth), (1, 5.0));
    assert_eq!(test_lake.file_metadata(&WALLET_HEALTH, &WorkUnit::Day(january(2))).await?["unpriced"], "1");
    Ok(())
}

#[tokio::test]
async fn price_applies_for_at_most_7_days() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(31))?;
    put_markets(&test_lake, AAVE, january(1)).await?;
    for day in [january(8), january(9)] {
        let row = staged_position(AAVE, day, address(1), ETH_MARKET, Side::Lender, 5);
        test_lake.put(&STAGE_POSITIONS, &unit(AAVE, day), vec![row]).await?;
    }
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out, report.unpriced), (2, 1, 1));
    assert_eq!(test_lake.rows::<WalletHealth>(&WALLET_HEALTH, &WorkUnit::Day(january(8))).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn missing_snapshots_are_skipped_and_an_empty_day_is_not_ready() -> Result<()> {
    let (report, rows) = value(&test_lake(vec![position(1, ETH_MARKET, Side::Lender, 5)]).await?).await?;
    assert_eq!((report.units, rows.len()), (1, 1), "the snapshot of Compound is missing");
    let empty = TestLake::new(&[AAVE, COMPOUND], january(2))?;
    let input = UnitInput { days: Some(vec![january(2)]), ..UnitInput::default() };
    assert_eq!(kind(handle(empty.context(), input.clone()).await), Some(Kind::NotReady));
    assert!(empty.objects("").await?.is_empty());
    // Waiting does not help where the source no longer had the day.
    empty.context.lake.write_tombstone(&RAW_MARKETS, &unit(AAVE, january(2)), "pruned".to_owned()).await?;
    assert_eq!(kind(handle(empty.context(), input).await), Some(Kind::HistoryPruned));
    Ok(())
}

#[tokio::test]
async fn rows_of_all_protocols_are_in_one_object_sorted_by_wallet() -> Result<()> {
    let test_lake =
        test_lake(vec![position(3, ETH_MARKET, Side::Lender, 5), position(7, ETH_MARKET, Side::Lender, 1)]).await?;
    put_markets(&test_lake, COMPOUND, january(2)).await?;
    let compound_position =
        |account| staged_position(COMPOUND, january(2), address(account), ETH_MARKET, Side::Lender, 2);
    test_lake
        .put(&STAGE_POSITIONS, &unit(COMPOUND, january(2)), vec![compound_position(3), compound_position(5)])
        .await?;
    let (_, rows) = value(&test_lake).await?;
    let keys: Vec<_> = rows.iter().map(|row| (row.wallet_address, &*row.protocol)).collect();
    assert_eq!(
        keys,
        [(3, AAVE), (3, COMPOUND), (5, COMPOUND), (7, AAVE)].map(|(wallet, protocol)| (address(wallet), protocol))
    );
    Ok(())
}
