//! Instants for which features are computed: just before borrows, or at requested times.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use defi_shared::domain::{Address, Day, TxHash};
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::lake::requests::{WHOLE_OBJECTS, in_order};
use defi_shared::tables::{BORROWS, BlockEventRow, BorrowRow, DailyBlock, InstantKey, Timestamp};
use rustc_hash::FxHashSet;

use super::list;

/// A wallet and a point in time to compute its features for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instant {
    /// The wallet.
    pub wallet: Address,
    /// The time of the borrow's block, or the requested time.
    pub time: Timestamp,
    /// The borrow, if the instant is just before one.
    pub borrow: Option<Borrow>,
}

/// A borrow: its position in the chain, and what is known of it when it is decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Borrow {
    block_number: i64,
    transaction_hash: TxHash,
    log_index: i64,
    protocol: Arc<str>,
    token_address: Address,
    amount_eth: Option<f64>,
}

/// The position of a log, or of the end of a block, in the chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub block_number: i64,
    pub log_index: i64,
    pub epoch_seconds: i64,
}

impl Position {
    /// Returns the position of an event.
    pub(super) fn of(event: &BlockEventRow) -> Self {
        Position { block_number: event.block_number, log_index: event.log_index, epoch_seconds: event.epoch_timestamp }
    }

    /// Returns the position after all logs of a block.
    pub(super) fn at_the_end_of(block: &DailyBlock) -> Self {
        Position { block_number: block.block_number, log_index: i64::MAX, epoch_seconds: block.epoch_timestamp }
    }
}

impl Instant {
    /// Returns the instant just before a borrow, for tests.
    #[cfg(test)]
    pub(super) fn before_borrow(wallet: Address, block_number: i64, log_index: i64, epoch_seconds: i64) -> Self {
        let borrow = Borrow {
            block_number,
            transaction_hash: defi_shared::domain::HexBytes([7; 32]),
            log_index,
            protocol: "aave-v2-eth".into(),
            token_address: wallet,
            amount_eth: None,
        };
        Instant { wallet, time: Timestamp::from_epoch_seconds(epoch_seconds), borrow: Some(borrow) }
    }

    /// Returns the key columns of the row.
    pub(super) fn key(&self, snapshot_day: Option<Day>) -> InstantKey {
        let borrow = self.borrow.as_ref();
        InstantKey {
            wallet_address: self.wallet,
            time: self.time,
            block_number: borrow.map(|borrow| borrow.block_number),
            transaction_hash: borrow.map(|borrow| borrow.transaction_hash),
            log_index: borrow.map(|borrow| borrow.log_index),
            snapshot_day,
            borrow_protocol: borrow.map(|borrow| Arc::clone(&borrow.protocol)),
            borrow_token_address: borrow.map(|borrow| borrow.token_address),
            borrow_amount_eth: borrow.and_then(|borrow| borrow.amount_eth),
        }
    }

    /// Whether a log follows the borrow, or is not before the requested time.
    pub(super) fn is_before(&self, position: &Position) -> bool {
        match &self.borrow {
            Some(borrow) => (borrow.block_number, borrow.log_index) < (position.block_number, position.log_index),
            None => self.time <= Timestamp::from_epoch_seconds(position.epoch_seconds),
        }
    }

    /// Whether the block of a log, or a block that ends, is before this instant.
    pub(super) fn is_after(&self, position: &Position) -> bool {
        match &self.borrow {
            Some(borrow) => position.block_number < borrow.block_number,
            None => Timestamp::from_epoch_seconds(position.epoch_seconds) < self.time,
        }
    }

    /// Returns the second that contains this instant, in epoch seconds. An event in whole seconds is before the instant
    /// by at least the seconds between them.
    pub(super) fn second(&self) -> i64 {
        self.time.0.div_euclid(1000)
    }

    pub(super) fn day(&self) -> Day {
        Day::from_epoch_seconds(self.second())
    }

    /// Returns the last day that may have an event before this instant: the day before, if the instant is not after the
    /// first block of its day.
    pub(super) fn last_day_of_events(&self, blocks: &BTreeMap<Day, DailyBlock>) -> Day {
        let day = self.day();
        let is_midnight = self.borrow.is_none() && self.time == Timestamp::from_epoch_seconds(day.start());
        let is_early =
            is_midnight || blocks.get(&day).is_some_and(|block| !self.is_after(&Position::at_the_end_of(block)));
        if is_early { day.previous() } else { day }
    }
}

/// Returns the instants just before the borrows from `from` until `until`, in chain order.
///
/// # Errors
/// The errors of the lake.
pub(super) async fn before_borrows(
    lake: &Lake,
    from: Option<Day>,
    until: Option<Day>,
    wallets: Option<&FxHashSet<Address>>,
) -> Result<Vec<Instant>> {
    let is_selected = |day: Day| from.is_none_or(|from| from <= day) && until.is_none_or(|until| day <= until);
    let units = lake.units(&BORROWS).await?.into_iter().filter(|unit| unit.day().is_some_and(is_selected));
    let read = |unit| async move {
        let mut borrows: Vec<BorrowRow> = lake.require(&BORROWS, &unit).await?;
        borrows.retain(|borrow| wallets.is_none_or(|wallets| wallets.contains(&borrow.sender_address)));
        borrows.sort_by_key(|borrow| (borrow.block_number, borrow.log_index));
        let instants = borrows.into_iter().map(|borrow| Instant {
            wallet: borrow.sender_address,
            time: Timestamp::from_epoch_seconds(borrow.epoch_timestamp),
            borrow: Some(Borrow {
                block_number: borrow.block_number,
                transaction_hash: borrow.transaction_hash,
                log_index: borrow.log_index,
                protocol: borrow.protocol,
                token_address: borrow.token_address,
                amount_eth: borrow.quantity_eth,
            }),
        });
        Ok(instants.collect::<Vec<_>>())
    };
    Ok(in_order(units, WHOLE_OBJECTS, read).await?.into_iter().flatten().collect())
}

/// Reads instants from a file with a wallet and a time (UTC) on each line.
///
/// # Errors
/// `BadInput` with the number of the invalid line, or for a file without a line.
pub(super) fn from_file(path: &Path) -> Result<Vec<Instant>> {
    let instants = list::read(path, |record| {
        let Some(text) = record.get(1) else {
            return Err("it is not an address and a time, such as 0x…,2023-02-01T12:00:00Z".to_owned());
        };
        let wallet = list::wallet(record)?;
        let time = list::time(text).ok_or_else(|| format!("{text:?} is not a time, such as 2023-02-01T12:00:00Z"))?;
        if time.subsec_nanosecond() % 1_000_000 != 0 {
            return Err(format!("the time {text:?} is finer than a millisecond"));
        }
        Ok(Instant { wallet, time: Timestamp(time.as_millisecond()), borrow: None })
    })?;
    if instants.is_empty() {
        return Err(Error::bad_input("the file contains no wallet and time").with("path", path.display()));
    }
    Ok(instants)
}
