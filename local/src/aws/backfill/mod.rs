//! A backfill: features of many days, one execution after another. The executions say how far it is: nothing else is
//! kept, so that the same call goes on with the days that are left, on whatever machine, and anyone can look.

mod call;
mod page;
mod progress;

use std::path::Path;

use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::executions::{Execution, StateMachine};
use defi_shared::lake::requests::in_order;

use super::report::ExecutionResult;
use super::{Deployment, ExecutionInput, execution_error};
use crate::env::Env;
use crate::output::{line, message, write_file};
use call::BackfillCall;
use page::DayRun;
pub(super) use progress::Backfill;

/// The number of executions that are described at the same time. Step Functions allows few calls per second.
const DESCRIBED_AT_ONCE: usize = 4;

/// Publishes features for every `every`-th day of a range, one execution after another. The first execution produces
/// everything that is missing before its day, each later one only the days that it adds. Waits for other executions
/// before each. After an interruption, the same call continues. Ends with a page about the whole backfill.
///
/// # Errors
/// The errors of AWS, and the error of the first execution that fails.
pub async fn backfill(
    env: Env,
    (first, last): (Day, Day),
    every: u32,
    input: &ExecutionInput,
    page: Option<&Path>,
    json: bool,
) -> Result<()> {
    if first > last {
        return Err(Error::bad_input(format!("the first day {first} is after the last day {last}"))
            .with_hint("pass the earlier day first"));
    }
    let deployment = Deployment::open(env, json).await?;
    let call = BackfillCall::new((first, last), every, input);
    if !input.allow_concurrent {
        // What an interrupted call started last may still be in progress.
        deployment.wait_for_lease().await?;
    }
    let mut backfill = Backfill::of(call, deployment.machine.executions().await?);
    refresh(&deployment.machine, &mut backfill).await?;
    let say = |text: String| if json { Ok(()) } else { line(text) };
    if backfill.is_unfinished() {
        message(format_args!("going on: {}", backfill.progress()));
    }
    let ended = deployment.run_days(&mut backfill, input, say).await;
    let file = page.map_or_else(|| format!("backfill-{first}-{last}.html").into(), Path::to_owned);
    let written = deployment.write_page(&backfill, &file).await;
    if written.is_ok() {
        say(format!("page       {}", file.display()))?;
    }
    ended.and(written)
}

impl Deployment {
    /// Runs the days that are left, and says after each how far the backfill is.
    async fn run_days(
        &self,
        backfill: &mut Backfill,
        input: &ExecutionInput,
        say: impl Fn(String) -> Result<()>,
    ) -> Result<()> {
        let all = backfill.call.days();
        for day in backfill.left() {
            let number = all.iter().take_while(|other| **other < day).count() + 1;
            say(String::new())?;
            say(format!("features as of {day} ({number} of {})", all.len()))?;
            if !input.allow_concurrent {
                self.wait_for_lease().await?;
            }
            let input = ExecutionInput { as_of: Some(day), ..input.clone() };
            while let Err(error) = self.run_day(backfill, day, &input).await {
                // Another run took the lease in between.
                if error.kind() != Kind::AlreadyRunning || input.allow_concurrent {
                    return Err(error);
                }
                self.wait_for_lease().await?;
            }
            say(backfill.progress().to_string())?;
        }
        Ok(())
    }

    /// Runs a day to its end.
    async fn run_day(&self, backfill: &mut Backfill, day: Day, input: &ExecutionInput) -> Result<()> {
        let arn = self.start_day(backfill, day, input).await?;
        let result = self.finish(&arn).await;
        backfill.add(day, self.machine.describe(&arn).await?.execution);
        result
    }

    /// Starts the execution of a day, with the first number that no execution has.
    async fn start_day(&self, backfill: &Backfill, day: Day, input: &ExecutionInput) -> Result<String> {
        let input = input.to_json().to_string();
        // The listing of the executions may be late, so a name may be taken.
        for attempt in backfill.attempts(day) + 1.. {
            if let Some(arn) = self.machine.start_named(&backfill.call.execution(day, attempt), &input).await? {
                self.say_started(&arn)?;
                return Ok(arn);
            }
        }
        Err(Error::internal("no name is left for the execution"))
    }

    /// Writes the page of a backfill: what its executions did, and what is missing after them.
    async fn write_page(&self, backfill: &Backfill, file: &Path) -> Result<()> {
        let run = |(day, execution): (Day, &Execution)| {
            let arn = execution.arn.clone();
            async move { self.day_run(day, &arn).await }
        };
        let runs = in_order(backfill.in_order(), DESCRIBED_AT_ONCE, run).await?;
        write_file(file, &page::render(self.env, backfill, &runs))
    }

    async fn day_run(&self, day: Day, arn: &str) -> Result<DayRun> {
        let details = self.machine.describe(arn).await?;
        let result = match &details.output {
            Some(output) => Some(ExecutionResult::read(self, output).await?),
            None => None,
        };
        let error = details.error.is_some().then(|| execution_error(&details).to_string());
        Ok(DayRun { day, execution: details.execution, result, error })
    }
}

/// Returns the backfills among executions whose days are not all done, the newest first.
pub(super) async fn unfinished(machine: &StateMachine, executions: Vec<Execution>) -> Result<Vec<Backfill>> {
    let mut all = Backfill::all(executions);
    for backfill in &mut all {
        refresh(machine, backfill).await?;
    }
    Ok(all.into_iter().filter(Backfill::is_unfinished).collect())
}

/// Asks for the executions that are listed as running: a listing shows an end only some time later.
async fn refresh(machine: &StateMachine, backfill: &mut Backfill) -> Result<()> {
    let running = backfill.in_order().into_iter().filter(|(_, execution)| execution.status == "RUNNING");
    let running: Vec<_> = running.map(|(day, execution)| (day, execution.arn.clone())).collect();
    for (day, arn) in running {
        // One that has just started may not be known yet.
        match machine.describe(&arn).await {
            Ok(details) => backfill.add(day, details.execution),
            Err(error) if error.kind() == Kind::BadInput => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
