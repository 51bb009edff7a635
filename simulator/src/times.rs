//! The timestamps of recorded rows, which may have any form of a time.

use std::borrow::Cow;
use std::cmp::Ordering;

use defi_shared::domain::parse_time;
use jiff::Timestamp;

/// Parses a timestamp as a database does: a day stands for its midnight.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    parse_time(text).or_else(|| parse_time(&format!("{text}T00:00:00Z")))
}

/// Compares two timestamps by time, whatever their forms. Text that is not a time is greater than all times.
pub(crate) fn compare_times(one: &str, other: &str) -> Ordering {
    sort_key(one).cmp(&sort_key(other))
}

/// Returns the time as `2023-01-01T00:00:11Z`, and its nanoseconds.
fn sort_key(text: &str) -> (Cow<'_, str>, i32) {
    let bytes = text.as_bytes();
    if bytes.len() == 20 && bytes.get(10) == Some(&b'T') && bytes.ends_with(b"Z") {
        // Nearly all timestamps have this form, which sorts by time.
        return (Cow::Borrowed(text), 0);
    }
    let time = parse(text);
    match time.and_then(|time| Some((time, Timestamp::from_second(time.as_second()).ok()?))) {
        Some((time, second)) => (Cow::Owned(second.to_string()), time.subsec_nanosecond()),
        None => (Cow::Owned(format!("~{text}")), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_compare_by_time_whatever_their_forms() {
        let ascending = [
            "2022-12-31T23:59:59Z",
            "2023-01-01",
            "2023-01-01T00:00:11Z",
            "2023-01-01T00:00:11.25Z",
            "2023-01-01 00:00:11.5",
            "2023-01-01T02:00:12+02:00",
            "1672531213",
            "yesterday",
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(compare_times(one, other), index.cmp(&other_index), "{one} {other}");
            }
        }
        assert_eq!(compare_times("2023-01-01T00:00:11Z", "2023-01-01 00:00:11.000"), Ordering::Equal);
    }
}
