//! Plans a run: lists the lake and plans the units that are missing.

mod batches;

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::domain::Day;
use defi_shared::executions::Execution;
use defi_shared::lake::requests::in_order;
use defi_shared::pipeline::Step;
use defi_shared::plan::{Inventory, Plan, PlanPhase, Scope};
use defi_shared::step::{Context, RunCalls, RunId, StepOutput};
use defi_shared::tables::{FEATURES_HISTORY, FEATURES_PUBLISHED, TABLES, Table};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use batches::Batches;

/// The step of this crate.
pub const STEP: Step = Step::PlanRun;

/// The number of tables that are registered at once. Glue allows fewer requests at once than S3.
const CONCURRENT_TABLES: usize = 8;

/// The scope of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day. Default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day. Default: each protocol's first day.
    pub from: Option<Day>,
    /// Whether to produce all units, including those that are in the lake.
    pub force: bool,
    /// Whether to extract again the snapshots that their source no longer had in earlier runs.
    pub retry_lost: bool,
    /// After extraction: the key of the plan that extraction executed, from the `plan` field of that call's output.
    /// Nothing is then planned from units that could not be extracted, and everything computed from units that were
    /// extracted is recomputed.
    pub after: Option<String>,
    /// Whether to plan even if another execution of the state machine is running. Both produce the same objects, so the
    /// work of one is wasted.
    pub allow_concurrent: bool,
    /// The ARN of the calling execution of the state machine, which does not count as another one.
    pub execution: Option<String>,
}

/// A summary of the plan. The plan itself is an object of the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The run. Equal plans have equal run ids.
    pub run_id: RunId,
    /// The location of the lake.
    pub lake: String,
    /// The as-of day.
    pub as_of: Day,
    /// The first day, if the input has one.
    pub from: Option<Day>,
    /// Whether units that are in the lake are produced again.
    pub force: bool,
    /// Whether snapshots that are lost are extracted again.
    pub retry_lost: bool,
    /// Whether another execution may be running.
    pub allow_concurrent: bool,
    /// The number of units of each step, in the order of a run.
    pub units: Vec<(String, usize)>,
    /// Whether there is nothing to do.
    pub nothing_to_do: bool,
    /// Whether the features of the day are published.
    pub published: bool,
    /// Whether a publication of any day was interrupted, be it while it deleted the last of what it no longer needs. The
    /// state machine then calls publish-features to finish it.
    pub unfinished_publication: bool,
    /// The key of the plan. None if there is nothing to do.
    pub plan: Option<String>,
    /// The calls that the state machine makes, by step: before extraction those of extraction, after it those of the
    /// other steps.
    pub batches: BTreeMap<String, Batches>,
}

impl StepOutput for Output {}

/// Plans a run and writes the plan to the lake.
///
/// # Errors
/// `BadInput` for a day in the future or a first day after the as-of day, `AlreadyRunning` if an execution of the state
/// machine that started earlier is running, and the errors of the lake.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    reject_concurrent_run(&context, &input).await?;
    let (mut output, plan) = plan(&context, &input).await?;
    let calls = RunCalls {
        as_of: output.as_of,
        from: input.from,
        run_id: &output.run_id,
        protocols: context.config.protocol_names(),
        shards: context.config.shards,
        force: input.force,
        split: true,
    };
    let batches = batches::write(&context, &plan, &calls, input.after.is_some()).await?;
    output.batches = batches;
    Ok(output)
}

/// Rejects the run if an earlier execution is running. Of two executions that start together, only the later one is
/// rejected.
async fn reject_concurrent_run(context: &Context, input: &Input) -> Result<()> {
    let Some(executions) = context.executions.as_ref().filter(|_| !input.allow_concurrent) else { return Ok(()) };
    let running = executions.running().await?;
    let own = running.iter().find(|execution| Some(&execution.arn) == input.execution.as_ref());
    let start_order = |execution: &&Execution| (execution.started, execution.arn.clone());
    let others = running.iter().filter(|execution| Some(&execution.arn) != input.execution.as_ref());
    let earlier = others.filter(|other| own.is_none_or(|own| start_order(other) < start_order(&own)));
    let earlier = earlier.min_by_key(start_order);
    match earlier {
        None => Ok(()),
        Some(other) => Err(Error::new(Kind::AlreadyRunning, "another execution of this environment is running")
            .with("execution", &other.name)
            .with_hint("wait for it to end, or start with {\"allow_concurrent\": true}")),
    }
}

/// Plans a run, writes the plan to the lake and returns it.
///
/// # Errors
/// As [`handle`].
pub async fn plan(context: &Context, input: &Input) -> Result<(Output, Plan)> {
    let scope = context.scope(input.as_of, input.from, input.force)?;
    let scope = Scope { retry_lost: input.retry_lost, ..scope };
    let before = plan_before(context, input.after.as_deref()).await?;
    let phase = match &before {
        Some((_, before)) => PlanPhase::AfterExtraction(Some(before)),
        None => PlanPhase::BeforeExtraction,
    };
    let inventory = Inventory::list(&context.lake, scope.as_of).await?;
    // The run's own record is ignored after extraction: the plan then determines which units to recompute, which are
    // fewer than recorded if a source had no new data.
    let own = before.as_ref().map(|(run_id, _)| run_id);
    let missing = context.keys_to_replace(&inventory, own).await?;
    let plan = defi_shared::plan::plan(&scope, &inventory.clone().without(&missing), phase)?;
    let run_id = own.cloned().map_or_else(|| run_id_of(scope.as_of, &plan), Ok)?;
    let unfinished_publication = input.after.is_none() && context.has_unfinished_publications().await?;
    let published = context.registry.is_published(scope.as_of).await? && !inventory.has_unpublished_build();
    if !plan.is_empty() || !published {
        register_tables(context, &inventory).await?;
    }
    let key = if plan.is_empty() {
        None
    } else {
        let at_risk = keys_at_risk(&scope, &inventory, &plan)?;
        Some(write_plan(context, &run_id, &plan, &inventory, at_risk, own.is_none()).await?)
    };
    let output = Output {
        run_id,
        lake: context.lake.store().location(""),
        as_of: scope.as_of,
        from: input.from,
        force: input.force,
        retry_lost: input.retry_lost,
        allow_concurrent: input.allow_concurrent,
        units: plan.counts().into_iter().map(|(step, count)| (step.name().to_owned(), count)).collect(),
        nothing_to_do: plan.is_empty(),
        published,
        unfinished_publication,
        plan: key,
        batches: BTreeMap::new(),
    };
    Ok((output, plan))
}

/// Returns the keys of the existing objects that a run recomputes, or has to recompute if the days that it verifies have
/// late events.
fn keys_at_risk(scope: &Scope, inventory: &Inventory, plan: &Plan) -> Result<BTreeSet<String>> {
    let mut keys = inventory.keys_to_recompute(plan);
    if !plan.to_verify().is_empty() {
        let late = Plan::default().with_extracted_events(plan.to_verify());
        let if_late = defi_shared::plan::plan(scope, inventory, PlanPhase::AfterExtraction(Some(&late)))?;
        keys.extend(inventory.keys_to_recompute(&if_late));
    }
    Ok(keys)
}

/// Writes the plan to the folder of its run and returns its key. At the start of a run, also marks the lake as one with
/// records of digests, records the versions of the tables and which objects the run will recompute, and deletes the
/// reports of an earlier run with the same id.
async fn write_plan(
    context: &Context,
    run: &RunId,
    plan: &Plan,
    inventory: &Inventory,
    at_risk: BTreeSet<String>,
    is_start: bool,
) -> Result<String> {
    if is_start {
        context.lake.begin_records().await?;
        context.record_versions(inventory).await?;
        context.record_unfinished(run, at_risk).await?;
        context.delete_reports(run).await?;
    }
    let key = run.key(if is_start { PLAN } else { "plan-after-extraction.json" });
    context.lake.write_json(&key, plan).await?;
    Ok(key)
}

/// The name of the plan from before extraction.
const PLAN: &str = "plan.json";

/// Reads the plan that extraction executed, and adds the days of events that extraction found to have changed. Returns
/// it and its run.
async fn plan_before(context: &Context, key: Option<&str>) -> Result<Option<(RunId, Plan)>> {
    let Some(key) = key else { return Ok(None) };
    let invalid = || {
        Error::bad_input(format!("{key:?} is not the key of a plan"))
            .with_hint("use the `plan` field of the output of plan-run")
    };
    let run = key.strip_prefix("runs/").and_then(|key| key.strip_suffix(PLAN)?.strip_suffix('/'));
    let run: RunId = run.and_then(|run| run.parse().ok()).ok_or_else(invalid)?;
    let plan: Plan = context.lake.read_json(key).await?.ok_or_else(invalid)?;
    let plan = plan.with_extracted_events(&context.late_events(&run).await?);
    Ok(Some((run, plan)))
}

/// Registers every table with its units in the catalog, so that each can be queried even if the run produces no unit of
/// it. Not the tables of features: only publish-features may change them.
async fn register_tables(context: &Context, inventory: &Inventory) -> Result<()> {
    let is_published = |table: &Table| *table == FEATURES_PUBLISHED || *table == FEATURES_HISTORY;
    let tables = TABLES.iter().copied().filter(|table| !is_published(table));
    let register = |table: &'static Table| context.registry.register(table, inventory.units(table));
    in_order(tables, CONCURRENT_TABLES, register).await.map(drop)
}

/// Returns the id of a run: the as-of day and a digest of the plan. It contains no time, so that equal runs write equal
/// objects.
fn run_id_of(as_of: Day, plan: &Plan) -> Result<RunId> {
    let text =
        serde_json::to_vec(plan).map_err(|cause| Error::internal("can't serialize a plan").with_source(cause))?;
    let digest = const_hex::encode(Sha256::digest(&text));
    Ok(RunId::new(as_of, digest.get(..12).unwrap_or(&digest)))
}
