//! How a feature came about: the rows of the lake that it was made from, and the arithmetic, done once more. It is a second reckoning
//! beside the fold's, in the same order, so that both come to the same bits.

use std::collections::BTreeMap;

use defi_shared::domain::fold::mean;
use defi_shared::domain::health::RISK_THRESHOLD;
use defi_shared::domain::{Category, Day};
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::tables::{Column, FeatureRow, Row, WalletHealth};
use serde::Serialize;
use serde_json::json;

use super::figures::Figure;
use super::gather::{Event, Wallet};
use super::listing::Listing;
use super::positions;
use defi_pages::number::{duration, moment};

/// How a feature came about.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub feature: &'static str,
    pub meaning: String,
    /// What the lake's set says.
    pub published: Figure,
    /// What the rows come to.
    pub value: Figure,
    /// Whether both are the same, to the last bit.
    pub agrees: bool,
    pub arithmetic: String,
    pub rows: Vec<Listing>,
}

/// What rows come to.
struct Made {
    value: Figure,
    arithmetic: String,
    rows: Vec<Listing>,
}

/// Explains a feature.
///
/// # Errors
/// `BadInput` for a name that no feature has, and the lake's errors.
pub(super) async fn explain(lake: &Lake, wallet: &Wallet, feature: &str) -> Result<Explanation> {
    let Some(published) = wallet.feature(feature) else {
        let names: Vec<_> = FeatureRow::columns().iter().skip(1).map(|Column { name, .. }| *name).collect();
        return Err(
            Error::bad_input(format!("{feature:?} is no feature")).next(format!("name one of {}", names.join(", ")))
        );
    };
    let made = match feature {
        "risk_factor" | "total_collateral_eth" | "total_available_borrows_eth" => now(lake, wallet, feature).await?,
        _ => of_history(wallet, feature),
    };
    Ok(Explanation {
        feature: published.name,
        meaning: published.meaning.clone(),
        published: published.value,
        value: made.value,
        agrees: made.value.is(published.value),
        arithmetic: made.arithmetic,
        rows: made.rows,
    })
}

fn of_history(wallet: &Wallet, feature: &str) -> Made {
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
        // A column that was added without its explanation disagrees with what is published, and so is noticed.
        _ => Made { value: Figure::Null, arithmetic: "no explanation is known".to_owned(), rows: Vec::new() },
    }
}

/// The wallet's own events of a category, in the order in which they are added up.
fn of_category(wallet: &Wallet, category: Category) -> impl Iterator<Item = &Event> {
    wallet.events.iter().filter(move |event| event.counts && event.row.category == category)
}

/// Amounts of priced events.
fn amounts(wallet: &Wallet, category: Category) -> Vec<f64> {
    of_category(wallet, category).filter_map(|event| event.row.quantity_eth).collect()
}

/// From 0 on: a sum over nothing is 0, and not −0 as that of the standard library.
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
            json!(moment(row.epoch_timestamp)),
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
    let whose = if category == Category::Liquidation { "of its accounts" } else { "that it sent" };
    Listing {
        title: format!("transpose_{category}_events {whose} before {}", wallet.as_of),
        columns,
        rows: of_category(wallet, category).map(row).collect(),
    }
}

/// `1 + 2 + 3`; of many only the first and the last.
fn terms(numbers: &[f64]) -> String {
    const SHOWN: usize = 8;
    let text = |numbers: &[f64]| numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" + ");
    match numbers {
        [] => "0".to_owned(),
        [first @ .., last] if numbers.len() > SHOWN => {
            format!("{} + … ({} terms) … + {last}", text(first.get(..SHOWN - 2).unwrap_or(first)), numbers.len())
        }
        _ => text(numbers),
    }
}

fn unpriced(wallet: &Wallet, category: Category, priced: usize) -> String {
    match of_category(wallet, category).count() - priced {
        0 => String::new(),
        left_out => format!("; {left_out} without a price left out"),
    }
}

fn amount_sum(wallet: &Wallet, category: Category) -> Made {
    let amounts = amounts(wallet, category);
    let value = sum(&amounts);
    let left_out = unpriced(wallet, category, amounts.len());
    Made {
        value: Figure::Double(value),
        arithmetic: format!("{} = {value}{left_out}", terms(&amounts)),
        rows: vec![listing(wallet, category)],
    }
}

fn amount_mean(wallet: &Wallet, category: Category) -> Made {
    let amounts = amounts(wallet, category);
    let value = mean(sum(&amounts), amounts.len() as i64);
    let left_out = unpriced(wallet, category, amounts.len());
    let arithmetic = match amounts.len() {
        0 => format!("over nothing: 0{left_out}"),
        count => format!("({}) / {count} = {value}{left_out}", terms(&amounts)),
    };
    Made { value: Figure::Double(value), arithmetic, rows: vec![listing(wallet, category)] }
}

fn count(wallet: &Wallet, category: Category) -> Made {
    let count = of_category(wallet, category).count() as i64;
    Made {
        value: Figure::Integer(count),
        arithmetic: format!("{count} events, those without a price among them"),
        rows: vec![listing(wallet, category)],
    }
}

fn difference(wallet: &Wallet, [plus, minus]: [Category; 2], least: f64) -> Made {
    let [plus_sum, minus_sum] = [plus, minus].map(|category| sum(&amounts(wallet, category)));
    let difference = plus_sum - minus_sum;
    let value = difference.max(least);
    let bound = if difference < least { format!(", at least {least}") } else { String::new() };
    Made {
        value: Figure::Double(value),
        arithmetic: format!("{plus} sum {plus_sum} − {minus} sum {minus_sum} = {difference}{bound}"),
        rows: vec![listing(wallet, plus), listing(wallet, minus)],
    }
}

fn age<'a>(
    wallet: &'a Wallet,
    category: Category,
    pick: impl FnOnce(&mut dyn Iterator<Item = &'a Event>) -> Option<&'a Event>,
) -> Made {
    let rows = vec![listing(wallet, category)];
    match pick(&mut of_category(wallet, category)) {
        None => Made { value: Figure::Null, arithmetic: format!("there is no {category}"), rows },
        Some(event) => {
            let (start, time) = (wallet.as_of.start(), event.row.epoch_timestamp);
            let seconds = start - time;
            let arithmetic = format!("{} − {} = {seconds} s ({})", moment(start), moment(time), duration(seconds));
            Made { value: Figure::Integer(seconds), arithmetic, rows }
        }
    }
}

fn protocols(wallet: &Wallet, category: Category) -> Made {
    let mut protocols: Vec<_> = of_category(wallet, category).map(|event| &*event.row.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    Made {
        value: Figure::Integer(protocols.len() as i64),
        arithmetic: format!("{} different protocols: {}", protocols.len(), protocols.join(", ")),
        rows: vec![listing(wallet, category)],
    }
}

/// The wallet on one day: over its accounts and protocols.
#[derive(Debug, Clone, Copy)]
pub(super) struct DailyHealth {
    pub collateral_eth: f64,
    pub available_eth: f64,
    pub debt_eth: f64,
    pub risk: f64,
}

/// The days that count, and the wallet's health on each.
pub(super) fn by_day(wallet: &Wallet) -> BTreeMap<Day, DailyHealth> {
    let of_day = |rows: &[WalletHealth]| {
        let total = |of: fn(&WalletHealth) -> f64| sum(&rows.iter().map(of).collect::<Vec<_>>());
        DailyHealth {
            collateral_eth: total(|row| row.collateral_eth),
            available_eth: total(|row| row.available_borrows_eth),
            debt_eth: total(|row| row.debt_eth),
            risk: rows.iter().map(|row| row.risk_factor).fold(0.0, f64::max),
        }
    };
    let days = wallet.health.chunk_by(|a, b| a.day == b.day);
    days.filter_map(|rows| Some((rows.first()?.day, of_day(rows)))).collect()
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
        title: "wallet_health_daily, over its accounts and protocols (risk: the largest)".to_owned(),
        columns: vec!["day", "collateral ETH", "available ETH", "debt ETH", "risk"],
        rows: days.iter().map(row).collect(),
    }
}

fn daily_mean(wallet: &Wallet, what: &str, of: fn(&DailyHealth) -> f64) -> Made {
    let days = by_day(wallet);
    let values: Vec<_> = days.values().map(of).collect();
    let value = mean(sum(&values), values.len() as i64);
    let arithmetic = match values.len() {
        0 => "no day counts: 0".to_owned(),
        count => format!("{what}: ({}) / {count} days = {value}", terms(&values)),
    };
    Made { value: Figure::Double(value), arithmetic, rows: vec![days_listing(&days)] }
}

fn largest_risk(wallet: &Wallet) -> Made {
    let days = by_day(wallet);
    let largest = days.iter().fold(None, |largest: Option<(Day, f64)>, (day, health)| match largest {
        Some((_, risk)) if risk >= health.risk => largest,
        _ => Some((*day, health.risk)),
    });
    let value = largest.map_or(0.0, |(_, risk)| risk);
    let arithmetic = largest.map_or_else(
        || "no day counts: 0".to_owned(),
        |(day, risk)| format!("the largest of {} days: {risk} on {day}", days.len()),
    );
    Made { value: Figure::Double(value), arithmetic, rows: vec![days_listing(&days)] }
}

fn days_at_risk(wallet: &Wallet) -> Made {
    let days = by_day(wallet);
    let at_risk: BTreeMap<_, _> =
        days.iter().filter(|(_, health)| health.risk > RISK_THRESHOLD).map(|(day, health)| (*day, *health)).collect();
    Made {
        value: Figure::Integer(at_risk.len() as i64),
        arithmetic: format!("{} of {} days have a risk above 1/1.2 = {RISK_THRESHOLD}", at_risk.len(), days.len()),
        rows: vec![days_listing(&at_risk)],
    }
}

fn weighted_risk(wallet: &Wallet) -> Made {
    let rows = &wallet.health;
    let weighted = sum(&rows.iter().map(|row| row.debt_eth * row.risk_factor).collect::<Vec<_>>());
    let debt = sum(&rows.iter().map(|row| row.debt_eth).collect::<Vec<_>>());
    let value = if debt > 0.0 { weighted / debt } else { 0.0 };
    let arithmetic = if debt > 0.0 {
        format!("Σ debt × risk {weighted} / Σ debt {debt} = {value}, over {} rows", rows.len())
    } else {
        "without debt: 0".to_owned()
    };
    Made { value: Figure::Double(value), arithmetic, rows: vec![positions::health_listing(rows, "every day")] }
}

/// The snapshot of the day itself, down to the positions.
async fn now(lake: &Lake, wallet: &Wallet, feature: &str) -> Result<Made> {
    let rows: Vec<_> = wallet.health.iter().filter(|row| row.day == wallet.as_of).cloned().collect();
    let today = by_day(wallet).get(&wallet.as_of).copied();
    let (value, how) = match (today, feature) {
        (None, _) => (0.0, "no account of it counts on the day"),
        (Some(day), "risk_factor") => (day.risk, "the largest risk of its accounts and protocols"),
        (Some(day), "total_collateral_eth") => (day.collateral_eth, "the collateral of its accounts and protocols"),
        (Some(day), _) => (day.available_eth, "what its accounts could still borrow, each at least 0"),
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
        (0, _) => format!("{how}: 0"),
        (_, "risk_factor") => {
            let part = |row: &WalletHealth| {
                format!("{} / {} = {}", row.debt_eth, row.threshold_weighted_collateral_eth, row.risk_factor)
            };
            let parts: Vec<_> = rows.iter().map(part).collect();
            format!("debt / threshold-weighted collateral: {}; {how}: {value}", parts.join(", "))
        }
        _ => format!("{how}: {} = {value}", terms(&parts)),
    };
    let mut listings = vec![positions::health_listing(&rows, &wallet.as_of.to_string())];
    listings.push(positions::listing(lake, wallet, &rows).await?);
    Ok(Made { value: Figure::Double(value), arithmetic, rows: listings })
}
