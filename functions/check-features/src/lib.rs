//! Write, audit, publish: the audit. Holds a set of features to its constraints, each with a figure and its limits.

mod constraints;
mod evidence;

use defi_shared::domain::Day;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, Measured, RunId};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::CheckFeatures;

/// Which set to check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day of the run; a protocol that begins after the as_of day owes no snapshot. Default: each protocol's own.
    pub from: Option<Day>,
    /// The run that the set was made in: the outcome and the reports of all its steps are kept there.
    pub run_id: Option<RunId>,
}

/// How a constraint came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Within its limits.
    Pass,
    /// Beyond the limit to warn at.
    Warn,
    /// Beyond the limit to fail at.
    Fail,
}

/// A constraint, its figure and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub figure: f64,
    /// The largest figure without a warning.
    pub warn: Option<f64>,
    /// The largest figure that passes.
    pub fail: Option<f64>,
    /// How it came out.
    pub outcome: Outcome,
    /// What the figure counts, in words.
    pub about: String,
}

/// All constraints of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The day that the features are for.
    pub as_of: Day,
    /// Rows of the set.
    pub wallets: u64,
    /// Whether none failed.
    pub passed: bool,
    /// The constraints.
    pub checks: Vec<Check>,
}

impl Measured for Output {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        let figure = |name: &str| self.checks.iter().find(|check| check.name == name).map_or(0.0, |check| check.figure);
        vec![
            ("Wallets", self.wallets as f64),
            ("UnpricedShare", figure("unpriced_events_share").max(figure("unpriced_positions_share"))),
            ("QuarantinedShare", figure("quarantined_share")),
        ]
    }
}

/// Checks a set of features.
///
/// # Errors
/// `QualityFailed` that names each failed constraint with its figure, and the errors of the lake and of the catalog.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let output = evaluate(&context, &input).await?;
    require_pass(&output)?;
    Ok(output)
}

/// Measures the constraints of a set, and keeps the outcome in its run, pass or fail.
///
/// # Errors
/// Those of the lake and of the catalog.
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

/// Turns a failed check into an error.
///
/// # Errors
/// `QualityFailed` that names each failed constraint with its figure.
pub fn require_pass(output: &Output) -> Result<()> {
    let failed = output.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    let failed: Vec<_> = failed.map(|check| format!("{} is {} ({})", check.name, check.figure, check.about)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::QualityFailed, failed.join("; ")).with("as_of", output.as_of))
}
