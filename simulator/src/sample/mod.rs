//! The sample chain: two lending protocols over some weeks, made up from a seed, in the form of a recording.
//!
//! Events follow from what its people do, positions from the events, and liquidations from falling prices, so that the
//! features of a wallet tell its story. Tokens, markets and their limits are those of mainnet. A little dirt is in it, as
//! in life. The same options give the same bytes on every machine: one seeded generator, and of floating point only
//! what IEEE 754 defines to the bit (`+ - * /`).

mod accounts;
mod actions;
mod calendar;
mod dice;
mod events;
mod liquidations;
mod prices;
mod protocols;
mod wallets;
mod world;

use defi_shared::error::{Error, Result};

use crate::recording::Recording;
use world::World;

/// Larger chains would not fit into the memory of an ordinary machine.
const MAX_WALLETS: u32 = 1_000_000;
/// Ten years.
const MAX_DAYS: u32 = 3_650;

/// How large the chain is, and which of the many it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// How many people there are. Their proxy contracts are accounts besides.
    pub wallets: u32,
    /// How many days there are before the last one, of which there is the beginning.
    pub days: u32,
    /// Which chain of this size.
    pub seed: u64,
}

impl Default for SampleOptions {
    /// Enough for every kind of wallet and for liquidations, and made in well under a second.
    fn default() -> Self {
        SampleOptions { wallets: 500, days: 45, seed: 1 }
    }
}

/// Makes the chain. Its first day is 2023-01-01, its last one `days` later.
///
/// # Errors
/// `BadInput` where there would be nobody or no day, or far too many.
pub fn chain(options: &SampleOptions) -> Result<Recording> {
    if !(1..=MAX_WALLETS).contains(&options.wallets) {
        return Err(Error::bad_input(format!("the sample chain takes 1 to {MAX_WALLETS} wallets")));
    }
    if !(1..=MAX_DAYS).contains(&options.days) {
        return Err(Error::bad_input(format!("the sample chain takes 1 to {MAX_DAYS} days")));
    }
    World::new(options)?.run()
}

#[cfg(test)]
mod tests;
