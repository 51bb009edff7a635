//! The state of the sample chain and its simulation, day by day.

use std::collections::BTreeMap;

use defi_shared::config::Schema;
use defi_shared::contracts::U256;
use defi_shared::domain::replay::RAY;
use defi_shared::error::Result;
use serde_json::{Value, json};

use super::SampleOptions;
use super::accounts::{Account, Moment, Position, scale};
use super::calendar::{Calendar, day_name};
use super::events::{EventDraft, EventLog};
use super::interest::{Interest, MarketIndexes};
use super::prices::Prices;
use super::protocols::{AAVE, AAVE_POOL, MARKETS, PROTOCOLS};
use super::rng::SeededRng;
use super::wallets::{Wallet, create_wallets};
use crate::recording::{Recording, Row, Snapshots};

/// The interval, in new position rows of Compound, of negative balances.
const NEGATIVE_EVERY: usize = 947;
/// The supplies of a market of Aave are so many times what was minted to the pool's treasury.
const TREASURY_PART: u128 = 20;
/// The activity in the first hour of the last day relative to a complete day, in thousandths.
const LAST_DAY_PER_MILLE: u64 = 40;

/// The state of the simulation.
pub(super) struct World {
    days: usize,
    /// The schema of Aave's rows.
    aave: Schema,
    name: String,
    pub(super) calendar: Calendar,
    pub(super) prices: Prices,
    pub(super) wallets: Vec<Wallet>,
    pub(super) accounts: Vec<Account>,
    /// The accounts sorted by address, which is the order of a snapshot.
    by_address: Vec<usize>,
    /// Whether each account was liquidated on the current day. Its owner does not act on that day, so that the order of
    /// the events within the day does not matter.
    pub(super) liquidated_today: Vec<bool>,
    pub(super) rng: SeededRng,
    pub(super) drafts: Vec<EventDraft>,
    log: EventLog,
    row_count: usize,
}

impl World {
    pub(super) fn new(options: &SampleOptions, aave: Schema) -> Result<World> {
        let SampleOptions { scenario, days, seed, .. } = *options;
        let stream = |purpose| SeededRng::new(seed, purpose);
        let (wallet_list, accounts) = create_wallets(options, &mut stream(3));
        let mut by_address: Vec<usize> = (0..accounts.len()).collect();
        by_address.sort_by(|one, other| accounts[*one].address.cmp(&accounts[*other].address));
        let calendar = Calendar::new(days, &mut stream(1))?;
        let interest = Interest::new(&calendar.first_blocks)?;
        Ok(World {
            days: days as usize,
            aave,
            name: options.to_string(),
            calendar,
            prices: Prices::new(scenario, days, interest, &mut stream(2)),
            wallets: wallet_list,
            liquidated_today: vec![false; accounts.len()],
            accounts,
            by_address,
            rng: stream(4),
            drafts: Vec::new(),
            log: EventLog::new(stream(5)),
            row_count: 0,
        })
    }

    /// Simulates all days. The snapshot of a day is taken before its events, because it is the state at the first
    /// block.
    pub(super) fn run(mut self) -> Result<Recording> {
        let mut markets = Snapshots::new();
        let mut positions = Snapshots::new();
        for day in 0..=self.days {
            let block = self.calendar.first_blocks[day].number;
            for (index, protocol) in PROTOCOLS.iter().enumerate() {
                let insert = |snapshots: &mut Snapshots, rows: Vec<Row>| {
                    let of_protocol: &mut BTreeMap<u64, Vec<Row>> =
                        snapshots.entry(protocol.key.to_owned()).or_default();
                    of_protocol.insert(block, rows);
                };
                insert(&mut markets, self.market_rows(index, day));
                insert(&mut positions, self.position_rows(index, day));
            }
            self.simulate_day(day)?;
        }
        Ok(Recording {
            name: self.name,
            protocols: PROTOCOLS.iter().map(|protocol| protocol.key.to_owned()).collect(),
            schemas: BTreeMap::from([(PROTOCOLS[AAVE].key.to_owned(), self.aave)]),
            first_day: day_name(0)?,
            last_day: day_name(self.days as u32)?,
            blocks: self.calendar.first_blocks,
            events: self.log.into_rows(),
            markets,
            positions,
            left_out: Vec::new(),
        })
    }

    /// Simulates a day: first liquidations, then the actions of wallets, then transfers, which emit no lending event.
    fn simulate_day(&mut self, day: usize) -> Result<()> {
        self.liquidated_today.fill(false);
        let is_last = day == self.days;
        self.liquidate(day, if is_last { LAST_DAY_PER_MILLE } else { 1000 });
        for index in 0..self.wallets.len() {
            let wallet = self.wallets[index];
            if self.liquidated_today[wallet.account] {
                self.learn(index);
                continue;
            }
            if is_last && !self.rng.per_mille(LAST_DAY_PER_MILLE) {
                continue;
            }
            if wallet.first_day == day {
                self.join(wallet, day);
            } else if wallet.first_day < day && self.rng.per_mille(wallet.activity_per_mille) {
                self.act(wallet, day);
            }
        }
        self.transfer(day);
        let drafts = std::mem::take(&mut self.drafts);
        self.log.write_day(day, drafts, &self.calendar)
    }

    /// Returns the supplies and the debts in each market, in base units.
    fn totals(&self, amount: impl Fn(&Position) -> u128) -> [[u128; 2]; MARKETS.len()] {
        let mut totals = [[0; 2]; MARKETS.len()];
        for position in self.accounts.iter().flat_map(|account| &account.positions) {
            totals[position.market][usize::from(position.is_debt)] += amount(position);
        }
        totals
    }

    fn market_rows(&self, protocol: usize, day: usize) -> Vec<Row> {
        if protocol == AAVE && self.aave == Schema::Aave {
            return self.reserve_rows(day);
        }
        let moment = Moment { prices: &self.prices, day };
        let totals = self.totals(|position| position.amount(moment));
        let total_usd = |market: usize, total: u128| {
            format!("{:.18}", total as f64 / scale(market) * self.prices.reported_usd(day, market))
        };
        let listed = MARKETS.iter().enumerate().filter(|(_, market)| market.protocol == protocol && market.listed);
        let mut rows: Vec<Value> = listed
            .map(|(index, market)| {
                json!({
                    "id": market.id,
                    "name": market.name,
                    "liquidationThreshold": market.threshold.to_string(),
                    "maximumLTV": market.max_ltv.to_string(),
                    "inputTokenPriceUSD": self.prices.reported(day, index),
                    "totalDepositBalanceUSD": total_usd(index, totals[index][0]),
                    "totalBorrowBalanceUSD": total_usd(index, totals[index][1]),
                    "inputToken": {"id": market.token, "symbol": market.symbol, "decimals": market.decimals},
                })
            })
            .collect();
        rows.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        rows.into_iter().map(Row::new).collect()
    }

    /// Returns the markets of Aave in its own schema.
    fn reserve_rows(&self, day: usize) -> Vec<Row> {
        let totals = self.totals(|position| position.scaled);
        let markets = MARKETS.iter().enumerate().filter(|(_, market)| market.protocol == AAVE);
        let mut rows: Vec<Value> = markets
            .map(|(index, market)| {
                let MarketIndexes { stored_at, stored, .. } = self.prices.interest.market(day, index);
                let basis_points = |percent: f64| ((percent * 100.0) as u64).to_string();
                // The part of the supplies that the treasury has: minted at an index of 1, so that it has grown since.
                let [scaled_supply, _] = totals[index];
                let treasury = scaled_supply / TREASURY_PART;
                let supply = stored.income.0 * U256::from(scaled_supply + treasury) / RAY;
                let price = if market.listed { self.prices.reported_wei(day, index) } else { 0 };
                json!({
                    "id": format!("{}{AAVE_POOL}", market.token),
                    "underlyingAsset": market.token,
                    "pool": {"id": AAVE_POOL},
                    "symbol": market.symbol,
                    "name": market.name,
                    "decimals": market.decimals,
                    "usageAsCollateralEnabled": market.threshold > 0.0,
                    "baseLTVasCollateral": basis_points(market.max_ltv),
                    "reserveLiquidationThreshold": basis_points(market.threshold),
                    "liquidityIndex": stored.income.0.to_string(),
                    "liquidityRate": stored.income.1.to_string(),
                    "variableBorrowIndex": stored.variable_debt.0.to_string(),
                    "variableBorrowRate": stored.variable_debt.1.to_string(),
                    "totalScaledVariableDebt": totals[index][1].to_string(),
                    "totalATokenSupply": supply.to_string(),
                    "lifetimeReserveFactorAccrued": treasury.to_string(),
                    "lastUpdateTimestamp": stored_at,
                    "price": {"id": market.token, "priceInEth": price.to_string(), "lastUpdateTimestamp": stored_at},
                    "aToken": {"id": market.id},
                })
            })
            .collect();
        rows.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        rows.into_iter().map(Row::new).collect()
    }

    fn position_rows(&mut self, protocol: usize, day: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let row_count = &mut self.row_count;
        let moment = Moment { prices: &self.prices, day };
        for index in &self.by_address {
            if protocol == AAVE && self.aave == Schema::Aave {
                self.accounts[*index].user_reserves(&mut rows);
                continue;
            }
            self.accounts[*index].rows(protocol, moment, &mut rows, |row| {
                if protocol == AAVE {
                    return;
                }
                *row_count += 1;
                if *row_count % NEGATIVE_EVERY == 450
                    && let Some(Value::String(balance)) = row.get_mut("balance")
                {
                    balance.insert(0, '-');
                }
            });
        }
        rows
    }
}
