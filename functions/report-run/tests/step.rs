//! Runs the step for a run with check results, and for runs that did not reach their checks.

use defi_shared::domain::fold::WalletState;
use defi_shared::lake::WorkUnit;
use defi_shared::plan::Plan;
use defi_shared::step::{RUN_PAGE, RunId};
use defi_shared::tables::{FEATURES_HISTORY, FeatureRow};
use defi_shared::testing::{AAVE, TestLake, address, january, kind};
use defi_shared::{Kind, Result};
use report_run::{Input, handle};

/// Creates a test lake on 3 January with a set of two wallets and the check results of `run`.
async fn test_lake(run: &RunId) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(3))?;
    let state = WalletState { is_wallet: true, ..WalletState::default() };
    let rows = [1, 2].map(|number| FeatureRow::new(address(number), &state, january(3)));
    test_lake.put(&FEATURES_HISTORY, &WorkUnit::Shard(january(3), 0), rows.to_vec()).await?;
    let input = check_features::Input { run_id: Some(run.clone()), ..Default::default() };
    check_features::evaluate(&test_lake.context, &input).await?;
    Ok(test_lake)
}

/// Returns the report of a run; empty if it does not exist.
async fn page(test_lake: &TestLake, run: &RunId) -> Result<String> {
    let page = test_lake.context.lake.store().get(&run.key(RUN_PAGE)).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[tokio::test]
async fn default_input_writes_the_report_of_the_newest_run() -> Result<()> {
    let (older, newer) = (RunId::new(january(2), "ff"), RunId::new(january(3), "aa"));
    let test_lake = test_lake(&newer).await?;
    test_lake.context.lake.write_json(&older.key("plan.json"), &Plan::default()).await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert_eq!(output.run_id, newer);
    assert!(output.report.ends_with(&newer.key(RUN_PAGE)), "{}", output.report);
    let page = page(&test_lake, &newer).await?;
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains(&newer.to_string()) && page.contains("missing_snapshots")
    );
    assert!(test_lake.context.lake.store().get(&older.key(RUN_PAGE)).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn run_without_check_results_has_a_report() -> Result<()> {
    let (checked, planned) = (RunId::new(january(3), "aa"), RunId::new(january(2), "ff"));
    let test_lake = test_lake(&checked).await?;
    test_lake.context.lake.write_json(&planned.key("plan.json"), &Plan::default()).await?;
    handle(test_lake.context(), Input { run_id: Some(planned.clone()) }).await?;
    assert!(page(&test_lake, &planned).await?.contains(&planned.to_string()));
    Ok(())
}

#[tokio::test]
async fn second_report_of_a_run_changes_no_byte() -> Result<()> {
    let run = RunId::new(january(3), "aa");
    let test_lake = test_lake(&run).await?;
    handle(test_lake.context(), Input::default()).await?;
    let before = test_lake.objects("").await?;
    handle(test_lake.context(), Input { run_id: Some(run) }).await?;
    assert!(test_lake.objects("").await? == before);
    Ok(())
}

#[tokio::test]
async fn rejects_runs_that_are_not_in_the_lake() -> Result<()> {
    let test_lake = test_lake(&RunId::new(january(3), "aa")).await?;
    let unknown = Input { run_id: Some(RunId::new(january(3), "bb")) };
    assert_eq!(kind(handle(test_lake.context(), unknown).await), Some(Kind::BadInput));
    let empty = TestLake::new(&[AAVE], january(3))?;
    assert_eq!(kind(handle(empty.context(), Input::default()).await), Some(Kind::BadInput));
    assert!(empty.objects("").await?.is_empty());
    Ok(())
}
