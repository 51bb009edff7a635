//! Chance for the sample chain: a seeded stream that gives the same numbers on every platform and for good.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of numbers. It draws on nothing but the generator's raw bits, because the distributions of `rand` may
/// change from release to release.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of a seed and a purpose: streams of different purposes do not disturb each other.
    pub(super) fn new(seed: u64, purpose: u64) -> Dice {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose);
        Dice(generator)
    }

    /// A number below `end`, 0 where `end` is 0. The bias of the remainder is far below what a sample could show.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// A number from 0 to 1, exclusive of 1, with 53 bits.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between two others.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True in so many of a thousand cases.
    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// A bell-shaped number around 0 with a standard deviation of 1: the sum of twelve uniform ones, since a logarithm
    /// may differ in the last bit between platforms.
    pub(super) fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// One of a few; `None` of nothing.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).copied()
    }

    /// So many random bytes as lower-case hex with `0x`.
    pub(super) fn hex(&mut self, bytes: usize) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(2 + 2 * bytes);
        text.push_str("0x");
        for _ in 0..bytes {
            let byte = (self.0.next_u32() & 0xff) as usize;
            text.push(char::from(DIGITS[byte >> 4]));
            text.push(char::from(DIGITS[byte & 15]));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_fixed_by_seed_and_purpose() {
        let draw = |seed, purpose| Dice::new(seed, purpose).hex(20);
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_eq!(draw(1, 0).len(), 42);
    }

    #[test]
    fn numbers_stay_in_range() {
        let mut dice = Dice::new(7, 0);
        for _ in 0..1000 {
            assert!(dice.below(3) < 3);
            let unit = dice.unit();
            assert!((0.0..1.0).contains(&unit));
            assert!((-6.0..6.0).contains(&dice.bell()));
        }
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
