//! Stages open positions: validates them and converts them to typed rows. Rejected rows go to quarantine. From a node, the
//! positions of a day are replayed from the logs up to its first block.

mod closing;
mod markets;
mod replay;
mod reserves;

pub use replay::Replay;

use defi_shared::Result;
use defi_shared::config::Schema;
use defi_shared::domain::Side;
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::step::aave::stage_user_reserves;
use defi_shared::step::staging::{SCHEMA, Staged, source_metadata, stage, write};
use defi_shared::step::{CONCURRENT_LARGE_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{RAW_POSITIONS, RawPosition, STAGE_POSITIONS, StagedPosition};

/// The step of this crate.
pub const STEP: Step = Step::StageAccountPositions;

/// Stages each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not extracted yet, `CorruptData` for positions in Aave's schema and markets that are of different
/// snapshots, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let report = match context.config.source {
        DataSource::Apis => context.run_units(STEP, &units, CONCURRENT_LARGE_UNITS, stage_unit).await?,
        // A call that continues another one goes on from the state which that one wrote.
        DataSource::Chain => replay::stage_units(&context, &units, input.force && input.resume.is_none()).await?,
    };
    context.registry.register(&STAGE_POSITIONS, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn stage_unit(context: Context, unit: WorkUnit) -> Result<Report> {
    let (raw, metadata) = context.lake.require_with_metadata::<RawPosition>(&RAW_POSITIONS, &unit).await?;
    let mut source = source_metadata(&metadata);
    let staged = if metadata.get(SCHEMA).is_some_and(|schema| schema == Schema::Aave.name()) {
        let markets = reserves::of_snapshot(&context, &unit, &metadata).await?;
        let (staged, comparison) = stage_user_reserves(raw, &markets)?;
        source.extend(comparison.metadata());
        staged
    } else {
        let mut staged = stage(raw, StagedPosition::from_raw, |position| position.id.clone())?;
        staged.rows.sort_unstable_by(|a, b| (a.account_address, &a.id).cmp(&(b.account_address, &b.id)));
        staged
    };
    let mut flags = Flags::default();
    staged.rows.iter().for_each(|position| flags.add(position));
    write_staged(&context, &unit, staged, &flags, source).await
}

/// Writes the valid positions of a unit, which are sorted by account and id, and its rejected ones.
async fn write_staged(
    context: &Context,
    unit: &WorkUnit,
    staged: Staged<impl IntoIterator<Item = StagedPosition> + Send + 'static>,
    flags: &Flags,
    mut metadata: FileMetadata,
) -> Result<Report> {
    let Flags { supply_positions, null_is_collateral } = *flags;
    let counts = [("supply_positions", supply_positions), ("null_is_collateral", null_is_collateral)];
    metadata.extend(counts.map(|(name, count)| (name.to_owned(), count.to_string())));
    let report = write(context, &STAGE_POSITIONS, unit, staged, metadata).await?;
    Ok(Report { supply_positions, null_is_collateral, ..report })
}

/// The number of supply positions, and of those whose `is_collateral` is null.
#[derive(Default)]
struct Flags {
    supply_positions: u64,
    null_is_collateral: u64,
}

impl Flags {
    fn add(&mut self, position: &StagedPosition) {
        if position.side == Side::Lender {
            self.supply_positions += 1;
            self.null_is_collateral += u64::from(position.is_collateral.is_none());
        }
    }
}
