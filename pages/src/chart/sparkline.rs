//! A sparkline: the history of a value as a small chart.

use defi_shared::error::Result;
use maud::Markup;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement};
use plotters::prelude::Color;

use super::Frame;
use super::paint::{Canvas, DrawResult, PageColor, draw};

const SIZE: (u32, u32) = (136, 30);

/// The limits of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// The largest value without a warning.
    pub warn: Option<f64>,
    /// The largest value that passes.
    pub fail: Option<f64>,
}

/// Draws a line through the values, oldest first, with its last point marked, and the limits that are in range. The
/// line connects the points before and after a missing value.
///
/// # Errors
/// `Internal` if the chart can't be drawn.
pub fn sparkline(frame: &Frame<'_>, values: &[Option<f64>], limits: Limits) -> Result<Markup> {
    draw(frame, SIZE, |canvas| paint(canvas, values, limits))
}

fn paint(canvas: &Canvas<'_>, values: &[Option<f64>], limits: Limits) -> DrawResult {
    let finite = values.iter().flatten().copied().filter(|value| value.is_finite());
    let maximum = finite.fold(0.0, f64::max);
    let is_in_range = |limit: &f64| *limit > 0.0 && *limit <= maximum.max(f64::MIN_POSITIVE) * 4.0;
    let limits = [(limits.warn, PageColor::Warn), (limits.fail, PageColor::Fail)];
    let limits: Vec<_> =
        limits.into_iter().filter_map(|(limit, color)| Some((limit.filter(is_in_range)?, color))).collect();
    let top = limits.iter().map(|(limit, _)| *limit).fold(maximum, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    let last = values.len().saturating_sub(1).max(1) as f64;
    let mut chart = ChartBuilder::on(canvas);
    chart.margin(4);
    let mut chart = chart.build_cartesian_2d(0.0..last, 0.0..top)?;
    for (limit, color) in limits {
        chart.draw_series([PathElement::new(vec![(0.0, limit), (last, limit)], color.placeholder().mix(0.7))])?;
    }
    let points = (0u32..).zip(values).filter_map(|(index, value)| Some((f64::from(index), (*value)?)));
    let points: Vec<_> = points.filter(|(_, value)| value.is_finite()).collect();
    let end = points.last().map(|end| Circle::new(*end, 3, PageColor::Series(0).placeholder().filled()));
    if points.len() > 1 {
        chart.draw_series([PathElement::new(points, PageColor::Series(0).placeholder().stroke_width(2))])?;
    }
    chart.draw_series(end)?;
    Ok(())
}
