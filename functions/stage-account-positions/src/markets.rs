//! The markets of a day in the raw table, as a node fills it.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::contracts::U256;
use defi_shared::domain::Address;
use defi_shared::tables::{DailyBlock, RawMarket};
use defi_shared::{Error, Result};

/// The markets of a day, as the contracts describe them.
pub(crate) struct Markets {
    /// The address that identifies the deployment.
    pub(crate) deployment: Address,
    pub(crate) rows: Vec<RawMarket>,
    pub(crate) block: DailyBlock,
}

/// The id of each market as text, and its name.
pub(crate) type MarketNames = BTreeMap<Address, (Arc<str>, Option<Arc<str>>)>;

pub(crate) fn market_names(markets: &[RawMarket]) -> MarketNames {
    let names = markets.iter().filter_map(|market| {
        let id = market.id.as_ref()?;
        Some((Address::parse(id)?, (Arc::clone(id), market.name.clone())))
    });
    names.collect()
}

pub(crate) fn address(column: &'static str, text: &Option<Arc<str>>) -> Result<Address> {
    text.as_deref().and_then(Address::parse).ok_or_else(|| not_from_a_node(column))
}

pub(crate) fn number(column: &'static str, text: &Option<Arc<str>>) -> Result<U256> {
    text.as_deref().and_then(|text| text.parse().ok()).ok_or_else(|| not_from_a_node(column))
}

fn not_from_a_node(column: &'static str) -> Error {
    Error::corrupt("a market has no value that a node gives").with("column", column)
}
