//! What a run in AWS did, as its lake tells.

use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::step::CheckResults;
use defi_shared::step::{RunId, RunReport};
use serde::{Deserialize, Serialize};

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

/// What the run of an execution did.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    run_id: RunId,
    as_of: Day,
    /// Nothing was missing, and the day was published.
    nothing_to_do: bool,
    /// Where the lake is, what the run kept there, and its page.
    lake: String,
    reports: String,
    page: Option<String>,
    report: Option<RunReport>,
    checks: Option<CheckResults>,
}

impl Told {
    /// Of the run that an execution's output names.
    pub(super) async fn of(machine: &Machine, output: &str) -> Result<Self> {
        let ended: Ended = serde_json::from_str(output).map_err(|cause| {
            Error::corrupt("the execution's output does not name its run")
                .because(cause)
                .next("deploy the state machine and the functions of one release")
        })?;
        let (objects, _) = lake_of(&machine.aws, &machine.machine, machine.env);
        let Ended { run_id, lake, as_of, nothing_to_do, published, reported } = ended;
        Ok(Told {
            as_of,
            nothing_to_do: nothing_to_do && published,
            lake,
            reports: objects.store().location(&run_id.key("")),
            page: reported.map(|reported| reported.report),
            report: objects.read_json(&run_id.key("report.json")).await?,
            checks: objects.read_json(&run_id.key("check-features.json")).await?,
            run_id,
        })
    }

    /// Prints it for people.
    pub(super) fn print(&self) -> Result<()> {
        let as_of = self.as_of;
        if self.nothing_to_do {
            return line(format_args!("nothing is missing; the features as of {as_of} are published"));
        }
        if let Some(report) = &self.report {
            print_steps(&report.steps)?;
            print_gaps(&report.gaps)?;
        }
        if let Some(checks) = &self.checks {
            print_checks(checks)?;
            line(format_args!("\n{} wallets as of {as_of}", checks.wallets))?;
        }
        line(format_args!("lake       {}", self.lake))?;
        line(format_args!("reports    {}", self.reports))?;
        self.page.as_ref().map_or(Ok(()), |page| line(format_args!("report     {page}")))
    }
}
