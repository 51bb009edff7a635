//! Numbers, times and lengths of time as people read them.

use jiff::{Span, SpanRound, Unit};

/// Digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A time (epoch seconds) as people write it, in UTC.
#[must_use]
pub fn utc_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.strftime("%F %T").to_string())
}

/// A length of time as people say it, such as `3d 4h 5m`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let span = Span::new().try_seconds(seconds).and_then(|span| span.round(days));
    span.map_or_else(|_| format!("{seconds}s"), |span| format!("{span:#}"))
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
    fn times_are_in_utc_and_lengths_in_days() {
        assert_eq!(
            (utc_time(0), utc_time(86_399)),
            ("1970-01-01 00:00:00".to_owned(), "1970-01-01 23:59:59".to_owned())
        );
        assert_eq!((duration(0), duration(93_784)), ("0s".to_owned(), "1d 2h 3m 4s".to_owned()));
    }

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
