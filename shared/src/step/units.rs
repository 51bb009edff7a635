//! Runs the units of a step concurrently, until its deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::StreamExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::{CallUnits, Context, Deadline, Remaining, Report};
use crate::domain::Category;
use crate::error::{Error, Kind, Result};
use crate::lake::WorkUnit;
use crate::pipeline::Step;
use crate::tables::{self, Layer};

/// The number of units that a step processes concurrently: enough to keep two cores busy while others wait for a disk
/// or a response.
pub const CONCURRENT_UNITS: usize = 8;

/// The same for units of positions, which are by far the largest. All rows of a unit are in memory at once, and with so
/// few units a day of ten times the usual size still fits into a function. The pages of one snapshot are requested
/// concurrently.
pub const CONCURRENT_LARGE_UNITS: usize = 3;

impl Context {
    /// Runs the units of a step, at most `concurrency` at once, and returns the sum of their reports. A snapshot whose
    /// history is pruned counts as lost. Any other error ends the step once the running units have ended. Near the
    /// deadline no further unit is started; at the deadline the running units are aborted; the rest is reported as
    /// remaining, first the units that were not started.
    ///
    /// # Errors
    /// The first error of a unit, in the order of the units.
    pub async fn run_units<F, Fut>(&self, step: Step, units: &CallUnits, concurrency: usize, work: F) -> Result<Report>
    where
        F: Fn(Context, WorkUnit) -> Fut,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        self.progress.begin(step, units.len());
        let started = Instant::now();
        let context = Context { traffic: Arc::default(), lake: self.lake.for_units(), ..self.clone() };
        let failed = AtomicBool::new(false);
        let runs = futures::stream::iter(units.iter().enumerate().map(|(number, unit)| {
            // Evaluated when the unit may start: the stream takes the next unit when another ends.
            let skip = failed.load(Ordering::Relaxed) || self.is_deadline_near();
            let task = (!skip).then(|| self.start_unit(step, unit, work(context.clone(), unit.clone())));
            let failed = &failed;
            async move {
                let Some(mut task) = task else { return (number, unit, Err(Left::NotStarted)) };
                let Some(result) = self.before_deadline(&mut task.0).await else {
                    return (number, unit, Err(Left::Cut));
                };
                let result = result.map_err(|cause| Error::internal("a unit was aborted").with_source(cause));
                self.progress.advance(step);
                let report = count_pruned_as_lost(step, unit, result.flatten());
                failed.fetch_or(report.is_err(), Ordering::Relaxed);
                (number, unit, Ok(report.map_err(|error| error.with("step", step).with("unit", unit))))
            }
        }));
        // In any order: a unit that takes long holds back no other.
        let mut runs = runs.buffer_unordered(if units.are_alone() { 1 } else { concurrency });
        let (mut total, mut errors) = (Report::default(), BTreeMap::new());
        let (mut not_started, mut cut) = (BTreeMap::new(), BTreeMap::new());
        while let Some((number, unit, outcome)) = runs.next().await {
            match outcome {
                Ok(Ok(report)) => total.merge(report),
                Ok(Err(error)) => drop(errors.insert(number, error)),
                Err(Left::NotStarted) => drop(not_started.insert(number, unit)),
                Err(Left::Cut) => drop(cut.insert(number, unit)),
            }
        }
        total.traffic += &context.traffic.report();
        if total.traffic.requests > 0 {
            total.traffic.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        total.remaining = Remaining::default();
        not_started.into_values().chain(cut.into_values()).for_each(|unit| total.remaining.add(unit));
        errors.pop_first().map_or(Ok(total), |(_, error)| Err(error))
    }

    /// Returns whether the deadline is so near that no further unit should be started.
    #[must_use]
    pub fn is_deadline_near(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline.is_near())
    }

    /// Runs the work of units until it completes or the deadline passes. Returns `None` if the deadline passed.
    pub async fn before_deadline<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        Deadline::before(self.deadline, work).await
    }

    /// Starts one unit as a task that logs its result.
    fn start_unit(
        &self,
        step: Step,
        unit: &WorkUnit,
        work: impl Future<Output = Result<Report>> + Send + 'static,
    ) -> UnitTask {
        let lake = self.lake.clone();
        let span = tracing::info_span!("unit", step = step.name(), unit = %unit);
        let logged = async move {
            let _tracked = lake.track().await;
            let report = work.await?;
            let Report { rows_in, rows_out, bytes, unpriced, .. } = report;
            tracing::info!(rows_in, rows_out, bytes, unpriced, rejected = report.rejected(), "unit completed");
            Ok(report)
        };
        UnitTask(tokio::spawn(logged.instrument(span)))
    }

    /// Registers units of events in the catalog, in the tables of their categories.
    ///
    /// # Errors
    /// The errors of the catalog.
    pub async fn register_events(&self, layer: Layer, units: &[WorkUnit]) -> Result<()> {
        for category in Category::ALL {
            let category_units =
                units.iter().filter_map(|unit| unit.as_event_day().ok()).filter(|(_, other)| *other == category);
            let units: Vec<_> = category_units.map(|(day, _)| WorkUnit::Day(day)).collect();
            if !units.is_empty() {
                self.registry.register(tables::event_table(layer, category), &units).await?;
            }
        }
        Ok(())
    }
}

/// Why a unit of a call remains.
enum Left {
    /// It was not started: the deadline was near, or another unit failed.
    NotStarted,
    /// It was aborted at the deadline.
    Cut,
}

/// The task of a unit. Aborted when its step is dropped: if a step is dropped because a concurrent step failed, none of
/// its units still runs when the next run starts.
struct UnitTask(JoinHandle<Result<Report>>);

impl Drop for UnitTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns the error of pruned history into a report of a lost unit, which does not fail the step: of a snapshot. No other
/// unit can be left out, because what comes after it needs it.
fn count_pruned_as_lost(step: Step, unit: &WorkUnit, result: Result<Report>) -> Result<Report> {
    let is_snapshot =
        matches!(step, Step::ExtractMarketData | Step::ExtractAccountPositions | Step::ExtractCurrentPositions);
    match result {
        Err(error) if is_snapshot && error.kind() == Kind::HistoryPruned => {
            tracing::warn!(step = step.name(), unit = %unit, error = %error, "history is pruned: the unit is lost");
            Ok(Report::lost(unit))
        }
        result => result,
    }
}
