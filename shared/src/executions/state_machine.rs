//! The state machine in Step Functions.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::{ExecutionListItem, ExecutionStatus};

use super::{Execution, Executions};
use crate::aws::{code, failed};
use crate::error::{Error, Result};

/// A state machine.
#[derive(Debug, Clone)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

/// An execution with what went in and what came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The execution.
    pub execution: Execution,
    /// Its input, as JSON.
    pub input: String,
    /// Its output, as JSON; none while it runs or where it failed.
    pub output: Option<String>,
    /// The kind of error that it failed with.
    pub error: Option<String>,
    /// Which step failed, and why.
    pub cause: Option<String>,
    /// When it ended, in milliseconds since 1970.
    pub stopped: Option<i64>,
}

/// How far a state of an execution is. A state that was entered more than once counts by its last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProgress {
    /// Its name.
    pub name: String,
    /// When it was entered, in milliseconds since 1970.
    pub entered: i64,
    /// When it was left, likewise; none while it is under way.
    pub left: Option<i64>,
    /// Of a map: its items that are done, and all of them.
    pub items: Option<(u64, u64)>,
}

impl StateMachine {
    /// A state machine by its ARN.
    pub fn new(aws: &SdkConfig, arn: impl Into<String>) -> Self {
        StateMachine { client: Client::new(aws), arn: arn.into() }
    }

    /// The state machine of a name in the account and region of the credentials.
    ///
    /// # Errors
    /// `BadInput` where there is none, and the errors of AWS.
    pub async fn named(aws: &SdkConfig, name: &str) -> Result<Self> {
        let client = Client::new(aws);
        let mut pages = client.list_state_machines().into_paginator().items().send();
        while let Some(machine) = pages.next().await {
            let machine = machine.map_err(|error| failed("ListStateMachines", error))?;
            if machine.name == name {
                return Ok(StateMachine { client, arn: machine.state_machine_arn });
            }
        }
        Err(Error::bad_input(format!("there is no state machine {name:?} in this account and region"))
            .next("deploy the environment first, or choose its account and region (AWS_PROFILE, AWS_REGION)"))
    }

    /// Starts an execution; its ARN.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn start(&self, input: &str) -> Result<String> {
        let started = self.client.start_execution().state_machine_arn(&self.arn).input(input).send().await;
        Ok(started.map_err(|error| failed("StartExecution", error))?.execution_arn)
    }

    /// How an execution stands.
    ///
    /// # Errors
    /// `BadInput` for an execution that there is not, and the errors of AWS.
    pub async fn describe(&self, arn: &str) -> Result<Description> {
        let answer = match self.client.describe_execution().execution_arn(arn).send().await {
            Ok(answer) => answer,
            Err(error) if matches!(code(&error), Some("ExecutionDoesNotExist" | "InvalidArn")) => {
                return Err(Error::bad_input(format!("there is no execution {arn}"))
                    .next("see defi status for those there are"));
            }
            Err(error) => return Err(failed("DescribeExecution", error)),
        };
        Ok(Description {
            execution: Execution {
                name: answer.name.unwrap_or_default(),
                status: answer.status.as_str().to_owned(),
                started: milliseconds(Some(&answer.start_date)).unwrap_or_default(),
                arn: answer.execution_arn,
            },
            input: answer.input.unwrap_or_default(),
            output: answer.output,
            error: answer.error,
            cause: answer.cause,
            stopped: milliseconds(answer.stop_date.as_ref()),
        })
    }

    /// How far the states of an execution are, in the order in which they were entered.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn progress(&self, arn: &str) -> Result<Vec<StateProgress>> {
        let mut events = self.client.get_execution_history().execution_arn(arn).into_paginator().items().send();
        let mut states: Vec<StateProgress> = Vec::new();
        // Which state an event belongs to is said by the event before it, back to the one in which the state was entered.
        let mut state_of: HashMap<i64, usize> = HashMap::new();
        let mut maps = Vec::new();
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| failed("GetExecutionHistory", error).with("execution", arn))?;
            let time = milliseconds(Some(&event.timestamp)).unwrap_or_default();
            if let Some(entered) = &event.state_entered_event_details {
                let progress = StateProgress { name: entered.name.clone(), entered: time, left: None, items: None };
                state_of.insert(event.id, states.len());
                states.push(progress);
                continue;
            }
            let Some(&state) = state_of.get(&event.previous_event_id) else { continue };
            state_of.insert(event.id, state);
            if event.state_exited_event_details.is_some()
                && let Some(state) = states.get_mut(state)
            {
                state.left = Some(time);
            }
            maps.extend(event.map_run_started_event_details.and_then(|map| Some((state, map.map_run_arn?))));
        }
        for (state, map) in maps {
            if let Some(state) = states.get_mut(state) {
                state.items = self.items(&map).await?;
            }
        }
        Ok(states)
    }

    /// The items of a map that are done, and all of them.
    async fn items(&self, map: &str) -> Result<Option<(u64, u64)>> {
        let answer = self.client.describe_map_run().map_run_arn(map).send().await;
        let counts = answer.map_err(|error| failed("DescribeMapRun", error).with("map", map))?.item_counts;
        Ok(counts.map(|counts| {
            let done = counts.succeeded + counts.failed + counts.timed_out + counts.aborted;
            (u64::try_from(done).unwrap_or_default(), u64::try_from(counts.total).unwrap_or_default())
        }))
    }

    /// The account that it belongs to, as its ARN has it.
    #[must_use]
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    /// The ARN of an execution, by its name or itself.
    #[must_use]
    pub fn execution_arn(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        format!("{}:{name}", self.arn.replacen(":stateMachine:", ":execution:", 1))
    }

    /// The newest executions, newest first.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn newest(&self, count: usize) -> Result<Vec<Execution>> {
        self.list(None, count).await
    }

    async fn list(&self, status: Option<ExecutionStatus>, count: usize) -> Result<Vec<Execution>> {
        let list = self.client.list_executions().state_machine_arn(&self.arn).set_status_filter(status);
        let mut items = list.into_paginator().items().send();
        let mut executions = Vec::new();
        while executions.len() < count
            && let Some(item) = items.next().await
        {
            let item = item.map_err(|error| failed("ListExecutions", error).with("state_machine", &self.arn))?;
            executions.push(execution(item));
        }
        Ok(executions)
    }
}

#[async_trait]
impl Executions for StateMachine {
    async fn running(&self) -> Result<Vec<Execution>> {
        self.list(Some(ExecutionStatus::Running), usize::MAX).await
    }
}

fn execution(item: ExecutionListItem) -> Execution {
    Execution {
        started: milliseconds(Some(&item.start_date)).unwrap_or_default(),
        arn: item.execution_arn,
        name: item.name,
        status: item.status.as_str().to_owned(),
    }
}

fn milliseconds(time: Option<&aws_sdk_sfn::primitives::DateTime>) -> Option<i64> {
    time?.to_millis().ok()
}
