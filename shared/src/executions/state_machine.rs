//! The state machine in AWS Step Functions.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::types::ExecutionListItem;
use jiff::Timestamp;

use super::{Execution, Executions};
use crate::aws::{error_code, sdk_error};
use crate::error::{Error, Result};

/// How often, and at what interval, AWS is asked whether it knows of an execution that was started: DescribeExecution is
/// eventually consistent.
const START_POLLS: u32 = 30;
const START_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The largest number of executions that AWS lists in one response.
const LARGEST_PAGE: i32 = 1000;

/// A client of a state machine.
#[derive(Debug, Clone)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

/// An execution with its input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionDetails {
    /// The execution.
    pub execution: Execution,
    /// The input, as JSON.
    pub input: String,
    /// The output, as JSON. `None` while it runs, and if it failed.
    pub output: Option<String>,
    /// The kind of the error, if it failed.
    pub error: Option<String>,
    /// The failed step and its error message.
    pub cause: Option<String>,
}

/// The progress of one visit of a state of an execution. A state that is entered several times has several entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProgress {
    /// The name of the state.
    pub name: String,
    /// The time it was entered, in milliseconds since 1970.
    pub entered: i64,
    /// The time it was exited, in milliseconds since 1970. `None` while it runs.
    pub left: Option<i64>,
    /// For a map state: the number of completed items, and of all items.
    pub items: Option<(u64, u64)>,
}

impl StateMachine {
    /// Creates a client of the state machine with an ARN.
    pub fn new(aws: &SdkConfig, arn: impl Into<String>) -> Self {
        StateMachine { client: Client::new(aws), arn: arn.into() }
    }

    /// Finds a state machine by its name, in the account and region of the credentials.
    ///
    /// # Errors
    /// `BadInput` if there is no such state machine, and the errors of AWS.
    pub async fn find(aws: &SdkConfig, name: &str) -> Result<Self> {
        let client = Client::new(aws);
        let mut pages = client.list_state_machines().into_paginator().items().send();
        while let Some(machine) = pages.next().await {
            let machine = machine.map_err(|error| sdk_error("ListStateMachines", error))?;
            if machine.name == name {
                return Ok(StateMachine { client, arn: machine.state_machine_arn });
            }
        }
        Err(Error::bad_input(format!("no state machine {name:?} in this account and region"))
            .with_hint("deploy the environment first, or choose its account and region (AWS_PROFILE, AWS_REGION)"))
    }

    /// Starts an execution, waits until AWS tells of it, and returns its ARN. AWS chooses the name.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn start(&self, input: &str) -> Result<String> {
        let arn = self.start_execution(None, input).await.map_err(|error| sdk_error("StartExecution", error))?;
        self.wait_until_known(arn).await
    }

    /// Like [`StateMachine::start`], with a name. Returns `None` if an execution of the last 90 days has the name.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn start_named(&self, name: &str, input: &str) -> Result<Option<String>> {
        match self.start_execution(Some(name), input).await {
            Ok(arn) => self.wait_until_known(arn).await.map(Some),
            Err(error) if error_code(&error) == Some("ExecutionAlreadyExists") => Ok(None),
            Err(error) => Err(sdk_error("StartExecution", error)),
        }
    }

    async fn start_execution(&self, name: Option<&str>, input: &str) -> Result<String, SdkError<StartExecutionError>> {
        let call = self.client.start_execution().state_machine_arn(&self.arn).set_name(name.map(str::to_owned));
        Ok(call.input(input).send().await?.execution_arn)
    }

    async fn wait_until_known(&self, arn: String) -> Result<String> {
        for _ in 0..START_POLLS {
            if self.find_execution(&arn).await?.is_some() {
                break;
            }
            tokio::time::sleep(START_POLL_INTERVAL).await;
        }
        Ok(arn)
    }

    /// Returns the details of an execution.
    ///
    /// # Errors
    /// `BadInput` for an unknown execution, and the errors of AWS.
    pub async fn describe(&self, arn: &str) -> Result<ExecutionDetails> {
        let response = self.find_execution(arn).await?.ok_or_else(|| {
            Error::bad_input(format!("no execution {arn}")).with_hint("list the executions with defi status")
        })?;
        Ok(ExecutionDetails {
            execution: execution_of(&response),
            input: response.input.unwrap_or_default(),
            output: response.output,
            error: response.error,
            cause: response.cause,
        })
    }

    /// Returns an execution, or `None` if AWS knows of none with this ARN: it may have started a moment ago, or have ended
    /// more than 90 days ago.
    async fn find_execution(&self, arn: &str) -> Result<Option<DescribeExecutionOutput>> {
        match self.client.describe_execution().execution_arn(arn).send().await {
            Ok(execution) => Ok(Some(execution)),
            Err(error) if matches!(error_code(&error), Some("ExecutionDoesNotExist" | "InvalidArn")) => Ok(None),
            Err(error) => Err(sdk_error("DescribeExecution", error).with("execution", arn)),
        }
    }

    /// Returns the progress of an execution's states, in the order in which they were entered.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn progress(&self, arn: &str) -> Result<Vec<StateProgress>> {
        let mut events = self.client.get_execution_history().execution_arn(arn).into_paginator().items().send();
        let mut states: Vec<StateProgress> = Vec::new();
        // An event belongs to the state of the event before it. The chain starts at the event that entered the state.
        let mut state_of: HashMap<i64, usize> = HashMap::new();
        let mut maps = Vec::new();
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| sdk_error("GetExecutionHistory", error).with("execution", arn))?;
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

    /// Returns the number of completed items of a map run, and of all items.
    async fn items(&self, map: &str) -> Result<Option<(u64, u64)>> {
        let response = self.client.describe_map_run().map_run_arn(map).send().await;
        let counts = response.map_err(|error| sdk_error("DescribeMapRun", error).with("map", map))?.item_counts;
        Ok(counts.map(|counts| {
            let done = counts.succeeded + counts.failed + counts.timed_out + counts.aborted;
            (u64::try_from(done).unwrap_or_default(), u64::try_from(counts.total).unwrap_or_default())
        }))
    }

    /// Returns the ARN of an execution, given its name or its ARN.
    #[must_use]
    pub fn execution_arn(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        format!("{}:{name}", self.arn.replacen(":stateMachine:", ":execution:", 1))
    }

    /// Returns the executions of the last 90 days, newest first.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn executions(&self) -> Result<Vec<Execution>> {
        self.newest(usize::MAX).await
    }

    /// Returns the newest `count` executions, newest first.
    ///
    /// # Errors
    /// The errors of AWS.
    pub async fn newest(&self, count: usize) -> Result<Vec<Execution>> {
        let list = self.client.list_executions().state_machine_arn(&self.arn).max_results(LARGEST_PAGE);
        let mut items = list.into_paginator().items().send();
        let mut executions = Vec::new();
        while executions.len() < count
            && let Some(item) = items.next().await
        {
            let item = item.map_err(|error| sdk_error("ListExecutions", error).with("state_machine", &self.arn))?;
            executions.push(execution(item));
        }
        Ok(executions)
    }
}

#[async_trait]
impl Executions for StateMachine {
    async fn may_write(&self, arn: &str, now: Timestamp) -> Result<Option<bool>> {
        let execution = self.find_execution(arn).await?;
        Ok(execution.map(|response| execution_of(&response).may_write(now)))
    }
}

fn execution_of(response: &DescribeExecutionOutput) -> Execution {
    Execution {
        name: response.name.clone().unwrap_or_default(),
        status: response.status.as_str().to_owned(),
        started: milliseconds(Some(&response.start_date)).unwrap_or_default(),
        stopped: milliseconds(response.stop_date.as_ref()),
        arn: response.execution_arn.clone(),
    }
}

fn execution(item: ExecutionListItem) -> Execution {
    Execution {
        started: milliseconds(Some(&item.start_date)).unwrap_or_default(),
        stopped: milliseconds(item.stop_date.as_ref()),
        arn: item.execution_arn,
        name: item.name,
        status: item.status.as_str().to_owned(),
    }
}

fn milliseconds(time: Option<&aws_sdk_sfn::primitives::DateTime>) -> Option<i64> {
    time?.to_millis().ok()
}
