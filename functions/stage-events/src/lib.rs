//! Stages lending events: validates them and converts them to typed rows. Rejected rows go to quarantine.
//!
//! A log is one event, whatever categories it is delivered as: the row of the first category in
//! [`Category::PRECEDENCE`] counts. Each unit therefore also reads the raw rows of the preceding categories of its day.
//! It does not read staged rows: the result is the same in whatever order the units are staged.
//!
//! From a node, the events of a day are those of its logs, of which each is in one category.

mod logs;

use defi_shared::Result;
use defi_shared::domain::Category;
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::step::staging::{DUPLICATE_KEY, stage, write};
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{self, EventKey, EventRules, Layer, RawEvent, RawEventKey, StagedEvent};
use rustc_hash::{FxHashMap, FxHashSet};

/// The step of this crate.
pub const STEP: Step = Step::StageEvents;

/// Stages each category and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not extracted yet, or whose preceding categories are not, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let report = context.run_units(STEP, &units, CONCURRENT_UNITS, stage_unit).await?;
    context.register_events(Layer::Stage, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn stage_unit(context: Context, unit: WorkUnit) -> Result<Report> {
    let (day, category) = unit.as_event_day()?;
    let protocols = context.config.protocol_names();
    let rules = EventRules { category, day, protocols: &protocols };
    let (raw, claimed) = match context.config.source {
        DataSource::Apis => {
            let raw: Vec<RawEvent> = context.lake.require(tables::event_table(Layer::Raw, category), &unit).await?;
            let claimed = claimed_keys(&context, rules, &raw).await?;
            (raw, claimed)
        }
        DataSource::Chain => (logs::events_of(&context, day, category).await?, FxHashMap::default()),
    };
    let convert = |row: &RawEvent| {
        let event = StagedEvent::from_raw(row, rules).map_err(|reason| reason.to_string())?;
        match claimed.get(&event.key()) {
            Some(first) => Err(format!("{DUPLICATE_KEY} in {first}s")),
            None => Ok(event),
        }
    };
    let mut staged = stage(&raw, convert, StagedEvent::key)?;
    staged.rows.sort_by_key(|event| (event.sender_address, event.transaction_hash, event.log_index));
    let metadata = counts_by_protocol(&context, &raw, &staged.rows)?;
    write(&context, tables::event_table(Layer::Stage, category), &unit, staged, metadata).await
}

/// Returns the number of raw rows and of rejected rows of each protocol, for check-features.
fn counts_by_protocol(context: &Context, raw: &[RawEvent], staged: &[StagedEvent]) -> Result<FileMetadata> {
    let mut metadata = FileMetadata::new();
    for protocol in &context.config.protocols {
        let (name, version) = protocol.transpose_names()?;
        let is_of_protocol = |row: &&RawEvent| {
            row.protocol_name.as_deref() == Some(name) && row.contract_version.as_deref() == Some(version)
        };
        let rows_in = raw.iter().filter(is_of_protocol).count();
        let valid = staged.iter().filter(|event| *event.protocol == *protocol.name).count();
        metadata.insert(format!("rows_in.{}", protocol.name), rows_in.to_string());
        metadata.insert(format!("rejected.{}", protocol.name), rows_in.saturating_sub(valid).to_string());
    }
    Ok(metadata)
}

/// Returns the keys of `raw` that valid rows of preceding categories have, each with the first such category. Equal keys
/// are rare: the rows of a category are read only if the columns of its keys show one.
async fn claimed_keys(
    context: &Context,
    rules: EventRules<'_>,
    raw: &[RawEvent],
) -> Result<FxHashMap<EventKey, Category>> {
    let own: FxHashSet<EventKey> = raw.iter().filter_map(RawEvent::key).collect();
    let is_own = |key: Option<EventKey>| key.is_some_and(|key| own.contains(&key));
    let mut claimed = FxHashMap::default();
    for category in rules.category.predecessors() {
        let (table, unit) = (tables::event_table(Layer::Raw, category), WorkUnit::Day(rules.day));
        let keys: Vec<RawEventKey> = context.lake.require(table, &unit).await?;
        if keys.iter().any(|row| is_own(row.key())) {
            let rows: Vec<RawEvent> = context.lake.require(table, &unit).await?;
            let rules = EventRules { category, ..rules };
            let same_key = rows.iter().filter(|row| is_own(row.key()));
            for event in same_key.filter_map(|row| StagedEvent::from_raw(row, rules).ok()) {
                claimed.entry(event.key()).or_insert(category);
            }
        }
    }
    Ok(claimed)
}
