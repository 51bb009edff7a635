//! The actions of the wallets of the sample chain.

use super::accounts::{Health, Moment, Opening, Position, units};
use super::events::EventDraft;
use super::protocols::{BORROWED, MARKETS, SAVINGS, UNLISTED, VOLATILE};
use super::wallets::{Wallet, WalletKind};
use super::world::World;

/// The minimum amount of a deposit or borrow, in dollars.
pub(super) const MIN_USD: f64 = 5.0;
/// The risk above which an active wallet is likely to repay.
const REPAY_RISK: f64 = 0.92;
/// The share of transactions in the first block of a day, in thousandths, so that the boundary between days is tested.
const FIRST_BLOCK_PER_MILLE: u64 = 6;
/// The share of lender deposits in the token without a price, in thousandths.
const UNPRICED_PER_MILLE: u64 = 12;

/// A transaction of a wallet.
pub(super) struct Transaction {
    pub(super) wallet: Wallet,
    pub(super) protocol: usize,
    day: usize,
    block: u64,
    hash: String,
}

impl World {
    /// Simulates the first action of a wallet.
    pub(super) fn join(&mut self, wallet: Wallet, day: usize) {
        let tx = self.new_transaction(wallet, wallet.protocol, day);
        match wallet.kind {
            WalletKind::Liquidator => {}
            WalletKind::Lender => self.deposit_savings(&tx, 0.3, 0.8),
            WalletKind::Habitual(habits) => self.add_collateral(&tx, habits, 0.3, 0.8),
            WalletKind::Looper => {
                let Some(market) = self.rng.pick(VOLATILE[tx.protocol]) else { return };
                self.supply(&tx, market, wallet.wealth * 0.6);
                for _ in 0..3 {
                    let borrowed = self.borrow_towards(&tx, 1.0);
                    self.supply(&tx, market, borrowed);
                }
            }
            WalletKind::Borrower | WalletKind::ProxyUser | WalletKind::Dormant | WalletKind::LateJoiner => {
                let Some(market) = self.rng.pick(VOLATILE[tx.protocol]) else { return };
                let share = self.rng.between(0.3, 0.8);
                self.supply(&tx, market, wallet.wealth * share);
                let share = self.rng.between(0.6, 1.0);
                self.borrow_towards(&tx, share);
            }
        }
    }

    /// Simulates an action of a wallet on a later day.
    pub(super) fn act(&mut self, wallet: Wallet, day: usize) {
        let other_protocol = wallet.uses_both_protocols && self.rng.per_mille(300);
        let protocol = if other_protocol { 1 - wallet.protocol } else { wallet.protocol };
        let tx = self.new_transaction(wallet, protocol, day);
        match wallet.kind {
            WalletKind::Liquidator | WalletKind::Dormant => {}
            WalletKind::Lender if self.rng.per_mille(600) => self.deposit_savings(&tx, 0.05, 0.2),
            WalletKind::Lender => self.withdraw_savings(&tx),
            WalletKind::Habitual(habits) => self.follow_habits(&tx, habits),
            _ => self.manage_debt(&tx),
        }
    }

    /// On some days, transfers a part of a supply to another wallet. The receiver has a position without a deposit, and
    /// the subgraph does not know whether it is collateral.
    pub(super) fn transfer(&mut self, day: usize) {
        if !self.rng.per_mille(200) {
            return;
        }
        let wallets = self.wallets.len() as u64;
        let (from, to) = (self.rng.below(wallets) as usize, self.rng.below(wallets) as usize);
        let (from, to) = (self.wallets[from], self.wallets[to]);
        // A receiver that already has such a position is skipped, because it would keep its collateral flag.
        let supply = self.accounts[from.account].open(from.protocol, false).next();
        let moment = Moment { prices: &self.prices, day };
        let Some((market, amount)) = supply.map(|position| (position.market, position.amount(moment) / 5)) else {
            return;
        };
        let receiver = &self.accounts[to.own];
        let has_position = receiver.positions.iter().any(|position| position.market == market && !position.is_debt);
        if from.kind == WalletKind::Lender
            && to.first_day < day
            && !has_position
            && from.account != to.own
            && amount > 0
        {
            let sent = self.accounts[from.account].take(market, false, amount, moment);
            self.accounts[to.own].add(market, sent, Opening::Transfer, moment);
        }
    }

    fn new_transaction(&mut self, wallet: Wallet, protocol: usize, day: usize) -> Transaction {
        let in_first_block = self.rng.per_mille(FIRST_BLOCK_PER_MILLE);
        let block = if in_first_block { 0 } else { self.rng.below(self.calendar.blocks_of(day)) };
        Transaction { wallet, protocol, day, block, hash: self.rng.hex(32) }
    }

    fn manage_debt(&mut self, tx: &Transaction) {
        let risk = self.health(tx).risk();
        if risk > REPAY_RISK && self.rng.per_mille(600) {
            self.repay(tx);
            return;
        }
        match self.rng.below(10) {
            0..4 => {
                let Some(market) = self.rng.pick(VOLATILE[tx.protocol]) else { return };
                let share = self.rng.between(0.05, 0.2);
                self.supply(tx, market, tx.wallet.wealth * share);
            }
            4..7 => {
                let share = self.rng.between(0.3, 1.0);
                self.borrow_towards(tx, share);
            }
            7..9 => self.repay(tx),
            _ => self.withdraw_surplus(tx),
        }
    }

    fn deposit_savings(&mut self, tx: &Transaction, low: f64, high: f64) {
        let unpriced = tx.protocol == 0 && self.rng.per_mille(UNPRICED_PER_MILLE);
        let market = if unpriced { Some(UNLISTED) } else { self.rng.pick(SAVINGS[tx.protocol]) };
        let share = self.rng.between(low, high);
        if let Some(market) = market {
            self.supply(tx, market, tx.wallet.wealth * share);
        }
    }

    fn withdraw_savings(&mut self, tx: &Transaction) {
        let supplies = self.open(tx, false);
        let Some((market, amount)) = self.rng.pick(&supplies) else { return };
        let part = self.rng.below(4);
        let amount = if part == 3 { amount } else { amount / 4 * u128::from(part + 1) };
        self.record(tx, "withdraw", market, amount);
    }

    /// Withdraws half of the collateral that the debt does not need at the wallet's target risk.
    pub(super) fn withdraw_surplus(&mut self, tx: &Transaction) {
        let health = self.health(tx);
        let supplies = self.open(tx, false);
        let Some((market, amount)) = self.rng.pick(&supplies) else { return };
        let surplus = health.weighted_collateral - health.debt / tx.wallet.target_risk;
        let weight = MARKETS[market].threshold / 100.0;
        if surplus > 0.0 && weight > 0.0 {
            let spare = units(market, surplus / weight * 0.5, self.moment(tx));
            self.record(tx, "withdraw", market, spare.min(amount));
        }
    }

    pub(super) fn supply(&mut self, tx: &Transaction, market: usize, usd: f64) {
        if usd >= MIN_USD {
            let amount = units(market, usd, self.moment(tx));
            self.record(tx, "deposit", market, amount);
        }
    }

    /// Borrows a share of the amount that would bring the risk to the wallet's target. Returns the amount in dollars.
    pub(super) fn borrow_towards(&mut self, tx: &Transaction, share: f64) -> f64 {
        let Health { weighted_collateral, borrowing_power, debt } = self.health(tx);
        let usd = (weighted_collateral * tx.wallet.target_risk - debt).min(borrowing_power - debt) * share;
        let market = self.rng.pick(BORROWED[tx.protocol]);
        match market {
            Some(market) if usd >= MIN_USD => {
                let amount = units(market, usd, self.moment(tx));
                self.record(tx, "borrow", market, amount);
                usd
            }
            _ => 0.0,
        }
    }

    pub(super) fn repay(&mut self, tx: &Transaction) {
        let debts = self.open(tx, true);
        let Some((market, amount)) = self.rng.pick(&debts) else { return };
        let part = self.rng.below(4);
        let amount = if part == 3 { amount } else { amount / 5 * u128::from(part + 1) };
        self.record(tx, "repay", market, amount);
    }

    pub(super) fn health(&self, tx: &Transaction) -> Health {
        self.accounts[tx.wallet.account].health(tx.protocol, self.moment(tx))
    }

    pub(super) fn moment(&self, tx: &Transaction) -> Moment<'_> {
        Moment { prices: &self.prices, day: tx.day }
    }

    pub(super) fn open(&self, tx: &Transaction, is_debt: bool) -> Vec<(usize, u128)> {
        let pair = |position: &Position| (position.market, position.amount(self.moment(tx)));
        self.accounts[tx.wallet.account].open(tx.protocol, is_debt).map(pair).collect()
    }

    /// Changes a position and records the event. All actions use it, so that positions and events are consistent.
    pub(super) fn record(&mut self, tx: &Transaction, category: &'static str, market: usize, amount: u128) {
        if amount == 0 {
            return;
        }
        // Some lenders do not enable their deposit as collateral.
        let enabled =
            MARKETS[market].threshold > 0.0 && (tx.wallet.kind != WalletKind::Lender || self.rng.per_mille(700));
        let moment = Moment { prices: &self.prices, day: tx.day };
        let account = &mut self.accounts[tx.wallet.account];
        match category {
            "deposit" => account.add(market, amount, Opening::Deposit(enabled), moment),
            "borrow" => account.add(market, amount, Opening::Borrow, moment),
            other => {
                account.take(market, other == "repay", amount, moment);
            }
        }
        let address = account.address.clone();
        self.drafts.push(EventDraft {
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
