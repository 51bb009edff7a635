//! How far a backfill is, by its executions.

use std::collections::BTreeMap;
use std::fmt;

use defi_pages::number::duration;
use defi_shared::domain::Day;
use defi_shared::executions::Execution;

use super::call::BackfillCall;

/// The number of executions, the newest ones, by which the time that is left is estimated: days of years ago had fewer
/// rows.
const RECENT: usize = 20;

/// From how many seconds on a time is told in whole minutes.
const MINUTES_FROM: i64 = 600;

/// The executions of a backfill, by day and in the order of their starts.
#[derive(Debug, Clone)]
pub(in crate::aws) struct Backfill {
    pub call: BackfillCall,
    executions: BTreeMap<Day, Vec<Execution>>,
}

impl Backfill {
    /// Groups executions by the calls that started them, the call with the newest execution first.
    pub(super) fn all(executions: Vec<Execution>) -> Vec<Backfill> {
        let mut calls: BTreeMap<BackfillCall, BTreeMap<Day, Vec<Execution>>> = BTreeMap::new();
        for execution in executions {
            if let Some((call, day)) = BackfillCall::parse(&execution.name) {
                calls.entry(call).or_default().entry(day).or_default().push(execution);
            }
        }
        let mut all: Vec<_> = calls.into_iter().map(|(call, executions)| Backfill { call, executions }).collect();
        for executions in all.iter_mut().flat_map(|backfill| backfill.executions.values_mut()) {
            executions.sort_by_key(|execution| execution.started);
        }
        all.sort_by_key(|backfill| std::cmp::Reverse(backfill.in_order().last().map(|(_, newest)| newest.started)));
        all
    }

    /// Returns the backfill of a call: without executions if it is the first time.
    pub(super) fn of(call: BackfillCall, executions: Vec<Execution>) -> Backfill {
        let found = Backfill::all(executions).into_iter().find(|backfill| backfill.call == call);
        found.unwrap_or(Backfill { call, executions: BTreeMap::new() })
    }

    /// Returns all executions with their days, in the order of their starts.
    pub(super) fn in_order(&self) -> Vec<(Day, &Execution)> {
        let all = self.executions.iter().flat_map(|(day, executions)| executions.iter().map(|e| (*day, e)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, execution)| execution.started);
        all
    }

    fn succeeded(&self, day: Day) -> usize {
        let executions = self.executions.get(&day).map(Vec::as_slice).unwrap_or_default();
        executions.iter().filter(|execution| execution.status == "SUCCEEDED").count()
    }

    /// Returns how often all days were done.
    fn rounds(&self) -> usize {
        self.call.days().iter().map(|day| self.succeeded(*day)).min().unwrap_or_default()
    }

    /// Returns the days that are not done. A call that has done all its days before begins again with the first.
    pub(super) fn left(&self) -> Vec<Day> {
        let rounds = self.rounds();
        self.call.days().into_iter().filter(|day| self.succeeded(*day) == rounds).collect()
    }

    /// Returns whether it has begun, and some of its days are not done.
    pub(in crate::aws) fn is_unfinished(&self) -> bool {
        let executions = self.in_order();
        let is_running = executions.iter().any(|(_, execution)| execution.status == "RUNNING");
        let is_between_rounds = self.rounds() > 0 && self.left().len() == self.call.days().len();
        !executions.is_empty() && (is_running || !is_between_rounds)
    }

    /// Returns the number of executions that a day has had.
    pub(super) fn attempts(&self, day: Day) -> usize {
        self.executions.get(&day).map_or(0, Vec::len)
    }

    /// Adds an execution that was started for a day, or replaces it by what is known of it now.
    pub(super) fn add(&mut self, day: Day, execution: Execution) {
        let executions = self.executions.entry(day).or_default();
        executions.retain(|other| other.arn != execution.arn);
        executions.push(execution);
    }

    /// Returns how far the backfill is.
    pub(in crate::aws) fn progress(&self) -> Progress {
        let (all, left) = (self.call.days().len(), self.left().len());
        let done = if left == all && self.rounds() > 0 { all } else { all - left };
        Progress { done, left: all - done, seconds_per_day: self.seconds_per_day() }
    }

    /// Returns the median time of the newest executions that succeeded. The first execution of a backfill is left out: it
    /// produces all days before its own.
    fn seconds_per_day(&self) -> Option<i64> {
        let all = self.in_order();
        let ended = all.iter().skip(1).filter(|(_, execution)| execution.status == "SUCCEEDED");
        let times = ended.filter_map(|(_, execution)| Some((execution.stopped? - execution.started) / 1000));
        let mut newest: Vec<_> = times.rev().take(RECENT).collect();
        newest.sort_unstable();
        newest.get(newest.len() / 2).copied()
    }
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct Progress {
    /// The number of days that are done.
    pub done: usize,
    /// The number of days that are left.
    pub left: usize,
    /// The time that a day takes. None as long as no day but the first is done.
    pub seconds_per_day: Option<i64>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { done, left, seconds_per_day } = self;
        write!(f, "{done} of {} days done, {left} left", done + left)?;
        match seconds_per_day {
            Some(seconds) if *left > 0 => {
                let time_left = seconds.saturating_mul(i64::try_from(*left).unwrap_or(i64::MAX));
                let time_left = if time_left < MINUTES_FROM { time_left } else { time_left / 60 * 60 };
                write!(f, ", {} a day, about {} left", duration(*seconds), duration(time_left))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ExecutionInput;

    fn day(number: i32) -> Day {
        Day::from_epoch_days(19_000 + number)
    }

    fn call(days: i32) -> BackfillCall {
        BackfillCall::new((day(0), day(days - 1)), 1, &ExecutionInput::default())
    }

    /// Returns an execution of a call for a day, which starts at a second and takes some seconds.
    fn execution(
        call: &BackfillCall,
        number: i32,
        attempt: usize,
        status: &str,
        start: i64,
        seconds: i64,
    ) -> Execution {
        let name = call.execution(day(number), attempt);
        Execution {
            arn: format!("arn:{name}"),
            name,
            status: status.to_owned(),
            started: start * 1000,
            stopped: (status != "RUNNING").then_some((start + seconds) * 1000),
        }
    }

    #[test]
    fn interrupted_backfill_goes_on_with_the_days_that_are_left() {
        let call = call(5);
        let mut backfill = Backfill::of(call.clone(), Vec::new());
        assert_eq!((backfill.left(), backfill.is_unfinished()), ((0..5).map(day).collect(), false));
        assert_eq!(backfill.progress().to_string(), "0 of 5 days done, 5 left");
        let executions = vec![
            execution(&call, 0, 1, "SUCCEEDED", 0, 5000),
            execution(&call, 1, 1, "SUCCEEDED", 6000, 40),
            execution(&call, 2, 1, "FAILED", 7000, 1),
            Execution { name: "another".to_owned(), ..execution(&call, 4, 1, "SUCCEEDED", 8000, 1) },
        ];
        backfill = Backfill::of(call.clone(), executions);
        assert_eq!((backfill.left(), backfill.attempts(day(2))), ((2..5).map(day).collect(), 1));
        assert!(backfill.is_unfinished());
        assert_eq!(backfill.progress().to_string(), "2 of 5 days done, 3 left, 40s a day, about 2m left");
        backfill.add(day(2), execution(&call, 2, 2, "RUNNING", 9000, 0));
        assert_eq!(backfill.left().len(), 3);
        backfill.add(day(2), execution(&call, 2, 2, "SUCCEEDED", 9000, 60));
        assert_eq!((backfill.left(), backfill.attempts(day(2))), (vec![day(3), day(4)], 2));
        assert!(backfill.is_unfinished());
    }

    #[test]
    fn complete_backfill_begins_again() {
        let call = call(2);
        let executions = vec![execution(&call, 0, 1, "SUCCEEDED", 0, 9), execution(&call, 1, 1, "SUCCEEDED", 10, 9)];
        let mut backfill = Backfill::of(call.clone(), executions);
        assert_eq!((backfill.left().len(), backfill.is_unfinished()), (2, false));
        assert_eq!(backfill.progress().to_string(), "2 of 2 days done, 0 left");
        backfill.add(day(0), execution(&call, 0, 2, "SUCCEEDED", 20, 9));
        assert_eq!(backfill.left(), [day(1)]);
        assert_eq!(backfill.progress().left, 1);
    }

    #[test]
    fn day_that_failed_is_left() {
        let call = call(1);
        let backfill = Backfill::of(call.clone(), vec![execution(&call, 0, 1, "FAILED", 0, 9)]);
        assert_eq!((backfill.progress().left, backfill.is_unfinished()), (1, true));
    }

    #[test]
    fn calls_are_listed_with_the_newest_first() {
        let (older, newer) = (call(2), call(3));
        let executions = vec![execution(&newer, 0, 1, "RUNNING", 50, 0), execution(&older, 0, 1, "SUCCEEDED", 10, 1)];
        let all = Backfill::all(executions);
        assert_eq!(all.iter().map(|backfill| &backfill.call).collect::<Vec<_>>(), [&newer, &older]);
        assert!(all.iter().all(Backfill::is_unfinished));
    }
}
