//! The `bench` command: generates lakes of any size, and runs the timed jobs over them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use defi_bench::generate::{Size, generate};
use defi_bench::{context, floor, kernels, policy, rebuild, replay};
use defi_shared::Result;
use defi_shared::domain::Day;

#[derive(Debug, Parser)]
#[command(about = "Generate lakes of any size, and run the timed jobs over them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate the stage tables of a lake
    Generate {
        /// Folder of the lake
        lake: PathBuf,
        #[command(flatten)]
        size: Size,
    },
    /// Rebuild the features from the stage tables: links, priced events, health, the fold
    Rebuild {
        /// Folder of the lake
        lake: PathBuf,
        /// As-of day of the features
        as_of: Day,
    },
    /// Process one more day: its links, priced events and health, and the fold from the newest earlier state
    Daily {
        /// Folder of the lake
        lake: PathBuf,
        /// As-of day of the features
        as_of: Day,
    },
    /// Compare policies for writing Parquet
    WriterPolicy {
        /// An object of wallet_health_daily
        object: PathBuf,
    },
    /// Decode and apply the logs of a lake that was filled from a node, and print how many it were in a second
    Replay {
        /// Folder of the lake
        lake: PathBuf,
        /// Number of logs of each protocol: those of the lake are repeated
        #[arg(long, default_value_t = 10_000_000)]
        logs: u64,
    },
    /// Write a lake with the replayed balances of many accounts
    GenerateAccounts {
        /// Folder of the lake
        lake: PathBuf,
        #[command(flatten)]
        accounts: replay::Accounts,
    },
    /// Stage a day of many accounts
    StageAccounts {
        /// Folder of the lake
        lake: PathBuf,
    },
    /// Run every kernel once, for a tool that counts instructions
    Kernels,
    /// Only decode the columns that a rebuild reads, and encode its output
    Floor {
        /// Folder of the lake, after a rebuild
        lake: PathBuf,
    },
}

fn main() -> std::process::ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run_in_lake(command: Command) -> Result<()> {
    match command {
        Command::Generate { lake, size } => generate(&context(&lake).await?, &size).await,
        Command::Rebuild { lake, as_of } => rebuild::rebuild(&context(&lake).await?, as_of).await,
        Command::Daily { lake, as_of } => rebuild::daily(&context(&lake).await?, as_of).await,
        Command::Floor { lake } => floor::floor(&context(&lake).await?).await,
        Command::Replay { lake, logs } => replay::speed(&lake, logs).await,
        Command::GenerateAccounts { lake, accounts } => replay::generate_accounts(&lake, &accounts).await,
        Command::StageAccounts { lake } => replay::stage_accounts(&lake).await,
        Command::WriterPolicy { .. } | Command::Kernels => Ok(()),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::WriterPolicy { object } => policy::compare(&object),
        Command::Kernels => kernels::run_all(),
        command => run_in_lake(command),
    }
}
