//! What a run keeps of itself in the lake: `runs/{run_id}/` with its plan, what each call of each step did, and all of it
//! together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Context, Report};
use crate::domain::Day;
use crate::error::{Error, Result};
use crate::lake::Unit;
use crate::pipeline::Step;
use crate::plan::{DaysBy, PlanPhase, Scope};

/// What all steps of a run did, kept once all of them are done.
const REPORT: &str = "report.json";

/// Names a run: its as_of day and a digest of what it had to do. No clock, so that equal runs have equal names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// The name of a run of a day and a plan.
    #[must_use]
    pub fn new(as_of: Day, digest: &str) -> Self {
        RunId(format!("{as_of}-{digest}"))
    }

    /// The key of an object that belongs to the run.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("runs/{self}/{name}")
    }

    /// Where the reports of a step's calls lie.
    fn reports(&self, step: Step) -> String {
        self.key(&format!("reports/{step}/"))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> String {
        run.0
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// It becomes a part of keys: nothing that leads elsewhere may stand in it.
    fn from_str(text: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err(
                Error::bad_input(format!("{text:?} names no run")).next("name the run as plan-run's output has it")
            );
        }
        Ok(RunId(text.to_owned()))
    }
}

/// What a run did: `runs/{run_id}/report.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// What each step did, in the order of the steps.
    pub steps: Vec<StepReport>,
    /// The days that are missing at the end: history that is pruned, and can't be had any more at this source.
    pub gaps: Gaps,
}

/// Days that a lake has no snapshot of, by protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// Without markets: prices of the days before hold, up to seven days.
    pub markets: DaysBy<String>,
    /// Without positions: no health is known of them.
    pub positions: DaysBy<String>,
}

/// What a step of a run did, all its calls together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// What it did.
    #[serde(flatten)]
    pub report: Report,
}

impl Context {
    /// Keeps what a call of a step did, if it is part of a run. The call is named by its first unit: a call that goes on where
    /// another stopped has another first one.
    ///
    /// # Errors
    /// The lake's.
    pub async fn keep_report(&self, run: Option<&RunId>, step: Step, units: &[Unit], report: &Report) -> Result<()> {
        let (Some(run), Some(first)) = (run, units.first()) else { return Ok(()) };
        let key = format!("{}{}.json", run.reports(step), first.to_string().replace(' ', "."));
        self.lake.write_json(&key, report).await.map(drop)
    }

    /// What a run did, as its calls have told, and what is missing after it.
    ///
    /// # Errors
    /// The lake's.
    pub async fn run_report(&self, run: &RunId, scope: &Scope) -> Result<RunReport> {
        // Forced, a run makes again what is there; that does not make it missing.
        let scope = Scope { force: false, ..scope.clone() };
        let missing = self.plan(&scope, PlanPhase::AfterExtraction(None)).await?;
        let gaps = Gaps {
            markets: missing.days_by_protocol(Step::ExtractMarketData),
            positions: missing.days_by_protocol(Step::ExtractAccountPositions),
        };
        Ok(RunReport { steps: self.step_reports(run).await?, gaps })
    }

    async fn step_reports(&self, run: &RunId) -> Result<Vec<StepReport>> {
        let mut reports = Vec::new();
        for step in Step::planned() {
            let mut sum = None;
            for entry in self.lake.store().list(&run.reports(step)).await? {
                if let Some(report) = self.lake.read_json(&entry.key).await? {
                    sum.get_or_insert_with(Report::default).merge(report);
                }
            }
            reports.extend(sum.map(|report| StepReport { step, report }));
        }
        Ok(reports)
    }

    /// Keeps what all steps of a run did: the run has got to its end.
    ///
    /// # Errors
    /// The lake's.
    pub async fn report_run(&self, run: &RunId, scope: &Scope) -> Result<()> {
        self.lake.write_json(&run.key(REPORT), &self.run_report(run, scope).await?).await.map(drop)
    }

    /// Whether a run has got to its end.
    pub(super) async fn is_reported(&self, run: &RunId) -> Result<bool> {
        Ok(self.lake.store().get(&run.key(REPORT)).await?.is_some())
    }

    /// Forgets what the calls of an earlier run of this name did: a run that is forced twice has one name.
    ///
    /// # Errors
    /// The lake's.
    pub async fn forget_reports(&self, run: &RunId) -> Result<()> {
        self.lake.store().delete(&run.key(REPORT)).await?;
        for entry in self.lake.store().list(&run.key("reports/")).await? {
            self.lake.store().delete(&entry.key).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_leads_nowhere_else() {
        assert!("2023-01-01-0a1b2c".parse::<RunId>().is_ok());
        for text in ["", "..", "a/b", "../chain", "a b", "a.json"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
