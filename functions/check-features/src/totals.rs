//! The positions of a market against the totals that the market says of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use defi_shared::domain::{Address, Figure, Side};
use defi_shared::tables::{StagedMarket, StagedPosition};

/// The supplies or the debts of a market in a snapshot, in US dollars.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MarketTotal {
    pub protocol: Arc<str>,
    pub market: Address,
    pub side: Side,
    /// The sum of the positions, at the market's price.
    pub positions: f64,
    /// The total that the market says.
    pub total: f64,
}

impl MarketTotal {
    /// Returns the difference between the positions and the total, relative to the total.
    pub fn deviation(&self) -> f64 {
        (self.positions - self.total).abs() / self.total.abs()
    }

    /// Returns whether the positions or the total reach a value. The rounding of small ones would show as a deviation.
    pub fn reaches(&self, minimum: f64) -> bool {
        self.positions >= minimum || self.total.abs() >= minimum
    }
}

impl fmt::Display for MarketTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MarketTotal { protocol, market, .. } = self;
        let [positions, total] = [self.positions, self.total].map(Figure);
        write!(f, "market {market} of {protocol} has positions of {positions:.2} USD and says {total:.2} USD")
    }
}

/// Returns the totals of the markets of a protocol, each beside the sum of its positions. Leaves out totals that a market
/// does not say, and markets without a price.
pub(crate) fn of_snapshot(markets: &[StagedMarket], positions: &[StagedPosition]) -> Vec<MarketTotal> {
    let by_id: BTreeMap<_, _> = markets.iter().map(|market| (market.market_id, market)).collect();
    let mut tokens: BTreeMap<(Address, Side), f64> = BTreeMap::new();
    for position in positions {
        if let Some(market) = by_id.get(&position.market_id) {
            *tokens.entry((market.market_id, position.side)).or_default() +=
                position.balance.to_tokens(market.input_token_decimals);
        }
    }
    let of_market = |market: &StagedMarket| {
        let StagedMarket { market_id, total_deposit_balance_usd, total_borrow_balance_usd, .. } = *market;
        let protocol = Arc::clone(&market.protocol);
        let price = market.input_token_price_usd.filter(|price| *price > 0.0);
        let said = [(Side::Lender, total_deposit_balance_usd), (Side::Borrower, total_borrow_balance_usd)];
        let totals = said.map(|(side, total)| {
            let positions = tokens.get(&(market_id, side)).copied().unwrap_or(0.0) * price?;
            Some(MarketTotal { protocol: Arc::clone(&protocol), market: market_id, side, positions, total: total? })
        });
        totals.into_iter().flatten()
    };
    markets.iter().flat_map(of_market).collect()
}

/// Returns the total from which the positions deviate most.
pub(crate) fn furthest<'a>(totals: impl IntoIterator<Item = &'a MarketTotal>) -> Option<&'a MarketTotal> {
    totals.into_iter().max_by(|a, b| a.deviation().total_cmp(&b.deviation()))
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::BaseUnits;
    use defi_shared::testing::WETH;
    use defi_shared::testing::{AAVE, address, january, staged_market, staged_position};

    use super::*;

    /// Returns a market of a token with 2 decimals, which costs 10 dollars, and its totals.
    fn market(id: u8, supplied: Option<f64>, borrowed: Option<f64>) -> StagedMarket {
        StagedMarket {
            input_token_decimals: 2,
            total_deposit_balance_usd: supplied,
            total_borrow_balance_usd: borrowed,
            ..staged_market(AAVE, january(1), address(id), WETH, 10.0)
        }
    }

    fn position(market: u8, side: Side, balance: i128) -> StagedPosition {
        let position = staged_position(AAVE, january(1), address(1), address(market), side, 0);
        StagedPosition { balance: BaseUnits(balance), ..position }
    }

    /// Returns market number, side, positions and total.
    fn totals(markets: &[StagedMarket], positions: &[StagedPosition]) -> Vec<(u8, Side, f64, f64)> {
        let totals = of_snapshot(markets, positions);
        totals.iter().map(|total| (total.market.0[19], total.side, total.positions, total.total)).collect()
    }

    fn total(positions: f64, total: f64) -> MarketTotal {
        MarketTotal { protocol: AAVE.into(), market: address(7), side: Side::Lender, positions, total }
    }

    #[test]
    fn positions_are_summed_by_market_and_side_at_the_price() {
        let markets = [market(1, Some(45.0), Some(11.0)), market(2, Some(7.0), Some(0.0))];
        let positions = [
            position(1, Side::Lender, 100),
            position(1, Side::Lender, 300),
            position(1, Side::Borrower, 150),
            position(3, Side::Lender, 999),
        ];
        let expected = [
            (1, Side::Lender, 40.0, 45.0),
            (1, Side::Borrower, 15.0, 11.0),
            (2, Side::Lender, 0.0, 7.0),
            (2, Side::Borrower, 0.0, 0.0),
        ];
        assert_eq!(totals(&markets, &positions), expected);
    }

    #[test]
    fn market_without_a_total_or_a_price_is_left_out() {
        let positions = [position(1, Side::Lender, 100), position(1, Side::Borrower, 100)];
        assert_eq!(totals(&[market(1, None, None)], &positions), []);
        assert_eq!(totals(&[market(1, None, Some(9.0))], &positions), [(1, Side::Borrower, 10.0, 9.0)]);
        for price in [None, Some(0.0), Some(-1.0)] {
            let market = StagedMarket { input_token_price_usd: price, ..market(1, Some(9.0), Some(9.0)) };
            assert_eq!(totals(&[market], &positions), [], "{price:?}");
        }
    }

    #[test]
    fn deviation_is_relative_to_the_total() {
        let deviations = [(150.0, 100.0), (50.0, 100.0), (100.0, 100.0), (0.0, 100.0), (100.0, 0.0), (100.0, -100.0)];
        let deviations = deviations.map(|(positions, of)| total(positions, of).deviation());
        assert_eq!(deviations, [0.5, 0.5, 0.0, 1.0, f64::INFINITY, 2.0]);
    }

    #[test]
    fn either_value_may_reach_the_minimum() {
        let reaches = |positions, of| total(positions, of).reaches(1000.0);
        assert!(reaches(1000.0, 0.0) && reaches(0.0, 1000.0) && reaches(0.0, -1000.0));
        assert!(!reaches(999.9, 999.9) && !reaches(0.0, -999.9));
    }

    #[test]
    fn furthest_has_the_largest_deviation_and_is_named() {
        let totals = [total(110.0, 100.0), total(40.0, 100.0), total(130.0, 100.0)];
        let text = furthest(&totals).unwrap().to_string();
        assert!(text.contains(&format!("market {} of {AAVE} has positions of 40.00 USD and says 100.00", address(7))));
        assert_eq!(furthest(&[]), None);
    }
}
