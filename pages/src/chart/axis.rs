//! Axes with custom ticks and labels.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::SVGBackend;
use plotters::style::Color;

use super::paint::{Canvas, DrawResult, PageColor, label_style};

/// An axis: its range, and the position and label of each tick.
pub(super) struct Axis {
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Creates an axis. Ticks outside its range are dropped.
    pub(super) fn new(range: Range<f64>, ticks: impl IntoIterator<Item = (f64, String)>) -> Self {
        let is_in_range = |(position, _): &(f64, String)| (range.start..=range.end).contains(position);
        let ticks = ticks.into_iter().filter(is_in_range).collect();
        Axis { range, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let fraction = (value - self.range.start) / (self.range.end - self.range.start);
        from + (fraction * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(position, _)| *position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(position, _)| position == value);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// A chart with a horizontal and a vertical axis. The ticks of the vertical axis are grid lines behind the data.
pub(super) type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws the axes. Half of the last horizontal label extends beyond the axis into `margin_right`. Labels are larger on
/// phones.
pub(super) fn axes<'a, 'b>(
    canvas: &'a Canvas<'b>,
    horizontal: Axis,
    vertical: Axis,
    margin_right: u32,
) -> DrawResult<Axes<'a, 'b>> {
    let mut chart = ChartBuilder::on(canvas);
    chart.margin_top(10).margin_right(margin_right).x_label_area_size(26).y_label_area_size(54);
    let mut chart = chart.build_cartesian_2d(horizontal, vertical)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(PageColor::Grid.placeholder())
        .light_line_style(PageColor::Grid.placeholder().mix(0.0))
        .axis_style(PageColor::Grid.placeholder())
        .label_style(label_style(12))
        .draw()?;
    Ok(chart)
}
