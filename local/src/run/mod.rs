//! Runs the whole pipeline in one process: calls the handlers of the Lambda functions in the same order as the state
//! machine.

mod forecast;
pub(crate) mod progress;
mod single_step;
mod steps;
pub(crate) mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::pipeline::DataSource;
use defi_shared::plan::Scope;
use defi_shared::step::{Context, Report, today};

use crate::config::configuration;
use crate::env::Env;
use crate::output::{self, line};
use crate::source::{OpenSource, Source};
pub use forecast::forecast;
use progress::{Counts, RunProgress};
pub use single_step::{list_steps, step};
pub use steps::{RunResult, StepResult};

/// The longest time that publishing a day again waits for queries that read the folder of the day. They read files of
/// this machine.
const LOCAL_READERS: Duration = Duration::from_secs(1);

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The as-of day.
    pub as_of: Option<Day>,
    /// The first day.
    pub from: Option<Day>,
    /// Produce all units, including those that are in the lake.
    pub force: bool,
    /// Extract again what its source no longer had in earlier runs.
    pub retry_lost: bool,
    /// Extract it again, and rebuild what the source still does not have.
    pub rebuild_lost: bool,
    /// The folder of the lake.
    pub lake: PathBuf,
    /// The environment.
    pub env: Env,
    /// Where the rows come from.
    pub source: Source,
    /// Print the result as JSON instead of tables.
    pub json: bool,
}

/// Runs the pipeline and prints the result.
///
/// # Errors
/// The first error of a step. Units that were completed before it stay in the lake.
pub async fn run(options: Options) -> Result<()> {
    let run = Run::prepare(&options).await?;
    let context = run.open(Lake::new(FolderStore::open_for_run(&options.lake)?)).await?;
    let (lake, env) = (options.lake.display(), options.env.name());
    if !options.json {
        line(format_args!("{} → {lake} (db_*_{env}), features as of {}", run.source.name, run.scope.as_of))?;
    }
    let result = run.steps(&context).await?;
    let report = match &result.checked {
        Some(_) => report_run::handle(context.clone(), report_run::Input { run_id: Some(result.run_id.clone()) })
            .await
            .map(Some),
        None => Ok(None),
    };
    if options.json {
        output::json(&result)?;
    } else {
        if run.source.left_out > 0 {
            line(format_args!("left out: {} rows of the recording that no step asks for", run.source.left_out))?;
        }
        summary::print(&context, &run.scope, &result, &options).await?;
    }
    let result = result.require_pass();
    let report = report.inspect_err(|error| tracing::warn!(%error, "the report of the run was not written"))?;
    if let Some(report) = report.filter(|_| !options.json) {
        line(format_args!("report     {}", report.report))?;
    }
    result.map(drop)
}

/// A run that can start: the options are validated and the source is open. Nothing has been written yet.
#[derive(Debug)]
pub struct Run {
    config: Arc<Config>,
    source: OpenSource,
    scope: Scope,
    from: Option<Day>,
    today: Day,
    env: Env,
    progress: Arc<RunProgress>,
}

impl Run {
    /// Opens the source and computes the scope of the run.
    ///
    /// # Errors
    /// `BadInput` for an invalid option, and as [`Source::open`].
    pub async fn prepare(options: &Options) -> Result<Self> {
        let mut config = configuration()?;
        let source = options.source.open(&mut config).await?;
        let today = today()?;
        let as_of = options.as_of.unwrap_or(source.days.map_or(today, |(_, last)| last));
        let from = options.from.or(source.days.map(|(first, _)| first));
        check_days(&source, as_of, from)?;
        let scope = Scope::new(&config, today, Some(as_of), from, options.force)?;
        let scope = Scope { retry_lost: options.retry_lost, rebuild_lost: options.rebuild_lost, ..scope };
        let (config, progress) = (Arc::new(config), RunProgress::new(Counts::Units));
        Ok(Run { config, source, scope, from, today, env: options.env, progress })
    }

    /// Creates the context of the run over a lake.
    ///
    /// # Errors
    /// `BadInput` for a lake that holds another chain, and the errors of the lake.
    pub async fn open(&self, lake: Lake) -> Result<Context> {
        let context = self.open_read_only(lake).await?;
        if let Some(chain) = &self.source.chain {
            if self.config.source == DataSource::Chain && context.lake.read_json::<String>(CHAIN).await?.is_none() {
                context.node()?.require_chain(&context.traffic).await?;
            }
            context.lake.write_json(CHAIN, chain).await?;
        }
        Ok(context)
    }

    /// Like [`Run::open`], but writes nothing.
    async fn open_read_only(&self, lake: Lake) -> Result<Context> {
        check_chain(&lake, self.source.chain.as_deref()).await?;
        let registry = catalog::registry_in_lake(&lake, self.env.name());
        let context = Context::new(lake, registry, Arc::clone(&self.config), self.source.clients.clone(), self.today);
        let wait_for_readers = context.wait_for_readers.min(LOCAL_READERS);
        Ok(Context { progress: self.progress.clone(), wait_for_readers, ..context })
    }

    /// Runs the steps whose units are missing.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn execute(&self, context: &Context) -> Result<RunResult> {
        self.steps(context).await?.require_pass()
    }

    /// Like [`Run::execute`], but a failed check is not an error.
    async fn steps(&self, context: &Context) -> Result<RunResult> {
        let result = steps::run(context, &self.scope, self.from, &self.progress).await;
        self.progress.finish();
        result
    }
}

/// Runs the steps whose units are missing without any output, for callers that inspect the lake. Returns the sum of all
/// reports.
///
/// # Errors
/// As [`run`].
pub async fn complete(context: &Context, scope: &Scope, from: Option<Day>) -> Result<Report> {
    let result = steps::run(context, scope, from, &RunProgress::silent()).await?.require_pass()?;
    let mut sum = Report::default();
    result.steps.into_iter().for_each(|step| sum.merge(step.report));
    Ok(sum)
}

/// Checks that the source covers the days.
fn check_days(source: &OpenSource, as_of: Day, from: Option<Day>) -> Result<()> {
    let Some((first, last)) = source.days else { return Ok(()) };
    let covered = |option: &str, day: Day| {
        if (first..=last).contains(&day) {
            return Ok(());
        }
        Err(Error::bad_input(format!("{option} {day} is outside {}", source.name))
            .with_hint(format!("choose a day from {first} to {last}")))
    };
    covered("--as-of", as_of)?;
    from.map_or(Ok(()), |from| covered("--from", from))
}

/// The object that names the chain that a local lake holds.
const CHAIN: &str = "chain.json";

/// Checks that a lake holds no other chain: rows of two chains in one lake would be mixed up.
async fn check_chain(lake: &Lake, chain: Option<&str>) -> Result<()> {
    let existing = lake.read_json::<String>(CHAIN).await?;
    match chain.zip(existing) {
        Some((chain, other)) if other != chain => {
            Err(Error::bad_input(format!("this lake contains {other} and can't store {chain}"))
                .with("lake", lake.store().location(""))
                .with_hint("choose another folder with --lake, or delete this one"))
        }
        _ => Ok(()),
    }
}
