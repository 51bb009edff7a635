//! Liquidations of the sample chain: liquidators repay debts that are no longer covered by collateral.

use super::accounts::{Moment, Position, units};
use super::events::EventDraft;
use super::protocols::{MARKETS, PROTOCOLS};
use super::wallets::{Wallet, WalletKind};
use super::world::World;

/// The share of a debt that a liquidation may repay.
const CLOSE_FACTOR: f64 = 0.5;
/// The share of unhealthy accounts that are liquidated on a day, in thousandths. The others stay unhealthy until the
/// next day.
const LIQUIDATED_PER_MILLE: u64 = 700;
/// The maximum number of liquidations of an account on a day.
const MAX_LIQUIDATIONS: usize = 2;
/// The debt, in dollars, up to which an account is not liquidated.
const DUST_USD: f64 = 1.0;

impl World {
    /// Liquidates unhealthy accounts at the day's prices, with a probability of `per_mille` in a thousand.
    pub(super) fn liquidate(&mut self, day: usize, per_mille: u64) {
        let liquidators: Vec<Wallet> =
            self.wallets.iter().filter(|wallet| wallet.kind == WalletKind::Liquidator).copied().collect();
        for account in 0..self.accounts.len() {
            for protocol in 0..PROTOCOLS.len() {
                let moment = Moment { prices: &self.prices, day };
                let health = self.accounts[account].health(protocol, moment);
                if health.debt <= DUST_USD || health.risk() <= 1.0 {
                    continue;
                }
                if !self.rng.per_mille(LIQUIDATED_PER_MILLE) || !self.rng.per_mille(per_mille) {
                    continue;
                }
                let Some(liquidator) = self.rng.pick(&liquidators) else { return };
                if liquidator.account != account && liquidator.own != account {
                    self.liquidate_account(account, protocol, liquidator, day);
                }
            }
        }
    }

    fn liquidate_account(&mut self, account: usize, protocol: usize, liquidator: Wallet, day: usize) {
        let mut block = self.rng.below(self.calendar.blocks_of(day) / 2);
        for _ in 0..MAX_LIQUIDATIONS {
            let transaction = self.rng.hex(32);
            let moment = Moment { prices: &self.prices, day };
            if self.accounts[account].health(protocol, moment).risk() <= 1.0 {
                return;
            }
            let Some(seizure) = self.seizure(account, protocol, day) else { return };
            let target = &mut self.accounts[account];
            let seized = target.take(seizure.collateral, false, seizure.seized, moment);
            let repaid = target.take(seizure.debt, true, seizure.repaid, moment);
            self.liquidated_today[account] = true;
            self.drafts.push(EventDraft {
                block,
                transaction,
                category: "liquidation",
                market: seizure.collateral,
                account: self.accounts[account].address.clone(),
                sender: self.accounts[liquidator.own].address.clone(),
                quantity: seized,
                liquidation: Some((self.accounts[liquidator.account].address.clone(), seizure.debt, repaid)),
            });
            block += 1 + self.rng.below(20);
        }
    }

    /// Returns the amounts of a liquidation: half of the largest debt, and as much of the largest collateral plus the
    /// bonus.
    fn seizure(&self, account: usize, protocol: usize, day: usize) -> Option<Seizure> {
        let account = &self.accounts[account];
        let moment = Moment { prices: &self.prices, day };
        let usd = |position: &Position| position.usd(moment);
        let larger = |one: &&Position, other: &&Position| usd(one).total_cmp(&usd(other));
        let debt = account.open(protocol, true).max_by(larger)?;
        let collateral = account
            .open(protocol, false)
            .filter(|position| position.is_collateral && MARKETS[position.market].threshold > 0.0)
            .max_by(larger)?;
        let bonus = 1.0 + PROTOCOLS[protocol].liquidation_bonus;
        let repaid_usd = (usd(debt) * CLOSE_FACTOR).min(usd(collateral) / bonus);
        let seizure = Seizure {
            debt: debt.market,
            repaid: units(debt.market, repaid_usd, moment).min(debt.amount(moment)),
            collateral: collateral.market,
            seized: units(collateral.market, repaid_usd * bonus, moment).min(collateral.amount(moment)),
        };
        (seizure.repaid > 0 && seizure.seized > 0).then_some(seizure)
    }
}

struct Seizure {
    debt: usize,
    repaid: u128,
    collateral: usize,
    seized: u128,
}
