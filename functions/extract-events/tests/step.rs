//! The step against a server on loopback that has events of two protocols.

use std::sync::Arc;

use defi_shared::domain::Category;
use defi_shared::lake::Unit;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, RAW_BORROWS, RawEvent};
use defi_shared::testing::{AAVE, COMPOUND, Lab, Server, daily_block, january, kind, results};
use defi_shared::{Kind, Result};
use extract_events::handle;
use serde_json::{Value, json};

/// An event of 1 January with a hash of one byte.
fn event(hash: &str, second: u8, log_index: i64, quantity: &str) -> Value {
    json!({
        "transaction_hash": format!("0x{}", hash.repeat(32)), "timestamp": format!("2023-01-01T00:00:{second:02}Z"),
        "log_index": log_index, "quantity": quantity,
    })
}

/// A source with these borrows of Aave and of Compound, and no other events.
async fn source(aave: Value, compound: Value) -> Result<Server> {
    Server::start(move |request| match (request.literal("category = "), request.literal("protocol_name = ")) {
        ("borrow", "aave") => results(aave.clone()),
        ("borrow", "compound") => results(compound.clone()),
        _ => results(json!([])),
    })
    .await
}

/// A lab on 2 January, whose first block is there: 1 January is final.
async fn lab(server: &Server) -> Result<Lab> {
    let lab = Lab::new(&[AAVE, COMPOUND], january(2))?.with_sources(server)?;
    lab.put(&DAILY_BLOCKS, &Unit::Day(january(2)), vec![daily_block(january(2))]).await?;
    Ok(lab)
}

async fn borrows(lab: &Lab) -> Result<Vec<RawEvent>> {
    lab.rows(&RAW_BORROWS, &Unit::Day(january(1))).await
}

fn only_borrows() -> UnitInput {
    UnitInput { events: Some(vec![Category::Borrow]), ..UnitInput::default() }
}

#[tokio::test]
async fn rows_of_both_protocols_lie_in_one_object_sorted_by_key() -> Result<()> {
    // Any case alike, and numbers as numbers.
    let aave = json!([event("BB", 1, 10, "1"), event("bb", 2, 9, "2")]);
    let server = source(aave, json!([event("AA", 30, 1, "3")])).await?;
    let lab = lab(&server).await?;
    let report = handle(lab.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out), (5, 3, 3));
    let quantities: Vec<_> = borrows(&lab).await?.into_iter().filter_map(|row| row.quantity).collect();
    assert_eq!(quantities, ["3", "2", "1"].map(Into::into));
    let spans = server.requests();
    let mut spans = spans.iter().map(|request| (request.literal("timestamp >= "), request.literal("timestamp < ")));
    assert!(spans.all(|span| span == ("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z")), "the day, and no second more");
    Ok(())
}

#[tokio::test]
async fn exact_repeats_go_and_the_order_of_delivery_within_a_key_stays() -> Result<()> {
    let aave = json!([event("aa", 1, 1, "5"), event("aa", 1, 1, "5"), event("aa", 1, 1, "7"), event("aa", 1, 1, "3")]);
    // The same event once more, from the other protocol's answer.
    let server = source(aave, json!([event("aa", 1, 1, "7")])).await?;
    let lab = lab(&server).await?;
    let report = handle(lab.context(), only_borrows()).await?;
    assert_eq!((report.rows_in, report.repeats, report.rows_out), (5, 2, 3));
    let quantities: Vec<_> = borrows(&lab).await?.into_iter().filter_map(|row| row.quantity).collect();
    assert_eq!(quantities, ["5", "7", "3"].map(Into::into));
    assert_eq!(lab.facts(&RAW_BORROWS, &Unit::Day(january(1))).await?["repeats"], "2");
    Ok(())
}

#[tokio::test]
async fn odd_values_are_kept_as_the_text_that_came() -> Result<()> {
    let uint256 = "9".repeat(78);
    let odd = json!([{
        "transaction_hash": "not a hash", "timestamp": "2023-01-01T00:00:01Z", "log_index": "2", "quantity": uint256,
        "block_number": -5, "sender_address": "", "token_id": true, "metadata": {"a": [1, "b c"]}, "unknown": 1,
    }]);
    let server = source(odd, json!([])).await?;
    let lab = lab(&server).await?;
    handle(lab.context(), only_borrows()).await?;
    let row = borrows(&lab).await?.remove(0);
    let texts = [&row.transaction_hash, &row.log_index, &row.quantity, &row.block_number, &row.sender_address];
    assert_eq!(
        texts.map(|text| text.as_deref()),
        [Some("not a hash"), Some("2"), Some(&*uint256), Some("-5"), Some("")]
    );
    let texts = [&row.token_id, &row.metadata, &row.category];
    assert_eq!(texts.map(|text| text.as_deref()), [Some("true"), Some(r#"{"a":[1,"b c"]}"#), None]);
    Ok(())
}

#[tokio::test]
async fn a_day_that_is_not_final_is_not_asked_for() -> Result<()> {
    let server = source(json!([event("aa", 1, 1, "1")]), json!([])).await?;
    let lab = Lab::new(&[AAVE], january(2))?.with_sources(&server)?;
    lab.put(&DAILY_BLOCKS, &Unit::Day(january(1)), vec![daily_block(january(1))]).await?;
    assert_eq!(kind(handle(lab.context(), only_borrows()).await), Some(Kind::NotReady));
    assert!(
        server.requests().is_empty() && !lab.context.lake.units(&RAW_BORROWS).await?.contains(&Unit::Day(january(1)))
    );
    Ok(())
}

#[tokio::test]
async fn a_day_without_events_is_an_empty_object_and_done() -> Result<()> {
    let server = source(json!([]), json!([])).await?;
    let lab = lab(&server).await?;
    let report = handle(lab.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out, report.objects_written), (5, 0, 5));
    assert!(borrows(&lab).await?.is_empty());
    let asked = server.requests().len();
    assert_eq!(handle(lab.context(), UnitInput::default()).await?, Report::default());
    assert_eq!(server.requests().len(), asked, "it is known to be empty");
    Ok(())
}

#[tokio::test]
async fn a_protocol_that_begins_later_is_not_asked_for() -> Result<()> {
    let server = source(json!([]), json!([event("aa", 1, 1, "1")])).await?;
    let mut lab = lab(&server).await?;
    for protocol in &mut Arc::make_mut(&mut lab.context.config).protocols {
        protocol.first_day = if protocol.name == COMPOUND { january(2) } else { january(1) };
    }
    handle(lab.context(), only_borrows()).await?;
    assert!(borrows(&lab).await?.is_empty());
    assert!(server.requests().iter().all(|request| request.literal("protocol_name = ") == "aave"));
    Ok(())
}

#[tokio::test]
async fn an_account_out_of_credits_ends_the_step() -> Result<()> {
    let server = Server::start(|_| (403, json!({"status": "error", "message": "You are out of credits"}))).await?;
    let lab = lab(&server).await?;
    assert_eq!(kind(handle(lab.context(), only_borrows()).await), Some(Kind::QuotaExceeded));
    assert_eq!(server.requests().len(), 1, "and is not asked again");
    Ok(())
}

#[tokio::test]
async fn a_day_before_the_runs_first_is_refused_and_its_object_stays() -> Result<()> {
    let server = source(json!([event("aa", 1, 1, "1")]), json!([])).await?;
    let lab = lab(&server).await?;
    handle(lab.context(), only_borrows()).await?;
    let from = UnitInput { from: Some(january(2)), days: Some(vec![january(1)]), ..only_borrows() };
    assert_eq!(kind(handle(lab.context(), from).await), Some(Kind::BadInput));
    assert_eq!(borrows(&lab).await?.len(), 1, "no protocol has begun by then, which is not the same as no events");
    Ok(())
}
