//! What a step is asked to do: JSON in which every field has a default, so that `{}` works, and unknown fields are refused.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Context, RunId};
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::plan::{DaysBy, Inventory, Plan, Scope, Stage, not_in_the_future, plan};

/// Input of a step whose unit is a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DayInput {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day; default: each protocol's first day.
    pub from: Option<Day>,
    /// These days and no others; default: what is missing from the lake.
    pub days: Option<Vec<Day>>,
    /// None of the days before this one: where a call goes on that stopped before its deadline (its report's `remaining.next`).
    pub resume_at: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// The run that the call belongs to: its report is kept there.
    pub run_id: Option<RunId>,
}

/// Input of a step whose unit is a category of events and a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventInput {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day; default: each protocol's first day.
    pub from: Option<Day>,
    /// These categories; default: all five.
    pub events: Option<Vec<Category>>,
    /// These days and no others; default: what is missing from the lake.
    pub days: Option<Vec<Day>>,
    /// None of the days before this one: where a call goes on that stopped before its deadline (its report's `remaining.next`).
    pub resume_at: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// The run that the call belongs to: its report is kept there.
    pub run_id: Option<RunId>,
}

/// Input of a step whose unit is a protocol and a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolInput {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day; default: each protocol's first day.
    pub from: Option<Day>,
    /// These protocols; default: all that the configuration lists.
    pub protocols: Option<Vec<String>>,
    /// These days and no others; default: what is missing from the lake.
    pub days: Option<Vec<Day>>,
    /// None of the days before this one: where a call goes on that stopped before its deadline (its report's `remaining.next`).
    pub resume_at: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// The run that the call belongs to: its report is kept there.
    pub run_id: Option<RunId>,
}

/// Reads a step's input.
///
/// # Errors
/// `BadInput` for an unknown field or a value of the wrong form.
pub fn parse<I: DeserializeOwned>(input: Value) -> Result<I> {
    let input = match input {
        // The console's and the scheduler's "nothing" may be null.
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => input,
        _ => {
            return Err(Error::bad_input("the step's input is not a JSON object")
                .next("write it as {\"as_of\": \"2023-11-01\"}, or {}"));
        }
    };
    serde_json::from_value(input).map_err(|cause| {
        Error::bad_input("the step's input is wrong")
            .because(cause)
            .next("correct the field, or leave it out for its default")
    })
}

impl Context {
    /// The day that a run is for.
    ///
    /// # Errors
    /// `BadInput` for a day in the future.
    pub fn as_of(&self, as_of: Option<Day>) -> Result<Day> {
        not_in_the_future(as_of.unwrap_or(self.today), self.today)
    }

    /// What a run covers.
    ///
    /// # Errors
    /// `BadInput` for a day in the future, or a first day after the as_of.
    pub fn scope(&self, as_of: Option<Day>, from: Option<Day>, force: bool) -> Result<Scope> {
        Scope::new(&self.config, self.today, as_of, from, force)
    }

    /// Plans over the lake as it is now. What a run that did not get to its end left as it was counts as missing.
    ///
    /// # Errors
    /// The lake's, or `BadInput` as for [`Context::scope`].
    pub async fn plan(&self, scope: &Scope, stage: Stage<'_>) -> Result<Plan> {
        let unfinished = self.unfinished(None).await?;
        plan(scope, &Inventory::of(&self.lake, scope.as_of).await?.without(&unfinished), stage)
    }

    /// The days of a step: those that the input names, else what the plan says is missing.
    ///
    /// # Errors
    /// As [`Context::plan`].
    pub async fn days(&self, input: &DayInput, part: impl FnOnce(Plan) -> Vec<Day>) -> Result<Vec<Day>> {
        let scope = self.scope(input.as_of, input.from, input.force)?;
        let days = match &input.days {
            Some(days) => named(days, &scope)?,
            None => part(self.plan(&scope, Stage::AfterExtraction(None)).await?),
        };
        Ok(days.into_iter().filter(|day| Some(*day) >= input.resume_at).collect())
    }

    /// The categories and days of a step, likewise.
    ///
    /// # Errors
    /// As [`Context::plan`].
    pub async fn event_days(
        &self,
        input: &EventInput,
        part: impl FnOnce(Plan) -> DaysBy<Category>,
    ) -> Result<Vec<(Category, Day)>> {
        let scope = self.scope(input.as_of, input.from, input.force)?;
        let categories = sorted(input.events.as_deref().unwrap_or(&Category::ALL));
        let days_by = match &input.days {
            Some(days) => {
                let days = named(days, &scope)?;
                categories.iter().map(|category| (*category, days.clone())).collect()
            }
            None => part(self.plan(&scope, Stage::AfterExtraction(None)).await?),
        };
        Ok(pairs(days_by, input.resume_at, |category| categories.contains(category)))
    }

    /// The protocols and days of a step, likewise.
    ///
    /// # Errors
    /// As [`Context::plan`], and `BadInput` for a protocol that is not known.
    pub async fn protocol_days(
        &self,
        input: &ProtocolInput,
        part: impl FnOnce(Plan) -> DaysBy<String>,
    ) -> Result<Vec<(String, Day)>> {
        let scope = self.scope(input.as_of, input.from, input.force)?;
        let protocols = self.protocols(input.protocols.as_deref())?;
        let days_by = match &input.days {
            Some(days) => {
                let days = named(days, &scope)?;
                protocols.iter().map(|protocol| (protocol.clone(), days.clone())).collect()
            }
            None => part(self.plan(&scope, Stage::AfterExtraction(None)).await?),
        };
        Ok(pairs(days_by, input.resume_at, |protocol| protocols.contains(protocol)))
    }

    /// The protocols that an input names, or all.
    ///
    /// # Errors
    /// `BadInput` for a protocol that is not known.
    pub fn protocols(&self, named: Option<&[String]>) -> Result<Vec<String>> {
        let Some(named) = named else {
            return Ok(self.config.protocol_names().into_iter().map(str::to_owned).collect());
        };
        named.iter().try_for_each(|name| self.config.protocol(name).map(drop))?;
        Ok(sorted(named))
    }
}

/// The days that an input names. Before the first day of a run no protocol has begun: what a step would make of such a day is
/// empty, and would take the place of what is there.
fn named(days: &[Day], scope: &Scope) -> Result<Vec<Day>> {
    let (days, first) = (sorted(days), scope.first_day()?);
    match days.first().filter(|day| **day < first) {
        Some(day) => Err(Error::bad_input(format!("the day {day} lies before the first day {first}"))
            .next("choose later days, or an earlier first day")),
        None => Ok(days),
    }
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

/// The pairs of the wanted keys and their days from `resume_at` on.
fn pairs<K: Clone>(days_by: DaysBy<K>, resume_at: Option<Day>, wanted: impl Fn(&K) -> bool) -> Vec<(K, Day)> {
    let wanted = days_by.into_iter().filter(|(key, _)| wanted(key));
    let pairs = wanted.flat_map(|(key, days)| days.into_iter().map(move |day| (key.clone(), day)));
    pairs.filter(|(_, day)| Some(*day) >= resume_at).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_input_works_and_an_unknown_field_is_refused() {
        assert_eq!(parse::<DayInput>(json!({})).unwrap(), DayInput::default());
        assert_eq!(parse::<DayInput>(json!(null)).unwrap(), DayInput::default());
        for input in
            [json!({"asof": "2023-01-01"}), json!({"as_of": "yesterday"}), json!({"days": "2023-01-01"}), json!([])]
        {
            let error = parse::<DayInput>(input).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::BadInput);
        }
        assert!(parse::<EventInput>(json!({"events": ["flashloan"]})).unwrap_err().to_string().contains("flashloan"));
    }
}
