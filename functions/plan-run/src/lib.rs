//! Plans a run: lists the lake and plans the units that are missing.

mod batches;

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::domain::{Category, Day};
use defi_shared::lake::requests::in_order;
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::plan::{Inventory, Plan, PlanPhase, Scope};
use defi_shared::step::{Context, RUN_PLAN, RunCalls, RunId, StepOutput};
use defi_shared::tables::{
    self, CURRENT_POSITIONS, FEATURES_HISTORY, FEATURES_PUBLISHED, Layer, RAW_LOGS, RAW_POSITIONS, TABLES, Table, VIEWS,
};
use defi_shared::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use batches::Batches;

/// The step of this crate.
pub const STEP: Step = Step::PlanRun;

/// The largest number of missing days that a run without a first day extracts.
const MAX_DAYS: usize = 60;

/// The number of tables that are registered at once. Glue allows fewer requests at once than S3.
const CONCURRENT_TABLES: usize = 8;

/// The scope of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day. Default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day. Default: the earliest one of the lake and of all runs that were started over it, or each protocol's
    /// first day before the first run.
    pub from: Option<Day>,
    /// Whether to produce all units, including those that are in the lake.
    pub force: bool,
    /// Whether to extract again the snapshots that their source no longer had in earlier runs.
    pub retry_lost: bool,
    /// Whether to extract them again, and to rebuild those that their source still does not have from its newest state.
    pub rebuild_lost: bool,
    /// After extraction: the key of the plan that extraction executed, from the `plan` field of that call's output.
    /// Nothing is then planned from units that could not be extracted, and everything computed from units that were
    /// extracted is recomputed.
    pub after: Option<String>,
    /// Whether to plan even if another execution of the state machine is running. Both produce the same objects, so the
    /// work of one is wasted.
    pub allow_concurrent: bool,
    /// The ARN of the calling execution of the state machine, which takes the lease of the lake. None: the call is by
    /// hand, and is only rejected if an execution is running.
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
    /// The first day of the run.
    pub from: Day,
    /// Whether units that are in the lake are produced again.
    pub force: bool,
    /// Whether snapshots that are lost are extracted again.
    pub retry_lost: bool,
    /// Whether they are rebuilt if their source still does not have them.
    pub rebuild_lost: bool,
    /// Whether another execution may be running.
    pub allow_concurrent: bool,
    /// The ARN of the execution, if it holds the lease of the lake. It is passed to the calls of the other steps.
    pub lease: Option<String>,
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
/// `BadInput` as for [`plan`], `AlreadyRunning` if another execution of the state machine is running, and the errors of
/// the lake.
pub async fn handle(context: Context, input: Input) -> Result<Output> {
    let lease = input.execution.clone().filter(|_| !input.allow_concurrent);
    match &lease {
        Some(execution) => context.take_lease(execution).await?,
        None if input.allow_concurrent => {}
        None => context.require_free_lease().await?,
    }
    let (mut output, plan) = plan(&context, &input).await?;
    let calls = RunCalls {
        as_of: output.as_of,
        from: Some(output.from),
        run_id: &output.run_id,
        protocols: context.config.current_protocols(),
        source: context.config.source,
        shards: context.config.shards,
        force: input.force,
        rebuild_lost: input.rebuild_lost,
        split: true,
    };
    output.batches = batches::write(&context, &plan, &calls, lease.as_deref(), input.after.is_some()).await?;
    output.lease = lease;
    Ok(output)
}

/// Plans a run, writes the plan to the lake and returns it.
///
/// # Errors
/// `BadInput` for a day in the future, a first day after the as-of day, or too many missing days without a first day, and
/// the errors of the lake.
pub async fn plan(context: &Context, input: &Input) -> Result<(Output, Plan)> {
    let inventory = Inventory::list(&context.lake, context.as_of(input.as_of)?).await?;
    inventory.reject_other_source(context.config.source)?;
    context.reject_other_schema(&inventory).await?;
    let first = context.first_day(input.from, &inventory).await?;
    let scope = context.scope(input.as_of, first, input.force)?;
    let scope = Scope { retry_lost: input.retry_lost, rebuild_lost: input.rebuild_lost, ..scope };
    let before = plan_before(context, input.after.as_deref()).await?;
    let phase = match &before {
        Some((_, before)) => PlanPhase::AfterExtraction(Some(before)),
        None => PlanPhase::BeforeExtraction,
    };
    // The run's own record is ignored after extraction: the plan then determines which units to recompute, which are
    // fewer than recorded if a source had no new data.
    let own = before.as_ref().map(|(run_id, _)| run_id);
    let missing = context.keys_to_replace(&inventory, own).await?;
    let plan = defi_shared::plan::plan(&scope, &inventory.clone().without(&missing), phase)?;
    if input.from.is_none() && before.is_none() {
        reject_long_run(&inventory, &plan)?;
    }
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
        if own.is_none() {
            context.record_first_day(scope.first_day()?).await?;
        }
        Some(write_plan(context, &run_id, &plan, &inventory, at_risk, own.is_none()).await?)
    };
    let output = Output {
        run_id,
        lake: context.lake.store().location(""),
        as_of: scope.as_of,
        from: scope.first_day()?,
        force: input.force,
        retry_lost: input.retry_lost,
        rebuild_lost: input.rebuild_lost,
        allow_concurrent: input.allow_concurrent,
        lease: None,
        units: plan.counts().into_iter().map(|(step, count)| (step.name().to_owned(), count)).collect(),
        nothing_to_do: plan.is_empty(),
        published,
        unfinished_publication,
        plan: key,
        batches: BTreeMap::new(),
    };
    Ok((output, plan))
}

/// Rejects a run that would extract many days that nobody asked for: it could take days and use up an API's quota.
fn reject_long_run(inventory: &Inventory, plan: &Plan) -> Result<()> {
    let days = inventory.days_to_extract(plan);
    let (Some(first), true) = (days.first(), days.len() > MAX_DAYS) else { return Ok(()) };
    let message = format!("{} days from {first} on are missing, and the run has no first day", days.len());
    Err(Error::bad_input(message).with("limit_days", MAX_DAYS).with_hint(format!(
        "set the first day: {{\"from\": \"{first}\"}} in the input of the state machine, --from {first} on the command line"
    )))
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
    let key = run.key(if is_start { RUN_PLAN } else { "plan-after-extraction.json" });
    context.lake.write_json(&key, plan).await?;
    Ok(key)
}

/// Reads the plan that extraction executed, and adds the days of events that extraction found to have changed. Returns
/// it and its run.
async fn plan_before(context: &Context, key: Option<&str>) -> Result<Option<(RunId, Plan)>> {
    let Some(key) = key else { return Ok(None) };
    let invalid = || {
        Error::bad_input(format!("{key:?} is not the key of a plan"))
            .with_hint("use the `plan` field of the output of plan-run")
    };
    let run = key.strip_prefix("runs/").and_then(|key| key.strip_suffix(RUN_PLAN)?.strip_suffix('/'));
    let run: RunId = run.and_then(|run| run.parse().ok()).ok_or_else(invalid)?;
    let plan: Plan = context.lake.read_json(key).await?.ok_or_else(invalid)?;
    let plan = plan.with_extracted_events(&context.late_events(&run).await?);
    Ok(Some((run, plan)))
}

/// Registers every table with its units in the catalog, so that each can be queried even if the run produces no unit of
/// it, and the views. Not the tables of features: only publish-features may change them. Not the tables that the other source fills: the
/// lake never has objects of them.
async fn register_tables(context: &Context, inventory: &Inventory) -> Result<()> {
    let is_published = |table: &Table| *table == FEATURES_PUBLISHED || *table == FEATURES_HISTORY;
    let of_other_source = tables_of_other_source(context.config.source);
    let tables = TABLES.iter().copied().filter(|table| !is_published(table) && !of_other_source.contains(table));
    let register = |table: &'static Table| context.registry.register(table, inventory.units(table));
    in_order(tables, CONCURRENT_TABLES, register).await?;
    for view in VIEWS {
        context.registry.register_view(view, &context.config.chain.wrapped_ether).await?;
    }
    Ok(())
}

/// Returns the tables that only the other source fills.
fn tables_of_other_source(source: DataSource) -> Vec<&'static Table> {
    let of_a_node = [&RAW_LOGS];
    let of_the_apis = [&RAW_POSITIONS, &CURRENT_POSITIONS];
    match source {
        DataSource::Apis => of_a_node.to_vec(),
        DataSource::Chain => {
            let events = Category::ALL.map(|category| tables::event_table(Layer::Raw, category));
            of_the_apis.into_iter().chain(events).collect()
        }
    }
}

/// Returns the id of a run: the as-of day and a digest of the plan. It contains no time, so that equal runs write equal
/// objects.
fn run_id_of(as_of: Day, plan: &Plan) -> Result<RunId> {
    let text =
        serde_json::to_vec(plan).map_err(|cause| Error::internal("can't serialize a plan").with_source(cause))?;
    let digest = const_hex::encode(Sha256::digest(&text));
    Ok(RunId::new(as_of, digest.get(..12).unwrap_or(&digest)))
}
