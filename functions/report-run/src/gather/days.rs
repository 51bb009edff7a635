//! Counts wallets, events and positions by day and protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::domain::{Category, Day};
use defi_shared::error::Result;
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::tables::{self, ActiveWalletRow, FoldEventRow, Layer, STAGE_POSITIONS, WALLET_HEALTH};

use super::is_within;

/// Counts by protocol, one per day. `None` marks a day without data in the lake.
pub type CountsByProtocol = BTreeMap<Arc<str>, Vec<Option<u64>>>;

/// The daily counts that a report shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DailyCounts {
    /// Consecutive days, the first day first.
    pub days: Vec<Day>,
    /// Wallets with collateral or debt in the snapshot of the day.
    pub wallets: CountsByProtocol,
    /// Valid events.
    pub events: CountsByProtocol,
    /// Valid open positions in the snapshot of the day.
    pub positions: CountsByProtocol,
}

/// Counts by day and protocol, as collected from the units.
type Counts = BTreeMap<(Day, Arc<str>), u64>;

/// Counts the days of a span, starting with the first day that has data.
pub(super) async fn daily_counts(lake: &Lake, span: &RangeInclusive<Day>) -> Result<DailyCounts> {
    let positions = positions(lake, span).await?;
    let (wallets, valued) = wallets(lake, span).await?;
    let (events, complete) = events(lake, span).await?;
    let all = [&positions, &wallets, &events].map(|counts| counts.keys());
    let protocols: BTreeSet<Arc<str>> = all.into_iter().flatten().map(|(_, protocol)| Arc::clone(protocol)).collect();
    let snapshots = positions.keys().map(|(day, _)| *day);
    let first = snapshots.chain(complete.iter().copied()).min();
    let days: Vec<Day> = first.map(|first| first.until(span.end().next()).collect()).unwrap_or_default();
    let series = |count: &dyn Fn(Day, &Arc<str>) -> Option<u64>| -> CountsByProtocol {
        let series = |protocol: &Arc<str>| days.iter().map(|day| count(*day, protocol)).collect();
        protocols.iter().map(|protocol| (Arc::clone(protocol), series(protocol))).collect()
    };
    let get = |counts: &Counts, day: Day, protocol: &Arc<str>| counts.get(&(day, Arc::clone(protocol))).copied();
    let has_snapshot = |day, protocol: &Arc<str>| positions.contains_key(&(day, Arc::clone(protocol)));
    Ok(DailyCounts {
        positions: series(&|day, protocol| get(&positions, day, protocol)),
        wallets: series(&|day, protocol| {
            let is_valued = valued.contains(&day) && has_snapshot(day, protocol);
            is_valued.then(|| get(&wallets, day, protocol).unwrap_or(0))
        }),
        events: series(&|day, protocol| complete.contains(&day).then(|| get(&events, day, protocol).unwrap_or(0))),
        days,
    })
}

/// Counts the staged positions by day and protocol.
async fn positions(lake: &Lake, span: &RangeInclusive<Day>) -> Result<Counts> {
    let mut counts = Counts::new();
    for unit in lake.units(&STAGE_POSITIONS).await? {
        let WorkUnit::ProtocolDay(day, protocol) = &unit else { continue };
        if let Some((_, rows)) =
            if span.contains(day) { lake.file_metadata(&STAGE_POSITIONS, &unit).await? } else { None }
        {
            counts.insert((*day, Arc::clone(protocol)), rows);
        }
    }
    Ok(counts)
}

/// Counts the wallets by day and protocol, and returns the days with daily health.
async fn wallets(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let (mut counts, mut valued) = (Counts::new(), BTreeSet::new());
    for unit in lake.units(&WALLET_HEALTH).await?.iter().filter(|unit| is_within(unit.day(), span)) {
        let Some(day) = unit.day() else { continue };
        let rows: Vec<ActiveWalletRow> = lake.require(&WALLET_HEALTH, unit).await?;
        valued.insert(day);
        let wallets: BTreeSet<_> = rows.iter().map(|row| (&row.protocol, row.wallet_address)).collect();
        for (protocol, _) in wallets {
            *counts.entry((day, Arc::clone(protocol))).or_default() += 1;
        }
    }
    Ok((counts, valued))
}

/// Counts the events by day and protocol, and returns the days that have all categories.
async fn events(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let (mut counts, mut categories_by_day) = (Counts::new(), BTreeMap::<Day, usize>::new());
    for table in Category::ALL.map(|category| tables::event_table(Layer::Analytics, category)) {
        for unit in lake.units(table).await?.iter().filter(|unit| is_within(unit.day(), span)) {
            let WorkUnit::Day(day) = unit else { continue };
            *categories_by_day.entry(*day).or_default() += 1;
            for event in lake.require::<FoldEventRow>(table, unit).await? {
                *counts.entry((*day, event.protocol)).or_default() += 1;
            }
        }
    }
    categories_by_day.retain(|_, categories| *categories == Category::ALL.len());
    Ok((counts, categories_by_day.into_keys().collect()))
}
