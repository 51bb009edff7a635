//! Validation of the fields of input rows. A row with an invalid field is rejected and quarantined with the reason.

use std::fmt;
use std::sync::Arc;

use crate::domain::{BaseUnits, HexBytes};

/// The reason for which a row is rejected: a column and its problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    column: &'static str,
    problem: &'static str,
}

impl Reason {
    /// Creates a reason from a column and its problem, such as `is missing`.
    #[must_use]
    pub fn new(column: &'static str, problem: &'static str) -> Self {
        Reason { column, problem }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.column, self.problem)
    }
}

/// Returns the string of a required column.
pub(super) fn required<'a>(column: &'static str, text: &'a Option<Arc<str>>) -> Result<&'a str, Reason> {
    text.as_deref().ok_or(Reason::new(column, "is missing"))
}

/// Parses an address or a hash: `0x` and exactly `2·N` hex digits.
pub(crate) fn hex_bytes<const N: usize>(column: &'static str, text: &Option<Arc<str>>) -> Result<HexBytes<N>, Reason> {
    HexBytes::parse(required(column, text)?).ok_or(Reason::new(column, "is malformed"))
}

/// Parses an integer, `-?[0-9]+`, that fits in 64 bits.
pub(crate) fn integer(column: &'static str, text: &Option<Arc<str>>) -> Result<i64, Reason> {
    let text = required(column, text)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::new(column, "is not an integer"));
    }
    text.parse().map_err(|_| Reason::new(column, "is too large"))
}

/// Parses an amount in base units.
pub(crate) fn base_units(column: &'static str, text: &Option<Arc<str>>) -> Result<BaseUnits, Reason> {
    BaseUnits::parse(required(column, text)?).map_err(|problem| Reason::new(column, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value, or the reason as text.
    fn parse<T>(
        parse: impl Fn(&'static str, &Option<Arc<str>>) -> Result<T, Reason>,
        text: Option<&str>,
    ) -> Result<T, String> {
        parse("column", &text.map(Arc::from)).map_err(|reason| reason.to_string())
    }

    #[test]
    fn missing_value_has_a_reason_of_its_own() {
        let missing = "column is missing".to_owned();
        assert_eq!(parse(hex_bytes::<20>, None).unwrap_err(), missing);
        assert_eq!(parse(integer, None).unwrap_err(), missing);
        assert_eq!(parse(base_units, None).unwrap_err(), missing);
        assert_eq!(required("column", &Some("".into())), Ok(""), "an empty string is not missing");
    }

    #[test]
    fn integer_is_digits_with_an_optional_minus_in_64_bits() {
        for (text, value) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("0042", Ok(42)),
            ("-7", Ok(-7)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err("column is too large")),
            ("", Err("column is not an integer")),
            ("-", Err("column is not an integer")),
            ("--1", Err("column is not an integer")),
            ("+1", Err("column is not an integer")),
            ("1.0", Err("column is not an integer")),
            ("1e3", Err("column is not an integer")),
            ("0x10", Err("column is not an integer")),
            (" 1", Err("column is not an integer")),
        ] {
            assert_eq!(parse(integer, Some(text)), value.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn hex_bytes_have_exactly_their_length() {
        assert_eq!(parse(hex_bytes::<2>, Some("0xAb01")), Ok(HexBytes([0xab, 0x01])));
        for text in ["", "0x", "0xab", "0xab0102", "ab01"] {
            assert_eq!(parse(hex_bytes::<2>, Some(text)).unwrap_err(), "column is malformed", "{text:?}");
        }
    }

    #[test]
    fn base_units_keep_the_reason_of_their_parser() {
        assert_eq!(parse(base_units, Some("7")), Ok(BaseUnits(7)));
        assert_eq!(parse(base_units, Some("-7")).unwrap_err(), "column is negative");
    }
}
