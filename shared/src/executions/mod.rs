//! Executions of the state machine: which are under way.

#[cfg(feature = "aws")]
mod state_machine;

use std::fmt::Debug;

use async_trait::async_trait;

#[cfg(feature = "aws")]
pub use state_machine::{Description, StateMachine, StateProgress};

use crate::error::Result;

/// An execution of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// How it stands, in Step Functions' words: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`.
    pub status: String,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
}

/// Where executions are listed.
#[async_trait]
pub trait Executions: Debug + Send + Sync {
    /// The executions that are under way.
    ///
    /// # Errors
    /// They could not be listed.
    async fn running(&self) -> Result<Vec<Execution>>;
}
