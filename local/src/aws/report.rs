//! What a run in AWS did, as its lake tells.

use check_features::Output as Checked;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::step::{RunId, RunReport};
use serde::Deserialize;

use super::{Machine, lake_of};
use crate::output::line;
use crate::run::summary::{print_checks, print_gaps, print_steps};

/// What an execution says at its end: plan-run's output, and whatever else.
#[derive(Debug, Deserialize)]
struct Ended {
    run_id: RunId,
    lake: String,
    as_of: Day,
    nothing_to_do: bool,
    published: bool,
    /// None where there was nothing to do.
    reported: Option<Reported>,
}

/// What report-run said.
#[derive(Debug, Deserialize)]
struct Reported {
    report: String,
}

/// Prints the report of the run that an execution's output names.
pub(super) async fn print(machine: &Machine, output: &str) -> Result<()> {
    let ended: Ended = serde_json::from_str(output).map_err(|cause| {
        Error::corrupt("the execution's output does not name its run")
            .because(cause)
            .next("deploy the state machine and the functions of one release")
    })?;
    let Ended { run_id, lake, as_of, nothing_to_do, published, reported } = ended;
    if nothing_to_do && published {
        return line(format_args!("nothing is missing; the features as of {as_of} are published"));
    }
    let (objects, _) = lake_of(&machine.aws, &machine.machine, machine.env);
    if let Some(report) = objects.read_json::<RunReport>(&run_id.key("report.json")).await? {
        print_steps(&report.steps)?;
        print_gaps(&report.gaps)?;
    }
    if let Some(checked) = objects.read_json::<Checked>(&run_id.key("check-features.json")).await? {
        print_checks(&checked)?;
        line(format_args!("\n{} wallets as of {as_of}", checked.wallets))?;
    }
    line(format_args!("lake       {}", lake))?;
    line(format_args!("reports    {}", objects.store().location(&run_id.key(""))))?;
    reported.map_or(Ok(()), |reported| line(format_args!("report     {}", reported.report)))
}
