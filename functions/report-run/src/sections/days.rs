//! Wallets, events and positions by day, and the days whose history is lost.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use maud::{Markup, html};

use crate::gather::{DAYS_SHOWN, ReportData};
use defi_pages::chart::{Frame, Line, lines};
use defi_pages::count;

pub(super) fn markup(report: &ReportData) -> Result<Markup> {
    let days = &report.days;
    let labels: Vec<String> = days.days.iter().map(Day::to_string).collect();
    let charts = [
        ("wallets", "Wallets with collateral or debt", &days.wallets),
        ("events", "Events", &days.events),
        ("positions", "Open positions", &days.positions),
    ];
    let charts = charts.into_iter().map(|(id, title, by_protocol)| {
        let line = |(protocol, counts): (&std::sync::Arc<str>, &Vec<Option<u64>>)| Line {
            name: protocol.to_string(),
            values: counts.iter().map(|count| count.map(|count| count as f64)).collect(),
        };
        let series: Vec<Line> = by_protocol.iter().map(line).collect();
        let id = format!("days-{id}");
        let about = "One line per protocol over the days. Missing days are marked.";
        let chart = lines(&Frame { id: &id, title: &format!("{title} by day and protocol"), about }, &labels, &series)?;
        Ok(html! { div.card { h3 { (title) } (chart) } })
    });
    let charts = charts.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section #days {
            h2 { "By day" }
            p.muted {
                "By protocol, for up to " (DAYS_SHOWN) " days. Wallets and positions are counted at the first block of "
                "each day, events over the whole day. The last day therefore has no events yet. Missing days are "
                "marked."
            }
            @if labels.is_empty() { p { "The lake has no data for these days." } }
            @else { div.grid { @for chart in charts { (chart) } } }
        }
    })
}

pub(super) fn gaps(report: &ReportData) -> Markup {
    let gaps = report.report.as_ref().map(|report| &report.gaps);
    let all = gaps.into_iter().flat_map(|gaps| {
        let with_name = |name: &'static str| move |(protocol, days)| (name, protocol, days);
        gaps.markets.iter().map(with_name("markets")).chain(gaps.positions.iter().map(with_name("positions")))
    });
    let all: Vec<(&str, &String, &Vec<Day>)> = all.filter(|(_, _, days)| !days.is_empty()).collect();
    html! {
        section #gaps {
            h2 { "Gaps" }
            @if gaps.is_none() { p { "The run did not finish, so its gaps are unknown." } }
            @else if all.is_empty() { p { "No day is missing." } }
            @else {
                p {
                    "The source no longer has the snapshots of these days. Without markets, prices of up to seven days "
                    "before apply. Without positions, the day has no wallet health."
                }
                ul {
                    @for (name, protocol, days) in all {
                        li {
                            (name) " of " strong { (protocol) } ", lost days: " (count(days.len() as u64)) " ("
                            (ranges(days)) ")"
                        }
                    }
                }
            }
        }
    }
}

/// Formats days as ranges of consecutive days.
fn ranges(days: &[Day]) -> String {
    let mut ranges: Vec<(Day, Day)> = Vec::new();
    for day in days {
        match ranges.last_mut() {
            Some((_, last)) if last.next() == *day => *last = *day,
            _ => ranges.push((*day, *day)),
        }
    }
    let shown =
        |(first, last): &(Day, Day)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    ranges.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_days_form_one_range() {
        let days: Vec<Day> =
            ["2023-01-30", "2023-01-31", "2023-02-01", "2023-02-05"].map(|day| day.parse().unwrap()).into();
        assert_eq!(ranges(&days), "2023-01-30 to 2023-02-01, 2023-02-05");
    }
}
