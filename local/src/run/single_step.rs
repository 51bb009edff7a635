//! `defi step`: runs a single step, or lists the steps.

use defi_shared::error::{Error, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::pipeline::Step;
use serde_json::{Value, json};

use super::{Options, Run};
use crate::handlers;
use crate::output::{self, table};

/// Runs one step over a lake, with the input of its Lambda function, and prints its output as JSON. The default as-of
/// day is the last day of the source, or today for a live source.
///
/// # Errors
/// `BadInput` for an invalid input, and the errors of the step.
pub async fn step(options: &Options, step: Step, input: Option<&str>) -> Result<()> {
    let mut input = parse_input(input)?;
    let run = Run::prepare(options).await?;
    if step != Step::ReportRun
        && let Value::Object(fields) = &mut input
    {
        fields.entry("as_of").or_insert_with(|| json!(run.scope.as_of));
    }
    // An invalid input is rejected before anything is written.
    let call = handlers::prepare(step, input)?;
    let context = run.open(Lake::new(FolderStore::open_for_run(&options.lake)?)).await?;
    let result = call(context.clone()).await;
    context.lake.drain().await;
    run.progress.finish();
    output::json(&result.map_err(|error| error.with("step", step))?)
}

fn parse_input(text: Option<&str>) -> Result<Value> {
    let Some(text) = text else { return Ok(json!({})) };
    serde_json::from_str(text).map_err(|cause| {
        Error::bad_input("the step's input is not JSON")
            .with_source(cause)
            .with_hint("write it as '{\"as_of\": \"2023-11-01\"}'")
    })
}

/// Prints the steps in the order of a run, as a table or as JSON.
///
/// # Errors
/// `Internal` if standard output can't be written to.
pub fn list_steps(as_json: bool) -> Result<()> {
    if as_json {
        let steps: Vec<_> = Step::ALL
            .iter()
            .map(|step| json!({"step": step, "phase": step.phase().name(), "summary": step.summary()}))
            .collect();
        return output::json(&steps);
    }
    let mut rows = table(&["step", "phase", "description"], 3, 3);
    for step in Step::ALL {
        rows.add_row([step.name(), step.phase().name(), step.summary()]);
    }
    rows.wrapped().print()
}
