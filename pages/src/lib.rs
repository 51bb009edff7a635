//! Self-contained HTML pages: one file with its styles and charts, which needs no network. All data is escaped.

pub mod chart;
mod escape;
pub mod number;
pub mod table;

pub use escape::escape;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The style sheet of every page, for light and dark mode and for screens from phone width up.
const STYLE: &str = include_str!("style.css");

/// The content security policy: a page runs no scripts and loads nothing from the network.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Renders an HTML document from its title and its body. Control characters and characters that change the direction of
/// text are shown as escapes, as on a terminal: a browser would obey them.
///
/// ```
/// use maud::html;
/// let page = defi_pages::page("a < b", html! { h1 { "a < b" } });
/// assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<h1>a &lt; b</h1>"));
/// ```
#[must_use]
pub fn page(title: &str, body: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="defi-features";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    let mut text = escape::escape_lines(&page.into_string()).into_owned();
    text.push('\n');
    text
}

/// Renders a `<data>` element: a formatted number with its exact value as an attribute.
#[must_use]
pub fn data(value: f64, text: &str) -> Markup {
    html! { data value=(value) { (text) } }
}

/// Renders a count as a `<data>` element.
#[must_use]
pub fn count(value: u64) -> Markup {
    html! { data value=(value) { (number::with_thousands(value)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_of_data_are_visible() {
        let symbol = "DAI\u{202e}\u{2066}\u{1b}[2J\u{0}\u{85}\u{7f}<b>";
        let page = page(symbol, html! { p title=(symbol) { (symbol) } });
        let shown = r"DAI\u{202e}\u{2066}\u{1b}[2J\u{0}\u{85}\u{7f}&lt;b&gt;";
        assert_eq!(page.matches(shown).count(), 3, "{page}");
        assert!(page.chars().all(|c| c == '\n' || escape(&c.to_string()) == c.to_string()), "{page}");
    }

    #[test]
    fn other_text_and_line_breaks_stay_as_they_are() {
        let page = page("稳定币", html! { pre { "a\nعربي" } });
        assert!(page.contains("<pre>a\nعربي</pre>") && page.contains("稳定币"), "{page}");
    }
}
