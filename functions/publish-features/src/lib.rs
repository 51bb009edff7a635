//! Publishes a checked set of features: registers the history's partition, then points `defi_features` to the set.

use std::collections::BTreeSet;

use defi_shared::domain::Day;
use defi_shared::lake::WorkUnit;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, StepOutput};
use defi_shared::tables::FEATURES_HISTORY;
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The step of this crate.
pub const STEP: Step = Step::PublishFeatures;

/// The input of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day of the features. Default: today (UTC).
    pub as_of: Option<Day>,
}

/// The output of the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The day that was published.
    pub as_of: Day,
    /// The day that `defi_features` points to: this day, or a later day that is already published.
    pub newest: Day,
}

impl StepOutput for Output {}

/// Publishes a set of features whose shards all exist. Publishing it again changes nothing.
///
/// # Errors
/// `NotReady` if a shard is missing, and the errors of the lake and of the catalog.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let as_of = context.as_of(input.as_of)?;
    let existing = context.lake.units(&FEATURES_HISTORY).await?;
    let required: BTreeSet<_> = (0..context.config.shards).map(|shard| WorkUnit::Shard(as_of, shard)).collect();
    if let Some(missing) = required.difference(&existing).next() {
        return Err(Error::new(Kind::NotReady, "a shard of the features is not built yet").with("unit", missing));
    }
    context.registry.publish(as_of).await?;
    let newest = context.registry.newest_published().await?.unwrap_or(as_of);
    Ok(Output { as_of, newest })
}
