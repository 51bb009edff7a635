//! Accounts of the sample chain: their supplies, debts and health.

use std::sync::Arc;

use serde_json::json;

use super::prices::Prices;
use super::protocols::{MARKETS, PROTOCOLS};
use crate::recording::Row;

/// The supply or debt of an account in a market. A closed position is kept, because a reopened one needs its counter.
pub(super) struct Position {
    pub(super) market: usize,
    pub(super) is_debt: bool,
    /// The balance, in base units of the token.
    pub(super) amount: u128,
    pub(super) is_collateral: Option<bool>,
    /// The number of times that the position was reopened, which is part of its id.
    counter: u32,
    /// The row of the last snapshot, as long as the position is unchanged.
    row: Option<Row>,
}

/// An address that holds positions: a wallet or a proxy contract.
pub(super) struct Account {
    pub(super) address: String,
    pub(super) positions: Vec<Position>,
}

/// Sums over the positions of an account in a protocol, in dollars.
#[derive(Default)]
pub(super) struct Health {
    /// Collateral weighted by liquidation threshold.
    pub(super) weighted_collateral: f64,
    /// Collateral weighted by maximum loan-to-value ratio.
    pub(super) borrowing_power: f64,
    pub(super) debt: f64,
}

impl Health {
    /// Returns debt divided by threshold-weighted collateral; 0 without debt.
    pub(super) fn risk(&self) -> f64 {
        if self.debt <= 0.0 {
            0.0
        } else if self.weighted_collateral <= 0.0 {
            f64::MAX
        } else {
            self.debt / self.weighted_collateral
        }
    }
}

impl Account {
    pub(super) fn new(address: String) -> Account {
        Account { address, positions: Vec::new() }
    }

    /// Adds to a position, which is opened if necessary. `is_collateral` is used only for a position that is opened.
    pub(super) fn add(&mut self, market: usize, is_debt: bool, amount: u128, is_collateral: Option<bool>) {
        let existing =
            self.positions.iter_mut().find(|position| position.market == market && position.is_debt == is_debt);
        match existing {
            Some(position) => {
                if position.amount == 0 {
                    position.counter += 1;
                    position.is_collateral = is_collateral;
                }
                position.amount += amount;
                position.row = None;
            }
            None => {
                self.positions.push(Position { market, is_debt, amount, is_collateral, counter: 0, row: None });
            }
        }
    }

    /// Subtracts up to `amount` from a position, and returns the subtracted amount.
    pub(super) fn take(&mut self, market: usize, is_debt: bool, amount: u128) -> u128 {
        let existing =
            self.positions.iter_mut().find(|position| position.market == market && position.is_debt == is_debt);
        let Some(position) = existing else { return 0 };
        let taken = amount.min(position.amount);
        position.amount -= taken;
        position.row = None;
        taken
    }

    /// Returns the open supplies or debts in a protocol.
    pub(super) fn open(&self, protocol: usize, is_debt: bool) -> impl Iterator<Item = &Position> {
        self.positions.iter().filter(move |position| {
            position.amount > 0 && position.is_debt == is_debt && MARKETS[position.market].protocol == protocol
        })
    }

    /// Returns the sums that determine borrowing and liquidation.
    pub(super) fn health(&self, protocol: usize, prices: &Prices, day: usize) -> Health {
        let mut health = Health::default();
        for position in self.open(protocol, false).filter(|position| position.is_collateral == Some(true)) {
            let market = &MARKETS[position.market];
            let value = position.usd(prices, day);
            health.weighted_collateral += value * market.threshold / 100.0;
            health.borrowing_power += value * market.max_ltv / 100.0;
        }
        health.debt = self.open(protocol, true).map(|position| position.usd(prices, day)).sum();
        health
    }

    /// Appends the rows of a snapshot, sorted by id. `modify` may change each new row before it is stored.
    pub(super) fn rows(
        &mut self,
        protocol: usize,
        rows: &mut Vec<Row>,
        mut modify: impl FnMut(&mut serde_json::Value),
    ) {
        let start = rows.len();
        let Account { address, positions } = self;
        for position in positions {
            if position.amount == 0 || MARKETS[position.market].protocol != protocol {
                continue;
            }
            let row = position.row.take().unwrap_or_else(|| {
                let mut row = position.render(address);
                modify(&mut row);
                Arc::new(row)
            });
            rows.push(Arc::clone(&row));
            position.row = Some(row);
        }
        if let Some(own) = rows.get_mut(start..) {
            own.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        }
    }
}

impl Position {
    /// Returns the value in dollars.
    pub(super) fn usd(&self, prices: &Prices, day: usize) -> f64 {
        self.amount as f64 / scale(self.market) * prices.usd(day, self.market)
    }

    fn render(&self, account: &str) -> serde_json::Value {
        let market = &MARKETS[self.market];
        let protocol = &PROTOCOLS[market.protocol];
        let (side, id_part) = if self.is_debt {
            ("BORROWER", protocol.debt_id_part)
        } else {
            (protocol.supply_side, protocol.supply_side)
        };
        json!({
            "id": format!("{account}-{}-{id_part}-{}", market.id, self.counter),
            "balance": self.amount.to_string(),
            "isCollateral": if self.is_debt { Some(false) } else { self.is_collateral },
            "side": side,
            "market": {"id": market.id, "name": market.name},
            "account": {"id": account},
        })
    }
}

/// Converts an amount in dollars to base units of the token.
pub(super) fn units(market: usize, usd: f64, prices: &Prices, day: usize) -> u128 {
    let price = prices.usd(day, market);
    if price > 0.0 { (usd / price * scale(market)) as u128 } else { 0 }
}

/// Returns the number of base units per token. Powers of ten up to 10^22 are exact in a float.
pub(super) fn scale(market: usize) -> f64 {
    (0..MARKETS[market].decimals).fold(1.0, |scale, _| scale * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::rng::SeededRng;

    #[test]
    fn reopened_position_gets_a_new_id() {
        let mut account = Account::new("0xaa".to_owned());
        let ids = |account: &mut Account| {
            let mut rows = Vec::new();
            account.rows(0, &mut rows, |_| ());
            rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        account.add(0, false, 5, Some(true));
        let first = ids(&mut account);
        assert!(first[0].ends_with("-COLLATERAL-0"));
        assert_eq!(account.take(0, false, 9), 5);
        assert!(ids(&mut account).is_empty());
        account.add(0, false, 1, Some(true));
        assert!(ids(&mut account)[0].ends_with("-COLLATERAL-1"));
    }

    #[test]
    fn snapshots_share_rows_of_unchanged_positions() {
        let mut account = Account::new("0xaa".to_owned());
        account.add(0, false, 5, Some(true));
        account.add(3, true, 7, None);
        let snapshot = |account: &mut Account| {
            let mut rows = Vec::new();
            account.rows(0, &mut rows, |_| ());
            rows
        };
        let (one, two) = (snapshot(&mut account), snapshot(&mut account));
        assert!(one.iter().zip(&two).all(|(one, two)| Arc::ptr_eq(one, two)));
        account.add(0, false, 1, None);
        let three = snapshot(&mut account);
        assert_eq!(three.iter().filter(|row| two.iter().any(|old| Arc::ptr_eq(row, old))).count(), 1);
        assert!(three.iter().any(|row| row["balance"] == "6" && row["isCollateral"] == true));
        assert!(three.is_sorted_by_key(|row| row["id"].as_str().unwrap().to_owned()));
    }

    #[test]
    fn health_includes_only_enabled_collateral() {
        let prices = Prices::new(1, &mut SeededRng::new(0, 1));
        let mut account = Account::new("0xaa".to_owned());
        account.add(3, false, units(3, 100.0, &prices, 0), Some(true));
        account.add(4, false, units(4, 100.0, &prices, 0), Some(false));
        account.add(0, false, units(0, 100.0, &prices, 0), None);
        account.add(5, true, units(5, 50.0, &prices, 0), None);
        let health = account.health(0, &prices, 0);
        assert!((health.weighted_collateral - 87.5).abs() < 1e-3 && (health.debt - 50.0).abs() < 1e-3);
        assert!((health.risk() - 50.0 / 87.5).abs() < 1e-4);
        assert_eq!(account.health(1, &prices, 0).risk(), 0.0);
    }
}
