//! The features: the distribution of each, its change since the previous published set, and the wallets that changed
//! the most.

use defi_shared::domain::{Day, Figure};
use defi_shared::error::Result;
use maud::{Markup, html};

use crate::gather::{Feature, FeatureStatistics, Measure, ReportData};
use defi_pages::chart::{Frame, Scale, histogram};
use defi_pages::number::{percent, significant};
use defi_pages::table::Table;
use defi_pages::{count, data};

pub(super) fn markup(report: &ReportData) -> Result<Markup> {
    let cards = report.features.iter().map(|feature| card(feature, report.as_of, report.before));
    let cards = cards.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section #features {
            h2 { "Features" }
            @if cards.is_empty() { p { "The lake has no wallets as of this day." } }
            @else {
                p.muted {
                    "Bars show shares of all wallets. The charts omit zeros of amounts and factors; "
                    "the tables show their share. The first and last bar include the values beyond the axis. "
                    @match report.before {
                        Some(before) => { "The line shows the previous published set, as of " (before) "." }
                        None => { "There is no earlier published set." }
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
        Scale::Log => "Logarithmic axis.",
        Scale::SignedLog { .. } => "Logarithmic axis on both sides of zero.",
    };
    let about = format!(
        "{} Median {}, maximum {}. {scale}",
        feature.about,
        shown(feature.measure, feature.now.median),
        shown(feature.measure, feature.now.max)
    );
    let frame = Frame { id: &id, title: &title, about: &about };
    let days = [Some(as_of), before.filter(|_| feature.before.is_some())].map(|day| day.map(|day| day.to_string()));
    let sets: Vec<&str> = days.iter().filter_map(Option::as_deref).collect();
    Ok(html! {
        article.card id=(format!("feature-{}", feature.name)) {
            h3 { code { (feature.name) } }
            p.muted { (feature.about) " Unit: " (feature.measure.name()) ". " (scale) }
            (histogram(&frame, &feature.bins, &sets)?)
            (statistics(feature))
        }
    })
}

/// Formats a value in the shown unit.
fn shown(measure: Measure, value: Option<f64>) -> String {
    let unit = if measure == Measure::Seconds { " d" } else { "" };
    value.map_or_else(|| "–".to_owned(), |value| significant(value / measure.unit()) + unit)
}

/// A statistic that a card shows for both sets, with its change.
struct Statistic {
    name: &'static str,
    get: fn(&FeatureStatistics) -> Option<f64>,
    /// Whether the value is a share of wallets, which changes by percentage points.
    is_share: bool,
}

const STATISTICS: [Statistic; 5] = [
    Statistic { name: "median", get: |statistics| statistics.median, is_share: false },
    Statistic { name: "mean", get: |statistics| statistics.mean, is_share: false },
    Statistic { name: "max", get: |statistics| statistics.max, is_share: false },
    Statistic { name: "zero", get: |statistics| Some(statistics.zero), is_share: true },
    Statistic { name: "NULL", get: |statistics| Some(statistics.null), is_share: true },
];

impl Statistic {
    fn value(&self, measure: Measure, value: Option<f64>) -> Markup {
        let shown = |value| if self.is_share { percent(value) } else { shown(measure, Some(value)) };
        html! { @match value { Some(value) => (data(value, &shown(value))), None => "–" } }
    }

    fn change(&self, measure: Measure, change: Option<f64>) -> Markup {
        let sign = |change: f64| if change > 0.0 { "+" } else { "" };
        let shown = |change: f64| match self.is_share {
            true => format!("{}{} pp", sign(change), significant((change * 1e3).round() / 10.0)),
            false => format!("{}{}", sign(change), shown(measure, Some(change))),
        };
        html! { @match change { Some(change) => (data(change, &shown(change))), None => "–" } }
    }
}

fn statistics(feature: &Feature) -> Markup {
    let measure = feature.measure;
    html! {
        table {
            thead { tr {
                td {}
                th.number scope="col" { "now" }
                @if feature.before.is_some() { th.number scope="col" { "previous" } th.number scope="col" { "change" } }
            } }
            tbody { @for statistic in STATISTICS {
                @let now = (statistic.get)(&feature.now);
                tr.(statistic.name) {
                    th scope="row" { (statistic.name) }
                    td.number { (statistic.value(measure, now)) }
                    @if let Some(before) = feature.before.as_ref().map(statistic.get) {
                        @let change = now.zip(before).map(|(now, before)| now - before);
                        td.number { (statistic.value(measure, before)) }
                        td.number { (statistic.change(measure, change)) }
                    }
                }
            } }
        }
    }
}

pub(super) fn movers(report: &ReportData) -> Markup {
    let Some((movers, before)) = report.movers.as_ref().zip(report.before) else {
        return html! { section #movers { h2 { "Largest movers" } p { "There is no earlier published set." } } };
    };
    let header = [("wallet", false), ("distance", true), ("changed features", true), ("largest changes", false)];
    let mut table = Table::new("The wallets whose features changed the most", &header);
    for mover in &movers.most {
        table.row(html! {
            th scope="row" { code { (mover.wallet) } }
            td.number { (data(mover.distance, &format!("{:.1}", Figure(mover.distance)))) }
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
                "Since " (before) ": " (count(movers.new)) " new wallets, " (count(movers.changed)) " changed wallets, "
                (count(movers.unchanged)) " unchanged wallets."
            }
            p.muted {
                "The distance is the sum over all features of the change in standard deviations over all wallets, on a "
                "logarithmic scale for large values. Features that count the time since an event change every day and "
                "are excluded."
            }
            @if !movers.most.is_empty() { (table.markup()) }
        }
    }
}
