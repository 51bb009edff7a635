//! The definition of every table: its location, partitions, sort order and row type. The Arrow schema, the catalog's
//! columns and the documentation are generated from it.

mod blocks;
mod column;
mod events;
mod features;
mod logs;
mod markets;
mod positions;
mod row;
mod validity;
mod views;
mod wallets;

use arrow_array::{Array, ArrayRef, RecordBatch};

pub use blocks::DailyBlock;
pub use column::{Timestamp, Value};
pub use events::{
    BlockEventRow, BorrowLinkRow, BorrowRow, EventKey, EventRules, FoldEventRow, PricedEvent, RawEvent, RawEventKey,
    StagedEvent,
};
pub use features::{FeatureRow, InstantKey, LabelRow, StateRow};
pub use logs::{RawLog, ReplayRow};
pub use markets::{RawMarket, StagedMarket};
pub use positions::{PositionBalanceRow, RawPosition, StagedPosition};
pub use row::{Column, Row, schema_of};
pub use validity::Reason;
pub(crate) use validity::{base_units, hex_bytes, integer};
pub use views::{LENDING_EVENTS, LendingEvent, VIEWS, View};
pub use wallets::{ActiveWalletRow, FoldHealthRow, QuarantinedRow, WalletHealth, WalletLink};

use crate::domain::Category;
use crate::error::{Error, Result};

/// A layer of the lake. Each layer is a database in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Rows as received from the sources.
    Raw,
    /// Valid rows with the pipeline's column names and types.
    Stage,
    /// Tables for users to query.
    Analytics,
}

impl Layer {
    /// Returns the name of the layer: its folder in the lake and the middle part of its database name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Layer::Raw => "raw",
            Layer::Stage => "stage",
            Layer::Analytics => "analytics",
        }
    }
}

/// The layout of a table's objects in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `year=YYYY/month=MM/{day}.parquet`.
    Day,
    /// `year=YYYY/month=MM/{day}.{protocol}.parquet`.
    ProtocolDay,
    /// As [`Layout::ProtocolDay`], or `year=YYYY/month=MM/{month}.{protocol}.parquet` for all days of a month.
    ProtocolDayOrMonth,
    /// `{protocol}.parquet`, without partitions.
    Protocol,
    /// `as_of=YYYY-MM-DD/{shard}.parquet`.
    Shard,
}

impl Layout {
    /// Returns the partition columns. All are strings.
    #[must_use]
    pub fn partition_columns(self) -> &'static [&'static str] {
        match self {
            Layout::Day | Layout::ProtocolDay | Layout::ProtocolDayOrMonth => &["year", "month"],
            Layout::Protocol => &[],
            Layout::Shard => &["as_of"],
        }
    }
}

/// The definition of a table, for the catalog and the lake.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name in the catalog.
    pub name: &'static str,
    /// Layer.
    pub layer: Layer,
    /// Folder of the source within the layer.
    pub source: &'static str,
    /// Folder of the objects within `source`: the name of the table. The two tables of features share one folder.
    pub folder: &'static str,
    /// Layout of the objects in the folder.
    pub layout: Layout,
    /// The sort columns that the footer of each object declares. Raw events and markets are sorted by their keys too,
    /// but compare their strings by value (ignoring case, numbers as numbers). Parquet can't declare such an order, so
    /// these are empty.
    pub sorted_by: &'static [&'static str],
    /// The version of the rules that its rows are computed by. If they change, it rises, and the next run recomputes the
    /// objects of the version before. Only for tables of the stage and analytics layers that a plan derives from others.
    pub version: u32,
    /// Description of a row.
    pub doc: &'static str,
    /// Returns the columns of the row type.
    pub columns: fn() -> Vec<Column>,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        (self.layer, self.name) == (other.layer, other.name)
    }
}

impl Table {
    /// Returns the table's folder in the lake, such as `raw/the_graph/the_graph_historical_market_data`.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}/{}/{}", self.layer.name(), self.source, self.folder)
    }

    /// Returns the name of the table with its layer, such as `stage.transpose_borrow_events`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.layer.name(), self.name)
    }

    /// Returns the partition columns that the catalog has for the table. `defi_features` has none: its entry points to
    /// the folder of one day.
    #[must_use]
    pub fn partition_columns(&self) -> &'static [&'static str] {
        if *self == FEATURES_PUBLISHED { &[] } else { self.layout.partition_columns() }
    }

    /// Returns the name of the table's database, such as `db_raw_dev`.
    #[must_use]
    pub fn database(&self, env: &str) -> String {
        database(self.layer, env)
    }
}

/// Returns the name of a layer's database, such as `db_raw_dev`.
#[must_use]
pub fn database(layer: Layer, env: &str) -> String {
    format!("db_{}_{env}", layer.name())
}

const THE_GRAPH: &str = "the_graph";
const TRANSPOSE: &str = "transpose";
const ETHEREUM: &str = "ethereum";
const FEATURES: &str = "features";

macro_rules! tables {
    ($( $(#[doc = $doc:literal])+ $const:ident = $layer:ident $source:ident $name:literal $(in $folder:literal)? [$layout:ident] $row:ident by $sorted:expr $(, version $version:literal)?; )+) => {
        $(
            $(#[doc = $doc])+
            pub static $const: Table = Table {
                name: $name,
                layer: Layer::$layer,
                source: $source,
                folder: tables!(@folder $name $($folder)?),
                layout: Layout::$layout,
                sorted_by: &$sorted,
                version: tables!(@version $($version)?),
                doc: concat!($($doc),+),
                columns: <$row as Row>::columns,
            };
        )+

        /// Every table of the lake.
        pub static TABLES: &[&Table] = &[$(&$const),+];
    };
    (@folder $name:literal) => { $name };
    (@folder $name:literal $folder:literal) => { $folder };
    (@version) => { 1 };
    (@version $version:literal) => { $version };
}

tables! {
    /// Which block opens each day.
    DAILY_BLOCKS = Raw TRANSPOSE "ethereum_daily_blocks" [Day] DailyBlock by ["day"];
    /// Logs of the contracts of each protocol, from each day's first block to the next day's, from an Ethereum node.
    RAW_LOGS = Raw ETHEREUM "ethereum_lending_logs" [ProtocolDayOrMonth] RawLog by ["block_number", "log_index"];
    /// Markets at each day's first block, as The Graph gave them.
    RAW_MARKETS = Raw THE_GRAPH "the_graph_historical_market_data" [ProtocolDay] RawMarket by [];
    /// Open positions at each day's first block, as The Graph gave them.
    RAW_POSITIONS = Raw THE_GRAPH "the_graph_historical_account_positions" [ProtocolDay] RawPosition by ["id"];
    /// Borrows, as Transpose gave them.
    RAW_BORROWS = Raw TRANSPOSE "transpose_borrow_events" [Day] RawEvent by [];
    /// Deposits, as Transpose gave them.
    RAW_DEPOSITS = Raw TRANSPOSE "transpose_deposit_events" [Day] RawEvent by [];
    /// Liquidations, as Transpose gave them.
    RAW_LIQUIDATIONS = Raw TRANSPOSE "transpose_liquidation_events" [Day] RawEvent by [];
    /// Repayments, as Transpose gave them.
    RAW_REPAYS = Raw TRANSPOSE "transpose_repay_events" [Day] RawEvent by [];
    /// Withdrawals, as Transpose gave them.
    RAW_WITHDRAWS = Raw TRANSPOSE "transpose_withdraw_events" [Day] RawEvent by [];
    /// Valid markets at each day's first block.
    STAGE_MARKETS = Stage THE_GRAPH "the_graph_historical_market_data" [ProtocolDay] StagedMarket by ["market_id"];
    /// Valid open positions at each day's first block.
    STAGE_POSITIONS = Stage THE_GRAPH "the_graph_historical_account_positions" [ProtocolDay] StagedPosition by ["account_address", "id"];
    // Version 2: a log counts in one category.
    /// Valid borrows.
    STAGE_BORROWS = Stage TRANSPOSE "transpose_borrow_events" [Day] StagedEvent by ["sender_address", "transaction_hash", "log_index"], version 2;
    /// Valid deposits.
    STAGE_DEPOSITS = Stage TRANSPOSE "transpose_deposit_events" [Day] StagedEvent by ["sender_address", "transaction_hash", "log_index"], version 2;
    /// Valid liquidations.
    STAGE_LIQUIDATIONS = Stage TRANSPOSE "transpose_liquidation_events" [Day] StagedEvent by ["sender_address", "transaction_hash", "log_index"], version 2;
    /// Valid repayments.
    STAGE_REPAYS = Stage TRANSPOSE "transpose_repay_events" [Day] StagedEvent by ["sender_address", "transaction_hash", "log_index"], version 2;
    /// Valid withdrawals.
    STAGE_WITHDRAWS = Stage TRANSPOSE "transpose_withdraw_events" [Day] StagedEvent by ["sender_address", "transaction_hash", "log_index"], version 2;
    /// The freshest open positions, for people; the features do not read them.
    CURRENT_POSITIONS = Analytics THE_GRAPH "the_graph_current_collateral_positions" [Protocol] StagedPosition by ["account_address", "id"];
    /// Borrows with ETH amounts and the wallet that they count for.
    BORROWS = Analytics TRANSPOSE "transpose_borrow_events" [Day] PricedEvent by ["index_address", "transaction_hash", "log_index"];
    /// Deposits with ETH amounts and the wallet that they count for.
    DEPOSITS = Analytics TRANSPOSE "transpose_deposit_events" [Day] PricedEvent by ["index_address", "transaction_hash", "log_index"];
    /// Liquidations with ETH amounts and the account that was liquidated.
    LIQUIDATIONS = Analytics TRANSPOSE "transpose_liquidation_events" [Day] PricedEvent by ["index_address", "transaction_hash", "log_index"];
    /// Repayments with ETH amounts and the wallet that they count for.
    REPAYS = Analytics TRANSPOSE "transpose_repay_events" [Day] PricedEvent by ["index_address", "transaction_hash", "log_index"];
    /// Withdrawals with ETH amounts and the wallet that they count for.
    WITHDRAWS = Analytics TRANSPOSE "transpose_withdraw_events" [Day] PricedEvent by ["index_address", "transaction_hash", "log_index"];
    /// Which accounts a wallet borrowed through, and since when.
    WALLET_LINKS = Analytics FEATURES "wallet_links" [Day] WalletLink by ["wallet_address", "account_address"];
    // Version 2: supply at a liquidation threshold of 0 is no collateral.
    /// The health of each wallet's accounts, by protocol and day.
    WALLET_HEALTH = Analytics FEATURES "wallet_health_daily" [Day] WalletHealth by ["wallet_address", "account_address", "protocol"], version 2;
    /// The features of every wallet, as of the newest published day.
    FEATURES_PUBLISHED = Analytics FEATURES "defi_features" [Shard] FeatureRow by ["wallet_address"];
    /// The features of every wallet, as of every published day.
    FEATURES_HISTORY = Analytics FEATURES "defi_features_history" in "defi_features" [Shard] FeatureRow by ["wallet_address"];
}

/// The builds of features that are not published: objects as of the history, in a folder that belongs to no table of
/// the catalog.
pub static FEATURES_BUILD: Table = Table { folder: "builds", ..FEATURES_HISTORY };

/// The checked copies of builds, each in a folder named after its digest. Their prefix is not that of the builds, so that the
/// step that writes builds can be denied to change them: the catalog may point to a copy.
pub static FEATURES_CHECKED: Table = Table { folder: "checked", ..FEATURES_HISTORY };

/// Returns the table of a category's events in a layer.
#[must_use]
pub fn event_table(layer: Layer, category: Category) -> &'static Table {
    let [borrow, deposit, liquidation, repay, withdraw] = match layer {
        Layer::Raw => [&RAW_BORROWS, &RAW_DEPOSITS, &RAW_LIQUIDATIONS, &RAW_REPAYS, &RAW_WITHDRAWS],
        Layer::Stage => [&STAGE_BORROWS, &STAGE_DEPOSITS, &STAGE_LIQUIDATIONS, &STAGE_REPAYS, &STAGE_WITHDRAWS],
        Layer::Analytics => [&BORROWS, &DEPOSITS, &LIQUIDATIONS, &REPAYS, &WITHDRAWS],
    };
    match category {
        Category::Borrow => borrow,
        Category::Deposit => deposit,
        Category::Liquidation => liquidation,
        Category::Repay => repay,
        Category::Withdraw => withdraw,
    }
}

/// Decodes the named column of a batch.
///
/// # Errors
/// `CorruptData` if the batch has no such column, or another type, or an invalid value.
pub fn decode_column<T: Value>(batch: &RecordBatch, name: &'static str) -> Result<Vec<T>> {
    let array: &dyn Array =
        batch.column_by_name(name).ok_or_else(|| Error::corrupt("missing column").with("column", name))?;
    T::decode(array).map_err(|error| error.with("column", name))
}

/// Encodes the values of a column.
///
/// # Errors
/// A value does not fit its column.
pub fn encode_column<T: Value>(values: &[T]) -> Result<ArrayRef> {
    T::encode(values.iter())
}

/// Decodes the named column of a batch. A batch without it has NULL in all rows.
fn decode_column_if_present<T>(batch: &RecordBatch, name: &'static str) -> Result<Vec<Option<T>>>
where
    Option<T>: Value,
{
    match batch.column_by_name(name) {
        Some(_) => decode_column(batch, name),
        None => Ok(std::iter::repeat_with(|| None).take(batch.num_rows()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn table_names_and_folders_are_unique() {
        let names: BTreeSet<_> = TABLES.iter().map(|table| (table.layer, table.name)).collect();
        assert_eq!((names.len(), TABLES.len()), (26, 26));
        let folders: BTreeSet<_> = TABLES.iter().map(|table| table.prefix()).collect();
        assert_eq!(folders.len(), 25, "only the two tables of features share a folder");
    }

    #[test]
    fn sort_columns_exist_and_every_column_is_described() {
        for table in TABLES {
            let columns = (table.columns)();
            for name in table.sorted_by {
                assert!(columns.iter().any(|column| column.name == *name), "{}.{name}", table.name);
            }
            for column in columns {
                assert!(column.doc.len() > 5, "{}.{}", table.name, column.name);
                assert!(!table.layout.partition_columns().contains(&column.name), "{}.{}", table.name, column.name);
            }
        }
    }

    #[test]
    fn event_table_names_contain_their_category() {
        for layer in [Layer::Raw, Layer::Stage, Layer::Analytics] {
            for category in Category::ALL {
                let table = event_table(layer, category);
                assert_eq!((table.name, table.layer), (format!("transpose_{category}_events").as_str(), layer));
            }
        }
    }
}
