//! Reads JSON without changing a number.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A JSON value in which every number has the digits of its text. A number other than an integer of 64 bits is read as a
/// string, the form in which both APIs send large integers and decimals: as a number it would become a float.
pub(super) struct Exact(pub Value);

/// A JSON object of [`Exact`] values.
pub(super) struct ExactObject(pub Map<String, Value>);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let value = match json.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<ExactObject>(json).map(|object| Value::Object(object.0)),
            Some(b'[') => serde_json::from_str::<Vec<Exact>>(json)
                .map(|values| Value::Array(values.into_iter().map(|value| value.0).collect())),
            _ => serde_json::from_str(json).map(|value| match value {
                Value::Number(number) if number.is_f64() => Value::from(json),
                other => other,
            }),
        };
        value.map(Exact).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ExactObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = ExactObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ExactObject, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Exact>()? {
                    object.insert(name, value.0);
                }
                Ok(ExactObject(object))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exact(json: &str) -> Value {
        serde_json::from_str::<Exact>(json).unwrap().0
    }

    #[test]
    fn every_number_keeps_its_digits() {
        let uint256 = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        for text in ["18446744073709551616", "-9223372036854775809", uint256, "1401.484601029662826477", "1.50", "1e3"]
        {
            assert_eq!(exact(text), json!(text));
            assert_eq!(exact(&format!(r#"{{"a": [ {text} ]}}"#)), json!({"a": [text]}));
        }
    }

    #[test]
    fn other_values_are_unchanged() {
        for value in [
            json!(u64::MAX),
            json!(i64::MIN),
            json!({"b": {"a": [0, -1, true, null, "1.5", {}]}, "a": []}),
            json!("\"{1.5"),
        ] {
            assert_eq!(exact(&value.to_string()), value);
            assert_eq!(exact(&serde_json::to_string_pretty(&value).unwrap()), value);
        }
        for invalid in ["{\"a\": 1.2.3}", "{\"a\": 01}", "[1", "{\"a\"}", ""] {
            assert!(serde_json::from_str::<Exact>(invalid).is_err(), "{invalid}");
        }
    }
}
