//! What all steps share: the context they run in, their inputs, the report, and serving under Lambda.

mod deadline;
mod environment;
pub mod history;
mod input;
mod metrics;
mod progress;
pub mod raw;
mod report;
mod run;
mod serve;
pub mod snapshots;
pub mod staging;
mod unfinished;
mod unit;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

pub use deadline::Deadline;
pub use environment::context_of;
pub use input::{DayInput, EventInput, ProtocolInput, parse};
pub use metrics::Measured;
pub use progress::{Progress, Unwatched};
pub use report::{Remaining, Report, Units};
pub use run::{Gaps, RunId, RunReport, StepReport};
pub use serve::{serve, today};
pub use unit::StepUnit;

use crate::catalog::Registry;
use crate::config::Config;
use crate::domain::{Category, Day};
use crate::error::{Error, Kind, Result};
use crate::executions::Executions;
use crate::lake::{Lake, Unit};
use crate::sources::Traffic;
use crate::sources::graph::GraphClient;
use crate::sources::transpose::TransposeClient;
use crate::tables::{self, DailyBlock, Layer, Table};

/// What a step works with. Built once; a step keeps nothing between two calls.
#[derive(Debug, Clone)]
pub struct Context {
    /// The lake.
    pub lake: Lake,
    /// The tables of the environment.
    pub registry: Registry,
    /// The configuration.
    pub config: Arc<Config>,
    /// The Graph.
    pub graph: Arc<GraphClient>,
    /// Transpose.
    pub transpose: Arc<TransposeClient>,
    /// What goes over the wire: of the units under way together.
    pub traffic: Arc<Traffic>,
    /// Today (UTC), the default of every `as_of`.
    pub today: Day,
    /// When the step has to come to its end.
    pub deadline: Option<Deadline>,
    /// Told how far the step is.
    pub progress: Arc<dyn Progress>,
    /// The executions of the state machine; none where there is no such machine.
    pub executions: Option<Arc<dyn Executions>>,
}

/// Units of a step that are worked on at once: enough to keep two cores busy while others wait for a disk or an answer.
pub const UNITS_AT_ONCE: usize = 8;

/// The same for units of a day's positions, which are by far the largest: all rows of a unit are in memory together, and with so
/// few units a day of ten times the usual size still fits into a function. Pages of one snapshot are asked for side by side.
pub const LARGE_UNITS_AT_ONCE: usize = 3;

impl Context {
    /// Runs a step's units, so many at once, and adds up their reports. A unit whose history is pruned is counted as lost; any
    /// other error ends the step once the units under way are done. Near the deadline no further unit is begun, at it those
    /// under way are given up, and what remains is reported.
    ///
    /// # Errors
    /// The first error of a unit, in the order of the units; `Internal` where the time of a whole call is too short for any.
    pub async fn run_units<U, F, Fut>(&self, step: &'static str, units: &[U], at_once: usize, work: F) -> Result<Report>
    where
        U: StepUnit,
        F: Fn(Context, U) -> Fut,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        self.progress.begin(step, units.len());
        let context = Context { traffic: Arc::default(), ..self.clone() };
        let (failed, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        let runs = futures::stream::iter(units.iter().map(|unit| {
            // Decided only when there is room for the unit: the stream asks for the next one as another ends.
            let stop = failed.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| deadline.is_near());
            let (name, day) = (unit.name(), unit.day());
            let run = (!stop).then(|| {
                let (lake, work) = (self.lake.clone(), work(context.clone(), unit.clone()));
                let span = tracing::info_span!("unit", step, unit = name);
                let logged = async move {
                    let _held = lake.hold().await;
                    let done = work.await?;
                    let Report { rows_in, rows_out, bytes, unpriced, .. } = done;
                    tracing::info!(rows_in, rows_out, bytes, unpriced, rejected = done.rejected(), "the unit is done");
                    Ok(done)
                };
                UnderWay(tokio::spawn(logged.instrument(span)))
            });
            let (failed, cut) = (&failed, &cut);
            async move {
                let Some(mut run) = run else { return Ok(Report::remaining(name, day)) };
                let Some(done) = Deadline::before(self.deadline, &mut run.0).await else {
                    cut.store(true, Ordering::Relaxed);
                    return Ok(Report::remaining(name, day));
                };
                let done = done.map_err(|cause| Error::internal("a unit was cut short").because(cause))?;
                self.progress.advance(step);
                let report = report_loss(step, &name, done);
                failed.fetch_or(report.is_err(), Ordering::Relaxed);
                report.map_err(|error| error.with("step", step).with("unit", name))
            }
        }));
        let mut runs = runs.buffered(at_once);
        let mut total = Report::default();
        let mut first_error = None;
        while let Some(done) = runs.next().await {
            match done {
                Ok(report) => total.merge(report),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        total.traffic += &context.traffic.report();
        if first_error.is_none() && cut.load(Ordering::Relaxed) && total.remaining.units.count == units.len() as u64 {
            first_error = Some(deadline::too_short(step, &total.remaining));
        }
        first_error.map_or(Ok(total), Err)
    }

    /// The first block of a day, as extract-daily-blocks found it.
    ///
    /// # Errors
    /// `NotReady` where it is not known yet, and the lake's errors.
    pub async fn first_block(&self, day: Day) -> Result<DailyBlock> {
        let rows: Vec<DailyBlock> = self.lake.require(&tables::DAILY_BLOCKS, &Unit::Day(day)).await?;
        rows.into_iter().next().ok_or_else(|| Error::corrupt("a day without its block").with("day", day))
    }

    /// Registers the units of a layer's events.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn register_events(&self, layer: Layer, units: &[(Category, Day)]) -> Result<()> {
        for category in Category::ALL {
            let of_category = units.iter().filter(|(of, _)| *of == category);
            let units: Vec<_> = of_category.map(|(_, day)| Unit::Day(*day)).collect();
            if !units.is_empty() {
                self.registry.register(tables::events(layer, category), &units).await?;
            }
        }
        Ok(())
    }

    /// Registers the units of a table that has one a protocol and day.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn register_protocol_days(&self, table: &Table, units: &[(String, Day)]) -> Result<()> {
        let units = units.iter().map(|(protocol, day)| Unit::DayAndProtocol(*day, protocol.as_str().into()));
        self.registry.register(table, &units.collect::<Vec<_>>()).await
    }
}

/// A unit that is worked on. It ends with its step: where a step is given up, because one beside it has failed, nothing goes on
/// behind the back of the next run.
struct UnderWay(JoinHandle<Result<Report>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// History that can't be had any more is no failure of the step: the unit is reported as lost.
fn report_loss(step: &str, unit: &str, done: Result<Report>) -> Result<Report> {
    match done {
        Err(error) if error.kind() == Kind::HistoryPruned => {
            tracing::warn!(step, unit, error = %error, "history is pruned: the unit is lost");
            Ok(Report::lost(unit))
        }
        done => done,
    }
}
