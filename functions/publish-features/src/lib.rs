//! Makes a checked set of features visible: the history's partition first, then the pointer of `defi_features`.

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

/// Which set to publish.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
}

/// What is visible now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The day that was published.
    pub as_of: Day,
    /// The day that `defi_features` shows: this one, or a later one that was published before.
    pub newest: Day,
}

impl StepOutput for Output {}

/// Publishes a set of features whose shards are all there. Publishing it again changes nothing.
///
/// # Errors
/// `NotReady` for a set with a shard missing, and the errors of the lake and of the catalog.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let as_of = context.as_of(input.as_of)?;
    let there = context.lake.units(&FEATURES_HISTORY).await?;
    let wanted: BTreeSet<_> = (0..context.config.shards).map(|shard| WorkUnit::Shard(as_of, shard)).collect();
    if let Some(missing) = wanted.difference(&there).next() {
        return Err(Error::new(Kind::NotReady, "a part of the features is not built yet").with("unit", missing));
    }
    context.registry.publish(as_of).await?;
    let newest = context.registry.newest_published().await?.unwrap_or(as_of);
    Ok(Output { as_of, newest })
}
