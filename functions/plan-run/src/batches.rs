//! The calls that the state machine makes of each step: one JSON array a step, each item the whole input of one call.

use std::collections::BTreeMap;

use defi_shared::domain::Day;
use defi_shared::plan::{DaysBy, Plan, STEPS, Scope};
use defi_shared::step::{Context, DayInput, EventInput, ProtocolInput, RunId};
use defi_shared::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Days of one call: a month of a step is seconds of work, so that a call ends long before its deadline and a backfill of years
/// spreads over calls side by side.
const DAYS_A_CALL: usize = 31;

/// Calls a category or protocol, however many days there are: what the calls of a step say of failures must fit into 256 KB.
const CALLS: usize = 24;

/// Where the calls of a step lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// The array's object in the lake; there is none where there is no call.
    pub key: String,
    /// The number of calls.
    pub count: usize,
}

/// Keeps the calls that a plan asks for, and says where, by step. Before extraction they are those of extraction, after it those
/// of all other steps: the freshest positions and the fold are always among them.
pub(crate) async fn keep(
    context: &Context,
    run: &RunId,
    plan: &Plan,
    caller: &Caller<'_>,
) -> Result<BTreeMap<String, Batches>> {
    let mut kept = BTreeMap::new();
    for step in STEPS {
        let calls = caller.calls(step, plan)?;
        let batches = Batches { key: run.key(&format!("batches/{step}.json")), count: calls.len() };
        if !calls.is_empty() {
            context.lake.write_json(&batches.key, &calls).await?;
        }
        kept.insert(step.to_owned(), batches);
    }
    Ok(kept)
}

/// What all calls of a run have in common.
pub(crate) struct Caller<'a> {
    pub scope: &'a Scope,
    pub from: Option<Day>,
    pub run: &'a RunId,
    pub after_extraction: bool,
    /// All protocols of the configuration.
    pub protocols: Vec<&'a str>,
}

impl Caller<'_> {
    fn calls(&self, step: &str, plan: &Plan) -> Result<Vec<Value>> {
        if self.after_extraction == is_extraction(step) {
            return Ok(Vec::new());
        }
        match step {
            "extract-daily-blocks" => self.days(&plan.blocks, DAYS_A_CALL),
            // One call: it keeps one state of all links.
            "link-wallets" => self.days(&plan.links, usize::MAX),
            "value-positions" => self.days(&plan.value, DAYS_A_CALL),
            "extract-events" => self.events(&plan.extract_events),
            "stage-events" => self.events(&plan.stage_events),
            "price-events" => self.events(&plan.price),
            "extract-market-data" => self.protocols(&plan.extract_markets, DAYS_A_CALL),
            // One call a protocol: a day without positions is held against the day before it.
            "extract-account-positions" => self.protocols(&plan.extract_positions, usize::MAX),
            "stage-market-data" => self.protocols(&plan.stage_markets, DAYS_A_CALL),
            "stage-account-positions" => self.protocols(&plan.stage_positions, DAYS_A_CALL),
            "extract-current-positions" => Ok(self.current_positions()),
            "build-features" => Ok(self.features()),
            _ => Err(Error::internal(format!("there are no calls of {step}"))),
        }
    }

    fn days(&self, days: &[Day], days_a_call: usize) -> Result<Vec<Value>> {
        let call = |days: &[Day]| {
            value(&DayInput {
                as_of: Some(self.scope.as_of),
                from: self.from,
                days: Some(days.to_vec()),
                run_id: Some(self.run.clone()),
                ..DayInput::default()
            })
        };
        split(days, days_a_call).map(call).collect()
    }

    fn events(&self, days_by: &DaysBy<defi_shared::domain::Category>) -> Result<Vec<Value>> {
        let calls =
            days_by.iter().flat_map(|(category, days)| split(days, DAYS_A_CALL).map(move |days| (category, days)));
        let call = |(category, days): (&_, &[Day])| {
            value(&EventInput {
                as_of: Some(self.scope.as_of),
                from: self.from,
                events: Some(vec![*category]),
                days: Some(days.to_vec()),
                run_id: Some(self.run.clone()),
                ..EventInput::default()
            })
        };
        calls.map(call).collect()
    }

    fn protocols(&self, days_by: &DaysBy<String>, days_a_call: usize) -> Result<Vec<Value>> {
        let calls =
            days_by.iter().flat_map(|(protocol, days)| split(days, days_a_call).map(move |days| (protocol, days)));
        let call = |(protocol, days): (&String, &[Day])| {
            value(&ProtocolInput {
                as_of: Some(self.scope.as_of),
                from: self.from,
                protocols: Some(vec![protocol.clone()]),
                days: Some(days.to_vec()),
                run_id: Some(self.run.clone()),
                ..ProtocolInput::default()
            })
        };
        calls.map(call).collect()
    }

    fn current_positions(&self) -> Vec<Value> {
        let call = |protocol| json!({"as_of": self.scope.as_of, "protocols": [protocol], "run_id": self.run});
        self.protocols.iter().map(call).collect()
    }

    fn features(&self) -> Vec<Value> {
        let call = |shard| json!({"as_of": self.scope.as_of, "shards": [shard], "run_id": self.run});
        (0..self.scope.shards).map(call).collect()
    }
}

/// Whether the step has its calls from the plan that is made before extraction. The freshest positions wait: the features do
/// not, and share The Graph's rate with nobody then.
fn is_extraction(step: &str) -> bool {
    step.starts_with("extract-") && step != "extract-current-positions"
}

/// The days of each call.
fn split(days: &[Day], days_a_call: usize) -> impl Iterator<Item = &[Day]> {
    days.chunks(days_a_call.max(days.len().div_ceil(CALLS)).max(1))
}

fn value(input: &impl Serialize) -> Result<Value> {
    serde_json::to_value(input).map_err(|cause| Error::internal("an input is no JSON").because(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_days_there_are_the_calls_stay_few_and_leave_none_out() {
        for count in [0, 1, 31, 32, 730, 10_000] {
            let days: Vec<_> = (0..count).map(Day::from_epoch_days).collect();
            let calls: Vec<_> = split(&days, DAYS_A_CALL).collect();
            assert!(calls.len() <= CALLS, "{count}");
            assert_eq!(calls.concat(), days);
        }
    }
}
