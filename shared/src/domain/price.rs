//! Prices in ETH: the price of the day itself or, if it has none, the latest one of the seven days before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Address, Day};

/// The number of days before a day whose prices are used when the day itself has none.
pub const LOOK_BACK_DAYS: i32 = 7;

/// The number of decimals of native ETH, on every protocol.
pub const NATIVE_ETH_DECIMALS: i32 = 18;

/// The unit in which a source has its prices. Prices in ETH are quotients of two prices of one snapshot, in the same unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PriceUnit {
    /// US dollars.
    #[default]
    Usd,
    /// ETH.
    Eth,
}

impl PriceUnit {
    /// Returns the name, as in the tables of markets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PriceUnit::Usd => "USD",
            PriceUnit::Eth => "ETH",
        }
    }

    /// Parses the name. A missing name is that of US dollars.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        [PriceUnit::Usd, PriceUnit::Eth].into_iter().find(|unit| name.unwrap_or("USD") == unit.name())
    }
}

/// A market in a protocol's snapshot of one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Market {
    /// The market's id (a contract address).
    pub id: Address,
    /// The token that is lent in the market.
    pub token: Address,
    /// Decimals of the token, 0 to 77.
    pub decimals: i32,
    /// Price of one whole token in `unit`, if the source has a number. A value of zero or below is not used as a price.
    pub price: Option<f64>,
    /// The unit of the price.
    pub unit: PriceUnit,
    /// Whether its price is the price of ETH: the token is native or wrapped ETH.
    pub is_eth: bool,
    /// Maximum loan to value, as a fraction.
    pub maximum_ltv: f64,
    /// Liquidation threshold, as a fraction.
    pub liquidation_threshold: f64,
}

impl Market {
    fn usable_price(&self) -> Option<f64> {
        self.price.filter(|price| price.is_finite() && *price > 0.0)
    }
}

/// A price in ETH, with the parameters of the market that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// ETH per whole token.
    pub price_eth: f64,
    /// Decimals of the token.
    pub decimals: i32,
    /// Liquidation threshold of the market, as a fraction. `None` for native ETH, which is priced without a market.
    pub liquidation_threshold: Option<f64>,
    /// Maximum loan to value of the market, as a fraction. 0 for native ETH.
    pub maximum_ltv: f64,
    /// The market row that the price comes from. `None` for native ETH.
    pub origin: Option<Origin>,
}

impl Quote {
    /// Returns whether supply in the market can be collateral. At a liquidation threshold of 0 it can't: the protocols'
    /// contracts then count it neither as collateral nor towards the maximum loan.
    #[must_use]
    pub fn accepts_collateral(&self) -> bool {
        self.liquidation_threshold.is_some_and(|threshold| threshold > 0.0)
    }
}

/// The market row that a price comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Protocol of the row.
    pub protocol: Arc<str>,
    /// Day of the snapshot.
    pub day: Day,
    /// Id of the market.
    pub market: Address,
}

/// The market snapshots of one day, by protocol. Each holds valid rows only, one per market.
pub type DayMarkets = BTreeMap<Arc<str>, Vec<Market>>;

#[derive(Debug, Default)]
struct Quotes {
    by_token: FxHashMap<Address, Quote>,
    by_market: FxHashMap<Address, Quote>,
}

/// The prices that apply on one day.
#[derive(Debug, Default)]
pub struct PriceBook {
    /// Prices by day, latest first: the day itself, then the days before it.
    days: Vec<BTreeMap<Arc<str>, Quotes>>,
    protocols: BTreeSet<Arc<str>>,
}

impl PriceBook {
    /// Builds the prices that apply on `day` from the snapshots of the day and of the [`LOOK_BACK_DAYS`] before it.
    /// `snapshots` may return `None` for a day without a snapshot, and is not called for other days.
    #[must_use]
    pub fn new<'a>(day: Day, snapshots: impl Fn(Day) -> Option<&'a DayMarkets>) -> Self {
        let window = day.plus_days(-LOOK_BACK_DAYS).through(day).rev();
        let days: Vec<_> =
            window.map(|day| snapshots(day).map(|markets| quotes(day, markets)).unwrap_or_default()).collect();
        let protocols = days.iter().flat_map(|quotes| quotes.keys().cloned()).collect();
        PriceBook { days, protocols }
    }

    /// Returns the price of an event's token. All days of the event's own protocol are searched first, then the other
    /// protocols in alphabetical order. The price of native ETH is always 1.
    #[must_use]
    pub fn token_quote(&self, protocol: &str, token: &Address) -> Option<Quote> {
        if token.is_native_eth() {
            return Some(Quote {
                price_eth: 1.0,
                decimals: NATIVE_ETH_DECIMALS,
                liquidation_threshold: None,
                maximum_ltv: 0.0,
                origin: None,
            });
        }
        let other_protocols = self.protocols.iter().map(AsRef::as_ref).filter(|other| *other != protocol);
        std::iter::once(protocol)
            .chain(other_protocols)
            .find_map(|protocol| self.latest(protocol, |quotes| quotes.by_token.get(token)))
            .cloned()
    }

    /// Returns the price of a position in a market. Only that market is used.
    #[must_use]
    pub fn market_quote(&self, protocol: &str, market: &Address) -> Option<&Quote> {
        self.latest(protocol, |quotes| quotes.by_market.get(market))
    }

    /// Returns the price that [`PriceBook::market_quote`] returns, for every market of a protocol. Faster for the
    /// positions of a whole snapshot.
    #[must_use]
    pub fn market_quotes(&self, protocol: &str) -> FxHashMap<Address, &Quote> {
        let oldest_first = self.days.iter().rev().filter_map(|day| day.get(protocol));
        oldest_first.flat_map(|quotes| &quotes.by_market).map(|(market, quote)| (*market, quote)).collect()
    }

    fn latest<'a>(&'a self, protocol: &str, get: impl Fn(&'a Quotes) -> Option<&'a Quote>) -> Option<&'a Quote> {
        self.days.iter().find_map(|day| day.get(protocol).and_then(&get))
    }
}

/// Returns the price of ETH in one protocol's snapshot, in the given unit: that of the market of ETH with a price and
/// the smallest id.
fn eth_price(markets: &[Market], unit: PriceUnit) -> Option<f64> {
    let eth = markets.iter().filter(|market| market.is_eth && market.unit == unit && market.usable_price().is_some());
    eth.min_by_key(|market| market.id).and_then(Market::usable_price)
}

/// Returns all prices of one day. A protocol without an ETH price in the unit of a market uses that of the first protocol,
/// by name, that has one in the same unit.
fn quotes(day: Day, snapshots: &DayMarkets) -> BTreeMap<Arc<str>, Quotes> {
    let mut day_quotes = BTreeMap::new();
    for (protocol, markets) in snapshots {
        let eth_price = |unit| {
            let of_others = || snapshots.values().find_map(|markets| eth_price(markets, unit));
            eth_price(markets, unit).or_else(of_others)
        };
        let eth_prices = [PriceUnit::Usd, PriceUnit::Eth].map(|unit| (unit, eth_price(unit)));
        let mut priced: Vec<_> = markets
            .iter()
            .filter_map(|market| {
                let (_, eth_price) = eth_prices.iter().find(|(unit, _)| *unit == market.unit)?;
                Some((market, market.usable_price()? / (*eth_price)?))
            })
            .collect();
        priced.sort_by_key(|(market, _)| market.id);
        let mut quotes = Quotes::default();
        for (market, price_eth) in priced {
            let quote = Quote {
                price_eth,
                decimals: market.decimals,
                liquidation_threshold: Some(market.liquidation_threshold),
                maximum_ltv: market.maximum_ltv,
                origin: Some(Origin { protocol: protocol.clone(), day, market: market.id }),
            };
            // Markets are sorted by id: if several have the same token, the smallest id wins.
            quotes.by_token.entry(market.token).or_insert_with(|| quote.clone());
            quotes.by_market.insert(market.id, quote);
        }
        day_quotes.insert(protocol.clone(), quotes);
    }
    day_quotes
}

#[cfg(test)]
mod tests {
    use super::super::HexBytes;
    use super::*;

    const TOKEN: Address = HexBytes([7; 20]);
    const WETH: Address = HexBytes([0xc0; 20]);

    fn market(id: u8, token: Address, price: f64) -> Market {
        let id = HexBytes([id; 20]);
        Market {
            id,
            token,
            decimals: 6,
            price: Some(price),
            unit: PriceUnit::Usd,
            is_eth: token == WETH || token.is_native_eth(),
            maximum_ltv: 0.5,
            liquidation_threshold: 0.6,
        }
    }

    /// Protocol names and their markets.
    type Protocols<'a> = &'a [(&'a str, Vec<Market>)];

    fn book(day: i32, days: &[(i32, Protocols<'_>)]) -> PriceBook {
        let snapshots: BTreeMap<Day, DayMarkets> = days
            .iter()
            .map(|(day, protocols)| {
                let markets = protocols.iter().map(|(name, markets)| (Arc::from(*name), markets.clone())).collect();
                (Day::from_epoch_days(*day), markets)
            })
            .collect();
        PriceBook::new(Day::from_epoch_days(day), |day| snapshots.get(&day))
    }

    fn price(book: &PriceBook, protocol: &str) -> Option<f64> {
        book.token_quote(protocol, &TOKEN).map(|quote| quote.price_eth)
    }

    #[test]
    fn price_is_usd_divided_by_eth_price_of_the_same_snapshot() {
        let book = book(100, &[(100, &[("a", vec![market(1, WETH, 2000.0), market(2, TOKEN, 10.0)])])]);
        assert_eq!(price(&book, "a"), Some(0.005));
        assert_eq!(book.token_quote("a", &WETH).unwrap().price_eth, 1.0);
    }

    #[test]
    fn quote_has_the_parameters_and_the_origin_of_its_row() {
        let row = Market { decimals: 8, maximum_ltv: 0.7, liquidation_threshold: 0.75, ..market(2, TOKEN, 10.0) };
        let book = book(103, &[(100, &[("a", vec![market(1, WETH, 2000.0), row])])]);
        let origin = Origin { protocol: "a".into(), day: Day::from_epoch_days(100), market: HexBytes([2; 20]) };
        let expected = Quote {
            price_eth: 0.005,
            decimals: 8,
            liquidation_threshold: Some(0.75),
            maximum_ltv: 0.7,
            origin: Some(origin),
        };
        assert_eq!(book.market_quote("a", &HexBytes([2; 20])), Some(&expected));
        assert_eq!(book.token_quote("b", &TOKEN), Some(expected), "of an event on another protocol");
    }

    #[test]
    fn native_eth_price_of_an_event_is_always_1() {
        let other_price = [("a", vec![market(1, WETH, 2000.0), market(2, HexBytes([0; 20]), 1000.0)])];
        for days in [&[][..], &[(100, &other_price[..])]] {
            for native in [HexBytes([0xee; 20]), HexBytes([0; 20])] {
                let quote = book(100, days).token_quote("a", &native).unwrap();
                assert_eq!((quote.price_eth, quote.decimals, quote.liquidation_threshold), (1.0, 18, None));
            }
        }
    }

    #[test]
    fn price_that_is_not_positive_and_finite_does_not_exist() {
        for price_usd in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            let token = Market { price: price_usd, ..market(2, TOKEN, 0.0) };
            let unpriced = book(100, &[(100, &[("a", vec![market(1, WETH, 2.0), token])])]);
            assert_eq!(price(&unpriced, "a"), None, "token at {price_usd:?}");
            let eth = Market { price: price_usd, ..market(1, WETH, 0.0) };
            let without_eth = book(100, &[(100, &[("a", vec![eth, market(2, TOKEN, 2.0)])])]);
            assert_eq!(price(&without_eth, "a"), None, "ETH at {price_usd:?}");
        }
    }

    #[test]
    fn eth_price_is_that_of_the_smallest_market_id_with_one() {
        let native = HexBytes([0xee; 20]);
        let markets = [market(9, WETH, 1000.0), market(3, WETH, 0.0), market(5, native, 500.0), market(1, TOKEN, 10.0)];
        assert_eq!(price(&book(100, &[(100, &[("a", markets.to_vec())])]), "a"), Some(0.02));
    }

    #[test]
    fn eth_price_falls_back_to_the_first_other_protocol() {
        let book = book(
            100,
            &[(
                100,
                &[
                    ("a", vec![market(1, WETH, 0.0)]),
                    ("b", vec![market(1, WETH, 1000.0)]),
                    ("c", vec![market(1, WETH, 500.0)]),
                    ("d", vec![market(2, TOKEN, 10.0)]),
                ],
            )],
        );
        assert_eq!(price(&book, "d"), Some(0.01));
    }

    #[test]
    fn day_without_an_eth_price_has_no_prices() {
        let book = book(
            100,
            &[
                (100, &[("a", vec![market(2, TOKEN, 10.0)])]),
                (99, &[("a", vec![market(1, WETH, 1.0), market(2, TOKEN, 3.0)])]),
            ],
        );
        assert_eq!(price(&book, "a"), Some(3.0));
    }

    #[test]
    fn price_of_7_days_ago_is_used_and_of_8_days_is_not() {
        let old = [("a", vec![market(1, WETH, 1.0), market(2, TOKEN, 3.0)])];
        assert_eq!(price(&book(107, &[(100, &old)]), "a"), Some(3.0));
        assert_eq!(price(&book(108, &[(100, &old)]), "a"), None);
    }

    #[test]
    fn own_protocol_on_any_day_precedes_other_protocols() {
        let own_old = [("b", vec![market(1, WETH, 1.0), market(2, TOKEN, 3.0)])];
        let other_new = [("a", vec![market(1, WETH, 1.0), market(2, TOKEN, 4.0)])];
        let book = book(107, &[(100, &own_old), (107, &other_new)]);
        assert_eq!(price(&book, "b"), Some(3.0));
        assert_eq!(price(&book, "c"), Some(4.0));
    }

    #[test]
    fn other_protocols_are_asked_in_order_each_for_all_8_days() {
        let first_old = [("a", vec![market(1, WETH, 1.0), market(2, TOKEN, 3.0)])];
        let second_new = [("b", vec![market(1, WETH, 1.0), market(2, TOKEN, 4.0)])];
        assert_eq!(price(&book(107, &[(100, &first_old), (107, &second_new)]), "c"), Some(3.0));
    }

    #[test]
    fn newest_of_the_8_days_gives_the_price_of_a_position() {
        let markets = |price_usd| vec![market(1, WETH, 1.0), market(2, TOKEN, price_usd)];
        let (oldest, newest, of_the_day) = ([("a", markets(3.0))], [("a", markets(4.0))], [("a", markets(0.0))]);
        let book = book(107, &[(100, &oldest), (102, &newest), (107, &of_the_day)]);
        let id = HexBytes([2; 20]);
        assert_eq!(book.market_quote("a", &id).map(|quote| quote.price_eth), Some(4.0));
        let all: BTreeMap<_, _> =
            book.market_quotes("a").into_iter().map(|(id, quote)| (id, quote.price_eth)).collect();
        assert_eq!(all, BTreeMap::from([(HexBytes([1; 20]), 1.0), (id, 4.0)]));
        assert!(book.market_quotes("b").is_empty());
    }

    #[test]
    fn smallest_market_id_with_a_price_wins() {
        let markets = vec![market(9, TOKEN, 9.0), market(3, TOKEN, 0.0), market(5, TOKEN, 5.0), market(1, WETH, 1.0)];
        let book = book(100, &[(100, &[("a", markets)])]);
        assert_eq!(price(&book, "a"), Some(5.0));
        assert_eq!(book.market_quote("a", &HexBytes([9; 20])).unwrap().price_eth, 9.0);
        assert_eq!(book.market_quote("a", &HexBytes([3; 20])), None);
        assert_eq!(book.market_quote("b", &HexBytes([9; 20])), None, "a position is priced only by its own market");
    }
}
