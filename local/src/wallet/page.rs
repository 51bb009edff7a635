//! A wallet as a page that stands by itself.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use maud::{Markup, html};
use serde_json::Value;

use super::explain::{DailyHealth, Explanation, by_day};
use super::figures::Figure;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use defi_pages::chart::{Frame, Line, lines};
use defi_pages::number::{duration, moment, significant};
use defi_pages::table::Table;
use defi_pages::{data, page};

/// The page about a wallet, with the explanation of each of its features.
///
/// # Errors
/// The drawing library's.
pub(super) fn markup(wallet: &Wallet, explanations: &[Explanation]) -> Result<String> {
    let title = format!("Wallet {} as of {}", wallet.address, wallet.as_of);
    let body = html! {
        header { h1 { "Wallet " code { (wallet.address) } } p.muted { "as of " (wallet.as_of) ", 00:00:00 UTC" } }
        main {
            section #features { h2 { "Features" } (features(wallet)) }
            section #accounts { h2 { "Accounts" } (accounts(wallet)) }
            section #health { h2 { "Health day by day" } (health(wallet)?) }
            section #events { h2 { "Events before the day" } (events(wallet)) }
            section #explanations {
                h2 { "How each feature came about" }
                @for explanation in explanations { (of(explanation)) }
            }
        }
    };
    Ok(page(&title, body))
}

fn shown(figure: Figure, is_age: bool) -> Markup {
    match figure {
        Figure::Double(number) => data(number, &significant(number)),
        Figure::Integer(seconds) if is_age => data(seconds as f64, &duration(seconds)),
        Figure::Integer(number) => data(number as f64, &number.to_string()),
        Figure::Null => html! { "NULL" },
    }
}

fn features(wallet: &Wallet) -> Markup {
    let mut table = Table::new("Features", &[("feature", false), ("value", true), ("meaning", false)]);
    for feature in &wallet.features {
        let is_age = feature.name.starts_with("time_since");
        table.row(html! {
            th scope="row" { a href=(format!("#{}", feature.name)) { code { (feature.name) } } }
            td.number { (shown(feature.value, is_age)) }
            td { (feature.meaning) }
        });
    }
    table.markup()
}

fn accounts(wallet: &Wallet) -> Markup {
    html! {
        ul {
            li { code { (wallet.address) } ", itself" }
            @for link in &wallet.accounts { li { code { (link.account) } ", which it borrowed through since " (moment(link.since)) } }
            @for link in &wallet.borrowers { li { code { (link.wallet) } ", which borrowed through this wallet since " (moment(link.since)) } }
        }
    }
}

/// A chart: what it shows, and the figure of a day.
type Charted = (&'static str, &'static [(&'static str, fn(&DailyHealth) -> f64)]);

const CHARTS: [Charted; 2] = [
    (
        "Collateral, debt and what could still be borrowed, in ETH",
        &[
            ("collateral", |day| day.collateral_eth),
            ("debt", |day| day.debt_eth),
            ("available", |day| day.available_eth),
        ],
    ),
    ("Risk, the reciprocal of the health factor", &[("risk", |day| day.risk)]),
];

fn health(wallet: &Wallet) -> Result<Markup> {
    let days = by_day(wallet);
    let Some(first) = days.keys().next().copied() else {
        return Ok(html! { p { "No daily snapshot counts: it never had collateral or debt at midnight (UTC)." } });
    };
    let span: Vec<Day> = first.through(wallet.as_of).collect();
    let places: Vec<String> = span.iter().map(Day::to_string).collect();
    let charts = CHARTS.iter().enumerate().map(|(index, (title, figures))| {
        let line = |(name, of): &(&str, fn(&DailyHealth) -> f64)| Line {
            name: (*name).to_owned(),
            values: span.iter().map(|day| days.get(day).map(of)).collect(),
        };
        let drawn: Vec<_> = figures.iter().map(line).collect();
        let id = format!("health-{index}");
        let about = "Over its accounts and protocols, at each day's first block; days that do not count are left out.";
        Ok(html! { div.card { h3 { (title) } (lines(&Frame { id: &id, title, about }, &places, &drawn)?) } })
    });
    let charts = charts.collect::<Result<Vec<_>>>()?;
    Ok(html! { div.grid { @for chart in charts { (chart) } } })
}

fn events(wallet: &Wallet) -> Markup {
    let header = [
        ("time (UTC)", false),
        ("event", false),
        ("protocol", false),
        ("token", false),
        ("ETH", true),
        ("counts", false),
        ("transaction", false),
    ];
    let mut table = Table::new("Events", &header);
    let mut in_order: Vec<&Event> = wallet.events.iter().collect();
    in_order.sort_by_key(|event| (event.row.block_number, event.row.log_index));
    for event in in_order {
        let row = &event.row;
        table.row(html! {
            td { (moment(row.epoch_timestamp)) }
            td { (row.category) }
            td { (row.protocol) }
            td { (wallet.symbol(&row.token_address)) }
            td.number { @match row.quantity_eth { Some(eth) => (data(eth, &significant(eth))), None => "no price" } }
            td { @if event.counts { "yes" } @else { "no, another's" } }
            td { code { (row.transaction_hash) } }
        });
    }
    table.markup()
}

fn of(explanation: &Explanation) -> Markup {
    html! {
        details id=(explanation.feature) {
            summary { code { (explanation.feature) } " = " (explanation.value) }
            p { (explanation.meaning) }
            @for listing in &explanation.rows { (rows(listing)) }
            p { (explanation.arithmetic) }
            p { "Published: " (explanation.published) ", " @if explanation.agrees { "the same." } @else { strong { "NOT the same." } } }
        }
    }
}

fn rows(listing: &Listing) -> Markup {
    let is_number = |index: usize| listing.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number));
    let header: Vec<_> = listing.columns.iter().enumerate().map(|(index, name)| (*name, is_number(index))).collect();
    let mut table = Table::new(&listing.title, &header);
    for row in &listing.rows {
        table.row(html! {
            @for cell in row {
                @match cell {
                    Value::String(text) => td { (text) },
                    Value::Null => td { "NULL" },
                    Value::Number(number) => td.number { (number) },
                    other => td { (other) },
                }
            }
        });
    }
    html! { h4 { (listing.title) } (table.markup()) }
}
