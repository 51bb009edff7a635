//! The random number generator of the sample chain, which is deterministic on every platform and in every release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded random number generator. It uses only the raw bits of ChaCha8, because the distributions of `rand` may
/// change between releases.
pub(super) struct SeededRng(ChaCha8Rng);

impl SeededRng {
    /// Creates the stream of a seed and a purpose. Streams of different purposes are independent.
    pub(super) fn new(seed: u64, purpose: u64) -> SeededRng {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose);
        SeededRng(generator)
    }

    /// Returns a number below `end`, or 0 if `end` is 0. The modulo bias is negligible.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// Returns a number from 0 (inclusive) to 1 (exclusive), with 53 bits.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a number between `low` and `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Returns true with a probability of `chance` in a thousand.
    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// Returns a number with an approximately normal distribution, of mean 0 and standard deviation 1: the sum of
    /// twelve uniform numbers, because a logarithm may differ in the last bit between platforms.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Returns a random element, or `None` if there are none.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).copied()
    }

    /// Returns random bytes as lower-case hex with `0x`.
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
    fn stream_depends_on_seed_and_purpose() {
        let draw = |seed, purpose| SeededRng::new(seed, purpose).hex(20);
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_eq!(draw(1, 0).len(), 42);
    }

    #[test]
    fn numbers_are_in_range() {
        let mut rng = SeededRng::new(7, 0);
        for _ in 0..1000 {
            assert!(rng.below(3) < 3);
            let unit = rng.unit();
            assert!((0.0..1.0).contains(&unit));
            assert!((-6.0..6.0).contains(&rng.normal()));
        }
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.pick::<u8>(&[]), None);
    }
}
