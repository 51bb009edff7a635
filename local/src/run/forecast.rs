//! Forecasts a run without executing it: the missing units, and the requests and the time to extract them.

use std::collections::BTreeMap;

use defi_shared::domain::Day;
use defi_shared::error::Result;
use defi_shared::lake::{FolderStore, Lake, WorkUnit};
use defi_shared::pipeline::{DataSource, Phase, Source, Step};
use defi_shared::plan::{Inventory, Plan, PlanPhase, plan};
use defi_shared::sources::transpose::CREDITS_PER_SECOND;
use defi_shared::sources::{graph, transpose};
use defi_shared::step::{Context, RUN_REPORT, RunReport};
use serde::Serialize;

use super::{Options, Run};
use crate::output::{self, TextTable, line, table};
use crate::source::RequestRates;
use defi_pages::number::{duration, with_thousands};

/// The forecast of one step.
#[derive(Debug, Serialize)]
struct StepForecast {
    step: Step,
    /// The number of missing units.
    units: usize,
    /// The day of the first unit.
    first: Option<String>,
    /// The day of the last unit.
    last: Option<String>,
    /// The number of requests to the source. None for a step that sends no requests.
    requests: Option<u64>,
    /// Whether `requests` is based on earlier runs over this lake. Else it is a lower bound.
    measured: bool,
    /// The duration of the requests at the source's rate limit.
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

/// The forecast of a run.
#[derive(Debug, Serialize)]
struct Forecast {
    as_of: Day,
    first_day: Day,
    force: bool,
    steps: Vec<StepForecast>,
    requests: u64,
    /// What the requests take of the monthly quotas of the two APIs. None from a node.
    quotas: Option<Quotas>,
    /// The duration of extraction. Both sources are queried concurrently once the blocks are known.
    extraction_seconds: f64,
}

/// What requests take of the monthly quotas of the two APIs.
#[derive(Debug, Serialize)]
struct Quotas {
    /// The queries of The Graph, and the number that its free plan has a month.
    the_graph: [u64; 2],
    /// The credits of Transpose, if each request takes a second of its server, and those of a free key a month.
    transpose_credits: [u64; 2],
}

impl Quotas {
    fn new(steps: &[StepForecast], source: DataSource) -> Option<Self> {
        let requests = |api: Source| -> u64 {
            let of_api = steps.iter().filter(|step| step.step.source(source) == Some(api));
            of_api.filter_map(|step| step.requests).sum()
        };
        (source == DataSource::Apis).then(|| Quotas {
            the_graph: [requests(Source::TheGraph), graph::FREE_QUERIES],
            transpose_credits: [
                (requests(Source::Transpose) as f64 * CREDITS_PER_SECOND) as u64,
                transpose::FREE_CREDITS,
            ],
        })
    }

    fn lines(&self) -> [String; 2] {
        let months = |[used, free]: [u64; 2]| match used as f64 / free as f64 {
            share if share < 1.0 => format!("{:.1} % of", share * 100.0),
            months => format!("{months:.1} months of"),
        };
        let [queries, free_queries] = self.the_graph;
        let [credits, free_credits] = self.transpose_credits;
        [
            format!(
                "The Graph: {} queries, {} the {} a month of the free plan",
                with_thousands(queries),
                months(self.the_graph),
                with_thousands(free_queries)
            ),
            format!(
                "Transpose: {} credits at a second a request, {} the {} a month of a free key",
                with_thousands(credits),
                months(self.transpose_credits),
                with_thousands(free_credits)
            ),
        ]
    }
}

/// Prints the forecast of a run. Writes nothing, and sends only the requests that determine the days
/// of the source.
///
/// # Errors
/// The errors of a run before its first step.
pub async fn forecast(options: &Options, with_units: bool) -> Result<()> {
    let run = Run::prepare(options).await?;
    let context = run.open_read_only(Lake::new(FolderStore::new(&options.lake))).await?;
    let inventory = Inventory::list(&context.lake, run.scope.as_of).await?;
    inventory.reject_other_source(run.config.source)?;
    context.reject_other_schema(&inventory).await?;
    let missing = context.keys_to_replace(&inventory, None).await?;
    let first = context.first_day(run.from, &inventory).await?;
    let run = Run { scope: run.scope.clone().not_before(first), ..run };
    let plan = plan(&run.scope, &inventory.without(&missing), PlanPhase::BeforeExtraction)?;
    let requests_per_unit = requests_per_unit(&context).await?;
    let forecast = Forecast::new(&run, &plan, &requests_per_unit, with_units)?;
    if options.json {
        return output::json(&forecast);
    }
    let (lake, name) = (options.lake.display(), &run.source.name);
    line(format_args!("{name} → {lake}, features as of {}, from {}", forecast.as_of, forecast.first_day))?;
    if plan.is_empty() {
        return line("no unit is missing: a run would only publish the features if they are not published yet");
    }
    line("")?;
    forecast.table().print()?;
    line("")?;
    let bound = forecast.bound();
    line(format_args!(
        "{bound}{} requests; extraction takes {bound}{} at the configured rate limits, the other steps depend on this machine",
        with_thousands(forecast.requests),
        duration(forecast.extraction_seconds.ceil() as i64)
    ))?;
    forecast.quotas.iter().flat_map(Quotas::lines).try_for_each(line)?;
    for step in forecast.steps.iter().filter(|step| !step.names.is_empty()) {
        line("")?;
        line(step.step)?;
        step.names.iter().try_for_each(|name| line(format_args!("  {name}")))?;
    }
    Ok(())
}

/// The number of requests per unit of each step, from the newest run over the lake that has the step.
async fn requests_per_unit(context: &Context) -> Result<BTreeMap<Step, f64>> {
    let mut requests = BTreeMap::new();
    // Run ids start with the as-of day, so newer runs come later and replace older ones.
    for entry in context.lake.store().list("runs/").await?.iter().filter(|entry| entry.key.ends_with(RUN_REPORT)) {
        let Some(report) = context.lake.read_json::<RunReport>(&entry.key).await? else { continue };
        for step in report.steps.iter().filter(|step| step.report.units > 0 && step.report.traffic.requests > 0) {
            requests.insert(step.step, step.report.traffic.requests as f64 / step.report.units as f64);
        }
    }
    Ok(requests)
}

impl Forecast {
    fn new(run: &Run, plan: &Plan, requests_per_unit: &BTreeMap<Step, f64>, with_units: bool) -> Result<Self> {
        let planned = Step::planned().filter(|step| !plan.units(*step).is_empty());
        let steps: Vec<_> = planned
            .map(|step| {
                let rate = step.source(run.config.source).map(|source| rate(source, &run.source.rates));
                let mut forecast =
                    StepForecast::new(step, plan.units(step), rate, requests_per_unit.get(&step).copied(), with_units);
                if step == Step::ExtractEvents {
                    forecast.add_requests(plan.to_verify().len() as u64, rate);
                }
                forecast
            })
            .collect();
        let seconds = |phase: Phase, source: Source| -> f64 {
            let of_source = steps
                .iter()
                .filter(|step| step.step.phase() == phase && step.step.source(run.config.source) == Some(source));
            of_source.filter_map(|step| step.seconds).sum()
        };
        let of_phase =
            |phase: Phase| [Source::Transpose, Source::TheGraph, Source::Ethereum].map(|source| seconds(phase, source));
        let extraction_seconds: f64 = [Phase::Blocks, Phase::Extract]
            .map(|phase| of_phase(phase).into_iter().fold(0.0, f64::max))
            .into_iter()
            .sum();
        Ok(Forecast {
            as_of: run.scope.as_of,
            first_day: run.scope.first_day()?,
            force: run.scope.force,
            requests: steps.iter().filter_map(|step| step.requests).sum(),
            quotas: Quotas::new(&steps, run.config.source),
            steps,
            extraction_seconds,
        })
    }

    /// Returns `at least `, unless the requests of all steps follow from the newest run.
    fn bound(&self) -> &'static str {
        let is_guess = |step: &StepForecast| step.requests.is_some() && !step.measured;
        if self.steps.iter().any(is_guess) { "at least " } else { "" }
    }

    fn table(&self) -> TextTable {
        let mut table = table(&["step", "units", "first", "last", "requests", "time"], 4, 6);
        for step in &self.steps {
            let requests = step.requests.map_or_else(String::new, |requests| {
                let bound = if step.measured { "" } else { "at least " };
                format!("{bound}{}", with_thousands(requests))
            });
            table.add_row([
                step.step.to_string(),
                with_thousands(step.units as u64),
                step.first.clone().unwrap_or_default(),
                step.last.clone().unwrap_or_default(),
                requests,
                step.seconds.map_or_else(String::new, |seconds| duration(seconds.ceil() as i64)),
            ]);
        }
        table
    }
}

impl StepForecast {
    /// Adds requests beyond those for the units.
    fn add_requests(&mut self, requests: u64, rate: Option<f64>) {
        self.requests = self.requests.map(|of_units| of_units + requests);
        self.seconds = rate.zip(self.requests).map(|(rate, requests)| requests as f64 / rate);
    }

    fn new(
        step: Step,
        units: &[WorkUnit],
        rate: Option<f64>,
        requests_per_unit: Option<f64>,
        with_units: bool,
    ) -> Self {
        let day = |unit: Option<&WorkUnit>| unit.and_then(WorkUnit::day).map(|day| day.to_string());
        let requests = rate.map(|_| (requests_per_unit.unwrap_or(1.0).max(1.0) * units.len() as f64).round() as u64);
        StepForecast {
            step,
            units: units.len(),
            first: day(units.first()),
            last: day(units.last()),
            requests,
            measured: requests_per_unit.is_some(),
            seconds: rate.zip(requests).map(|(rate, requests)| requests as f64 / rate),
            names: if with_units { units.iter().map(WorkUnit::to_string).collect() } else { Vec::new() },
        }
    }
}

/// The number of requests per second to a source, all keys together.
fn rate(source: Source, rates: &RequestRates) -> f64 {
    match source {
        Source::TheGraph => rates.the_graph,
        Source::Transpose => rates.transpose,
        Source::Ethereum => rates.ethereum,
    }
}

#[cfg(test)]
mod tests {
    use defi_shared::testing::{AAVE, january, unit};

    use super::*;

    /// Returns the forecast of a step for some days, with a number of requests for each.
    fn step(step: Step, days: i32, requests_per_unit: f64) -> StepForecast {
        let units: Vec<_> = (1..=days).map(|day| unit(AAVE, january(day))).collect();
        StepForecast::new(step, &units, Some(1.0), Some(requests_per_unit), false)
    }

    #[test]
    fn requests_are_counted_against_the_monthly_quotas_of_the_free_plans() {
        let steps = [
            step(Step::ExtractDailyBlocks, 10, 1.0),
            step(Step::ExtractEvents, 20, 24.5),
            step(Step::ExtractMarketData, 30, 1.0),
            step(Step::ExtractAccountPositions, 30, 40.0),
        ];
        let quotas = Quotas::new(&steps, DataSource::Apis).map(|quotas| quotas.lines());
        let expected = [
            "The Graph: 1,230 queries, 1.2 % of the 100,000 a month of the free plan",
            "Transpose: 30,000 credits at a second a request, 12.0 % of the 250,000 a month of a free key",
        ];
        assert_eq!(quotas, Some(expected.map(str::to_owned)));
        let [queries, credits] =
            Quotas { the_graph: [250_000, 100_000], transpose_credits: [250_000, 250_000] }.lines();
        assert!(queries.contains("250,000 queries, 2.5 months of the 100,000"), "{queries}");
        assert!(credits.contains("1.0 months of the 250,000"), "{credits}");
        assert!(Quotas::new(&steps, DataSource::Chain).is_none(), "a node has other limits");
    }
}
