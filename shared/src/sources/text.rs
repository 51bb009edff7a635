//! One field of a source's row, kept as the source said it.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A field as text, whatever its JSON type was; `None` is null or missing.
///
/// A string is itself. A number or a boolean is its JSON text exactly as sent: a uint256 that comes as a bare number keeps
/// every digit. An object or an array is its JSON text without white space. A field of an unexpected type therefore never
/// fails a page: whether a value makes sense is for the stage layer to say, row by row.
///
/// ```
/// use defi_shared::sources::Text;
/// let sent = r#"["x", 115792089237316195423570985008687907853269984665640564039457584007913129639935, {"a": [1, 2]}, null]"#;
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
    /// The text, or `None` for null and missing.
    #[must_use]
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether the field was null or missing.
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
        // The raw text and not a parsed value: a parsed number would go through f64 and lose digits.
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Text(text_of(raw.get())))
    }
}

fn text_of(json: &str) -> Option<Arc<str>> {
    match json.as_bytes().first() {
        Some(b'n') => None,
        // A string that JSON allows and Unicode doesn't (half a surrogate pair) stays as it was sent, quotes included.
        Some(b'"') => Some(serde_json::from_str(json).unwrap_or_else(|_| Arc::from(json))),
        Some(b'{' | b'[') => Some(Arc::from(without_white_space(json))),
        _ => Some(Arc::from(json)),
    }
}

/// Drops white space outside strings. Parsing and writing again would change numbers.
fn without_white_space(json: &str) -> String {
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

/// A row whose fields are texts.
pub(crate) trait Texts {
    /// Hands over each field that another row may well have too.
    fn each_text(&mut self, take: &mut impl FnMut(&mut Text));
}

/// Keeps a text that several rows of a page have once: of a market's id, a flag or a name there are few, of rows there are many.
pub(crate) fn share(rows: &mut [impl Texts]) {
    let mut texts: FxHashSet<Arc<str>> = FxHashSet::default();
    for row in rows {
        row.each_text(&mut |field| {
            let Some(text) = &field.0 else { return };
            match texts.get(text) {
                Some(known) => field.0 = Some(Arc::clone(known)),
                None => drop(texts.insert(Arc::clone(text))),
            }
        });
    }
}

/// A nested object or a row that may have any shape: what isn't an object of the wanted fields is an empty one, so that
/// a null or malformed object gives null fields and not a failed page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lenient<T>(pub T);

impl<'de, T: Default + for<'a> Deserialize<'a>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            // Serde would read an array as the fields in order.
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
    fn every_json_type_has_a_text() {
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
    fn a_row_of_any_shape_is_a_row() {
        let rows: Vec<Lenient<Row>> = serde_json::from_str(
            r#"[{"a":1,"inner":{"id":"x"}},{"inner":null},{"inner":"0x1"},{"inner":["x"]},{"inner":{"id":{}}},null,7,["a"]]"#,
        )
        .unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.0.a.as_deref(), row.0.inner.0.id.as_deref())).collect();
        let empty = (None, None);
        assert_eq!(rows, [(Some("1"), Some("x")), empty, empty, empty, (None, Some("{}")), empty, empty, empty]);
    }

    proptest! {
        #[test]
        fn an_integer_keeps_its_digits(digits in "-?[1-9][0-9]{0,90}") {
            prop_assert_eq!(text(&digits), Some(digits));
        }

        #[test]
        fn a_compacted_object_says_the_same(key in ".*", value in ".*") {
            let object = serde_json::json!({ key: [value, { "n": 1 }] });
            let pretty = serde_json::to_string_pretty(&object).unwrap();
            prop_assert_eq!(text(&pretty), Some(object.to_string()));
        }
    }
}
