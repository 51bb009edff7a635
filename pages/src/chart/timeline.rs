//! What came after what: rows of bars over phases that have an order and no length.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::paint::{Canvas, Drawn, Ink, draw, words};
use super::{Frame, figures};

const WIDTH: i32 = 440;
const HEAD: i32 = 24;
/// A row's words, and its bar below them.
const ROW: i32 = 34;
const WORDS: i32 = 18;

/// A row: its name, its phase, and a note beside its name.
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
    let at = |phase: usize| WIDTH * i32::try_from(phase).unwrap_or(0) / count;
    let middle = Pos::new(HPos::Left, VPos::Center);
    for (index, name) in phases.iter().enumerate() {
        let line = vec![(at(index), 0), (at(index), height)];
        canvas.draw(&PathElement::new(line, Ink::Grid.color()))?;
        canvas.draw(&Text::new(*name, (at(index) + 5, HEAD / 2), words(11).pos(middle)))?;
    }
    for (row, span) in (0i32..).zip(spans) {
        let top = HEAD + ROW * row;
        let text = format!("{}: {}", span.name, span.note);
        canvas.draw(&Text::new(text, (5, top + WORDS / 2), words(12).pos(middle)))?;
        let corners = [(at(span.phase) + 1, top + WORDS), (at(span.phase + 1) - 1, top + ROW - 6)];
        canvas.draw(&Rectangle::new(corners, Ink::Series(0).color().mix(0.8).filled()))?;
    }
    Ok(())
}
