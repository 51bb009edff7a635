//! The borrowers of the credit scenario. What becomes of their debts follows from how careful they are. No column says that, but
//! each shows a little of it: how often a wallet acts, what it repays, how much it borrows at once, how near it came to a
//! liquidation, and what it did after one.

use super::accounts::{Health, units};
use super::actions::{MIN_USD, Transaction};
use super::protocols::{MARKETS, PriceModel, VOLATILE};
use super::wallets::{Habits, WalletKind};
use super::world::World;

/// How far above its target a borrower lets its risk grow while it looks, and how far below it brings the risk then.
const TOLERANCE: f64 = 0.02;
const BUFFER: f64 = 0.06;
/// The share of liquidated borrowers who are careful from then on, in thousandths; their target, and their attention.
const LEARNING_PER_MILLE: u64 = 750;
const LEARNED_RISK: f64 = 0.65;
const LEARNED_ATTENTION: u64 = 900;
/// The probability, on a day, that a borrower who lost its collateral comes back with some, in thousandths.
const RETURN_PER_MILLE: u64 = 50;

impl World {
    /// Simulates a day of a borrower: it brings back a risk that has grown too much, or else does sometimes what it is used to.
    pub(super) fn follow_habits(&mut self, tx: &Transaction, habits: Habits) {
        let Habits { care, attention } = habits;
        let health = self.health(tx);
        if health.weighted_collateral < MIN_USD {
            if self.rng.per_mille(RETURN_PER_MILLE) {
                self.add_collateral(tx, habits, 0.1, 0.3);
            }
        } else if health.risk() > tx.wallet.target_risk + TOLERANCE && self.rng.per_mille(attention) {
            self.reduce_risk(tx, habits, &health);
        } else if self.rng.per_mille(60 + care / 5) {
            // The more careful a borrower is, the more of the draws are repayments.
            match self.rng.below(1000).saturating_sub(care / 2) {
                0..50 => self.repay(tx),
                50..170 => self.add_collateral(tx, habits, 0.05, 0.2),
                170..210 => self.withdraw_surplus(tx),
                _ => {
                    let share = self.rng.between(0.8 - 0.0007 * care as f64, 1.0);
                    self.borrow_towards(tx, share);
                }
            }
        }
    }

    /// After a liquidation, most borrowers are careful.
    pub(super) fn learn(&mut self, wallet: usize) {
        let wallet = &mut self.wallets[wallet];
        if let WalletKind::Habitual(habits) = &mut wallet.kind
            && self.rng.per_mille(LEARNING_PER_MILLE)
        {
            habits.attention = LEARNED_ATTENTION;
            wallet.target_risk = wallet.target_risk.min(LEARNED_RISK);
        }
    }

    /// Supplies a share of the wallet's assets in the market that it has chosen before. The less careful a borrower is, the more
    /// likely it chooses an altcoin, whose price falls more.
    pub(super) fn add_collateral(&mut self, tx: &Transaction, habits: Habits, low: f64, high: f64) {
        let share = self.rng.between(low, high);
        if let Some(market) = self.collateral(tx, habits) {
            self.supply(tx, market, tx.wallet.wealth * share);
        }
    }

    fn collateral(&mut self, tx: &Transaction, habits: Habits) -> Option<usize> {
        if let Some((market, _)) = self.open(tx, false).first() {
            return Some(*market);
        }
        let wants_altcoin = self.rng.per_mille((1000 - habits.care) * 7 / 10);
        let is_altcoin = |market: usize| matches!(MARKETS[market].price_model, PriceModel::Altcoin(_));
        let mut markets = VOLATILE[tx.protocol].to_vec();
        markets.retain(|market| is_altcoin(*market) == wants_altcoin);
        self.rng.pick(&markets)
    }

    /// Repays as much of the largest debt, or supplies as much collateral, as brings the risk below the target.
    fn reduce_risk(&mut self, tx: &Transaction, habits: Habits, health: &Health) {
        let target = tx.wallet.target_risk - BUFFER;
        let excess = health.debt - health.weighted_collateral * target;
        if self.rng.per_mille(600) {
            let moment = self.moment(tx);
            let debts = self.accounts[tx.wallet.account].open(tx.protocol, true);
            let largest = debts.max_by(|one, other| one.usd(moment).total_cmp(&other.usd(moment)));
            if let Some((market, amount)) = largest.map(|debt| (debt.market, debt.amount(moment))) {
                self.record(tx, "repay", market, units(market, excess, moment).min(amount));
            }
        } else if let Some(market) = self.collateral(tx, habits) {
            self.supply(tx, market, excess / (target * MARKETS[market].threshold / 100.0));
        }
    }
}
