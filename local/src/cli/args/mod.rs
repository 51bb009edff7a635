//! What can be asked: the commands and their options.

mod aws;
mod questions;
mod runs;

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::env::Env;
use crate::features::FileFormat;
use crate::lake::{LakeOptions, ReadOptions};
use crate::output::Format;
use crate::report;
#[cfg(feature = "aws")]
pub(super) use aws::StartOptions;
pub(super) use aws::{BackfillArgs, StartArgs, StatusArgs};
pub(super) use questions::{DoctorArgs, FeaturesArgs, QueryArgs, TablesArgs, WalletArgs};
pub(super) use runs::{PlanArgs, RunArgs, ServeArgs, StepArgs};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the whole pipeline in this process, over the sample chain unless told otherwise
    Run(RunArgs),
    /// Tell what a run would do, unit by unit, with the requests and the time that it would take
    Plan(PlanArgs),
    /// Run one step over a lake, with the input of its Lambda function, and print its output
    Step(StepArgs),
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

impl From<LakeArgs> for LakeOptions {
    fn from(args: LakeArgs) -> Self {
        LakeOptions { folder: args.lake, env: args.env }
    }
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

impl From<ReadArgs> for ReadOptions {
    fn from(args: ReadArgs) -> Self {
        ReadOptions { lake: args.lake.into(), aws: args.aws }
    }
}

/// The value names of [`Env`].
impl ValueEnum for Env {
    fn value_variants<'a>() -> &'a [Self] {
        &[Env::Dev, Env::Prod]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Env::Dev => PossibleValue::new("dev").help("For development"),
            Env::Prod => PossibleValue::new("prod").help("For production"),
        })
    }
}

/// The value names of [`Format`].
impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Format::Table, Format::Csv, Format::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Format::Table => PossibleValue::new("table").help("A table for people"),
            Format::Csv => PossibleValue::new("csv").help("Comma-separated values; NULL is an empty cell"),
            Format::Json => PossibleValue::new("json").help("A JSON array with one object per row"),
        })
    }
}

/// The value names of [`FileFormat`].
impl ValueEnum for FileFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[FileFormat::Csv, FileFormat::Parquet, FileFormat::Arrow]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            FileFormat::Csv => {
                PossibleValue::new("csv").help("Comma-separated values with a heading; NULL is an empty cell")
            }
            FileFormat::Parquet => PossibleValue::new("parquet").help("Parquet, compressed by ZSTD"),
            FileFormat::Arrow => {
                PossibleValue::new("arrow").help("Arrow's file format, which Feather is another name of")
            }
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi report --open\n  defi report --run 2023-02-14-0a1b2c3d4e5f --output report.html"
)]
pub(super) struct ReportArgs {
    /// The run: a folder's name in runs/ of the lake [default: the newest by its day]
    #[arg(long, value_name = "RUN_ID")]
    run: Option<String>,
    /// Where the report is written [default: runs/{run_id}/report.html in the lake]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Open it in the browser
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
    /// The shell
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  defi man ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder; it is made if it is not there
    pub(super) folder: PathBuf,
}
