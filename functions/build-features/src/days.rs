//! The days that a fold processes: reads the rows of each day from the lake, in order.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use defi_shared::cpu::run_cpu;
use defi_shared::domain::fold::{Exposure, Fold};
use defi_shared::domain::{Address, Category, Day, Links, shard_of};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Lake, WorkUnit, lost_error};
use defi_shared::step::history::links;
use defi_shared::tables::{self, FoldEventRow, FoldHealthRow, Layer, WALLET_HEALTH};
use defi_shared::{Error, Kind, Result};
use futures::StreamExt;

use crate::Folds;

/// The number of days that are read ahead while a day is folded.
const READ_AHEAD_DAYS: usize = 2;

/// The days of events and snapshots in the lake that the features of an as-of day may use, and the wallet links.
#[derive(Debug)]
pub(crate) struct History {
    events: Vec<(Category, BTreeSet<Day>)>,
    snapshots: BTreeSet<Day>,
    links: Links,
}

impl History {
    /// Lists the event days before `as_of` and the snapshot days up to and including `as_of`.
    /// With `without_states`, the links are read from all days instead of from a state.
    pub(crate) async fn of(lake: &Lake, as_of: Day, without_states: bool) -> Result<Self> {
        let list = |category| async move {
            let units = lake.units(tables::event_table(Layer::Analytics, category)).await?;
            Ok((category, units.iter().filter_map(WorkUnit::day).filter(|day| *day < as_of).collect::<BTreeSet<_>>()))
        };
        let (events, snapshots) =
            tokio::try_join!(in_order(Category::ALL, SMALL_REQUESTS, list), lake.units(&WALLET_HEALTH))?;
        let snapshots: BTreeSet<_> = snapshots.iter().filter_map(WorkUnit::day).filter(|day| *day <= as_of).collect();
        if snapshots.is_empty() && events.iter().all(|(_, days)| days.is_empty()) {
            let error = match lake.has_lost_day(|day| day <= as_of).await {
                true => lost_error("the lake has no day to fold, because snapshots up to the day are lost"),
                false => Error::new(Kind::NotReady, "the lake has no day to fold yet"),
            };
            return Err(error.with("as_of", as_of));
        }
        Ok(History { events, snapshots, links: links(lake, as_of, without_states).await? })
    }

    /// Returns the first day with events or a snapshot.
    fn first_day(&self) -> Option<Day> {
        let events = self.events.iter().filter_map(|(_, days)| days.first());
        events.chain(self.snapshots.first()).min().copied()
    }

    /// Folds the days after the state of `since`, or all days, up to `as_of`. Returns the number of rows read.
    ///
    /// Days are folded one at a time, in order, so that every floating-point sum has the same order in daily runs and
    /// in backfills. The next days are read meanwhile.
    pub(crate) async fn fold(&self, lake: &Lake, since: Option<Day>, as_of: Day, folds: &mut Folds) -> Result<u64> {
        let mut rows = 0;
        // The state of day D contains the events before D and the snapshot of D, so the events of D come next.
        let first = since.or(self.first_day()).unwrap_or(as_of);
        let first_snapshot = since.is_none().then_some((None, first));
        let days = first_snapshot.into_iter().chain(first.until(as_of).map(|day| (Some(day), day.next())));
        let wallets = folds.addresses();
        let read = |(events, snapshot)| {
            let wallets = self.snapshots.contains(&snapshot).then(|| wallets.clone());
            DayRows::read(lake.clone(), self.categories_of(events), snapshot, wallets)
        };
        let mut days = futures::stream::iter(days).map(|day| tokio::spawn(read(day))).buffered(READ_AHEAD_DAYS);
        while let Some(day) = days.next().await {
            let day =
                day.map_err(|cause| Error::internal("the task that reads a day did not finish").with_source(cause))??;
            rows += day.rows();
            run_cpu(|| folds.for_each_parallel(|shard, shards, fold| self.add(&day, shard, shards, fold)));
        }
        Ok(rows)
    }

    /// Returns the event categories that the lake has for a day.
    fn categories_of(&self, day: Option<Day>) -> Vec<(Category, Day)> {
        let all = day.into_iter().flat_map(|day| self.events.iter().map(move |events| (events, day)));
        all.filter(|((_, days), day)| days.contains(day)).map(|((category, _), day)| (*category, day)).collect()
    }

    /// Adds the rows of a day to the fold of one shard.
    fn add(&self, day: &DayRows, shard: u32, shards: u32, fold: &mut Fold) {
        let is_in_shard = |wallet: Address| shard_of(wallet, shards) == shard;
        for (category, events) in &day.events {
            for event in events {
                fold.apply(&event.fold_event(*category), &self.links, is_in_shard);
            }
        }
        // Shards are address ranges, and the rows are sorted by address.
        let start = day.health.partition_point(|row| shard_of(row.wallet_address, shards) < shard);
        let end = day.health.partition_point(|row| shard_of(row.wallet_address, shards) <= shard);
        let mut exposures = Vec::new();
        for wallet_rows in day.health[start..end].chunk_by(|a, b| a.wallet_address == b.wallet_address) {
            exposures.clear();
            exposures.extend(wallet_rows.iter().map(Exposure::from));
            fold.snapshot(wallet_rows[0].wallet_address, day.snapshot, &exposures);
        }
    }
}

/// The rows of a day: its events and the wallet health of the snapshot at its end.
#[derive(Debug)]
struct DayRows {
    events: Vec<(Category, Vec<FoldEventRow>)>,
    snapshot: Day,
    health: Vec<FoldHealthRow>,
}

impl DayRows {
    /// Reads the objects of a day at the same time. `wallets` is the address range to read from the snapshot, or `None`
    /// if the snapshot is missing.
    async fn read(
        lake: Lake,
        events: Vec<(Category, Day)>,
        snapshot: Day,
        wallets: Option<RangeInclusive<Address>>,
    ) -> Result<Self> {
        let unit = WorkUnit::Day(snapshot);
        let read = |(category, day)| {
            let lake = &lake;
            async move {
                let table = tables::event_table(Layer::Analytics, category);
                Ok((category, lake.require::<FoldEventRow>(table, &WorkUnit::Day(day)).await?))
            }
        };
        let health = async {
            let Some(wallets) = wallets else { return Ok(Vec::new()) };
            lake.require_in_range::<FoldHealthRow>(&WALLET_HEALTH, &unit, wallets).await
        };
        let (events, health) = tokio::try_join!(in_order(events, WHOLE_OBJECTS, read), health)?;
        if !health.is_sorted_by_key(|row| row.wallet_address) {
            let object = unit.key(&WALLET_HEALTH);
            return Err(Error::corrupt("rows are not in their declared sort order").with("object", object));
        }
        Ok(DayRows { events, snapshot, health })
    }

    /// Returns the number of rows.
    fn rows(&self) -> u64 {
        self.events.iter().map(|(_, events)| events.len() as u64).sum::<u64>() + self.health.len() as u64
    }
}
