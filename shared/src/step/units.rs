//! Runs the units of a step concurrently, until its deadline.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::{Context, Deadline, Report, deadline};
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
    /// Runs the units of a step, at most `concurrency` at once, and returns the sum of their reports. A unit whose
    /// history is pruned counts as lost. Any other error ends the step once the running units have ended. Near the
    /// deadline no further unit is started; at the deadline the running units are aborted; the rest is reported as
    /// remaining.
    ///
    /// # Errors
    /// The first error of a unit, in the order of the units. `Internal` if the time of a whole call is too short for
    /// one unit.
    pub async fn run_units<F, Fut>(&self, step: Step, units: &[WorkUnit], concurrency: usize, work: F) -> Result<Report>
    where
        F: Fn(Context, WorkUnit) -> Fut,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        self.progress.begin(step, units.len());
        let context = Context { traffic: Arc::default(), ..self.clone() };
        let (failed, aborted) = (AtomicBool::new(false), AtomicBool::new(false));
        let runs = futures::stream::iter(units.iter().map(|unit| {
            // Evaluated when the unit may start: the stream takes the next unit when another ends.
            let skip = failed.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| deadline.is_near());
            let task = (!skip).then(|| self.start_unit(step, unit, work(context.clone(), unit.clone())));
            let (failed, aborted) = (&failed, &aborted);
            async move {
                let Some(mut task) = task else { return Ok(Report::remaining(unit)) };
                let Some(result) = Deadline::before(self.deadline, &mut task.0).await else {
                    aborted.store(true, Ordering::Relaxed);
                    return Ok(Report::remaining(unit));
                };
                let result = result.map_err(|cause| Error::internal("a unit was aborted").with_source(cause))?;
                self.progress.advance(step);
                let report = count_pruned_as_lost(step, unit, result);
                failed.fetch_or(report.is_err(), Ordering::Relaxed);
                report.map_err(|error| error.with("step", step).with("unit", unit))
            }
        }));
        let mut runs = runs.buffered(concurrency);
        let mut total = Report::default();
        let mut first_error = None;
        while let Some(result) = runs.next().await {
            match result {
                Ok(report) => total.merge(report),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        total.traffic += &context.traffic.report();
        if first_error.is_none() && aborted.load(Ordering::Relaxed) && total.remaining.units.count == units.len() as u64
        {
            first_error = Some(deadline::too_short(step, &total.remaining));
        }
        first_error.map_or(Ok(total), Err)
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

/// The task of a unit. Aborted when its step is dropped: if a step is dropped because a concurrent step failed, none of
/// its units still runs when the next run starts.
struct UnitTask(JoinHandle<Result<Report>>);

impl Drop for UnitTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns the error of pruned history into a report of a lost unit: it does not fail the step.
fn count_pruned_as_lost(step: Step, unit: &WorkUnit, result: Result<Report>) -> Result<Report> {
    match result {
        Err(error) if error.kind() == Kind::HistoryPruned => {
            tracing::warn!(step = step.name(), unit = %unit, error = %error, "history is pruned: the unit is lost");
            Ok(Report::lost(unit))
        }
        result => result,
    }
}
