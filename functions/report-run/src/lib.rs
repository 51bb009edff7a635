//! The report of a run: one HTML file that tells what its steps did, how its checks came out, what the features look like beside
//! those published before, and what could not be used. It is made from the lake alone: equal lakes give equal bytes.

pub mod gather;
mod sections;

use defi_shared::Result;
use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::lake::Lake;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, Measured, RunId};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::ReportRun;

/// Which run to report on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The run; default: the newest that the lake knows.
    pub run_id: Option<RunId>,
}

/// The report that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The run.
    pub run_id: RunId,
    /// Where its report is: `runs/{run_id}/report.html` of the lake.
    pub report: String,
}

impl Measured for Output {}

/// Writes the report of a run beside its other objects.
///
/// # Errors
/// As [`page`], and `BadInput` where the newest run is asked for and the lake knows none.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let run_id = match input.run_id {
        Some(run_id) => run_id,
        None => gather::newest_run(&context.lake).await?,
    };
    let report = keep(&context.lake, &context.registry, &context.config, &run_id).await?;
    Ok(Output { run_id, report })
}

/// Keeps the report of a run beside its other objects. Where it is.
///
/// # Errors
/// As [`page`].
pub async fn keep(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<String> {
    let page = page(lake, registry, config, run).await?;
    let key = run.key("report.html");
    lake.store().put(&key, page.into_bytes().into()).await?;
    Ok(lake.store().location(&key))
}

/// The report of a run.
///
/// # Errors
/// `BadInput` for a run that the lake does not know, and the errors of the lake and of the catalog.
pub async fn page(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<String> {
    sections::page(&gather::gather(lake, registry, config, run).await?)
}
