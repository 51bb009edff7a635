//! Lengths of time in arguments: the horizon of labels, and the time until a set is served.

use defi_shared::error::{Error, Result};

/// A length of time in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(i64);

impl Period {
    /// Parses a length such as `30d` or `12h`. A day has 24 hours.
    ///
    /// # Errors
    /// `BadInput` if it is none, or less than 0.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            Error::bad_input(format!("{text:?} is not a length of time"))
                .with_hint("name days or hours, such as 30d or 12h")
        };
        let span: jiff::Span = text.parse().map_err(|_| invalid())?;
        let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| invalid())?;
        match duration.as_secs() {
            seconds if !duration.is_negative() && duration.subsec_nanos() == 0 => Ok(Period(seconds)),
            _ => Err(invalid()),
        }
    }

    /// Returns whether this is no time at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the second that is this time after another, in epoch seconds.
    pub(super) fn after(self, epoch_seconds: i64) -> i64 {
        epoch_seconds.saturating_add(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_days_or_hours() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("1d 12h", 129_600), ("90m", 5_400), ("0d", 0)] {
            assert_eq!(Period::parse(text).unwrap(), Period(seconds), "{text}");
        }
        for text in ["", "30", "d", "-1d", "1 month", "0.5s", "1y"] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
        assert_eq!(Period::parse("1h").unwrap().after(i64::MAX), i64::MAX);
    }
}
