//! What the wallets of the sample chain do on a day.

use super::accounts::{Health, Position, units};
use super::events::Draft;
use super::protocols::{BORROWED, MARKETS, SAVINGS, UNLISTED, VOLATILE};
use super::wallets::{Kind, Wallet};
use super::world::World;

/// Less than this many dollars is not worth the gas.
const DUST_USD: f64 = 5.0;
/// Above this risk people do something about it, if they look.
const WORRY: f64 = 0.92;
/// How often a day's business is in the very first block, in thousandths: the edge between two days must be met.
const FIRST_BLOCK: u64 = 6;
/// How often a saver supplies the token that has no price, in thousandths.
const UNPRICED: u64 = 12;

/// One transaction of one wallet.
struct Transaction {
    wallet: Wallet,
    protocol: usize,
    day: usize,
    block: u64,
    hash: String,
}

impl World {
    /// The first thing that a wallet does.
    pub(super) fn join(&mut self, wallet: Wallet, day: usize) {
        let tx = self.begin(wallet, wallet.protocol, day);
        match wallet.kind {
            Kind::Liquidator => {}
            Kind::Lender => self.save(&tx, 0.3, 0.8),
            Kind::Looper => {
                let Some(market) = self.dice.pick(VOLATILE[tx.protocol]) else { return };
                self.supply(&tx, market, wallet.wealth * 0.6);
                for _ in 0..3 {
                    let borrowed = self.borrow_towards(&tx, 1.0);
                    self.supply(&tx, market, borrowed);
                }
            }
            Kind::Borrower | Kind::ProxyUser | Kind::Dormant | Kind::LateJoiner => {
                let Some(market) = self.dice.pick(VOLATILE[tx.protocol]) else { return };
                let share = self.dice.between(0.3, 0.8);
                self.supply(&tx, market, wallet.wealth * share);
                let share = self.dice.between(0.6, 1.0);
                self.borrow_towards(&tx, share);
            }
        }
    }

    /// What a wallet does on a later day.
    pub(super) fn act(&mut self, wallet: Wallet, day: usize) {
        let elsewhere = wallet.uses_both_protocols && self.dice.per_mille(300);
        let protocol = if elsewhere { 1 - wallet.protocol } else { wallet.protocol };
        let tx = self.begin(wallet, protocol, day);
        match wallet.kind {
            Kind::Liquidator | Kind::Dormant => {}
            Kind::Lender if self.dice.per_mille(600) => self.save(&tx, 0.05, 0.2),
            Kind::Lender => self.withdraw_savings(&tx),
            _ => self.manage_debt(&tx),
        }
    }

    /// Now and then somebody sends a part of a supply to somebody else. The receiver's position is then there without a
    /// deposit, and the subgraph does not know whether it is collateral.
    pub(super) fn transfer(&mut self, day: usize) {
        if !self.dice.per_mille(200) {
            return;
        }
        let wallets = self.wallets.len() as u64;
        let (from, to) = (self.dice.below(wallets) as usize, self.dice.below(wallets) as usize);
        let (from, to) = (self.wallets[from], self.wallets[to]);
        // A receiver that holds such a position already would keep its flag.
        let supply = self.accounts[from.account].open(from.protocol, false).next();
        let Some((market, amount)) = supply.map(|position| (position.market, position.amount / 5)) else { return };
        let receiver = &self.accounts[to.own];
        let knows = receiver.positions.iter().any(|position| position.market == market && !position.is_debt);
        if from.kind == Kind::Lender && to.joins < day && !knows && from.account != to.own && amount > 0 {
            let sent = self.accounts[from.account].take(market, false, amount);
            self.accounts[to.own].add(market, false, sent, None);
        }
    }

    fn begin(&mut self, wallet: Wallet, protocol: usize, day: usize) -> Transaction {
        let in_first_block = self.dice.per_mille(FIRST_BLOCK);
        let block = if in_first_block { 0 } else { self.dice.below(self.calendar.blocks_of(day)) };
        Transaction { wallet, protocol, day, block, hash: self.dice.hex(32) }
    }

    fn manage_debt(&mut self, tx: &Transaction) {
        let risk = self.health(tx).risk();
        if risk > WORRY && self.dice.per_mille(600) {
            self.repay(tx);
            return;
        }
        match self.dice.below(10) {
            0..4 => {
                let Some(market) = self.dice.pick(VOLATILE[tx.protocol]) else { return };
                let share = self.dice.between(0.05, 0.2);
                self.supply(tx, market, tx.wallet.wealth * share);
            }
            4..7 => {
                let share = self.dice.between(0.3, 1.0);
                self.borrow_towards(tx, share);
            }
            7..9 => self.repay(tx),
            _ => self.withdraw_surplus(tx),
        }
    }

    fn save(&mut self, tx: &Transaction, low: f64, high: f64) {
        let unpriced = tx.protocol == 0 && self.dice.per_mille(UNPRICED);
        let market = if unpriced { Some(UNLISTED) } else { self.dice.pick(SAVINGS[tx.protocol]) };
        let share = self.dice.between(low, high);
        if let Some(market) = market {
            self.supply(tx, market, tx.wallet.wealth * share);
        }
    }

    fn withdraw_savings(&mut self, tx: &Transaction) {
        let supplies = self.open(tx, false);
        let Some((market, amount)) = self.dice.pick(&supplies) else { return };
        let part = self.dice.below(4);
        let amount = if part == 3 { amount } else { amount / 4 * u128::from(part + 1) };
        self.record(tx, "withdraw", market, amount);
    }

    /// Withdraws what the debt does not need, so that the risk stays at the target.
    fn withdraw_surplus(&mut self, tx: &Transaction) {
        let health = self.health(tx);
        let supplies = self.open(tx, false);
        let Some((market, amount)) = self.dice.pick(&supplies) else { return };
        let surplus = health.weighted - health.debt / tx.wallet.target;
        let weight = MARKETS[market].threshold / 100.0;
        if surplus > 0.0 && weight > 0.0 {
            let wanted = units(market, surplus / weight * 0.5, &self.prices, tx.day);
            self.record(tx, "withdraw", market, wanted.min(amount));
        }
    }

    fn supply(&mut self, tx: &Transaction, market: usize, usd: f64) {
        if usd >= DUST_USD {
            let amount = units(market, usd, &self.prices, tx.day);
            self.record(tx, "deposit", market, amount);
        }
    }

    /// Borrows so much of what is missing to the risk that the wallet is content with; tells how many dollars.
    fn borrow_towards(&mut self, tx: &Transaction, share: f64) -> f64 {
        let Health { weighted, power, debt } = self.health(tx);
        let usd = (weighted * tx.wallet.target - debt).min(power - debt) * share;
        let market = self.dice.pick(BORROWED[tx.protocol]);
        match market {
            Some(market) if usd >= DUST_USD => {
                let amount = units(market, usd, &self.prices, tx.day);
                self.record(tx, "borrow", market, amount);
                usd
            }
            _ => 0.0,
        }
    }

    fn repay(&mut self, tx: &Transaction) {
        let debts = self.open(tx, true);
        let Some((market, amount)) = self.dice.pick(&debts) else { return };
        let part = self.dice.below(4);
        let amount = if part == 3 { amount } else { amount / 5 * u128::from(part + 1) };
        self.record(tx, "repay", market, amount);
    }

    fn health(&self, tx: &Transaction) -> Health {
        self.accounts[tx.wallet.account].health(tx.protocol, &self.prices, tx.day)
    }

    fn open(&self, tx: &Transaction, is_debt: bool) -> Vec<(usize, u128)> {
        let pair = |position: &Position| (position.market, position.amount);
        self.accounts[tx.wallet.account].open(tx.protocol, is_debt).map(pair).collect()
    }

    /// Changes the position, and notes the event that says so: the one place where both are kept the same.
    fn record(&mut self, tx: &Transaction, category: &'static str, market: usize, amount: u128) {
        if amount == 0 {
            return;
        }
        // Some savers do not want their deposit to be collateral.
        let enabled = MARKETS[market].threshold > 0.0 && (tx.wallet.kind != Kind::Lender || self.dice.per_mille(700));
        let account = &mut self.accounts[tx.wallet.account];
        match category {
            "deposit" => account.add(market, false, amount, Some(enabled)),
            "borrow" => account.add(market, true, amount, None),
            other => {
                account.take(market, other == "repay", amount);
            }
        }
        let address = account.address.clone();
        self.drafts.push(Draft {
            block: tx.block,
            transaction: tx.hash.clone(),
            category,
            market,
            account: address,
            sender: self.accounts[tx.wallet.own].address.clone(),
            quantity: amount,
            liquidation: None,
        });
    }
}
