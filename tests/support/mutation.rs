//! Mutated inputs: valid ones with some changes of their structure or bytes, and sometimes arbitrary ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

/// Strings that parsers often handle incorrectly.
const TRICKY_WORDS: &[&str] = &[
    "null",
    "true",
    "-0",
    "-1",
    "0",
    "1e999",
    "-1e-999",
    "1e5",
    "9223372036854775808",
    "18446744073709551616",
    "NaN",
    "nan",
    "inf",
    "\"\"",
    "\"0x\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "{}",
    "[]",
    "[[[[[[[[",
    "}}",
    "\"",
    "\\",
    ",",
    ":",
    "..",
    "../",
    "/",
    "=",
    "\n",
    "0x00000000000000000000000000000000000000ff",
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "99999999999999999999999999999999999999",
    "2023-02-30",
    "9999-12-31",
    "-9999-01-01",
    "2023-01-01",
    "2023-01-01T23:59:60Z",
    "\u{feff}",
    "٣",
    "ﬀ",
    "\u{0}",
    "'",
    "s3://",
    "http://127.0.0.1",
    "https://user@host",
    "[::1]",
];

/// A change of a byte string.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Overwrite(Index, Vec<u8>),
    Insert(Index, &'static str),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
    Word(Index, &'static str),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 1u8..).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        2 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Edit::Overwrite(at, bytes)),
        2 => (at(), select(TRICKY_WORDS)).prop_map(|(at, word)| Edit::Insert(at, word)),
        2 => (at(), 1usize..40).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => (at(), 1usize..200).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => at().prop_map(Edit::Cut),
        4 => (at(), select(TRICKY_WORDS)).prop_map(|(at, word)| Edit::Word(at, word)),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let end = |start: usize, count: usize| (start + count).min(length);
        match self {
            Edit::Flip(at, mask) => bytes[at.index(length)] ^= mask,
            Edit::Overwrite(at, new) => {
                let start = at.index(length);
                bytes.splice(start..end(start, new.len()), new.iter().copied());
            }
            Edit::Insert(at, word) => {
                let start = at.index(length);
                bytes.splice(start..start, word.bytes());
            }
            Edit::Remove(at, count) => {
                let start = at.index(length);
                bytes.drain(start..end(start, *count));
            }
            Edit::Repeat(at, count) => {
                let start = at.index(length);
                let repeated = bytes[start..end(start, *count)].to_vec();
                bytes.splice(start..start, repeated);
            }
            Edit::Cut(at) => bytes.truncate(at.index(length)),
            Edit::Word(at, word) => {
                let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
                let start = at.index(length);
                let from = bytes[..start].iter().rposition(|byte| !is_word(*byte)).map_or(0, |before| before + 1);
                let to = bytes[start..].iter().position(|byte| !is_word(*byte)).map_or(length, |after| start + after);
                bytes.splice(from..to, word.bytes());
            }
        }
    }
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    edits.iter().for_each(|edit| edit.apply(&mut bytes));
    bytes
}

/// Returns one of the valid inputs with some edits, or arbitrary bytes.
pub fn mutated_bytes(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        15 => (select(valid), vec(edit(), 0..4)).prop_map(|(valid, edits)| edited(valid, &edits)),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// Returns one of the valid strings with some edits, or an arbitrary string.
pub fn mutated_string(valid: &'static [&'static str]) -> impl Strategy<Value = String> {
    let mutated = mutated_bytes(valid.iter().map(|text| text.as_bytes().to_vec()).collect());
    prop_oneof![7 => mutated.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()), 1 => ".{0,60}"]
}

/// A change of a JSON value that keeps it valid JSON.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove(Index),
    Repeat(Index, usize),
    Rename(Index, String),
    Nest(usize),
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(TRICKY_WORDS).prop_map(|word| serde_json::from_str(word).unwrap_or_else(|_| Value::from(word))),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9]{1,90}".prop_map(Value::from),
        "0x[0-9a-fA-F]{0,66}".prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => any_value().prop_map(Change::Replace),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), 1usize..5).prop_map(|(at, times)| Change::Repeat(at, times)),
        1 => (any::<Index>(), ".{0,12}").prop_map(|(at, name)| Change::Rename(at, name)),
        1 => (1usize..200).prop_map(Change::Nest),
    ]
}

impl Change {
    fn apply(&self, value: &mut Value) {
        match (self, value) {
            (Change::Replace(new), value) => value.clone_from(new),
            (Change::Nest(depth), value) => {
                *value = (0..*depth).fold(value.take(), |inner, _| Value::Array(vec![inner]));
            }
            (Change::Remove(at), Value::Array(items)) if !items.is_empty() => drop(items.remove(at.index(items.len()))),
            (Change::Repeat(at, times), Value::Array(items)) if !items.is_empty() => {
                let item = items[at.index(items.len())].clone();
                items.extend(std::iter::repeat_n(item, *times));
            }
            (Change::Remove(at), Value::Object(fields)) if !fields.is_empty() => {
                let name = fields.keys().nth(at.index(fields.len())).cloned();
                name.map(|name| fields.remove(&name));
            }
            (Change::Rename(at, new), Value::Object(fields)) if !fields.is_empty() => {
                let name = fields.keys().nth(at.index(fields.len())).cloned();
                let field = name.and_then(|name| fields.remove(&name));
                fields.insert(new.clone(), field.unwrap_or_default());
            }
            _ => {}
        }
    }
}

/// Returns the number of nodes of a JSON value.
fn node_count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(node_count).sum(),
        Value::Object(fields) => fields.values().map(node_count).sum(),
        _ => 0,
    }
}

/// Applies a change to the node with a depth-first index. Returns `None` when done, or else the index that remains
/// after this subtree.
fn change_at(value: &mut Value, index: usize, change: &Change) -> Option<usize> {
    if index == 0 {
        change.apply(value);
        return None;
    }
    let mut index = index - 1;
    let children: &mut dyn Iterator<Item = &mut Value> = match value {
        Value::Array(items) => &mut items.iter_mut(),
        Value::Object(fields) => &mut fields.values_mut(),
        _ => &mut std::iter::empty(),
    };
    for child in children {
        index = change_at(child, index, change)?;
    }
    Some(index)
}

/// Returns one of the valid documents with some changes. It is still valid JSON.
pub fn mutated_json(valid: Vec<Value>) -> impl Strategy<Value = Value> {
    (select(valid), vec((any::<Index>(), change()), 0..4)).prop_map(|(mut value, changes)| {
        for (at, change) in changes {
            let index = at.index(node_count(&value));
            change_at(&mut value, index, &change);
        }
        value
    })
}

/// Returns the text of a document from [`mutated_json`], sometimes with edits: mostly valid JSON.
pub fn mutated_json_text(valid: Vec<Value>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop_oneof![2 => Just(Vec::new()), 1 => vec(edit(), 1..3)];
    (mutated_json(valid), edits).prop_map(|(value, edits)| edited(value.to_string().into_bytes(), &edits))
}
