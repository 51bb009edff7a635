//! The scope of a run: its days, protocols and shards.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, Schema};
use crate::domain::Day;
use crate::error::{Error, Result};
use crate::pipeline::{DataSource, Step};

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
    /// Whether they are extracted again, and rebuilt if their source still does not have them.
    pub rebuild_lost: bool,
    /// The number of shards.
    pub shards: u32,
    /// From a node: the first day of the logs of each protocol, from which its balances are replayed. Empty for the APIs.
    pub logs_from: BTreeMap<String, Day>,
    /// From The Graph: the protocols whose balances are scaled by the indexes of the markets, which are therefore inputs of the
    /// positions.
    pub scaled: BTreeSet<String>,
}

impl Scope {
    /// Returns the scope of a run without its lost units. `as_of` defaults to today. Each protocol starts on its first day,
    /// but not before `from`.
    ///
    /// # Errors
    /// `BadInput` if the as-of day is in the future or before the first day, or if no protocol is configured.
    pub fn new(config: &Config, today: Day, as_of: Option<Day>, from: Option<Day>, force: bool) -> Result<Self> {
        let as_of = reject_future_day(as_of.unwrap_or(today), today)?;
        let first_days = config.first_days()?;
        let logs_from = if config.source == DataSource::Chain { first_days.clone() } else { BTreeMap::new() };
        let scaled = config.protocols.iter().map(|protocol| &protocol.name);
        let scaled = scaled.filter(|name| config.schema(name).is_ok_and(|schema| schema == Some(Schema::Aave)));
        let scaled = scaled.cloned().collect();
        let scope = Scope {
            as_of,
            from: first_days,
            force,
            retry_lost: false,
            rebuild_lost: false,
            shards: config.shards,
            logs_from,
            scaled,
        };
        let scope = scope.not_before(from);
        scope.first_day()?;
        Ok(scope)
    }

    /// Returns the scope without the days before a first day, if there is one.
    #[must_use]
    pub fn not_before(mut self, first: Option<Day>) -> Self {
        self.from.values_mut().for_each(|from| *from = first.map_or(*from, |first| first.max(*from)));
        self
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

    /// Returns whether the lake is filled from a node.
    #[must_use]
    pub fn is_from_a_node(&self) -> bool {
        !self.logs_from.is_empty()
    }

    /// Returns the first day that a step may be asked for. The logs of a node, and the blocks by which they are extracted,
    /// begin before the first day of the scope.
    ///
    /// # Errors
    /// As [`Scope::first_day`].
    pub fn first_day_of(&self, step: Step) -> Result<Day> {
        let first = self.first_day()?;
        let of_logs =
            self.logs_from.values().min().filter(|_| [Step::ExtractDailyBlocks, Step::ExtractLogs].contains(&step));
        Ok(of_logs.map_or(first, |of_logs| first.min(*of_logs)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn scope(as_of: i32, from: &[(&str, i32)]) -> Scope {
        let from = from.iter().map(|(protocol, first)| ((*protocol).to_owned(), day(*first))).collect();
        Scope {
            as_of: day(as_of),
            from,
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            shards: 1,
            logs_from: BTreeMap::new(),
            scaled: BTreeSet::new(),
        }
    }

    #[test]
    fn first_day_is_the_earliest_of_all_protocols() {
        assert_eq!(scope(9, &[("a", 5), ("b", 3), ("c", 7)]).first_day().unwrap(), day(3));
        assert!(scope(9, &[]).first_day().is_err(), "no protocol");
    }

    #[test]
    fn first_day_is_at_most_the_as_of_day() {
        for (first, is_accepted) in [(8, true), (9, true), (10, false)] {
            assert_eq!(scope(9, &[("a", first)]).first_day().is_ok(), is_accepted, "{first}");
        }
    }

    #[test]
    fn protocol_takes_part_from_its_first_day_on() {
        let scope = scope(9, &[("a", 5), ("b", 3)]);
        let on = |number| scope.protocols_on(day(number)).collect::<Vec<_>>();
        assert_eq!([on(2), on(3), on(4), on(5), on(6)], [vec![], vec!["b"], vec!["b"], vec!["a", "b"], vec!["a", "b"]]);
    }

    #[test]
    fn first_day_of_a_run_does_not_precede_that_of_a_protocol() {
        let scope = scope(9, &[("a", 5), ("b", 3)]);
        let days = |first: Option<i32>| scope.clone().not_before(first.map(day)).from.into_values().collect::<Vec<_>>();
        assert_eq!([days(None), days(Some(1))], [[5, 3], [5, 3]].map(|days| days.map(day).to_vec()));
        assert_eq!(days(Some(4)), [5, 4].map(day));
    }

    #[test]
    fn as_of_day_is_at_most_today() {
        assert_eq!([-1, 0].map(|number| reject_future_day(day(number), day(0)).unwrap()), [day(-1), day(0)]);
        assert!(reject_future_day(day(1), day(0)).is_err());
    }

    #[test]
    fn scope_defaults_to_today_and_each_protocols_first_day() {
        let config = Config::built_in().unwrap();
        let first_days = config.first_days().unwrap();
        let new = |as_of, from| Scope::new(&config, day(900), as_of, from, true).unwrap();
        let expected = Scope {
            force: true,
            shards: config.shards,
            from: first_days.clone(),
            scaled: BTreeSet::from(["aave-v2-eth".to_owned()]),
            ..scope(900, &[])
        };
        assert_eq!(new(None, None), expected);
        let from = first_days.keys().map(|protocol| (protocol.clone(), day(7))).collect();
        assert_eq!(new(Some(day(800)), Some(day(7))), Scope { as_of: day(800), from, ..expected });
        assert!(Scope::new(&config, day(900), Some(day(901)), None, false).is_err(), "a future day");
        assert!(Scope::new(&config, day(900), Some(day(6)), Some(day(7)), false).is_err(), "before the first day");
    }
}
