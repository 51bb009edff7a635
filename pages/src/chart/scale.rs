//! Scales: map values to positions on an axis, and choose the ticks.

/// The mapping of values to positions on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Linear.
    Linear,
    /// Decimal logarithm, for values above zero only.
    Log,
    /// Symmetric logarithm on both sides of zero, and approximately linear for magnitudes well below `unit`.
    SignedLog {
        /// The magnitude at which the scale changes from linear to logarithmic.
        unit: f64,
    },
}

/// The scale is logarithmic if the 95th percentile of the magnitudes is more than this many times the 5th percentile.
const MAX_LINEAR_SPREAD: f64 = 50.0;
/// The scale is logarithmic if the maximum of the magnitudes is more than this many times the median.
const MAX_LINEAR_SKEW: f64 = 8.0;

impl Scale {
    /// Chooses a scale by the distribution of values.
    #[must_use]
    pub fn for_values(values: impl Iterator<Item = f64>) -> Scale {
        let (mut negative, mut positive) = (false, false);
        let mut magnitudes = Vec::new();
        for value in values.filter(|value| value.is_finite() && *value != 0.0) {
            negative |= value < 0.0;
            positive |= value > 0.0;
            magnitudes.push(value.abs());
        }
        magnitudes.sort_unstable_by(f64::total_cmp);
        let quantile = |twentieth: usize| {
            magnitudes.get((magnitudes.len().saturating_sub(1)) * twentieth / 20).copied().unwrap_or(1.0)
        };
        let [p5, median, p95, maximum] = [1, 10, 19, 20].map(quantile);
        match p95 / p5 > MAX_LINEAR_SPREAD || maximum / median > MAX_LINEAR_SKEW {
            true if negative => Scale::SignedLog { unit: 10f64.powf(p5.log10().floor()) },
            true if positive => Scale::Log,
            _ => Scale::Linear,
        }
    }

    /// Returns the position of a value, or `None` if it is not on the axis.
    #[must_use]
    pub fn position(self, value: f64) -> Option<f64> {
        let position = match self {
            Scale::Linear => value,
            Scale::Log if value <= 0.0 => return None,
            Scale::Log => value.log10(),
            Scale::SignedLog { unit } => (value.abs() / unit).ln_1p().copysign(value) / std::f64::consts::LN_10,
        };
        position.is_finite().then_some(position)
    }

    /// Returns the value at a position.
    #[must_use]
    pub fn value(self, position: f64) -> f64 {
        match self {
            Scale::Linear => position,
            Scale::Log => 10f64.powf(position),
            Scale::SignedLog { unit } => {
                ((position.abs() * std::f64::consts::LN_10).exp_m1() * unit).copysign(position)
            }
        }
    }

    /// Returns about `count` round values between two positions, to label the axis with.
    #[must_use]
    pub fn ticks(self, low: f64, high: f64, count: usize) -> Vec<f64> {
        match self {
            Scale::Linear => linear_ticks(low, high, count),
            Scale::Log if high - low < 1.0 => linear_ticks(self.value(low), self.value(high), count),
            Scale::Log => decades(low, high, count).map(|decade| 10f64.powi(decade)).collect(),
            Scale::SignedLog { unit } => {
                let top = low.abs().max(high.abs());
                let positive: Vec<f64> =
                    decades(1.0, top, count.div_ceil(2)).map(|decade| unit * 10f64.powi(decade)).collect();
                let negative = positive.iter().rev().map(|value| -value);
                let all = negative.chain([0.0]).chain(positive.iter().copied());
                let is_in_range = |position| (low..=high).contains(&position);
                all.filter(|value| self.position(*value).is_some_and(is_in_range)).collect()
            }
        }
    }
}

/// Returns at most `count` integer exponents of ten between two exponents.
fn decades(low: f64, high: f64, count: usize) -> impl Iterator<Item = i32> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    let all = usize::try_from(last - first + 1).unwrap_or(0);
    (first..=last).step_by(all.div_ceil(count.max(1)).max(1))
}

/// Returns about `count` multiples of 1, 2 or 5 times a power of ten between two values.
fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if span.is_nan() || span <= 0.0 || !span.is_finite() {
        return vec![low];
    }
    let rough = span / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough * 0.75).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    // The step may be smaller than `rough`, so that there are more ticks than `count`.
    let ticks = (0..=count as i64 * 2).map(|index| (first + index) as f64 * step);
    ticks.filter(|value| *value <= high + step * 1e-9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_depends_on_the_spread_of_the_values() {
        assert_eq!(Scale::for_values([0.0, 1.0, 2.0, 3.0].into_iter()), Scale::Linear);
        let wide: Vec<f64> = (0..100).map(|i| 10f64.powi(i % 5)).collect();
        assert_eq!(Scale::for_values(wide.iter().copied()), Scale::Log);
        let both = wide.iter().map(|value| if value.log10() as i32 % 2 == 0 { *value } else { -value });
        assert_eq!(Scale::for_values(both), Scale::SignedLog { unit: 1.0 });
        assert_eq!(Scale::for_values([f64::NAN, f64::INFINITY].into_iter()), Scale::Linear);
    }

    #[test]
    fn value_inverts_position() {
        for scale in [Scale::Linear, Scale::Log, Scale::SignedLog { unit: 0.01 }] {
            for value in [-250.0, -0.001, 0.5, 12.0, 1e6] {
                let Some(position) = scale.position(value) else { continue };
                assert!((scale.value(position) / value - 1.0).abs() < 1e-9, "{scale:?} {value}");
            }
        }
        assert_eq!((Scale::Log.position(0.0), Scale::Log.position(f64::NAN)), (None, None));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Scale::Linear.ticks(0.0, 9.7, 5), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(Scale::Log.ticks(-2.5, 2.2, 5), [0.01, 0.1, 1.0, 10.0, 100.0]);
        assert_eq!(Scale::Linear.ticks(3.0, 3.0, 5), [3.0]);
        let signed = Scale::SignedLog { unit: 1.0 }.ticks(-2.1, 3.1, 6);
        assert_eq!(signed, [-100.0, -10.0, 0.0, 10.0, 100.0, 1000.0]);
    }
}
