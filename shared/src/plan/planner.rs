//! From what a run covers and what the lake holds to what has to be made, step by step: each feels what changes in those before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DaysBy, Inventory, Plan, Scope, Stage, state_part};
use crate::domain::price::LOOK_BACK_DAYS;
use crate::domain::{Category, Day};
use crate::error::Result;
use crate::lake::Unit;
use crate::tables::{self, Layer, Table};

/// Plans a run.
///
/// # Errors
/// `BadInput` for a scope without days.
pub fn plan(scope: &Scope, inventory: &Inventory, stage: Stage<'_>) -> Result<Plan> {
    Planner { scope, inventory, stage, first: scope.first_day()? }.plan()
}

/// Days of units that will have changed when a step is done, and whether a later unit feels it.
#[derive(Debug, Default)]
struct Changes(BTreeSet<Day>);

impl Changes {
    /// Whether a price that holds on `day` may come from one of them.
    fn reach_prices_of(&self, day: Day) -> bool {
        self.0.range(day.plus(-LOOK_BACK_DAYS)..=day).next().is_some()
    }

    fn any_before(&self, day: Day) -> bool {
        self.0.first().is_some_and(|first| *first < day)
    }
}
struct Planner<'a> {
    scope: &'a Scope,
    inventory: &'a Inventory,
    stage: Stage<'a>,
    first: Day,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::default();
        self.plan_extraction(&mut plan);
        self.plan_staging(&mut plan);
        self.plan_analytics(&mut plan);
        let has_features = (0..self.scope.shards).all(|shard| {
            let unit = Unit::AsOfAndShard(self.scope.as_of, shard);
            self.inventory.has(&tables::FEATURES_HISTORY, &unit)
                && self.inventory.states.contains(&state_part(shard, self.scope.shards))
        });
        plan.features = self.scope.force || !has_features || !plan.is_empty();
        Ok(plan)
    }

    /// The days of events: those before the as_of.
    fn event_days(&self) -> impl Iterator<Item = Day> {
        self.first.until(self.scope.as_of)
    }

    fn missing(&self, table: &Table, unit: &Unit) -> bool {
        self.scope.force || !self.inventory.has(table, unit)
    }

    fn plan_extraction(&self, plan: &mut Plan) {
        let days = self.first.through(self.scope.as_of);
        plan.blocks = days.clone().filter(|day| self.missing(&tables::DAILY_BLOCKS, &Unit::Day(*day))).collect();
        for category in Category::ALL {
            let table = tables::events(Layer::Raw, category);
            let days = self.event_days().filter(|day| self.missing(table, &Unit::Day(*day)));
            insert(&mut plan.extract_events, category, days);
        }
        for (protocol, from) in &self.scope.from {
            let unit = |day| Unit::DayAndProtocol(day, protocol.as_str().into());
            let days = || from.through(self.scope.as_of);
            let markets = days().filter(|day| self.missing(&tables::RAW_MARKETS, &unit(*day)));
            insert(&mut plan.extract_markets, protocol.clone(), markets);
            let positions = days().filter(|day| self.missing(&tables::RAW_POSITIONS, &unit(*day)));
            insert(&mut plan.extract_positions, protocol.clone(), positions);
            if self.missing(&tables::CURRENT_POSITIONS, &Unit::Protocol(protocol.as_str().into())) {
                plan.current_positions.push(protocol.clone());
            }
        }
    }

    /// The days to stage: the raw unit is there (or will be) and the staged one is missing, or made from another raw unit.
    fn days_to_stage(
        &self,
        days: impl Iterator<Item = Day>,
        [raw, staged]: [&Table; 2],
        extracted: Option<&Vec<Day>>,
        unit: impl Fn(Day) -> Unit,
    ) -> Vec<Day> {
        let extracted: BTreeSet<_> = extracted.into_iter().flatten().copied().collect();
        let due = |day: &Day| {
            let there = self.stage == Stage::BeforeExtraction && extracted.contains(day)
                || self.inventory.has(raw, &unit(*day));
            there && (extracted.contains(day) || self.missing(staged, &unit(*day)))
        };
        days.filter(due).collect()
    }

    fn plan_staging(&self, plan: &mut Plan) {
        // What is extracted in this run: by the plan that is being made, or by the one that was made before extraction.
        let extraction = match self.stage {
            Stage::BeforeExtraction => plan.clone(),
            Stage::AfterExtraction(before) => before.cloned().unwrap_or_default(),
        };
        for category in Category::ALL {
            let tables = [Layer::Raw, Layer::Stage].map(|layer| tables::events(layer, category));
            let days =
                self.days_to_stage(self.event_days(), tables, extraction.extract_events.get(&category), Unit::Day);
            insert(&mut plan.stage_events, category, days);
        }
        for (protocol, from) in &self.scope.from {
            let name: Arc<str> = protocol.as_str().into();
            let unit = |day| Unit::DayAndProtocol(day, name.clone());
            let days = || from.through(self.scope.as_of);
            let markets = [&tables::RAW_MARKETS, &tables::STAGE_MARKETS];
            let markets = self.days_to_stage(days(), markets, extraction.extract_markets.get(protocol), unit);
            insert(&mut plan.stage_markets, protocol.clone(), markets);
            let positions = [&tables::RAW_POSITIONS, &tables::STAGE_POSITIONS];
            let positions = self.days_to_stage(days(), positions, extraction.extract_positions.get(protocol), unit);
            insert(&mut plan.stage_positions, protocol.clone(), positions);
        }
    }

    /// The days to make of an analytics table: up to the as_of what is missing or changes, and past it, where a later run left
    /// something, what changes.
    fn days_to_make(
        &self,
        table: &Table,
        changes: impl Fn(Day) -> bool,
        last: Day,
        has_inputs: impl Fn(Day) -> bool,
    ) -> Vec<Day> {
        let newest = self.inventory.newest_day().unwrap_or(last).max(last);
        let due = |day: &Day| {
            let there = self.inventory.has(table, &Unit::Day(*day));
            let wanted = *day <= last && (self.scope.force || !there);
            (wanted || there && changes(*day)) && has_inputs(*day)
        };
        self.first.through(newest).filter(due).collect()
    }

    fn plan_analytics(&self, plan: &mut Plan) {
        let last_events = self.scope.as_of.previous();
        let changed = |days: Option<&Vec<Day>>| Changes(days.into_iter().flatten().copied().collect());
        let markets = Changes(plan.stage_markets.values().flatten().copied().collect());
        let positions = Changes(plan.stage_positions.values().flatten().copied().collect());

        let borrows = changed(plan.stage_events.get(&Category::Borrow));
        let staged = |category: Category| {
            let table = tables::events(Layer::Stage, category);
            let planned = changed(plan.stage_events.get(&category)).0;
            move |day: Day| planned.contains(&day) || self.inventory.has(table, &Unit::Day(day))
        };
        plan.links = self.days_to_make(
            &tables::WALLET_LINKS,
            |day| borrows.0.contains(&day),
            last_events,
            staged(Category::Borrow),
        );
        let links = Changes(plan.links.iter().copied().collect());
        // Who makes links keeps those so far: a run may have died between the two.
        let is_made = self.inventory.has(&tables::WALLET_LINKS, &Unit::Day(last_events)) && self.first <= last_events;
        if plan.links.is_empty() && is_made && !self.inventory.has_links && staged(Category::Borrow)(last_events) {
            plan.links.push(last_events);
        }

        for category in Category::ALL {
            let events = changed(plan.stage_events.get(&category));
            let changes = |day| events.0.contains(&day) || markets.reach_prices_of(day);
            let table = tables::events(Layer::Analytics, category);
            insert(&mut plan.price, category, self.days_to_make(table, changes, last_events, staged(category)));
        }

        let has_positions = |day: Day| {
            let staged = |protocol: &String| {
                self.inventory.has(&tables::STAGE_POSITIONS, &Unit::DayAndProtocol(day, protocol.as_str().into()))
            };
            positions.0.contains(&day) || self.scope.from.keys().any(staged)
        };
        let changes = |day| positions.0.contains(&day) || markets.reach_prices_of(day) || links.any_before(day);
        plan.value = self.days_to_make(&tables::WALLET_HEALTH, changes, self.scope.as_of, has_positions);
    }
}

fn insert<K: Ord>(days_by: &mut DaysBy<K>, key: K, days: impl IntoIterator<Item = Day>) {
    let days: Vec<_> = days.into_iter().collect();
    if !days.is_empty() {
        days_by.insert(key, days);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PROTOCOL: &str = "aave-v2-eth";

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn scope(as_of: i32) -> Scope {
        Scope { as_of: day(as_of), from: BTreeMap::from([(PROTOCOL.to_owned(), day(0))]), force: false, shards: 1 }
    }

    fn put(inventory: &mut Inventory, table: &'static Table, unit: Unit) {
        inventory.units.entry((table.layer, table.name)).or_default().insert(unit);
    }

    /// A lake in which everything up to `last` is done.
    fn done(last: i32) -> Inventory {
        let mut inventory = Inventory::default();
        let events = |layer| Category::ALL.map(|category| tables::events(layer, category));
        for day in day(0).through(day(last)) {
            put(&mut inventory, &tables::DAILY_BLOCKS, Unit::Day(day));
            put(&mut inventory, &tables::WALLET_HEALTH, Unit::Day(day));
            for table in
                [&tables::RAW_MARKETS, &tables::RAW_POSITIONS, &tables::STAGE_MARKETS, &tables::STAGE_POSITIONS]
            {
                put(&mut inventory, table, Unit::DayAndProtocol(day, PROTOCOL.into()));
            }
        }
        for day in day(0).until(day(last)) {
            put(&mut inventory, &tables::WALLET_LINKS, Unit::Day(day));
            for table in [Layer::Raw, Layer::Stage, Layer::Analytics].into_iter().flat_map(events) {
                put(&mut inventory, table, Unit::Day(day));
            }
        }
        put(&mut inventory, &tables::CURRENT_POSITIONS, Unit::Protocol(PROTOCOL.into()));
        put(&mut inventory, &tables::FEATURES_HISTORY, Unit::AsOfAndShard(day(last), 0));
        inventory.states.insert(state_part(0, 1));
        inventory.has_links = true;
        inventory
    }

    fn remove(inventory: &mut Inventory, table: &'static Table, unit: &Unit) {
        assert!(inventory.units.get_mut(&(table.layer, table.name)).unwrap().remove(unit));
    }

    #[test]
    fn an_empty_lake_misses_everything_and_a_full_one_nothing() {
        let all = plan(&scope(3), &Inventory::default(), Stage::BeforeExtraction).unwrap();
        let counts: Vec<_> = all.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [4, 15, 4, 4, 1, 15, 4, 4, 3, 15, 4, 1]);
        assert!(plan(&scope(3), &done(3), Stage::BeforeExtraction).unwrap().is_empty());
    }

    #[test]
    fn one_more_day_is_one_day_of_work() {
        let next = plan(&scope(4), &done(3), Stage::BeforeExtraction).unwrap();
        let counts: Vec<_> = next.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 5, 1, 1, 0, 5, 1, 1, 1, 5, 1, 1]);
        assert_eq!((next.value, next.links), (vec![day(4)], vec![day(3)]));
    }

    #[test]
    fn a_late_market_day_reaches_the_prices_of_the_seven_days_after_it() {
        let mut inventory = done(12);
        remove(&mut inventory, &tables::STAGE_MARKETS, &Unit::DayAndProtocol(day(2), PROTOCOL.into()));
        let plan = plan(&scope(12), &inventory, Stage::AfterExtraction(None)).unwrap();
        assert_eq!(plan.price[&Category::Repay], (2..=9).map(day).collect::<Vec<_>>());
        assert_eq!(plan.value, (2..=9).map(day).collect::<Vec<_>>());
        assert!(plan.links.is_empty() && plan.features);
    }

    #[test]
    fn late_borrows_reach_every_later_snapshot_past_the_as_of_too() {
        let mut inventory = done(9);
        remove(&mut inventory, &tables::STAGE_BORROWS, &Unit::Day(day(2)));
        let plan = plan(&scope(5), &inventory, Stage::AfterExtraction(None)).unwrap();
        assert_eq!((plan.links, plan.value), (vec![day(2)], (3..=9).map(day).collect()));
        assert_eq!(plan.price, BTreeMap::from([(Category::Borrow, vec![day(2)])]));
    }

    #[test]
    fn nothing_is_made_from_a_day_that_is_lost() {
        let mut inventory = done(3);
        let lost = Unit::DayAndProtocol(day(2), PROTOCOL.into());
        for table in [&tables::RAW_POSITIONS, &tables::STAGE_POSITIONS] {
            remove(&mut inventory, table, &lost);
        }
        remove(&mut inventory, &tables::WALLET_HEALTH, &Unit::Day(day(2)));
        let after = plan(&scope(3), &inventory, Stage::AfterExtraction(None)).unwrap();
        assert_eq!(after.extract_positions[PROTOCOL], [day(2)], "it is asked for again");
        assert!(after.stage_positions.is_empty() && after.value.is_empty());
        let before = plan(&scope(3), &inventory, Stage::BeforeExtraction).unwrap();
        assert_eq!(before.value, [day(2)]);
    }

    #[test]
    fn what_was_extracted_again_is_made_again() {
        let mut inventory = done(9);
        let markets = Unit::DayAndProtocol(day(4), PROTOCOL.into());
        remove(&mut inventory, &tables::RAW_MARKETS, &markets);
        let before = plan(&scope(9), &inventory, Stage::BeforeExtraction).unwrap();
        assert_eq!(
            (&before.extract_markets[PROTOCOL], &before.stage_markets[PROTOCOL]),
            (&vec![day(4)], &vec![day(4)])
        );
        put(&mut inventory, &tables::RAW_MARKETS, markets);
        let after = plan(&scope(9), &inventory, Stage::AfterExtraction(Some(&before))).unwrap();
        assert_eq!((&after.stage_markets, &after.value), (&before.stage_markets, &before.value));
        assert_eq!(after.value, (4..=9).map(day).collect::<Vec<_>>());
    }

    #[test]
    fn links_that_are_not_kept_are_the_work_of_their_last_day() {
        let inventory = Inventory { has_links: false, ..done(3) };
        let plan = plan(&scope(3), &inventory, Stage::BeforeExtraction).unwrap();
        assert_eq!((plan.links, plan.value, plan.features), (vec![day(2)], vec![], true));
    }

    #[test]
    fn force_makes_everything_again() {
        let forced = Scope { force: true, ..scope(3) };
        let after = plan(&forced, &done(3), Stage::AfterExtraction(None)).unwrap();
        assert_eq!(after, plan(&scope(3), &Inventory::default(), Stage::BeforeExtraction).unwrap());
    }

    #[test]
    fn a_first_day_after_the_as_of_is_bad_input() {
        assert!(plan(&scope(-1), &Inventory::default(), Stage::BeforeExtraction).is_err());
    }
}
