//! Human-readable formats for numbers, times and durations.

use jiff::{Span, SpanRound, Unit};

/// Formats a number with thousands separators: `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Formats a time in epoch seconds as UTC: `1970-01-01 00:00:00`.
#[must_use]
pub fn utc_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.strftime("%F %T").to_string())
}

/// Formats a duration in seconds: `3d 4h 5m`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let span = Span::new().try_seconds(seconds).and_then(|span| span.round(days));
    span.map_or_else(|_| format!("{seconds}s"), |span| format!("{span:#}"))
}

/// Formats a number with four significant digits: `0.001234`, `12.34`, `1,234,567`. Very large and very small numbers
/// are in scientific notation.
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

/// Formats a fraction as a percentage: `12.3 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent == 0.0 || percent >= 99.95 => format!("{percent:.0} %"),
        percent if percent < 0.1 => format!("{} %", significant(percent)),
        percent => format!("{percent:.1} %"),
    }
}

/// Formats a size in bytes: `1.5 kB`.
#[must_use]
pub fn bytes(size: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, unit)| size as f64 >= *unit);
    unit.map_or_else(|| format!("{size} B"), |(name, unit)| format!("{:.1} {name}", size as f64 / unit))
}

/// Formats a number for an axis label: `50k`, `2.5M`, `0.01`.
#[must_use]
pub fn abbreviated(number: f64) -> String {
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
    fn formats_times_in_utc_and_durations_in_days() {
        assert_eq!(
            (utc_time(0), utc_time(86_399)),
            ("1970-01-01 00:00:00".to_owned(), "1970-01-01 23:59:59".to_owned())
        );
        assert_eq!((duration(0), duration(93_784)), ("0s".to_owned(), "1d 2h 3m 4s".to_owned()));
    }

    #[test]
    fn groups_digits_by_thousands() {
        let formatted: Vec<_> = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped).into();
        assert_eq!(formatted, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn formats_four_significant_digits() {
        let formatted: Vec<_> =
            [0.0, 0.001_234_56, 12.3456, -1_234.56, 1_234_567.8, 1.5, 1e6, 2e-7].map(significant).into();
        assert_eq!(formatted, ["0", "0.001235", "12.35", "−1,235", "1,234,568", "1.5", "1,000,000", "2.00e-7"]);
    }

    #[test]
    fn formats_percentages_sizes_and_axis_labels() {
        assert_eq!([0.0, 0.0004, 0.1234, 0.9996, 1.0].map(percent), ["0 %", "0.04 %", "12.3 %", "100 %", "100 %"]);
        assert_eq!([0, 999, 1_500, 2_340_000].map(bytes), ["0 B", "999 B", "1.5 kB", "2.3 MB"]);
        assert_eq!([0.0, 0.5, 50_000.0, 2.5e6, -1e3].map(abbreviated), ["0", "0.5", "50k", "2.5M", "−1k"]);
    }
}
