//! Runs in AWS.

use clap::Args;
use defi_shared::domain::Day;

use super::Env;

/// How a run in AWS is started.
#[derive(Debug, Args)]
pub(in crate::cli) struct StartOptions {
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(in crate::cli) env: Env,
    /// The first day [default: each protocol's first day]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) from: Option<Day>,
    /// Make again what is there already
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Start although another run of the environment is under way
    #[arg(long)]
    pub(in crate::cli) allow_concurrent: bool,
    /// Tell of each run in a line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Region and credentials come from the environment as for the AWS CLI (AWS_PROFILE, AWS_REGION).\n\n\
    Examples:\n  defi start\n  defi start --env prod --as-of 2023-11-01 --detach"
)]
pub(in crate::cli) struct StartArgs {
    /// The day that the features are for [default: today (UTC)]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<Day>,
    /// Do not follow the run
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
    /// The name or ARN of an execution [default: the newest ones are listed]
    pub(in crate::cli) execution: Option<String>,
    /// Follow the run (the newest, where none is named) to its end
    #[arg(long)]
    pub(in crate::cli) follow: bool,
    /// How many are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(in crate::cli) count: usize,
    /// Tell of each run in a line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// The environment, whose state machine is defi-dev or defi-prod
    #[arg(long, value_enum, default_value = "dev")]
    pub(in crate::cli) env: Env,
}

#[derive(Debug, Args)]
#[command(after_help = "Where it is interrupted, the same command goes on.\n\n\
    Examples:\n  defi backfill 2023-01-01 2023-12-31 --every 7\n  defi backfill 2023-01-01 2023-01-31 --from 2022-06-01")]
pub(in crate::cli) struct BackfillArgs {
    /// The first day that features are for
    pub(in crate::cli) first: Day,
    /// The last one
    pub(in crate::cli) last: Day,
    /// Features of every so many days
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) every: u32,
    #[command(flatten)]
    pub(in crate::cli) options: StartOptions,
}
