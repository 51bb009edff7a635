//! The quality checks, each with its figure, its limits and its history.

use check_features::{Check, Outcome};
use defi_shared::error::Result;
use maud::{Markup, html};

use super::badge;
use crate::gather::{Gathered, RUNS_SHOWN};
use defi_pages::chart::{Frame, Limits, sparkline};
use defi_pages::data;
use defi_pages::number::significant;
use defi_pages::table::Table;

pub(super) fn markup(report: &Gathered) -> Result<Markup> {
    let body = match &report.checked {
        None => html! { p { "The run did not come to its checks." } },
        Some(checked) => {
            let header =
                [("check", false), ("outcome", false), ("figure", true), ("warn above", true), ("fail above", true)];
            let header = [&header[..], &[("so far", false), ("what it counts", false)]].concat();
            let mut table = Table::new("Quality checks", &header);
            for check in &checked.checks {
                table.row(row(report, check)?);
            }
            html! {
                p.muted { "A figure above its limit warns or fails. So far: the figures of the last " (RUNS_SHOWN)
                    " runs at most, this one last, with the limits that they come near." }
                (table.markup())
                (history(report, &checked.checks))
            }
        }
    };
    Ok(html! { section #checks { h2 { "Checks" } (body) } })
}

fn row(report: &Gathered, check: &Check) -> Result<Markup> {
    let limit =
        |limit: Option<f64>| html! { @match limit { Some(limit) => (data(limit, &significant(limit))), None => "–" } };
    let figures = report.history.iter().map(|(_, checked)| figure(&checked.checks, &check.name));
    let values: Vec<_> = figures.collect();
    let about = format!("The last {} runs; now {}.", values.len(), significant(check.figure));
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

fn figure(checks: &[Check], name: &str) -> Option<f64> {
    checks.iter().find(|check| check.name == name).map(|check| check.figure)
}

/// The figures of all runs as a table.
fn history(report: &Gathered, checks: &[Check]) -> Markup {
    let header = std::iter::once(("run", false)).chain([("wallets", true)]);
    let header: Vec<_> = header.chain(checks.iter().map(|check| (check.name.as_str(), true))).collect();
    let mut table = Table::new("Figures of the runs so far", &header);
    for (run, checked) in &report.history {
        let of = |name: &str| checked.checks.iter().find(|check| check.name == name);
        table.row(html! {
            th scope="row" { code { (run) } }
            td.number { (checked.wallets) }
            @for check in checks {
                @match of(&check.name) {
                    Some(earlier) => td class={ "number " (class(earlier.outcome)) } { (significant(earlier.figure)) },
                    None => td.number { "–" },
                }
            }
        });
    }
    html! { details #check-history { summary { "Figures of the runs so far" } (table.markup()) } }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "",
        Outcome::Warn => "warn",
        Outcome::Fail => "fail",
    }
}
