//! Runs the step over the raw events of one day.

use defi_shared::domain::Category;
use defi_shared::lake::WorkUnit;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{
    self, Layer, RAW_BORROWS, RAW_REPAYS, RawEvent, STAGE_LIQUIDATIONS, STAGE_REPAYS, StagedEvent,
};
use defi_shared::testing::{AAVE, TestLake, address, january, kind, raw_event};
use defi_shared::{Kind, Result};
use stage_events::handle;

const DUPLICATE_KEY: &str = "another valid row with the same key came first";

fn unit() -> WorkUnit {
    WorkUnit::Day(january(1))
}

fn repay(second: i64, log_index: i64) -> RawEvent {
    raw_event(Category::Repay, january(1).start() + second, log_index)
}

fn with_quantity(event: RawEvent, quantity: &str) -> RawEvent {
    RawEvent { quantity: Some(quantity.into()), ..event }
}

/// Creates a test lake on 2 January with these events of 1 January, and no event of the preceding categories.
async fn lake_of(category: Category, rows: Vec<RawEvent>) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    for category in category.predecessors() {
        test_lake.put(tables::event_table(Layer::Raw, category), &unit(), Vec::<RawEvent>::new()).await?;
    }
    test_lake.put(tables::event_table(Layer::Raw, category), &unit(), rows).await?;
    Ok(test_lake)
}

/// Creates a test lake as [`lake_of`] does, of repayments.
async fn test_lake(rows: Vec<RawEvent>) -> Result<TestLake> {
    lake_of(Category::Repay, rows).await
}

async fn staged(test_lake: &TestLake) -> Result<Vec<StagedEvent>> {
    test_lake.rows(&STAGE_REPAYS, &unit()).await
}

/// Selects one category of 1 January.
fn only(category: Category) -> UnitInput {
    UnitInput { events: Some(vec![category]), days: Some(vec![january(1)]), ..UnitInput::default() }
}

#[tokio::test]
async fn invalid_rows_are_quarantined_and_counted() -> Result<()> {
    let unknown = RawEvent { contract_version: Some("v9".into()), ..repay(3, 0) };
    let test_lake =
        test_lake(vec![with_quantity(repay(1, 0), "1.5"), repay(2, 0), unknown, with_quantity(repay(4, 0), "-7")])
            .await?;
    let report = handle(test_lake.context(), only(Category::Repay)).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out, report.rejected()), (1, 4, 1, 3));
    let reasons = [(0, "quantity is not an integer"), (2, "protocol is unknown"), (3, "quantity is negative")];
    let expected: Vec<_> = reasons.iter().map(|(row, reason)| (*row, (*reason).to_owned())).collect();
    assert_eq!(test_lake.quarantined(&STAGE_REPAYS, &unit()).await?, expected);
    assert!(reasons.iter().all(|(_, reason)| report.rejected[*reason] == 1));
    let metadata = test_lake.file_metadata(&STAGE_REPAYS, &unit()).await?;
    assert_eq!([&metadata["rows_in"], &metadata["rejected"]], ["4", "3"]);
    let of_protocol = [format!("rows_in.{AAVE}"), format!("rejected.{AAVE}")].map(|name| metadata[&name].clone());
    assert_eq!(of_protocol, ["3", "2"], "for the quality checks; the row of v9 is of no known protocol");
    Ok(())
}

#[tokio::test]
async fn keeps_the_first_valid_row_of_a_key() -> Result<()> {
    let rows = ["bad", "5", "7", "5"].map(|value| with_quantity(repay(1, 0), value));
    let test_lake = test_lake(rows.into()).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let quantities: Vec<_> = staged(&test_lake).await?.iter().map(|event| event.quantity.0).collect();
    assert_eq!(quantities, [5]);
    let reasons = [(0, "quantity is not an integer"), (2, DUPLICATE_KEY), (3, DUPLICATE_KEY)];
    assert_eq!(
        test_lake.quarantined(&STAGE_REPAYS, &unit()).await?,
        reasons.map(|(row, reason)| (row, reason.to_owned()))
    );
    Ok(())
}

#[tokio::test]
async fn rows_are_sorted_by_sender_then_key() -> Result<()> {
    let with_sender = |event, sender| RawEvent { sender_address: Some(address(sender).to_string().into()), ..event };
    let test_lake =
        test_lake(vec![with_sender(repay(1, 0), 7), with_sender(repay(2, 11), 3), with_sender(repay(2, 2), 3)]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let keys: Vec<_> = staged(&test_lake).await?.iter().map(|event| (event.sender_address, event.log_index)).collect();
    assert_eq!(keys, [(address(3), 2), (address(3), 11), (address(7), 0)]);
    Ok(())
}

#[tokio::test]
async fn row_that_becomes_valid_leaves_quarantine() -> Result<()> {
    let test_lake = test_lake(vec![with_quantity(repay(1, 0), "bad"), repay(2, 0)]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!(test_lake.quarantined(&STAGE_REPAYS, &unit()).await?.len(), 1);
    test_lake.put(&RAW_REPAYS, &unit(), vec![repay(1, 0), repay(2, 0)]).await?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default(), "the unit exists");
    assert_eq!(handle(test_lake.context(), only(Category::Repay)).await?.rejected(), 0);
    assert_eq!(staged(&test_lake).await?.len(), 2);
    assert!(test_lake.objects("quarantine/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn liquidation_requires_both_of_its_tokens() -> Result<()> {
    let complete = raw_event(Category::Liquidation, january(1).start(), 0);
    let incomplete = RawEvent { liquidated_token_address: None, log_index: Some("1".into()), ..complete.clone() };
    let test_lake = lake_of(Category::Liquidation, vec![complete, incomplete]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let rows: Vec<StagedEvent> = test_lake.rows(&STAGE_LIQUIDATIONS, &unit()).await?;
    assert_eq!(rows.iter().map(|row| row.liquidated_token_address).collect::<Vec<_>>(), [Some(address(0x0d))]);
    let quarantined = test_lake.quarantined(&STAGE_LIQUIDATIONS, &unit()).await?;
    assert_eq!(quarantined, [(1, "liquidated_token_address is missing".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn missing_raw_day_is_not_ready() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    let input = UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::NotReady));
    assert_eq!(
        handle(test_lake.context(), UnitInput::default()).await?,
        Report::default(),
        "there is nothing to stage"
    );
    assert!(test_lake.objects("stage/").await?.is_empty());
    Ok(())
}

/// One log in every category, with a deposit that is not valid, and the transaction hash of the borrow in capitals.
async fn one_log_in_every_category() -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    for category in Category::ALL {
        let event = raw_event(category, january(1).start(), 7);
        let event = match category {
            Category::Deposit => with_quantity(event, "-1"),
            Category::Borrow => RawEvent {
                transaction_hash: event.transaction_hash.map(|hash| hash.to_uppercase().replacen("0X", "0x", 1).into()),
                ..event
            },
            _ => event,
        };
        let other = raw_event(category, january(1).start() + 1 + category as i64, 7);
        test_lake.put(tables::event_table(Layer::Raw, category), &unit(), vec![event, other]).await?;
    }
    Ok(test_lake)
}

#[tokio::test]
async fn a_log_counts_once_in_whatever_order_categories_are_staged() -> Result<()> {
    let at_once = one_log_in_every_category().await?;
    let report = handle(at_once.context(), UnitInput::default()).await?;
    let in_borrows = format!("{DUPLICATE_KEY} in borrows");
    assert_eq!((report.units, report.rows_in, report.rows_out, report.rejected[&in_borrows]), (5, 10, 6, 3));
    let log_count = async |category| -> Result<usize> {
        let rows: Vec<StagedEvent> = at_once.rows(tables::event_table(Layer::Stage, category), &unit()).await?;
        Ok(rows.iter().filter(|event| event.epoch_timestamp == january(1).start()).count())
    };
    for (category, count) in [(Category::Borrow, 1), (Category::Repay, 0), (Category::Withdraw, 0)] {
        assert_eq!(log_count(category).await?, count, "{category}");
    }
    assert_eq!(at_once.quarantined(&STAGE_LIQUIDATIONS, &unit()).await?, [(0, in_borrows)]);

    let one_by_one = one_log_in_every_category().await?;
    for category in Category::PRECEDENCE.into_iter().rev() {
        handle(one_by_one.context(), only(category)).await?;
    }
    for prefix in ["stage/", "quarantine/"] {
        assert_eq!(one_by_one.objects(prefix).await?, at_once.objects(prefix).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_preceding_category_that_is_not_extracted_is_not_ready() -> Result<()> {
    let test_lake = test_lake(vec![repay(1, 0)]).await?;
    test_lake.context.lake.store().delete(&unit().key(&RAW_BORROWS)).await?;
    assert_eq!(kind(handle(test_lake.context(), only(Category::Repay)).await), Some(Kind::NotReady));
    assert_eq!(handle(test_lake.context(), only(Category::Deposit)).await?.units, 1, "deposits precede borrows");
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!(report, Report::default(), "nothing is planned that is not ready");
    Ok(())
}
