//! The command line: what can be asked, and how an answer or an error reaches the user.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use defi_shared::domain::{Address, Day};
use defi_shared::error::{Error, Kind, Result};

use crate::features::{FileFormat, Rows};
use crate::report::ReportArgs;
use crate::sample::SampleOptions;
use crate::source::Source;

/// What holds for every command.
const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong input. An error is one line with its kind and a next step.\n\
    Colours and bars are for terminals; NO_COLOR turns colours off there, too.\n\n\
    Examples:\n  defi run\n  defi tables\n  defi query \"select * from db_analytics_dev.defi_features limit 10\"\n  \
    defi features --at-borrows --format parquet --output training.parquet";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Wallet features from on-chain lending: extract, stage, fold, check, publish, and ask.
#[derive(Debug, Parser)]
#[command(name = "defi", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    /// How the log on standard error is written; RUST_LOG says what is logged
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline in this process, over the sample chain unless told otherwise
    Run(RunArgs),
    /// Tell what a run would do, unit by unit, with the requests and the time that it would take
    Plan(PlanArgs),
    /// Serve the two APIs on this machine, over the sample chain or a recording, until interrupted
    Serve(ServeArgs),
    /// Answer SQL over a local lake, tables by their database names
    Query(QueryArgs),
    /// List the tables of a local lake
    Tables(TablesArgs),
    /// Tell everything about one wallet, and how each of its features came about
    Wallet(WalletArgs),
    /// Export features for training: of published days, or as of just before each borrow
    Features(FeaturesArgs),
    /// Look after keys, sources, the lake against its catalog, and the deployed environment
    Doctor(DoctorArgs),
    /// Write the report of a run as an HTML file, into the lake unless told otherwise
    Report(ReportArgs),
    /// Start a run in AWS, follow it, and print its report
    Start(StartArgs),
    /// Tell how the runs in AWS stand, or one of them
    Status(StatusArgs),
    /// Publish the features of many days in AWS, one run after another
    Backfill(BackfillArgs),
    /// Write the completions of a shell to standard output
    Completions(CompletionsArgs),
    /// Write the manual's pages into a folder
    Man(ManArgs),
}

/// The environment: it names the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Env {
    /// For trying things.
    Dev,
    /// For use.
    Prod,
}

impl Env {
    /// As the names of the databases have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Env::Dev => "dev",
            Env::Prod => "prod",
        }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// Comma-separated values; NULL is an empty cell.
    Csv,
    /// A JSON array with an object a row.
    Json,
}

/// Where a local lake is.
#[derive(Debug, Args)]
pub struct LakeArgs {
    /// The lake's folder
    #[arg(long, value_name = "DIR", default_value = "./lakehouse")]
    pub lake: PathBuf,
    /// The environment, which names the databases: db_raw_dev, db_raw_prod
    #[arg(long, value_enum, default_value = "dev")]
    pub env: Env,
}

#[derive(Debug, Args)]
struct SampleArgs {
    /// People on the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    wallets: Option<u32>,
    /// Days of the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    days: Option<u32>,
    /// Which sample chain of this size
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    seed: Option<u64>,
    /// Take a recording of the two APIs instead of the sample chain
    #[arg(long, value_name = "DIR")]
    recording: Option<PathBuf>,
}

impl SampleArgs {
    fn options(&self) -> SampleOptions {
        let default = SampleOptions::default();
        SampleOptions {
            wallets: self.wallets.unwrap_or(default.wallets),
            days: self.days.unwrap_or(default.days),
            seed: self.seed.unwrap_or(default.seed),
        }
    }

    fn source(&self) -> Source {
        self.recording.clone().map_or_else(|| Source::Sample(self.options()), Source::Recording)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi run\n  defi run --wallets 2000 --days 90\n  defi run --recording DIR --as-of 2023-03-01\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi run --live --from 2023-01-01"
)]
struct RunArgs {
    #[command(flatten)]
    what: WhatToRun,
    /// Tell what was done as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// What a run covers, over which lake, from which source.
#[derive(Debug, Args)]
struct WhatToRun {
    /// The day that the features are for [default: today; of the sample chain or a recording its last day]
    #[arg(long, value_name = "DAY")]
    as_of: Option<String>,
    /// The first day [default: each protocol's first day; of the sample chain or a recording its first day]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Make again what is there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    sample: SampleArgs,
    /// Take the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "wallets", "days", "seed"])]
    live: bool,
    /// Take any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url", conflicts_with_all = ["live", "recording", "wallets", "days", "seed"])]
    graph_url: Option<String>,
    /// Take any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    transpose_url: Option<String>,
}

impl WhatToRun {
    fn options(self, json: bool) -> Result<crate::run::Options> {
        let day = |text: &Option<String>| text.as_deref().map(str::parse::<Day>).transpose();
        Ok(crate::run::Options {
            as_of: day(&self.as_of)?,
            from: day(&self.from)?,
            force: self.force,
            source: match (self.live, self.graph_url, self.transpose_url) {
                (true, ..) => Source::Live,
                (_, Some(graph), Some(transpose)) => Source::Urls { graph, transpose },
                _ => self.sample.source(),
            },
            lake: self.lake.lake,
            env: self.lake.env,
            json,
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi plan\n  defi plan --as-of 2023-02-10 --units\n  defi plan --force --json | jq .requests"
)]
struct PlanArgs {
    #[command(flatten)]
    run: WhatToRun,
    /// Name every unit
    #[arg(long)]
    units: bool,
    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 where anything is found that will fail.\n\nExamples:\n  defi doctor\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi doctor --live\n  defi doctor --aws --env prod --json")]
struct DoctorArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Look at the deployed environment instead of a local lake
    #[arg(long)]
    aws: bool,
    /// Ask the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "graph_url"])]
    live: bool,
    /// Take a recording of the two APIs as the source
    #[arg(long, value_name = "DIR", conflicts_with = "graph_url")]
    recording: Option<PathBuf>,
    /// Ask any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url")]
    graph_url: Option<String>,
    /// Ask any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    transpose_url: Option<String>,
    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi completions bash > ~/.local/share/bash-completion/completions/defi")]
struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi man ~/.local/share/man/man1")]
struct ManArgs {
    /// The folder; it is made if it is not there
    folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With DEFI_SERVE_API_KEY in the environment both APIs ask for that key; without it any key or none is accepted.\n\n\
    Examples:\n  defi serve\n  defi serve --recording DIR --port 8700"
)]
struct ServeArgs {
    /// The port on this machine; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = 8700)]
    port: u16,
    #[command(flatten)]
    sample: SampleArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  defi query \"select wallet_address, risk_factor from db_analytics_dev.defi_features order by 2 desc limit 10\""
)]
struct QueryArgs {
    /// The question, in SQL
    // It may begin with a comment.
    #[arg(allow_hyphen_values = true)]
    sql: String,
    #[command(flatten)]
    lake: LakeArgs,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  defi tables\n  defi tables --lake target/larger --format json")]
struct TablesArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// How the list is written
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi wallet 0x…\n  defi wallet 0x… --explain avg_weighted_risk_factor\n  defi wallet 0x… --json | jq .events"
)]
struct WalletArgs {
    /// The wallet's address
    address: String,
    /// A published day [default: the newest]
    #[arg(long, value_name = "DAY")]
    as_of: Option<Day>,
    /// List the rows that this feature came from, and the arithmetic; all for every feature
    #[arg(long, value_name = "FEATURE")]
    explain: Option<String>,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
    /// Write a page into this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    lake: LakeArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A row as of an instant knows the blocks strictly before it, and nothing else; snapshot_day is the last snapshot among them.\n\n\
    Examples:\n  defi features > features.csv\n  defi features --as-of 2023-01-01..2023-01-31 --format parquet --output january.parquet\n  \
    defi features --at-borrows --format arrow --output training.arrow\n  defi features --at wallets-and-times.csv"
)]
struct FeaturesArgs {
    /// Published days: one, several with commas between, a range a..b, or all [default: the newest]
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["at_borrows", "at"])]
    as_of: Option<String>,
    /// A row for each borrow, as of just before its block
    #[arg(long, conflicts_with = "at")]
    at_borrows: bool,
    /// The first day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    from: Option<Day>,
    /// The last day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    until: Option<Day>,
    /// A row for each line of a file with wallet_address,time (UTC), as of just before that time
    #[arg(long, value_name = "FILE")]
    at: Option<PathBuf>,
    /// Only the wallets of this file, one a line
    #[arg(long, value_name = "FILE")]
    wallets: Option<PathBuf>,
    /// How the rows are written
    #[arg(long, value_enum, default_value = "csv")]
    format: FileFormat,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    lake: LakeArgs,
}

/// How a run in AWS is started.
#[derive(Debug, Args)]
struct StartOptions {
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    env: Env,
    /// The first day [default: each protocol's first day]
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// Make again what is there already
    #[arg(long)]
    force: bool,
    /// Start although another run of the environment is under way
    #[arg(long)]
    allow_concurrent: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Region and credentials come from the environment as for the AWS CLI (AWS_PROFILE, AWS_REGION).\n\n\
    Examples:\n  defi start\n  defi start --env prod --as-of 2023-11-01 --detach"
)]
struct StartArgs {
    /// The day that the features are for [default: today (UTC)]
    #[arg(long, value_name = "DAY")]
    as_of: Option<Day>,
    /// Do not follow the run
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    options: StartOptions,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  defi status\n  defi status --follow\n  defi status --env prod 0f1e2d3c-…")]
struct StatusArgs {
    /// The name or ARN of an execution [default: the newest ones are listed]
    execution: Option<String>,
    /// Follow the run (the newest, where none is named) to its end
    #[arg(long)]
    follow: bool,
    /// How many are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    env: Env,
}

#[derive(Debug, Args)]
#[command(after_help = "Where it is interrupted, the same command goes on.\n\n\
    Examples:\n  defi backfill 2023-01-01 2023-12-31 --every 7\n  defi backfill 2023-01-01 2023-01-31 --from 2022-06-01")]
struct BackfillArgs {
    /// The first day that features are for
    first: Day,
    /// The last one
    last: Day,
    /// Features of every so many days
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    #[command(flatten)]
    options: StartOptions,
}

/// Runs the command: the answer goes to standard output, an error as one line to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(cause) => Err(Error::internal("no threads to run on").because(cause)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.kind() == Kind::BadInput { 2 } else { 1 })
        }
    }
}

/// Logs to standard error: what goes wrong, or what RUST_LOG asks for.
fn log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Help and version as clap writes them; a mistake as one line, like every other error.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let shown = crate::output::written(error.print());
        return if shown.is_ok() && !error.use_stderr() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let text = error.to_string();
    let message: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    eprintln!("error: {}", Error::bad_input(message).next(format!("see {} --help", subcommand())));
    ExitCode::from(2)
}

/// `defi run` where `run` was asked for, else `defi`.
fn subcommand() -> String {
    let asked = std::env::args().nth(1);
    let known = asked.filter(|asked| Cli::command().get_subcommands().any(|command| command.get_name() == asked));
    known.map_or_else(|| "defi".to_owned(), |name| format!("defi {name}"))
}

async fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => crate::run::run(args.what.options(args.json)?).await,
        Command::Plan(args) => crate::run::forecast(&args.run.options(args.json)?, args.units).await,
        Command::Doctor(args) => doctor(args).await,
        Command::Completions(args) => completions(args.shell),
        Command::Man(args) => man(&args.folder),
        Command::Serve(args) => crate::source::serve(&args.sample.source(), args.port).await,
        Command::Tables(args) => crate::tables::list(&args.lake, args.format).await,
        Command::Query(args) => query(&args).await,
        Command::Wallet(args) => wallet(&args).await,
        Command::Features(args) => features(args).await,
        Command::Report(args) => crate::report::report(&args).await,
        Command::Start(_) | Command::Status(_) | Command::Backfill(_) => in_aws(command).await,
    }
}

#[cfg(feature = "aws")]
async fn in_aws(command: Command) -> Result<()> {
    use crate::aws::{self, Start};

    let start = |options: StartOptions, as_of| Start {
        as_of,
        from: options.from,
        force: options.force,
        allow_concurrent: options.allow_concurrent,
    };
    match command {
        Command::Start(args) => aws::start(args.options.env, &start(args.options, args.as_of), args.detach).await,
        Command::Status(args) => aws::status(args.env, args.execution.as_deref(), args.follow, args.count).await,
        Command::Backfill(args) => {
            let days = (args.first, args.last);
            aws::backfill(args.options.env, days, args.every, &start(args.options, None)).await
        }
        _ => Err(Error::internal("the command is not one of AWS")),
    }
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "it is async where AWS is built in")]
async fn in_aws(_: Command) -> Result<()> {
    Err(Error::bad_input("this build of the command has no AWS").next("build it with AWS: make build"))
}

async fn doctor(args: DoctorArgs) -> Result<()> {
    let source = match (args.live, args.recording, args.graph_url.zip(args.transpose_url)) {
        (true, ..) => Some(Source::Live),
        (_, Some(recording), _) => Some(Source::Recording(recording)),
        (.., urls) => urls.map(|(graph, transpose)| Source::Urls { graph, transpose }),
    };
    crate::doctor::examine(&crate::doctor::Options { source, in_aws: args.aws, json: args.json }, &args.lake).await
}

fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "defi", &mut text);
    crate::output::written(std::io::stdout().lock().write_all(&text))
}

fn man(folder: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    made.map_err(|cause| Error::bad_input("the pages can't be written").with("path", folder.display()).because(cause))
}

async fn wallet(args: &WalletArgs) -> Result<()> {
    let address = Address::parse(&args.address).ok_or_else(|| {
        Error::bad_input(format!("{:?} is no address", args.address)).next("write it as 0x and 40 hex digits")
    })?;
    let (explain, html) = (args.explain.as_deref(), args.html.as_deref());
    let asked = crate::wallet::Asked { address, as_of: args.as_of, explain, json: args.json, html };
    crate::wallet::tell(&asked, &args.lake).await
}

async fn features(args: FeaturesArgs) -> Result<()> {
    let rows = match (args.at_borrows, args.at) {
        (true, _) => Rows::AtBorrows(args.from, args.until),
        (_, Some(file)) => Rows::At(file),
        _ => Rows::Published(args.as_of),
    };
    let options = crate::features::Options { rows, wallets: args.wallets, format: args.format, output: args.output };
    crate::features::export(&options, &args.lake).await
}

#[cfg(feature = "sql")]
async fn query(args: &QueryArgs) -> Result<()> {
    crate::query::query(&args.sql, &args.lake, args.format).await
}

#[cfg(not(feature = "sql"))]
#[expect(clippy::unused_async, reason = "it is async where SQL is built in")]
async fn query(_: &QueryArgs) -> Result<()> {
    Err(Error::bad_input("this build of the command has no SQL").next("build it with SQL: make build"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
