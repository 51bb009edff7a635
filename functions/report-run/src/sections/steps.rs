//! The work of each step, in order. The lake contains no clock times, so the page shows none.

use std::collections::BTreeMap;

use defi_shared::error::Result;
use defi_shared::pipeline::{Phase, Step};
use defi_shared::step::{Report, StepReport, UnitSummary};
use maud::{Markup, html};

use crate::gather::ReportData;
use defi_pages::chart::{Frame, Span, timeline};
use defi_pages::count;
use defi_pages::number::{bytes, with_thousands};
use defi_pages::table::Table;

pub(super) fn markup(report: &ReportData) -> Result<Markup> {
    let steps = report.report.as_ref().map(|report| report.steps.as_slice()).unwrap_or_default();
    let body = match steps {
        [] => html! { p { "This run has no step reports: " (reason(report)) } },
        steps => html! {
            p.muted {
                "Steps in order. Steps of one phase run concurrently. A phase starts when the previous one has ended."
            }
            (timeline_chart(steps)?)
            (table(steps))
            (causes("Rows quarantined, by reason", "rejected", steps, |step| &step.rejected))
            (causes("Retries, by cause", "retries", steps, |step| &step.traffic.retries))
            (units("Lost units", steps, |step| &step.lost))
            (units("Rebuilt units", steps, |step| &step.rebuilt))
            (units("Values that differ from what the contracts say", steps, |step| &step.differing))
        },
    };
    Ok(html! { section #steps { h2 { "Steps" } (body) } })
}

/// Returns the reason why a run has no step reports.
fn reason(report: &ReportData) -> &'static str {
    match (&report.report, &report.plan) {
        (Some(_), None) => "the features were up to date and only had to be checked and published.",
        (Some(_), _) => "the lake has no reports of it.",
        (None, _) => "it did not finish.",
    }
}

/// Returns the index of a step's phase among the phases of the timeline.
fn phase_index(step: Step) -> usize {
    Phase::PRODUCING.iter().position(|phase| *phase == step.phase()).unwrap_or_default()
}

/// Returns the chart of the steps by phase.
fn timeline_chart(steps: &[StepReport]) -> Result<Markup> {
    let spans = steps.iter().map(|step| {
        let Report { units, rows_out, .. } = step.report;
        let units_word = if units == 1 { "unit" } else { "units" };
        let rows = if rows_out == 1 { "row" } else { "rows" };
        let note = format!("{} {units_word}, {} {rows} out", with_thousands(units), with_thousands(rows_out));
        Span { name: step.step.to_string(), phase: phase_index(step.step), note }
    });
    let about = "Steps from top to bottom, each with a bar in its phase. Bars in one column mark concurrent steps.";
    let frame = Frame { id: "timeline", title: "The steps of the run in order", about };
    timeline(&frame, &Phase::PRODUCING.map(Phase::name), &spans.collect::<Vec<_>>())
}

/// A column of counts: its name, and a function that reads the count from a report.
type Column = (&'static str, fn(&Report) -> u64);
const COLUMNS: [Column; 8] = [
    ("units", |report| report.units),
    ("rows in", |report| report.rows_in),
    ("rows out", |report| report.rows_out),
    ("duplicates", |report| report.repeats),
    ("rejected", Report::rejected),
    ("unpriced", |report| report.unpriced),
    ("requests", |report| report.traffic.requests),
    ("retries", |report| report.traffic.retries.values().sum()),
];

fn table(steps: &[StepReport]) -> Markup {
    let mut header = vec![("step", false)];
    header.extend(COLUMNS.iter().map(|(name, _)| (*name, true)));
    header.push(("bytes written", true));
    let mut table = Table::new("Work of each step", &header);
    let mut total = Report::default();
    let largest: Vec<u64> =
        COLUMNS.iter().map(|(_, get)| steps.iter().map(|step| get(&step.report)).max().unwrap_or(0)).collect();
    let largest_bytes = steps.iter().map(|step| step.report.bytes).max().unwrap_or(0);
    for StepReport { step, report } in steps {
        total.merge(report.clone());
        table.row(html! {
            th scope="row" id=(format!("step-{step}")) { (step) }
            @for ((_, get), largest) in COLUMNS.iter().zip(&largest) {
                td.number.bar style=(bar_width(get(report), *largest)) { (count(get(report))) }
            }
            td.number.bar style=(bar_width(report.bytes, largest_bytes)) {
                data value=(report.bytes) { (bytes(report.bytes)) }
            }
        });
    }
    table.foot(html! {
        th scope="row" { "total" }
        @for (_, get) in COLUMNS { td.number { (count(get(&total))) } }
        td.number { data value=(total.bytes) { (bytes(total.bytes)) } }
    });
    table.markup()
}

/// Returns the width of a cell's bar as a style: the share of the largest value of the column.
fn bar_width(value: u64, largest: u64) -> String {
    format!("--part:{:.1}%", 100.0 * value as f64 / largest.max(1) as f64)
}

/// Returns a table of counts by cause, for each step that has any.
fn causes<'a>(
    title: &str,
    id: &str,
    steps: &'a [StepReport],
    get: impl Fn(&'a Report) -> &'a BTreeMap<String, u64>,
) -> Markup {
    let mut table = Table::new(title, &[("step", false), ("cause", false), ("count", true)]);
    let all = || {
        steps.iter().flat_map(|step| get(&step.report).iter().map(move |(cause, count)| (&step.step, cause, *count)))
    };
    for (step, cause, number) in all() {
        table.row(html! { th scope="row" { (step) } td { (cause) } td.number { (count(number)) } });
    }
    html! {
        h3 id=(id) { (title) }
        @if all().next().is_none() { p { "None." } } @else { (table.markup()) }
    }
}

/// Returns a list by step, as far as the step reports name its entries.
fn units(title: &str, steps: &[StepReport], summary: impl Fn(&Report) -> &UnitSummary) -> Markup {
    let listed = || steps.iter().map(|step| (step, summary(&step.report))).filter(|(_, summary)| summary.count > 0);
    html! {
        @if listed().next().is_some() {
            h3 { (title) }
            ul { @for (step, summary) in listed() {
                li { (step.step) ": " (count(summary.count)) ", " (summary.first.join(", ")) }
            } }
        }
    }
}
