//! Views: queries over the tables of the lake that have a name in the catalog.

use std::sync::Arc;

use super::row::row;
use super::{
    BORROWS, Column, DEPOSITS, LIQUIDATIONS, Layer, REPAYS, Row, STAGE_MARKETS, Table, Timestamp, WITHDRAWS, database,
};
use crate::domain::{Address, BaseUnits, Category, NATIVE_ETH, TxHash};

/// The definition of a view.
#[derive(Debug)]
pub struct View {
    /// Name in the catalog, which no table has.
    pub name: &'static str,
    /// Layer.
    pub layer: Layer,
    /// Description of a row.
    pub doc: &'static str,
    /// Returns the columns, in the order of the query.
    pub columns: fn() -> Vec<Column>,
    /// The tables of which each row is a row of the view.
    pub rows_of: &'static [&'static Table],
    /// The further tables that the query reads.
    pub joined: &'static [&'static Table],
    sql: &'static str,
}

impl View {
    /// Returns the name of the view's database, such as `db_analytics_dev`.
    #[must_use]
    pub fn database(&self, env: &str) -> String {
        database(self.layer, env)
    }

    /// Returns the tables that the query reads.
    pub fn tables(&self) -> impl Iterator<Item = &'static Table> {
        self.rows_of.iter().chain(self.joined).copied()
    }

    /// Returns the query, over the tables of an environment.
    #[must_use]
    pub fn sql(&self, env: &str, wrapped_ether: &Address) -> String {
        let addresses = std::iter::once(wrapped_ether).chain(&NATIVE_ETH).map(|address| format!("'{address}'"));
        let addresses: Vec<_> = addresses.collect();
        self.sql.replace("{env}", env).replace("{eth_addresses}", &addresses.join(", "))
    }
}

/// Borrows, deposits, liquidations, repayments and withdrawals: each event is one row.
pub static LENDING_EVENTS: View = View {
    name: "lending_events",
    layer: Layer::Analytics,
    doc: "Borrows, deposits, liquidations, repayments and withdrawals, with their amounts in ETH and US dollars: each event is \
          one row.",
    columns: LendingEvent::columns,
    rows_of: &[&BORROWS, &DEPOSITS, &LIQUIDATIONS, &REPAYS, &WITHDRAWS],
    joined: &[&STAGE_MARKETS],
    sql: include_str!("lending_events.sql"),
};

/// Every view.
pub static VIEWS: &[&View] = &[&LENDING_EVENTS];

row! {
    /// A row of [`LENDING_EVENTS`].
    pub struct LendingEvent {
        /// borrow, deposit, liquidation, repay or withdraw.
        pub category: Category,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Time of the block.
        pub timestamp: Timestamp,
        /// The wallet that the event counts for: the sender; of a liquidation the account that was liquidated.
        pub wallet_address: Address,
        /// Account that owns the position, lower case.
        pub account_address: Address,
        /// Symbol of the token; NULL without a price.
        pub symbol: Option<Arc<str>>,
        /// Token; of a liquidation the collateral that was seized.
        pub token_address: Address,
        /// Amount in whole tokens; NULL without a price, since the decimals come with it.
        pub amount: Option<f64>,
        /// Amount in ETH; NULL without a price.
        pub amount_eth: Option<f64>,
        /// Amount in US dollars at the price of the day; NULL without a price in US dollars, of the token or of ETH.
        pub amount_usd: Option<f64>,
        /// Amount in base units; of a liquidation, as the amounts before, of the collateral that was seized.
        pub quantity: BaseUnits,
        /// Of a liquidation the token of the debt that was repaid.
        pub liquidated_token_address: Option<Address>,
        /// Of a liquidation the amount of the debt that was repaid, in base units. It is in none of the amounts.
        pub quantity_liquidated: Option<BaseUnits>,
        /// Who liquidated.
        pub liquidator_address: Option<Arc<str>>,
        /// Account that sent the transaction, lower case.
        pub sender_address: Address,
        /// Market contract, lower case.
        pub market_address: Option<Arc<str>>,
        /// Block number.
        pub block_number: i64,
        /// Transaction hash, lower case.
        pub transaction_hash: TxHash,
        /// Index of the log in its block.
        pub log_index: i64,
        /// Year of the day, four digits. A filter by year and month reads only the events of those months.
        pub year: Arc<str>,
        /// Month of the day, two digits.
        pub month: Arc<str>,
    }
}

#[cfg(test)]
mod tests {
    use super::super::TABLES;
    use super::*;

    #[test]
    fn views_have_names_of_their_own_and_described_columns() {
        for view in VIEWS {
            assert!(TABLES.iter().all(|table| table.name != view.name), "{}", view.name);
            assert!((view.columns)().iter().all(|column| column.doc.len() > 5), "{}", view.name);
        }
    }

    #[test]
    fn query_names_every_table_of_the_view_and_no_other() {
        for view in VIEWS {
            let sql = view.sql("prod", &Address::MIN);
            assert!(!sql.contains('{'), "{sql}");
            for table in TABLES {
                let name = format!("{}.{}", table.database("prod"), table.name);
                let reads = sql.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').any(|word| word == name);
                assert_eq!(reads, view.tables().any(|read| read == *table), "{name}");
            }
        }
    }
}
