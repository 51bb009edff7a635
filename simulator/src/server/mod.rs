//! A server on loopback that serves both APIs from a recording: The Graph's GraphQL and Transpose's SQL.
//!
//! [`ethereum`] is another server, in front of an Ethereum node.
//!
//! It is as strict as the real APIs, so that clients do not depend on leniency: the schema rejects unknown fields, page
//! sizes are limited, large responses are truncated, and errors have the status and messages of the real APIs. It answers
//! no request that a web page could have sent.

pub mod ethereum;
mod graph;
mod guard;
mod limit;
mod transpose;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use defi_shared::config::{Config, Schema};
use defi_shared::error::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::faults::{ConnectionCutter, CuttableListener, FaultCounts, FaultInjector, Faults};
use crate::recording::Recording;
use crate::timeline::Timeline;
use limit::RateLimit;

/// The size at which Transpose truncates a response.
const PAGE_BYTES: usize = 10_000_000;
/// The time that requests have to finish when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The schema of a lending subgraph: a version of Messari's, or Aave's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaVersion {
    /// Ids are of type `ID`; a supply position has the side `LENDER`.
    V2_0_1,
    /// Ids are of type `Bytes`; a supply position has the side `COLLATERAL`.
    V3_1_0,
    /// The schema of Aave's own subgraphs: reserves, and the balances of users.
    Aave,
}

/// A served subgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The protocol, such as `aave-v2-eth`.
    pub protocol: String,
    /// The subgraph id in the URL.
    pub subgraph_id: String,
    /// The schema version.
    pub schema: SchemaVersion,
    /// The number of blocks before the head whose states it keeps. `None`: all. What was written once can be queried at the
    /// head in any case.
    pub history: Option<u64>,
}

impl Deployment {
    /// Returns the subgraphs of all protocols of a configuration.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Deployment> {
        let deployments = config.protocols.iter().filter_map(|protocol| {
            let version = protocol.schema_version.as_deref().and_then(|version| version.split('.').next());
            let schema = match (protocol.schema, version) {
                (Schema::Aave, _) => SchemaVersion::Aave,
                (Schema::Messari, Some("2")) => SchemaVersion::V2_0_1,
                (Schema::Messari, _) => SchemaVersion::V3_1_0,
            };
            let (protocol, subgraph_id) = (protocol.name.clone(), protocol.subgraph_id.clone()?);
            Some(Deployment { protocol, subgraph_id, schema, history: None })
        });
        deployments.collect()
    }
}

/// The options of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The port on loopback; 0 for any free port.
    pub port: u16,
    /// The API key that both APIs require. If `None`, any key or no key is accepted.
    pub api_key: Option<String>,
    /// The subgraphs. Those whose protocol is not in the recording are not found.
    pub deployments: Vec<Deployment>,
    /// Whether `_meta` of a subgraph has the hash and the time of its block. Those of the real ones are null.
    pub block_details: bool,
    /// The size of the rows, in bytes, at which a response of the SQL API is truncated.
    pub page_bytes: usize,
    /// The delay of every response.
    pub latency: Duration,
    /// The rate limit of each key at each API. Requests above it are rejected with status 429.
    pub requests_per_second: Option<u32>,
    /// The faults to inject. Invalid rows are part of the recording instead: see [`crate::faults::add_row_defects`].
    pub faults: Option<Faults>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            port: 0,
            api_key: None,
            deployments: Vec::new(),
            block_details: false,
            page_bytes: PAGE_BYTES,
            latency: Duration::ZERO,
            requests_per_second: None,
            faults: None,
        }
    }
}

/// A running server. It stops when it is dropped; [`Server::stop`] also waits for it to stop.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    frontend: Arc<Frontend>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Loads the recording and starts the server, which is ready for requests when this returns.
    ///
    /// # Errors
    /// `BadInput` if the port is not available: another process uses it, or it requires privileges.
    pub async fn start(recording: Arc<Recording>, options: ServerOptions) -> Result<Server> {
        // The port is bound first, because it is cheap and the most likely step to fail.
        let listener = bind(options.port).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::internal("cannot determine the address of the server").with_source(error))?;
        let frontend = Arc::new(Frontend {
            requests: AtomicU64::new(0),
            latency: options.latency,
            limit: options.requests_per_second.map(RateLimit::new),
            faults: options.faults.clone().map(FaultInjector::new),
        });
        let layer = Arc::clone(&frontend);
        let app = tokio::task::spawn_blocking(move || router(&recording, &options, layer))
            .await
            .map_err(|error| Error::internal("cannot start the server").with_source(error))??;
        let app = app.into_make_service_with_connect_info::<ConnectionCutter>();
        let (stop, task) = serve(listener, app);
        Ok(Server { address, frontend, stop, task })
    }

    /// Returns the base URL of The Graph's API. Subgraphs are at `/subgraphs/id/{subgraph_id}`.
    #[must_use]
    pub fn graph_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the base URL of Transpose's API, which is at `/sql`.
    #[must_use]
    pub fn transpose_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of requests so far, without those that a web page could have sent.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.frontend.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of faults so far.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.frontend.faults.as_ref().map(FaultInjector::counts).unwrap_or_default()
    }

    /// Stops listening, and waits a few seconds for requests to finish.
    pub async fn stop(self) {
        stop(self.stop, self.task).await;
    }
}

/// An app that learns of each connection how to cut it.
type App = IntoMakeServiceWithConnectInfo<Router, ConnectionCutter>;

/// Serves an app until the sender is dropped.
fn serve(listener: TcpListener, app: App) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        // Nothing is ever sent: dropping the sender is the signal.
        let shutdown = async move { drop(stopped.await) };
        if let Err(error) = axum::serve(CuttableListener(listener), app).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, "the server failed");
        }
    });
    (stop, task)
}

/// Stops listening, and waits a few seconds for requests to finish.
async fn stop(stop: oneshot::Sender<()>, mut task: JoinHandle<()>) {
    drop(stop);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut task).await.is_err() {
        task.abort();
    }
}

async fn bind(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
        let message = match error.kind() {
            ErrorKind::AddrInUse => format!("port {port} is in use by another process"),
            _ => format!("cannot listen on port {port}"),
        };
        Error::bad_input(message).with_source(error).with_hint("choose another port, or 0 for any free port")
    })
}

/// The layer in front of both APIs: request count, rate limit, latency and faults. Requests that a web page could have
/// sent do not get past it.
#[derive(Debug)]
struct Frontend {
    requests: AtomicU64,
    latency: Duration,
    limit: Option<RateLimit>,
    faults: Option<FaultInjector>,
}

/// Builds the routes of both APIs behind one layer. Whatever applies to the requests or responses of both APIs belongs
/// into that layer.
fn router(recording: &Recording, options: &ServerOptions, frontend: Arc<Frontend>) -> Result<Router> {
    let timeline = Arc::new(Timeline::new(recording)?);
    let graph = graph::GraphApi::new(recording, &timeline, options)?;
    let transpose = transpose::TransposeApi::new(recording, &timeline, options)?;
    Ok(Router::new()
        .route("/subgraphs/id/{subgraph_id}", post(graph::handle).with_state(Arc::new(graph)))
        .route("/sql", post(transpose::handle).with_state(Arc::new(transpose)))
        .layer(from_fn_with_state(frontend, intercept)))
}

async fn intercept(State(frontend): State<Arc<Frontend>>, request: Request, next: Next) -> Response {
    if let Some(rejection) = guard::reject(&request) {
        return rejection;
    }
    frontend.requests.fetch_add(1, Ordering::Relaxed);
    if let Some(rejection) = frontend.limit.as_ref().and_then(|limit| limit.reject(&request)) {
        return rejection;
    }
    if !frontend.latency.is_zero() {
        tokio::time::sleep(frontend.latency).await;
    }
    match &frontend.faults {
        Some(faults) => faults.respond(request, next).await,
        None => next.run(request).await,
    }
}
