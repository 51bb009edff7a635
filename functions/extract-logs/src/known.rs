//! Logs that must exist. Some nodes answer with no logs where they no longer have them, and others leave some out, without
//! an error. But the contracts say when a market was last changed, and every such change has a log.

use std::collections::BTreeMap;

use alloy_sol_types::SolEvent;
use defi_shared::contracts::aave_v2::Pool;
use defi_shared::contracts::compound_v2::CToken;
use defi_shared::domain::Address;
use defi_shared::domain::replay::aave_v2::Reserve;
use defi_shared::sources::ethereum::{Call, CallOutcome, Log};
use defi_shared::step::Context;
use defi_shared::step::contracts::{CompoundMarket, Contracts, call, of_address, returned};
use defi_shared::{Error, Kind, Result};

use crate::Blocks;

/// Requires a log of the last change of each market, as the contracts name it after the last block. A node that no longer
/// has the state of that block says nothing.
///
/// # Errors
/// `CorruptData` if such a log is missing, and the errors of the node.
pub(crate) async fn require(
    context: &Context,
    contracts: &Contracts,
    blocks: &Blocks,
    logs: &[Log],
    times: &BTreeMap<u64, i64>,
) -> Result<()> {
    let node = context.node()?;
    let outcomes = match node.call(&calls(contracts), blocks.last.number, &context.traffic).await {
        Err(error) if error.kind() == Kind::HistoryPruned => return Ok(()),
        outcomes => outcomes?,
    };
    find_missing(contracts, &outcomes, blocks, logs, |block| times.get(&block).copied()).map_or(Ok(()), Err)
}

/// Returns the error for the first market whose last change has no log. `outcomes` are those of [`calls`], and `time` gives
/// the time of each block with logs.
fn find_missing(
    contracts: &Contracts,
    outcomes: &[CallOutcome],
    blocks: &Blocks,
    logs: &[Log],
    time: impl Fn(u64) -> Option<i64>,
) -> Option<Error> {
    match contracts {
        Contracts::AaveV2 { pool, reserves, .. } => reserves.iter().zip(outcomes).find_map(|(reserve, outcome)| {
            let times = blocks.first.timestamp..=blocks.last.timestamp;
            let updated = last_update(outcome).filter(|updated| times.contains(updated))?;
            let is_update = |log: &Log| is_update_of(log, *pool, reserve) && time(log.block_number) == Some(updated);
            (!logs.iter().any(is_update)).then(|| missing(reserve.a_token).with("time", updated))
        }),
        Contracts::CompoundV2 { markets, .. } => markets.iter().zip(outcomes).find_map(|(market, outcome)| {
            let accrued =
                last_accrual(outcome).filter(|block| (blocks.first.number..=blocks.last.number).contains(block))?;
            let is_accrual = |log: &Log| log.address == market.c_token && log.block_number == accrued;
            (!logs.iter().any(is_accrual)).then(|| missing(market.c_token).with("block", accrued))
        }),
    }
}

/// Returns the calls that tell when each market was last changed.
fn calls(contracts: &Contracts) -> Vec<Call> {
    match contracts {
        Contracts::AaveV2 { pool, reserves, .. } => {
            let data = |reserve: &Reserve| Pool::getReserveDataCall { asset: of_address(&reserve.asset) };
            reserves.iter().map(|reserve| call(*pool, &data(reserve))).collect()
        }
        Contracts::CompoundV2 { markets, .. } => {
            let accrued = |market: &CompoundMarket| call(market.c_token, &CToken::accrualBlockNumberCall {});
            markets.iter().map(accrued).collect()
        }
    }
}

/// Returns the time of the last update of a reserve, which has the event ReserveDataUpdated.
fn last_update(outcome: &CallOutcome) -> Option<i64> {
    let data = returned::<Pool::getReserveDataCall>(outcome)?;
    i64::try_from(data.lastUpdateTimestamp.to::<u64>()).ok()
}

/// Returns the block of the last accrual of a cToken, or that of its creation. Both have a log.
fn last_accrual(outcome: &CallOutcome) -> Option<u64> {
    u64::try_from(returned::<CToken::accrualBlockNumberCall>(outcome)?).ok()
}

fn is_update_of(log: &Log, pool: Address, reserve: &Reserve) -> bool {
    let topics = [Pool::ReserveDataUpdated::SIGNATURE_HASH.0, of_address(&reserve.asset).into_word().0];
    log.address == pool && log.topics.iter().map(|topic| topic.0).take(topics.len()).eq(topics)
}

fn missing(market: Address) -> Error {
    Error::corrupt("a market was changed, but the node has no log of it")
        .with("market", market)
        .with_hint("run again, or use another node: this one does not return all logs")
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolCall;
    use defi_shared::contracts::U256;
    use defi_shared::domain::HexBytes;
    use defi_shared::feeds::BlockTime;

    use super::*;

    const BLOCKS: Blocks =
        Blocks { first: BlockTime { number: 10, timestamp: 1010 }, last: BlockTime { number: 20, timestamp: 1020 } };
    const POOL: Address = HexBytes([1; 20]);
    const ASSET: Address = HexBytes([2; 20]);
    const MARKET: Address = HexBytes([3; 20]);

    /// Blocks are a second apart.
    fn time(block: u64) -> Option<i64> {
        i64::try_from(1000 + block).ok()
    }

    fn log(address: Address, topics: &[[u8; 32]], block_number: u64) -> Log {
        Log {
            block_number,
            block_hash: None,
            log_index: 0,
            transaction_hash: HexBytes([9; 32]),
            transaction_index: 0,
            address,
            topics: topics.iter().copied().map(HexBytes).collect(),
            data: Vec::new(),
            block_timestamp: None,
        }
    }

    fn aave() -> Contracts {
        let token = HexBytes([4; 20]);
        let reserve = Reserve { asset: ASSET, a_token: MARKET, stable_debt_token: token, variable_debt_token: token };
        Contracts::AaveV2 { addresses_provider: POOL, pool: POOL, reserves: vec![reserve] }
    }

    /// Returns the answer of a pool whose reserve was updated at a time.
    fn reserve_data(updated: u64) -> CallOutcome {
        let mut words = [U256::ZERO; 12];
        words[6] = U256::from(updated);
        CallOutcome::Returned(words.iter().flat_map(U256::to_be_bytes::<32>).collect())
    }

    fn compound() -> Contracts {
        let market = CompoundMarket { c_token: MARKET, underlying: ASSET };
        Contracts::CompoundV2 { comptroller: POOL, markets: vec![market] }
    }

    fn accrual(block: u64) -> CallOutcome {
        CallOutcome::Returned(CToken::accrualBlockNumberCall::abi_encode_returns(&U256::from(block)))
    }

    #[test]
    fn an_update_of_a_reserve_has_an_event_at_its_time() {
        let topic = Pool::ReserveDataUpdated::SIGNATURE_HASH.0;
        let [asset, other] = [ASSET, MARKET].map(|address| of_address(&address).into_word().0);
        let update = |block| log(POOL, &[topic, asset], block);
        let is_missing =
            |updated: u64, logs: &[Log]| find_missing(&aave(), &[reserve_data(updated)], &BLOCKS, logs, time).is_some();
        for updated in [1010, 1015, 1020] {
            assert!(!is_missing(updated, &[update(updated - 1000)]), "{updated}");
            for logs in [
                vec![],
                vec![update(11)],
                vec![log(POOL, &[topic, other], updated - 1000)],
                vec![log(POOL, &[[5; 32], asset], updated - 1000)],
                vec![log(POOL, &[topic], updated - 1000)],
                vec![log(MARKET, &[topic, asset], updated - 1000)],
            ] {
                assert!(is_missing(updated, &logs), "{updated}: {logs:?}");
            }
        }
        // Outside the day, or never.
        for updated in [0, 1009, 1021] {
            assert!(!is_missing(updated, &[]), "{updated}");
        }
        assert!(find_missing(&aave(), &[CallOutcome::Reverted], &BLOCKS, &[], time).is_none());
    }

    #[test]
    fn an_accrual_of_a_market_has_a_log_in_its_block() {
        let is_missing =
            |block: u64, logs: &[Log]| find_missing(&compound(), &[accrual(block)], &BLOCKS, logs, time).is_some();
        for block in [10, 15, 20] {
            assert!(!is_missing(block, &[log(MARKET, &[], block)]), "{block}");
            assert!(is_missing(block, &[]) && is_missing(block, &[log(MARKET, &[], 11), log(POOL, &[], block)]));
        }
        for block in [9, 21] {
            assert!(!is_missing(block, &[]), "{block}");
        }
        let error = find_missing(&compound(), &[accrual(15)], &BLOCKS, &[], time).unwrap();
        assert_eq!(error.kind(), Kind::CorruptData);
        assert!(error.details().contains(&format!("market={MARKET}, block=15")), "{error}");
    }
}
