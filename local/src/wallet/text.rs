//! A wallet on a terminal.

use comfy_table::{CellAlignment, Table};
use defi_shared::domain::Day;
use defi_shared::error::Result;
use serde_json::Value;

use super::explain::{DailyHealth, Explanation, by_day};
use super::figures::Figure;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use crate::output::{line, table};
use defi_pages::number::{duration, moment, significant};

/// Characters that a line of the chart takes at most.
const CHART_WIDTH: usize = 60;

/// A figure of a day that has a chart.
type Charted = (&'static str, fn(&DailyHealth) -> f64);

const CHARTS: [Charted; 3] =
    [("collateral ETH", |day| day.collateral_eth), ("debt ETH", |day| day.debt_eth), ("risk", |day| day.risk)];

/// Prints everything about a wallet.
pub(super) fn wallet(wallet: &Wallet) -> Result<()> {
    line(format_args!("wallet {} as of {}\n\n{}", wallet.address, wallet.as_of, features(wallet)))?;
    line(format_args!("\naccounts\n{}", accounts(wallet)))?;
    line(format_args!("\n{}", health(wallet)))?;
    line(format_args!("\nevents before {}\n{}", wallet.as_of, events(wallet)))?;
    line(format_args!("\nhow a feature came about: defi wallet {} --explain risk_factor", wallet.address))
}

fn features(wallet: &Wallet) -> Table {
    let mut table = table(&["feature", "value", "meaning"], 1, 2);
    for feature in &wallet.features {
        let shown = match feature.value {
            Figure::Double(number) => significant(number),
            Figure::Integer(seconds) if feature.name.starts_with("time_since") => {
                format!("{seconds} s ({})", duration(seconds))
            }
            other => other.to_string(),
        };
        table.add_row([feature.name, &shown, &feature.meaning]);
    }
    table
}

fn accounts(wallet: &Wallet) -> Table {
    let mut table = table(&["address", "how", "since (UTC)"], 3, 3);
    table.add_row([wallet.address.to_string(), "itself".to_owned(), String::new()]);
    for link in &wallet.accounts {
        table.add_row([link.account.to_string(), "it borrowed through it".to_owned(), moment(link.since)]);
    }
    for link in &wallet.borrowers {
        table.add_row([link.wallet.to_string(), "borrowed through this wallet".to_owned(), moment(link.since)]);
    }
    table
}

fn health(wallet: &Wallet) -> String {
    let days = by_day(wallet);
    let Some(first) = days.keys().next().copied() else {
        return "health: no daily snapshot counts: it never had collateral or debt at midnight (UTC)".to_owned();
    };
    let span: Vec<_> = first.through(wallet.as_of).collect();
    let of_each = span.len().div_ceil(CHART_WIDTH);
    let each = if of_each == 1 { "a character a day".to_owned() } else { format!("{of_each} days a character") };
    let mut text = format!("health from {first} to {}, {} days that count ({each})", wallet.as_of, days.len());
    for (name, of) in CHARTS {
        let values: Vec<_> = span.iter().map(|day: &Day| days.get(day).map(of)).collect();
        let largest = values.iter().flatten().copied().fold(0.0, f64::max);
        let last = values.last().copied().flatten().map_or_else(|| "nothing".to_owned(), significant);
        let chart = bars(&values, of_each, largest);
        text.push_str(&format!("\n  {name:<15} {chart}  at most {}, now {last}", significant(largest)));
    }
    text
}

/// A bar for so many values each, by the largest of them: a blank where there is none, `·` for zero.
fn bars(values: &[Option<f64>], of_each: usize, largest: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |values: &[Option<f64>]| match values.iter().flatten().copied().reduce(f64::max) {
        None => ' ',
        Some(value) if value <= 0.0 => '·',
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the number of bars")]
        Some(value) => BARS[((value / largest * BARS.len() as f64) as usize).min(BARS.len() - 1)],
    };
    values.chunks(of_each.max(1)).map(bar).collect()
}

fn events(wallet: &Wallet) -> Table {
    let header = ["time (UTC)", "event", "protocol", "token", "quantity", "ETH", "counts", "transaction"];
    let mut table = table(&header, 4, 6);
    let mut in_order: Vec<&Event> = wallet.events.iter().collect();
    in_order.sort_by_key(|event| (event.row.block_number, event.row.log_index));
    for event in in_order {
        let row = &event.row;
        let quantity = match row.token_decimals {
            Some(decimals) => significant(row.quantity.to_tokens(decimals)),
            None => format!("{} base units", row.quantity.0),
        };
        table.add_row([
            moment(row.epoch_timestamp),
            row.category.to_string(),
            row.protocol.to_string(),
            wallet.symbol(&row.token_address),
            quantity,
            row.quantity_eth.map_or_else(|| "no price".to_owned(), significant),
            if event.counts { "yes" } else { "no, another's" }.to_owned(),
            row.transaction_hash.to_string(),
        ]);
    }
    table
}

/// Prints how a feature came about.
pub(super) fn explanation(wallet: &Wallet, explanation: &Explanation) -> Result<()> {
    let Explanation { feature, meaning, published, arithmetic, .. } = explanation;
    line(format_args!("{feature} of {} as of {}\n{meaning}", wallet.address, wallet.as_of))?;
    for listing in &explanation.rows {
        line(format_args!("\n{}\n{}", listing.title, rows(listing)))?;
    }
    line(format_args!("\n{arithmetic}"))?;
    let agrees = if explanation.agrees { "the same" } else { "NOT the same" };
    line(format_args!("published: {published}, {agrees}\n"))
}

fn rows(listing: &Listing) -> Table {
    let mut table = table(&listing.columns, listing.columns.len(), listing.columns.len());
    for (index, column) in table.column_iter_mut().enumerate() {
        if listing.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &listing.rows {
        table.add_row(row.iter().map(|cell| match cell {
            Value::String(text) => text.clone(),
            Value::Null => "NULL".to_owned(),
            other => other.to_string(),
        }));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_tells_nothing_from_zero_and_zero_from_little() {
        let values = [None, Some(0.0), Some(0.1), Some(5.0), Some(10.0), Some(9.0)];
        assert_eq!(bars(&values, 1, 10.0), " ·▁▅██");
        assert_eq!(bars(&values, 2, 10.0), "·▅█");
    }
}
