//! Reads the contents of a report from the lake into plain structs: the objects of the run, and the current tables.

mod days;
mod features;
mod movers;
mod unusable;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::plan::Plan;
use defi_shared::step::CheckResults;
use defi_shared::step::{RUN_CHECKS, RUN_PLAN, RUN_REPORT, RunId, RunReport};

pub use days::DailyCounts;
pub use features::{Feature, FeatureStatistics, Measure};
pub use movers::{Change, Mover, Movers};
pub use unusable::{QuarantinedRows, Unpriced, UnpricedToken};

/// The number of days that a report covers. It bounds the rows read and the width of the charts, whatever the size of
/// the lake.
pub const DAYS_SHOWN: i32 = 90;

/// The number of runs in the check history.
pub const RUNS_SHOWN: usize = 30;

/// The contents of a report.
#[derive(Debug)]
pub struct ReportData {
    /// The run that the report is about.
    pub run: RunId,
    /// The day that its features are for.
    pub as_of: Day,
    /// The name of the environment.
    pub env: String,
    /// The chain that the lake holds, if the lake names one.
    pub chain: Option<String>,
    /// The other runs of the same as-of day, in name order.
    pub others: Vec<RunId>,
    /// The plan of the run; `None` if only publishing was missing.
    pub plan: Option<Plan>,
    /// The report of the steps; `None` if the run did not finish.
    pub report: Option<RunReport>,
    /// The check results; `None` if the run did not reach its checks.
    pub checked: Option<CheckResults>,
    /// The check results of the runs up to and including this one, oldest first.
    pub history: Vec<(RunId, CheckResults)>,
    /// Whether the as-of day is published.
    pub published: bool,
    /// The day that `defi_features` shows; `None` if nothing is published.
    pub newest: Option<Day>,
    /// The newest published day before the as-of day. The set is compared with it.
    pub before: Option<Day>,
    /// The features; empty if the set is not built or has no wallets.
    pub features: Vec<Feature>,
    /// The wallets whose features changed the most; `None` without a previous published set.
    pub movers: Option<Movers>,
    /// Counts of wallets, events and positions by day.
    pub days: DailyCounts,
    /// Events and positions without a price.
    pub unpriced: Unpriced,
    /// Rows in quarantine, by table and reason.
    pub quarantined: Vec<QuarantinedRows>,
}

/// Reads the contents of the report of a run.
///
/// # Errors
/// Returns `BadInput` for a run that is not in the lake, and the errors of the lake and of the catalog.
pub async fn gather(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<ReportData> {
    let runs = runs(lake).await?;
    let as_of = day_of(run).filter(|_| runs.contains_key(run)).ok_or_else(|| {
        Error::bad_input(format!("the lake has no run {run}"))
            .with("lake", lake.store().location(""))
            .with_hint("choose one of the folders in runs/, or omit the run for the newest")
    })?;
    let sets = registry.published_sets().await?;
    let before = sets.iter().rev().find(|set| set.as_of < as_of);
    let set = registry.latest_set(lake, as_of).await?;
    let span = as_of.plus_days(1 - DAYS_SHOWN)..=as_of;
    // These reads are independent and wait for the lake most of the time, so they run concurrently.
    let (now, previous, days, unpriced, quarantined) = tokio::try_join!(
        features::rows(lake, Some(&set)),
        features::rows(lake, before),
        days::daily_counts(lake, &span),
        unusable::unpriced(lake, config, &span),
        unusable::quarantined(lake, &span),
    )?;
    let (plan, report, checked) = (run.key(RUN_PLAN), run.key(RUN_REPORT), run.key(RUN_CHECKS));
    let (chain, plan, report, checked, history, published, newest) = tokio::try_join!(
        lake.read_json("chain.json"),
        lake.read_json(&plan),
        lake.read_json(&report),
        lake.read_json(&checked),
        history(lake, &runs, run),
        registry.is_published(as_of),
        registry.newest_published(),
    )?;
    Ok(ReportData {
        as_of,
        env: registry.env().to_owned(),
        chain,
        others: runs.keys().filter(|other| *other != run && day_of(other) == Some(as_of)).cloned().collect(),
        plan,
        report,
        checked,
        history,
        published,
        newest,
        before: before.map(|set| set.as_of),
        features: features::compare(&now, &previous),
        movers: before.map(|_| movers::compare(&now, &previous)),
        days,
        unpriced,
        quarantined,
        run: run.clone(),
    })
}

/// Returns the newest run in the lake: the run with the newest as-of day. Among several runs of that day, runs with
/// check results take precedence. The lake does not record the order of runs, so the last name decides between the
/// rest.
///
/// # Errors
/// Returns `BadInput` if the lake has no run, and the errors of the lake.
pub async fn newest_run(lake: &Lake) -> Result<RunId> {
    let runs = runs(lake).await?.into_iter();
    let newest = runs.max_by_key(|(run, is_checked)| (day_of(run), *is_checked, run.clone()));
    newest.map(|(run, _)| run).ok_or_else(|| {
        Error::bad_input("the lake has no runs to report on")
            .with("lake", lake.store().location(""))
            .with_hint("run the pipeline on this lake first, or choose another lake")
    })
}

/// Lists the runs in the lake in name order, and whether each has check results. A name starts with the as-of day.
async fn runs(lake: &Lake) -> Result<BTreeMap<RunId, bool>> {
    let mut runs = BTreeMap::new();
    for entry in lake.store().list("runs/").await? {
        let object = entry.key.strip_prefix("runs/").and_then(|key| key.split_once('/'));
        let Some((name, object)) = object.filter(|(_, object)| [RUN_CHECKS, RUN_PLAN].contains(object)) else {
            continue;
        };
        let run = name.parse::<RunId>().ok().filter(|run| day_of(run).is_some());
        if let Some(run) = run {
            *runs.entry(run).or_default() |= object == RUN_CHECKS;
        }
    }
    Ok(runs)
}

/// Returns the as-of day at the start of the run's name.
fn day_of(run: &RunId) -> Option<Day> {
    run.to_string().get(..10)?.parse().ok()
}

/// Reads the check results of the runs up to and including `run`, at most [`RUNS_SHOWN`], oldest first.
async fn history(lake: &Lake, runs: &BTreeMap<RunId, bool>, run: &RunId) -> Result<Vec<(RunId, CheckResults)>> {
    let checked = runs.range(..=run).filter(|(_, is_checked)| **is_checked).map(|(run, _)| run.clone());
    let mut newest: Vec<_> = checked.rev().take(RUNS_SHOWN).collect();
    newest.reverse();
    let read = |run: RunId| async move {
        let checked = lake.read_json(&run.key(RUN_CHECKS)).await?;
        Ok(checked.map(|checked| (run, checked)))
    };
    Ok(in_order(newest, SMALL_REQUESTS, read).await?.into_iter().flatten().collect())
}

/// Returns whether the day of a unit is in the span of the report.
fn is_within(day: Option<Day>, span: &RangeInclusive<Day>) -> bool {
    day.is_some_and(|day| span.contains(&day))
}
