//! Amounts in base units (wei and the like), and whole tokens.

/// An amount in base units: 0 ≤ amount < 10^38, what `DECIMAL(38,0)` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BaseUnits(pub i128);

/// The first amount that does not fit `DECIMAL(38,0)`.
const LIMIT: i128 = 10i128.pow(38);

impl BaseUnits {
    /// Reads an integer, `-?[0-9]+`. Errors say in a few words why a row with it is bad.
    ///
    /// # Errors
    /// A text that is no integer, a negative one, one of 10^38 or more.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("is not an integer");
        }
        let significant = digits.trim_start_matches('0');
        if text.starts_with('-') && !significant.is_empty() {
            return Err("is negative");
        }
        if significant.len() > 38 {
            return Err("is 10^38 or more");
        }
        let value = significant.bytes().fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        debug_assert!(value < LIMIT);
        Ok(BaseUnits(value))
    }

    /// An amount that may be anything: `None` below 0 and from 10^38 on.
    #[must_use]
    pub fn accepted(amount: i128) -> Option<Self> {
        (0..LIMIT).contains(&amount).then_some(BaseUnits(amount))
    }

    /// The amount in whole tokens of `decimals` decimals.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "amounts are DOUBLE from here on, as the features are")]
    pub fn to_tokens(self, decimals: i32) -> f64 {
        self.0 as f64 / 10f64.powi(decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_amount_has_38_digits() {
        assert_eq!(BaseUnits::parse(&"9".repeat(38)), Ok(BaseUnits(LIMIT - 1)));
        assert_eq!(BaseUnits::parse(&format!("1{}", "0".repeat(38))), Err("is 10^38 or more"));
        assert_eq!(BaseUnits::parse(&"9".repeat(78)), Err("is 10^38 or more"));
    }

    #[test]
    fn an_integer_is_digits_with_an_optional_minus() {
        assert_eq!(BaseUnits::parse("0042"), Ok(BaseUnits(42)));
        assert_eq!(BaseUnits::parse("-0"), Ok(BaseUnits(0)));
        assert_eq!(BaseUnits::parse("-7"), Err("is negative"));
        for text in ["", "-", "1.5", "+1", "1e3", " 1", "٣"] {
            assert_eq!(BaseUnits::parse(text), Err("is not an integer"), "{text:?}");
        }
    }

    #[test]
    fn base_units_become_tokens() {
        assert_eq!(BaseUnits(1_500_000).to_tokens(6), 1.5);
        assert_eq!(BaseUnits(7).to_tokens(0), 7.0);
    }
}
