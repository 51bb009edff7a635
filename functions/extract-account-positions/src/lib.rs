//! Extracts open positions from The Graph: one object per protocol and day, pinned to the day's first block, unchanged.
//! Positions of a day that can't be had any more are rebuilt from snapshots of their balances, if the run says so.

use std::sync::Arc;

use defi_shared::Result;
use defi_shared::config::Schema;
use defi_shared::pipeline::Step;
use defi_shared::sources::graph::Snapshot;
use defi_shared::step::raw::{raw_position, raw_user_reserve};
use defi_shared::step::snapshots::{self, RawPage, RawSnapshot, Reading};
use defi_shared::step::staging::sort_and_dedup;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{DailyBlock, RAW_POSITIONS, RawPosition};

/// The step of this crate.
pub const STEP: Step = Step::ExtractAccountPositions;

/// Extracts the snapshot of each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day whose first block is unknown or not indexed yet, `SourceUnavailable` for an empty snapshot after
/// a day with positions whose markets do not say that all are closed, `BadInput` for a pool without reserves, and the errors of
/// The Graph and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    snapshots::extract::<RawPosition, _, _>(&context, STEP, &RAW_POSITIONS, &input, fetch).await
}

async fn fetch(context: Context, protocol: Arc<str>, block: DailyBlock, reading: Reading) -> Result<RawSnapshot> {
    let configured = context.config.protocol(&protocol)?;
    let (subgraph, number, traffic) = (configured.subgraph()?, block.number()?, &context.traffic);
    let by_id = |rows: &mut Vec<RawPosition>| sort_and_dedup(rows, |row| (row.id.is_none(), row.id.clone()));
    if configured.schema == Schema::Aave {
        let convert = |page| {
            let raw = |row| raw_user_reserve(row, &protocol, block.block_number, block.timestamp);
            RawPage::new(page, raw, by_id)
        };
        let pages =
            context.graph.process_user_reserve_pages(subgraph, configured.pool()?, number, None, convert, traffic);
        let snapshot = pages.await?;
        if snapshot.rows.iter().all(RawPage::is_empty) {
            context.reserves(&protocol, number).await?;
        }
        return Ok(snapshot.into());
    }
    let convert = |page| {
        let raw = |position| raw_position(position, &protocol, block.block_number, block.timestamp);
        RawPage::new(page, raw, by_id)
    };
    if reading == Reading::Rebuilt {
        let snapshot = context.graph.process_rebuilt_position_pages(subgraph, number, convert, traffic).await?;
        let merged = RawPage::merge(&snapshot.rows, "id")?;
        return Ok(Snapshot { rows: vec![merged], ..snapshot }.into());
    }
    let collaterals = configured.lists_collaterals();
    context.graph.process_position_pages(subgraph, number, collaterals, convert, traffic).await.map(RawSnapshot::from)
}
