//! How far an execution is: a bar a step on a terminal, a line a step elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use defi_shared::error::Result;
use defi_shared::executions::{Description, StateMachine, StateProgress};
use defi_shared::pipeline::Step;
use serde::Serialize;

use crate::output::{line, table};
use crate::run::progress::RunProgress;

/// Step Functions allows few calls a second, and a step takes seconds at least.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// The step that a state calls. None for the other states, which only lead from one step to the next, and for the calls within
/// a map, which have names of their own.
fn step_of(state: &StateProgress) -> Option<Step> {
    state.name.parse().ok()
}

/// Looks at an execution until it ends.
pub(super) async fn follow(machine: &StateMachine, arn: &str) -> Result<Description> {
    let progress = RunProgress::new();
    let mut shown = Shown::default();
    loop {
        // First how it stands: what is done by then is in the progress that is asked for next.
        let description = machine.describe(arn).await?;
        shown.show(&progress, &machine.progress(arn).await?);
        if description.execution.status != "RUNNING" {
            progress.finish();
            return Ok(description);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The steps that were shown to be over.
#[derive(Default)]
struct Shown(BTreeSet<Step>);

impl Shown {
    fn show(&mut self, progress: &RunProgress, states: &[StateProgress]) {
        for (step, state) in states.iter().filter_map(|state| Some((step_of(state)?, state))) {
            let (done, all) = calls(state);
            progress.show(step, done, all);
            if let Some(left) = state.left
                && self.0.insert(step)
            {
                progress.done(step, all, seconds(state.entered, left));
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
    step: Step,
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
        rows.add_row([step.step.to_string(), format!("{}/{}", step.done, step.calls), took]);
    }
    line(format_args!("\n{rows}"))
}
