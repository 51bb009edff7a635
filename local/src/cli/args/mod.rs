//! The arguments of the command line: the commands and their options.

mod aws;
mod export;
mod read;
mod runs;

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use defi_shared::error::{Error, Result};

use crate::env::Env;
use crate::hint::{CallOptions, DEFAULT_LAKE};
use crate::lake::{LakeOptions, ReadOptions};
use crate::output::{CsvStyle, FileFormat, Format, RowFormat};
use crate::report;
#[cfg(feature = "aws")]
pub(super) use aws::StartOptions;
pub(super) use aws::{BackfillArgs, StartArgs, StatusArgs};
pub(super) use export::{DbtArgs, FeastArgs};
pub(super) use read::{DoctorArgs, FeaturesArgs, GetArgs, QueryArgs, TablesArgs, VerifyArgs, WalletArgs};
pub(super) use runs::{PlanArgs, RunArgs, ServeArgs, StepArgs, node_url};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the whole pipeline in one process, by default over the sample chain
    Run(RunArgs),
    /// Show what a run would do: the units of each step, the number of requests and the time
    Plan(PlanArgs),
    /// Run one step over a local lake, with the input of its Lambda function, and print its output
    Step(StepArgs),
    /// Serve The Graph's and Transpose's APIs on this machine, with the data of the sample chain or a recording
    Serve(ServeArgs),
    /// Run an SQL query over the tables of a local lake
    Query(QueryArgs),
    /// List the tables of a lake
    Tables(TablesArgs),
    /// Show the features, accounts, health and events of one wallet, and explain its features
    Wallet(WalletArgs),
    /// Return the published features of wallets, as the function get-features does
    Get(GetArgs),
    /// Export features for training: of published days, as of just before each borrow, or as of given times
    Features(FeaturesArgs),
    /// Write a Feast repository over the published features
    Feast(FeastArgs),
    /// Write a dbt project over the tables of a local lake, for dbt-duckdb
    Dbt(DbtArgs),
    /// Compare accounts of a published day with what the contracts say of them, through an Ethereum node
    Verify(VerifyArgs),
    /// Check the lake against its catalog, and optionally API keys, sources and the deployed environment
    Doctor(DoctorArgs),
    /// Write the report of a run as an HTML file, by default into the lake
    Report(ReportArgs),
    /// Start a run in AWS, follow it to its end and print its report
    Start(StartArgs),
    /// List the newest runs in AWS, or show one run
    Status(StatusArgs),
    /// Publish features for a range of days in AWS, one run after another
    Backfill(BackfillArgs),
    /// Write shell completions to standard output
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    Man(ManArgs),
}

impl Command {
    /// Returns the options that the commands in hints need, too.
    pub(super) fn options(&self) -> CallOptions {
        let local = |args: &LakeArgs| CallOptions::from(&args.options());
        let read = |args: &ReadArgs| CallOptions::from(&args.options());
        match self {
            Command::Run(args) => local(&args.run.lake),
            Command::Plan(args) => local(&args.run.lake),
            Command::Step(args) => local(&args.lake),
            Command::Query(args) => local(&args.lake),
            Command::Tables(args) => read(&args.lake),
            Command::Wallet(args) => read(&args.lake),
            Command::Get(args) => read(&args.lake),
            Command::Features(args) => read(&args.lake),
            Command::Feast(args) => args.call_options(),
            Command::Dbt(args) => local(&args.lake),
            Command::Verify(args) => read(&args.lake),
            Command::Doctor(args) => read(&args.lake),
            Command::Report(args) => read(&args.lake),
            Command::Start(args) => CallOptions::in_aws(args.options.env),
            Command::Status(args) => CallOptions::in_aws(args.env),
            Command::Backfill(args) => CallOptions::in_aws(args.options.env),
            Command::Serve(_) | Command::Completions(_) | Command::Man(_) => CallOptions::default(),
        }
    }
}

/// The arguments that select a local lake.
#[derive(Debug, Args)]
pub struct LakeArgs {
    /// Folder of the lake
    #[arg(long, value_name = "DIR", default_value = DEFAULT_LAKE)]
    pub lake: PathBuf,
    /// Environment; it is part of the database names, such as db_raw_dev
    #[arg(long, value_enum, default_value = "dev")]
    pub env: Env,
}

impl LakeArgs {
    /// Returns the options of the lake.
    fn options(&self) -> LakeOptions {
        LakeOptions { folder: self.lake.clone(), env: self.env }
    }
}

impl From<LakeArgs> for LakeOptions {
    fn from(args: LakeArgs) -> Self {
        args.options()
    }
}

/// The arguments that select a lake to read, local or in AWS.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The folder and the environment.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Read the lake of the deployed environment instead of a local one; credentials as for the AWS CLI
    #[arg(long)]
    pub aws: bool,
}

impl ReadArgs {
    /// Returns the options of the lake.
    fn options(&self) -> ReadOptions {
        ReadOptions { lake: self.lake.options(), aws: self.aws }
    }
}

impl From<ReadArgs> for ReadOptions {
    fn from(args: ReadArgs) -> Self {
        args.options()
    }
}

/// The argument that makes CSV safe for spreadsheets.
#[derive(Debug, Args)]
pub struct CsvArgs {
    /// Write CSV for a spreadsheet: an apostrophe before each cell that it would run as a formula, and quotes around text.
    /// Without it CSV is exact
    #[arg(long)]
    csv_safe: bool,
}

impl CsvArgs {
    /// Returns the style of CSV.
    pub fn style(&self) -> CsvStyle {
        if self.csv_safe { CsvStyle::Safe } else { CsvStyle::Exact }
    }

    /// Returns a format that is not CSV.
    ///
    /// # Errors
    /// `BadInput` if CSV is to be safe.
    pub fn without_csv<F>(&self, format: F) -> Result<F> {
        if self.csv_safe {
            return Err(Error::bad_input("--csv-safe is for CSV only").with_hint("add --format csv"));
        }
        Ok(format)
    }
}

/// The value names of [`Env`].
impl ValueEnum for Env {
    fn value_variants<'a>() -> &'a [Self] {
        &[Env::Dev, Env::Prod]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Env::Dev => PossibleValue::new("dev").help("Development"),
            Env::Prod => PossibleValue::new("prod").help("Production"),
        })
    }
}

/// The value names of [`Format`].
impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Format::Table, Format::Csv(CsvStyle::Exact), Format::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Format::Table => PossibleValue::new("table").help("Human-readable table"),
            Format::Csv(_) => PossibleValue::new("csv").help("Comma-separated values; NULL is an empty cell"),
            Format::Json => PossibleValue::new("json").help("JSON"),
        })
    }
}

/// The value names of [`RowFormat`].
impl ValueEnum for RowFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            RowFormat::Table,
            RowFormat::File(FileFormat::Csv(CsvStyle::Exact)),
            RowFormat::Json,
            RowFormat::Markdown,
            RowFormat::File(FileFormat::Parquet),
            RowFormat::File(FileFormat::Arrow),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            RowFormat::Table => Format::Table.to_possible_value(),
            RowFormat::Json => Format::Json.to_possible_value(),
            RowFormat::Markdown => Some(PossibleValue::new("markdown").help("Table in Markdown")),
            RowFormat::File(format) => format.to_possible_value(),
        }
    }
}

/// The value names of [`FileFormat`].
impl ValueEnum for FileFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[FileFormat::Csv(CsvStyle::Exact), FileFormat::Parquet, FileFormat::Arrow]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            FileFormat::Csv(_) => {
                PossibleValue::new("csv").help("Comma-separated values with a header line; NULL is an empty cell")
            }
            FileFormat::Parquet => PossibleValue::new("parquet").help("Parquet with ZSTD compression"),
            FileFormat::Arrow => PossibleValue::new("arrow").help("Arrow IPC file, also called Feather"),
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi report --open\n  defi report --run 2023-02-14-0a1b2c3d4e5f --output report.html"
)]
pub(super) struct ReportArgs {
    /// Run to report on: the name of a folder in runs/ of the lake [default: the newest run by its as-of day]
    #[arg(long, value_name = "RUN_ID")]
    run: Option<String>,
    /// File to write the report to [default: runs/{run_id}/reports/report-run/report.html in the lake]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Open the report in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    lake: ReadArgs,
}

impl From<ReportArgs> for report::Options {
    fn from(args: ReportArgs) -> Self {
        report::Options { run: args.run, output: args.output, open: args.open, lake: args.lake.into() }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi completions bash > ~/.local/share/bash-completion/completions/defi")]
pub(super) struct CompletionsArgs {
    /// Shell to generate completions for
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi man ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Folder to write the pages to; created if missing
    pub(super) folder: PathBuf,
}
