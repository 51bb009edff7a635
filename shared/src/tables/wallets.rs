//! Wallets: their links and their daily health. Also the rows of the quarantine.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use crate::domain::fold::Exposure;
use crate::domain::{Address, Day, Link};

row! {
    /// A link of a wallet to an account for which it borrowed, derived from one day's events.
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
            since: Timestamp::from_epoch_seconds(link.since),
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
    /// The health of one account in one protocol on one day, one row per wallet to which it is attributed. Accounts
    /// with neither collateral nor a debt of at least 1e-9 ETH have no row.
    pub struct WalletHealth {
        /// The wallet: the account itself, or one that borrowed through it before the day.
        pub wallet_address: Address,
        /// The account that owns the positions.
        pub account_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Day of the snapshot.
        pub day: Day,
        /// Supply positions enabled as collateral, in markets with a liquidation threshold above 0, in ETH.
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
    /// The columns of [`WalletHealth`] that the fold uses.
    pub struct FoldHealthRow {
        /// The wallet to which the health is attributed.
        pub wallet_address: Address,
        /// Collateral, in ETH.
        pub collateral_eth: f64,
        /// Debt, in ETH.
        pub debt_eth: f64,
        /// Amount that can still be borrowed, in ETH.
        pub available_borrows_eth: f64,
        /// The reciprocal of the health factor, 0 to 1e6.
        pub risk_factor: f64,
    }
}

row! {
    /// A wallet and a protocol in which it has collateral or debt.
    pub struct ActiveWalletRow {
        /// The wallet to which the health is attributed.
        pub wallet_address: Address,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
    }
}

impl From<&FoldHealthRow> for Exposure {
    fn from(row: &FoldHealthRow) -> Self {
        Exposure {
            collateral_eth: row.collateral_eth,
            available_eth: row.available_borrows_eth,
            debt_eth: row.debt_eth,
            risk: row.risk_factor,
        }
    }
}

row! {
    /// A rejected row in its raw form, with the reason.
    pub struct QuarantinedRow {
        /// Index of the row in the raw object, starting at 0.
        pub row_number: i64,
        /// The reason for which the row is rejected.
        pub reason: String,
        /// The raw row as JSON.
        pub row: String,
    }
}
