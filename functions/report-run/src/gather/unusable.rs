//! Collects data that could not be used: amounts without a price, by token, and rows in quarantine, by table and
//! reason.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::config::Config;
use defi_shared::domain::{Address, BaseUnits, Category, Day};
use defi_shared::error::Result;
use defi_shared::lake::{Lake, WorkUnit, parquet};
use defi_shared::step::history::Markets;
use defi_shared::tables::{
    self, Layer, PricedEvent, QuarantinedRow, STAGE_MARKETS, STAGE_POSITIONS, StagedMarket, StagedPosition, TABLES,
    WALLET_HEALTH,
};

use super::is_within;

/// The number of example rows shown per table and reason.
const MAX_EXAMPLES: usize = 3;

/// Events and positions without a price.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unpriced {
    /// The number of events without a price, and of all events.
    pub events: (u64, u64),
    /// The number of positions of the as-of day without a price, and of all positions of that day.
    pub positions: (u64, u64),
    /// The tokens without a price, most events first.
    pub tokens: Vec<UnpricedToken>,
}

/// A token without a price.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnpricedToken {
    /// The address of the token, or the market if the token is unknown.
    pub token: String,
    /// The symbol, if a market has it.
    pub symbol: Option<Arc<str>>,
    /// The protocols of the events and positions.
    pub protocols: BTreeSet<Arc<str>>,
    /// The number of events by category.
    pub events: BTreeMap<&'static str, u64>,
    /// The sum of the event amounts in base units of the token. Saturates at 128 bits.
    pub amount: i128,
    /// The number of positions of the as-of day.
    pub positions: u64,
    /// The sum of the position balances in base units of the token. Saturates at 128 bits.
    pub balance: i128,
    /// The decimals of the token, if a market has them.
    pub decimals: Option<i32>,
}

impl UnpricedToken {
    /// Returns the number of events of all categories.
    #[must_use]
    pub fn all_events(&self) -> u64 {
        self.events.values().sum()
    }

    /// Converts an amount in base units to whole tokens, if the decimals are known.
    #[must_use]
    pub fn in_tokens(&self, amount: i128) -> Option<f64> {
        self.decimals.map(|decimals| BaseUnits(amount).to_tokens(decimals))
    }
}

/// The rows of one table that are in quarantine for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRows {
    /// The name of the table.
    pub table: String,
    /// The reason.
    pub reason: String,
    /// The number of rows.
    pub rows: u64,
    /// The first and last day of the rows; `None` for tables without days.
    pub days: Option<(Day, Day)>,
    /// The first rows: unit and row number, and the raw row as JSON.
    pub examples: Vec<(String, String)>,
}

/// Collects the events of a span and the positions of its last day that have no price.
pub(super) async fn unpriced(lake: &Lake, config: &Config, span: &RangeInclusive<Day>) -> Result<Unpriced> {
    let mut unpriced = Unpriced::default();
    let mut tokens = BTreeMap::new();
    for category in Category::ALL {
        let table = tables::event_table(Layer::Analytics, category);
        for unit in lake.units(table).await?.iter().filter(|unit| is_within(unit.day(), span)) {
            let Some((metadata, rows)) = lake.file_metadata(table, unit).await? else { continue };
            unpriced.events.1 += rows;
            if metadata.get("unpriced").is_none_or(|count| count == "0") {
                continue;
            }
            let events: Vec<PricedEvent> = lake.require(table, unit).await?;
            for event in events.into_iter().filter(|event| event.quantity_eth.is_none()) {
                unpriced.events.0 += 1;
                let token: &mut UnpricedToken = tokens.entry(event.token_address.to_string()).or_default();
                token.protocols.insert(event.protocol);
                *token.events.entry(category.name()).or_default() += 1;
                token.amount = token.amount.saturating_add(event.quantity.0);
            }
        }
    }
    let markets = newest_markets(lake, span).await?;
    unpriced.positions = positions(lake, config, *span.end(), &markets, &mut tokens).await?;
    for (address, token) in &mut tokens {
        let market = markets.values().find(|market| market.input_token_address.to_string() == *address);
        token.token.clone_from(address);
        token.decimals = market.map(|market| market.input_token_decimals);
        token.symbol = market.and_then(|market| market.input_token_symbol.clone());
    }
    unpriced.tokens = tokens.into_values().collect();
    unpriced.tokens.sort_by_key(|token| std::cmp::Reverse((token.all_events(), token.positions)));
    Ok(unpriced)
}

/// Reads the newest row of each market within a span.
async fn newest_markets(lake: &Lake, span: &RangeInclusive<Day>) -> Result<BTreeMap<Address, StagedMarket>> {
    let mut markets = BTreeMap::new();
    for unit in lake.units(&STAGE_MARKETS).await?.iter().filter(|unit| is_within(unit.day(), span)) {
        let rows: Vec<StagedMarket> = lake.require(&STAGE_MARKETS, unit).await?;
        markets.extend(rows.into_iter().map(|market| (market.market_id, market)));
    }
    Ok(markets)
}

/// Adds the positions of a day whose market has no price to `tokens`. Returns their number, and the number of all
/// positions.
async fn positions(
    lake: &Lake,
    config: &Config,
    day: Day,
    markets: &BTreeMap<Address, StagedMarket>,
    tokens: &mut BTreeMap<String, UnpricedToken>,
) -> Result<(u64, u64)> {
    let (mut unpriced, mut total) = (0, 0);
    let is_valued = lake.file_metadata(&WALLET_HEALTH, &WorkUnit::Day(day)).await?.is_some();
    let prices = Markets::load(lake, config, &[day]).await?.prices_on(day);
    for unit in lake.units(&STAGE_POSITIONS).await?.iter().filter(|unit| is_valued && unit.day() == Some(day)) {
        let WorkUnit::ProtocolDay(_, protocol) = unit else { continue };
        let quotes = prices.market_quotes(protocol);
        for position in lake.require::<StagedPosition>(&STAGE_POSITIONS, unit).await? {
            total += 1;
            if quotes.contains_key(&position.market_id) {
                continue;
            }
            unpriced += 1;
            let token = markets.get(&position.market_id).map(|market| market.input_token_address.to_string());
            let token = token.unwrap_or_else(|| format!("token of market {}", position.market_id));
            let token = tokens.entry(token).or_default();
            token.protocols.insert(Arc::clone(protocol));
            token.positions += 1;
            token.balance = token.balance.saturating_add(position.balance.0);
        }
    }
    Ok((unpriced, total))
}

/// Reads the rows in quarantine of the days of a span.
pub(super) async fn quarantined(lake: &Lake, span: &RangeInclusive<Day>) -> Result<Vec<QuarantinedRows>> {
    // The table of current positions has no days. Its rows are always those of the newest run.
    let is_shown = |unit: &WorkUnit| unit.day().is_none_or(|day| span.contains(&day));
    let mut groups = BTreeMap::<(String, String), QuarantinedRows>::new();
    for entry in lake.store().list("quarantine/").await? {
        let path = entry.key.split_once('/').and_then(|(_, path)| path.split_once('/'));
        let Some((name, path)) = path else { continue };
        let Some(table) = TABLES.iter().find(|table| table.name == name) else { continue };
        let Some(unit) = WorkUnit::from_path(table, path).filter(is_shown) else { continue };
        let Some(bytes) = lake.store().get(&entry.key).await? else { continue };
        let rows: Vec<QuarantinedRow> = parquet::decode(bytes).map_err(|error| error.with("object", &entry.key))?;
        for row in rows {
            let group = groups.entry((name.to_owned(), row.reason.clone())).or_insert_with(|| QuarantinedRows {
                table: name.to_owned(),
                reason: row.reason,
                rows: 0,
                days: None,
                examples: Vec::new(),
            });
            group.rows += 1;
            group.days =
                unit.day().map(|day| group.days.map_or((day, day), |(first, last)| (first.min(day), last.max(day))));
            if group.examples.len() < MAX_EXAMPLES {
                group.examples.push((format!("{unit}, row {}", row.row_number), row.row));
            }
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
    Ok(groups)
}
