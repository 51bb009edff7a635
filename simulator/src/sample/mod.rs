//! The sample chain: two lending protocols over some weeks, generated from a seed, as a recording.
//!
//! Wallets act, positions follow from their events, and liquidations follow from falling prices, so the features of a
//! wallet are consistent with its history. Tokens, markets and their limits are those of mainnet. A few rows are
//! invalid, as in real data. Equal options give equal bytes on every machine: all randomness comes from a seeded
//! generator, and floating-point arithmetic uses only operations that IEEE 754 defines exactly (`+ - * /`).

mod accounts;
mod actions;
mod calendar;
mod credit;
mod events;
mod interest;
mod liquidations;
mod prices;
mod protocols;
mod rng;
mod wallets;
mod world;

use std::fmt;

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

/// What happens on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scenario {
    /// Some weeks with wallets of all kinds and two crashes.
    #[default]
    Mixed,
    /// Months with borrowers of different care, in a market that falls and recovers again and again: for models of credit
    /// risk.
    Credit,
}

/// The scenario, the size and the seed of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// What happens on the chain.
    pub scenario: Scenario,
    /// The number of wallets. Their proxy contracts are additional accounts.
    pub wallets: u32,
    /// The number of complete days. The chain also has the first hour of the next day.
    pub days: u32,
    /// The seed of the random number generator.
    pub seed: u64,
}

impl SampleOptions {
    /// Returns the usual size and seed of a scenario. The mixed one is generated in well under a second. The credit one has
    /// enough borrows to train a model with a horizon of 30 days.
    pub fn of(scenario: Scenario) -> SampleOptions {
        let (wallets, days) = match scenario {
            Scenario::Mixed => (500, 45),
            Scenario::Credit => (700, 210),
        };
        SampleOptions { scenario, wallets, days, seed: 1 }
    }
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions::of(Scenario::default())
    }
}

impl fmt::Display for SampleOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SampleOptions { scenario, wallets, days, seed } = self;
        let name = match scenario {
            Scenario::Mixed => "",
            Scenario::Credit => "credit ",
        };
        write!(formatter, "the {name}sample chain of {wallets} wallets, {days} days and seed {seed}")
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
