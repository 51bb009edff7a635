//! The deadline of a call, and how a step ends before it.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Time reserved for reporting an error before the process is killed.
const TO_REPORT: Duration = Duration::from_secs(3);

/// Time reserved for the work after the units: registering them in the catalog, and writing the report.
const AFTER_UNITS: Duration = Duration::from_secs(10);

/// The maximum time that a unit of usual size takes. With less time left, no unit is started, since it would be
/// aborted.
const UNIT_TIME: Duration = Duration::from_secs(20);

/// The times at which a step stops starting units, at which it aborts the running units, and at which the whole step is
/// aborted. A unit is written atomically, so that an aborted unit leaves nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    last_start: Instant,
    last_end: Instant,
    abort: Instant,
}

impl Deadline {
    /// Returns the deadline of a call whose process is killed after the given time.
    #[must_use]
    pub fn from_remaining_time(remaining: Duration) -> Self {
        let now = Instant::now();
        Deadline {
            last_start: now + remaining.saturating_sub(AFTER_UNITS + UNIT_TIME),
            last_end: now + remaining.saturating_sub(AFTER_UNITS),
            abort: now + remaining.saturating_sub(TO_REPORT),
        }
    }

    /// Returns a deadline at which units are cut after the given time.
    #[cfg(test)]
    pub(super) fn of_units(time: Duration) -> Self {
        let last_end = Instant::now() + time;
        Deadline { last_start: last_end - time / 5, last_end, abort: last_end }
    }

    /// Returns whether no further unit should be started.
    pub(super) fn is_near(&self) -> bool {
        Instant::now() >= self.last_start
    }

    /// Runs the work of units until it completes or the deadline passes. Returns `None` if the deadline passed.
    pub(super) async fn before<T>(deadline: Option<Self>, work: impl Future<Output = T>) -> Option<T> {
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.last_end.into(), work).await.ok(),
            None => Some(work.await),
        }
    }

    /// Runs a step that has no units, or whose units took their time. Aborts it before the process would be killed, which
    /// would leave no error of a known kind.
    ///
    /// # Errors
    /// `Internal` if the step did not end in time, and the errors of the step.
    pub(super) async fn enforce<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = tokio::time::timeout_at(self.abort.into(), work).await;
        result.unwrap_or_else(|_| Err(too_short("the whole call")))
    }
}

/// Returns the error of calls whose time is too short for a unit of work. Further calls would fail the same way.
pub(super) fn too_short(work: &str) -> Error {
    Error::internal(format!("the time of a whole call is too short for {work}"))
        .with_hint("increase the timeout or memory of the function, or the step's share of its source's rate limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn step_that_does_not_end_is_an_error_before_the_process_is_killed() {
        let near = Deadline::from_remaining_time(TO_REPORT + Duration::from_millis(20));
        let error = near.enforce(std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Internal);
        assert!(error.to_string().contains("too short for the whole call"), "{error}");
        assert_eq!(near.enforce(async { Ok(1) }).await.unwrap(), 1);
    }

    #[cfg(feature = "testing")]
    mod units {
        use super::*;
        use crate::domain::Day;
        use crate::lake::WorkUnit;
        use crate::pipeline::Step;
        use crate::step::{Context, Remaining, Report};
        use crate::testing::{AAVE, TestLake, january};

        /// Calls a step for these days with a deadline of half a second for the units. Those of 10 January and later never
        /// complete.
        async fn call(test_lake: &mut TestLake, days: &[Day], resume: Option<&Remaining>) -> Result<Report> {
            test_lake.context.deadline = Some(Deadline::of_units(Duration::from_millis(500)));
            let context = &test_lake.context;
            let days = days.iter().copied().map(WorkUnit::Day).collect();
            let units = context.call_units(Step::LinkWallets, days, resume).await?;
            let work = |_: Context, unit: WorkUnit| async move {
                if unit.day() >= Some(january(10)) {
                    std::future::pending::<()>().await;
                }
                Ok(Report { units: 1, ..Report::default() })
            };
            let report = context.run_units(Step::LinkWallets, &units, 2, work).await?;
            context.finish_call(Step::LinkWallets, None, &units, report).await
        }

        /// Calls a step until nothing remains. Returns the number of units that each call completed, or the first error
        /// after as many calls.
        async fn call_until_done(days: &[Day]) -> (Vec<u64>, Option<Error>) {
            let mut test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            let (mut completed, mut resume) = (Vec::new(), None);
            loop {
                match call(&mut test_lake, days, resume.as_ref()).await {
                    Err(error) => return (completed, Some(error)),
                    Ok(report) => {
                        completed.push(report.units);
                        if report.remaining.count == 0 {
                            return (completed, None);
                        }
                        resume = Some(report.remaining);
                    }
                }
            }
        }

        #[tokio::test]
        async fn unit_that_is_cut_holds_back_no_other() {
            let mut test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            let days = [january(10), january(1), january(2), january(3)];
            let report = call(&mut test_lake, &days, None).await.unwrap();
            assert_eq!((report.units, report.remaining.count), (3, 1));
            assert_eq!(report.remaining.first, ["2023-01-10"], "units that are done are not repeated");
        }

        #[tokio::test]
        async fn units_that_are_cut_come_last_in_the_next_call() {
            let mut test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            let days = [10, 11, 1, 2].map(january);
            let first = call(&mut test_lake, &days, None).await.unwrap();
            assert_eq!((first.units, first.remaining.idle_calls), (0, 1), "both running units were cut");
            assert_eq!(first.remaining.first, ["2023-01-01", "2023-01-02", "2023-01-10", "2023-01-11"]);
            let second = call(&mut test_lake, &days, Some(&first.remaining)).await.unwrap();
            assert_eq!((second.units, second.remaining.idle_calls), (2, 0));
            assert_eq!(second.remaining.first, ["2023-01-11", "2023-01-10"], "one at a time after an idle call");
        }

        #[tokio::test]
        async fn unit_that_is_cut_twice_alone_is_an_error_that_names_it() {
            let (completed, error) = call_until_done(&[january(1), january(10)]).await;
            assert_eq!(completed, [1, 0], "the neighbour, and the first call alone");
            let error = error.unwrap();
            assert_eq!(error.kind(), crate::Kind::Internal);
            assert!(error.to_string().contains("too short for one unit (unit=2023-01-10"), "{error}");
        }

        #[tokio::test]
        async fn calls_that_complete_nothing_end_in_an_error() {
            let (completed, error) = call_until_done(&[10, 11, 12, 13].map(january)).await;
            assert_eq!((completed, error.map(|error| error.kind())), (vec![0, 0], Some(crate::Kind::Internal)));
        }

        #[tokio::test]
        async fn many_remaining_units_are_listed_in_the_lake() {
            let mut test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            let days: Vec<_> = (10..=40).map(january).collect();
            let report = call(&mut test_lake, &days, None).await.unwrap();
            assert_eq!((report.remaining.count, report.remaining.first.len()), (31, 20));
            let context = test_lake.context();
            let all = days.iter().copied().map(WorkUnit::Day).collect();
            let resumed = context.call_units(Step::LinkWallets, all, Some(&report.remaining)).await.unwrap();
            assert_eq!(resumed.len(), 31);
        }

        #[tokio::test]
        async fn list_of_remaining_units_is_in_the_folder_of_the_step_and_only_read_by_it() {
            let mut test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            let days: Vec<_> = (10..=40).map(january).collect();
            let report = call(&mut test_lake, &days, None).await.unwrap();
            let list = report.remaining.list.clone().unwrap();
            assert!(list.starts_with("runs/without-run/reports/link-wallets/remaining/"), "{list}");
            let context = test_lake.context();
            for other in [
                list.replace("link-wallets", "price-events"),
                format!("runs/x/reports/price-events/{list}"),
                list.replace("remaining/", "remaining/reports/price-events/"),
                list.replace("remaining/", ""),
            ] {
                context.lake.write_json(&other, &report.remaining.first).await.unwrap();
                let resume = Remaining { list: Some(other.clone()), ..report.remaining.clone() };
                let units = days.iter().copied().map(WorkUnit::Day).collect();
                let resumed = context.call_units(Step::LinkWallets, units, Some(&resume)).await;
                assert_eq!(resumed.unwrap_err().kind(), crate::Kind::BadInput, "{other}");
            }
        }

        #[tokio::test]
        async fn resumed_units_must_be_selected_by_the_input() {
            let test_lake = TestLake::new(&[AAVE], january(31)).unwrap();
            for first in ["2023-01-02", "yesterday"] {
                let resume = Remaining { count: 1, first: vec![first.to_owned()], ..Remaining::default() };
                let units = vec![WorkUnit::Day(january(1))];
                let resumed = test_lake.context.call_units(Step::LinkWallets, units, Some(&resume)).await;
                assert_eq!(resumed.unwrap_err().kind(), crate::Kind::BadInput, "{first}");
            }
        }
    }
}
