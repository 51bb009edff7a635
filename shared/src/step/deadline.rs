//! The end of a call's time, and how a step comes to its own end before it.

use std::time::{Duration, Instant};

use super::Remaining;
use crate::error::Error;
use crate::pipeline::Step;

/// Left for what comes after the units: registering what is there, and the report.
const AFTER_UNITS: Duration = Duration::from_secs(10);

/// What a unit of the usual size takes at most. When less is left, none is begun, since it would be given up again.
const OF_A_UNIT: Duration = Duration::from_secs(20);

/// When a step begins no further unit, and when it gives up those that are under way. Units are written whole or not at all, so
/// that one which is given up has left nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    last_begin: Instant,
    last_end: Instant,
}

impl Deadline {
    /// The deadline of a call whose process is ended after so long.
    #[must_use]
    pub fn of_call(left: Duration) -> Self {
        let now = Instant::now();
        Deadline {
            last_begin: now + left.saturating_sub(AFTER_UNITS + OF_A_UNIT),
            last_end: now + left.saturating_sub(AFTER_UNITS),
        }
    }

    /// Whether no further unit is begun.
    pub(super) fn is_near(&self) -> bool {
        Instant::now() >= self.last_begin
    }

    /// Does something, unless there is a deadline and it comes first.
    pub(super) async fn before<T>(deadline: Option<Self>, work: impl Future<Output = T>) -> Option<T> {
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.last_end.into(), work).await.ok(),
            None => Some(work.await),
        }
    }
}

/// The error of a call in which units were begun, and none ended: another call would fare no better.
pub(super) fn too_short(step: Step, remaining: &Remaining) -> Error {
    Error::internal("the time of a call is too short for a single unit")
        .with("step", step)
        .with("unit", remaining.units.first.first().map_or("", String::as_str))
        .next("give the function more time or memory, or the step a larger share of its source's rate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_before_the_deadline_or_is_given_up() {
        let far = Deadline::of_call(Duration::from_secs(3600));
        assert!(!far.is_near());
        assert_eq!(Deadline::before(Some(far), async { 1 }).await, Some(1));
        let near = Deadline::of_call(AFTER_UNITS + Duration::from_millis(20));
        assert!(near.is_near());
        assert_eq!(Deadline::before(Some(near), std::future::pending::<()>()).await, None);
        assert_eq!(Deadline::before(None, async { 1 }).await, Some(1));
    }

    #[cfg(feature = "testing")]
    mod units {
        use super::*;
        use crate::domain::Day;
        use crate::error::{Kind, Result};
        use crate::lake::Unit;
        use crate::step::{Context, Report};
        use crate::testing::{AAVE, Lab, january, kind};

        /// Works on days of which only those before the second end, with time to begin all and to end none that hangs.
        async fn work_on(days: &[Day]) -> Result<Report> {
            let mut lab = Lab::new(&[AAVE], january(9))?;
            let now = Instant::now();
            let (last_begin, last_end) = (now + Duration::from_secs(3600), now + Duration::from_millis(50));
            lab.context.deadline = Some(Deadline { last_begin, last_end });
            let units: Vec<_> = days.iter().copied().map(Unit::Day).collect();
            let work = |_: Context, unit: Unit| async move {
                if unit.day() >= Some(january(2)) {
                    std::future::pending::<()>().await;
                }
                Ok(Report { units: 1, ..Report::default() })
            };
            lab.context.run_units(Step::LinkWallets, &units, 8, work).await
        }

        #[tokio::test]
        async fn what_does_not_end_in_time_remains() {
            let report = work_on(&[january(1), january(2), january(3)]).await.unwrap();
            assert_eq!((report.units, report.remaining.units.count), (1, 2));
            assert_eq!(report.remaining.next, Some(january(2)));
        }

        #[tokio::test]
        async fn a_call_too_short_for_any_unit_is_an_error_and_not_an_endless_loop() {
            assert_eq!(kind(work_on(&[january(2), january(3)]).await), Some(Kind::Internal));
        }
    }
}
