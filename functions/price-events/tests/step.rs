//! Runs the step over staged events and markets.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use defi_shared::domain::{Address, BaseUnits, Category, Day, HexBytes};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::step::UnitInput;
use defi_shared::tables::{self, Layer, PricedEvent, Row, STAGE_MARKETS, StagedEvent};
use defi_shared::testing::WETH;
use defi_shared::testing::{
    AAVE, COMPOUND, TestLake, address, january, kind, staged_event, staged_market, unit, whole,
};
use defi_shared::{Kind, Result};
use price_events::handle;

const TOKEN: Address = HexBytes([0x77; 20]);

/// Writes the markets of a protocol on a day: ETH at 1,000 USD, and the token at `token_usd`.
async fn put_markets(test_lake: &TestLake, protocol: &str, day: Day, token_usd: f64) -> Result<()> {
    let market = |market, token, usd| staged_market(protocol, day, address(market), token, usd);
    test_lake
        .put(&STAGE_MARKETS, &unit(protocol, day), vec![market(1, WETH, 1000.0), market(2, TOKEN, token_usd)])
        .await
}

/// Prices the events of one category and day, and returns the rows.
async fn price(
    test_lake: &TestLake,
    category: Category,
    day: Day,
    events: Vec<StagedEvent>,
) -> Result<Vec<PricedEvent>> {
    test_lake.put(tables::event_table(Layer::Stage, category), &WorkUnit::Day(day), events).await?;
    let input = UnitInput { events: Some(vec![category]), days: Some(vec![day]), ..UnitInput::default() };
    handle(test_lake.context(), input).await?;
    test_lake.rows(tables::event_table(Layer::Analytics, category), &WorkUnit::Day(day)).await
}

fn borrow(day: Day, second: i64, token: Address) -> StagedEvent {
    let event = staged_event(Category::Borrow, address(5), address(6), day.start() + second);
    StagedEvent { token_address: token, quantity: whole(4), ..event }
}

#[tokio::test]
async fn events_use_the_price_of_their_own_protocol() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?;
    put_markets(&test_lake, AAVE, january(1), 250.0).await?;
    put_markets(&test_lake, COMPOUND, january(1), 500.0).await?;
    let compound_event = StagedEvent { protocol: COMPOUND.into(), ..borrow(january(1), 2, TOKEN) };
    let rows =
        price(&test_lake, Category::Borrow, january(1), vec![borrow(january(1), 1, TOKEN), compound_event]).await?;
    let prices: Vec<_> =
        rows.iter().map(|row| (row.quantity_eth, row.price_eth, row.price_protocol.as_deref())).collect();
    assert_eq!(prices, [(Some(1.0), Some(0.25), Some(AAVE)), (Some(2.0), Some(0.5), Some(COMPOUND))]);
    let row = &rows[0];
    assert_eq!(
        (row.token_decimals, row.price_day, row.price_market_id),
        (Some(18), Some(january(1)), Some(address(2)))
    );
    assert_eq!((row.liquidation_threshold, row.index_address), (Some(0.8), address(5)));
    Ok(())
}

#[tokio::test]
async fn price_falls_back_to_another_protocol() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?;
    put_markets(&test_lake, AAVE, january(1), 0.0).await?;
    put_markets(&test_lake, COMPOUND, january(1), 500.0).await?;
    let rows = price(&test_lake, Category::Borrow, january(1), vec![borrow(january(1), 1, TOKEN)]).await?;
    assert_eq!((rows[0].price_eth, rows[0].price_protocol.as_deref()), (Some(0.5), Some(COMPOUND)));
    Ok(())
}

#[tokio::test]
async fn price_applies_for_at_most_7_days() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(31))?;
    put_markets(&test_lake, AAVE, january(1), 250.0).await?;
    put_markets(&test_lake, AAVE, january(10), 500.0).await?;
    let price_on =
        async |day: i32| price(&test_lake, Category::Borrow, january(day), vec![borrow(january(day), 1, TOKEN)]).await;
    let [old, unpriced] = [price_on(8).await?.remove(0), price_on(9).await?.remove(0)];
    assert_eq!((old.quantity_eth, old.price_day), (Some(1.0), Some(january(1))));
    assert_eq!(
        (unpriced.quantity_eth, unpriced.price_eth, unpriced.price_day),
        (None, None, None),
        "prices of later days don't apply"
    );
    Ok(())
}

#[tokio::test]
async fn price_of_native_eth_is_always_1() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    let events = vec![borrow(january(1), 1, address(0xee)), borrow(january(1), 2, address(0))];
    let rows = price(&test_lake, Category::Borrow, january(1), events).await?;
    for row in rows {
        assert_eq!((row.quantity_eth, row.price_eth, row.token_decimals), (Some(4.0), Some(1.0), Some(18)));
        assert_eq!((row.price_day, row.price_protocol, row.liquidation_threshold), (None, None, None));
    }
    Ok(())
}

#[tokio::test]
async fn unpriced_events_are_kept_with_null_and_counted() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    put_markets(&test_lake, AAVE, january(1), 250.0).await?;
    let events = vec![borrow(january(1), 1, address(0x99)), borrow(january(1), 2, TOKEN)];
    test_lake.put(&tables::STAGE_BORROWS, &WorkUnit::Day(january(1)), events).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out, report.unpriced), (1, 2, 2, 1));
    let rows: Vec<PricedEvent> = test_lake.rows(&tables::BORROWS, &WorkUnit::Day(january(1))).await?;
    assert_eq!(rows.iter().map(|row| row.quantity_eth).collect::<Vec<_>>(), [None, Some(1.0)]);
    assert_eq!(test_lake.file_metadata(&tables::BORROWS, &WorkUnit::Day(january(1))).await?["unpriced"], "1");
    Ok(())
}

#[tokio::test]
async fn liquidation_counts_seized_token_for_the_account() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    put_markets(&test_lake, AAVE, january(1), 250.0).await?;
    let event = StagedEvent {
        token_address: TOKEN,
        quantity: whole(8),
        liquidated_token_address: Some(WETH),
        quantity_liquidated: Some(BaseUnits(1)),
        ..staged_event(Category::Liquidation, address(5), address(6), january(1).start())
    };
    let row = price(&test_lake, Category::Liquidation, january(1), vec![event]).await?.remove(0);
    assert_eq!((row.index_address, row.quantity_eth, row.price_market_id), (address(6), Some(2.0), Some(address(2))));
    assert_eq!((row.sender_address, row.liquidated_token_address), (address(5), Some(WETH)));
    Ok(())
}

#[tokio::test]
async fn day_without_staged_events_is_not_ready() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    let input = UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::NotReady));
    assert!(test_lake.objects("").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn corrupt_values_are_not_passed_on() -> Result<()> {
    let (category, day) = (Category::Borrow, january(1));
    let (staged, unit) = (tables::event_table(Layer::Stage, category), WorkUnit::Day(day));
    let batch = StagedEvent::encode(&[borrow(day, 1, TOKEN)])?;
    for name in ["sender_address", "account_address", "transaction_hash", "category", "liquidated_token_address"] {
        let test_lake = TestLake::new(&[AAVE], january(2))?;
        put_markets(&test_lake, AAVE, day, 250.0).await?;
        let schema = batch.schema();
        let mut columns = batch.columns().to_vec();
        columns[schema.index_of(name).expect("a column")] = Arc::new(StringArray::from(vec!["0xodd"]));
        let columns = RecordBatch::try_new(schema, columns).expect("a text column");
        let lake = test_lake.context().lake;
        lake.put(lake.encode_columns::<StagedEvent>(staged, &unit, vec![columns], FileMetadata::new()).await?).await?;
        let input = UnitInput { events: Some(vec![category]), days: Some(vec![day]), ..UnitInput::default() };
        let error = handle(test_lake.context(), input).await.expect_err(name);
        assert_eq!(error.kind(), Kind::CorruptData, "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
    Ok(())
}
