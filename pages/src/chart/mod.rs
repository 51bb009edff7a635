//! Charts as SVG within the page. They take the page's colours, so that they are read in light and in dark; a phone sees them as
//! wide as it is; and each says in words what it shows, with its figures as a table.

mod axis;
mod histogram;
mod lines;
mod paint;
mod scale;
mod sparkline;
mod timeline;

use maud::{Markup, PreEscaped, html};

pub use histogram::{Bins, histogram};
pub use lines::{Line, lines};
pub use scale::Scale;
pub use sparkline::{Limits, sparkline};
pub use timeline::{Span, timeline};

/// What a chart says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Tells it from all others of the page: a word for the names of its parts.
    pub id: &'a str,
    /// What it is.
    pub title: &'a str,
    /// What it shows, in a sentence, for those who don't see it.
    pub about: &'a str,
}

impl Frame<'_> {
    /// The chart around what is drawn, for a screen reader one picture with a title and a description.
    fn svg(&self, (width, height): (u32, u32), drawn: &str) -> Markup {
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        html! {
            svg role="img" aria-labelledby=(format!("{title} {about}")) viewBox=(format!("0 0 {width} {height}"))
                xmlns="http://www.w3.org/2000/svg" {
                title id=(title) { (self.title) }
                desc id=(about) { (self.about) }
                (PreEscaped(drawn))
            }
        }
    }
}

/// What the colours of a chart stand for; a series is a line, or filled.
fn legend<'a>(names: impl Iterator<Item = &'a str>, is_line: impl Fn(usize) -> bool) -> Markup {
    html! {
        ul.legend {
            @for (index, name) in names.enumerate() {
                li {
                    span.swatch .line[is_line(index)] style=(format!("--of:{}", paint::Ink::Series(index).css())) {}
                    (name)
                }
            }
        }
    }
}

/// The chart's figures, folded away.
fn figures(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    html! {
        details {
            summary { "Figures" }
            div.scroll tabindex="0" role="region" aria-label="Figures" {
                table {
                    thead { tr { @for name in header { th.number scope="col" { (name) } } } }
                    tbody { @for row in rows { tr { @for cell in row { td.number { (cell) } } } } }
                }
            }
        }
    }
}
