//! What a report tells, read from the lake into plain structs: the run's own objects, and the tables as the lake holds them now.

mod days;
mod features;
mod movers;
mod unusable;

use std::ops::RangeInclusive;

use check_features::Output as Checked;
use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::plan::Plan;
use defi_shared::step::{RunId, RunReport};

pub use days::Days;
pub use features::{Feature, Measure, Sample};
pub use movers::{Change, Mover, Movers};
pub use unusable::{Quarantined, Unpriced, UnpricedToken};

/// Days that a report looks back on: what it reads, and how wide its charts are, does not grow with the lake.
pub const DAYS_SHOWN: i32 = 90;

/// Runs in the history of the checks.
pub const RUNS_SHOWN: usize = 30;

/// All that a report tells.
#[derive(Debug)]
pub struct Gathered {
    /// The run.
    pub run: RunId,
    /// The day that its features are for.
    pub as_of: Day,
    /// The environment.
    pub env: String,
    /// Which chain the lake holds, where it says so.
    pub chain: Option<String>,
    /// The other runs of the day, in order of their names.
    pub others: Vec<RunId>,
    /// What the run set out to do; none where only the publishing was missing.
    pub plan: Option<Plan>,
    /// What its steps did; none where it did not get to its end.
    pub report: Option<RunReport>,
    /// The outcome of its checks, where it came to them.
    pub checked: Option<Checked>,
    /// The checks of the runs up to this one, oldest first, itself among them.
    pub history: Vec<(RunId, Checked)>,
    /// Whether the day is published.
    pub published: bool,
    /// The day that `defi_features` shows.
    pub newest: Option<Day>,
    /// The published day before this one, which the set is compared with.
    pub before: Option<Day>,
    /// The features one by one; none where the set is not built.
    pub features: Vec<Feature>,
    /// The wallets whose features changed the most.
    pub movers: Option<Movers>,
    /// Wallets, events and positions by day.
    pub days: Days,
    /// What has no price.
    pub unpriced: Unpriced,
    /// What lies in quarantine.
    pub quarantined: Vec<Quarantined>,
}

/// Reads what a report of a run tells.
///
/// # Errors
/// `BadInput` for a run that the lake does not know, and the errors of the lake and of the catalog.
pub async fn gather(lake: &Lake, registry: &Registry, config: &Config, run: &RunId) -> Result<Gathered> {
    let runs = runs(lake).await?;
    let as_of = day_of(run).filter(|_| runs.contains(run)).ok_or_else(|| {
        Error::bad_input(format!("the lake has no run {run}"))
            .with("lake", lake.store().location(""))
            .next("name one of the folders in runs/, or none for the newest")
    })?;
    let published = registry.published().await?;
    let before = published.iter().rev().find(|day| **day < as_of).copied();
    let span = as_of.plus(1 - DAYS_SHOWN)..=as_of;
    // They read apart from each other, and for most of their time wait for the lake.
    let (now, earlier, days, unpriced, quarantined) = tokio::try_join!(
        features::rows(lake, Some(as_of)),
        features::rows(lake, before),
        days::of(lake, &span),
        unusable::unpriced(lake, config, &span),
        unusable::quarantined(lake, &span),
    )?;
    Ok(Gathered {
        as_of,
        env: registry.env().to_owned(),
        chain: lake.read_json("chain.json").await?,
        others: runs.iter().filter(|other| *other != run && day_of(other) == Some(as_of)).cloned().collect(),
        plan: lake.read_json(&run.key("plan.json")).await?,
        report: lake.read_json(&run.key("report.json")).await?,
        checked: lake.read_json(&run.key(CHECKS)).await?,
        history: history(lake, &runs, run).await?,
        published: registry.is_published(as_of).await?,
        newest: registry.newest_published().await?,
        before,
        features: features::of(&now, &earlier),
        movers: before.map(|_| movers::of(&now, &earlier)),
        days,
        unpriced,
        quarantined,
        run: run.clone(),
    })
}

/// Where a run keeps the outcome of its checks.
const CHECKS: &str = "check-features.json";

/// The newest run of a lake: of the newest as_of. Of several runs of it those that came to their checks go before the others;
/// nothing in a lake tells which of them was the last, so that the last by name is taken.
///
/// # Errors
/// `BadInput` where there is none, and the lake's errors.
pub async fn newest_run(lake: &Lake) -> Result<RunId> {
    let mut newest = None;
    for run in runs(lake).await? {
        let is_checked = lake.store().get(&run.key(CHECKS)).await?.is_some();
        newest = newest.max(Some((day_of(&run), is_checked, run)));
    }
    newest.map(|(_, _, run)| run).ok_or_else(|| {
        Error::bad_input("the lake has no runs to report on")
            .with("lake", lake.store().location(""))
            .next("run the pipeline over it first, or name another lake")
    })
}

/// The runs that a lake knows, in order of their names, which begin with their as_of.
async fn runs(lake: &Lake) -> Result<Vec<RunId>> {
    let entries = lake.store().list("runs/").await?;
    let names = entries.iter().filter_map(|entry| entry.key.strip_prefix("runs/")?.split_once('/'));
    let runs = names.filter(|(_, object)| [CHECKS, "plan.json"].contains(object));
    let mut runs: Vec<RunId> =
        runs.filter_map(|(name, _)| name.parse().ok()).filter(|run| day_of(run).is_some()).collect();
    runs.sort_unstable();
    runs.dedup();
    Ok(runs)
}

/// The as_of that a run's name begins with.
fn day_of(run: &RunId) -> Option<Day> {
    run.to_string().get(..10)?.parse().ok()
}

async fn history(lake: &Lake, runs: &[RunId], run: &RunId) -> Result<Vec<(RunId, Checked)>> {
    let mut history = Vec::new();
    for earlier in runs.iter().rev().filter(|earlier| *earlier <= run) {
        if let Some(checked) = lake.read_json(&earlier.key(CHECKS)).await? {
            history.push((earlier.clone(), checked));
        }
        if history.len() == RUNS_SHOWN {
            break;
        }
    }
    history.reverse();
    Ok(history)
}

/// Whether a unit's day is one that the report looks at.
fn is_within(day: Option<Day>, span: &RangeInclusive<Day>) -> bool {
    day.is_some_and(|day| span.contains(&day))
}
