//! What came after what: rows of bars over phases that have an order and no length.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::paint::{Canvas, Drawn, Ink, draw, words};
use super::{Frame, figures};

const WIDTH: i32 = 640;
const ROW: i32 = 24;
const HEAD: i32 = 26;
/// Where the names end and the phases begin.
const NAMES: i32 = 196;

/// A row: its name, its phase, and a note beside its bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub name: String,
    /// Its phase, from 0; rows of one phase go on side by side.
    pub phase: usize,
    /// What it came to, in few words.
    pub note: String,
}

/// Rows over phases, which are named at the top.
///
/// # Errors
/// The drawing library's.
pub fn timeline(frame: &Frame<'_>, phases: &[&str], spans: &[Span]) -> Result<Markup> {
    let height = HEAD + ROW * i32::try_from(spans.len()).unwrap_or(0) + 6;
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let svg = draw(frame, size, |canvas| paint(canvas, height, phases, spans))?;
    let rows = spans.iter().map(|span| {
        let phase = phases.get(span.phase).copied().unwrap_or_default();
        vec![span.name.clone(), phase.to_owned(), span.note.clone()]
    });
    Ok(html! { figure.wide { (svg) (figures(&["step", "phase", "what it did"], rows)) } })
}

fn paint(canvas: &Canvas<'_>, height: i32, phases: &[&str], spans: &[Span]) -> Drawn {
    let count = i32::try_from(phases.len()).unwrap_or(1).max(1);
    let at = |phase: usize| NAMES + (WIDTH - NAMES) * i32::try_from(phase).unwrap_or(0) / count;
    let (left, right) = (HPos::Left, HPos::Right);
    for (index, name) in phases.iter().enumerate() {
        let x = at(index);
        canvas.draw(&PathElement::new(vec![(x, 4), (x, height)], Ink::Grid.color()))?;
        canvas.draw(&Text::new(*name, (x + 4, 6), words(11).pos(Pos::new(left, VPos::Top))))?;
    }
    for (row, span) in (0i32..).zip(spans) {
        let (top, middle) = (HEAD + ROW * row, HEAD + ROW * row + ROW / 2);
        let (begin, end) = (at(span.phase), at(span.phase + 1));
        canvas.draw(&Text::new(
            span.name.as_str(),
            (NAMES - 8, middle),
            words(12).pos(Pos::new(right, VPos::Center)),
        ))?;
        let bar =
            Rectangle::new([(begin + 1, top + 4), (end - 1, top + ROW - 4)], Ink::Series(0).color().mix(0.8).filled());
        canvas.draw(&bar)?;
        // Beside the bar where there is more room: after it in the first half, before it in the second.
        let is_early = end <= NAMES + (WIDTH - NAMES) / 2;
        let (x, side) = if is_early { (end + 6, left) } else { (begin - 6, right) };
        canvas.draw(&Text::new(span.note.as_str(), (x, middle), words(11).pos(Pos::new(side, VPos::Center))))?;
    }
    Ok(())
}
