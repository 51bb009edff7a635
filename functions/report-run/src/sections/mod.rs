//! The sections of the report as HTML.

mod checks;
mod days;
mod features;
mod overview;
mod steps;
mod unusable;

use defi_shared::error::Result;
use defi_shared::step::Outcome;
use maud::{Markup, html};

use crate::gather::ReportData;

/// Returns the whole page.
pub(super) fn page(report: &ReportData) -> Result<String> {
    let title = format!("Features as of {} ({})", report.as_of, report.env);
    let body = html! {
        (overview::markup(report))
        main {
            (steps::markup(report)?)
            (checks::markup(report)?)
            (features::markup(report)?)
            (features::movers(report))
            (days::markup(report)?)
            (unusable::unpriced(&report.unpriced))
            (unusable::quarantined(&report.quarantined))
            (days::gaps(report))
        }
    };
    Ok(defi_pages::page(&title, body))
}

/// Returns the outcome of a check as a coloured label.
fn badge(outcome: Outcome) -> Markup {
    let name = match outcome {
        Outcome::Pass => "pass",
        Outcome::Warn => "warn",
        Outcome::Fail => "fail",
    };
    html! { span class={ "badge " (name) } { (name) } }
}
