//! The 26 features of a wallet, how much health is behind them, and the fold state from which they are computed.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use crate::domain::fold::{EventTotals, Fold, HealthHistory, Liquidations, WalletSnapshot, WalletState, mean};
use crate::domain::{Address, Day, TxHash};
use crate::error::{Error, Result};

row! {
    /// The features of one wallet as of 00:00:00 UTC of a day. Amounts are in ETH. The average, sum or maximum of no
    /// values is 0.
    pub struct FeatureRow {
        /// The wallet: an address that was sender or account of a valid event before the day.
        pub wallet_address: Address,
        /// Risk now: debt over threshold-weighted collateral of the riskiest account and protocol, 0 to 1e6.
        pub risk_factor: f64,
        /// Collateral now: supply enabled as collateral, at a liquidation threshold above 0.
        pub total_collateral_eth: f64,
        /// Mean collateral over its daily snapshots.
        pub total_collateral_avg_eth: f64,
        /// What it could still borrow now.
        pub total_available_borrows_eth: f64,
        /// Mean of what it could still borrow over its daily snapshots.
        pub total_available_borrows_avg_eth: f64,
        /// Debt-weighted mean risk over every account, protocol and day; 0 without debt.
        pub avg_weighted_risk_factor: f64,
        /// Daily snapshots with a risk above 1/1.2.
        pub risk_factor_above_threshold_daily_count: i64,
        /// Mean risk over its daily snapshots.
        pub avg_risk_factor: f64,
        /// Largest risk over its daily snapshots.
        pub max_risk_factor: f64,
        /// Sum of its priced borrows.
        pub borrow_amount_sum_eth: f64,
        /// Mean of its priced borrows.
        pub borrow_amount_avg_eth: f64,
        /// Number of its borrows.
        pub borrow_count: i64,
        /// Sum of its priced repayments.
        pub repay_amount_sum_eth: f64,
        /// Mean of its priced repayments.
        pub repay_amount_avg_eth: f64,
        /// Number of its repayments.
        pub repay_count: i64,
        /// Borrow sum minus repay sum; may be negative.
        pub borrow_repay_diff_eth: f64,
        /// Number of its deposits.
        pub deposit_count: i64,
        /// Sum of its priced deposits.
        pub deposit_amount_sum_eth: f64,
        /// Seconds from its first deposit to the day; NULL without one.
        pub time_since_first_deposit: Option<i64>,
        /// Sum of its priced withdrawals.
        pub withdraw_amount_sum_eth: f64,
        /// Withdraw sum minus deposit sum, at least 0.
        pub withdraw_deposit_diff_eth: f64,
        /// Liquidations of its accounts.
        pub liquidation_count: i64,
        /// Seconds from the newest liquidation to the day; NULL without one.
        pub time_since_last_liquidated: Option<i64>,
        /// Collateral that those liquidations took.
        pub liquidation_amount_sum_eth: f64,
        /// Protocols that it borrowed on.
        pub unique_borrow_protocol_count: i64,
        /// Protocols that it deposited on.
        pub unique_lending_protocol_count: i64,
        /// Whether the snapshot of the day counts for it: true if it has collateral or debt then, so that a risk of 0 means
        /// no debt. NULL in sets that are older than the column.
        pub has_health_now: Option<bool> = null_if_absent,
        /// Daily snapshots that count for it: the days behind averages and maximums of health. NULL in sets that are older
        /// than the column.
        pub health_days: Option<i64> = null_if_absent,
    }
}

impl FeatureRow {
    /// Computes the features of a wallet as of a day from its state.
    #[must_use]
    pub fn new(wallet: Address, state: &WalletState, as_of: Day) -> Self {
        FeatureRow::at_instant(wallet, state, as_of, as_of.start())
    }

    /// Computes the features as of an instant in epoch seconds. The snapshot of `snapshot_day` is used as the current
    /// one.
    #[must_use]
    pub fn at_instant(wallet: Address, state: &WalletState, snapshot_day: Day, instant: i64) -> Self {
        let health = &state.health;
        let counted = health.snapshot_on(snapshot_day);
        let current = counted.unwrap_or_default();
        let seconds_since = |time: Option<i64>| time.map(|time| instant - time);
        FeatureRow {
            wallet_address: wallet,
            risk_factor: current.risk,
            total_collateral_eth: current.collateral_eth,
            total_collateral_avg_eth: mean(health.collateral_sum_eth, health.days),
            total_available_borrows_eth: current.available_eth,
            total_available_borrows_avg_eth: mean(health.available_sum_eth, health.days),
            avg_weighted_risk_factor: weighted_risk(health),
            risk_factor_above_threshold_daily_count: health.days_at_risk,
            avg_risk_factor: mean(health.risk_sum, health.days),
            max_risk_factor: health.risk_max,
            borrow_amount_sum_eth: state.borrows.sum_eth,
            borrow_amount_avg_eth: state.borrows.mean_eth(),
            borrow_count: state.borrows.count,
            repay_amount_sum_eth: state.repays.sum_eth,
            repay_amount_avg_eth: state.repays.mean_eth(),
            repay_count: state.repays.count,
            borrow_repay_diff_eth: state.borrows.sum_eth - state.repays.sum_eth,
            deposit_count: state.deposits.count,
            deposit_amount_sum_eth: state.deposits.sum_eth,
            time_since_first_deposit: seconds_since(state.first_deposit),
            withdraw_amount_sum_eth: state.withdraws.sum_eth,
            withdraw_deposit_diff_eth: (state.withdraws.sum_eth - state.deposits.sum_eth).max(0.0),
            liquidation_count: state.liquidations.totals.count,
            time_since_last_liquidated: seconds_since(state.liquidations.last),
            liquidation_amount_sum_eth: state.liquidations.totals.sum_eth,
            unique_borrow_protocol_count: state.borrow_protocols.len(),
            unique_lending_protocol_count: state.deposit_protocols.len(),
            has_health_now: Some(counted.is_some()),
            health_days: Some(health.days),
        }
    }
}

fn weighted_risk(health: &HealthHistory) -> f64 {
    if health.debt_sum_eth > 0.0 { health.weighted_risk_sum / health.debt_sum_eth } else { 0.0 }
}

row! {
    /// The key columns of features as of an instant. Such features use only blocks strictly before the instant.
    pub struct InstantKey {
        /// The wallet.
        pub wallet_address: Address,
        /// The instant: the time of the borrow's block, or the requested time.
        pub time: Timestamp,
        /// Block of the borrow; NULL for a requested time.
        pub block_number: Option<i64>,
        /// Transaction hash of the borrow; NULL for a requested time.
        pub transaction_hash: Option<TxHash>,
        /// Log index of the borrow in its block; NULL for a requested time.
        pub log_index: Option<i64>,
        /// Day of the snapshot that is used as *now*: the last one before the instant; NULL if there is none.
        pub snapshot_day: Option<Day>,
        /// Protocol of the borrow; NULL for a requested time.
        pub borrow_protocol: Option<Arc<str>>,
        /// Token that is borrowed; NULL for a requested time.
        pub borrow_token_address: Option<Address>,
        /// Amount that is borrowed, in ETH; NULL without a price, and for a requested time.
        pub borrow_amount_eth: Option<f64>,
    }
}

row! {
    /// What happens to a wallet after an instant, up to the end of a horizon: what a model learns to predict. Nothing of it is
    /// known at the instant.
    pub struct LabelRow {
        /// Whether an account of the wallet is liquidated within the horizon. A liquidation in the block of the borrow counts if it
        /// follows the borrow.
        pub label_liquidated: bool,
        /// Seconds from the instant to the first of those liquidations; NULL without one.
        pub label_seconds_to_liquidation: Option<i64>,
        /// Collateral that the largest of them takes, in ETH; NULL without one that has a price.
        pub label_largest_liquidation_eth: Option<f64>,
        /// Whether the risk factor is above 1/1.2 in a daily snapshot within the horizon.
        pub label_at_risk: bool,
        /// Seconds from the instant to the first of those snapshots; NULL without one.
        pub label_seconds_to_risk: Option<i64>,
        /// Whether the lake ends before the horizon does: the labels may be false only because it has nothing later.
        pub label_censored: bool,
    }
}

row! {
    /// The fold state of one address as of a day: it covers events before the day and snapshots up to and including the
    /// day.
    pub struct StateRow {
        /// The address.
        pub wallet_address: Address,
        /// Whether the address is the sender or account of a valid event.
        pub is_wallet: bool,
        /// Number of borrows.
        pub borrow_count: i64,
        /// Number of borrows with a price.
        pub borrow_priced_count: i64,
        /// Sum of the amounts of those, in ETH.
        pub borrow_sum_eth: f64,
        /// Number of repayments.
        pub repay_count: i64,
        /// Number of repayments with a price.
        pub repay_priced_count: i64,
        /// Sum of the amounts of those, in ETH.
        pub repay_sum_eth: f64,
        /// Number of deposits.
        pub deposit_count: i64,
        /// Number of deposits with a price.
        pub deposit_priced_count: i64,
        /// Sum of the amounts of those, in ETH.
        pub deposit_sum_eth: f64,
        /// Number of withdrawals.
        pub withdraw_count: i64,
        /// Number of withdrawals with a price.
        pub withdraw_priced_count: i64,
        /// Sum of the amounts of those, in ETH.
        pub withdraw_sum_eth: f64,
        /// Time of the first deposit, in epoch seconds.
        pub first_deposit: Option<i64>,
        /// Number of liquidations of its accounts.
        pub liquidation_count: i64,
        /// Number of liquidations with a price.
        pub liquidation_priced_count: i64,
        /// Sum of the amounts of those, in ETH.
        pub liquidation_sum_eth: f64,
        /// Time of the latest liquidation, in epoch seconds.
        pub last_liquidated: Option<i64>,
        /// Protocols on which it has borrowed, sorted and comma-separated.
        pub borrow_protocols: String,
        /// Protocols on which it has deposited, sorted and comma-separated.
        pub deposit_protocols: String,
        /// Number of days with a snapshot.
        pub days: i64,
        /// Sum of the daily collateral, in ETH.
        pub collateral_sum_eth: f64,
        /// Sum of the daily amount that could still be borrowed, in ETH.
        pub available_sum_eth: f64,
        /// Sum of the daily risk.
        pub risk_sum: f64,
        /// Largest daily risk.
        pub risk_max: f64,
        /// Number of days with a risk above 1/1.2.
        pub days_at_risk: i64,
        /// Σ debt × risk over every account, protocol and day.
        pub weighted_risk_sum: f64,
        /// Σ debt over every account, protocol and day.
        pub debt_sum_eth: f64,
        /// The latest day with a snapshot.
        pub latest_day: Option<Day>,
        /// Collateral on that day, in ETH.
        pub latest_collateral_eth: f64,
        /// Amount that could still be borrowed on that day, in ETH.
        pub latest_available_eth: f64,
        /// Risk on that day.
        pub latest_risk: f64,
    }
}

impl StateRow {
    /// Converts the state of a wallet of `fold` to a row.
    #[must_use]
    pub fn new(wallet: Address, state: &WalletState, fold: &Fold) -> Self {
        let health = &state.health;
        let (latest_day, latest) = health.latest.unzip();
        let latest = latest.unwrap_or_default();
        StateRow {
            wallet_address: wallet,
            is_wallet: state.is_wallet,
            borrow_count: state.borrows.count,
            borrow_priced_count: state.borrows.priced,
            borrow_sum_eth: state.borrows.sum_eth,
            repay_count: state.repays.count,
            repay_priced_count: state.repays.priced,
            repay_sum_eth: state.repays.sum_eth,
            deposit_count: state.deposits.count,
            deposit_priced_count: state.deposits.priced,
            deposit_sum_eth: state.deposits.sum_eth,
            withdraw_count: state.withdraws.count,
            withdraw_priced_count: state.withdraws.priced,
            withdraw_sum_eth: state.withdraws.sum_eth,
            first_deposit: state.first_deposit,
            liquidation_count: state.liquidations.totals.count,
            liquidation_priced_count: state.liquidations.totals.priced,
            liquidation_sum_eth: state.liquidations.totals.sum_eth,
            last_liquidated: state.liquidations.last,
            borrow_protocols: fold.protocol_names(state.borrow_protocols).join(","),
            deposit_protocols: fold.protocol_names(state.deposit_protocols).join(","),
            days: health.days,
            collateral_sum_eth: health.collateral_sum_eth,
            available_sum_eth: health.available_sum_eth,
            risk_sum: health.risk_sum,
            risk_max: health.risk_max,
            days_at_risk: health.days_at_risk,
            weighted_risk_sum: health.weighted_risk_sum,
            debt_sum_eth: health.debt_sum_eth,
            latest_day,
            latest_collateral_eth: latest.collateral_eth,
            latest_available_eth: latest.available_eth,
            latest_risk: latest.risk,
        }
    }

    /// Inserts the stored state into a fold.
    ///
    /// # Errors
    /// `CorruptData` if the row has values that no fold produces.
    pub fn restore(&self, fold: &mut Fold) -> Result<()> {
        self.validate()?;
        let names = |text: &str| -> Vec<String> {
            text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let borrow_protocols = fold.protocol_set(names(&self.borrow_protocols).iter().map(String::as_str));
        let deposit_protocols = fold.protocol_set(names(&self.deposit_protocols).iter().map(String::as_str));
        let totals = |count, priced, sum_eth| EventTotals { count, priced, sum_eth };
        let latest = WalletSnapshot {
            collateral_eth: self.latest_collateral_eth,
            available_eth: self.latest_available_eth,
            risk: self.latest_risk,
        };
        *fold.wallet(self.wallet_address) = WalletState {
            is_wallet: self.is_wallet,
            borrows: totals(self.borrow_count, self.borrow_priced_count, self.borrow_sum_eth),
            repays: totals(self.repay_count, self.repay_priced_count, self.repay_sum_eth),
            deposits: totals(self.deposit_count, self.deposit_priced_count, self.deposit_sum_eth),
            withdraws: totals(self.withdraw_count, self.withdraw_priced_count, self.withdraw_sum_eth),
            first_deposit: self.first_deposit,
            liquidations: Liquidations {
                totals: totals(self.liquidation_count, self.liquidation_priced_count, self.liquidation_sum_eth),
                last: self.last_liquidated,
            },
            borrow_protocols,
            deposit_protocols,
            health: HealthHistory {
                days: self.days,
                collateral_sum_eth: self.collateral_sum_eth,
                available_sum_eth: self.available_sum_eth,
                risk_sum: self.risk_sum,
                risk_max: self.risk_max,
                days_at_risk: self.days_at_risk,
                weighted_risk_sum: self.weighted_risk_sum,
                debt_sum_eth: self.debt_sum_eth,
                latest: self.latest_day.map(|day| (day, latest)),
            },
        };
        if fold.has_too_many_protocols() { Err(self.invalid("protocols")) } else { Ok(()) }
    }

    /// Checks counts and times. Sums are not checked here, but by check-features.
    fn validate(&self) -> Result<()> {
        let counts = [
            (self.borrow_priced_count, self.borrow_count),
            (self.repay_priced_count, self.repay_count),
            (self.deposit_priced_count, self.deposit_count),
            (self.withdraw_priced_count, self.withdraw_count),
            (self.liquidation_priced_count, self.liquidation_count),
            (self.days_at_risk, self.days),
        ];
        if !counts.iter().all(|(part, total)| (0..=*total).contains(part) && *total <= MAX_COUNT) {
            return Err(self.invalid("counts"));
        }
        let mut times = self.first_deposit.iter().chain(&self.last_liquidated);
        let is_accepted = |time: &i64| Day::try_from_epoch_seconds(*time).is_some();
        if times.all(is_accepted) { Ok(()) } else { Err(self.invalid("times")) }
    }

    fn invalid(&self, fields: &'static str) -> Error {
        Error::corrupt("invalid fold state").with("wallet", self.wallet_address).with("fields", fields)
    }
}

/// The largest count: an f64 represents every integer up to this one exactly.
const MAX_COUNT: i64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fold::Exposure;
    use crate::domain::{Category, HexBytes};
    use crate::tables::Row;

    fn fold() -> Fold {
        let mut fold = Fold::default();
        let day = Day::from_epoch_days(19_010);
        let exposure = Exposure { collateral_eth: 3.0, available_eth: 1.0, debt_eth: 2.0, risk: 0.9 };
        for (i, category) in Category::ALL.into_iter().enumerate() {
            let quantity = (i % 2 == 0).then_some(i as f64 + 0.5);
            fold.sent(HexBytes([i as u8; 20]), category, "b", day.start() + i as i64, quantity);
            fold.sent(HexBytes([7; 20]), category, "a", day.start() - i as i64, Some(1.0));
        }
        fold.liquidated(HexBytes([7; 20]), day.start(), Some(0.25));
        fold.snapshot(HexBytes([7; 20]), day, &[exposure, exposure]);
        fold.snapshot(HexBytes([8; 20]), day, &[exposure]);
        fold
    }

    #[test]
    fn state_round_trips_through_rows() {
        let fold = fold();
        let rows: Vec<_> =
            fold.sorted().into_iter().map(|(wallet, state)| StateRow::new(wallet, state, &fold)).collect();
        let mut restored = Fold::default();
        let mut decoded = Vec::new();
        StateRow::decode(&StateRow::encode(&rows).unwrap(), &mut decoded).unwrap();
        for row in decoded {
            row.restore(&mut restored).unwrap();
        }
        let restored_rows: Vec<_> =
            restored.sorted().into_iter().map(|(wallet, state)| StateRow::new(wallet, state, &restored)).collect();
        assert_eq!(rows, restored_rows);
    }

    #[test]
    fn every_feature_is_computed_from_the_state() {
        let totals = |count, priced, sum_eth| EventTotals { count, priced, sum_eth };
        let (mut fold, wallet, as_of) = (Fold::default(), HexBytes([7; 20]), Day::from_epoch_days(19_010));
        let state = WalletState {
            is_wallet: true,
            borrows: totals(5, 4, 6.0),
            repays: totals(3, 2, 7.0),
            deposits: totals(9, 8, 2.0),
            withdraws: totals(4, 4, 2.5),
            first_deposit: Some(as_of.start() - 100),
            liquidations: Liquidations { totals: totals(6, 5, 3.5), last: Some(as_of.start() - 10) },
            borrow_protocols: fold.protocol_set(["a", "b"]),
            deposit_protocols: fold.protocol_set(["a"]),
            health: HealthHistory {
                days: 4,
                collateral_sum_eth: 10.0,
                available_sum_eth: 5.0,
                risk_sum: 3.5,
                risk_max: 2.25,
                days_at_risk: 2,
                weighted_risk_sum: 6.0,
                debt_sum_eth: 8.0,
                latest: Some((as_of, WalletSnapshot { collateral_eth: 4.0, available_eth: 1.0, risk: 0.5 })),
            },
        };
        let expected = FeatureRow {
            wallet_address: wallet,
            risk_factor: 0.5,
            total_collateral_eth: 4.0,
            total_collateral_avg_eth: 2.5,
            total_available_borrows_eth: 1.0,
            total_available_borrows_avg_eth: 1.25,
            avg_weighted_risk_factor: 0.75,
            risk_factor_above_threshold_daily_count: 2,
            avg_risk_factor: 0.875,
            max_risk_factor: 2.25,
            borrow_amount_sum_eth: 6.0,
            borrow_amount_avg_eth: 1.5,
            borrow_count: 5,
            repay_amount_sum_eth: 7.0,
            repay_amount_avg_eth: 3.5,
            repay_count: 3,
            borrow_repay_diff_eth: -1.0,
            deposit_count: 9,
            deposit_amount_sum_eth: 2.0,
            time_since_first_deposit: Some(100),
            withdraw_amount_sum_eth: 2.5,
            withdraw_deposit_diff_eth: 0.5,
            liquidation_count: 6,
            time_since_last_liquidated: Some(10),
            liquidation_amount_sum_eth: 3.5,
            unique_borrow_protocol_count: 2,
            unique_lending_protocol_count: 1,
            has_health_now: Some(true),
            health_days: Some(4),
        };
        assert_eq!(FeatureRow::new(wallet, &state, as_of), expected);
        assert_eq!(FeatureRow::columns().len(), 29, "the wallet, its 26 features, and two columns on their health");
    }

    #[test]
    fn features_of_nothing_are_0_and_times_are_null() {
        let features = FeatureRow::new(HexBytes([7; 20]), &WalletState::default(), Day::from_epoch_days(19_010));
        assert_eq!((features.time_since_first_deposit, features.time_since_last_liquidated), (None, None));
        assert_eq!((features.has_health_now, features.health_days), (Some(false), Some(0)));
        for amount in [
            features.total_collateral_avg_eth,
            features.total_available_borrows_avg_eth,
            features.avg_weighted_risk_factor,
            features.avg_risk_factor,
            features.borrow_amount_avg_eth,
            features.repay_amount_avg_eth,
        ] {
            assert_eq!(amount, 0.0);
        }
    }

    #[test]
    fn older_snapshot_counts_for_averages_but_not_for_now() {
        let (day, wallet) = (Day::from_epoch_days(19_010), HexBytes([7; 20]));
        let state = *fold().wallet(wallet);
        let features = FeatureRow::new(wallet, &state, day.next());
        assert_eq!((features.total_collateral_eth, features.risk_factor), (0.0, 0.0));
        assert_eq!((features.total_collateral_avg_eth, features.avg_risk_factor), (6.0, 0.9));
        assert_eq!((features.has_health_now, features.health_days), (Some(false), Some(1)));
    }

    #[test]
    fn sets_without_the_columns_on_health_are_read() {
        let row = FeatureRow::new(HexBytes([7; 20]), &WalletState::default(), Day::from_epoch_days(19_010));
        let batch = FeatureRow::encode(std::slice::from_ref(&row)).unwrap();
        let older = batch.project(&(0..27).collect::<Vec<_>>()).unwrap();
        let mut rows = Vec::new();
        FeatureRow::decode(&older, &mut rows).unwrap();
        assert_eq!(rows, [FeatureRow { has_health_now: None, health_days: None, ..row }]);
    }

    #[test]
    fn more_withdrawn_than_deposited_counts_less_does_not() {
        let difference = |withdrawn, deposited| {
            let sum = |sum_eth| EventTotals { count: 1, priced: 1, sum_eth };
            let state = WalletState { withdraws: sum(withdrawn), deposits: sum(deposited), ..WalletState::default() };
            FeatureRow::new(HexBytes([7; 20]), &state, Day::from_epoch_days(19_010)).withdraw_deposit_diff_eth
        };
        assert_eq!((difference(3.0, 1.0), difference(1.0, 3.0)), (2.0, 0.0));
    }
}
