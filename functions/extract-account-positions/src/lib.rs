//! Extracts open positions from The Graph: one object per protocol and day, pinned to the day's first block, unchanged.

use std::sync::Arc;

use defi_shared::Result;
use defi_shared::pipeline::Step;
use defi_shared::step::raw::raw_position;
use defi_shared::step::snapshots::{self, RawPage, RawSnapshot};
use defi_shared::step::staging::sort_and_dedup;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{DailyBlock, RAW_POSITIONS, RawPosition};

/// The step of this crate.
pub const STEP: Step = Step::ExtractAccountPositions;

/// Extracts the snapshot of each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day whose first block is unknown or not indexed yet, `SourceUnavailable` for an empty snapshot after
/// a day with positions whose markets do not say that all are closed, and the errors of The Graph and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    snapshots::extract::<RawPosition, _, _>(&context, STEP, &RAW_POSITIONS, &input, fetch).await
}

async fn fetch(context: Context, protocol: Arc<str>, block: DailyBlock) -> Result<RawSnapshot> {
    let subgraph = context.config.protocol(&protocol)?.subgraph()?;
    let convert = |page| {
        let raw = |position| raw_position(position, &protocol, block.block_number, block.timestamp);
        RawPage::new(page, raw, |rows| sort_and_dedup(rows, |row: &RawPosition| (row.id.is_none(), row.id.clone())))
    };
    context.graph.process_position_pages(subgraph, block.number()?, convert, &context.traffic).await
}
