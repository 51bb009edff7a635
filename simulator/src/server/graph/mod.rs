//! The Graph's API: subgraphs in GraphQL, as a gateway in front of graph-node answers.

mod entities;
mod filter;
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

/// The subgraphs by id, and what the gateway asks of a request.
pub(super) struct Graph {
    subgraphs: BTreeMap<String, (Schema, SchemaVersion)>,
    api_key: Option<String>,
}

impl Graph {
    pub(super) fn new(recording: &Recording, timeline: &Arc<Timeline>, options: &ServerOptions) -> Result<Graph> {
        let mut subgraphs = BTreeMap::new();
        for deployment in options.deployments.iter().filter(|known| recording.protocols.contains(&known.protocol)) {
            let subgraph = Subgraph::new(recording, &deployment.protocol, deployment.schema, Arc::clone(timeline));
            let schema = schema::build(Arc::new(subgraph))?;
            subgraphs.insert(deployment.subgraph_id.clone(), (schema, deployment.schema));
        }
        Ok(Graph { subgraphs, api_key: options.api_key.clone() })
    }

    /// What is wrong with the key, in the gateway's words.
    fn check_key(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let Some(key) = &self.api_key else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given {
            None => Err("auth error: missing authorization header"),
            Some(given) if given.strip_prefix("Bearer ") == Some(key) => Ok(()),
            Some(_) => Err("auth error: API key not found"),
        }
    }
}

/// `POST /subgraphs/id/{subgraph_id}`. Whatever goes wrong, the status is 200 and the body says so.
pub(super) async fn answer(
    State(graph): State<Arc<Graph>>,
    Path(subgraph_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(message) = graph.check_key(&headers) {
        return refuse(message);
    }
    let Some((schema, version)) = graph.subgraphs.get(&subgraph_id) else {
        return refuse(&format!("subgraph not found: {subgraph_id}"));
    };
    let mut request: async_graphql::Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(&format!("bad query: invalid request body: {error}")),
    };
    // The library's own rules come first, because the check of variables relies on them. What can't be parsed is refused
    // by the library as well.
    let document = request.parsed_query().cloned();
    let response = schema.execute(request).await;
    if !response.errors.is_empty() {
        return errors(&response.errors);
    }
    match document.map(|document| variables::check(&document, *version)) {
        Ok(Err(message)) => refuse(&message),
        _ => axum::Json(json!({"data": response.data})).into_response(),
    }
}

/// graph-node sends errors without the data that there was besides.
fn errors(errors: &[ServerError]) -> Response {
    let errors: Vec<Value> =
        errors.iter().map(|error| json!({"message": error.message, "locations": error.locations})).collect();
    axum::Json(json!({"errors": errors})).into_response()
}

fn refuse(message: &str) -> Response {
    axum::Json(json!({"errors": [{"message": message}]})).into_response()
}
