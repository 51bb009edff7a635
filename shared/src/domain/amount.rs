//! Token amounts in base units (for ETH: wei), and their conversion to whole tokens.

use alloy_primitives::U256;

/// Writes an integer with so many decimals as a decimal fraction, exactly.
#[must_use]
pub fn decimal(value: U256, decimals: usize) -> String {
    let digits = format!("{:0>width$}", value.to_string(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// An amount in base units, in the range of `DECIMAL(38,0)`: 0 ≤ amount < 10^38.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BaseUnits(pub i128);

/// The smallest integer that does not fit in `DECIMAL(38,0)`.
const LIMIT: i128 = 10i128.pow(38);

impl BaseUnits {
    /// Parses an integer, `-?[0-9]+`. The error is the reason for which a row with this value is rejected.
    ///
    /// # Errors
    /// The string is not an integer, is negative, or is 10^38 or more.
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
        BaseUnits::new(value).ok_or("is 10^38 or more")
    }

    /// Returns the amount, or `None` if it is out of range: negative, or 10^38 or more.
    #[must_use]
    pub fn new(amount: i128) -> Option<Self> {
        (0..LIMIT).contains(&amount).then_some(BaseUnits(amount))
    }

    /// Converts the amount to whole tokens of a token with `decimals` decimals.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "converted amounts are DOUBLE, like the features")]
    pub fn to_tokens(self, decimals: i32) -> f64 {
        self.0 as f64 / 10f64.powi(decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (value, decimals, text) in [
            (8250_u64, 2, "82.5"),
            (0, 18, "0"),
            (357_142_857_142_857, 18, "0.000357142857142857"),
            (2_000_000_000_000_000_000, 18, "2"),
            (7, 0, "7"),
        ] {
            assert_eq!(decimal(U256::from(value), decimals), text);
        }
    }

    #[test]
    fn largest_amount_has_38_digits() {
        assert_eq!(BaseUnits::parse(&"9".repeat(38)), Ok(BaseUnits(LIMIT - 1)));
        assert_eq!(BaseUnits::parse(&format!("1{}", "0".repeat(38))), Err("is 10^38 or more"));
        assert_eq!(BaseUnits::parse(&"9".repeat(78)), Err("is 10^38 or more"));
    }

    #[test]
    fn parse_accepts_digits_with_an_optional_minus() {
        assert_eq!(BaseUnits::parse("0042"), Ok(BaseUnits(42)));
        assert_eq!(BaseUnits::parse("-0"), Ok(BaseUnits(0)));
        assert_eq!(BaseUnits::parse("-7"), Err("is negative"));
        for text in ["", "-", "1.5", "+1", "1e3", " 1", "٣"] {
            assert_eq!(BaseUnits::parse(text), Err("is not an integer"), "{text:?}");
        }
    }

    #[test]
    fn amount_is_at_least_0_and_below_10_to_the_38() {
        for (amount, is_valid) in [(-1, false), (0, true), (LIMIT - 1, true), (LIMIT, false)] {
            assert_eq!(BaseUnits::new(amount), is_valid.then_some(BaseUnits(amount)), "{amount}");
        }
    }

    #[test]
    fn base_units_convert_to_whole_tokens() {
        assert_eq!(BaseUnits(1_500_000).to_tokens(6), 1.5);
        assert_eq!(BaseUnits(7).to_tokens(0), 7.0);
    }
}
