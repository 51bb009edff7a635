//! The objects that a set was made from: whether they are as a step wrote them.

use std::collections::{BTreeMap, BTreeSet};

use defi_shared::domain::{Category, Day};
use defi_shared::lake::{FeatureSet, Provenance, State, WorkUnit};
use defi_shared::step::Context;
use defi_shared::tables::{self, Layout, RAW_MARKETS, STAGE_MARKETS, TABLES, Table, WALLET_LINKS};
use defi_shared::{Error, Result};
use futures::future::try_join_all;

use crate::counts::Days;

/// Compares the inputs of a set with the records of what steps wrote: the objects of the days that the set is
/// judged by, from the raw ones on, the states that it was folded from and into, and the objects of `sets`.
pub(crate) async fn provenance(context: &Context, days: Days, sets: &[&FeatureSet]) -> Result<Provenance> {
    let lake = &context.lake;
    let mut keys = BTreeSet::new();
    let tables = TABLES.iter().filter(|table| !matches!(table.layout, Layout::Protocol | Layout::Shard));
    let listed = tables.map(|table| async move { Ok::<_, Error>((table, lake.units(table).await?)) });
    for (table, units) in try_join_all(listed).await? {
        let days = match table {
            _ if is_of_events(table) => days.of_events(),
            _ if has_prices(table) => days.of_prices(),
            _ => days.of_snapshots(),
        };
        let is_of_set = |unit: &&WorkUnit| unit.day().is_some_and(|day| days.contains(day));
        keys.extend(units.iter().filter(is_of_set).map(|unit| unit.key(table)));
    }
    for state in State::ALL {
        let stored = lake.stored_states(state).await?;
        // Each part is continued from its own newest state: of the sorted states of a part, the last one stays.
        let before: BTreeMap<_, _> =
            stored.iter().filter(|(as_of, _)| *as_of < days.as_of).map(|(as_of, part)| (part, as_of)).collect();
        let is_used = |as_of: &Day, part| *as_of == days.as_of || before.get(part) == Some(&as_of);
        let used = stored.iter().filter(|(as_of, part)| is_used(as_of, part));
        keys.extend(used.map(|(as_of, part)| state.key(*as_of, part)));
    }
    // The folder of a checked copy is named after its digest.
    for set in sets.iter().filter(|set| !set.is_checked_copy()) {
        keys.extend(lake.shards(set).await?.into_iter().map(|shard| set.key(shard)));
    }
    lake.provenance(&keys).await
}

/// Returns whether the table has the prices of events.
fn has_prices(table: &Table) -> bool {
    [&RAW_MARKETS, &STAGE_MARKETS].contains(&table)
}

/// Returns whether a set of a day uses the rows of the table up to the day before, like events.
fn is_of_events(table: &Table) -> bool {
    *table == WALLET_LINKS
        || Category::ALL.into_iter().any(|category| tables::event_table(table.layer, category) == table)
}
