//! The positions that the health of a day is computed from.

use defi_shared::domain::Side;
use defi_shared::domain::health::Health;
use defi_shared::domain::price::Quote;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::step::history::Markets;
use defi_shared::tables::{STAGE_POSITIONS, StagedPosition, WalletHealth};
use serde_json::{Value, json};

use super::gather::Wallet;
use super::listing::Listing;

/// Lists rows of the daily health. `selection` says which rows they are.
pub(super) fn health_listing(rows: &[WalletHealth], selection: &str) -> Listing {
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
    Listing { title: format!("wallet_health_daily of {selection}"), columns, rows: rows.iter().map(row).collect() }
}

/// Lists the positions behind health rows of the as-of day, at the prices of that day.
///
/// # Errors
/// `CorruptData` if the health computed from the positions differs from the rows, and the errors of the lake.
pub(super) async fn listing(lake: &Lake, wallet: &Wallet, rows: &[WalletHealth]) -> Result<Listing> {
    let config = crate::config::configuration()?;
    let markets = Markets::load(lake, &config, &[wallet.as_of]).await?;
    let prices = markets.prices_on(wallet.as_of);
    let mut cells = Vec::new();
    for row in rows {
        let unit = WorkUnit::ProtocolDay(row.day, row.protocol.clone());
        let account = row.account_address;
        let positions = lake.require_in_range::<StagedPosition>(&STAGE_POSITIONS, &unit, account..=account).await?;
        let quotes = prices.market_quotes(&row.protocol);
        let mut health = Health::default();
        for position in positions.iter().filter(|position| position.account_address == account) {
            let quote = quotes.get(&position.market_id).copied();
            if let Some(quote) = quote {
                health.add(position.side, is_collateral(position), position.balance, quote);
            }
            cells.push(position_cells(&row.protocol, position, quote));
        }
        require_identical(&health, row)?;
    }
    let title = format!("the_graph_historical_account_positions of {}, at the prices of that day", wallet.as_of);
    Ok(Listing { title, columns: COLUMNS.to_vec(), rows: cells })
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

/// Returns the cells of a position and its price, if it has one, in the order of [`COLUMNS`].
fn position_cells(protocol: &str, position: &StagedPosition, quote: Option<&Quote>) -> Vec<Value> {
    let tokens = quote.map(|quote| position.balance.to_tokens(quote.decimals));
    vec![
        json!(position.account_address.to_string()),
        json!(protocol),
        json!(position.market_name),
        json!(match position.side {
            Side::Borrower => "debt",
            Side::Lender if !is_collateral(position) => "supply, not enabled as collateral",
            Side::Lender if quote.is_some_and(|quote| !quote.accepts_collateral()) =>
                "supply, threshold 0: no collateral",
            Side::Lender => "collateral",
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

/// Checks that the health computed from positions is bit-identical to the row in the lake.
fn require_identical(health: &Health, row: &WalletHealth) -> Result<()> {
    let computed = [health.collateral_eth, health.threshold_weighted_eth, health.borrow_power_eth, health.debt_eth];
    let stored = [row.collateral_eth, row.threshold_weighted_collateral_eth, row.borrow_power_eth, row.debt_eth];
    if computed.map(f64::to_bits) == stored.map(f64::to_bits) {
        return Ok(());
    }
    Err(Error::corrupt("the health computed from the positions differs from the health in the lake")
        .with("account", row.account_address)
        .with("protocol", &row.protocol)
        .with("day", row.day)
        .with_hint("recompute the day with defi run --force and the configuration that the lake was produced with"))
}
