//! What makes an input row valid, field by field. A row that is not goes to quarantine with the reason.

use std::fmt;
use std::sync::Arc;

use crate::domain::{BaseUnits, HexBytes};

/// Why a row is bad: a column and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    column: &'static str,
    fault: &'static str,
}

impl Reason {
    /// A fault of a column, such as `is missing`.
    #[must_use]
    pub fn new(column: &'static str, fault: &'static str) -> Self {
        Reason { column, fault }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.column, self.fault)
    }
}

/// The text of a column that must be there.
pub(super) fn present<'a>(column: &'static str, text: &'a Option<Arc<str>>) -> Result<&'a str, Reason> {
    text.as_deref().ok_or(Reason::new(column, "is missing"))
}

/// `0x` and hex digits of the right number.
pub(super) fn address<const N: usize>(column: &'static str, text: &Option<Arc<str>>) -> Result<HexBytes<N>, Reason> {
    HexBytes::parse(present(column, text)?).ok_or(Reason::new(column, "is malformed"))
}

/// An integer, `-?[0-9]+`, that fits 64 bits.
pub(super) fn integer(column: &'static str, text: &Option<Arc<str>>) -> Result<i64, Reason> {
    let text = present(column, text)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::new(column, "is not an integer"));
    }
    text.parse().map_err(|_| Reason::new(column, "is too large"))
}

/// An amount in base units.
pub(super) fn base_units(column: &'static str, text: &Option<Arc<str>>) -> Result<BaseUnits, Reason> {
    BaseUnits::parse(present(column, text)?).map_err(|fault| Reason::new(column, fault))
}
