//! Runs the steps of a run, in order. The run is planned a second time after extraction, so that nothing is computed
//! from units that could not be extracted.

use std::time::Instant;

use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::pipeline::{InputKind, Phase, Step};
use defi_shared::plan::{Plan, Scope};
use defi_shared::step::{CheckResults, Context, Gaps, Report, RunCalls, RunId};
use futures::future::try_join_all;
use serde::Serialize;
use tracing::Instrument;

use super::progress::RunProgress;
use crate::handlers;

/// The phases that run before the run is planned a second time.
const EXTRACTION: [Phase; 2] = [Phase::Blocks, Phase::Extract];

/// The result of a step.
#[derive(Debug, Clone, Serialize)]
pub struct StepResult {
    /// The step.
    pub step: Step,
    /// Its report.
    pub report: Report,
    /// Its duration in seconds.
    pub seconds: f64,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct RunResult {
    /// The steps that ran. Empty if no unit was missing.
    pub steps: Vec<StepResult>,
    /// The days that are missing after the run.
    pub gaps: Gaps,
    /// The outcome of the checks. None if no unit was missing and the features were published before.
    pub checked: Option<CheckResults>,
    /// The as-of day that `defi_features` shows. None if nothing was ever published.
    pub newest: Option<Day>,
    /// The run.
    pub run_id: RunId,
    /// The duration from planning to publishing in seconds. Concurrent steps overlap.
    pub seconds: f64,
}

impl RunResult {
    /// Returns the run unless one of its checks failed.
    ///
    /// # Errors
    /// `QualityFailed` that names each failed check.
    pub fn require_pass(self) -> Result<Self> {
        self.checked.as_ref().map_or(Ok(()), check_features::require_pass).map(|()| self)
    }
}

/// Runs the steps whose units are missing, and publishes the features if they pass their checks. Does not write to the
/// lake if no unit is missing and the features are published. All writes to the lake are finished when it returns, also
/// after an error.
pub(super) async fn run(
    context: &Context,
    scope: &Scope,
    from: Option<Day>,
    progress: &RunProgress,
) -> Result<RunResult> {
    let result = run_steps(context, scope, from, progress).await;
    context.lake.drain().await;
    result
}

async fn run_steps(context: &Context, scope: &Scope, from: Option<Day>, progress: &RunProgress) -> Result<RunResult> {
    let started = Instant::now();
    let Scope { force, retry_lost, rebuild_lost, .. } = *scope;
    let as_of = Some(scope.as_of);
    let input = plan_run::Input { as_of, from, force, retry_lost, rebuild_lost, ..Default::default() };
    let (planned, plan) = plan_run::plan(context, &input).await?;
    let (from, scope) = (Some(planned.from), &scope.clone().not_before(Some(planned.from)));
    let run_id = planned.run_id.clone();
    if planned.unfinished_publication {
        let finish = publish_features::Input { only_finish: true, ..Default::default() };
        publish_features::handle(context.clone(), finish).await?;
    }
    if plan.is_empty() && planned.published {
        let newest = context.registry.newest_published().await?;
        let gaps = context.gaps(scope).await?;
        let seconds = started.elapsed().as_secs_f64();
        return Ok(RunResult { steps: Vec::new(), gaps, checked: None, newest, run_id, seconds });
    }
    let mut steps = Vec::new();
    if !plan.is_empty() {
        let protocols = context.config.current_protocols();
        let calls = RunCalls {
            as_of: scope.as_of,
            from,
            run_id: &run_id,
            protocols,
            source: context.config.source,
            shards: scope.shards,
            force: scope.force,
            rebuild_lost,
            split: false,
        };
        let mut runner = Runner { context, calls, progress, steps: Vec::new() };
        let work = async {
            runner.run_phases(EXTRACTION, &plan).await?;
            let (_, plan) =
                plan_run::plan(context, &plan_run::Input { after: planned.plan.clone(), from, ..input }).await?;
            runner.run_phases(Phase::PRODUCING.into_iter().filter(|phase| !EXTRACTION.contains(phase)), &plan).await
        };
        work.instrument(tracing::info_span!("run", %run_id)).await?;
        steps = runner.steps;
    }
    let check = check_features::Input { as_of: Some(scope.as_of), from, run_id: Some(run_id.clone()) };
    let checked = check_features::evaluate(context, &check).await?;
    if checked.passed {
        let publish = publish_features::Input { as_of: Some(scope.as_of), ..Default::default() };
        publish_features::handle(context.clone(), publish).await?;
    }
    let newest = context.registry.newest_published().await?;
    let gaps = context.gaps(scope).await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(RunResult { steps, gaps, checked: Some(checked), newest, run_id, seconds })
}

struct Runner<'a> {
    context: &'a Context,
    calls: RunCalls<'a>,
    progress: &'a RunProgress,
    steps: Vec<StepResult>,
}

impl Runner<'_> {
    /// Runs the phases one after another, the steps of each concurrently.
    async fn run_phases(&mut self, phases: impl IntoIterator<Item = Phase>, plan: &Plan) -> Result<()> {
        for phase in phases {
            let steps = try_join_all(phase.steps().map(|step| self.run_step(step, plan))).await?;
            self.steps.extend(steps.into_iter().flatten());
        }
        Ok(())
    }

    /// Makes the calls of a step one after another. Returns `None` for a step without calls.
    async fn run_step(&self, step: Step, plan: &Plan) -> Result<Option<StepResult>> {
        let calls = self.calls.of(step, plan)?;
        if calls.is_empty() {
            return Ok(None);
        }
        if matches!(step.input(), InputKind::Days | InputKind::EventDays | InputKind::ProtocolDays) {
            self.progress.announce(step, plan.units(step).len());
        }
        let started = Instant::now();
        let mut report = Report::default();
        for input in calls {
            let output = handlers::prepare(step, input)?(self.context.clone()).await?;
            let output = serde_json::from_value(output)
                .map_err(|cause| Error::internal("the output of a step is not a report").with_source(cause))?;
            report.merge(output);
        }
        let seconds = started.elapsed().as_secs_f64();
        self.progress.done(step, report.units, seconds);
        if report.remaining.count > 0 {
            return Err(Error::internal("units remain although the step has no deadline").with("step", step));
        }
        Ok(Some(StepResult { step, report, seconds }))
    }
}
