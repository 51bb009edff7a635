//! Plans a run: the work is the units that are missing from the lake. A unit whose inputs are about to change is
//! planned again, so that everything that was computed without late data is recomputed with it.

mod inventory;
mod planner;
mod scope;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::inventory::{Inventory, state_part};
pub use self::planner::plan;
pub use self::scope::{Scope, reject_future_day};
use crate::domain::{Category, Day};
use crate::lake::{WorkUnit, parse_month};
use crate::pipeline::{InputKind, Step};
use crate::tables::{self, Layer, Table};

/// Days by a key, such as a protocol.
pub type DaysBy<K> = BTreeMap<K, Vec<Day>>;

/// The units of work of a run, by step. Serialized as a map from the step's name to its units as strings.
///
/// For `extract-current-positions`, a plan lists only the protocols that were never extracted; the step refreshes all
/// protocols whenever a run has anything to do. The only unit of `build-features` is the as-of day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sorted; steps without units are left out.
    units: BTreeMap<Step, Vec<WorkUnit>>,
    /// Days of events in the lake that are extracted again if the source has another number of events.
    to_verify: Vec<WorkUnit>,
}

/// The name of the days to verify in the JSON of a plan.
const VERIFY: &str = "verify";

impl Plan {
    /// Adds units of a step.
    pub(super) fn extend(&mut self, step: Step, units: impl IntoIterator<Item = WorkUnit>) {
        let mut units = units.into_iter().peekable();
        if units.peek().is_some() {
            let planned = self.units.entry(step).or_default();
            planned.extend(units);
            planned.sort_unstable();
        }
    }

    /// Returns this plan with days of events that were extracted in addition, because they had changed.
    #[must_use]
    pub fn with_extracted_events(&self, units: &[WorkUnit]) -> Self {
        let mut plan = self.clone();
        plan.extend(Step::ExtractEvents, units.iter().cloned());
        plan
    }

    /// Returns the days of events, by category, that are in the lake and that `extract-events` extracts again if the
    /// source has another number of events: some arrived late. They are not among the step's units.
    #[must_use]
    pub fn to_verify(&self) -> &[WorkUnit] {
        &self.to_verify
    }

    /// Returns the units of a step, ordered by day.
    #[must_use]
    pub fn units(&self, step: Step) -> &[WorkUnit] {
        self.units.get(&step).map_or(&[], Vec::as_slice)
    }

    /// Returns whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Returns the number of units of each step that produces units, in the order of a run.
    #[must_use]
    pub fn counts(&self) -> Vec<(Step, usize)> {
        Step::planned().map(|step| (step, self.units(step).len())).collect()
    }

    /// Returns the days of a step's units, by protocol.
    #[must_use]
    pub fn days_by_protocol(&self, step: Step) -> DaysBy<String> {
        let mut days_by = DaysBy::new();
        for unit in self.units(step) {
            if let WorkUnit::ProtocolDay(day, protocol) = unit {
                days_by.entry(protocol.to_string()).or_insert_with(Vec::new).push(*day);
            }
        }
        days_by
    }

    /// Returns the objects that are computed from other objects of the lake, without those of `build-features`.
    pub(super) fn derived(&self) -> Vec<(&'static Table, WorkUnit)> {
        self.objects(
            &[(Step::StageEvents, Layer::Stage), (Step::PriceEvents, Layer::Analytics)],
            &[
                (Step::StageMarketData, &tables::STAGE_MARKETS),
                (Step::StageAccountPositions, &tables::STAGE_POSITIONS),
                (Step::LinkWallets, &tables::WALLET_LINKS),
                (Step::ValuePositions, &tables::WALLET_HEALTH),
            ],
        )
    }

    /// Returns the objects of days that are extracted from the sources.
    pub(super) fn extracted(&self) -> Vec<(&'static Table, WorkUnit)> {
        self.objects(
            &[(Step::ExtractEvents, Layer::Raw)],
            &[
                (Step::ExtractDailyBlocks, &tables::DAILY_BLOCKS),
                (Step::ExtractLogs, &tables::RAW_LOGS),
                (Step::ExtractMarketData, &tables::RAW_MARKETS),
                (Step::ExtractAccountPositions, &tables::RAW_POSITIONS),
            ],
        )
    }

    /// Returns the objects of the units of steps: of those that write a table of events per category to a layer, and of
    /// those that write one table.
    fn objects(&self, events: &[(Step, Layer)], others: &[(Step, &'static Table)]) -> Vec<(&'static Table, WorkUnit)> {
        let mut objects = Vec::new();
        for (step, layer) in events {
            for unit in self.units(*step) {
                if let WorkUnit::EventDay(day, category) = unit {
                    objects.push((tables::event_table(*layer, *category), WorkUnit::Day(*day)));
                }
            }
        }
        for (step, table) in others {
            objects.extend(self.units(*step).iter().map(|unit| (*table, unit.clone())));
        }
        objects
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = |units: &[WorkUnit]| units.iter().map(WorkUnit::to_string).collect::<Vec<_>>();
        let verify = (!self.to_verify.is_empty()).then(|| (VERIFY, names(&self.to_verify)));
        serializer.collect_map(self.units.iter().map(|(step, units)| (step.name(), names(units))).chain(verify))
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut plan = Plan::default();
        for (name, units) in BTreeMap::<String, Vec<String>>::deserialize(deserializer)? {
            let is_verify = name == VERIFY;
            let step = if is_verify { Ok(Step::ExtractEvents) } else { name.parse() };
            let step = step.map_err(|error: crate::Error| de::Error::custom(error.reason()))?;
            let units = units.iter().map(|text| {
                parse_unit(step, text).ok_or_else(|| de::Error::custom(format!("{text:?} is not a unit of {step}")))
            });
            let units = units.collect::<Result<Vec<_>, _>>()?;
            if is_verify { plan.to_verify = units } else { plan.extend(step, units) }
        }
        Ok(plan)
    }
}

/// Parses a unit as its `Display` writes it. Returns `None` if it is not a unit of the step.
fn parse_unit(step: Step, text: &str) -> Option<WorkUnit> {
    let day = |text: &str| text.parse::<Day>().ok();
    Some(match step.input() {
        InputKind::Days | InputKind::Shards => WorkUnit::Day(day(text)?),
        InputKind::EventDays => {
            let (date, category) = text.split_once(' ')?;
            WorkUnit::EventDay(day(date)?, Category::parse(category)?)
        }
        InputKind::ProtocolDays => {
            let (days, protocol) = text.split_once(' ')?;
            match parse_month(days).filter(|_| step == Step::ExtractLogs) {
                Some(first) => WorkUnit::ProtocolMonth(first, protocol.into()),
                None => WorkUnit::ProtocolDay(day(days)?, protocol.into()),
            }
        }
        InputKind::Protocols => WorkUnit::Protocol(text.into()),
        InputKind::Run => return None,
    })
}

/// Whether a run is planned before or after extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanPhase<'a> {
    /// Before extraction. Units that will be extracted count as present.
    BeforeExtraction,
    /// After extraction. Units that could not be extracted, because their history is pruned, are missing, and nothing
    /// is computed from them. Everything computed from the units that the given plan extracted is recomputed.
    AfterExtraction(Option<&'a Plan>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_are_extracted_by_month() {
        assert!(serde_json::from_str::<Plan>(r#"{"extract-logs": ["2022-01 aave-v2-eth"]}"#).is_ok());
        assert!(serde_json::from_str::<Plan>(r#"{"stage-market-data": ["2022-01 aave-v2-eth"]}"#).is_err());
    }

    #[test]
    fn plan_survives_a_round_trip_through_json() {
        let day = Day::from_epoch_days(19_000);
        let mut plan = Plan::default();
        plan.extend(Step::ExtractDailyBlocks, [WorkUnit::Day(day.next()), WorkUnit::Day(day)]);
        plan.extend(Step::StageEvents, Category::ALL.map(|category| WorkUnit::EventDay(day, category)));
        plan.extend(Step::StageMarketData, [WorkUnit::ProtocolDay(day, "aave-v2-eth".into())]);
        plan.extend(Step::ExtractCurrentPositions, [WorkUnit::Protocol("aave-v2-eth".into())]);
        plan.extend(Step::BuildFeatures, [WorkUnit::Day(day)]);
        plan.extend(Step::LinkWallets, []);
        let first = "2022-01-01".parse().unwrap();
        let logs =
            [WorkUnit::ProtocolMonth(first, "aave-v2-eth".into()), WorkUnit::ProtocolDay(day, "aave-v2-eth".into())];
        plan.extend(Step::ExtractLogs, logs);
        plan.to_verify = vec![WorkUnit::EventDay(day.previous(), Category::Borrow)];
        let json = serde_json::to_string(&plan).unwrap();
        assert!(json.contains(r#""stage-market-data":["2022-01-08 aave-v2-eth"]"#), "{json}");
        assert!(json.contains(r#""verify":["2022-01-07 borrow"]"#), "{json}");
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }

    #[test]
    fn plan_lists_the_sorted_units_of_each_step() {
        let unit = |day, protocol: &str| WorkUnit::ProtocolDay(Day::from_epoch_days(day), protocol.into());
        let mut plan = Plan::default();
        plan.extend(Step::StageMarketData, []);
        assert!(plan.is_empty() && plan.units(Step::StageMarketData).is_empty());
        plan.extend(Step::StageMarketData, [unit(2, "b"), unit(1, "b")]);
        plan.extend(Step::StageMarketData, [unit(1, "a")]);
        assert!(!plan.is_empty());
        assert_eq!(plan.units(Step::StageMarketData), [unit(1, "a"), unit(1, "b"), unit(2, "b")]);
        let days = |days: &[i32]| days.iter().map(|day| Day::from_epoch_days(*day)).collect();
        let expected = DaysBy::from([("a".to_owned(), days(&[1])), ("b".to_owned(), days(&[1, 2]))]);
        assert_eq!(plan.days_by_protocol(Step::StageMarketData), expected);
        assert!(plan.days_by_protocol(Step::StageAccountPositions).is_empty());
        let planned: Vec<_> = plan.counts().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(planned, [(Step::StageMarketData, 3)]);
    }

    #[test]
    fn derived_objects_are_those_of_the_stage_and_analytics_layers() {
        let day = WorkUnit::Day(Day::from_epoch_days(19_000));
        let of_category = |category| WorkUnit::EventDay(Day::from_epoch_days(19_000), category);
        let of_protocol = WorkUnit::ProtocolDay(Day::from_epoch_days(19_000), "aave-v2-eth".into());
        let mut plan = Plan::default();
        for (step, unit) in [
            (Step::ExtractDailyBlocks, day.clone()),
            (Step::ExtractEvents, of_category(Category::Repay)),
            (Step::ExtractMarketData, of_protocol.clone()),
            (Step::ExtractAccountPositions, of_protocol.clone()),
            (Step::StageEvents, of_category(Category::Repay)),
            (Step::StageMarketData, of_protocol.clone()),
            (Step::StageAccountPositions, of_protocol.clone()),
            (Step::LinkWallets, day.clone()),
            (Step::PriceEvents, of_category(Category::Borrow)),
            (Step::ValuePositions, day.clone()),
            (Step::BuildFeatures, day.clone()),
        ] {
            plan.extend(step, [unit]);
        }
        let expected = [
            (&tables::STAGE_REPAYS, day.clone()),
            (&tables::BORROWS, day.clone()),
            (&tables::STAGE_MARKETS, of_protocol.clone()),
            (&tables::STAGE_POSITIONS, of_protocol),
            (&tables::WALLET_LINKS, day.clone()),
            (&tables::WALLET_HEALTH, day),
        ];
        assert_eq!(plan.derived(), expected);
    }

    #[test]
    fn unit_of_another_step_is_rejected() {
        for json in [r#"{"stage-events":["2022-01-08"]}"#, r#"{"plan-run":["2022-01-08"]}"#, r#"{"x":[]}"#] {
            assert!(serde_json::from_str::<Plan>(json).is_err(), "{json}");
        }
    }
}
