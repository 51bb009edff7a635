//! Wallets, events and positions by day, and the days whose history is lost.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use defi_shared::plan::DaysBy;
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
    let lost: Vec<_> = gaps.into_iter().flat_map(|gaps| by_protocol(&gaps.markets, &gaps.positions)).collect();
    let rebuilt = gaps.into_iter().flat_map(|gaps| by_protocol(&gaps.rebuilt_markets, &gaps.rebuilt_positions));
    let rebuilt: Vec<_> = rebuilt.collect();
    html! {
        section #gaps {
            h2 { "Gaps" }
            @if gaps.is_none() { p { "The run did not finish, so its gaps are unknown." } }
            @else if lost.is_empty() { p { "No day is missing." } }
            @else {
                p {
                    "The source no longer has the snapshots of these days. Without markets, prices of up to seven days "
                    "before apply. Without positions, the day has no wallet health."
                }
                (list("lost", &lost))
            }
            @if !rebuilt.is_empty() {
                p {
                    "The source no longer has the snapshots of these days either. They were rebuilt from what the newest "
                    "state of its subgraph keeps: balances and prices of each market's last event before the day, limits "
                    "of the nearest known day, and whether a supply is collateral as it is today."
                }
                (list("rebuilt", &rebuilt))
            }
        }
    }
}

/// Days of a table by protocol: the name of the table, the protocol, and the days.
type Days<'a> = (&'static str, &'a String, &'a Vec<Day>);

fn by_protocol<'a>(markets: &'a DaysBy<String>, positions: &'a DaysBy<String>) -> impl Iterator<Item = Days<'a>> {
    let named = [("markets", markets), ("positions", positions)];
    let all = named.into_iter().flat_map(|(name, by)| by.iter().map(move |(protocol, days)| (name, protocol, days)));
    all.filter(|(_, _, days)| !days.is_empty())
}

fn list(what: &str, all: &[Days<'_>]) -> Markup {
    html! {
        ul {
            @for (name, protocol, days) in all {
                li {
                    (name) " of " strong { (protocol) } ", " (what) " days: " (count(days.len() as u64)) " ("
                    (ranges(days)) ")"
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
