//! The units of a call, and how a call continues another one that stopped before its deadline.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::{Context, Remaining, deadline};
use crate::error::{Error, Result};
use crate::lake::WorkUnit;
use crate::pipeline::Step;

/// The units of a call, in the order in which they are processed.
#[derive(Debug, Clone, Default)]
pub struct CallUnits {
    units: Vec<WorkUnit>,
    /// The number of calls in a row, before this one, that completed no unit.
    idle_calls: u32,
}

impl From<Vec<WorkUnit>> for CallUnits {
    fn from(units: Vec<WorkUnit>) -> Self {
        CallUnits { units, idle_calls: 0 }
    }
}

impl Deref for CallUnits {
    type Target = [WorkUnit];

    fn deref(&self) -> &[WorkUnit] {
        &self.units
    }
}

impl<'a> IntoIterator for &'a CallUnits {
    type Item = &'a WorkUnit;
    type IntoIter = std::slice::Iter<'a, WorkUnit>;

    fn into_iter(self) -> Self::IntoIter {
        self.units.iter()
    }
}

impl CallUnits {
    /// Returns whether the units are processed one at a time: the call before completed none of those that it
    /// processed concurrently.
    #[must_use]
    pub fn are_alone(&self) -> bool {
        self.idle_calls > 0
    }

    /// Counts the call as idle if all of its units remain.
    ///
    /// # Errors
    /// `Internal` if a unit was cut for the second time although it was alone, or if the third call in a row completed
    /// no unit. Further calls would end in the same way.
    pub(super) fn count_idle_call(&self, step: Step, remaining: &mut Remaining) -> Result<()> {
        let is_idle = remaining.count > 0 && remaining.count == self.units.len() as u64;
        remaining.idle_calls = if is_idle { self.idle_calls + 1 } else { 0 };
        if remaining.idle_calls >= 3 || remaining.idle_calls == 2 && self.units.len() == 1 {
            let unit = remaining.first.last().map_or("", String::as_str);
            return Err(deadline::too_short("one unit").with("unit", unit).with("step", step));
        }
        Ok(())
    }
}

impl Context {
    /// Returns the units of a call: the selected ones or, of a call that continues another one, those that remained.
    ///
    /// # Errors
    /// `BadInput` if a unit that remained is not selected, and the errors of the lake.
    pub async fn call_units(
        &self,
        step: Step,
        selected: Vec<WorkUnit>,
        resume: Option<&Remaining>,
    ) -> Result<CallUnits> {
        let Some(resume) = resume else { return Ok(selected.into()) };
        let names = match &resume.list {
            Some(key) => self.read_remaining(step, key).await?,
            None => resume.first.clone(),
        };
        let selected: BTreeMap<_, _> = selected.into_iter().map(|unit| (unit.to_string(), unit)).collect();
        let units = names.iter().map(|name| {
            let unit = selected.get(name).cloned();
            unit.ok_or_else(|| invalid(format!("`resume` names {name:?}, which this input of {step} does not select")))
        });
        Ok(CallUnits { units: units.collect::<Result<_>>()?, idle_calls: resume.idle_calls })
    }

    /// Reads the names of the units that a call of the same step left to another one.
    async fn read_remaining(&self, step: Step, key: &str) -> Result<Vec<String>> {
        let path = key.strip_prefix("runs/").and_then(|path| path.split_once('/')).map(|(_, path)| path);
        let name = path.and_then(|path| path.strip_prefix(&format!("reports/{step}/remaining/")));
        let is_list = name.is_some_and(|name| !name.contains('/'));
        let names = if is_list { self.lake.read_json(key).await? } else { None };
        names.ok_or_else(|| invalid(format!("`resume` names {key:?}, which is not a list of units in the lake")))
    }
}

fn invalid(message: String) -> Error {
    Error::bad_input(message).with_hint("use the `remaining` of the report of the call that this one continues")
}
