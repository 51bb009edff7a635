//! Stages markets: validates them and converts them to typed rows. Rejected rows go to quarantine.

use defi_shared::Result;
use defi_shared::lake::WorkUnit;
use defi_shared::pipeline::Step;
use defi_shared::step::staging::{source_metadata, stage, write};
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{RAW_MARKETS, RawMarket, STAGE_MARKETS, StagedMarket};

/// The step of this crate.
pub const STEP: Step = Step::StageMarketData;

/// Stages each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not extracted yet, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let report = context.run_units(STEP, &units, CONCURRENT_UNITS, stage_unit).await?;
    context.registry.register(&STAGE_MARKETS, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn stage_unit(context: Context, unit: WorkUnit) -> Result<Report> {
    let (raw, metadata) = context.lake.require_with_metadata::<RawMarket>(&RAW_MARKETS, &unit).await?;
    let mut staged = stage(&raw, StagedMarket::from_raw, |market| market.market_id)?;
    staged.rows.sort_by_key(|market| market.market_id);
    write(&context, &STAGE_MARKETS, &unit, staged, source_metadata(&metadata)).await
}
