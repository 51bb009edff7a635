//! Reads the accounts of a day's snapshot from the lake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use defi_shared::domain::health::Health;
use defi_shared::domain::{Address, Day};
use defi_shared::error::Result;
use defi_shared::lake::requests::{SMALL_REQUESTS, in_order};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::tables::{
    PositionBalanceRow, STAGE_BORROWS, STAGE_DEPOSITS, STAGE_POSITIONS, StagedEvent, WALLET_HEALTH, WalletHealth,
};

use super::sample::{Account, Accounts};

/// Accounts that deposited or borrowed in so many days before the snapshot may have collateral or debt.
const EVENT_DAYS: i32 = 30;

/// The accounts of a protocol by address.
type HealthByAccount = BTreeMap<Address, Health>;

/// Reads the accounts of each protocol that has a snapshot of the day.
///
/// # Errors
/// The errors of the lake.
pub(super) async fn accounts(lake: &Lake, day: Day, protocols: &[&str]) -> Result<BTreeMap<Arc<str>, Accounts>> {
    let mut health = health(lake, day).await?;
    let mut active = active(lake, day).await?;
    let mut accounts = BTreeMap::new();
    let with_rows: Vec<Arc<str>> = health.keys().cloned().collect();
    let protocols: BTreeSet<Arc<str>> = protocols.iter().map(|name| Arc::from(*name)).chain(with_rows).collect();
    for protocol in protocols {
        let unit = WorkUnit::ProtocolDay(day, Arc::clone(&protocol));
        let positions = lake.read::<PositionBalanceRow>(&STAGE_POSITIONS, &unit).await?;
        let health = health.remove(&protocol).unwrap_or_default();
        if positions.is_none() && health.is_empty() {
            continue;
        }
        let mut known = active.remove(&protocol).unwrap_or_default();
        known.extend(positions.iter().flatten().map(|position| position.account_address));
        known.retain(|account| !health.contains_key(account));
        let with_health = health.into_iter().map(|(address, health)| Account { address, health }).collect();
        accounts.insert(protocol, Accounts { with_health, without_health: known.into_iter().collect() });
    }
    Ok(accounts)
}

/// Reads the health of each account, by protocol.
async fn health(lake: &Lake, day: Day) -> Result<BTreeMap<Arc<str>, HealthByAccount>> {
    let rows: Vec<WalletHealth> = lake.require(&WALLET_HEALTH, &WorkUnit::Day(day)).await?;
    let mut health: BTreeMap<_, HealthByAccount> = BTreeMap::new();
    // The rows of other wallets repeat that of the account itself.
    for row in rows.into_iter().filter(|row| row.wallet_address == row.account_address) {
        let sums = Health {
            collateral_eth: row.collateral_eth,
            threshold_weighted_eth: row.threshold_weighted_collateral_eth,
            borrow_power_eth: row.borrow_power_eth,
            debt_eth: row.debt_eth,
        };
        health.entry(row.protocol).or_default().insert(row.account_address, sums);
    }
    Ok(health)
}

/// Reads the accounts of the deposits and borrows of the days before, by protocol.
async fn active(lake: &Lake, day: Day) -> Result<BTreeMap<Arc<str>, BTreeSet<Address>>> {
    let window = day.plus_days(-EVENT_DAYS)..day;
    let mut active: BTreeMap<_, BTreeSet<Address>> = BTreeMap::new();
    for table in [&STAGE_DEPOSITS, &STAGE_BORROWS] {
        let units = lake.units(table).await?.into_iter();
        let units = units.filter(|unit| unit.day().is_some_and(|day| window.contains(&day)));
        let read = |unit| async move { lake.require::<StagedEvent>(table, &unit).await };
        for event in in_order(units, SMALL_REQUESTS, read).await?.into_iter().flatten() {
            active.entry(event.protocol).or_default().insert(event.account_address);
        }
    }
    Ok(active)
}
