//! What can be asked: the commands and their options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use defi_shared::domain::Day;
use defi_shared::error::Result;

use crate::features::FileFormat;
use crate::report::ReportArgs;
use crate::sample::SampleOptions;
use crate::source::Source;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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

/// Which lake is asked.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The folder, and the environment
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Ask the lake of the deployed environment instead of a folder; credentials as for the AWS CLI
    #[arg(long)]
    pub aws: bool,
}

#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// People on the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(super) wallets: Option<u32>,
    /// Days of the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(super) days: Option<u32>,
    /// Which sample chain of this size
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(super) seed: Option<u64>,
    /// Take a recording of the two APIs instead of the sample chain
    #[arg(long, value_name = "DIR")]
    pub(super) recording: Option<PathBuf>,
}

impl SampleArgs {
    pub(super) fn options(&self) -> SampleOptions {
        let default = SampleOptions::default();
        SampleOptions {
            wallets: self.wallets.unwrap_or(default.wallets),
            days: self.days.unwrap_or(default.days),
            seed: self.seed.unwrap_or(default.seed),
        }
    }

    pub(super) fn source(&self) -> Source {
        self.recording.clone().map_or_else(|| Source::Sample(self.options()), Source::Recording)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi run\n  defi run --wallets 2000 --days 90\n  defi run --recording DIR --as-of 2023-03-01\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi run --live --from 2023-01-01"
)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) what: WhatToRun,
    /// Tell what was done as JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

/// What a run covers, over which lake, from which source.
#[derive(Debug, Args)]
pub(super) struct WhatToRun {
    /// The day that the features are for [default: today; of the sample chain or a recording its last day]
    #[arg(long, value_name = "DAY")]
    pub(super) as_of: Option<String>,
    /// The first day [default: each protocol's first day; of the sample chain or a recording its first day]
    #[arg(long, value_name = "DAY")]
    pub(super) from: Option<String>,
    /// Make again what is there already
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) lake: LakeArgs,
    #[command(flatten)]
    pub(super) sample: SampleArgs,
    /// Take the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "wallets", "days", "seed"])]
    pub(super) live: bool,
    /// Take any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url", conflicts_with_all = ["live", "recording", "wallets", "days", "seed"])]
    pub(super) graph_url: Option<String>,
    /// Take any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(super) transpose_url: Option<String>,
}

impl WhatToRun {
    pub(super) fn options(self, json: bool) -> Result<crate::run::Options> {
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
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) run: WhatToRun,
    /// Name every unit
    #[arg(long)]
    pub(super) units: bool,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 where anything is found that will fail.\n\nExamples:\n  defi doctor\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi doctor --live\n  defi doctor --aws --env prod --json")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) lake: ReadArgs,
    /// Ask the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "graph_url"])]
    pub(super) live: bool,
    /// Take a recording of the two APIs as the source
    #[arg(long, value_name = "DIR", conflicts_with = "graph_url")]
    pub(super) recording: Option<PathBuf>,
    /// Ask any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url")]
    pub(super) graph_url: Option<String>,
    /// Ask any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(super) transpose_url: Option<String>,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi completions bash > ~/.local/share/bash-completion/completions/defi")]
pub(super) struct CompletionsArgs {
    /// The shell
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi man ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder; it is made if it is not there
    pub(super) folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With DEFI_SERVE_API_KEY in the environment both APIs ask for that key; without it any key or none is accepted.\n\n\
    Examples:\n  defi serve\n  defi serve --recording DIR --port 8700"
)]
pub(super) struct ServeArgs {
    /// The port on this machine; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = 8700)]
    pub(super) port: u16,
    #[command(flatten)]
    pub(super) sample: SampleArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  defi query \"select wallet_address, risk_factor from db_analytics_dev.defi_features order by 2 desc limit 10\""
)]
pub(super) struct QueryArgs {
    /// The question, in SQL
    // It may begin with a comment.
    #[arg(allow_hyphen_values = true)]
    pub(super) sql: String,
    #[command(flatten)]
    pub(super) lake: LakeArgs,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  defi tables\n  defi tables --lake target/larger --format json")]
pub(super) struct TablesArgs {
    #[command(flatten)]
    pub(super) lake: ReadArgs,
    /// How the list is written
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi wallet 0x…\n  defi wallet 0x… --explain avg_weighted_risk_factor\n  defi wallet 0x… --json | jq .events"
)]
pub(super) struct WalletArgs {
    /// The wallet's address
    pub(super) address: String,
    /// A published day [default: the newest]
    #[arg(long, value_name = "DAY")]
    pub(super) as_of: Option<Day>,
    /// List the rows that this feature came from, and the arithmetic; all for every feature
    #[arg(long, value_name = "FEATURE")]
    pub(super) explain: Option<String>,
    /// Write JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Write a page into this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(super) html: Option<PathBuf>,
    #[command(flatten)]
    pub(super) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A row as of an instant knows the blocks strictly before it, and nothing else; snapshot_day is the last snapshot among them.\n\n\
    Examples:\n  defi features > features.csv\n  defi features --as-of 2023-01-01..2023-01-31 --format parquet --output january.parquet\n  \
    defi features --at-borrows --format arrow --output training.arrow\n  defi features --at wallets-and-times.csv"
)]
pub(super) struct FeaturesArgs {
    /// Published days: one, several with commas between, a range a..b, or all [default: the newest]
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["at_borrows", "at"])]
    pub(super) as_of: Option<String>,
    /// A row for each borrow, as of just before its block
    #[arg(long, conflicts_with = "at")]
    pub(super) at_borrows: bool,
    /// The first day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(super) from: Option<Day>,
    /// The last day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(super) until: Option<Day>,
    /// A row for each line of a file with wallet_address,time (UTC), as of just before that time
    #[arg(long, value_name = "FILE")]
    pub(super) at: Option<PathBuf>,
    /// Only the wallets of this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) wallets: Option<PathBuf>,
    /// How the rows are written
    #[arg(long, value_enum, default_value = "csv")]
    pub(super) format: FileFormat,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) lake: ReadArgs,
}

/// How a run in AWS is started.
#[derive(Debug, Args)]
pub(super) struct StartOptions {
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(super) env: Env,
    /// The first day [default: each protocol's first day]
    #[arg(long, value_name = "DAY")]
    pub(super) from: Option<Day>,
    /// Make again what is there already
    #[arg(long)]
    pub(super) force: bool,
    /// Start although another run of the environment is under way
    #[arg(long)]
    pub(super) allow_concurrent: bool,
    /// Tell of each run in a line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Region and credentials come from the environment as for the AWS CLI (AWS_PROFILE, AWS_REGION).\n\n\
    Examples:\n  defi start\n  defi start --env prod --as-of 2023-11-01 --detach"
)]
pub(super) struct StartArgs {
    /// The day that the features are for [default: today (UTC)]
    #[arg(long, value_name = "DAY")]
    pub(super) as_of: Option<Day>,
    /// Do not follow the run
    #[arg(long)]
    pub(super) detach: bool,
    #[command(flatten)]
    pub(super) options: StartOptions,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi status\n  defi status --follow\n  defi status --env prod 0f1e2d3c-…\n  defi status --json | jq -r 'select(.status == \"FAILED\").execution'"
)]
pub(super) struct StatusArgs {
    /// The name or ARN of an execution [default: the newest ones are listed]
    pub(super) execution: Option<String>,
    /// Follow the run (the newest, where none is named) to its end
    #[arg(long)]
    pub(super) follow: bool,
    /// How many are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) count: usize,
    /// Tell of each run in a line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(super) env: Env,
}

#[derive(Debug, Args)]
#[command(after_help = "Where it is interrupted, the same command goes on.\n\n\
    Examples:\n  defi backfill 2023-01-01 2023-12-31 --every 7\n  defi backfill 2023-01-01 2023-01-31 --from 2022-06-01")]
pub(super) struct BackfillArgs {
    /// The first day that features are for
    pub(super) first: Day,
    /// The last one
    pub(super) last: Day,
    /// Features of every so many days
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) every: u32,
    #[command(flatten)]
    pub(super) options: StartOptions,
}
