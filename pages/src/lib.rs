//! Pages that stand by themselves: one file with its styles and charts in it, which asks nothing of the network, and in which
//! everything that comes from data is escaped.

pub mod chart;
pub mod number;
pub mod table;

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The styles of every page: light and dark, from a phone's width up.
const STYLE: &str = include_str!("style.css");

/// No script runs in a page, and nothing is fetched for it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A whole page: its title for the browser's tab, and what stands in it.
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
    let mut text = page.into_string();
    text.push('\n');
    text
}

/// A number as people read it, which keeps its exact value for programs.
#[must_use]
pub fn data(value: f64, shown: &str) -> Markup {
    html! { data value=(value) { (shown) } }
}

/// A count with its exact value.
#[must_use]
pub fn count(value: u64) -> Markup {
    html! { data value=(value) { (number::grouped(value)) } }
}
