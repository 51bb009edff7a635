//! The fixed-point arithmetic of the contracts: integers with 27 decimals (Aave's rays) or 18 decimals.

use alloy_primitives::{U256, uint};

use crate::error::{Error, Result};

/// 1 in rays.
pub const RAY: U256 = uint!(1_000_000_000_000_000_000_000_000_000_U256);
/// Half of a ray.
const HALF_RAY: U256 = uint!(500_000_000_000_000_000_000_000_000_U256);
/// 1 with 18 decimals.
pub const WAD: U256 = uint!(1_000_000_000_000_000_000_U256);
/// The seconds of a year, as the contracts count them.
const SECONDS_PER_YEAR: U256 = uint!(31_536_000_U256);

/// Multiplies by a number in rays, rounded half up.
///
/// # Errors
/// `CorruptData` if the product has more than 256 bits.
pub fn ray_mul(a: U256, b: U256) -> Result<U256> {
    let product = a.checked_mul(b).and_then(|product| product.checked_add(HALF_RAY));
    product.map(|product| product / RAY).ok_or_else(too_large)
}

/// Divides by a number in rays, rounded half up.
///
/// # Errors
/// `CorruptData` for a division by 0, or if the dividend has more than 256 bits.
pub fn ray_div(a: U256, b: U256) -> Result<U256> {
    let dividend = a.checked_mul(RAY).and_then(|dividend| dividend.checked_add(b >> 1));
    dividend.and_then(|dividend| dividend.checked_div(b)).ok_or_else(too_large)
}

/// Returns `a` · `b` ÷ `divisor`, cut off.
///
/// # Errors
/// `CorruptData` for a division by 0, or if the product has more than 256 bits.
pub fn mul_div(a: U256, b: U256, divisor: U256) -> Result<U256> {
    a.checked_mul(b).and_then(|product| product.checked_div(divisor)).ok_or_else(too_large)
}

/// Returns the factor, in rays, by which a supply grows in `seconds` at a yearly `rate` in rays: linear interest.
///
/// # Errors
/// `CorruptData` if the factor has more than 256 bits.
pub fn linear(rate: U256, seconds: u64) -> Result<U256> {
    let interest = rate.checked_mul(U256::from(seconds)).map(|interest| interest / SECONDS_PER_YEAR);
    interest.and_then(|interest| interest.checked_add(RAY)).ok_or_else(too_large)
}

/// Returns the factor, in rays, by which a debt grows in `seconds` at a yearly `rate` in rays: the first terms of the
/// binomial series, as the contracts compute compound interest.
///
/// # Errors
/// `CorruptData` if the factor has more than 256 bits.
pub fn compounded(rate: U256, seconds: u64) -> Result<U256> {
    if seconds == 0 {
        return Ok(RAY);
    }
    let (one, two) = (U256::from(seconds - 1), U256::from(seconds.saturating_sub(2)));
    let seconds = U256::from(seconds);
    let per_second = rate / SECONDS_PER_YEAR;
    let squared = ray_mul(per_second, per_second)?;
    let cubed = ray_mul(squared, per_second)?;
    let sum = || {
        let first = per_second.checked_mul(seconds)?;
        let second = seconds.checked_mul(one)?.checked_mul(squared)? / U256::from(2);
        let third = seconds.checked_mul(one)?.checked_mul(two)?.checked_mul(cubed)? / U256::from(6);
        RAY.checked_add(first)?.checked_add(second)?.checked_add(third)
    };
    sum().ok_or_else(too_large)
}

/// Converts to the 128 bits in which balances are kept.
///
/// # Errors
/// `CorruptData` for a number of 10^38 or more, which no balance of a real token reaches.
pub fn narrow(number: U256) -> Result<i128> {
    i128::try_from(number).ok().filter(|number| *number < LIMIT).ok_or_else(too_large)
}

/// The smallest number that does not fit in a column of balances.
const LIMIT: i128 = 10i128.pow(38);

fn too_large() -> Error {
    Error::corrupt("a number of the contracts is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ray(tenths: u64) -> U256 {
        U256::from(tenths) * RAY / U256::from(10)
    }

    #[test]
    fn ray_products_and_quotients_are_rounded_half_up() {
        assert_eq!(ray_mul(U256::from(5), ray(3)).unwrap(), U256::from(2), "1.5");
        assert_eq!(ray_mul(U256::from(4), ray(3)).unwrap(), U256::from(1), "1.2");
        assert_eq!(ray_div(U256::from(3), ray(20)).unwrap(), U256::from(2), "1.5");
        assert_eq!(ray_div(U256::from(7), ray(30)).unwrap(), U256::from(2), "2.33");
        assert_eq!(mul_div(U256::from(7), U256::from(3), U256::from(4)).unwrap(), U256::from(5), "5.25");
    }

    #[test]
    fn numbers_out_of_range_are_corrupt() {
        for result in [
            ray_mul(U256::MAX, U256::from(2)),
            ray_mul(U256::MAX, U256::from(1)),
            ray_div(U256::MAX, RAY),
            ray_div(RAY, U256::ZERO),
            mul_div(U256::MAX, U256::from(2), RAY),
            mul_div(RAY, RAY, U256::ZERO),
            compounded(U256::MAX, 3),
            linear(U256::MAX, 3),
            linear(U256::MAX, 1).and_then(|factor| ray_mul(factor, U256::MAX)),
        ] {
            assert_eq!(result.unwrap_err().kind(), crate::Kind::CorruptData);
        }
        assert_eq!(narrow(U256::from(LIMIT as u128 - 1)).unwrap(), LIMIT - 1);
        assert!(narrow(U256::from(LIMIT as u128)).is_err());
    }

    #[test]
    fn interest_of_supplies_is_linear() {
        let rate = RAY * U256::from(31_536);
        assert_eq!(linear(rate, 0).unwrap(), RAY);
        assert_eq!(linear(rate, 7).unwrap(), RAY + RAY * U256::from(7) / U256::from(1000));
        assert_eq!(linear(U256::from(31_535_999), 1).unwrap(), RAY, "less than one unit");
    }

    #[test]
    fn interest_is_three_terms_of_the_binomial_series() {
        // 31.536 in rays per year is 1e-6 per second.
        let rate = uint!(31_536_000_000_000_000_000_000_000_000_U256);
        let per_second = uint!(1_000_000_000_000_000_000_000_U256);
        assert_eq!(compounded(rate, 0).unwrap(), RAY);
        assert_eq!(compounded(rate, 1).unwrap(), RAY + per_second);
        // 2 seconds: 1 + 2e-6 + 2·1·1e-12/2.
        assert_eq!(compounded(rate, 2).unwrap(), RAY + uint!(2_000_001_000_000_000_000_000_U256));
        // 4 seconds: 1 + 4e-6 + 4·3·1e-12/2 + 4·3·2·1e-18/6.
        assert_eq!(compounded(rate, 4).unwrap(), RAY + uint!(4_000_006_000_004_000_000_000_U256));
    }
}
