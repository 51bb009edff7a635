//! Turns the original response of a request into a faulty one.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::response::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use defi_shared::error::Kind;
use defi_shared::sources::graph::messages;
use serde_json::json;

use super::request::ParsedRequest;
use super::rows::RowsResponse;
use super::wire::{ConnectionCutter, body_then_reset, body_with_stall};
use super::{Fault, SelectedFault, below};

const BAD_GATEWAY_PAGE: &str = "<html><body><h1>502 Bad Gateway</h1></body></html>";

/// A response without a fault.
pub(super) struct OriginalResponse {
    parts: Parts,
    body: Bytes,
}

impl OriginalResponse {
    pub(super) async fn read(response: Response) -> OriginalResponse {
        let (mut parts, body) = response.into_parts();
        // Set again for the body that is sent.
        parts.headers.remove(header::CONTENT_LENGTH);
        OriginalResponse { parts, body: axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default() }
    }

    pub(super) fn response(&self) -> Response {
        self.with_body(Body::from(self.body.clone()))
    }

    pub(super) fn has_rows(&self) -> bool {
        RowsResponse::parse(&self.body).is_some_and(|response| response.has_rows())
    }

    fn with_body(&self, body: impl Into<Body>) -> Response {
        Response::from_parts(self.parts.clone(), body.into())
    }

    /// Returns the response with another body and the original `Content-Length`, which a streamed body does not set.
    fn with_body_and_length(&self, body: Body) -> Response {
        let mut response = self.with_body(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        response
    }

    /// Splits the body into two parts. Neither is empty if the body has at least two bytes.
    fn split_body(&self, random: u64) -> (Bytes, Bytes) {
        let at = below(random, self.body.len().saturating_sub(1)) + 1;
        let mut first = self.body.clone();
        let rest = first.split_off(at.min(first.len()));
        (first, rest)
    }
}

/// The request and response that a fault is applied to.
pub(super) struct FaultContext<'a> {
    pub(super) request: &'a ParsedRequest,
    pub(super) original: &'a OriginalResponse,
    /// `None` if the requests do not come from the server's own listener.
    pub(super) cutter: Option<&'a ConnectionCutter>,
}

/// A response with a fault.
pub(super) struct FaultyResponse {
    pub(super) response: Response,
    /// The GraphQL error in the response, if it was selected from several.
    pub(super) message: Option<&'static str>,
}

/// Applies a fault to a response. Returns `None` if the fault is not applicable to it.
pub(super) fn apply(selected: SelectedFault, context: &FaultContext<'_>, stall: Duration) -> Option<FaultyResponse> {
    let original = context.original;
    let response = match selected.fault {
        Fault::Closed | Fault::Reset | Fault::ResetInBody => cut_connection(selected, context)?,
        Fault::StalledBody => {
            let (first, rest) = original.split_body(selected.random);
            original.with_body_and_length(body_with_stall(first, rest, stall))
        }
        Fault::CutJson => original.with_body(original.split_body(selected.random).0),
        Fault::Html => html(StatusCode::OK),
        Fault::EmptyBody => original.with_body(Body::empty()),
        Fault::TransientErrors | Fault::PermanentErrors | Fault::Pruned => return graphql_errors(selected),
        _ => error_response(selected.fault, context.request).or_else(|| changed_rows(selected, context))?,
    };
    Some(FaultyResponse { response, message: None })
}

/// Ends the connection before or within the response.
fn cut_connection(selected: SelectedFault, context: &FaultContext<'_>) -> Option<Response> {
    let cutter = context.cutter?;
    match selected.fault {
        Fault::Closed => cutter.close(),
        Fault::Reset => cutter.reset(),
        _ => {
            let (first, _) = context.original.split_body(selected.random);
            return Some(context.original.with_body_and_length(body_then_reset(first, cutter.clone())));
        }
    }
    // Never sent, because the connection is closed.
    Some(Response::new(Body::empty()))
}

/// Returns an error response that does not depend on the original one.
fn error_response(fault: Fault, request: &ParsedRequest) -> Option<Response> {
    let retry_after = |seconds| [(header::RETRY_AFTER, HeaderValue::from_static(seconds))];
    let error = |message: &str| axum::Json(json!({"status": "error", "message": message}));
    let too_many_requests = || (StatusCode::TOO_MANY_REQUESTS, error("Too Many Requests"));
    Some(match fault {
        Fault::TooManyRequests => too_many_requests().into_response(),
        Fault::RetryAfter => (retry_after("1"), too_many_requests()).into_response(),
        Fault::RetryAfterAnHour => (retry_after("3600"), too_many_requests()).into_response(),
        Fault::InternalServerError => (StatusCode::INTERNAL_SERVER_ERROR, error("Internal error")).into_response(),
        Fault::BadGateway => html(StatusCode::BAD_GATEWAY),
        Fault::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, retry_after("0"), "unavailable").into_response(),
        Fault::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT.into_response(),
        Fault::ErrorWithStatus200 => error("Execution error: the statement timed out").into_response(),
        Fault::OutOfCredits => (StatusCode::FORBIDDEN, error("You are out of credits")).into_response(),
        Fault::HeadBehind => {
            let (requested, indexed) = (request.block()?, request.block()?.saturating_sub(1));
            graphql_error(&format!(
                "Failed to decode `block.number` value: `subgraph Qm has only indexed up to block number {indexed} and \
                 data for block number {requested} is therefore not yet available`"
            ))
        }
        Fault::PrunedByOne => {
            let block = request.block()?;
            let indexers = [
                ("0xedca8740873152ff30a2696add66d1ab41882beb", block + 14_000),
                ("0xbdfb5ee5a2abf4fc7bb1bd1221067aef7f9de491", block - 1),
            ];
            let errors = indexers
                .map(|(indexer, latest)| format!("{indexer}: Unavailable(missing block: {block}, latest: {latest})"));
            graphql_error(&format!("bad indexers: {{{}}}", errors.join(", ")))
        }
        Fault::MissingBlock => graphql_error(&format!("missing block: {}", request.block()?)),
        _ => return None,
    })
}

fn html(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html")], BAD_GATEWAY_PAGE).into_response()
}

/// Returns a GraphQL error with one of the messages of the real servers.
fn graphql_errors(selected: SelectedFault) -> Option<FaultyResponse> {
    let matches_fault = |kind: Kind| match selected.fault {
        Fault::TransientErrors => kind.is_transient(),
        Fault::Pruned => kind == Kind::HistoryPruned,
        _ => !kind.is_transient() && kind != Kind::HistoryPruned,
    };
    let candidates: Vec<_> = messages().filter(|(kind, _)| matches_fault(*kind)).collect();
    let (_, message) = *candidates.get(below(selected.random, candidates.len()))?;
    Some(FaultyResponse { response: graphql_error(message), message: Some(message) })
}

fn graphql_error(message: &str) -> Response {
    axum::Json(json!({"errors": [{"message": message}]})).into_response()
}

/// Returns the original response with a change in its JSON.
fn changed_rows(selected: SelectedFault, context: &FaultContext<'_>) -> Option<Response> {
    let mut response = RowsResponse::parse(&context.original.body)?;
    response.apply(selected)?;
    Some(context.original.with_body(response.into_body()?))
}
