//! Numbers as people read them.

/// Digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with four significant digits: `0.001234`, `12.34`, `1,234,567`; very large and very small ones as powers of ten.
#[must_use]
pub fn significant(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        return "0".to_owned();
    }
    if !number.is_finite() || !(1e-4..1e15).contains(&size) {
        return format!("{number:.2e}");
    }
    let sign = if number < 0.0 { "−" } else { "" };
    let digits = size.log10().floor();
    let decimals = (3.0 - digits).clamp(0.0, 8.0) as usize;
    let text = format!("{size:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// A share of one as a percentage.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent == 0.0 || percent >= 99.95 => format!("{percent:.0} %"),
        percent if percent < 0.1 => format!("{} %", significant(percent)),
        percent => format!("{percent:.1} %"),
    }
}

/// A size in bytes.
#[must_use]
pub fn bytes(size: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, unit)| size as f64 >= *unit);
    unit.map_or_else(|| format!("{size} B"), |(name, unit)| format!("{:.1} {name}", size as f64 / unit))
}

/// A number that fits below an axis: `50k`, `2.5M`, `0.01`.
#[must_use]
pub fn short(number: f64) -> String {
    let size = number.abs();
    let units = [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)];
    if size >= 1e15 {
        return format!("{number:.0e}");
    }
    match units.into_iter().find(|(_, unit)| size >= *unit) {
        Some((name, unit)) => format!("{}{name}", significant(number / unit)),
        None => significant(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups() {
        let shown: Vec<_> = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped).into();
        assert_eq!(shown, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn numbers_keep_four_digits() {
        let shown: Vec<_> =
            [0.0, 0.001_234_56, 12.3456, -1_234.56, 1_234_567.8, 1.5, 1e6, 2e-7].map(significant).into();
        assert_eq!(shown, ["0", "0.001235", "12.35", "−1,235", "1,234,568", "1.5", "1,000,000", "2.00e-7"]);
    }

    #[test]
    fn shares_and_sizes() {
        assert_eq!([0.0, 0.0004, 0.1234, 0.9996, 1.0].map(percent), ["0 %", "0.04 %", "12.3 %", "100 %", "100 %"]);
        assert_eq!([0, 999, 1_500, 2_340_000].map(bytes), ["0 B", "999 B", "1.5 kB", "2.3 MB"]);
        assert_eq!([0.0, 0.5, 50_000.0, 2.5e6, -1e3].map(short), ["0", "0.5", "50k", "2.5M", "−1k"]);
    }
}
