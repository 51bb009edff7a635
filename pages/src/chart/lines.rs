//! Lines over days, or over anything else that comes in order.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::style::Color;

use super::axis::{Axis, axes};
use super::paint::{Canvas, Drawn, Ink, draw};
use super::scale::Scale;
use super::{Frame, figures, legend};
use crate::number::{short, significant};

const SIZE: (u32, u32) = (440, 230);

/// A line: its name, and a value at each place of the axis or none, where it is broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// A value a place.
    pub values: Vec<Option<f64>>,
}

/// Lines over the places of an axis, which begins at zero. Places at which a line has no value although it has values before and
/// after it are marked.
///
/// # Errors
/// The drawing library's.
pub fn lines(frame: &Frame<'_>, places: &[String], lines: &[Line]) -> Result<Markup> {
    let svg = draw(frame, SIZE, |canvas| paint(canvas, places, lines))?;
    let header: Vec<&str> = std::iter::once("").chain(lines.iter().map(|line| line.name.as_str())).collect();
    let rows = places.iter().enumerate().map(|(index, place)| {
        let value = |line: &Line| value_at(line, index).map_or_else(|| "–".to_owned(), significant);
        std::iter::once(place.clone()).chain(lines.iter().map(value)).collect()
    });
    Ok(html! {
        figure {
            (svg)
            (legend(lines.iter().map(|line| line.name.as_str()), |_| true))
            (figures(&header, rows))
        }
    })
}

fn value_at(line: &Line, index: usize) -> Option<f64> {
    line.values.get(index).copied().flatten()
}

fn paint(canvas: &Canvas<'_>, places: &[String], lines: &[Line]) -> Drawn {
    let values = lines.iter().flat_map(|line| line.values.iter().flatten());
    let top = values.copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let last = places.len().saturating_sub(1).max(1) as f64;
    // Days are long words.
    let shown = Scale::Linear.ticks(0.0, last, 2).into_iter().filter(|place| place.fract() == 0.0);
    let shown = shown.filter_map(|place| Some((place, places.get(place as usize)?.clone())));
    let counts = Scale::Linear.ticks(0.0, top, 4).into_iter().map(|value| (value, short(value)));
    let mut chart = axes(canvas, Axis::new(-0.5..last + 0.5, shown), Axis::new(0.0..top, counts), 40)?;
    for line in lines {
        let missing = missing_within(line).map(|index| {
            let at = index as f64;
            Rectangle::new([(at - 0.5, 0.0), (at + 0.5, top)], Ink::Warn.color().mix(0.25).filled())
        });
        chart.draw_series(missing)?;
    }
    for (series, line) in lines.iter().enumerate() {
        let ink = Ink::Series(series).color();
        for part in unbroken(line) {
            if let [alone] = part.as_slice() {
                chart.draw_series([Circle::new(*alone, 2, ink.filled())])?;
            } else {
                chart.draw_series([PathElement::new(part, ink.stroke_width(2))])?;
            }
        }
    }
    Ok(())
}

/// The parts of a line between the places without a value.
fn unbroken(line: &Line) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<_> =
        (0u32..).zip(&line.values).map(|(index, value)| value.map(|value| (f64::from(index), value))).collect();
    let parts = points.split(Option::is_none).map(|part| part.iter().flatten().copied().collect::<Vec<_>>());
    parts.filter(|part| !part.is_empty()).collect()
}

/// The places without a value between those that have one.
fn missing_within(line: &Line) -> impl Iterator<Item = usize> {
    let first = line.values.iter().position(Option::is_some).unwrap_or(line.values.len());
    let last = line.values.iter().rposition(Option::is_some).unwrap_or(0);
    (first..=last).filter(|index| value_at(line, *index).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_where_it_has_no_value() {
        let line = Line { name: "a".to_owned(), values: vec![None, Some(1.0), None, Some(2.0), Some(3.0), None] };
        assert_eq!(unbroken(&line), [vec![(1.0, 1.0)], vec![(3.0, 2.0), (4.0, 3.0)]]);
        assert_eq!(missing_within(&line).collect::<Vec<_>>(), [2]);
        let empty = Line { name: "b".to_owned(), values: vec![None, None] };
        assert_eq!(missing_within(&empty).count(), 0);
    }

    #[test]
    fn no_place_and_no_line_are_drawn_too() {
        let frame = Frame { id: "x", title: "t", about: "a" };
        assert!(lines(&frame, &[], &[]).is_ok());
        let line = Line { name: "a".to_owned(), values: vec![Some(f64::NAN)] };
        assert!(lines(&frame, &["d".to_owned()], &[line]).is_ok());
    }
}
