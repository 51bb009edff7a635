//! A timeline of steps: one bar per step, placed in one of several phases of equal width.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::paint::{Canvas, DrawResult, PageColor, draw, label_style};
use super::{Frame, value_table};

const WIDTH: i32 = 440;
/// The height of the phase names.
const HEAD: i32 = 24;
/// The height of a row: its label and the bar below it.
const ROW: i32 = 34;
/// The height of a label.
const LABEL: i32 = 18;

/// A row of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The name.
    pub name: String,
    /// The index of the phase. Rows of one phase run in parallel.
    pub phase: usize,
    /// A short summary of the result, shown beside the name.
    pub note: String,
}

/// Draws a timeline, with the names of the phases at the top.
///
/// # Errors
/// `Internal` if the chart can't be drawn.
pub fn timeline(frame: &Frame<'_>, phases: &[&str], spans: &[Span]) -> Result<Markup> {
    let height = HEAD + ROW * i32::try_from(spans.len()).unwrap_or(0) + 6;
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let svg = draw(frame, size, |canvas| paint(canvas, height, phases, spans))?;
    let rows = spans.iter().map(|span| {
        let phase = phases.get(span.phase).copied().unwrap_or_default();
        vec![span.name.clone(), phase.to_owned(), span.note.clone()]
    });
    Ok(html! { figure.wide { (svg) (value_table(&["step", "phase", "result"], rows)) } })
}

fn paint(canvas: &Canvas<'_>, height: i32, phases: &[&str], spans: &[Span]) -> DrawResult {
    let count = i32::try_from(phases.len()).unwrap_or(1).max(1);
    let phase_start = |phase: usize| WIDTH * i32::try_from(phase).unwrap_or(0) / count;
    let middle = Pos::new(HPos::Left, VPos::Center);
    for (index, name) in phases.iter().enumerate() {
        let line = vec![(phase_start(index), 0), (phase_start(index), height)];
        canvas.draw(&PathElement::new(line, PageColor::Grid.placeholder()))?;
        canvas.draw(&Text::new(*name, (phase_start(index) + 5, HEAD / 2), label_style(11).pos(middle)))?;
    }
    for (row, span) in (0i32..).zip(spans) {
        let top = HEAD + ROW * row;
        let text = format!("{}: {}", span.name, span.note);
        canvas.draw(&Text::new(text, (5, top + LABEL / 2), label_style(12).pos(middle)))?;
        let corners = [(phase_start(span.phase) + 1, top + LABEL), (phase_start(span.phase + 1) - 1, top + ROW - 6)];
        canvas.draw(&Rectangle::new(corners, PageColor::Series(0).placeholder().mix(0.8).filled()))?;
    }
    Ok(())
}
