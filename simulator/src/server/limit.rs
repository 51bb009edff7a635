//! A rate limit like that of the real APIs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};

const SECOND: Duration = Duration::from_secs(1);

/// Limits the requests of each key to each API in any window of one second. Rejected requests count, too.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: usize,
    callers: Mutex<HashMap<Caller, VecDeque<Instant>>>,
}

/// The API (the first segment of the path) and the API key of a request.
type Caller = (String, Option<HeaderValue>);

impl RateLimit {
    pub(super) fn new(per_second: u32) -> RateLimit {
        RateLimit { per_second: per_second as usize, callers: Mutex::default() }
    }

    /// Counts a request and returns a response with status 429 if it exceeds the limit.
    pub(super) fn reject(&self, request: &Request<Body>) -> Option<Response> {
        let headers = request.headers();
        let key = headers.get(AUTHORIZATION).or_else(|| headers.get("x-api-key")).cloned();
        let api = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        if self.is_within((api, key), Instant::now()) {
            return None;
        }
        let mut response = (StatusCode::TOO_MANY_REQUESTS, "too many requests").into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Some(response)
    }

    fn is_within(&self, caller: Caller, now: Instant) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = callers.entry(caller).or_default();
        while recent.front().is_some_and(|then| now.duration_since(*then) >= SECOND) {
            recent.pop_front();
        }
        recent.push_back(now);
        recent.len() <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_second_has_at_most_the_limit() {
        let limit = RateLimit::new(2);
        let (start, caller) = (Instant::now(), || ("sql".to_owned(), None));
        let mut within = |millis| limit.is_within(caller(), start + Duration::from_millis(millis));
        let accepted = [0, 600, 900, 1950, 1960, 1970, 2960].map(&mut within);
        assert_eq!(accepted, [true, true, false, true, true, false, true]);
        assert!(limit.is_within(("subgraphs".to_owned(), None), start), "each API has its own limit");
    }
}
