//! The contents of the lake that a plan depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Plan;
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::lake::{FeatureSet, Lake, State, WorkUnit};
use crate::pipeline::DataSource;
use crate::tables::{self, Layer, Table};

/// The units and states that are in the lake.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    pub(super) units: BTreeMap<(Layer, &'static str), BTreeSet<WorkUnit>>,
    /// The units of snapshots that their source no longer has, and those of logs without the rates of their liquidations.
    pub(super) lost: BTreeMap<&'static str, BTreeSet<WorkUnit>>,
    /// The parts of the fold's state as of the as-of day.
    pub(super) states: BTreeSet<String>,
    /// Whether the links' state as of that day exists.
    pub(super) has_links: bool,
    /// The shards of the day's build, which is not published yet.
    pub(super) build: BTreeSet<u32>,
    /// The number of shards of the day's features that passed their checks, if the record of it is current.
    pub(super) passed_shards: Option<u32>,
}

impl Inventory {
    /// Lists the lake.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn list(lake: &Lake, as_of: Day) -> Result<Self> {
        let units = |table: &'static Table| async move { Ok(((table.layer, table.name), lake.units(table).await?)) };
        let lost = |table: &'static Table| async move { Ok((table.name, lake.lost_units(table).await?)) };
        let build = FeatureSet::build(as_of);
        let (units, lost, states, links, build, passed) = tokio::try_join!(
            in_order(tables::TABLES.iter().copied(), SMALL_REQUESTS, units),
            in_order([&tables::RAW_LOGS, &tables::RAW_MARKETS, &tables::RAW_POSITIONS], SMALL_REQUESTS, lost),
            lake.stored_states(State::Fold),
            lake.stored_states(State::Links),
            lake.shards(&build),
            lake.passed_check(as_of),
        )?;
        Ok(Inventory {
            units: units.into_iter().collect(),
            lost: lost.into_iter().collect(),
            states: states.into_iter().filter(|(day, _)| *day == as_of).map(|(_, part)| part).collect(),
            has_links: links.iter().any(|(day, _)| *day == as_of),
            build: build.into_iter().collect(),
            passed_shards: passed.map(|record| record.shards),
        })
    }

    /// Removes the units with the given keys.
    #[must_use]
    pub fn without(mut self, keys: &BTreeSet<String>) -> Self {
        if !keys.is_empty() {
            for table in tables::TABLES {
                let units = self.units.get_mut(&(table.layer, table.name));
                units.into_iter().for_each(|units| units.retain(|unit| !keys.contains(&unit.key(table))));
            }
        }
        self
    }

    /// Returns the units of a table.
    pub fn units(&self, table: &Table) -> impl Iterator<Item = &WorkUnit> {
        self.units.get(&(table.layer, table.name)).into_iter().flatten()
    }

    /// Returns the keys of the objects of the selected tables.
    #[must_use]
    pub fn keys_of(&self, is_selected: impl Fn(&Table) -> bool) -> BTreeSet<String> {
        let selected = tables::TABLES.iter().filter(|table| is_selected(table));
        selected.flat_map(|table| self.units(table).map(|unit| unit.key(table))).collect()
    }

    /// Returns the keys of the existing objects that a plan recomputes because their inputs change.
    #[must_use]
    pub fn keys_to_recompute(&self, plan: &Plan) -> BTreeSet<String> {
        let derived = plan.derived().into_iter().filter(|(table, unit)| self.has(table, unit));
        derived.map(|(table, unit)| unit.key(table)).collect()
    }

    /// Returns the unit of the logs of a day of a protocol: the day, or its month. Months that are before the first day of a
    /// run are extracted as one unit, unless a day of them is in the lake.
    pub(super) fn logs_unit(&self, protocol: &Arc<str>, day: Day, first_day: Day) -> WorkUnit {
        let (first, end) = (day.first_of_month(), day.first_of_next_month());
        let month = WorkUnit::ProtocolMonth(first, Arc::clone(protocol));
        let of_day = |day| WorkUnit::ProtocolDay(day, Arc::clone(protocol));
        let has_day = || first.until(end).any(|day| self.has(&tables::RAW_LOGS, &of_day(day)));
        if self.has(&tables::RAW_LOGS, &month) || end <= first_day && !has_day() { month } else { of_day(day) }
    }

    pub(super) fn has(&self, table: &Table, unit: &WorkUnit) -> bool {
        self.units.get(&(table.layer, table.name)).is_some_and(|units| units.contains(unit))
    }

    /// Returns whether the day has a build that is not published.
    #[must_use]
    pub fn has_unpublished_build(&self) -> bool {
        !self.build.is_empty()
    }

    /// Returns whether the features of the day are published, passed their checks, and were computed from the inputs
    /// that are in the lake. A build that is still in the lake was not published.
    pub(super) fn has_published_features(&self, as_of: Day, shards: u32) -> bool {
        let has_shard = |shard| self.has(&tables::FEATURES_HISTORY, &WorkUnit::Shard(as_of, shard));
        self.passed_shards == Some(shards) && self.build.is_empty() && (0..shards).all(has_shard)
    }

    /// Returns whether the features of the day are built from the inputs that are in the lake, but not published.
    pub(super) fn has_build(&self, shards: u32) -> bool {
        (0..shards).all(|shard| self.build.contains(&shard) && self.states.contains(&state_part(shard, shards)))
    }

    /// Returns whether the source no longer had a unit.
    pub(super) fn is_lost(&self, table: &Table, unit: &WorkUnit) -> bool {
        self.lost.get(table.name).is_some_and(|units| units.contains(unit))
    }

    /// Returns the first day of any unit in the lake, `None` for an empty lake. The logs of a node, and the blocks that
    /// they are extracted by, begin before the first day of a run.
    #[must_use]
    pub fn first_day(&self) -> Option<Day> {
        let is_from_a_node = self.units(&tables::RAW_LOGS).next().is_some();
        let is_of_logs = |table: &Table| is_from_a_node && [&tables::RAW_LOGS, &tables::DAILY_BLOCKS].contains(&table);
        let tables = tables::TABLES.iter().filter(|table| !is_of_logs(table));
        tables.flat_map(|table| self.units(table)).filter_map(WorkUnit::day).min()
    }

    /// Rejects another source than the one that the lake was filled from: what they say differs, so their days don't fit
    /// together.
    ///
    /// # Errors
    /// `BadInput` if the lake has rows of the other source.
    pub fn reject_other_source(&self, source: DataSource) -> Result<()> {
        let events = Category::ALL.map(|category| tables::event_table(Layer::Raw, category));
        let has_events = events.into_iter().any(|table| self.units(table).next().is_some());
        let (is_other, other) = match source {
            DataSource::Apis => (self.units(&tables::RAW_LOGS).next().is_some(), "an Ethereum node"),
            DataSource::Chain => (has_events, "the two APIs"),
        };
        if !is_other {
            return Ok(());
        }
        Err(Error::bad_input(format!("this lake was filled from {other}, and keeps to it"))
            .with_hint("use the same source as before, or another lake"))
    }

    /// Returns the days of the units of a plan that are extracted and are not in the lake.
    #[must_use]
    pub fn days_to_extract(&self, plan: &Plan) -> BTreeSet<Day> {
        let missing = plan.extracted().into_iter().filter(|(table, unit)| !self.has(table, unit));
        missing.filter_map(|(_, unit)| unit.day()).collect()
    }

    /// Returns the newest day of any unit in the lake.
    pub(super) fn newest_day(&self) -> Option<Day> {
        self.units.values().filter_map(|units| units.iter().filter_map(WorkUnit::day).max()).max()
    }
}

/// Returns the part name of a shard of the fold's state. It contains the number of shards, since a state with another
/// number of shards can't be used.
#[must_use]
pub fn state_part(shard: u32, shards: u32) -> String {
    format!("{shard}-of-{shards}")
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;
    use crate::pipeline::Step;
    use crate::tables::{DAILY_BLOCKS, STAGE_MARKETS, STAGE_POSITIONS, WALLET_HEALTH};

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn protocol_day(number: i32) -> WorkUnit {
        WorkUnit::ProtocolDay(day(number), "aave-v2-eth".into())
    }

    fn inventory(units: &[(&'static Table, WorkUnit)]) -> Inventory {
        let mut inventory = Inventory::default();
        for (table, unit) in units {
            inventory.units.entry((table.layer, table.name)).or_default().insert(unit.clone());
        }
        inventory
    }

    #[test]
    fn unit_belongs_to_its_table() {
        let inventory = inventory(&[(&STAGE_MARKETS, protocol_day(1))]);
        assert!(inventory.has(&STAGE_MARKETS, &protocol_day(1)));
        assert!(!inventory.has(&STAGE_MARKETS, &protocol_day(2)));
        assert!(!inventory.has(&STAGE_POSITIONS, &protocol_day(1)), "another table");
        assert!(!inventory.has(&tables::RAW_MARKETS, &protocol_day(1)), "the same name in another layer");
    }

    #[test]
    fn keys_are_those_of_the_units_of_the_selected_tables() {
        let inventory = inventory(&[(&STAGE_MARKETS, protocol_day(1)), (&DAILY_BLOCKS, WorkUnit::Day(day(2)))]);
        assert_eq!(inventory.units(&STAGE_MARKETS).collect::<Vec<_>>(), [&protocol_day(1)]);
        let keys = inventory.keys_of(|table| *table == DAILY_BLOCKS);
        assert_eq!(keys, BTreeSet::from([WorkUnit::Day(day(2)).key(&DAILY_BLOCKS)]));
        assert_eq!(inventory.keys_of(|_| true).len(), 2);
    }

    #[test]
    fn build_is_one_that_is_not_published() {
        assert!(!Inventory::default().has_unpublished_build());
        assert!(Inventory { build: BTreeSet::from([0]), ..Inventory::default() }.has_unpublished_build());
    }

    #[test]
    fn lake_keeps_to_its_source() {
        let (api, node) = (
            inventory(&[(&tables::RAW_REPAYS, WorkUnit::Day(day(1)))]),
            inventory(&[(&tables::RAW_LOGS, protocol_day(1))]),
        );
        for (inventory, accepted) in [(Inventory::default(), [true, true]), (api, [true, false]), (node, [false, true])]
        {
            let is_accepted = |source| inventory.reject_other_source(source).is_ok();
            assert_eq!([DataSource::Apis, DataSource::Chain].map(is_accepted), accepted);
        }
    }

    #[test]
    fn first_day_is_not_that_of_the_logs_before_it() {
        let units = [
            (&tables::RAW_LOGS, protocol_day(1)),
            (&DAILY_BLOCKS, WorkUnit::Day(day(1))),
            (&STAGE_MARKETS, protocol_day(5)),
        ];
        assert_eq!(inventory(&units).first_day(), Some(day(5)));
        assert_eq!(inventory(&units[1..]).first_day(), Some(day(1)), "without logs");
    }

    #[test]
    fn first_and_newest_day_are_those_of_any_table() {
        assert_eq!((Inventory::default().first_day(), Inventory::default().newest_day()), (None, None));
        let units = [(&STAGE_MARKETS, protocol_day(4)), (&DAILY_BLOCKS, WorkUnit::Day(day(7)))];
        assert_eq!((inventory(&units).first_day(), inventory(&units).newest_day()), (Some(day(4)), Some(day(7))));
    }

    #[test]
    fn days_to_extract_are_those_that_are_not_in_the_lake() {
        let mut plan = Plan::default();
        plan.extend(Step::ExtractDailyBlocks, [1, 2].map(|number| WorkUnit::Day(day(number))));
        plan.extend(Step::ExtractEvents, [3, 4].map(|number| WorkUnit::EventDay(day(number), Category::Repay)));
        plan.extend(Step::ExtractMarketData, [4, 5].map(protocol_day));
        plan.extend(Step::StageMarketData, [protocol_day(9)]);
        let units = [(&DAILY_BLOCKS, WorkUnit::Day(day(1))), (&tables::RAW_REPAYS, WorkUnit::Day(day(3)))];
        let units = [&units[..], &[(&tables::RAW_MARKETS, protocol_day(4))]].concat();
        assert_eq!(inventory(&units).days_to_extract(&plan), BTreeSet::from([2, 4, 5].map(day)));
    }

    #[test]
    fn units_with_the_given_keys_are_removed() {
        let kept = (&DAILY_BLOCKS, WorkUnit::Day(day(1)));
        let removed = (&STAGE_MARKETS, protocol_day(1));
        let all = || inventory(&[kept.clone(), removed.clone()]);
        let without = all().without(&BTreeSet::from([removed.1.key(removed.0)]));
        assert!(without.has(kept.0, &kept.1) && !without.has(removed.0, &removed.1));
        let same = all().without(&BTreeSet::new());
        assert!(same.has(kept.0, &kept.1) && same.has(removed.0, &removed.1));
    }

    #[test]
    fn only_existing_objects_are_recomputed() {
        let mut plan = Plan::default();
        plan.extend(Step::ValuePositions, [WorkUnit::Day(day(1)), WorkUnit::Day(day(2))]);
        let existing = WorkUnit::Day(day(1));
        let keys = inventory(&[(&WALLET_HEALTH, existing.clone())]).keys_to_recompute(&plan);
        assert_eq!(keys, BTreeSet::from([existing.key(&WALLET_HEALTH)]));
    }

    #[test]
    fn state_part_names_the_shard_and_their_number() {
        assert_eq!(state_part(3, 16), "3-of-16");
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn inventory_lists_units_and_the_states_of_the_as_of_day() -> Result<()> {
        use crate::tables::{DailyBlock, StateRow, WalletLink};
        use crate::testing::{AAVE, TestLake, daily_block, january};

        let test_lake = TestLake::new(&[AAVE], january(9))?;
        let lake = &test_lake.context.lake;
        let rows: Vec<DailyBlock> = vec![daily_block(january(2))];
        test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(2)), rows).await?;
        for (as_of, part) in [(3, "0-of-2"), (4, "1-of-2")] {
            lake.write_state(State::Fold, january(as_of), part, Vec::<StateRow>::new()).await?;
        }
        lake.write_state(State::Links, january(4), "all", Vec::<WalletLink>::new()).await?;
        let inventory = Inventory::list(lake, january(3)).await?;
        assert!(inventory.has(&DAILY_BLOCKS, &WorkUnit::Day(january(2))));
        assert_eq!((inventory.newest_day(), inventory.has_links), (Some(january(2)), false));
        assert_eq!(inventory.states, BTreeSet::from(["0-of-2".to_owned()]));
        assert!(Inventory::list(lake, january(4)).await?.has_links);
        Ok(())
    }
}
