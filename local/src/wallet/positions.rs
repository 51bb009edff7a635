//! The positions behind a day's health.

use defi_shared::domain::Side;
use defi_shared::domain::health::Health;
use defi_shared::domain::price::Quote;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{Lake, Unit};
use defi_shared::step::history::Markets;
use defi_shared::tables::{STAGE_POSITIONS, StagedPosition, WalletHealth};
use serde_json::{Value, json};

use super::gather::Wallet;
use super::listing::Listing;

/// Rows of the daily health.
pub(super) fn health_listing(rows: &[WalletHealth], which: &str) -> Listing {
    let row = |row: &WalletHealth| {
        vec![
            json!(row.day),
            json!(row.account_address.to_string()),
            json!(row.protocol),
            json!(row.collateral_eth),
            json!(row.threshold_weighted_collateral_eth),
            json!(row.borrow_power_eth),
            json!(row.debt_eth),
            json!(row.available_borrows_eth),
            json!(row.risk_factor),
        ]
    };
    let columns = vec![
        "day",
        "account",
        "protocol",
        "collateral ETH",
        "× threshold",
        "borrow power ETH",
        "debt ETH",
        "available ETH",
        "risk",
    ];
    Listing { title: format!("wallet_health_daily of {which}"), columns, rows: rows.iter().map(row).collect() }
}

/// The positions of the accounts of some rows of one day, at the prices that held on it.
///
/// # Errors
/// `CorruptData` where they do not come to the health that the lake holds, and the lake's errors.
pub(super) async fn listing(lake: &Lake, wallet: &Wallet, rows: &[WalletHealth]) -> Result<Listing> {
    let config = crate::config::configuration()?;
    let markets = Markets::around(lake, &config, &[wallet.as_of]).await?;
    let prices = markets.prices_on(wallet.as_of);
    let mut listed = Vec::new();
    for row in rows {
        let unit = Unit::DayAndProtocol(row.day, row.protocol.clone());
        let account = row.account_address;
        let positions = lake.require_between::<StagedPosition>(&STAGE_POSITIONS, &unit, account..=account).await?;
        let quotes = prices.markets_of(&row.protocol);
        let mut health = Health::default();
        for position in positions.iter().filter(|position| position.account_address == account) {
            let quote = quotes.get(&position.market_id).copied();
            if let Some(quote) = quote {
                health.add(position.side, is_collateral(position), position.balance, quote);
            }
            listed.push(cells(&row.protocol, position, quote));
        }
        require_same(&health, row)?;
    }
    let title = format!("the_graph_historical_account_positions of {}, at the prices that held", wallet.as_of);
    Ok(Listing { title, columns: COLUMNS.to_vec(), rows: listed })
}

fn is_collateral(position: &StagedPosition) -> bool {
    position.is_collateral == Some(true)
}

const COLUMNS: [&str; 11] = [
    "account",
    "protocol",
    "market",
    "as",
    "balance",
    "price ETH",
    "price day",
    "ETH",
    "threshold",
    "max LTV",
    "position",
];

/// A position at its price, if it has one, under [`COLUMNS`].
fn cells(protocol: &str, position: &StagedPosition, quote: Option<&Quote>) -> Vec<Value> {
    let tokens = quote.map(|quote| position.balance.to_tokens(quote.decimals));
    vec![
        json!(position.account_address.to_string()),
        json!(protocol),
        json!(position.market_name),
        json!(match position.side {
            Side::Borrower => "debt",
            Side::Lender if is_collateral(position) => "collateral",
            Side::Lender => "supply, not enabled as collateral",
        }),
        tokens.map_or_else(|| json!(format!("{} base units", position.balance.0)), Value::from),
        json!(quote.map(|quote| quote.price_eth)),
        json!(quote.and_then(|quote| quote.origin.as_ref()).map(|origin| origin.day)),
        json!(quote.zip(tokens).map(|(quote, tokens)| tokens * quote.price_eth)),
        json!(quote.and_then(|quote| quote.liquidation_threshold)),
        json!(quote.map(|quote| quote.maximum_ltv)),
        json!(position.id),
    ]
}

/// Holds what positions come to, to the last bit, against the row that was made of them.
fn require_same(health: &Health, row: &WalletHealth) -> Result<()> {
    let reckoned = [health.collateral_eth, health.threshold_weighted_eth, health.borrow_power_eth, health.debt_eth];
    let held = [row.collateral_eth, row.threshold_weighted_collateral_eth, row.borrow_power_eth, row.debt_eth];
    if reckoned.map(f64::to_bits) == held.map(f64::to_bits) {
        return Ok(());
    }
    Err(Error::corrupt("the positions do not come to the health that the lake holds")
        .with("account", row.account_address)
        .with("protocol", &row.protocol)
        .with("day", row.day)
        .next("make the day anew with defi run --force, with the configuration that it was made with"))
}
