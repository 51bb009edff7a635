//! Executions of the state machine.

#[cfg(feature = "aws")]
mod state_machine;

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

#[cfg(feature = "aws")]
pub use state_machine::{ExecutionDetails, StateMachine, StateProgress};

use crate::error::Result;

/// An execution of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// The ARN.
    pub arn: String,
    /// The name.
    pub name: String,
    /// The status as Step Functions names it: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
    pub status: String,
    /// The start time, in milliseconds since 1970.
    pub started: i64,
    /// The end time, in milliseconds since 1970. `None` while it runs.
    pub stopped: Option<i64>,
}

/// How long a call of a function may take. A call that is in progress when its execution is stopped or runs into its timeout goes
/// on: nothing ends it.
pub const LONGEST_CALL: SignedDuration = SignedDuration::from_mins(15);

impl Execution {
    /// Returns whether a function that the execution called may still write at a time: the execution runs, or was ended from
    /// outside a short time ago.
    #[must_use]
    pub fn may_write(&self, now: Timestamp) -> bool {
        let was_ended = ["ABORTED", "TIMED_OUT"].contains(&self.status.as_str());
        let stopped = self.stopped.and_then(|stopped| Timestamp::from_millisecond(stopped).ok());
        self.status == "RUNNING"
            || was_ended && stopped.is_some_and(|stopped| now.duration_since(stopped) < LONGEST_CALL)
    }
}

/// Tells which executions may still write to the lake.
#[async_trait]
pub trait Executions: Debug + Send + Sync {
    /// Returns whether a function that an execution called may still write at a time, or `None` if the execution is unknown:
    /// it may have started a moment ago. It may be reported as running shortly after its end.
    ///
    /// # Errors
    /// The status could not be read.
    async fn may_write(&self, arn: &str, now: Timestamp) -> Result<Option<bool>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_a_stopped_execution_may_write_for_a_while() {
        let minute = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        for (status, until) in [("RUNNING", 600), ("SUCCEEDED", 10), ("FAILED", 10), ("ABORTED", 25), ("TIMED_OUT", 25)]
        {
            let stopped = (status != "RUNNING").then(|| minute(10).as_millisecond());
            let (arn, name, status) = ("arn".to_owned(), "name".to_owned(), status.to_owned());
            let execution = Execution { arn, name, status, started: 0, stopped };
            assert!(!execution.may_write(minute(until)) || until == 600, "{execution:?}");
            assert!(execution.may_write(minute(until - 1)) || until == 10, "{execution:?}");
        }
    }
}
