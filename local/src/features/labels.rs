//! Labels of training rows: what happens to a wallet after an instant, up to the end of a horizon.

use defi_pages::number::with_thousands;
use defi_shared::domain::health::RISK_THRESHOLD;
use defi_shared::domain::{Address, Category, Day};
use defi_shared::error::{Error, Result};
use defi_shared::lake::requests::{WHOLE_OBJECTS, in_order};
use defi_shared::lake::{Lake, WorkUnit};
use defi_shared::step::history::links_before;
use defi_shared::tables::{
    BlockEventRow, DAILY_BLOCKS, DailyBlock, FoldHealthRow, LIQUIDATIONS, LabelRow, Table, WALLET_HEALTH,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::instants::{Instant, Position};
use super::period::Period;
use crate::output::message;

/// A liquidation of a wallet, or a snapshot in which it is at risk.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Occurrence {
    position: Position,
    /// What a liquidation took, in ETH.
    quantity_eth: Option<f64>,
}

/// What happens to the wallets of instants, in the order of the chain.
#[derive(Debug)]
pub(super) struct Labels {
    horizon: Period,
    liquidations: FxHashMap<Address, Vec<Occurrence>>,
    snapshots_at_risk: FxHashMap<Address, Vec<Occurrence>>,
    /// The first second of which the lake has no liquidations, in epoch seconds.
    end: i64,
}

impl Labels {
    /// Reads what happens within the horizon of any of some instants. `None` without a horizon or an instant.
    ///
    /// # Errors
    /// The errors of the lake.
    pub(super) async fn read(lake: &Lake, instants: &[Instant], horizon: Option<Period>) -> Result<Option<Self>> {
        let wallets: FxHashSet<_> = instants.iter().map(|instant| instant.wallet).collect();
        let first = instants.iter().map(Instant::day).min();
        let last_day = |instant: &Instant| Some(Day::from_epoch_seconds(horizon?.after(instant.second())));
        let last = instants.iter().filter_map(last_day).max();
        let (Some(horizon), Some(first), Some(last)) = (horizon, first, last) else { return Ok(None) };
        let days = |table: &'static Table| async move {
            let units = lake.units(table).await?;
            let days = units.iter().filter_map(WorkUnit::day).filter(|day| (first..=last).contains(day));
            Ok::<Vec<Day>, Error>(days.collect())
        };
        let (days_of_events, days_of_snapshots, links) =
            tokio::try_join!(days(&LIQUIDATIONS), days(&WALLET_HEALTH), links_before(lake, last.next()))?;
        let without_gap = days_of_events.iter().zip(first.through(last)).take_while(|(day, expected)| *day == expected);
        let end = without_gap.last().map_or(first, |(day, _)| day.next()).start();

        let read = |day| async move { lake.require::<BlockEventRow>(&LIQUIDATIONS, &WorkUnit::Day(day)).await };
        let mut liquidations: FxHashMap<Address, Vec<Occurrence>> = FxHashMap::default();
        for event in in_order(days_of_events, WHOLE_OBJECTS, read).await?.iter().flatten() {
            let occurrence = Occurrence { position: Position::of(event), quantity_eth: event.quantity_eth };
            for wallet in event.fold_event(Category::Liquidation).liquidated_wallets(&links) {
                if wallets.contains(&wallet) {
                    liquidations.entry(wallet).or_default().push(occurrence);
                }
            }
        }
        let mut snapshots_at_risk: FxHashMap<Address, Vec<Occurrence>> = FxHashMap::default();
        let wallets = &wallets;
        let read = |day| async move { snapshot_at_risk(lake, day, wallets).await };
        for (position, at_risk) in in_order(days_of_snapshots, WHOLE_OBJECTS, read).await? {
            for wallet in at_risk {
                snapshots_at_risk.entry(wallet).or_default().push(Occurrence { position, quantity_eth: None });
            }
        }
        // Objects of events are sorted by wallet.
        let by_position = |occurrence: &Occurrence| (occurrence.position.block_number, occurrence.position.log_index);
        liquidations.values_mut().for_each(|occurrences| occurrences.sort_unstable_by_key(by_position));
        Ok(Some(Labels { horizon, liquidations, snapshots_at_risk, end }))
    }

    /// Returns what happens to the wallet of an instant within the horizon.
    fn within<'o>(&self, all: &'o FxHashMap<Address, Vec<Occurrence>>, instant: &Instant) -> &'o [Occurrence] {
        let all = all.get(&instant.wallet).map_or(&[][..], Vec::as_slice);
        let later = &all[all.partition_point(|occurrence| !instant.is_before(&occurrence.position))..];
        let end = self.horizon.after(instant.second());
        &later[..later.partition_point(|occurrence| occurrence.position.epoch_seconds <= end)]
    }

    /// Says how many labels are censored, because the lake ends within their horizon.
    pub(super) fn report_censored(&self, instants: &[Instant]) {
        let censored = instants.iter().filter(|instant| self.is_censored(instant)).count();
        if censored > 0 {
            message(format_args!(
                "label_censored: {} of {} rows; the lake ends within their horizon, so leave them out or choose a shorter --label",
                with_thousands(censored as u64),
                with_thousands(instants.len() as u64)
            ));
        }
    }

    fn is_censored(&self, instant: &Instant) -> bool {
        self.horizon.after(instant.second()) >= self.end
    }

    /// Returns the label of an instant.
    pub(super) fn of(&self, instant: &Instant) -> LabelRow {
        let seconds_to = |occurrences: &[Occurrence]| {
            occurrences.first().map(|occurrence| occurrence.position.epoch_seconds - instant.second())
        };
        let (liquidations, at_risk) =
            (self.within(&self.liquidations, instant), self.within(&self.snapshots_at_risk, instant));
        LabelRow {
            label_liquidated: !liquidations.is_empty(),
            label_seconds_to_liquidation: seconds_to(liquidations),
            label_largest_liquidation_eth: liquidations.iter().filter_map(|one| one.quantity_eth).reduce(f64::max),
            label_at_risk: !at_risk.is_empty(),
            label_seconds_to_risk: seconds_to(at_risk),
            label_censored: self.is_censored(instant),
        }
    }
}

/// Returns the position of a day's snapshot in the chain, and those of some wallets that are at risk in it.
async fn snapshot_at_risk(lake: &Lake, day: Day, wallets: &FxHashSet<Address>) -> Result<(Position, Vec<Address>)> {
    let unit = WorkUnit::Day(day);
    let blocks: Vec<DailyBlock> = lake.require(&DAILY_BLOCKS, &unit).await?;
    let block = blocks.first().ok_or_else(|| Error::corrupt("the day has no block").with("day", day))?;
    let mut rows: Vec<FoldHealthRow> = lake.require(&WALLET_HEALTH, &unit).await?;
    rows.retain(|row| row.risk_factor > RISK_THRESHOLD && wallets.contains(&row.wallet_address));
    // A wallet is as risky as the riskiest of its accounts.
    let mut at_risk: Vec<Address> = rows.into_iter().map(|row| row.wallet_address).collect();
    at_risk.dedup();
    Ok((Position::at_the_end_of(block), at_risk))
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::HexBytes;
    use defi_shared::tables::Timestamp;

    use super::*;

    const WALLET: Address = HexBytes([1; 20]);

    fn occurrence(block_number: i64, log_index: i64, epoch_seconds: i64, quantity_eth: Option<f64>) -> Occurrence {
        Occurrence { position: Position { block_number, log_index, epoch_seconds }, quantity_eth }
    }

    fn labels(liquidations: &[Occurrence], snapshots_at_risk: &[Occurrence]) -> Labels {
        let of_wallet = |occurrences: &[Occurrence]| FxHashMap::from_iter([(WALLET, occurrences.to_vec())]);
        let (liquidations, snapshots_at_risk) = (of_wallet(liquidations), of_wallet(snapshots_at_risk));
        Labels { horizon: Period::parse("100s").unwrap(), liquidations, snapshots_at_risk, end: 2_000 }
    }

    #[test]
    fn what_follows_the_borrow_counts_up_to_the_end_of_the_horizon() {
        let instant = Instant::before_borrow(WALLET, 50, 7, 1_000);
        let first = |occurrences: &[Occurrence]| labels(occurrences, &[]).of(&instant).label_seconds_to_liquidation;
        for (block, log, time, expected) in [
            (49, 99, 988, None),
            (50, 6, 1_000, None),
            (50, 8, 1_000, Some(0)),
            (51, 0, 1_012, Some(12)),
            (58, 0, 1_100, Some(100)),
            (59, 0, 1_101, None),
        ] {
            assert_eq!(first(&[occurrence(block, log, time, None)]), expected, "{block} {log}");
        }
        let both = [occurrence(50, 6, 1_000, None), occurrence(52, 1, 1_024, None)];
        assert_eq!(first(&both), Some(24), "the first that counts");
    }

    #[test]
    fn the_snapshot_at_the_end_of_the_borrows_block_counts() {
        let of = |occurrences: &[Occurrence]| {
            let label = labels(&[], occurrences).of(&Instant::before_borrow(WALLET, 50, 7, 1_000));
            (label.label_at_risk, label.label_seconds_to_risk, label.label_liquidated)
        };
        assert_eq!(of(&[occurrence(50, i64::MAX, 1_000, None)]), (true, Some(0), false));
        assert_eq!(of(&[occurrence(49, i64::MAX, 988, None)]), (false, None, false));
    }

    #[test]
    fn a_requested_time_is_before_the_events_of_its_second() {
        let of = |milliseconds: i64| {
            let instant = Instant { wallet: WALLET, time: Timestamp(milliseconds), borrow: None };
            labels(&[occurrence(50, 1, 1_000, None)], &[]).of(&instant).label_seconds_to_liquidation
        };
        assert_eq!([of(999_500), of(1_000_000), of(1_000_001)], [Some(1), Some(0), None]);
    }

    #[test]
    fn the_largest_liquidation_is_the_largest_of_those_with_a_price() {
        let largest = |quantities: &[Option<f64>]| {
            let all: Vec<_> = (51..).zip(quantities).map(|(block, eth)| occurrence(block, 0, 1_012, *eth)).collect();
            let label = labels(&all, &[]).of(&Instant::before_borrow(WALLET, 50, 7, 1_000));
            (label.label_liquidated, label.label_largest_liquidation_eth)
        };
        assert_eq!(largest(&[Some(1.5), Some(2.5), None, Some(0.5)]), (true, Some(2.5)));
        assert_eq!(largest(&[None]), (true, None));
        assert_eq!(largest(&[]), (false, None));
    }

    #[test]
    fn a_label_is_censored_if_the_lake_ends_within_the_horizon() {
        let of = |time| labels(&[], &[]).of(&Instant::before_borrow(WALLET, 50, 7, time)).label_censored;
        assert_eq!([of(1_899), of(1_900)], [false, true]);
    }
}
