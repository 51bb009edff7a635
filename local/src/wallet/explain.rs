//! Explains a feature: lists the rows of the lake that it was computed from, and recomputes it from them. The
//! computation is independent of the fold but adds in the same order, so that both give bit-identical values.

use std::collections::BTreeMap;

use defi_shared::domain::fold::mean;
use defi_shared::domain::health::RISK_THRESHOLD;
use defi_shared::domain::{Category, Day, Figure};
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::tables::{Column, FeatureRow, Row, WalletHealth};
use serde::Serialize;
use serde_json::json;

use super::feature::FeatureValue;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use super::positions;
use defi_pages::number::{duration, utc_time};

/// The explanation of a feature.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub feature: &'static str,
    pub meaning: String,
    /// The published value.
    pub published: FeatureValue,
    /// The value recomputed from the rows.
    pub value: FeatureValue,
    /// Whether both values are bit-identical.
    pub agrees: bool,
    pub arithmetic: String,
    pub rows: Vec<Listing>,
}

/// A feature recomputed from rows.
struct Recomputed {
    value: FeatureValue,
    arithmetic: String,
    rows: Vec<Listing>,
}

/// Explains a feature.
///
/// # Errors
/// `BadInput` for an unknown feature, and the errors of the lake.
pub(super) async fn explain(lake: &Lake, wallet: &Wallet, feature: &str) -> Result<Explanation> {
    let Some(published) = wallet.feature(feature) else {
        let names: Vec<_> = FeatureRow::columns().iter().skip(1).map(|Column { name, .. }| *name).collect();
        return Err(Error::bad_input(format!("{feature:?} is not a feature"))
            .with_hint(format!("choose one of {}", names.join(", "))));
    };
    let recomputed = match feature {
        "risk_factor" | "total_collateral_eth" | "total_available_borrows_eth" => {
            from_current_snapshot(lake, wallet, feature).await?
        }
        _ => from_history(wallet, feature),
    };
    Ok(Explanation {
        feature: published.name,
        meaning: published.meaning.clone(),
        published: published.value,
        value: recomputed.value,
        agrees: recomputed.value.is_identical(published.value),
        arithmetic: recomputed.arithmetic,
        rows: recomputed.rows,
    })
}

/// Recomputes a feature from the events and the daily health of the wallet.
fn from_history(wallet: &Wallet, feature: &str) -> Recomputed {
    use Category::{Borrow, Deposit, Liquidation, Repay, Withdraw};

    match feature {
        "borrow_amount_sum_eth" => amount_sum(wallet, Borrow),
        "repay_amount_sum_eth" => amount_sum(wallet, Repay),
        "deposit_amount_sum_eth" => amount_sum(wallet, Deposit),
        "withdraw_amount_sum_eth" => amount_sum(wallet, Withdraw),
        "liquidation_amount_sum_eth" => amount_sum(wallet, Liquidation),
        "borrow_amount_avg_eth" => amount_mean(wallet, Borrow),
        "repay_amount_avg_eth" => amount_mean(wallet, Repay),
        "borrow_count" => count(wallet, Borrow),
        "repay_count" => count(wallet, Repay),
        "deposit_count" => count(wallet, Deposit),
        "liquidation_count" => count(wallet, Liquidation),
        "borrow_repay_diff_eth" => difference(wallet, [Borrow, Repay], f64::NEG_INFINITY),
        "withdraw_deposit_diff_eth" => difference(wallet, [Withdraw, Deposit], 0.0),
        "time_since_first_deposit" => {
            age(wallet, Deposit, |events| events.min_by_key(|event| event.row.epoch_timestamp))
        }
        "time_since_last_liquidated" => {
            age(wallet, Liquidation, |events| events.max_by_key(|event| event.row.epoch_timestamp))
        }
        "unique_borrow_protocol_count" => protocols(wallet, Borrow),
        "unique_lending_protocol_count" => protocols(wallet, Deposit),
        "total_collateral_avg_eth" => daily_mean(wallet, "collateral", |day| day.collateral_eth),
        "total_available_borrows_avg_eth" => daily_mean(wallet, "available borrows", |day| day.available_eth),
        "avg_risk_factor" => daily_mean(wallet, "risk", |day| day.risk),
        "max_risk_factor" => largest_risk(wallet),
        "risk_factor_above_threshold_daily_count" => days_at_risk(wallet),
        "avg_weighted_risk_factor" => weighted_risk(wallet),
        "has_health_now" => has_health(wallet),
        "health_days" => health_days(wallet),
        // A new feature without an explanation differs from its published value, and so is noticed.
        _ => Recomputed {
            value: FeatureValue::Null,
            arithmetic: "no explanation is available".to_owned(),
            rows: Vec::new(),
        },
    }
}

/// Returns the counted events of a category, in the order of the fold.
fn events_of(wallet: &Wallet, category: Category) -> impl Iterator<Item = &Event> {
    wallet.events.iter().filter(move |event| event.is_counted && event.row.category == category)
}

/// Returns the amounts of the events that have a price, in ETH.
fn amounts(wallet: &Wallet, category: Category) -> Vec<f64> {
    events_of(wallet, category).filter_map(|event| event.row.quantity_eth).collect()
}

/// Adds numbers, starting at 0.0. `Iterator::sum` would return -0.0 for no numbers.
fn sum(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |sum, number| sum + number)
}

fn listing(wallet: &Wallet, category: Category) -> Listing {
    let columns = vec![
        "time (UTC)",
        "protocol",
        "token",
        "quantity",
        "price ETH",
        "price day",
        "ETH",
        "account",
        "transaction",
        "log",
    ];
    let row = |event: &Event| {
        let row = &event.row;
        let quantity = row.token_decimals.map(|decimals| json!(row.quantity.to_tokens(decimals)));
        vec![
            json!(utc_time(row.epoch_timestamp)),
            json!(row.protocol),
            json!(wallet.symbol(&row.token_address)),
            quantity.unwrap_or_else(|| json!(format!("{} base units", row.quantity.0))),
            json!(row.price_eth),
            json!(row.price_day),
            json!(row.quantity_eth),
            json!(row.account_address.to_string()),
            json!(row.transaction_hash.to_string()),
            json!(row.log_index),
        ]
    };
    let selection = if category == Category::Liquidation { "on its accounts" } else { "sent by the wallet" };
    Listing {
        title: format!("transpose_{category}_events {selection} before {}", wallet.as_of),
        columns,
        rows: events_of(wallet, category).map(row).collect(),
    }
}

/// Formats numbers as a sum, such as `1 + 2 + 3`. Of many numbers only the first ones and the last one are shown.
fn terms(numbers: &[f64]) -> String {
    const MAX_TERMS: usize = 8;
    let text =
        |numbers: &[f64]| numbers.iter().map(|number| Figure(*number).to_string()).collect::<Vec<_>>().join(" + ");
    match numbers {
        [] => "0".to_owned(),
        [first @ .., last] if numbers.len() > MAX_TERMS => {
            let (first, last) = (text(first.get(..MAX_TERMS - 2).unwrap_or(first)), Figure(*last));
            format!("{first} + … ({} terms) … + {last}", numbers.len())
        }
        _ => text(numbers),
    }
}

/// Returns a note on the events without a price, which are not part of a sum.
fn unpriced_note(wallet: &Wallet, category: Category, priced: usize) -> String {
    match events_of(wallet, category).count() - priced {
        0 => String::new(),
        count => format!("; {count} events without a price omitted"),
    }
}

fn amount_sum(wallet: &Wallet, category: Category) -> Recomputed {
    let amounts = amounts(wallet, category);
    let value = sum(&amounts);
    let note = unpriced_note(wallet, category, amounts.len());
    Recomputed {
        value: FeatureValue::Double(value),
        arithmetic: format!("{} = {}{note}", terms(&amounts), Figure(value)),
        rows: vec![listing(wallet, category)],
    }
}

fn amount_mean(wallet: &Wallet, category: Category) -> Recomputed {
    let amounts = amounts(wallet, category);
    let value = mean(sum(&amounts), amounts.len() as i64);
    let note = unpriced_note(wallet, category, amounts.len());
    let arithmetic = match amounts.len() {
        0 => format!("no amounts: 0{note}"),
        count => format!("({}) / {count} = {}{note}", terms(&amounts), Figure(value)),
    };
    Recomputed { value: FeatureValue::Double(value), arithmetic, rows: vec![listing(wallet, category)] }
}

fn count(wallet: &Wallet, category: Category) -> Recomputed {
    let count = events_of(wallet, category).count() as i64;
    Recomputed {
        value: FeatureValue::Integer(count),
        arithmetic: format!("{count} events, including those without a price"),
        rows: vec![listing(wallet, category)],
    }
}

fn difference(wallet: &Wallet, [plus, minus]: [Category; 2], minimum: f64) -> Recomputed {
    let sums = [plus, minus].map(|category| sum(&amounts(wallet, category)));
    let difference = sums[0] - sums[1];
    let value = difference.max(minimum);
    let bound = if difference < minimum { format!(", at least {minimum}") } else { String::new() };
    let [plus_sum, minus_sum, difference] = [sums[0], sums[1], difference].map(Figure);
    Recomputed {
        value: FeatureValue::Double(value),
        arithmetic: format!("{plus} sum {plus_sum} − {minus} sum {minus_sum} = {difference}{bound}"),
        rows: vec![listing(wallet, plus), listing(wallet, minus)],
    }
}

/// Recomputes the seconds since the selected event of a category.
fn age<'a>(
    wallet: &'a Wallet,
    category: Category,
    select: impl FnOnce(&mut dyn Iterator<Item = &'a Event>) -> Option<&'a Event>,
) -> Recomputed {
    let rows = vec![listing(wallet, category)];
    match select(&mut events_of(wallet, category)) {
        None => Recomputed { value: FeatureValue::Null, arithmetic: format!("there is no {category}"), rows },
        Some(event) => {
            let (start, time) = (wallet.as_of.start(), event.row.epoch_timestamp);
            let seconds = start - time;
            let arithmetic = format!("{} − {} = {seconds} s ({})", utc_time(start), utc_time(time), duration(seconds));
            Recomputed { value: FeatureValue::Integer(seconds), arithmetic, rows }
        }
    }
}

fn protocols(wallet: &Wallet, category: Category) -> Recomputed {
    let mut protocols: Vec<_> = events_of(wallet, category).map(|event| &*event.row.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    Recomputed {
        value: FeatureValue::Integer(protocols.len() as i64),
        arithmetic: format!("{} different protocols: {}", protocols.len(), protocols.join(", ")),
        rows: vec![listing(wallet, category)],
    }
}

/// The health of a wallet on one day, over its accounts and protocols.
#[derive(Debug, Clone, Copy)]
pub(super) struct DailyHealth {
    pub collateral_eth: f64,
    pub available_eth: f64,
    pub debt_eth: f64,
    pub risk: f64,
}

/// Returns the health of a wallet on each day on which it has collateral or debt.
pub(super) fn by_day(wallet: &Wallet) -> BTreeMap<Day, DailyHealth> {
    let health = |rows: &[WalletHealth]| {
        let total = |field: fn(&WalletHealth) -> f64| sum(&rows.iter().map(field).collect::<Vec<_>>());
        DailyHealth {
            collateral_eth: total(|row| row.collateral_eth),
            available_eth: total(|row| row.available_borrows_eth),
            debt_eth: total(|row| row.debt_eth),
            risk: rows.iter().map(|row| row.risk_factor).fold(0.0, f64::max),
        }
    };
    let days = wallet.health.chunk_by(|a, b| a.day == b.day);
    days.filter_map(|rows| Some((rows.first()?.day, health(rows)))).collect()
}

fn days_listing(days: &BTreeMap<Day, DailyHealth>) -> Listing {
    let row = |(day, health): (&Day, &DailyHealth)| {
        vec![
            json!(day),
            json!(health.collateral_eth),
            json!(health.available_eth),
            json!(health.debt_eth),
            json!(health.risk),
        ]
    };
    Listing {
        title: "wallet_health_daily, sums over its accounts and protocols (risk: the maximum)".to_owned(),
        columns: vec!["day", "collateral ETH", "available ETH", "debt ETH", "risk"],
        rows: days.iter().map(row).collect(),
    }
}

fn daily_mean(wallet: &Wallet, name: &str, field: fn(&DailyHealth) -> f64) -> Recomputed {
    let days = by_day(wallet);
    let values: Vec<_> = days.values().map(field).collect();
    let value = mean(sum(&values), values.len() as i64);
    let arithmetic = match values.len() {
        0 => "no day with collateral or debt: 0".to_owned(),
        count => format!("{name}: ({}) / {count} days = {}", terms(&values), Figure(value)),
    };
    Recomputed { value: FeatureValue::Double(value), arithmetic, rows: vec![days_listing(&days)] }
}

fn has_health(wallet: &Wallet) -> Recomputed {
    let days = by_day(wallet);
    let has_health = days.contains_key(&wallet.as_of);
    let arithmetic = match has_health {
        true => format!("collateral or debt in the snapshot of {}", wallet.as_of),
        false => format!("neither collateral nor debt in the snapshot of {}", wallet.as_of),
    };
    Recomputed { value: FeatureValue::Boolean(has_health), arithmetic, rows: vec![days_listing(&days)] }
}

fn health_days(wallet: &Wallet) -> Recomputed {
    let days = by_day(wallet);
    Recomputed {
        value: FeatureValue::Integer(days.len() as i64),
        arithmetic: format!("{} daily snapshots with collateral or debt", days.len()),
        rows: vec![days_listing(&days)],
    }
}

fn largest_risk(wallet: &Wallet) -> Recomputed {
    let days = by_day(wallet);
    let largest = days.iter().fold(None, |largest: Option<(Day, f64)>, (day, health)| match largest {
        Some((_, risk)) if risk >= health.risk => largest,
        _ => Some((*day, health.risk)),
    });
    let value = largest.map_or(0.0, |(_, risk)| risk);
    let arithmetic = largest.map_or_else(
        || "no day with collateral or debt: 0".to_owned(),
        |(day, risk)| format!("the maximum of {} days: {} on {day}", days.len(), Figure(risk)),
    );
    Recomputed { value: FeatureValue::Double(value), arithmetic, rows: vec![days_listing(&days)] }
}

fn days_at_risk(wallet: &Wallet) -> Recomputed {
    let days = by_day(wallet);
    let at_risk: BTreeMap<_, _> =
        days.iter().filter(|(_, health)| health.risk > RISK_THRESHOLD).map(|(day, health)| (*day, *health)).collect();
    Recomputed {
        value: FeatureValue::Integer(at_risk.len() as i64),
        arithmetic: format!("{} of {} days have a risk above 1/1.2 = {RISK_THRESHOLD}", at_risk.len(), days.len()),
        rows: vec![days_listing(&at_risk)],
    }
}

fn weighted_risk(wallet: &Wallet) -> Recomputed {
    let rows = &wallet.health;
    let weighted = sum(&rows.iter().map(|row| row.debt_eth * row.risk_factor).collect::<Vec<_>>());
    let debt = sum(&rows.iter().map(|row| row.debt_eth).collect::<Vec<_>>());
    let value = if debt > 0.0 { weighted / debt } else { 0.0 };
    let arithmetic = if debt > 0.0 {
        let [weighted, debt, value] = [weighted, debt, value].map(Figure);
        format!("Σ debt × risk {weighted} / Σ debt {debt} = {value}, over {} rows", rows.len())
    } else {
        "no debt: 0".to_owned()
    };
    Recomputed {
        value: FeatureValue::Double(value),
        arithmetic,
        rows: vec![positions::health_listing(rows, "every day")],
    }
}

/// Recomputes a feature from the snapshot of the as-of day, and lists its positions.
async fn from_current_snapshot(lake: &Lake, wallet: &Wallet, feature: &str) -> Result<Recomputed> {
    let rows: Vec<_> = wallet.health.iter().filter(|row| row.day == wallet.as_of).cloned().collect();
    let health = by_day(wallet).get(&wallet.as_of).copied();
    let (value, meaning) = match (health, feature) {
        (None, _) => (0.0, "no account has collateral or debt on the day"),
        (Some(day), "risk_factor") => (day.risk, "the maximum risk of its accounts and protocols"),
        (Some(day), "total_collateral_eth") => (day.collateral_eth, "the collateral of its accounts and protocols"),
        (Some(day), _) => (day.available_eth, "the available borrows of its accounts, each at least 0"),
    };
    let parts: Vec<f64> = rows
        .iter()
        .map(|row| match feature {
            "risk_factor" => row.risk_factor,
            "total_collateral_eth" => row.collateral_eth,
            _ => row.available_borrows_eth,
        })
        .collect();
    let arithmetic = match (parts.len(), feature) {
        (0, _) => format!("{meaning}: 0"),
        (_, "risk_factor") => {
            let part = |row: &WalletHealth| {
                let numbers = [row.debt_eth, row.threshold_weighted_collateral_eth, row.risk_factor];
                let [debt, collateral, risk] = numbers.map(Figure);
                format!("{debt} / {collateral} = {risk}")
            };
            let parts: Vec<_> = rows.iter().map(part).collect();
            format!("debt / threshold-weighted collateral: {}; {meaning}: {}", parts.join(", "), Figure(value))
        }
        _ => format!("{meaning}: {} = {}", terms(&parts), Figure(value)),
    };
    let mut listings = vec![positions::health_listing(&rows, &wallet.as_of.to_string())];
    listings.push(positions::listing(lake, wallet, &rows).await?);
    Ok(Recomputed { value: FeatureValue::Double(value), arithmetic, rows: listings })
}
