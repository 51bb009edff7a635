//! Committing a unit: the states that were computed from another version of it are deleted before its object is
//! written, and so are the records that features computed from those states passed their checks.

use arrow_array::RecordBatch;

use super::Context;
use crate::domain::{Category, Day};
use crate::error::Result;
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::lake::{EncodedUnit, FileMetadata, Lake, PutOutcome, State, WorkUnit, WriteOutcome};
use crate::tables::{self, Layer, Row, Table};

impl Context {
    /// Commits one unit of a table to the lake of the context: see [`commit`].
    ///
    /// # Errors
    /// As [`commit`].
    pub async fn commit<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        rows: impl IntoIterator<Item = R> + Send + 'static,
        metadata: FileMetadata,
    ) -> Result<WriteOutcome> {
        commit(&self.lake, table, unit, rows, metadata).await
    }

    /// Like [`Context::commit`], for the columns of a row type in a record batch.
    ///
    /// # Errors
    /// As [`commit`].
    pub async fn commit_columns<R: Row>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        columns: RecordBatch,
        metadata: FileMetadata,
    ) -> Result<WriteOutcome> {
        let object = self.lake.encode_columns::<R>(table, unit, vec![columns], metadata).await?;
        commit_object(&self.lake, table, unit, object).await
    }
}

/// Commits one unit of a table. If the rows differ from those in the lake, the states that contain the old rows are
/// deleted first, so that no state outlives its inputs. Equal rows give equal bytes, which are not written again.
///
/// # Errors
/// The object can't be encoded or written. The old object is intact then.
pub async fn commit<R: Row>(
    lake: &Lake,
    table: &Table,
    unit: &WorkUnit,
    rows: impl IntoIterator<Item = R> + Send + 'static,
    metadata: FileMetadata,
) -> Result<WriteOutcome> {
    commit_object(lake, table, unit, lake.encode(table, unit, rows, metadata).await?).await
}

async fn commit_object(lake: &Lake, table: &Table, unit: &WorkUnit, object: EncodedUnit) -> Result<WriteOutcome> {
    if let Some(newest) = newest_state_without(table, unit)
        && lake.compare(&object).await? != PutOutcome::Unchanged
    {
        delete_states_after(lake, newest, table).await?;
    }
    lake.put(object).await
}

/// Deletes the states of all as-of days after `newest` that contain rows of a table, and the records that features
/// computed from such a state passed their checks.
async fn delete_states_after(lake: &Lake, newest: Day, table: &Table) -> Result<()> {
    let states: &[State] = match table {
        table if *table == tables::RAW_LOGS => &[State::Replay],
        table if *table == tables::WALLET_LINKS => &[State::Fold, State::Links],
        _ => &[State::Fold],
    };
    let states = states.iter().copied();
    let list = |state| async move { Ok(lake.stored_states(state).await?.into_iter().map(move |of| (state, of))) };
    let (passed, states) = tokio::try_join!(lake.passed_days(), in_order(states, SMALL_REQUESTS, list))?;
    // What is staged from the logs changes the rows from which features are computed, and those change the records.
    let passed = passed.into_iter().filter(|as_of| *as_of > newest && *table != tables::RAW_LOGS);
    in_order(passed, SMALL_REQUESTS, |as_of| lake.delete_passed_check(as_of)).await?;
    let stale = states.into_iter().flatten().filter(|(_, (as_of, _))| *as_of > newest);
    let delete = |(state, (as_of, part)): (State, (Day, String))| async move {
        lake.delete_object(&state.key(as_of, &part)).await
    };
    in_order(stale, SMALL_REQUESTS, delete).await.map(drop)
}

/// Returns the newest as-of day whose state does not contain this unit's rows, or `None` for tables that are not part
/// of a state. The state of day D contains the events, links and logs of the days before D, and the snapshots up to and
/// including D.
fn newest_state_without(table: &Table, unit: &WorkUnit) -> Option<Day> {
    let day = unit.day()?;
    let is_events = Category::ALL.into_iter().any(|category| tables::event_table(Layer::Analytics, category) == table);
    if *table == tables::WALLET_HEALTH {
        Some(day.previous())
    } else if is_events || [&tables::WALLET_LINKS, &tables::RAW_LOGS].contains(&table) {
        Some(day)
    } else {
        None
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::domain::{HexBytes, Link};
    use crate::tables::{WALLET_LINKS, WalletLink};
    use crate::testing::{AAVE, TestLake, january};

    fn link(since: i64) -> WalletLink {
        Link { account: HexBytes([1; 20]), wallet: HexBytes([2; 20]), since }.into()
    }

    #[tokio::test]
    async fn commit_deletes_states_that_contain_the_old_rows() {
        let test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
        let (context, day) = (test_lake.context(), january(20));
        let unit = WorkUnit::Day(day);
        let commit = |since| context.commit(&WALLET_LINKS, &unit, vec![link(since)], FileMetadata::new());
        commit(5).await.unwrap();
        for as_of in [day, day.next()] {
            context.lake.write_state(State::Links, as_of, "all", vec![link(1)]).await.unwrap();
        }
        commit(5).await.unwrap();
        assert_eq!(context.lake.stored_states(State::Links).await.unwrap().len(), 2, "equal bytes change nothing");
        commit(6).await.unwrap();
        let newest = context.lake.newest_state::<WalletLink>(State::Links, day.plus_days(9), "all").await.unwrap();
        assert_eq!(newest.map(|(as_of, _)| as_of), Some(day));
    }
}
