//! Draws charts in the colours of the page. The drawing library only supports RGB values, so each page colour is drawn
//! as a placeholder RGB value, which is then replaced by the CSS variable of the colour.

use defi_shared::error::{Error, Result};
use maud::Markup;
use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, TextStyle,
};

use super::Frame;

/// The number of series colours. Further series reuse them from the first one on.
const SERIES: usize = 8;

/// The drawing area of a chart.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The result of drawing.
pub(super) type DrawResult<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A colour that the style sheet of the page defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageColor {
    /// Axis labels.
    Muted,
    /// Grid lines and axes.
    Grid,
    /// A series, by its index.
    Series(usize),
    /// The warning limit, and missing days.
    Warn,
    /// The failure limit.
    Fail,
}

impl PageColor {
    fn all() -> impl Iterator<Item = PageColor> {
        [PageColor::Muted, PageColor::Grid, PageColor::Warn, PageColor::Fail]
            .into_iter()
            .chain((0..SERIES).map(PageColor::Series))
    }

    /// Returns the placeholder to draw with.
    pub(super) fn placeholder(self) -> RGBColor {
        match self {
            PageColor::Muted => RGBColor(1, 0, 0),
            PageColor::Grid => RGBColor(1, 0, 1),
            PageColor::Warn => RGBColor(1, 0, 2),
            PageColor::Fail => RGBColor(1, 0, 3),
            PageColor::Series(index) => RGBColor(2, 0, u8::try_from(index % SERIES).unwrap_or_default()),
        }
    }

    /// Returns the CSS variable of the colour.
    pub(super) fn css(self) -> String {
        match self {
            PageColor::Muted => "var(--muted)".to_owned(),
            PageColor::Grid => "var(--grid)".to_owned(),
            PageColor::Warn => "var(--warn)".to_owned(),
            PageColor::Fail => "var(--fail)".to_owned(),
            PageColor::Series(index) => format!("var(--series-{})", index % SERIES),
        }
    }

    /// Returns the placeholder as a quoted attribute value. Text in the chart can't contain it, because its quotes are
    /// escaped.
    fn placeholder_attribute(self) -> String {
        let RGBColor(red, green, blue) = self.placeholder();
        format!("\"#{red:02X}{green:02X}{blue:02X}\"")
    }
}

/// Returns the style of labels with a font size in pixels.
pub(super) fn label_style<'a>(pixels: u32) -> TextStyle<'a> {
    // The SVG backend divides font sizes by this factor.
    let size = f64::from(pixels) * 1.24;
    ("sans-serif", size).into_font().color(&PageColor::Muted.placeholder())
}

/// Draws a chart of a size in pixels.
pub(super) fn draw(
    frame: &Frame<'_>,
    size: (u32, u32),
    paint: impl FnOnce(&Canvas<'_>) -> DrawResult,
) -> Result<Markup> {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let result = paint(&canvas).and_then(|()| canvas.present());
    drop(canvas);
    result.map_err(|cause| Error::internal("a chart can't be drawn").with("chart", frame.title).because(cause))?;
    // The outer SVG element is replaced by that of the frame.
    let inner = text.split_once('>').map_or("", |(_, inner)| inner).trim();
    let inner = inner.strip_suffix("</svg>").unwrap_or(inner).to_owned();
    let with_css =
        |text: String, color: PageColor| text.replace(&color.placeholder_attribute(), &format!("\"{}\"", color.css()));
    Ok(frame.svg(size, &PageColor::all().fold(inner, with_css)))
}

#[cfg(test)]
mod tests {
    use plotters::element::Text;

    use super::*;

    #[test]
    fn draws_in_page_colours_and_escapes_text() {
        let frame = Frame { id: "x", title: "<t>", about: "\"#010000\"" };
        let markup =
            draw(&frame, (10, 10), |canvas| canvas.draw(&Text::new("<b> \"#010000\"", (0, 0), label_style(12))));
        let text = markup.unwrap().into_string();
        assert!(text.contains("fill=\"var(--muted)\""), "{text}");
        assert!(text.contains("&lt;b&gt; &quot;#010000&quot;"), "{text}");
        assert!(text.contains("<title id=\"x-title\">&lt;t&gt;</title>"), "{text}");
        assert!(!text.contains("\"#010000\""), "{text}");
        assert_eq!(text.matches("<svg").count(), 1);
    }
}
