//! The fold: computes the state of a day from the newest earlier state and the days since, and the features from the
//! state. The features are written as a build, outside every table; publish-features makes them visible.

mod days;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::Result;
use defi_shared::cpu::{for_each_parallel, num_cpus};
use defi_shared::domain::fold::{Fold, WalletState};
use defi_shared::domain::{Address, Day, addresses_of};
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::lake::{FeatureSet, FileMetadata, State, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::plan::state_part;
use defi_shared::step::{CallUnits, Context, FoldStart, Remaining, Report, RunId};
use defi_shared::tables::{FEATURES_BUILD, FeatureRow, StateRow};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use days::History;

/// The step of this crate.
pub const STEP: Step = Step::BuildFeatures;

/// Selects the features to build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day. Default: today (UTC).
    pub as_of: Option<Day>,
    /// The shards to build. Default: all.
    pub shards: Option<Vec<u32>>,
    /// Whether to fold all days again, without using a state.
    pub force: bool,
    /// Only these shards of the others. A call that continues another one passes the `remaining` of its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Remaining>,
    /// The run that the call belongs to. The report of the call is written to `runs/{run_id}/reports/`.
    pub run_id: Option<RunId>,
}

/// Builds the features of the shards, each from its own newest state. Shards whose states have the same day are folded
/// in one pass over the days since. Near the deadline no further shards are folded; at the deadline, those that are not
/// written remain.
///
/// # Errors
/// Returns `BadInput` for an unknown shard, `NotReady` if the lake has no day to fold, and the errors of the lake.
pub async fn handle(context: Context, input: Input) -> Result<Report> {
    let as_of = context.as_of(input.as_of)?;
    let shards = requested_shards(&context, input.shards.as_deref())?;
    let units = shards.iter().map(|shard| WorkUnit::Shard(as_of, *shard)).collect();
    let units = context.call_units(STEP, units, input.resume.as_ref()).await?;
    let history = History::of(&context.lake, as_of, input.force).await?;
    context.progress.begin(STEP, units.len());
    let mut report = Report::default();
    for (since, shards) in passes(&context, as_of, &units, input.force).await? {
        let is_late = context.is_deadline_near();
        let pass = build(&context, &history, as_of, since, &shards);
        match if is_late { None } else { context.before_deadline(pass).await } {
            Some(built) => report.merge(built?),
            None => shards.iter().for_each(|shard| report.remaining.add(&WorkUnit::Shard(as_of, *shard))),
        }
    }
    delete_shards_beyond(&context, as_of).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

/// Folds shards in one pass over the days since their states, and writes them.
async fn build(context: &Context, history: &History, as_of: Day, since: Option<Day>, shards: &[u32]) -> Result<Report> {
    let mut folds = restore(context, since, shards).await?;
    let rows_in = history.fold(&context.lake, since, as_of, &mut folds).await?;
    let folded_from = Some(FoldStart { state: since });
    let mut report = Report { rows_in, folded_from, ..Report::default() };
    let writes = folds.shards.into_iter().map(|(shard, fold)| write(context, as_of, shard, Arc::new(fold)));
    let mut writes = futures::stream::iter(writes).buffered(num_cpus());
    while let Some(written) = writes.next().await {
        report.merge(written?);
        context.progress.advance(STEP);
    }
    Ok(report)
}

/// Returns the passes of a call: the days of the states to start from, each with its shards. If the call before
/// completed no shard, each shard has a pass of its own.
async fn passes(context: &Context, as_of: Day, units: &CallUnits, force: bool) -> Result<Vec<(Option<Day>, Vec<u32>)>> {
    let shards: Vec<_> = units.iter().filter_map(WorkUnit::shard).collect();
    let passes = match force {
        true => BTreeMap::from([(None, shards)]),
        false => by_newest_state(context, as_of, &shards).await?,
    };
    if !units.are_alone() {
        return Ok(passes.into_iter().collect());
    }
    let alone = |(since, shards): (_, Vec<u32>)| shards.into_iter().map(move |shard| (since, vec![shard]));
    Ok(passes.into_iter().flat_map(alone).collect())
}

/// Returns the requested shards, or all shards if the input names none.
fn requested_shards(context: &Context, shards: Option<&[u32]>) -> Result<Vec<u32>> {
    let all = context.config.shards;
    let requested = shards.map_or_else(|| (0..all).collect(), <[u32]>::to_vec);
    match requested.iter().find(|shard| **shard >= all) {
        Some(shard) => {
            Err(defi_shared::Error::bad_input(format!("shard {shard} does not exist: there are {all} shards, from 0")))
        }
        None => Ok(requested),
    }
}

/// Groups the shards by the day of their newest state up to `as_of`; `None` for shards without a state.
async fn by_newest_state(context: &Context, as_of: Day, shards: &[u32]) -> Result<BTreeMap<Option<Day>, Vec<u32>>> {
    let states = context.lake.stored_states(State::Fold).await?;
    let mut by_state: BTreeMap<Option<Day>, Vec<u32>> = BTreeMap::new();
    for shard in shards {
        let part = state_part(*shard, context.config.shards);
        let newest = states.iter().rev().find(|(day, stored)| *day <= as_of && *stored == part);
        by_state.entry(newest.map(|(day, _)| *day)).or_default().push(*shard);
    }
    Ok(by_state)
}

/// The folds of several shards.
#[derive(Debug)]
struct Folds {
    shards: Vec<(u32, Fold)>,
    /// The number of all shards.
    count: u32,
}

impl Folds {
    /// Returns the smallest address range that contains all of the shards.
    fn addresses(&self) -> RangeInclusive<Address> {
        let shards = self.shards.iter().map(|(shard, _)| *shard);
        let (first, last) = (shards.clone().min().unwrap_or(0), shards.max().unwrap_or(self.count - 1));
        addresses_of(first, last, self.count)
    }

    /// Runs `work` on every shard, on all CPUs.
    fn for_each_parallel(&mut self, work: impl Fn(u32, u32, &mut Fold) + Sync + Send) {
        let count = self.count;
        for_each_parallel(&mut self.shards, |(shard, fold)| work(*shard, count, fold));
    }
}

/// Restores the folds of the shards from their states as of `since`; empty folds without a state.
async fn restore(context: &Context, since: Option<Day>, shards: &[u32]) -> Result<Folds> {
    let count = context.config.shards;
    let mut folds = Folds { shards: shards.iter().map(|shard| (*shard, Fold::default())).collect(), count };
    let Some(since) = since else { return Ok(folds) };
    for (shard, fold) in &mut folds.shards {
        let part = state_part(*shard, count);
        let state = context.lake.newest_state::<StateRow>(State::Fold, since, &part).await?;
        for row in state.iter().flat_map(|(_, rows)| rows) {
            row.restore(fold).map_err(|error| error.with("object", State::Fold.key(since, &part)))?;
        }
    }
    Ok(folds)
}

/// Writes the features of a shard, then its state: a state must not exist without its features.
async fn write(context: &Context, as_of: Day, shard: u32, fold: Arc<Fold>) -> Result<Report> {
    let feature =
        move |_: &Fold, wallet, state: &WalletState| state.is_wallet.then(|| FeatureRow::new(wallet, state, as_of));
    let order = fold.sorted_indices();
    let features = Fold::rows(Arc::clone(&fold), Arc::clone(&order), feature);
    let states = Fold::rows(fold, order, |fold, wallet, state| Some(StateRow::new(wallet, state, fold)));
    let unit = WorkUnit::Shard(as_of, shard);
    let written = context.commit(&FEATURES_BUILD, &unit, features, FileMetadata::new()).await?;
    let part = state_part(shard, context.config.shards);
    let state = context.lake.write_state::<StateRow>(State::Fold, as_of, &part, states).await?;
    Ok(Report::default().with_written(written).with_state(state))
}

/// Deletes the shards of a build that was made with more shards before: their wallets would be counted twice.
async fn delete_shards_beyond(context: &Context, as_of: Day) -> Result<()> {
    let build = FeatureSet::build(as_of);
    let shards = context.lake.shards(&build).await?.into_iter().filter(|shard| *shard >= context.config.shards);
    let delete = |shard: u32| {
        let key = build.key(shard);
        async move { context.lake.delete_object(&key).await }
    };
    in_order(shards, SMALL_REQUESTS, delete).await.map(drop)
}
