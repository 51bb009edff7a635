//! Reads the data of previous days that a day's unit needs: the links so far, and the markets of the last days.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::price::{DayMarkets, LOOK_BACK_DAYS, PriceBook};
use crate::domain::{Day, Link, Links};
use crate::error::Result;
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::lake::{Lake, State, WorkUnit};
use crate::tables::{STAGE_MARKETS, StagedMarket, WALLET_LINKS, WalletLink};

/// The name of the only part of the links' state.
pub const LINKS_PART: &str = "all";

/// Reads all links before a day. With `force`, no state is used.
///
/// # Errors
/// The errors of the lake.
pub async fn links(lake: &Lake, as_of: Day, force: bool) -> Result<Links> {
    if force { links_of_all_days(lake, as_of).await } else { links_before(lake, as_of).await }
}

/// Reads all links before a day: those of the newest state up to the day, and those of the days since.
///
/// # Errors
/// The errors of the lake.
pub async fn links_before(lake: &Lake, as_of: Day) -> Result<Links> {
    let mut links = Links::default();
    let state = lake.newest_state::<WalletLink>(State::Links, as_of, LINKS_PART).await?;
    links.extend(state.iter().flat_map(|(_, rows)| rows).map(Link::from));
    add_links_of_days(lake, state.map(|(day, _)| day), as_of, &mut links).await?;
    Ok(links)
}

/// Reads all links before a day, without using a state.
async fn links_of_all_days(lake: &Lake, as_of: Day) -> Result<Links> {
    let mut links = Links::default();
    add_links_of_days(lake, None, as_of, &mut links).await?;
    Ok(links)
}

/// Adds the links of the days from `since` on, or of all days, that are before `as_of`.
async fn add_links_of_days(lake: &Lake, since: Option<Day>, as_of: Day, links: &mut Links) -> Result<()> {
    let is_needed = |day: Day| day < as_of && since.is_none_or(|since| day >= since);
    let units = lake.units(&WALLET_LINKS).await?.into_iter().filter(|unit| unit.day().is_some_and(is_needed));
    let read = |unit| async move { lake.require::<WalletLink>(&WALLET_LINKS, &unit).await };
    let days = in_order(units, SMALL_REQUESTS, read).await?;
    links.extend(days.iter().flatten().map(Link::from));
    Ok(())
}

/// The staged markets of a range of days.
#[derive(Debug, Clone)]
pub struct Markets(Arc<BTreeMap<Day, DayMarkets>>);

impl Markets {
    /// Reads all staged snapshots of markets that may contain prices for the given days. Skips missing snapshots: lost
    /// ones, and days before a protocol's first day.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn load(lake: &Lake, config: &Config, days: &[Day]) -> Result<Self> {
        let mut markets: BTreeMap<Day, DayMarkets> = BTreeMap::new();
        let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) else {
            return Ok(Markets(Arc::new(markets)));
        };
        let range = first.plus_days(-LOOK_BACK_DAYS)..=*last;
        let units = lake.units(&STAGE_MARKETS).await?.into_iter().filter_map(|unit| unit.as_protocol_day().ok());
        let units = units.filter(|(day, protocol)| range.contains(day) && config.protocol(protocol).is_ok());
        let wrapped_ether = &config.chain.wrapped_ether;
        let read = |(day, protocol)| async move {
            let unit = WorkUnit::ProtocolDay(day, Arc::clone(&protocol));
            let rows: Vec<StagedMarket> = lake.require(&STAGE_MARKETS, &unit).await?;
            Ok((day, protocol, rows.iter().map(|row| row.market(wrapped_ether)).collect()))
        };
        for (day, protocol, rows) in in_order(units, SMALL_REQUESTS, read).await? {
            markets.entry(day).or_default().insert(protocol, rows);
        }
        Ok(Markets(Arc::new(markets)))
    }

    /// Returns the prices that apply to a day.
    #[must_use]
    pub fn prices_on(&self, day: Day) -> PriceBook {
        PriceBook::new(day, |day| self.0.get(&day))
    }

    /// Returns the snapshots of a day, by protocol.
    #[must_use]
    pub fn of(&self, day: Day) -> Option<&DayMarkets> {
        self.0.get(&day)
    }
}
