//! Executions of the state machine.

#[cfg(feature = "aws")]
mod state_machine;

use std::fmt::Debug;

use async_trait::async_trait;

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

/// Tells which executions have ended.
#[async_trait]
pub trait Executions: Debug + Send + Sync {
    /// Returns whether an execution has not ended, or `None` if it is unknown: it may have started a moment ago. It may be
    /// reported as running shortly after its end.
    ///
    /// # Errors
    /// The status could not be read.
    async fn is_running(&self, arn: &str) -> Result<Option<bool>>;
}
