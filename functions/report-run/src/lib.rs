//! The report of a run: one HTML file with the work of its steps, its check results, the features compared with the
//! previous published set, and the rows that could not be used. It depends on the lake alone: equal lakes give equal
//! bytes.

pub mod gather;
mod sections;

use defi_shared::Result;
use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::lake::Lake;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, RUN_PAGE, RunId, StepOutput};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::ReportRun;

/// Selects the run to report on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The run. Default: the newest run in the lake.
    pub run_id: Option<RunId>,
}

/// The written report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The run.
    pub run_id: RunId,
    /// The location of the report: [`RUN_PAGE`] of the run, in the lake.
    pub report: String,
}

impl StepOutput for Output {}

/// Writes the report of a run to its object [`RUN_PAGE`].
///
/// # Errors
/// Returns the errors of [`render_report`], and `BadInput` if the input names no run and the lake has none.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let run_id = match input.run_id {
        Some(run_id) => run_id,
        None => gather::newest_run(&context.lake).await?,
    };
    let report = write_report(&context.lake, &context.registry, &context.config, &run_id).await?;
    Ok(Output { run_id, report })
}

/// Writes the report of a run to its object [`RUN_PAGE`], and returns its location.
///
/// # Errors
/// Returns the errors of [`render_report`], and of writing the object.
pub async fn write_report(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<String> {
    let page = render_report(lake, registry, config, run).await?;
    let key = run.key(RUN_PAGE);
    lake.store().put(&key, page.into_bytes().into()).await?;
    Ok(lake.store().location(&key))
}

/// Returns the report of a run as HTML.
///
/// # Errors
/// Returns `BadInput` for a run that is not in the lake, and the errors of the lake and of the catalog.
pub async fn render_report(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<String> {
    sections::page(&gather::gather(lake, registry, config, run).await?)
}
