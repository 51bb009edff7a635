//! Fields of a source's rows, kept exactly as the source sent them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// A field of any JSON type as a string; `None` if the field is null or missing.
///
/// A string is kept unquoted. A number or a boolean is kept as its JSON text: a uint256 that is sent as a number keeps
/// all digits. An object or an array is kept as its JSON text without whitespace. A field of an unexpected type
/// therefore never causes an error for its page: the stage layer validates the values row by row.
///
/// ```
/// use defi_shared::sources::Text;
/// let sent = r#"["x", 115792089237316195423570985008687907853269984665640564039457584007913129639935,
///     {"a": [1, 2]}, null]"#;
/// let fields: Vec<Text> = serde_json::from_str(sent)?;
/// let fields: Vec<Option<&str>> = fields.iter().map(Text::as_deref).collect();
/// let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
/// assert_eq!(fields, [Some("x"), Some(max), Some(r#"{"a":[1,2]}"#), None]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(pub Option<Arc<str>>);

impl Text {
    /// Returns the string, or `None` if the field is null or missing.
    #[must_use]
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Returns whether the field is null or missing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(Some(Arc::from(text)))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_deref().unwrap_or("null"))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Reads the JSON text instead of a parsed value: a parsed number would be converted to f64 and lose digits.
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Text(json_to_string(raw.get())))
    }
}

fn json_to_string(json: &str) -> Option<Arc<str>> {
    match json.as_bytes().first() {
        Some(b'n') => None,
        // JSON allows strings that are not valid Unicode (an unpaired surrogate). They are kept as sent, including the
        // quotes.
        Some(b'"') => Some(serde_json::from_str(json).unwrap_or_else(|_| Arc::from(json))),
        Some(b'{' | b'[') => Some(Arc::from(strip_whitespace(json))),
        _ => Some(Arc::from(json)),
    }
}

/// Removes whitespace outside strings. Parsing and serializing the JSON instead would change numbers.
fn strip_whitespace(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            if in_string {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                return true;
            }
            in_string = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

/// A row of [`Text`] fields.
pub(crate) trait TextRow {
    /// Calls a function with each field.
    fn for_each(&self, visit: &mut impl FnMut(&Text));

    /// Calls a function with each field whose value is likely to repeat in other rows.
    fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text));
}

/// Stores equal values of a page's rows only once: a page has many rows, but few distinct market ids, flags and names.
pub(crate) fn intern(rows: &mut [impl TextRow]) {
    let mut values: FxHashSet<Arc<str>> = FxHashSet::default();
    for row in rows {
        row.for_each_repeated(&mut |field| {
            let Some(value) = &field.0 else { return };
            match values.get(value) {
                Some(existing) => field.0 = Some(Arc::clone(existing)),
                None => drop(values.insert(Arc::clone(value))),
            }
        });
    }
}

/// The maximum length of a block hash and of the id of a deployment, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// The maximum number of rows of a response. A row of few bytes of JSON takes hundreds of bytes of memory.
const MAX_ROWS: usize = 100_000;

/// The rows of a response. A malformed row gives null fields, as in [`Lenient`].
#[derive(Debug, Default)]
pub(crate) struct Rows<T> {
    rows: Vec<T>,
    /// Whether the response has more than [`MAX_ROWS`] rows.
    too_many: bool,
}

impl<T> Rows<T> {
    /// Returns the rows.
    ///
    /// # Errors
    /// `CorruptData` if there are more than any page that is requested.
    pub(crate) fn into_vec(self) -> Result<Vec<T>> {
        match self.too_many {
            true => Err(Error::corrupt("the response has too many rows").with("limit", MAX_ROWS)),
            false => Ok(self.rows),
        }
    }
}

impl<'de, T: Default + for<'a> Deserialize<'a>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowsVisitor(PhantomData))
    }
}

struct RowsVisitor<T>(PhantomData<T>);

impl<'de, T: Default + for<'a> Deserialize<'a>> Visitor<'de> for RowsVisitor<T> {
    type Value = Rows<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Rows<T>, A::Error> {
        let mut rows = Vec::new();
        while rows.len() < MAX_ROWS {
            match items.next_element::<Lenient<T>>()? {
                Some(row) => rows.push(row.0),
                None => return Ok(Rows { rows, too_many: false }),
            }
        }
        let too_many = items.next_element::<IgnoredAny>()?.is_some();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Rows { rows, too_many })
    }
}

/// A row or a nested object that may be malformed. Anything other than an object of the expected fields is deserialized
/// as the default value, so that null or a malformed object gives null fields instead of an error for the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lenient<T>(pub T);

impl<'de, T: Default + for<'a> Deserialize<'a>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            // Serde would read the items of an array as the fields in order.
            return Ok(Lenient::default());
        }
        Ok(Lenient(serde_json::from_str(raw.get()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Row {
        a: Text,
        inner: Lenient<Inner>,
    }

    #[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
    #[serde(default)]
    struct Inner {
        id: Text,
    }

    fn text(json: &str) -> Option<String> {
        serde_json::from_str::<Text>(json).unwrap().as_deref().map(str::to_owned)
    }

    #[test]
    fn reads_every_json_type() {
        assert_eq!(text(r#""a \"b\" \u00e9""#).as_deref(), Some("a \"b\" é"));
        assert_eq!(text(" 1.50e3 ").as_deref(), Some("1.50e3"));
        assert_eq!(text("-0").as_deref(), Some("-0"));
        assert_eq!(text("true").as_deref(), Some("true"));
        assert_eq!(text("null"), None);
        assert_eq!(
            text(r#"{ "a b" : [ 1.0 , "x \" y \\" , null ] }"#).as_deref(),
            Some(r#"{"a b":[1.0,"x \" y \\",null]}"#)
        );
        assert_eq!(text(r#""\ud800""#).as_deref(), Some(r#""\ud800""#));
    }

    #[test]
    fn more_rows_than_a_page_are_not_kept() {
        let rows = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        let parse = |json: &str| serde_json::from_str::<Rows<Row>>(json).unwrap();
        assert_eq!(parse(&rows(MAX_ROWS)).into_vec().unwrap().len(), MAX_ROWS);
        let parsed = parse(&rows(MAX_ROWS + 2));
        assert_eq!(parsed.rows.len(), MAX_ROWS);
        assert_eq!(parsed.into_vec().unwrap_err().kind(), crate::Kind::CorruptData);
    }

    #[test]
    fn reads_malformed_rows_as_empty_rows() {
        let rows: Rows<Row> = serde_json::from_str(
            r#"[{"a":1,"inner":{"id":"x"}},{"inner":null},{"inner":"0x1"},{"inner":["x"]},{"inner":{"id":{}}},null,7,["a"]]"#,
        )
        .unwrap();
        let rows = rows.into_vec().unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.a.as_deref(), row.inner.0.id.as_deref())).collect();
        let empty = (None, None);
        assert_eq!(rows, [(Some("1"), Some("x")), empty, empty, empty, (None, Some("{}")), empty, empty, empty]);
    }

    proptest! {
        #[test]
        fn integers_keep_all_digits(digits in "-?[1-9][0-9]{0,90}") {
            prop_assert_eq!(text(&digits), Some(digits));
        }

        #[test]
        fn stripping_whitespace_keeps_objects_equal(key in ".*", value in ".*") {
            let object = serde_json::json!({ key: [value, { "n": 1 }] });
            let pretty = serde_json::to_string_pretty(&object).unwrap();
            prop_assert_eq!(text(&pretty), Some(object.to_string()));
        }
    }
}
