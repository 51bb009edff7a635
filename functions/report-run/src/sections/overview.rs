//! The summary at the top of the page: the run, its outcome and its main numbers.

use defi_shared::step::Outcome;
use maud::{Markup, html};

use crate::gather::ReportData;
use defi_pages::count;

/// The sections of the page: element id and name.
const SECTIONS: [(&str, &str); 8] = [
    ("steps", "Steps"),
    ("checks", "Checks"),
    ("features", "Features"),
    ("movers", "Largest movers"),
    ("days", "By day"),
    ("unpriced", "Unpriced"),
    ("quarantine", "Quarantine"),
    ("gaps", "Gaps"),
];

pub(super) fn markup(report: &ReportData) -> Markup {
    html! {
        header {
            h1 { "Features as of " time datetime=(report.as_of) { (report.as_of) } }
            p.muted {
                "Environment " strong #env { (report.env) } ", run " code #run { (report.run) }
                @if let Some(chain) = &report.chain { ", source: " (chain) }
                ". Amounts are in ETH, days in UTC."
            }
            (verdict(report))
            (tiles(report))
            nav aria-label="Sections of this page" {
                ul { @for (id, name) in SECTIONS { li { a href=(format!("#{id}")) { (name) } } } }
            }
        }
    }
}

/// Returns a short summary of the outcome of the run.
fn verdict(report: &ReportData) -> Markup {
    let count_of =
        |outcome| report.checked.iter().flat_map(|checked| &checked.checks).filter(|c| c.outcome == outcome).count();
    let (failed, warned) = (count_of(Outcome::Fail), count_of(Outcome::Warn));
    let kind = match (&report.checked, failed, warned) {
        (None, ..) | (_, 1.., _) => "fail",
        (_, 0, 1..) => "warn",
        _ => "pass",
    };
    html! {
        div class={ "note " (kind) } id="verdict" {
            p {
                @match &report.checked {
                    None => { "This run did not reach its checks: it failed before them or is still running." }
                    Some(checked) if !checked.passed => {
                        (failed) " of " (checked.checks.len()) " checks failed, so this set was not published."
                    }
                    Some(checked) => {
                        "All " (checked.checks.len()) " checks passed"
                        @if warned > 0 { ", " (warned) " with a warning" }
                        "."
                    }
                }
                " "
                @match (report.published, report.newest) {
                    (true, Some(newest)) if newest == report.as_of => {
                        "The day is published, and " code { "defi_features" } " shows it."
                    }
                    (true, Some(newest)) => { "The day is published; " code { "defi_features" } " shows " (newest) "." }
                    (_, Some(newest)) => {
                        "The day is not published; " code { "defi_features" } " shows " (newest) "."
                    }
                    (_, None) => { "Nothing is published in this environment." }
                }
            }
            @if !report.others.is_empty() {
                p {
                    "The lake has other runs of this day, and this page shows the current tables. Other runs: "
                    @for (index, other) in report.others.iter().enumerate() { @if index > 0 { ", " } code { (other) } }
                    "."
                }
            }
        }
    }
}

fn tiles(report: &ReportData) -> Markup {
    let steps = || report.report.iter().flat_map(|report| &report.steps).map(|step| &step.report);
    let wallets = report.features.first().map_or(0, |feature| feature.now.wallets as u64);
    let gaps =
        report.report.iter().flat_map(|report| report.gaps.markets.values().chain(report.gaps.positions.values()));
    let tiles: [(&str, &str, u64); 7] = [
        ("wallets", "Wallets", wallets),
        ("units", "Units written", steps().map(|step| step.units).sum()),
        ("rows-in", "Rows in", steps().map(|step| step.rows_in).sum()),
        ("requests", "Requests", steps().map(|step| step.traffic.requests).sum()),
        ("retries", "Retries", steps().flat_map(|step| step.traffic.retries.values()).sum()),
        ("rejected", "Rows quarantined", steps().map(|step| step.rejected()).sum()),
        ("lost", "Days lost", gaps.map(|days| days.len() as u64).sum()),
    ];
    html! {
        dl.tiles {
            @for (id, name, value) in tiles { div { dt { (name) } dd id=(format!("tile-{id}")) { (count(value)) } } }
        }
    }
}
