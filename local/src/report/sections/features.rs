//! The features: how each is distributed, how it has shifted, and which wallets moved.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use maud::{Markup, html};

use crate::html::chart::{Frame, Scale, histogram};
use crate::html::number::{difference, percent, significant};
use crate::html::table::Table;
use crate::html::{count, data};
use crate::report::gather::{Feature, Gathered, Measure, Sample};

pub(super) fn markup(report: &Gathered) -> Result<Markup> {
    let cards = report.features.iter().map(|feature| card(feature, report.as_of, report.before));
    let cards = cards.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section #features {
            h2 { "Features" }
            @if cards.is_empty() { p { "The lake has no wallets as of this day." } }
            @else {
                p.muted {
                    "Bars are shares of all wallets. "
                    @match report.before {
                        Some(before) => { "The line is the set published before this one, as of " (before) "." }
                        None => { "No set was published before this one." }
                    }
                }
                div.grid { @for card in cards { (card) } }
            }
        }
    })
}

fn card(feature: &Feature, as_of: Day, before: Option<Day>) -> Result<Markup> {
    let (id, title) = (format!("histogram-{}", feature.name), format!("Distribution of {}", feature.name));
    let scale = match feature.bins.scale {
        Scale::Linear => "",
        Scale::Log => "Logarithmic axis, on which zero has no place.",
        Scale::SignedLog { .. } => "Axis logarithmic to either side of zero.",
    };
    let unit = match feature.measure {
        Measure::Eth => "ETH",
        Measure::Count => "count",
        Measure::Factor => "factor",
        Measure::Seconds => "seconds",
    };
    let about =
        format!("{} Median {}, largest {}. {scale}", feature.about, shown(feature.now.median), shown(feature.now.max));
    let frame = Frame { id: &id, title: &title, about: &about };
    let days = [Some(as_of), before.filter(|_| feature.before.is_some())].map(|day| day.map(|day| day.to_string()));
    let sets: Vec<&str> = days.iter().filter_map(Option::as_deref).collect();
    Ok(html! {
        article.card id=(format!("feature-{}", feature.name)) {
            h3 { code { (feature.name) } }
            p.muted { (feature.about) " In: " (unit) ". " (scale) }
            (histogram(&frame, &feature.bins, &sets)?)
            (statistics(feature))
        }
    })
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), significant)
}

fn statistics(feature: &Feature) -> Markup {
    type Statistic = (&'static str, fn(&Sample) -> Option<f64>, fn(f64) -> String);
    let statistics: [Statistic; 5] = [
        ("median", |sample| sample.median, significant),
        ("mean", |sample| sample.mean, significant),
        ("max", |sample| sample.max, significant),
        ("zero", |sample| Some(sample.zero), percent),
        ("NULL", |sample| Some(sample.null), percent),
    ];
    let cell = |value: Option<f64>, show: fn(f64) -> String| {
        html! {
            @match value { Some(value) => (data(value, &show(value))), None => "–" }
        }
    };
    html! {
        table {
            thead { tr {
                th {}
                th.number scope="col" { "now" }
                @if feature.before.is_some() { th.number scope="col" { "before" } th.number scope="col" { "shift" } }
            } }
            tbody { @for (name, of, show) in statistics {
                @let now = of(&feature.now);
                tr.{ (name) } {
                    th scope="row" { (name) }
                    td.number { (cell(now, show)) }
                    @if let Some(before) = &feature.before {
                        @let shift = now.zip(of(before)).map(|(now, before)| now - before);
                        td.number { (cell(of(before), show)) }
                        td.number { (shifted(shift, name)) }
                    }
                }
            } }
        }
    }
}

/// A difference; of shares in percentage points.
fn shifted(shift: Option<f64>, name: &str) -> Markup {
    let is_share = matches!(name, "zero" | "NULL");
    html! {
        @match shift {
            None => "–",
            Some(shift) if is_share => { data value=(shift) { (format!("{:+.1} pp", shift * 100.0)) } }
            Some(shift) => (data(shift, &difference(shift))),
        }
    }
}

pub(super) fn movers(report: &Gathered) -> Markup {
    let Some((movers, before)) = report.movers.as_ref().zip(report.before) else {
        return html! { section #movers { h2 { "Largest movers" } p { "No set was published before this one." } } };
    };
    let header = [("wallet", false), ("distance", true), ("features", true), ("largest changes", false)];
    let mut table = Table::new("The wallets whose features changed the most", &header);
    for mover in &movers.most {
        table.row(html! {
            th scope="row" { code { (mover.wallet) } }
            td.number { (data(mover.distance, &format!("{:.1}", mover.distance))) }
            td.number { (mover.count) }
            td.wide { @for (index, change) in mover.changes.iter().enumerate() {
                @if index > 0 { ", " }
                code { (change.feature) } " " (significant(change.before)) " → " (significant(change.now))
            } }
        });
    }
    html! {
        section #movers {
            h2 { "Largest movers" }
            p {
                "Since " (before) ": " (count(movers.new)) " new wallets, " (count(movers.changed)) " that changed, "
                (count(movers.unchanged)) " that did not."
            }
            p.muted {
                "The distance is how far each feature moved in standard deviations over all wallets, large values by their logarithm, added "
                "up over the features. Times since something grow of themselves, and are left out."
            }
            @if !movers.most.is_empty() { (table.markup()) }
        }
    }
}
