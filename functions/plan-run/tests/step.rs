//! Runs the step over an empty lake, and over a lake in which a day is complete.

use std::sync::Arc;

use async_trait::async_trait;
use defi_shared::executions::Executions;
use defi_shared::lake::{FeatureSet, PassedCheck, WorkUnit};
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::plan::{Inventory, Plan};
use defi_shared::step::{RUN_REPORT, RunId, UnitInput, parse};
use defi_shared::tables::{
    CURRENT_POSITIONS, DAILY_BLOCKS, DailyBlock, FEATURES_HISTORY, FEATURES_PUBLISHED, FeatureRow, RAW_LOGS,
    RAW_MARKETS, RAW_POSITIONS, RAW_REPAYS, RawMarket, RawPosition, STAGE_MARKETS, STAGE_POSITIONS, STAGE_REPAYS,
    StagedMarket, StagedPosition, TABLES, WALLET_HEALTH, WalletHealth,
};
use defi_shared::testing::{AAVE, COMPOUND, TestLake, january, kind, unit};
use defi_shared::{Kind, Result};
use jiff::Timestamp;
use plan_run::{Input, Output, handle};
use serde_json::{Value, json};

/// Creates a test lake on 1 January, the first day of Aave, in which all units exist.
async fn complete_lake() -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let (day, protocol_day) = (WorkUnit::Day(january(1)), unit(AAVE, january(1)));
    test_lake.put(&DAILY_BLOCKS, &day, Vec::<DailyBlock>::new()).await?;
    test_lake.put(&RAW_MARKETS, &protocol_day, Vec::<RawMarket>::new()).await?;
    test_lake.put(&RAW_POSITIONS, &protocol_day, Vec::<RawPosition>::new()).await?;
    test_lake.put(&STAGE_MARKETS, &protocol_day, Vec::<StagedMarket>::new()).await?;
    test_lake.put(&STAGE_POSITIONS, &protocol_day, Vec::<StagedPosition>::new()).await?;
    test_lake.put(&CURRENT_POSITIONS, &WorkUnit::Protocol(AAVE.into()), Vec::<StagedPosition>::new()).await?;
    test_lake.put(&WALLET_HEALTH, &day, Vec::<WalletHealth>::new()).await?;
    test_lake.put(&FEATURES_HISTORY, &WorkUnit::Shard(january(1), 0), Vec::<FeatureRow>::new()).await?;
    let set = FeatureSet::published(january(1));
    let (_, digest) = test_lake.context.lake.features(&set).await?;
    let record = PassedCheck {
        digest: digest.to_string(),
        shards: 1,
        wallets: 0,
        fold_version: defi_shared::domain::fold::VERSION,
    };
    test_lake.context.lake.write_passed_check(january(1), &record).await?;
    test_lake.context.registry.point_to(&set).await?;
    test_lake.context.record_versions(&Inventory::default()).await?;
    Ok(test_lake)
}

/// Returns the number of planned units of each step.
fn counts(output: &Output) -> Vec<usize> {
    output.units.iter().map(|(_, count)| *count).collect()
}

#[tokio::test]
async fn lake_keeps_to_the_schema_of_its_positions() -> Result<()> {
    let other = complete_lake().await?.with_aaves_schema(AAVE);
    let error = handle(other.context(), Input::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("BadInput: this lake has positions of aave-v2-eth"), "{error}");
    assert!(error.contains("in the schema \"messari\"") && error.contains("configured=aave"), "{error}");
    let metadata = [("schema".to_owned(), "aave".to_owned())];
    let day = unit(AAVE, january(1));
    other.context.commit(&RAW_POSITIONS, &day, Vec::<RawPosition>::new(), metadata.clone().into()).await?;
    let error = handle(other.context(), Input::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("BadInput: this lake has markets of aave-v2-eth"), "{error}");
    other.context.commit(&RAW_MARKETS, &day, Vec::<RawMarket>::new(), metadata.into()).await?;
    assert!(handle(other.context(), Input::default()).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn empty_lake_needs_every_unit_and_receives_the_plan() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(3))?;
    let output = handle(test_lake.context(), Input::default()).await?;
    let [blocks, events, snapshots, current, event_days] = [3, 2 * 5, 3 * 2, 2, 2];
    let expected =
        [blocks, events, 0, snapshots, snapshots, current, events, snapshots, snapshots, event_days, events, 3, 1];
    assert_eq!((output.as_of, output.nothing_to_do, counts(&output)), (january(3), false, expected.to_vec()));
    let key = output.run_id.key("plan.json");
    assert_eq!(output.plan.as_deref(), Some(key.as_str()));
    let plan: Plan = test_lake.context.lake.read_json(&key).await?.unwrap_or_default();
    let days: Vec<_> = january(1).through(january(3)).map(WorkUnit::Day).collect();
    assert_eq!(plan.units(Step::ExtractDailyBlocks), days);
    assert_eq!(plan.days_by_protocol(Step::ExtractMarketData).keys().collect::<Vec<_>>(), [AAVE, COMPOUND]);
    Ok(())
}

#[tokio::test]
async fn equal_runs_have_equal_ids_and_change_no_byte() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(3))?;
    let first = handle(test_lake.context(), Input::default()).await?;
    let before = test_lake.objects("").await?;
    assert_eq!(handle(test_lake.context(), Input::default()).await?, first);
    assert_eq!(test_lake.objects("").await?, before);
    let other = handle(test_lake.context(), Input { from: Some(january(2)), ..Input::default() }).await?;
    assert_ne!(other.run_id, first.run_id);
    assert_eq!(counts(&other)[0], 2);
    Ok(())
}

#[tokio::test]
async fn complete_lake_writes_no_object() -> Result<()> {
    let test_lake = complete_lake().await?;
    let before = test_lake.objects("").await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert_eq!((output.nothing_to_do, &output.plan, counts(&output).iter().sum()), (true, &None, 0usize));
    assert_eq!(test_lake.objects("").await?, before);
    Ok(())
}

#[tokio::test]
async fn published_features_and_their_tables_are_left_to_publish_features() -> Result<()> {
    let test_lake = complete_lake().await?;
    let registry = &test_lake.context.registry;
    // As after an interruption: the catalog points to the checked copy.
    let digest = test_lake.context.lake.features(&FeatureSet::published(january(1))).await?.1;
    let checked = FeatureSet::checked(january(1), &digest.to_string());
    test_lake.context.lake.copy_set(&FeatureSet::published(january(1)), &digest, &checked).await?;
    registry.point_to(&checked).await?;
    test_lake.context.lake.store().delete(&FeatureSet::published(january(1)).key(0)).await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert!(output.unfinished_publication && !output.published);
    assert_eq!(registry.published_sets().await?, [checked]);
    assert!(test_lake.objects("analytics/features/defi_features/").await?.is_empty());

    let empty = TestLake::new(&[AAVE], january(1))?;
    let output = handle(empty.context(), Input::default()).await?;
    assert!(!output.unfinished_publication && !output.published);
    for table in TABLES {
        let is_left_out = [&FEATURES_HISTORY, &FEATURES_PUBLISHED, &RAW_LOGS].contains(table);
        assert_eq!(empty.context.registry.is_registered(table).await?, !is_left_out, "{}", table.full_name());
    }
    let mut from_a_node = TestLake::new(&[AAVE], january(1))?;
    Arc::make_mut(&mut from_a_node.context.config).source = DataSource::Chain;
    handle(from_a_node.context(), Input::default()).await?;
    for (table, is_registered) in
        [(&RAW_LOGS, true), (&RAW_POSITIONS, false), (&RAW_REPAYS, false), (&STAGE_REPAYS, true)]
    {
        let registry = &from_a_node.context.registry;
        assert_eq!(registry.is_registered(table).await?, is_registered, "{}", table.full_name());
    }
    Ok(())
}

#[tokio::test]
async fn force_plans_existing_units() -> Result<()> {
    let output = handle(complete_lake().await?.context(), Input { force: true, ..Input::default() }).await?;
    assert_eq!(counts(&output), [1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1]);
    Ok(())
}

/// The object with the versions of the tables.
const VERSIONS: &str = "state/versions.json";

/// Does what is left of a planned run: writes its report.
async fn finish(test_lake: &TestLake, run: &RunId) -> Result<()> {
    test_lake.context.lake.write_json(&run.key(RUN_REPORT), &json!({"steps": [], "gaps": {}})).await.map(drop)
}

#[tokio::test]
async fn a_lake_of_older_rules_is_recomputed_once_and_nothing_is_extracted() -> Result<()> {
    let test_lake = complete_lake().await?;
    let lake = &test_lake.context.lake;
    let current = lake.store().get(VERSIONS).await?;
    // A lake from before there were versions, and one in which only this table had another version.
    for versions in [None, Some(json!({"analytics.wallet_health_daily": 1}))] {
        match &versions {
            None => lake.store().delete(VERSIONS).await?,
            Some(versions) => lake.write_json(VERSIONS, versions).await.map(drop)?,
        }
        let first = handle(test_lake.context(), Input::default()).await?;
        // wallet_health_daily and the features.
        assert_eq!(counts(&first), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(lake.store().get(VERSIONS).await?, current);
        let after = handle(test_lake.context(), Input { after: first.plan.clone(), ..Input::default() }).await?;
        assert_eq!((counts(&after), after.run_id), (counts(&first), first.run_id.clone()), "after extraction");
        let again = handle(test_lake.context(), Input::default()).await?;
        assert_eq!(counts(&again), counts(&first), "the first run was interrupted");
        finish(&test_lake, &again.run_id).await?;
        let nothing = handle(test_lake.context(), Input::default()).await?;
        assert!(nothing.nothing_to_do, "{versions:?}: {nothing:?}");
        test_lake.context.record_unfinished(&again.run_id, Default::default()).await?;
        assert!(test_lake.objects("state/unfinished/").await?.is_empty());
        lake.store().delete(&again.run_id.key(RUN_REPORT)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn objects_of_older_rules_outside_a_run_are_left_to_a_later_run() -> Result<()> {
    let mut test_lake = complete_lake().await?;
    test_lake.context.today = january(2);
    let later = unit(AAVE, january(2));
    test_lake.put(&RAW_POSITIONS, &later, Vec::<RawPosition>::new()).await?;
    test_lake.put(&STAGE_POSITIONS, &later, Vec::<StagedPosition>::new()).await?;
    test_lake.put(&WALLET_HEALTH, &WorkUnit::Day(january(2)), Vec::<WalletHealth>::new()).await?;
    test_lake.context.lake.store().delete(VERSIONS).await?;
    let first = handle(test_lake.context(), Input { as_of: Some(january(1)), ..Input::default() }).await?;
    assert_eq!(counts(&first), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    finish(&test_lake, &first.run_id).await?;
    let earlier_day = handle(test_lake.context(), Input { as_of: Some(january(1)), ..Input::default() }).await?;
    assert!(earlier_day.nothing_to_do);
    let second = handle(test_lake.context(), Input::default()).await?;
    let plan: Plan = test_lake.context.lake.read_json(&second.run_id.key("plan.json")).await?.unwrap_or_default();
    assert_eq!(plan.units(Step::ValuePositions), [WorkUnit::Day(january(2))]);
    Ok(())
}

#[tokio::test]
async fn plan_after_extraction_skips_units_with_missing_inputs() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    test_lake.put(&RAW_MARKETS, &unit(AAVE, january(2)), Vec::<RawMarket>::new()).await?;
    let from = Some(january(1));
    let before = handle(test_lake.context(), Input { from, ..Input::default() }).await?;
    let output = handle(test_lake.context(), Input { from, after: before.plan, ..Input::default() }).await?;
    assert_eq!(counts(&output), [2, 5, 0, 1, 2, 1, 0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(output.plan, Some(before.run_id.key("plan-after-extraction.json")));
    Ok(())
}

/// Reads the calls of a step from the object that the output names.
async fn calls(test_lake: &TestLake, output: &Output, step: &str) -> Result<Vec<Value>> {
    let batches = &output.batches[step];
    let calls: Vec<Value> = test_lake.context.lake.read_json(&batches.key).await?.unwrap_or_default();
    assert_eq!(calls.len(), batches.count, "{step}");
    Ok(calls)
}

#[tokio::test]
async fn calls_cover_extraction_first_and_the_other_steps_after() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE, COMPOUND], january(40))?.with_shards(2);
    let before = handle(test_lake.context(), Input { from: Some(january(2)), ..Input::default() }).await?;
    let counts = |output: &Output| {
        output
            .batches
            .iter()
            .map(|(step, calls)| (step.clone(), calls.count))
            .filter(|(_, count)| *count > 0)
            .collect::<Vec<_>>()
    };
    let owned =
        |calls: &[(&str, usize)]| calls.iter().map(|(step, count)| ((*step).to_owned(), *count)).collect::<Vec<_>>();
    let extraction = [
        ("extract-account-positions", 2),
        ("extract-daily-blocks", 2),
        ("extract-events", 10),
        ("extract-market-data", 4),
    ];
    assert_eq!(counts(&before), owned(&extraction));
    let blocks = calls(&test_lake, &before, "extract-daily-blocks").await?;
    let days = |call: &Value| parse::<UnitInput>(call.clone()).map(|input| input.days.unwrap_or_default());
    assert_eq!([days(&blocks[0])?, days(&blocks[1])?].concat(), january(2).through(january(40)).collect::<Vec<_>>());
    let first_call: UnitInput = parse(blocks[0].clone())?;
    assert_eq!(
        (first_call.as_of, first_call.from, first_call.run_id.as_ref()),
        (Some(january(40)), Some(january(2)), Some(&before.run_id))
    );
    let markets = calls(&test_lake, &before, "extract-market-data").await?;
    let newest = [days(&markets[0])?.last().copied(), days(&markets[2])?.last().copied()];
    assert_eq!(newest, [Some(january(40)); 2], "the first call of each protocol has its newest days");
    for call in calls(&test_lake, &before, "extract-events").await? {
        assert_eq!(parse::<UnitInput>(call)?.events.map(|events| events.len()), Some(1));
    }
    for (call, protocol) in
        calls(&test_lake, &before, "extract-account-positions").await?.into_iter().zip([AAVE, COMPOUND])
    {
        let input: UnitInput = parse(call)?;
        assert_eq!((input.protocols, input.days.map(|days| days.len())), (Some(vec![protocol.to_owned()]), Some(39)));
    }

    test_lake.put(&RAW_MARKETS, &unit(AAVE, january(2)), Vec::<RawMarket>::new()).await?;
    let after = Input { after: before.plan, from: Some(january(2)), ..Input::default() };
    let after = handle(test_lake.context(), after).await?;
    let rest = [("build-features", 2), ("extract-current-positions", 2), ("stage-market-data", 1)];
    assert_eq!((counts(&after), after.run_id), (owned(&rest), before.run_id));
    Ok(())
}

/// Executions of which the named one runs.
#[derive(Debug)]
struct Running(&'static str);

#[async_trait]
impl Executions for Running {
    async fn may_write(&self, arn: &str, _: Timestamp) -> Result<Option<bool>> {
        Ok(Some(arn == self.0))
    }
}

#[tokio::test]
async fn only_the_execution_that_holds_the_lease_continues() -> Result<()> {
    let mut test_lake = TestLake::new(&[AAVE], january(2))?;
    let by = |execution: &str| Input { execution: Some(execution.to_owned()), ..Input::default() };
    for (running, input, expected) in [
        ("a", by("a"), Ok(Some("a"))),
        ("a", by("b"), Err(Kind::AlreadyRunning)),
        ("a", by("a"), Ok(Some("a"))),
        ("a", Input { allow_concurrent: true, ..by("b") }, Ok(None)),
        ("a", Input::default(), Err(Kind::AlreadyRunning)),
        ("", Input::default(), Ok(None)),
        ("", by("b"), Ok(Some("b"))),
    ] {
        test_lake.context.executions = Some(Arc::new(Running(running)));
        let lease = handle(test_lake.context(), input.clone()).await.map(|output| output.lease);
        assert_eq!(lease.map_err(|error| error.kind()), expected.map(|lease| lease.map(str::to_owned)), "{input:?}");
    }
    Ok(())
}

#[tokio::test]
async fn calls_renew_the_lease_and_pass_on_force() -> Result<()> {
    let mut test_lake = complete_lake().await?;
    test_lake.context.executions = Some(Arc::new(Running("a")));
    let input = Input { execution: Some("a".to_owned()), force: true, ..Input::default() };
    let before = handle(test_lake.context(), input.clone()).await?;
    let after = handle(test_lake.context(), Input { after: before.plan.clone(), ..input }).await?;
    for (output, steps) in
        [(&before, &["extract-market-data"][..]), (&after, &["stage-market-data", "value-positions", "build-features"])]
    {
        for step in steps {
            let calls = calls(&test_lake, output, step).await?;
            assert!(!calls.is_empty(), "{step}");
            for call in calls {
                assert_eq!([&call["lease"], &call["force"]], [&json!("a"), &json!(true)], "{step}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn run_goes_no_further_back_than_the_lake() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(9))?;
    test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(7)), Vec::<DailyBlock>::new()).await?;
    let output = handle(test_lake.context(), Input::default()).await?;
    assert_eq!((output.from, counts(&output)[0]), (january(7), 2), "the blocks of two days are missing");
    let earlier = Input { as_of: Some(january(3)), ..Input::default() };
    assert_eq!(kind(handle(test_lake.context(), earlier).await), Some(Kind::BadInput));
    let output = handle(test_lake.context(), Input { from: Some(january(2)), ..Input::default() }).await?;
    assert_eq!((output.from, counts(&output)[0]), (january(2), 7));
    Ok(())
}

#[tokio::test]
async fn run_goes_as_far_back_as_an_interrupted_one() -> Result<()> {
    // The first run names its first day, or starts with that of the protocol. The newest days are extracted first.
    for (from, first) in [(Some(january(3)), january(3)), (None, january(1))] {
        let test_lake = TestLake::new(&[AAVE], january(9))?;
        handle(test_lake.context(), Input { from, ..Input::default() }).await?;
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(9)), Vec::<DailyBlock>::new()).await?;
        let recent = handle(test_lake.context(), Input { from: Some(january(8)), ..Input::default() }).await?;
        assert_eq!((recent.from, counts(&recent)[0]), (january(8), 1));
        let output = handle(test_lake.context(), Input::default()).await?;
        assert_eq!(output.from, first);
    }
    Ok(())
}

#[tokio::test]
async fn run_that_misses_many_days_asks_for_its_first_day() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(61))?;
    let error = handle(test_lake.context(), Input::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    let text = error.to_string();
    assert!(text.contains("61 days from 2023-01-01 on are missing") && text.contains("--from"), "{text}");
    assert!(test_lake.objects("").await?.is_empty(), "nothing is written");
    for input in
        [Input { from: Some(january(1)), ..Input::default() }, Input { as_of: Some(january(60)), ..Input::default() }]
    {
        handle(test_lake.context(), input).await?;
    }
    Ok(())
}

#[tokio::test]
async fn rejects_keys_of_other_objects_as_the_earlier_plan() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(2))?;
    for key in ["", "runs/none/plan.json", "chain.json", "runs/../chain.json"] {
        let input = Input { after: Some(key.to_owned()), ..Input::default() };
        assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::BadInput), "{key}");
    }
    Ok(())
}

#[tokio::test]
async fn rejects_days_in_the_future_or_before_the_first_day() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(3))?;
    let inputs = [
        Input { as_of: Some(january(4)), ..Input::default() },
        Input { as_of: Some(january(0)), ..Input::default() },
        Input { from: Some(january(3)), as_of: Some(january(2)), ..Input::default() },
    ];
    for input in inputs {
        assert_eq!(kind(handle(test_lake.context(), input).await), Some(Kind::BadInput));
    }
    assert!(test_lake.objects("").await?.is_empty());
    Ok(())
}

#[test]
fn rejects_unknown_fields_and_invalid_values() -> Result<()> {
    assert_eq!(parse::<Input>(json!({}))?, Input::default());
    assert_eq!(parse::<Input>(json!({"as_of": "2023-01-03"}))?.as_of, Some(january(3)));
    for input in [json!({"asof": "2023-01-03"}), json!({"force": "yes"}), json!({"from": "2023-1-3"})] {
        assert_eq!(kind(parse::<Input>(input)), Some(Kind::BadInput));
    }
    Ok(())
}
