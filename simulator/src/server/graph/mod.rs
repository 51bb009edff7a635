//! The Graph's API: GraphQL queries of subgraphs, answered as by a gateway in front of graph-node.

mod entities;
mod filter;
mod past;
mod schema;
mod snapshots;
mod values;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_graphql::ServerError;
use async_graphql::dynamic::Schema;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use defi_shared::error::Result;
use serde_json::{Value, json};

use super::{SchemaVersion, ServerOptions};
use crate::recording::Recording;
use crate::timeline::Timeline;
use snapshots::Subgraph;

/// The served subgraphs by id, and the required API key.
pub(super) struct GraphApi {
    subgraphs: BTreeMap<String, (Schema, SchemaVersion)>,
    api_key: Option<String>,
}

impl GraphApi {
    pub(super) fn new(recording: &Recording, timeline: &Arc<Timeline>, options: &ServerOptions) -> Result<GraphApi> {
        let mut subgraphs = BTreeMap::new();
        for deployment in
            options.deployments.iter().filter(|deployment| recording.protocols.contains(&deployment.protocol))
        {
            let subgraph = Subgraph::new(recording, deployment, Arc::clone(timeline), options.block_details);
            let schema = schema::build(Arc::new(subgraph))?;
            subgraphs.insert(deployment.subgraph_id.clone(), (schema, deployment.schema));
        }
        Ok(GraphApi { subgraphs, api_key: options.api_key.clone() })
    }

    /// Checks the API key of a request. The errors are those of the gateway.
    fn check_key(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let Some(key) = &self.api_key else { return Ok(()) };
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match authorization {
            None => Err("auth error: missing authorization header"),
            Some(value) if value.strip_prefix("Bearer ") == Some(key) => Ok(()),
            Some(_) => Err("auth error: API key not found"),
        }
    }
}

/// Handles `POST /subgraphs/id/{subgraph_id}`. The status of an error is 200, too; its body contains the message.
pub(super) async fn handle(
    State(graph): State<Arc<GraphApi>>,
    Path(subgraph_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(message) = graph.check_key(&headers) {
        return error_response(message);
    }
    let Some((schema, version)) = graph.subgraphs.get(&subgraph_id) else {
        return error_response(&format!("subgraph not found: {subgraph_id}"));
    };
    let mut request: async_graphql::Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return error_response(&format!("bad query: invalid request body: {error}")),
    };
    // The library validates the query first, because the check of variables relies on that. It also rejects queries
    // with syntax errors.
    let document = request.parsed_query().cloned();
    let response = schema.execute(request).await;
    if !response.errors.is_empty() {
        return errors_response(&response.errors);
    }
    match document.map(|document| variables::check(&document, *version)) {
        Ok(Err(message)) => error_response(&message),
        _ => axum::Json(json!({"data": response.data})).into_response(),
    }
}

/// Returns a response with errors. Like graph-node, it leaves out the data of fields without errors.
fn errors_response(errors: &[ServerError]) -> Response {
    let errors: Vec<Value> =
        errors.iter().map(|error| json!({"message": error.message, "locations": error.locations})).collect();
    axum::Json(json!({"errors": errors})).into_response()
}

fn error_response(message: &str) -> Response {
    axum::Json(json!({"errors": [{"message": message}]})).into_response()
}
