//! Reads the contents of a report from the lake into plain structs: the objects of the run, and the current tables.

mod days;
mod features;
mod movers;
mod unusable;

use std::ops::RangeInclusive;

use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::plan::Plan;
use defi_shared::step::CheckResults;
use defi_shared::step::{RUN_CHECKS, RUN_REPORT, RunId, RunReport};

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
    let as_of = day_of(run).filter(|_| runs.contains(run)).ok_or_else(|| {
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
    Ok(ReportData {
        as_of,
        env: registry.env().to_owned(),
        chain: lake.read_json("chain.json").await?,
        others: runs.iter().filter(|other| *other != run && day_of(other) == Some(as_of)).cloned().collect(),
        plan: lake.read_json(&run.key("plan.json")).await?,
        report: lake.read_json(&run.key(RUN_REPORT)).await?,
        checked: lake.read_json(&run.key(RUN_CHECKS)).await?,
        history: history(lake, &runs, run).await?,
        published: registry.is_published(as_of).await?,
        newest: registry.newest_published().await?,
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
    let mut newest = None;
    for run in runs(lake).await? {
        let is_checked = lake.store().get(&run.key(RUN_CHECKS)).await?.is_some();
        newest = newest.max(Some((day_of(&run), is_checked, run)));
    }
    newest.map(|(_, _, run)| run).ok_or_else(|| {
        Error::bad_input("the lake has no runs to report on")
            .with("lake", lake.store().location(""))
            .with_hint("run the pipeline on this lake first, or choose another lake")
    })
}

/// Lists the runs in the lake in name order. A name starts with the as-of day.
async fn runs(lake: &Lake) -> Result<Vec<RunId>> {
    let entries = lake.store().list("runs/").await?;
    let objects = entries.iter().filter_map(|entry| entry.key.strip_prefix("runs/")?.split_once('/'));
    let runs = objects.filter(|(_, object)| [RUN_CHECKS, "plan.json"].contains(object));
    let mut runs: Vec<RunId> =
        runs.filter_map(|(name, _)| name.parse().ok()).filter(|run| day_of(run).is_some()).collect();
    runs.sort_unstable();
    runs.dedup();
    Ok(runs)
}

/// Returns the as-of day at the start of the run's name.
fn day_of(run: &RunId) -> Option<Day> {
    run.to_string().get(..10)?.parse().ok()
}

/// Reads the check results of the runs up to and including `run`, at most [`RUNS_SHOWN`], oldest first.
async fn history(lake: &Lake, runs: &[RunId], run: &RunId) -> Result<Vec<(RunId, CheckResults)>> {
    let mut history = Vec::new();
    for earlier in runs.iter().rev().filter(|earlier| *earlier <= run) {
        if let Some(checked) = lake.read_json(&earlier.key(RUN_CHECKS)).await? {
            history.push((earlier.clone(), checked));
        }
        if history.len() == RUNS_SHOWN {
            break;
        }
    }
    history.reverse();
    Ok(history)
}

/// Returns whether the day of a unit is in the span of the report.
fn is_within(day: Option<Day>, span: &RangeInclusive<Day>) -> bool {
    day.is_some_and(|day| span.contains(&day))
}
