//! One chain in two schemas: the lake is the same whether Aave's markets and positions come from Messari's subgraph or from
//! Aave's own.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::{Array, Float64Array};
use defi_shared::config::Schema;
use defi_shared::domain::{Address, Day, Side};
use defi_shared::error::Kind;
use defi_shared::lake::{FeatureSet, FolderStore, Lake, WorkUnit};
use defi_shared::tables::{FeatureRow, Row, STAGE_POSITIONS, StagedPosition, WALLET_HEALTH, WalletHealth};
use defi_simulator::faults::debts_never_fall;
use defi_simulator::sample::{AAVE, SampleOptions, Scenario, chain};
use serde_json::Value;
use tempfile::tempdir;

use crate::support::fault_bench::FaultBench;

const OPTIONS: SampleOptions = SampleOptions { scenario: Scenario::Mixed, wallets: 120, days: 12, seed: 11 };

/// The balances and collateral flags of a lake's positions, by unit, account, market and side.
type Positions = BTreeMap<(WorkUnit, Address, Address, Side), (i128, Option<bool>)>;

/// What a lake says of the same chain.
struct Contents {
    positions: Positions,
    health: Vec<WalletHealth>,
    features: Vec<FeatureRow>,
}

async fn contents(folder: &Path, as_of: Day) -> Contents {
    let lake = Lake::new(FolderStore::new(folder));
    let mut positions = Positions::new();
    for unit in lake.units(&STAGE_POSITIONS).await.expect("units") {
        let rows: Vec<StagedPosition> = lake.require(&STAGE_POSITIONS, &unit).await.expect("positions");
        for row in rows {
            let key = (unit.clone(), row.account_address, row.market_id, row.side);
            // The flag of a debt says nothing: one subgraph has false, the other none.
            let flag = row.is_collateral.filter(|_| row.side == Side::Lender);
            assert_eq!(positions.insert(key, (row.balance.0, flag)), None, "one position a side");
        }
    }
    let mut health = Vec::new();
    for unit in lake.units(&WALLET_HEALTH).await.expect("units") {
        health.extend(lake.require::<WalletHealth>(&WALLET_HEALTH, &unit).await.expect("health"));
    }
    let (features, _) = lake.features(&FeatureSet::published(as_of)).await.expect("features");
    Contents { positions, health, features }
}

/// Checks that the numbers of two tables are equal to a relative 1e-9, and all else exactly.
fn assert_equal<R: Row>(ours: &[R], theirs: &[R]) {
    let [ours, theirs] = [ours, theirs].map(|rows| R::encode(rows).expect("rows"));
    assert_eq!(ours.num_rows(), theirs.num_rows());
    for (name, (one, other)) in ours.schema().fields().iter().zip(ours.columns().iter().zip(theirs.columns())) {
        let numbers = |column: &dyn Array| column.as_any().downcast_ref::<Float64Array>().cloned();
        let (Some(one), Some(other)) = (numbers(one), numbers(other)) else {
            assert_eq!(one, other, "{name}");
            continue;
        };
        for (one, other) in one.iter().zip(other.iter()) {
            let [one, other] = [one, other].map(Option::unwrap_or_default);
            assert!((one - other).abs() <= 1e-9 * one.abs().max(other.abs()), "{name}: {one} and {other}");
        }
    }
}

#[test]
fn debts_that_never_fall_stop_the_run_and_the_error_says_what_to_do() {
    let options = SampleOptions { days: 25, ..OPTIONS };
    let mut recording = chain(&options, Schema::Messari).expect("a chain");
    debts_never_fall(&mut recording, AAVE);
    let error = FaultBench::run_once(recording).expect_err("debts above what the markets say");
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::QualityFailed, "{text}");
    assert!(text.contains("market_borrow_deviation is") && text.contains("of aave-v2-eth has positions of"), "{text}");
    assert!(
        text.contains("never reduces a debt") && text.contains("schema = \"aave\"") && text.contains("node"),
        "{text}"
    );
    let recording = chain(&options, Schema::Messari).expect("a chain");
    FaultBench::run_once(recording).expect("debts that fall");
}

#[test]
fn reserve_whose_users_are_missing_stops_the_run_and_is_named() {
    let mut recording = chain(&OPTIONS, Schema::Aave).expect("a chain");
    let market = |row: &Value| row["reserve"]["aToken"]["id"].as_str().expect("a market").to_owned();
    let snapshots = recording.positions.get_mut(AAVE).expect("snapshots");
    let last = snapshots.values_mut().next_back().expect("a day");
    let with_debt = last.iter().find(|row| row["scaledVariableDebt"] != "0").expect("a debt");
    let missing = market(with_debt);
    last.retain(|row| market(row) != missing);
    let error = FaultBench::run_once(recording).expect_err("rows are missing");
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::QualityFailed, "{text}");
    for check in ["reserve_debt_deviation", "reserve_supply_shortfall"] {
        assert!(text.contains(&format!("{check} is 1 (market {missing} of aave-v2-eth on ")), "{text}");
    }
}

#[test]
fn lake_of_the_same_chain_is_equal_in_both_schemas() {
    let lakes = [Schema::Aave, Schema::Messari].map(|schema| {
        let recording = chain(&OPTIONS, schema).expect("a chain");
        let as_of = recording.last_day.parse().expect("a day");
        let folder = tempdir().expect("a temporary folder");
        FaultBench::new(recording).run_over(folder.path(), None, false).expect("a run");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(contents(folder.path(), as_of))
    });
    let [aave, messari] = &lakes;
    assert!(aave.positions.len() > 1_000, "{}", aave.positions.len());
    let differing: Vec<_> =
        aave.positions.iter().filter(|(key, value)| messari.positions.get(*key) != Some(*value)).collect();
    assert!(differing.is_empty(), "{} differ, such as {:?}", differing.len(), differing.first());
    assert_eq!(aave.positions.len(), messari.positions.len());
    assert!(aave.positions.values().any(|(_, flag)| *flag == Some(false)), "a supply is disabled");
    assert_equal(&aave.health, &messari.health);
    assert_equal(&aave.features, &messari.features);
}
