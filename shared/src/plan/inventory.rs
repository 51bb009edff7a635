//! The contents of the lake that a plan depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use crate::domain::Day;
use crate::error::Result;
use crate::lake::{FeatureSet, Lake, State, WorkUnit};
use crate::tables::{self, Layer, Table};

/// The units and states that are in the lake.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    pub(super) units: BTreeMap<(Layer, &'static str), BTreeSet<WorkUnit>>,
    /// The parts of the fold's state as of the as-of day.
    pub(super) states: BTreeSet<String>,
    /// Whether the links' state as of that day exists.
    pub(super) has_links: bool,
    /// The shards of the day's build, which is not published yet.
    pub(super) build: BTreeSet<u32>,
    /// The number of shards of the day's features that passed their checks, if the record of it is current.
    pub(super) passed_shards: Option<u32>,
}

impl Inventory {
    /// Lists the lake.
    ///
    /// # Errors
    /// The objects could not be listed.
    pub async fn list(lake: &Lake, as_of: Day) -> Result<Self> {
        let mut units = BTreeMap::new();
        for table in tables::TABLES {
            units.insert((table.layer, table.name), lake.units(table).await?);
        }
        let states = lake.stored_states(State::Fold).await?;
        let states = states.into_iter().filter(|(day, _)| *day == as_of).map(|(_, part)| part).collect();
        let has_links = lake.stored_states(State::Links).await?.iter().any(|(day, _)| *day == as_of);
        let build = lake.shards(&FeatureSet::build(as_of)).await?.into_iter().collect();
        let passed_shards = lake.passed_check(as_of).await?.map(|record| record.shards);
        Ok(Inventory { units, states, has_links, build, passed_shards })
    }

    /// Removes the units with the given keys.
    #[must_use]
    pub fn without(mut self, keys: &BTreeSet<String>) -> Self {
        if !keys.is_empty() {
            for table in tables::TABLES {
                let units = self.units.get_mut(&(table.layer, table.name));
                units.into_iter().for_each(|units| units.retain(|unit| !keys.contains(&unit.key(table))));
            }
        }
        self
    }

    /// Returns the keys of the objects of the selected tables.
    #[must_use]
    pub fn keys_of(&self, is_selected: impl Fn(&Table) -> bool) -> BTreeSet<String> {
        let selected = tables::TABLES.iter().filter(|table| is_selected(table));
        let keys = selected.filter_map(|table| {
            let units = self.units.get(&(table.layer, table.name))?;
            Some(units.iter().map(|unit| unit.key(table)))
        });
        keys.flatten().collect()
    }

    /// Returns the keys of the existing objects that a plan recomputes because their inputs change.
    #[must_use]
    pub fn keys_to_recompute(&self, plan: &Plan) -> BTreeSet<String> {
        let derived = plan.derived().into_iter().filter(|(table, unit)| self.has(table, unit));
        derived.map(|(table, unit)| unit.key(table)).collect()
    }

    pub(super) fn has(&self, table: &Table, unit: &WorkUnit) -> bool {
        self.units.get(&(table.layer, table.name)).is_some_and(|units| units.contains(unit))
    }

    /// Returns whether the day has a build that is not published.
    #[must_use]
    pub fn has_unpublished_build(&self) -> bool {
        !self.build.is_empty()
    }

    /// Returns whether the features of the day are published, passed their checks, and were computed from the inputs
    /// that are in the lake. A build that is still in the lake was not published.
    pub(super) fn has_published_features(&self, as_of: Day, shards: u32) -> bool {
        let has_shard = |shard| self.has(&tables::FEATURES_HISTORY, &WorkUnit::Shard(as_of, shard));
        self.passed_shards == Some(shards) && self.build.is_empty() && (0..shards).all(has_shard)
    }

    /// Returns whether the features of the day are built from the inputs that are in the lake, but not published.
    pub(super) fn has_build(&self, shards: u32) -> bool {
        (0..shards).all(|shard| self.build.contains(&shard) && self.states.contains(&state_part(shard, shards)))
    }

    /// Returns the newest day of any unit in the lake.
    pub(super) fn newest_day(&self) -> Option<Day> {
        self.units.values().filter_map(|units| units.iter().filter_map(WorkUnit::day).max()).max()
    }
}

/// Returns the part name of a shard of the fold's state. It contains the number of shards, since a state with another
/// number of shards can't be used.
#[must_use]
pub fn state_part(shard: u32, shards: u32) -> String {
    format!("{shard}-of-{shards}")
}
