//! The step over raw events of one day in a lake.

use defi_shared::domain::Category;
use defi_shared::lake::Unit;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{RAW_LIQUIDATIONS, RAW_REPAYS, RawEvent, STAGE_LIQUIDATIONS, STAGE_REPAYS, StagedEvent};
use defi_shared::testing::{AAVE, Lab, address, january, kind, raw_event};
use defi_shared::{Kind, Result};
use stage_events::handle;

const SECOND_OF_KEY: &str = "another valid row with the same key came first";

fn unit() -> Unit {
    Unit::Day(january(1))
}

fn repay(second: i64, log_index: i64) -> RawEvent {
    raw_event(Category::Repay, january(1).start() + second, log_index)
}

fn quantity(event: RawEvent, quantity: &str) -> RawEvent {
    RawEvent { quantity: Some(quantity.into()), ..event }
}

/// A lab on 2 January with these repayments of 1 January.
async fn lab(rows: Vec<RawEvent>) -> Result<Lab> {
    let lab = Lab::new(&[AAVE], january(2))?;
    lab.put(&RAW_REPAYS, &unit(), rows).await?;
    Ok(lab)
}

async fn staged(lab: &Lab) -> Result<Vec<StagedEvent>> {
    lab.rows(&STAGE_REPAYS, &unit()).await
}

#[tokio::test]
async fn bad_rows_go_to_quarantine_with_their_reason_and_are_counted() -> Result<()> {
    let unknown = RawEvent { contract_version: Some("v9".into()), ..repay(3, 0) };
    let lab = lab(vec![quantity(repay(1, 0), "1.5"), repay(2, 0), unknown, quantity(repay(4, 0), "-7")]).await?;
    let report = handle(lab.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out, report.rejected()), (1, 4, 1, 3));
    let reasons = [(0, "quantity is not an integer"), (2, "protocol is unknown"), (3, "quantity is negative")];
    let wanted: Vec<_> = reasons.iter().map(|(row, reason)| (*row, (*reason).to_owned())).collect();
    assert_eq!(lab.quarantined(&STAGE_REPAYS, &unit()).await?, wanted);
    assert!(reasons.iter().all(|(_, reason)| report.rejected[*reason] == 1));
    let facts = lab.facts(&STAGE_REPAYS, &unit()).await?;
    assert_eq!([&facts["rows_in"], &facts["rejected"]], ["4", "3"]);
    Ok(())
}

#[tokio::test]
async fn the_first_valid_row_of_a_key_counts() -> Result<()> {
    let rows = ["bad", "5", "7", "5"].map(|text| quantity(repay(1, 0), text));
    let lab = lab(rows.into()).await?;
    handle(lab.context(), UnitInput::default()).await?;
    let quantities: Vec<_> = staged(&lab).await?.iter().map(|event| event.quantity.0).collect();
    assert_eq!(quantities, [5]);
    let reasons = [(0, "quantity is not an integer"), (2, SECOND_OF_KEY), (3, SECOND_OF_KEY)];
    assert_eq!(lab.quarantined(&STAGE_REPAYS, &unit()).await?, reasons.map(|(row, reason)| (row, reason.to_owned())));
    Ok(())
}

#[tokio::test]
async fn rows_are_sorted_by_sender_then_key() -> Result<()> {
    let of = |event, sender| RawEvent { sender_address: Some(address(sender).to_string().into()), ..event };
    let lab = lab(vec![of(repay(1, 0), 7), of(repay(2, 11), 3), of(repay(2, 2), 3)]).await?;
    handle(lab.context(), UnitInput::default()).await?;
    let keys: Vec<_> = staged(&lab).await?.iter().map(|event| (event.sender_address, event.log_index)).collect();
    assert_eq!(keys, [(address(3), 2), (address(3), 11), (address(7), 0)]);
    Ok(())
}

#[tokio::test]
async fn a_row_that_is_bad_no_more_leaves_quarantine() -> Result<()> {
    let lab = lab(vec![quantity(repay(1, 0), "bad"), repay(2, 0)]).await?;
    handle(lab.context(), UnitInput::default()).await?;
    assert_eq!(lab.quarantined(&STAGE_REPAYS, &unit()).await?.len(), 1);
    lab.put(&RAW_REPAYS, &unit(), vec![repay(1, 0), repay(2, 0)]).await?;
    assert_eq!(handle(lab.context(), UnitInput::default()).await?, Report::default(), "the unit is there");
    let again = UnitInput { events: Some(vec![Category::Repay]), days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(handle(lab.context(), again).await?.rejected(), 0);
    assert_eq!(staged(&lab).await?.len(), 2);
    assert!(lab.objects("quarantine/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_liquidation_keeps_both_of_its_tokens() -> Result<()> {
    let lab = Lab::new(&[AAVE], january(2))?;
    let whole = raw_event(Category::Liquidation, january(1).start(), 0);
    let half = RawEvent { liquidated_token_address: None, log_index: Some("1".into()), ..whole.clone() };
    lab.put(&RAW_LIQUIDATIONS, &unit(), vec![whole, half]).await?;
    handle(lab.context(), UnitInput::default()).await?;
    let rows: Vec<StagedEvent> = lab.rows(&STAGE_LIQUIDATIONS, &unit()).await?;
    assert_eq!(rows.iter().map(|row| row.liquidated_token_address).collect::<Vec<_>>(), [Some(address(0x0d))]);
    let quarantined = lab.quarantined(&STAGE_LIQUIDATIONS, &unit()).await?;
    assert_eq!(quarantined, [(1, "liquidated_token_address is missing".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_day_that_is_not_extracted_is_not_ready() -> Result<()> {
    let lab = Lab::new(&[AAVE], january(2))?;
    let input = UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(kind(handle(lab.context(), input).await), Some(Kind::NotReady));
    assert_eq!(handle(lab.context(), UnitInput::default()).await?, Report::default(), "nothing is there to stage");
    assert!(lab.objects("stage/").await?.is_empty());
    Ok(())
}
