//! What a run has to do: the lake is the state, and what is missing from it is the work. A unit whose inputs are about to change
//! is made again, so that a late day reaches everything that was computed without it.

mod inventory;
mod planner;
mod scope;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::inventory::{Inventory, state_part};
pub use self::planner::plan;
pub use self::scope::{Scope, not_in_the_future};
use crate::domain::{Category, Day};
use crate::lake::Unit;
use crate::tables::{self, Layer, Table};

/// The steps between plan-run and check-features, in their order.
pub const STEPS: [&str; 12] = [
    "extract-daily-blocks",
    "extract-events",
    "extract-market-data",
    "extract-account-positions",
    "extract-current-positions",
    "stage-events",
    "stage-market-data",
    "stage-account-positions",
    "link-wallets",
    "price-events",
    "value-positions",
    "build-features",
];

/// Days by something: a category, a protocol.
pub type DaysBy<K> = BTreeMap<K, Vec<Day>>;

/// The units that each step has to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// extract-daily-blocks.
    pub blocks: Vec<Day>,
    /// extract-events.
    pub extract_events: DaysBy<Category>,
    /// extract-market-data.
    pub extract_markets: DaysBy<String>,
    /// extract-account-positions.
    pub extract_positions: DaysBy<String>,
    /// extract-current-positions: the protocols whose positions were never taken. Others are taken anew with any other work.
    pub current_positions: Vec<String>,
    /// stage-events.
    pub stage_events: DaysBy<Category>,
    /// stage-market-data.
    pub stage_markets: DaysBy<String>,
    /// stage-account-positions.
    pub stage_positions: DaysBy<String>,
    /// link-wallets.
    pub links: Vec<Day>,
    /// price-events.
    pub price: DaysBy<Category>,
    /// value-positions.
    pub value: Vec<Day>,
    /// Whether build-features has anything to do.
    pub features: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }

    /// The number of units, by step, in the order of the steps.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        fn sum<K>(days: &DaysBy<K>) -> usize {
            days.values().map(Vec::len).sum()
        }
        let counts = [
            self.blocks.len(),
            sum(&self.extract_events),
            sum(&self.extract_markets),
            sum(&self.extract_positions),
            self.current_positions.len(),
            sum(&self.stage_events),
            sum(&self.stage_markets),
            sum(&self.stage_positions),
            self.links.len(),
            sum(&self.price),
            self.value.len(),
            usize::from(self.features),
        ];
        STEPS.into_iter().zip(counts).collect()
    }

    /// The units that are made from others; features apart, whose states tell how they stand.
    pub(super) fn derived(&self) -> Vec<(&'static Table, Unit)> {
        let mut derived = Vec::new();
        for (layer, days_by) in [(Layer::Stage, &self.stage_events), (Layer::Analytics, &self.price)] {
            for (category, days) in days_by {
                derived.extend(days.iter().map(|day| (tables::events(layer, *category), Unit::Day(*day))));
            }
        }
        for (table, days_by) in
            [(&tables::STAGE_MARKETS, &self.stage_markets), (&tables::STAGE_POSITIONS, &self.stage_positions)]
        {
            for (protocol, days) in days_by {
                let unit = |day: &Day| Unit::DayAndProtocol(*day, protocol.as_str().into());
                derived.extend(days.iter().map(|day| (table, unit(day))));
            }
        }
        for (table, days) in [(&tables::WALLET_LINKS, &self.links), (&tables::WALLET_HEALTH, &self.value)] {
            derived.extend(days.iter().map(|day| (table, Unit::Day(*day))));
        }
        derived
    }
}
/// When a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Before extraction: what is to be extracted counts as if it were there already.
    BeforeExtraction,
    /// After it: what could not be extracted (pruned history) is not there, and nothing is made from it. What the plan before
    /// it had extracted, if that is known, is made anew from there on.
    AfterExtraction(Option<&'a Plan>),
}
