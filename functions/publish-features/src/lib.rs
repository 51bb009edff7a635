//! Publishes a checked set of features: points the history's partition and `defi_features` to the set. No other step
//! changes the published features or these tables.

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, StepOutput};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::PublishFeatures;

/// The input of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day of the features. Default: today (UTC).
    pub as_of: Option<Day>,
    /// Whether only to finish publications that were interrupted, of any day.
    pub only_finish: bool,
}

/// The output of the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The as-of day.
    pub as_of: Day,
    /// The day that `defi_features` points to: this day, or a later day that is already published.
    pub newest: Day,
}

impl StepOutput for Output {}

/// Publishes the set of features that passed its checks, or only finishes interrupted publications. Doing it again
/// changes nothing.
///
/// # Errors
/// As [`Context::publish`].
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let as_of = context.as_of(input.as_of)?;
    if input.only_finish {
        context.finish_publications().await?;
    } else {
        context.publish(as_of).await?;
    }
    let newest = context.registry.newest_published().await?.unwrap_or(as_of);
    Ok(Output { as_of, newest })
}
