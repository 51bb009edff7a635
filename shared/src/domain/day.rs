//! UTC days: the unit in which the pipeline processes data.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// Seconds in a UTC day.
pub const SECONDS_PER_DAY: i64 = 86_400;

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// The years that the pipeline accepts: from the launch of Ethereum to far in the future.
const ACCEPTED_YEARS: std::ops::RangeInclusive<i16> = 2015..=2199;

/// A UTC day, formatted as `2023-11-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// Returns the day `days` days after 1 January 1970, without a check of the year.
    #[must_use]
    pub fn from_epoch_days(days: i32) -> Self {
        Day(days)
    }

    /// Returns the day `days` days after 1 January 1970, or `None` if its year is outside those that the pipeline
    /// accepts.
    #[must_use]
    pub fn try_from_epoch_days(days: i32) -> Option<Self> {
        let span = jiff::Span::new().try_days(days).ok()?;
        let date = EPOCH.checked_add(span).ok()?;
        ACCEPTED_YEARS.contains(&date.year()).then_some(Day(days))
    }

    /// Returns the number of days since 1 January 1970.
    #[must_use]
    pub fn epoch_days(self) -> i32 {
        self.0
    }

    /// Returns the day that contains a time in epoch seconds.
    #[must_use]
    pub fn from_epoch_seconds(seconds: i64) -> Self {
        Day(i32::try_from(seconds.div_euclid(SECONDS_PER_DAY)).unwrap_or(i32::MAX))
    }

    /// Like [`Day::from_epoch_seconds`], or `None` if the year is outside those that the pipeline accepts.
    #[must_use]
    pub fn try_from_epoch_seconds(seconds: i64) -> Option<Self> {
        Self::try_from_epoch_days(Self::from_epoch_seconds(seconds).0)
    }

    /// Returns 00:00:00 UTC of this day, in epoch seconds.
    #[must_use]
    pub fn start(self) -> i64 {
        i64::from(self.0) * SECONDS_PER_DAY
    }

    /// Returns this day's range of epoch seconds: from 00:00:00 UTC up to, but excluding, 00:00:00 UTC of the next day.
    #[must_use]
    pub fn seconds(self) -> Range<i64> {
        self.start()..self.next().start()
    }

    /// Returns the day `days` days later, or earlier if `days` is negative.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        Day(self.0.saturating_add(days))
    }

    /// Returns the next day.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus_days(1)
    }

    /// Returns the previous day.
    #[must_use]
    pub fn previous(self) -> Self {
        self.plus_days(-1)
    }

    /// Returns the days from this one up to, but excluding, `end`.
    pub fn until(self, end: Day) -> impl DoubleEndedIterator<Item = Day> + Clone {
        (self.0..end.0).map(Day)
    }

    /// Returns the days from this one up to and including `last`.
    pub fn through(self, last: Day) -> impl DoubleEndedIterator<Item = Day> + Clone {
        self.until(last.next())
    }

    /// Returns the first day of this day's month.
    #[must_use]
    pub fn first_of_month(self) -> Self {
        self.plus_days(1 - i32::from(self.date().day()))
    }

    /// Returns the first day of the next month.
    #[must_use]
    pub fn first_of_next_month(self) -> Self {
        // No month has more than 31 days.
        self.first_of_month().plus_days(31).first_of_month()
    }

    /// Returns the calendar date, clamped to the first or last date that the calendar supports.
    fn date(self) -> Date {
        match jiff::Span::new().try_days(self.0) {
            Ok(span) => EPOCH.saturating_add(span),
            Err(_) if self.0.is_negative() => Date::MIN,
            Err(_) => Date::MAX,
        }
    }

    /// Returns the value of the `year` partition column, such as `2023`.
    #[must_use]
    pub fn year(self) -> String {
        format!("{:04}", self.date().year())
    }

    /// Returns the value of the `month` partition column, such as `01`.
    #[must_use]
    pub fn month(self) -> String {
        format!("{:02}", self.date().month())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.date(), f)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Day {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::bad_input(format!("invalid day {text:?}")).with_hint("write a day as YYYY-MM-DD, such as 2023-11-01")
        };
        let date: Date = text.parse().map_err(|_: jiff::Error| invalid())?;
        // The parser also accepts other forms, such as 20231101.
        if date.to_string() != text {
            return Err(invalid());
        }
        if !ACCEPTED_YEARS.contains(&date.year()) {
            return Err(Error::bad_input(format!(
                "the day {text} is outside the years {} to {}",
                ACCEPTED_YEARS.start(),
                ACCEPTED_YEARS.end()
            )));
        }
        let span = date.since(EPOCH).map_err(|source| invalid().with_source(source))?;
        Ok(Day(span.get_days()))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day() {
        for (day, first, next) in [
            ("2024-02-29", "2024-02-01", "2024-03-01"),
            ("2023-02-01", "2023-02-01", "2023-03-01"),
            ("2023-12-31", "2023-12-01", "2024-01-01"),
            ("2023-01-15", "2023-01-01", "2023-02-01"),
        ] {
            let day: Day = day.parse().unwrap();
            assert_eq!([day.first_of_month(), day.first_of_next_month()].map(|day| day.to_string()), [first, next]);
        }
    }

    #[test]
    fn day_round_trips_through_its_string() {
        for text in ["2019-05-07", "2020-02-29", "2023-12-31"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        let day: Day = "2023-01-01".parse().unwrap();
        assert_eq!((day.start(), day.year().as_str(), day.month().as_str()), (1_672_531_200, "2023", "01"));
        assert_eq!(day.previous().to_string(), "2022-12-31");
    }

    #[test]
    fn parse_rejects_invalid_days() {
        for text in [
            "",
            "today",
            "2023-1-1",
            "2023-02-30",
            "2023-11-01T00:00",
            "20231101",
            "0001-01-01",
            "2023/11/01",
            "+023-11-01",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn any_day_displays_but_only_accepted_years_convert() {
        for (days, displayed) in [(i32::MIN, "-009999-01-01"), (0, "1970-01-01"), (i32::MAX, "9999-12-31")] {
            assert_eq!((Day(days).to_string().as_str(), Day::try_from_epoch_days(days)), (displayed, None));
        }
        assert_eq!(Day::from_epoch_seconds(i64::MAX).to_string(), "9999-12-31");
        assert_eq!(Day::try_from_epoch_days(19_358).map(|day| day.to_string()).as_deref(), Some("2023-01-01"));
    }

    #[test]
    fn accepted_years_are_2015_to_2199() {
        for (text, days, is_accepted) in [
            ("2014-12-31", 16_435, false),
            ("2015-01-01", 16_436, true),
            ("2199-12-31", 84_005, true),
            ("2200-01-01", 84_006, false),
        ] {
            let day = is_accepted.then_some(Day(days));
            assert_eq!((text.parse().ok(), Day::try_from_epoch_days(days)), (day, day), "{text}");
        }
    }

    #[test]
    fn from_epoch_seconds_returns_the_day_of_the_second() {
        let day: Day = "2023-02-20".parse().unwrap();
        assert_eq!(Day::from_epoch_seconds(day.start()), day);
        assert_eq!(Day::from_epoch_seconds(day.start() - 1), day.previous());
        assert_eq!(Day::from_epoch_seconds(-1), Day(-1), "before 1970");
    }

    #[test]
    fn day_ends_where_the_next_one_starts() {
        let day: Day = "2023-01-01".parse().unwrap();
        assert_eq!(day.seconds(), 1_672_531_200..1_672_617_600);
        assert_eq!(day.next().start(), 1_672_617_600);
    }

    #[test]
    fn until_excludes_the_last_day_and_through_includes_it() {
        let day = |number: i32| Day(19_358 + number);
        assert_eq!(day(0).until(day(2)).collect::<Vec<_>>(), [day(0), day(1)]);
        assert_eq!(day(0).through(day(2)).collect::<Vec<_>>(), [day(0), day(1), day(2)]);
        assert_eq!((day(0).until(day(0)).count(), day(1).through(day(0)).count()), (0, 0));
    }

    #[test]
    fn day_is_a_string_in_json_and_debug_output() {
        let day = Day(19_358);
        assert_eq!(serde_json::to_string(&day).unwrap(), r#""2023-01-01""#);
        assert_eq!(serde_json::from_str::<Day>(r#""2023-01-01""#).unwrap(), day);
        assert!(serde_json::from_str::<Day>("19358").is_err());
        assert_eq!((format!("{day:?}").as_str(), day.epoch_days()), ("2023-01-01", 19_358));
    }
}
