//! The job that is timed: what the functions do from the stage tables on, in one process, as `defi run` has it.

use std::time::Instant;

use defi_shared::Result;
use defi_shared::domain::Day;
use defi_shared::lake::Unit;
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{STAGE_BORROWS, STAGE_POSITIONS};
use serde_json::json;

/// Makes everything that the stage tables give: links, priced events, daily health, features as of a day.
///
/// # Errors
/// The steps'.
pub async fn rebuild(context: &Context, as_of: Day) -> Result<()> {
    let day_of = |unit: &Unit| unit.day();
    let mut events: Vec<_> = context.lake.units(&STAGE_BORROWS).await?.iter().filter_map(day_of).collect();
    events.retain(|day| *day < as_of);
    let mut snapshots: Vec<_> = context.lake.units(&STAGE_POSITIONS).await?.iter().filter_map(day_of).collect();
    snapshots.dedup();
    snapshots.retain(|day| *day <= as_of);
    make(context, as_of, events, snapshots).await
}

/// Makes what one more day brings.
///
/// # Errors
/// The steps'.
pub async fn daily(context: &Context, as_of: Day) -> Result<()> {
    make(context, as_of, vec![as_of.previous()], vec![as_of]).await
}

async fn make(context: &Context, as_of: Day, events: Vec<Day>, snapshots: Vec<Day>) -> Result<()> {
    let days = |days| UnitInput { as_of: Some(as_of), days: Some(days), ..UnitInput::default() };
    timed(link_wallets::STEP, link_wallets::handle(context.clone(), days(events.clone()))).await?;
    let of_events = UnitInput { as_of: Some(as_of), days: Some(events), ..UnitInput::default() };
    tokio::try_join!(
        timed(price_events::STEP, price_events::handle(context.clone(), of_events)),
        timed(value_positions::STEP, value_positions::handle(context.clone(), days(snapshots)))
    )?;
    let of_all = build_features::Input { as_of: Some(as_of), ..Default::default() };
    timed(build_features::STEP, build_features::handle(context.clone(), of_all)).await
}

/// Says what a step did and how long it took, as a line of JSON.
async fn timed(step: Step, work: impl Future<Output = Result<Report>>) -> Result<()> {
    let begun = Instant::now();
    let report = work.await?;
    let line = json!({
        "step": step, "seconds": begun.elapsed().as_secs_f64(), "rows_in": report.rows_in, "rows_out": report.rows_out,
    });
    println!("{line}");
    Ok(())
}
