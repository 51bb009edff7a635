//! The steps of a run, in their order: what extraction brings is planned anew before anything is made from it.

use std::future::Future;
use std::time::Instant;

use check_features::Output as Checked;
use defi_shared::domain::{Category, Day};
use defi_shared::error::{Error, Kind, Result};
use defi_shared::plan::{DaysBy, Plan, Scope};
use defi_shared::step::{Context, DayInput, EventInput, Gaps, ProtocolInput, Report, RunId};

use serde::Serialize;

use super::progress::Watched;
use tracing::Instrument;

/// What a step did.
#[derive(Debug, Clone, Serialize)]
pub struct StepDone {
    /// Its name.
    pub step: &'static str,
    /// Its counts.
    pub report: Report,
    /// How long it took.
    pub seconds: f64,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct Done {
    /// Empty where nothing was missing.
    pub steps: Vec<StepDone>,
    /// The days that are missing at the end.
    pub gaps: Gaps,
    /// The outcome of the checks; none where nothing was missing and the set is published.
    pub checked: Option<Checked>,
    /// The day that `defi_features` shows; none where nothing was ever published.
    pub newest: Option<Day>,
    /// Names the run.
    pub run_id: RunId,
    /// Seconds from the plan to the publishing; steps that run side by side share them.
    pub seconds: f64,
}

impl Done {
    /// What the run did, unless a check has failed.
    ///
    /// # Errors
    /// `QualityFailed` that names each failed constraint.
    pub fn require_pass(self) -> Result<Self> {
        self.checked.as_ref().map_or(Ok(()), check_features::require_pass).map(|()| self)
    }
}

/// Runs what is missing, up to the publishing of a set that passes its checks. Where nothing is, and the set is published, the lake
/// is not touched. However it ends, nothing writes to the lake any more.
pub(super) async fn run(context: &Context, scope: &Scope, from: Option<Day>, watched: &Watched) -> Result<Done> {
    let done = run_steps(context, scope, from, watched).await;
    context.lake.settle().await;
    done
}

async fn run_steps(context: &Context, scope: &Scope, from: Option<Day>, watched: &Watched) -> Result<Done> {
    let begun = Instant::now();
    let input = plan_run::Input { as_of: Some(scope.as_of), from, force: scope.force, ..Default::default() };
    let (planned, plan) = plan_run::plan(context, &input).await?;
    if plan.is_empty() && planned.published {
        let newest = context.registry.newest_published().await?;
        return Ok(Done {
            steps: Vec::new(),
            gaps: Gaps::default(),
            checked: None,
            newest,
            run_id: planned.run_id,
            seconds: begun.elapsed().as_secs_f64(),
        });
    }
    let runner = Runner { context, as_of: scope.as_of, from, run_id: &planned.run_id, watched };
    let mut steps = Vec::new();
    if !plan.is_empty() {
        let work = async {
            runner.extract(&plan, &mut steps).await?;
            let (_, plan) = plan_run::plan(context, &plan_run::Input { after: planned.plan.clone(), ..input }).await?;
            runner.derive(&plan, &mut steps).await
        };
        work.instrument(tracing::info_span!("run", run_id = %planned.run_id)).await?;
    }
    let check = check_features::Input { as_of: Some(scope.as_of), from, run_id: Some(planned.run_id.clone()) };
    let checked = check_features::evaluate(context, &check).await?;
    if checked.passed {
        publish_features::handle(context.clone(), publish_features::Input { as_of: Some(scope.as_of) }).await?;
    }
    let newest = context.registry.newest_published().await?;
    let gaps = context.run_report(&planned.run_id, scope).await?.gaps;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Done { steps, gaps, checked: Some(checked), newest, run_id: planned.run_id, seconds })
}

struct Runner<'a> {
    context: &'a Context,
    as_of: Day,
    from: Option<Day>,
    run_id: &'a RunId,
    watched: &'a Watched,
}

impl Runner<'_> {
    /// Blocks first: they say what to pin to. Then the two sources side by side.
    async fn extract(&self, plan: &Plan, steps: &mut Vec<StepDone>) -> Result<()> {
        if !plan.blocks.is_empty() {
            let input = self.days(&plan.blocks);
            steps.push(
                self.timed(extract_daily_blocks::STEP, extract_daily_blocks::handle(self.context(), input)).await?,
            );
        }
        let positions =
            self.protocols(extract_account_positions::STEP, &plan.extract_positions, extract_account_positions::handle);
        let (events, markets, positions, current) = tokio::try_join!(
            self.events(extract_events::STEP, &plan.extract_events, extract_events::handle),
            self.protocols(extract_market_data::STEP, &plan.extract_markets, extract_market_data::handle),
            positions,
            self.current_positions(),
        )?;
        steps.extend([events, markets, positions, Some(current)].into_iter().flatten());
        Ok(())
    }

    async fn current_positions(&self) -> Result<StepDone> {
        let input =
            extract_current_positions::Input { as_of: Some(self.as_of), run_id: self.run_id(), ..Default::default() };
        let work = extract_current_positions::handle(self.context(), input);
        self.timed(extract_current_positions::STEP, work).await
    }

    async fn derive(&self, plan: &Plan, steps: &mut Vec<StepDone>) -> Result<()> {
        let (events, markets, positions) = tokio::try_join!(
            self.events(stage_events::STEP, &plan.stage_events, stage_events::handle),
            self.protocols(stage_market_data::STEP, &plan.stage_markets, stage_market_data::handle),
            self.protocols(stage_account_positions::STEP, &plan.stage_positions, stage_account_positions::handle),
        )?;
        steps.extend([events, markets, positions].into_iter().flatten());
        if !plan.links.is_empty() {
            let input = self.days(&plan.links);
            steps.push(self.timed(link_wallets::STEP, link_wallets::handle(self.context(), input)).await?);
        }
        let value = async {
            if plan.value.is_empty() {
                return Ok(None);
            }
            let work = value_positions::handle(self.context(), self.days(&plan.value));
            self.timed(value_positions::STEP, work).await.map(Some)
        };
        let (priced, valued) =
            tokio::try_join!(self.events(price_events::STEP, &plan.price, price_events::handle), value)?;
        steps.extend([priced, valued].into_iter().flatten());
        let input = build_features::Input { as_of: Some(self.as_of), run_id: self.run_id(), ..Default::default() };
        steps.push(self.timed(build_features::STEP, build_features::handle(self.context(), input)).await?);
        Ok(())
    }

    fn context(&self) -> Context {
        self.context.clone()
    }

    fn run_id(&self) -> Option<RunId> {
        Some(self.run_id.clone())
    }

    fn days(&self, days: &[Day]) -> DayInput {
        DayInput {
            as_of: Some(self.as_of),
            from: self.from,
            days: Some(days.to_vec()),
            run_id: self.run_id(),
            ..Default::default()
        }
    }

    /// A step over categories and days, one call a category.
    async fn events<F, Fut>(&self, step: &'static str, days: &DaysBy<Category>, handle: F) -> Result<Option<StepDone>>
    where
        F: Fn(Context, EventInput) -> Fut,
        Fut: Future<Output = Result<Report>>,
    {
        self.calls(step, days, |category, days| {
            let events = Some(vec![*category]);
            let input = EventInput {
                as_of: Some(self.as_of),
                from: self.from,
                events,
                days: Some(days),
                run_id: self.run_id(),
                ..Default::default()
            };
            handle(self.context(), input)
        })
        .await
    }

    /// A step over protocols and days, one call a protocol.
    async fn protocols<F, Fut>(&self, step: &'static str, days: &DaysBy<String>, handle: F) -> Result<Option<StepDone>>
    where
        F: Fn(Context, ProtocolInput) -> Fut,
        Fut: Future<Output = Result<Report>>,
    {
        self.calls(step, days, |protocol, days| {
            let protocols = Some(vec![protocol.clone()]);
            let input = ProtocolInput {
                as_of: Some(self.as_of),
                from: self.from,
                protocols,
                days: Some(days),
                run_id: self.run_id(),
                ..Default::default()
            };
            handle(self.context(), input)
        })
        .await
    }

    async fn calls<K, F, Fut>(&self, step: &'static str, days: &DaysBy<K>, call: F) -> Result<Option<StepDone>>
    where
        F: Fn(&K, Vec<Day>) -> Fut,
        Fut: Future<Output = Result<Report>>,
    {
        if days.is_empty() {
            return Ok(None);
        }
        self.watched.announce(step, days.values().map(Vec::len).sum());
        let work = async {
            let mut report = Report::default();
            for (key, days) in days {
                report.merge(call(key, days.clone()).await?);
            }
            Ok(report)
        };
        self.timed(step, work).await.map(Some)
    }

    async fn timed(&self, step: &'static str, work: impl Future<Output = Result<Report>>) -> Result<StepDone> {
        let begun = Instant::now();
        let report = work.await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.watched.done(step, report.units, seconds);
        if report.remaining.units.count > 0 {
            return Err(
                Error::new(Kind::Internal, "a step left units although there is no deadline").with("step", step)
            );
        }
        Ok(StepDone { step, report, seconds })
    }
}
