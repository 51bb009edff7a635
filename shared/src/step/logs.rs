//! The logs of a day, which the lake has by day or by month.

use std::sync::Arc;

use super::Context;
use crate::domain::Day;
use crate::error::{Kind, Result};
use crate::lake::{FileMetadata, WorkUnit};
use crate::tables::{RAW_LOGS, RawLog};

/// An object of logs.
#[derive(Debug)]
pub struct Logs {
    /// The days that it covers, and the protocol.
    pub unit: WorkUnit,
    /// The logs, in the order of the chain.
    pub rows: Vec<RawLog>,
    /// The metadata of the object.
    pub metadata: FileMetadata,
}

impl Context {
    /// Reads the object that has the logs of a day of a protocol: that of the day, or that of its month.
    ///
    /// # Errors
    /// `NotReady` if the lake has neither, and the errors of the lake.
    pub async fn logs(&self, protocol: &Arc<str>, day: Day) -> Result<Logs> {
        let of_day = WorkUnit::ProtocolDay(day, Arc::clone(protocol));
        let missing = match self.read_logs(of_day).await {
            Err(error) if error.kind() == Kind::NotReady => error,
            logs => return logs,
        };
        let of_month = WorkUnit::ProtocolMonth(day.first_of_month(), Arc::clone(protocol));
        match self.read_logs(of_month).await {
            Err(error) if error.kind() == Kind::NotReady => Err(missing),
            logs => logs,
        }
    }

    async fn read_logs(&self, unit: WorkUnit) -> Result<Logs> {
        let (rows, metadata) = self.lake.require_with_metadata(&RAW_LOGS, &unit).await?;
        Ok(Logs { unit, rows, metadata })
    }
}
