//! Renders a wallet as a self-contained HTML page.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use maud::{Markup, html};
use serde_json::Value;

use super::explain::{DailyHealth, Explanation, by_day};
use super::feature::FeatureValue;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use defi_pages::chart::{Frame, Line, lines};
use defi_pages::number::{duration, significant, utc_time};
use defi_pages::table::Table;
use defi_pages::{data, page};

/// Renders the page of a wallet, with the explanations of its features.
///
/// # Errors
/// `Internal` if a chart can't be drawn.
pub(super) fn render(wallet: &Wallet, explanations: &[Explanation]) -> Result<String> {
    let title = format!("Wallet {} as of {}", wallet.address, wallet.as_of);
    let body = html! {
        header { h1 { "Wallet " code { (wallet.address) } } p.muted { "as of " (wallet.as_of) ", 00:00:00 UTC" } }
        main {
            section #features { h2 { "Features" } (features(wallet)) }
            section #accounts { h2 { "Accounts" } (accounts(wallet)) }
            section #health { h2 { "Health day by day" } (health(wallet)?) }
            section #events { h2 { "Events before the day" } (events(wallet)) }
            section #explanations {
                h2 { "Explanation of each feature" }
                @for explanation in explanations { (render_explanation(explanation)) }
            }
        }
    };
    Ok(page(&title, body))
}

fn render_value(value: FeatureValue, is_age: bool) -> Markup {
    match value {
        FeatureValue::Double(number) => data(number, &significant(number)),
        FeatureValue::Integer(seconds) if is_age => data(seconds as f64, &duration(seconds)),
        FeatureValue::Integer(number) => data(number as f64, &number.to_string()),
        FeatureValue::Boolean(value) => html! { (value) },
        FeatureValue::Null => html! { "NULL" },
    }
}

fn features(wallet: &Wallet) -> Markup {
    let mut table = Table::new("Features", &[("feature", false), ("value", true), ("meaning", false)]);
    for feature in &wallet.features {
        let is_age = feature.name.starts_with("time_since");
        table.row(html! {
            th scope="row" { a href=(format!("#{}", feature.name)) { code { (feature.name) } } }
            td.number { (render_value(feature.value, is_age)) }
            td { (feature.meaning) }
        });
    }
    table.markup()
}

fn accounts(wallet: &Wallet) -> Markup {
    html! {
        ul {
            li { code { (wallet.address) } ", the wallet itself" }
            @for link in &wallet.accounts {
                li { code { (link.account) } ", which the wallet borrowed through since " (utc_time(link.since)) }
            }
            @for link in &wallet.borrowers {
                li { code { (link.wallet) } ", which borrowed through this wallet since " (utc_time(link.since)) }
            }
        }
    }
}

/// A chart: its title, and the name and value of each line.
type Chart = (&'static str, &'static [(&'static str, fn(&DailyHealth) -> f64)]);

const CHARTS: [Chart; 2] = [
    (
        "Collateral, debt and available borrows in ETH",
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
        return Ok(html! { p { "The wallet has no collateral and no debt in any daily snapshot." } });
    };
    let span: Vec<Day> = first.through(wallet.as_of).collect();
    let labels: Vec<String> = span.iter().map(Day::to_string).collect();
    let charts = CHARTS.iter().enumerate().map(|(index, (title, series))| {
        let line = |(name, field): &(&str, fn(&DailyHealth) -> f64)| Line {
            name: (*name).to_owned(),
            values: span.iter().map(|day| days.get(day).map(field)).collect(),
        };
        let series: Vec<_> = series.iter().map(line).collect();
        let id = format!("health-{index}");
        let about =
            "Over its accounts and protocols, at each day's first block. Days without collateral and debt are omitted.";
        Ok(html! { div.card { h3 { (title) } (lines(&Frame { id: &id, title, about }, &labels, &series)?) } })
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
        ("counted", false),
        ("transaction", false),
    ];
    let mut table = Table::new("Events", &header);
    let mut chronological: Vec<&Event> = wallet.events.iter().collect();
    chronological.sort_by_key(|event| (event.row.block_number, event.row.log_index));
    for event in chronological {
        let row = &event.row;
        table.row(html! {
            td { (utc_time(row.epoch_timestamp)) }
            td { (row.category) }
            td { (row.protocol) }
            td { (wallet.symbol(&row.token_address)) }
            td.number { @match row.quantity_eth { Some(eth) => (data(eth, &significant(eth))), None => "no price" } }
            td { @if event.is_counted { "yes" } @else { "no, of another wallet" } }
            td { code { (row.transaction_hash) } }
        });
    }
    table.markup()
}

fn render_explanation(explanation: &Explanation) -> Markup {
    html! {
        details id=(explanation.feature) {
            summary { code { (explanation.feature) } " = " (explanation.value) }
            p { (explanation.meaning) }
            @for listing in &explanation.rows { (render_listing(listing)) }
            p { (explanation.arithmetic) }
            p {
                "Published value: " (explanation.published) ", "
                @if explanation.agrees { "the same." } @else { strong { "NOT the same." } }
            }
        }
    }
}

fn render_listing(listing: &Listing) -> Markup {
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
