//! What a run would do, without doing it: the units that are missing, and what it would cost to ask for them.

use std::collections::BTreeMap;

use comfy_table::Table;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::plan::{DaysBy, Plan, STEPS, Stage};
use defi_shared::step::{Context, RunReport};
use serde::Serialize;

use super::{Options, Run};
use crate::output::{line, table};
use crate::source::RequestRates;
use defi_pages::number::{duration, grouped};

/// A step of the run to come.
#[derive(Debug, Serialize)]
struct StepForecast {
    step: &'static str,
    units: usize,
    first: Option<String>,
    last: Option<String>,
    /// Requests to the source; none of a step that asks nobody.
    requests: Option<u64>,
    /// Whether the number comes from what earlier runs over this lake needed; else it is the least that it can be.
    measured: bool,
    /// At the source's rate.
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

/// The run to come.
#[derive(Debug, Serialize)]
struct Forecast {
    as_of: Day,
    first_day: Day,
    force: bool,
    steps: Vec<StepForecast>,
    requests: u64,
    /// Of the extraction: the two sources are asked side by side once the blocks are known.
    extraction_seconds: f64,
}

/// Prints what a run would do. Nothing is written, and nothing is asked for but what tells which days a source covers.
///
/// # Errors
/// As a run's before its first step.
pub async fn forecast(options: &Options, with_units: bool) -> Result<()> {
    let run = Run::prepare(options).await?;
    let context = run.look_at(Lake::new(FolderStore::new(&options.lake))).await?;
    let plan = context.plan(&run.scope, Stage::BeforeExtraction).await?;
    let needed = requests_a_unit(&context).await?;
    let forecast = Forecast::new(&run, &plan, &needed, with_units)?;
    if options.json {
        let text = serde_json::to_string_pretty(&forecast);
        return line(text.map_err(|cause| Error::internal("no JSON").because(cause))?);
    }
    let (lake, name) = (options.lake.display(), &run.source.name);
    line(format_args!("{name} → {lake}, features as of {}, from {}", forecast.as_of, forecast.first_day))?;
    if plan.is_empty() {
        return line("nothing is missing: a run would publish what is there, if it is not published, and end");
    }
    line(format_args!("\n{}", forecast.table()))?;
    line(format_args!(
        "\n{} requests, {} of extraction at the rates of the configuration; the rest is bound by this machine",
        grouped(forecast.requests),
        duration(forecast.extraction_seconds.ceil() as i64)
    ))?;
    for step in forecast.steps.iter().filter(|step| !step.names.is_empty()) {
        line(format_args!("\n{}\n  {}", step.step, step.names.join("\n  ")))?;
    }
    Ok(())
}

/// Requests a unit, by step, as the newest run over the lake needed them that has such a step.
async fn requests_a_unit(context: &Context) -> Result<BTreeMap<String, f64>> {
    let mut needed = BTreeMap::new();
    // In the order of their names: of the as_of day, so that newer ones come later.
    for entry in context.lake.store().list("runs/").await?.iter().filter(|entry| entry.key.ends_with("/report.json")) {
        let Some(report) = context.lake.read_json::<RunReport>(&entry.key).await? else { continue };
        for step in report.steps.iter().filter(|step| step.report.units > 0 && step.report.traffic.requests > 0) {
            needed.insert(step.step.clone(), step.report.traffic.requests as f64 / step.report.units as f64);
        }
    }
    Ok(needed)
}

impl Forecast {
    fn new(run: &Run, plan: &Plan, needed: &BTreeMap<String, f64>, with_units: bool) -> Result<Self> {
        let steps: Vec<_> = plan
            .counts()
            .into_iter()
            .zip(units(plan, run.scope.as_of))
            .filter(|((_, count), _)| *count > 0)
            .map(|((step, count), (first, last, names))| {
                let rate = rate(step, &run.source.rates);
                let each = needed.get(step).copied();
                let requests = rate.map(|_| (each.unwrap_or(1.0).max(1.0) * count as f64).round() as u64);
                StepForecast {
                    step,
                    units: count,
                    first,
                    last,
                    requests,
                    measured: each.is_some(),
                    seconds: rate.zip(requests).map(|(rate, requests)| requests as f64 / rate),
                    names: if with_units { names } else { Vec::new() },
                }
            })
            .collect();
        let seconds = |wanted: &[&str]| -> f64 {
            steps.iter().filter(|step| wanted.contains(&step.step)).filter_map(|step| step.seconds).sum()
        };
        let the_graph = seconds(&["extract-market-data", "extract-account-positions", "extract-current-positions"]);
        let extraction_seconds = seconds(&["extract-daily-blocks"]) + seconds(&["extract-events"]).max(the_graph);
        Ok(Forecast {
            as_of: run.scope.as_of,
            first_day: run.scope.first_day()?,
            force: run.scope.force,
            requests: steps.iter().filter_map(|step| step.requests).sum(),
            steps,
            extraction_seconds,
        })
    }

    fn table(&self) -> Table {
        let mut table = table(&["step", "units", "first", "last", "requests", "time"], 4, 6);
        for step in &self.steps {
            let requests = step.requests.map_or_else(String::new, |requests| {
                let least = if step.measured { "" } else { "at least " };
                format!("{least}{}", grouped(requests))
            });
            table.add_row([
                step.step.to_owned(),
                grouped(step.units as u64),
                step.first.clone().unwrap_or_default(),
                step.last.clone().unwrap_or_default(),
                requests,
                step.seconds.map_or_else(String::new, |seconds| duration(seconds.ceil() as i64)),
            ]);
        }
        table
    }
}

/// Requests a second that a step may make; none of a step that asks nobody.
fn rate(step: &str, rates: &RequestRates) -> Option<f64> {
    match step {
        "extract-daily-blocks" | "extract-events" => Some(rates.transpose),
        "extract-market-data" | "extract-account-positions" | "extract-current-positions" => Some(rates.the_graph),
        _ => None,
    }
}

/// The first and the last day of a step's units, and all their names.
type Named = (Option<String>, Option<String>, Vec<String>);

/// What each step would make, in the order of the steps.
fn units(plan: &Plan, as_of: Day) -> [Named; STEPS.len()] {
    fn days(days: &[Day]) -> Named {
        let names: Vec<_> = days.iter().map(Day::to_string).collect();
        (names.first().cloned(), names.last().cloned(), names)
    }
    fn days_by<K: std::fmt::Display>(days_by: &DaysBy<K>) -> Named {
        let mut pairs: Vec<_> =
            days_by.iter().flat_map(|(key, days)| days.iter().map(move |day| (*day, key))).collect();
        pairs.sort_by_key(|(day, _)| *day);
        let day = |pair: Option<&(Day, &K)>| pair.map(|(day, _)| day.to_string());
        (day(pairs.first()), day(pairs.last()), pairs.iter().map(|(day, key)| format!("{day} {key}")).collect())
    }
    [
        days(&plan.blocks),
        days_by(&plan.extract_events),
        days_by(&plan.extract_markets),
        days_by(&plan.extract_positions),
        (None, None, plan.current_positions.clone()),
        days_by(&plan.stage_events),
        days_by(&plan.stage_markets),
        days_by(&plan.stage_positions),
        days(&plan.links),
        days_by(&plan.price),
        days(&plan.value),
        days(&[as_of]),
    ]
}
