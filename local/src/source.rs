//! The source of a run: the sample chain or a recording, both behind a server on this machine, the live APIs, or other
//! servers that implement them.

use std::path::PathBuf;
use std::sync::Arc;

use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::sources::ethereum::EthereumSettings;
use defi_shared::sources::graph::{self, GraphSettings};
use defi_shared::sources::transpose::{self, TransposeSettings};
use defi_shared::sources::{RetryPolicy, Secret, is_on_this_machine, origin};
use defi_shared::step::Clients;

use crate::output::{line, message};
use defi_simulator::recording::Recording;
use defi_simulator::sample::{self, SampleOptions};
use defi_simulator::server::ethereum::{EthereumNode, MethodCount, NodeOptions};
use defi_simulator::server::{Deployment, SchemaVersion, Server, ServerOptions};

/// The request rate to a server on this machine, which has no rate limit.
const LOCAL_REQUESTS_PER_SECOND: u32 = 2_000;

/// The source of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The sample chain.
    Sample(SampleOptions),
    /// A recording in a folder.
    Recording(PathBuf),
    /// The live APIs.
    Live {
        /// Whether the API keys go to the servers that `GRAPH_URL` and `TRANSPOSE_URL` name.
        send_keys: bool,
    },
    /// An Ethereum node.
    Node {
        /// Its URL, which is a secret.
        url: Secret,
        /// The folder or bucket of Parquet files that logs come from instead.
        logs: Option<String>,
    },
    /// Other servers that implement the two APIs.
    Urls {
        /// The base URL of The Graph's API.
        graph: String,
        /// The base URL of Transpose's API.
        transpose: String,
        /// Whether the API keys go to these servers.
        send_keys: bool,
    },
}

/// The rate limits of all keys together, in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestRates {
    /// The rate limit of The Graph.
    pub the_graph: f64,
    /// The rate limit of Transpose.
    pub transpose: f64,
    /// The rate limit of an Ethereum node.
    pub ethereum: f64,
}

/// An open source.
#[derive(Debug)]
pub struct OpenSource {
    /// The clients of both APIs.
    pub clients: Clients,
    /// The first and the last day of the source. None if unknown.
    pub days: Option<(Day, Day)>,
    /// A human-readable description.
    pub name: String,
    /// The rate limits.
    pub rates: RequestRates,
    /// Identifies the chain. None for other servers, whose chain is unknown.
    pub chain: Option<String>,
    /// The number of rows of a recording that no step asks for.
    pub left_out: u64,
    /// The server on this machine, kept alive as long as the clients are in use.
    _server: Option<Server>,
}

impl Source {
    /// Opens the source. A recording restricts the configuration to its own protocols.
    ///
    /// # Errors
    /// `BadInput` or `CorruptData` for an invalid recording, `BadCredentials` for missing keys.
    pub async fn open(&self, config: &mut Config) -> Result<OpenSource> {
        match self {
            Source::Live { send_keys } => open_live(config, *send_keys),
            Source::Node { url, logs } => open_node(config, url, logs.as_deref()).await,
            Source::Urls { graph, transpose, send_keys } => open_urls(config, graph, transpose, *send_keys),
            Source::Sample(_) | Source::Recording(_) => {
                let recording = self.recording(config)?;
                let (first, last) = (recording.first_day.parse()?, recording.last_day.parse()?);
                recording.restrict(config)?;
                let left_out = recording.left_out.iter().map(|left_out| left_out.rows).sum();
                let chain = match self {
                    Source::Sample(options) => options.to_string(),
                    _ => format!("the recording {}", recording.name),
                };
                let options = ServerOptions { deployments: Deployment::all(config), ..ServerOptions::default() };
                let server = Server::start(Arc::new(recording), options).await?;
                let graph = GraphSettings::new(server.graph_url(), Vec::new());
                let transpose = TransposeSettings::new(server.transpose_url(), Vec::new());
                let opened = OpenSource {
                    days: Some((first, last)),
                    name: format!("{chain}, {first} to {last}"),
                    chain: Some(chain),
                    left_out,
                    _server: Some(server),
                    ..open_clients(config, graph, transpose)?
                };
                Ok(opened)
            }
        }
    }

    /// Returns the rows to serve: the sample chain, in the schema of the configuration, or the recording. Prints the rows that no step asks for to standard
    /// error.
    fn recording(&self, config: &Config) -> Result<Recording> {
        let recording = match self {
            Source::Sample(options) => sample::chain(options, config.protocol(sample::AAVE)?.schema),
            Source::Recording(dir) => Recording::load(dir),
            Source::Live { .. } | Source::Urls { .. } | Source::Node { .. } => {
                Err(Error::internal("only the sample chain and recordings can be served"))
            }
        }?;
        for left_out in &recording.left_out {
            message(left_out);
        }
        Ok(recording)
    }
}

fn api_keys(variable: &str) -> Vec<Secret> {
    std::env::var(variable).map(|keys| Secret::parse_list(&keys)).unwrap_or_default()
}

/// Whether a URL names the same server as another one.
fn is_same_server(url: &str, other: &str) -> bool {
    origin(url).is_some() && origin(url) == origin(other)
}

/// Returns the API keys in an environment variable that go to the server at a URL: none, unless that is the live API or
/// `send_keys` is set.
fn api_keys_for(url: &str, live: &str, variable: &str, send_keys: bool) -> Vec<Secret> {
    let keys = api_keys(variable);
    if keys.is_empty() || send_keys || is_same_server(url, live) {
        return keys;
    }
    message(format_args!("{variable} is not sent to {}: --send-keys sends it there", shown(url)));
    Vec::new()
}

/// Returns what may be shown of a URL.
fn shown(url: &str) -> String {
    origin(url).unwrap_or_else(|| "an invalid URL".to_owned())
}

fn open_live(config: &mut Config, send_keys: bool) -> Result<OpenSource> {
    for variable in ["GRAPH_API_KEY", "TRANSPOSE_API_KEY"] {
        if api_keys(variable).is_empty() {
            return Err(Error::new(Kind::BadCredentials, format!("{variable} is not set"))
                .with_hint("set GRAPH_API_KEY and TRANSPOSE_API_KEY in the environment"));
        }
    }
    let url = |variable: &str, live: &str| match std::env::var(variable) {
        Ok(url) if !send_keys && !is_same_server(&url, live) => {
            let error = Error::bad_input(format!("{variable} names another server than the live API: {}", shown(&url)));
            Err(error.with_hint(format!("add --send-keys to send the API key to that server, or unset {variable}")))
        }
        Ok(url) => Ok(url),
        Err(_) => Ok(live.to_owned()),
    };
    let (graph, transpose) = (url("GRAPH_URL", graph::LIVE_URL)?, url("TRANSPOSE_URL", transpose::LIVE_URL)?);
    Ok(OpenSource { chain: Some("the live APIs".to_owned()), ..open_urls(config, &graph, &transpose, send_keys)? })
}

fn open_urls(config: &mut Config, graph: &str, transpose: &str, send_keys: bool) -> Result<OpenSource> {
    let name = format!("{} and {}", shown(graph), shown(transpose));
    let keys = api_keys_for(graph, graph::LIVE_URL, "GRAPH_API_KEY", send_keys);
    let graph = GraphSettings::new(graph, keys);
    let keys = api_keys_for(transpose, transpose::LIVE_URL, "TRANSPOSE_API_KEY", send_keys);
    let transpose = TransposeSettings::new(transpose, keys);
    Ok(OpenSource { name, ..open_clients(config, graph, transpose)? })
}

/// Opens a node. Neither its URL nor its host is shown: providers put keys into both.
async fn open_node(config: &mut Config, url: &Secret, logs: Option<&str>) -> Result<OpenSource> {
    config.choose_chain()?;
    let is_local = is_on_this_machine(url);
    if is_local {
        config.requests_per_second.ethereum = LOCAL_REQUESTS_PER_SECOND;
    }
    let mut settings = EthereumSettings::new(url.clone(), config.chain.chain_id);
    if is_local {
        settings.retry = RetryPolicy::LOOPBACK;
    }
    let chain = format!("the chain {} from an Ethereum node", config.chain.chain_id);
    let (graph, transpose) = (graph::LIVE_URL, transpose::LIVE_URL);
    let opened =
        open_clients(config, GraphSettings::new(graph, Vec::new()), TransposeSettings::new(transpose, Vec::new()))?;
    let rates = RequestRates { ethereum: config.requests_per_second.ethereum.into(), ..opened.rates };
    let mut clients = opened.clients.with_node(config, settings, 1)?;
    let mut name = chain.clone();
    if let Some(logs) = logs {
        clients.feed = Some(Arc::new(crate::log_files::open(logs, config.chain.chain_id).await?));
        name = format!("{chain}, logs from {logs}");
    }
    Ok(OpenSource { clients, rates, name, chain: Some(chain), days: None, left_out: 0, _server: None })
}

fn open_clients(config: &mut Config, mut graph: GraphSettings, mut transpose: TransposeSettings) -> Result<OpenSource> {
    let rates = RequestRates {
        the_graph: requests_per_second(&graph.url, config.requests_per_second.the_graph, graph.keys.len()),
        transpose: requests_per_second(&transpose.url, config.requests_per_second.transpose, transpose.keys.len()),
        ethereum: config.requests_per_second.ethereum.into(),
    };
    if is_local(&graph.url) {
        config.requests_per_second.the_graph = LOCAL_REQUESTS_PER_SECOND;
        graph.retry = RetryPolicy::LOOPBACK;
    }
    if is_local(&transpose.url) {
        config.requests_per_second.transpose = LOCAL_REQUESTS_PER_SECOND;
        transpose.retry = RetryPolicy::LOOPBACK;
    }
    Ok(OpenSource {
        clients: Clients::new(config, graph, transpose, 1)?,
        days: None,
        name: String::new(),
        rates,
        chain: None,
        left_out: 0,
        _server: None,
    })
}

/// Returns the rate limit of all keys together, in requests per second.
fn requests_per_second(url: &str, per_key: u32, keys: usize) -> f64 {
    if is_local(url) { LOCAL_REQUESTS_PER_SECOND.into() } else { f64::from(per_key) * keys.max(1) as f64 }
}

/// Whether a URL points to this machine.
fn is_local(url: &str) -> bool {
    ["http://127.", "http://localhost", "http://[::1]"].iter().any(|local| url.starts_with(local))
}

/// Serves the sample chain or a recording until the process is interrupted. With `history`, subgraphs in Messari's schema keep
/// the states of that number of blocks before the head.
///
/// # Errors
/// `BadInput` if the port is in use, otherwise as [`Source::open`].
pub async fn serve(source: &Source, port: u16, history: Option<u64>) -> Result<()> {
    let api_key = std::env::var("DEFI_SERVE_API_KEY").ok().filter(|key| !key.is_empty());
    let mut config = crate::config::configuration()?;
    let recording = source.recording(&config)?;
    recording.restrict(&mut config)?;
    let name = recording.name.clone();
    let (first, last) = (recording.first_day.clone(), recording.last_day.clone());
    let mut deployments = Deployment::all(&config);
    let pruned = deployments.iter_mut().filter(|deployment| deployment.schema != SchemaVersion::Aave);
    pruned.for_each(|deployment| deployment.history = history);
    let options = ServerOptions { port, api_key, deployments, ..ServerOptions::default() };
    let server = Server::start(Arc::new(recording), options).await?;
    line(format_args!("serving {name}, {first} to {last}"))?;
    line(format_args!("The Graph  {}", server.graph_url()))?;
    line(format_args!("Transpose  {}", server.transpose_url()))?;
    wait_for_interrupt().await?;
    server.stop().await;
    Ok(())
}

/// Serves JSON-RPC from an Ethereum node, with limits and faults, until the process is interrupted. Then prints how often
/// each method was called, and how often each fault occurred.
///
/// # Errors
/// `BadInput` if the port is in use or the list of faults is invalid.
pub async fn serve_node(url: &str, faults: &str, port: u16) -> Result<()> {
    let options = NodeOptions { port, ..faults.parse()? };
    let node = EthereumNode::start(url, options).await?;
    line(format_args!("Ethereum   {}", node.url()))?;
    wait_for_interrupt().await?;
    for (method, MethodCount { requests, calls }) in node.method_counts() {
        line(format_args!("{method} {calls} in {requests} requests"))?;
    }
    for (fault, count) in node.fault_counts().into_iter().chain(node.http_fault_counts().faults) {
        line(format_args!("fault {fault} {count}"))?;
    }
    node.stop().await;
    Ok(())
}

async fn wait_for_interrupt() -> Result<()> {
    let interrupt = tokio::signal::ctrl_c().await;
    interrupt.map_err(|cause| Error::internal("can't wait for the interrupt signal").with_source(cause))
}
