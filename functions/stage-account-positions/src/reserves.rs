//! The reserves of a snapshot in Aave's schema, whose indexes say what the scaled balances are worth.

use defi_shared::config::Schema;
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::step::Context;
use defi_shared::step::staging::SCHEMA;
use defi_shared::tables::{RAW_MARKETS, RAW_POSITIONS, RawMarket, Table};
use defi_shared::{Error, Result};

/// Reads the reserves of a unit whose positions have the metadata `positions`. Indexes of another block, deployment or schema
/// would give wrong balances: either object may have been extracted again since.
pub(crate) async fn of_snapshot(
    context: &Context,
    unit: &WorkUnit,
    positions: &FileMetadata,
) -> Result<Vec<RawMarket>> {
    let (rows, markets) = context.lake.require_with_metadata::<RawMarket>(&RAW_MARKETS, unit).await?;
    let differs = |name: &str| positions.get(name) != markets.get(name);
    let (name, outdated) = if markets.get(SCHEMA).is_none_or(|schema| schema != Schema::Aave.name()) {
        (SCHEMA, &RAW_MARKETS)
    } else if differs(BLOCK) {
        let first = context.first_block(unit.as_protocol_day()?.0).await?.block_number.to_string();
        (BLOCK, if markets.get(BLOCK) == Some(&first) { &RAW_POSITIONS } else { &RAW_MARKETS })
    } else if differs(DEPLOYMENT) {
        // Nothing says which one is the newer. The markets are a single request.
        (DEPLOYMENT, &RAW_MARKETS)
    } else {
        return Ok(rows);
    };
    let value = |metadata: &FileMetadata| metadata.get(name).cloned().unwrap_or_else(|| "none".to_owned());
    Err(Error::corrupt(format!(
        "the positions and the markets of a day are of different snapshots: the {name} differs"
    ))
    .with("unit", unit)
    .with("positions", value(positions))
    .with("markets", value(&markets))
    .with_hint(hint(outdated, name)))
}

const BLOCK: &str = "block";
const DEPLOYMENT: &str = "deployment";

fn hint(outdated: &Table, name: &str) -> String {
    let otherwise = match name {
        DEPLOYMENT => "; if the deployment still differs, also the positions",
        _ => "",
    };
    format!("extract raw.{} of that day and protocol again{otherwise} (docs/operations.md)", outdated.name)
}
