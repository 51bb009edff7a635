//! The fold: a wallet's state of day D is its state of day D−1 and what happened since. Everything in a feature row is a sum,
//! count, minimum, maximum or set over days, so nothing else has to be kept.

use std::sync::Arc;

use super::health::RISK_THRESHOLD;
use super::wallets::Wallets;
use super::{Address, Category, Day, Links};

/// Count and amounts of one category of a wallet's events.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flow {
    /// Events.
    pub count: i64,
    /// Those of them with a price.
    pub priced: i64,
    /// Sum of the priced ones, in ETH.
    pub sum_eth: f64,
}

impl Flow {
    fn add(&mut self, quantity_eth: Option<f64>) {
        self.count += 1;
        if let Some(quantity) = quantity_eth {
            self.priced += 1;
            self.sum_eth += quantity;
        }
    }

    /// Mean of the priced events, in ETH; 0 without any.
    #[must_use]
    pub fn mean_eth(&self) -> f64 {
        mean(self.sum_eth, self.priced)
    }
}

/// Sum over count; 0 over nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn mean(sum: f64, count: i64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// A wallet's snapshot of one day: over its accounts and protocols.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot {
    /// Collateral, in ETH.
    pub collateral_eth: f64,
    /// What could still be borrowed, in ETH.
    pub available_eth: f64,
    /// The largest risk.
    pub risk: f64,
}

/// One account-and-protocol that counts for a wallet on a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Collateral, in ETH.
    pub collateral_eth: f64,
    /// What could still be borrowed, in ETH.
    pub available_eth: f64,
    /// Debt, in ETH.
    pub debt_eth: f64,
    /// Risk of this account in this protocol.
    pub risk: f64,
}

/// An event, as far as the fold goes by it.
#[derive(Debug, Clone, Copy)]
pub struct Occurrence<'a> {
    /// What happened.
    pub category: Category,
    /// Who sent the transaction.
    pub sender: Address,
    /// Whose position it was.
    pub account: Address,
    /// Protocol, such as `aave-v2-eth`.
    pub protocol: &'a str,
    /// Epoch seconds of its block.
    pub time: i64,
    /// Amount in ETH, where there is a price; of a liquidation of the collateral that was seized.
    pub quantity_eth: Option<f64>,
}

impl Occurrence<'_> {
    /// The wallets that a liquidation counts for: the account that was liquidated, and those that are linked to it. A link that was
    /// made in the same second is in force.
    pub fn wallets_behind<'a>(&self, links: &'a Links) -> impl Iterator<Item = Address> + use<'a> {
        let is_liquidation = self.category == Category::Liquidation;
        is_liquidation.then(|| links.wallets_of(self.account, self.time + 1)).into_iter().flatten()
    }
}

/// What the snapshots of a wallet come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HealthHistory {
    /// Days that count.
    pub days: i64,
    /// Sum of daily collateral.
    pub collateral_sum_eth: f64,
    /// Sum of what could be borrowed daily.
    pub available_sum_eth: f64,
    /// Sum of daily risk.
    pub risk_sum: f64,
    /// Largest daily risk.
    pub risk_max: f64,
    /// Days with a risk above [`RISK_THRESHOLD`].
    pub days_at_risk: i64,
    /// Σ debt × risk over every account-and-protocol of every day.
    pub weighted_risk_sum: f64,
    /// Σ debt over the same.
    pub debt_sum_eth: f64,
    /// The newest day that counts, and its snapshot.
    pub latest: Option<(Day, Snapshot)>,
}

impl HealthHistory {
    fn add(&mut self, day: Day, exposures: &[Exposure]) {
        let mut snapshot = Snapshot::default();
        for exposure in exposures {
            snapshot.collateral_eth += exposure.collateral_eth;
            snapshot.available_eth += exposure.available_eth;
            snapshot.risk = snapshot.risk.max(exposure.risk);
            self.weighted_risk_sum += exposure.debt_eth * exposure.risk;
            self.debt_sum_eth += exposure.debt_eth;
        }
        self.days += 1;
        self.collateral_sum_eth += snapshot.collateral_eth;
        self.available_sum_eth += snapshot.available_eth;
        self.risk_sum += snapshot.risk;
        self.risk_max = self.risk_max.max(snapshot.risk);
        self.days_at_risk += i64::from(snapshot.risk > RISK_THRESHOLD);
        self.latest = Some((day, snapshot));
    }

    /// The snapshot of `day` itself; zeros where it does not count, never an older one.
    #[must_use]
    pub fn now(&self, day: Day) -> Snapshot {
        self.latest.filter(|(latest, _)| *latest == day).map(|(_, snapshot)| snapshot).unwrap_or_default()
    }
}

/// Liquidations of a wallet's accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Liquidations {
    /// How many, and the collateral that they took.
    pub flow: Flow,
    /// Epoch seconds of the newest one.
    pub last: Option<i64>,
}

/// A set of protocols: bit i stands for the i-th name that [`Fold`] knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtocolSet(u64);

/// As many as a [`ProtocolSet`] has bits; a configuration has no more.
const MOST_PROTOCOLS: usize = 64;

impl ProtocolSet {
    /// How many protocols are in it.
    #[must_use]
    pub fn len(self) -> i64 {
        i64::from(self.0.count_ones())
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Everything that the features of one wallet need to know of its past.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WalletState {
    /// Whether the address was sender or account of a valid event: else it has a history, but no feature row yet.
    pub is_wallet: bool,
    /// Its borrows.
    pub borrows: Flow,
    /// Its repayments.
    pub repays: Flow,
    /// Its deposits.
    pub deposits: Flow,
    /// Its withdrawals.
    pub withdraws: Flow,
    /// Epoch seconds of its first deposit.
    pub first_deposit: Option<i64>,
    /// Liquidations of its accounts.
    pub liquidations: Liquidations,
    /// Protocols that it borrowed on.
    pub borrow_protocols: ProtocolSet,
    /// Protocols that it deposited on.
    pub deposit_protocols: ProtocolSet,
    /// Its daily snapshots.
    pub health: HealthHistory,
}

/// The state of many wallets, and how a day's rows change it.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    wallets: Wallets<WalletState>,
    protocols: Vec<Arc<str>>,
}

impl Fold {
    /// The state of `wallet`, made if it is new.
    pub fn wallet(&mut self, wallet: Address) -> &mut WalletState {
        self.wallets.state(wallet)
    }

    /// Adds an event to the state of every wanted wallet that it is about: its sender, its account, and of a liquidation the wallets
    /// behind the account.
    pub fn happened(&mut self, event: &Occurrence<'_>, links: &Links, is_wanted: impl Fn(Address) -> bool) {
        if is_wanted(event.sender) {
            self.sent(event.sender, event.category, event.protocol, event.time, event.quantity_eth);
        }
        if is_wanted(event.account) {
            self.acted_on(event.account);
        }
        for wallet in event.wallets_behind(links).filter(|wallet| is_wanted(*wallet)) {
            self.liquidated(wallet, event.time, event.quantity_eth);
        }
    }

    /// The same fold with one wallet alone.
    #[must_use]
    pub fn only(&self, wallet: Address) -> Fold {
        let mut only = Fold { protocols: self.protocols.clone(), ..Fold::default() };
        if let Some(state) = self.wallets.get(wallet) {
            *only.wallet(wallet) = *state;
        }
        only
    }

    /// Adds an event to what its sender did.
    pub fn sent(&mut self, sender: Address, category: Category, protocol: &str, time: i64, quantity_eth: Option<f64>) {
        let protocol = match category {
            Category::Borrow | Category::Deposit => self.set_of(std::iter::once(protocol)),
            _ => ProtocolSet::default(),
        };
        let state = self.wallet(sender);
        state.is_wallet = true;
        match category {
            Category::Borrow => {
                state.borrows.add(quantity_eth);
                state.borrow_protocols.0 |= protocol.0;
            }
            Category::Deposit => {
                state.deposits.add(quantity_eth);
                state.deposit_protocols.0 |= protocol.0;
                state.first_deposit = Some(state.first_deposit.map_or(time, |first| first.min(time)));
            }
            Category::Repay => state.repays.add(quantity_eth),
            Category::Withdraw => state.withdraws.add(quantity_eth),
            // It counts for the wallets behind the account, through `liquidated`.
            Category::Liquidation => {}
        }
    }

    /// Notes that an event named `account` as the owner of a position.
    pub fn acted_on(&mut self, account: Address) {
        self.wallet(account).is_wallet = true;
    }

    /// Adds a liquidation of one of the wallet's accounts.
    pub fn liquidated(&mut self, wallet: Address, time: i64, seized_eth: Option<f64>) {
        let liquidations = &mut self.wallet(wallet).liquidations;
        liquidations.flow.add(seized_eth);
        liquidations.last = Some(liquidations.last.map_or(time, |last| last.max(time)));
    }

    /// Adds the snapshot of one day: every account-and-protocol that counts for the wallet on it, at least one.
    pub fn snapshot(&mut self, wallet: Address, day: Day, exposures: &[Exposure]) {
        self.wallet(wallet).health.add(day, exposures);
    }

    /// The set of these protocols.
    pub fn set_of<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> ProtocolSet {
        let mut set = 0;
        for name in names {
            let known = self.protocols.iter().position(|known| &**known == name);
            let index = known.unwrap_or_else(|| {
                self.protocols.push(Arc::from(name));
                self.protocols.len() - 1
            });
            set |= 1 << (index % MOST_PROTOCOLS);
        }
        ProtocolSet(set)
    }

    /// Whether it knows more protocols than a set can hold.
    #[must_use]
    pub fn has_too_many_protocols(&self) -> bool {
        self.protocols.len() > MOST_PROTOCOLS
    }

    /// The names of the protocols in a set, sorted.
    #[must_use]
    pub fn names_of(&self, set: ProtocolSet) -> Vec<&str> {
        let all = self.protocols.iter().take(MOST_PROTOCOLS).enumerate();
        let mut names: Vec<&str> = all.filter(|(index, _)| set.0 >> index & 1 == 1).map(|(_, name)| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Every address with a state, in order.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Address, &WalletState)> {
        self.order().iter().map(|place| self.wallets.at(*place)).map(|(wallet, state)| (*wallet, state)).collect()
    }

    /// The rows that the addresses give, in the order of [`Fold::order`], one after another: all together they would take as much
    /// memory as the states themselves.
    pub fn rows<R>(
        fold: Arc<Self>,
        order: Arc<[usize]>,
        row: impl Fn(&Self, Address, &WalletState) -> Option<R>,
    ) -> impl Iterator<Item = R> {
        (0..order.len()).filter_map(move |next| {
            let (wallet, state) = fold.wallets.at(order[next]);
            row(&fold, *wallet, state)
        })
    }

    /// Where the states are, in order of their addresses.
    #[must_use]
    pub fn order(&self) -> Arc<[usize]> {
        self.wallets.order().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::HexBytes;
    use super::*;

    const WALLET: Address = HexBytes([1; 20]);

    fn exposure(collateral: f64, debt: f64, risk: f64) -> Exposure {
        Exposure { collateral_eth: collateral, available_eth: collateral / 2.0, debt_eth: debt, risk }
    }

    fn state(fold: &Fold) -> WalletState {
        *fold.in_order().first().unwrap().1
    }

    #[test]
    fn unpriced_events_count_and_are_left_out_of_sums_and_means() {
        let mut fold = Fold::default();
        fold.sent(WALLET, Category::Borrow, "a", 10, Some(2.0));
        fold.sent(WALLET, Category::Borrow, "b", 20, None);
        fold.sent(WALLET, Category::Borrow, "a", 30, Some(4.0));
        let state = state(&fold);
        assert_eq!((state.borrows.count, state.borrows.sum_eth, state.borrows.mean_eth()), (3, 6.0, 3.0));
        assert_eq!(fold.names_of(state.borrow_protocols), ["a", "b"]);
        assert_eq!(state.deposit_protocols.len(), 0);
    }

    #[test]
    fn the_first_deposit_and_the_last_liquidation_do_not_depend_on_the_order() {
        let mut fold = Fold::default();
        for time in [30, 10, 20] {
            fold.sent(WALLET, Category::Deposit, "a", time, Some(1.0));
            fold.liquidated(WALLET, time, None);
        }
        let state = state(&fold);
        assert_eq!(
            (state.first_deposit, state.liquidations.last, state.liquidations.flow.count),
            (Some(10), Some(30), 3)
        );
    }

    #[test]
    fn a_snapshot_takes_the_largest_risk_and_adds_the_rest() {
        let mut fold = Fold::default();
        let day = Day::from_epoch_days(100);
        fold.snapshot(WALLET, day, &[exposure(10.0, 2.0, 0.5), exposure(4.0, 6.0, 0.9)]);
        fold.snapshot(WALLET, day.next(), &[exposure(6.0, 0.0, 0.0)]);
        let health = state(&fold).health;
        assert_eq!((health.days, health.collateral_sum_eth, health.risk_max, health.days_at_risk), (2, 20.0, 0.9, 1));
        assert_eq!(health.weighted_risk_sum / health.debt_sum_eth, (2.0 * 0.5 + 6.0 * 0.9) / 8.0);
        assert_eq!(health.now(day.next()).collateral_eth, 6.0);
        assert_eq!(health.now(day.plus(2)), Snapshot::default(), "now is never an older snapshot");
    }

    #[test]
    fn an_address_known_by_its_positions_alone_is_no_wallet_yet() {
        let mut fold = Fold::default();
        fold.snapshot(WALLET, Day::from_epoch_days(1), &[exposure(1.0, 0.0, 0.0)]);
        assert!(!state(&fold).is_wallet);
        fold.acted_on(WALLET);
        assert!(state(&fold).is_wallet);
    }
}
