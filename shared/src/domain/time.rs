//! Points in time, as the sources, recordings and people write them.

use jiff::Timestamp;

use super::Day;

/// The characters of a date and a time of day. `0` stands for any digit, `T` also for `t` or a blank.
const DATE_AND_TIME: &[u8; 19] = b"0000-00-00T00:00:00";

/// Parses a point in time, or returns `None` for any other string. A time without a zone is in UTC.
///
/// These are the forms, everywhere that a time is read:
/// - a date and a time of day, separated by `T` or a blank, with or without a fraction of a second, and with or without
///   a zone: `Z` or an offset, which is converted to UTC;
/// - seconds since 1970-01-01T00:00:00Z, of the years 2015 to 2199.
///
/// ```
/// use defi_shared::domain::parse_time;
/// let forms = ["2023-01-01T00:10:00Z", "2023-01-01 00:10:00.000", "2023-01-01T02:10:00+02:00", "1672531800"];
/// assert!(forms.iter().all(|form| parse_time(form).is_some_and(|time| time.as_second() == 1_672_531_800)));
/// assert_eq!(parse_time("2023-01-01"), None);
/// ```
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let Some((date_and_time, rest)) = text.split_at_checked(DATE_AND_TIME.len()) else { return parse_epoch(text) };
    let is_well_formed = date_and_time.bytes().zip(DATE_AND_TIME).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == *other,
    });
    // Excludes a leap second, which would become the second before, and a zone in brackets, which would be ignored.
    let is_leap_second = date_and_time.ends_with(":60");
    if !is_well_formed || is_leap_second || !rest.bytes().all(|byte| byte.is_ascii_digit() || b".+-:Zz".contains(&byte))
    {
        return None;
    }
    let has_zone = rest.contains(['+', '-', 'Z', 'z']);
    if has_zone { text.parse().ok() } else { format!("{text}Z").parse().ok() }
}

/// Parses epoch seconds of an accepted year. A number outside them has another unit, such as milliseconds, or is no time,
/// such as 20230101.
fn parse_epoch(text: &str) -> Option<Timestamp> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|_| is_number)?;
    Day::try_from_epoch_seconds(seconds)?;
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(text: &str) -> Option<i64> {
        parse_time(text).map(Timestamp::as_millisecond)
    }

    #[test]
    fn each_form_is_read_as_its_time() {
        for (text, expected) in [
            ("2023-01-01T00:00:11Z", 1_672_531_211_000),
            ("2023-01-01t00:00:11z", 1_672_531_211_000),
            ("2023-01-01 00:00:11Z", 1_672_531_211_000),
            ("2023-01-01T00:00:11", 1_672_531_211_000),
            ("2023-01-01 00:00:11", 1_672_531_211_000),
            ("2023-01-01T00:00:11.000Z", 1_672_531_211_000),
            ("2023-01-01T00:00:11.25", 1_672_531_211_250),
            ("2023-01-01 00:00:11.250000", 1_672_531_211_250),
            ("2023-01-01T02:00:11+02:00", 1_672_531_211_000),
            ("2022-12-31 19:00:11.5-05:00", 1_672_531_211_500),
            ("2023-01-01 00:00:11+00", 1_672_531_211_000),
            ("1672531211", 1_672_531_211_000),
        ] {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn any_other_form_is_refused() {
        for text in [
            "",
            "yesterday",
            "2023-01-01",
            "2023-01-01T00:00",
            "20230101T000011Z",
            "20230101",
            "2023-02-30T00:00:11Z",
            "2023-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "2023-01-01T00:00:11Z+02:00",
            "2023-01-01T00:00:11+2:00",
            "2023-01-01T00:00:11,5Z",
            "2023-01-01T00:00:11.Z",
            "2023-01-01T00:00:11[Europe/Berlin]",
            "2023-01-01T00:00:11+02:00[Europe/Berlin]",
            "2023-01-01T00:00:11 UTC",
            "2023-01-01T00:00:11+99:00",
            "2023-01-01T00:00:11-",
            " 2023-01-01T00:00:11Z",
            "+1672531211",
            "-1672531211",
            "1672531211.5",
            "1672531211000",
            "１672531211",
            "11",
        ] {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn epoch_seconds_are_of_the_years_of_days() {
        let time = |seconds: i64| parse_time(&seconds.to_string()).map(|time| time.to_string());
        assert_eq!(time(1_420_070_400).as_deref(), Some("2015-01-01T00:00:00Z"));
        assert_eq!(time(7_258_118_399).as_deref(), Some("2199-12-31T23:59:59Z"));
        assert_eq!((time(1_420_070_399), time(7_258_118_400), time(i64::MAX)), (None, None, None));
    }
}
