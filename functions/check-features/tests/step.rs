//! Runs the step over a small feature set and the days that it was built from.

use std::sync::Arc;

use check_features::{Input, evaluate, handle};
use defi_shared::domain::fold::WalletState;
use defi_shared::domain::{Address, BaseUnits, Category, HexBytes, Side};
use defi_shared::lake::{FeatureSet, FileMetadata, State, WorkUnit, parquet};
use defi_shared::step::aave::Measure;
use defi_shared::step::{Check, CheckResults, FoldStart, Outcome, RUN_CHECKS, RUN_REPORT, Report, RunId, RunReport};
use defi_shared::tables::{
    BORROWS, FEATURES_BUILD, FEATURES_HISTORY, FeatureRow, LIQUIDATIONS, PricedEvent, RAW_MARKETS, RAW_REPAYS,
    RawEvent, RawMarket, STAGE_BORROWS, STAGE_MARKETS, STAGE_POSITIONS, StagedEvent, StagedMarket, StagedPosition,
    StateRow, WALLET_HEALTH, WalletHealth, WalletLink,
};
use defi_shared::testing::WETH;
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

/// Returns the input of a check of the run that built the set.
fn input() -> Input {
    Input { run_id: RunId::try_from("1".to_owned()).ok(), ..Input::default() }
}

/// Records that the run folded the set from the state of a day, or from all days.
async fn put_fold_start(test_lake: &TestLake, state: Option<i32>) -> Result<()> {
    let folded_from = Some(FoldStart { state: state.map(january) });
    let report = Report { units: 1, folded_from, ..Report::default() };
    test_lake.context.lake.write_json("runs/1/reports/build-features/0.1.json", &report).await.map(drop)
}

/// Publishes a set as of a day, from whose state the run folded the set to check.
async fn publish(test_lake: &TestLake, day: i32, rows: Vec<FeatureRow>) -> Result<()> {
    put_fold_start(test_lake, Some(day)).await?;
    test_lake.put(&FEATURES_HISTORY, &WorkUnit::Shard(january(day), 0), rows).await?;
    test_lake.context.registry.point_to(&FeatureSet::published(january(day))).await
}

/// Returns a supply position and a debt.
fn positions(protocol: &str, day: i32) -> Vec<StagedPosition> {
    [Side::Borrower, Side::Lender]
        .map(|side| staged_position(protocol, january(day), address(1), MARKET, side, 1))
        .into()
}

async fn put_snapshot(test_lake: &TestLake, protocol: &str, day: i32) -> Result<()> {
    let unit = unit(protocol, january(day));
    test_lake.put(&STAGE_MARKETS, &unit, vec![staged_market(protocol, january(day), MARKET, WETH, 1000.0)]).await?;
    test_lake.put(&STAGE_POSITIONS, &unit, positions(protocol, day)).await
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

/// Evaluates the set of the test lake's day. Returns the results and the names of the checks that do not pass.
async fn evaluated(test_lake: &TestLake) -> Result<(CheckResults, Vec<String>)> {
    let output = evaluate(&test_lake.context, &input()).await?;
    let failing = failing_checks(&output).into_iter().map(|(name, _)| name.to_owned()).collect();
    Ok((output, failing))
}

/// Returns a check by name.
fn find<'a>(output: &'a CheckResults, name: &str) -> Result<&'a Check> {
    output.checks.iter().find(|check| check.name == name).ok_or_else(|| Error::internal(format!("no check {name}")))
}

/// Runs the step over a set that must fail, and returns its error.
async fn run_failing(test_lake: &TestLake) -> Result<Option<Error>> {
    let objects = async || -> Result<_> {
        let mut objects = test_lake.objects("").await?;
        objects.retain(|key, _| key != "state/passed/as_of=2023-01-03.json" && !key.starts_with("runs/"));
        Ok(objects)
    };
    let before = objects().await?;
    let error = handle(test_lake.context(), input()).await.err();
    assert!(objects().await? == before, "a failed check changes no object except the record of the check");
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
    let output = handle(test_lake().await?.context(), input()).await?;
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
    handle(test_lake.context(), input()).await?;
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
    let no_rows = Vec::<StagedPosition>::new;
    for day in [2, 3] {
        test_lake.put(&STAGE_POSITIONS, &unit(COMPOUND, january(day)), no_rows()).await?;
    }
    assert!(handle(test_lake.context(), input()).await?.passed, "without positions before, an empty snapshot is valid");
    // One week is 27 December to 2 January.
    for (day, fails) in [(-5, false), (-4, true), (2, true)] {
        put_snapshot(&test_lake, COMPOUND, day).await?;
        let (_, failing) = evaluated(&test_lake).await?;
        assert_eq!(failing.contains(&"missing_snapshots".to_owned()), fails, "{day}");
        test_lake.put(&STAGE_POSITIONS, &unit(COMPOUND, january(day)), no_rows()).await?;
    }
    put_snapshot(&test_lake, COMPOUND, 2).await?;
    let metadata = FileMetadata::from([("closed".to_owned(), "true".to_owned())]);
    test_lake.context.commit(&STAGE_POSITIONS, &unit(COMPOUND, january(3)), no_rows(), metadata).await?;
    assert!(handle(test_lake.context(), input()).await?.passed, "the market's totals agree");
    Ok(())
}

#[tokio::test]
async fn protocol_that_starts_later_needs_no_snapshot() -> Result<()> {
    let mut test_lake = test_lake().await?;
    for table in [&STAGE_POSITIONS, &STAGE_MARKETS] {
        test_lake.context.lake.store().delete(&unit(COMPOUND, january(3)).key(table)).await?;
    }
    for protocol in &mut Arc::make_mut(&mut test_lake.context.config).protocols {
        protocol.first_day = Some(if protocol.name == COMPOUND { january(4) } else { january(1) });
    }
    assert!(handle(test_lake.context(), input()).await?.passed);
    Ok(())
}

#[tokio::test]
async fn fewer_wallets_than_the_previous_published_set_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 2, vec![wallet(1), wallet(2), wallet(3)]).await?;
    assert!(
        handle(test_lake.context(), input()).await?.passed,
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
        handle(test_lake.context(), input()).await?.passed,
        "the previous published set already covers the first day"
    );
    test_lake
        .put_with_metadata(&STAGE_BORROWS, &WorkUnit::Day(january(2)), no_rows(), [("rows_in", 100), ("rejected", 2)])
        .await?;
    assert_eq!(
        failing_checks(&handle(test_lake.context(), input()).await?),
        [("quarantined_share", Outcome::Warn), ("quarantined_largest_share", Outcome::Warn)]
    );
    Ok(())
}

#[tokio::test]
async fn shares_cover_all_days_that_were_folded_again() -> Result<()> {
    let test_lake = test_lake().await?;
    let no_rows = Vec::<StagedEvent>::new;
    let rejected = [("rows_in", 100), ("rejected", 100)];
    test_lake.put_with_metadata(&STAGE_BORROWS, &WorkUnit::Day(january(1)), no_rows(), rejected).await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    for (state, passes) in [(Some(2), true), (Some(3), true), (Some(1), false), (None, false)] {
        put_fold_start(&test_lake, state).await?;
        assert_eq!(evaluate(&test_lake.context, &input()).await?.passed, passes, "{state:?}");
    }
    put_fold_start(&test_lake, Some(2)).await?;
    assert!(!evaluate(&test_lake.context, &Input::default()).await?.passed, "without a run, all days are judged");
    let other = Input { run_id: RunId::try_from("2".to_owned()).ok(), ..Input::default() };
    assert!(!evaluate(&test_lake.context, &other).await?.passed, "another run built the set");
    Ok(())
}

#[tokio::test]
async fn borrow_events_without_borrow_counts_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 3, vec![FeatureRow { borrow_count: 0, ..wallet(1) }]).await?;
    assert_fails(&test_lake, "borrow_count_all_zero").await
}

#[tokio::test]
async fn set_without_wallets_fails_if_there_were_events() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 3, vec![]).await?;
    assert_fails(&test_lake, "no_wallets").await?;
    let (day, no_rows) = (WorkUnit::Day(january(2)), Vec::<StagedEvent>::new());
    test_lake.put_with_metadata(&STAGE_BORROWS, &day, no_rows, [("rows_in", 0), ("rejected", 0)]).await?;
    assert_eq!(failing_checks(&handle(test_lake.context(), input()).await?), [("no_wallets", Outcome::Warn)]);
    Ok(())
}

#[tokio::test]
async fn day_of_events_that_is_all_in_quarantine_fails_beside_many_positions() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    let many = [("rows_in", 100_000), ("rejected", 0)];
    test_lake.put_with_metadata(&STAGE_POSITIONS, &unit(AAVE, january(3)), positions(AAVE, 3), many).await?;
    // Eight events are too few to judge a day alone. With the 100 of the day before they would be 7 %.
    for (rows, rejected, fails) in [(8, 8, false), (30, 30, true)] {
        let metadata = [("rows_in", rows), ("rejected", rejected)];
        let (day, no_rows) = (WorkUnit::Day(january(2)), Vec::<StagedEvent>::new());
        test_lake.put_with_metadata(&STAGE_BORROWS, &day, no_rows, metadata).await?;
        let (output, _) = evaluated(&test_lake).await?;
        let check = output.checks.into_iter().find(|check| check.name == "quarantined_largest_share");
        let check = check.unwrap_or_else(|| panic!("no check"));
        assert_eq!(check.outcome == Outcome::Fail, fails, "{}", check.about);
        assert!(check.about.contains("stage.transpose_borrow_events"), "{}", check.about);
    }
    Ok(())
}

/// Returns a liquidation of wallet 1 whose seized token has a liquidation threshold.
fn liquidation(day: i32, number: u8, threshold: f64) -> PricedEvent {
    let event = priced_event(Category::Liquidation, address(2), address(1), january(day).start(), 1.0);
    PricedEvent { liquidation_threshold: Some(threshold), log_index: number.into(), ..event }
}

#[tokio::test]
async fn few_liquidations_a_day_gather_until_they_can_be_judged() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(30))?;
    put_snapshot(&test_lake, AAVE, 30).await?;
    put_features(&test_lake, 30, vec![wallet(1)]).await?;
    publish(&test_lake, 29, vec![wallet(1)]).await?;
    let odd_share = async |days: std::ops::Range<i32>, threshold: f64| -> Result<Outcome> {
        for day in days {
            let rows = vec![liquidation(day, 1, threshold), liquidation(day, 2, threshold)];
            test_lake.put(&LIQUIDATIONS, &WorkUnit::Day(january(day)), rows).await?;
        }
        let checks = evaluated(&test_lake).await?.0.checks;
        Ok(checks
            .iter()
            .find(|check| check.name == "odd_liquidation_share")
            .map_or(Outcome::Warn, |check| check.outcome))
    };
    assert_eq!(odd_share(21..30, 0.0).await?, Outcome::Pass, "18 are too few");
    assert_eq!(odd_share(20..21, 0.0).await?, Outcome::Fail, "20 on ten days, two of them of this set");
    assert_eq!(odd_share(20..30, 0.8).await?, Outcome::Pass);
    Ok(())
}

#[tokio::test]
async fn price_of_eth_at_a_millionth_fails_and_names_its_market() -> Result<()> {
    let test_lake = test_lake().await?;
    put_snapshot(&test_lake, AAVE, 2).await?;
    let markets = vec![staged_market(AAVE, january(3), MARKET, WETH, 0.001)];
    test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(3)), markets).await?;
    let (output, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, ["price_jumps", "eth_price_change", "jumped_collateral_share"]);
    let about = &output.checks.iter().find(|check| check.name == "eth_price_change").map(|check| check.about.clone());
    let about = about.clone().unwrap_or_default();
    assert!(about.contains(&MARKET.to_string()) && about.contains(AAVE) && about.contains("2023-01-03"), "{about}");
    Ok(())
}

#[tokio::test]
async fn absurd_price_is_named_with_the_wallet_whose_amounts_overflow() -> Result<()> {
    let test_lake = test_lake().await?;
    let other = HexBytes([8; 20]);
    let markets = vec![
        staged_market(AAVE, january(3), MARKET, WETH, 1000.0),
        staged_market(AAVE, january(3), other, HexBytes([8; 20]), 1e308),
    ];
    test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(3)), markets).await?;
    put_features(&test_lake, 3, vec![wallet(1), FeatureRow { deposit_amount_sum_eth: f64::INFINITY, ..wallet(2) }])
        .await?;
    assert_fails(&test_lake, "not_finite").await?;
    let message = run_failing(&test_lake).await?.map(|error| error.to_string()).unwrap_or_default();
    for culprit in [format!("deposit_amount_sum_eth of wallet {}", address(2)), format!("market {other} of {AAVE}")] {
        assert!(message.contains(&culprit), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn unbuilt_set_is_not_ready() -> Result<()> {
    let test_lake = test_lake().await?;
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
        let passed = handle(test_lake.context(), Input { run_id: Some(run.clone()), ..input() }).await.is_ok();
        let written: Option<CheckResults> = test_lake.context.lake.read_json(&run.key(RUN_CHECKS)).await?;
        assert_eq!(written.map(|written| written.passed), Some(passed));
        let report: Option<RunReport> = test_lake.context.lake.read_json(&run.key(RUN_REPORT)).await?;
        assert_eq!(report.map(|report| report.steps), Some(vec![]));
    }
    Ok(())
}

#[tokio::test]
async fn set_with_a_missing_shard_is_not_ready() -> Result<()> {
    let test_lake = test_lake().await?.with_shards(2);
    assert_eq!(
        kind(handle(test_lake.context(), input()).await),
        Some(Kind::NotReady),
        "half of the wallets would count as lost"
    );
    Ok(())
}

#[tokio::test]
async fn positions_are_compared_with_what_their_market_says() -> Result<()> {
    let test_lake = test_lake().await?;
    let unit = unit(AAVE, january(3));
    let [debt, supply] = [Side::Borrower, Side::Lender].map(|side| {
        // 1 WETH, which costs 1,000 dollars.
        staged_position(AAVE, january(3), address(1), MARKET, side, 1)
    });
    for (positions, supplied, outcomes) in [
        (vec![debt.clone(), supply.clone()], 1000.0, [Outcome::Pass, Outcome::Pass]),
        (vec![debt.clone()], 1000.0, [Outcome::Fail, Outcome::Pass]),
        (vec![debt], 999.0, [Outcome::Pass, Outcome::Pass]),
        (vec![supply], 1060.0, [Outcome::Warn, Outcome::Fail]),
    ] {
        let market = StagedMarket {
            total_deposit_balance_usd: Some(supplied),
            total_borrow_balance_usd: Some(1000.0),
            ..staged_market(AAVE, january(3), MARKET, WETH, 1000.0)
        };
        test_lake.put(&STAGE_MARKETS, &unit, vec![market]).await?;
        test_lake.put(&STAGE_POSITIONS, &unit, positions).await?;
        let (output, _) = evaluated(&test_lake).await?;
        let checks = [find(&output, "market_deposit_deviation")?, find(&output, "market_borrow_deviation")?];
        assert_eq!(checks.map(|check| check.outcome), outcomes, "{checks:?}");
        assert!(checks[1].about.starts_with("judged 1 of 2 markets"), "Compound's does not say it: {checks:?}");
    }
    Ok(())
}

#[tokio::test]
async fn unpriced_share_is_judged_by_category_and_protocol() -> Result<()> {
    let test_lake = test_lake().await?;
    let counts = |aave, compound| {
        [
            ("unpriced", 1),
            ("rows.aave-v2-eth", 100),
            ("unpriced.aave-v2-eth", aave),
            ("rows.compound-v2-eth", 50),
            ("unpriced.compound-v2-eth", compound),
        ]
    };
    let borrow = priced_event(Category::Borrow, address(1), address(1), january(2).start(), 1.0);
    let day = WorkUnit::Day(january(2));
    test_lake.put_with_metadata(&BORROWS, &day, vec![borrow.clone(), borrow], counts(50, 26)).await?;
    let no_rows = Vec::<WalletHealth>::new();
    test_lake.put_with_metadata(&WALLET_HEALTH, &WorkUnit::Day(january(3)), no_rows, counts(51, 1)).await?;
    let (output, failing) = evaluated(&test_lake).await?;
    let failing_of = |kind: &str| [format!("unpriced_{kind}_share"), format!("unpriced_{kind}_largest_share")];
    assert_eq!(failing, [failing_of("events"), failing_of("positions")].concat());
    let totals = ["unpriced_events_share", "unpriced_positions_share"].map(|name| find(&output, name));
    let [events, positions] = totals.map(|check| check.map(|check| check.figure));
    assert_eq!((events?, positions?), (0.5, 0.25), "one of two events and of four positions");
    let events = find(&output, "unpriced_events_largest_share")?;
    assert_eq!((events.figure, events.outcome), (0.52, Outcome::Fail));
    assert!(events.about.contains("26 of 50 rows of analytics.transpose_borrow_events of compound"), "{events:?}");
    let positions = find(&output, "unpriced_positions_largest_share")?;
    assert_eq!((positions.figure, positions.outcome), (0.51, Outcome::Fail));
    assert!(positions.about.contains("51 of 100 rows of analytics.wallet_health_daily of aave"), "{positions:?}");
    Ok(())
}

#[tokio::test]
async fn counts_of_snapshots_are_summed_over_protocols_and_judged_by_protocol() -> Result<()> {
    let test_lake = test_lake().await?;
    for (protocol, rejected, null) in [(AAVE, 0, 10), (COMPOUND, 20, 2)] {
        let counts = [("rows_in", 95), ("rejected", rejected), ("supply_positions", 100), ("null_is_collateral", null)];
        test_lake
            .put_with_metadata(&STAGE_POSITIONS, &unit(protocol, january(3)), positions(protocol, 3), counts)
            .await?;
    }
    let no_rows = Vec::<WalletHealth>::new();
    test_lake.put_with_metadata(&WALLET_HEALTH, &WorkUnit::Day(january(3)), no_rows, [("unpriced", 1)]).await?;
    let (output, _) = evaluated(&test_lake).await?;
    let null = find(&output, "null_is_collateral_share")?;
    assert_eq!((null.figure, null.outcome), (0.1, Outcome::Warn));
    assert!(
        null.about.contains("10 of 100 rows of") && null.about.contains("of aave-v2-eth on 2023-01-03"),
        "{null:?}"
    );
    let quarantined = find(&output, "quarantined_largest_share")?;
    assert_eq!((quarantined.figure, quarantined.outcome), (20.0 / 95.0, Outcome::Fail));
    assert!(quarantined.about.contains("account_positions of compound-v2-eth on 2023-01-03"), "{quarantined:?}");
    let total = find(&output, "quarantined_share")?;
    assert_eq!(total.about, "21 of 290 rows are in quarantine", "100 events and two snapshots");
    assert_eq!(find(&output, "unpriced_positions_share")?.figure, 0.25, "1 of two positions in each protocol");
    Ok(())
}

#[tokio::test]
async fn days_before_the_set_are_gathered_for_a_year() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    let put = async |day: i32, rows: u64| {
        let counts = [("rows_in", rows), ("rejected", rows)];
        test_lake
            .put_with_metadata(&STAGE_BORROWS, &WorkUnit::Day(january(day)), Vec::<StagedEvent>::new(), counts)
            .await
    };
    put(2, 8).await?;
    for (day, outcome) in [(2 - 366, Outcome::Warn), (2 - 365, Outcome::Fail)] {
        put(day, 12).await?;
        let (output, _) = evaluated(&test_lake).await?;
        let check = find(&output, "quarantined_largest_share")?;
        assert_eq!(check.outcome, outcome, "{}", check.about);
    }
    Ok(())
}

#[tokio::test]
async fn jumped_collateral_is_a_share_of_the_enabled_supplies_at_the_larger_price() -> Result<()> {
    let test_lake = test_lake().await?;
    let [other, no_collateral] = [8, 7].map(|byte| HexBytes([byte; 20]));
    for (day, price) in [(2, 200.0), (3, 10.0)] {
        let mut markets = [(MARKET, WETH, 1000.0), (other, other, price), (no_collateral, no_collateral, 5000.0)]
            .map(|(market, token, price)| staged_market(AAVE, january(day), market, token, price));
        markets[2].liquidation_threshold = 0.0;
        test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(day)), markets.into()).await?;
    }
    let position = |market, side| staged_position(AAVE, january(3), address(1), market, side, 1);
    let disabled = StagedPosition { is_collateral: Some(false), ..position(other, Side::Lender) };
    let debt = StagedPosition { is_collateral: Some(true), ..position(other, Side::Borrower) };
    let not_accepted = position(no_collateral, Side::Lender);
    let rows = vec![position(MARKET, Side::Lender), position(other, Side::Lender), disabled, debt, not_accepted];
    test_lake.put(&STAGE_POSITIONS, &unit(AAVE, january(3)), rows).await?;
    let (output, _) = evaluated(&test_lake).await?;
    let check = find(&output, "jumped_collateral_share")?;
    // 200 dollars of 1,200 in this protocol and 1,000 in the other.
    assert!((check.figure - 200.0 / 2200.0).abs() < 1e-12 && check.outcome == Outcome::Warn, "{check:?}");
    assert!(check.about.contains("2023-01-03"), "{}", check.about);
    assert!(check.about.contains(&format!("market {other} of {AAVE}")), "{}", check.about);
    assert_eq!(find(&output, "eth_price_change")?.figure, 1.0);
    let markets = vec![
        staged_market(AAVE, january(3), MARKET, WETH, 1000.0),
        staged_market(AAVE, january(3), other, other, 1e305),
    ];
    test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(3)), markets).await?;
    let rows = vec![StagedPosition { balance: BaseUnits(10i128.pow(24)), ..position(other, Side::Lender) }];
    test_lake.put(&STAGE_POSITIONS, &unit(AAVE, january(3)), rows).await?;
    let (output, _) = evaluated(&test_lake).await?;
    assert_eq!(find(&output, "jumped_collateral_share")?.figure, 1.0, "the value is not finite");
    Ok(())
}

#[tokio::test]
async fn collateral_and_debts_without_features_of_them_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    put_features(&test_lake, 3, vec![FeatureRow { total_collateral_eth: 0.0, risk_factor: 0.0, ..wallet(1) }]).await?;
    let (_, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, ["collateral_all_zero", "risk_all_zero"]);
    for protocol in [AAVE, COMPOUND] {
        let rows = vec![StagedPosition { is_collateral: None, ..positions(protocol, 3).remove(1) }];
        test_lake.put(&STAGE_POSITIONS, &unit(protocol, january(3)), rows).await?;
    }
    assert_eq!(evaluated(&test_lake).await?.1, Vec::<String>::new(), "neither collateral nor debts");
    Ok(())
}

#[tokio::test]
async fn set_is_compared_only_with_sets_of_earlier_days() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 3, vec![wallet(1), wallet(2), wallet(3)]).await?;
    assert!(handle(test_lake.context(), input()).await?.passed, "the same day is made again");
    Ok(())
}

#[tokio::test]
async fn snapshot_of_the_previous_published_set_counts_no_more() -> Result<()> {
    let test_lake = test_lake().await?;
    let counts = [("rows_in", 100), ("rejected", 100)];
    test_lake.put_with_metadata(&STAGE_POSITIONS, &unit(AAVE, january(2)), positions(AAVE, 2), counts).await?;
    let (_, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, ["quarantined_share", "quarantined_largest_share"]);
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    assert!(handle(test_lake.context(), input()).await?.passed);
    Ok(())
}

#[tokio::test]
async fn liquidations_are_gathered_for_a_year() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 2, vec![wallet(1)]).await?;
    for (day, outcome) in [(2 - 366, Outcome::Pass), (2 - 365, Outcome::Fail)] {
        let rows = (0..20).map(|number| liquidation(day, number, 0.0)).collect();
        test_lake.put(&LIQUIDATIONS, &WorkUnit::Day(january(day)), rows).await?;
        let (output, _) = evaluated(&test_lake).await?;
        assert_eq!(find(&output, "odd_liquidation_share")?.outcome, outcome, "{day}");
    }
    Ok(())
}

#[tokio::test]
async fn largest_change_of_the_eth_price_is_that_of_any_day() -> Result<()> {
    let test_lake = test_lake().await?;
    for (day, price) in [(1, 1000.0), (2, 2100.0), (3, 2500.0)] {
        let market = staged_market(AAVE, january(day), MARKET, WETH, price);
        test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(day)), vec![market]).await?;
    }
    let (output, failing) = evaluated(&test_lake).await?;
    assert_eq!((find(&output, "eth_price_change")?.figure, failing), (2.1, vec!["eth_price_change".to_owned()]));
    // Of equal changes the first is named.
    for (day, price) in [(1, 1000.0), (2, 2000.0), (3, 4000.0)] {
        let market = staged_market(AAVE, january(day), MARKET, WETH, price);
        test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(day)), vec![market]).await?;
    }
    let (output, _) = evaluated(&test_lake).await?;
    let check = find(&output, "eth_price_change")?;
    assert!(check.figure == 2.0 && check.about.contains("2023-01-02"), "{}", check.about);
    Ok(())
}

#[tokio::test]
async fn first_day_with_the_largest_share_of_jumped_collateral_is_named() -> Result<()> {
    let test_lake = test_lake().await?;
    for (day, price) in [(1, 1000.0), (2, 50.0), (3, 1000.0)] {
        put_snapshot(&test_lake, AAVE, day).await?;
        let market = staged_market(AAVE, january(day), MARKET, address(8), price);
        test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(day)), vec![market]).await?;
        put_snapshot(&test_lake, COMPOUND, day).await?;
    }
    let (output, _) = evaluated(&test_lake).await?;
    let check = find(&output, "jumped_collateral_share")?;
    assert!(check.figure == 0.5 && check.about.contains("2023-01-02"), "{check:?}");
    Ok(())
}

#[tokio::test]
async fn events_of_one_protocol_in_quarantine_fail_beside_many_of_another() -> Result<()> {
    let test_lake = test_lake().await?;
    let (day, no_rows) = (WorkUnit::Day(january(2)), Vec::<StagedEvent>::new());
    let of_aave = ["rows_in", "rejected"].map(|name| format!("{name}.{AAVE}"));
    let counts = [("rows_in", 10_000), ("rejected", 25), (of_aave[0].as_str(), 25), (of_aave[1].as_str(), 25)];
    test_lake.put_with_metadata(&STAGE_BORROWS, &day, no_rows, counts).await?;
    let (output, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, ["quarantined_largest_share"]);
    let about = &find(&output, "quarantined_largest_share")?.about;
    assert!(about.contains(&format!("stage.transpose_borrow_events of {AAVE}")), "{about}");
    Ok(())
}

#[tokio::test]
async fn price_jumps_only_above_the_factor() -> Result<()> {
    let test_lake = test_lake().await?;
    let other = HexBytes([8; 20]);
    for (price, jumps) in [(100.0, 0.0), (100.1, 1.0), (1.0, 0.0), (0.9, 1.0)] {
        for (day, price) in [(2, 10.0), (3, price)] {
            let markets = [(MARKET, WETH, 1000.0), (other, other, price)]
                .map(|(market, token, price)| staged_market(AAVE, january(day), market, token, price));
            test_lake.put(&STAGE_MARKETS, &unit(AAVE, january(day)), markets.into()).await?;
        }
        let (output, _) = evaluated(&test_lake).await?;
        assert_eq!(find(&output, "price_jumps")?.figure, jumps, "{price}");
    }
    Ok(())
}

#[tokio::test]
async fn worst_reserve_of_the_days_is_judged() -> Result<()> {
    let test_lake = test_lake().await?;
    publish(&test_lake, 1, vec![wallet(1)]).await?;
    for (day, debt, excess) in [(2, "0.250000", "0.100000"), (3, "0.090000", "0.100000")] {
        put_snapshot(&test_lake, AAVE, day).await?;
        put_snapshot(&test_lake, COMPOUND, day).await?;
        let worst = [(Measure::DebtDeviation, debt), (Measure::SupplyExcess, excess)];
        let metadata = worst.map(|(measure, value)| (measure.name().to_owned(), format!("{value} {MARKET}")));
        let of_day = unit(AAVE, january(day));
        test_lake.context.commit(&STAGE_POSITIONS, &of_day, positions(AAVE, day), metadata.into()).await?;
    }
    let (output, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, ["reserve_debt_deviation", "reserve_supply_excess"]);
    for (name, figure, day) in
        [("reserve_debt_deviation", 0.25, january(2)), ("reserve_supply_excess", 0.1, january(3))]
    {
        let check = find(&output, name)?;
        let market = format!("market {MARKET} of {AAVE} on {day}: ");
        assert!(check.figure == figure && check.about.starts_with(&market), "{check:?}");
    }
    Ok(())
}

#[tokio::test]
async fn inputs_that_are_not_as_a_step_wrote_them_fail() -> Result<()> {
    let test_lake = test_lake().await?;
    let lake = &test_lake.context.lake;
    lake.begin_records().await?;
    publish(&test_lake, 2, vec![wallet(1), wallet(2)]).await?;
    let (event_day, market_day) = (WorkUnit::Day(january(2)), unit(AAVE, january(3)));
    test_lake.put(&RAW_REPAYS, &event_day, Vec::<RawEvent>::new()).await?;
    for day in [1, 2, 3] {
        // The newest state of a part may be older than that of another.
        if day != 2 {
            lake.write_state(State::Fold, january(day), "1-of-2", Vec::<StateRow>::new()).await?;
        }
        lake.write_state(State::Fold, january(day), "0-of-1", Vec::<StateRow>::new()).await?;
        lake.write_state(State::Links, january(day), "all", Vec::<WalletLink>::new()).await?;
    }
    let (output, failing) = evaluated(&test_lake).await?;
    assert_eq!(failing, Vec::<String>::new());
    assert_eq!(find(&output, "foreign_inputs")?.about, "15 inputs are as a step wrote them");
    let metadata = FileMetadata::from([("by".to_owned(), "somebody else".to_owned())]);
    let (forged, _) = parquet::encode(vec![wallet(1), wallet(2)], &[], &metadata)?;
    for (key, is_used) in [
        (event_day.key(&RAW_REPAYS), true),
        (WorkUnit::Day(january(1)).key(&RAW_REPAYS), false),
        (market_day.key(&RAW_MARKETS), true),
        // The prices of the events of January 2 may be as old as this.
        (unit(AAVE, january(1)).key(&RAW_MARKETS), true),
        (unit(AAVE, january(2)).key(&STAGE_POSITIONS), false),
        (State::Fold.key(january(1), "1-of-2"), true),
        (State::Fold.key(january(1), "0-of-1"), false),
        (State::Fold.key(january(2), "0-of-1"), true),
        (State::Fold.key(january(3), "0-of-1"), true),
        (State::Links.key(january(2), "all"), true),
        (FeatureSet::published(january(2)).key(0), true),
        (FeatureSet::build(january(3)).key(0), true),
    ] {
        let original = lake.store().get(&key).await?;
        lake.store().put(&key, forged.clone()).await?;
        let (output, failing) = evaluated(&test_lake).await?;
        assert_eq!(failing.contains(&"foreign_inputs".to_owned()), is_used, "{key} {failing:?}");
        assert_eq!(find(&output, "foreign_inputs")?.about.contains(&key), is_used, "{key}");
        match original {
            Some(original) => lake.store().put(&key, original).await.map(drop)?,
            None => lake.store().delete(&key).await?,
        }
    }
    Ok(())
}

#[tokio::test]
async fn inputs_from_before_the_records_are_no_failure() -> Result<()> {
    let test_lake = test_lake().await?;
    let lake = &test_lake.context.lake;
    let (old, _) = parquet::encode(Vec::<RawMarket>::new(), &[], &FileMetadata::new())?;
    lake.store().put(&unit(AAVE, january(3)).key(&RAW_MARKETS), old).await?;
    lake.store().put(&State::Links.key(january(1), "all"), "written by an earlier version".into()).await?;
    lake.begin_records().await?;
    let output = handle(test_lake.context(), input()).await?;
    let check = find(&output, "foreign_inputs")?;
    assert_eq!(check.about, "7 inputs are as a step wrote them, 2 are older than the records");
    Ok(())
}
