//! Runs the step against a test server that serves a chain of blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use defi_shared::domain::Day;
use defi_shared::lake::WorkUnit;
use defi_shared::step::{Deadline, Remaining, Report, RunId, UnitInput};
use defi_shared::tables::{DAILY_BLOCKS, DailyBlock};
use defi_shared::testing::{AAVE, KEY, Server, TestLake, daily_block, first_block, january, kind, results};
use defi_shared::{Kind, Result};
use extract_daily_blocks::handle;
use serde_json::{Value, json};

fn block(day: Day, number: i64) -> Value {
    json!([{"block_number": number, "timestamp": format!("{day}T00:00:11Z"), "block_hash": format!("0x{number}")}])
}

/// Starts a server with a chain that has a first block for every day. The newest block is `depth` blocks after the
/// first block of `today`; the returned value changes the depth.
async fn chain(today: Day, depth: i64) -> Result<(Server, Arc<AtomicI64>)> {
    let depth = Arc::new(AtomicI64::new(depth));
    let head = Arc::clone(&depth);
    let server = Server::start(move |request| match request.literal("timestamp >= ").get(..10) {
        None => results(block(today, first_block(today) + head.load(Ordering::Relaxed))),
        Some(day) => results(day.parse().map_or(Value::Null, |day: Day| block(day, first_block(day)))),
    });
    Ok((server.await?, depth))
}

#[tokio::test]
async fn writes_the_first_block_of_each_missing_day() -> Result<()> {
    let (server, _) = chain(january(3), 64).await?;
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_sources(&server)?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out, report.traffic.requests), (3, 3, 4));
    for day in january(1).through(january(3)) {
        let expected = DailyBlock { block_hash: Some(format!("0x{}", first_block(day)).into()), ..daily_block(day) };
        assert_eq!(test_lake.rows::<DailyBlock>(&DAILY_BLOCKS, &WorkUnit::Day(day)).await?, [expected]);
    }
    assert!(server.requests().iter().all(|request| request.path == "/sql" && request.header("x-api-key") == KEY));
    Ok(())
}

#[tokio::test]
async fn second_run_sends_no_requests_and_changes_no_byte() -> Result<()> {
    let (server, _) = chain(january(3), 64).await?;
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_sources(&server)?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let (request_count, lake) = (server.requests().len(), test_lake.objects("").await?);
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?, Report::default());
    assert_eq!(server.requests().len(), request_count);
    let forced = handle(test_lake.context(), UnitInput { force: true, ..UnitInput::default() }).await?;
    assert_eq!((forced.objects_unchanged, forced.objects_written), (3, 0));
    assert_eq!(test_lake.objects("").await?, lake);
    Ok(())
}

#[tokio::test]
async fn block_is_written_only_once_it_is_final() -> Result<()> {
    let (server, depth) = chain(january(3), 63).await?;
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_sources(&server)?;
    let third = WorkUnit::Day(january(3));
    assert_eq!(kind(handle(test_lake.context(), UnitInput::default()).await), Some(Kind::NotReady));
    assert!(!test_lake.context.lake.units(&DAILY_BLOCKS).await?.contains(&third));
    depth.store(64, Ordering::Relaxed);
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert!(report.units >= 1 && test_lake.context.lake.units(&DAILY_BLOCKS).await?.contains(&third));
    Ok(())
}

#[tokio::test]
async fn day_without_a_block_is_not_ready() -> Result<()> {
    // The source has no block of the day, or only blocks of later days.
    for response in [json!([]), block(january(2), first_block(january(2)))] {
        let server = Server::start(move |request| match request.literal("timestamp >= ") {
            "" => results(block(january(2), first_block(january(2)) + 64)),
            _ => results(response.clone()),
        });
        let server = server.await?;
        let test_lake = TestLake::new(&[AAVE], january(1))?.with_sources(&server)?;
        assert_eq!(kind(handle(test_lake.context(), UnitInput::default()).await), Some(Kind::NotReady));
        assert!(test_lake.objects("raw/").await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn report_lists_units_that_remain_at_the_deadline() -> Result<()> {
    let (server, _) = chain(january(3), 64).await?;
    let mut test_lake = TestLake::new(&[AAVE], january(3))?.with_sources(&server)?;
    test_lake.context.deadline = Some(Deadline::from_remaining_time(Duration::from_secs(20)));
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.remaining.count), (0, 3));
    assert_eq!(report.remaining.first, ["2023-01-01", "2023-01-02", "2023-01-03"]);
    assert!(test_lake.objects("raw/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn resumed_call_is_added_to_the_run_report() -> Result<()> {
    let (server, _) = chain(january(3), 64).await?;
    let test_lake = TestLake::new(&[AAVE], january(3))?.with_sources(&server)?;
    let run: RunId = "2023-01-03-a".parse()?;
    let days = Some([1, 2, 3].map(january).into());
    let call = |resume| UnitInput { days: days.clone(), resume, run_id: Some(run.clone()), ..UnitInput::default() };
    let mut near = test_lake.context();
    near.deadline = Some(Deadline::from_remaining_time(Duration::from_secs(20)));
    let first = handle(near, call(None)).await?;
    assert_eq!((first.units, first.remaining.count), (0, 3));
    let done = Remaining { count: 1, first: vec!["2023-01-02".to_owned()], ..Remaining::default() };
    assert_eq!(handle(test_lake.context(), call(Some(done))).await?.units, 1);
    let rest = ["2023-01-03", "2023-01-01"].map(str::to_owned).into();
    let rest = Remaining { count: 2, first: rest, ..Remaining::default() };
    assert_eq!(handle(test_lake.context(), call(Some(rest))).await?.units, 2);
    let scope = test_lake.context.scope(None, None, false)?;
    let run_report = test_lake.context.run_report(&run, &scope).await?;
    assert_eq!(run_report.gaps.positions[AAVE], [1, 2, 3].map(january), "the days have no snapshots");
    let steps: Vec<_> = run_report.steps.iter().map(|step| (step.step.name(), step.report.units)).collect();
    assert_eq!(steps, [("extract-daily-blocks", 3)], "no unit counts twice");
    assert_eq!(run_report.steps[0].report.remaining.count, 0);
    test_lake.context.delete_reports(&run).await?;
    assert!(test_lake.context.run_report(&run, &scope).await?.steps.is_empty());
    Ok(())
}
