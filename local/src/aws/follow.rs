//! Follows the progress of an execution, with one bar per step on a terminal and one line per step elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use defi_shared::error::Result;
use defi_shared::executions::{ExecutionDetails, StateMachine, StateProgress};
use defi_shared::pipeline::Step;
use serde::Serialize;

use crate::output::{line, table};
use crate::run::progress::{Counts, RunProgress};

/// The time between two polls. Step Functions allows few calls per second, and every step takes seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Returns the step that a state calls. None for states that call no step, and for the calls within a map state, which
/// have other names.
fn step_of(state: &StateProgress) -> Option<Step> {
    state.name.parse().ok()
}

/// Polls an execution until it ends, and shows its progress.
pub(super) async fn follow(machine: &StateMachine, arn: &str) -> Result<ExecutionDetails> {
    let progress = RunProgress::new(Counts::Calls);
    let mut finished = FinishedSteps::default();
    loop {
        // The status is requested before the progress, so that the progress of an ended execution is complete.
        let description = machine.describe(arn).await?;
        finished.show(&progress, &machine.progress(arn).await?);
        if description.execution.status != "RUNNING" {
            progress.finish();
            return Ok(description);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The steps that were shown as finished.
#[derive(Default)]
struct FinishedSteps(BTreeSet<Step>);

impl FinishedSteps {
    /// Updates the progress of all steps, and marks each finished step once.
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

/// The progress of one step of an execution.
#[derive(Debug, Serialize)]
pub(super) struct StepProgress {
    step: Step,
    /// The number of finished calls.
    done: u64,
    /// The number of all calls.
    calls: u64,
    /// The duration. None while the step is in progress.
    seconds: Option<f64>,
}

/// Returns the progress of the steps of an execution.
pub(super) fn steps_of(states: &[StateProgress]) -> Vec<StepProgress> {
    let steps = states.iter().filter_map(|state| Some((step_of(state)?, state)));
    let steps = steps.map(|(step, state)| {
        let (done, calls) = calls(state);
        StepProgress { step, done, calls, seconds: state.left.map(|left| seconds(state.entered, left)) }
    });
    steps.collect()
}

/// Returns the number of finished calls of a state and the number of all its calls. A state that is not a map has one.
fn calls(state: &StateProgress) -> (u64, u64) {
    state.items.unwrap_or((u64::from(state.left.is_some()), 1))
}

/// Prints the steps of an execution as a table.
pub(super) fn print_steps(steps: &[StepProgress]) -> Result<()> {
    let mut rows = table(&["step", "calls", "s"], 1, 3);
    for step in steps {
        let seconds = step.seconds.map_or_else(|| "in progress".to_owned(), |seconds| format!("{seconds:.1}"));
        rows.add_row([step.step.to_string(), format!("{}/{}", step.done, step.calls), seconds]);
    }
    line("")?;
    rows.print()
}
