//! Extracts lending events from Transpose: one object per category and day, unchanged.

use defi_shared::Result;
use defi_shared::cpu::run_cpu;
use defi_shared::domain::{Category, Day};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::plan::Scope;
use defi_shared::sources::transpose::{Event, EventsQuery};
use defi_shared::step::staging::{number_sort_key, sort_and_dedup, text_sort_key};
use defi_shared::step::{Context, Report, RunId, UnitInput};
use defi_shared::tables::{self, DAILY_BLOCKS, DailyBlock, Layer, RawEvent};

/// The step of this crate.
pub const STEP: Step = Step::ExtractEvents;

/// The number of units that are extracted concurrently. The pages of a unit are requested one after another, since each
/// request depends on the previous page.
const CONCURRENCY: usize = 4;

/// Extracts the events of each category and day that the input names or that is missing. A day to `verify` is extracted
/// again only if the source has another number of its events than an earlier run extracted.
///
/// # Errors
/// `NotReady` for a day that is not final, and the errors of Transpose and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let scope = context.scope(input.as_of, input.from, input.force)?;
    let units = context.units(STEP, &input).await?;
    let (run, verify) = (input.run_id.clone(), input.verify);
    let work = |context, unit: WorkUnit| {
        let (scope, run) = (scope.clone(), run.clone());
        async move {
            if unit.day() == verify && !has_late_events(&context, &scope, run.as_ref(), &unit).await? {
                return Ok(Report { objects_unchanged: 1, ..Report::default() });
            }
            extract(context, scope, unit).await
        }
    };
    let report = context.run_units(STEP, &units, CONCURRENCY, work).await?;
    context.register_events(Layer::Raw, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

/// Returns whether the source has another number of events than the lake, and records that.
async fn has_late_events(context: &Context, scope: &Scope, run: Option<&RunId>, unit: &WorkUnit) -> Result<bool> {
    let (day, category) = unit.as_event_day()?;
    let stored = context.lake.file_metadata(tables::event_table(Layer::Raw, category), unit).await?;
    let repeats = |metadata: &FileMetadata| metadata.get("repeats").and_then(|repeats| repeats.parse::<u64>().ok());
    let extracted = stored.map(|(metadata, rows)| rows + repeats(&metadata).unwrap_or(0));
    let count = context.transpose.count_events(&queries(context, scope, day, category)?, &context.traffic).await?;
    if extracted == Some(count) {
        return Ok(false);
    }
    context.record_late_events(run, unit).await?;
    Ok(true)
}

/// Returns the queries for the events of a day and category, one for each protocol.
fn queries(context: &Context, scope: &Scope, day: Day, category: Category) -> Result<Vec<EventsQuery>> {
    let query = |name| {
        let (protocol_name, contract_version) = context.config.protocol(name)?.transpose_names()?;
        Ok(EventsQuery {
            protocol_name: protocol_name.to_owned(),
            contract_version: contract_version.to_owned(),
            category: category.name().to_owned(),
            from: day.start(),
            to: day.next().start(),
        })
    };
    scope.protocols_on(day).map(query).collect()
}

async fn extract(context: Context, scope: Scope, unit: WorkUnit) -> Result<Report> {
    let (day, category) = unit.as_event_day()?;
    // The next day's first block is stored only once it is final. Then all blocks of this day are final too.
    context.lake.require::<DailyBlock>(&DAILY_BLOCKS, &WorkUnit::Day(day.next())).await?;
    let mut rows = Vec::new();
    for query in queries(&context, &scope, day, category)? {
        let events = context.transpose.events(&query, &context.traffic).await?;
        let mut protocol_rows: Vec<RawEvent> = events.into_iter().map(raw).collect();
        // Avoid copying the rows of the first protocol.
        if rows.is_empty() { rows = protocol_rows } else { rows.append(&mut protocol_rows) }
    }
    let rows_in = rows.len() as u64;
    let key = |row: &RawEvent| (text_sort_key(&row.transaction_hash), number_sort_key(&row.log_index));
    let repeats = run_cpu(|| sort_and_dedup(&mut rows, key));
    let metadata = FileMetadata::from([("repeats".to_owned(), repeats.to_string())]);
    let written = context.commit(tables::event_table(Layer::Raw, category), &unit, rows, metadata).await?;
    Ok(Report { rows_in, repeats, ..Report::default() }.with_written(written))
}

fn raw(event: Event) -> RawEvent {
    RawEvent {
        block_number: event.block_number.0,
        log_index: event.log_index.0,
        timestamp: event.timestamp.0,
        transaction_hash: event.transaction_hash.0,
        protocol_name: event.protocol_name.0,
        contract_version: event.contract_version.0,
        market_address: event.market_address.0,
        token_address: event.token_address.0,
        token_id: event.token_id.0,
        category: event.category.0,
        account_address: event.account_address.0,
        sender_address: event.sender_address.0,
        quantity: event.quantity.0,
        liquidator_address: event.liquidator_address.0,
        liquidated_token_address: event.liquidated_token_address.0,
        quantity_liquidated: event.quantity_liquidated.0,
        metadata: event.metadata.0,
    }
}
