//! The first day of the lake. A run extracts the newest days first, so after an interrupted run the first day is not the
//! earliest one in the lake: it is recorded before a run starts.

use super::Context;
use crate::domain::Day;
use crate::error::Result;
use crate::plan::Inventory;

/// The earliest first day of all runs that were started.
const FIRST_DAY: &str = "state/first_day.json";

impl Context {
    /// Returns the first day of a run: the day that it names, or else the earliest day that the lake has or that a run was
    /// started for. `None` if it names none and no run was started.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn first_day(&self, named: Option<Day>, inventory: &Inventory) -> Result<Option<Day>> {
        if named.is_some() {
            return Ok(named);
        }
        let recorded: Option<Day> = self.lake.read_json(FIRST_DAY).await?;
        Ok(recorded.into_iter().chain(inventory.first_day()).min())
    }

    /// Records the first day of a run that starts.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn record_first_day(&self, first: Day) -> Result<()> {
        match self.lake.read_json::<Day>(FIRST_DAY).await? {
            Some(recorded) if recorded <= first => Ok(()),
            _ => self.lake.write_json(FIRST_DAY, &first).await.map(drop),
        }
    }
}
