//! The quality checks: plain arithmetic over the evidence, without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::config::{Checks, Limits};
use defi_shared::domain::{Figure, Side};
use defi_shared::lake::Provenance;
use defi_shared::step::aave::Measure;

use crate::counts::WorstReserve;
use crate::evidence::Evidence;
use crate::shares::{self, Group, Share};
use crate::summary::{Culprits, Feature, Summary};
use crate::totals::{self, MarketTotal};
use crate::{Check, Outcome};

/// Any value above 0 fails, independent of the configuration: such a set is wrong.
const ZERO_TOLERANCE: Limits = Limits { warn: None, fail: Some(0.0) };

/// The number of foreign inputs that the check names: the outputs of steps are small.
const MAX_CULPRITS: usize = 3;

/// Returns all checks in the order in which a report lists them.
pub(crate) fn all(evidence: &Evidence, limits: &Checks) -> Vec<Check> {
    let counts = &evidence.counts;
    let mut checks = vec![
        wallets(evidence),
        missing_snapshots(evidence),
        foreign_inputs(&evidence.inputs),
        all_zero(
            "collateral_all_zero",
            evidence,
            evidence.collateral_positions,
            "collateral positions",
            "total_collateral_eth",
        ),
        all_zero("risk_all_zero", evidence, evidence.debts, "debts", "risk_factor"),
        all_zero("borrow_count_all_zero", evidence, counts.borrow_events, "borrow events", "borrow_count"),
        wrong_wallets("negative_counts", &evidence.features.negative, "a negative count or time"),
        not_finite(evidence),
        lost_wallets(evidence),
        share("unpriced_events_share", counts.events, "events have no price", limits.unpriced_share),
        largest_share(
            "unpriced_events_largest_share",
            &evidence.unpriced_events,
            "have no price",
            limits.unpriced_share,
        ),
        share("unpriced_positions_share", counts.positions, "positions have no price", limits.unpriced_share),
        largest_share(
            "unpriced_positions_largest_share",
            &evidence.unpriced_positions,
            "have no price",
            limits.unpriced_share,
        ),
        share("quarantined_share", counts.rows, "rows are in quarantine", limits.quarantined_share),
        largest_share(
            "quarantined_largest_share",
            &evidence.quarantined,
            "are in quarantine",
            limits.quarantined_share,
        ),
        largest_share(
            "null_is_collateral_share",
            &evidence.null_is_collateral,
            "have no collateral flag",
            limits.null_is_collateral_share,
        ),
        odd_liquidations(&counts.priced_liquidations, limits),
        price_jumps(evidence, limits.price_jumps),
        eth_price_change(evidence, limits.eth_price_change),
        jumped_collateral(evidence, limits.jumped_collateral_share),
    ];
    checks.extend(market_sums(evidence, limits));
    checks.extend(evidence.counts.worst_reserves.iter().map(|reserve| worst_reserve(reserve, limits)));
    if let Some(sets) = Sets::of(evidence) {
        checks.extend([
            sets.mean_band(limits.mean_band),
            sets.mean_became_zero(limits.mean_minimum),
            sets.zero_share_change(limits.zero_share_change),
        ]);
    }
    checks
}

fn check(name: &str, value: f64, limits: Limits, about: String) -> Check {
    // A value that is not a number is within no limit.
    let exceeds = |limit: Option<f64>| limit.is_some_and(|limit| value.is_nan() || value > limit);
    let outcome = match (exceeds(limits.fail), exceeds(limits.warn)) {
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Warn,
        (false, false) => Outcome::Pass,
    };
    Check { name: name.to_owned(), figure: value, warn: limits.warn, fail: limits.fail, outcome, about }
}

/// Checks for a set without wallets. It warns on a chain that has no event yet, and fails if the sources had events:
/// every event has a sender, who is a wallet.
fn wallets(evidence: &Evidence) -> Check {
    let events = evidence.counts.event_rows;
    let wallets = evidence.features.wallets.len();
    let limits = Limits { warn: Some(0.0), fail: (events > 0).then_some(0.0) };
    check(
        "no_wallets",
        f64::from(u8::from(wallets == 0)),
        limits,
        format!("{wallets} wallets, {events} rows of events"),
    )
}

fn missing_snapshots(evidence: &Evidence) -> Check {
    let missing = &evidence.missing_snapshots;
    let about = if missing.is_empty() { "none missing".to_owned() } else { format!("missing: {}", missing.join(", ")) };
    check("missing_snapshots", missing.len() as f64, ZERO_TOLERANCE, about)
}

/// Fails if an object that the set was made from is not as a step wrote it. Names the first.
fn foreign_inputs(inputs: &Provenance) -> Check {
    let Provenance { as_written, changed, foreign, older } = inputs;
    let changed = changed.iter().map(|key| format!("{key} differs from what a step wrote"));
    let culprits: Vec<_> = changed.chain(foreign.iter().map(|key| format!("no step wrote {key}"))).collect();
    let about = match culprits.len() {
        0 if older.is_empty() => format!("{as_written} inputs are as a step wrote them"),
        0 => format!("{as_written} inputs are as a step wrote them, {} are older than the records", older.len()),
        1..=MAX_CULPRITS => culprits.join(", "),
        count => format!("{}, and {} more", culprits[..MAX_CULPRITS].join(", "), count - MAX_CULPRITS),
    };
    check("foreign_inputs", culprits.len() as f64, ZERO_TOLERANCE, about)
}

/// Fails if a feature is zero for every wallet although there are input rows that the feature counts.
fn all_zero(name: &str, evidence: &Evidence, inputs: u64, input_name: &str, feature: &str) -> Check {
    let non_zero = evidence.features.non_zero(feature);
    let is_wrong = inputs > 0 && non_zero == 0 && !evidence.features.wallets.is_empty();
    let about = format!("{non_zero} wallets with a nonzero value, {inputs} {input_name}");
    check(name, f64::from(u8::from(is_wrong)), ZERO_TOLERANCE, about)
}

/// Fails if the set has a wallet with a wrong value. Names the first.
fn wrong_wallets(name: &str, culprits: &Culprits, about: &str) -> Check {
    let Culprits { count, first } = culprits;
    let first = first.as_ref().map(|first| format!(": {first}")).unwrap_or_default();
    check(name, *count as f64, ZERO_TOLERANCE, format!("{count} wallets with {about}{first}"))
}

fn not_finite(evidence: &Evidence) -> Check {
    let about = "an amount or a factor that is not finite";
    let mut check = wrong_wallets("not_finite", &evidence.features.not_finite, about);
    if let Some(price) = evidence.largest_price.as_ref().filter(|_| check.outcome == Outcome::Fail) {
        check.about.push_str(&format!("; the largest price is that of {price}"));
    }
    check
}

/// Fails if a wallet of the previous published set is not in the set. Wallets never disappear, so history was lost. Names
/// the first that is gone.
fn lost_wallets(evidence: &Evidence) -> Check {
    let before = evidence.previous.as_ref().map_or(&[][..], |previous| &previous.wallets);
    let mut now = evidence.features.wallets.clone();
    now.sort_unstable();
    let mut lost = before.iter().filter(|wallet| now.binary_search(wallet).is_err());
    let first = lost.next();
    let count = usize::from(first.is_some()) + lost.count();
    let mut about = format!("{} wallets, {} in the previous published set", now.len(), before.len());
    about.extend(first.map(|wallet| format!(": wallet {wallet} is gone")));
    check("lost_wallets", count as f64, ZERO_TOLERANCE, about)
}

fn share(name: &str, share: Share, about: &str, limits: Limits) -> Check {
    check(name, share.value(), limits, format!("{} of {} {about}", share.counted, share.rows))
}

/// Returns the check of the part of the lake with the largest share. Too few rows can only warn.
fn largest_share(name: &str, groups: &[Group], about: &str, limits: Limits) -> Check {
    match shares::largest(groups) {
        None => check(name, 0.0, limits, format!("no rows {about}")),
        Some(group) => {
            let limits = if group.is_enough { limits } else { Limits { fail: None, ..limits } };
            let few = if group.is_enough { "" } else { ", too few rows to fail" };
            check(name, group.share.value(), limits, format!("{group} {about}{few}"))
        }
    }
}

/// Checks the protocol with the largest share of liquidations that seized a token which can't be collateral. All
/// protocols together are judged, too: each may have few liquidations.
fn odd_liquidations(by_protocol: &BTreeMap<Arc<str>, Share>, limits: &Checks) -> Check {
    let mut all = Share::default();
    by_protocol.values().for_each(|share| all.add(*share));
    let parts = by_protocol.iter().map(|(protocol, share)| (&**protocol, *share));
    // Too few liquidations give no meaningful share.
    let judged = [("all protocols", all)]
        .into_iter()
        .chain(parts)
        .filter(|(_, share)| share.rows >= limits.odd_liquidation_minimum);
    match judged.max_by(|(_, a), (_, b)| a.value().total_cmp(&b.value())) {
        None => {
            let about = format!("{} priced liquidations are too few to be judged", all.rows);
            check("odd_liquidation_share", 0.0, limits.odd_liquidation_share, about)
        }
        Some((part, largest)) => {
            let about = format!("priced liquidations of {part} seized a token that can't be collateral");
            share("odd_liquidation_share", largest, &about, limits.odd_liquidation_share)
        }
    }
}

fn price_jumps(evidence: &Evidence, limits: Limits) -> Check {
    let jumps = &evidence.price_jumps;
    let largest = crate::prices::largest(jumps).map(|jump| format!("; the largest: {jump}")).unwrap_or_default();
    check("price_jumps", jumps.len() as f64, limits, format!("price jumps from one day to the next{largest}"))
}

/// Checks the largest factor between two consecutive ETH prices. Every amount is divided by that price.
fn eth_price_change(evidence: &Evidence, limits: Limits) -> Check {
    let change = evidence.eth_price_change.as_ref();
    let about = change.map_or_else(|| "no ETH price to compare".to_owned(), |change| format!("ETH price: {change}"));
    check("eth_price_change", change.map_or(1.0, crate::prices::PriceChange::factor), limits, about)
}

fn jumped_collateral(evidence: &Evidence, limits: Limits) -> Check {
    let about = evidence.jumped_collateral.as_ref().map_or_else(
        || "no collateral is in a market whose price jumped".to_owned(),
        |(day, _)| {
            let jumps = evidence.price_jumps.iter().filter(|jump| jump.day == *day);
            let largest = crate::prices::largest(jumps).map(|jump| format!("; the largest jump: {jump}"));
            let largest = largest.unwrap_or_default();
            format!("share of the collateral on {day} that is in markets whose price jumped{largest}")
        },
    );
    check("jumped_collateral_share", evidence.jumped_collateral.map_or(0.0, |(_, share)| share), limits, about)
}

/// Checks the sums of the positions of a market. From a node and from Aave's own subgraph, they were compared when the
/// positions were staged. Other markets say their totals in US dollars.
fn market_sums(evidence: &Evidence, limits: &Checks) -> Vec<Check> {
    let sums = evidence.counts.sums;
    let mut checks = Vec::new();
    if sums.rows > 0 {
        let about = "sums of the balances of a market are not what the market says";
        checks.push(share("differing_sums_share", sums, about, limits.differing_sums_share));
    }
    if sums.rows == 0 || !evidence.market_totals.is_empty() {
        checks.push(market_total("market_deposit_deviation", evidence, Side::Lender, limits.market_total_deviation));
        checks.push(market_total("market_borrow_deviation", evidence, Side::Borrower, limits.market_total_deviation));
    }
    checks
}

/// Checks the reserve of Aave's own subgraph that is the worst by a measure.
fn worst_reserve(reserve: &WorstReserve, limits: &Checks) -> Check {
    let WorstReserve { measure, worst, day, protocol } = reserve;
    let (name, limits, what) = match measure {
        Measure::DebtDeviation => {
            ("reserve_debt_deviation", limits.reserve_debt_deviation, "the debts of its users are not what it says")
        }
        Measure::SupplyShortfall => (
            "reserve_supply_shortfall",
            limits.reserve_supply_shortfall,
            "the supplies of its users are below what it says",
        ),
        Measure::SupplyExcess => {
            ("reserve_supply_excess", limits.reserve_supply_excess, "the supplies of its users are above what it says")
        }
        Measure::PriceAgeDays => ("price_age_days", limits.price_age_days, "the subgraph saw no newer price"),
    };
    check(name, worst.value(), limits, format!("market {} of {protocol} on {day}: {what}", worst.market))
}

/// Checks the market whose supplies or debts deviate most from the total that it says of itself.
fn market_total(name: &str, evidence: &Evidence, side: Side, limits: Limits) -> Check {
    let judged: Vec<_> = evidence.market_totals.iter().filter(|total| total.side == side).collect();
    let furthest = totals::furthest(judged.iter().copied());
    let about = furthest.map(|total| format!(", the furthest: {total}")).unwrap_or_default();
    let about = format!("judged {} of {} markets{about}", judged.len(), evidence.markets);
    check(name, furthest.map_or(0.0, MarketTotal::deviation), limits, about)
}

/// The features of a set and of the previous published set, column by column. Neither is empty.
struct Sets {
    features: Vec<Columns>,
    wallets: [usize; 2],
}

/// A feature in the previous set and in the set.
struct Columns {
    name: &'static str,
    before: Statistics,
    now: Statistics,
}

/// The statistics of a feature of a set.
#[derive(Debug, Clone, Copy)]
struct Statistics {
    mean: f64,
    /// The number of wallets with a value other than 0.
    non_zero: usize,
    /// The share of wallets whose value is 0.
    zero_share: f64,
}

impl Sets {
    fn of(evidence: &Evidence) -> Option<Self> {
        let sets = [evidence.previous.as_ref()?, &evidence.features];
        if sets.iter().any(|set| set.wallets.is_empty()) {
            return None;
        }
        let [before, now] = sets.map(statistics);
        let features = before.zip(now).map(|((name, before), (_, now))| Columns { name, before, now }).collect();
        Some(Sets { features, wallets: sets.map(|set| set.wallets.len()) })
    }

    /// Checks the feature whose mean changed by the largest factor. Also compares the numbers of wallets.
    fn mean_band(&self, limits: Limits) -> Check {
        let [before, now] = self.wallets.map(|wallets| wallets as f64);
        let wallets = (ratio(before, now), format!("the number of wallets changed most, from {before} to {now}"));
        let means = self.features.iter().map(|Columns { name, before, now }| {
            let [from, to] = [before, now].map(|set| Figure(set.mean));
            let about = format!("the mean of {name} changed most, from {from:.6} to {to:.6}");
            (ratio(before.mean, now.mean), about)
        });
        let (value, about) = means.fold(wallets, |a, b| if b.0.total_cmp(&a.0).is_gt() { b } else { a });
        check("mean_band", value, limits, about)
    }

    /// Fails if a feature that at least `minimum` wallets had before is 0 for every wallet. Few wallets only warn.
    fn mean_became_zero(&self, minimum: u64) -> Check {
        let became_zero =
            self.features.iter().filter(|feature| feature.before.non_zero > 0 && feature.now.non_zero == 0);
        let became_zero: Vec<_> = became_zero.collect();
        let names: Vec<_> = became_zero.iter().map(|feature| feature.name).collect();
        let about = match names.is_empty() {
            true => "no feature became 0 for every wallet".to_owned(),
            false => format!("became 0 for every wallet: {}", names.join(", ")),
        };
        let is_certain = became_zero.iter().any(|feature| feature.before.non_zero as u64 >= minimum);
        let limits = Limits { warn: Some(0.0), fail: is_certain.then_some(0.0) };
        check("mean_became_zero", names.len() as f64, limits, about)
    }

    /// Checks the feature whose share of zeros changed most.
    fn zero_share_change(&self, limits: Limits) -> Check {
        let change = |feature: &Columns| (feature.now.zero_share - feature.before.zero_share).abs();
        let largest = self.features.iter().max_by(|a, b| change(a).total_cmp(&change(b)));
        let about = largest.map_or_else(String::new, |Columns { name, before, now }| {
            let [before, now] = [before, now].map(|set| set.zero_share * 100.0);
            format!("the share of wallets with 0 in {name} changed most, from {before:.2} % to {now:.2} %")
        });
        check("zero_share_change", largest.map_or(0.0, change), limits, about)
    }
}

/// Returns the statistics of the features of a set that is not empty.
fn statistics(set: &Summary) -> impl Iterator<Item = (&'static str, Statistics)> {
    let wallets = set.wallets.len() as f64;
    set.features.iter().map(move |Feature { name, sum, non_zero }| {
        let zero_share = 1.0 - *non_zero as f64 / wallets;
        (*name, Statistics { mean: sum / wallets, non_zero: *non_zero, zero_share })
    })
}

/// Returns the factor between two means. 1 if one of them is 0, which is another check's; infinite if the sign changed.
fn ratio(before: f64, now: f64) -> f64 {
    if before == 0.0 || now == 0.0 {
        1.0
    } else if before.signum() != now.signum() {
        f64::INFINITY
    } else {
        (now / before).max(before / now)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::{Deref, DerefMut};

    use defi_shared::config::Config;
    use defi_shared::domain::fold::WalletState;
    use defi_shared::domain::{Day, HexBytes};
    use defi_shared::step::aave::Worst;
    use defi_shared::tables::FeatureRow;

    use super::*;
    use crate::prices::PriceChange;

    /// Evidence whose sets are rows.
    struct Case {
        features: Vec<FeatureRow>,
        previous: Option<Vec<FeatureRow>>,
        others: Evidence,
    }

    impl Deref for Case {
        type Target = Evidence;

        fn deref(&self) -> &Evidence {
            &self.others
        }
    }

    impl DerefMut for Case {
        fn deref_mut(&mut self) -> &mut Evidence {
            &mut self.others
        }
    }

    impl Case {
        fn checks(&self) -> Vec<Check> {
            let (features, previous) = (summary(&self.features), self.previous.as_deref().map(summary));
            all(&Evidence { features, previous, ..self.others.clone() }, &limits())
        }
    }

    fn summary(rows: &[FeatureRow]) -> Summary {
        let mut summary = Summary::default();
        // In parts, as they are read.
        rows.chunks(2).for_each(|part| summary.add(part.to_vec()));
        summary
    }

    fn row(wallet: u8) -> FeatureRow {
        let state = WalletState { is_wallet: true, ..WalletState::default() };
        let row = FeatureRow::new(HexBytes([wallet; 20]), &state, Day::from_epoch_days(19_000));
        FeatureRow { total_collateral_eth: 1.0, risk_factor: 0.5, borrow_count: 1, ..row }
    }

    fn share_of(counted: u64, rows: u64) -> Share {
        Share { counted, rows }
    }

    /// Returns the counted and all liquidations of two protocols.
    fn liquidations(aave: [u64; 2], compound: [u64; 2]) -> BTreeMap<Arc<str>, Share> {
        let share = |[counted, rows]: [u64; 2]| share_of(counted, rows);
        [("aave-v2-eth".into(), share(aave)), ("compound-v2-eth".into(), share(compound))].into()
    }

    fn group(counted: u64, rows: u64) -> Group {
        let day = Day::from_epoch_days(19_000);
        let part = "stage.transpose_borrow_events".to_owned();
        Group { part, first: day, last: day, share: share_of(counted, rows), is_enough: true }
    }

    fn jump(before: f64, now: f64) -> PriceChange {
        let (day, protocol) = (Day::from_epoch_days(19_000), Arc::from("aave-v2-eth"));
        PriceChange { day, protocol, market: HexBytes([7; 20]), is_eth: true, before, now }
    }

    /// Returns the total of a market that says 100 dollars.
    fn total(side: Side, positions: f64) -> MarketTotal {
        MarketTotal { protocol: "aave-v2-eth".into(), market: HexBytes([7; 20]), side, positions, total: 100.0 }
    }

    fn valid_evidence() -> Case {
        let mut evidence = Case { features: vec![row(1), row(2)], previous: None, others: Evidence::default() };
        (evidence.collateral_positions, evidence.debts, evidence.counts.borrow_events) = (5, 5, 5);
        let counts = &mut evidence.others.counts;
        (counts.event_rows, counts.events, counts.positions) = (100, share_of(0, 100), share_of(0, 100));
        counts.rows = share_of(0, 100);
        evidence
    }

    fn limits() -> Checks {
        Config::built_in().unwrap().checks
    }

    /// Returns the name and outcome of every check that does not pass.
    fn failing_checks(evidence: &Case) -> Vec<(String, Outcome)> {
        let checks = evidence.checks().into_iter().filter(|check| check.outcome != Outcome::Pass);
        checks.map(|check| (check.name, check.outcome)).collect()
    }

    /// Returns a check by name.
    fn find(evidence: &Case, name: &str) -> Check {
        evidence.checks().into_iter().find(|check| check.name == name).unwrap()
    }

    #[test]
    fn a_valid_set_passes() {
        assert_eq!(failing_checks(&valid_evidence()), []);
    }

    #[test]
    fn value_fails_or_warns_only_above_its_limit() {
        let outcome = |value| check("x", value, Limits { warn: Some(1.0), fail: Some(2.0) }, String::new()).outcome;
        assert_eq!([1.0, 1.1, 2.0, 2.1].map(outcome), [Outcome::Pass, Outcome::Warn, Outcome::Warn, Outcome::Fail]);
        assert_eq!([f64::INFINITY, f64::NAN].map(outcome), [Outcome::Fail, Outcome::Fail]);
        assert_eq!(check("x", 9.0, Limits::default(), String::new()).outcome, Outcome::Pass);
    }

    #[test]
    fn each_defect_is_detected_by_its_own_check() {
        type Defect = fn(&mut Case);
        let defects: [(Defect, &str, Outcome); 33] = [
            (|e| (e.features, e.others.counts.event_rows) = (Vec::new(), 0), "no_wallets", Outcome::Warn),
            (|e| (e.features, e.others.counts.event_rows) = (Vec::new(), 1), "no_wallets", Outcome::Fail),
            (|e| e.missing_snapshots.push("aave-v2-eth markets".to_owned()), "missing_snapshots", Outcome::Fail),
            (|e| e.inputs.changed.push("state/fold".to_owned()), "foreign_inputs", Outcome::Fail),
            (|e| e.inputs.foreign.push("raw/the_graph".to_owned()), "foreign_inputs", Outcome::Fail),
            (
                |e| e.features.iter_mut().for_each(|r| r.total_collateral_eth = 0.0),
                "collateral_all_zero",
                Outcome::Fail,
            ),
            (|e| e.features.iter_mut().for_each(|r| r.risk_factor = 0.0), "risk_all_zero", Outcome::Fail),
            (|e| e.features.iter_mut().for_each(|r| r.borrow_count = 0), "borrow_count_all_zero", Outcome::Fail),
            (|e| e.features[0].repay_count = -1, "negative_counts", Outcome::Fail),
            (|e| e.features[0].time_since_first_deposit = Some(-1), "negative_counts", Outcome::Fail),
            (|e| e.features[0].time_since_last_liquidated = Some(-1), "negative_counts", Outcome::Fail),
            (|e| e.features[0].max_risk_factor = f64::NAN, "not_finite", Outcome::Fail),
            (|e| e.features[0].borrow_repay_diff_eth = f64::NEG_INFINITY, "not_finite", Outcome::Fail),
            (|e| e.previous = Some(vec![row(1), row(2), row(3)]), "lost_wallets", Outcome::Fail),
            (|e| e.counts.events.counted = 6, "unpriced_events_share", Outcome::Warn),
            (|e| e.unpriced_events.push(group(6, 100)), "unpriced_events_largest_share", Outcome::Warn),
            (|e| e.unpriced_events.push(group(51, 100)), "unpriced_events_largest_share", Outcome::Fail),
            (|e| e.counts.positions.counted = 51, "unpriced_positions_share", Outcome::Fail),
            (|e| e.unpriced_positions.push(group(51, 100)), "unpriced_positions_largest_share", Outcome::Fail),
            (|e| e.counts.rows.counted = 2, "quarantined_share", Outcome::Warn),
            (|e| e.counts.rows.counted = 21, "quarantined_share", Outcome::Fail),
            (|e| e.quarantined = vec![group(0, 9), group(21, 100)], "quarantined_largest_share", Outcome::Fail),
            (
                |e| e.quarantined = vec![Group { is_enough: false, ..group(5, 5) }],
                "quarantined_largest_share",
                Outcome::Warn,
            ),
            (|e| e.null_is_collateral.push(group(1, 10)), "null_is_collateral_share", Outcome::Warn),
            (|e| e.counts.priced_liquidations = liquidations([2, 20], [0, 0]), "odd_liquidation_share", Outcome::Fail),
            (|e| e.price_jumps.push(jump(1.0, 11.0)), "price_jumps", Outcome::Warn),
            (|e| e.eth_price_change = Some(jump(1.0, 3.1)), "eth_price_change", Outcome::Fail),
            (|e| e.jumped_collateral = Some((Day::from_epoch_days(1), 0.11)), "jumped_collateral_share", Outcome::Fail),
            (|e| e.market_totals.push(total(Side::Lender, 151.0)), "market_deposit_deviation", Outcome::Fail),
            (|e| e.market_totals.push(total(Side::Lender, 106.0)), "market_deposit_deviation", Outcome::Warn),
            (|e| e.market_totals.push(total(Side::Borrower, 151.0)), "market_borrow_deviation", Outcome::Fail),
            (|e| e.market_totals.push(total(Side::Borrower, 49.0)), "market_borrow_deviation", Outcome::Fail),
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
    fn first_foreign_inputs_are_named_and_older_ones_are_only_counted() {
        let about = |inputs: Provenance| {
            let mut evidence = valid_evidence();
            evidence.inputs = inputs;
            find(&evidence, "foreign_inputs").about
        };
        let key = |number: usize| format!("raw/{number}");
        let older = Provenance { as_written: 5, older: vec![key(1)], ..Provenance::default() };
        assert_eq!(about(older), "5 inputs are as a step wrote them, 1 are older than the records");
        let foreign = Provenance { changed: vec![key(1)], foreign: vec![key(2)], ..Provenance::default() };
        assert_eq!(about(foreign), "raw/1 differs from what a step wrote, no step wrote raw/2");
        let many = Provenance { foreign: (0..5).map(key).collect(), ..Provenance::default() };
        assert_eq!(about(many), "no step wrote raw/0, no step wrote raw/1, no step wrote raw/2, and 2 more");
    }

    #[test]
    fn feature_may_be_zero_for_every_wallet_without_inputs_of_it() {
        let mut evidence = valid_evidence();
        let zero = |row: &mut FeatureRow| (row.total_collateral_eth, row.risk_factor, row.borrow_count) = (0.0, 0.0, 0);
        evidence.features.iter_mut().for_each(zero);
        (evidence.collateral_positions, evidence.debts, evidence.counts.borrow_events) = (0, 0, 0);
        assert_eq!(failing_checks(&evidence), []);
    }

    #[test]
    fn limits_of_prices_are_exclusive_and_no_price_is_no_change() {
        let mut evidence = valid_evidence();
        let outcomes = |evidence: &Case| {
            ["eth_price_change", "jumped_collateral_share"].map(|name| {
                let check = find(evidence, name);
                (check.figure, check.outcome)
            })
        };
        assert_eq!(outcomes(&evidence), [(1.0, Outcome::Pass), (0.0, Outcome::Pass)]);
        for (change, share, outcome) in [(2.0, 0.01, Outcome::Pass), (3.0, 0.1, Outcome::Warn)] {
            evidence.eth_price_change = Some(jump(1.0, change));
            evidence.jumped_collateral = Some((Day::from_epoch_days(1), share));
            assert_eq!(outcomes(&evidence), [(change, outcome), (share, outcome)]);
        }
    }

    #[test]
    fn odd_liquidation_share_needs_enough_liquidations() {
        let mut evidence = valid_evidence();
        evidence.counts.priced_liquidations = liquidations([19, 19], [0, 0]);
        assert_eq!(failing_checks(&evidence), []);
        evidence.counts.priced_liquidations = liquidations([1, 20], [0, 0]);
        assert_eq!(failing_checks(&evidence), [], "5 % are allowed");
    }

    #[test]
    fn odd_liquidations_of_one_protocol_are_noticed_beside_those_of_a_large_one() {
        let mut evidence = valid_evidence();
        evidence.counts.priced_liquidations = liquidations([0, 1000], [20, 20]);
        let check = find(&evidence, "odd_liquidation_share");
        assert_eq!((check.figure, check.outcome), (1.0, Outcome::Fail));
        let of_compound = "20 of 20 priced liquidations of compound-v2-eth seized a token that can't be collateral";
        assert_eq!(check.about, of_compound);
        evidence.counts.priced_liquidations = liquidations([6, 12], [6, 12]);
        let check = find(&evidence, "odd_liquidation_share");
        assert_eq!((check.figure, check.outcome), (0.5, Outcome::Fail), "{}", check.about);
        assert!(check.about.contains("12 of 24 priced liquidations of all protocols"), "{}", check.about);
    }

    #[test]
    fn lost_wallet_is_named() {
        let mut evidence = valid_evidence();
        evidence.previous = Some(vec![row(1), row(2), row(3)]);
        let about = find(&evidence, "lost_wallets").about;
        let gone = row(3).wallet_address;
        assert_eq!(about, format!("2 wallets, 3 in the previous published set: wallet {gone} is gone"));
        evidence.previous = Some(vec![row(1), row(2)]);
        assert_eq!(find(&evidence, "lost_wallets").about, "2 wallets, 2 in the previous published set");
        evidence.previous = Some(vec![row(3), row(4)]);
        let check = find(&evidence, "lost_wallets");
        assert_eq!(check.figure, 2.0, "as many wallets, but others");
        assert!(check.about.ends_with(&format!(": wallet {gone} is gone")), "{}", check.about);
    }

    #[test]
    fn wrong_wallet_and_column_are_named_with_the_largest_price() {
        let mut evidence = valid_evidence();
        evidence.largest_price = Some("market 0x07".to_owned());
        evidence.features[1].avg_risk_factor = f64::INFINITY;
        evidence.features.push(FeatureRow { risk_factor: f64::NAN, ..row(3) });
        let check = find(&evidence, "not_finite");
        let wallet = evidence.features[1].wallet_address;
        assert_eq!(check.figure, 2.0);
        assert!(check.about.contains(&format!("avg_risk_factor of wallet {wallet} is inf")), "{}", check.about);
        assert!(check.about.ends_with("the largest price is that of market 0x07"), "{}", check.about);
        evidence = valid_evidence();
        evidence.features[1].deposit_count = -3;
        let check = find(&evidence, "negative_counts");
        assert!(check.about.contains(&format!("deposit_count of wallet {wallet} is -3")), "{}", check.about);
    }

    #[test]
    fn part_with_the_largest_share_is_named() {
        let mut evidence = valid_evidence();
        evidence.quarantined = vec![group(1, 100), group(30, 100)];
        let about = find(&evidence, "quarantined_largest_share").about;
        assert_eq!(about, "30 of 100 rows of stage.transpose_borrow_events on 2022-01-08 are in quarantine");
    }

    #[test]
    fn compared_sums_and_totals_of_markets_are_judged_where_they_are_known() {
        let names = |evidence: &Case| -> Vec<_> {
            evidence
                .checks()
                .into_iter()
                .map(|check| check.name)
                .filter(|name| name.contains("differing") || name.contains("market_"))
                .collect()
        };
        let mut evidence = valid_evidence();
        evidence.market_totals = vec![total(Side::Lender, 1.0)];
        let of_totals = ["market_deposit_deviation", "market_borrow_deviation"];
        assert_eq!(names(&evidence), of_totals);
        evidence.counts.sums = Share { counted: 0, rows: 100 };
        assert_eq!(names(&evidence), ["differing_sums_share", of_totals[0], of_totals[1]]);
        evidence.market_totals.clear();
        for (counted, outcome) in [(0, Outcome::Pass), (1, Outcome::Warn), (5, Outcome::Warn), (6, Outcome::Fail)] {
            evidence.counts.sums = Share { counted, rows: 100 };
            assert_eq!(names(&evidence), ["differing_sums_share"]);
            assert_eq!(find(&evidence, "differing_sums_share").outcome, outcome, "{counted}");
        }
    }

    #[test]
    fn worst_reserve_is_named_and_only_missing_rows_fail() {
        let market = HexBytes([7; 20]);
        let judge = |measure, value: &str| {
            let worst = Worst::parse(&format!("{value} {market}")).unwrap();
            let (day, protocol) = (Day::from_epoch_days(19_358), "aave-v2-eth".into());
            let mut evidence = valid_evidence();
            evidence.counts.worst_reserves = vec![WorstReserve { measure, worst, day, protocol }];
            evidence.checks().into_iter().find(|check| check.about.starts_with("market ")).unwrap()
        };
        for (measure, [passes, warns, highest], of_highest) in [
            (Measure::DebtDeviation, ["0.000999", "0.050000", "0.050001"], Outcome::Fail),
            (Measure::SupplyShortfall, ["0.050000", "0.500000", "1.000000"], Outcome::Fail),
            (Measure::SupplyExcess, ["0.050000", "0.050001", "1.000000"], Outcome::Warn),
            (Measure::PriceAgeDays, ["7.000000", "7.000001", "900.000000"], Outcome::Warn),
        ] {
            let outcomes = [passes, warns, highest].map(|value| judge(measure, value).outcome);
            assert_eq!(outcomes, [Outcome::Pass, Outcome::Warn, of_highest], "{measure:?}");
        }
        let check = judge(Measure::DebtDeviation, "0.250000");
        assert_eq!((&*check.name, check.figure), ("reserve_debt_deviation", 0.25));
        let about =
            format!("market {market} of aave-v2-eth on 2023-01-01: the debts of its users are not what it says");
        assert_eq!(check.about, about);
    }

    #[test]
    fn jumped_market_and_its_prices_are_named() {
        let mut evidence = valid_evidence();
        evidence.price_jumps = vec![jump(1.0, 11.0), jump(1600.0, 0.0016)];
        let check = find(&evidence, "price_jumps");
        assert_eq!(check.figure, 2.0);
        assert!(check.about.contains("market 0x0707") && check.about.ends_with("1600.0 to 0.0016"), "{}", check.about);
    }

    #[test]
    fn messages_are_short_whatever_the_figures() {
        let huge = |wallet| FeatureRow { total_collateral_eth: 1e308, ..row(wallet) };
        let mut evidence = Case { features: vec![huge(1), huge(2)], ..valid_evidence() };
        evidence.previous = Some(vec![row(1), row(2)]);
        evidence.price_jumps = vec![jump(1.0, 1e308)];
        evidence.eth_price_change = Some(jump(1.0, 1e300));
        evidence.market_totals = vec![total(Side::Lender, 1e308), total(Side::Borrower, -1e308)];
        let checks = evidence.checks();
        for check in &checks {
            assert!(check.about.len() < 200, "{} {}", check.name, check.about);
        }
        let results = crate::CheckResults { as_of: Day::from_epoch_days(19_000), wallets: 2, passed: false, checks };
        let error = crate::require_pass(&results).unwrap_err().to_string();
        assert!(error.contains("eth_price_change is 1e300 ("), "{error}");
        assert!(error.contains("has positions of 1.00e308 USD and says 100.00 USD"), "{error}");
        let digits = error.split(|c: char| !c.is_ascii_digit() && c != '.');
        assert!(digits.map(str::len).max() < Some(50), "{error}");
    }

    #[test]
    fn market_totals_are_judged_by_side_and_the_furthest_is_named() {
        let mut evidence = valid_evidence();
        evidence.markets = 3;
        assert_eq!(find(&evidence, "market_borrow_deviation").about, "judged 0 of 3 markets");
        evidence.market_totals =
            vec![total(Side::Borrower, 102.0), total(Side::Borrower, 96.0), total(Side::Lender, 1.0)];
        let check = find(&evidence, "market_borrow_deviation");
        assert_eq!((check.figure, check.outcome), (0.04, Outcome::Pass));
        let market = HexBytes([7; 20]);
        let furthest = format!("market {market} of aave-v2-eth has positions of 96.00 USD and says 100.00 USD");
        assert_eq!(check.about, format!("judged 2 of 3 markets, the furthest: {furthest}"));
        for (positions, outcome) in [(105.0, Outcome::Pass), (106.0, Outcome::Warn), (150.0, Outcome::Warn)] {
            evidence.market_totals = vec![total(Side::Borrower, positions)];
            assert_eq!(find(&evidence, "market_borrow_deviation").outcome, outcome, "{positions}");
        }
    }

    #[test]
    fn ratio_is_the_larger_mean_over_the_smaller() {
        assert_eq!((ratio(2.0, 8.0), ratio(8.0, 2.0), ratio(-2.0, -8.0)), (4.0, 4.0, 4.0));
        assert_eq!((ratio(0.0, 8.0), ratio(8.0, 0.0), ratio(0.0, 0.0)), (1.0, 1.0, 1.0));
        assert_eq!((ratio(-2.0, 8.0), ratio(2.0, -8.0)), (f64::INFINITY, f64::INFINITY));
    }

    #[test]
    fn statistics_are_those_of_all_rows() {
        let rows = [1.0, 0.0, 5.0].map(|deposited| FeatureRow { deposit_amount_sum_eth: deposited, ..row(1) });
        let statistics: BTreeMap<_, _> = statistics(&summary(&rows)).collect();
        assert_eq!(statistics.len(), 24, "17 amounts and factors, 7 counts");
        let deposits = &statistics["deposit_amount_sum_eth"];
        assert_eq!((deposits.mean, deposits.non_zero), (2.0, 2));
        assert!((deposits.zero_share - 1.0 / 3.0).abs() < 1e-12);
        let borrows = &statistics["borrow_count"];
        assert_eq!((borrows.mean, borrows.zero_share), (1.0, 0.0));
    }

    #[test]
    fn mean_band_names_the_feature_that_changed_most() {
        let mut evidence = valid_evidence();
        let before = FeatureRow { total_collateral_eth: 2.0, deposit_amount_sum_eth: 5.0, repay_count: 8, ..row(1) };
        evidence.previous = Some(vec![before.clone(), before.clone()]);
        let now = FeatureRow { total_collateral_eth: 3.0, deposit_amount_sum_eth: 1.0, repay_count: 1, ..row(1) };
        evidence.features = vec![now.clone(), now];
        let check = find(&evidence, "mean_band");
        assert_eq!((check.figure, check.outcome), (8.0, Outcome::Warn));
        assert_eq!(check.about, "the mean of repay_count changed most, from 8.000000 to 1.000000");
        evidence.features[0].borrow_repay_diff_eth = -3.0;
        evidence.previous = Some(vec![FeatureRow { borrow_repay_diff_eth: 1.0, ..before }]);
        let check = find(&evidence, "mean_band");
        assert_eq!((check.figure, check.outcome), (f64::INFINITY, Outcome::Warn), "the sign changed");
    }

    #[test]
    fn mean_band_compares_the_numbers_of_wallets() {
        let mut evidence = valid_evidence();
        evidence.features = (1..=9).map(row).collect();
        evidence.previous = Some(vec![row(1), row(2)]);
        let check = find(&evidence, "mean_band");
        assert_eq!((check.figure, check.outcome), (4.5, Outcome::Warn));
        assert_eq!(check.about, "the number of wallets changed most, from 2 to 9");
    }

    #[test]
    fn feature_that_became_zero_fails_if_enough_wallets_had_it() {
        let mut evidence = valid_evidence();
        evidence.features = (1..=20).map(row).collect();
        let had = |count: u8| (1..=20).map(move |n| FeatureRow { deposit_count: (n <= count).into(), ..row(n) });
        for (count, outcome) in [(0, Outcome::Pass), (1, Outcome::Warn), (19, Outcome::Warn), (20, Outcome::Fail)] {
            evidence.previous = Some(had(count).collect());
            assert_eq!(find(&evidence, "mean_became_zero").outcome, outcome, "{count}");
        }
        assert_eq!(find(&evidence, "mean_became_zero").about, "became 0 for every wallet: deposit_count");
    }

    #[test]
    fn zero_share_change_names_its_feature() {
        let mut evidence = valid_evidence();
        evidence.features = (1..=4).map(|n| FeatureRow { repay_count: (n == 1).into(), ..row(n) }).collect();
        evidence.previous = Some((1..=4).map(|n| FeatureRow { repay_count: (n <= 3).into(), ..row(n) }).collect());
        let check = find(&evidence, "zero_share_change");
        assert_eq!((check.figure, check.outcome), (0.5, Outcome::Warn));
        assert_eq!(check.about, "the share of wallets with 0 in repay_count changed most, from 25.00 % to 75.00 %");
        std::mem::swap(&mut evidence.features, evidence.previous.as_mut().unwrap());
        let check = find(&evidence, "zero_share_change");
        assert_eq!((check.figure, check.outcome), (0.5, Outcome::Warn), "in the other direction");
    }

    #[test]
    fn sets_without_wallets_are_not_compared() {
        let mut evidence = valid_evidence();
        evidence.previous = Some(Vec::new());
        assert_eq!(failing_checks(&evidence), []);
        assert!(!evidence.checks().iter().any(|check| check.name == "mean_band"));
    }
}
