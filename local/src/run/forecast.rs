//! Forecasts a run without executing it: the missing units, and the requests and the time to extract them.

use std::collections::BTreeMap;

use defi_shared::domain::Day;
use defi_shared::error::Result;
use defi_shared::lake::{FolderStore, Lake, WorkUnit};
use defi_shared::pipeline::{DataSource, Phase, Source, Step};
use defi_shared::plan::{Inventory, Plan, PlanPhase, Scope, plan};
use defi_shared::sources::transpose::CREDITS_PER_SECOND;
use defi_shared::sources::{graph, transpose};
use defi_shared::step::{Context, Report};
use defi_shared::tables::RAW_LOGS;
use serde::Serialize;

use super::summary::print_gaps;
use super::{Options, Run};
use crate::hint::CallOptions;
use crate::output::{self, TextTable, line, table};
use crate::source::RequestRates;
use defi_pages::number::{duration, with_thousands};

/// A forecast from a node that is not measured names a run of so many days, which measures it.
const FIRST_DAYS: i32 = 31;

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
    /// Whether `requests` and `seconds` are based on earlier runs over this lake. Else they are lower bounds.
    measured: bool,
    /// The duration of the requests: at the source's rate limit, or longer where earlier runs from a node took longer.
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
    /// From a node: the logs in the lake by which the requests and the time were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_on: Option<MeasuredLogs>,
    /// Whether months of logs before the first day are missing.
    #[serde(skip)]
    has_months: bool,
}

/// What earlier runs over the lake needed for a step.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// The number of requests for each unit, or for each day of logs.
    requests: f64,
    /// The seconds for each of them, from a node. The APIs' rate limits alone tell the time.
    seconds: f64,
}

impl Measured {
    fn new(report: &Report, days: u64, scope: &Scope) -> Self {
        let of_day = |count: u64| count as f64 / days.max(1) as f64;
        let milliseconds = if scope.is_from_a_node() { report.traffic.milliseconds } else { 0 };
        Measured { requests: of_day(report.traffic.requests), seconds: of_day(milliseconds) / 1e3 }
    }
}

/// What earlier runs over the lake needed for each step.
#[derive(Debug, Default)]
struct Measurements {
    steps: BTreeMap<Step, Measured>,
    /// The logs of a node that were extracted in the measured calls.
    logs: Option<MeasuredLogs>,
}

/// Logs whose extraction was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct MeasuredLogs {
    /// The number of days, of all protocols together.
    days: u64,
    /// The first day.
    first: Day,
    /// The last day.
    last: Day,
}

impl MeasuredLogs {
    /// Returns the logs that a call or several wrote. `None` if they wrote none.
    fn of(report: &Report, scope: &Scope) -> Option<Self> {
        let units = report.digests.keys().filter_map(|key| WorkUnit::from_key(&RAW_LOGS, key));
        let logs = |unit| {
            let days = days_of_logs(&unit, scope)?;
            let (first, last) = (days.clone().next()?, days.clone().next_back()?);
            Some(MeasuredLogs { days: days.count() as u64, first, last })
        };
        units.filter_map(logs).reduce(|sum, other| MeasuredLogs {
            days: sum.days + other.days,
            first: sum.first.min(other.first),
            last: sum.last.max(other.last),
        })
    }
}

/// Returns the days of a unit of logs: of a month, those since the first day of the protocol. `None` for another unit.
fn days_of_logs(unit: &WorkUnit, scope: &Scope) -> Option<impl DoubleEndedIterator<Item = Day> + Clone> {
    let (days, protocol) = unit.as_protocol_days().ok()?;
    let first = scope.logs_from.get(&*protocol).map_or(days.start, |first| days.start.max(*first));
    Some(first.until(days.end))
}

/// Returns the number of units of a step, by which its requests are counted: those of logs are days or months.
fn count(units: &[WorkUnit], scope: &Scope) -> u64 {
    let days = |unit: &WorkUnit| match unit {
        WorkUnit::ProtocolMonth(..) => days_of_logs(unit, scope).map_or(1, |days| days.count() as u64),
        _ => 1,
    };
    units.iter().map(days).sum()
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

    /// Returns whether a month of the free plan is not enough.
    fn is_exceeded([used, free]: &[u64; 2]) -> bool {
        used > free
    }

    /// Returns a line for each of the selected quotas.
    fn lines(&self, is_selected: impl Fn(&[u64; 2]) -> bool) -> Vec<String> {
        let months = |[used, free]: [u64; 2]| match used as f64 / free as f64 {
            share if share < 1.0 => format!("{:.1} % of", share * 100.0),
            months => format!("{months:.1} months of"),
        };
        let [queries, free_queries] = self.the_graph;
        let [credits, free_credits] = self.transpose_credits;
        let queries = format!(
            "The Graph: {} queries, {} the {} a month of the free plan",
            with_thousands(queries),
            months(self.the_graph),
            with_thousands(free_queries)
        );
        let credits = format!(
            "Transpose: {} credits at a second a request, {} the {} a month of a free key",
            with_thousands(credits),
            months(self.transpose_credits),
            with_thousands(free_credits)
        );
        let lines = [(self.the_graph, queries), (self.transpose_credits, credits)];
        lines.into_iter().filter(|(quota, _)| is_selected(quota)).map(|(_, line)| line).collect()
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
    let forecast = Forecast::new(&run, &plan, measurements(&context, &run.scope).await?, with_units)?;
    if options.json {
        return output::json(&forecast);
    }
    let (lake, name) = (options.lake.display(), &run.source.name);
    line(format_args!("{name} → {lake}, features as of {}, from {}", forecast.as_of, forecast.first_day))?;
    if plan.is_empty() {
        return line("no unit is missing: a run would only publish the features if they are not published yet");
    }
    // What stands in the way comes first: days that stay missing, and quotas that do not suffice.
    print_gaps(&context.gaps(&run.scope).await?.after(&plan))?;
    forecast.quotas.iter().flat_map(|quotas| quotas.lines(Quotas::is_exceeded)).try_for_each(line)?;
    line("")?;
    forecast.table().wrapped().print()?;
    line("")?;
    let bound = forecast.bound();
    line(format_args!(
        "{bound}{} requests; extraction takes {bound}{} at the configured rate limits, the other steps depend on this machine",
        with_thousands(forecast.requests),
        duration(forecast.extraction_seconds.ceil() as i64)
    ))?;
    if run.scope.is_from_a_node() {
        line(CallOptions::in_folder(&options.lake, options.env).complete(&forecast.basis()))?;
    }
    let is_enough = |quota: &[u64; 2]| !Quotas::is_exceeded(quota);
    forecast.quotas.iter().flat_map(|quotas| quotas.lines(is_enough)).try_for_each(line)?;
    for step in forecast.steps.iter().filter(|step| !step.names.is_empty()) {
        line("")?;
        line(step.step)?;
        step.names.iter().try_for_each(|name| line(format_args!("  {name}")))?;
    }
    Ok(())
}

/// Returns what the newest runs over the lake needed for each step.
async fn measurements(context: &Context, scope: &Scope) -> Result<Measurements> {
    let mut measurements = Measurements::default();
    for (step, report) in context.newest_reports().await? {
        let logs = MeasuredLogs::of(&report, scope);
        measurements.steps.insert(step, Measured::new(&report, logs.map_or(report.units, |logs| logs.days), scope));
        measurements.logs = measurements.logs.or(logs);
    }
    Ok(measurements)
}

impl Forecast {
    fn new(run: &Run, plan: &Plan, measurements: Measurements, with_units: bool) -> Result<Self> {
        let planned = Step::planned().filter(|step| !plan.units(*step).is_empty());
        let steps: Vec<_> = planned
            .map(|step| {
                let rate = step.source(run.config.source).map(|source| rate(source, &run.source.rates));
                let measured = measurements.steps.get(&step);
                let mut forecast = StepForecast::new(step, plan.units(step), &run.scope, rate, measured, with_units);
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
            // Steps that run concurrently share the rate limit, and were measured while the others ran.
            let (requests, longest) = of_source.fold((0.0, 0.0), |(requests, longest): (f64, f64), step| {
                (requests + step.requests.unwrap_or(0) as f64, longest.max(step.seconds.unwrap_or(0.0)))
            });
            longest.max(requests / self::rate(source, &run.source.rates))
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
            measured_on: measurements.logs,
            has_months: plan.units(Step::ExtractLogs).iter().any(|unit| matches!(unit, WorkUnit::ProtocolMonth(..))),
            steps,
            extraction_seconds,
        })
    }

    /// Returns `at least `, unless the requests of all steps follow from the newest run.
    fn bound(&self) -> &'static str {
        let is_guess = |step: &StepForecast| step.requests.is_some() && !step.measured;
        if self.steps.iter().any(is_guess) { "at least " } else { "" }
    }

    /// Says of a forecast from a node what it is based on.
    fn basis(&self) -> String {
        if let Some(MeasuredLogs { days, first, last }) = self.measured_on {
            let days = with_thousands(days);
            return format!(
                "measured on {days} days of logs in this lake, {first} to {last}; days with more logs take longer"
            );
        }
        let how = if self.has_months {
            "start it, interrupt it when it has extracted the first months, and plan again: what it has stays"
                .to_owned()
        } else if self.first_day.plus_days(FIRST_DAYS) < self.as_of {
            format!("defi run --as-of {}, then plan again", self.first_day.plus_days(FIRST_DAYS))
        } else {
            "the run itself".to_owned()
        };
        format!("an estimate, not measured: nothing is extracted yet. To measure it: {how}")
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
        scope: &Scope,
        rate: Option<f64>,
        measured: Option<&Measured>,
        with_units: bool,
    ) -> Self {
        let day = |unit: Option<&WorkUnit>| unit.and_then(WorkUnit::day).map(|day| day.to_string());
        // Each unit takes one request at least.
        let (requests, seconds) = match measured {
            Some(Measured { requests, seconds }) => {
                let count = count(units, scope) as f64;
                ((requests * count).max(units.len() as f64).round() as u64, seconds * count)
            }
            None => (units.len() as u64, 0.0),
        };
        let requests = rate.map(|_| requests);
        StepForecast {
            step,
            units: units.len(),
            first: day(units.first()),
            last: day(units.last()),
            requests,
            measured: measured.is_some(),
            seconds: rate.zip(requests).map(|(rate, requests)| (requests as f64 / rate).max(seconds)),
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
    use std::collections::BTreeSet;

    use defi_shared::testing::{AAVE, january, unit};

    use super::*;

    fn scope(as_of: &str, from: &str, logs_from: &str) -> Scope {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let first_days = |text: &str| BTreeMap::from([(AAVE.to_owned(), day(text))]);
        Scope {
            as_of: day(as_of),
            from: first_days(from),
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            shards: 1,
            logs_from: first_days(logs_from),
            scaled: BTreeSet::new(),
        }
    }

    /// Returns the forecast of a step for some days, with a number of requests for each.
    fn step(step: Step, days: i32, requests_per_unit: f64) -> StepForecast {
        let (scope, measured) =
            (scope("2023-01-31", "2023-01-01", "2023-01-01"), Measured { requests: requests_per_unit, seconds: 0.0 });
        let units: Vec<_> = (1..=days).map(|day| unit(AAVE, january(day))).collect();
        StepForecast::new(step, &units, &scope, Some(1.0), Some(&measured), false)
    }

    #[test]
    fn requests_are_counted_against_the_monthly_quotas_of_the_free_plans() {
        let steps = [
            step(Step::ExtractDailyBlocks, 10, 1.0),
            step(Step::ExtractEvents, 20, 24.5),
            step(Step::ExtractMarketData, 30, 1.0),
            step(Step::ExtractAccountPositions, 30, 40.0),
        ];
        let quotas = Quotas::new(&steps, DataSource::Apis).map(|quotas| quotas.lines(|_| true));
        let expected = [
            "The Graph: 1,230 queries, 1.2 % of the 100,000 a month of the free plan",
            "Transpose: 30,000 credits at a second a request, 12.0 % of the 250,000 a month of a free key",
        ];
        assert_eq!(quotas, Some(expected.map(str::to_owned).to_vec()));
        let quotas = Quotas { the_graph: [250_000, 100_000], transpose_credits: [250_000, 250_000] };
        let exceeded = quotas.lines(Quotas::is_exceeded);
        assert!(
            exceeded.len() == 1 && exceeded[0].contains("250,000 queries, 2.5 months of the 100,000"),
            "{exceeded:?}"
        );
        let all = quotas.lines(|_| true);
        assert!(all[1].contains("1.0 months of the 250,000"), "{all:?}");
        assert!(Quotas::new(&steps, DataSource::Chain).is_none(), "a node has other limits");
    }

    #[test]
    fn months_of_logs_are_measured_by_their_days() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let scope = scope("2023-04-01", "2023-03-10", "2023-01-20");
        let month = |text: &str| WorkUnit::ProtocolMonth(day(text), AAVE.into());
        let mut report = Report { units: 2, ..Report::default() };
        // The first month begins with the first day of the protocol.
        for unit in [month("2023-01-01"), WorkUnit::ProtocolDay(day("2023-02-01"), AAVE.into())] {
            report.digests.insert(unit.key(&RAW_LOGS), String::new());
        }
        // A state is no unit of logs.
        report.digests.insert("state/replay/x".to_owned(), String::new());
        (report.traffic.requests, report.traffic.milliseconds) = (26, 6_500);
        let logs = MeasuredLogs::of(&report, &scope).unwrap();
        assert_eq!(logs, MeasuredLogs { days: 13, first: day("2023-01-20"), last: day("2023-02-01") });
        let measured = Measured::new(&report, logs.days, &scope);
        assert_eq!((measured.requests, measured.seconds), (2.0, 0.5));

        let missing = [month("2023-02-01"), month("2023-03-01")];
        let forecast = |measured| {
            let forecast = StepForecast::new(Step::ExtractLogs, &missing, &scope, Some(10.0), measured, false);
            (forecast.requests.unwrap(), forecast.seconds.unwrap())
        };
        assert_eq!(forecast(Some(&measured)), (2 * 59, 0.5 * 59.0), "slower than the rate allows");
        let fast = Measured { seconds: 0.1, ..measured };
        assert_eq!(forecast(Some(&fast)), (2 * 59, 11.8), "no faster than the rate allows");
        assert_eq!(forecast(None), (2, 0.2), "a request for each month, at least");
    }
}
