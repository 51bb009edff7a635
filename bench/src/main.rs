//! `bench`: lakes of any size, and the jobs that are timed over them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use defi_bench::generate::{Size, generate};
use defi_bench::{context, floor, kernels, policy, rebuild};
use defi_shared::Result;
use defi_shared::domain::Day;

#[derive(Debug, Parser)]
#[command(about = "Lakes of any size, and the jobs that are timed over them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the stage tables of a lake
    Generate {
        /// Folder of the lake
        lake: PathBuf,
        #[command(flatten)]
        size: Size,
    },
    /// Rebuild features from the stage tables: links, priced events, health, the fold
    Rebuild {
        /// Folder of the lake
        lake: PathBuf,
        /// Day of the features
        as_of: Day,
    },
    /// Do one more day: its links, priced events and health, and the fold from the newest earlier state
    Daily {
        /// Folder of the lake
        lake: PathBuf,
        /// Day of the features
        as_of: Day,
    },
    /// Compare ways to write Parquet
    Policy {
        /// An object of wallet_health_daily
        object: PathBuf,
    },
    /// Do every kernel's work once, for a tool that counts instructions
    Kernels,
    /// Decode the columns that a rebuild needs and encode what it has left behind, and nothing else
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
async fn in_lake(command: Command) -> Result<()> {
    match command {
        Command::Generate { lake, size } => generate(&context(&lake).await?, &size).await,
        Command::Rebuild { lake, as_of } => rebuild::rebuild(&context(&lake).await?, as_of).await,
        Command::Daily { lake, as_of } => rebuild::daily(&context(&lake).await?, as_of).await,
        Command::Floor { lake } => floor::floor(&context(&lake).await?).await,
        Command::Policy { .. } | Command::Kernels => Ok(()),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Policy { object } => policy::compare(&object),
        Command::Kernels => kernels::run_all(),
        command => in_lake(command),
    }
}
