//! Prints a wallet and the explanations of its features as text.

use defi_shared::domain::Day;
use defi_shared::error::Result;
use serde_json::Value;

use super::explain::{DailyHealth, Explanation, by_day};
use super::feature::FeatureValue;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use crate::hint::CallOptions;
use crate::output::{TextTable, line, table};
use defi_pages::number::{duration, significant, utc_time};

/// The maximum width of a chart in characters.
const CHART_WIDTH: usize = 60;

/// A chart: its name, and the value of a day.
type Chart = (&'static str, fn(&DailyHealth) -> f64);

const CHARTS: [Chart; 3] =
    [("collateral ETH", |day| day.collateral_eth), ("debt ETH", |day| day.debt_eth), ("risk", |day| day.risk)];

/// Prints the features, accounts, health and events of a wallet.
pub(super) fn print_wallet(wallet: &Wallet, call: &CallOptions) -> Result<()> {
    line(format_args!("wallet {} as of {}", wallet.address, wallet.as_of))?;
    line("")?;
    features(wallet).wrapped().print()?;
    line("")?;
    line("accounts")?;
    accounts(wallet).wrapped().print()?;
    line("")?;
    health(wallet).iter().try_for_each(line)?;
    line("")?;
    line(format_args!("events before {}", wallet.as_of))?;
    // Hashes are not wrapped, so that they can be copied.
    events(wallet).print()?;
    line("")?;
    line(call.complete(&format!("explain a feature: defi wallet {} --explain risk_factor", wallet.address)))
}

fn features(wallet: &Wallet) -> TextTable {
    let mut table = table(&["feature", "value", "meaning"], 1, 2);
    for feature in &wallet.features {
        let value = match feature.value {
            FeatureValue::Double(number) => significant(number),
            FeatureValue::Integer(seconds) if feature.name.starts_with("time_since") => {
                format!("{seconds} s ({})", duration(seconds))
            }
            other => other.to_string(),
        };
        table.add_row([feature.name, &value, &feature.meaning]);
    }
    table
}

fn accounts(wallet: &Wallet) -> TextTable {
    let mut table = table(&["address", "relation", "since (UTC)"], 3, 3);
    table.add_row([wallet.address.to_string(), "the wallet itself".to_owned(), String::new()]);
    for link in &wallet.accounts {
        table.add_row([
            link.account.to_string(),
            "account that the wallet borrowed through".to_owned(),
            utc_time(link.since),
        ]);
    }
    for link in &wallet.borrowers {
        table.add_row([
            link.wallet.to_string(),
            "wallet that borrowed through this one".to_owned(),
            utc_time(link.since),
        ]);
    }
    table
}

/// Returns the lines with a chart of the wallet's health.
fn health(wallet: &Wallet) -> Vec<String> {
    let days = by_day(wallet);
    let Some(first) = days.keys().next().copied() else {
        return vec!["health: no collateral and no debt in any daily snapshot".to_owned()];
    };
    let span: Vec<_> = first.through(wallet.as_of).collect();
    let days_per_bar = span.len().div_ceil(CHART_WIDTH);
    let unit = if days_per_bar == 1 { "1 day".to_owned() } else { format!("{days_per_bar} days") };
    let mut lines = vec![format!(
        "health from {first} to {}, {} days with collateral or debt (one character per {unit})",
        wallet.as_of,
        days.len()
    )];
    for (name, field) in CHARTS {
        let values: Vec<_> = span.iter().map(|day: &Day| days.get(day).map(field)).collect();
        let maximum = values.iter().flatten().copied().fold(0.0, f64::max);
        let last = values.last().copied().flatten().map_or_else(|| "none".to_owned(), significant);
        let chart = bars(&values, days_per_bar, maximum);
        lines.push(format!("  {name:<15} {chart}  maximum {}, now {last}", significant(maximum)));
    }
    lines
}

/// Draws one bar per `values_per_bar` values, as high as the largest of them: a blank without values, `·` for zero.
fn bars(values: &[Option<f64>], values_per_bar: usize, maximum: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |values: &[Option<f64>]| match values.iter().flatten().copied().reduce(f64::max) {
        None => ' ',
        Some(value) if value <= 0.0 => '·',
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the number of bars")]
        Some(value) => BARS[((value / maximum * BARS.len() as f64) as usize).min(BARS.len() - 1)],
    };
    values.chunks(values_per_bar.max(1)).map(bar).collect()
}

fn events(wallet: &Wallet) -> TextTable {
    let header = ["time (UTC)", "event", "protocol", "token", "quantity", "ETH", "counted", "transaction"];
    let mut table = table(&header, 4, 6);
    let mut chronological: Vec<&Event> = wallet.events.iter().collect();
    chronological.sort_by_key(|event| (event.row.block_number, event.row.log_index));
    for event in chronological {
        let row = &event.row;
        let quantity = match row.token_decimals {
            Some(decimals) => significant(row.quantity.to_tokens(decimals)),
            None => format!("{} base units", row.quantity.0),
        };
        table.add_row([
            utc_time(row.epoch_timestamp),
            row.category.to_string(),
            row.protocol.to_string(),
            wallet.symbol(&row.token_address),
            quantity,
            row.quantity_eth.map_or_else(|| "no price".to_owned(), significant),
            if event.is_counted { "yes" } else { "no, of another wallet" }.to_owned(),
            row.transaction_hash.to_string(),
        ]);
    }
    table
}

/// Prints the explanation of a feature.
pub(super) fn print_explanation(wallet: &Wallet, explanation: &Explanation) -> Result<()> {
    let Explanation { feature, meaning, published, arithmetic, .. } = explanation;
    line(format_args!("{feature} of {} as of {}", wallet.address, wallet.as_of))?;
    line(meaning)?;
    for listing in &explanation.rows {
        line("")?;
        line(&listing.title)?;
        listing_table(listing).print()?;
    }
    line("")?;
    line(arithmetic)?;
    let agrees = if explanation.agrees { "the same" } else { "NOT the same" };
    line(format_args!("published value: {published}, {agrees}"))?;
    line("")
}

fn listing_table(listing: &Listing) -> TextTable {
    let mut table = table(&listing.columns, listing.columns.len(), listing.columns.len());
    for index in 0..listing.columns.len() {
        if listing.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number)) {
            table.align_right(index);
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
    fn bars_distinguish_missing_zero_and_small_values() {
        let values = [None, Some(0.0), Some(0.1), Some(5.0), Some(10.0), Some(9.0)];
        assert_eq!(bars(&values, 1, 10.0), " ·▁▅██");
        assert_eq!(bars(&values, 2, 10.0), "·▅█");
    }
}
