//! The quality checks: plain arithmetic over the evidence, without I/O.

use defi_shared::config::{Checks, Limits};
use defi_shared::tables::FeatureRow;

use crate::evidence::Evidence;
use crate::{Check, Outcome};

/// Any value above 0 fails, independent of the configuration: such a set is wrong.
const ZERO_TOLERANCE: Limits = Limits { warn: None, fail: Some(0.0) };

/// Returns all checks in the order in which a report lists them.
pub(crate) fn all(evidence: &Evidence, limits: &Checks) -> Vec<Check> {
    let counts = &evidence.counts;
    let mut checks = vec![
        wallets(evidence),
        missing_snapshots(evidence),
        all_zero("collateral_all_zero", evidence, evidence.collateral_positions, "collateral positions", |row| {
            row.total_collateral_eth
        }),
        all_zero("risk_all_zero", evidence, evidence.debts, "debts", |row| row.risk_factor),
        all_zero("borrow_count_all_zero", evidence, counts.borrow_events, "borrow events", |row| {
            row.borrow_count as f64
        }),
        negative_counts(evidence),
        not_finite(evidence),
        lost_wallets(evidence),
        share(
            "unpriced_events_share",
            counts.unpriced_events,
            counts.events,
            "events have no price",
            limits.unpriced_share,
        ),
        share(
            "unpriced_positions_share",
            counts.unpriced_positions,
            counts.positions,
            "positions have no price",
            limits.unpriced_share,
        ),
        share("quarantined_share", counts.rejected, counts.rows_in, "rows are in quarantine", limits.quarantined_share),
        share(
            "null_is_collateral_share",
            counts.null_is_collateral,
            counts.supply_positions,
            "supply positions have no collateral flag",
            limits.null_is_collateral_share,
        ),
        odd_liquidations(evidence, limits),
        check(
            "price_jumps",
            counts.price_jumps as f64,
            limits.price_jumps,
            "price jumps from one day to the next".to_owned(),
        ),
    ];
    checks.extend(mean_band(evidence, limits.mean_band));
    checks
}

fn check(name: &str, value: f64, limits: Limits, about: String) -> Check {
    let exceeds = |limit: Option<f64>| limit.is_some_and(|limit| value > limit);
    let outcome = match (exceeds(limits.fail), exceeds(limits.warn)) {
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Warn,
        (false, false) => Outcome::Pass,
    };
    Check { name: name.to_owned(), figure: value, warn: limits.warn, fail: limits.fail, outcome, about }
}

/// Warns about a set without wallets. Such a set is valid: a new chain has no wallets yet.
fn wallets(evidence: &Evidence) -> Check {
    let empty = if evidence.features.is_empty() { 1.0 } else { 0.0 };
    check("no_wallets", empty, Limits { warn: Some(0.0), fail: None }, format!("{} wallets", evidence.features.len()))
}

fn missing_snapshots(evidence: &Evidence) -> Check {
    let missing = &evidence.missing_snapshots;
    let about = if missing.is_empty() { "none missing".to_owned() } else { format!("missing: {}", missing.join(", ")) };
    check("missing_snapshots", missing.len() as f64, ZERO_TOLERANCE, about)
}

/// Fails if a feature is zero for every wallet although there are input rows that the feature counts.
fn all_zero(
    name: &str,
    evidence: &Evidence,
    inputs: u64,
    input_name: &str,
    value: impl Fn(&FeatureRow) -> f64,
) -> Check {
    let non_zero = evidence.features.iter().filter(|row| value(row) != 0.0).count();
    let is_wrong = inputs > 0 && non_zero == 0 && !evidence.features.is_empty();
    let about = format!("{non_zero} wallets with a nonzero value, {inputs} {input_name}");
    check(name, f64::from(u8::from(is_wrong)), ZERO_TOLERANCE, about)
}

fn negative_counts(evidence: &Evidence) -> Check {
    let counts = |row: &FeatureRow| {
        [
            row.risk_factor_above_threshold_daily_count,
            row.borrow_count,
            row.repay_count,
            row.deposit_count,
            row.liquidation_count,
            row.unique_borrow_protocol_count,
            row.unique_lending_protocol_count,
            row.time_since_first_deposit.unwrap_or(0),
            row.time_since_last_liquidated.unwrap_or(0),
        ]
    };
    let negative = evidence.features.iter().filter(|row| counts(row).iter().any(|count| *count < 0)).count();
    check("negative_counts", negative as f64, ZERO_TOLERANCE, "wallets with a negative count or time".to_owned())
}

fn not_finite(evidence: &Evidence) -> Check {
    let rows = evidence.features.iter();
    let invalid = rows.filter(|row| doubles(row).iter().any(|(_, value)| !value.is_finite())).count();
    check(
        "not_finite",
        invalid as f64,
        ZERO_TOLERANCE,
        "wallets with an amount or a factor that is not finite".to_owned(),
    )
}

/// Fails if the set has fewer wallets than the previous published set. Wallets never disappear, so history was lost.
fn lost_wallets(evidence: &Evidence) -> Check {
    let before = evidence.previous.as_ref().map_or(0, Vec::len);
    let lost = before.saturating_sub(evidence.features.len());
    check(
        "lost_wallets",
        lost as f64,
        ZERO_TOLERANCE,
        format!("{} wallets, {before} in the previous published set", evidence.features.len()),
    )
}

fn share(name: &str, part: u64, whole: u64, about: &str, limits: Limits) -> Check {
    let value = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    check(name, value, limits, format!("{part} of {whole} {about}"))
}

fn odd_liquidations(evidence: &Evidence, limits: &Checks) -> Check {
    let (unexpected, priced) = (evidence.counts.odd_liquidations, evidence.counts.priced_liquidations);
    // Too few liquidations give no meaningful share.
    let limits = if priced < limits.odd_liquidation_minimum { Limits::default() } else { limits.odd_liquidation_share };
    share(
        "odd_liquidation_share",
        unexpected,
        priced,
        "priced liquidations seized a token that can't be collateral",
        limits,
    )
}

/// Returns the feature whose mean changed most since the previous published set.
fn mean_band(evidence: &Evidence, limits: Limits) -> Option<Check> {
    let before = means(evidence.previous.as_deref()?)?;
    let now = means(&evidence.features)?;
    let changes =
        before.iter().zip(&now).map(|((name, before), (_, now))| (*name, *before, *now, ratio(*before, *now)));
    let (name, before, now, ratio) = changes.max_by(|a, b| a.3.total_cmp(&b.3))?;
    Some(check("mean_band", ratio, limits, format!("the mean of {name} changed most, from {before:.6} to {now:.6}")))
}

/// Returns the ratio of the larger mean to the smaller one, or 1 if a mean is zero or the sign changed.
fn ratio(before: f64, now: f64) -> f64 {
    if before == 0.0 || now == 0.0 || before.signum() != now.signum() { 1.0 } else { (now / before).max(before / now) }
}

/// Returns the mean of every amount and factor, or `None` for a set without rows.
fn means(rows: &[FeatureRow]) -> Option<Vec<(&'static str, f64)>> {
    let mut sums = doubles(rows.first()?).map(|(name, _)| (name, 0.0));
    for row in rows {
        for (sum, (_, value)) in sums.iter_mut().zip(doubles(row)) {
            sum.1 += value;
        }
    }
    Some(sums.into_iter().map(|(name, sum)| (name, sum / rows.len() as f64)).collect())
}

/// Returns the name and value of each amount and factor of a row.
fn doubles(row: &FeatureRow) -> [(&'static str, f64); 17] {
    [
        ("risk_factor", row.risk_factor),
        ("total_collateral_eth", row.total_collateral_eth),
        ("total_collateral_avg_eth", row.total_collateral_avg_eth),
        ("total_available_borrows_eth", row.total_available_borrows_eth),
        ("total_available_borrows_avg_eth", row.total_available_borrows_avg_eth),
        ("avg_weighted_risk_factor", row.avg_weighted_risk_factor),
        ("avg_risk_factor", row.avg_risk_factor),
        ("max_risk_factor", row.max_risk_factor),
        ("borrow_amount_sum_eth", row.borrow_amount_sum_eth),
        ("borrow_amount_avg_eth", row.borrow_amount_avg_eth),
        ("repay_amount_sum_eth", row.repay_amount_sum_eth),
        ("repay_amount_avg_eth", row.repay_amount_avg_eth),
        ("borrow_repay_diff_eth", row.borrow_repay_diff_eth),
        ("deposit_amount_sum_eth", row.deposit_amount_sum_eth),
        ("withdraw_amount_sum_eth", row.withdraw_amount_sum_eth),
        ("withdraw_deposit_diff_eth", row.withdraw_deposit_diff_eth),
        ("liquidation_amount_sum_eth", row.liquidation_amount_sum_eth),
    ]
}

#[cfg(test)]
mod tests {
    use defi_shared::config::Config;
    use defi_shared::domain::fold::WalletState;
    use defi_shared::domain::{Day, HexBytes};

    use super::*;

    fn row(wallet: u8) -> FeatureRow {
        let state = WalletState { is_wallet: true, ..WalletState::default() };
        let row = FeatureRow::new(HexBytes([wallet; 20]), &state, Day::from_epoch_days(19_000));
        FeatureRow { total_collateral_eth: 1.0, risk_factor: 0.5, borrow_count: 1, ..row }
    }

    fn valid_evidence() -> Evidence {
        let mut evidence = Evidence { features: vec![row(1), row(2)], ..Evidence::default() };
        (evidence.collateral_positions, evidence.debts, evidence.counts.borrow_events) = (5, 5, 5);
        (evidence.counts.events, evidence.counts.positions, evidence.counts.rows_in) = (100, 100, 100);
        evidence
    }

    /// Returns the name and outcome of every check that does not pass.
    fn failing_checks(evidence: &Evidence) -> Vec<(String, Outcome)> {
        let limits = Config::built_in().unwrap().checks;
        let checks = all(evidence, &limits).into_iter().filter(|check| check.outcome != Outcome::Pass);
        checks.map(|check| (check.name, check.outcome)).collect()
    }

    #[test]
    fn a_valid_set_passes() {
        assert_eq!(failing_checks(&valid_evidence()), []);
    }

    #[test]
    fn each_defect_is_detected_by_its_own_check() {
        type Defect = fn(&mut Evidence);
        let defects: [(Defect, &str, Outcome); 16] = [
            (|e| e.features.clear(), "no_wallets", Outcome::Warn),
            (|e| e.missing_snapshots.push("aave-v2-eth markets".to_owned()), "missing_snapshots", Outcome::Fail),
            (
                |e| e.features.iter_mut().for_each(|r| r.total_collateral_eth = 0.0),
                "collateral_all_zero",
                Outcome::Fail,
            ),
            (|e| e.features.iter_mut().for_each(|r| r.risk_factor = 0.0), "risk_all_zero", Outcome::Fail),
            (|e| e.features.iter_mut().for_each(|r| r.borrow_count = 0), "borrow_count_all_zero", Outcome::Fail),
            (|e| e.features[0].repay_count = -1, "negative_counts", Outcome::Fail),
            (|e| e.features[0].max_risk_factor = f64::NAN, "not_finite", Outcome::Fail),
            (|e| e.previous = Some(vec![row(1), row(2), row(3)]), "lost_wallets", Outcome::Fail),
            (|e| e.counts.unpriced_events = 6, "unpriced_events_share", Outcome::Warn),
            (|e| e.counts.unpriced_positions = 51, "unpriced_positions_share", Outcome::Fail),
            (|e| e.counts.rejected = 2, "quarantined_share", Outcome::Warn),
            (|e| e.counts.rejected = 21, "quarantined_share", Outcome::Fail),
            (
                |e| (e.counts.supply_positions, e.counts.null_is_collateral) = (10, 1),
                "null_is_collateral_share",
                Outcome::Warn,
            ),
            (
                |e| (e.counts.priced_liquidations, e.counts.odd_liquidations) = (20, 2),
                "odd_liquidation_share",
                Outcome::Fail,
            ),
            (|e| e.counts.price_jumps = 1, "price_jumps", Outcome::Warn),
            (
                |e| e.previous = Some(vec![FeatureRow { total_collateral_eth: 4.0, ..row(1) }]),
                "mean_band",
                Outcome::Warn,
            ),
        ];
        for (introduce_defect, name, outcome) in defects {
            let mut evidence = valid_evidence();
            introduce_defect(&mut evidence);
            assert_eq!(failing_checks(&evidence), [(name.to_owned(), outcome)]);
        }
    }

    #[test]
    fn odd_liquidation_share_needs_enough_liquidations() {
        let mut evidence = valid_evidence();
        (evidence.counts.priced_liquidations, evidence.counts.odd_liquidations) = (19, 19);
        assert_eq!(failing_checks(&evidence), []);
    }
}
