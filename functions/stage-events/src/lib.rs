//! Stages lending events: validates them and converts them to typed rows. Rejected rows go to quarantine.

use defi_shared::Result;
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::step::staging::{stage, write};
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{self, EventRules, Layer, RawEvent, StagedEvent};

/// The step of this crate.
pub const STEP: Step = Step::StageEvents;

/// Stages each category and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not extracted yet, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let report = context.run_units(STEP, &units, CONCURRENT_UNITS, stage_unit).await?;
    context.register_events(Layer::Stage, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn stage_unit(context: Context, unit: WorkUnit) -> Result<Report> {
    let (day, category) = unit.as_event_day()?;
    let raw: Vec<RawEvent> = context.lake.require(tables::event_table(Layer::Raw, category), &unit).await?;
    let protocols = context.config.protocol_names();
    let rules = EventRules { category, day, protocols: &protocols };
    let mut staged =
        stage(&raw, |row| StagedEvent::from_raw(row, rules), |event| (event.transaction_hash, event.log_index))?;
    staged.rows.sort_by_key(|event| (event.sender_address, event.transaction_hash, event.log_index));
    write(&context, tables::event_table(Layer::Stage, category), &unit, staged, FileMetadata::new()).await
}
