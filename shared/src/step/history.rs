//! What a day's work needs of the days before it: links so far, and the prices of the week.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::price::{DayMarkets, LOOK_BACK_DAYS, PriceBook};
use crate::domain::{Day, Link, Links};
use crate::error::Result;
use crate::lake::{Lake, State, Unit};
use crate::tables::{STAGE_MARKETS, StagedMarket, WALLET_LINKS, WalletLink};

/// The one part of the links' state.
pub const ALL_LINKS: &str = "all";

/// All links made before a day: the newest state, and the days since.
///
/// # Errors
/// The lake's.
pub async fn links_before(lake: &Lake, as_of: Day) -> Result<Links> {
    let mut links = Links::default();
    let kept = lake.newest_state::<WalletLink>(State::Links, as_of, ALL_LINKS).await?;
    let since = kept.as_ref().map(|(day, _)| *day);
    links.extend(kept.iter().flat_map(|(_, rows)| rows).map(Link::from));
    for unit in lake.units(&WALLET_LINKS).await? {
        let day = unit.day().filter(|day| *day < as_of && since.is_none_or(|since| *day >= since));
        if day.is_some() {
            let rows: Vec<WalletLink> = lake.require(&WALLET_LINKS, &unit).await?;
            links.extend(rows.iter().map(Link::from));
        }
    }
    Ok(links)
}

/// The markets of a span of days.
#[derive(Debug, Clone)]
pub struct Markets(Arc<BTreeMap<Day, DayMarkets>>);

impl Markets {
    /// Reads every staged snapshot that prices of these days may come from. Snapshots that are not there (lost, or before a
    /// protocol's first day) have no prices.
    ///
    /// # Errors
    /// The lake's.
    pub async fn around(lake: &Lake, config: &Config, days: &[Day]) -> Result<Self> {
        let mut markets: BTreeMap<Day, DayMarkets> = BTreeMap::new();
        let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) else {
            return Ok(Markets(Arc::new(markets)));
        };
        let span = first.plus(-LOOK_BACK_DAYS)..=*last;
        for unit in lake.units(&STAGE_MARKETS).await? {
            let Unit::DayAndProtocol(day, protocol) = &unit else { continue };
            if span.contains(day) && config.protocol(protocol).is_ok() {
                let rows: Vec<StagedMarket> = lake.require(&STAGE_MARKETS, &unit).await?;
                let rows = rows.iter().map(StagedMarket::market).collect();
                markets.entry(*day).or_default().insert(protocol.clone(), rows);
            }
        }
        Ok(Markets(Arc::new(markets)))
    }

    /// The prices that hold on a day.
    #[must_use]
    pub fn prices_on(&self, day: Day) -> PriceBook {
        PriceBook::new(day, |day| self.0.get(&day))
    }

    /// The snapshots of a day, by protocol.
    #[must_use]
    pub fn of(&self, day: Day) -> Option<&DayMarkets> {
        self.0.get(&day)
    }
}
