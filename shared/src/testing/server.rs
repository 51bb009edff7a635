//! A server on loopback that answers as a test tells it to, and keeps what it was asked.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The path, such as `/sql`.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Request {
    /// A header's text; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The SQL, of a request to Transpose; else empty.
    #[must_use]
    pub fn sql(&self) -> &str {
        self.body.get("sql").and_then(Value::as_str).unwrap_or_default()
    }

    /// The literal that follows a piece of the SQL, such as `category = `; empty where there is none.
    #[must_use]
    pub fn literal(&self, after: &str) -> &str {
        let rest = self.sql().split_once(after).and_then(|(_, rest)| rest.strip_prefix('\''));
        rest.and_then(|rest| rest.split_once('\'')).map_or("", |(literal, _)| literal)
    }

    /// A variable, of a request to The Graph; else null.
    #[must_use]
    pub fn variable(&self, name: &str) -> &Value {
        self.body.get("variables").and_then(|all| all.get(name)).unwrap_or(&Value::Null)
    }

    /// Whether it is for a protocol's subgraph.
    #[must_use]
    pub fn is_for(&self, protocol: &str) -> bool {
        self.path == format!("/subgraphs/id/{}", super::subgraph_id(protocol))
    }
}

/// A server on loopback. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves at a free port. `answer` makes the status and the JSON of every answer.
    ///
    /// # Errors
    /// No port.
    pub async fn start(answer: impl Fn(&Request) -> (u16, Value) + Send + Sync + 'static) -> Result<Self> {
        let no_port = |cause| Error::internal("no port on loopback").because(cause);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let url = format!("http://{}", listener.local_addr().map_err(no_port)?);
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (kept, answer) = (Arc::clone(&requests), Arc::new(answer));
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let request = Request { path: uri.path().to_owned(), headers, body };
            let (status, body) = answer(&request);
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            std::future::ready((status, axum::Json(body)).into_response())
        });
        let serving = tokio::spawn(async move {
            // It ends with the test, whatever it says.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Server { url, requests, serving })
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer of Transpose with these rows.
#[must_use]
pub fn results(rows: Value) -> (u16, Value) {
    (200, json!({"status": "success", "stats": {"truncated": false}, "results": rows}))
}

/// An answer of The Graph with these rows, of the block that it was asked for; of block 5,000 where it was asked for the
/// newest one. The block's time is that of its number.
#[must_use]
pub fn snapshot(request: &Request, rows: Value) -> (u16, Value) {
    let block = request.variable("block").as_i64().unwrap_or(5_000);
    let block = json!({"number": block, "timestamp": block, "hash": format!("0x{block:064x}")});
    let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
    // Markets have decimals of their token; what is asked for tells the two kinds of row apart.
    let query = request.body.get("query").and_then(Value::as_str).unwrap_or_default();
    let entity = if query.contains("markets(") { "markets" } else { "positions" };
    (200, json!({"data": {"_meta": meta, entity: rows}}))
}

/// An answer of The Graph that is an error, with the status that it has there: 200.
#[must_use]
pub fn graph_error(message: &str) -> (u16, Value) {
    (200, json!({"errors": [{"message": message}]}))
}
