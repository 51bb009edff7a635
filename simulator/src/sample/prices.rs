//! Prices of the sample chain: random walks with two crashes, or with slumps and recoveries. Both cause liquidations.

use super::Scenario;
use super::interest::Interest;
use super::protocols::{ETHER, MARKETS, Market, ORACLE_FAILURE, PriceModel};
use super::rng::SeededRng;

/// The number of altcoin series and of stablecoin series.
const SERIES: usize = 4;
/// The factors by which the crashes multiply the price of Ether.
const CRASHES: [f64; 2] = [0.78, 0.84];
/// The days of a slump, and the factors by which it multiplies the price of Ether on each of them.
const SLUMP_DAYS: u64 = 5;
const SLUMP: (f64, f64) = (0.935, 0.955);
/// The days of a recovery: the fewest, and up to how many more. The factor of each of them.
const RECOVERY_DAYS: (u64, u64) = (8, 14);
const RECOVERY: f64 = 1.02;

/// The price of every market on every day, in dollars, and the interest.
pub(super) struct Prices {
    pub(super) interest: Interest,
    days: Vec<[f64; MARKETS.len()]>,
    oracle_failure_day: usize,
}

/// The prices relative to the first day.
struct PriceLevels {
    ether: f64,
    /// The price of staked Ether relative to Ether.
    staked_ether_discount: f64,
    bitcoin: f64,
    altcoins: [f64; SERIES],
    stablecoins: [f64; SERIES],
}

impl Prices {
    /// Generates the prices from the first day to `days` days later.
    pub(super) fn new(scenario: Scenario, days: u32, interest: Interest, rng: &mut SeededRng) -> Prices {
        let days = days as usize;
        let mut trend = match scenario {
            Scenario::Mixed => Trend::Crashes([days * 2 / 5, days * 3 / 4]),
            Scenario::Credit => Trend::Slumps(Slumps::default()),
        };
        let mut levels = PriceLevels {
            ether: 1.0,
            staked_ether_discount: 1.0,
            bitcoin: 1.0,
            altcoins: [1.0; SERIES],
            stablecoins: [1.0; SERIES],
        };
        let mut prices = Vec::with_capacity(days + 1);
        for day in 0..=days {
            if day > 0 {
                let trend = trend.on(day, rng);
                levels.step(trend, rng);
            }
            prices.push(std::array::from_fn(|index| {
                // Each protocol has its own oracle, so prices differ slightly between the protocols.
                let skew = if MARKETS[index].protocol == 0 { 1.0 } else { rng.between(0.9985, 1.0015) };
                MARKETS[index].start_price * levels.level(&MARKETS[index]) * skew
            }));
        }
        Prices { interest, days: prices, oracle_failure_day: days / 3 }
    }

    /// Returns the true price in dollars per token.
    pub(super) fn usd(&self, day: usize, market: usize) -> f64 {
        self.days.get(day).map_or(0.0, |prices| prices[market])
    }

    /// Returns the price that the subgraph reports: the true price, except on the day on which an oracle fails.
    pub(super) fn reported(&self, day: usize, market: usize) -> String {
        match self.reported_usd(day, market) {
            0.0 => "0".to_owned(),
            price => format!("{price:.18}"),
        }
    }

    /// Returns the price that the oracle of Aave reports, in wei of ETH.
    pub(super) fn reported_wei(&self, day: usize, market: usize) -> u128 {
        (self.reported_usd(day, market) / self.usd(day, ETHER) * 1e18) as u128
    }

    /// Like [`Prices::reported`], as a number.
    pub(super) fn reported_usd(&self, day: usize, market: usize) -> f64 {
        if market == ORACLE_FAILURE && day == self.oracle_failure_day { 0.0 } else { self.usd(day, market) }
    }
}

/// What the price of Ether does besides its random walk.
enum Trend {
    /// Crashes on two days.
    Crashes([usize; 2]),
    Slumps(Slumps),
}

/// Slumps of some days, and a recovery after each.
#[derive(Default)]
struct Slumps {
    days_of_slump: u64,
    days_of_recovery: u64,
    factor: f64,
}

impl Trend {
    /// Returns the factor by which the price of Ether changes on a day.
    fn on(&mut self, day: usize, rng: &mut SeededRng) -> f64 {
        match self {
            Trend::Crashes(days) => days.iter().position(|crash| *crash == day).map_or(1.0, |index| CRASHES[index]),
            Trend::Slumps(slumps) => slumps.next_day(rng),
        }
    }
}

impl Slumps {
    fn next_day(&mut self, rng: &mut SeededRng) -> f64 {
        if self.days_of_slump > 0 {
            self.days_of_slump -= 1;
            return self.factor;
        }
        if self.days_of_recovery == 0 {
            self.days_of_slump = SLUMP_DAYS;
            self.days_of_recovery = RECOVERY_DAYS.0 + rng.below(RECOVERY_DAYS.1);
            self.factor = rng.between(SLUMP.0, SLUMP.1);
            return self.next_day(rng);
        }
        self.days_of_recovery -= 1;
        RECOVERY
    }
}

impl PriceLevels {
    fn step(&mut self, trend: f64, rng: &mut SeededRng) {
        let ether = trend * (1.0 + 0.022 * rng.normal());
        self.ether *= ether;
        self.staked_ether_discount = rng.between(0.985, 1.0);
        self.bitcoin *= 1.0 + 0.75 * (ether - 1.0) + 0.01 * rng.normal();
        for altcoin in &mut self.altcoins {
            *altcoin *= 1.0 + 1.15 * (ether - 1.0) + 0.02 * rng.normal();
        }
        for stablecoin in &mut self.stablecoins {
            *stablecoin = rng.between(0.998, 1.002);
        }
    }

    fn level(&self, market: &Market) -> f64 {
        match market.price_model {
            PriceModel::Ether => self.ether,
            PriceModel::StakedEther => self.ether * self.staked_ether_discount,
            PriceModel::Bitcoin => self.bitcoin,
            PriceModel::Altcoin(index) => self.altcoins[usize::from(index) % SERIES],
            PriceModel::Stablecoin(index) => self.stablecoins[usize::from(index) % SERIES],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Block;

    fn prices(scenario: Scenario, days: u32) -> Prices {
        let interest = Interest::new(&[Block { number: 1, timestamp: 1_672_531_211 }]).unwrap();
        Prices::new(scenario, days, interest, &mut SeededRng::new(0, 1))
    }

    #[test]
    fn prices_are_positive_and_crash_twice() {
        let prices = prices(Scenario::Mixed, 45);
        let mut crashes = 0;
        for day in 1..=45 {
            assert!((0..MARKETS.len()).all(|market| prices.usd(day, market) > 0.0));
            crashes += usize::from(prices.usd(day, 0) < prices.usd(day - 1, 0) * 0.9);
        }
        assert!(crashes >= 2, "{crashes}");
    }

    /// Whatever 30 days a label looks at, prices fall in them. Over the months they neither vanish nor explode.
    #[test]
    fn credit_prices_fall_within_every_month_and_recover() {
        let prices = prices(Scenario::Credit, 210);
        for month in 0..=180 {
            let falls = (month..month + 30 - SLUMP_DAYS as usize)
                .any(|day| prices.usd(day + SLUMP_DAYS as usize, ETHER) < prices.usd(day, ETHER) * 0.9);
            assert!(falls, "from day {month}");
        }
        let (first, last) = (prices.usd(0, ETHER), prices.usd(210, ETHER));
        assert!((0.2..5.0).contains(&(last / first)), "{first} {last}");
    }

    #[test]
    fn ether_price_differs_between_protocols() {
        let prices = prices(Scenario::Mixed, 10);
        for day in 0..=10 {
            let ratio = prices.usd(day, 8) / prices.usd(day, 0);
            assert!(ratio != 1.0 && (0.99..1.01).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn one_oracle_fails_on_one_day() {
        let prices = prices(Scenario::Mixed, 9);
        let failures: Vec<_> = (0..=9)
            .flat_map(|day| (0..MARKETS.len()).map(move |market| (day, market)))
            .filter(|(day, market)| prices.reported(*day, *market) == "0")
            .collect();
        assert_eq!(failures, [(3, ORACLE_FAILURE)]);
    }
}
