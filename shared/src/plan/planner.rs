//! Computes the plan of a run from its scope and the contents of the lake. The steps are planned in order: the units of
//! each depend on what changes in the steps before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Inventory, Plan, PlanPhase, Scope};
use crate::domain::price::LOOK_BACK_DAYS;
use crate::domain::{Category, Day};
use crate::error::Result;
use crate::lake::WorkUnit;
use crate::pipeline::Step;
use crate::tables::{self, Layer, Table};

/// Plans a run.
///
/// # Errors
/// `BadInput` for a scope without days.
pub fn plan(scope: &Scope, inventory: &Inventory, phase: PlanPhase<'_>) -> Result<Plan> {
    Planner { scope, inventory, phase, first_day: scope.first_day()? }.plan()
}

/// The days whose units a step changes.
#[derive(Debug, Default)]
struct ChangedDays(BTreeSet<Day>);

impl ChangedDays {
    /// Returns the days of all units of a step.
    fn of(plan: &Plan, step: Step) -> Self {
        ChangedDays(plan.units(step).iter().filter_map(WorkUnit::day).collect())
    }

    /// Returns the days of a step's units of one event category.
    fn of_category(plan: &Plan, step: Step, category: Category) -> Self {
        let units = plan.units(step).iter().filter_map(|unit| unit.as_event_day().ok());
        ChangedDays(units.filter(|(_, other)| *other == category).map(|(day, _)| day).collect())
    }

    fn contains(&self, day: Day) -> bool {
        self.0.contains(&day)
    }

    /// Returns whether a price that applies to `day` may come from a changed day.
    fn affect_prices_of(&self, day: Day) -> bool {
        self.0.range(day.plus_days(-LOOK_BACK_DAYS)..=day).next().is_some()
    }

    fn any_before(&self, day: Day) -> bool {
        self.0.first().is_some_and(|first| *first < day)
    }
}

/// An object of the raw layer from which a unit is staged.
type RawInput = (&'static Table, WorkUnit);

/// The objects of the raw layer that a run extracts.
#[derive(Debug)]
struct Extracted(BTreeSet<(&'static str, WorkUnit)>);

impl Extracted {
    fn by(plan: &Plan) -> Self {
        Extracted(plan.extracted().into_iter().map(|(table, unit)| (table.name, unit)).collect())
    }

    fn contains(&self, (table, unit): &RawInput) -> bool {
        self.0.contains(&(table.name, unit.clone()))
    }
}

struct Planner<'a> {
    scope: &'a Scope,
    inventory: &'a Inventory,
    phase: PlanPhase<'a>,
    first_day: Day,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::default();
        self.plan_extraction(&mut plan);
        self.plan_staging(&mut plan);
        self.plan_analytics(&mut plan);
        let has_features = self.has_published_features() || self.inventory.has_build(self.scope.shards);
        if self.scope.force || !has_features || !plan.is_empty() {
            plan.extend(Step::BuildFeatures, [WorkUnit::Day(self.scope.as_of)]);
        }
        Ok(plan)
    }

    fn has_published_features(&self) -> bool {
        self.inventory.has_published_features(self.scope.as_of, self.scope.shards)
    }

    /// Returns the days of events: those before the as-of day.
    fn event_days(&self) -> impl Iterator<Item = Day> {
        self.first_day.until(self.scope.as_of)
    }

    fn is_missing(&self, table: &Table, unit: &WorkUnit) -> bool {
        self.scope.force || !self.inventory.has(table, unit)
    }

    /// Returns whether the source may have a snapshot: it is in the lake, the source was never without it, or the scope
    /// includes lost units.
    fn may_be_available(&self, table: &Table, unit: &WorkUnit) -> bool {
        let includes_lost = self.scope.retry_lost || self.scope.rebuild_lost;
        includes_lost || self.inventory.has(table, unit) || !self.inventory.is_lost(table, unit)
    }

    fn plan_extraction(&self, plan: &mut Plan) {
        let mut days: BTreeSet<Day> = self.first_day.through(self.scope.as_of).collect();
        if self.scope.is_from_a_node() {
            days.extend(self.plan_logs(plan));
        }
        let blocks = days.into_iter().map(WorkUnit::Day);
        plan.extend(Step::ExtractDailyBlocks, blocks.filter(|unit| self.is_missing(&tables::DAILY_BLOCKS, unit)));
        if self.scope.is_from_a_node() {
            self.plan_snapshots(plan, Step::ExtractMarketData, &tables::RAW_MARKETS);
            return;
        }
        for category in Category::ALL {
            let table = tables::event_table(Layer::Raw, category);
            let unit = |day| WorkUnit::EventDay(day, category);
            let days = || self.event_days().filter(|day| self.is_missing(table, &WorkUnit::Day(*day)));
            plan.extend(Step::ExtractEvents, days().map(unit));
            plan.to_verify.extend(self.day_to_verify(table, days().last()).map(unit));
        }
        self.plan_snapshots(plan, Step::ExtractMarketData, &tables::RAW_MARKETS);
        self.plan_snapshots(plan, Step::ExtractAccountPositions, &tables::RAW_POSITIONS);
        for protocol in self.scope.from.keys() {
            let current = WorkUnit::Protocol(protocol.as_str().into());
            if self.is_missing(&tables::CURRENT_POSITIONS, &current) {
                plan.extend(Step::ExtractCurrentPositions, [current]);
            }
        }
    }

    /// Plans the logs of each protocol, from its first day on: balances are replayed from all of them. Returns the days at
    /// whose first blocks the units begin.
    fn plan_logs(&self, plan: &mut Plan) -> BTreeSet<Day> {
        let mut starts = BTreeSet::new();
        for (name, from) in &self.scope.logs_from {
            let protocol: Arc<str> = name.as_str().into();
            let units: BTreeSet<_> = from.until(self.scope.as_of).map(|day| self.logs_unit(&protocol, day)).collect();
            starts.extend(units.iter().filter_map(WorkUnit::day).map(|day| day.max(*from)));
            // The logs themselves are not lost: the rates of their liquidations are.
            let is_due = |unit: &WorkUnit| {
                let lacks_rates = self.scope.retry_lost && self.inventory.is_lost(&tables::RAW_LOGS, unit);
                lacks_rates || self.is_missing(&tables::RAW_LOGS, unit)
            };
            plan.extend(Step::ExtractLogs, units.into_iter().filter(is_due));
        }
        starts
    }

    /// Returns the unit of the logs of a day of a protocol.
    fn logs_unit(&self, protocol: &Arc<str>, day: Day) -> WorkUnit {
        let first_day = self.scope.from.get(&**protocol).copied().unwrap_or(self.first_day);
        self.inventory.logs_unit(protocol, day, first_day)
    }

    fn plan_snapshots(&self, plan: &mut Plan, step: Step, table: &Table) {
        for (protocol, from) in &self.scope.from {
            let protocol: Arc<str> = protocol.as_str().into();
            let units = from.through(self.scope.as_of).map(|day| WorkUnit::ProtocolDay(day, Arc::clone(&protocol)));
            let is_due = |unit: &WorkUnit| self.is_missing(table, unit) && self.may_be_available(table, unit);
            plan.extend(step, units.filter(is_due));
        }
    }

    /// Returns the newest day of events in the lake, if a later one is extracted: events of it may have arrived since it
    /// was extracted.
    fn day_to_verify(&self, table: &Table, last_extracted: Option<Day>) -> Option<Day> {
        if self.scope.force || self.phase != PlanPhase::BeforeExtraction {
            return None;
        }
        let newest = self.event_days().filter(|day| self.inventory.has(table, &WorkUnit::Day(*day))).last();
        newest.filter(|newest| last_extracted > Some(*newest))
    }

    /// Returns whether an object of the raw layer is present, or will be.
    fn will_exist(&self, extracted: &Extracted, input: &RawInput) -> bool {
        let is_extracted = self.phase == PlanPhase::BeforeExtraction && extracted.contains(input);
        is_extracted || self.inventory.has(input.0, &input.1)
    }

    /// Returns whether a unit is to be staged: its inputs are present, or will be, and it is missing or was produced from
    /// another version of an input.
    fn is_to_be_staged(&self, extracted: &Extracted, inputs: &[RawInput], staged: &Table, unit: &WorkUnit) -> bool {
        let is_changed = inputs.iter().any(|input| extracted.contains(input));
        (is_changed || self.is_missing(staged, unit)) && inputs.iter().all(|input| self.will_exist(extracted, input))
    }

    fn plan_staging(&self, plan: &mut Plan) {
        // The plan of the units that this run extracts: this plan, or the plan from before extraction.
        let extracted = match self.phase {
            PlanPhase::BeforeExtraction => Extracted::by(plan),
            PlanPhase::AfterExtraction(before) => before.map_or_else(|| Extracted(BTreeSet::new()), Extracted::by),
        };
        for category in Category::ALL {
            let staged = tables::event_table(Layer::Stage, category);
            let is_due = |day: &Day| {
                self.is_to_be_staged(
                    &extracted,
                    &self.raw_events(&extracted, category, *day),
                    staged,
                    &WorkUnit::Day(*day),
                )
            };
            plan.extend(
                Step::StageEvents,
                self.event_days().filter(is_due).map(|day| WorkUnit::EventDay(day, category)),
            );
        }
        self.stage_snapshots(plan, &extracted, Step::StageMarketData, &tables::RAW_MARKETS, &tables::STAGE_MARKETS);
        if self.scope.is_from_a_node() {
            self.plan_replay(plan, &extracted);
        } else {
            let (raw, staged) = (&tables::RAW_POSITIONS, &tables::STAGE_POSITIONS);
            self.stage_snapshots(plan, &extracted, Step::StageAccountPositions, raw, staged);
        }
    }

    /// Returns the raw objects from which the events of a category and day are staged. A log counts in the first category
    /// that has it, so the raw events of a category are inputs of all later ones. From a node, the logs of each protocol
    /// have the events of all categories, and its markets tell the tokens.
    fn raw_events(&self, extracted: &Extracted, category: Category, day: Day) -> Vec<RawInput> {
        if self.scope.is_from_a_node() {
            let inputs = |name: &str| {
                let protocol: Arc<str> = name.into();
                let markets = |day| (&tables::RAW_MARKETS, WorkUnit::ProtocolDay(day, Arc::clone(&protocol)));
                // Those of the next day, or else of the newest day before it. Events are staged without any, too: the gate
                // rejects what has no price, but would not miss events that are not there.
                let days = day.plus_days(-LOOK_BACK_DAYS).through(day.next());
                let newest = days.rev().map(markets).find(|input| self.will_exist(extracted, input));
                std::iter::once((&tables::RAW_LOGS, self.logs_unit(&protocol, day))).chain(newest)
            };
            return self.scope.protocols_on(day).flat_map(inputs).collect();
        }
        let raw = |category| (tables::event_table(Layer::Raw, category), WorkUnit::Day(day));
        category.predecessors().chain([category]).map(raw).collect()
    }

    fn stage_snapshots(
        &self,
        plan: &mut Plan,
        extracted: &Extracted,
        step: Step,
        raw: &'static Table,
        staged: &'static Table,
    ) {
        for (name, from) in &self.scope.from {
            let protocol: Arc<str> = name.as_str().into();
            let units = from.through(self.scope.as_of).map(|day| WorkUnit::ProtocolDay(day, Arc::clone(&protocol)));
            let with_markets = step == Step::StageAccountPositions && self.scope.scaled.contains(name);
            let is_due = |unit: &WorkUnit| {
                let markets = with_markets.then(|| (&tables::RAW_MARKETS, unit.clone()));
                let inputs: Vec<_> = markets.into_iter().chain([(raw, unit.clone())]).collect();
                self.is_to_be_staged(extracted, &inputs, staged, unit)
            };
            plan.extend(step, units.filter(is_due));
        }
    }

    /// Plans the positions that are replayed from the logs of a node: those of a day need the markets of the day, and the
    /// logs of all days before it. If the logs of a day change, so do the positions of all later days.
    fn plan_replay(&self, plan: &mut Plan, extracted: &Extracted) {
        for (name, from) in &self.scope.from {
            let protocol: Arc<str> = name.as_str().into();
            let unit = |day| WorkUnit::ProtocolDay(day, Arc::clone(&protocol));
            let logs = |day| (&tables::RAW_LOGS, self.logs_unit(&protocol, day));
            let first = self.scope.logs_from.get(name).copied().unwrap_or(*from);
            let complete = first.until(self.scope.as_of).find(|day| !self.will_exist(extracted, &logs(*day)));
            let complete = complete.unwrap_or(self.scope.as_of);
            let changed = first.until(complete).find(|day| extracted.contains(&logs(*day)));
            let is_due = |day: &Day| {
                let markets = (&tables::RAW_MARKETS, unit(*day));
                let is_changed = changed.is_some_and(|changed| changed < *day) || extracted.contains(&markets);
                (is_changed || self.is_missing(&tables::STAGE_POSITIONS, &unit(*day)))
                    && self.will_exist(extracted, &markets)
            };
            plan.extend(Step::StageAccountPositions, from.through(complete).filter(is_due).map(unit));
        }
    }

    /// Returns the days of an analytics table to compute. Up to and including `last`: those that are missing or whose
    /// inputs change. After `last`: those that a later run computed and whose inputs change.
    fn days_to_compute(
        &self,
        table: &Table,
        changes: impl Fn(Day) -> bool,
        last: Day,
        has_inputs: impl Fn(Day) -> bool,
    ) -> impl Iterator<Item = Day> {
        let newest = self.inventory.newest_day().unwrap_or(last).max(last);
        self.first_day.through(newest).filter(move |day| {
            let exists = self.inventory.has(table, &WorkUnit::Day(*day));
            let is_due = *day <= last && (self.scope.force || !exists);
            (is_due || exists && changes(*day)) && has_inputs(*day)
        })
    }

    /// Returns whether a category's staged events of a day are present, or will be.
    fn staged_events(&self, plan: &Plan, category: Category) -> impl Fn(Day) -> bool + use<'_> {
        let table = tables::event_table(Layer::Stage, category);
        let planned = ChangedDays::of_category(plan, Step::StageEvents, category);
        move |day| planned.contains(day) || self.inventory.has(table, &WorkUnit::Day(day))
    }

    fn plan_analytics(&self, plan: &mut Plan) {
        let last_events = self.scope.as_of.previous();
        let markets = ChangedDays::of(plan, Step::StageMarketData);

        let links = self.plan_links(plan, last_events);
        for category in Category::ALL {
            let events = ChangedDays::of_category(plan, Step::StageEvents, category);
            let changes = |day| events.contains(day) || markets.affect_prices_of(day);
            let table = tables::event_table(Layer::Analytics, category);
            let staged = self.staged_events(plan, category);
            let days = self.days_to_compute(table, changes, last_events, staged);
            plan.extend(Step::PriceEvents, days.map(|day| WorkUnit::EventDay(day, category)));
        }

        let positions = ChangedDays::of(plan, Step::StageAccountPositions);
        let has_positions = |day: Day| {
            let is_staged = |protocol: &String| {
                self.inventory.has(&tables::STAGE_POSITIONS, &WorkUnit::ProtocolDay(day, protocol.as_str().into()))
            };
            positions.contains(day) || self.scope.from.keys().any(is_staged)
        };
        let changes = |day| positions.contains(day) || markets.affect_prices_of(day) || links.any_before(day);
        let days = self.days_to_compute(&tables::WALLET_HEALTH, changes, self.scope.as_of, has_positions);
        plan.extend(Step::ValuePositions, days.map(WorkUnit::Day));
    }

    /// Plans the links, and returns the days whose links change.
    fn plan_links(&self, plan: &mut Plan, last_events: Day) -> ChangedDays {
        let borrows = ChangedDays::of_category(plan, Step::StageEvents, Category::Borrow);
        let is_staged = self.staged_events(plan, Category::Borrow);
        let days = self.days_to_compute(&tables::WALLET_LINKS, |day| borrows.contains(day), last_events, &is_staged);
        plan.extend(Step::LinkWallets, days.map(WorkUnit::Day));
        let changed = ChangedDays::of(plan, Step::LinkWallets);
        // The step also writes the state with the links of all days. A run may have been interrupted between the two.
        let last = WorkUnit::Day(last_events);
        let is_linked = self.first_day <= last_events && self.inventory.has(&tables::WALLET_LINKS, &last);
        // The state of an old day may have been pruned after its features were published, and is not needed anymore.
        let is_needed = !self.inventory.has_links && !self.has_published_features();
        if plan.units(Step::LinkWallets).is_empty() && is_linked && is_needed && is_staged(last_events) {
            plan.extend(Step::LinkWallets, [last]);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::state_part;
    use super::*;

    const PROTOCOL: &str = "aave-v2-eth";

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn scope(as_of: i32) -> Scope {
        Scope {
            as_of: day(as_of),
            from: BTreeMap::from([(PROTOCOL.to_owned(), day(0))]),
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            shards: 1,
            logs_from: BTreeMap::new(),
            scaled: BTreeSet::new(),
        }
    }

    fn put(inventory: &mut Inventory, table: &'static Table, unit: WorkUnit) {
        inventory.units.entry((table.layer, table.name)).or_default().insert(unit);
    }

    /// Returns an inventory in which all units up to `last` exist.
    fn complete_inventory(last: i32) -> Inventory {
        let mut inventory = Inventory::default();
        let events = |layer| Category::ALL.map(|category| tables::event_table(layer, category));
        for day in day(0).through(day(last)) {
            put(&mut inventory, &tables::DAILY_BLOCKS, WorkUnit::Day(day));
            put(&mut inventory, &tables::WALLET_HEALTH, WorkUnit::Day(day));
            for table in
                [&tables::RAW_MARKETS, &tables::RAW_POSITIONS, &tables::STAGE_MARKETS, &tables::STAGE_POSITIONS]
            {
                put(&mut inventory, table, WorkUnit::ProtocolDay(day, PROTOCOL.into()));
            }
        }
        for day in day(0).until(day(last)) {
            put(&mut inventory, &tables::WALLET_LINKS, WorkUnit::Day(day));
            for table in [Layer::Raw, Layer::Stage, Layer::Analytics].into_iter().flat_map(events) {
                put(&mut inventory, table, WorkUnit::Day(day));
            }
        }
        put(&mut inventory, &tables::CURRENT_POSITIONS, WorkUnit::Protocol(PROTOCOL.into()));
        put(&mut inventory, &tables::FEATURES_HISTORY, WorkUnit::Shard(day(last), 0));
        inventory.passed_shards = Some(1);
        inventory.has_links = true;
        inventory
    }

    /// Returns the days of a step's units.
    fn days(plan: &Plan, step: Step) -> Vec<Day> {
        plan.units(step).iter().filter_map(WorkUnit::day).collect()
    }

    /// Returns the days of a step's units of one event category.
    fn category_days(plan: &Plan, step: Step, category: Category) -> Vec<Day> {
        ChangedDays::of_category(plan, step, category).0.into_iter().collect()
    }

    fn remove(inventory: &mut Inventory, table: &'static Table, unit: &WorkUnit) {
        assert!(inventory.units.get_mut(&(table.layer, table.name)).unwrap().remove(unit));
    }

    #[test]
    fn empty_lake_misses_all_units_and_complete_lake_none() {
        let all = plan(&scope(3), &Inventory::default(), PlanPhase::BeforeExtraction).unwrap();
        let counts: Vec<_> = all.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [4, 15, 0, 4, 4, 1, 15, 4, 4, 3, 15, 4, 1]);
        assert!(plan(&scope(3), &complete_inventory(3), PlanPhase::BeforeExtraction).unwrap().is_empty());
    }

    #[test]
    fn only_tables_derived_from_others_have_a_version() {
        // Objects of another version count as missing: those of other tables would be extracted again, or never be.
        let derived = plan(&scope(3), &Inventory::default(), PlanPhase::BeforeExtraction).unwrap().derived();
        for table in tables::TABLES.iter().filter(|table| table.version != 1) {
            assert!(derived.iter().any(|(other, _)| *other == *table), "{}", table.full_name());
        }
    }

    #[test]
    fn one_more_day_plans_one_day_of_units() {
        let next = plan(&scope(4), &complete_inventory(3), PlanPhase::BeforeExtraction).unwrap();
        let counts: Vec<_> = next.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 5, 0, 1, 1, 0, 5, 1, 1, 1, 5, 1, 1]);
        assert_eq!(days(&next, Step::ValuePositions), [day(4)]);
        assert_eq!(days(&next, Step::LinkWallets), [day(3)]);
    }

    #[test]
    fn newest_event_day_is_verified_if_a_later_one_is_extracted() {
        let verified = |as_of, inventory: &Inventory| {
            let plan = plan(&scope(as_of), inventory, PlanPhase::BeforeExtraction).unwrap();
            plan.to_verify().to_vec()
        };
        let units = |number| Category::ALL.map(|category| WorkUnit::EventDay(day(number), category)).to_vec();
        assert_eq!(verified(4, &complete_inventory(3)), units(2), "the last event day of the run before");
        assert_eq!(verified(3, &complete_inventory(3)), [], "the day is complete");
        assert_eq!(verified(2, &complete_inventory(3)), [], "an earlier day is complete");
        assert_eq!(verified(3, &Inventory::default()), [], "there is nothing to verify");
        let mut inventory = complete_inventory(3);
        remove(&mut inventory, tables::event_table(Layer::Raw, Category::Repay), &WorkUnit::Day(day(1)));
        assert_eq!(verified(3, &inventory), [], "a gap before the newest day");
        let inventory = complete_inventory(3);
        let forced = plan(&Scope { force: true, ..scope(4) }, &inventory, PlanPhase::BeforeExtraction).unwrap();
        let after = plan(&scope(4), &inventory, PlanPhase::AfterExtraction(None)).unwrap();
        assert!([forced, after].iter().all(|plan| plan.to_verify().is_empty()));
    }

    #[test]
    fn events_that_arrived_late_are_recomputed() {
        let mut inventory = complete_inventory(4);
        let next = plan(&scope(5), &inventory, PlanPhase::BeforeExtraction).unwrap();
        for category in Category::ALL {
            put(&mut inventory, tables::event_table(Layer::Raw, category), WorkUnit::Day(day(4)));
        }
        let unchanged = plan(&scope(5), &inventory, PlanPhase::AfterExtraction(Some(&next))).unwrap();
        assert_eq!(category_days(&unchanged, Step::StageEvents, Category::Borrow), [day(4)]);
        let late = next.with_extracted_events(&[WorkUnit::EventDay(day(3), Category::Borrow)]);
        let changed = plan(&scope(5), &inventory, PlanPhase::AfterExtraction(Some(&late))).unwrap();
        assert_eq!(category_days(&changed, Step::StageEvents, Category::Borrow), [3, 4].map(day));
        assert_eq!(category_days(&changed, Step::PriceEvents, Category::Borrow), [3, 4].map(day));
        assert_eq!(category_days(&changed, Step::StageEvents, Category::Repay), [3, 4].map(day), "a log counts once");
        assert_eq!(category_days(&changed, Step::StageEvents, Category::Deposit), [day(4)]);
    }

    #[test]
    fn late_markets_change_the_prices_of_seven_more_days() {
        let mut inventory = complete_inventory(12);
        remove(&mut inventory, &tables::STAGE_MARKETS, &WorkUnit::ProtocolDay(day(2), PROTOCOL.into()));
        let plan = plan(&scope(12), &inventory, PlanPhase::AfterExtraction(None)).unwrap();
        let changed: Vec<_> = (2..=9).map(day).collect();
        assert_eq!(category_days(&plan, Step::PriceEvents, Category::Repay), changed);
        assert_eq!(days(&plan, Step::ValuePositions), changed);
        assert_eq!((days(&plan, Step::LinkWallets), days(&plan, Step::BuildFeatures)), (vec![], vec![day(12)]));
    }

    #[test]
    fn late_borrows_change_all_later_snapshots() {
        let mut inventory = complete_inventory(9);
        remove(&mut inventory, &tables::STAGE_BORROWS, &WorkUnit::Day(day(2)));
        let plan = plan(&scope(5), &inventory, PlanPhase::AfterExtraction(None)).unwrap();
        assert_eq!(days(&plan, Step::LinkWallets), [day(2)]);
        assert_eq!(days(&plan, Step::ValuePositions), (3..=9).map(day).collect::<Vec<_>>());
        assert_eq!(plan.units(Step::PriceEvents), [WorkUnit::EventDay(day(2), Category::Borrow)]);
    }

    #[test]
    fn nothing_is_planned_from_a_lost_day() {
        let mut inventory = complete_inventory(3);
        let lost = WorkUnit::ProtocolDay(day(2), PROTOCOL.into());
        for table in [&tables::RAW_POSITIONS, &tables::STAGE_POSITIONS] {
            remove(&mut inventory, table, &lost);
        }
        remove(&mut inventory, &tables::WALLET_HEALTH, &WorkUnit::Day(day(2)));
        let after = plan(&scope(3), &inventory, PlanPhase::AfterExtraction(None)).unwrap();
        assert_eq!(days(&after, Step::ExtractAccountPositions), [day(2)], "without a tombstone, the day is missing");
        assert!(after.units(Step::StageAccountPositions).is_empty() && after.units(Step::ValuePositions).is_empty());
        let before = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&before, Step::ValuePositions), [day(2)]);
    }

    #[test]
    fn scaled_positions_are_staged_with_the_markets_of_their_day() {
        let scaled = Scope { scaled: BTreeSet::from([PROTOCOL.to_owned()]), ..scope(3) };
        let unit = WorkUnit::ProtocolDay(day(2), PROTOCOL.into());
        let mut inventory = complete_inventory(3);
        remove(&mut inventory, &tables::RAW_MARKETS, &unit);
        let staged = |scope: &Scope, phase| days(&plan(scope, &inventory, phase).unwrap(), Step::StageAccountPositions);
        assert_eq!(staged(&scaled, PlanPhase::BeforeExtraction), [day(2)], "other markets give other balances");
        assert_eq!(staged(&scope(3), PlanPhase::BeforeExtraction), []);
        remove(&mut inventory, &tables::STAGE_POSITIONS, &unit);
        let staged = |scope: &Scope| {
            let plan = plan(scope, &inventory, PlanPhase::AfterExtraction(None)).unwrap();
            days(&plan, Step::StageAccountPositions)
        };
        assert_eq!(staged(&scaled), [], "the markets of the day are lost");
        assert_eq!(staged(&scope(3)), [day(2)]);
    }

    #[test]
    fn day_whose_extraction_failed_is_not_staged() {
        let mut inventory = complete_inventory(3);
        remove(&mut inventory, &tables::RAW_POSITIONS, &WorkUnit::ProtocolDay(day(2), PROTOCOL.into()));
        let before = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&before, Step::StageAccountPositions), [day(2)]);
        let after = plan(&scope(3), &inventory, PlanPhase::AfterExtraction(Some(&before))).unwrap();
        assert!(after.units(Step::StageAccountPositions).is_empty());
    }

    #[test]
    fn lost_day_is_requested_again_only_on_request() {
        let mut inventory = complete_inventory(3);
        let lost = WorkUnit::ProtocolDay(day(2), PROTOCOL.into());
        for table in [&tables::RAW_POSITIONS, &tables::STAGE_POSITIONS] {
            remove(&mut inventory, table, &lost);
        }
        remove(&mut inventory, &tables::WALLET_HEALTH, &WorkUnit::Day(day(2)));
        inventory.lost.entry(tables::RAW_POSITIONS.name).or_default().insert(lost.clone());
        let before = |scope: &Scope| plan(scope, &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert!(before(&scope(3)).is_empty(), "nothing to do");
        for scope in [Scope { retry_lost: true, ..scope(3) }, Scope { rebuild_lost: true, ..scope(3) }] {
            let retry = before(&scope);
            assert_eq!(days(&retry, Step::ExtractAccountPositions), [day(2)]);
            assert_eq!(days(&retry, Step::ValuePositions), [day(2)]);
        }
        let forced = before(&Scope { force: true, ..scope(3) });
        assert_eq!(days(&forced, Step::ExtractAccountPositions), [0, 1, 3].map(day), "--force asks for no lost day");
        assert_eq!(days(&forced, Step::ExtractMarketData), [0, 1, 2, 3].map(day));

        put(&mut inventory, &tables::RAW_POSITIONS, lost);
        let forced = plan(&Scope { force: true, ..scope(3) }, &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&forced, Step::ExtractAccountPositions).len(), 4, "a day that is in the lake is not lost");
    }

    #[test]
    fn units_extracted_again_are_recomputed() {
        let mut inventory = complete_inventory(9);
        let markets = WorkUnit::ProtocolDay(day(4), PROTOCOL.into());
        remove(&mut inventory, &tables::RAW_MARKETS, &markets);
        let before = plan(&scope(9), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&before, Step::ExtractMarketData), [day(4)]);
        assert_eq!(days(&before, Step::StageMarketData), [day(4)]);
        put(&mut inventory, &tables::RAW_MARKETS, markets);
        let after = plan(&scope(9), &inventory, PlanPhase::AfterExtraction(Some(&before))).unwrap();
        for step in [Step::StageMarketData, Step::ValuePositions] {
            assert_eq!(after.units(step), before.units(step));
        }
        assert_eq!(days(&after, Step::ValuePositions), (4..=9).map(day).collect::<Vec<_>>());
    }

    /// A run over a node: the protocol begins on the 20th of a month, the run on the 10th of the third month.
    fn scope_of_a_node() -> Scope {
        let day = |text: &str| text.parse::<Day>().unwrap();
        Scope {
            from: BTreeMap::from([(PROTOCOL.to_owned(), day("2023-03-10"))]),
            logs_from: BTreeMap::from([(PROTOCOL.to_owned(), day("2023-01-20"))]),
            ..scope(0)
        }
    }

    /// Returns the plan of a run over an empty lake, and what is in the lake after its extraction.
    fn extracted(scope: &Scope) -> (Plan, Inventory) {
        let mut inventory = Inventory::default();
        let before = plan(scope, &inventory, PlanPhase::BeforeExtraction).unwrap();
        for (table, unit) in before.extracted() {
            put(&mut inventory, table, unit);
        }
        (before, inventory)
    }

    #[test]
    fn logs_before_the_first_day_are_extracted_by_month() {
        let scope = Scope { as_of: "2023-03-12".parse().unwrap(), ..scope_of_a_node() };
        let planned = plan(&scope, &Inventory::default(), PlanPhase::BeforeExtraction).unwrap();
        let names = |step| planned.units(step).iter().map(WorkUnit::to_string).collect::<Vec<_>>();
        let days = (1..12).map(|day| format!("2023-03-{day:02} {PROTOCOL}"));
        let months = ["2023-01", "2023-02"].map(|month| format!("{month} {PROTOCOL}"));
        assert_eq!(names(Step::ExtractLogs), months.into_iter().chain(days).collect::<Vec<_>>());
        let blocks = (1..13).map(|day| format!("2023-03-{day:02}"));
        let starts = ["2023-01-20", "2023-02-01"].map(str::to_owned);
        assert_eq!(names(Step::ExtractDailyBlocks), starts.into_iter().chain(blocks).collect::<Vec<_>>());
        assert_eq!(names(Step::StageAccountPositions), [10, 11, 12].map(|day| format!("2023-03-{day} {PROTOCOL}")));
        assert_eq!(planned.units(Step::StageEvents).len(), 2 * Category::ALL.len());
    }

    #[test]
    fn events_of_a_node_are_staged_again_when_the_markets_that_they_need_arrive() {
        let day = |number: i32| "2023-03-10".parse::<Day>().unwrap().plus_days(number);
        let scope = Scope { as_of: day(4), ..scope_of_a_node() };
        let (before, inventory) = extracted(&scope);
        let lose = |days: &[i32]| {
            let mut inventory = inventory.clone();
            for number in days {
                let unit = WorkUnit::ProtocolDay(day(*number), PROTOCOL.into());
                remove(&mut inventory, &tables::RAW_MARKETS, &unit);
            }
            inventory
        };
        let staged = |inventory: &Inventory, before: Option<&Plan>| {
            let planned = plan(&scope, inventory, PlanPhase::AfterExtraction(before)).unwrap();
            let units = planned.units(Step::StageEvents).iter().filter_map(|unit| unit.as_event_day().ok());
            units.filter(|(_, category)| *category == Category::Borrow).map(|(day, _)| day).collect::<Vec<_>>()
        };
        for lost in [&[2][..], &[0, 1, 2], &[0, 1, 2, 3, 4]] {
            assert_eq!(staged(&lose(lost), Some(&before)), [0, 1, 2, 3].map(day), "{lost:?}");
        }

        let mut all_staged = inventory.clone();
        for category in Category::ALL {
            for number in 0..4 {
                let table = tables::event_table(Layer::Stage, category);
                put(&mut all_staged, table, WorkUnit::Day(day(number)));
            }
        }
        let mut arrived = Plan::default();
        arrived.extend(Step::ExtractMarketData, [WorkUnit::ProtocolDay(day(2), PROTOCOL.into())]);
        assert_eq!(staged(&all_staged, Some(&arrived)), [day(1)]);
        assert_eq!(staged(&all_staged, None), []);
    }

    #[test]
    fn positions_of_a_node_are_replayed_again_after_the_logs_and_with_the_markets_that_arrive() {
        let day = |number: i32| "2023-03-10".parse::<Day>().unwrap().plus_days(number);
        let scope = Scope { as_of: day(4), ..scope_of_a_node() };
        let unit = |number| WorkUnit::ProtocolDay(day(number), PROTOCOL.into());
        let (_, mut inventory) = extracted(&scope);
        for number in 0..=4 {
            put(&mut inventory, &tables::STAGE_POSITIONS, unit(number));
        }
        let replayed = |inventory: &Inventory, arrived: &[(Step, i32)]| {
            let mut before = Plan::default();
            for (step, number) in arrived {
                before.extend(*step, [unit(*number)]);
            }
            let after = plan(&scope, inventory, PlanPhase::AfterExtraction(Some(&before))).unwrap();
            days(&after, Step::StageAccountPositions)
        };
        assert_eq!(replayed(&inventory, &[]), []);
        assert_eq!(replayed(&inventory, &[(Step::ExtractLogs, 1)]), [2, 3, 4].map(day), "all later days");
        assert_eq!(replayed(&inventory, &[(Step::ExtractMarketData, 2)]), [day(2)]);
        remove(&mut inventory, &tables::STAGE_POSITIONS, &unit(2));
        assert_eq!(replayed(&inventory, &[]), [day(2)]);
        remove(&mut inventory, &tables::RAW_MARKETS, &unit(2));
        assert_eq!(replayed(&inventory, &[]), [], "the markets of the day are lost");
    }

    #[test]
    fn months_and_days_of_logs_in_the_lake_are_not_extracted_again() {
        let (month, day) = ("2023-02-01".parse().unwrap(), |text: &str| text.parse::<Day>().unwrap());
        let earlier = Scope {
            from: BTreeMap::from([(PROTOCOL.to_owned(), day("2023-02-15"))]),
            as_of: day("2023-03-02"),
            ..scope_of_a_node()
        };
        let mut inventory = Inventory::default();
        put(&mut inventory, &tables::RAW_LOGS, WorkUnit::ProtocolMonth(month, PROTOCOL.into()));
        let names = |scope: &Scope, inventory: &Inventory| {
            let planned = plan(scope, inventory, PlanPhase::BeforeExtraction).unwrap();
            planned.units(Step::ExtractLogs).iter().map(WorkUnit::to_string).collect::<Vec<_>>()
        };
        let expected = ["2023-01", "2023-03-01"].map(|days| format!("{days} {PROTOCOL}"));
        assert_eq!(names(&earlier, &inventory), expected, "an earlier first day stages from the month");
        inventory
            .lost
            .entry(tables::RAW_LOGS.name)
            .or_default()
            .insert(WorkUnit::ProtocolMonth(month, PROTOCOL.into()));
        assert_eq!(names(&earlier, &inventory), expected, "only the rates of liquidations are lost");
        let retry = Scope { retry_lost: true, ..earlier.clone() };
        let with_rates = ["2023-01", "2023-02", "2023-03-01"].map(|days| format!("{days} {PROTOCOL}"));
        assert_eq!(names(&retry, &inventory), with_rates);
        let staged = plan(&earlier, &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(staged.units(Step::StageEvents).len(), 15 * Category::ALL.len());

        let mut inventory = Inventory::default();
        put(&mut inventory, &tables::RAW_LOGS, WorkUnit::ProtocolDay(day("2023-01-20"), PROTOCOL.into()));
        let later = Scope { as_of: day("2023-03-11"), ..scope_of_a_node() };
        let days_of_january = (21..=31).map(|day| format!("2023-01-{day} {PROTOCOL}"));
        let planned = names(&later, &inventory);
        assert!(days_of_january.eq(planned.iter().filter(|name| name.starts_with("2023-01")).cloned()), "{planned:?}");
        assert!(planned.contains(&format!("2023-02 {PROTOCOL}")));
    }

    #[test]
    fn published_features_need_no_states() {
        let mut inventory = Inventory { has_links: false, ..complete_inventory(3) };
        assert!(plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap().is_empty());
        for passed_shards in [None, Some(2)] {
            inventory.passed_shards = passed_shards;
            let plan = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
            assert_eq!(days(&plan, Step::BuildFeatures), [day(3)], "{passed_shards:?}");
        }
    }

    #[test]
    fn events_extracted_again_are_staged_with_all_later_categories() {
        for (extracted, staged) in [
            (Category::Repay, &[Category::Liquidation, Category::Repay, Category::Withdraw][..]),
            (Category::Deposit, &Category::ALL),
        ] {
            let mut inventory = complete_inventory(5);
            remove(&mut inventory, tables::event_table(Layer::Raw, extracted), &WorkUnit::Day(day(2)));
            let units: Vec<_> = staged.iter().map(|category| WorkUnit::EventDay(day(2), *category)).collect();
            let before = plan(&scope(5), &inventory, PlanPhase::BeforeExtraction).unwrap();
            let lost = plan(&scope(5), &inventory, PlanPhase::AfterExtraction(Some(&before))).unwrap();
            put(&mut inventory, tables::event_table(Layer::Raw, extracted), WorkUnit::Day(day(2)));
            let after = plan(&scope(5), &inventory, PlanPhase::AfterExtraction(Some(&before))).unwrap();
            for plan in [before, after] {
                assert_eq!([plan.units(Step::StageEvents), plan.units(Step::PriceEvents)], [&units[..], &units]);
                assert_eq!(days(&plan, Step::LinkWallets).is_empty(), !staged.contains(&Category::Borrow));
            }
            assert!(lost.units(Step::StageEvents).is_empty(), "{extracted}: nothing is staged without its inputs");
        }
    }

    #[test]
    fn build_that_is_not_published_is_kept_with_its_states() {
        let mut inventory = Inventory { passed_shards: None, ..complete_inventory(3) };
        inventory.build.insert(0);
        inventory.states.insert(state_part(0, 1));
        assert!(plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap().is_empty());
        inventory.states.clear();
        let without_state = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&without_state, Step::BuildFeatures), [day(3)]);
        inventory.passed_shards = Some(1);
        let beside_published = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&beside_published, Step::BuildFeatures), [day(3)], "the build is not the published set");
    }

    #[test]
    fn missing_links_state_plans_its_last_day() {
        let inventory = Inventory { has_links: false, passed_shards: None, ..complete_inventory(3) };
        let plan = plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap();
        assert_eq!((days(&plan, Step::LinkWallets), days(&plan, Step::ValuePositions)), (vec![day(2)], vec![]));
        assert_eq!(days(&plan, Step::BuildFeatures), [day(3)]);
    }

    #[test]
    fn links_state_is_planned_only_where_it_is_missing_and_needed() {
        let linked = |inventory: &Inventory, first: i32| {
            let scope = Scope { from: BTreeMap::from([(PROTOCOL.to_owned(), day(first))]), ..scope(3) };
            days(&plan(&scope, inventory, PlanPhase::AfterExtraction(None)).unwrap(), Step::LinkWallets)
        };
        let missing = Inventory { has_links: false, passed_shards: None, ..complete_inventory(3) };
        assert_eq!(linked(&missing, 0), [day(2)]);
        assert_eq!(linked(&missing, 3), [], "there is no day to link");
        assert_eq!(linked(&Inventory { has_links: true, ..missing.clone() }, 0), []);
        let published = Inventory { has_links: false, ..complete_inventory(3) };
        assert_eq!(linked(&published, 0), [], "it was pruned");
        let mut one_day = missing.clone();
        remove(&mut one_day, &tables::WALLET_LINKS, &WorkUnit::Day(day(1)));
        assert_eq!(linked(&one_day, 0), [day(1)], "the step writes the state, too");
        let mut unstaged = missing;
        remove(&mut unstaged, &tables::STAGE_BORROWS, &WorkUnit::Day(day(2)));
        remove(&mut unstaged, &tables::RAW_BORROWS, &WorkUnit::Day(day(2)));
        assert_eq!(linked(&unstaged, 0), [], "its day can't be linked");
    }

    #[test]
    fn missing_features_or_passed_check_plan_the_build_alone() {
        let mut without_features = complete_inventory(3);
        remove(&mut without_features, &tables::FEATURES_HISTORY, &WorkUnit::Shard(day(3), 0));
        let without_check = Inventory { passed_shards: None, ..complete_inventory(3) };
        for inventory in [without_features, without_check] {
            let mut expected = Plan::default();
            expected.extend(Step::BuildFeatures, [WorkUnit::Day(day(3))]);
            assert_eq!(plan(&scope(3), &inventory, PlanPhase::BeforeExtraction).unwrap(), expected);
        }
        let more_shards = Scope { shards: 2, ..scope(3) };
        let plan = plan(&more_shards, &complete_inventory(3), PlanPhase::BeforeExtraction).unwrap();
        assert_eq!(days(&plan, Step::BuildFeatures), [day(3)], "one of two shards is missing");
    }

    #[test]
    fn force_plans_every_unit() {
        let forced = Scope { force: true, ..scope(3) };
        let after = plan(&forced, &complete_inventory(3), PlanPhase::AfterExtraction(None)).unwrap();
        assert_eq!(after, plan(&scope(3), &Inventory::default(), PlanPhase::BeforeExtraction).unwrap());
    }

    #[test]
    fn first_day_after_the_as_of_day_is_bad_input() {
        assert!(plan(&scope(-1), &Inventory::default(), PlanPhase::BeforeExtraction).is_err());
    }
}
