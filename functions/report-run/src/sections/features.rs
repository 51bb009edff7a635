//! The features: how each is distributed, how it has shifted, and which wallets moved.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use maud::{Markup, html};

use crate::gather::{Feature, Gathered, Measure, Sample};
use defi_pages::chart::{Frame, Scale, histogram};
use defi_pages::number::{percent, significant};
use defi_pages::table::Table;
use defi_pages::{count, data};

pub(super) fn markup(report: &Gathered) -> Result<Markup> {
    let cards = report.features.iter().map(|feature| card(feature, report.as_of, report.before));
    let cards = cards.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section #features {
            h2 { "Features" }
            @if cards.is_empty() { p { "The lake has no wallets as of this day." } }
            @else {
                p.muted {
                    "Bars are shares of all wallets. Zeros of amounts and factors are not drawn; how many they are stands below. The bars at the ends hold what lies "
                    "beyond them, too. "
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
        Scale::Log => "Logarithmic axis.",
        Scale::SignedLog { .. } => "Axis logarithmic to either side of zero.",
    };
    let about = format!(
        "{} Median {}, largest {}. {scale}",
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
            p.muted { (feature.about) " In: " (feature.measure.name()) ". " (scale) }
            (histogram(&frame, &feature.bins, &sets)?)
            (statistics(feature))
        }
    })
}

/// A value as its feature is read.
fn shown(measure: Measure, value: Option<f64>) -> String {
    let unit = if measure == Measure::Seconds { " d" } else { "" };
    value.map_or_else(|| "–".to_owned(), |value| significant(value / measure.unit()) + unit)
}

/// A figure of a sample, now and before, with its shift.
struct Statistic {
    name: &'static str,
    of: fn(&Sample) -> Option<f64>,
    /// Shares of the wallets shift by percentage points.
    is_share: bool,
}

const STATISTICS: [Statistic; 5] = [
    Statistic { name: "median", of: |sample| sample.median, is_share: false },
    Statistic { name: "mean", of: |sample| sample.mean, is_share: false },
    Statistic { name: "max", of: |sample| sample.max, is_share: false },
    Statistic { name: "zero", of: |sample| Some(sample.zero), is_share: true },
    Statistic { name: "NULL", of: |sample| Some(sample.null), is_share: true },
];

impl Statistic {
    fn value(&self, measure: Measure, value: Option<f64>) -> Markup {
        let shown = |value| if self.is_share { percent(value) } else { shown(measure, Some(value)) };
        html! { @match value { Some(value) => (data(value, &shown(value))), None => "–" } }
    }

    fn shift(&self, measure: Measure, shift: Option<f64>) -> Markup {
        let sign = |shift: f64| if shift > 0.0 { "+" } else { "" };
        let shown = |shift: f64| match self.is_share {
            true => format!("{}{} pp", sign(shift), significant((shift * 1e3).round() / 10.0)),
            false => format!("{}{}", sign(shift), shown(measure, Some(shift))),
        };
        html! { @match shift { Some(shift) => (data(shift, &shown(shift))), None => "–" } }
    }
}

fn statistics(feature: &Feature) -> Markup {
    let measure = feature.measure;
    html! {
        table {
            thead { tr {
                td {}
                th.number scope="col" { "now" }
                @if feature.before.is_some() { th.number scope="col" { "before" } th.number scope="col" { "shift" } }
            } }
            tbody { @for statistic in STATISTICS {
                @let now = (statistic.of)(&feature.now);
                tr.(statistic.name) {
                    th scope="row" { (statistic.name) }
                    td.number { (statistic.value(measure, now)) }
                    @if let Some(before) = feature.before.as_ref().map(statistic.of) {
                        @let shift = now.zip(before).map(|(now, before)| now - before);
                        td.number { (statistic.value(measure, before)) }
                        td.number { (statistic.shift(measure, shift)) }
                    }
                }
            } }
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
