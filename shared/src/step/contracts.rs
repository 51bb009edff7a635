//! The contracts of a protocol, as the chain lists them, and calls of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_sol_types::SolCall;

use super::{CallUnits, Context};
use crate::config::Root;
use crate::contracts::aave_v2::{AddressesProvider, Pool};
use crate::contracts::compound_v2::{CToken, Comptroller};
use crate::domain::replay::aave_v2::Reserve;
use crate::domain::{Address, Day, HexBytes};
use crate::error::{Error, Kind, Result};
use crate::feeds::LogFeed;
use crate::lake::WorkUnit;
use crate::sources::Traffic;
use crate::sources::ethereum::{Call, CallOutcome, EthereumClient};
use crate::tables::{DAILY_BLOCKS, DailyBlock};

/// The address that stands for native ETH as the token of a market.
pub const NATIVE_ETH: Address = HexBytes([0xee; 20]);

/// The contracts of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contracts {
    /// Aave v2.
    AaveV2 {
        /// The registry of the deployment.
        addresses_provider: Address,
        /// The pool.
        pool: Address,
        /// The reserves, in the order of their listing.
        reserves: Vec<Reserve>,
    },
    /// Compound v2.
    CompoundV2 {
        /// The Comptroller.
        comptroller: Address,
        /// The markets, in the order of their listing.
        markets: Vec<CompoundMarket>,
    },
}

/// A market of Compound v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompoundMarket {
    /// The cToken.
    pub c_token: Address,
    /// The token that is lent; [`NATIVE_ETH`] for that of ETH.
    pub underlying: Address,
}

impl Contracts {
    /// Returns the address that identifies the deployment: the pool or the Comptroller.
    #[must_use]
    pub fn deployment(&self) -> Address {
        match self {
            Contracts::AaveV2 { pool, .. } => *pool,
            Contracts::CompoundV2 { comptroller, .. } => *comptroller,
        }
    }

    /// Returns the addresses of the contracts whose logs are extracted.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        match self {
            Contracts::AaveV2 { pool, reserves, .. } => {
                let tokens =
                    |reserve: &Reserve| [reserve.a_token, reserve.stable_debt_token, reserve.variable_debt_token];
                std::iter::once(*pool).chain(reserves.iter().flat_map(tokens)).collect()
            }
            Contracts::CompoundV2 { comptroller, markets } => {
                std::iter::once(*comptroller).chain(markets.iter().map(|market| market.c_token)).collect()
            }
        }
    }
}

/// Converts to an address of the pipeline.
#[must_use]
pub fn to_address(address: alloy_primitives::Address) -> Address {
    HexBytes(address.into_array())
}

/// Converts to an address of a call.
#[must_use]
pub fn of_address(address: &Address) -> alloy_primitives::Address {
    alloy_primitives::Address::from(address.0)
}

/// Encodes a call.
#[must_use]
pub fn call(to: Address, function: &impl SolCall) -> Call {
    Call { to, data: function.abi_encode() }
}

/// Decodes what a call returned. `None` if it was rejected, or if the contract does not have the function.
#[must_use]
pub fn returned<F: SolCall>(outcome: &CallOutcome) -> Option<F::Return> {
    match outcome {
        CallOutcome::Returned(bytes) => F::abi_decode_returns(bytes).ok(),
        CallOutcome::Reverted => None,
    }
}

impl Context {
    /// Returns the client of the node.
    ///
    /// # Errors
    /// `BadInput` if no node is configured.
    pub fn node(&self) -> Result<&Arc<EthereumClient>> {
        self.node.as_ref().ok_or_else(|| {
            Error::bad_input("no Ethereum node is configured").with_hint(
                "name one with --rpc-url or ETHEREUM_RPC_URL; in AWS with the variable data_source = \"chain\"",
            )
        })
    }

    /// Returns the feed of logs: the node, unless another one was chosen.
    ///
    /// # Errors
    /// As [`Context::node`].
    pub fn feed(&self) -> Result<&dyn LogFeed> {
        match &self.feed {
            Some(feed) => Ok(&**feed),
            None => Ok(&**self.node()?),
        }
    }

    /// Finds the contracts of the protocols of units.
    ///
    /// # Errors
    /// `NotReady` if what is final on the node is before the days of the units: contracts that were listed since would be
    /// left out. `BadInput` if the configured address has no such contract, and the errors of the node.
    pub async fn contracts_of_units(&self, units: &CallUnits) -> Result<BTreeMap<Arc<str>, Arc<Contracts>>> {
        let days = units.iter().filter_map(|unit| unit.as_protocol_days().ok());
        let days_and_protocols: Vec<_> = days.map(|(days, protocol)| (days.end.previous(), protocol)).collect();
        let Some(last) = days_and_protocols.iter().map(|(day, _)| *day).max() else { return Ok(BTreeMap::new()) };
        let block = self.node()?.finalized(&self.traffic).await?.number;
        self.require_final(last, block).await?;
        let mut contracts = BTreeMap::new();
        for protocol in days_and_protocols.into_iter().map(|(_, protocol)| protocol).collect::<BTreeSet<_>>() {
            // Boxed, because the compiler limits how deep futures nest.
            let found = Box::pin(self.contracts(&protocol, block, &self.traffic)).await?;
            contracts.insert(protocol, Arc::new(found));
        }
        Ok(contracts)
    }

    /// Requires that a day is final where the node is, up to the first block of the next day if that is known.
    async fn require_final(&self, day: Day, newest_final: u64) -> Result<()> {
        for day in [day.next(), day] {
            let row: Option<Vec<DailyBlock>> = self.lake.read(&DAILY_BLOCKS, &WorkUnit::Day(day)).await?;
            let Some(block) = row.and_then(|rows| rows.into_iter().next()) else { continue };
            return match block.number()? <= newest_final {
                true => Ok(()),
                false => Err(Error::new(Kind::NotReady, "the node's final block is before the first block of a day")
                    .with("day", day)
                    .with("block", block.block_number)
                    .with("final", newest_final)
                    .with_hint("wait until the node has caught up, or use another one")),
            };
        }
        Ok(())
    }

    /// Finds the contracts of a protocol: those that are listed in a block.
    ///
    /// # Errors
    /// `BadInput` if the configured address has no such contract, and the errors of the node.
    pub async fn contracts(&self, protocol: &str, block: u64, traffic: &Traffic) -> Result<Contracts> {
        match self.config.protocol(protocol)?.root()? {
            Root::AaveV2 { addresses_provider } => self.aave_v2(addresses_provider, block, traffic).await,
            Root::CompoundV2 { comptroller } => self.compound_v2(comptroller, block, traffic).await,
        }
        .map_err(|error| error.with("protocol", protocol))
    }

    async fn aave_v2(&self, addresses_provider: Address, block: u64, traffic: &Traffic) -> Result<Contracts> {
        let pool = call(addresses_provider, &AddressesProvider::getLendingPoolCall {});
        let pool = self.call_one::<AddressesProvider::getLendingPoolCall>(&pool, block, traffic).await?;
        let pool = to_address(pool);
        let list = call(pool, &Pool::getReservesListCall {});
        let assets = self.call_one::<Pool::getReservesListCall>(&list, block, traffic).await?;
        let calls: Vec<_> =
            assets.iter().map(|asset| call(pool, &Pool::getReserveDataCall { asset: *asset })).collect();
        let outcomes = self.node()?.call(&calls, block, traffic).await?;
        let mut reserves = Vec::new();
        for (asset, outcome) in assets.iter().zip(&outcomes) {
            let data = returned::<Pool::getReserveDataCall>(outcome).ok_or_else(|| no_contract(pool))?;
            reserves.push(Reserve {
                asset: to_address(*asset),
                a_token: to_address(data.aTokenAddress),
                stable_debt_token: to_address(data.stableDebtTokenAddress),
                variable_debt_token: to_address(data.variableDebtTokenAddress),
            });
        }
        Ok(Contracts::AaveV2 { addresses_provider, pool, reserves })
    }

    async fn compound_v2(&self, comptroller: Address, block: u64, traffic: &Traffic) -> Result<Contracts> {
        let list = call(comptroller, &Comptroller::getAllMarketsCall {});
        let c_tokens = self.call_one::<Comptroller::getAllMarketsCall>(&list, block, traffic).await?;
        let c_tokens: Vec<_> = c_tokens.into_iter().map(to_address).collect();
        // The market of ETH has no such function. Its fallback takes the call for a deposit of 0, which changes what it
        // says of itself, so these calls are not made together with others.
        let calls: Vec<_> = c_tokens.iter().map(|c_token| call(*c_token, &CToken::underlyingCall {})).collect();
        let outcomes = self.node()?.call_alone(&calls, block, traffic).await?;
        let market = |(c_token, outcome): (&Address, &CallOutcome)| CompoundMarket {
            c_token: *c_token,
            underlying: returned::<CToken::underlyingCall>(outcome).map_or(NATIVE_ETH, to_address),
        };
        Ok(Contracts::CompoundV2 { comptroller, markets: c_tokens.iter().zip(&outcomes).map(market).collect() })
    }

    /// Calls a function that must exist.
    async fn call_one<F: SolCall>(&self, call: &Call, block: u64, traffic: &Traffic) -> Result<F::Return> {
        let outcomes = self.node()?.call(std::slice::from_ref(call), block, traffic).await?;
        outcomes.first().and_then(returned::<F>).ok_or_else(|| no_contract(call.to))
    }
}

fn no_contract(address: Address) -> Error {
    Error::new(Kind::BadInput, "the configured address is not that of a contract of this protocol on this chain")
        .with("address", address)
        .with_hint("correct the entry chain of the protocol in the configuration")
}
