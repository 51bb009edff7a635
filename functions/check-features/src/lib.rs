//! The audit of write, audit, publish: runs the quality checks on a feature set. Each check has a measured value and
//! its limits.

mod constraints;
mod evidence;

use defi_shared::domain::Day;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, Measured, RunId};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::CheckFeatures;

/// Selects the feature set to check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day of the run; default: each protocol's first day. A protocol that starts after the as_of day needs
    /// no snapshot.
    pub from: Option<Day>,
    /// The run that built the set. The check results and the report of all its steps are written to `runs/{run_id}/`.
    pub run_id: Option<RunId>,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The value is within the limits.
    Pass,
    /// The value is above the warning limit.
    Warn,
    /// The value is above the failure limit.
    Fail,
}

/// A quality check: its measured value, its limits and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The name of the check.
    pub name: String,
    /// The measured value.
    pub figure: f64,
    /// The largest value without a warning.
    pub warn: Option<f64>,
    /// The largest value that does not fail.
    pub fail: Option<f64>,
    /// The outcome.
    pub outcome: Outcome,
    /// A description of what the value measures.
    pub about: String,
}

/// The check results of a feature set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The day that the features are for.
    pub as_of: Day,
    /// The number of rows in the set.
    pub wallets: u64,
    /// Whether no check failed.
    pub passed: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Measured for Output {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let value = |name: &str| self.checks.iter().find(|check| check.name == name).map_or(0.0, |check| check.figure);
        vec![
            ("Wallets", self.wallets as f64),
            ("UnpricedShare", value("unpriced_events_share").max(value("unpriced_positions_share"))),
            ("QuarantinedShare", value("quarantined_share")),
        ]
    }
}

/// Checks a feature set.
///
/// # Errors
/// Returns `QualityFailed`, which lists each failed check with its value, and the errors of the lake and of the
/// catalog.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let output = evaluate(&context, &input).await?;
    require_pass(&output)?;
    Ok(output)
}

/// Runs the checks of a feature set and, if the input has a run, writes the results to `runs/{run_id}/`, whatever the
/// outcome.
///
/// # Errors
/// Returns the errors of the lake and of the catalog.
pub async fn evaluate(context: &Context, input: &Input) -> Result<Output> {
    let scope = context.scope(input.as_of, input.from, false)?;
    let evidence = evidence::gather(context, &scope).await?;
    let checks = constraints::all(&evidence, &context.config.checks);
    let passed = checks.iter().all(|check| check.outcome != Outcome::Fail);
    let output = Output { as_of: scope.as_of, wallets: evidence.features.len() as u64, passed, checks };
    if let Some(run) = &input.run_id {
        context.lake.write_json(&run.key("check-features.json"), &output).await?;
        context.report_run(run, &scope).await?;
    }
    Ok(output)
}

/// Returns an error if a check failed.
///
/// # Errors
/// Returns `QualityFailed`, which lists each failed check with its value.
pub fn require_pass(output: &Output) -> Result<()> {
    let failed = output.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    let failed: Vec<_> = failed.map(|check| format!("{} is {} ({})", check.name, check.figure, check.about)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::QualityFailed, failed.join("; ")).with("as_of", output.as_of))
}
