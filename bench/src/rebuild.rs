//! The timed jobs: the steps after the stage tables, in one process, as in `defi run`.

use std::time::Instant;

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::lake::Unit;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{STAGE_BORROWS, STAGE_POSITIONS};
use serde_json::json;

/// Builds all tables from the stage tables: links, priced events, daily health, and the features as of a day.
///
/// # Errors
/// A step fails.
pub async fn rebuild(context: &Context, as_of: Day) -> Result<()> {
    let day_of = |unit: &Unit| unit.day();
    let mut events: Vec<_> = context.lake.units(&STAGE_BORROWS).await?.iter().filter_map(day_of).collect();
    events.retain(|day| *day < as_of);
    let mut snapshots: Vec<_> = context.lake.units(&STAGE_POSITIONS).await?.iter().filter_map(day_of).collect();
    snapshots.dedup();
    snapshots.retain(|day| *day <= as_of);
    run_steps(context, as_of, events, snapshots).await
}

/// Processes one more day: the events of the previous day and the snapshot of the as-of day.
///
/// # Errors
/// A step fails.
pub async fn daily(context: &Context, as_of: Day) -> Result<()> {
    run_steps(context, as_of, vec![as_of.previous()], vec![as_of]).await
}

async fn run_steps(context: &Context, as_of: Day, events: Vec<Day>, snapshots: Vec<Day>) -> Result<()> {
    let days = |days| UnitInput { as_of: Some(as_of), days: Some(days), ..UnitInput::default() };
    timed(link_wallets::STEP, link_wallets::handle(context.clone(), days(events.clone()))).await?;
    let event_input = UnitInput { as_of: Some(as_of), days: Some(events), ..UnitInput::default() };
    tokio::try_join!(
        timed(price_events::STEP, price_events::handle(context.clone(), event_input)),
        timed(value_positions::STEP, value_positions::handle(context.clone(), days(snapshots)))
    )?;
    let features_input = build_features::Input { as_of: Some(as_of), ..Default::default() };
    timed(build_features::STEP, build_features::handle(context.clone(), features_input)).await
}

/// Runs a step, and prints its time and numbers of rows as a line of JSON.
async fn timed(step: Step, work: impl Future<Output = Result<Report>>) -> Result<()> {
    let start = Instant::now();
    let report = work.await?;
    let line = json!({
        "step": step, "seconds": start.elapsed().as_secs_f64(), "rows_in": report.rows_in, "rows_out": report.rows_out,
    });
    println!("{line}");
    Ok(())
}
