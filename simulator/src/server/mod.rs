//! A server on loopback that answers both APIs over a recording: The Graph's GraphQL and Transpose's SQL.
//!
//! It is as strict as the real ones where a client could get used to leniency: the schema refuses unknown fields, pages
//! have their limits, large answers are cut short, and errors come with the status and the words that the real services
//! use.

mod graph;
mod limit;
mod transpose;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use defi_shared::config::Config;
use defi_shared::error::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::faults::{Counts, Cuttable, Faults, Mischief, Scissors};
use crate::recording::Recording;
use crate::timeline::Timeline;
use limit::Limit;

/// Transpose stops a response at this size.
const PAGE_BYTES: usize = 10_000_000;
/// How long requests under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// The version of the lending subgraphs' schema that a deployment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaVersion {
    /// Ids are of type `ID`; a supply position has the side `LENDER`.
    V2_0_1,
    /// Ids are of type `Bytes`; a supply position has the side `COLLATERAL`.
    V3_1_0,
}

/// A subgraph that the server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The protocol whose rows it holds, such as `aave-v2-eth`.
    pub protocol: String,
    /// The id in the URL.
    pub subgraph_id: String,
    /// The version of its schema.
    pub schema: SchemaVersion,
}

impl Deployment {
    /// The subgraphs of all protocols of a configuration.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Deployment> {
        let deployments = config.protocols.iter().map(|protocol| {
            let schema = match protocol.schema_version.split('.').next() {
                Some("2") => SchemaVersion::V2_0_1,
                _ => SchemaVersion::V3_1_0,
            };
            Deployment { protocol: protocol.name.clone(), subgraph_id: protocol.subgraph_id.clone(), schema }
        });
        deployments.collect()
    }
}

/// How the server is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The port on loopback; 0 takes any free one.
    pub port: u16,
    /// The key that both APIs ask for. Without one, any key or none is accepted.
    pub api_key: Option<String>,
    /// The subgraphs. One whose protocol the recording does not hold is answered as not found.
    pub deployments: Vec<Deployment>,
    /// Where a response of the SQL API is cut short, in bytes of its rows.
    pub page_bytes: usize,
    /// How long every answer takes on its way.
    pub latency: Duration,
    /// How many requests of one key each API takes in a second. What is more is refused with 429.
    pub requests_per_second: Option<u32>,
    /// What is to go wrong. Dirt is not the server's: [`crate::faults::soil`] puts it on the recording.
    pub faults: Option<Faults>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            port: 0,
            api_key: None,
            deployments: Vec::new(),
            page_bytes: PAGE_BYTES,
            latency: Duration::ZERO,
            requests_per_second: None,
            faults: None,
        }
    }
}

/// A running server. It stops when it is dropped; [`Server::stop`] also waits until it has.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    way: Arc<Way>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Loads the recording into its tables and starts to listen. When this returns, requests are answered.
    ///
    /// # Errors
    /// `BadInput` where the port can't be had, because another process has it or because it takes privileges.
    pub async fn start(recording: Arc<Recording>, options: ServerOptions) -> Result<Server> {
        // First of all the port: it costs nothing, and is what goes wrong.
        let listener = bind(options.port).await?;
        let address =
            listener.local_addr().map_err(|error| Error::internal("the server has no address").because(error))?;
        let way = Arc::new(Way {
            requests: AtomicU64::new(0),
            latency: options.latency,
            limit: options.requests_per_second.map(Limit::new),
            mischief: options.faults.clone().map(Mischief::new),
        });
        let on_its_way = Arc::clone(&way);
        let app = tokio::task::spawn_blocking(move || router(&recording, &options, on_its_way))
            .await
            .map_err(|error| Error::internal("the server could not be set up").because(error))??;
        let app = app.into_make_service_with_connect_info::<Scissors>();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // Nothing is ever sent: that the sender is gone is the sign.
            let until = async move { drop(stopped.await) };
            if let Err(error) = axum::serve(Cuttable(listener), app).with_graceful_shutdown(until).await {
                tracing::error!(%error, "the server has failed");
            }
        });
        Ok(Server { address, way, stop, task })
    }

    /// The base URL of The Graph's API; subgraphs follow under `/subgraphs/id/`.
    #[must_use]
    pub fn graph_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of Transpose's API; `/sql` follows.
    #[must_use]
    pub fn transpose_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have come in.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.way.requests.load(Ordering::Relaxed)
    }

    /// Which faults have happened, and how often.
    #[must_use]
    pub fn faults(&self) -> Counts {
        self.way.mischief.as_ref().map(Mischief::counts).unwrap_or_default()
    }

    /// Stops to listen, and waits a few seconds for the requests under way.
    pub async fn stop(self) {
        let Server { stop, mut task, .. } = self;
        drop(stop);
        if tokio::time::timeout(GRACE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn bind(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
        let message = match error.kind() {
            ErrorKind::AddrInUse => format!("port {port} is taken by another process"),
            _ => format!("port {port} can't be listened on"),
        };
        Error::bad_input(message).because(error).next("choose another port, or 0 for any that is free")
    })
}

/// What happens to requests and answers on their way.
#[derive(Debug)]
struct Way {
    requests: AtomicU64,
    latency: Duration,
    limit: Option<Limit>,
    mischief: Option<Mischief>,
}

/// Both APIs behind one layer, which sees every request first. What else is to happen to requests or answers on their
/// way belongs into that layer, so that neither API has to know.
fn router(recording: &Recording, options: &ServerOptions, way: Arc<Way>) -> Result<Router> {
    let timeline = Arc::new(Timeline::new(recording)?);
    let graph = graph::Graph::new(recording, &timeline, options)?;
    let transpose = transpose::Transpose::new(recording, &timeline, options)?;
    Ok(Router::new()
        .route("/subgraphs/id/{subgraph_id}", post(graph::answer).with_state(Arc::new(graph)))
        .route("/sql", post(transpose::answer).with_state(Arc::new(transpose)))
        .layer(from_fn_with_state(way, on_the_way)))
}

async fn on_the_way(State(way): State<Arc<Way>>, request: Request, next: Next) -> Response {
    way.requests.fetch_add(1, Ordering::Relaxed);
    if let Some(refusal) = way.limit.as_ref().and_then(|limit| limit.refuse(&request)) {
        return refusal;
    }
    if !way.latency.is_zero() {
        tokio::time::sleep(way.latency).await;
    }
    match &way.mischief {
        Some(mischief) => mischief.answer(request, next).await,
        None => next.run(request).await,
    }
}
