//! Runs the step over priced events, wallet links and daily wallet health.

use std::collections::BTreeMap;
use std::time::Duration;

use build_features::{Input, handle};
use defi_shared::domain::{Category, Day, fold};
use defi_shared::lake::{State, WorkUnit};
use defi_shared::step::{Deadline, Remaining, RunId};
use defi_shared::tables::{
    self, FEATURES_BUILD, FeatureRow, Layer, PricedEvent, RAW_MARKETS, StateRow, WALLET_HEALTH, WALLET_LINKS,
    WalletHealth, WalletLink,
};
use defi_shared::testing::{AAVE, COMPOUND, TestLake, address, january, kind, link, priced_event, wallet_health};
use defi_shared::{Kind, Result};

/// Returns an event that wallet 1 sends for an account.
fn event_of_wallet_1(
    category: Category,
    account: u8,
    day: i32,
    second: i64,
    quantity_eth: impl Into<Option<f64>>,
) -> PricedEvent {
    priced_event(category, address(1), address(account), january(day).start() + second, quantity_eth)
}

/// Returns a liquidation of an account.
fn liquidation(account: u8, day: i32, second: i64, quantity_eth: impl Into<Option<f64>>) -> PricedEvent {
    let event =
        priced_event(Category::Liquidation, address(5), address(account), january(day).start() + second, quantity_eth);
    PricedEvent { liquidator_address: Some(address(6).to_string().into()), ..event }
}

async fn put_events(test_lake: &TestLake, day: i32, events: Vec<PricedEvent>) -> Result<()> {
    for category in Category::ALL {
        let category_events = events.iter().filter(|event| event.category == category).cloned().collect();
        test_lake
            .put(tables::event_table(Layer::Analytics, category), &WorkUnit::Day(january(day)), category_events)
            .await?;
    }
    Ok(())
}

async fn put_health(test_lake: &TestLake, day: i32, rows: Vec<WalletHealth>) -> Result<()> {
    test_lake.put(&WALLET_HEALTH, &WorkUnit::Day(january(day)), rows).await
}

async fn put_links(test_lake: &TestLake, day: i32, rows: Vec<WalletLink>) -> Result<()> {
    test_lake.put(&WALLET_LINKS, &WorkUnit::Day(january(day)), rows).await
}

async fn build(test_lake: &TestLake, as_of: i32) -> Result<()> {
    handle(test_lake.context(), Input { as_of: Some(january(as_of)), ..Default::default() }).await.map(drop)
}

/// Returns the rows of all shards of a set, in order.
async fn features(test_lake: &TestLake, as_of: i32) -> Result<Vec<FeatureRow>> {
    let mut rows = Vec::new();
    for shard in 0..test_lake.context.config.shards {
        rows.extend(test_lake.rows::<FeatureRow>(&FEATURES_BUILD, &WorkUnit::Shard(january(as_of), shard)).await?);
    }
    Ok(rows)
}

/// Returns the row of a wallet.
async fn wallet_features(test_lake: &TestLake, as_of: i32, wallet: u8) -> Result<FeatureRow> {
    let rows = features(test_lake, as_of).await?.into_iter();
    Ok(rows.filter(|row| row.wallet_address == address(wallet)).collect::<Vec<_>>().remove(0))
}

/// Creates a test lake as of 4 January with three days of wallet 1, which also borrows through account 2, on two
/// protocols.
async fn example() -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(4))?;
    let on_compound = |event| PricedEvent { protocol: COMPOUND.into(), ..event };
    let first = vec![
        event_of_wallet_1(Category::Deposit, 1, 1, 100, 10.0),
        event_of_wallet_1(Category::Borrow, 2, 1, 200, 2.0),
    ];
    let second = vec![
        on_compound(event_of_wallet_1(Category::Borrow, 1, 2, 0, 3.0)),
        event_of_wallet_1(Category::Borrow, 1, 2, 1, None),
        event_of_wallet_1(Category::Repay, 1, 2, 2, 1.0),
    ];
    let third = vec![
        event_of_wallet_1(Category::Withdraw, 1, 3, 0, 4.0),
        liquidation(2, 3, 50, 0.5),
        liquidation(1, 3, 60, None),
    ];
    for (day, events) in [(1, first), (2, second), (3, third)] {
        put_events(&test_lake, day, events).await?;
    }
    put_links(&test_lake, 1, vec![link(address(1), address(2), january(1).start() + 200)]).await?;
    put_links(&test_lake, 2, vec![link(address(1), address(1), january(2).start())]).await?;
    put_links(&test_lake, 3, vec![]).await?;
    // Risk is debt / (80 % of the collateral). Available borrows are 75 % of the collateral minus the debt.
    let health = |wallet, account, day, collateral, debt| {
        wallet_health(address(wallet), address(account), january(day), collateral, debt)
    };
    put_health(&test_lake, 1, vec![]).await?;
    let second_day = vec![health(1, 1, 2, 8.0, 2.0), health(1, 2, 2, 4.0, 3.0), health(2, 2, 2, 4.0, 3.0)];
    put_health(&test_lake, 2, second_day).await?;
    put_health(&test_lake, 3, vec![]).await?;
    put_health(&test_lake, 4, vec![health(1, 1, 4, 16.0, 4.0)]).await?;
    Ok(test_lake)
}

#[tokio::test]
async fn all_26_features_match_values_computed_by_hand() -> Result<()> {
    let test_lake = example().await?;
    build(&test_lake, 4).await?;
    let expected = FeatureRow {
        wallet_address: address(1),
        risk_factor: 0.3125,
        total_collateral_eth: 16.0,
        total_collateral_avg_eth: 14.0,
        total_available_borrows_eth: 8.0,
        total_available_borrows_avg_eth: 6.0,
        avg_weighted_risk_factor: (2.0 * 0.3125 + 3.0 * 0.9375 + 4.0 * 0.3125) / 9.0,
        risk_factor_above_threshold_daily_count: 1,
        avg_risk_factor: 0.625,
        max_risk_factor: 0.9375,
        borrow_amount_sum_eth: 5.0,
        borrow_amount_avg_eth: 2.5,
        borrow_count: 3,
        repay_amount_sum_eth: 1.0,
        repay_amount_avg_eth: 1.0,
        repay_count: 1,
        borrow_repay_diff_eth: 4.0,
        deposit_count: 1,
        deposit_amount_sum_eth: 10.0,
        time_since_first_deposit: Some(3 * 86_400 - 100),
        withdraw_amount_sum_eth: 4.0,
        withdraw_deposit_diff_eth: 0.0,
        liquidation_count: 2,
        time_since_last_liquidated: Some(86_400 - 60),
        liquidation_amount_sum_eth: 0.5,
        unique_borrow_protocol_count: 2,
        unique_lending_protocol_count: 1,
        has_health_now: Some(true),
        health_days: Some(2),
    };
    assert_eq!(wallet_features(&test_lake, 4, 1).await?, expected);
    Ok(())
}

#[tokio::test]
async fn senders_and_accounts_are_wallets_but_liquidators_are_not() -> Result<()> {
    let test_lake = example().await?;
    put_health(&test_lake, 4, vec![wallet_health(address(8), address(8), january(4), 1.0, 0.0)]).await?;
    build(&test_lake, 4).await?;
    let wallets: Vec<_> = features(&test_lake, 4).await?.iter().map(|row| row.wallet_address).collect();
    assert_eq!(wallets, [1, 2, 5].map(address), "6 is only a liquidator, and 8 has only positions");
    let account = wallet_features(&test_lake, 4, 2).await?;
    assert_eq!((account.liquidation_count, account.borrow_count), (1, 0));
    assert_eq!(
        (account.total_collateral_eth, account.total_collateral_avg_eth),
        (0.0, 4.0),
        "current values don't come from an older snapshot"
    );
    Ok(())
}

#[tokio::test]
async fn set_uses_no_events_of_its_own_day_or_later() -> Result<()> {
    let (earlier_only, both) = (example().await?, example().await?);
    build(&earlier_only, 3).await?;
    for as_of in [4, 3] {
        build(&both, as_of).await?;
    }
    let prefix = "analytics/features/builds/as_of=2023-01-03/";
    assert_eq!(earlier_only.objects(prefix).await?, both.objects(prefix).await?);
    let row = wallet_features(&earlier_only, 3, 1).await?;
    assert_eq!((row.liquidation_count, row.withdraw_amount_sum_eth, row.total_collateral_eth), (0, 0.0, 0.0));
    Ok(())
}

/// Creates a test lake with 40 wallets over a week. No DOUBLE represents the amounts exactly, so that sums reveal any
/// change of order.
async fn busy_lake(shards: u32) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(8))?.with_shards(shards);
    let wallets = || (1u8..=40).map(|n| n * 6);
    for day in 1..8 {
        let event = |(n, category): (u8, Category)| {
            let time = january(day).start() + i64::from(n);
            let event = priced_event(category, address(n), address(n.wrapping_add(6)), time, 0.1 * f64::from(n));
            PricedEvent { protocol: if n % 4 == 0 { AAVE } else { COMPOUND }.into(), ..event }
        };
        let events = wallets().flat_map(|n| Category::ALL.map(|category| event((n, category)))).collect();
        put_events(&test_lake, day, events).await?;
        let links = wallets().filter(|n| i32::from(*n) % 7 == day - 1);
        let links = links.map(|n| link(address(n), address(n.wrapping_add(6)), january(day).start() + i64::from(n)));
        put_links(&test_lake, day, links.collect()).await?;
    }
    for day in 1..=8 {
        let health =
            |n| wallet_health(address(n), address(n), january(day), 0.3 * f64::from(n), 0.07 * f64::from(day) * 3.0);
        put_health(&test_lake, day, wallets().map(health).collect()).await?;
    }
    Ok(test_lake)
}

/// Returns the objects of a set and of its state.
async fn objects(test_lake: &TestLake, as_of: i32) -> Result<BTreeMap<String, Vec<u8>>> {
    let day = january(as_of);
    let mut objects = test_lake.objects(&format!("analytics/features/builds/as_of={day}/")).await?;
    objects.extend(test_lake.objects(&format!("state/fold/v{}/as_of={day}/", fold::VERSION)).await?);
    Ok(objects.into_iter().map(|(key, bytes)| (key, bytes.to_vec())).collect())
}

#[tokio::test]
async fn daily_builds_and_one_build_give_equal_bytes() -> Result<()> {
    let (at_once, daily, with_gaps) = (busy_lake(2).await?, busy_lake(2).await?, busy_lake(2).await?);
    build(&at_once, 8).await?;
    for as_of in 1..=8 {
        build(&daily, as_of).await?;
    }
    for as_of in [3, 4, 8] {
        build(&with_gaps, as_of).await?;
    }
    let expected = objects(&at_once, 8).await?;
    assert_eq!(expected.len(), 4);
    assert!(expected == objects(&daily, 8).await?, "one day at a time");
    assert!(expected == objects(&with_gaps, 8).await?, "several days at a time");
    build(&at_once, 8).await?;
    assert!(expected == objects(&at_once, 8).await?, "built again");
    Ok(())
}

#[tokio::test]
async fn rows_do_not_depend_on_the_number_of_shards() -> Result<()> {
    let (one, four) = (busy_lake(1).await?, busy_lake(4).await?);
    build(&one, 8).await?;
    for shard in [2, 0, 3, 1] {
        handle(four.context(), Input { shards: Some(vec![shard]), ..Default::default() }).await?;
    }
    let rows = features(&one, 8).await?;
    assert!(rows.len() > 40 && rows == features(&four, 8).await?);
    let unknown_shard = Input { shards: Some(vec![4]), ..Default::default() };
    assert_eq!(kind(handle(four.context(), unknown_shard).await), Some(Kind::BadInput));
    Ok(())
}

#[tokio::test]
async fn link_applies_to_liquidations_from_its_own_second_on() -> Result<()> {
    for (second, expected) in [(99, 0), (100, 1), (101, 1)] {
        let test_lake = TestLake::new(&[AAVE], january(2))?;
        put_links(&test_lake, 1, vec![link(address(1), address(2), january(1).start() + 100)]).await?;
        put_events(
            &test_lake,
            1,
            vec![event_of_wallet_1(Category::Borrow, 2, 1, 100, 1.0), liquidation(2, 1, second, 0.5)],
        )
        .await?;
        build(&test_lake, 2).await?;
        assert_eq!(wallet_features(&test_lake, 2, 1).await?.liquidation_count, expected, "{second}");
        assert_eq!(wallet_features(&test_lake, 2, 2).await?.liquidation_count, 1, "the liquidated account itself");
    }
    Ok(())
}

#[tokio::test]
async fn next_build_uses_rewritten_days() -> Result<()> {
    type Change = (&'static str, fn(&FeatureRow) -> f64, f64);
    let changes: [Change; 3] = [
        ("events", |row| row.repay_amount_sum_eth, 9.0),
        ("health", |row| row.total_collateral_avg_eth, (40.0 + 16.0) / 2.0),
        ("links", |row| row.liquidation_count as f64, 1.0),
    ];
    for (input, value, expected) in changes {
        let test_lake = example().await?;
        for as_of in [2, 3, 4] {
            build(&test_lake, as_of).await?;
        }
        match input {
            "events" => put_events(&test_lake, 2, vec![event_of_wallet_1(Category::Repay, 1, 2, 2, 9.0)]).await?,
            "health" => {
                put_health(&test_lake, 2, vec![wallet_health(address(1), address(1), january(2), 40.0, 2.0)]).await?
            }
            _ => put_links(&test_lake, 1, vec![]).await?,
        }
        build(&test_lake, 4).await?;
        assert_eq!(value(&wallet_features(&test_lake, 4, 1).await?), expected, "{input}");
    }
    Ok(())
}

/// Replaces the state of wallet 1 as of a day by one in which it has 100 borrows.
async fn falsify_state(test_lake: &TestLake, day: i32) -> Result<()> {
    let lake = &test_lake.context.lake;
    let state = lake.newest_state::<StateRow>(State::Fold, january(day), "0-of-1").await?;
    let rows = state.into_iter().flat_map(|(_, rows)| rows);
    let rows: Vec<_> = rows.map(|row| StateRow { borrow_count: 100, ..row }).collect();
    lake.write_state(State::Fold, january(day), "0-of-1", rows).await.map(drop)
}

#[tokio::test]
async fn force_uses_no_state_not_even_that_of_its_own_day() -> Result<()> {
    let test_lake = example().await?;
    build(&test_lake, 3).await?;
    build(&test_lake, 4).await?;
    let expected = objects(&test_lake, 4).await?;
    for day in [3, 4] {
        falsify_state(&test_lake, day).await?;
    }
    build(&test_lake, 4).await?;
    assert_eq!(wallet_features(&test_lake, 4, 1).await?.borrow_count, 100, "the state of the day is used");
    handle(test_lake.context(), Input { as_of: Some(january(4)), force: true, ..Default::default() }).await?;
    assert!(objects(&test_lake, 4).await? == expected);
    Ok(())
}

#[tokio::test]
async fn state_of_another_fold_version_is_made_again() -> Result<()> {
    let test_lake = example().await?;
    for day in [3, 4] {
        build(&test_lake, day).await?;
    }
    let expected = objects(&test_lake, 4).await?;
    let (store, current) = (test_lake.context.lake.store(), format!("state/fold/v{}/", fold::VERSION));
    for (key, _) in test_lake.objects(&current).await? {
        // What another version wrote can't be read by this one.
        store.put(&key.replace(&current, "state/fold/v1/"), "another version".into()).await?;
        store.put(&key.replace(&current, "state/fold/"), "no version".into()).await?;
        store.delete(&key).await?;
    }
    build(&test_lake, 4).await?;
    assert!(objects(&test_lake, 4).await? == expected);
    Ok(())
}

#[tokio::test]
async fn fewer_shards_than_before_leave_no_duplicate_wallets() -> Result<()> {
    let test_lake = busy_lake(4).await?;
    build(&test_lake, 8).await?;
    let wallets = features(&test_lake, 8).await?.len();
    let test_lake = test_lake.with_shards(2);
    build(&test_lake, 8).await?;
    let mut rows = 0;
    for unit in test_lake.context.lake.units(&FEATURES_BUILD).await? {
        rows += test_lake.rows::<FeatureRow>(&FEATURES_BUILD, &unit).await?.len();
    }
    assert_eq!(rows, wallets);
    Ok(())
}

#[tokio::test]
async fn empty_lake_is_not_ready_and_future_days_are_rejected() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(4))?;
    let as_of = |day: Day| Input { as_of: Some(day), ..Default::default() };
    assert_eq!(kind(handle(test_lake.context(), as_of(january(4))).await), Some(Kind::NotReady));
    assert_eq!(kind(handle(test_lake.context(), as_of(january(5))).await), Some(Kind::BadInput));
    assert!(test_lake.objects("").await?.is_empty());
    // Waiting does not help where the source no longer had the days.
    let lost = WorkUnit::ProtocolDay(january(4), AAVE.into());
    test_lake.context.lake.write_tombstone(&RAW_MARKETS, &lost, "pruned".to_owned()).await?;
    assert_eq!(kind(handle(test_lake.context(), as_of(january(4))).await), Some(Kind::HistoryPruned));
    assert_eq!(kind(handle(test_lake.context(), as_of(january(3))).await), Some(Kind::NotReady));
    Ok(())
}

#[tokio::test]
async fn shards_that_remain_at_the_deadline_are_built_by_the_next_call() -> Result<()> {
    let test_lake = busy_lake(3).await?;
    let run: RunId = "2023-01-08-a".parse()?;
    let input = |resume| Input { as_of: Some(january(8)), resume, run_id: Some(run.clone()), ..Input::default() };
    let mut late = test_lake.context();
    late.deadline = Some(Deadline::from_remaining_time(Duration::from_secs(20)));
    let first = handle(late, input(None)).await?;
    assert_eq!((first.units, first.remaining.count), (0, 3));
    assert!(objects(&test_lake, 8).await?.is_empty());

    // After an idle call, each shard has a pass of its own.
    let one = Remaining { count: 1, first: vec!["2023-01-08 shard 1".to_owned()], ..first.remaining.clone() };
    assert_eq!(handle(test_lake.context(), input(Some(one))).await?.units, 1);
    assert_eq!(handle(test_lake.context(), input(Some(first.remaining))).await?.units, 3);
    let at_once = busy_lake(3).await?;
    build(&at_once, 8).await?;
    assert!(objects(&at_once, 8).await? == objects(&test_lake, 8).await?);
    Ok(())
}
