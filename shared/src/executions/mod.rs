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
}

/// Lists executions.
#[async_trait]
pub trait Executions: Debug + Send + Sync {
    /// Returns the running executions.
    ///
    /// # Errors
    /// The executions could not be listed.
    async fn running(&self) -> Result<Vec<Execution>>;
}
