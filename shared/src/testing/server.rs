//! An HTTP server on localhost that responds as a test specifies and records the requests.

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

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The path, such as `/sql`.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Null if it is not JSON.
    pub body: Value,
}

impl Request {
    /// Returns the value of a header, or an empty string if the header is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the SQL of a request to Transpose, or an empty string for other requests.
    #[must_use]
    pub fn sql(&self) -> &str {
        self.body.get("sql").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the string literal that follows a part of the SQL, such as `category = `, or an empty string if there is
    /// none.
    #[must_use]
    pub fn literal(&self, after: &str) -> &str {
        let rest = self.sql().split_once(after).and_then(|(_, rest)| rest.strip_prefix('\''));
        rest.and_then(|rest| rest.split_once('\'')).map_or("", |(literal, _)| literal)
    }

    /// Returns a variable of a request to The Graph, or null for other requests.
    #[must_use]
    pub fn variable(&self, name: &str) -> &Value {
        self.body.get("variables").and_then(|all| all.get(name)).unwrap_or(&Value::Null)
    }

    /// Returns whether the request is for a protocol's subgraph.
    #[must_use]
    pub fn is_for(&self, protocol: &str) -> bool {
        self.path == format!("/subgraphs/id/{}", super::subgraph_id(protocol))
    }
}

/// A test server on localhost. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Starts a server on a free port. `respond` returns the status and the JSON body of each response.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(respond: impl Fn(&Request) -> (u16, Value) + Send + Sync + 'static) -> Result<Self> {
        let no_port = |cause| Error::internal("no port is available on localhost").with_source(cause);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let url = format!("http://{}", listener.local_addr().map_err(no_port)?);
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (recorded, respond) = (Arc::clone(&requests), Arc::new(respond));
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let request = Request { path: uri.path().to_owned(), headers, body };
            let (status, body) = respond(&request);
            recorded.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            std::future::ready((status, axum::Json(body)).into_response())
        });
        let serving = tokio::spawn(async move {
            // The server ends with the test. Its error is irrelevant.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Server { url, requests, serving })
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the requests received so far.
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

/// Returns a response of Transpose with these rows.
#[must_use]
pub fn results(rows: Value) -> (u16, Value) {
    (200, json!({"status": "success", "stats": {"truncated": false}, "results": rows}))
}

/// Returns a response of The Graph with these rows, at the requested block, or at block 5,000 if the newest block is
/// requested.
#[must_use]
pub fn snapshot(request: &Request, rows: Value) -> (u16, Value) {
    let block = request.variable("block").as_i64().unwrap_or(5_000);
    // The real subgraphs do not say the time and the hash of the block.
    let block = json!({"number": block, "timestamp": null, "hash": null});
    let meta = json!({"block": block, "deployment": "QmDeployment", "hasIndexingErrors": false});
    // The query determines what the rows are.
    let query = request.body.get("query").and_then(Value::as_str).unwrap_or_default();
    let entity = ["markets", "reserves", "userReserves"].into_iter().find(|name| query.contains(&format!(" {name}(")));
    let entity = entity.unwrap_or("positions");
    (200, json!({"data": {"_meta": meta, entity: rows}}))
}

/// Returns a response of Transpose with the newest block, or with the block whose number the SQL has. The time of a block in
/// seconds since 1970 equals its number.
#[must_use]
pub fn block_at_its_number(request: &Request, newest: i64) -> (u16, Value) {
    let number = request.sql().split_once("block_number = ").map_or("", |(_, rest)| rest);
    let number = number.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(newest);
    let time = jiff::Timestamp::from_second(number).unwrap_or_default();
    results(json!([{"block_number": number.to_string(), "timestamp": time.to_string(), "block_hash": null}]))
}

/// Returns an error response of The Graph, with status 200, as The Graph sends it.
#[must_use]
pub fn graph_error(message: &str) -> (u16, Value) {
    (200, json!({"errors": [{"message": message}]}))
}
