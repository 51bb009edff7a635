//! The logs of a day, which the lake has by day or by month.

use std::sync::Arc;

use bytes::Bytes;

use super::Context;
use crate::domain::Day;
use crate::error::Result;
use crate::lake::{FileMetadata, WorkUnit, parquet};
use crate::tables::{RAW_LOGS, RawLog};

/// An object of logs. It is decoded in parts, since the logs of a month may not fit into the memory.
#[derive(Debug)]
pub struct Logs {
    /// The days that it covers, and the protocol.
    pub unit: WorkUnit,
    /// The metadata of the object.
    pub metadata: FileMetadata,
    file: Bytes,
}

impl Context {
    /// Reads the object that has the logs of a day of a protocol: that of the day, or that of its month.
    ///
    /// # Errors
    /// `NotReady` if the lake has neither, and the errors of the lake.
    pub async fn logs(&self, protocol: &Arc<str>, day: Day) -> Result<Logs> {
        let of_day = WorkUnit::ProtocolDay(day, Arc::clone(protocol));
        let of_month = WorkUnit::ProtocolMonth(day.first_of_month(), Arc::clone(protocol));
        for unit in [&of_day, &of_month] {
            let key = unit.key(&RAW_LOGS);
            if let Some(file) = self.lake.store().get(&key).await? {
                let (metadata, _) = parquet::file_metadata(&file).map_err(|error| error.with("object", key))?;
                return Ok(Logs { unit: unit.clone(), metadata, file });
            }
        }
        Err(self.lake.missing_unit(&RAW_LOGS, &of_day).await)
    }
}

impl Logs {
    /// Hands over the logs, one after another, in the order of the chain.
    ///
    /// # Errors
    /// `CorruptData` for an object that is damaged, and the errors of `visit`.
    pub fn for_each(self, mut visit: impl FnMut(RawLog) -> Result<()>) -> Result<()> {
        let Logs { unit, file, .. } = self;
        let visit_part = |rows: Vec<RawLog>| rows.into_iter().try_for_each(&mut visit);
        parquet::decode_parts(file, visit_part).map_err(|error| error.with("object", unit.key(&RAW_LOGS)))
    }
}
