//! The deadline of a call, and how a step ends before it.

use std::time::{Duration, Instant};

use super::Remaining;
use crate::error::Error;
use crate::pipeline::Step;

/// Time reserved for the work after the units: registering them in the catalog, and writing the report.
const AFTER_UNITS: Duration = Duration::from_secs(10);

/// The maximum time that a unit of usual size takes. With less time left, no unit is started, since it would be
/// aborted.
const UNIT_TIME: Duration = Duration::from_secs(20);

/// The times at which a step stops starting units, and at which it aborts the running units. A unit is written
/// atomically, so that an aborted unit leaves nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    last_start: Instant,
    last_end: Instant,
}

impl Deadline {
    /// Returns the deadline of a call whose process is killed after the given time.
    #[must_use]
    pub fn from_remaining_time(remaining: Duration) -> Self {
        let now = Instant::now();
        Deadline {
            last_start: now + remaining.saturating_sub(AFTER_UNITS + UNIT_TIME),
            last_end: now + remaining.saturating_sub(AFTER_UNITS),
        }
    }

    /// Returns whether no further unit should be started.
    pub(super) fn is_near(&self) -> bool {
        Instant::now() >= self.last_start
    }

    /// Runs a future until it completes or the deadline passes. Returns `None` if the deadline passed.
    pub(super) async fn before<T>(deadline: Option<Self>, work: impl Future<Output = T>) -> Option<T> {
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.last_end.into(), work).await.ok(),
            None => Some(work.await),
        }
    }
}

/// Returns the error of a call that started units but completed none. Another call would fail the same way.
pub(super) fn too_short(step: Step, remaining: &Remaining) -> Error {
    Error::internal("the time of a call is too short for a single unit")
        .with("step", step)
        .with("unit", remaining.units.first.first().map_or("", String::as_str))
        .with_hint("increase the timeout or memory of the function, or the step's share of its source's rate limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_completes_before_the_deadline_or_is_aborted() {
        let far = Deadline::from_remaining_time(Duration::from_secs(3600));
        assert!(!far.is_near());
        assert_eq!(Deadline::before(Some(far), async { 1 }).await, Some(1));
        let near = Deadline::from_remaining_time(AFTER_UNITS + Duration::from_millis(20));
        assert!(near.is_near());
        assert_eq!(Deadline::before(Some(near), std::future::pending::<()>()).await, None);
        assert_eq!(Deadline::before(None, async { 1 }).await, Some(1));
    }

    #[cfg(feature = "testing")]
    mod units {
        use super::*;
        use crate::domain::Day;
        use crate::error::{Kind, Result};
        use crate::lake::WorkUnit;
        use crate::step::{Context, Report};
        use crate::testing::{AAVE, TestLake, january, kind};

        /// Runs a unit per day with a deadline of 50 ms. Units of 2 January and later never complete.
        async fn work_on(days: &[Day]) -> Result<Report> {
            let mut test_lake = TestLake::new(&[AAVE], january(9))?;
            let now = Instant::now();
            let (last_start, last_end) = (now + Duration::from_secs(3600), now + Duration::from_millis(50));
            test_lake.context.deadline = Some(Deadline { last_start, last_end });
            let units: Vec<_> = days.iter().copied().map(WorkUnit::Day).collect();
            let work = |_: Context, unit: WorkUnit| async move {
                if unit.day() >= Some(january(2)) {
                    std::future::pending::<()>().await;
                }
                Ok(Report { units: 1, ..Report::default() })
            };
            test_lake.context.run_units(Step::LinkWallets, &units, 8, work).await
        }

        #[tokio::test]
        async fn units_aborted_at_the_deadline_remain() {
            let report = work_on(&[january(1), january(2), january(3)]).await.unwrap();
            assert_eq!((report.units, report.remaining.units.count), (1, 2));
            assert_eq!(report.remaining.next, Some(january(2)));
        }

        #[tokio::test]
        async fn call_that_completes_no_unit_is_an_error() {
            assert_eq!(kind(work_on(&[january(2), january(3)]).await), Some(Kind::Internal));
        }
    }
}
