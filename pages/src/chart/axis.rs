//! Axes with ticks and words of our own.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::SVGBackend;
use plotters::style::Color;

use super::paint::{Canvas, Drawn, Ink, words};

/// An axis: from where to where, at which places there are ticks, and what is written there.
pub(super) struct Axis {
    places: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with these ticks, as far as they lie on it.
    pub(super) fn new(places: Range<f64>, ticks: impl IntoIterator<Item = (f64, String)>) -> Self {
        let is_on_it = |(place, _): &(f64, String)| (places.start..=places.end).contains(place);
        let ticks = ticks.into_iter().filter(is_on_it).collect();
        Axis { places, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.places.start) / (self.places.end - self.places.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> Range<f64> {
        self.places.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(place, _)| place == value);
        tick.map(|(_, word)| word.clone()).unwrap_or_default()
    }
}

/// A chart with an axis below and one to the left, whose ticks go on as lines behind the data.
pub(super) type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws the axes.
/// The last word below hangs over the end by half, for which there is some room: on a phone words are larger.
pub(super) fn axes<'a, 'b>(canvas: &'a Canvas<'b>, below: Axis, left: Axis, room: u32) -> Drawn<Axes<'a, 'b>> {
    let mut chart = ChartBuilder::on(canvas);
    chart.margin_top(10).margin_right(room).x_label_area_size(26).y_label_area_size(54);
    let mut chart = chart.build_cartesian_2d(below, left)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(Ink::Grid.color())
        .light_line_style(Ink::Grid.color().mix(0.0))
        .axis_style(Ink::Grid.color())
        .label_style(words(12))
        .draw()?;
    Ok(chart)
}
