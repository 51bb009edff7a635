//! What is asked of a lake, and of what stands around it.

use std::path::PathBuf;

use clap::Args;
use defi_shared::domain::Day;

use super::{Format, LakeArgs, ReadArgs};
use crate::features::FileFormat;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  defi query \"select wallet_address, risk_factor from db_analytics_dev.defi_features order by 2 desc limit 10\""
)]
pub(in crate::cli) struct QueryArgs {
    /// The question, in SQL
    // It may begin with a comment.
    #[arg(allow_hyphen_values = true)]
    pub(in crate::cli) sql: String,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "table")]
    pub(in crate::cli) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  defi tables\n  defi tables --lake target/larger --format json")]
pub(in crate::cli) struct TablesArgs {
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
    /// How the list is written
    #[arg(long, value_enum, default_value = "table")]
    pub(in crate::cli) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi wallet 0x…\n  defi wallet 0x… --explain avg_weighted_risk_factor\n  defi wallet 0x… --json | jq .events"
)]
pub(in crate::cli) struct WalletArgs {
    /// The wallet's address
    pub(in crate::cli) address: String,
    /// A published day [default: the newest]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// List the rows that this feature came from, and the arithmetic; all for every feature
    #[arg(long, value_name = "FEATURE")]
    pub(in crate::cli) explain: Option<String>,
    /// Write JSON instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Write a page into this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(in crate::cli) html: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A row as of an instant knows the blocks strictly before it, and nothing else; snapshot_day is the last snapshot among them.\n\n\
    Examples:\n  defi features > features.csv\n  defi features --as-of 2023-01-01..2023-01-31 --format parquet --output january.parquet\n  \
    defi features --at-borrows --format arrow --output training.arrow\n  defi features --at wallets-and-times.csv"
)]
pub(in crate::cli) struct FeaturesArgs {
    /// Published days: one, several with commas between, a range a..b, or all [default: the newest]
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["at_borrows", "at"])]
    pub(in crate::cli) as_of: Option<String>,
    /// A row for each borrow, as of just before its block
    #[arg(long, conflicts_with = "at")]
    pub(in crate::cli) at_borrows: bool,
    /// The first day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(in crate::cli) from: Option<Day>,
    /// The last day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(in crate::cli) until: Option<Day>,
    /// A row for each line of a file with wallet_address,time (UTC), as of just before that time
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) at: Option<PathBuf>,
    /// Only the wallets of this file, one a line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) wallets: Option<PathBuf>,
    /// How the rows are written
    #[arg(long, value_enum, default_value = "csv")]
    pub(in crate::cli) format: FileFormat,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 where anything is found that will fail.\n\nExamples:\n  defi doctor\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi doctor --live\n  defi doctor --aws --env prod --json")]
pub(in crate::cli) struct DoctorArgs {
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
    /// Ask the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "graph_url"])]
    pub(in crate::cli) live: bool,
    /// Take a recording of the two APIs as the source
    #[arg(long, value_name = "DIR", conflicts_with = "graph_url")]
    pub(in crate::cli) recording: Option<PathBuf>,
    /// Ask any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url")]
    pub(in crate::cli) graph_url: Option<String>,
    /// Ask any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(in crate::cli) transpose_url: Option<String>,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
