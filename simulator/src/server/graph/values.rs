//! Validation and comparison of values of the subgraph's types.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

/// Validates a filter value of type `Bytes` as graph-node does, and returns it in the format of ids: lower case with
/// `0x`.
///
/// Only the part of a position's id before the first dash (`{account}-{market}-{side}-{counter}`) is validated as hex.
/// The empty string is valid and sorts first.
pub(super) fn parse_bytes(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find('-').unwrap_or(digits.len());
    let (hex, rest) = digits.split_at(end);
    let error = |details: String| Err(format!("Failed to decode `Bytes` value: `{details}`"));
    if hex.len() % 2 == 1 {
        return error("Odd number of digits".to_owned());
    }
    if let Some((position, letter)) = hex.chars().enumerate().find(|(_, letter)| !letter.is_ascii_hexdigit()) {
        return error(format!("Invalid character {letter:?} at position {position}"));
    }
    if text.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("0x{}{rest}", hex.to_ascii_lowercase()))
}

/// Returns a value as text, for comparisons: the content of a string, else the JSON. So a row whose id is not a string
/// can be sorted, too.
pub(super) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Compares two values as PostgreSQL does: numbers by value, all others by the bytes of their text.
pub(super) fn compare(one: &Value, other: &Value, as_numbers: bool) -> Ordering {
    let (one, other) = (text_of(one), text_of(other));
    match (as_numbers, Decimal::parse(&one), Decimal::parse(&other)) {
        (true, Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_bytes().cmp(other.as_bytes()),
    }
}

/// A decimal number of any length, without leading and trailing zeros.
#[derive(PartialEq, Eq)]
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Decimal<'a>> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit());
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        is_number.then_some(Decimal { is_negative: is_negative && !is_zero, whole, fraction })
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let absolute = |one: &Self, other: &Self| {
            let whole = one.whole.len().cmp(&other.whole.len()).then_with(|| one.whole.cmp(other.whole));
            whole.then_with(|| one.fraction.cmp(other.fraction))
        };
        match (self.is_negative, other.is_negative) {
            (false, false) => absolute(self, other),
            (true, true) => absolute(other, self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_must_be_hex_of_even_length() {
        assert_eq!(parse_bytes("").unwrap(), "");
        assert_eq!(parse_bytes("0xAb").unwrap(), "0xab");
        assert_eq!(parse_bytes("ab").unwrap(), "0xab");
        assert_eq!(parse_bytes("0xAB-0xCD-COLLATERAL-0").unwrap(), "0xab-0xCD-COLLATERAL-0");
        assert_eq!(parse_bytes("0xabc").unwrap_err(), "Failed to decode `Bytes` value: `Odd number of digits`");
        let invalid = parse_bytes("0xag").unwrap_err();
        assert_eq!(invalid, "Failed to decode `Bytes` value: `Invalid character 'g' at position 1`");
    }

    #[test]
    fn numbers_of_any_length_compare_by_value() {
        let ordered = ["-20", "-3.5", "-3", "0", "0.5", "2", "10", "10.01", "340282366920938463463374607431768211456"];
        for pair in ordered.windows(2) {
            assert_eq!(compare(&json!(pair[0]), &json!(pair[1]), true), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare(&json!("-0"), &json!("0.0"), true), Ordering::Equal);
        assert_eq!(compare(&json!("007"), &json!(7), true), Ordering::Equal);
        assert_eq!(compare(&json!("10"), &json!("9"), false), Ordering::Less);
    }
}
