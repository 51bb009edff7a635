//! The calls that a run makes of each step: the inputs that cover the units of its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{RunId, UnitInput};
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::lake::WorkUnit;
use crate::pipeline::{DataSource, InputKind, Step};
use crate::plan::Plan;

/// The maximum number of calls per event category or protocol. The failures that the calls of a step report must
/// together fit into 256 KB.
const MAX_CALLS: usize = 24;

/// Builds the inputs of a run's calls from the fields that all calls share.
#[derive(Debug, Clone)]
pub struct RunCalls<'a> {
    /// The as-of day.
    pub as_of: Day,
    /// The first day, if the input of the run has one.
    pub from: Option<Day>,
    /// The run.
    pub run_id: &'a RunId,
    /// The protocols whose newest positions are extracted: all of the configuration, or none from a node.
    pub protocols: Vec<&'a str>,
    /// The source of the lake.
    pub source: DataSource,
    /// The number of shards.
    pub shards: u32,
    /// Whether the steps use no state: the features are folded again from all days, links and replays are made again.
    pub force: bool,
    /// Whether snapshots that their source no longer has are rebuilt.
    pub rebuild_lost: bool,
    /// Whether the calls are split by days and shards, so that each ends within a function's time limit.
    pub split: bool,
}

impl RunCalls<'_> {
    /// Returns the inputs of the calls that produce the planned units of a step, as JSON. `extract-current-positions`
    /// and `build-features` are called whenever a run has anything to do.
    ///
    /// # Errors
    /// `Internal` for a step whose units no plan lists.
    pub fn of(&self, step: Step, plan: &Plan) -> Result<Vec<Value>> {
        let units = plan.units(step);
        let inputs = match step.input() {
            InputKind::Days => {
                self.by_key(step, units, |unit| Ok((unit.as_day()?, ())), |(), _| UnitInput::default())?
            }
            InputKind::EventDays => {
                self.by_key(step, units, WorkUnit::as_event_day, |category, is_first| UnitInput {
                    events: Some(vec![*category]),
                    verify: day_to_verify(plan, *category).filter(|_| is_first && step == Step::ExtractEvents),
                    ..UnitInput::default()
                })?
            }
            InputKind::ProtocolDays => {
                let is_month = |unit: &WorkUnit| matches!(unit, WorkUnit::ProtocolMonth(..));
                let (months, days) = units.split_at(units.partition_point(is_month));
                let first_day =
                    |unit: &WorkUnit| unit.as_protocol_days().map(|(days, protocol)| (days.start, protocol));
                let input = |protocol: &Arc<str>, _| UnitInput {
                    protocols: Some(vec![protocol.to_string()]),
                    rebuild_lost: self.rebuild_lost && step.is_newest_first(),
                    ..UnitInput::default()
                };
                let mut calls = self.by_key(step, months, first_day, input)?;
                calls.iter_mut().for_each(|input| input.months = input.days.take());
                calls.extend(self.by_key(step, days, first_day, input)?);
                calls
            }
            InputKind::Protocols => {
                let call = |protocol: &&str| self.call(json!({"protocols": [protocol]}));
                let one_call = || (!self.protocols.is_empty()).then(|| self.call(json!({})));
                return Ok(if self.split {
                    self.protocols.iter().map(call).collect()
                } else {
                    one_call().into_iter().collect()
                });
            }
            InputKind::Shards => {
                let call = |shard: u32| self.call(json!({"shards": [shard], "force": self.force}));
                let one_call = || vec![self.call(json!({"force": self.force}))];
                return Ok(if self.split { (0..self.shards).map(call).collect() } else { one_call() });
            }
            InputKind::Run => return Err(Error::internal("a plan lists no units of the step").with("step", step)),
        };
        inputs.iter().map(to_json).collect()
    }

    /// Returns the inputs of the calls of a step, each with the days of one key: an event category, a protocol, or `()`. `input` gets
    /// the key, and whether the call is the first one of the key.
    fn by_key<K: Ord>(
        &self,
        step: Step,
        units: &[WorkUnit],
        split: impl Fn(&WorkUnit) -> Result<(Day, K)>,
        input: impl Fn(&K, bool) -> UnitInput,
    ) -> Result<Vec<UnitInput>> {
        let mut days_by: BTreeMap<K, Vec<Day>> = BTreeMap::new();
        for unit in units {
            let (day, key) = split(unit)?;
            days_by.entry(key).or_default().push(day);
        }
        let days_per_call = match units.first() {
            _ if self.split => step.days_per_call(self.source),
            // Short calls, although none has a time limit: `defi plan` forecasts the rest from the reports of the first.
            Some(WorkUnit::ProtocolMonth(..)) => 1,
            _ => usize::MAX,
        };
        let calls = days_by
            .iter()
            .flat_map(|(key, days)| {
                let mut chunks: Vec<_> = chunks(days, days_per_call).collect();
                if step.is_newest_first() {
                    chunks.reverse();
                }
                (0..).zip(chunks).map(move |chunk| (key, chunk))
            })
            .map(|(key, (number, days))| UnitInput {
                as_of: Some(self.as_of),
                from: self.from,
                days: Some(days.to_vec()),
                force: self.force,
                run_id: Some(self.run_id.clone()),
                ..input(key, number == 0)
            });
        Ok(calls.collect())
    }

    /// Adds the fields of every call to an input.
    fn call(&self, mut input: Value) -> Value {
        input["as_of"] = json!(self.as_of);
        input["run_id"] = json!(self.run_id);
        input
    }
}

/// Returns the day of a category whose number of events is to be verified.
fn day_to_verify(plan: &Plan, category: Category) -> Option<Day> {
    let days = plan.to_verify().iter().filter_map(|unit| unit.as_event_day().ok());
    days.into_iter().find(|(_, other)| *other == category).map(|(day, _)| day)
}

/// Splits days into the days of each call.
fn chunks(days: &[Day], days_per_call: usize) -> impl Iterator<Item = &[Day]> {
    days.chunks(days_per_call.max(days.len().div_ceil(MAX_CALLS)).max(1))
}

fn to_json(input: &impl Serialize) -> Result<Value> {
    serde_json::to_value(input).map_err(|cause| Error::internal("can't serialize an input").with_source(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_stay_few_and_cover_all_days() {
        for count in [0, 1, 31, 32, 730, 10_000] {
            let days: Vec<_> = (0..count).map(Day::from_epoch_days).collect();
            let calls: Vec<_> = chunks(&days, 31).collect();
            assert!(calls.len() <= MAX_CALLS, "{count}");
            assert_eq!(calls.concat(), days);
        }
    }

    #[test]
    fn months_of_logs_are_in_short_calls_on_one_machine_too() {
        use crate::plan::{Inventory, PlanPhase, Scope, plan};

        let day = |text: &str| text.parse::<Day>().unwrap();
        let first_days = |text: &str| BTreeMap::from([("aave-v2-eth".to_owned(), day(text))]);
        let scope = Scope {
            as_of: day("2023-03-12"),
            from: first_days("2023-03-10"),
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            shards: 1,
            logs_from: first_days("2022-12-20"),
            scaled: std::collections::BTreeSet::new(),
        };
        let plan = plan(&scope, &Inventory::default(), PlanPhase::BeforeExtraction).unwrap();
        let months_of = |split| {
            let run_id = RunId::new(scope.as_of, "0");
            let (as_of, from, source) = (scope.as_of, None, DataSource::Chain);
            let calls = RunCalls {
                as_of,
                from,
                run_id: &run_id,
                protocols: Vec::new(),
                source,
                shards: 1,
                force: false,
                rebuild_lost: false,
                split,
            };
            let calls = calls.of(Step::ExtractLogs, &plan).unwrap();
            calls.iter().map(|call| call["months"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>()
        };
        // The last call has the days of March.
        assert_eq!(months_of(false), [1, 1, 1, 0]);
        assert_eq!(months_of(true), [3, 0]);
    }
}
