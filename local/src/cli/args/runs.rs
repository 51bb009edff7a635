//! What makes features on this machine, and what it makes them from.

use std::path::PathBuf;

use clap::Args;
use defi_shared::domain::Day;
use defi_shared::error::Result;

use super::LakeArgs;
use crate::source::Source;
use defi_simulator::sample::SampleOptions;

#[derive(Debug, Args)]
pub(in crate::cli) struct SampleArgs {
    /// People on the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) wallets: Option<u32>,
    /// Days of the sample chain
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) days: Option<u32>,
    /// Which sample chain of this size
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) seed: Option<u64>,
    /// Take a recording of the two APIs instead of the sample chain
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) recording: Option<PathBuf>,
}

impl SampleArgs {
    pub(in crate::cli) fn options(&self) -> SampleOptions {
        let default = SampleOptions::default();
        SampleOptions {
            wallets: self.wallets.unwrap_or(default.wallets),
            days: self.days.unwrap_or(default.days),
            seed: self.seed.unwrap_or(default.seed),
        }
    }

    pub(in crate::cli) fn source(&self) -> Source {
        self.recording.clone().map_or_else(|| Source::Sample(self.options()), Source::Recording)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi run\n  defi run --wallets 2000 --days 90\n  defi run --recording DIR --as-of 2023-03-01\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi run --live --from 2023-01-01"
)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) what: WhatToRun,
    /// Tell what was done as JSON instead of tables
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// What a run covers, over which lake, from which source.
#[derive(Debug, Args)]
pub(in crate::cli) struct WhatToRun {
    /// The day that the features are for [default: today; of the sample chain or a recording its last day]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<String>,
    /// The first day [default: each protocol's first day; of the sample chain or a recording its first day]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) from: Option<String>,
    /// Make again what is there already
    #[arg(long)]
    pub(in crate::cli) force: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,
}

/// Where a run gets its rows from.
#[derive(Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    #[command(flatten)]
    pub(in crate::cli) sample: SampleArgs,
    /// Take the real APIs; the keys are GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment
    #[arg(long, conflicts_with_all = ["recording", "wallets", "days", "seed"])]
    pub(in crate::cli) live: bool,
    /// Take any server that speaks The Graph's API
    #[arg(long, value_name = "URL", requires = "transpose_url", conflicts_with_all = ["live", "recording", "wallets", "days", "seed"])]
    pub(in crate::cli) graph_url: Option<String>,
    /// Take any server that speaks Transpose's API
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(in crate::cli) transpose_url: Option<String>,
}

impl SourceArgs {
    pub(in crate::cli) fn source(self) -> Source {
        match (self.live, self.graph_url, self.transpose_url) {
            (true, ..) => Source::Live,
            (_, Some(graph), Some(transpose)) => Source::Urls { graph, transpose },
            _ => self.sample.source(),
        }
    }
}

impl WhatToRun {
    pub(in crate::cli) fn options(self, json: bool) -> Result<crate::run::Options> {
        let day = |text: &Option<String>| text.as_deref().map(str::parse::<Day>).transpose();
        Ok(crate::run::Options {
            as_of: day(&self.as_of)?,
            from: day(&self.from)?,
            force: self.force,
            source: self.source.source(),
            lake: self.lake.lake,
            env: self.lake.env,
            json,
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The input is the JSON that the step's Lambda function takes; every field has a default. Default days are the\n\
    days that are missing from the lake, up to the last day of the source.\n\n\
    Examples:\n  defi step --list\n  defi step extract-daily-blocks\n  \
    defi step stage-events '{\"days\": [\"2023-01-14\"], \"events\": [\"borrow\"]}' --lake ./lakehouse"
)]
pub(in crate::cli) struct StepArgs {
    /// The name of the step
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub(in crate::cli) name: Option<String>,
    /// The input of the step as a JSON object [default: {}]
    #[arg(value_name = "JSON")]
    pub(in crate::cli) input: Option<String>,
    /// List the steps in the order of a run
    #[arg(long, conflicts_with_all = ["name", "input"])]
    pub(in crate::cli) list: bool,
    /// With --list, write JSON instead of a table
    #[arg(long, requires = "list")]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,
}

impl StepArgs {
    pub(in crate::cli) fn options(self) -> crate::run::Options {
        crate::run::Options {
            as_of: None,
            from: None,
            force: false,
            source: self.source.source(),
            lake: self.lake.lake,
            env: self.lake.env,
            json: true,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  defi plan\n  defi plan --as-of 2023-02-10 --units\n  defi plan --force --json | jq .requests"
)]
pub(in crate::cli) struct PlanArgs {
    #[command(flatten)]
    pub(in crate::cli) run: WhatToRun,
    /// Name every unit
    #[arg(long)]
    pub(in crate::cli) units: bool,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With DEFI_SERVE_API_KEY in the environment both APIs ask for that key; without it any key or none is accepted.\n\n\
    Examples:\n  defi serve\n  defi serve --recording DIR --port 8700"
)]
pub(in crate::cli) struct ServeArgs {
    /// The port on this machine; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = 8700)]
    pub(in crate::cli) port: u16,
    #[command(flatten)]
    pub(in crate::cli) sample: SampleArgs,
}
