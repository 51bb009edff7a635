//! A figure's history in the space of a few words.

use defi_shared::error::Result;
use maud::Markup;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement};
use plotters::prelude::Color;

use super::Frame;
use super::paint::{Canvas, Drawn, Ink, draw};

const SIZE: (u32, u32) = (136, 30);

/// What a figure should stay below.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// The largest without a warning.
    pub warn: Option<f64>,
    /// The largest that passes.
    pub fail: Option<f64>,
}

/// A line through the values, oldest first, with its end marked, and the limits that lie near enough to be seen. Where there was no
/// value, there is no place in between.
///
/// # Errors
/// The drawing library's.
pub fn sparkline(frame: &Frame<'_>, values: &[Option<f64>], limits: Limits) -> Result<Markup> {
    draw(frame, SIZE, |canvas| paint(canvas, values, limits))
}

fn paint(canvas: &Canvas<'_>, values: &[Option<f64>], limits: Limits) -> Drawn {
    let finite = values.iter().flatten().copied().filter(|value| value.is_finite());
    let largest = finite.fold(0.0, f64::max);
    let near = |limit: &f64| *limit > 0.0 && *limit <= largest.max(f64::MIN_POSITIVE) * 4.0;
    let limits = [(limits.warn, Ink::Warn), (limits.fail, Ink::Fail)];
    let limits: Vec<_> = limits.into_iter().filter_map(|(limit, ink)| Some((limit.filter(near)?, ink))).collect();
    let top = limits.iter().map(|(limit, _)| *limit).fold(largest, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    let last = values.len().saturating_sub(1).max(1) as f64;
    let mut chart = ChartBuilder::on(canvas);
    chart.margin(4);
    let mut chart = chart.build_cartesian_2d(0.0..last, 0.0..top)?;
    for (limit, ink) in limits {
        chart.draw_series([PathElement::new(vec![(0.0, limit), (last, limit)], ink.color().mix(0.7))])?;
    }
    let points = (0u32..).zip(values).filter_map(|(index, value)| Some((f64::from(index), (*value)?)));
    let points: Vec<_> = points.filter(|(_, value)| value.is_finite()).collect();
    let end = points.last().map(|end| Circle::new(*end, 3, Ink::Series(0).color().filled()));
    if points.len() > 1 {
        chart.draw_series([PathElement::new(points, Ink::Series(0).color().stroke_width(2))])?;
    }
    chart.draw_series(end)?;
    Ok(())
}
