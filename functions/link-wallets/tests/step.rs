//! Runs the step over the staged borrows of several days.

use defi_shared::domain::{Category, Day};
use defi_shared::lake::{State, WorkUnit};
use defi_shared::step::UnitInput;
use defi_shared::tables::{STAGE_BORROWS, StagedEvent, WALLET_LINKS, WalletLink};
use defi_shared::testing::{AAVE, TestLake, address, january, kind, link, staged_event};
use defi_shared::{Kind, Result};
use link_wallets::handle;

/// Returns a borrow that wallet 1 sends for an account.
fn borrow(account: u8, time: i64) -> StagedEvent {
    staged_event(Category::Borrow, address(1), address(account), time)
}

async fn put_borrows(test_lake: &TestLake, day: Day, rows: Vec<StagedEvent>) -> Result<()> {
    test_lake.put(&STAGE_BORROWS, &WorkUnit::Day(day), rows).await
}

/// Creates a test lake on 4 January with borrows for account 2 on the first two days, and none on the third.
async fn test_lake() -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(4))?;
    put_borrows(&test_lake, january(1), vec![borrow(2, january(1).start() + 50)]).await?;
    put_borrows(&test_lake, january(2), vec![borrow(2, january(2).start()), borrow(3, january(2).start() + 7)]).await?;
    put_borrows(&test_lake, january(3), vec![]).await?;
    Ok(test_lake)
}

/// Returns the newest state of the links up to a day.
async fn state(test_lake: &TestLake, as_of: Day) -> Result<Option<(Day, Vec<WalletLink>)>> {
    test_lake.context.lake.newest_state(State::Links, as_of, "all").await
}

fn as_of(day: i32) -> UnitInput {
    UnitInput { as_of: Some(january(day)), ..UnitInput::default() }
}

#[tokio::test]
async fn link_starts_at_the_first_borrow_of_the_day() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    let start = january(1).start();
    put_borrows(
        &test_lake,
        january(1),
        vec![borrow(2, start + 90), borrow(3, start + 5), borrow(2, start + 50), borrow(1, start)],
    )
    .await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out), (1, 4, 3));
    let expected =
        [(1, 0), (2, 50), (3, 5)].map(|(account, second)| link(address(1), address(account), start + second));
    assert_eq!(test_lake.rows::<WalletLink>(&WALLET_LINKS, &WorkUnit::Day(january(1))).await?, expected);
    let (day, links) = state(&test_lake, january(2)).await?.unwrap_or((january(0), vec![]));
    assert_eq!((day, links), (january(2), expected[1..].to_vec()), "the state omits the link of a wallet to itself");
    Ok(())
}

#[tokio::test]
async fn state_contains_the_links_before_the_as_of_day() -> Result<()> {
    let test_lake = test_lake().await?;
    let first = link(address(1), address(2), january(1).start() + 50);
    let second = link(address(1), address(3), january(2).start() + 7);
    handle(test_lake.context(), as_of(2)).await?;
    assert_eq!(state(&test_lake, january(4)).await?, Some((january(2), vec![first.clone()])));
    handle(test_lake.context(), as_of(4)).await?;
    assert_eq!(state(&test_lake, january(4)).await?, Some((january(4), vec![first, second])));
    Ok(())
}

#[tokio::test]
async fn later_state_is_built_from_the_earlier_state() -> Result<()> {
    let test_lake = test_lake().await?;
    handle(test_lake.context(), as_of(2)).await?;
    // Deletes the first day from the tables, so that only the state of 2 January has its link.
    let first = WorkUnit::Day(january(1)).key(&WALLET_LINKS);
    test_lake.context.lake.store().delete(&first).await?;
    test_lake.context.lake.store().delete(&WorkUnit::Day(january(1)).key(&STAGE_BORROWS)).await?;
    handle(test_lake.context(), as_of(4)).await?;
    let links = state(&test_lake, january(4)).await?.map(|(_, links)| links).unwrap_or_default();
    assert!(links.contains(&link(address(1), address(2), january(1).start() + 50)), "{links:?}");
    Ok(())
}

#[tokio::test]
async fn processing_order_of_days_does_not_matter() -> Result<()> {
    let (at_once, backwards) = (test_lake().await?, test_lake().await?);
    handle(at_once.context(), UnitInput::default()).await?;
    for day in [3, 2, 1] {
        let input = UnitInput { days: Some(vec![january(day)]), ..UnitInput::default() };
        handle(backwards.context(), input).await?;
    }
    assert_eq!(at_once.objects("").await?, backwards.objects("").await?);
    let links = state(&backwards, january(4)).await?.map(|(_, links)| links).unwrap_or_default();
    assert_eq!(links[0].since_epoch_timestamp, january(1).start() + 50);
    Ok(())
}

#[tokio::test]
async fn second_run_changes_no_byte() -> Result<()> {
    let test_lake = test_lake().await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let before = test_lake.objects("").await?;
    let forced = handle(test_lake.context(), UnitInput { force: true, ..UnitInput::default() }).await?;
    assert_eq!((forced.objects_unchanged, forced.objects_written), (3, 0));
    assert_eq!(test_lake.objects("").await?, before);
    Ok(())
}

#[tokio::test]
async fn forced_run_replaces_a_wrong_state() -> Result<()> {
    let test_lake = test_lake().await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let right = state(&test_lake, january(4)).await?;
    let wrong = [link(address(7), address(8), january(1).start())];
    for day in [2, 4] {
        test_lake.context.lake.write_state(State::Links, january(day), "all", wrong.clone()).await?;
    }
    let days = Some(vec![january(1), january(2), january(3)]);
    handle(test_lake.context(), UnitInput { days, force: true, ..UnitInput::default() }).await?;
    assert_eq!(state(&test_lake, january(4)).await?, right);
    Ok(())
}

#[tokio::test]
async fn day_without_staged_borrows_is_not_ready() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    let input = UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() };
    assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::NotReady));
    assert!(test_lake.objects("").await?.is_empty());
    Ok(())
}
