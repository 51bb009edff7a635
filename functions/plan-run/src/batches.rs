//! The calls that the state machine makes of each step: one JSON array per step, each item the input of one call.

use std::collections::BTreeMap;

use defi_shared::Result;
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::pipeline::Step;
use defi_shared::plan::Plan;
use defi_shared::step::{Context, RunCalls};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The calls of a step: where they are stored, and their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// The key of the array. The object does not exist if there are no calls.
    pub key: String,
    /// The number of calls.
    pub count: usize,
}

/// Writes the calls of a plan to the lake and returns their keys and numbers, by step. A plan before extraction has the
/// calls of extraction, a plan after it those of all other steps. Each call renews the lease of the execution, if it has
/// one.
pub(crate) async fn write(
    context: &Context,
    plan: &Plan,
    calls: &RunCalls<'_>,
    lease: Option<&str>,
    after_extraction: bool,
) -> Result<BTreeMap<String, Batches>> {
    let write = |step: Step| async move {
        let mut calls_of_step =
            if step.is_extraction() == after_extraction { Vec::new() } else { calls.of(step, plan)? };
        let batch = Batches { key: calls.run_id.key(&format!("batches/{step}.json")), count: calls_of_step.len() };
        if let Some(execution) = lease {
            calls_of_step.iter_mut().for_each(|call| call["lease"] = json!(execution));
        }
        if !calls_of_step.is_empty() {
            context.lake.write_json(&batch.key, &calls_of_step).await?;
        }
        Ok((step.name().to_owned(), batch))
    };
    Ok(in_order(Step::planned(), SMALL_REQUESTS, write).await?.into_iter().collect())
}
