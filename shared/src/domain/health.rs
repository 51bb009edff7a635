//! The health of one account in one protocol at one snapshot.

use super::price::Quote;
use super::{BaseUnits, Side};

/// Debt below this value, in ETH, counts as no debt.
pub const NEGLIGIBLE_DEBT_ETH: f64 = 1e-9;

/// The largest risk: debt without collateral.
pub const MAX_RISK: f64 = 1e6;

/// A day with a risk above this value is a day at risk: the health factor is below 1.2.
pub const RISK_THRESHOLD: f64 = 1.0 / 1.2;

/// Sums over the positions of one account in one protocol, in ETH.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// Value of the supply positions that are collateral: enabled, in a market that accepts collateral.
    pub collateral_eth: f64,
    /// The same, each position weighted by its liquidation threshold.
    pub threshold_weighted_eth: f64,
    /// The same, each position weighted by its maximum loan to value.
    pub borrow_power_eth: f64,
    /// Value of the borrow positions.
    pub debt_eth: f64,
}

impl Health {
    /// Adds one position at its price. A supply position that is not enabled as collateral, or whose market
    /// [accepts none](Quote::accepts_collateral), is ignored.
    pub fn add(&mut self, side: Side, is_collateral: bool, balance: BaseUnits, quote: &Quote) {
        let value = balance.to_tokens(quote.decimals) * quote.price_eth;
        match side {
            Side::Borrower => self.debt_eth += value,
            Side::Lender if is_collateral && quote.accepts_collateral() => {
                self.collateral_eth += value;
                self.threshold_weighted_eth += value * quote.liquidation_threshold.unwrap_or(0.0);
                self.borrow_power_eth += value * quote.maximum_ltv;
            }
            Side::Lender => {}
        }
    }

    /// Returns the amount that can still be borrowed, in ETH; never negative.
    #[must_use]
    pub fn available_eth(&self) -> f64 {
        (self.borrow_power_eth - self.debt_eth).max(0.0)
    }

    /// Returns the reciprocal of the health factor, from 0 to [`MAX_RISK`].
    #[must_use]
    pub fn risk(&self) -> f64 {
        if self.debt_eth < NEGLIGIBLE_DEBT_ETH {
            0.0
        } else if self.threshold_weighted_eth > 0.0 {
            (self.debt_eth / self.threshold_weighted_eth).min(MAX_RISK)
        } else {
            MAX_RISK
        }
    }

    /// Returns whether the account has collateral or non-negligible debt. Other accounts are not part of the features.
    #[must_use]
    pub fn has_exposure(&self) -> bool {
        self.collateral_eth > 0.0 || self.debt_eth >= NEGLIGIBLE_DEBT_ETH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(price_eth: f64, threshold: f64, ltv: f64) -> Quote {
        Quote { price_eth, decimals: 2, liquidation_threshold: Some(threshold), maximum_ltv: ltv, origin: None }
    }

    #[test]
    fn positions_add_up_to_collateral_debt_and_risk() {
        let mut health = Health::default();
        for (side, is_collateral, balance, quote) in [
            (Side::Lender, true, 1000, quote(2.0, 0.75, 0.5)),
            (Side::Lender, true, 300, quote(4.0, 0.5, 0.25)),
            (Side::Lender, false, 5000, quote(2.0, 0.75, 0.5)),
            (Side::Borrower, false, 800, quote(1.0, 0.0, 0.0)),
            (Side::Borrower, false, 100, quote(2.5, 0.75, 0.5)),
        ] {
            health.add(side, is_collateral, BaseUnits(balance), &quote);
        }
        let expected =
            Health { collateral_eth: 32.0, threshold_weighted_eth: 21.0, borrow_power_eth: 13.0, debt_eth: 10.5 };
        assert_eq!(health, expected);
        assert_eq!((health.available_eth(), health.risk(), health.has_exposure()), (2.5, 0.5, true));
    }

    #[test]
    fn available_is_never_negative() {
        let health = Health { borrow_power_eth: 1.0, debt_eth: 1.5, ..Health::default() };
        assert_eq!(health.available_eth(), 0.0);
    }

    #[test]
    fn account_without_positions_has_no_exposure() {
        let health = Health::default();
        assert_eq!((health.available_eth(), health.risk(), health.has_exposure()), (0.0, 0.0, false));
    }

    #[test]
    fn supply_at_a_liquidation_threshold_of_0_is_no_collateral() {
        let mut health = Health::default();
        health.add(Side::Lender, true, BaseUnits(1000), &quote(2.0, 0.0, 0.75));
        let native = Quote { liquidation_threshold: None, ..quote(2.0, 0.0, 0.75) };
        health.add(Side::Lender, true, BaseUnits(1000), &native);
        assert_eq!((health, health.has_exposure()), (Health::default(), false));
        health.add(Side::Borrower, false, BaseUnits(1000), &quote(2.0, 0.0, 0.75));
        assert_eq!((health.debt_eth, health.risk()), (20.0, MAX_RISK), "a debt counts at any threshold");
        health.add(Side::Lender, true, BaseUnits(1000), &quote(2.0, 1e-3, 0.75));
        assert_eq!((health.collateral_eth, health.borrow_power_eth), (20.0, 15.0), "0.1 % is above 0");
    }

    #[test]
    fn uncollateralized_debt_is_max_risk_and_dust_is_ignored() {
        let mut health = Health { debt_eth: 1e-9, ..Health::default() };
        assert_eq!((health.risk(), health.available_eth(), health.has_exposure()), (MAX_RISK, 0.0, true));
        health.debt_eth = 0.9e-9;
        assert_eq!((health.risk(), health.has_exposure()), (0.0, false));
        health.collateral_eth = 1e-30;
        assert!(health.has_exposure());
        let tiny = Health { debt_eth: 1.0, threshold_weighted_eth: 1e-12, ..Health::default() };
        assert_eq!(tiny.risk(), MAX_RISK);
    }
}
