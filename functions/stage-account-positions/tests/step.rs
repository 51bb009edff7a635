//! Runs the step over the raw positions of one day.

use defi_shared::lake::WorkUnit;
use defi_shared::step::UnitInput;
use defi_shared::tables::{RAW_POSITIONS, RawPosition, STAGE_POSITIONS, StagedPosition};
use defi_shared::testing::{AAVE, COMPOUND, TestLake, address, january, kind, raw_position, unit};
use defi_shared::{Kind, Result};
use stage_account_positions::handle;

fn position(account: u8, side: &str, balance: &str) -> RawPosition {
    raw_position(AAVE, january(1), address(account), address(9), side, balance)
}

fn day_unit() -> WorkUnit {
    unit(AAVE, january(1))
}

async fn test_lake(rows: Vec<RawPosition>) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    test_lake.put(&RAW_POSITIONS, &day_unit(), rows).await?;
    Ok(test_lake)
}

async fn staged(test_lake: &TestLake) -> Result<Vec<StagedPosition>> {
    test_lake.rows(&STAGE_POSITIONS, &day_unit()).await
}

#[tokio::test]
async fn maps_both_supply_sides_to_lender_and_counts_null_flags() -> Result<()> {
    let without_flag = RawPosition { is_collateral: None, ..position(2, "COLLATERAL", "5") };
    let test_lake = test_lake(vec![position(3, "BORROWER", "5"), without_flag, position(1, "LENDER", "5")]).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.rows_out, report.supply_positions, report.null_is_collateral), (3, 2, 1));
    let rows = staged(&test_lake).await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.account_address, row.side.name(), row.is_collateral)).collect();
    let expected = [(1, "LENDER", Some(true)), (2, "LENDER", None), (3, "BORROWER", Some(false))];
    assert_eq!(rows, expected.map(|(account, side, flag)| (address(account), side, flag)));
    let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
    assert_eq!(
        [&metadata["supply_positions"], &metadata["null_is_collateral"], &metadata["rejected"]],
        ["2", "1", "0"]
    );
    Ok(())
}

#[tokio::test]
async fn invalid_rows_are_quarantined_with_their_reason() -> Result<()> {
    let malformed = RawPosition { market_id: Some("nine".into()), ..position(3, "LENDER", "5") };
    let rows = vec![position(1, "LENDER", "-5"), position(1, "STAKER", "5"), position(2, "LENDER", "0"), malformed];
    let test_lake = test_lake(rows).await?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?.rejected(), 4);
    let reasons = ["balance is negative", "side is unknown", "balance is zero", "market_id is malformed"];
    let expected: Vec<_> = (0..).zip(reasons.map(str::to_owned)).collect();
    assert_eq!(test_lake.quarantined(&STAGE_POSITIONS, &day_unit()).await?, expected);
    assert!(staged(&test_lake).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn keeps_first_valid_row_per_key_and_follows_raw_changes() -> Result<()> {
    let test_lake =
        test_lake(vec![position(1, "LENDER", "x"), position(1, "LENDER", "5"), position(1, "LENDER", "7")]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!(staged(&test_lake).await?.iter().map(|row| row.balance.0).collect::<Vec<_>>(), [5]);
    test_lake.put(&RAW_POSITIONS, &day_unit(), vec![position(1, "LENDER", "7")]).await?;
    handle(test_lake.context(), UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() }).await?;
    assert_eq!(staged(&test_lake).await?.iter().map(|row| row.balance.0).collect::<Vec<_>>(), [7]);
    assert!(test_lake.objects("quarantine/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn empty_snapshot_stays_marked_as_closed() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let metadata = [("closed", "true"), ("repeats", "0")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    test_lake.context.commit(&RAW_POSITIONS, &day_unit(), Vec::<RawPosition>::new(), metadata.into()).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
    assert_eq!((metadata.get("closed").map(String::as_str), metadata.get("repeats")), (Some("true"), None));
    Ok(())
}

#[tokio::test]
async fn missing_raw_day_is_not_ready_and_bad_protocol_is_rejected() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let input = |protocol: &str| UnitInput {
        days: Some(vec![january(1)]),
        protocols: Some(vec![protocol.to_owned()]),
        ..UnitInput::default()
    };
    assert_eq!(kind(handle(test_lake.context(), input(AAVE)).await), Some(Kind::NotReady));
    assert_eq!(kind(handle(test_lake.context(), input(COMPOUND)).await), Some(Kind::BadInput));
    assert!(test_lake.objects("stage/").await?.is_empty());
    Ok(())
}
