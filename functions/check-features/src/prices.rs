//! Price jumps: the price of a market against its newest earlier price.

use std::fmt;
use std::sync::Arc;

use defi_shared::domain::price::{DayMarkets, LOOK_BACK_DAYS, Market};
use defi_shared::domain::{Address, Day};

/// A change of a market's price.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PriceChange {
    pub day: Day,
    pub protocol: Arc<str>,
    pub market: Address,
    pub is_eth: bool,
    pub before: f64,
    pub now: f64,
}

impl PriceChange {
    /// Returns the factor between the prices, at least 1.
    pub fn factor(&self) -> f64 {
        (self.now / self.before).max(self.before / self.now)
    }
}

impl fmt::Display for PriceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PriceChange { day, protocol, market, before, now, .. } = self;
        write!(f, "market {market} of {protocol} on {day}, from {before:?} to {now:?}")
    }
}

/// Returns the changes of all prices of a day against the newest price of each market on the days before it that prices
/// are taken from. A missing, zero or negative price is no price.
pub(crate) fn changes<'a>(day: Day, markets: impl Fn(Day) -> Option<&'a DayMarkets>) -> Vec<PriceChange> {
    let Some(now) = markets(day) else { return Vec::new() };
    let earlier: Vec<_> = (1..=LOOK_BACK_DAYS).filter_map(|days| markets(day.plus_days(-days))).collect();
    let price = |market: &Market| market.price.filter(|price| *price > 0.0);
    let price_before = |protocol: &str, id: Address| {
        let of_protocol = earlier.iter().filter_map(|day| day.get(protocol));
        let of_market = of_protocol.filter_map(|markets| markets.iter().find(|market| market.id == id));
        of_market.filter_map(price).next()
    };
    let mut changes = Vec::new();
    for (protocol, markets) in now {
        for market in markets {
            let Some((before, now)) = price_before(protocol, market.id).zip(price(market)) else { continue };
            let (protocol, is_eth) = (Arc::clone(protocol), market.is_eth);
            changes.push(PriceChange { day, protocol, market: market.id, is_eth, before, now });
        }
    }
    changes
}

/// Returns the largest of the changes.
pub(crate) fn largest<'a>(changes: impl IntoIterator<Item = &'a PriceChange>) -> Option<&'a PriceChange> {
    changes.into_iter().max_by(|a, b| a.factor().total_cmp(&b.factor()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use defi_shared::domain::HexBytes;
    use defi_shared::domain::price::PriceUnit;
    use defi_shared::testing::WETH;

    use super::*;

    const PROTOCOL: &str = "a";

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    /// Returns the snapshot of one protocol. Market 0 is that of WETH.
    fn snapshot(prices: &[Option<f64>]) -> DayMarkets {
        let market = |(number, price_usd): (u8, &Option<f64>)| Market {
            id: HexBytes([number; 20]),
            token: if number == 0 { WETH } else { HexBytes([number; 20]) },
            decimals: 18,
            price: *price_usd,
            unit: PriceUnit::Usd,
            is_eth: number == 0,
            maximum_ltv: 0.0,
            liquidation_threshold: 0.0,
        };
        DayMarkets::from([(PROTOCOL.into(), (0u8..).zip(prices).map(market).collect())])
    }

    /// Returns market number, earlier price and price of the changes on day 9.
    fn changes_on_day_9(days: &[(i32, &[Option<f64>])]) -> Vec<(u8, f64, f64)> {
        let days: BTreeMap<_, _> = days.iter().map(|(number, prices)| (day(*number), snapshot(prices))).collect();
        let changes = changes(day(9), |day| days.get(&day));
        changes.iter().map(|change| (change.market.0[0], change.before, change.now)).collect()
    }

    #[test]
    fn change_needs_two_prices() {
        let before = [Some(1.0), Some(100.0), Some(0.0), None, Some(-5.0)];
        let now = [Some(10.0), Some(9.0), Some(7.0), Some(3.0), Some(5.0)];
        assert_eq!(changes_on_day_9(&[(8, &before), (9, &now)]), [(0, 1.0, 10.0), (1, 100.0, 9.0)]);
        assert_eq!(changes_on_day_9(&[(8, &now), (9, &[None, Some(0.0)])]), []);
        assert_eq!(changes_on_day_9(&[(8, &now)]), [], "no snapshot of the day");
    }

    #[test]
    fn earlier_price_is_the_newest_of_seven_days() {
        assert_eq!(changes_on_day_9(&[(2, &[Some(1.0)]), (9, &[Some(2.0)])]), [(0, 1.0, 2.0)]);
        assert_eq!(changes_on_day_9(&[(1, &[Some(1.0)]), (9, &[Some(2.0)])]), [], "eight days ago");
        let days: [(i32, &[Option<f64>]); 4] =
            [(6, &[Some(1.0)]), (7, &[Some(4.0)]), (8, &[Some(0.0)]), (9, &[Some(2.0)])];
        assert_eq!(changes_on_day_9(&days), [(0, 4.0, 2.0)]);
    }

    #[test]
    fn factor_is_at_least_one_in_both_directions() {
        let change = |before, now| PriceChange {
            day: day(1),
            protocol: PROTOCOL.into(),
            market: HexBytes([1; 20]),
            is_eth: false,
            before,
            now,
        };
        assert_eq!((change(2.0, 8.0).factor(), change(8.0, 2.0).factor()), (4.0, 4.0));
        let changes = [change(1.0, 2.0), change(9.0, 1.0), change(1.0, 3.0)];
        assert_eq!(largest(&changes).map(PriceChange::factor), Some(9.0));
        assert_eq!(largest(&[]), None);
        let text = change(2.0, 8e-7).to_string();
        assert!(text.contains(PROTOCOL) && text.contains("2022-01-09") && text.contains("2.0 to 8e-7"), "{text}");
    }

    #[test]
    fn changes_say_which_market_is_that_of_eth() {
        let days =
            BTreeMap::from([(day(8), snapshot(&[Some(1.0), Some(1.0)])), (day(9), snapshot(&[Some(1.0), Some(1.0)]))]);
        let changes = changes(day(9), |day| days.get(&day));
        assert_eq!(changes.iter().map(|change| change.is_eth).collect::<Vec<_>>(), [true, false]);
    }
}
