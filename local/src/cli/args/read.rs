//! The arguments of the commands that read a lake: `query`, `tables`, `wallet`, `get`, `features`, `verify` and `doctor`.

use std::path::PathBuf;

use clap::Args;
use defi_shared::domain::Day;

use super::{CsvArgs, Format, LakeArgs, ReadArgs};
use crate::output::{FileFormat, RowFormat};

#[derive(Debug, Args)]
#[command(after_help = "Without SQL on a terminal, a prompt opens.\n\nExamples:\n  defi query\n  \
    defi query \"select wallet_address, risk_factor from defi_features limit 10\"\n  \
    defi query --file report.sql --format csv\n  defi query --format json < report.sql\n  \
    defi query --format parquet --output events.parquet \"select * from lending_events\"")]
pub(in crate::cli) struct QueryArgs {
    /// SQL query, or - to read it from standard input; tables are named db_{layer}_{env}.{table}, or {table} where that is
    /// unique [default: - if standard input is no terminal]
    pub(in crate::cli) sql: Option<String>,
    /// Read the SQL query from this file
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    pub(in crate::cli) file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(in crate::cli) format: RowFormat,
    #[command(flatten)]
    pub(in crate::cli) csv: CsvArgs,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  defi tables\n  defi tables --lake target/larger --format json")]
pub(in crate::cli) struct TablesArgs {
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(in crate::cli) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi wallet 0x…\n  defi wallet 0x… --explain avg_weighted_risk_factor\n  defi wallet 0x… --json | jq .events"
)]
pub(in crate::cli) struct WalletArgs {
    /// Address of the wallet
    pub(in crate::cli) address: String,
    /// Published day to show [default: the newest]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// Show the rows behind this feature and the arithmetic; `all` explains every feature
    #[arg(long, value_name = "FEATURE")]
    pub(in crate::cli) explain: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Write an HTML page to this file instead of printing
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(in crate::cli) html: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The day of the set, its age and the wallets without a row go to standard error, in JSON to the output.\n\n\
    Examples:\n  defi get 0x…\n  defi get 0x… 0x… --features risk_factor,borrow_count --format csv\n  \
    defi get 0x… --format json | jq .age_seconds"
)]
pub(in crate::cli) struct GetArgs {
    /// Addresses of the wallets, at most 1,000
    #[arg(required = true, value_name = "ADDRESS")]
    pub(in crate::cli) wallets: Vec<String>,
    /// Published day [default: the newest]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// Only these features, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(in crate::cli) features: Option<Vec<String>>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(in crate::cli) format: Format,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A row as of an instant is computed from the blocks strictly before it. snapshot_day is the day of the \
    newest daily snapshot among them.\n\n\
    Examples:\n  defi features > features.csv\n  defi features --as-of 2023-01-01..2023-01-31 --format parquet --output january.parquet\n  \
    defi features --at-borrows --label 30d --format arrow --output training.arrow\n  defi features --at wallets-and-times.csv"
)]
pub(in crate::cli) struct FeaturesArgs {
    /// Published days to export: one day, a comma-separated list, a range a..b, or `all` [default: the newest day]
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["at_borrows", "at"])]
    pub(in crate::cli) as_of: Option<String>,
    /// Write one row per borrow, as of just before its block
    #[arg(long, group = "instants")]
    pub(in crate::cli) at_borrows: bool,
    /// First day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(in crate::cli) from: Option<Day>,
    /// Last day of the borrows
    #[arg(long, value_name = "DAY", requires = "at_borrows")]
    pub(in crate::cli) until: Option<Day>,
    /// Write one row per line of this CSV file with the columns wallet_address,time (UTC), as of just before that time
    #[arg(long, value_name = "FILE", group = "instants")]
    pub(in crate::cli) at: Option<PathBuf>,
    /// Add columns that say what happened to the wallet within this time after the row, such as 30d or 12h
    #[arg(long, value_name = "HORIZON", requires = "instants")]
    pub(in crate::cli) label: Option<String>,
    /// Write the row of the newest set that was published at the time, instead of computing it. A set is available this
    /// long after midnight of its day, such as 6h
    #[arg(long, value_name = "LAG", requires = "instants")]
    pub(in crate::cli) as_served: Option<String>,
    /// Export only the wallets in this file, one per line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) wallets: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "csv")]
    pub(in crate::cli) format: FileFormat,
    #[command(flatten)]
    pub(in crate::cli) csv: CsvArgs,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Write Croissant metadata beside the file: FILE.croissant.json
    #[arg(long, requires = "output")]
    pub(in crate::cli) croissant: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Asks Aave's getUserAccountData and Compound's getAccountLiquidity at the day's first block. A past day needs \
    an archive node. The exit code is 1 if a value differs by more than 1e-6.\n\n\
    Examples:\n  defi verify\n  defi verify --accounts 1000 --as-of 2023-01-31\n  defi verify --json | jq .protocols"
)]
pub(in crate::cli) struct VerifyArgs {
    /// Maximum number of accounts of each protocol to compare
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) accounts: u32,
    /// Published day to compare [default: the newest]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// The Ethereum node to ask: its URL, which is a secret; better in the variable ETHEREUM_RPC_URL
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) rpc_url: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With --aws, the secrets and the state machine of the deployed environment are checked, too. The exit \
    code is 1 if a check fails.\n\nExamples:\n  defi doctor\n  defi doctor --live\n  defi doctor --aws --env prod --json"
)]
pub(in crate::cli) struct DoctorArgs {
    #[command(flatten)]
    pub(in crate::cli) lake: ReadArgs,
    /// Also check the live APIs, with the API keys in GRAPH_API_KEY and TRANSPOSE_API_KEY
    #[arg(long, conflicts_with_all = ["recording", "graph_url"])]
    pub(in crate::cli) live: bool,
    /// Also check this recording of the two APIs
    #[arg(long, value_name = "DIR", conflicts_with = "graph_url")]
    pub(in crate::cli) recording: Option<PathBuf>,
    /// Also check the server at this URL that replaces The Graph; needs --transpose-url
    #[arg(long, value_name = "URL", requires = "transpose_url")]
    pub(in crate::cli) graph_url: Option<String>,
    /// Also check the server at this URL that replaces Transpose; needs --graph-url
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(in crate::cli) transpose_url: Option<String>,
    /// Also check the Ethereum node at this URL, which is a secret; better in the variable ETHEREUM_RPC_URL
    #[arg(long, value_name = "URL", conflicts_with_all = ["live", "recording", "graph_url"])]
    pub(in crate::cli) rpc_url: Option<String>,
    /// Send the API keys in GRAPH_API_KEY and TRANSPOSE_API_KEY to servers other than the live APIs, too
    #[arg(long, conflicts_with = "recording")]
    pub(in crate::cli) send_keys: bool,
    /// List every check, not only the problems
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Print every check as JSON
    #[arg(long, conflicts_with = "all")]
    pub(in crate::cli) json: bool,
}
