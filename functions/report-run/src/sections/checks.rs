//! The quality checks, each with its value, its limits and its history.

use defi_shared::error::Result;
use defi_shared::step::{Check, Outcome};
use maud::{Markup, html};

use super::badge;
use crate::gather::{RUNS_SHOWN, ReportData};
use defi_pages::chart::{Frame, Limits, sparkline};
use defi_pages::data;
use defi_pages::number::significant;
use defi_pages::table::Table;

pub(super) fn markup(report: &ReportData) -> Result<Markup> {
    let body = match &report.checked {
        None => html! { p { "The run did not reach its checks." } },
        Some(checked) => {
            let header =
                [("check", false), ("outcome", false), ("value", true), ("warn above", true), ("fail above", true)];
            let header = [&header[..], &[("history", false), ("description", false)]].concat();
            let mut table = Table::new("Quality checks", &header);
            for check in &checked.checks {
                table.row(row(report, check)?);
            }
            html! {
                p.muted {
                    "A check warns or fails if its value is above the limit. The history shows the values of up to "
                    (RUNS_SHOWN) " runs, this run last, and the limits that are close to them."
                }
                (table.markup())
                (history(report, &checked.checks))
            }
        }
    };
    Ok(html! { section #checks { h2 { "Checks" } (body) } })
}

fn row(report: &ReportData, check: &Check) -> Result<Markup> {
    let limit =
        |limit: Option<f64>| html! { @match limit { Some(limit) => (data(limit, &significant(limit))), None => "–" } };
    let values = report.history.iter().map(|(_, checked)| value(&checked.checks, &check.name));
    let values: Vec<_> = values.collect();
    let about =
        format!("Values of the last {} runs; the value of this run is {}.", values.len(), significant(check.figure));
    let (id, title) = (format!("history-{}", check.name), format!("History of {}", check.name));
    let frame = Frame { id: &id, title: &title, about: &about };
    let line = sparkline(&frame, &values, Limits { warn: check.warn, fail: check.fail })?;
    Ok(html! {
        th scope="row" id=(format!("check-{}", check.name)) { (check.name) }
        td { (badge(check.outcome)) }
        td.number { (data(check.figure, &significant(check.figure))) }
        td.number { (limit(check.warn)) }
        td.number { (limit(check.fail)) }
        td { figure { (line) } }
        td.wide { (check.about) }
    })
}

/// Returns the value of a check by name.
fn value(checks: &[Check], name: &str) -> Option<f64> {
    checks.iter().find(|check| check.name == name).map(|check| check.figure)
}

/// Returns a table with the values of all runs in the history.
fn history(report: &ReportData, checks: &[Check]) -> Markup {
    let header = std::iter::once(("run", false)).chain([("wallets", true)]);
    let header: Vec<_> = header.chain(checks.iter().map(|check| (check.name.as_str(), true))).collect();
    let mut table = Table::new("Check values by run", &header);
    for (run, checked) in &report.history {
        let find = |name: &str| checked.checks.iter().find(|check| check.name == name);
        table.row(html! {
            th scope="row" { code { (run) } }
            td.number { (checked.wallets) }
            @for check in checks {
                @match find(&check.name) {
                    Some(earlier) => td class={ "number " (class(earlier.outcome)) } { (significant(earlier.figure)) },
                    None => td.number { "–" },
                }
            }
        });
    }
    html! { details #check-history { summary { "Check values by run" } (table.markup()) } }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "",
        Outcome::Warn => "warn",
        Outcome::Fail => "fail",
    }
}
