//! The exchange rates of markets that liquidations in Compound seized from: their events name cTokens, not amounts.

use std::collections::BTreeMap;

use defi_shared::contracts::compound_v2::CToken;
use defi_shared::contracts::decode_event;
use defi_shared::domain::BaseUnits;
use defi_shared::sources::ethereum::{Call, Log};
use defi_shared::step::Context;
use defi_shared::step::contracts::{Contracts, call, returned, to_address};
use defi_shared::{Kind, Result};

/// The exchange rates of liquidations.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// The rate at the end of the block of each liquidation, by block and log index.
    pub known: BTreeMap<(u64, u64), BaseUnits>,
    /// What the node said of a block whose state it no longer has.
    pub lost: Option<String>,
}

/// Asks for the exchange rates of all liquidations.
pub(crate) async fn of_liquidations(context: &Context, contracts: &Contracts, logs: &[Log]) -> Result<Rates> {
    let mut rates = Rates::default();
    if !matches!(contracts, Contracts::CompoundV2 { .. }) {
        return Ok(rates);
    }
    let mut calls: BTreeMap<u64, Vec<(u64, Call)>> = BTreeMap::new();
    for log in logs {
        let topics: Vec<[u8; 32]> = log.topics.iter().map(|topic| topic.0).collect();
        let event = decode_event(CToken::CTokenEvents::SELECTORS, &topics, &log.data)?;
        if let Some(CToken::CTokenEvents::LiquidateBorrow(event)) = event {
            let rate = call(to_address(event.cTokenCollateral), &CToken::exchangeRateStoredCall {});
            calls.entry(log.block_number).or_default().push((log.log_index, rate));
        }
    }
    for (block, calls) in calls {
        let (indices, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let outcomes = match context.node()?.call(&calls, block, &context.traffic).await {
            Err(error) if error.kind() == Kind::HistoryPruned => {
                rates.lost = Some(error.details());
                continue;
            }
            outcomes => outcomes?,
        };
        for (index, outcome) in indices.into_iter().zip(&outcomes) {
            let rate = returned::<CToken::exchangeRateStoredCall>(outcome);
            let rate = rate.and_then(|rate| i128::try_from(rate).ok()).and_then(BaseUnits::new);
            rates.known.extend(rate.map(|rate| ((block, index), rate)));
        }
    }
    Ok(rates)
}
