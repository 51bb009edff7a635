//! Adds to each event its amount in ETH and the wallet to which it is attributed. An event without a price keeps its
//! row, with a NULL amount.

use std::sync::Arc;

use defi_shared::Result;
use defi_shared::domain::Category;
use defi_shared::domain::price::{PriceBook, Quote};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::sources::transpose::LiquidationLegs;
use defi_shared::step::history::Markets;
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{self, Layer, PricedEvent, UnpricedEvent};

/// The step of this crate.
pub const STEP: Step = Step::PriceEvents;

/// Prices the events of each category and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not staged yet, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let days: Vec<_> = units.iter().filter_map(WorkUnit::day).collect();
    let markets = Markets::load(&context.lake, &context.config, &days).await?;
    let work = |context, unit| price_unit(context, markets.clone(), unit);
    let report = context.run_units(STEP, &units, CONCURRENT_UNITS, work).await?;
    context.register_events(Layer::Analytics, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn price_unit(context: Context, markets: Markets, unit: WorkUnit) -> Result<Report> {
    let (day, category) = unit.as_event_day()?;
    let events: Vec<UnpricedEvent> = context.lake.require(tables::event_table(Layer::Stage, category), &unit).await?;
    let prices = markets.prices_on(day);
    let mut rows: Vec<_> = events.into_iter().map(|event| price(event, category, &prices)).collect();
    rows.sort_by_key(|event| (event.index_address, event.transaction_hash, event.log_index));
    let rows_in = rows.len() as u64;
    let unpriced = rows.iter().filter(|event| event.quantity_eth.is_none()).count() as u64;
    let mut metadata = FileMetadata::from([("unpriced".to_owned(), unpriced.to_string())]);
    for protocol in context.config.protocol_names() {
        let of_protocol = || rows.iter().filter(|event| &*event.protocol == protocol);
        let unpriced = of_protocol().filter(|event| event.quantity_eth.is_none()).count();
        metadata.insert(format!("rows.{protocol}"), of_protocol().count().to_string());
        metadata.insert(format!("unpriced.{protocol}"), unpriced.to_string());
    }
    let written = context.commit(tables::event_table(Layer::Analytics, category), &unit, rows, metadata).await?;
    Ok(Report { rows_in, unpriced, ..Report::default() }.with_written(written))
}

fn price(event: UnpricedEvent, category: Category, prices: &PriceBook) -> PricedEvent {
    let (token, quantity) = match category {
        Category::Liquidation => {
            let legs = LiquidationLegs::from_columns(
                Some(event.token_address),
                Some(event.quantity),
                event.liquidated_token_address,
                event.quantity_liquidated,
            );
            (legs.seized.token, legs.seized.quantity)
        }
        _ => (Some(event.token_address), Some(event.quantity)),
    };
    let quote: Option<Quote> = token.and_then(|token| prices.token_quote(&event.protocol, &token));
    let origin = quote.as_ref().and_then(|quote| quote.origin.as_ref());
    let quantity_eth =
        quote.as_ref().zip(quantity).map(|(quote, quantity)| quantity.to_tokens(quote.decimals) * quote.price_eth);
    PricedEvent {
        index_address: if category == Category::Liquidation { event.account_address } else { event.sender_address },
        quantity_eth,
        price_eth: quote.as_ref().map(|quote| quote.price_eth),
        token_decimals: quote.as_ref().map(|quote| quote.decimals),
        price_day: origin.map(|origin| origin.day),
        price_protocol: origin.map(|origin| Arc::clone(&origin.protocol)),
        price_market_id: origin.map(|origin| origin.market),
        liquidation_threshold: quote.as_ref().and_then(|quote| quote.liquidation_threshold),
        transaction_hash: event.transaction_hash,
        log_index: event.log_index,
        block_number: event.block_number,
        timestamp: event.timestamp,
        epoch_timestamp: event.epoch_timestamp,
        protocol: event.protocol,
        category: event.category,
        sender_address: event.sender_address,
        account_address: event.account_address,
        market_address: event.market_address,
        token_address: event.token_address,
        quantity: event.quantity,
        liquidator_address: event.liquidator_address,
        liquidated_token_address: event.liquidated_token_address,
        quantity_liquidated: event.quantity_liquidated,
    }
}
