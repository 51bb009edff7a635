//! Accounts of the sample chain: their supplies, debts and health.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::prices::Prices;
use super::protocols::{AAVE, AAVE_POOL, MARKETS, Market, PROTOCOLS};
use crate::recording::Row;

/// The supply or debt of an account in a market. A closed position is kept, because a reopened one needs its counter.
pub(super) struct Position {
    pub(super) market: usize,
    pub(super) is_debt: bool,
    /// The balance: of Aave divided by the index, of Compound in base units of the token.
    pub(super) scaled: u128,
    /// Whether a supply is enabled as collateral.
    pub(super) is_collateral: bool,
    /// Whether the position was opened by a transfer.
    by_transfer: bool,
    /// The number of times that the position was reopened, which is part of its id.
    counter: u32,
    /// The row of the last snapshot, as long as its values are unchanged.
    row: Option<Row>,
}

/// How a position is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// By a deposit, which is enabled as collateral or not.
    Deposit(bool),
    Borrow,
    /// By a transfer. Aave enables the supply as collateral, Compound does not.
    Transfer,
}

/// An address that holds positions: a wallet or a proxy contract.
pub(super) struct Account {
    pub(super) address: String,
    pub(super) positions: Vec<Position>,
    /// In Aave's schema, the rows of the last snapshot by market, as long as the positions are unchanged.
    user_reserves: BTreeMap<usize, Row>,
}

/// The time and the indexes by which balances are read and changed.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) prices: &'a Prices,
    pub(super) day: usize,
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
        Account { address, positions: Vec::new(), user_reserves: BTreeMap::new() }
    }

    /// Adds to a position, which is opened if necessary. `opening` is used only for a position that is opened.
    pub(super) fn add(&mut self, market: usize, amount: u128, opening: Opening, moment: Moment<'_>) {
        self.user_reserves.remove(&market);
        let is_debt = opening == Opening::Borrow;
        let by_transfer = opening == Opening::Transfer;
        let is_collateral = match opening {
            Opening::Deposit(enabled) => enabled,
            Opening::Borrow => false,
            Opening::Transfer => MARKETS[market].protocol == AAVE,
        };
        let scaled = moment.prices.interest.scaled(moment.day, market, is_debt, amount);
        let existing =
            self.positions.iter_mut().find(|position| position.market == market && position.is_debt == is_debt);
        match existing {
            Some(position) => {
                if position.scaled == 0 {
                    position.counter += 1;
                    position.is_collateral = is_collateral;
                    position.by_transfer = by_transfer;
                }
                position.scaled += scaled;
                position.row = None;
            }
            None => {
                let position = Position { market, is_debt, scaled, is_collateral, by_transfer, counter: 0, row: None };
                self.positions.push(position);
            }
        }
    }

    /// Subtracts up to `amount` from a position, and returns the subtracted amount.
    pub(super) fn take(&mut self, market: usize, is_debt: bool, amount: u128, moment: Moment<'_>) -> u128 {
        self.user_reserves.remove(&market);
        let existing =
            self.positions.iter_mut().find(|position| position.market == market && position.is_debt == is_debt);
        let Some(position) = existing else { return 0 };
        let held = position.amount(moment);
        position.row = None;
        if amount >= held {
            position.scaled = 0;
            return held;
        }
        let scaled = moment.prices.interest.scaled(moment.day, market, is_debt, amount);
        position.scaled = position.scaled.saturating_sub(scaled);
        amount
    }

    /// Returns the open supplies or debts in a protocol.
    pub(super) fn open(&self, protocol: usize, is_debt: bool) -> impl Iterator<Item = &Position> {
        self.positions.iter().filter(move |position| {
            position.scaled > 0 && position.is_debt == is_debt && MARKETS[position.market].protocol == protocol
        })
    }

    /// Returns the sums that determine borrowing and liquidation.
    pub(super) fn health(&self, protocol: usize, moment: Moment<'_>) -> Health {
        let mut health = Health::default();
        for position in self.open(protocol, false).filter(|position| position.is_collateral) {
            let market = &MARKETS[position.market];
            let value = position.usd(moment);
            health.weighted_collateral += value * market.threshold / 100.0;
            health.borrowing_power += value * market.max_ltv / 100.0;
        }
        health.debt = self.open(protocol, true).map(|position| position.usd(moment)).sum();
        health
    }

    /// Appends the rows of a snapshot in Messari's schema, sorted by id. `modify` may change each new row before it is stored.
    pub(super) fn rows(
        &mut self,
        protocol: usize,
        moment: Moment<'_>,
        rows: &mut Vec<Row>,
        mut modify: impl FnMut(&mut serde_json::Value),
    ) {
        let start = rows.len();
        let enabled: Vec<Value> = match protocol {
            AAVE => self.open(AAVE, false).filter(|position| position.is_collateral).map(Position::market_id).collect(),
            _ => Vec::new(),
        };
        let Account { address, positions, .. } = self;
        for position in positions {
            if position.scaled == 0 || MARKETS[position.market].protocol != protocol {
                continue;
            }
            let unchanged = position.row.take().filter(|row| position.is_current(row, &enabled, moment));
            let row = unchanged.unwrap_or_else(|| {
                let mut row = position.render(address, &enabled, moment);
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

impl Account {
    /// Appends the rows of a snapshot in Aave's schema, sorted by id: one for each market in which the account has a supply or
    /// a debt.
    pub(super) fn user_reserves(&mut self, rows: &mut Vec<Row>) {
        let start = rows.len();
        let Account { address, positions, user_reserves } = self;
        let open: BTreeSet<usize> = positions
            .iter()
            .filter(|position| position.scaled > 0 && MARKETS[position.market].protocol == AAVE)
            .map(|position| position.market)
            .collect();
        for market in open {
            let row = user_reserves.entry(market).or_insert_with(|| {
                let of = |is_debt| {
                    positions.iter().find(|position| position.market == market && position.is_debt == is_debt)
                };
                Arc::new(render_user_reserve(address, market, of(false), of(true)))
            });
            rows.push(Arc::clone(row));
        }
        if let Some(own) = rows.get_mut(start..) {
            own.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        }
    }
}

fn render_user_reserve(account: &str, market: usize, supply: Option<&Position>, debt: Option<&Position>) -> Value {
    let Market { id, token, name, .. } = &MARKETS[market];
    let scaled = |position: Option<&Position>| position.map_or(0, |position| position.scaled).to_string();
    json!({
        "id": format!("{account}{token}{AAVE_POOL}"),
        "pool": {"id": AAVE_POOL},
        "user": {"id": account},
        "reserve": {"id": format!("{token}{AAVE_POOL}"), "name": name, "aToken": {"id": id}},
        "usageAsCollateralEnabledOnUser": supply.is_some_and(|supply| supply.scaled > 0 && supply.is_collateral),
        "scaledATokenBalance": scaled(supply),
        "scaledVariableDebt": scaled(debt),
        "principalStableDebt": "0",
        "stableBorrowRate": "0",
        "stableBorrowLastUpdateTimestamp": 0,
    })
}

impl Position {
    /// Returns the balance in base units of the token.
    pub(super) fn amount(&self, moment: Moment<'_>) -> u128 {
        moment.prices.interest.grown(moment.day, self.market, self.is_debt, self.scaled)
    }

    /// Returns the value in dollars.
    pub(super) fn usd(&self, moment: Moment<'_>) -> f64 {
        self.amount(moment) as f64 / scale(self.market) * moment.prices.usd(moment.day, self.market)
    }

    fn market_id(&self) -> Value {
        json!({"id": MARKETS[self.market].id})
    }

    /// Returns whether a row of an earlier day still has the balance, and the enabled collaterals of its account.
    fn is_current(&self, row: &Row, enabled: &[Value], moment: Moment<'_>) -> bool {
        let is_enabled = || row["account"]["_enabledCollaterals"].as_array().is_some_and(|list| list == enabled);
        MARKETS[self.market].protocol != AAVE || row["balance"] == self.amount(moment).to_string() && is_enabled()
    }

    /// Returns the row as Messari's subgraphs write it. That of Aave does not know whether a supply that was opened by a
    /// transfer is collateral, and misses that a supply is disabled; its list of an account's collaterals is right.
    fn render(&self, account: &str, enabled: &[Value], moment: Moment<'_>) -> serde_json::Value {
        let market = &MARKETS[self.market];
        let protocol = &PROTOCOLS[market.protocol];
        let (side, id_part) = if self.is_debt {
            ("BORROWER", protocol.debt_id_part)
        } else {
            (protocol.supply_side, protocol.supply_side)
        };
        let is_aave = market.protocol == AAVE;
        let is_collateral = match (self.is_debt, is_aave) {
            (true, _) => Some(false),
            (false, true) => (!self.by_transfer).then_some(true),
            (false, false) => Some(self.is_collateral),
        };
        let mut row = json!({
            "id": format!("{account}-{}-{id_part}-{}", market.id, self.counter),
            "balance": self.amount(moment).to_string(),
            "isCollateral": is_collateral,
            "side": side,
            "market": {"id": market.id, "name": market.name},
            "account": {"id": account},
        });
        if is_aave {
            row["account"]["_enabledCollaterals"] = Value::from(enabled);
        }
        row
    }
}

/// Converts an amount in dollars to base units of the token.
pub(super) fn units(market: usize, usd: f64, moment: Moment<'_>) -> u128 {
    let price = moment.prices.usd(moment.day, market);
    if price > 0.0 { (usd / price * scale(market)) as u128 } else { 0 }
}

/// Returns the number of base units per token. Powers of ten up to 10^22 are exact in a float.
pub(super) fn scale(market: usize) -> f64 {
    (0..MARKETS[market].decimals).fold(1.0, |scale, _| scale * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Block;
    use crate::sample::Scenario;
    use crate::sample::interest::Interest;
    use crate::sample::rng::SeededRng;

    fn prices() -> Prices {
        let block = |day: i64| Block { number: 1 + day as u64, timestamp: 1_672_531_211 + day * 86_400 };
        Prices::new(Scenario::Mixed, 2, Interest::new(&[block(0), block(1)]).unwrap(), &mut SeededRng::new(0, 1))
    }

    fn snapshot(account: &mut Account, protocol: usize, moment: Moment<'_>) -> Vec<Row> {
        let mut rows = Vec::new();
        account.rows(protocol, moment, &mut rows, |_| ());
        rows
    }

    #[test]
    fn reopened_position_gets_a_new_id() {
        let prices = prices();
        let moment = Moment { prices: &prices, day: 0 };
        let mut account = Account::new("0xaa".to_owned());
        let ids = |account: &mut Account| {
            let rows = snapshot(account, 0, moment);
            rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        account.add(0, 1_000, Opening::Deposit(true), moment);
        let first = ids(&mut account);
        assert!(first[0].ends_with("-COLLATERAL-0"));
        assert_eq!(account.take(0, false, 9_999, moment), 1_000);
        assert!(ids(&mut account).is_empty());
        account.add(0, 1_000, Opening::Deposit(true), moment);
        assert!(ids(&mut account)[0].ends_with("-COLLATERAL-1"));
    }

    #[test]
    fn snapshots_share_rows_of_unchanged_positions() {
        let prices = prices();
        let [today, tomorrow] = [0, 1].map(|day| Moment { prices: &prices, day });
        let mut account = Account::new("0xaa".to_owned());
        account.add(9, 5_000, Opening::Deposit(true), today);
        account.add(10, 7_000, Opening::Borrow, today);
        let (one, two) = (snapshot(&mut account, 1, today), snapshot(&mut account, 1, tomorrow));
        assert!(one.iter().zip(&two).all(|(one, two)| Arc::ptr_eq(one, two)), "without interest");
        account.add(9, 1_000, Opening::Deposit(false), tomorrow);
        let three = snapshot(&mut account, 1, tomorrow);
        assert_eq!(three.iter().filter(|row| two.iter().any(|old| Arc::ptr_eq(row, old))).count(), 1);
        assert!(three.iter().any(|row| row["balance"] == "6000" && row["isCollateral"] == true));
        assert!(three.is_sorted_by_key(|row| row["id"].as_str().unwrap().to_owned()));
    }

    #[test]
    fn both_schemas_have_the_same_balances() {
        let prices = prices();
        let [today, tomorrow] = [0, 1].map(|day| Moment { prices: &prices, day });
        let mut account = Account::new("0xaa".to_owned());
        account.add(0, 5_000_000_000_000, Opening::Deposit(true), today);
        account.add(3, 7_000_000_000_000, Opening::Borrow, today);
        account.add(3, 9_000_000_000_000, Opening::Transfer, today);
        let scaled = |account: &mut Account| {
            let mut rows = Vec::new();
            account.user_reserves(&mut rows);
            rows
        };
        let (rows, later) = (scaled(&mut account), scaled(&mut account));
        assert!(rows.len() == 2 && rows.iter().zip(&later).all(|(one, two)| Arc::ptr_eq(one, two)));
        let grown = |row: &Row, field: &str, market, is_debt| {
            let scaled = row[field].as_str().unwrap().parse().unwrap();
            prices.interest.grown(1, market, is_debt, scaled).to_string()
        };
        let of = |token: &str| rows.iter().find(|row| row["id"].as_str().unwrap().contains(token)).unwrap();
        let (weth, usdc) = (of(MARKETS[0].token), of(MARKETS[3].token));
        let balances = |side: &str| -> Vec<String> {
            let mut account =
                Account { address: "0xaa".to_owned(), positions: Vec::new(), user_reserves: BTreeMap::new() };
            account.add(0, 5_000_000_000_000, Opening::Deposit(true), today);
            account.add(3, 7_000_000_000_000, Opening::Borrow, today);
            account.add(3, 9_000_000_000_000, Opening::Transfer, today);
            let rows = snapshot(&mut account, 0, tomorrow);
            let of_side = rows.iter().filter(|row| row["side"] == side);
            of_side.map(|row| row["balance"].as_str().unwrap().to_owned()).collect()
        };
        let mut supplies = [grown(weth, "scaledATokenBalance", 0, false), grown(usdc, "scaledATokenBalance", 3, false)];
        let mut expected = balances("COLLATERAL");
        supplies.sort();
        expected.sort();
        assert_eq!(supplies.to_vec(), expected);
        assert_eq!(vec![grown(usdc, "scaledVariableDebt", 3, true)], balances("BORROWER"));
        assert_eq!(usdc["usageAsCollateralEnabledOnUser"], true, "a transfer enables the supply");
    }

    #[test]
    fn aaves_flags_are_those_of_messaris_subgraph() {
        let prices = prices();
        let moment = Moment { prices: &prices, day: 0 };
        let mut account = Account::new("0xaa".to_owned());
        account.add(0, 1_000, Opening::Deposit(true), moment);
        account.add(3, 1_000, Opening::Deposit(false), moment);
        account.add(4, 1_000, Opening::Transfer, moment);
        let rows = snapshot(&mut account, 0, moment);
        let flag =
            |market: usize| &rows.iter().find(|row| row["market"]["id"] == MARKETS[market].id).unwrap()["isCollateral"];
        assert_eq!([flag(0), flag(3), flag(4)], [&json!(true), &json!(true), &Value::Null]);
        let enabled = json!([{"id": MARKETS[0].id}, {"id": MARKETS[4].id}]);
        assert!(rows.iter().all(|row| row["account"]["_enabledCollaterals"] == enabled));
    }

    #[test]
    fn health_includes_only_enabled_collateral() {
        let prices = prices();
        let moment = Moment { prices: &prices, day: 0 };
        let mut account = Account::new("0xaa".to_owned());
        account.add(3, units(3, 100.0, moment), Opening::Deposit(true), moment);
        account.add(4, units(4, 100.0, moment), Opening::Deposit(false), moment);
        account.add(5, units(5, 50.0, moment), Opening::Borrow, moment);
        let health = account.health(0, moment);
        assert!((health.weighted_collateral - 87.5).abs() < 1e-3 && (health.debt - 50.0).abs() < 1e-3);
        assert!((health.risk() - 50.0 / 87.5).abs() < 1e-4);
        assert_eq!(account.health(1, moment).risk(), 0.0);
    }
}
