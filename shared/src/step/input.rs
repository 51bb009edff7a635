//! The input of a step: JSON in which every field has a default, so that `{}` works, and unknown fields are rejected.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CallUnits, Context, Remaining, RunId};
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::lake::WorkUnit;
use crate::pipeline::{InputKind, Step};
use crate::plan::{Inventory, Plan, PlanPhase, Scope, plan, reject_future_day};

/// The input of a step that works on days, on days of event categories, or on days of protocols.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitInput {
    /// The as-of day. Default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day. Default: each protocol's first day.
    pub from: Option<Day>,
    /// These event categories, for steps that work on events. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<Category>>,
    /// These protocols, for steps that work on protocols. Default: all of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
    /// These days. Default: the days that are missing from the lake.
    pub days: Option<Vec<Day>>,
    /// These months, each by its first day, for `extract-logs`: beside `days`, or alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub months: Option<Vec<Day>>,
    /// A day of events that is in the lake: it is extracted again if the source has another number of its events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Day>,
    /// Only these units of the others. A call that continues another one passes the `remaining` of its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Remaining>,
    /// Whether to produce all units, including those that are in the lake, and to use no state of an earlier run.
    pub force: bool,
    /// Whether to extract again what the source no longer had, for steps that extract snapshots. Days that are listed
    /// in `days` are extracted in any case.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retry_lost: bool,
    /// Whether to extract again what the source no longer had, and to rebuild from its newest state what it still does not
    /// have. For the same steps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rebuild_lost: bool,
    /// The run that the call belongs to. The report of the call is written to `runs/{run_id}/reports/`.
    pub run_id: Option<RunId>,
}

/// Parses the input of a step.
///
/// # Errors
/// `BadInput` for an unknown field or an invalid value.
pub fn parse<I: DeserializeOwned>(input: Value) -> Result<I> {
    let input = match input {
        // The console and the scheduler may send null for an empty input.
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => input,
        _ => {
            return Err(Error::bad_input("the step's input is not a JSON object")
                .with_hint("write it as {\"as_of\": \"2023-11-01\"}, or {}"));
        }
    };
    serde_path_to_error::deserialize(input).map_err(|cause| {
        let field = cause.path().to_string();
        Error::bad_input("the step's input is invalid")
            .with("field", field)
            .with_source(cause.into_inner())
            .with_hint("correct the field, or omit it to use its default")
    })
}

impl Context {
    /// Returns the as-of day of a run: the given day, or today.
    ///
    /// # Errors
    /// `BadInput` for a day in the future.
    pub fn as_of(&self, as_of: Option<Day>) -> Result<Day> {
        reject_future_day(as_of.unwrap_or(self.today), self.today)
    }

    /// Returns the scope of a run.
    ///
    /// # Errors
    /// `BadInput` for a day in the future, or a first day after the as-of day.
    pub fn scope(&self, as_of: Option<Day>, from: Option<Day>, force: bool) -> Result<Scope> {
        Scope::new(&self.config, self.today, as_of, from, force)
    }

    /// Plans a run over the lake as it is now. Objects that an interrupted run did not recompute count as missing.
    ///
    /// # Errors
    /// The errors of the lake, and `BadInput` as for [`Context::scope`].
    pub async fn plan(&self, scope: &Scope, phase: PlanPhase<'_>) -> Result<Plan> {
        let unfinished = self.unfinished_keys(None).await?;
        plan(scope, &Inventory::list(&self.lake, scope.as_of).await?.without(&unfinished), phase)
    }

    /// Returns the units of a step that an input selects: those of its `days`, or else those that are missing from the
    /// lake. Ordered by day, those of snapshots from the newest to the oldest. For a call that continues another one, those of them that remained.
    ///
    /// # Errors
    /// `BadInput` for a field that the step does not have, an unknown protocol, a day outside the scope, or a remaining
    /// unit that the input does not select, and the errors of [`Context::plan`].
    pub async fn units(&self, step: Step, input: &UnitInput) -> Result<CallUnits> {
        reject_fields_of_other_steps(step, input)?;
        let scope = self.scope(input.as_of, input.from, input.force)?;
        let scope = Scope { retry_lost: input.retry_lost, rebuild_lost: input.rebuild_lost, ..scope };
        let protocols = self.protocols(input.protocols.as_deref())?;
        let categories = sorted(input.events.as_deref().unwrap_or(&Category::ALL));
        let is_selected = |unit: &WorkUnit| match unit {
            WorkUnit::EventDay(_, category) => categories.contains(category),
            WorkUnit::ProtocolDay(_, protocol) | WorkUnit::ProtocolMonth(_, protocol) => {
                protocols.iter().any(|name| **name == **protocol)
            }
            _ => true,
        };
        let units = match (&input.days, &input.months) {
            (None, None) => self.plan(&scope, PlanPhase::AfterExtraction(None)).await?.units(step).to_vec(),
            (days, months) => {
                let days = days_within(days.as_deref().unwrap_or_default(), scope.first_day_of(step)?)?;
                let mut units = units_of_months(&first_days(months.as_deref().unwrap_or_default())?, &protocols);
                units.extend(units_of_days(step, &days, &categories, &protocols));
                units
            }
        };
        let verify = input.verify.map(|day| units_of_days(step, &[day], &categories, &protocols)).unwrap_or_default();
        let selected = units.into_iter().filter(|unit| is_selected(unit) && !verify.contains(unit));
        let mut selected: Vec<_> = verify.iter().cloned().chain(selected).collect();
        if step.is_newest_first() {
            selected.reverse();
        }
        self.call_units(step, selected, input.resume.as_ref()).await
    }

    /// Returns the requested protocols, or all protocols of the configuration.
    ///
    /// # Errors
    /// `BadInput` for an unknown protocol.
    pub fn protocols(&self, requested: Option<&[String]>) -> Result<Vec<String>> {
        let Some(requested) = requested else {
            return Ok(self.config.protocol_names().into_iter().map(str::to_owned).collect());
        };
        requested.iter().try_for_each(|name| self.config.protocol(name).map(drop))?;
        Ok(sorted(requested))
    }
}

fn reject_fields_of_other_steps(step: Step, input: &UnitInput) -> Result<()> {
    let kind = step.input();
    let unknown = match input {
        UnitInput { events: Some(_), .. } if kind != InputKind::EventDays => "events",
        UnitInput { protocols: Some(_), .. } if kind != InputKind::ProtocolDays => "protocols",
        UnitInput { months: Some(_), .. } if step != Step::ExtractLogs => "months",
        UnitInput { verify: Some(_), .. } if step != Step::ExtractEvents => "verify",
        UnitInput { retry_lost: true, .. } if !step.is_newest_first() => "retry_lost",
        UnitInput { rebuild_lost: true, .. } if !step.is_newest_first() => "rebuild_lost",
        _ => return Ok(()),
    };
    Err(Error::bad_input(format!("the input of {step} has no field `{unknown}`")).with_hint("remove the field"))
}

/// Returns the units of a step on the given days.
fn units_of_days(step: Step, days: &[Day], categories: &[Category], protocols: &[String]) -> Vec<WorkUnit> {
    let protocols: Vec<Arc<str>> = protocols.iter().map(|name| name.as_str().into()).collect();
    let mut units = Vec::new();
    for day in days {
        match step.input() {
            InputKind::EventDays => units.extend(categories.iter().map(|category| WorkUnit::EventDay(*day, *category))),
            InputKind::ProtocolDays => {
                units.extend(protocols.iter().map(|protocol| WorkUnit::ProtocolDay(*day, Arc::clone(protocol))));
            }
            _ => units.push(WorkUnit::Day(*day)),
        }
    }
    units
}

/// Returns the units of months, each of all protocols.
fn units_of_months(months: &[Day], protocols: &[String]) -> Vec<WorkUnit> {
    let unit = |first: &Day| {
        let first = *first;
        protocols.iter().map(move |name| WorkUnit::ProtocolMonth(first, name.as_str().into()))
    };
    months.iter().flat_map(unit).collect()
}

/// Returns the months of an input, sorted. Rejects a day that is not the first one of its month.
fn first_days(months: &[Day]) -> Result<Vec<Day>> {
    match months.iter().find(|day| **day != day.first_of_month()) {
        Some(day) => Err(Error::bad_input(format!("{day} is not the first day of a month"))
            .with_hint("write a month as its first day: {\"months\": [\"2021-03-01\"]}")),
        None => Ok(sorted(months)),
    }
}

/// Returns the days of an input, sorted. Rejects days before the first day of the step: no protocol is extracted on such
/// a day, so its unit would be empty and would replace the one in the lake.
fn days_within(days: &[Day], first: Day) -> Result<Vec<Day>> {
    let days = sorted(days);
    match days.first().filter(|day| **day < first) {
        Some(day) => Err(Error::bad_input(format!("the day {day} is before the first day {first}"))
            .with_hint("choose later days, or an earlier first day")),
        None => Ok(days),
    }
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accepts_an_empty_input_and_rejects_unknown_fields() {
        assert_eq!(parse::<UnitInput>(json!({})).unwrap(), UnitInput::default());
        assert_eq!(parse::<UnitInput>(json!(null)).unwrap(), UnitInput::default());
        assert_eq!(parse::<UnitInput>(json!([])).unwrap_err().kind(), crate::Kind::BadInput);
    }

    #[test]
    fn error_names_the_field_and_what_is_expected() {
        for (input, field, expected) in [
            (json!({"asof": "2023-01-01"}), "asof", "unknown field `asof`, expected one of `as_of`, `from`"),
            (json!({"as_of": "yesterday"}), "as_of", "invalid day \"yesterday\"; write a day as YYYY-MM-DD"),
            (json!({"as_of": 7}), "as_of", "invalid type: integer `7`, expected a string"),
            (json!({"days": "2023-01-01"}), "days", "expected a sequence"),
            (json!({"days": ["2023-01-01", "x"]}), "days[1]", "invalid day \"x\""),
            (json!({"events": ["flashloan"]}), "events[0]", "unknown variant `flashloan`, expected one of `borrow`"),
            (json!({"force": "yes"}), "force", "expected a boolean"),
            (json!({"run_id": "a/b"}), "run_id", "\"a/b\" is not a run id; use the run_id of plan-run's output"),
        ] {
            let error = parse::<UnitInput>(input).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), crate::Kind::BadInput);
            assert!(text.contains(&format!("(field={field})")) && text.contains(expected), "{text}");
            assert_eq!((text.matches("; next: ").count(), text.matches("BadInput").count()), (1, 1), "{text}");
        }
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn snapshots_are_extracted_from_the_newest_day_on() {
        use crate::testing::{AAVE, TestLake, january};

        let context = TestLake::new(&[AAVE], january(3)).unwrap().context();
        let days = async |step| {
            let units = context.units(step, &UnitInput::default()).await.unwrap();
            units.iter().filter_map(WorkUnit::day).collect::<Vec<_>>()
        };
        for step in [Step::ExtractMarketData, Step::ExtractAccountPositions] {
            assert_eq!(days(step).await, [3, 2, 1].map(january), "{step}");
        }
        assert_eq!(days(Step::ExtractDailyBlocks).await, [1, 2, 3].map(january));
    }

    #[test]
    fn rejects_fields_of_other_steps() {
        let events = UnitInput { events: Some(vec![Category::Borrow]), ..UnitInput::default() };
        let protocols = UnitInput { protocols: Some(Vec::new()), ..UnitInput::default() };
        let verify = UnitInput { verify: Some(Day::from_epoch_days(0)), ..UnitInput::default() };
        let lost = UnitInput { retry_lost: true, ..UnitInput::default() };
        let rebuilt = UnitInput { rebuild_lost: true, ..UnitInput::default() };
        for (step, input, is_accepted) in [
            (Step::StageEvents, &events, true),
            (Step::StageMarketData, &events, false),
            (Step::LinkWallets, &events, false),
            (Step::StageMarketData, &protocols, true),
            (Step::StageEvents, &protocols, false),
            (Step::LinkWallets, &protocols, false),
            (Step::ExtractEvents, &verify, true),
            (Step::StageEvents, &verify, false),
            (Step::ExtractMarketData, &lost, true),
            (Step::ExtractEvents, &lost, false),
            (Step::StageMarketData, &lost, false),
            (Step::ExtractAccountPositions, &rebuilt, true),
            (Step::StageMarketData, &rebuilt, false),
        ] {
            assert_eq!(reject_fields_of_other_steps(step, input).is_ok(), is_accepted, "{step} {input:?}");
        }
    }
}
