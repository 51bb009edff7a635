//! The page of a backfill: gaps, failures, requests and credits of all its executions.

use std::collections::BTreeMap;

use defi_pages::number::{duration, utc_time};
use defi_pages::table::Table;
use defi_pages::{count, page};
use defi_shared::domain::Day;
use defi_shared::executions::Execution;
use defi_shared::pipeline::{DataSource, Source, Step};
use defi_shared::sources::transpose::CREDITS_PER_SECOND;
use defi_shared::step::{Gaps, StepReport};
use maud::{Markup, html};

use super::progress::Backfill;
use crate::aws::report::ExecutionResult;
use crate::env::Env;

/// An execution of a backfill, and what it did.
pub(super) struct DayRun {
    pub day: Day,
    pub execution: Execution,
    /// None if it did not succeed.
    pub result: Option<ExecutionResult>,
    pub error: Option<String>,
}

impl DayRun {
    fn steps(&self) -> impl Iterator<Item = &StepReport> {
        let report = self.result.as_ref().and_then(|result| result.report.as_ref());
        report.into_iter().flat_map(|report| &report.steps)
    }

    fn requests(&self) -> u64 {
        self.steps().map(|step| step.report.traffic.requests).sum()
    }

    fn seconds(&self) -> Option<i64> {
        Some((self.execution.stopped? - self.execution.started) / 1000)
    }
}

/// Renders the page. The executions are in the order of their starts.
pub(super) fn render(env: Env, backfill: &Backfill, runs: &[DayRun]) -> String {
    let call = backfill.call.to_string();
    let body = html! {
        header {
            h1 { "Backfill from " (backfill.call.first) " to " (backfill.call.last) }
            p.muted { "Environment " strong { (env.name()) } ", " code { (call) } }
            div class={ "note " (if backfill.progress().left == 0 { "pass" } else { "warn" }) } id="progress" {
                p { (backfill.progress()) "." }
            }
        }
        main {
            section #gaps { h2 { "Gaps" } (gaps(runs)) }
            section #failures { h2 { "Failures" } (failures(runs)) }
            section #requests { h2 { "Requests" } (requests(runs)) }
            section #days { h2 { "Days" } (days(runs)) }
        }
    };
    page(&format!("Backfill from {} to {}", backfill.call.first, backfill.call.last), body)
}

/// Returns the days without a snapshot after the newest execution, by protocol. Each execution lists those of all days
/// before its own.
fn gaps(runs: &[DayRun]) -> Markup {
    let reports = runs.iter().rev().filter_map(|run| run.result.as_ref()?.report.as_ref());
    let Some(report) = reports.into_iter().next() else {
        return html! { p { "No execution has a report." } };
    };
    let Gaps { markets, positions, rebuilt_markets, rebuilt_positions } = &report.gaps;
    let kinds = [
        ("markets, lost", markets),
        ("positions, lost", positions),
        ("markets, rebuilt", rebuilt_markets),
        ("positions, rebuilt", rebuilt_positions),
    ];
    if kinds.iter().all(|(_, days)| days.values().all(|days| days.is_empty())) {
        return html! { p { "No day is missing." } };
    }
    let mut table = Table::new("Gaps", &[("protocol", false), ("what", false), ("days", true), ("which", false)]);
    for (what, by_protocol) in kinds {
        for (protocol, days) in by_protocol.iter().filter(|(_, days)| !days.is_empty()) {
            table.row(html! {
                th scope="row" { (protocol) } td { (what) } td.number { (count(days.len() as u64)) }
                td { @for (index, day) in days.iter().enumerate() { @if index > 0 { ", " } (day) } }
            });
        }
    }
    table.markup()
}

fn failures(runs: &[DayRun]) -> Markup {
    let mut table = Table::new("Failures", &[("day", false), ("execution", false), ("error", false)]);
    let failed: Vec<_> =
        runs.iter().filter(|run| !["SUCCEEDED", "RUNNING"].contains(&run.execution.status.as_str())).collect();
    if failed.is_empty() {
        return html! { p { "No execution failed." } };
    }
    for run in failed {
        table.row(html! {
            th scope="row" { (run.day) } td { code { (run.execution.name) } }
            td { (run.error.as_deref().unwrap_or(&run.execution.status)) }
        });
    }
    table.markup()
}

/// Returns the requests by step, and what they take of the quotas.
fn requests(runs: &[DayRun]) -> Markup {
    let mut by_step: BTreeMap<Step, [u64; 3]> = BTreeMap::new();
    for StepReport { step, report } in runs.iter().flat_map(DayRun::steps) {
        let traffic = &report.traffic;
        let counts = [traffic.requests, traffic.retries.values().sum(), traffic.bytes];
        let sums = by_step.entry(*step).or_default();
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    by_step.retain(|_, [requests, ..]| *requests > 0);
    let header = [("step", false), ("requests", true), ("retries", true), ("bytes", true)];
    let mut table = Table::new("Requests by step", &header);
    for (step, counts) in &by_step {
        table.row(html! { th scope="row" { (step) } @for number in counts { td.number { (count(*number)) } } });
    }
    let is_from_a_node = by_step.contains_key(&Step::ExtractLogs);
    let of = |api| -> u64 {
        let steps = by_step.iter().filter(|(step, _)| step.source(DataSource::Apis) == Some(api));
        steps.map(|(_, [requests, ..])| requests).sum()
    };
    let credits = of(Source::Transpose) as f64 * CREDITS_PER_SECOND;
    html! {
        (table.markup())
        @if !is_from_a_node {
            p {
                (count(of(Source::TheGraph))) " queries of The Graph; about " (count(credits as u64))
                " credits of Transpose, if each request took a second."
            }
        }
    }
}

fn days(runs: &[DayRun]) -> Markup {
    let header = [
        ("day", false),
        ("execution", false),
        ("started (UTC)", false),
        ("status", false),
        ("time", true),
        ("wallets", true),
        ("requests", true),
    ];
    let mut table = Table::new("Executions in the order of their starts", &header);
    for run in runs {
        let wallets = run.result.as_ref().and_then(|result| Some(result.checks.as_ref()?.wallets));
        table.row(html! {
            th scope="row" { (run.day) }
            td { code { (run.execution.name) } }
            td { (utc_time(run.execution.started / 1000)) }
            td { (run.execution.status) }
            td.number { @if let Some(seconds) = run.seconds() { data value=(seconds) { (duration(seconds)) } } }
            td.number { @if let Some(wallets) = wallets { (count(wallets)) } }
            td.number { (count(run.requests())) }
        });
    }
    table.markup()
}
