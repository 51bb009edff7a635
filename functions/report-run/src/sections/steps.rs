//! What the steps did, in their order. No clock reaches a lake, so that there are no times.

use std::collections::BTreeMap;

use defi_shared::error::Result;
use defi_shared::pipeline::{Phase, Step};
use defi_shared::step::{Report, StepReport};
use maud::{Markup, html};

use crate::gather::Gathered;
use defi_pages::chart::{Frame, Span, timeline};
use defi_pages::count;
use defi_pages::number::{bytes, grouped};
use defi_pages::table::Table;

pub(super) fn markup(report: &Gathered) -> Result<Markup> {
    let steps = report.report.as_ref().map(|report| report.steps.as_slice()).unwrap_or_default();
    let body = match steps {
        [] => html! { p { "No step of this run has told what it did: " (reason(report)) } },
        steps => html! {
            p.muted { "In their order: steps of one phase go on side by side, a phase begins when the one before it is over." }
            (order(steps)?)
            (table(steps))
            (causes("Rows into quarantine, by reason", "rejected", steps, |step| &step.rejected))
            (causes("Requests asked again, by cause", "retries", steps, |step| &step.traffic.retries))
            (lost(steps))
        },
    };
    Ok(html! { section #steps { h2 { "Steps" } (body) } })
}

fn reason(report: &Gathered) -> &'static str {
    match (&report.report, &report.plan) {
        (Some(_), None) => "nothing was to be made, only checked and published.",
        (Some(_), _) => "its reports are not in the lake.",
        (None, _) => "it did not get to its end.",
    }
}

/// The index of a step's phase among the phases of the timeline.
fn phase_index(step: Step) -> usize {
    Phase::PRODUCING.iter().position(|phase| *phase == step.phase()).unwrap_or_default()
}

fn order(steps: &[StepReport]) -> Result<Markup> {
    let spans = steps.iter().map(|step| {
        let Report { units, rows_out, .. } = step.report;
        let units_word = if units == 1 { "unit" } else { "units" };
        let rows = if rows_out == 1 { "row" } else { "rows" };
        let note = format!("{} {units_word}, {} {rows} out", grouped(units), grouped(rows_out));
        Span { name: step.step.to_string(), phase: phase_index(step.step), note }
    });
    let about = "The steps from top to bottom, each with a bar in its phase; bars in one column are of steps that ran side by side.";
    let frame = Frame { id: "timeline", title: "The steps of the run in their order", about };
    timeline(&frame, &Phase::PRODUCING.map(Phase::name), &spans.collect::<Vec<_>>())
}

/// The columns of counts: a name, and what it counts.
type Column = (&'static str, fn(&Report) -> u64);
const COLUMNS: [Column; 8] = [
    ("units", |report| report.units),
    ("rows in", |report| report.rows_in),
    ("rows out", |report| report.rows_out),
    ("repeats", |report| report.repeats),
    ("rejected", Report::rejected),
    ("unpriced", |report| report.unpriced),
    ("requests", |report| report.traffic.requests),
    ("retries", |report| report.traffic.retries.values().sum()),
];

fn table(steps: &[StepReport]) -> Markup {
    let mut header = vec![("step", false)];
    header.extend(COLUMNS.iter().map(|(name, _)| (*name, true)));
    header.push(("bytes written", true));
    let mut table = Table::new("What each step did", &header);
    let mut total = Report::default();
    let largest: Vec<u64> =
        COLUMNS.iter().map(|(_, of)| steps.iter().map(|step| of(&step.report)).max().unwrap_or(0)).collect();
    let most_bytes = steps.iter().map(|step| step.report.bytes).max().unwrap_or(0);
    for StepReport { step, report } in steps {
        total.merge(report.clone());
        table.row(html! {
            th scope="row" id=(format!("step-{step}")) { (step) }
            @for ((_, of), largest) in COLUMNS.iter().zip(&largest) {
                td.number.bar style=(part(of(report), *largest)) { (count(of(report))) }
            }
            td.number.bar style=(part(report.bytes, most_bytes)) { data value=(report.bytes) { (bytes(report.bytes)) } }
        });
    }
    table.foot(html! {
        th scope="row" { "the whole run" }
        @for (_, of) in COLUMNS { td.number { (count(of(&total))) } }
        td.number { data value=(total.bytes) { (bytes(total.bytes)) } }
    });
    table.markup()
}

/// How far a cell's bar reaches: its share of the column's largest number.
fn part(value: u64, largest: u64) -> String {
    format!("--part:{:.1}%", 100.0 * value as f64 / largest.max(1) as f64)
}

/// Counts by a cause, of each step that has any.
fn causes<'a>(
    title: &str,
    id: &str,
    steps: &'a [StepReport],
    of: impl Fn(&'a Report) -> &'a BTreeMap<String, u64>,
) -> Markup {
    let mut table = Table::new(title, &[("step", false), ("cause", false), ("count", true)]);
    let all =
        || steps.iter().flat_map(|step| of(&step.report).iter().map(move |(cause, count)| (&step.step, cause, *count)));
    for (step, cause, times) in all() {
        table.row(html! { th scope="row" { (step) } td { (cause) } td.number { (count(times)) } });
    }
    html! {
        h3 id=(id) { (title) }
        @if all().next().is_none() { p { "None." } } @else { (table.markup()) }
    }
}

/// Units that can't be had any more, as far as the steps name them.
fn lost(steps: &[StepReport]) -> Markup {
    let lost: Vec<_> = steps.iter().filter(|step| step.report.lost.count > 0).collect();
    html! {
        @if !lost.is_empty() {
            h3 { "Units lost" }
            ul { @for step in lost {
                li { (step.step) ": " (count(step.report.lost.count)) ", " (step.report.lost.first.join(", ")) }
            } }
        }
    }
}
