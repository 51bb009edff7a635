//! Reads the data of one wallet as of a published day from a lake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use defi_shared::catalog::Registry;
use defi_shared::domain::price::LOOK_BACK_DAYS;
use defi_shared::domain::{Address, Category, Day, Link, Links};
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{FeatureSet, Lake, WorkUnit};
use defi_shared::step::history::links_before;
use defi_shared::tables::{
    self, FeatureRow, Layer, PricedEvent, STAGE_MARKETS, StagedMarket, WALLET_HEALTH, WalletHealth,
};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::feature::{Feature, features};
use crate::lake::published_set;

/// A wallet as of a published day.
#[derive(Debug)]
pub(super) struct Wallet {
    pub address: Address,
    pub as_of: Day,
    /// The published features.
    pub features: Vec<Feature>,
    /// The links to the accounts that the wallet borrowed through, sorted by account.
    pub accounts: Vec<Link>,
    /// The links to the wallets that borrowed through this wallet.
    pub borrowers: Vec<Link>,
    /// The events before the day that the wallet sent or that were on its accounts, in the order of the fold.
    pub events: Vec<Event>,
    /// The daily health up to and including the day, sorted by day, account and protocol.
    pub health: Vec<WalletHealth>,
    /// The symbols of the tokens by address.
    pub symbols: BTreeMap<Address, Arc<str>>,
}

/// An event that concerns a wallet.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub row: PricedEvent,
    /// Whether the features include the event: the wallet sent it, or it is a liquidation of one of its accounts.
    pub is_counted: bool,
}

impl Wallet {
    /// Reads a wallet from the lake.
    ///
    /// # Errors
    /// `BadInput` if the day is not published or the address has no row, and the errors of the lake.
    pub(super) async fn read(lake: &Lake, registry: &Registry, address: Address, as_of: Option<Day>) -> Result<Self> {
        let set = &published_set(registry, as_of).await?;
        let as_of = set.as_of;
        let links = links_before(lake, as_of).await?;
        let sorted = links.sorted();
        let linked = |side: fn(&Link) -> Address| sorted.iter().filter(move |link| side(link) == address).copied();
        let accounts: Vec<_> = linked(|link| link.wallet).collect();
        Ok(Wallet {
            address,
            as_of,
            features: features(&feature_row(lake, set, address).await?)?,
            borrowers: linked(|link| link.account).collect(),
            events: events(lake, address, &accounts, as_of, &links).await?,
            accounts,
            health: health(lake, address, as_of).await?,
            symbols: symbols(lake, as_of).await?,
        })
    }

    /// Returns a feature by name.
    pub(super) fn feature(&self, name: &str) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.name == name)
    }

    /// Returns the symbol of a token, or its address if the symbol is unknown.
    pub(super) fn symbol(&self, token: &Address) -> String {
        self.symbols.get(token).map_or_else(|| token.to_string(), ToString::to_string)
    }

    /// Returns all data of the wallet as JSON.
    pub(super) fn to_json(&self) -> Result<Value> {
        let link = |wallet: &Address, since| json!({"address": wallet.to_string(), "since": since});
        let features: serde_json::Map<_, _> =
            self.features.iter().map(|feature| (feature.name.to_owned(), json!(feature.value))).collect();
        let event = |event: &Event| {
            let row = &event.row;
            json!({
                "timestamp": row.epoch_timestamp,
                "block_number": row.block_number,
                "transaction_hash": row.transaction_hash.to_string(),
                "log_index": row.log_index,
                "protocol": row.protocol,
                "category": row.category,
                "sender_address": row.sender_address.to_string(),
                "account_address": row.account_address.to_string(),
                "token_address": row.token_address.to_string(),
                "token_symbol": self.symbols.get(&row.token_address),
                "quantity": row.quantity.0.to_string(),
                "quantity_eth": row.quantity_eth,
                "price_eth": row.price_eth,
                "price_day": row.price_day,
                "counts": event.is_counted,
            })
        };
        let health = |row: &WalletHealth| {
            json!({
                "day": row.day,
                "account_address": row.account_address.to_string(),
                "protocol": row.protocol,
                "collateral_eth": row.collateral_eth,
                "threshold_weighted_collateral_eth": row.threshold_weighted_collateral_eth,
                "borrow_power_eth": row.borrow_power_eth,
                "debt_eth": row.debt_eth,
                "available_borrows_eth": row.available_borrows_eth,
                "risk_factor": row.risk_factor,
            })
        };
        Ok(json!({
            "wallet_address": self.address.to_string(),
            "as_of": self.as_of,
            "features": features,
            "accounts": self.accounts.iter().map(|row| link(&row.account, row.since)).collect::<Vec<_>>(),
            "borrowers": self.borrowers.iter().map(|row| link(&row.wallet, row.since)).collect::<Vec<_>>(),
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
            "health": self.health.iter().map(health).collect::<Vec<_>>(),
        }))
    }
}

async fn feature_row(lake: &Lake, set: &FeatureSet, wallet: Address) -> Result<FeatureRow> {
    for shard in lake.published_shards(set).await? {
        let rows = lake.read_shard(set, shard, wallet..=wallet).await?;
        if let Some(row) = rows.into_iter().find(|row| row.wallet_address == wallet) {
            return Ok(row);
        }
    }
    Err(Error::bad_input(format!(
        "there is no wallet {wallet} as of {}: no event before that day involves it",
        set.as_of
    ))
    .with_hint("choose another wallet; defi features lists them"))
}

/// Reads the events before the as-of day that the wallet sent or that were on its accounts, in the order of the fold.
async fn events(lake: &Lake, wallet: Address, accounts: &[Link], as_of: Day, links: &Links) -> Result<Vec<Event>> {
    let mut units = BTreeSet::new();
    for category in Category::ALL {
        let days = lake.units(tables::event_table(Layer::Analytics, category)).await?;
        units.extend(days.iter().filter_map(WorkUnit::day).filter(|day| *day < as_of).map(|day| (day, category)));
    }
    let addresses = accounts.iter().map(|link| link.account).chain([wallet]);
    let addresses: &Arc<BTreeSet<_>> = &Arc::new(addresses.map(|address| address.to_string()).collect());
    let read = |(day, category)| async move {
        let (table, unit) = (tables::event_table(Layer::Analytics, category), WorkUnit::Day(day));
        let rows: Vec<PricedEvent> =
            lake.require_with_any(table, &unit, &["sender_address", "account_address"], Arc::clone(addresses)).await?;
        Ok::<_, Error>(rows.into_iter().filter_map(move |row| {
            // A link applies to events of the second in which it was created.
            let is_on_linked_account =
                links.wallets_of(row.account_address, row.epoch_timestamp + 1).any(|linked| linked == wallet);
            let is_counted = match category {
                Category::Liquidation => is_on_linked_account,
                _ => row.sender_address == wallet,
            };
            let is_shown = is_counted || row.sender_address == wallet || row.account_address == wallet;
            is_shown.then_some(Event { row, is_counted })
        }))
    };
    let days = futures::stream::iter(units).map(read).buffered(WHOLE_OBJECTS);
    days.try_fold(Vec::new(), |mut events, day| async move {
        events.extend(day);
        Ok(events)
    })
    .await
}

async fn health(lake: &Lake, wallet: Address, as_of: Day) -> Result<Vec<WalletHealth>> {
    let units = lake.units(&WALLET_HEALTH).await?.into_iter().filter(|unit| unit.day().is_some_and(|day| day <= as_of));
    let read = |unit| async move {
        let rows: Vec<WalletHealth> = lake.require_in_range(&WALLET_HEALTH, &unit, wallet..=wallet).await?;
        Ok::<_, Error>(rows.into_iter().filter(move |row| row.wallet_address == wallet))
    };
    let days = futures::stream::iter(units).map(read).buffered(WHOLE_OBJECTS);
    days.try_fold(Vec::new(), |mut health, day| async move {
        health.extend(day);
        Ok(health)
    })
    .await
}

/// Returns the token symbols from the markets of the as-of day and of the days before it that prices come from.
async fn symbols(lake: &Lake, as_of: Day) -> Result<BTreeMap<Address, Arc<str>>> {
    let window = as_of.plus_days(-LOOK_BACK_DAYS)..=as_of;
    let mut symbols = BTreeMap::new();
    let units = lake.units(&STAGE_MARKETS).await?.into_iter();
    let units = units.filter(|unit| unit.day().is_some_and(|day| window.contains(&day)));
    let read = |unit| async move { lake.require::<StagedMarket>(&STAGE_MARKETS, &unit).await };
    for market in in_order(units, SMALL_REQUESTS, read).await?.into_iter().flatten() {
        symbols.extend(market.input_token_symbol.map(|symbol| (market.input_token_address, symbol)));
    }
    Ok(symbols)
}
