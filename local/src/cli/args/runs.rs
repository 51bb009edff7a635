//! The arguments of the commands that run or serve on this machine: `run`, `plan`, `step` and `serve`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::sources::Secret;

use super::LakeArgs;
use crate::source::Source;
use defi_simulator::sample::{SampleOptions, Scenario};

#[derive(Debug, Args)]
pub(in crate::cli) struct SampleArgs {
    /// What happens on the sample chain [default: mixed]
    #[arg(long, value_name = "NAME", value_parser = scenario(), conflicts_with = "recording")]
    pub(in crate::cli) scenario: Option<Scenario>,
    /// Number of wallets on the sample chain [default: 500; credit: 700]
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) wallets: Option<u32>,
    /// Number of days of the sample chain [default: 45; credit: 210]
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) days: Option<u32>,
    /// Seed of the sample chain [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "recording")]
    pub(in crate::cli) seed: Option<u64>,
    /// Use a recording of the two APIs instead of the sample chain
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) recording: Option<PathBuf>,
}

/// Returns the parser of a scenario, which has its values and their help.
fn scenario() -> impl TypedValueParser<Value = Scenario> {
    let mixed = PossibleValue::new("mixed").help("Some weeks with wallets of all kinds and two crashes");
    let credit =
        PossibleValue::new("credit").help("Months with borrowers of different care, for models of credit risk");
    PossibleValuesParser::new([mixed, credit])
        .map(|name| if name == "credit" { Scenario::Credit } else { Scenario::Mixed })
}

impl SampleArgs {
    pub(in crate::cli) fn options(&self) -> SampleOptions {
        let default = SampleOptions::of(self.scenario.unwrap_or_default());
        SampleOptions {
            scenario: default.scenario,
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
    after_help = "A run produces only what is missing from the lake, so that a run after an interrupted one continues it.\n\n\
    Examples:\n  defi run\n  defi run --wallets 2000 --days 90\n  defi run --scenario credit --lake credit-lake\n  defi run --recording DIR --as-of 2023-03-01\n  \
    GRAPH_API_KEY=… TRANSPOSE_API_KEY=… defi run --live --from 2023-01-01"
)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) run: ScopeArgs,
    /// Print the result as JSON instead of tables
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Returns the URL of a node: that of the option, or else that of the environment.
///
/// # Errors
/// `BadInput` for an empty URL: whoever sets one does not want a simulated chain.
pub(in crate::cli) fn node_url(option: Option<&str>) -> Result<Option<Secret>> {
    let (name, url) = match option {
        Some(url) => ("--rpc-url", Some(url.to_owned())),
        None => ("ETHEREUM_RPC_URL", std::env::var("ETHEREUM_RPC_URL").ok()),
    };
    match url {
        Some(url) if url.trim().is_empty() => Err(Error::bad_input(format!("{name} is empty"))
            .with_hint("set the URL of an Ethereum node, or unset ETHEREUM_RPC_URL to use another source")),
        url => Ok(url.map(Secret::new)),
    }
}

/// The arguments that set the scope, the lake and the source of a run.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScopeArgs {
    /// Day to compute the features for [default: the last day of the sample chain or recording, else today (UTC)]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) as_of: Option<String>,
    /// First day to process [default: the first day of the sample chain or recording, else of the lake]
    #[arg(long, value_name = "DAY")]
    pub(in crate::cli) from: Option<String>,
    /// Recompute units that exist already
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Extract again what its source no longer had in earlier runs
    #[arg(long)]
    pub(in crate::cli) retry_lost: bool,
    /// Extract it again, and rebuild what its source still does not have from what the subgraph's newest state keeps
    #[arg(long)]
    pub(in crate::cli) rebuild_lost: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,
}

/// The arguments that select the source of the rows.
#[derive(Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    #[command(flatten)]
    pub(in crate::cli) sample: SampleArgs,
    /// Use the live APIs, with the API keys in GRAPH_API_KEY and TRANSPOSE_API_KEY
    #[arg(long, conflicts_with_all = ["recording", "scenario", "wallets", "days", "seed"])]
    pub(in crate::cli) live: bool,
    /// Use the server at this URL instead of The Graph; needs --transpose-url
    #[arg(long, value_name = "URL", requires = "transpose_url", conflicts_with_all = ["live", "recording", "scenario", "wallets", "days", "seed"])]
    pub(in crate::cli) graph_url: Option<String>,
    /// Use the server at this URL instead of Transpose; needs --graph-url
    #[arg(long, value_name = "URL", requires = "graph_url")]
    pub(in crate::cli) transpose_url: Option<String>,
    /// Use an Ethereum node instead of the two APIs: its URL, which is a secret; better in the variable ETHEREUM_RPC_URL
    #[arg(long, value_name = "URL", conflicts_with_all = ["live", "graph_url", "recording", "scenario", "wallets", "days", "seed"])]
    pub(in crate::cli) rpc_url: Option<String>,
    /// With a node: read the logs from Parquet files of all logs, as AWS's public data set or cryo write them
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX", conflicts_with_all = ["live", "graph_url", "recording", "scenario", "wallets", "days", "seed"])]
    pub(in crate::cli) logs: Option<String>,
    /// Send the API keys in GRAPH_API_KEY and TRANSPOSE_API_KEY to servers other than the live APIs, too
    #[arg(long, conflicts_with_all = ["recording", "scenario", "wallets", "days", "seed"])]
    pub(in crate::cli) send_keys: bool,
}

impl SourceArgs {
    /// Returns the URL of a node: that of the option, or that of the environment if no option names another source.
    fn node_url(&self) -> Result<Option<Secret>> {
        let sample = &self.sample;
        let has_other_source = self.live
            || self.graph_url.is_some()
            || sample.recording.is_some()
            || sample.scenario.is_some()
            || sample.wallets.or(sample.days).is_some()
            || sample.seed.is_some();
        if has_other_source && self.rpc_url.is_none() { Ok(None) } else { node_url(self.rpc_url.as_deref()) }
    }

    /// # Errors
    /// `BadInput` for an empty URL of a node, and for files of logs without a node, which has the rest.
    pub(in crate::cli) fn source(self) -> Result<Source> {
        let send_keys = self.send_keys;
        if let Some(url) = self.node_url()? {
            return Ok(Source::Node { url, logs: self.logs });
        }
        if self.logs.is_some() {
            return Err(Error::bad_input("--logs needs an Ethereum node, for all but the logs")
                .with_hint("name one in ETHEREUM_RPC_URL or with --rpc-url"));
        }
        Ok(match (self.live, self.graph_url, self.transpose_url) {
            (true, ..) => Source::Live { send_keys },
            (_, Some(graph), Some(transpose)) => Source::Urls { graph, transpose, send_keys },
            _ => self.sample.source(),
        })
    }
}

impl ScopeArgs {
    pub(in crate::cli) fn options(self, json: bool) -> Result<crate::run::Options> {
        let day = |text: &Option<String>| text.as_deref().map(str::parse::<Day>).transpose();
        Ok(crate::run::Options {
            as_of: day(&self.as_of)?,
            from: day(&self.from)?,
            force: self.force,
            retry_lost: self.retry_lost,
            rebuild_lost: self.rebuild_lost,
            source: self.source.source()?,
            lake: self.lake.lake,
            env: self.lake.env,
            json,
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The input is the JSON input of the step's Lambda function. Every field has a default. By default a step \
    processes the days that are missing from the lake, up to the last day of the source.\n\n\
    Examples:\n  defi step --list\n  defi step extract-daily-blocks\n  \
    defi step stage-events '{\"days\": [\"2023-01-14\"], \"events\": [\"borrow\"]}' --lake ./lakehouse"
)]
pub(in crate::cli) struct StepArgs {
    /// Name of the step
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub(in crate::cli) name: Option<String>,
    /// Input of the step as a JSON object [default: {}]
    #[arg(value_name = "JSON")]
    pub(in crate::cli) input: Option<String>,
    /// List the steps in the order in which a run calls them
    #[arg(long, conflicts_with_all = ["name", "input"])]
    pub(in crate::cli) list: bool,
    /// With --list, print JSON instead of a table
    #[arg(long, requires = "list")]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) lake: LakeArgs,
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,
}

impl StepArgs {
    pub(in crate::cli) fn options(self) -> Result<crate::run::Options> {
        Ok(crate::run::Options {
            as_of: None,
            from: None,
            force: false,
            retry_lost: false,
            rebuild_lost: false,
            source: self.source.source()?,
            lake: self.lake.lake,
            env: self.lake.env,
            json: true,
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "A unit is one object that a step writes: one day of a table, for some tables of one protocol or category. \
    build-features counts as one unit, whatever the number of shards.\n\n\
    Examples:\n  defi plan\n  defi plan --as-of 2023-02-10 --units\n  defi plan --force --json | jq .requests"
)]
pub(in crate::cli) struct PlanArgs {
    #[command(flatten)]
    pub(in crate::cli) run: ScopeArgs,
    /// List every unit
    #[arg(long)]
    pub(in crate::cli) units: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The server runs until it is interrupted. If DEFI_SERVE_API_KEY is set, both APIs require that key. \
    Otherwise they accept any key, or none.\n\n\
    Examples:\n  defi serve\n  defi serve --recording DIR --port 8700"
)]
pub(in crate::cli) struct ServeArgs {
    /// Port to listen on, on localhost only; 0 chooses a free port
    #[arg(long, value_name = "N", default_value_t = 8700)]
    pub(in crate::cli) port: u16,
    /// For tests: serve JSON-RPC instead, from the Ethereum node at this URL
    #[arg(long, value_name = "URL", hide = true)]
    pub(in crate::cli) node_url: Option<String>,
    /// For tests: the limits and faults of that server, such as seed=1,transient=200,blocks=100
    #[arg(long, value_name = "LIST", hide = true, requires = "node_url", default_value = "")]
    pub(in crate::cli) node_faults: String,
    /// For tests: the number of blocks before the head whose states the subgraphs in Messari's schema keep
    #[arg(long, value_name = "N", hide = true)]
    pub(in crate::cli) history: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) sample: SampleArgs,
}
