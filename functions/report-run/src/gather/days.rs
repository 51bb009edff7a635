//! Wallets, events and positions by day and protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::domain::{Category, Day};
use defi_shared::error::Result;
use defi_shared::lake::{Lake, Unit};
use defi_shared::tables::{self, FoldedEvent, HealthyWallet, Layer, STAGE_POSITIONS, WALLET_HEALTH};

use super::is_within;

/// A number by protocol and day. A day that the lake has nothing of is none.
pub type ByProtocol = BTreeMap<Arc<str>, Vec<Option<u64>>>;

/// What happened on each day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Days {
    /// The days, one after another.
    pub days: Vec<Day>,
    /// Wallets with collateral or debt in the day's snapshot.
    pub wallets: ByProtocol,
    /// Valid events.
    pub events: ByProtocol,
    /// Valid open positions of the day's snapshot.
    pub positions: ByProtocol,
}

/// Counts by day and protocol, before it is known which days and protocols there are.
type Counts = BTreeMap<(Day, Arc<str>), u64>;

/// Counts a span's days, from the first that the lake has anything of.
pub(super) async fn of(lake: &Lake, span: &RangeInclusive<Day>) -> Result<Days> {
    let positions = positions(lake, span).await?;
    let (wallets, valued) = wallets(lake, span).await?;
    let (events, told) = events(lake, span).await?;
    let all = [&positions, &wallets, &events].map(|counts| counts.keys());
    let protocols: BTreeSet<Arc<str>> = all.into_iter().flatten().map(|(_, protocol)| Arc::clone(protocol)).collect();
    let snapshots = positions.keys().map(|(day, _)| *day);
    let first = snapshots.chain(told.iter().copied()).min();
    let days: Vec<Day> = first.map(|first| first.until(span.end().next()).collect()).unwrap_or_default();
    let series = |count: &dyn Fn(Day, &Arc<str>) -> Option<u64>| -> ByProtocol {
        let series = |protocol: &Arc<str>| days.iter().map(|day| count(*day, protocol)).collect();
        protocols.iter().map(|protocol| (Arc::clone(protocol), series(protocol))).collect()
    };
    let find = |counts: &Counts, day: Day, protocol: &Arc<str>| counts.get(&(day, Arc::clone(protocol))).copied();
    let is_snapshot = |day, protocol: &Arc<str>| positions.contains_key(&(day, Arc::clone(protocol)));
    Ok(Days {
        positions: series(&|day, protocol| find(&positions, day, protocol)),
        wallets: series(&|day, protocol| {
            let is_known = valued.contains(&day) && is_snapshot(day, protocol);
            is_known.then(|| find(&wallets, day, protocol).unwrap_or(0))
        }),
        events: series(&|day, protocol| told.contains(&day).then(|| find(&events, day, protocol).unwrap_or(0))),
        days,
    })
}

async fn positions(lake: &Lake, span: &RangeInclusive<Day>) -> Result<Counts> {
    let mut counts = Counts::new();
    for unit in lake.units(&STAGE_POSITIONS).await? {
        let Unit::DayAndProtocol(day, protocol) = &unit else { continue };
        if let Some((_, rows)) = if span.contains(day) { lake.facts(&STAGE_POSITIONS, &unit).await? } else { None } {
            counts.insert((*day, Arc::clone(protocol)), rows);
        }
    }
    Ok(counts)
}

/// Wallets by day and protocol, and the days that are valued.
async fn wallets(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let (mut counts, mut valued) = (Counts::new(), BTreeSet::new());
    for unit in lake.units(&WALLET_HEALTH).await?.iter().filter(|unit| is_within(unit.day(), span)) {
        let Some(day) = unit.day() else { continue };
        let rows: Vec<HealthyWallet> = lake.require(&WALLET_HEALTH, unit).await?;
        valued.insert(day);
        let wallets: BTreeSet<_> = rows.iter().map(|row| (&row.protocol, row.wallet_address)).collect();
        for (protocol, _) in wallets {
            *counts.entry((day, Arc::clone(protocol))).or_default() += 1;
        }
    }
    Ok((counts, valued))
}

/// Events by day and protocol, and the days of which all categories are there.
async fn events(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let (mut counts, mut told) = (Counts::new(), BTreeMap::<Day, usize>::new());
    for table in Category::ALL.map(|category| tables::events(Layer::Analytics, category)) {
        for unit in lake.units(table).await?.iter().filter(|unit| is_within(unit.day(), span)) {
            let Unit::Day(day) = unit else { continue };
            *told.entry(*day).or_default() += 1;
            for event in lake.require::<FoldedEvent>(table, unit).await? {
                *counts.entry((*day, event.protocol)).or_default() += 1;
            }
        }
    }
    told.retain(|_, categories| *categories == Category::ALL.len());
    Ok((counts, told.into_keys().collect()))
}
