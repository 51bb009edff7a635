//! Runs the step over a small feature set and the days that it was built from.

use std::sync::Arc;

use check_features::{Input, handle};
use defi_shared::domain::fold::WalletState;
use defi_shared::domain::{Address, Category, HexBytes, Side, WETH};
use defi_shared::lake::{FeatureSet, WorkUnit};
use defi_shared::step::{CheckResults, Outcome};
use defi_shared::step::{RunId, RunReport};
use defi_shared::tables::{
    BORROWS, FEATURES_BUILD, FEATURES_HISTORY, FeatureRow, STAGE_BORROWS, STAGE_MARKETS, STAGE_POSITIONS, StagedEvent,
};
use defi_shared::testing::{
    AAVE, COMPOUND, TestLake, address, january, kind, priced_event, staged_market, staged_position, unit,
};
use defi_shared::{Error, Kind, Result};

const MARKET: Address = HexBytes([9; 20]);

fn wallet(number: u8) -> FeatureRow {
    let state = WalletState { is_wallet: true, ..WalletState::default() };
    let row = FeatureRow::new(address(number), &state, january(3));
    FeatureRow { total_collateral_eth: 1.0, risk_factor: 0.5, borrow_count: 1, ..row }
}

async fn put_features(test_lake: &TestLake, day: i32, rows: Vec<FeatureRow>) -> Result<()> {
    test_lake.put(&FEATURES_BUILD, &WorkUnit::Shard(january(day), 0), rows).await
}

/// Publishes a set as of a day.
async fn publish(test_lake: &TestLake, day: i32, rows: Vec<FeatureRow>) -> Result<()> {
    test_lake.put(&FEATURES_HISTORY, &WorkUnit::Shard(january(day), 0), rows).await?;
    test_lake.context.registry.point_to(&FeatureSet::published(january(day))).await
}

async fn put_snapshot(test_lake: &TestLake, protocol: &str, day: i32) -> Result<()> {
    let unit = unit(protocol, january(day));
    test_lake.put(&STAGE_MARKETS, &unit, vec![staged_market(protocol, january(day), MARKET, WETH, 1000.0)]).await?;
    let position = |side| staged_position(protocol, january(day), address(1), MARKET, side, 1);
    test_lake.put(&STAGE_POSITIONS, &unit, vec![position(Side::Borrower), position(Side::Lender)]).await
}

/// Creates a test lake on 3 January with a valid set of two wallets.
async fn test_lake() -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(3))?;
    for protocol in [AAVE, COMPOUND] {
        put_snapshot(&test_lake, protocol, 3).await?;
    }
    let event_day = WorkUnit::Day(january(2));
    let borrow = priced_event(Category::Borrow, address(1), address(1), january(2).start(), 1.0);
    test_lake
        .put_with_metadata(&STAGE_BORROWS, &event_day, Vec::<StagedEvent>::new(), [("rows_in", 100), ("rejected", 1)])
        .await?;
    test_lake.put_with_metadata(&BORROWS, &event_day, vec![borrow], [("unpriced", 0)]).await?;
    put_features(&test_lake, 3, vec![wallet(1), wallet(2)]).await?;
    Ok(test_lake)
}

/// Returns the name and outcome of every check that does not pass.
fn failing_checks(output: &CheckResults) -> Vec<(&str, Outcome)> {
    let checks = output.checks.iter().filter(|check| check.outcome != Outcome::Pass);
    checks.map(|check| (check.name.as_str(), check.outcome)).collect()
}

/// Runs the step over a set that must fail, and returns its error.
async fn run_failing(test_lake: &TestLake) -> Result<Option<Error>> {
    let mut before = test_lake.objects("").await?;
    before.remove("state/passed/as_of=2023-01-03.json");
    let error = handle(test_lake.context(), Input::default()).await.err();
    assert!(test_lake.objects("").await? == before, "a failed check changes no object except the record of the check");
    assert_eq!(error.as_ref().map(Error::kind), Some(Kind::QualityFailed));
    Ok(error)
}

async fn assert_fails(test_lake: &TestLake, check: &str) -> Result<()> {
    let message = run_failing(test_lake).await?.map(|error| error.to_string()).unwrap_or_default();
    assert!(message.starts_with(&format!("QualityFailed: {check} is ")), "{message}");
    Ok(())
}

#[tokio::test]
async fn valid_set_passes() -> Result<()> {
    let output = handle(test_lake().await?.context(), Input::default()).await?;
    assert_eq!((output.as_of, output.wallets, output.passed, failing_checks(&output)), (january(3), 2, true, vec![]));
    Ok(())
}

/// Returns the digest on record for the set of 3 January.
async fn recorded_digest(test_lake: &TestLake) -> Result<Option<String>> {
    Ok(test_lake.context.lake.passed_check(january(3)).await?.map(|record| record.digest))
}

#[tokio::test]
async fn digest_of_a_set_that_passed_is_on_record() -> Result<()> {
    let test_lake = test_lake().await?;
    assert_eq!(recorded_digest(&test_lake).await?, None);
    handle(test_lake.context(), Input::default()).await?;
    let (_, digest) = test_lake.context.lake.features(&FeatureSet::build(january(3))).await?;
    assert_eq!(recorded_digest(&test_lake).await?, Some(digest.to_string()));
    put_features(&test_lake, 3, vec![FeatureRow { max_risk_factor: f64::NAN, ..wallet(1) }]).await?;
    assert_fails(&test_lake, "not_finite").await?;
    assert_eq!(recorded_digest(&test_lake).await?, None, "a set that fails has no record");
    Ok(())
}

#[tokio::test]
async fn failed_set_names_its_check_and_is_not_published() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    put_features(&test_lake, 3, vec![wallet(1), FeatureRow { max_risk_factor: f64::NAN, ..wallet(2) }]).await?;
    assert_fails(&test_lake, "not_finite").await?;
    assert_eq!(test_lake.context.registry.newest_published().await?, Some(january(2)));
    Ok(())
}

#[tokio::test]
async fn missing_snapshot_fails() -> Result<()> {
    let test_lake = test_lake().await?;
    test_lake.context.lake.store().delete(&unit(COMPOUND, january(3)).key(&STAGE_POSITIONS)).await?;
    assert_fails(&test_lake, "missing_snapshots").await?;
    assert!(
        run_failing(&test_lake).await?.is_some_and(|error| error.to_string().contains("compound-v2-eth positions"))
    );
    Ok(())
}

#[tokio::test]
async fn empty_snapshot_after_a_day_with_positions_fails() -> Result<()> {
    let test_lake = test_lake().await?;
    test_lake
        .put(&STAGE_POSITIONS, &unit(COMPOUND, january(3)), Vec::<defi_shared::tables::StagedPosition>::new())
        .await?;
    assert_eq!(
        kind(handle(test_lake.context(), Input::default()).await),
        None,
        "without a day before, an empty snapshot is valid"
    );
    put_snapshot(&test_lake, COMPOUND, 2).await?;
    assert_fails(&test_lake, "missing_snapshots").await
}

#[tokio::test]
async fn protocol_that_starts_later_needs_no_snapshot() -> Result<()> {
    let mut test_lake = test_lake().await?;
    for table in [&STAGE_POSITIONS, &STAGE_MARKETS] {
        test_lake.context.lake.store().delete(&unit(COMPOUND, january(3)).key(table)).await?;
    }
    for protocol in &mut Arc::make_mut(&mut test_lake.context.config).protocols {
        protocol.first_day = if protocol.name == COMPOUND { january(4) } else { january(1) };
    }
    assert!(handle(test_lake.context(), Input::default()).await?.passed);
    Ok(())
}

#[tokio::test]
async fn fewer_wallets_than_the_previous_published_set_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 2, vec![wallet(1), wallet(2), wallet(3)]).await?;
    assert!(
        handle(test_lake.context(), Input::default()).await?.passed,
        "an unpublished set does not count as the previous one"
    );
    publish(&test_lake, 2, vec![wallet(1), wallet(2), wallet(3)]).await?;
    assert_fails(&test_lake, "lost_wallets").await
}

#[tokio::test]
async fn shares_cover_the_days_since_the_previous_published_set() -> Result<()> {
    let test_lake = test_lake().await?;
    let no_rows = Vec::<StagedEvent>::new;
    test_lake
        .put_with_metadata(&STAGE_BORROWS, &WorkUnit::Day(january(1)), no_rows(), [("rows_in", 100), ("rejected", 100)])
        .await?;
    assert_fails(&test_lake, "quarantined_share").await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    assert!(
        handle(test_lake.context(), Input::default()).await?.passed,
        "the previous published set already covers the first day"
    );
    test_lake
        .put_with_metadata(&STAGE_BORROWS, &WorkUnit::Day(january(2)), no_rows(), [("rows_in", 100), ("rejected", 2)])
        .await?;
    assert_eq!(
        failing_checks(&handle(test_lake.context(), Input::default()).await?),
        [("quarantined_share", Outcome::Warn)]
    );
    Ok(())
}

#[tokio::test]
async fn borrow_events_without_borrow_counts_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 3, vec![FeatureRow { borrow_count: 0, ..wallet(1) }]).await?;
    assert_fails(&test_lake, "borrow_count_all_zero").await
}

#[tokio::test]
async fn empty_set_warns_and_unbuilt_set_is_not_ready() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 3, vec![]).await?;
    assert_eq!(failing_checks(&handle(test_lake.context(), Input::default()).await?), [("no_wallets", Outcome::Warn)]);
    let earlier = Input { as_of: Some(january(2)), ..Default::default() };
    assert_eq!(kind(handle(test_lake.context(), earlier).await), Some(Kind::NotReady));
    Ok(())
}

#[tokio::test]
async fn results_are_written_to_the_run_whether_passed_or_failed() -> Result<()> {
    let test_lake = test_lake().await?;
    for features in [vec![wallet(1)], vec![FeatureRow { borrow_count: -1, ..wallet(1) }]] {
        put_features(&test_lake, 3, features).await?;
        let run: RunId = "2023-01-03-a".parse()?;
        let passed = handle(test_lake.context(), Input { run_id: Some(run.clone()), ..Input::default() }).await.is_ok();
        let written: Option<CheckResults> = test_lake.context.lake.read_json(&run.key("check-features.json")).await?;
        assert_eq!(written.map(|written| written.passed), Some(passed));
        let report: Option<RunReport> = test_lake.context.lake.read_json(&run.key("report.json")).await?;
        assert_eq!(report.map(|report| report.steps), Some(vec![]));
    }
    Ok(())
}

#[tokio::test]
async fn set_with_a_missing_shard_is_not_ready() -> Result<()> {
    let test_lake = test_lake().await?.with_shards(2);
    assert_eq!(
        kind(handle(test_lake.context(), Input::default()).await),
        Some(Kind::NotReady),
        "half of the wallets would count as lost"
    );
    Ok(())
}
