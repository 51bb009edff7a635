//! Compares an account in the lake with what the contracts say of it. Plain arithmetic, without I/O.

use defi_shared::domain::Address;
use defi_shared::domain::health::{Health, MAX_RISK, NEGLIGIBLE_DEBT_ETH};
use serde::Serialize;

use super::sample::Account;

/// The largest relative difference with which two values agree.
pub(super) const LIMIT: f64 = 1e-6;

/// Smaller amounts are compared as if they were as large as this, in ETH: the features ignore amounts below 1e-9 ETH, so
/// that a difference of that size is no difference.
const SMALLEST_ETH: f64 = NEGLIGIBLE_DEBT_ETH / LIMIT;

/// The digits to which two values agree that are equal: those of a DOUBLE.
const ALL_DIGITS: u32 = 16;

/// The contract's averages are whole basis points. The sums in the lake are DOUBLEs, so that a whole number may be slightly
/// too small.
const BASIS_POINTS: f64 = 1e4;
const ROUNDING_OF_BASIS_POINTS: f64 = 1e-6;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Quantity {
    /// Aave: the collateral.
    #[serde(rename = "collateral")]
    Collateral,
    /// Aave: the debt.
    #[serde(rename = "debt")]
    Debt,
    /// Aave: what can still be borrowed.
    #[serde(rename = "available")]
    Available,
    /// Aave: the health factor.
    #[serde(rename = "health factor")]
    HealthFactor,
    /// Compound: what can still be borrowed, or minus what is missing.
    #[serde(rename = "liquidity")]
    Liquidity,
}

impl Quantity {
    /// All quantities, in the order in which they are shown.
    const ALL: [Quantity; 5] =
        [Quantity::Collateral, Quantity::Debt, Quantity::Available, Quantity::HealthFactor, Quantity::Liquidity];

    pub(super) fn name(self) -> &'static str {
        match self {
            Quantity::Collateral => "collateral",
            Quantity::Debt => "debt",
            Quantity::Available => "available",
            Quantity::HealthFactor => "health factor",
            Quantity::Liquidity => "liquidity",
        }
    }

    /// Returns whether it has the unit of the protocol's amounts.
    pub(super) fn is_amount(self) -> bool {
        self != Quantity::HealthFactor
    }
}

/// What the contracts of a protocol say of an account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    /// Aave's `getUserAccountData`, amounts in ETH.
    AaveV2 { collateral: f64, debt: f64, available: f64, health_factor: f64 },
    /// Compound's `getAccountLiquidity`: liquidity − shortfall, in the unit of the oracle.
    CompoundV2 { liquidity: f64 },
}

/// How the values of a protocol are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// The price of ETH in the unit of the protocol's oracle.
    pub eth_price: f64,
    /// How much an account can be off in ETH because balances in the lake are whole base units.
    pub rounding_eth: f64,
}

/// One value of an account in the lake and in the contracts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    pub quantity: Quantity,
    pub lake: f64,
    pub contract: f64,
    /// The relative difference.
    pub difference: f64,
}

/// Compares the values of an account.
pub(super) fn compare(health: &Health, answer: &Answer, scale: &Scale) -> Vec<Comparison> {
    match *answer {
        Answer::AaveV2 { collateral, debt, available, health_factor } => {
            compare_aave_v2(health, [collateral, debt, available, health_factor])
        }
        Answer::CompoundV2 { liquidity } => vec![compare_compound_v2(health, liquidity, scale)],
    }
}

fn compare_aave_v2(health: &Health, [collateral, debt, available, factor]: [f64; 4]) -> Vec<Comparison> {
    let amount = |quantity, lake: f64, contract: f64, size: f64| Comparison {
        quantity,
        lake,
        contract,
        difference: (lake - contract).abs() / size.max(lake).max(contract).max(SMALLEST_ETH),
    };
    let maximum_debt = health.collateral_eth * cut(health.borrow_power_eth, health.collateral_eth);
    let mut comparisons = vec![
        amount(Quantity::Collateral, health.collateral_eth, collateral, 0.0),
        amount(Quantity::Debt, health.debt_eth, debt, 0.0),
        amount(Quantity::Available, (maximum_debt - health.debt_eth).max(0.0), available, collateral),
    ];
    // Amounts that the features ignore give a factor of few digits, and without debt there is none.
    if [health.collateral_eth, health.debt_eth, collateral, debt].iter().all(|amount| *amount >= NEGLIGIBLE_DEBT_ETH) {
        let weighted = health.collateral_eth * cut(health.threshold_weighted_eth, health.collateral_eth);
        let lake = weighted / health.debt_eth;
        let [ours, theirs] = [lake, factor].map(|factor| (1.0 / factor).min(MAX_RISK));
        let difference = (ours - theirs).abs() / ours.max(theirs);
        comparisons.push(Comparison { quantity: Quantity::HealthFactor, lake, contract: factor, difference });
    }
    comparisons
}

/// Returns the average of LTV or threshold, cut to whole basis points as Aave's contract does.
fn cut(weighted_eth: f64, collateral_eth: f64) -> f64 {
    if collateral_eth <= 0.0 {
        return 0.0;
    }
    (weighted_eth / collateral_eth * BASIS_POINTS + ROUNDING_OF_BASIS_POINTS).floor() / BASIS_POINTS
}

fn compare_compound_v2(health: &Health, liquidity: f64, scale: &Scale) -> Comparison {
    let lake = (health.borrow_power_eth - health.debt_eth) * scale.eth_price;
    let smallest = SMALLEST_ETH.max(scale.rounding_eth / LIMIT);
    let size = health.collateral_eth.max(health.debt_eth).max(smallest) * scale.eth_price;
    let difference = (lake - liquidity).abs() / size.max(liquidity.abs());
    Comparison { quantity: Quantity::Liquidity, lake, contract: liquidity, difference }
}

/// What the comparison of one quantity in one protocol came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    pub quantity: Quantity,
    /// The number of accounts.
    pub compared: usize,
    /// The number of those that differ by more than [`LIMIT`].
    pub differing: usize,
    /// The digits to which all accounts agree.
    pub digits: u32,
    /// The account with the largest difference.
    pub worst: Worst,
}

/// The account with the largest difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Worst {
    pub account: String,
    pub lake: f64,
    pub contract: f64,
    /// The relative difference.
    pub difference: f64,
}

/// Summarizes the comparisons of a protocol's accounts by quantity. Of equal differences the first account's is the worst.
pub(super) fn summarize(compared: &[(Account, Vec<Comparison>)]) -> Vec<Summary> {
    Quantity::ALL.into_iter().filter_map(|quantity| summarize_quantity(quantity, compared)).collect()
}

fn summarize_quantity(quantity: Quantity, compared: &[(Account, Vec<Comparison>)]) -> Option<Summary> {
    let of_account = |(account, values): &(Account, Vec<Comparison>)| {
        let value = values.iter().copied().find(|value| value.quantity == quantity)?;
        Some((account.address, value))
    };
    let values: Vec<(Address, Comparison)> = compared.iter().filter_map(of_account).collect();
    let (account, worst) = values.iter().copied().reduce(worse)?;
    Some(Summary {
        quantity,
        compared: values.len(),
        differing: values.iter().filter(|(_, value)| !agrees(value)).count(),
        digits: digits(worst.difference),
        worst: Worst {
            account: account.to_string(),
            lake: worst.lake,
            contract: worst.contract,
            difference: worst.difference,
        },
    })
}

fn worse(worst: (Address, Comparison), next: (Address, Comparison)) -> (Address, Comparison) {
    if next.1.difference.total_cmp(&worst.1.difference).is_gt() { next } else { worst }
}

/// Returns whether the values of the lake and of the contracts agree. NaN never does.
pub(super) fn agrees(comparison: &Comparison) -> bool {
    comparison.difference <= LIMIT
}

/// Returns the number of digits to which two values with a relative difference agree.
fn digits(difference: f64) -> u32 {
    let digits = (0..=ALL_DIGITS).rev().find(|digits| difference <= 10_f64.powi(-digits.cast_signed()));
    digits.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::HexBytes;

    use super::*;

    const ETH: Scale = Scale { eth_price: 1.0, rounding_eth: 0.0 };

    /// 10 ETH with an LTV of 80 % and a threshold of 82.5 %, 5 ETH with one of 70.01 % and 75 %, and a debt of 6 ETH.
    fn health() -> Health {
        Health {
            collateral_eth: 15.0,
            threshold_weighted_eth: 8.25 + 3.75,
            borrow_power_eth: 8.0 + 3.5005,
            debt_eth: 6.0,
        }
    }

    /// What the contract says of it: averages of 76.67 % and 80 %.
    const ANSWER: Answer =
        Answer::AaveV2 { collateral: 15.0, debt: 6.0, available: 15.0 * 0.7667 - 6.0, health_factor: 2.0 };

    fn differences(health: &Health, answer: &Answer) -> Vec<(Quantity, bool)> {
        compare(health, answer, &ETH).iter().map(|value| (value.quantity, agrees(value))).collect()
    }

    #[test]
    fn averages_are_cut_to_whole_basis_points_as_the_contract_does() {
        // Uncut, 76.67 % is 76.67 %: 11.5005 ÷ 15 = 0.766700. A tenth of a basis point more is cut off.
        for extra in [0.0, 0.0001] {
            let health = Health { borrow_power_eth: health().borrow_power_eth + extra, ..health() };
            assert!(differences(&health, &ANSWER).iter().all(|(_, agrees)| *agrees), "{extra}");
        }
        let one_more = Health { borrow_power_eth: 11.502, ..health() };
        assert!(differences(&one_more, &ANSWER).contains(&(Quantity::Available, false)));
        assert_eq!([cut(0.8 * 3.0, 3.0), cut(0.299, 0.5), cut(0.0, 0.0)], [0.8, 0.598, 0.0]);
        assert_eq!(cut(0.123_499_9, 1.0), 0.1234);
    }

    #[test]
    fn every_quantity_of_aave_is_compared_by_itself() {
        let change = |health: Health| -> Vec<Quantity> {
            let values = differences(&health, &ANSWER);
            assert_eq!(values.len(), 4);
            values.into_iter().filter_map(|(quantity, agrees)| (!agrees).then_some(quantity)).collect()
        };
        assert_eq!(change(health()), []);
        assert_eq!(change(Health { threshold_weighted_eth: 12.1, ..health() }), [Quantity::HealthFactor]);
        let debt = Health { debt_eth: 6.0 * (1.0 + 2e-6), ..health() };
        assert_eq!(change(debt), [Quantity::Debt, Quantity::HealthFactor], "0.000012 of 15 ETH is below the limit");
        assert_eq!(change(Health { debt_eth: 6.0 * (1.0 + 0.9e-6), ..health() }), []);
        let collateral = Health { collateral_eth: 15.1, ..health() };
        assert_eq!(change(collateral)[0], Quantity::Collateral);
    }

    #[test]
    fn account_without_a_row_differs_from_one_with_a_debt() {
        let missing = differences(&Health::default(), &ANSWER);
        assert_eq!(missing, [Quantity::Collateral, Quantity::Debt, Quantity::Available].map(|name| (name, false)));
        let none = Answer::AaveV2 { collateral: 0.0, debt: 0.0, available: 0.0, health_factor: f64::MAX };
        assert!(differences(&Health::default(), &none).iter().all(|(_, agrees)| *agrees));
        let surplus = differences(&health(), &none);
        assert_eq!(surplus, missing, "neither has a health factor to compare");
    }

    #[test]
    fn amounts_that_the_features_ignore_are_no_difference() {
        let dust = Answer::AaveV2 { collateral: 0.0, debt: 0.9e-9, available: 0.0, health_factor: 0.0 };
        assert!(differences(&Health::default(), &dust).iter().all(|(_, agrees)| *agrees));
        let more = Answer::AaveV2 { collateral: 0.0, debt: 1.1e-9, available: 0.0, health_factor: 0.0 };
        assert!(differences(&Health::default(), &more).contains(&(Quantity::Debt, false)));
    }

    #[test]
    fn a_health_factor_of_0_is_the_largest_risk() {
        let health = Health { collateral_eth: 1.0, debt_eth: 2.0, ..Health::default() };
        let factor = |health_factor| {
            let answer = Answer::AaveV2 { collateral: 1.0, debt: 2.0, available: 0.0, health_factor };
            compare(&health, &answer, &ETH)[3].difference
        };
        assert_eq!(factor(0.0), 0.0);
        assert_eq!(factor(1e-9), 0.0, "both are above the largest risk");
        assert!(factor(0.5) > 0.9);
    }

    #[test]
    fn liquidity_of_compound_is_compared_in_the_unit_of_its_oracle() {
        let health = Health { collateral_eth: 10.0, borrow_power_eth: 7.5, debt_eth: 8.0, ..Health::default() };
        let in_usd = Scale { eth_price: 2000.0, rounding_eth: 1e-9 };
        let compare = |liquidity| compare(&health, &Answer::CompoundV2 { liquidity }, &in_usd)[0];
        let shortfall = compare(-1000.0);
        assert_eq!((shortfall.quantity, shortfall.lake, shortfall.difference), (Quantity::Liquidity, -1000.0, 0.0));
        // The difference is relative to the collateral of 20,000 USD.
        assert!(agrees(&compare(-1000.019)) && !agrees(&compare(-1000.021)));
        assert!(!agrees(&compare(1000.0)), "a shortfall is no liquidity");
    }

    #[test]
    fn whole_base_units_are_no_difference_in_compound() {
        // A balance of a token with 8 decimals and a price of 15 ETH, cut by up to one base unit.
        let scale = Scale { eth_price: 1.0, rounding_eth: 1.5e-7 };
        let small =
            |collateral_eth: f64| Health { collateral_eth, borrow_power_eth: collateral_eth, ..Health::default() };
        let of = |collateral: f64, off: f64| {
            agrees(&compare(&small(collateral), &Answer::CompoundV2 { liquidity: collateral + off }, &scale)[0])
        };
        assert!(of(1e-3, 1.4e-7) && of(1.0, 1.4e-7));
        assert!(!of(1e-3, 1.6e-7) && !of(1.0, 1.1e-6));
    }

    #[test]
    fn digits_are_those_to_which_all_accounts_agree() {
        for (difference, expected) in [
            (0.0, 16),
            (1e-17, 16),
            (1e-16, 16),
            (2e-16, 15),
            (1e-6, 6),
            (1.1e-6, 5),
            (0.5, 0),
            (2.0, 0),
            (f64::NAN, 0),
        ] {
            assert_eq!(digits(difference), expected, "{difference}");
        }
    }

    #[test]
    fn summary_names_the_worst_account() {
        let account = |number| Account { address: HexBytes([number; 20]), health: health() };
        let value = |difference| vec![Comparison { quantity: Quantity::Debt, lake: 1.0, contract: 2.0, difference }];
        let summaries = summarize(&[
            (account(1), value(1e-9)),
            (account(2), value(3e-4)),
            (account(3), value(3e-4)),
            (account(4), value(0.0)),
        ]);
        let [debt] = &summaries[..] else { panic!("{summaries:?}") };
        assert_eq!((debt.compared, debt.differing, debt.digits), (4, 2, 3));
        assert_eq!(debt.worst.account, account(2).address.to_string());
        let unknown = summarize(&[(account(1), value(0.5)), (account(2), value(f64::NAN))]);
        assert_eq!((unknown[0].differing, unknown[0].worst.account.as_str()), (2, &*account(2).address.to_string()));
        assert_eq!(summarize(&[]), []);
    }
}
