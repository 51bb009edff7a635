//! The events of a day from the logs of a node.

use std::sync::Arc;

use defi_shared::config::ProtocolKind;
use defi_shared::contracts::U256;
use defi_shared::cpu::run_cpu;
use defi_shared::domain::log_events::{CompoundMarket, LogEvent, aave_v2_events, compound_v2_events};
use defi_shared::domain::price::LOOK_BACK_DAYS;
use defi_shared::domain::replay::Log;
use defi_shared::domain::{Address, Category, Day};
use defi_shared::lake::WorkUnit;
use defi_shared::step::{Context, Logs};
use defi_shared::tables::{RAW_MARKETS, RawEvent, RawLog, RawMarket};
use defi_shared::{Error, Result};
use rustc_hash::FxHashMap;

/// The entry of an event's metadata that says that the amount of a liquidation is computed with the exchange rate of the next
/// snapshot, because the node no longer had that of the block.
const LATER_RATE: &str = r#"{"exchange_rate":"next snapshot"}"#;

/// Returns the events of a day and category, of all protocols that have logs of the day.
pub(crate) async fn events_of(context: &Context, day: Day, category: Category) -> Result<Vec<RawEvent>> {
    let mut events = Vec::new();
    for protocol in context.config.protocol_names() {
        if context.config.protocol(protocol)?.first_day()? > day {
            continue;
        }
        let logs = context.logs(&protocol.into(), day).await?;
        let markets = markets_after(context, day, protocol).await?;
        events.extend(events_of_protocol(context, day, category, protocol, logs, &markets)?);
    }
    Ok(events)
}

/// Returns the markets of the newest snapshot after a day's events, or of one of the days before it.
async fn markets_after(context: &Context, day: Day, protocol: &str) -> Result<Vec<RawMarket>> {
    for day in day.plus_days(-LOOK_BACK_DAYS).through(day.next()).rev() {
        let unit = WorkUnit::ProtocolDay(day, protocol.into());
        if let Some(markets) =
            context.lake.read::<RawMarket>(&RAW_MARKETS, &unit).await?.filter(|rows| !rows.is_empty())
        {
            return Ok(markets);
        }
    }
    Ok(Vec::new())
}

fn events_of_protocol(
    context: &Context,
    day: Day,
    category: Category,
    protocol: &str,
    object: Logs,
    markets: &[RawMarket],
) -> Result<Vec<RawEvent>> {
    let configured = context.config.protocol(protocol)?;
    let deployment = object.metadata.get("deployment").and_then(|address| Address::parse(address));
    let mut of_day: Vec<RawLog> = Vec::new();
    let keep = |log: RawLog| {
        of_day.extend(day.seconds().contains(&log.time()).then_some(log));
        Ok(())
    };
    run_cpu(|| object.for_each(keep))?;
    let decoded: Vec<_> = of_day.iter().map(|log| Ok((log.topics(), log.data()?))).collect::<Result<_>>()?;
    let logs: Vec<_> = of_day
        .iter()
        .zip(&decoded)
        .map(|(log, (topics, data))| Log {
            contract: log.contract_address,
            topics,
            data,
            transaction: log.transaction_hash,
            index: log.log_index,
            time: log.time(),
        })
        .collect();
    let address = |text: &Option<Arc<str>>| text.as_deref().and_then(Address::parse);
    let ids =
        markets.iter().filter_map(|market| Some((address(&market.id)?, address(&market.input_token_id)?, market)));
    let events = match configured.kind {
        Some(ProtocolKind::AaveV2) => {
            let pool =
                deployment.ok_or_else(|| Error::corrupt("the logs do not name the pool").with("protocol", protocol))?;
            aave_v2_events(&logs, pool, &ids.map(|(id, token, _)| (token, id)).collect())?
        }
        Some(ProtocolKind::CompoundV2) => {
            let rate = |market: &RawMarket| market.supply_index.as_deref().and_then(|rate| rate.parse::<U256>().ok());
            let market = |(id, underlying, market)| (id, CompoundMarket { underlying, exchange_rate: rate(market) });
            let markets: FxHashMap<_, _> = ids.map(market).collect();
            let rates = |log: usize| of_day[log].exchange_rate.map(|rate| U256::from(rate.0.unsigned_abs()));
            compound_v2_events(&logs, &markets, rates)?
        }
        None => {
            return Err(Error::bad_input("the protocol has no kind in the configuration").with("protocol", protocol));
        }
    };
    let (name, version) = configured.transpose_names()?;
    let of_category = events.iter().filter(|event| event.category == category);
    Ok(of_category.map(|event| raw_event(event, &of_day[event.log], name, version)).collect())
}

fn raw_event(event: &LogEvent, log: &RawLog, name: &str, version: &str) -> RawEvent {
    let text = |value: String| Some(Arc::from(value));
    let liquidation = event.liquidation.as_ref();
    let has_later_rate = event.category == Category::Liquidation && log.exchange_rate.is_none() && name == "compound";
    RawEvent {
        block_number: text(log.block_number.to_string()),
        log_index: text(log.log_index.to_string()),
        timestamp: text(log.time().to_string()),
        transaction_hash: text(log.transaction_hash.to_string()),
        protocol_name: text(name.to_owned()),
        contract_version: text(version.to_owned()),
        market_address: event.market.map(|market| market.to_string().into()),
        token_address: event.token.map(|token| token.to_string().into()),
        token_id: None,
        category: text(event.category.to_string()),
        account_address: text(event.account.to_string()),
        sender_address: text(log.sender_address.to_string()),
        quantity: event.amount.map(|amount| amount.to_string().into()),
        liquidator_address: liquidation.map(|other| other.liquidator.to_string().into()),
        liquidated_token_address: liquidation
            .and_then(|other| other.repaid_token)
            .map(|token| token.to_string().into()),
        quantity_liquidated: liquidation.map(|other| other.repaid.to_string().into()),
        metadata: has_later_rate.then(|| LATER_RATE.into()),
    }
}
