//! How values are distributed, of one set or of one beside another.

use defi_shared::error::Result;
use maud::{Markup, html};
use plotters::element::{PathElement, Rectangle};
use plotters::style::Color;

use super::axis::{Axis, axes};
use super::paint::{Canvas, Drawn, Ink, draw};
use super::scale::Scale;
use super::{Frame, figures, legend};
use crate::number::{percent, short, significant};

const SIZE: (u32, u32) = (400, 170);

/// Bins of values that may be anything.
const BINS: usize = 28;

/// One of so many values at either end may lie beyond the edges, so that a stray one does not press all others together.
const BEYOND: usize = 100;

/// Whole numbers up to so many different ones have a bin each.
const FEW: f64 = 28.0;

/// The share of each set's values that falls into each bin. A set is as large as it says: what no bin shows is a part of it, too.
/// Zeros are shown only among whole numbers; elsewhere there may be so many of them that nothing else could be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    /// How the bins lie along the axis.
    pub scale: Scale,
    /// Where they begin and end on it, one more than there are bins.
    edges: Vec<f64>,
    /// The smallest and the largest place of a value: those beyond the edges are in the bins at the ends.
    ends: (f64, f64),
    /// A share a bin, of each set.
    shares: Vec<Vec<f64>>,
    /// Whether a bin is a whole number.
    whole: bool,
}

impl Bins {
    /// Sorts the values of sets into bins: a bin for each of few whole numbers, else evenly along the scale that shows them best.
    /// A set is its values and its size.
    #[must_use]
    pub fn of(sets: &[(&[f64], usize)]) -> Bins {
        let all = || sets.iter().flat_map(|(values, _)| values.iter().copied()).filter(|value| value.is_finite());
        let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let whole = all().all(|value| value.fract() == 0.0) && high - low < FEW;
        let scale = if whole { Scale::Linear } else { Scale::of(all()) };
        let place = |value: f64| scale.place(value).filter(|_| whole || value != 0.0);
        let mut places: Vec<f64> = all().filter_map(place).collect();
        places.sort_unstable_by(f64::total_cmp);
        let beyond = if whole { 0 } else { places.len() / BEYOND };
        let ends = |aside: usize| places.get(aside).copied().zip(places.iter().rev().nth(aside).copied());
        let (low, high) = ends(beyond).unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
        let (low, high, count) = match (low, high) {
            _ if low > high => (0.0, 1.0, 1),
            _ if whole => (low - 0.5, high + 0.5, (high - low) as usize + 1),
            _ if low == high => (low - 0.5, high + 0.5, 1),
            _ => (low, high, BINS),
        };
        let width = (high - low) / count as f64;
        let edges = (0..=count).map(|index| low + width * index as f64).collect();
        let share = |(values, size): &(&[f64], usize)| {
            let mut counts = vec![0u64; count];
            for place in values.iter().copied().filter_map(place) {
                let index = (((place - low) / width).max(0.0) as usize).min(count - 1);
                counts.iter_mut().skip(index).take(1).for_each(|count| *count += 1);
            }
            counts.into_iter().map(|count| count as f64 / (*size).max(1) as f64).collect()
        };
        let ends = ends(0).unwrap_or((low, high));
        Bins { scale, shares: sets.iter().map(share).collect(), edges, ends, whole }
    }

    fn between(&self) -> impl Iterator<Item = (f64, f64)> {
        self.edges.iter().copied().zip(self.edges.iter().skip(1).copied())
    }
}

/// Bins as bars of the first set, with the second one's outline before them.
///
/// # Errors
/// The drawing library's.
pub fn histogram(frame: &Frame<'_>, bins: &Bins, sets: &[&str]) -> Result<Markup> {
    let svg = draw(frame, SIZE, |canvas| paint(canvas, bins))?;
    let header: Vec<&str> = ["from", "to"].into_iter().chain(sets.iter().copied()).collect();
    let rows = bins.between().enumerate().map(|(index, (from, to))| {
        let from = if index == 0 { bins.ends.0.min(from) } else { from };
        let to = if index + 2 == bins.edges.len() { bins.ends.1.max(to) } else { to };
        let (from, to) =
            if bins.whole { (from.ceil(), from.ceil()) } else { (bins.scale.value(from), bins.scale.value(to)) };
        let share = |shares: &Vec<f64>| percent(shares.get(index).copied().unwrap_or_default());
        [significant(from), significant(to)].into_iter().chain(bins.shares.iter().map(share)).collect()
    });
    Ok(html! {
        figure {
            (svg)
            (legend(sets.iter().copied(), |index| index > 0))
            (figures(&header, rows))
        }
    })
}

fn paint(canvas: &Canvas<'_>, bins: &Bins) -> Drawn {
    let (low, high) = (bins.edges.first().copied().unwrap_or(0.0), bins.edges.last().copied().unwrap_or(1.0));
    let top = bins.shares.iter().flatten().copied().fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.08 } else { 1.0 };
    let ticks = bins.scale.ticks(low, high, 6).into_iter().filter(|value| !bins.whole || value.fract() == 0.0);
    let ticks = ticks.filter_map(|value| Some((bins.scale.place(value)?, short(value))));
    let shares =
        Scale::Linear.ticks(0.0, top, 3).into_iter().map(|share| (share, format!("{} %", short(share * 100.0))));
    let mut chart = axes(canvas, Axis::new(low..high, ticks), Axis::new(0.0..top, shares), 22)?;
    if let Some(now) = bins.shares.first() {
        let bars = bins.between().zip(now).filter(|(_, share)| **share > 0.0).map(|((from, to), share)| {
            let mut bar = Rectangle::new([(from, 0.0), (to, *share)], Ink::Series(0).color().mix(0.75).filled());
            bar.set_margin(0, 0, 0, 1);
            bar
        });
        chart.draw_series(bars)?;
    }
    for (series, shares) in bins.shares.iter().enumerate().skip(1) {
        let steps = bins.between().zip(shares).flat_map(|((from, to), share)| [(from, *share), (to, *share)]);
        let outline: Vec<_> = std::iter::once((low, 0.0)).chain(steps).chain([(high, 0.0)]).collect();
        chart.draw_series([PathElement::new(outline, Ink::Series(series).color().stroke_width(2))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_whole_numbers_have_a_bin_each() {
        let bins = Bins::of(&[(&[0.0, 0.0, 2.0], 4), (&[1.0], 1)]);
        assert_eq!(bins.edges, [-0.5, 0.5, 1.5, 2.5]);
        assert_eq!(bins.shares, [vec![0.5, 0.0, 0.25], vec![0.0, 1.0, 0.0]]);
    }

    #[test]
    fn every_value_with_a_place_is_in_a_bin() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i).powi(4) / 7.0).collect();
        let bins = Bins::of(&[(&values, 500)]);
        assert_eq!(bins.scale, Scale::Log);
        let sum: f64 = bins.shares.iter().flatten().sum();
        assert!((sum - 499.0 / 500.0).abs() < 1e-9, "all but the zero: {sum}");
    }

    #[test]
    fn a_stray_value_does_not_press_the_others_together() {
        let values: Vec<f64> = (1..=200).map(f64::from).chain([1e12]).collect();
        let bins = Bins::of(&[(&values, values.len())]);
        assert!(bins.edges.last().is_some_and(|edge| *edge < 3.0), "{:?}", bins.edges);
        let sum: f64 = bins.shares.iter().flatten().sum();
        assert!((sum - 1.0).abs() < 1e-9 && bins.ends.1 == 12.0, "it is in the last bin: {sum}");
    }

    #[test]
    fn odd_sets_are_drawn_too() {
        let frame = Frame { id: "x", title: "t", about: "a" };
        for values in [&[][..], &[f64::NAN], &[7.5, 7.5], &[1e300, -1e300], &[f64::MIN_POSITIVE, 1e300]] {
            assert!(histogram(&frame, &Bins::of(&[(values, 2), (&[], 0)]), &["now", "before"]).is_ok(), "{values:?}");
        }
    }
}
