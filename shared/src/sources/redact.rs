//! Finds API keys in what a source sends, in the forms in which a server may repeat them.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::limits::Secret;
use crate::error::{Error, Result};

/// The minimum length of a key that is looked for. The data of a source may contain a shorter one by chance.
const MIN_KEY_BYTES: usize = 8;

/// The length of the part of a key that counts as the key: a server may truncate what it repeats.
const PART_BYTES: usize = 16;

/// How often an answer is decoded: a URL with a percent-encoded key may be within an escaped string of JSON.
const MAX_DECODINGS: usize = 3;

/// How an answer repeats a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// It does not.
    No,
    /// In forms that are now replaced by `***`.
    Redacted,
    /// In a form that can be recognized, but not replaced.
    Encoded,
}

/// Finds the API keys of a source.
///
/// A key is found in upper or lower case, as it is or in base64, and if the answer encodes single characters
/// (`\u0061`, `%61`, `&#97;`). Parts of at least [`PART_BYTES`] bytes count as the key. Other forms (hexadecimal digits,
/// UTF-16) are not looked for: no server repeats a request so.
#[derive(Debug)]
pub(crate) struct KeyFinder(Option<AhoCorasick>);

impl KeyFinder {
    /// Creates a finder of these keys, and of names that are secret only as a whole: parts of a host are no secret.
    /// Those that are shorter than [`MIN_KEY_BYTES`] are not looked for.
    ///
    /// # Errors
    /// `BadInput` if the keys are too long.
    pub(crate) fn new<'a>(keys: impl Iterator<Item = &'a Secret>, names: &[Secret]) -> Result<Self> {
        let is_long = |key: &&[u8]| key.len() >= MIN_KEY_BYTES;
        let forms: Vec<Vec<u8>> = keys.map(|key| key.expose().as_bytes()).filter(is_long).flat_map(forms).collect();
        let parts = |form: &Vec<u8>| -> Vec<_> {
            form.windows(form.len().min(PART_BYTES)).map(<[u8]>::to_ascii_lowercase).collect()
        };
        let names = names.iter().map(|name| name.expose().as_bytes()).filter(is_long);
        let parts: BTreeSet<Vec<u8>> =
            forms.iter().flat_map(parts).chain(names.map(<[u8]>::to_ascii_lowercase)).collect();
        if parts.is_empty() {
            return Ok(KeyFinder(None));
        }
        let finder = AhoCorasick::builder().ascii_case_insensitive(true).build(parts);
        // The message of the builder must not appear: it is about the keys.
        finder.map(|finder| KeyFinder(Some(finder))).map_err(|_| Error::bad_input("the API keys are too long"))
    }

    /// Replaces the keys in an answer by `***`.
    pub(crate) fn redact(&self, answer: &mut Vec<u8>) -> Repeated {
        let Some(finder) = &self.0 else { return Repeated::No };
        let spans = spans(finder, answer);
        let mut is_encoded = is_encoded_in(finder, answer, total(&spans));
        if !spans.is_empty() {
            *answer = replace(answer, &spans);
            is_encoded |= is_encoded_in(finder, answer, 0);
        }
        match is_encoded {
            true => Repeated::Encoded,
            false if spans.is_empty() => Repeated::No,
            false => Repeated::Redacted,
        }
    }
}

/// Returns an answer with the bytes of each span replaced by `***`. The spans are in order and do not overlap. Backslashes
/// before a span are replaced, too: `\*` is no escape sequence of JSON.
fn replace(answer: &[u8], spans: &[Range<usize>]) -> Vec<u8> {
    let (mut replaced, mut end) = (Vec::with_capacity(answer.len()), 0);
    for span in spans {
        let before = &answer[end..span.start];
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        replaced.extend_from_slice(&before[..before.len() - backslashes]);
        replaced.extend_from_slice(b"***");
        end = span.end;
    }
    replaced.extend_from_slice(&answer[end..]);
    replaced
}

/// Returns the parts of a text that belong to keys, in order. They do not overlap.
fn spans(finder: &AhoCorasick, text: &[u8]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for found in finder.find_overlapping_iter(text) {
        let mut span = found.range();
        while let Some(last) = spans.pop_if(|last| last.end >= span.start) {
            span = last.start.min(span.start)..last.end.max(span.end);
        }
        spans.push(span);
    }
    spans
}

fn total(spans: &[Range<usize>]) -> usize {
    spans.iter().map(ExactSizeIterator::len).sum()
}

/// Returns whether an answer contains more of a key once its escape sequences are decoded: a part of the key may be found as
/// it is, and the rest not. `found` is the length of the parts that were found.
fn is_encoded_in(finder: &AhoCorasick, answer: &[u8], found: usize) -> bool {
    let mut decoded = decode(answer);
    for _ in 0..MAX_DECODINGS {
        let Some(text) = decoded else { return false };
        if total(&spans(finder, &text)) > found {
            return true;
        }
        decoded = decode(&text);
    }
    false
}

/// Returns the forms of a key: the key itself, and the base64 of a text that contains it.
fn forms(key: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![key.to_vec()];
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        forms.extend((0..3).map(|offset| base64_part(key, offset, &engine)));
    }
    forms.retain(|form| form.len() >= MIN_KEY_BYTES);
    forms
}

/// Returns the base64 digits that depend on a key alone if `offset` other bytes, modulo 3, precede it.
fn base64_part(key: &[u8], offset: usize, engine: &GeneralPurpose) -> Vec<u8> {
    let text = [&[0; 3][..offset], key].concat();
    let digits = engine.encode(&text).into_bytes();
    digits[(offset * 8).div_ceil(6)..text.len() * 8 / 6].to_vec()
}

/// Replaces each escape sequence of JSON, URLs and HTML by the byte that it stands for. Returns `None` if there is none.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let next = |text: &[u8]| text.iter().position(|byte| matches!(byte, b'\\' | b'%' | b'&'));
    let mut at = next(text)?;
    let (mut decoded, mut rest, mut changed) = (Vec::with_capacity(text.len()), text, false);
    loop {
        decoded.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (byte, length) = escape_sequence(rest).unwrap_or((rest[0], 1));
        changed |= length > 1;
        decoded.push(byte);
        rest = &rest[length..];
        match next(rest) {
            Some(position) => at = position,
            None => break,
        }
    }
    decoded.extend_from_slice(rest);
    changed.then_some(decoded)
}

/// The names of the characters in HTML that a key may have.
const ENTITIES: [(&str, u8); 22] = [
    ("sol", b'/'),
    ("plus", b'+'),
    ("equals", b'='),
    ("lowbar", b'_'),
    ("hyphen", b'-'),
    ("dash", b'-'),
    ("period", b'.'),
    ("colon", b':'),
    ("comma", b','),
    ("semi", b';'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("ast", b'*'),
    ("commat", b'@'),
    ("excl", b'!'),
    ("dollar", b'$'),
    ("quest", b'?'),
    ("amp", b'&'),
    ("lt", b'<'),
    ("gt", b'>'),
    ("quot", b'"'),
    ("apos", b'\''),
];

/// Returns the byte that the escape sequence at the start of a text stands for, and the length of the sequence.
fn escape_sequence(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'u', b'0', b'0', a, b, ..] => Some((number(&[*a, *b], 16)?, 6)),
        [b'\\', b'x', a, b, ..] => Some((number(&[*a, *b], 16)?, 4)),
        [b'%', a, b, ..] => Some((number(&[*a, *b], 16)?, 3)),
        [b'\\', byte, ..] => Some((*byte, 2)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => entity(rest, 16, 3),
        [b'&', b'#', rest @ ..] => entity(rest, 10, 2),
        [b'&', rest @ ..] => {
            let name = reference(rest)?;
            let (_, byte) = ENTITIES.iter().find(|(entity, _)| entity.as_bytes() == name)?;
            Some((*byte, name.len() + 2))
        }
        _ => None,
    }
}

/// Returns the byte of a numeric character reference without its prefix, and the length with it. It may start with any
/// number of zeros. No other reference starts among them, so that no zero is looked at twice.
fn entity(rest: &[u8], radix: u32, prefix: usize) -> Option<(u8, usize)> {
    let zeros = rest.iter().take_while(|byte| **byte == b'0').count();
    let digits = reference(&rest[zeros..])?;
    Some((number(digits, radix)?, prefix + zeros + digits.len() + 1))
}

/// Returns the text before the semicolon that ends a character reference. Looks at a few bytes only: an answer may consist of
/// ampersands.
fn reference(rest: &[u8]) -> Option<&[u8]> {
    let end = rest.iter().take(8).position(|byte| *byte == b';')?;
    rest.get(..end)
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "gr4ph/k3y+0123456789abcdef";
    const NAME: &str = "eth.nodes.provider.example";

    fn redact(text: &str) -> (Repeated, String) {
        let mut answer = text.as_bytes().to_vec();
        let keys = Secret::parse_list(&format!("{KEY},short"));
        let repeated = KeyFinder::new(keys.iter(), &[Secret::new(NAME)]).unwrap().redact(&mut answer);
        (repeated, String::from_utf8(answer).unwrap())
    }

    fn encoded(prefix: &str, encode: impl Fn(char) -> String) -> String {
        format!("{prefix}{}", KEY.chars().map(encode).collect::<String>())
    }

    #[test]
    fn keys_and_long_parts_of_keys_are_replaced() {
        assert_eq!(redact(&format!("a {KEY} b {KEY}")), (Repeated::Redacted, "a *** b ***".to_owned()));
        assert_eq!(redact(&format!(r#"{{"a":"\{KEY}"}}"#)), (Repeated::Redacted, r#"{"a":"***"}"#.to_owned()));
        assert_eq!(redact(&KEY.to_uppercase()), (Repeated::Redacted, "***".to_owned()));
        assert_eq!(redact(&format!("key={}…", &KEY[3..20])), (Repeated::Redacted, "key=***…".to_owned()));
        assert_eq!(redact(&format!("{}, {}", &KEY[..15], "short")).0, Repeated::No, "too short to be told from data");
    }

    #[test]
    fn names_are_replaced_only_as_a_whole() {
        assert_eq!(redact("at ETH.nodes.provider.example:443"), (Repeated::Redacted, "at ***:443".to_owned()));
        assert_eq!(redact("see docs.nodes.provider.example").0, Repeated::No);
        assert_eq!(redact("eth%2enodes.provider.example").0, Repeated::Encoded);
    }

    #[test]
    fn base64_of_a_text_with_a_key_is_replaced() {
        // The base64 of ":KEY", "a:KEY" and "ab:KEY", of which all but the first and the last digits are replaced.
        for base64 in [
            "OmdyNHBoL2szeSswMTIzNDU2Nzg5YWJjZGVm",
            "YTpncjRwaC9rM3krMDEyMzQ1Njc4OWFiY2RlZg==",
            "YWI6Z3I0cGgvazN5KzAxMjM0NTY3ODlhYmNkZWY=",
        ] {
            let (repeated, text) = redact(&format!("Basic {base64}"));
            assert_eq!(repeated, Repeated::Redacted, "{base64}");
            assert!(text.len() < 20, "{text}");
        }
    }

    #[test]
    fn encoded_characters_are_recognized() {
        let hex = |c: char| format!("{:02x}", c as u32);
        for text in [
            encoded("", |c| format!("\\u00{}", hex(c))),
            encoded("", |c| format!("%{}", hex(c).to_uppercase())),
            encoded("", |c| format!("%25{}", hex(c))),
            encoded("", |c| format!("&#{};", c as u32)),
            encoded("", |c| format!("&#x{};", hex(c))),
            encoded("", |c| format!("&#x000000{};", hex(c))),
            encoded("", |c| format!("&#{:0>200};", c as u32)),
            encoded("", |c| format!("\\x{}", hex(c))),
            KEY.replace('/', "&sol;").replace('+', "&plus;"),
            encoded("", |c| if c.is_ascii_digit() { format!("\\{c}") } else { c.to_string() }),
            encoded("", |c| if c.is_ascii_digit() { c.to_string() } else { format!("\\\\u00{}", hex(c)) }),
        ] {
            assert_eq!(redact(&text).0, Repeated::Encoded, "{text}");
        }
    }

    #[test]
    fn answers_without_keys_are_unchanged() {
        for text in [
            "",
            "\\",
            "%",
            "%g",
            "&#",
            "&#;",
            "&",
            "&;",
            "&none;",
            "a & b",
            "&#1234567890;",
            "&#0000000000;",
            "&#x000000000",
            "\\u00",
            "\\u00g0",
            r#"{"a": "\u00e9 100%"}"#,
        ] {
            assert_eq!(redact(text), (Repeated::No, text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_part_of_a_key_is_left(before in "[a-z\\\\%&#]{0,5}", after in ".{0,5}", from in 0..KEY.len() - PART_BYTES) {
            let (repeated, text) = redact(&format!("{before}{}{after}", &KEY[from..]));
            prop_assert_ne!(repeated, Repeated::No);
            prop_assert!(!text.contains(&KEY[from..]) && !text.contains(&KEY[KEY.len() - PART_BYTES..]));
        }
    }
}
