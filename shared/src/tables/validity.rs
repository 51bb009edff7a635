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
pub(super) fn hex_bytes<const N: usize>(column: &'static str, text: &Option<Arc<str>>) -> Result<HexBytes<N>, Reason> {
    HexBytes::parse(required(column, text)?).ok_or(Reason::new(column, "is malformed"))
}

/// Parses an integer, `-?[0-9]+`, that fits in 64 bits.
pub(super) fn integer(column: &'static str, text: &Option<Arc<str>>) -> Result<i64, Reason> {
    let text = required(column, text)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::new(column, "is not an integer"));
    }
    text.parse().map_err(|_| Reason::new(column, "is too large"))
}

/// Parses an amount in base units.
pub(super) fn base_units(column: &'static str, text: &Option<Arc<str>>) -> Result<BaseUnits, Reason> {
    BaseUnits::parse(required(column, text)?).map_err(|problem| Reason::new(column, problem))
}
