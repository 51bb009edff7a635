//! Markets from The Graph: one object a protocol and day, pinned to the day's first block, as the source said them.

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::lake::{Facts, Unit};
use defi_shared::sources::Traffic;
use defi_shared::sources::graph::Market;
use defi_shared::step::staging::{sort_text, tidy};
use defi_shared::step::{Context, ProtocolInput, Report};
use defi_shared::tables::{DailyBlock, RAW_MARKETS, RawMarket};

/// The step's name.
pub const STEP: &str = "extract-market-data";

/// Extracts the snapshot of each protocol and day that is missing, or that the input names.
///
/// # Errors
/// `NotReady` for a day whose first block is not known or not indexed yet, and the errors of The Graph and of the lake.
pub async fn handle(context: Context, input: ProtocolInput) -> Result<Report> {
    let units = context.protocol_days(&input, |plan| plan.extract_markets).await?;
    let name = |(protocol, day): &(String, Day)| format!("{day} {protocol}");
    let report = context.run_units(STEP, units.clone(), name, extract).await?;
    context.register_protocol_days(&RAW_MARKETS, &units).await?;
    Ok(report)
}

async fn extract(context: Context, (name, day): (String, Day)) -> Result<Report> {
    let block = context.first_block(day).await?;
    let number = block.number()?;
    let protocol = context.config.protocol(&name)?;
    let traffic = Traffic::new();
    let snapshot = context.graph.markets(&protocol.subgraph_id, number, &traffic).await?;
    let rows_in = snapshot.rows.len() as u64;
    let mut rows: Vec<_> = snapshot.rows.into_iter().map(|market| raw(market, &name, &block)).collect();
    let repeats = tidy(&mut rows, |row| sort_text(&row.id));
    let facts = Facts::from([
        ("block".to_owned(), number.to_string()),
        ("deployment".to_owned(), snapshot.deployment),
        ("repeats".to_owned(), repeats.to_string()),
    ]);
    let written =
        context.lake.write(&RAW_MARKETS, &Unit::DayAndProtocol(day, name.as_str().into()), rows, facts).await?;
    Ok(Report { rows_in, repeats, traffic: traffic.report(), ..Report::default() }.wrote(written))
}

fn raw(market: Market, protocol: &str, block: &DailyBlock) -> RawMarket {
    RawMarket {
        id: market.id.0,
        name: market.name.0,
        maximum_ltv: market.maximum_ltv.0,
        liquidation_threshold: market.liquidation_threshold.0,
        input_token_price_usd: market.input_token_price_usd.0,
        input_token_id: market.input_token_id.0,
        input_token_symbol: market.input_token_symbol.0,
        input_token_decimals: market.input_token_decimals.0,
        protocol: protocol.to_owned(),
        block_number: block.block_number,
        block_timestamp: block.timestamp,
    }
}
