//! Escapes text before a terminal or a browser shows it.

use std::borrow::Cow;

/// Escapes the characters of a text that a terminal would obey instead of showing them: control characters, line breaks
/// and tabs included, and those that change the direction of the text. Symbols and messages come from the sources: one
/// with an escape sequence could overwrite what the terminal shows.
///
/// ```
/// use defi_pages::escape;
/// assert_eq!(escape("DAI\u{1b}[2J\n\u{202e}"), r"DAI\u{1b}[2J\n\u{202e}");
/// assert_eq!(escape("naïve → 稳定币"), "naïve → 稳定币");
/// ```
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_each(text, is_unsafe)
}

/// Escapes the same characters of a text of several lines, except line breaks.
pub(crate) fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_each(text, |c| c != '\n' && is_unsafe(c))
}

fn escape_each(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Whether a character is a control character (C0, DEL or C1), a line or paragraph separator, or a mark, embedding,
/// override or isolate of the bidirectional algorithm.
fn is_unsafe(c: char) -> bool {
    let is_bidirectional =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_bidirectional || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_or_bidirectional_character_is_left() {
        let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        let directions =
            ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain(['\u{61c}', '\u{200e}', '\u{200f}']);
        for c in controls.chain(directions).chain(['\u{2028}', '\u{2029}']) {
            let escaped = escape(&format!("a{c}b")).into_owned();
            assert!(escaped.starts_with("a\\") && escaped.ends_with('b'), "{escaped}");
            assert!(!escaped.contains(c) && escaped.chars().all(|c| c.is_ascii_graphic()), "{escaped}");
        }
    }

    #[test]
    fn other_characters_stay_as_they_are() {
        for text in ["", "plain", "─·█ Σ", "é e\u{301}", "عربي", "👩\u{200d}🚀", r"a\b"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
