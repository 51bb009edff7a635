//! What a run has to do: what is missing from the lake, listed and named.

mod batches;

use std::collections::BTreeMap;

use defi_shared::domain::Day;
use defi_shared::executions::Execution;
use defi_shared::plan::{Inventory, Plan, Stage};
use defi_shared::step::{Context, Measured, RunId};
use defi_shared::tables::{FEATURES_HISTORY, FEATURES_PUBLISHED, TABLES};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use batches::Batches;

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
    /// Plan although another execution of the state machine is under way. Both make the same objects, and waste each other's
    /// work.
    pub allow_concurrent: bool,
    /// The execution of the state machine that calls: it does not stand in its own way.
    pub execution: Option<String>,
}

/// What a run has to do, in few words; the plan itself lies in the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Names the run: equal plans of equal runs have equal names.
    pub run_id: RunId,
    /// The lake that it is planned over.
    pub lake: String,
    /// The day that the features are for.
    pub as_of: Day,
    /// The first day, where one was asked for.
    pub from: Option<Day>,
    /// Whether what is there already is made again.
    pub force: bool,
    /// Whether another execution may be under way.
    pub allow_concurrent: bool,
    /// Units to make, by step, in the order of the steps.
    pub units: Vec<(String, usize)>,
    /// Whether there is nothing to do.
    pub nothing_to_do: bool,
    /// Whether the features of the day are published.
    pub published: bool,
    /// The plan's object in the lake; none where there is nothing to do.
    pub plan: Option<String>,
    /// The calls that the state machine makes, by step: before extraction those of extraction, after it those of the other steps.
    pub batches: BTreeMap<String, Batches>,
}

impl Measured for Output {}

/// Plans a run, and keeps the plan in the lake.
///
/// # Errors
/// `BadInput` for a day in the future or a first day after the as_of, `AlreadyRunning` beside another execution of the state
/// machine that began earlier, and the lake's errors.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    refuse_company(&context, &input).await?;
    let (mut output, plan) = plan(&context, &input).await?;
    let scope = context.scope(input.as_of, input.from, input.force)?;
    let caller = batches::Caller {
        scope: &scope,
        from: input.from,
        run: &output.run_id,
        after_extraction: input.after.is_some(),
        protocols: context.config.protocol_names(),
    };
    output.batches = batches::keep(&context, &output.run_id, &plan, &caller).await?;
    Ok(output)
}

/// Of two executions that began together the earlier one goes on, so that they never refuse each other both.
async fn refuse_company(context: &Context, input: &Input) -> Result<()> {
    let Some(executions) = context.executions.as_ref().filter(|_| !input.allow_concurrent) else { return Ok(()) };
    let running = executions.running().await?;
    let own = running.iter().find(|execution| Some(&execution.arn) == input.execution.as_ref());
    let began = |execution: &&Execution| (execution.started, execution.arn.clone());
    let others = running.iter().filter(|execution| Some(&execution.arn) != input.execution.as_ref());
    let earlier = others.filter(|other| own.is_none_or(|own| began(other) < began(&own))).min_by_key(began);
    match earlier {
        None => Ok(()),
        Some(other) => Err(Error::new(Kind::AlreadyRunning, "another execution of this environment is under way")
            .with("execution", &other.name)
            .next("wait for it to end, or start with {\"allow_concurrent\": true}")),
    }
}

/// Plans a run, keeps the plan in the lake, and hands it over.
///
/// # Errors
/// As [`handle`].
pub async fn plan(context: &Context, input: &Input) -> Result<(Output, Plan)> {
    let scope = context.scope(input.as_of, input.from, input.force)?;
    let before = plan_before(context, input.after.as_deref()).await?;
    let stage = match &before {
        Some((_, before)) => Stage::AfterExtraction(Some(before)),
        None => Stage::BeforeExtraction,
    };
    let there = Inventory::of(&context.lake, scope.as_of).await?;
    // Once extraction is over this run knows what it has to make again: less than it feared, where a source had nothing new.
    let own = before.as_ref().map(|(run_id, _)| run_id);
    let plan = defi_shared::plan::plan(&scope, &there.clone().without(&context.unfinished(own).await?), stage)?;
    let run_id = own.cloned().map_or_else(|| name(scope.as_of, &plan), Ok)?;
    let published = context.registry.is_published(scope.as_of).await?;
    if !plan.is_empty() || !published {
        register_tables(context).await?;
    }
    let key = if plan.is_empty() { None } else { Some(keep(context, &run_id, &plan, &there, own.is_none()).await?) };
    let output = Output {
        run_id,
        lake: context.lake.store().location(""),
        as_of: scope.as_of,
        from: input.from,
        force: input.force,
        allow_concurrent: input.allow_concurrent,
        units: plan.counts().into_iter().map(|(step, count)| (step.to_owned(), count)).collect(),
        nothing_to_do: plan.is_empty(),
        published,
        plan: key,
        batches: BTreeMap::new(),
    };
    Ok((output, plan))
}

/// Keeps the plan in its run; a run that begins also notes what it is to make again, and forgets an earlier run of its name.
async fn keep(context: &Context, run: &RunId, plan: &Plan, there: &Inventory, begins: bool) -> Result<String> {
    if begins {
        context.note_unfinished(run, there.made_again(plan)).await?;
        context.forget_reports(run).await?;
    }
    let key = run.key(if begins { PLAN } else { "plan-after-extraction.json" });
    context.lake.write_json(&key, plan).await?;
    Ok(key)
}

/// The plan that is made before extraction.
const PLAN: &str = "plan.json";

/// The plan that extraction went by, and the run that it began.
async fn plan_before(context: &Context, key: Option<&str>) -> Result<Option<(RunId, Plan)>> {
    let Some(key) = key else { return Ok(None) };
    let wrong = || Error::bad_input(format!("{key:?} names no plan")).next("name the plan as plan-run's output has it");
    let run = key.strip_prefix("runs/").and_then(|key| key.strip_suffix(PLAN)?.strip_suffix('/'));
    let run: RunId = run.and_then(|run| run.parse().ok()).ok_or_else(wrong)?;
    let plan = context.lake.read_json(key).await?.ok_or_else(wrong)?;
    Ok(Some((run, plan)))
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
fn name(as_of: Day, plan: &Plan) -> Result<RunId> {
    let text = serde_json::to_vec(plan).map_err(|cause| Error::internal("a plan is no JSON").because(cause))?;
    let digest = const_hex::encode(Sha256::digest(&text));
    Ok(RunId::new(as_of, digest.get(..12).unwrap_or(&digest)))
}
