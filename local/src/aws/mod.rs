//! Runs in AWS: starting executions of the state machine, following them, and telling what they did.

mod follow;
mod report;

use defi_shared::aws::{SdkConfig, configuration};
use defi_shared::catalog::{GlueCatalog, Registry};
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::executions::{Description, Execution, StateMachine};
use defi_shared::lake::{Lake, S3Store};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::env::Env;
use crate::output::{line, table};
use report::Told;

/// What an execution is started with.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The day that the features are for; default: today (UTC), by the clock of AWS.
    pub as_of: Option<Day>,
    /// The first day.
    pub from: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// Start although another execution is under way.
    pub allow_concurrent: bool,
}

impl Start {
    /// The state machine's input: only what was asked for.
    fn input(&self) -> Value {
        let mut input = Map::new();
        input.extend(self.as_of.map(|day| ("as_of".to_owned(), json!(day))));
        input.extend(self.from.map(|day| ("from".to_owned(), json!(day))));
        input.extend(self.force.then(|| ("force".to_owned(), json!(true))));
        input.extend(self.allow_concurrent.then(|| ("allow_concurrent".to_owned(), json!(true))));
        Value::Object(input)
    }
}

/// The lake of an environment, with its catalog.
///
/// # Errors
/// `BadInput` for an environment that is not deployed, and the errors of AWS.
pub(crate) async fn lake(aws: &SdkConfig, env: Env) -> Result<(Lake, Registry)> {
    let machine = StateMachine::named(aws, &format!("defi-{}", env.name())).await?;
    Ok(lake_of(aws, &machine, env))
}

/// The lake that a state machine runs over: its bucket is named by the environment and the account.
pub(crate) fn lake_of(aws: &SdkConfig, machine: &StateMachine, env: Env) -> (Lake, Registry) {
    let bucket = format!("data-lakehouse-{}-{}", env.name(), machine.account());
    let registry = Registry::new(GlueCatalog::new(aws, &bucket), env.name());
    (Lake::new(S3Store::new(aws, bucket)), registry)
}

/// The state machine of an environment.
struct Machine {
    env: Env,
    aws: SdkConfig,
    machine: StateMachine,
    /// Tell as JSON what is told.
    json: bool,
}

impl Machine {
    async fn of(env: Env, json: bool) -> Result<Self> {
        let aws = configuration().await;
        let machine = StateMachine::named(&aws, &format!("defi-{}", env.name())).await?;
        Ok(Machine { env, aws, machine, json })
    }

    async fn start(&self, start: &Start) -> Result<String> {
        let arn = self.machine.start(&start.input().to_string()).await?;
        if !self.json {
            line(format_args!("execution  {arn}"))?;
        }
        Ok(arn)
    }

    /// Follows an execution to its end, and tells what it did.
    async fn finish(&self, arn: &str) -> Result<()> {
        let description = follow::follow(&self.machine, arn).await?;
        if self.json {
            self.print_json(&description).await?;
        }
        if description.execution.status != "SUCCEEDED" {
            return Err(failure(&description));
        }
        if self.json {
            return Ok(());
        }
        Told::of(self, description.output.as_deref().unwrap_or_default()).await?.print()
    }

    /// Prints an execution and what its run did as a line of JSON.
    async fn print_json(&self, description: &Description) -> Result<()> {
        let run = match &description.output {
            Some(output) => Some(Told::of(self, output).await?),
            None => None,
        };
        let mut told = summary(&description.execution);
        told["stopped"] = json!(description.stopped.map(moment));
        told["input"] = serde_json::from_str(&description.input).unwrap_or(Value::Null);
        told["steps"] = json!(follow::steps_of(&self.machine.progress(&description.execution.arn).await?));
        told["error"] = json!(description.error);
        told["cause"] = json!(description.cause);
        told["run"] = json!(run);
        line(told)
    }
}

/// An execution as JSON.
fn summary(execution: &Execution) -> Value {
    let Execution { arn, name, status, started } = execution;
    json!({"execution": name, "arn": arn, "status": status, "started": moment(*started)})
}

/// A time (milliseconds since 1970) as programs read it.
fn moment(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default().to_string()
}

/// Starts an execution, and follows it unless it is to be left alone.
///
/// # Errors
/// The errors of AWS, and that of the execution, with its kind.
pub async fn start(env: Env, start: &Start, detach: bool, json: bool) -> Result<()> {
    let machine = Machine::of(env, json).await?;
    let arn = machine.start(start).await?;
    if detach && json {
        return line(summary(&machine.machine.describe(&arn).await?.execution));
    }
    if detach {
        return line(format_args!("follow     defi status --env {} --follow {}", env.name(), name(&arn)));
    }
    machine.finish(&arn).await
}

/// Publishes the features of every so many days, one execution after another: the first makes up what is missing, and each one
/// after it costs the days it adds. Where it is interrupted, the same command goes on.
///
/// # Errors
/// The errors of AWS, and that of the first execution that fails.
pub async fn backfill(env: Env, (first, last): (Day, Day), every: u32, start: &Start, json: bool) -> Result<()> {
    if first > last {
        return Err(Error::bad_input(format!("the first day {first} lies after the last day {last}"))
            .next("name the earlier day first"));
    }
    let machine = Machine::of(env, json).await?;
    let days: Vec<_> = first.through(last).step_by(every.max(1) as usize).collect();
    for (number, day) in (1..).zip(&days) {
        if !json {
            line(format_args!("\nfeatures as of {day} ({number} of {})", days.len()))?;
        }
        let arn = machine.start(&Start { as_of: Some(*day), ..start.clone() }).await?;
        machine.finish(&arn).await?;
    }
    Ok(())
}

/// Tells of an execution, or lists the newest ones.
///
/// # Errors
/// The errors of AWS, and that of an execution that is followed.
pub async fn status(env: Env, execution: Option<&str>, follow: bool, count: usize, json: bool) -> Result<()> {
    let machine = Machine::of(env, json).await?;
    let newest = machine.machine.newest(count).await?;
    let arn = match execution {
        Some(name) => Some(machine.machine.execution_arn(name)),
        None if follow => newest.first().map(|execution| execution.arn.clone()),
        None => None,
    };
    let Some(arn) = arn else {
        return if json { newest.iter().try_for_each(|execution| line(summary(execution))) } else { list(&newest) };
    };
    if follow {
        return machine.finish(&arn).await;
    }
    let description = machine.machine.describe(&arn).await?;
    if json {
        return machine.print_json(&description).await;
    }
    list(std::slice::from_ref(&description.execution))?;
    line(format_args!("\ninput      {}", description.input))?;
    follow::print_steps(&follow::steps_of(&machine.machine.progress(&arn).await?))?;
    match (&description.error, &description.output) {
        (Some(_), _) => line(format_args!("\n{}", failure(&description))),
        (None, Some(output)) => Told::of(&machine, output).await?.print(),
        (None, None) => Ok(()),
    }
}

fn list(executions: &[Execution]) -> Result<()> {
    if executions.is_empty() {
        return line("there was no execution yet; begin one with defi start");
    }
    let mut rows = table(&["execution", "status", "started (UTC)"], 3, 3);
    for execution in executions {
        let started = Timestamp::from_millisecond(execution.started).unwrap_or_default();
        rows.add_row([execution.name.clone(), execution.status.clone(), started.strftime("%F %T").to_string()]);
    }
    line(rows)
}

/// The error that an execution ended with: its kind is that of the step that failed.
fn failure(description: &Description) -> Error {
    let kind = description.error.as_deref().and_then(|error| Kind::ALL.into_iter().find(|kind| kind.name() == error));
    let status = &description.execution.status;
    let what = description.cause.clone().unwrap_or_else(|| format!("the execution ended as {status}"));
    let mut error = Error::new(kind.unwrap_or(Kind::Internal), what).with("execution", &description.execution.name);
    if let (None, Some(other)) = (kind, &description.error) {
        error = error.with("error", other).next("look at the execution in the console of Step Functions");
    }
    error
}

fn name(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_holds_only_what_was_asked_for() {
        assert_eq!(Start::default().input().to_string(), "{}");
        let all = Start {
            as_of: "2023-11-01".parse().ok(),
            from: "2023-01-01".parse().ok(),
            force: true,
            allow_concurrent: true,
        };
        let wanted = r#"{"as_of":"2023-11-01","from":"2023-01-01","force":true,"allow_concurrent":true}"#;
        assert_eq!(all.input().to_string(), wanted);
        // What plan-run takes.
        assert!(defi_shared::step::parse::<plan_run::Input>(all.input()).is_ok());
    }
}
