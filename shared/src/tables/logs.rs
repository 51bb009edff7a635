//! The logs of the protocols' contracts, and the state of their replay.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use crate::domain::replay::{Accruals, Balance, Entry, StableLoan};
use crate::domain::{Address, BaseUnits, TxHash};
use crate::error::{Error, Result};

row! {
    /// A log of a contract of a protocol, from an Ethereum node.
    pub struct RawLog {
        /// Block number.
        pub block_number: i64,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Time of the block.
        pub block_timestamp: Timestamp,
        /// Transaction hash, lower case.
        pub transaction_hash: TxHash,
        /// Account that sent the transaction, lower case.
        pub sender_address: Address,
        /// Contract, lower case.
        pub contract_address: Address,
        /// The first topic: the event.
        pub topic0: Option<TxHash>,
        /// The second topic: an indexed argument.
        pub topic1: Option<TxHash>,
        /// The third topic.
        pub topic2: Option<TxHash>,
        /// The fourth topic.
        pub topic3: Option<TxHash>,
        /// The arguments that are not indexed, as hex digits after 0x.
        pub data: Arc<str>,
        /// Of a liquidation in Compound: the exchange rate of the seized market at the block, with 18 decimals. NULL if the
        /// node no longer had that state.
        pub exchange_rate: Option<BaseUnits>,
    }
}

impl RawLog {
    /// Returns the topics.
    #[must_use]
    pub fn topics(&self) -> Vec<[u8; 32]> {
        let topics = [self.topic0, self.topic1, self.topic2, self.topic3];
        topics.into_iter().map_while(|topic| topic.map(|topic| topic.0)).collect()
    }

    /// Decodes the data.
    ///
    /// # Errors
    /// `CorruptData` for text that is not hex.
    pub fn data(&self) -> Result<Vec<u8>> {
        const_hex::decode(self.data.as_bytes())
            .map_err(|cause| Error::corrupt("the data of a log is not hex").with_source(cause))
    }

    /// Returns the time of the block, in seconds since 1 January 1970 UTC.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.block_timestamp.0.div_euclid(1000)
    }
}

row! {
    /// What a replay knows after the last log of a block: one account in one market, or a market itself.
    pub struct ReplayRow {
        /// The market: the aToken or the cToken.
        pub market: Address,
        /// The account. NULL in the row of a market itself.
        pub account: Option<Address>,
        /// Supply, in units of the market's own token.
        pub supply: BaseUnits,
        /// Debt: scaled by the index (Aave), or as of `debt_index` (Compound).
        pub debt: BaseUnits,
        /// Compound: the index of `debt`; of a market itself the index as of its last accrual.
        pub debt_index: BaseUnits,
        /// Whether the supply is used as collateral.
        pub is_collateral: bool,
        /// Aave: the debt at a stable rate.
        pub stable_principal: Option<BaseUnits>,
        /// Aave: its yearly rate, with 27 decimals.
        pub stable_rate: Option<BaseUnits>,
        /// Aave: when it was last changed, in seconds since 1 January 1970 UTC.
        pub stable_since: Option<i64>,
        /// Compound, of a market itself: the number of accruals of interest.
        pub accruals: Option<i64>,
        /// Compound, of a market itself: the number of loans and repayments.
        pub changes: Option<i64>,
    }
}

impl From<Entry> for ReplayRow {
    fn from(entry: Entry) -> Self {
        let empty = |market| ReplayRow {
            market,
            account: None,
            supply: BaseUnits(0),
            debt: BaseUnits(0),
            debt_index: BaseUnits(0),
            is_collateral: false,
            stable_principal: None,
            stable_rate: None,
            stable_since: None,
            accruals: None,
            changes: None,
        };
        match entry {
            Entry::Account { market, account, balance } => ReplayRow {
                account: Some(account),
                supply: BaseUnits(balance.supply),
                debt: BaseUnits(balance.debt),
                debt_index: BaseUnits(balance.debt_index),
                is_collateral: balance.is_collateral,
                stable_principal: balance.stable.as_ref().map(|loan| BaseUnits(loan.principal)),
                stable_rate: balance.stable.as_ref().map(|loan| BaseUnits(loan.rate)),
                stable_since: balance.stable.as_ref().map(|loan| loan.since),
                ..empty(market)
            },
            Entry::Market { market, values } => ReplayRow {
                debt_index: BaseUnits(values.borrow_index),
                accruals: Some(values.accruals),
                changes: Some(values.changes),
                ..empty(market)
            },
        }
    }
}

impl From<&ReplayRow> for Entry {
    fn from(row: &ReplayRow) -> Self {
        let market = row.market;
        let Some(account) = row.account else {
            let (accruals, changes) = (row.accruals.unwrap_or(0), row.changes.unwrap_or(0));
            return Entry::Market { market, values: Accruals { borrow_index: row.debt_index.0, accruals, changes } };
        };
        let stable = match (row.stable_principal, row.stable_rate, row.stable_since) {
            (Some(principal), Some(rate), Some(since)) => {
                Some(Box::new(StableLoan { principal: principal.0, rate: rate.0, since }))
            }
            _ => None,
        };
        let balance = Balance {
            supply: row.supply.0,
            debt: row.debt.0,
            debt_index: row.debt_index.0,
            stable,
            is_collateral: row.is_collateral,
        };
        Entry::Account { market, account, balance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HexBytes;
    use crate::tables::Row;

    #[test]
    fn state_survives_encoding() {
        let [market, account] = [HexBytes([1; 20]), HexBytes([2; 20])];
        let stable = Some(Box::new(StableLoan { principal: 5, rate: 10i128.pow(27), since: 1_600_000_000 }));
        let balance = Balance { supply: 10i128.pow(37), debt: 3, debt_index: 4, stable, is_collateral: true };
        let entries = [
            Entry::Account { market, account, balance: balance.clone() },
            Entry::Account { market, account, balance: Balance { stable: None, is_collateral: false, ..balance } },
            Entry::Market { market, values: Accruals { borrow_index: 7, accruals: 8, changes: 9 } },
        ];
        let batch = ReplayRow::encode(&entries.clone().map(ReplayRow::from)).unwrap();
        let mut rows = Vec::new();
        ReplayRow::decode(&batch, &mut rows).unwrap();
        assert_eq!(rows.iter().map(Entry::from).collect::<Vec<_>>(), entries);
    }

    #[test]
    fn topics_end_at_the_first_that_is_missing() {
        let topic = |byte| Some(HexBytes([byte; 32]));
        let log = RawLog {
            block_number: 1,
            log_index: 2,
            block_timestamp: Timestamp::from_epoch_seconds(7),
            transaction_hash: HexBytes([3; 32]),
            sender_address: HexBytes([4; 20]),
            contract_address: HexBytes([5; 20]),
            topic0: topic(1),
            topic1: topic(2),
            topic2: None,
            topic3: None,
            data: "0x0aff".into(),
            exchange_rate: None,
        };
        assert_eq!(log.topics(), [[1; 32], [2; 32]]);
        assert_eq!((log.data().unwrap(), log.time()), (vec![0x0a, 0xff], 7));
        assert!(RawLog { data: "0x0".into(), ..log }.data().is_err());
    }
}
