//! The whole pipeline in one process: the same handlers that the state machine calls, in the same order.

mod forecast;
pub(crate) mod progress;
mod steps;
pub(crate) mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use defi_shared::catalog;
use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::plan::Scope;
use defi_shared::step::{Context, Report, today};

use crate::cli::Env;
use crate::output::line;
use crate::source::{Opened, Source};
pub use forecast::forecast;
pub use steps::{Done, StepDone};

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The day that the features are for.
    pub as_of: Option<Day>,
    /// The first day.
    pub from: Option<Day>,
    /// Make again what is there already.
    pub force: bool,
    /// The lake's folder.
    pub lake: PathBuf,
    /// The environment.
    pub env: Env,
    /// Where the rows come from.
    pub source: Source,
    /// Tell what was done as JSON instead of tables.
    pub json: bool,
}

/// The configuration: the file that `DEFI_CONFIG` names, or the built-in one.
///
/// # Errors
/// `BadInput` for a file that can't be read or says what it may not.
pub fn configuration() -> Result<Config> {
    match std::env::var_os("DEFI_CONFIG") {
        Some(path) => Config::read(Path::new(&path)),
        None => Config::built_in(),
    }
}

/// Runs the pipeline, and prints what it did.
///
/// # Errors
/// The first error of a step; what was done before it stays done.
pub async fn run(options: Options) -> Result<()> {
    let run = Run::prepare(&options).await?;
    let context = run.open(Lake::new(FolderStore::open_for_run(&options.lake)?)).await?;
    let (lake, env) = (options.lake.display(), options.env.name());
    if !options.json {
        line(format_args!("{} → {lake} (db_*_{env}), features as of {}", run.source.name, run.scope.as_of))?;
    }
    let done = run.steps(&context).await?;
    let report = match &done.checked {
        Some(_) => {
            report_run::handle(context.clone(), report_run::Input { run_id: Some(done.run_id.clone()) }).await.map(Some)
        }
        None => Ok(None),
    };
    if options.json {
        line(serde_json::to_string_pretty(&done).map_err(|cause| Error::internal("no JSON").because(cause))?)?;
    } else {
        summary::print(&context, &run.scope, &done, &options).await?;
    }
    let done = done.require_pass();
    let report = report.inspect_err(|error| tracing::warn!(%error, "the run has no report"))?;
    if let Some(report) = report.filter(|_| !options.json) {
        line(format_args!("report     {}", report.report))?;
    }
    done.map(drop)
}

/// A run that can begin: everything that the user may have got wrong but the lake is known by now, and nothing is written yet.
#[derive(Debug)]
pub struct Run {
    config: Arc<Config>,
    source: Opened,
    scope: Scope,
    from: Option<Day>,
    today: Day,
    env: Env,
    watched: Arc<progress::Watched>,
}

impl Run {
    /// Opens the source, and settles what the run covers.
    ///
    /// # Errors
    /// `BadInput` for an option that makes no sense, and as [`Source::open`].
    pub async fn prepare(options: &Options) -> Result<Self> {
        let mut config = configuration()?;
        let source = options.source.open(&mut config).await?;
        let today = today()?;
        let as_of = options.as_of.unwrap_or(source.days.map_or(today, |(_, last)| last));
        check_days(&source, as_of, options.from)?;
        let scope = Scope::new(&config, today, Some(as_of), options.from, options.force)?;
        let (config, watched) = (Arc::new(config), progress::Watched::new());
        Ok(Run { config, source, scope, from: options.from, today, env: options.env, watched })
    }

    /// The context of its steps over a lake.
    ///
    /// # Errors
    /// `BadInput` for a lake that was begun with another chain, and the lake's errors.
    pub async fn open(&self, lake: Lake) -> Result<Context> {
        let context = self.look_at(lake).await?;
        if let Some(chain) = &self.source.chain {
            context.lake.write_json(CHAIN, chain).await?;
        }
        Ok(context)
    }

    /// The same without writing anything.
    async fn look_at(&self, lake: Lake) -> Result<Context> {
        keep_to_one_chain(&lake, self.source.chain.as_deref()).await?;
        Ok(Context {
            registry: catalog::in_lake(&lake, self.env.name()),
            lake,
            config: Arc::clone(&self.config),
            graph: Arc::clone(&self.source.graph),
            transpose: Arc::clone(&self.source.transpose),
            traffic: Arc::default(),
            today: self.today,
            deadline: None,
            progress: self.watched.clone(),
            executions: None,
        })
    }

    /// Does what is missing.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn carry_out(&self, context: &Context) -> Result<Done> {
        self.steps(context).await?.require_pass()
    }

    /// The same, up to a failed check and what it found.
    async fn steps(&self, context: &Context) -> Result<Done> {
        let done = steps::run(context, &self.scope, self.from, &self.watched).await;
        self.watched.finish();
        done
    }
}

/// Runs what is missing over a lake without a word, for callers that look at the lake themselves. Returns what all steps
/// did together.
///
/// # Errors
/// As [`run`].
pub async fn complete(context: &Context, scope: &Scope, from: Option<Day>) -> Result<Report> {
    let done = steps::run(context, scope, from, &progress::Watched::silent()).await?.require_pass()?;
    let mut sum = Report::default();
    done.steps.into_iter().for_each(|step| sum.merge(step.report));
    Ok(sum)
}

/// Holds the days to what the source covers.
fn check_days(source: &Opened, as_of: Day, from: Option<Day>) -> Result<()> {
    let Some((first, last)) = source.days else { return Ok(()) };
    let from = from.unwrap_or(first);
    let covered = |option: &str, day: Day| {
        if (first..=last).contains(&day) {
            return Ok(());
        }
        Err(Error::bad_input(format!("{option} {day} lies outside {}", source.name))
            .next(format!("choose a day from {first} to {last}")))
    };
    covered("--as-of", as_of)?;
    covered("--from", from)
}

/// The object that says which chain a local lake holds.
const CHAIN: &str = "chain.json";

/// Holds a lake to the chain that it was begun with.
async fn keep_to_one_chain(lake: &Lake, chain: Option<&str>) -> Result<()> {
    let begun_with = lake.read_json::<String>(CHAIN).await?;
    match chain.zip(begun_with) {
        Some((chain, other)) if other != chain => {
            Err(Error::bad_input(format!("this lake holds {other}, and is asked to take in {chain}"))
                .with("lake", lake.store().location(""))
                .next("choose another folder with --lake, or delete this one"))
        }
        _ => Ok(()),
    }
}
