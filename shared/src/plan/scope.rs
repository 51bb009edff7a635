//! What a run covers: up to which day, and from where.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::domain::Day;
use crate::error::{Error, Result};

/// What a run covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The day that the features are for.
    pub as_of: Day,
    /// The first day of each protocol.
    pub from: BTreeMap<String, Day>,
    /// Whether everything is made again, there or not.
    pub force: bool,
    /// The number of shards.
    pub shards: u32,
}

impl Scope {
    /// What a run of a configuration covers: by default up to today, from each protocol's first day.
    ///
    /// # Errors
    /// `BadInput` for a day in the future, or a first day after the as_of.
    pub fn new(config: &Config, today: Day, as_of: Option<Day>, from: Option<Day>, force: bool) -> Result<Self> {
        let as_of = not_in_the_future(as_of.unwrap_or(today), today)?;
        let first_day = |(protocol, first): (String, Day)| (protocol, from.unwrap_or(first));
        let from = config.first_days().into_iter().map(first_day).collect();
        let scope = Scope { as_of, from, force, shards: config.shards };
        scope.first_day()?;
        Ok(scope)
    }

    /// The first day of all.
    ///
    /// # Errors
    /// `BadInput` where there is no protocol, or where it lies after the as_of.
    pub fn first_day(&self) -> Result<Day> {
        let first =
            self.from.values().min().copied().ok_or_else(|| Error::bad_input("there is no protocol to run for"))?;
        if first > self.as_of {
            return Err(Error::bad_input(format!("the first day {first} lies after the as_of day {}", self.as_of))
                .next("choose an earlier --from or a later --as-of"));
        }
        Ok(first)
    }

    /// The protocols that have begun by a day.
    pub fn protocols_on(&self, day: Day) -> impl Iterator<Item = &str> {
        self.from.iter().filter(move |(_, from)| **from <= day).map(|(protocol, _)| protocol.as_str())
    }
}

/// The day that features are for.
///
/// # Errors
/// `BadInput` for a day in the future.
pub fn not_in_the_future(as_of: Day, today: Day) -> Result<Day> {
    if as_of > today {
        return Err(Error::bad_input(format!("the as_of day {as_of} is in the future: today is {today} (UTC)"))
            .next("choose today or an earlier day"));
    }
    Ok(as_of)
}
