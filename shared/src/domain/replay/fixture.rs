//! Logs for tests: events of the contracts, encoded as a node returns them.

use alloy_primitives::{Address as SolAddress, U256};
use alloy_sol_types::SolEvent;

use super::Log;
use crate::domain::{Address, HexBytes, TxHash};

/// A log that owns its topics and data.
#[derive(Debug, Clone)]
pub(crate) struct OwnedLog {
    pub contract: Address,
    pub topics: Vec<[u8; 32]>,
    pub data: Vec<u8>,
    pub transaction: TxHash,
    pub index: i64,
    pub time: i64,
}

impl OwnedLog {
    /// Encodes an event of a contract, in the first transaction, at index 0 and time 0.
    pub fn new(contract: Address, event: &impl SolEvent) -> Self {
        let log = event.encode_log_data();
        let topics = log.topics().iter().map(|topic| topic.0).collect();
        let transaction = HexBytes([1; 32]);
        OwnedLog { contract, topics, data: log.data.to_vec(), transaction, index: 0, time: 0 }
    }

    pub fn at(self, index: i64, time: i64) -> Self {
        OwnedLog { index, time, ..self }
    }

    pub fn in_transaction(self, number: u8) -> Self {
        OwnedLog { transaction: HexBytes([number; 32]), ..self }
    }

    pub fn log(&self) -> Log<'_> {
        let OwnedLog { contract, topics, data, transaction, index, time } = self;
        Log { contract: *contract, topics, data, transaction: *transaction, index: *index, time: *time }
    }
}

/// Returns an address of one repeated byte.
pub(crate) fn address(byte: u8) -> Address {
    HexBytes([byte; 20])
}

/// Returns the same address as an argument of an event.
pub(crate) fn argument(byte: u8) -> SolAddress {
    SolAddress::from([byte; 20])
}

pub(crate) fn number(number: u128) -> U256 {
    U256::from(number)
}
