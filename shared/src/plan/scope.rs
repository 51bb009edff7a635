//! The scope of a run: its days, protocols and shards.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::domain::Day;
use crate::error::{Error, Result};

/// The scope of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The as-of day of the features.
    pub as_of: Day,
    /// The first day of each protocol.
    pub from: BTreeMap<String, Day>,
    /// Whether all units are produced, including those that exist.
    pub force: bool,
    /// Whether the units that are lost are extracted again, too.
    pub retry_lost: bool,
    /// The number of shards.
    pub shards: u32,
}

impl Scope {
    /// Returns the scope of a run without its lost units. `as_of` defaults to today, `from` to the first day of each
    /// protocol.
    ///
    /// # Errors
    /// `BadInput` if the as-of day is in the future or before the first day, or if no protocol is configured.
    pub fn new(config: &Config, today: Day, as_of: Option<Day>, from: Option<Day>, force: bool) -> Result<Self> {
        let as_of = reject_future_day(as_of.unwrap_or(today), today)?;
        let first_day = |(protocol, first): (String, Day)| (protocol, from.unwrap_or(first));
        let from = config.first_days().into_iter().map(first_day).collect();
        let scope = Scope { as_of, from, force, retry_lost: false, shards: config.shards };
        scope.first_day()?;
        Ok(scope)
    }

    /// Returns the earliest first day of all protocols.
    ///
    /// # Errors
    /// `BadInput` if there is no protocol, or if the day is after the as-of day.
    pub fn first_day(&self) -> Result<Day> {
        let first = self.from.values().min().copied().ok_or_else(|| Error::bad_input("no protocol is configured"))?;
        if first > self.as_of {
            return Err(Error::bad_input(format!("the first day {first} is after the as-of day {}", self.as_of))
                .with_hint("choose an earlier --from or a later --as-of"));
        }
        Ok(first)
    }

    /// Returns the protocols whose first day is on or before a day.
    pub fn protocols_on(&self, day: Day) -> impl Iterator<Item = &str> {
        self.from.iter().filter(move |(_, from)| **from <= day).map(|(protocol, _)| protocol.as_str())
    }
}

/// Returns the as-of day unchanged if it is not in the future.
///
/// # Errors
/// `BadInput` if the day is after today.
pub fn reject_future_day(as_of: Day, today: Day) -> Result<Day> {
    if as_of > today {
        return Err(Error::bad_input(format!("the as-of day {as_of} is in the future: today is {today} (UTC)"))
            .with_hint("choose today or an earlier day"));
    }
    Ok(as_of)
}
