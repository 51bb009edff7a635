//! Reads the result of a run in AWS from its lake.

use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::step::{CheckResults, RUN_CHECKS, RUN_REPORT, RunId, RunReport};
use serde::{Deserialize, Serialize};

use super::Deployment;
use crate::output::line;
use crate::run::summary::{print_checks, print_gaps, print_steps};

/// The fields of an execution's output that are used here.
#[derive(Debug, Deserialize)]
struct ExecutionOutput {
    run_id: RunId,
    lake: String,
    as_of: Day,
    nothing_to_do: bool,
    published: bool,
    /// None if there was nothing to do.
    reported: Option<ReportOutput>,
}

/// The output of report-run.
#[derive(Debug, Deserialize)]
struct ReportOutput {
    report: String,
}

/// The result of an execution.
#[derive(Debug, Serialize)]
pub(super) struct ExecutionResult {
    run_id: RunId,
    as_of: Day,
    /// Nothing was missing and the day was published before.
    nothing_to_do: bool,
    /// The location of the lake.
    lake: String,
    /// The location of the objects that the run wrote about itself.
    reports: String,
    /// The location of the HTML report.
    page: Option<String>,
    pub(super) report: Option<RunReport>,
    pub(super) checks: Option<CheckResults>,
}

impl ExecutionResult {
    /// Reads the result of the run that the output of an execution names.
    pub(super) async fn read(deployment: &Deployment, output: &str) -> Result<Self> {
        let output: ExecutionOutput = serde_json::from_str(output).map_err(|cause| {
            Error::corrupt("the output of the execution is invalid")
                .with_source(cause)
                .with_hint("deploy the state machine and the functions of the same release")
        })?;
        let objects = deployment.lake().await?;
        let ExecutionOutput { run_id, lake, as_of, nothing_to_do, published, reported } = output;
        Ok(ExecutionResult {
            as_of,
            nothing_to_do: nothing_to_do && published,
            lake,
            reports: objects.store().location(&run_id.key("")),
            page: reported.map(|reported| reported.report),
            report: objects.read_json(&run_id.key(RUN_REPORT)).await?,
            checks: objects.read_json(&run_id.key(RUN_CHECKS)).await?,
            run_id,
        })
    }

    /// Prints the result as human-readable text.
    pub(super) fn print(&self) -> Result<()> {
        let as_of = self.as_of;
        if self.nothing_to_do {
            return line(format_args!("no unit is missing; the features as of {as_of} are published"));
        }
        if let Some(report) = &self.report {
            print_steps(&report.steps)?;
            print_gaps(&report.gaps)?;
        }
        if let Some(checks) = &self.checks {
            print_checks(checks)?;
            line("")?;
            line(format_args!("{} wallets as of {as_of}", checks.wallets))?;
        }
        line(format_args!("lake       {}", self.lake))?;
        line(format_args!("reports    {}", self.reports))?;
        self.page.as_ref().map_or(Ok(()), |page| line(format_args!("report     {page}")))
    }
}
