//! Histograms: the distribution of the values of one set, or of two sets for comparison.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{PathElement, Rectangle};
use plotters::style::Color;

use super::axis::{Axis, axes};
use super::paint::{Canvas, DrawResult, PageColor, draw};
use super::scale::Scale;
use super::{Frame, legend, value_table};
use crate::number::{abbreviated, percent, significant};

const SIZE: (u32, u32) = (400, 170);

/// The number of bins, unless each bin is one integer.
const BINS: usize = 28;

/// At each end, one in this many values may be beyond the edges, so that outliers do not compress the other bins.
const OUTLIER_DIVISOR: usize = 100;

/// Integers have one bin each if the difference between the largest and the smallest is below this value.
const MAX_INTEGER_SPAN: f64 = 28.0;

/// The share of the values of each set in each bin. Shares are relative to the size of the set, which includes values
/// that are in no bin. Zeros have a bin only if all values are integers: otherwise there may be so many that nothing
/// else is visible.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    /// The scale of the axis.
    pub scale: Scale,
    /// The positions of the edges on the axis, one more than there are bins.
    edges: Vec<f64>,
    /// The positions of the smallest and the largest value. Values beyond the edges are in the first or the last bin.
    extent: (f64, f64),
    /// For each set, the share of each bin.
    shares: Vec<Vec<f64>>,
    /// Whether each bin is one integer.
    is_integer: bool,
}

impl Bins {
    /// Counts the values of sets in bins: one bin per integer if there are few, otherwise bins of equal width on a
    /// scale that fits the values. A set consists of its values and its size.
    #[must_use]
    pub fn of(sets: &[(&[f64], usize)]) -> Bins {
        let all = || sets.iter().flat_map(|(values, _)| values.iter().copied()).filter(|value| value.is_finite());
        let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let is_integer = all().all(|value| value.fract() == 0.0) && high - low < MAX_INTEGER_SPAN;
        let scale = if is_integer { Scale::Linear } else { Scale::for_values(all()) };
        let position = |value: f64| scale.position(value).filter(|_| is_integer || value != 0.0);
        let mut positions: Vec<f64> = all().filter_map(position).collect();
        positions.sort_unstable_by(f64::total_cmp);
        let outliers = if is_integer { 0 } else { positions.len() / OUTLIER_DIVISOR };
        let extent = |skip: usize| positions.get(skip).copied().zip(positions.iter().rev().nth(skip).copied());
        let (low, high) = extent(outliers).unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
        let (low, high, count) = match (low, high) {
            _ if low > high => (0.0, 1.0, 1),
            _ if is_integer => (low - 0.5, high + 0.5, (high - low) as usize + 1),
            _ if low == high => (low - 0.5, high + 0.5, 1),
            _ => (low, high, BINS),
        };
        let width = (high - low) / count as f64;
        let edges = (0..=count).map(|index| low + width * index as f64).collect();
        let share = |(values, size): &(&[f64], usize)| {
            let mut counts = vec![0u64; count];
            for position in values.iter().copied().filter_map(position) {
                let index = (((position - low) / width).max(0.0) as usize).min(count - 1);
                counts.iter_mut().skip(index).take(1).for_each(|count| *count += 1);
            }
            counts.into_iter().map(|count| count as f64 / (*size).max(1) as f64).collect()
        };
        let extent = extent(0).unwrap_or((low, high));
        Bins { scale, shares: sets.iter().map(share).collect(), edges, extent, is_integer }
    }

    /// Returns the lower and the upper edge of each bin.
    fn intervals(&self) -> impl Iterator<Item = (f64, f64)> {
        self.edges.iter().copied().zip(self.edges.iter().skip(1).copied())
    }
}

/// Draws the first set as bars, and the outlines of further sets in front of them.
///
/// # Errors
/// `Internal` if the chart can't be drawn.
pub fn histogram(frame: &Frame<'_>, bins: &Bins, sets: &[&str]) -> Result<Markup> {
    let svg = draw(frame, SIZE, |canvas| paint(canvas, bins))?;
    let header: Vec<&str> = ["from", "to"].into_iter().chain(sets.iter().copied()).collect();
    let rows = bins.intervals().enumerate().map(|(index, (from, to))| {
        let from = if index == 0 { bins.extent.0.min(from) } else { from };
        let to = if index + 2 == bins.edges.len() { bins.extent.1.max(to) } else { to };
        let (from, to) =
            if bins.is_integer { (from.ceil(), from.ceil()) } else { (bins.scale.value(from), bins.scale.value(to)) };
        let share = |shares: &Vec<f64>| percent(shares.get(index).copied().unwrap_or_default());
        [significant(from), significant(to)].into_iter().chain(bins.shares.iter().map(share)).collect()
    });
    Ok(html! {
        figure {
            (svg)
            (legend(sets.iter().copied(), |index| index > 0))
            (value_table(&header, rows))
        }
    })
}

fn paint(canvas: &Canvas<'_>, bins: &Bins) -> DrawResult {
    let (low, high) = (bins.edges.first().copied().unwrap_or(0.0), bins.edges.last().copied().unwrap_or(1.0));
    let top = bins.shares.iter().flatten().copied().fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.08 } else { 1.0 };
    let ticks = bins.scale.ticks(low, high, 6).into_iter().filter(|value| !bins.is_integer || value.fract() == 0.0);
    let ticks = ticks.filter_map(|value| Some((bins.scale.position(value)?, abbreviated(value))));
    let shares =
        Scale::Linear.ticks(0.0, top, 3).into_iter().map(|share| (share, format!("{} %", abbreviated(share * 100.0))));
    let mut chart = axes(canvas, Axis::new(low..high, ticks), Axis::new(0.0..top, shares), 22)?;
    if let Some(now) = bins.shares.first() {
        let bars = bins.intervals().zip(now).filter(|(_, share)| **share > 0.0).map(|((from, to), share)| {
            let mut bar =
                Rectangle::new([(from, 0.0), (to, *share)], PageColor::Series(0).placeholder().mix(0.75).filled());
            bar.set_margin(0, 0, 0, 1);
            bar
        });
        chart.draw_series(bars)?;
    }
    for (series, shares) in bins.shares.iter().enumerate().skip(1) {
        let steps = bins.intervals().zip(shares).flat_map(|((from, to), share)| [(from, *share), (to, *share)]);
        let outline: Vec<_> = std::iter::once((low, 0.0)).chain(steps).chain([(high, 0.0)]).collect();
        chart.draw_series([PathElement::new(outline, PageColor::Series(series).placeholder().stroke_width(2))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_integers_have_one_bin_each() {
        let bins = Bins::of(&[(&[0.0, 0.0, 2.0], 4), (&[1.0], 1)]);
        assert_eq!(bins.edges, [-0.5, 0.5, 1.5, 2.5]);
        assert_eq!(bins.shares, [vec![0.5, 0.0, 0.25], vec![0.0, 1.0, 0.0]]);
    }

    #[test]
    fn every_nonzero_value_is_in_a_bin() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i).powi(4) / 7.0).collect();
        let bins = Bins::of(&[(&values, 500)]);
        assert_eq!(bins.scale, Scale::Log);
        let sum: f64 = bins.shares.iter().flatten().sum();
        assert!((sum - 499.0 / 500.0).abs() < 1e-9, "all values but the zero are in a bin: {sum}");
    }

    #[test]
    fn outlier_does_not_compress_the_bins() {
        let values: Vec<f64> = (1..=200).map(f64::from).chain([1e12]).collect();
        let bins = Bins::of(&[(&values, values.len())]);
        assert!(bins.edges.last().is_some_and(|edge| *edge < 3.0), "{:?}", bins.edges);
        let sum: f64 = bins.shares.iter().flatten().sum();
        assert!((sum - 1.0).abs() < 1e-9 && bins.extent.1 == 12.0, "the outlier is in the last bin: {sum}");
    }

    #[test]
    fn draws_empty_and_extreme_sets() {
        let frame = Frame { id: "x", title: "t", about: "a" };
        for values in [&[][..], &[f64::NAN], &[7.5, 7.5], &[1e300, -1e300], &[f64::MIN_POSITIVE, 1e300]] {
            assert!(histogram(&frame, &Bins::of(&[(values, 2), (&[], 0)]), &["now", "before"]).is_ok(), "{values:?}");
        }
    }
}
