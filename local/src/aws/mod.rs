//! Runs in AWS: starts executions of the state machine, follows them and reports what they did.

mod backfill;
mod follow;
mod report;

use std::time::Duration;

use defi_shared::aws::{SdkConfig, configuration};
use defi_shared::catalog::{GlueCatalog, Registry, lake_bucket};
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::executions::{Execution, ExecutionDetails, StateMachine};
use defi_shared::lake::{Lake, S3Store};
use defi_shared::step::Lease;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::env::Env;
use crate::hint::CallOptions;
use crate::output::{data_line, line, message, table};
pub use backfill::backfill;
use report::ExecutionResult;

/// The input of an execution.
#[derive(Debug, Clone, Default)]
pub struct ExecutionInput {
    /// The as-of day. Default: today (UTC) by the clock of AWS.
    pub as_of: Option<Day>,
    /// The first day. Default: the first day in the lake.
    pub from: Option<Day>,
    /// Recompute units that exist already.
    pub force: bool,
    /// Extract again what its source no longer had in earlier runs.
    pub retry_lost: bool,
    /// Extract it again, and rebuild what the source still does not have.
    pub rebuild_lost: bool,
    /// Start even if another execution is in progress.
    pub allow_concurrent: bool,
}

impl ExecutionInput {
    /// Returns the JSON input of the state machine, without the fields that have their defaults.
    fn to_json(&self) -> Value {
        let mut input = Map::new();
        input.extend(self.as_of.map(|day| ("as_of".to_owned(), json!(day))));
        input.extend(self.from.map(|day| ("from".to_owned(), json!(day))));
        input.extend(self.force.then(|| ("force".to_owned(), json!(true))));
        input.extend(self.retry_lost.then(|| ("retry_lost".to_owned(), json!(true))));
        input.extend(self.rebuild_lost.then(|| ("rebuild_lost".to_owned(), json!(true))));
        input.extend(self.allow_concurrent.then(|| ("allow_concurrent".to_owned(), json!(true))));
        Value::Object(input)
    }
}

/// Returns the lake of an environment, with its catalog.
///
/// # Errors
/// `BadInput` if the environment is not deployed, and the errors of AWS.
pub(crate) async fn lake(aws: &SdkConfig, env: Env) -> Result<(Lake, Registry)> {
    let bucket = lake_bucket(aws, env.name()).await?;
    let registry = Registry::new(GlueCatalog::new(aws, &bucket), env.name());
    Ok((Lake::new(S3Store::new(aws, bucket)), registry))
}

/// Returns the bucket of an environment's lake, and the region of the configuration if it has one.
///
/// # Errors
/// `BadInput` if the environment is not deployed, and the errors of AWS.
pub(crate) async fn bucket_and_region(env: Env) -> Result<(String, Option<String>)> {
    let aws = configuration().await;
    let bucket = lake_bucket(&aws, env.name()).await?;
    Ok((bucket, aws.region().map(ToString::to_string)))
}

/// The time between two looks at the lease of a lake that another execution holds.
const LEASE_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The deployed environment that a command works on.
struct Deployment {
    env: Env,
    aws: SdkConfig,
    machine: StateMachine,
    /// The lake, once it was asked for.
    lake: OnceCell<Lake>,
    /// Whether to print JSON.
    json: bool,
}

impl Deployment {
    async fn open(env: Env, json: bool) -> Result<Self> {
        let aws = configuration().await;
        let machine = StateMachine::find(&aws, &format!("defi-{}", env.name())).await?;
        Ok(Deployment { env, aws, machine, lake: OnceCell::new(), json })
    }

    async fn lake(&self) -> Result<&Lake> {
        let open = || async { Ok(lake(&self.aws, self.env).await?.0) };
        self.lake.get_or_try_init(open).await
    }

    /// Starts an execution. Returns its ARN.
    async fn start(&self, input: &ExecutionInput) -> Result<String> {
        let arn = self.machine.start(&input.to_json().to_string()).await?;
        self.say_started(&arn)?;
        Ok(arn)
    }

    fn say_started(&self, arn: &str) -> Result<()> {
        if self.json { Ok(()) } else { line(format_args!("execution  {arn}")) }
    }

    /// Waits until no execution holds the lease of the lake.
    async fn wait_for_lease(&self) -> Result<()> {
        let lake = self.lake().await?;
        let mut waits_for = None;
        while let Some(lease) = Lease::read(lake).await?
            && lease.is_held(&self.machine, Timestamp::now()).await?
        {
            if waits_for.replace(lease.execution.clone()).as_ref() != Some(&lease.execution) {
                message(format_args!("waiting for the execution {} to end", lease.execution_name()));
            }
            tokio::time::sleep(LEASE_POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Follows an execution to its end and prints its result.
    async fn finish(&self, arn: &str) -> Result<()> {
        let description = follow::follow(&self.machine, arn).await?;
        if self.json {
            self.print_json(&description).await?;
        }
        if description.execution.status != "SUCCEEDED" {
            return Err(execution_error(&description));
        }
        if self.json {
            return Ok(());
        }
        ExecutionResult::read(self, description.output.as_deref().unwrap_or_default()).await?.print()
    }

    /// Prints an execution and the result of its run as one line of JSON.
    async fn print_json(&self, description: &ExecutionDetails) -> Result<()> {
        let run = match &description.output {
            Some(output) => Some(ExecutionResult::read(self, output).await?),
            None => None,
        };
        let mut json = summary(&description.execution);
        json["stopped"] = json!(description.execution.stopped.map(rfc3339));
        json["input"] = serde_json::from_str(&description.input).unwrap_or(Value::Null);
        json["steps"] = json!(follow::steps_of(&self.machine.progress(&description.execution.arn).await?));
        json["error"] = json!(description.error);
        json["cause"] = json!(description.cause);
        json["run"] = json!(run);
        data_line(json)
    }
}

/// Returns the name, ARN, status and start time of an execution as JSON.
fn summary(execution: &Execution) -> Value {
    let Execution { arn, name, status, started, .. } = execution;
    json!({"execution": name, "arn": arn, "status": status, "started": rfc3339(*started)})
}

/// Formats a time in milliseconds since the epoch as RFC 3339.
fn rfc3339(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default().to_string()
}

/// Starts an execution and, without `detach`, follows it to its end.
///
/// # Errors
/// The errors of AWS, and the error of the execution, with its kind.
pub async fn start(env: Env, input: &ExecutionInput, detach: bool, json: bool) -> Result<()> {
    let deployment = Deployment::open(env, json).await?;
    let arn = deployment.start(input).await?;
    if detach && json {
        return data_line(summary(&deployment.machine.describe(&arn).await?.execution));
    }
    if detach {
        return line(format_args!("follow     defi status --env {} --follow {}", env.name(), execution_name(&arn)));
    }
    deployment.finish(&arn).await
}

/// Shows one execution, or lists the newest ones.
///
/// # Errors
/// The errors of AWS, and the error of an execution that is followed.
pub async fn status(env: Env, execution: Option<&str>, follow: bool, count: usize, json: bool) -> Result<()> {
    let deployment = Deployment::open(env, json).await?;
    let all = deployment.machine.executions().await?;
    let newest = all.get(..count).unwrap_or(&all);
    let arn = match execution {
        Some(name) => Some(deployment.machine.execution_arn(name)),
        None if follow => newest.first().map(|execution| execution.arn.clone()),
        None => None,
    };
    let Some(arn) = arn else {
        return if json {
            newest.iter().try_for_each(|execution| data_line(summary(execution)))
        } else {
            list(newest, env)?;
            list_backfills(&deployment.machine, all).await
        };
    };
    if follow {
        return deployment.finish(&arn).await;
    }
    let description = deployment.machine.describe(&arn).await?;
    if json {
        return deployment.print_json(&description).await;
    }
    list(std::slice::from_ref(&description.execution), env)?;
    line("")?;
    line(format_args!("input      {}", description.input))?;
    follow::print_steps(&follow::steps_of(&deployment.machine.progress(&arn).await?))?;
    match (&description.error, &description.output) {
        (Some(_), _) => {
            line("")?;
            line(execution_error(&description))
        }
        (None, Some(output)) => ExecutionResult::read(&deployment, output).await?.print(),
        (None, None) => Ok(()),
    }
}

fn list(executions: &[Execution], env: Env) -> Result<()> {
    if executions.is_empty() {
        return line(CallOptions::in_aws(env).complete("no execution exists yet; start one with defi start"));
    }
    let mut rows = table(&["execution", "status", "started (UTC)"], 3, 3);
    for execution in executions {
        let started = Timestamp::from_millisecond(execution.started).unwrap_or_default();
        rows.add_row([execution.name.clone(), execution.status.clone(), started.strftime("%F %T").to_string()]);
    }
    rows.print()
}

/// Says how far the backfills are that are not done.
async fn list_backfills(machine: &StateMachine, executions: Vec<Execution>) -> Result<()> {
    for backfill in backfill::unfinished(machine, executions).await? {
        line("")?;
        line(format_args!("backfill   {}", backfill.progress()))?;
        line(format_args!("           {} goes on with it", backfill.call))?;
    }
    Ok(())
}

/// Returns the error of a failed execution. Its kind is that of the failed step.
fn execution_error(description: &ExecutionDetails) -> Error {
    let kind = description.error.as_deref().and_then(|error| Kind::ALL.into_iter().find(|kind| kind.name() == error));
    let status = &description.execution.status;
    let (message, hint) = match &description.cause {
        Some(cause) => parse_cause(cause),
        None => (format!("the execution ended with the status {status}"), None),
    };
    let mut error = Error::new(kind.unwrap_or(Kind::Internal), message).with("execution", &description.execution.name);
    error = hint.into_iter().fold(error, Error::with_hint);
    if let (None, Some(other)) = (kind, &description.error) {
        error = error.with("error", other).with_hint("look at the execution in the Step Functions console");
    }
    error
}

/// Returns the message and the next step of the error in the cause of an execution: `{step}: {error as Lambda reports it,
/// in JSON}`, or any other text.
fn parse_cause(cause: &str) -> (String, Option<String>) {
    let error = cause.split_once(": ").and_then(|(step, json)| {
        let error: Value = serde_json::from_str(json).ok()?;
        Some(format!("{step}: {}", error["errorMessage"].as_str()?))
    });
    let error = error.unwrap_or_else(|| cause.to_owned());
    match error.rsplit_once("; next: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (error, None),
    }
}

fn execution_name(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_step_is_one_line_with_one_next_step() {
        let cause = r#"plan-run: {"errorType":"AlreadyRunning","errorMessage":"another execution (step=plan-run); next: wait"}"#;
        assert_eq!(
            parse_cause(cause),
            ("plan-run: another execution (step=plan-run)".to_owned(), Some("wait".to_owned()))
        );
        for other in ["notify: access denied", "no step", "x: {\"a\":1}"] {
            assert_eq!(parse_cause(other), (other.to_owned(), None));
        }
    }

    #[test]
    fn json_input_omits_defaults() {
        assert_eq!(ExecutionInput::default().to_json().to_string(), "{}");
        let all = ExecutionInput {
            as_of: "2023-11-01".parse().ok(),
            from: "2023-01-01".parse().ok(),
            force: true,
            retry_lost: true,
            rebuild_lost: true,
            allow_concurrent: true,
        };
        let expected = concat!(
            r#"{"as_of":"2023-11-01","from":"2023-01-01","force":true,"retry_lost":true,"rebuild_lost":true,"#,
            r#""allow_concurrent":true}"#
        );
        assert_eq!(all.to_json().to_string(), expected);
        // It is a valid input of plan-run.
        assert!(defi_shared::step::parse::<plan_run::Input>(all.to_json()).is_ok());
    }
}
