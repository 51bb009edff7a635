//! Line charts over days or other ordered categories.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::style::Color;

use super::axis::{Axis, axes};
use super::paint::{Canvas, DrawResult, PageColor, draw};
use super::scale::Scale;
use super::{Frame, legend, value_table};
use crate::number::{abbreviated, significant};

const SIZE: (u32, u32) = (440, 230);

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The name.
    pub name: String,
    /// One value per label of the horizontal axis. The line is interrupted where the value is `None`.
    pub values: Vec<Option<f64>>,
}

/// Draws lines. `labels` are the labels of the horizontal axis. The vertical axis starts at zero. A position at which a
/// line has no value, but has values before and after it, is highlighted.
///
/// # Errors
/// `Internal` if the chart can't be drawn.
pub fn lines(frame: &Frame<'_>, labels: &[String], lines: &[Line]) -> Result<Markup> {
    let svg = draw(frame, SIZE, |canvas| paint(canvas, labels, lines))?;
    let header: Vec<&str> = std::iter::once("").chain(lines.iter().map(|line| line.name.as_str())).collect();
    let rows = labels.iter().enumerate().map(|(index, label)| {
        let value = |line: &Line| value_at(line, index).map_or_else(|| "–".to_owned(), significant);
        std::iter::once(label.clone()).chain(lines.iter().map(value)).collect()
    });
    Ok(html! {
        figure {
            (svg)
            (legend(lines.iter().map(|line| line.name.as_str()), |_| true))
            (value_table(&header, rows))
        }
    })
}

fn value_at(line: &Line, index: usize) -> Option<f64> {
    line.values.get(index).copied().flatten()
}

fn paint(canvas: &Canvas<'_>, labels: &[String], lines: &[Line]) -> DrawResult {
    let values = lines.iter().flat_map(|line| line.values.iter().flatten());
    let top = values.copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let last = labels.len().saturating_sub(1).max(1) as f64;
    // Only about two labels fit, because days are long.
    let indices = Scale::Linear.ticks(0.0, last, 2).into_iter().filter(|index| index.fract() == 0.0);
    let horizontal = indices.filter_map(|index| Some((index, labels.get(index as usize)?.clone())));
    let vertical = Scale::Linear.ticks(0.0, top, 4).into_iter().map(|value| (value, abbreviated(value)));
    let mut chart = axes(canvas, Axis::new(-0.5..last + 0.5, horizontal), Axis::new(0.0..top, vertical), 40)?;
    for line in lines {
        let missing = missing_indices(line).map(|index| {
            let x = index as f64;
            Rectangle::new([(x - 0.5, 0.0), (x + 0.5, top)], PageColor::Warn.placeholder().mix(0.25).filled())
        });
        chart.draw_series(missing)?;
    }
    for (series, line) in lines.iter().enumerate() {
        let color = PageColor::Series(series).placeholder();
        for segment in segments(line) {
            if let [point] = segment.as_slice() {
                chart.draw_series([Circle::new(*point, 2, color.filled())])?;
            } else {
                chart.draw_series([PathElement::new(segment, color.stroke_width(2))])?;
            }
        }
    }
    Ok(())
}

/// Returns the segments of a line between its missing values.
fn segments(line: &Line) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<_> =
        (0u32..).zip(&line.values).map(|(index, value)| value.map(|value| (f64::from(index), value))).collect();
    let segments = points.split(Option::is_none).map(|segment| segment.iter().flatten().copied().collect::<Vec<_>>());
    segments.filter(|segment| !segment.is_empty()).collect()
}

/// Returns the indices of missing values between the first and the last value.
fn missing_indices(line: &Line) -> impl Iterator<Item = usize> {
    let first = line.values.iter().position(Option::is_some).unwrap_or(line.values.len());
    let last = line.values.iter().rposition(Option::is_some).unwrap_or(0);
    (first..=last).filter(|index| value_at(line, *index).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_split_a_line_into_segments() {
        let line = Line { name: "a".to_owned(), values: vec![None, Some(1.0), None, Some(2.0), Some(3.0), None] };
        assert_eq!(segments(&line), [vec![(1.0, 1.0)], vec![(3.0, 2.0), (4.0, 3.0)]]);
        assert_eq!(missing_indices(&line).collect::<Vec<_>>(), [2]);
        let empty = Line { name: "b".to_owned(), values: vec![None, None] };
        assert_eq!(missing_indices(&empty).count(), 0);
    }

    #[test]
    fn draws_charts_without_values() {
        let frame = Frame { id: "x", title: "t", about: "a" };
        assert!(lines(&frame, &[], &[]).is_ok());
        let line = Line { name: "a".to_owned(), values: vec![Some(f64::NAN)] };
        assert!(lines(&frame, &["d".to_owned()], &[line]).is_ok());
    }
}
