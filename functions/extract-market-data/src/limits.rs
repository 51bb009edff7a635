//! The limits of markets on a day that can't be had any more: those of the nearest day that the lake has. A subgraph keeps past
//! prices, but no past loan to value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::lake::WorkUnit;
use defi_shared::step::Context;
use defi_shared::tables::{RAW_MARKETS, RawMarket};
use tokio::sync::OnceCell;

/// The units of markets that were read at their blocks, listed once for all units of a call: what the call rebuilds is never
/// among them.
#[derive(Debug, Default)]
pub(crate) struct PinnedUnits(OnceCell<BTreeSet<WorkUnit>>);

impl PinnedUnits {
    async fn get(&self, context: &Context) -> Result<&BTreeSet<WorkUnit>> {
        let list = || async {
            let (mut units, lost) =
                tokio::try_join!(context.lake.units(&RAW_MARKETS), context.lake.lost_units(&RAW_MARKETS))?;
            // A lost unit that is in the lake was rebuilt: its limits are those of another day.
            units.retain(|unit| !lost.contains(unit));
            Ok(units)
        };
        self.0.get_or_try_init(list).await
    }
}

/// The limits of the markets of a protocol on the nearest day.
pub(crate) struct Limits {
    /// `None`: the lake has no such day.
    day: Option<Day>,
    /// The maximum loan to value and the liquidation threshold, by market.
    markets: BTreeMap<Arc<str>, [Option<Arc<str>>; 2]>,
}

impl Limits {
    /// Returns the day, or `head` if the limits are those of the newest state.
    pub(crate) fn day(&self) -> String {
        self.day.map_or_else(|| "head".to_owned(), |day| day.to_string())
    }

    /// Returns a market with the limits of the day. A market that the day does not have keeps its own.
    pub(crate) fn of(&self, market: RawMarket) -> RawMarket {
        match market.id.as_ref().and_then(|id| self.markets.get(id)) {
            Some([maximum_ltv, liquidation_threshold]) => RawMarket {
                maximum_ltv: maximum_ltv.clone(),
                liquidation_threshold: liquidation_threshold.clone(),
                ..market
            },
            None => market,
        }
    }
}

/// Returns the limits of the nearest day to a day whose markets are in the lake and were read at its block; of two equally
/// near ones, those of the earlier.
///
/// # Errors
/// The errors of the lake.
pub(crate) async fn nearest(context: &Context, pinned: &PinnedUnits, protocol: &str, day: Day) -> Result<Limits> {
    let mut near: Vec<(u32, Day, &WorkUnit)> = Vec::new();
    for unit in pinned.get(context).await? {
        let (other, name) = unit.as_protocol_day()?;
        if *name == *protocol {
            near.push((other.epoch_days().abs_diff(day.epoch_days()), other, unit));
        }
    }
    near.sort_unstable();
    for (_, other, unit) in near {
        let rows = context.lake.read::<RawMarket>(&RAW_MARKETS, unit).await?.unwrap_or_default();
        let markets: BTreeMap<_, _> =
            rows.into_iter().filter_map(|row| Some((row.id?, [row.maximum_ltv, row.liquidation_threshold]))).collect();
        if !markets.is_empty() {
            return Ok(Limits { day: Some(other), markets });
        }
    }
    Ok(Limits { day: None, markets: BTreeMap::new() })
}
