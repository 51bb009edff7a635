//! Runs the step over the raw markets of one day.

use defi_shared::lake::WorkUnit;
use defi_shared::step::UnitInput;
use defi_shared::tables::{RAW_MARKETS, RawMarket, STAGE_MARKETS, StagedMarket};
use defi_shared::testing::WETH;
use defi_shared::testing::{AAVE, COMPOUND, TestLake, address, january, kind, raw_market, staged_market, unit};
use defi_shared::{Kind, Result};
use stage_market_data::handle;

fn market(id: u8, price_usd: &str) -> RawMarket {
    raw_market(AAVE, january(1), address(id), WETH, price_usd)
}

fn day_unit() -> WorkUnit {
    unit(AAVE, january(1))
}

async fn test_lake(rows: Vec<RawMarket>) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(1))?;
    test_lake.put(&RAW_MARKETS, &day_unit(), rows).await?;
    Ok(test_lake)
}

#[tokio::test]
async fn markets_are_typed_and_sorted() -> Result<()> {
    let upper = RawMarket { id: Some(format!("0x{}", "AB".repeat(20)).into()), ..market(0, "0.5") };
    let test_lake = test_lake(vec![upper, market(2, "1200.25")]).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out), (1, 2, 2), "the raw day of Compound is missing");
    let expected = [(2, 1200.25), (0xab, 0.5)].map(|(id, usd)| staged_market(AAVE, january(1), address(id), WETH, usd));
    assert_eq!(test_lake.rows::<StagedMarket>(&STAGE_MARKETS, &day_unit()).await?, expected);
    Ok(())
}

#[tokio::test]
async fn missing_values_are_valid_but_a_missing_token_is_not() -> Result<()> {
    let without_values =
        RawMarket { maximum_ltv: None, liquidation_threshold: None, input_token_price_usd: None, ..market(1, "") };
    let without_token = RawMarket { input_token_id: None, ..market(2, "1") };
    let without_decimals = RawMarket { input_token_decimals: Some("78".into()), ..market(3, "1") };
    let test_lake = test_lake(vec![without_values, without_token, without_decimals]).await?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?.rejected(), 2);
    let row = test_lake.rows::<StagedMarket>(&STAGE_MARKETS, &day_unit()).await?.remove(0);
    assert_eq!((row.maximum_ltv, row.liquidation_threshold, row.input_token_price_usd), (0.0, 0.0, None));
    let reasons = [(1, "input_token_id is missing"), (2, "input_token_decimals is not from 0 to 77")];
    let expected = reasons.map(|(row, reason)| (row, reason.to_owned()));
    assert_eq!(test_lake.quarantined(&STAGE_MARKETS, &day_unit()).await?, expected);
    Ok(())
}

#[tokio::test]
async fn keeps_first_valid_row_per_key_and_follows_raw_changes() -> Result<()> {
    let invalid = RawMarket { input_token_decimals: None, ..market(1, "1") };
    let test_lake = test_lake(vec![invalid, market(1, "2"), market(1, "3")]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let prices = async || -> Result<Vec<_>> {
        let rows: Vec<StagedMarket> = test_lake.rows(&STAGE_MARKETS, &day_unit()).await?;
        Ok(rows.iter().map(|row| row.input_token_price_usd).collect())
    };
    assert_eq!(
        (prices().await?, test_lake.quarantined(&STAGE_MARKETS, &day_unit()).await?.len()),
        (vec![Some(2.0)], 2)
    );
    test_lake.put(&RAW_MARKETS, &day_unit(), vec![market(1, "4")]).await?;
    handle(test_lake.context(), UnitInput { force: true, ..UnitInput::default() }).await?;
    assert_eq!(prices().await?, [Some(4.0)]);
    assert!(test_lake.objects("quarantine/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn missing_raw_day_is_not_ready() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let input = UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::NotReady));
    assert!(test_lake.objects("stage/").await?.is_empty());
    Ok(())
}
