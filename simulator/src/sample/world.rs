//! The state of the sample chain, and its days one after the other.

use std::collections::BTreeMap;

use defi_shared::error::Result;
use serde_json::{Value, json};

use super::SampleOptions;
use super::accounts::Account;
use super::calendar::{Calendar, day_name};
use super::dice::Dice;
use super::events::{Draft, EventLog};
use super::prices::Prices;
use super::protocols::{MARKETS, PROTOCOLS};
use super::wallets::{Wallet, people};
use crate::recording::{Recording, Row, Snapshots};

/// Of how many new position rows one has its balance below zero.
const NEGATIVE_EVERY: usize = 1847;
/// How much of an ordinary day's business there is in the first hour of the last day, in thousandths.
const LAST_DAY_SHARE: u64 = 40;

/// Everything there is.
pub(super) struct World {
    days: usize,
    name: String,
    pub(super) calendar: Calendar,
    pub(super) prices: Prices,
    pub(super) wallets: Vec<Wallet>,
    pub(super) accounts: Vec<Account>,
    /// The accounts in the order of their addresses, which is the order of a snapshot.
    by_address: Vec<usize>,
    /// Of each account, whether somebody else acted on it today. Its owner then waits until tomorrow, so that the order
    /// of the events within a day can't matter.
    pub(super) touched: Vec<bool>,
    pub(super) dice: Dice,
    pub(super) drafts: Vec<Draft>,
    log: EventLog,
    rows_made: usize,
}

impl World {
    pub(super) fn new(options: &SampleOptions) -> Result<World> {
        let SampleOptions { wallets, days, seed } = *options;
        let stream = |purpose| Dice::new(seed, purpose);
        let (people, accounts) = people(wallets, days, &mut stream(3));
        let mut by_address: Vec<usize> = (0..accounts.len()).collect();
        by_address.sort_by(|one, other| accounts[*one].address.cmp(&accounts[*other].address));
        Ok(World {
            days: days as usize,
            name: format!("sample-{wallets}-wallets-{days}-days-seed-{seed}"),
            calendar: Calendar::new(days, &mut stream(1))?,
            prices: Prices::new(days, &mut stream(2)),
            wallets: people,
            touched: vec![false; accounts.len()],
            accounts,
            by_address,
            dice: stream(4),
            drafts: Vec::new(),
            log: EventLog::new(stream(5)),
            rows_made: 0,
        })
    }

    /// Lives through all days. A day's snapshot comes before its events: it is the state at the beginning of its first
    /// block.
    pub(super) fn run(mut self) -> Result<Recording> {
        let mut markets = Snapshots::new();
        let mut positions = Snapshots::new();
        for day in 0..=self.days {
            let block = self.calendar.first_blocks[day].number;
            for (index, protocol) in PROTOCOLS.iter().enumerate() {
                let at = |snapshots: &mut Snapshots, rows: Vec<Row>| {
                    let of_protocol: &mut BTreeMap<u64, Vec<Row>> =
                        snapshots.entry(protocol.key.to_owned()).or_default();
                    of_protocol.insert(block, rows);
                };
                at(&mut markets, self.market_rows(index, day));
                at(&mut positions, self.position_rows(index));
            }
            self.live(day)?;
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
        })
    }

    /// One day: liquidations first, then everybody who cares to act, then transfers, which leave no lending event.
    fn live(&mut self, day: usize) -> Result<()> {
        self.touched.fill(false);
        let is_last = day == self.days;
        self.liquidate(day, if is_last { LAST_DAY_SHARE } else { 1000 });
        for index in 0..self.wallets.len() {
            let wallet = self.wallets[index];
            if self.touched[wallet.account] || (is_last && !self.dice.per_mille(LAST_DAY_SHARE)) {
                continue;
            }
            if wallet.joins == day {
                self.join(wallet, day);
            } else if wallet.joins < day && self.dice.per_mille(wallet.activity) {
                self.act(wallet, day);
            }
        }
        self.transfer(day);
        let drafts = std::mem::take(&mut self.drafts);
        self.log.write_day(day, drafts, &self.calendar)
    }

    fn market_rows(&self, protocol: usize, day: usize) -> Vec<Row> {
        let listed = MARKETS.iter().enumerate().filter(|(_, market)| market.protocol == protocol && market.listed);
        let mut rows: Vec<Value> = listed
            .map(|(index, market)| {
                json!({
                    "id": market.id,
                    "name": market.name,
                    "liquidationThreshold": market.threshold.to_string(),
                    "maximumLTV": market.max_ltv.to_string(),
                    "inputTokenPriceUSD": self.prices.told(day, index),
                    "inputToken": {"id": market.token, "symbol": market.symbol, "decimals": market.decimals},
                })
            })
            .collect();
        rows.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        rows.into_iter().map(Row::new).collect()
    }

    fn position_rows(&mut self, protocol: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let made = &mut self.rows_made;
        for index in &self.by_address {
            self.accounts[*index].rows(protocol, &mut rows, |row| {
                *made += 1;
                if *made % NEGATIVE_EVERY == 900
                    && let Some(Value::String(balance)) = row.get_mut("balance")
                {
                    balance.insert(0, '-');
                }
            });
        }
        rows
    }
}
