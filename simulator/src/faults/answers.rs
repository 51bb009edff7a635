//! What becomes of a true answer.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::response::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use defi_shared::error::Kind;
use defi_shared::sources::graph::messages;
use serde_json::json;

use super::question::Question;
use super::rows::Answer;
use super::wire::{Scissors, reset_after, stalled_after};
use super::{Fault, Hit, below};

const PAGE_OF_HTML: &str = "<html><body><h1>502 Bad Gateway</h1></body></html>";

/// A true answer.
pub(super) struct Truth {
    parts: Parts,
    body: Bytes,
}

impl Truth {
    pub(super) async fn read(response: Response) -> Truth {
        let (mut parts, body) = response.into_parts();
        // It is set anew for whatever body is sent.
        parts.headers.remove(header::CONTENT_LENGTH);
        Truth { parts, body: axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default() }
    }

    pub(super) fn response(&self) -> Response {
        self.with(Body::from(self.body.clone()))
    }

    pub(super) fn has_rows(&self) -> bool {
        Answer::read(&self.body).is_some_and(|answer| answer.has_rows())
    }

    fn with(&self, body: impl Into<Body>) -> Response {
        Response::from_parts(self.parts.clone(), body.into())
    }

    /// The same with a length that a body of unknown length does not announce by itself.
    fn with_length(&self, body: Body) -> Response {
        let mut response = self.with(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        response
    }

    /// The body in two parts, neither of them empty if it has two bytes.
    fn halves(&self, draw: u64) -> (Bytes, Bytes) {
        let at = below(draw, self.body.len().saturating_sub(1)) + 1;
        let mut first = self.body.clone();
        let rest = first.split_off(at.min(first.len()));
        (first, rest)
    }
}

/// Where a fault happens.
pub(super) struct Place<'a> {
    pub(super) question: &'a Question,
    pub(super) truth: &'a Truth,
    /// None where the server does not listen by itself.
    pub(super) scissors: Option<&'a Scissors>,
}

/// An answer with a fault.
pub(super) struct Spoilt {
    pub(super) response: Response,
    /// The GraphQL error in it, if it was chosen among many.
    pub(super) message: Option<&'static str>,
}

/// Puts a fault into a true answer, if it can be put into this one.
pub(super) fn spoil(hit: Hit, place: &Place<'_>, silence: Duration) -> Option<Spoilt> {
    let response = match hit.fault {
        Fault::Closed | Fault::Reset | Fault::ResetInBody => cut(hit, place)?,
        Fault::StalledBody => {
            let (first, rest) = place.truth.halves(hit.draw);
            place.truth.with_length(stalled_after(first, rest, silence))
        }
        Fault::CutJson => place.truth.with(place.truth.halves(hit.draw).0),
        Fault::Html => html(StatusCode::OK),
        Fault::EmptyBody => place.truth.with(Body::empty()),
        Fault::PassingErrors | Fault::LastingErrors | Fault::Pruned => return errors(hit),
        _ => refusal(hit.fault, place.question).or_else(|| rewritten(hit, place))?,
    };
    Some(Spoilt { response, message: None })
}

/// Ends the connection instead of the answer.
fn cut(hit: Hit, place: &Place<'_>) -> Option<Response> {
    let scissors = place.scissors?;
    match hit.fault {
        Fault::Closed => scissors.close(),
        Fault::Reset => scissors.reset(),
        _ => {
            let (first, _) = place.truth.halves(hit.draw);
            return Some(place.truth.with_length(reset_after(first, scissors.clone())));
        }
    }
    // Nothing of it can be sent any more.
    Some(Response::new(Body::empty()))
}

/// An answer that says by itself that it is none.
fn refusal(fault: Fault, question: &Question) -> Option<Response> {
    let wait = |seconds| [(header::RETRY_AFTER, HeaderValue::from_static(seconds))];
    let error = |message: &str| axum::Json(json!({"status": "error", "message": message}));
    let slow_down = || (StatusCode::TOO_MANY_REQUESTS, error("Too Many Requests"));
    Some(match fault {
        Fault::TooManyRequests => slow_down().into_response(),
        Fault::RetryAfter => (wait("1"), slow_down()).into_response(),
        Fault::RetryAfterAnHour => (wait("3600"), slow_down()).into_response(),
        Fault::InternalServerError => (StatusCode::INTERNAL_SERVER_ERROR, error("Internal error")).into_response(),
        Fault::BadGateway => html(StatusCode::BAD_GATEWAY),
        Fault::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, wait("0"), "unavailable").into_response(),
        Fault::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT.into_response(),
        Fault::ErrorWithStatus200 => error("Execution error: the statement timed out").into_response(),
        Fault::OutOfCredits => (StatusCode::FORBIDDEN, error("You are out of credits")).into_response(),
        Fault::HeadBehind => {
            let (wanted, indexed) = (question.block()?, question.block()?.saturating_sub(1));
            graphql_error(&format!(
                "Failed to decode `block.number` value: `subgraph Qm has only indexed up to block number {indexed} and \
                 data for block number {wanted} is therefore not yet available`"
            ))
        }
        _ => return None,
    })
}

fn html(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html")], PAGE_OF_HTML).into_response()
}

/// GraphQL errors in the words of the servers.
fn errors(hit: Hit) -> Option<Spoilt> {
    let is_meant = |kind: Kind| match hit.fault {
        Fault::PassingErrors => kind.is_transient(),
        Fault::Pruned => kind == Kind::HistoryPruned,
        _ => !kind.is_transient() && kind != Kind::HistoryPruned,
    };
    let meant: Vec<_> = messages().filter(|(kind, _)| is_meant(*kind)).collect();
    let (_, message) = *meant.get(below(hit.draw, meant.len()))?;
    Some(Spoilt { response: graphql_error(message), message: Some(message) })
}

fn graphql_error(message: &str) -> Response {
    axum::Json(json!({"errors": [{"message": message}]})).into_response()
}

/// An answer whose JSON says something else.
fn rewritten(hit: Hit, place: &Place<'_>) -> Option<Response> {
    let mut answer = Answer::read(&place.truth.body)?;
    answer.spoil(hit)?;
    Some(place.truth.with(answer.body()?))
}
