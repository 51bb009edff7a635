//! The arguments of the commands that control runs in AWS.

use std::path::PathBuf;

use clap::Args;
use defi_shared::domain::Day;

use super::Env;

/// The options of every command that starts runs in AWS.
#[derive(Debug, Args)]
pub(in crate::cli) struct StartOptions {
    /// Environment; its state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(in crate::cli) env: Env,
    /// First day to process [default: the first day in the lake]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) from: Option<Day>,
    /// Recompute units that exist already
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Extract again what its source no longer had in earlier runs
    #[arg(long)]
    pub(in crate::cli) retry_lost: bool,
    /// Extract it again, and rebuild what its source still does not have from what the subgraph's newest state keeps
    #[arg(long)]
    pub(in crate::cli) rebuild_lost: bool,
    /// Start even if another run of the environment is in progress
    #[arg(long)]
    pub(in crate::cli) allow_concurrent: bool,
    /// Print one line of JSON per run
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Refused with a reason: other commands take it
    #[arg(long, value_name = "URL", hide = true)]
    pub(in crate::cli) rpc_url: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Region and credentials come from the environment, as for the AWS CLI (AWS_PROFILE, AWS_REGION).\n\n\
    Examples:\n  defi start\n  defi start --env prod --as-of 2023-11-01 --detach"
)]
pub(in crate::cli) struct StartArgs {
    /// Day to compute the features for [default: today (UTC)]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// Return without waiting for the run to end
    #[arg(long)]
    pub(in crate::cli) detach: bool,
    #[command(flatten)]
    pub(in crate::cli) options: StartOptions,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi status\n  defi status --follow\n  defi status --env prod 0f1e2d3c-…\n  defi status --json | jq -r 'select(.status == \"FAILED\").execution'"
)]
pub(in crate::cli) struct StatusArgs {
    /// Name or ARN of the execution to show [default: list the newest executions]
    pub(in crate::cli) execution: Option<String>,
    /// Follow the execution to its end [default: the newest execution]
    #[arg(long)]
    pub(in crate::cli) follow: bool,
    /// Number of executions to list
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(in crate::cli) count: usize,
    /// Print one line of JSON per run
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Environment; its state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(in crate::cli) env: Env,
}

#[derive(Debug, Args)]
#[command(
    after_help = "If the command is interrupted, run it again: it continues where it stopped. `defi status` says how far it is.\n\n\
    Examples:\n  defi backfill 2023-01-01 2023-12-31 --every 7\n  defi backfill 2023-01-01 2023-01-31 --from 2022-06-01"
)]
pub(in crate::cli) struct BackfillArgs {
    /// First day to publish features for
    pub(in crate::cli) first: Day,
    /// Last day to publish features for
    pub(in crate::cli) last: Day,
    /// Publish features for every N-th day
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) every: u32,
    /// HTML file to write at the end: gaps, failures, requests and credits of all runs [default: backfill-FIRST-LAST.html]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) page: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) options: StartOptions,
}
