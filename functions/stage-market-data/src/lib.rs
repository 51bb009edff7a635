//! Valid markets with the pipeline's names and types; bad rows go to quarantine.

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::lake::Unit;
use defi_shared::step::staging::{provenance, stage, write};
use defi_shared::step::{Context, ProtocolInput, Report, UNITS_AT_ONCE};
use defi_shared::tables::{RAW_MARKETS, RawMarket, STAGE_MARKETS, StagedMarket};

/// The step's name.
pub const STEP: &str = "stage-market-data";

/// Stages each protocol and day that is missing, or that the input names.
///
/// # Errors
/// `NotReady` for a unit that is not extracted yet, and the lake's errors.
pub async fn handle(context: Context, input: ProtocolInput) -> Result<Report> {
    let units = context.protocol_days(&input, |plan| plan.stage_markets).await?;
    let report = context.run_units(STEP, &units, UNITS_AT_ONCE, stage_unit).await?;
    context.register_protocol_days(&STAGE_MARKETS, &units).await?;
    context.keep_report(input.run_id.as_ref(), STEP, &units, &report).await?;
    Ok(report)
}

async fn stage_unit(context: Context, (protocol, day): (String, Day)) -> Result<Report> {
    let unit = Unit::DayAndProtocol(day, protocol.into());
    let (raw, facts) = context.lake.require_with_facts::<RawMarket>(&RAW_MARKETS, &unit).await?;
    let mut staged = stage(&raw, StagedMarket::from_raw, |market| market.market_id)?;
    staged.rows.sort_by_key(|market| market.market_id);
    write(&context, &STAGE_MARKETS, &unit, staged, provenance(&facts)).await
}
