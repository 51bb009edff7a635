//! Axes: where a value stands on one, and which values are written below it.

/// How values are laid out along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their decimal logarithm, values above zero only.
    Log,
    /// By the logarithm of their size, to either side of zero; sizes well below `unit` lie evenly.
    SignedLog {
        /// Where it turns from even to logarithmic.
        unit: f64,
    },
}

/// Values that spread wider than this, without the outermost twentieth at either end, are laid out by their logarithm, and so are
/// those of which the largest is so many times the one in the middle.
const WIDE: f64 = 50.0;
const SKEWED: f64 = 8.0;

impl Scale {
    /// The scale that shows values best.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Scale {
        let (mut negative, mut positive) = (false, false);
        let mut sizes = Vec::new();
        for value in values.filter(|value| value.is_finite() && *value != 0.0) {
            negative |= value < 0.0;
            positive |= value > 0.0;
            sizes.push(value.abs());
        }
        sizes.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| sizes.get((sizes.len().saturating_sub(1)) * share / 20).copied();
        let [small, middle, large, largest] = [1, 10, 19, 20].map(|share| at(share).unwrap_or(1.0));
        match large / small > WIDE || largest / middle > SKEWED {
            true if negative => Scale::SignedLog { unit: 10f64.powf(small.log10().floor()) },
            true if positive => Scale::Log,
            _ => Scale::Linear,
        }
    }

    /// Where a value stands; `None` where it has no place.
    #[must_use]
    pub fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Scale::Linear => value,
            Scale::Log if value <= 0.0 => return None,
            Scale::Log => value.log10(),
            Scale::SignedLog { unit } => (value.abs() / unit).ln_1p().copysign(value) / std::f64::consts::LN_10,
        };
        place.is_finite().then_some(place)
    }

    /// The value at a place.
    #[must_use]
    pub fn value(self, place: f64) -> f64 {
        match self {
            Scale::Linear => place,
            Scale::Log => 10f64.powf(place),
            Scale::SignedLog { unit } => ((place.abs() * std::f64::consts::LN_10).exp_m1() * unit).copysign(place),
        }
    }

    /// Values to write along an axis between two places, about so many.
    #[must_use]
    pub fn ticks(self, low: f64, high: f64, about: usize) -> Vec<f64> {
        match self {
            Scale::Linear => even(low, high, about),
            Scale::Log if high - low < 1.0 => even(self.value(low), self.value(high), about),
            Scale::Log => decades(low, high, about).map(|decade| 10f64.powi(decade)).collect(),
            Scale::SignedLog { unit } => {
                let top = low.abs().max(high.abs());
                let sizes: Vec<f64> =
                    decades(1.0, top, about.div_ceil(2)).map(|decade| unit * 10f64.powi(decade)).collect();
                let below = sizes.iter().rev().map(|size| -size);
                let all = below.chain([0.0]).chain(sizes.iter().copied());
                all.filter(|value| self.place(*value).is_some_and(|place| (low..=high).contains(&place))).collect()
            }
        }
    }
}

/// Whole powers of ten between two, every second or third one where they are many.
fn decades(low: f64, high: f64, about: usize) -> impl Iterator<Item = i32> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    let count = usize::try_from(last - first + 1).unwrap_or(0);
    (first..=last).step_by(count.div_ceil(about.max(1)).max(1))
}

/// Multiples of 1, 2 or 5 and a power of ten between two values.
fn even(low: f64, high: f64, about: usize) -> Vec<f64> {
    let span = high - low;
    if span.is_nan() || span <= 0.0 || !span.is_finite() {
        return vec![low];
    }
    let rough = span / about.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough * 0.75).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    // Steps may be a little finer than asked for.
    let steps = (0..=about as i64 * 2).map(|index| (first + index) as f64 * step);
    steps.filter(|value| *value <= high + step * 1e-9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_follows_the_spread() {
        assert_eq!(Scale::of([0.0, 1.0, 2.0, 3.0].into_iter()), Scale::Linear);
        let wide: Vec<f64> = (0..100).map(|i| 10f64.powi(i % 5)).collect();
        assert_eq!(Scale::of(wide.iter().copied()), Scale::Log);
        let both = wide.iter().map(|value| if value.log10() as i32 % 2 == 0 { *value } else { -value });
        assert_eq!(Scale::of(both), Scale::SignedLog { unit: 1.0 });
        assert_eq!(Scale::of([f64::NAN, f64::INFINITY].into_iter()), Scale::Linear);
    }

    #[test]
    fn a_place_leads_back_to_its_value() {
        for scale in [Scale::Linear, Scale::Log, Scale::SignedLog { unit: 0.01 }] {
            for value in [-250.0, -0.001, 0.5, 12.0, 1e6] {
                let Some(place) = scale.place(value) else { continue };
                assert!((scale.value(place) / value - 1.0).abs() < 1e-9, "{scale:?} {value}");
            }
        }
        assert_eq!((Scale::Log.place(0.0), Scale::Log.place(f64::NAN)), (None, None));
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
