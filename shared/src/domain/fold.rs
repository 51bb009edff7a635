//! The fold: a wallet's state as of day D is its state as of day D−1 with the events and the snapshot since applied to
//! it. Every feature is computed from sums, counts, minima, maxima and sets over days, so the state needs to hold
//! nothing else.

use std::sync::Arc;

use super::health::RISK_THRESHOLD;
use super::wallets::WalletMap;
use super::{Address, Category, Day, Links};

/// The version of the fold. Raise it when the meaning of a feature or the columns of the state change: states of other
/// versions are not read, and features of other versions are built again.
pub const VERSION: u32 = 2;

/// Count and total amount of a wallet's events of one category.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EventTotals {
    /// Number of events.
    pub count: i64,
    /// Number of events with a price.
    pub priced: i64,
    /// Sum of the amounts of the priced events, in ETH.
    pub sum_eth: f64,
}

impl EventTotals {
    fn add(&mut self, quantity_eth: Option<f64>) {
        self.count += 1;
        if let Some(quantity) = quantity_eth {
            self.priced += 1;
            self.sum_eth += quantity;
        }
    }

    /// Returns the mean amount of the priced events, in ETH; 0 if there are none.
    #[must_use]
    pub fn mean_eth(&self) -> f64 {
        mean(self.sum_eth, self.priced)
    }
}

/// Returns `sum / count`, or 0 if `count` is 0.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn mean(sum: f64, count: i64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// A wallet's snapshot of one day, over all its accounts and protocols.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WalletSnapshot {
    /// Total collateral, in ETH.
    pub collateral_eth: f64,
    /// Total amount that can still be borrowed, in ETH.
    pub available_eth: f64,
    /// Largest risk of any account in any protocol.
    pub risk: f64,
}

/// The health on one day of one account in one protocol that is attributed to a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Collateral, in ETH.
    pub collateral_eth: f64,
    /// Amount that can still be borrowed, in ETH.
    pub available_eth: f64,
    /// Debt, in ETH.
    pub debt_eth: f64,
    /// Risk of the account in the protocol.
    pub risk: f64,
}

/// The fields of an event that the fold uses.
#[derive(Debug, Clone, Copy)]
pub struct FoldEvent<'a> {
    /// Category of the event.
    pub category: Category,
    /// Account that sent the transaction.
    pub sender: Address,
    /// Account that owns the position.
    pub account: Address,
    /// Protocol, such as `aave-v2-eth`.
    pub protocol: &'a str,
    /// Time of the block, in epoch seconds.
    pub time: i64,
    /// Amount in ETH, if there is a price. For a liquidation, the amount of the seized collateral.
    pub quantity_eth: Option<f64>,
}

impl FoldEvent<'_> {
    /// Returns the wallets to which a liquidation is attributed: the liquidated account and the wallets linked to it,
    /// including those linked in the same second. Returns nothing for other events.
    pub fn liquidated_wallets<'a>(&self, links: &'a Links) -> impl Iterator<Item = Address> + use<'a> {
        let is_liquidation = self.category == Category::Liquidation;
        is_liquidation.then(|| links.wallets_of(self.account, self.time + 1)).into_iter().flatten()
    }
}

/// The totals of a wallet's daily snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HealthHistory {
    /// Number of days with a snapshot.
    pub days: i64,
    /// Sum of the daily collateral.
    pub collateral_sum_eth: f64,
    /// Sum of the daily amount that could still be borrowed.
    pub available_sum_eth: f64,
    /// Sum of the daily risk.
    pub risk_sum: f64,
    /// Largest daily risk.
    pub risk_max: f64,
    /// Number of days with a risk above [`RISK_THRESHOLD`].
    pub days_at_risk: i64,
    /// Σ debt × risk over the exposures of every day.
    pub weighted_risk_sum: f64,
    /// Σ debt over the exposures of every day.
    pub debt_sum_eth: f64,
    /// The latest day with a snapshot, and that snapshot.
    pub latest: Option<(Day, WalletSnapshot)>,
}

impl HealthHistory {
    fn add(&mut self, day: Day, exposures: &[Exposure]) {
        let mut snapshot = WalletSnapshot::default();
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

    /// Returns the snapshot of exactly `day`. Returns zeros if the latest snapshot is of another day.
    #[must_use]
    pub fn snapshot_on(&self, day: Day) -> Option<WalletSnapshot> {
        self.latest.filter(|(latest, _)| *latest == day).map(|(_, snapshot)| snapshot)
    }
}

/// Liquidations of a wallet's accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Liquidations {
    /// Their number and the amount of seized collateral.
    pub totals: EventTotals,
    /// Time of the latest one, in epoch seconds.
    pub last: Option<i64>,
}

/// A set of protocols. Bit i stands for the i-th protocol name of the [`Fold`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtocolSet(u64);

/// The number of bits of a [`ProtocolSet`]. A valid configuration has at most this many protocols.
const MAX_PROTOCOLS: usize = 64;

impl ProtocolSet {
    /// Returns the number of protocols in the set.
    #[must_use]
    pub fn len(self) -> i64 {
        i64::from(self.0.count_ones())
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The state of one wallet: everything that its features are computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WalletState {
    /// Whether the address is the sender or account of a valid event. Otherwise it has a state, but no feature row yet.
    pub is_wallet: bool,
    /// Its borrows.
    pub borrows: EventTotals,
    /// Its repayments.
    pub repays: EventTotals,
    /// Its deposits.
    pub deposits: EventTotals,
    /// Its withdrawals.
    pub withdraws: EventTotals,
    /// Time of its first deposit, in epoch seconds.
    pub first_deposit: Option<i64>,
    /// Liquidations of its accounts.
    pub liquidations: Liquidations,
    /// Protocols on which it has borrowed.
    pub borrow_protocols: ProtocolSet,
    /// Protocols on which it has deposited.
    pub deposit_protocols: ProtocolSet,
    /// Totals of its daily snapshots.
    pub health: HealthHistory,
}

/// The state of many wallets, to which events and snapshots are applied.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    wallets: WalletMap<WalletState>,
    protocols: Vec<Arc<str>>,
}

impl Fold {
    /// Returns the state of `wallet`, which is created if it does not exist.
    pub fn wallet(&mut self, wallet: Address) -> &mut WalletState {
        self.wallets.get_or_default(wallet)
    }

    /// Applies an event to the wallets that it concerns: its sender, its account and, for a liquidation, the wallets
    /// linked to the account. Only wallets for which `is_included` returns true are updated.
    pub fn apply(&mut self, event: &FoldEvent<'_>, links: &Links, is_included: impl Fn(Address) -> bool) {
        if is_included(event.sender) {
            self.sent(event.sender, event.category, event.protocol, event.time, event.quantity_eth);
        }
        if is_included(event.account) {
            self.mark_as_wallet(event.account);
        }
        // Few events are liquidations, and to iterate over no wallets takes longer than this.
        if event.category == Category::Liquidation {
            for wallet in event.liquidated_wallets(links).filter(|wallet| is_included(*wallet)) {
                self.liquidated(wallet, event.time, event.quantity_eth);
            }
        }
    }

    /// Returns a copy of the fold that holds only one wallet.
    #[must_use]
    pub fn only(&self, wallet: Address) -> Fold {
        let mut fold = Fold { protocols: self.protocols.clone(), ..Fold::default() };
        if let Some(state) = self.wallets.get(wallet) {
            *fold.wallet(wallet) = *state;
        }
        fold
    }

    /// Adds an event to the totals of its sender.
    pub fn sent(&mut self, sender: Address, category: Category, protocol: &str, time: i64, quantity_eth: Option<f64>) {
        let protocol = match category {
            Category::Borrow | Category::Deposit => self.protocol_set(std::iter::once(protocol)),
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
            // A liquidation is attributed to the wallets of the account, by `liquidated`.
            Category::Liquidation => {}
        }
    }

    /// Marks `account` as a wallet, because it is the account of a valid event.
    pub fn mark_as_wallet(&mut self, account: Address) {
        self.wallet(account).is_wallet = true;
    }

    /// Adds a liquidation of one of the wallet's accounts.
    pub fn liquidated(&mut self, wallet: Address, time: i64, seized_eth: Option<f64>) {
        let liquidations = &mut self.wallet(wallet).liquidations;
        liquidations.totals.add(seized_eth);
        liquidations.last = Some(liquidations.last.map_or(time, |last| last.max(time)));
    }

    /// Adds the snapshot of one day. `exposures` holds every exposure of the wallet on that day; it must not be empty.
    pub fn snapshot(&mut self, wallet: Address, day: Day, exposures: &[Exposure]) {
        self.wallet(wallet).health.add(day, exposures);
    }

    /// Returns the set of the named protocols. New names are added to the fold.
    pub fn protocol_set<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> ProtocolSet {
        let mut set = 0;
        for name in names {
            let existing = self.protocols.iter().position(|protocol| &**protocol == name);
            let index = existing.unwrap_or_else(|| {
                self.protocols.push(Arc::from(name));
                self.protocols.len() - 1
            });
            set |= 1 << (index % MAX_PROTOCOLS);
        }
        ProtocolSet(set)
    }

    /// Returns whether the fold has more protocols than a set can hold.
    #[must_use]
    pub fn has_too_many_protocols(&self) -> bool {
        self.protocols.len() > MAX_PROTOCOLS
    }

    /// Returns the names of the protocols in a set, sorted.
    #[must_use]
    pub fn protocol_names(&self, set: ProtocolSet) -> Vec<&str> {
        let all = self.protocols.iter().take(MAX_PROTOCOLS).enumerate();
        let mut names: Vec<&str> = all.filter(|(index, _)| set.0 >> index & 1 == 1).map(|(_, name)| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Returns every address and its state, sorted by address.
    #[must_use]
    pub fn sorted(&self) -> Vec<(Address, &WalletState)> {
        self.sorted_indices().iter().map(|index| self.wallets.at(*index)).collect()
    }

    /// Returns an iterator over the rows that `row` computes from the states, in the order of [`Fold::sorted_indices`].
    /// Rows are computed one at a time, because all of them would take as much memory as the states.
    pub fn rows<R>(
        fold: Arc<Self>,
        order: Arc<[usize]>,
        row: impl Fn(&Self, Address, &WalletState) -> Option<R>,
    ) -> impl Iterator<Item = R> {
        (0..order.len()).filter_map(move |position| {
            let (wallet, state) = fold.wallets.at(order[position]);
            row(&fold, wallet, state)
        })
    }

    /// Returns the indices of the states, sorted by address.
    #[must_use]
    pub fn sorted_indices(&self) -> Arc<[usize]> {
        self.wallets.sorted_indices().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HexBytes, Link};
    use super::*;

    const WALLET: Address = address(1);

    const fn address(byte: u8) -> Address {
        HexBytes([byte; 20])
    }

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn state(fold: &Fold, wallet: Address) -> WalletState {
        fold.sorted().into_iter().find(|(other, _)| *other == wallet).map(|(_, state)| *state).unwrap_or_default()
    }

    #[test]
    fn mean_of_nothing_is_0() {
        assert_eq!((mean(0.0, 0), mean(6.0, 4)), (0.0, 1.5));
        let unpriced = EventTotals { count: 3, ..EventTotals::default() };
        assert_eq!(unpriced.mean_eth(), 0.0);
    }

    #[test]
    fn unpriced_events_are_counted_but_not_summed() {
        let mut totals = EventTotals::default();
        for quantity in [Some(2.0), None, Some(4.5)] {
            totals.add(quantity);
        }
        assert_eq!(totals, EventTotals { count: 3, priced: 2, sum_eth: 6.5 });
        assert_eq!(totals.mean_eth(), 3.25);
    }

    #[test]
    fn sent_event_counts_for_its_category_only() {
        let one = EventTotals { count: 1, priced: 1, sum_eth: 2.5 };
        let set = ProtocolSet(1);
        let wallet = WalletState { is_wallet: true, ..WalletState::default() };
        for (category, expected) in [
            (Category::Borrow, WalletState { borrows: one, borrow_protocols: set, ..wallet }),
            (
                Category::Deposit,
                WalletState { deposits: one, deposit_protocols: set, first_deposit: Some(10), ..wallet },
            ),
            (Category::Repay, WalletState { repays: one, ..wallet }),
            (Category::Withdraw, WalletState { withdraws: one, ..wallet }),
            (Category::Liquidation, wallet),
        ] {
            let mut fold = Fold::default();
            fold.sent(WALLET, category, "aave-v2-eth", 10, Some(2.5));
            assert_eq!(state(&fold, WALLET), expected, "{category}");
        }
    }

    #[test]
    fn first_deposit_and_last_liquidation_ignore_event_order() {
        let mut fold = Fold::default();
        for time in [20, 10, 30, 15] {
            fold.sent(WALLET, Category::Deposit, "a", time, Some(1.0));
            fold.liquidated(WALLET, time, Some(0.5));
        }
        let state = state(&fold, WALLET);
        assert_eq!((state.first_deposit, state.liquidations.last), (Some(10), Some(30)));
        assert_eq!(state.liquidations.totals, EventTotals { count: 4, priced: 4, sum_eth: 2.0 });
    }

    #[test]
    fn protocol_counts_once_however_often_it_is_used() {
        let mut fold = Fold::default();
        for protocol in ["b", "a", "b", "a", "b"] {
            fold.sent(WALLET, Category::Borrow, protocol, 10, None);
        }
        fold.sent(WALLET, Category::Deposit, "a", 10, None);
        let state = state(&fold, WALLET);
        assert_eq!((state.borrow_protocols.len(), state.deposit_protocols.len()), (2, 1));
        assert_eq!(fold.protocol_names(state.borrow_protocols), ["a", "b"], "sorted");
        assert_eq!(fold.protocol_names(state.deposit_protocols), ["a"]);
        assert!(!state.borrow_protocols.is_empty() && ProtocolSet::default().is_empty());
    }

    #[test]
    fn protocol_set_holds_64_protocols() {
        let names: Vec<_> = (10..74).map(|number| format!("protocol-{number}")).collect();
        let mut fold = Fold::default();
        let set = fold.protocol_set(names.iter().map(String::as_str));
        assert_eq!((set.len(), fold.protocol_names(set)), (64, names.iter().map(String::as_str).collect()));
        assert!(!fold.has_too_many_protocols());
        fold.protocol_set(["one more"]);
        assert!(fold.has_too_many_protocols());
    }

    #[test]
    fn daily_snapshots_add_up_and_the_latest_is_kept() {
        let exposure =
            |collateral_eth, available_eth, debt_eth, risk| Exposure { collateral_eth, available_eth, debt_eth, risk };
        let mut fold = Fold::default();
        fold.snapshot(WALLET, day(0), &[exposure(10.0, 3.0, 2.0, 0.875), exposure(4.0, 1.0, 6.0, 0.5)]);
        fold.snapshot(WALLET, day(1), &[exposure(6.0, 2.5, 4.0, 0.25)]);
        let expected = HealthHistory {
            days: 2,
            collateral_sum_eth: 20.0,
            available_sum_eth: 6.5,
            risk_sum: 1.125,
            risk_max: 0.875,
            days_at_risk: 1,
            weighted_risk_sum: 1.75 + 3.0 + 1.0,
            debt_sum_eth: 12.0,
            latest: Some((day(1), WalletSnapshot { collateral_eth: 6.0, available_eth: 2.5, risk: 0.25 })),
        };
        assert_eq!(state(&fold, WALLET).health, expected);
    }

    #[test]
    fn day_at_risk_has_a_risk_above_5_sixths() {
        for (risk, days) in [(0.0, 0), (0.83, 0), (RISK_THRESHOLD, 0), (0.84, 1), (1e6, 1)] {
            let mut health = HealthHistory::default();
            health.add(day(0), &[Exposure { collateral_eth: 1.0, available_eth: 0.0, debt_eth: 1.0, risk }]);
            assert_eq!(health.days_at_risk, days, "{risk}");
        }
    }

    #[test]
    fn snapshot_of_another_day_is_not_the_current_one() {
        let snapshot = WalletSnapshot { collateral_eth: 6.0, available_eth: 2.5, risk: 0.25 };
        let health = HealthHistory { latest: Some((day(1), snapshot)), ..HealthHistory::default() };
        assert_eq!(health.snapshot_on(day(1)), Some(snapshot));
        assert_eq!([day(0), day(2)].map(|day| health.snapshot_on(day)), [None; 2]);
    }

    #[test]
    fn address_with_only_positions_is_not_a_wallet() {
        let mut fold = Fold::default();
        fold.snapshot(
            WALLET,
            day(0),
            &[Exposure { collateral_eth: 1.0, available_eth: 0.0, debt_eth: 0.0, risk: 0.0 }],
        );
        assert!(!state(&fold, WALLET).is_wallet);
        fold.mark_as_wallet(WALLET);
        assert!(state(&fold, WALLET).is_wallet);
    }

    const SENDER: Address = address(2);
    const ACCOUNT: Address = address(3);
    const LINKED: Address = address(4);

    fn event(category: Category) -> FoldEvent<'static> {
        let (sender, account) = (SENDER, ACCOUNT);
        FoldEvent { category, sender, account, protocol: "a", time: 100, quantity_eth: Some(2.5) }
    }

    /// Applies an event with the link of a wallet to the account since `since`.
    fn apply(event: &FoldEvent<'_>, since: i64, is_included: impl Fn(Address) -> bool) -> Fold {
        let mut links = Links::default();
        links.add(Link { account: ACCOUNT, wallet: LINKED, since });
        let mut fold = Fold::default();
        fold.apply(event, &links, is_included);
        fold
    }

    #[test]
    fn event_counts_for_its_sender_and_makes_its_account_a_wallet() {
        let fold = apply(&event(Category::Repay), 0, |_| true);
        let wallet = WalletState { is_wallet: true, ..WalletState::default() };
        let repays = EventTotals { count: 1, priced: 1, sum_eth: 2.5 };
        assert_eq!(state(&fold, SENDER), WalletState { repays, ..wallet });
        assert_eq!((state(&fold, ACCOUNT), state(&fold, LINKED)), (wallet, WalletState::default()));
    }

    #[test]
    fn liquidation_counts_for_the_account_and_its_linked_wallets() {
        let fold = apply(&event(Category::Liquidation), 50, |_| true);
        let totals = EventTotals { count: 1, priced: 1, sum_eth: 2.5 };
        let liquidated =
            WalletState { liquidations: Liquidations { totals, last: Some(100) }, ..WalletState::default() };
        assert_eq!(state(&fold, ACCOUNT), WalletState { is_wallet: true, ..liquidated });
        assert_eq!(state(&fold, LINKED), liquidated);
        assert_eq!(state(&fold, SENDER), WalletState { is_wallet: true, ..WalletState::default() }, "the liquidator");
    }

    #[test]
    fn liquidation_uses_links_made_up_to_its_second() {
        for (since, count) in [(99, 1), (100, 1), (101, 0)] {
            let fold = apply(&event(Category::Liquidation), since, |_| true);
            assert_eq!(state(&fold, LINKED).liquidations.totals.count, count, "{since}");
        }
    }

    #[test]
    fn only_included_wallets_are_updated() {
        for included in [SENDER, ACCOUNT, LINKED] {
            let fold = apply(&event(Category::Liquidation), 50, |wallet| wallet == included);
            let wallets: Vec<_> = fold.sorted().into_iter().map(|(wallet, _)| wallet).collect();
            assert_eq!(wallets, [included]);
        }
    }

    #[test]
    fn fold_of_one_wallet_keeps_its_state_and_protocols() {
        let mut fold = Fold::default();
        fold.sent(SENDER, Category::Borrow, "a", 10, Some(1.0));
        fold.sent(WALLET, Category::Borrow, "b", 10, Some(2.0));
        let only = fold.only(WALLET);
        assert_eq!(only.sorted(), [(WALLET, &state(&fold, WALLET))]);
        assert_eq!(only.protocol_names(state(&only, WALLET).borrow_protocols), ["b"]);
        assert!(fold.only(ACCOUNT).sorted().is_empty(), "an unknown wallet");
    }

    #[test]
    fn states_and_rows_are_sorted_by_address() {
        let mut fold = Fold::default();
        for wallet in [3, 1, 2] {
            fold.liquidated(address(wallet), wallet.into(), None);
        }
        let sorted: Vec<_> =
            fold.sorted().into_iter().map(|(wallet, state)| (wallet, state.liquidations.last)).collect();
        assert_eq!(sorted, [(address(1), Some(1)), (address(2), Some(2)), (address(3), Some(3))]);
        let order = fold.sorted_indices();
        let rows = Fold::rows(Arc::new(fold), order, |_, wallet, state| {
            (wallet != address(2)).then_some((wallet, state.liquidations.last))
        });
        assert_eq!(rows.collect::<Vec<_>>(), [sorted[0], sorted[2]], "a wallet without a row is left out");
    }
}
