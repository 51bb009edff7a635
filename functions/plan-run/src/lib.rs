//! What a run has to do: what is missing from the lake, listed and named.

use defi_shared::domain::Day;
use defi_shared::plan::{Plan, Stage};
use defi_shared::step::Context;
use defi_shared::tables::{FEATURES_HISTORY, FEATURES_PUBLISHED, TABLES};
use defi_shared::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The step's name.
pub const STEP: &str = "plan-run";

/// What a run is to cover.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The day that the features are for; default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day; default: each protocol's first day.
    pub from: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// Once extraction is over: the plan that it went by, as that call's output names it. Then nothing is planned from what could
    /// not be extracted, and what was extracted is made anew from there on.
    pub after: Option<String>,
}

/// What a run has to do, in few words; the plan itself lies in the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Names the run: equal plans of equal runs have equal names.
    pub run_id: String,
    /// The day that the features are for.
    pub as_of: Day,
    /// Units to make, by step, in the order of the steps.
    pub units: Vec<(String, usize)>,
    /// Whether there is nothing to do.
    pub nothing_to_do: bool,
    /// The plan's object in the lake; none where there is nothing to do.
    pub plan: Option<String>,
}

/// Plans a run, and keeps the plan in the lake.
///
/// # Errors
/// `BadInput` for a day in the future or a first day after the as_of, and the lake's errors.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    plan(&context, &input).await.map(|(output, _)| output)
}

/// Plans a run, keeps the plan in the lake, and hands it over.
///
/// # Errors
/// As [`handle`].
pub async fn plan(context: &Context, input: &Input) -> Result<(Output, Plan)> {
    let scope = context.scope(input.as_of, input.from, input.force)?;
    let before = plan_before(context, input.after.as_deref()).await?;
    let stage = if before.is_some() { Stage::AfterExtraction(before.as_ref()) } else { Stage::BeforeExtraction };
    let plan = context.plan(&scope, stage).await?;
    let run_id = run_id(scope.as_of, &plan)?;
    let mut key = None;
    if !plan.is_empty() || !context.registry.published().await?.contains(&scope.as_of) {
        register_tables(context).await?;
    }
    if !plan.is_empty() {
        let name = match &input.after {
            Some(before) => before.replace("plan.json", "plan-after-extraction.json"),
            None => format!("runs/{run_id}/plan.json"),
        };
        context.lake.write_json(&name, &plan).await?;
        key = Some(name);
    }
    let units = plan.counts().into_iter().map(|(step, count)| (step.to_owned(), count)).collect();
    let output = Output { run_id, as_of: scope.as_of, units, nothing_to_do: plan.is_empty(), plan: key };
    Ok((output, plan))
}

/// The plan that extraction went by.
async fn plan_before(context: &Context, key: Option<&str>) -> Result<Option<Plan>> {
    let Some(key) = key else { return Ok(None) };
    let wrong = || Error::bad_input(format!("{key:?} names no plan")).next("name the plan as plan-run's output has it");
    if !(key.starts_with("runs/") && key.ends_with("/plan.json")) {
        return Err(wrong());
    }
    context.lake.read_json(key).await?.map(Some).ok_or_else(wrong)
}

/// Registers every table with what the lake holds of it, so that each answers by its name even where no unit of it is made.
/// What is published is not this step's to say.
async fn register_tables(context: &Context) -> Result<()> {
    for table in TABLES.iter().filter(|table| ***table != FEATURES_PUBLISHED) {
        let units = if **table == FEATURES_HISTORY { Default::default() } else { context.lake.units(table).await? };
        context.registry.register(table, &units).await?;
    }
    Ok(())
}

/// The as_of day and a digest of the plan: no clock, so that equal runs write equal objects.
fn run_id(as_of: Day, plan: &Plan) -> Result<String> {
    let text = serde_json::to_vec(plan).map_err(|cause| Error::internal("a plan is no JSON").because(cause))?;
    let digest = hex::encode(Sha256::digest(&text));
    Ok(format!("{as_of}-{}", digest.get(..12).unwrap_or(&digest)))
}
