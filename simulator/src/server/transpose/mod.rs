//! Transpose's API: SQL over HTTP.

mod sql;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use defi_shared::error::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ServerOptions;
use crate::recording::Recording;
use crate::timeline::Timeline;
use store::{Page, QueryError, QueryLimits, Store};

/// The default and the maximum timeout of a query, as in the free tier.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The tables, the required API key and the page size.
pub(super) struct TransposeApi {
    store: Store,
    api_key: Option<String>,
    page_bytes: usize,
}

#[derive(Deserialize)]
struct Query {
    sql: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    options: QueryOptions,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct QueryOptions {
    stringify_numbers: bool,
    /// Milliseconds.
    timeout: Option<u64>,
}

impl TransposeApi {
    pub(super) fn new(recording: &Recording, timeline: &Timeline, options: &ServerOptions) -> Result<TransposeApi> {
        Ok(TransposeApi {
            store: Store::new(recording, timeline)?,
            api_key: options.api_key.clone(),
            page_bytes: options.page_bytes,
        })
    }

    fn accepts_key(&self, headers: &HeaderMap) -> bool {
        let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        self.api_key.is_none() || self.api_key.as_deref() == key
    }

    fn run(&self, query: &Query) -> Result<Page, QueryError> {
        let limits = QueryLimits {
            page_bytes: self.page_bytes,
            timeout: query.options.timeout.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT),
            stringify_numbers: query.options.stringify_numbers,
        };
        self.store.run(&query.sql, &query.parameters, &limits)
    }
}

/// Handles `POST /sql`.
pub(super) async fn handle(State(transpose): State<Arc<TransposeApi>>, headers: HeaderMap, body: Bytes) -> Response {
    if !transpose.accepts_key(&headers) {
        return error_response(StatusCode::UNAUTHORIZED, "invalid API key");
    }
    let query: Query = match serde_json::from_slice(&body) {
        Ok(query) => query,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, &format!("invalid request body: {error}")),
    };
    let start = Instant::now();
    match tokio::task::spawn_blocking(move || transpose.run(&query)).await {
        Ok(Ok(page)) => success(&page, start.elapsed()),
        Ok(Err(QueryError::Invalid(message))) => error_response(StatusCode::BAD_REQUEST, &message),
        Ok(Err(QueryError::Timeout)) => error_response(StatusCode::REQUEST_TIMEOUT, "query timed out"),
        Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn success(page: &Page, elapsed: Duration) -> Response {
    let stats = json!({
        "count": page.count,
        "size": page.rows.len(),
        "time": elapsed.as_millis() as u64,
        "truncated": page.truncated,
    });
    let mut body = format!("{{\"status\":\"success\",\"stats\":{stats},\"results\":[").into_bytes();
    body.extend(&page.rows);
    body.extend(b"]}");
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

fn error_response(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({"status": "error", "message": message}))).into_response()
}
