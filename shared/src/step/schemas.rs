//! The schema of the markets and positions that a lake has of each protocol.

use super::Context;
use super::staging::SCHEMA;
use crate::config::Schema;
use crate::error::{Error, Result};
use crate::lake::WorkUnit;
use crate::plan::Inventory;
use crate::tables::{RAW_MARKETS, RAW_POSITIONS};

impl Context {
    /// Rejects another schema of a protocol's subgraph than that of the newest snapshots in the lake: subgraphs differ in what
    /// they count as a balance, so their days don't fit together.
    ///
    /// # Errors
    /// `BadInput` for another schema, and the errors of the lake.
    pub async fn reject_other_schema(&self, inventory: &Inventory) -> Result<()> {
        for protocol in self.config.protocol_names() {
            let Some(schema) = self.config.schema(protocol)? else { continue };
            let is_of_protocol =
                |unit: &&WorkUnit| matches!(unit, WorkUnit::ProtocolDay(_, name) if **name == *protocol);
            for (table, rows) in [(&RAW_POSITIONS, "positions"), (&RAW_MARKETS, "markets")] {
                let Some(newest) = inventory.units(table).filter(is_of_protocol).max() else { continue };
                let Some((metadata, _)) = self.lake.file_metadata(table, newest).await? else { continue };
                let other = metadata.get(SCHEMA).map_or(Schema::Messari.name(), String::as_str);
                if other != schema.name() {
                    let message = format!(
                        "this lake has {rows} of {protocol} from a subgraph in the schema {other:?}, and keeps to it"
                    );
                    return Err(Error::bad_input(message)
                        .with("configured", schema.name())
                        .with_hint("use another lake, or the schema and the subgraph of before in the configuration"));
                }
            }
        }
        Ok(())
    }
}
