//! Data that could not be used: amounts without a price, and rows in quarantine.

use maud::{Markup, html};

use crate::gather::{DAYS_SHOWN, QuarantinedRows, Unpriced, UnpricedToken};
use defi_pages::count;
use defi_pages::number::{percent, significant};
use defi_pages::table::Table;

/// The number of characters shown of a rejected row.
const MAX_ROW_CHARS: usize = 600;

pub(super) fn unpriced(unpriced: &Unpriced) -> Markup {
    let header =
        [("token", false), ("protocols", false), ("events", true), ("events by category", false), ("amount", true)];
    let header = [&header[..], &[("positions", true), ("balance", true)]].concat();
    let mut table = Table::new("Tokens without a price", &header);
    for token in &unpriced.tokens {
        table.row(row(token));
    }
    let share = |(part, whole): (u64, u64)| percent(part as f64 / whole.max(1) as f64);
    html! {
        section #unpriced {
            h2 { "Unpriced" }
            p {
                span #unpriced-events { (count(unpriced.events.0)) } " of " (count(unpriced.events.1)) " events ("
                (share(unpriced.events)) ") of the last " (DAYS_SHOWN) " days and "
                span #unpriced-positions { (count(unpriced.positions.0)) } " of " (count(unpriced.positions.1))
                " positions (" (share(unpriced.positions)) ") of the as-of day have no price. "
                "They are included in counts but not in amounts."
            }
            @if !unpriced.tokens.is_empty() { (table.markup()) }
        }
    }
}

fn row(token: &UnpricedToken) -> Markup {
    let amount = |amount: i128| {
        html! {
            @match token.in_tokens(amount) {
                _ if amount == 0 => "–",
                Some(tokens) => { (significant(tokens)) " " (token.symbol.as_deref().unwrap_or("tokens")) }
                None => { (significant(amount as f64)) " base units" }
            }
        }
    };
    let events = token.events.iter().map(|(category, count)| format!("{count} {category}"));
    html! {
        th scope="row" {
            @if let Some(symbol) = &token.symbol { (symbol) " " }
            code { (token.token) }
        }
        td { (token.protocols.iter().map(|protocol| &**protocol).collect::<Vec<_>>().join(", ")) }
        td.number { (count(token.all_events())) }
        td { (events.collect::<Vec<_>>().join(", ")) }
        td.number { (amount(token.amount)) }
        td.number { (count(token.positions)) }
        td.number { (amount(token.balance)) }
    }
}

pub(super) fn quarantined(quarantined: &[QuarantinedRows]) -> Markup {
    let header = [("table", false), ("reason", false), ("rows", true), ("days", false), ("examples", false)];
    let mut table = Table::new("Rows in quarantine", &header);
    for group in quarantined {
        table.row(html! {
            th scope="row" { code { (group.table) } }
            td { (group.reason) }
            td.number { (count(group.rows)) }
            td { @if let Some((first, last)) = group.days { (first) @if first != last { " to " (last) } } }
            td.wide { @for (position, row) in &group.examples {
                details { summary { (position) } code { (truncate(row)) } }
            } }
        });
    }
    let rows: u64 = quarantined.iter().map(|group| group.rows).sum();
    html! {
        section #quarantine {
            h2 { "Quarantine" }
            p {
                span #quarantined-rows { (count(rows)) } " rows of the last " (DAYS_SHOWN)
                " days were rejected. The lake keeps them unchanged, with the reason, below " code { "quarantine/" } "."
            }
            @if !quarantined.is_empty() { (table.markup()) }
        }
    }
}

/// Returns the first [`MAX_ROW_CHARS`] characters of a row.
fn truncate(row: &str) -> String {
    match row.char_indices().nth(MAX_ROW_CHARS) {
        Some((end, _)) => format!("{}…", row.get(..end).unwrap_or(row)),
        None => row.to_owned(),
    }
}
