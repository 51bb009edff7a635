//! Counts wallets, events and positions by day and protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use defi_shared::domain::{Category, Day};
use defi_shared::error::Result;
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Entry, Lake, WorkUnit};
use defi_shared::tables::{self, ActiveWalletRow, FoldEventRow, Layer, STAGE_POSITIONS, Table, WALLET_HEALTH};

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
    let objects = lake.objects(&STAGE_POSITIONS).await?.into_iter();
    let objects = objects.filter_map(|(unit, object)| Some((unit.as_protocol_day().ok()?, object)));
    let read = |(key, object): ((Day, Arc<str>), Entry)| async move { Ok((key, lake.footer(&object).await?.rows)) };
    let rows = in_order(objects.filter(|((day, _), _)| span.contains(day)), SMALL_REQUESTS, read).await?;
    Ok(rows.into_iter().collect())
}

/// Counts the wallets by day and protocol, and returns the days with daily health.
async fn wallets(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let units = lake.units(&WALLET_HEALTH).await?;
    let days: BTreeSet<_> = units.iter().filter_map(WorkUnit::day).filter(|day| span.contains(day)).collect();
    let count = |day| async move {
        let rows: Vec<ActiveWalletRow> = lake.require(&WALLET_HEALTH, &WorkUnit::Day(day)).await?;
        let wallets: BTreeSet<_> = rows.iter().map(|row| (&row.protocol, row.wallet_address)).collect();
        let mut counts = Counts::new();
        for (protocol, _) in wallets {
            *counts.entry((day, Arc::clone(protocol))).or_default() += 1;
        }
        Ok(counts)
    };
    let counts = in_order(days.clone(), WHOLE_OBJECTS, count).await?;
    Ok((counts.into_iter().flatten().collect(), days))
}

/// Counts the events by day and protocol, and returns the days that have all categories.
async fn events(lake: &Lake, span: &RangeInclusive<Day>) -> Result<(Counts, BTreeSet<Day>)> {
    let list = |category| async move {
        let table = tables::event_table(Layer::Analytics, category);
        let units = lake.units(table).await?.into_iter();
        Ok(units.filter_map(|unit| unit.day()).filter(|day| span.contains(day)).map(move |day| (table, day)))
    };
    let units = in_order(Category::ALL, SMALL_REQUESTS, list).await?.into_iter().flatten();
    let count = |(table, day): (&'static Table, Day)| async move {
        let mut counts = Counts::new();
        for event in lake.require::<FoldEventRow>(table, &WorkUnit::Day(day)).await? {
            *counts.entry((day, event.protocol)).or_default() += 1;
        }
        Ok((day, counts))
    };
    let (mut counts, mut categories_by_day) = (Counts::new(), BTreeMap::<Day, usize>::new());
    for (day, of_category) in in_order(units, WHOLE_OBJECTS, count).await? {
        *categories_by_day.entry(day).or_default() += 1;
        of_category.into_iter().for_each(|(key, count)| *counts.entry(key).or_default() += count);
    }
    categories_by_day.retain(|_, categories| *categories == Category::ALL.len());
    Ok((counts, categories_by_day.into_keys().collect()))
}
