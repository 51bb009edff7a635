//! Prices of the sample chain: a walk with two crashes, since without falling prices nobody is liquidated.

use super::dice::Dice;
use super::protocols::{MARKETS, Market, ORACLE_FAILURE, Walk};

/// How many small coins and how many dollars there are.
const KINDS: usize = 4;
/// What the crashes leave of Ether's price.
const CRASHES: [f64; 2] = [0.78, 0.84];

/// The dollar price of every market on every day.
pub(super) struct Prices {
    days: Vec<[f64; MARKETS.len()]>,
    oracle_failure_day: usize,
}

/// How the prices stand relative to the first day.
struct Levels {
    ether: f64,
    discount: f64,
    bitcoin: f64,
    alts: [f64; KINDS],
    dollars: [f64; KINDS],
}

impl Prices {
    /// Walks from the first day to `days` days later.
    pub(super) fn new(days: u32, dice: &mut Dice) -> Prices {
        let days = days as usize;
        let crash_days = [days * 2 / 5, days * 3 / 4];
        let mut levels = Levels { ether: 1.0, discount: 1.0, bitcoin: 1.0, alts: [1.0; KINDS], dollars: [1.0; KINDS] };
        let mut prices = Vec::with_capacity(days + 1);
        for day in 0..=days {
            if day > 0 {
                let crash = crash_days.iter().position(|crash| *crash == day).map_or(1.0, |index| CRASHES[index]);
                levels.step(crash, dice);
            }
            prices.push(std::array::from_fn(|index| {
                // Each protocol has its own oracle, so one day's prices differ a little between them.
                let skew = if MARKETS[index].protocol == 0 { 1.0 } else { dice.between(0.9985, 1.0015) };
                MARKETS[index].start_price * levels.of(&MARKETS[index]) * skew
            }));
        }
        Prices { days: prices, oracle_failure_day: days / 3 }
    }

    /// Dollars per whole token, as trade goes.
    pub(super) fn usd(&self, day: usize, market: usize) -> f64 {
        self.days.get(day).map_or(0.0, |prices| prices[market])
    }

    /// The price that the subgraph tells: the same, but for a day on which an oracle fails.
    pub(super) fn told(&self, day: usize, market: usize) -> String {
        if market == ORACLE_FAILURE && day == self.oracle_failure_day {
            return "0".to_owned();
        }
        format!("{:.18}", self.usd(day, market))
    }
}

impl Levels {
    fn step(&mut self, crash: f64, dice: &mut Dice) {
        let ether = crash * (1.0 + 0.022 * dice.bell());
        self.ether *= ether;
        self.discount = dice.between(0.985, 1.0);
        self.bitcoin *= 1.0 + 0.75 * (ether - 1.0) + 0.01 * dice.bell();
        for alt in &mut self.alts {
            *alt *= 1.0 + 1.15 * (ether - 1.0) + 0.02 * dice.bell();
        }
        for dollar in &mut self.dollars {
            *dollar = dice.between(0.998, 1.002);
        }
    }

    fn of(&self, market: &Market) -> f64 {
        match market.walk {
            Walk::Ether => self.ether,
            Walk::StakedEther => self.ether * self.discount,
            Walk::Bitcoin => self.bitcoin,
            Walk::Alt(index) => self.alts[usize::from(index) % KINDS],
            Walk::Dollar(index) => self.dollars[usize::from(index) % KINDS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_stay_positive_and_crash_twice() {
        let prices = Prices::new(45, &mut Dice::new(0, 1));
        let mut falls = 0;
        for day in 1..=45 {
            assert!((0..MARKETS.len()).all(|market| prices.usd(day, market) > 0.0));
            falls += usize::from(prices.usd(day, 0) < prices.usd(day - 1, 0) * 0.9);
        }
        assert!(falls >= 2, "{falls}");
    }

    #[test]
    fn ether_differs_a_little_between_the_protocols() {
        let prices = Prices::new(10, &mut Dice::new(0, 1));
        for day in 0..=10 {
            let ratio = prices.usd(day, 8) / prices.usd(day, 0);
            assert!(ratio != 1.0 && (0.99..1.01).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn one_oracle_fails_for_one_day() {
        let prices = Prices::new(9, &mut Dice::new(0, 1));
        let failures: Vec<_> = (0..=9)
            .flat_map(|day| (0..MARKETS.len()).map(move |market| (day, market)))
            .filter(|(day, market)| prices.told(*day, *market) == "0")
            .collect();
        assert_eq!(failures, [(3, ORACLE_FAILURE)]);
    }
}
