//! Runs the step against a test server that returns events of two protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use defi_shared::domain::Category;
use defi_shared::lake::WorkUnit;
use defi_shared::step::{Report, RunId, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, RAW_BORROWS, RawEvent};
use defi_shared::testing::{AAVE, COMPOUND, Server, TestLake, daily_block, january, kind, results};
use defi_shared::{Kind, Result};
use extract_events::handle;
use serde_json::{Value, json};

/// Returns an event of 1 January whose transaction hash repeats one byte.
fn event(hash: &str, second: u8, log_index: i64, quantity: &str) -> Value {
    json!({
        "transaction_hash": format!("0x{}", hash.repeat(32)), "timestamp": format!("2023-01-01T00:00:{second:02}Z"),
        "log_index": log_index, "quantity": quantity,
    })
}

/// Starts a server with these borrows of Aave and Compound, and no other events.
async fn server_with_borrows(aave: Value, compound: Value) -> Result<Server> {
    Server::start(move |request| match (request.literal("category = "), request.literal("protocol_name = ")) {
        ("borrow", "aave") => results(aave.clone()),
        ("borrow", "compound") => results(compound.clone()),
        _ => results(json!([])),
    })
    .await
}

/// Creates a test lake on 2 January with the first block of that day, so 1 January is final.
async fn test_lake(server: &Server) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(2))?.with_sources(server)?;
    test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(2)), vec![daily_block(january(2))]).await?;
    Ok(test_lake)
}

async fn borrows(test_lake: &TestLake) -> Result<Vec<RawEvent>> {
    test_lake.rows(&RAW_BORROWS, &WorkUnit::Day(january(1))).await
}

fn only_borrows() -> UnitInput {
    UnitInput { events: Some(vec![Category::Borrow]), ..UnitInput::default() }
}

#[tokio::test]
async fn rows_of_all_protocols_are_in_one_object_sorted_by_key() -> Result<()> {
    // Hashes are sorted case-insensitively, and log indexes numerically.
    let aave = json!([event("BB", 1, 10, "1"), event("bb", 2, 9, "2")]);
    let server = server_with_borrows(aave, json!([event("AA", 30, 1, "3")])).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out), (5, 3, 3));
    let quantities: Vec<_> = borrows(&test_lake).await?.into_iter().filter_map(|row| row.quantity).collect();
    assert_eq!(quantities, ["3", "2", "1"].map(Into::into));
    let requests = server.requests();
    let mut spans = requests.iter().map(|request| (request.literal("timestamp >= "), request.literal("timestamp < ")));
    assert!(
        spans.all(|span| span == ("2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z")),
        "each request covers exactly the day"
    );
    Ok(())
}

#[tokio::test]
async fn removes_duplicates_and_keeps_response_order_within_a_key() -> Result<()> {
    let aave = json!([event("aa", 1, 1, "5"), event("aa", 1, 1, "5"), event("aa", 1, 1, "7"), event("aa", 1, 1, "3")]);
    // The response for the other protocol repeats an event.
    let server = server_with_borrows(aave, json!([event("aa", 1, 1, "7")])).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), only_borrows()).await?;
    assert_eq!((report.rows_in, report.repeats, report.rows_out), (5, 2, 3));
    let quantities: Vec<_> = borrows(&test_lake).await?.into_iter().filter_map(|row| row.quantity).collect();
    assert_eq!(quantities, ["5", "7", "3"].map(Into::into));
    assert_eq!(test_lake.file_metadata(&RAW_BORROWS, &WorkUnit::Day(january(1))).await?["repeats"], "2");
    Ok(())
}

#[tokio::test]
async fn unusual_values_are_stored_unchanged_as_strings() -> Result<()> {
    let uint256 = "9".repeat(78);
    let unusual = json!([{
        "transaction_hash": "not a hash", "timestamp": "2023-01-01T00:00:01Z", "log_index": "2", "quantity": uint256,
        "block_number": -5, "sender_address": "", "token_id": true, "metadata": {"a": [1, "b c"]}, "unknown": 1,
    }]);
    let server = server_with_borrows(unusual, json!([])).await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), only_borrows()).await?;
    let row = borrows(&test_lake).await?.remove(0);
    let values = [&row.transaction_hash, &row.log_index, &row.quantity, &row.block_number, &row.sender_address];
    assert_eq!(
        values.map(|value| value.as_deref()),
        [Some("not a hash"), Some("2"), Some(&*uint256), Some("-5"), Some("")]
    );
    let values = [&row.token_id, &row.metadata, &row.category];
    assert_eq!(values.map(|value| value.as_deref()), [Some("true"), Some(r#"{"a":[1,"b c"]}"#), None]);
    Ok(())
}

#[tokio::test]
async fn day_that_is_not_final_sends_no_requests() -> Result<()> {
    let server = server_with_borrows(json!([event("aa", 1, 1, "1")]), json!([])).await?;
    let test_lake = TestLake::new(&[AAVE], january(2))?.with_sources(&server)?;
    test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(1)), vec![daily_block(january(1))]).await?;
    assert_eq!(kind(handle(test_lake.context(), only_borrows()).await), Some(Kind::NotReady));
    assert!(
        server.requests().is_empty()
            && !test_lake.context.lake.units(&RAW_BORROWS).await?.contains(&WorkUnit::Day(january(1)))
    );
    Ok(())
}

#[tokio::test]
async fn day_without_events_is_a_complete_empty_object() -> Result<()> {
    let server = server_with_borrows(json!([]), json!([])).await?;
    let test_lake = test_lake(&server).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out, report.objects_written), (5, 0, 5));
    assert!(borrows(&test_lake).await?.is_empty());
    let request_count = server.requests().len();
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default());
    assert_eq!(server.requests().len(), request_count, "the empty day is complete");
    Ok(())
}

/// Starts a server that has these numbers of borrows of Aave on 1 and 2 January, and counts them.
async fn server_that_counts(borrows: Arc<AtomicUsize>) -> Result<Server> {
    Server::start(move |request| {
        let is_first_day = request.literal("timestamp >= ") == "2023-01-01T00:00:00Z";
        let is_borrow = request.literal("category = ") == "borrow" && is_first_day;
        let count = if is_borrow { borrows.load(Ordering::Relaxed) } else { 0 };
        if request.sql().starts_with("SELECT COUNT(*)") {
            return results(json!([{"count": count.to_string()}]));
        }
        let count = if request.literal("protocol_name = ") == "aave" { count } else { 0 };
        results((0..count).map(|n| event("aa", 1, n as i64, "1")).collect())
    })
    .await
}

#[tokio::test]
async fn day_to_verify_is_extracted_again_only_if_its_number_of_events_changed() -> Result<()> {
    let borrow_count = Arc::new(AtomicUsize::new(2));
    let server = server_that_counts(Arc::clone(&borrow_count)).await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let (run, extracted) = ("2023-01-02-a".parse::<RunId>()?, server.requests().len());
    let verify = || UnitInput {
        days: Some(vec![]),
        verify: Some(january(1)),
        run_id: Some(run.clone()),
        ..UnitInput::default()
    };
    let report = handle(test_lake.context(), verify()).await?;
    assert_eq!((report.units, report.objects_unchanged, report.traffic.requests), (0, 5, 5), "one count per category");
    assert!(test_lake.context.late_events(&run).await?.is_empty());

    borrow_count.store(3, Ordering::Relaxed);
    let report = handle(test_lake.context(), verify()).await?;
    assert_eq!((report.units, report.rows_out, report.objects_unchanged), (1, 3, 4));
    assert_eq!(borrows(&test_lake).await?.len(), 3);
    let late = [WorkUnit::EventDay(january(1), Category::Borrow)];
    assert_eq!(test_lake.context.late_events(&run).await?, late);
    assert_eq!(handle(test_lake.context(), verify()).await?.units, 0);
    assert_eq!(test_lake.context.late_events(&run).await?, late, "a repeated call keeps the record");
    assert_eq!(server.requests().len(), extracted + 5 + 7 + 5);
    Ok(())
}

#[tokio::test]
async fn protocol_that_starts_later_sends_no_requests() -> Result<()> {
    let server = server_with_borrows(json!([]), json!([event("aa", 1, 1, "1")])).await?;
    let mut test_lake = test_lake(&server).await?;
    for protocol in &mut Arc::make_mut(&mut test_lake.context.config).protocols {
        protocol.first_day = Some(if protocol.name == COMPOUND { january(2) } else { january(1) });
    }
    handle(test_lake.context(), only_borrows()).await?;
    assert!(borrows(&test_lake).await?.is_empty());
    assert!(server.requests().iter().all(|request| request.literal("protocol_name = ") == "aave"));
    Ok(())
}

#[tokio::test]
async fn exhausted_credits_end_the_step_after_one_request() -> Result<()> {
    let server = Server::start(|_| (403, json!({"status": "error", "message": "You are out of credits"}))).await?;
    let test_lake = test_lake(&server).await?;
    assert_eq!(kind(handle(test_lake.context(), only_borrows()).await), Some(Kind::QuotaExceeded));
    assert_eq!(server.requests().len(), 1, "sends no retry");
    Ok(())
}

#[tokio::test]
async fn rejects_days_before_the_first_day_and_keeps_their_objects() -> Result<()> {
    let server = server_with_borrows(json!([event("aa", 1, 1, "1")]), json!([])).await?;
    let test_lake = test_lake(&server).await?;
    handle(test_lake.context(), only_borrows()).await?;
    let input = UnitInput { from: Some(january(2)), days: Some(vec![january(1)]), ..only_borrows() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::BadInput));
    assert_eq!(borrows(&test_lake).await?.len(), 1, "the stored events are not replaced by an empty object");
    Ok(())
}
