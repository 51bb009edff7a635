//! Interest of the Aave markets of the sample chain: the indexes by which scaled balances grow. Compound's balances have none,
//! like those of its subgraph.

use defi_shared::contracts::U256;
use defi_shared::domain::replay::aave_v2::{Indexes, StoredIndexes};
use defi_shared::domain::replay::{RAY, ray_div, ray_mul};
use defi_shared::error::Result;

use super::protocols::{AAVE, MARKETS};
use crate::recording::Block;

/// The yearly rates of supplies and debts, in basis points: those of the first market, and what each further one adds.
const SUPPLY_RATE: [u64; 2] = [90, 35];
const DEBT_RATE: [u64; 2] = [240, 60];
/// How long before the first block of a day the indexes of a market were stored, in seconds: of the first market, and what each
/// further one adds.
const STORED_BEFORE: [u64; 2] = [420, 1_130];

/// The indexes of a market at the first block of a day.
#[derive(Debug, Clone, Copy)]
pub(super) struct MarketIndexes {
    /// When the indexes were stored, in seconds since 1 January 1970 UTC.
    pub(super) stored_at: i64,
    pub(super) stored: StoredIndexes,
    /// The indexes at the first block.
    pub(super) now: Indexes,
}

/// The indexes of the markets, by day.
pub(super) struct Interest(Vec<[MarketIndexes; MARKETS.len()]>);

impl Interest {
    pub(super) fn new(first_blocks: &[Block]) -> Result<Interest> {
        let mut days: Vec<[MarketIndexes; MARKETS.len()]> = Vec::with_capacity(first_blocks.len());
        for block in first_blocks {
            let of_market = |index: usize| {
                let stored_at = block.timestamp - linear(STORED_BEFORE, index) as i64;
                let stored = match days.last() {
                    None => first(index),
                    Some(before) => later(&before[index], stored_at)?,
                };
                let seconds = u64::try_from(block.timestamp - stored_at).unwrap_or_default();
                Ok(MarketIndexes { stored_at, stored, now: stored.after(seconds)? })
            };
            let markets: Vec<MarketIndexes> = (0..MARKETS.len()).map(of_market).collect::<Result<_>>()?;
            days.extend(<[MarketIndexes; MARKETS.len()]>::try_from(markets));
        }
        Ok(Interest(days))
    }

    /// Returns the indexes of a market at the first block of a day.
    pub(super) fn market(&self, day: usize, market: usize) -> &MarketIndexes {
        &self.0[day.min(self.0.len() - 1)][market]
    }

    /// Returns what a scaled balance is worth on a day.
    pub(super) fn grown(&self, day: usize, market: usize, is_debt: bool, scaled: u128) -> u128 {
        self.index(day, market, is_debt).map_or(scaled, |index| convert(ray_mul, scaled, index))
    }

    /// Returns the scaled balance that is worth an amount on a day.
    pub(super) fn scaled(&self, day: usize, market: usize, is_debt: bool, amount: u128) -> u128 {
        self.index(day, market, is_debt).map_or(amount, |index| convert(ray_div, amount, index))
    }

    fn index(&self, day: usize, market: usize, is_debt: bool) -> Option<U256> {
        let Indexes { income, variable_debt } = self.market(day, market).now;
        (MARKETS[market].protocol == AAVE).then_some(if is_debt { variable_debt } else { income })
    }
}

/// Amounts of the sample chain are far from the limits of the arithmetic.
fn convert(rule: fn(U256, U256) -> Result<U256>, amount: u128, index: U256) -> u128 {
    rule(U256::from(amount), index).ok().and_then(|amount| u128::try_from(amount).ok()).unwrap_or(amount)
}

fn linear([first, further]: [u64; 2], market: usize) -> u64 {
    first + further * market as u64
}

/// Returns the indexes of a market that is older than the chain.
fn first(market: usize) -> StoredIndexes {
    let rate = |rates| RAY * U256::from(linear(rates, market)) / U256::from(10_000);
    let index = |grown: u64| RAY + RAY * U256::from(grown + market as u64) / U256::from(1_000);
    StoredIndexes { income: (index(21), rate(SUPPLY_RATE)), variable_debt: (index(47), rate(DEBT_RATE)) }
}

/// Returns the indexes when they are stored again.
fn later(before: &MarketIndexes, stored_at: i64) -> Result<StoredIndexes> {
    let seconds = u64::try_from(stored_at - before.stored_at).unwrap_or_default();
    let Indexes { income, variable_debt } = before.stored.after(seconds)?;
    let StoredIndexes { income: (_, supply_rate), variable_debt: (_, debt_rate) } = before.stored;
    Ok(StoredIndexes { income: (income, supply_rate), variable_debt: (variable_debt, debt_rate) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_of_aave_grow_every_day_and_balances_with_them() {
        let block = |day: u64| Block { number: day * 7_200, timestamp: 1_672_531_211 + day as i64 * 86_400 };
        let interest = Interest::new(&[block(0), block(1), block(365)]).unwrap();
        let scaled = 1_000_000_000_000_000_000_000;
        for is_debt in [false, true] {
            let grown = [0, 1, 2].map(|day| interest.grown(day, 3, is_debt, scaled));
            assert!(scaled < grown[0] && grown[0] < grown[1] && grown[1] < grown[2], "{grown:?}");
            let year = grown[2] as f64 / grown[0] as f64;
            assert!((1.01..1.06).contains(&year), "{year}");
            assert!(interest.scaled(1, 3, is_debt, grown[1]).abs_diff(scaled) <= 1);
            assert_eq!(interest.grown(2, 9, is_debt, scaled), scaled, "of Compound");
        }
    }
}
