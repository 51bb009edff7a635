//! Liquidations of the sample chain: debt that falling collateral no longer covers is repaid by others.

use super::accounts::{Position, units};
use super::events::Draft;
use super::protocols::{MARKETS, PROTOCOLS};
use super::wallets::{Kind, Wallet};
use super::world::World;

/// How much of a debt one liquidation may repay.
const CLOSE_FACTOR: f64 = 0.5;
/// How often an unhealthy account is found on a day, in thousandths. The others stay risky until tomorrow.
const FOUND: u64 = 700;
/// How many liquidations of one account there are on a day, at most.
const ROUNDS: usize = 2;
/// Less than this many dollars of debt is not worth the gas.
const DUST_USD: f64 = 1.0;

impl World {
    /// Liquidates what is unhealthy at the day's prices, in `share` of a thousand cases.
    pub(super) fn liquidate(&mut self, day: usize, share: u64) {
        let liquidators: Vec<Wallet> =
            self.wallets.iter().filter(|wallet| wallet.kind == Kind::Liquidator).copied().collect();
        for account in 0..self.accounts.len() {
            for protocol in 0..PROTOCOLS.len() {
                let health = self.accounts[account].health(protocol, &self.prices, day);
                if health.debt <= DUST_USD || health.risk() <= 1.0 {
                    continue;
                }
                if !self.dice.per_mille(FOUND) || !self.dice.per_mille(share) {
                    continue;
                }
                let Some(liquidator) = self.dice.pick(&liquidators) else { return };
                if liquidator.account != account && liquidator.own != account {
                    self.liquidate_account(account, protocol, liquidator, day);
                }
            }
        }
    }

    fn liquidate_account(&mut self, account: usize, protocol: usize, liquidator: Wallet, day: usize) {
        let mut block = self.dice.below(self.calendar.blocks_of(day) / 2);
        for _ in 0..ROUNDS {
            let transaction = self.dice.hex(32);
            if self.accounts[account].health(protocol, &self.prices, day).risk() <= 1.0 {
                return;
            }
            let Some(seizure) = self.seizure(account, protocol, day) else { return };
            let target = &mut self.accounts[account];
            let seized = target.take(seizure.collateral, false, seizure.seized);
            let repaid = target.take(seizure.debt, true, seizure.repaid);
            self.touched[account] = true;
            self.drafts.push(Draft {
                block,
                transaction,
                category: "liquidation",
                market: seizure.collateral,
                account: self.accounts[account].address.clone(),
                sender: self.accounts[liquidator.own].address.clone(),
                quantity: seized,
                liquidation: Some((self.accounts[liquidator.account].address.clone(), seizure.debt, repaid)),
            });
            block += 1 + self.dice.below(20);
        }
    }

    /// What a liquidator takes: of the largest debt half, for the largest collateral, with the bonus.
    fn seizure(&self, account: usize, protocol: usize, day: usize) -> Option<Seizure> {
        let account = &self.accounts[account];
        let usd = |position: &Position| position.usd(&self.prices, day);
        let larger = |one: &&Position, other: &&Position| usd(one).total_cmp(&usd(other));
        let debt = account.open(protocol, true).max_by(larger)?;
        let collateral = account
            .open(protocol, false)
            .filter(|position| position.is_collateral == Some(true) && MARKETS[position.market].threshold > 0.0)
            .max_by(larger)?;
        let bonus = 1.0 + PROTOCOLS[protocol].liquidation_bonus;
        let repaid_usd = (usd(debt) * CLOSE_FACTOR).min(usd(collateral) / bonus);
        let seizure = Seizure {
            debt: debt.market,
            repaid: units(debt.market, repaid_usd, &self.prices, day).min(debt.amount),
            collateral: collateral.market,
            seized: units(collateral.market, repaid_usd * bonus, &self.prices, day).min(collateral.amount),
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
