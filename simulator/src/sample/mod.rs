//! The sample chain: two lending protocols over some weeks, generated from a seed, as a recording.
//!
//! Wallets act, positions follow from their events, and liquidations follow from falling prices, so the features of a
//! wallet are consistent with its history. Tokens, markets and their limits are those of mainnet. A few rows are
//! invalid, as in real data. Equal options give equal bytes on every machine: all randomness comes from a seeded
//! generator, and floating-point arithmetic uses only operations that IEEE 754 defines exactly (`+ - * /`).

mod accounts;
mod actions;
mod calendar;
mod events;
mod interest;
mod liquidations;
mod prices;
mod protocols;
mod rng;
mod wallets;
mod world;

use defi_shared::config::Schema;
use defi_shared::error::{Error, Result};

use crate::recording::Recording;
use world::World;

/// The name of the sample chain's Aave v2, whose markets and positions can be in either schema.
pub const AAVE: &str = protocols::PROTOCOLS[protocols::AAVE].key;

/// Larger chains do not fit into the memory of an ordinary machine.
const MAX_WALLETS: u32 = 1_000_000;
/// Ten years.
const MAX_DAYS: u32 = 3_650;

/// The size and the seed of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// The number of wallets. Their proxy contracts are additional accounts.
    pub wallets: u32,
    /// The number of complete days. The chain also has the first hour of the next day.
    pub days: u32,
    /// The seed of the random number generator.
    pub seed: u64,
}

impl Default for SampleOptions {
    /// Returns options of a chain with all kinds of wallets and with liquidations, which is generated in well under a
    /// second.
    fn default() -> Self {
        SampleOptions { wallets: 500, days: 45, seed: 1 }
    }
}

/// Generates the chain. Its first day is 2023-01-01, its last day is `days` later. The markets and positions of Aave are in the
/// given schema, and the same in both.
///
/// # Errors
/// `BadInput` for a number of wallets or days that is 0 or too large.
pub fn chain(options: &SampleOptions, aave: Schema) -> Result<Recording> {
    if !(1..=MAX_WALLETS).contains(&options.wallets) {
        return Err(Error::bad_input(format!("the sample chain must have 1 to {MAX_WALLETS} wallets")));
    }
    if !(1..=MAX_DAYS).contains(&options.days) {
        return Err(Error::bad_input(format!("the sample chain must have 1 to {MAX_DAYS} days")));
    }
    World::new(options, aave)?.run()
}

#[cfg(test)]
mod tests;
