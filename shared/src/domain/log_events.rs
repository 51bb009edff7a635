//! Lending events from the logs of a protocol's contracts. No I/O.

use alloy_primitives::U256;
use rustc_hash::FxHashMap;

use super::replay::{Log, WAD, mul_div};
use super::{Address, Category, HexBytes, TxHash};
use crate::contracts::aave_v2::{AToken, Pool};
use crate::contracts::compound_v2::CToken;
use crate::contracts::decode_event;
use crate::error::Result;

/// The difference between a withdrawal and the transfer before it that is due to rounding.
const ROUNDING: U256 = U256::from_limbs([2, 0, 0, 0]);

/// A lending event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The position of the log among those that were given.
    pub log: usize,
    /// The category.
    pub category: Category,
    /// The account that owns the position.
    pub account: Address,
    /// The market: the aToken or the cToken. Of a liquidation that of the collateral that was seized.
    pub market: Option<Address>,
    /// The token; of a liquidation the collateral that was seized. `None` if the market is not known.
    pub token: Option<Address>,
    /// The amount in base units of `token`. `None` if the exchange rate of the seized market is not known.
    pub amount: Option<U256>,
    /// Of a liquidation: who liquidated, and what was repaid.
    pub liquidation: Option<Liquidation>,
}

/// The other half of a liquidation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liquidation {
    /// Who liquidated.
    pub liquidator: Address,
    /// The token of the debt. `None` if its market is not known.
    pub repaid_token: Option<Address>,
    /// The amount that was repaid, in its base units.
    pub repaid: U256,
}

fn address(address: alloy_primitives::Address) -> Address {
    HexBytes(address.into_array())
}

/// Returns the events of logs of Aave v2. `markets` has the aToken of each reserve's token.
///
/// A withdrawal names who called the pool. Where a gateway did, its user had sent it the aTokens just before: the account is
/// the sender of the last such transfer in the transaction.
///
/// # Errors
/// `CorruptData` for an event that is malformed.
pub fn aave_v2_events(logs: &[Log<'_>], pool: Address, markets: &FxHashMap<Address, Address>) -> Result<Vec<LogEvent>> {
    use Pool::PoolEvents::{Borrow, Deposit, LiquidationCall, Repay, Withdraw};
    let mut events = Vec::new();
    let mut transfers = Transfers::default();
    for (number, log) in logs.iter().enumerate() {
        if log.contract != pool {
            transfers.add(log)?;
            continue;
        }
        let event = |category, reserve, account, amount| {
            let token = address(reserve);
            let market = markets.get(&token).copied();
            LogEvent {
                log: number,
                category,
                account,
                market,
                token: Some(token),
                amount: Some(amount),
                liquidation: None,
            }
        };
        events.push(match decode_event(Pool::PoolEvents::SELECTORS, log.topics, log.data)? {
            Some(Deposit(e)) => event(Category::Deposit, e.reserve, address(e.onBehalfOf), e.amount),
            Some(Borrow(e)) => event(Category::Borrow, e.reserve, address(e.onBehalfOf), e.amount),
            Some(Repay(e)) => event(Category::Repay, e.reserve, address(e.user), e.amount),
            Some(Withdraw(e)) => {
                let a_token = markets.get(&address(e.reserve));
                let sender = a_token.and_then(|a_token| transfers.sender_to(log, *a_token, address(e.user), e.amount));
                event(Category::Withdraw, e.reserve, sender.unwrap_or(address(e.user)), e.amount)
            }
            Some(LiquidationCall(e)) => {
                let (liquidator, repaid_token) = (address(e.liquidator), Some(address(e.debtAsset)));
                let liquidation = Some(Liquidation { liquidator, repaid_token, repaid: e.debtToCover });
                let seized = e.liquidatedCollateralAmount;
                LogEvent { liquidation, ..event(Category::Liquidation, e.collateralAsset, address(e.user), seized) }
            }
            _ => continue,
        });
    }
    Ok(events)
}

/// The transfers of aTokens in the transaction of the last log.
#[derive(Debug, Default)]
struct Transfers {
    transaction: Option<TxHash>,
    /// The aToken, the sender, the recipient and the amount.
    transfers: Vec<(Address, Address, Address, U256)>,
}

impl Transfers {
    /// Adds the log of a token. Only aTokens have this event.
    fn add(&mut self, log: &Log<'_>) -> Result<()> {
        use AToken::ATokenEvents::BalanceTransfer;
        let Some(topic) = log.topics.first() else { return Ok(()) };
        if *topic != <AToken::BalanceTransfer as alloy_sol_types::SolEvent>::SIGNATURE_HASH.0 {
            return Ok(());
        }
        if let Some(BalanceTransfer(event)) = decode_event(AToken::ATokenEvents::SELECTORS, log.topics, log.data)? {
            if self.transaction != Some(log.transaction) {
                self.transaction = Some(log.transaction);
                self.transfers.clear();
            }
            self.transfers.push((log.contract, address(event.from), address(event.to), event.value));
        }
        Ok(())
    }

    /// Returns who sent so many aTokens to an account before a log of the same transaction.
    fn sender_to(&self, log: &Log<'_>, a_token: Address, account: Address, amount: U256) -> Option<Address> {
        let transfers = self.transfers.iter().rev().filter(|_| self.transaction == Some(log.transaction));
        let is_of = |(token, _, to, value): &&(Address, Address, Address, U256)| {
            *token == a_token && *to == account && value.abs_diff(amount) <= ROUNDING
        };
        transfers.into_iter().find(is_of).map(|(_, from, ..)| *from)
    }
}

/// A market of Compound v2, for its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompoundMarket {
    /// The token that is lent.
    pub underlying: Address,
    /// Its exchange rate, with 18 decimals, if the rate at the block of an event is not known.
    pub exchange_rate: Option<U256>,
}

/// A repayment that may be a part of a liquidation.
struct Repayment {
    /// The position of its event.
    event: usize,
    transaction: TxHash,
    c_token: Address,
    payer: Address,
    borrower: Address,
    amount: U256,
}

/// Returns the events of logs of Compound v2. `markets` has the market of each cToken, `rates` the exchange rate of the seized
/// market for each liquidation, by the position of its log.
///
/// A liquidation comes with a repayment of the same debt before it, which is no event of its own.
///
/// # Errors
/// `CorruptData` for an event that is malformed.
pub fn compound_v2_events(
    logs: &[Log<'_>],
    markets: &FxHashMap<Address, CompoundMarket>,
    rates: impl Fn(usize) -> Option<U256>,
) -> Result<Vec<LogEvent>> {
    use CToken::CTokenEvents::{Borrow, LiquidateBorrow, Mint, Redeem, RepayBorrow};
    let mut events: Vec<LogEvent> = Vec::new();
    let mut repayments: Vec<Repayment> = Vec::new();
    let mut of_liquidations = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        let c_token = log.contract;
        let Some(market) = markets.get(&c_token) else { continue };
        let event = |category, account, amount| LogEvent {
            log: number,
            category,
            account: address(account),
            market: Some(c_token),
            token: Some(market.underlying),
            amount: Some(amount),
            liquidation: None,
        };
        match decode_event(CToken::CTokenEvents::SELECTORS, log.topics, log.data)? {
            Some(Mint(e)) => events.push(event(Category::Deposit, e.minter, e.mintAmount)),
            Some(Redeem(e)) => events.push(event(Category::Withdraw, e.redeemer, e.redeemAmount)),
            Some(Borrow(e)) => events.push(event(Category::Borrow, e.borrower, e.borrowAmount)),
            Some(RepayBorrow(e)) => {
                repayments.retain(|repayment| repayment.transaction == log.transaction);
                repayments.push(Repayment {
                    event: events.len(),
                    transaction: log.transaction,
                    c_token,
                    payer: address(e.payer),
                    borrower: address(e.borrower),
                    amount: e.repayAmount,
                });
                events.push(event(Category::Repay, e.borrower, e.repayAmount));
            }
            Some(LiquidateBorrow(e)) => {
                let (liquidator, borrower) = (address(e.liquidator), address(e.borrower));
                let is_part = |repayment: &Repayment| {
                    repayment.transaction == log.transaction
                        && repayment.c_token == c_token
                        && repayment.payer == liquidator
                        && repayment.borrower == borrower
                        && repayment.amount == e.repayAmount
                };
                if let Some(part) = repayments.iter().rposition(is_part) {
                    of_liquidations.push(repayments.remove(part).event);
                }
                let seized = address(e.cTokenCollateral);
                let collateral = markets.get(&seized);
                let rate = rates(number).or_else(|| collateral.and_then(|market| market.exchange_rate));
                let amount = rate.map(|rate| mul_div(e.seizeTokens, rate, WAD)).transpose()?;
                let repaid_token = Some(market.underlying);
                events.push(LogEvent {
                    market: Some(seized),
                    token: collateral.map(|market| market.underlying),
                    amount,
                    liquidation: Some(Liquidation { liquidator, repaid_token, repaid: e.repayAmount }),
                    ..event(Category::Liquidation, e.borrower, U256::ZERO)
                });
            }
            _ => {}
        }
    }
    of_liquidations.sort_unstable();
    let mut number = 0..;
    events.retain(|_| number.next().is_some_and(|number| of_liquidations.binary_search(&number).is_err()));
    Ok(events)
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolEvent;

    use super::super::replay::fixture::{OwnedLog, address, argument, number};
    use super::*;

    const POOL: u8 = 1;
    const ASSET: u8 = 2;
    const A_TOKEN: u8 = 3;
    const USER: u8 = 7;
    const OTHER: u8 = 8;
    const GATEWAY: u8 = 9;

    fn pool(event: &impl SolEvent) -> OwnedLog {
        OwnedLog::new(address(POOL), event)
    }

    fn aave(logs: &[OwnedLog]) -> Vec<LogEvent> {
        let logs: Vec<_> = logs.iter().map(OwnedLog::log).collect();
        let markets = FxHashMap::from_iter([(address(ASSET), address(A_TOKEN)), (address(0x12), address(0x13))]);
        aave_v2_events(&logs, address(POOL), &markets).unwrap()
    }

    fn event(category: Category, account: u8, amount: u128) -> LogEvent {
        LogEvent {
            log: 0,
            category,
            account: address(account),
            market: Some(address(A_TOKEN)),
            token: Some(address(ASSET)),
            amount: Some(number(amount)),
            liquidation: None,
        }
    }

    #[test]
    fn account_is_who_owns_the_position() {
        let (reserve, referral) = (argument(ASSET), 0);
        let [user, other] = [USER, OTHER].map(argument);
        let amount = number(5);
        let deposit = Pool::Deposit { reserve, user: other, onBehalfOf: user, amount, referral };
        assert_eq!(aave(&[pool(&deposit)]), [event(Category::Deposit, USER, 5)]);
        let (mode, rate) = (number(2), number(3));
        let borrow = Pool::Borrow {
            reserve,
            user: other,
            onBehalfOf: user,
            amount,
            borrowRateMode: mode,
            borrowRate: rate,
            referral,
        };
        assert_eq!(aave(&[pool(&borrow)]), [event(Category::Borrow, USER, 5)]);
        let repay = Pool::Repay { reserve, user, repayer: other, amount };
        assert_eq!(aave(&[pool(&repay)]), [event(Category::Repay, USER, 5)]);
        let unknown = Pool::Repay { reserve: argument(0x55), user, repayer: other, amount };
        let expected = LogEvent { market: None, token: Some(address(0x55)), ..event(Category::Repay, USER, 5) };
        assert_eq!(aave(&[pool(&unknown)]), [expected]);
    }

    #[test]
    fn liquidation_has_both_tokens() {
        let call = Pool::LiquidationCall {
            collateralAsset: argument(ASSET),
            debtAsset: argument(0x12),
            user: argument(USER),
            debtToCover: number(6),
            liquidatedCollateralAmount: number(5),
            liquidator: argument(OTHER),
            receiveAToken: false,
        };
        let liquidation =
            Liquidation { liquidator: address(OTHER), repaid_token: Some(address(0x12)), repaid: number(6) };
        let expected = LogEvent { liquidation: Some(liquidation), ..event(Category::Liquidation, USER, 5) };
        assert_eq!(aave(&[pool(&call)]), [expected]);
    }

    fn withdraw() -> OwnedLog {
        let (reserve, user, to) = (argument(ASSET), argument(GATEWAY), argument(OTHER));
        pool(&Pool::Withdraw { reserve, user, to, amount: number(1000) })
    }

    fn transfer(from: u8, to: u8, value: u128) -> OwnedLog {
        let event =
            AToken::BalanceTransfer { from: argument(from), to: argument(to), value: number(value), index: number(1) };
        OwnedLog::new(address(A_TOKEN), &event)
    }

    #[test]
    fn withdrawal_through_a_contract_is_that_of_who_sent_the_tokens() {
        let other_token = OwnedLog { contract: address(0x13), ..transfer(OTHER, GATEWAY, 1000) };
        for (before, account) in [
            (vec![], GATEWAY),
            (vec![transfer(USER, GATEWAY, 1000)], USER),
            (vec![transfer(USER, GATEWAY, 1002)], USER),
            (vec![transfer(USER, GATEWAY, 998)], USER),
            (vec![transfer(USER, GATEWAY, 1003)], GATEWAY),
            (vec![transfer(USER, OTHER, 1000)], GATEWAY),
            (vec![transfer(USER, GATEWAY, 1000).in_transaction(2)], GATEWAY),
            (vec![transfer(OTHER, GATEWAY, 1000), transfer(USER, GATEWAY, 1000)], USER),
            (vec![transfer(USER, GATEWAY, 1000), other_token], USER),
            (vec![transfer(OTHER, GATEWAY, 1000).in_transaction(2), transfer(USER, GATEWAY, 1000)], USER),
        ] {
            let position = before.len();
            let events = aave(&[before, vec![withdraw()]].concat());
            let expected = LogEvent { log: position, ..event(Category::Withdraw, account, 1000) };
            assert_eq!(events, [expected]);
        }
        assert_eq!(aave(&[withdraw(), transfer(USER, GATEWAY, 1000)])[0].account, address(GATEWAY), "afterwards");
    }

    const ETH: u8 = 0x21;
    const C_ETH: u8 = 0x22;
    const USDC: u8 = 0x23;
    const C_USDC: u8 = 0x24;

    fn c_token(contract: u8, event: &impl SolEvent) -> OwnedLog {
        OwnedLog::new(address(contract), event)
    }

    fn compound(logs: &[OwnedLog], rate: Option<u128>) -> Vec<LogEvent> {
        let logs: Vec<_> = logs.iter().map(OwnedLog::log).collect();
        let market =
            |underlying, rate: Option<U256>| CompoundMarket { underlying: address(underlying), exchange_rate: rate };
        let markets = FxHashMap::from_iter([
            (address(C_ETH), market(ETH, Some(WAD * number(3)))),
            (address(C_USDC), market(USDC, None)),
        ]);
        compound_v2_events(&logs, &markets, |_| rate.map(|rate| WAD * number(rate))).unwrap()
    }

    fn repay(contract: u8, payer: u8, borrower: u8, amount: u128) -> OwnedLog {
        c_token(
            contract,
            &CToken::RepayBorrow {
                payer: argument(payer),
                borrower: argument(borrower),
                repayAmount: number(amount),
                accountBorrows: number(1),
                totalBorrows: number(1),
            },
        )
    }

    fn liquidate(amount: u128) -> OwnedLog {
        c_token(
            C_USDC,
            &CToken::LiquidateBorrow {
                liquidator: argument(OTHER),
                borrower: argument(USER),
                repayAmount: number(amount),
                cTokenCollateral: argument(C_ETH),
                seizeTokens: number(100),
            },
        )
    }

    #[test]
    fn events_of_a_c_token_are_in_its_underlying_token() {
        let [minter, redeemer, borrower] = [USER, USER, USER].map(argument);
        let mint = CToken::Mint { minter, mintAmount: number(5), mintTokens: number(1) };
        let redeem = CToken::Redeem { redeemer, redeemAmount: number(6), redeemTokens: number(1) };
        let (debt, total) = (number(1), number(1));
        let borrow = CToken::Borrow { borrower, borrowAmount: number(7), accountBorrows: debt, totalBorrows: total };
        let logs = [
            c_token(C_ETH, &mint),
            c_token(C_ETH, &redeem),
            c_token(C_ETH, &borrow),
            repay(C_ETH, OTHER, USER, 8),
            OwnedLog { contract: address(0x66), ..repay(C_ETH, OTHER, USER, 8) },
        ];
        let of_eth = |log, category, amount| LogEvent {
            log,
            market: Some(address(C_ETH)),
            token: Some(address(ETH)),
            ..event(category, USER, amount)
        };
        let expected = [
            of_eth(0, Category::Deposit, 5),
            of_eth(1, Category::Withdraw, 6),
            of_eth(2, Category::Borrow, 7),
            of_eth(3, Category::Repay, 8),
        ];
        assert_eq!(compound(&logs, None), expected);
    }

    #[test]
    fn liquidation_seizes_c_tokens_at_the_rate_of_its_block_or_the_next_snapshot() {
        for (rate, seized) in [(Some(2), 200), (None, 300)] {
            let liquidation =
                Liquidation { liquidator: address(OTHER), repaid_token: Some(address(USDC)), repaid: number(40) };
            let expected = LogEvent {
                log: 1,
                market: Some(address(C_ETH)),
                token: Some(address(ETH)),
                liquidation: Some(liquidation),
                ..event(Category::Liquidation, USER, seized)
            };
            assert_eq!(compound(&[repay(C_USDC, OTHER, USER, 40), liquidate(40)], rate), [expected]);
        }
    }

    #[test]
    fn repayment_of_a_liquidation_is_no_event_of_its_own() {
        let same = || repay(C_USDC, OTHER, USER, 40);
        let repayments = |logs: &[OwnedLog]| {
            let events = compound(logs, None);
            assert_eq!(events.iter().filter(|event| event.category == Category::Liquidation).count(), 1);
            events.iter().filter(|event| event.category == Category::Repay).map(|event| event.log).collect::<Vec<_>>()
        };
        assert_eq!(repayments(&[same(), liquidate(40)]), [] as [usize; 0]);
        assert_eq!(repayments(&[same(), same(), liquidate(40)]), [0], "the last of two is used, once");
        assert_eq!(repayments(&[liquidate(40), same()]), [1], "afterwards");
        for other in [
            repay(C_ETH, OTHER, USER, 40),
            repay(C_USDC, USER, USER, 40),
            repay(C_USDC, OTHER, OTHER, 40),
            repay(C_USDC, OTHER, USER, 41),
            same().in_transaction(2),
        ] {
            assert_eq!(repayments(&[other, liquidate(40)]), [0]);
        }
    }
}
