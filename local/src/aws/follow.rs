//! How far an execution is: a bar a step on a terminal, a line a step elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use defi_shared::error::Result;
use defi_shared::executions::{Description, StateMachine, StateProgress};
use defi_shared::plan::STEPS;
use serde::Serialize;

use crate::output::{line, table};
use crate::run::progress::Watched;

/// Step Functions allows few calls a second, and a step takes seconds at least.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// The states that are steps; the others only lead from one to the next.
fn steps() -> impl Iterator<Item = &'static str> {
    [plan_run::STEP].into_iter().chain(STEPS).chain([check_features::STEP, publish_features::STEP, report_run::STEP])
}

/// The name of the step that a state is, whose calls within a map have names of their own.
fn step_of(state: &StateProgress) -> Option<&'static str> {
    steps().find(|step| *step == state.name)
}

/// Looks at an execution until it ends.
pub(super) async fn follow(machine: &StateMachine, arn: &str) -> Result<Description> {
    let watched = Watched::new();
    let mut shown = Shown::default();
    loop {
        // First how it stands: what is done by then is in the progress that is asked for next.
        let description = machine.describe(arn).await?;
        shown.show(&watched, &machine.progress(arn).await?);
        if description.execution.status != "RUNNING" {
            watched.finish();
            return Ok(description);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The steps that were shown to be over.
#[derive(Default)]
struct Shown(BTreeSet<&'static str>);

impl Shown {
    fn show(&mut self, watched: &Watched, states: &[StateProgress]) {
        for (step, state) in states.iter().filter_map(|state| Some((step_of(state)?, state))) {
            let (done, all) = calls(state);
            watched.show(step, done, all);
            if let Some(left) = state.left
                && self.0.insert(step)
            {
                watched.done(step, all, seconds(state.entered, left));
            }
        }
    }
}

fn seconds(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1000.0
}

/// How far a step of an execution is.
#[derive(Debug, Serialize)]
pub(super) struct StepProgress {
    step: &'static str,
    /// Calls that are done, and all of them.
    done: u64,
    calls: u64,
    /// How long it took; none while it is under way.
    seconds: Option<f64>,
}

/// How far the steps of an execution are.
pub(super) fn steps_of(states: &[StateProgress]) -> Vec<StepProgress> {
    let steps = states.iter().filter_map(|state| Some((step_of(state)?, state)));
    let steps = steps.map(|(step, state)| {
        let (done, calls) = calls(state);
        StepProgress { step, done, calls, seconds: state.left.map(|left| seconds(state.entered, left)) }
    });
    steps.collect()
}

/// The calls of a state that are done, and all of them: one where it is no map.
fn calls(state: &StateProgress) -> (u64, u64) {
    state.items.unwrap_or((u64::from(state.left.is_some()), 1))
}

/// The steps of an execution, as a table.
pub(super) fn print_steps(steps: &[StepProgress]) -> Result<()> {
    let mut rows = table(&["step", "calls", "s"], 1, 3);
    for step in steps {
        let took = step.seconds.map_or_else(|| "under way".to_owned(), |seconds| format!("{seconds:.1}"));
        rows.add_row([step.step.to_owned(), format!("{}/{}", step.done, step.calls), took]);
    }
    line(format_args!("\n{rows}"))
}
