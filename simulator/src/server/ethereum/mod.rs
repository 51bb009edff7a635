//! A server on loopback that passes JSON-RPC requests on to a real Ethereum node, and puts faults into the answers:
//! limits of providers, nodes that lie, and backends that stumble.

mod calls;
mod faults;
mod kinds;
mod limits;
mod logs;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use defi_shared::error::{Error, Result};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{bind, guard, serve, stop};
use crate::faults::{Attempts, ConnectionCutter, FaultCounts, FaultInjector, Faults};
use faults::NodeFaultInjector;
pub use kinds::NodeFault;
pub use limits::NodeLimits;

/// Which faults the node has, in which answers, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFaults {
    /// Another seed selects other requests.
    pub seed: u64,
    /// The rules. If several rules select a request, the first one that is applicable to its answer is used.
    pub script: Vec<NodeFaultRule>,
    /// The blocks below this one are pruned, for the faults about that.
    pub pruned_below: u64,
    /// The starts of the data of calls that are rejected: a function, or a function with arguments. If empty, a share of
    /// all calls is.
    pub rejected_calls: Vec<Vec<u8>>,
}

impl Default for NodeFaults {
    fn default() -> Self {
        NodeFaults { seed: 0, script: Vec::new(), pruned_below: u64::MAX, rejected_calls: Vec::new() }
    }
}

impl NodeFaults {
    /// Returns all transient faults, with which a client still gets the right answers: together in `per_mille` of a
    /// thousand requests.
    #[must_use]
    pub fn transient(seed: u64, per_mille: u64, attempts: Attempts) -> Self {
        let all: Vec<NodeFault> = NodeFault::ALL.iter().copied().filter(|fault| fault.is_transient()).collect();
        // Fractions of a thousandth are lost, so that no more requests have a fault than asked for.
        let each = (per_mille / all.len() as u64).max(1);
        let rule = |fault| NodeFaultRule { fault, per_mille: each, attempts };
        NodeFaults { seed, script: all.into_iter().map(rule).collect(), ..NodeFaults::default() }
    }

    /// Returns one fault, in all answers that can have it.
    #[must_use]
    pub fn always(fault: NodeFault) -> Self {
        let rule = NodeFaultRule { fault, per_mille: 1000, attempts: Attempts::Any };
        NodeFaults { script: vec![rule], ..NodeFaults::default() }
    }
}

/// A rule of a script: a fault, and the answers that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFaultRule {
    /// The fault.
    pub fault: NodeFault,
    /// The share of the requests (or attempts, logs or calls) that have the fault, in thousandths.
    pub per_mille: u64,
    /// The attempts of a request that have the fault. Of a permanent fault, all attempts have it.
    pub attempts: Attempts,
}

/// The number of faults, by name.
pub type NodeFaultCounts = BTreeMap<&'static str, u64>;

/// How often a method was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MethodCount {
    /// The number of HTTP requests with calls of the method. A batch is one request.
    pub requests: u64,
    /// The number of calls, alone and in batches.
    pub calls: u64,
}

/// How often each method was called.
pub type MethodCounts = BTreeMap<String, MethodCount>;

/// The options of an [`EthereumNode`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// The port on loopback; 0 for any free port.
    pub port: u16,
    /// The limits of the node.
    pub limits: NodeLimits,
    /// The faults in answers.
    pub faults: Option<NodeFaults>,
    /// The faults of the connection and of HTTP. Those of the two APIs' own answers are not applicable.
    pub http_faults: Option<Faults>,
}

/// A running server in front of a node. It stops when it is dropped.
#[derive(Debug)]
pub struct EthereumNode {
    address: SocketAddr,
    proxy: Arc<Proxy>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Proxy {
    upstream: String,
    client: reqwest::Client,
    limits: NodeLimits,
    requests: AtomicU64,
    methods: Mutex<MethodCounts>,
    faults: Option<NodeFaultInjector>,
    http_faults: Option<FaultInjector>,
}

impl EthereumNode {
    /// Starts the server in front of the node at a URL.
    ///
    /// # Errors
    /// `BadInput` if the port is not available.
    pub async fn start(upstream: impl Into<String>, options: NodeOptions) -> Result<EthereumNode> {
        let listener = bind(options.port).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::internal("cannot determine the address of the server").with_source(error))?;
        // Installed once per process. Without it, no client can be created, although the node behind is on loopback.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Error::internal("the HTTP client could not be created").with_source(error))?;
        let proxy = Arc::new(Proxy {
            upstream: upstream.into(),
            client,
            limits: options.limits,
            requests: AtomicU64::new(0),
            methods: Mutex::default(),
            faults: options.faults.map(NodeFaultInjector::new),
            http_faults: options.http_faults.map(FaultInjector::new),
        });
        // Any path: that of a URL may be a key.
        let app = Router::new()
            .route("/", post(handle))
            .route("/{*path}", post(handle))
            .with_state(Arc::clone(&proxy))
            .layer(from_fn_with_state(Arc::clone(&proxy), intercept))
            .into_make_service_with_connect_info::<ConnectionCutter>();
        let (stop, task) = serve(listener, app);
        Ok(EthereumNode { address, proxy, stop, task })
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of HTTP requests so far.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.proxy.requests.load(Ordering::Relaxed)
    }

    /// Returns how often each method was called so far.
    #[must_use]
    pub fn method_counts(&self) -> MethodCounts {
        self.proxy.methods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of faults in answers so far.
    #[must_use]
    pub fn fault_counts(&self) -> NodeFaultCounts {
        self.proxy.faults.as_ref().map(NodeFaultInjector::counts).unwrap_or_default()
    }

    /// Returns the number of faults of HTTP so far.
    #[must_use]
    pub fn http_fault_counts(&self) -> FaultCounts {
        self.proxy.http_faults.as_ref().map(FaultInjector::counts).unwrap_or_default()
    }

    /// Stops listening, and waits a few seconds for requests to finish.
    pub async fn stop(self) {
        stop(self.stop, self.task).await;
    }
}

async fn intercept(State(proxy): State<Arc<Proxy>>, request: Request, next: Next) -> Response {
    if let Some(rejection) = guard::reject(&request) {
        return rejection;
    }
    proxy.requests.fetch_add(1, Ordering::Relaxed);
    match &proxy.http_faults {
        Some(faults) => faults.respond(request, next).await,
        None => next.run(request).await,
    }
}

async fn handle(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Response {
    let Ok(requests) = serde_json::from_slice::<Value>(&body) else {
        return axum::Json(faults::refusal(&Value::Null, "Parse error")).into_response();
    };
    match proxy.answer(requests).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the node behind the server did not answer");
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

impl Proxy {
    /// Counts the calls in a request.
    fn count(&self, requests: &Value) {
        let mut counts = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        let methods: Vec<&str> = members(requests).map(faults::method).collect();
        for method in &methods {
            counts.entry((*method).to_owned()).or_default().calls += 1;
        }
        for method in methods.into_iter().collect::<BTreeSet<_>>() {
            counts.entry(method.to_owned()).or_default().requests += 1;
        }
    }

    /// Answers one request, or a batch.
    async fn answer(&self, requests: Value) -> reqwest::Result<Value> {
        self.count(&requests);
        if let Some(refusal) = self.limits.refuse_batch(&requests) {
            return Ok(refusal);
        }
        let mut asked = requests.clone();
        if let Some(faults) = &self.faults {
            members_mut(&mut asked).for_each(|request| faults.change_request(request));
        }
        let response = self.client.post(&self.upstream).json(&asked).send().await?.error_for_status()?;
        let mut replies: Value = response.json().await?;
        for request in members(&requests) {
            let id = faults::id(request);
            let reply = members_mut(&mut replies).find(|reply| faults::id(reply) == id);
            if let Some(reply) = reply {
                self.change_reply(request, reply);
            }
        }
        if let Some(faults) = &self.faults {
            faults.change_batch(&requests, &mut replies);
        }
        Ok(replies)
    }

    fn change_reply(&self, request: &Value, reply: &mut Value) {
        if let Some(refusal) = self.limits.refuse(request, reply) {
            *reply = refusal;
            return;
        }
        if let Some(faults) = &self.faults {
            faults.change_reply(request, reply);
        }
    }
}

/// Returns the members of a batch, or a single request.
fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

fn members_mut(value: &mut Value) -> std::slice::IterMut<'_, Value> {
    match value {
        Value::Array(list) => list.iter_mut(),
        other => std::slice::from_mut(other).iter_mut(),
    }
}
