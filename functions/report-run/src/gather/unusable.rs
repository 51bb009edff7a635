//! Collects data that could not be used: amounts without a price, by token, and rows in quarantine, by table and
//! reason.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::config::Config;
use defi_shared::domain::{Address, BaseUnits, Category, Day};
use defi_shared::error::Result;
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{self, Footer, Lake, WorkUnit, parquet};
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

impl QuarantinedRows {
    /// Adds the rows of a later unit that are in quarantine for the same reason.
    fn add(&mut self, later: QuarantinedRows) {
        self.rows += later.rows;
        self.days = self.days.zip(later.days).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        self.examples.extend(later.examples);
        self.examples.truncate(MAX_EXAMPLES);
    }
}

/// Collects the events of a span and the positions of its last day that have no price.
pub(super) async fn unpriced(lake: &Lake, config: &Config, span: &RangeInclusive<Day>) -> Result<Unpriced> {
    let mut unpriced = Unpriced::default();
    let mut tokens = BTreeMap::new();
    for category in Category::ALL {
        for (rows, events) in unpriced_events(lake, category, span).await? {
            unpriced.events.1 += rows;
            for event in events {
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

/// Returns the number of events of each day of a span, and those of them that have no price.
async fn unpriced_events(
    lake: &Lake,
    category: Category,
    span: &RangeInclusive<Day>,
) -> Result<Vec<(u64, Vec<PricedEvent>)>> {
    let table = tables::event_table(Layer::Analytics, category);
    let objects = lake.objects(table).await?.into_iter().filter(|(unit, _)| is_within(unit.day(), span));
    let read = |(unit, object): (WorkUnit, lake::Entry)| async move {
        let Footer { metadata, rows, .. } = lake.footer(&object).await?;
        if metadata.get("unpriced").is_none_or(|count| count == "0") {
            return Ok((rows, Vec::new()));
        }
        let mut events: Vec<PricedEvent> = lake.require(table, &unit).await?;
        events.retain(|event| event.quantity_eth.is_none());
        Ok((rows, events))
    };
    in_order(objects, WHOLE_OBJECTS, read).await
}

/// Reads the newest row of each market within a span.
async fn newest_markets(lake: &Lake, span: &RangeInclusive<Day>) -> Result<BTreeMap<Address, StagedMarket>> {
    let units = lake.units(&STAGE_MARKETS).await?.into_iter().filter(|unit| is_within(unit.day(), span));
    let read = |unit| async move { lake.require::<StagedMarket>(&STAGE_MARKETS, &unit).await };
    let markets = in_order(units, SMALL_REQUESTS, read).await?.into_iter().flatten();
    Ok(markets.map(|market| (market.market_id, market)).collect())
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
    let is_valued = lake.units(&WALLET_HEALTH).await?.contains(&WorkUnit::Day(day));
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
    let selected = lake.store().list("quarantine/").await?.into_iter().filter_map(|entry| {
        let (name, path) = entry.key.strip_prefix("quarantine/")?.split_once('/')?;
        let table = TABLES.iter().find(|table| table.name == name)?;
        let unit = WorkUnit::from_path(table, path).filter(is_shown)?;
        Some((table.name, unit, entry.key))
    });
    let read = |(table, unit, key): (&'static str, WorkUnit, String)| async move {
        let bytes = lake.store().get(&key).await?;
        let Some(bytes) = bytes else { return Ok(Vec::new()) };
        let rows = parquet::decode::<QuarantinedRow>(bytes).map_err(|error| error.with("object", &key))?;
        Ok(by_reason(table, &unit, rows))
    };
    let mut groups = BTreeMap::<(String, String), QuarantinedRows>::new();
    for group in in_order(selected, WHOLE_OBJECTS, read).await?.into_iter().flatten() {
        match groups.entry((group.table.clone(), group.reason.clone())) {
            Entry::Vacant(first) => drop(first.insert(group)),
            Entry::Occupied(mut earlier) => earlier.get_mut().add(group),
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
    Ok(groups)
}

/// Groups the rows of a unit that are in quarantine by their reason.
fn by_reason(table: &str, unit: &WorkUnit, rows: Vec<QuarantinedRow>) -> Vec<QuarantinedRows> {
    let mut groups = BTreeMap::<String, QuarantinedRows>::new();
    for row in rows {
        let group = groups.entry(row.reason.clone()).or_insert_with(|| QuarantinedRows {
            table: table.to_owned(),
            reason: row.reason,
            rows: 0,
            days: unit.day().map(|day| (day, day)),
            examples: Vec::new(),
        });
        group.rows += 1;
        if group.examples.len() < MAX_EXAMPLES {
            group.examples.push((format!("{unit}, row {}", row.row_number), row.row));
        }
    }
    groups.into_values().collect()
}
