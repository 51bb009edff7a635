//! The state of the sample chain and its simulation, day by day.

use std::collections::BTreeMap;

use defi_shared::error::Result;
use serde_json::{Value, json};

use super::SampleOptions;
use super::accounts::{Account, scale};
use super::calendar::{Calendar, day_name};
use super::events::{EventDraft, EventLog};
use super::prices::Prices;
use super::protocols::{MARKETS, PROTOCOLS};
use super::rng::SeededRng;
use super::wallets::{Wallet, create_wallets};
use crate::recording::{Recording, Row, Snapshots};

/// The interval, in new position rows, of negative balances.
const NEGATIVE_EVERY: usize = 1847;
/// The activity in the first hour of the last day relative to a complete day, in thousandths.
const LAST_DAY_PER_MILLE: u64 = 40;

/// The state of the simulation.
pub(super) struct World {
    days: usize,
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
    pub(super) fn new(options: &SampleOptions) -> Result<World> {
        let SampleOptions { wallets, days, seed } = *options;
        let stream = |purpose| SeededRng::new(seed, purpose);
        let (wallet_list, accounts) = create_wallets(wallets, days, &mut stream(3));
        let mut by_address: Vec<usize> = (0..accounts.len()).collect();
        by_address.sort_by(|one, other| accounts[*one].address.cmp(&accounts[*other].address));
        Ok(World {
            days: days as usize,
            name: format!("sample-{wallets}-wallets-{days}-days-seed-{seed}"),
            calendar: Calendar::new(days, &mut stream(1))?,
            prices: Prices::new(days, &mut stream(2)),
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
                insert(&mut positions, self.position_rows(index));
            }
            self.simulate_day(day)?;
        }
        Ok(Recording {
            name: self.name,
            protocols: PROTOCOLS.iter().map(|protocol| protocol.key.to_owned()).collect(),
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
            if self.liquidated_today[wallet.account] || (is_last && !self.rng.per_mille(LAST_DAY_PER_MILLE)) {
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
    fn totals(&self) -> [[u128; 2]; MARKETS.len()] {
        let mut totals = [[0; 2]; MARKETS.len()];
        for position in self.accounts.iter().flat_map(|account| &account.positions) {
            totals[position.market][usize::from(position.is_debt)] += position.amount;
        }
        totals
    }

    fn market_rows(&self, protocol: usize, day: usize) -> Vec<Row> {
        let totals = self.totals();
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

    fn position_rows(&mut self, protocol: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let row_count = &mut self.row_count;
        for index in &self.by_address {
            self.accounts[*index].rows(protocol, &mut rows, |row| {
                *row_count += 1;
                if *row_count % NEGATIVE_EVERY == 900
                    && let Some(Value::String(balance)) = row.get_mut("balance")
                {
                    balance.insert(0, '-');
                }
            });
        }
        rows
    }
}
