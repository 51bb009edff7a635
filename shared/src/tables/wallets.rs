//! Wallets: their links, their daily health, and the quarantine of bad rows.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use crate::domain::fold::Exposure;
use crate::domain::{Address, Day, Link};

row! {
    /// A wallet's link to an account that it borrowed through, as one day's events make it.
    pub struct WalletLink {
        /// The sender of the borrow.
        pub wallet_address: Address,
        /// The account that it borrowed for.
        pub account_address: Address,
        /// Time of the first such borrow of the day; the link holds from the smallest `since` of all days.
        pub since: Timestamp,
        /// The same in seconds since 1 January 1970 UTC.
        pub since_epoch_timestamp: i64,
    }
}

impl From<Link> for WalletLink {
    fn from(link: Link) -> Self {
        WalletLink {
            wallet_address: link.wallet,
            account_address: link.account,
            since: Timestamp::from_seconds(link.since),
            since_epoch_timestamp: link.since,
        }
    }
}

impl From<&WalletLink> for Link {
    fn from(row: &WalletLink) -> Self {
        Link { account: row.account_address, wallet: row.wallet_address, since: row.since_epoch_timestamp }
    }
}

row! {
    /// The health of one account in one protocol on one day, for each wallet that it counts for. Only rows that count are
    /// here: with collateral, or with a debt of at least 1e-9 ETH.
    pub struct WalletHealth {
        /// The wallet: the account itself, or one that borrowed through it before the day.
        pub wallet_address: Address,
        /// The account that owns the positions.
        pub account_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Day of the snapshot.
        pub day: Day,
        /// Supply positions enabled as collateral, in ETH.
        pub collateral_eth: f64,
        /// The same, each times its liquidation threshold.
        pub threshold_weighted_collateral_eth: f64,
        /// The same, each times its maximum loan to value.
        pub borrow_power_eth: f64,
        /// Debt, in ETH.
        pub debt_eth: f64,
        /// What could still be borrowed, in ETH: max(0, borrow power − debt).
        pub available_borrows_eth: f64,
        /// Debt over threshold-weighted collateral, the reciprocal of the health factor, 0 to 1e6.
        pub risk_factor: f64,
    }
}

row! {
    /// What the fold needs of the health of one account in one protocol.
    pub struct FoldedHealth {
        /// The wallet that it counts for.
        pub wallet_address: Address,
        /// Collateral, in ETH.
        pub collateral_eth: f64,
        /// Debt, in ETH.
        pub debt_eth: f64,
        /// What could still be borrowed, in ETH.
        pub available_borrows_eth: f64,
        /// The reciprocal of the health factor, 0 to 1e6.
        pub risk_factor: f64,
    }
}

row! {
    /// Which wallet had collateral or debt in which protocol.
    pub struct HealthyWallet {
        /// The wallet that it counts for.
        pub wallet_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
    }
}

impl From<&FoldedHealth> for Exposure {
    fn from(row: &FoldedHealth) -> Self {
        Exposure {
            collateral_eth: row.collateral_eth,
            available_eth: row.available_borrows_eth,
            debt_eth: row.debt_eth,
            risk: row.risk_factor,
        }
    }
}

row! {
    /// A row that can't be used, as it came, with the reason.
    pub struct QuarantinedRow {
        /// Where the row stood in the raw object, from 0.
        pub row_number: i64,
        /// What is wrong with it.
        pub reason: String,
        /// The raw row as JSON.
        pub row: String,
    }
}
