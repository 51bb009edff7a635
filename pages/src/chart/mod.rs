//! Charts as inline SVG. They use the colours of the page for light and dark mode, scale with the page width, and have
//! a text description and a table of their values.

mod axis;
mod histogram;
mod lines;
mod paint;
mod scale;
mod sparkline;
mod timeline;

use maud::{Markup, PreEscaped, html};

use paint::PageColor;

pub use histogram::{Bins, histogram};
pub use lines::{Line, lines};
pub use scale::Scale;
pub use sparkline::{Limits, sparkline};
pub use timeline::{Span, timeline};

/// The identifier, title and description of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The identifier, unique in the page. It is the prefix of element ids.
    pub id: &'a str,
    /// The title.
    pub title: &'a str,
    /// A description for screen readers.
    pub about: &'a str,
}

impl Frame<'_> {
    /// Renders the SVG element around its content. Screen readers see one image with a title and a description.
    fn svg(&self, (width, height): (u32, u32), content: &str) -> Markup {
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        html! {
            svg role="img" aria-labelledby=(format!("{title} {about}")) viewBox=(format!("0 0 {width} {height}"))
                xmlns="http://www.w3.org/2000/svg" {
                title id=(title) { (self.title) }
                desc id=(about) { (self.about) }
                (PreEscaped(content))
            }
        }
    }
}

/// Renders the legend of a chart. `is_line` returns whether a series is drawn as a line or filled.
fn legend<'a>(names: impl Iterator<Item = &'a str>, is_line: impl Fn(usize) -> bool) -> Markup {
    html! {
        ul.legend {
            @for (index, name) in names.enumerate() {
                li {
                    span.swatch .line[is_line(index)] style=(format!("--of:{}", PageColor::Series(index).css())) {}
                    (name)
                }
            }
        }
    }
}

/// Renders the values of a chart as a collapsed table.
fn value_table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    html! {
        details {
            summary { "Values" }
            div.scroll tabindex="0" role="region" aria-label="Values" {
                table {
                    thead { tr { @for name in header { th.number scope="col" { (name) } } } }
                    tbody { @for row in rows { tr { @for cell in row { td.number { (cell) } } } } }
                }
            }
        }
    }
}
