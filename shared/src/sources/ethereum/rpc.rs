//! Requests to a node, alone and in batches.
//!
//! The members of a batch are matched by id and judged one by one: those that fail for a while are asked again, without
//! the others. A batch that the node refuses is halved, and the client keeps to the size that worked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::messages::{Expected, Meaning};
use super::response::{Replies, Reply, wrong};
use crate::error::{Error, Kind, Result};
use crate::sources::endpoint::Endpoint;
use crate::sources::http::{BodyTooLong, HttpResponse};
use crate::sources::traffic::Traffic;

/// How often the members of a batch are asked again, each time with all attempts of the retry policy, as long as the
/// others get answers.
const ROUNDS: usize = 3;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: &'static str,
    pub params: Value,
    /// Where the data are, for the meaning of an answer without them.
    pub expected: Expected,
    /// Whether data that the node does not have are asked for again: the node may be behind.
    pub is_missing_retried: bool,
}

impl Request {
    pub(super) fn new(method: &'static str, params: Value, expected: Expected) -> Self {
        Request { method, params, expected, is_missing_retried: true }
    }
}

/// Parses the result of the request with an index.
pub(super) trait Parse<T>: Fn(usize, &RawValue) -> Result<T> + Sync {}

impl<T, F: Fn(usize, &RawValue) -> Result<T> + Sync> Parse<T> for F {}

/// Sends requests to a node.
pub(super) struct Rpc {
    pub url: Url,
    pub endpoint: Endpoint,
    pub concurrency: usize,
    /// The maximum number of requests in a batch; less than configured once the node has refused a batch.
    pub batch: AtomicUsize,
}

impl Rpc {
    /// Sends one request.
    ///
    /// # Errors
    /// Those of the transport and of the node, and those of `parse`. Transient ones are retried.
    pub(super) async fn one<T: Send>(&self, request: &Request, parse: &impl Parse<T>, traffic: &Traffic) -> Result<T> {
        let answers = self.batch(std::slice::from_ref(request), 0, parse, traffic).await?;
        answers.into_iter().next().unwrap_or_else(|| Err(Error::internal("a request has no answer")))
    }

    /// Sends requests in batches, and returns their answers in order: a value, or the permanent error of a request.
    ///
    /// # Errors
    /// Those of whole batches, and transient errors of requests, after all retries.
    pub(super) async fn all<T: Send>(
        &self,
        requests: &[Request],
        parse: &impl Parse<T>,
        traffic: &Traffic,
    ) -> Result<Vec<Result<T>>> {
        let size = self.batch_size();
        let batches: Vec<_> = requests
            .chunks(size)
            .zip((0..).step_by(size))
            .map(|(requests, first)| self.batch(requests, first, parse, traffic))
            .collect();
        let batches: Vec<Vec<Result<T>>> =
            stream::iter(batches).buffered(self.concurrency.max(1)).try_collect().await?;
        Ok(batches.into_iter().flatten().collect())
    }

    fn batch_size(&self) -> usize {
        self.batch.load(Ordering::Relaxed).max(1)
    }

    /// Sends requests, the first of which has the index `first`, until all are answered.
    async fn batch<T: Send>(
        &self,
        requests: &[Request],
        first: usize,
        parse: &impl Parse<T>,
        traffic: &Traffic,
    ) -> Result<Vec<Result<T>>> {
        let answers = Answers { requests, first, parse, state: Mutex::new(requests.iter().map(|_| None).collect()) };
        let mut rounds = 1;
        loop {
            let sent = Sent { answers: &answers, members: answers.next(self.batch_size()) };
            if sent.members.is_empty() {
                return answers.into_results();
            }
            let outcome = self.endpoint.request(&self.url, &sent, traffic, |response| sent.accept(response)).await;
            let (Err(error), left) = (outcome, sent.outstanding()) else { continue };
            let has_progress = left.len() < sent.members.len();
            match left.as_slice() {
                [_, _, ..] if is_refusal(&error) => {
                    self.batch.fetch_min(left.len() / 2, Ordering::Relaxed);
                    tracing::debug!(error = error.details(), size = left.len() / 2, "the node refuses the batch");
                }
                [member] if is_answer(&error) => answers.set(*member, Err(answers.with_method(error))),
                _ if has_progress && is_retried(&error) && rounds < ROUNDS => rounds += 1,
                _ => return Err(answers.with_method(error)),
            }
        }
    }
}

/// Returns whether an error of a batch means that the node accepts only shorter ones, or none.
fn is_refusal(error: &Error) -> bool {
    let is_rejected = error.kind() == Kind::SourceRejected;
    is_rejected || BodyTooLong::caused(error)
}

/// Returns whether an error of a response is about its only request, and not about all requests.
fn is_answer(error: &Error) -> bool {
    !error.kind().is_transient() && !matches!(error.kind(), Kind::QuotaExceeded | Kind::BadCredentials)
}

fn is_retried(error: &Error) -> bool {
    error.kind().is_transient() && error.retry_after().is_none()
}

/// The answers to requests, as far as they are known.
struct Answers<'a, T, P> {
    requests: &'a [Request],
    /// The index of the first request.
    first: usize,
    parse: &'a P,
    state: Mutex<Vec<Option<Result<T>>>>,
}

impl<T, P: Parse<T>> Answers<'_, T, P> {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Result<T>>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, member: usize, answer: Result<T>) {
        if let Some(slot) = self.lock().get_mut(member) {
            *slot = Some(answer);
        }
    }

    /// Returns the first requests without an answer.
    fn next(&self, size: usize) -> Vec<usize> {
        let state = self.lock();
        let unanswered = state.iter().enumerate().filter(|(_, answer)| answer.is_none());
        unanswered.map(|(member, _)| member).take(size).collect()
    }

    fn with_method(&self, error: Error) -> Error {
        match self.requests.first() {
            Some(request) => error.with("method", request.method),
            None => error,
        }
    }

    fn into_results(self) -> Result<Vec<Result<T>>> {
        let answers = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.into_iter().map(|answer| answer.ok_or_else(|| Error::internal("a request has no answer"))).collect()
    }
}

/// The requests of a batch. As the body of an HTTP request it has those that are not answered yet.
struct Sent<'b, 'a, T, P> {
    answers: &'b Answers<'a, T, P>,
    members: Vec<usize>,
}

impl<T, P: Parse<T>> Sent<'_, '_, T, P> {
    fn outstanding(&self) -> Vec<usize> {
        let state = self.answers.lock();
        self.members.iter().copied().filter(|member| state.get(*member).is_some_and(Option::is_none)).collect()
    }

    /// Takes the answers of a response.
    ///
    /// # Errors
    /// The error of the response as a whole, or the first transient error of a request.
    fn accept(&self, response: &HttpResponse) -> Result<()> {
        let outstanding = self.outstanding();
        let pairs = match (Replies::parse(response, outstanding.len()), outstanding.as_slice()) {
            // The error of a response is that of its only request.
            (Err(error), [member]) if error.kind().is_transient() => {
                return self.take(*member, Err(error)).map_or(Ok(()), Err);
            }
            (Err(error), _) => return Err(error),
            (Ok(Replies::One(reply)), [member]) => {
                // An error may have no id: the node could not read the request.
                if reply.result(response).is_ok() && reply.id() != Some(*member + 1) {
                    return Err(wrong("the answer of the node is for another request"));
                }
                vec![(*member, reply)]
            }
            (Ok(Replies::One(reply)), _) => {
                reply.result(response)?;
                return Err(wrong("the node answered a batch with one answer"));
            }
            (Ok(Replies::Many(replies)), _) => match_ids(&replies, &outstanding, response)?,
        };
        let mut transient = None;
        for (member, reply) in &pairs {
            let parse = |result| (self.answers.parse)(self.answers.first + member, result);
            let answer = reply.result(response).and_then(parse);
            if let (Err(error), [_]) = (&answer, outstanding.as_slice())
                && !error.kind().is_transient()
            {
                // The response is an error as a whole. Its text may contain the URL, which a result must not.
                return answer.map(drop);
            }
            let error = self.take(*member, answer);
            transient = transient.or(error);
        }
        let missing = || (pairs.len() < outstanding.len()).then(|| wrong("the node left out answers of a batch"));
        transient.or_else(missing).map_or(Ok(()), Err)
    }

    /// Stores the answer of a request, or returns the error for which it is sent again.
    fn take(&self, member: usize, answer: Result<T>) -> Option<Error> {
        let error = match (answer, self.answers.requests.get(member)) {
            (Err(error), Some(request)) => match Meaning::of(&error) {
                Some(Meaning::Missing(_)) if request.is_missing_retried => {
                    return Some(error.with_source(Meaning::Missing(request.expected)));
                }
                Some(Meaning::Missing(_)) => error,
                _ if error.kind().is_transient() => return Some(error),
                Some(_) => error,
                // All requests have this error in common.
                None if !is_answer(&error) => return Some(error),
                None => error,
            },
            (answer, _) => {
                self.answers.set(member, answer);
                return None;
            }
        };
        self.answers.set(member, Err(error));
        None
    }
}

/// Matches answers with requests: each answer belongs to a request that has no other one.
fn match_ids<'a>(
    replies: &[Reply<'a>],
    outstanding: &[usize],
    response: &HttpResponse,
) -> Result<Vec<(usize, Reply<'a>)>> {
    let mut pairs: Vec<(usize, Reply<'a>)> = Vec::with_capacity(replies.len());
    for reply in replies {
        match reply.id().and_then(|id| id.checked_sub(1)).filter(|member| outstanding.binary_search(member).is_ok()) {
            Some(member) => pairs.push((member, *reply)),
            None => {
                // An error without an id is about the batch.
                reply.result(response)?;
                return Err(wrong("the node answered a request that was not sent"));
            }
        }
    }
    pairs.sort_by_key(|(member, _)| *member);
    match pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
        true => Ok(pairs),
        false => Err(wrong("the node answered a request twice")),
    }
}

impl<T, P: Parse<T>> Serialize for Sent<'_, '_, T, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let outstanding = self.outstanding();
        let body = |member: &usize| {
            let request = self.answers.requests.get(*member)?;
            Some(Body { jsonrpc: "2.0", id: member + 1, method: request.method, params: &request.params })
        };
        if let [member] = outstanding.as_slice() {
            // Some nodes accept no batches.
            return body(member).serialize(serializer);
        }
        let mut list = serializer.serialize_seq(Some(outstanding.len()))?;
        for member in &outstanding {
            list.serialize_element(&body(member))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    jsonrpc: &'static str,
    id: usize,
    method: &'static str,
    params: &'a Value,
}
