//! Open positions from The Graph: one object a protocol and day, pinned to the day's first block, as the source said them.

use defi_shared::domain::Day;
use defi_shared::lake::{Facts, Unit};
use defi_shared::sources::Traffic;
use defi_shared::step::raw::raw_position;
use defi_shared::step::staging::tidy;
use defi_shared::step::{Context, ProtocolInput, Report};
use defi_shared::tables::{RAW_POSITIONS, RawPosition};
use defi_shared::{Error, Kind, Result};

/// The step's name.
pub const STEP: &str = "extract-account-positions";

/// Extracts the snapshot of each protocol and day that is missing, or that the input names.
///
/// # Errors
/// `NotReady` for a day whose first block is not known or not indexed yet, and the errors of The Graph and of the lake.
pub async fn handle(context: Context, input: ProtocolInput) -> Result<Report> {
    let units = context.protocol_days(&input, |plan| plan.extract_positions).await?;
    let name = |(protocol, day): &(String, Day)| format!("{day} {protocol}");
    let report = context.run_units(STEP, units.clone(), name, extract).await?;
    context.register_protocol_days(&RAW_POSITIONS, &units).await?;
    Ok(report)
}

async fn extract(context: Context, (name, day): (String, Day)) -> Result<Report> {
    let block = context.first_block(day).await?;
    let number = block.number()?;
    let protocol = context.config.protocol(&name)?;
    let traffic = Traffic::new();
    let snapshot = context.graph.positions(&protocol.subgraph_id, number, None, &traffic).await?;
    let rows_in = snapshot.rows.len() as u64;
    let mut rows: Vec<_> = snapshot
        .rows
        .into_iter()
        .map(|position| raw_position(position, &name, block.block_number, block.timestamp))
        .collect();
    let repeats = tidy(&mut rows, |row| (row.id.is_none(), row.id.clone()));
    refuse_sudden_emptiness(&context, &name, day, &rows).await?;
    let facts = Facts::from([
        ("block".to_owned(), number.to_string()),
        ("deployment".to_owned(), snapshot.deployment),
        ("repeats".to_owned(), repeats.to_string()),
    ]);
    let written =
        context.lake.write(&RAW_POSITIONS, &Unit::DayAndProtocol(day, name.as_str().into()), rows, facts).await?;
    Ok(Report { rows_in, repeats, traffic: traffic.report(), ..Report::default() }.wrote(written))
}

/// A snapshot without rows after a day with rows is an indexer's fault; written, it would stand for a day without positions.
async fn refuse_sudden_emptiness(context: &Context, protocol: &str, day: Day, rows: &[RawPosition]) -> Result<()> {
    let before = Unit::DayAndProtocol(day.previous(), protocol.into());
    let before = context.lake.facts(&RAW_POSITIONS, &before).await?.map_or(0, |(_, rows)| rows);
    if rows.is_empty() && before > 0 {
        return Err(Error::new(Kind::SourceUnavailable, "a snapshot without positions after a day with positions")
            .with("positions_of_the_day_before", before));
    }
    Ok(())
}
