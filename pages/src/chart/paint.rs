//! Drawing with the page's colours: the drawing library knows numbers only, so that each ink has a number of its own while it
//! draws, which is then replaced by the page's name of it.

use defi_shared::error::{Error, Result};
use maud::Markup;
use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, TextStyle,
};

use super::Frame;

/// Series that have a colour of their own; later ones begin anew.
const SERIES: usize = 8;

/// What is drawn on.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What drawing comes to.
pub(super) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A colour of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Axes and their words.
    Muted,
    /// Lines behind the data.
    Grid,
    /// A series, by its place.
    Series(usize),
    /// The limit to warn at, and days that are missing.
    Warn,
    /// The limit to fail at.
    Fail,
}

impl Ink {
    fn all() -> impl Iterator<Item = Ink> {
        [Ink::Muted, Ink::Grid, Ink::Warn, Ink::Fail].into_iter().chain((0..SERIES).map(Ink::Series))
    }

    /// While it is drawn.
    pub(super) fn color(self) -> RGBColor {
        match self {
            Ink::Muted => RGBColor(1, 0, 0),
            Ink::Grid => RGBColor(1, 0, 1),
            Ink::Warn => RGBColor(1, 0, 2),
            Ink::Fail => RGBColor(1, 0, 3),
            Ink::Series(index) => RGBColor(2, 0, u8::try_from(index % SERIES).unwrap_or_default()),
        }
    }

    /// In the page.
    pub(super) fn css(self) -> String {
        match self {
            Ink::Muted => "var(--muted)".to_owned(),
            Ink::Grid => "var(--grid)".to_owned(),
            Ink::Warn => "var(--warn)".to_owned(),
            Ink::Fail => "var(--fail)".to_owned(),
            Ink::Series(index) => format!("var(--series-{})", index % SERIES),
        }
    }

    /// As an attribute has it while it is drawn. A text can't hold it: its quotes are escaped.
    fn attribute(self) -> String {
        let RGBColor(red, green, blue) = self.color();
        format!("\"#{red:02X}{green:02X}{blue:02X}\"")
    }
}

/// Words on a chart, of so many pixels.
pub(super) fn words<'a>(pixels: u32) -> TextStyle<'a> {
    // The SVG writer divides a font's size by this.
    let size = f64::from(pixels) * 1.24;
    ("sans-serif", size).into_font().color(&Ink::Muted.color())
}

/// Draws a chart of a size.
pub(super) fn draw(frame: &Frame<'_>, size: (u32, u32), work: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<Markup> {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let drawn = work(&canvas).and_then(|()| canvas.present());
    drop(canvas);
    drawn.map_err(|cause| Error::internal("a chart can't be drawn").with("chart", frame.title).because(cause))?;
    // The frame has an SVG element of its own around it.
    let inner = text.split_once('>').map_or("", |(_, inner)| inner).trim();
    let inner = inner.strip_suffix("</svg>").unwrap_or(inner).to_owned();
    let painted = Ink::all().fold(inner, |text, ink| text.replace(&ink.attribute(), &format!("\"{}\"", ink.css())));
    Ok(frame.svg(size, &painted))
}

#[cfg(test)]
mod tests {
    use plotters::element::Text;

    use super::*;

    #[test]
    fn colours_are_the_pages_and_texts_stay_as_they_are() {
        let frame = Frame { id: "x", title: "<t>", about: "\"#010000\"" };
        let drawn = draw(&frame, (10, 10), |canvas| canvas.draw(&Text::new("<b> \"#010000\"", (0, 0), words(12))));
        let text = drawn.unwrap().into_string();
        assert!(text.contains("fill=\"var(--muted)\""), "{text}");
        assert!(text.contains("&lt;b&gt; &quot;#010000&quot;"), "{text}");
        assert!(text.contains("<title id=\"x-title\">&lt;t&gt;</title>"), "{text}");
        assert!(!text.contains("\"#010000\""), "{text}");
        assert_eq!(text.matches("<svg").count(), 1);
    }
}
