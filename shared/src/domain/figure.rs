//! Numbers in texts for people.

use std::fmt;

/// The size from which on a number is in scientific form.
const LARGE: f64 = 1e15;

/// The size below which a number is in scientific form.
const SMALL: f64 = 1e-5;

/// A number that is displayed briefly, whatever its size: a very large or very small number is in scientific form. Without
/// a precision every digit is displayed. With one, a very small number is rounded like any other.
///
/// ```
/// use defi_shared::domain::Figure;
/// assert_eq!(format!("{} {} {}", Figure(0.25), Figure(1e308), Figure(2.5e-9)), "0.25 1e308 2.5e-9");
/// assert_eq!(format!("{:.2} {:.2} {:.2}", Figure(0.25), Figure(1e308), Figure(2.5e-9)), "0.25 1.00e308 0.00");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure(pub f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        let is_small = size < SMALL && size > 0.0 && f.precision().is_none();
        if is_small || size.is_finite() && size >= LARGE {
            fmt::LowerExp::fmt(&self.0, f)
        } else {
            fmt::Display::fmt(&self.0, f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_any_size_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (1e-5, "0.00001"),
            (9.9e-6, "9.9e-6"),
            (999_999_999_999_999.0, "999999999999999"),
            (1e15, "1e15"),
            (-f64::MAX, "-1.7976931348623157e308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Figure(number).to_string(), text);
        }
    }

    #[test]
    fn figures_with_a_precision_are_short() {
        let rounded = [0.0, 1.0 / 3.0, 1e-9, 123_456.789, 1.0 / 3.0 * 1e300, f64::NEG_INFINITY];
        let rounded = rounded.map(|number| format!("{:.3}", Figure(number)));
        assert_eq!(rounded, ["0.000", "0.333", "0.000", "123456.789", "3.333e299", "-inf"]);
    }
}
