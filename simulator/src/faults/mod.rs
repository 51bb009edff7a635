//! Faults that the server injects into its own responses, according to a script.
//!
//! Whether a request has a fault depends on the seed, the request itself (its path and body) and its number of
//! attempts, and not on the order in which requests arrive. Concurrent requests, another number of connections or
//! additional requests therefore change nothing, and a script that made a test fail makes it fail again.

mod debts;
mod defects;
mod kinds;
mod request;
mod responses;
mod rows;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

pub use debts::debts_never_fall;
pub use defects::{DefectCounts, RowDefect, add_row_defects};
pub use kinds::Fault;
use request::ParsedRequest;
use responses::{FaultContext, OriginalResponse};
pub(crate) use wire::{ConnectionCutter, CuttableListener};

/// Longer than any client waits.
const STALL: Duration = Duration::from_secs(120);

/// Which faults are injected, into which requests, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Another seed selects other requests.
    pub seed: u64,
    /// The rules. If several rules select a request, the first one that is applicable to its response is used.
    pub script: Vec<FaultRule>,
    /// The delay of a stalled body or slow headers.
    pub stall: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { seed: 0, script: Vec::new(), stall: STALL }
    }
}

/// A rule of a script: a fault, and the requests that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRule {
    /// The fault.
    pub fault: Fault,
    /// The share of the applicable requests (or attempts) that have the fault, in thousandths.
    pub per_mille: u64,
    /// The attempts of a request that have the fault. Of a permanent fault, all attempts have it.
    pub attempts: Attempts,
}

/// The attempts of a request that have a transient fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// Requests are selected at random, and the first attempts of each, up to this number, have the fault.
    First(u32),
    /// Each attempt is selected at random.
    Any,
}

/// The number of injected faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// The count of each fault, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// The count of each GraphQL error, by message.
    pub messages: BTreeMap<&'static str, u64>,
}

/// Injects the faults of a script.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<[u8; 32], u32>,
    counts: FaultCounts,
}

/// A fault that is selected for an attempt.
#[derive(Debug, Clone, Copy)]
struct SelectedFault {
    fault: Fault,
    /// Decides the details of the fault, such as where to cut the body or which message to send.
    random: u64,
}

impl FaultInjector {
    pub(crate) fn new(faults: Faults) -> FaultInjector {
        FaultInjector { faults, state: Mutex::default() }
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Answers a request, with a fault if one is selected.
    pub(crate) async fn respond(&self, request: Request, next: Next) -> Response {
        let request = ParsedRequest::read(request).await;
        let selected = self.select(&request);
        let response = next.clone().run(request.to_request(None)).await;
        if selected.is_empty() {
            return response;
        }
        let original = OriginalResponse::read(response).await;
        let cutter = request.extension::<ConnectInfo<ConnectionCutter>>().map(|ConnectInfo(cutter)| cutter);
        let context = FaultContext { request: &request, original: &original, cutter: cutter.as_ref() };
        for selected in selected {
            if selected.fault == Fault::SlowHeaders {
                // Counted before the delay, because the client may disconnect during it.
                self.count(selected.fault, None);
                tokio::time::sleep(self.faults.stall).await;
                break;
            }
            if let Some(response) = substitute_response(selected.fault, &request, next.clone()).await {
                self.count(selected.fault, None);
                return response;
            }
            if let Some(faulty) = responses::apply(selected, &context, self.faults.stall) {
                self.count(selected.fault, faulty.message);
                return faulty.response;
            }
        }
        original.response()
    }

    /// Counts an attempt of a request and returns the faults that are selected for it, in the order of the script.
    fn select(&self, request: &ParsedRequest) -> Vec<SelectedFault> {
        let key = request.key();
        let attempt = self.count_attempt(key);
        let rules = self.faults.script.iter().zip(0u64..);
        let applicable = rules.filter(|(rule, _)| request.supports(rule.fault));
        let selected = applicable.filter_map(|(rule, number)| {
            let draw =
                |attempt: u32| random_number(self.faults.seed, &[&number.to_le_bytes(), &key, &attempt.to_le_bytes()]);
            let (of_request, of_attempt) = (draw(0), draw(attempt));
            let (is_selected, random) = match (rule.fault.is_transient(), rule.attempts) {
                // The number is the same for every attempt, and so is the fault.
                (false, _) => (of_request % 1000 < rule.per_mille, of_request),
                (true, Attempts::First(attempts)) => {
                    (of_request % 1000 < rule.per_mille && attempt <= attempts, of_attempt)
                }
                (true, Attempts::Any) => (of_attempt % 1000 < rule.per_mille, of_attempt),
            };
            is_selected.then_some(SelectedFault { fault: rule.fault, random: random / 1000 })
        });
        selected.collect()
    }

    /// Counts an attempt of a request and returns its number, starting at 1.
    fn count_attempt(&self, key: [u8; 32]) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = state.attempts.entry(key).or_default();
        *attempts += 1;
        *attempts
    }

    fn count(&self, fault: Fault, message: Option<&'static str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.counts.faults.entry(fault.name()).or_default() += 1;
        if let Some(message) = message {
            *state.counts.messages.entry(message).or_default() += 1;
        }
    }
}

/// Returns the response of another request, if that is the fault and the response has rows.
async fn substitute_response(fault: Fault, request: &ParsedRequest, next: Next) -> Option<Response> {
    let body = request.substitute_body(fault)?;
    let response = OriginalResponse::read(next.run(request.to_request(Some(body))).await).await;
    response.has_rows().then(|| response.response())
}

/// Derives a pseudo-random number from a seed and some inputs. It is the same on every machine.
pub(crate) fn random_number(seed: u64, inputs: &[&[u8]]) -> u64 {
    let mut digest = Sha256::new().chain_update(seed.to_le_bytes());
    for input in inputs {
        digest.update(input);
    }
    digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Maps a random number to one below `end`, or to 0 if `end` is 0.
pub(crate) fn below(random: u64, end: usize) -> usize {
    (random % (end as u64).max(1)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn fault_names_are_unique() {
        let names: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        let permanent: Vec<_> =
            Fault::ALL.iter().filter(|fault| !fault.is_transient()).map(|fault| fault.name()).collect();
        let of_blocks = ["pruned", "pruned_by_one", "missing_block"];
        assert_eq!(permanent, [&["lasting_errors"][..], &of_blocks, &["indexing_errors", "out_of_credits"]].concat());
    }

    /// Whether each of the attempts of one request has a fault.
    async fn faulty_attempts(injector: &FaultInjector, attempts: usize) -> Vec<bool> {
        let mut all = Vec::new();
        for _ in 0..attempts {
            let request = Request::post("/sql").body("{\"sql\": \"SELECT 1\"}".into()).unwrap();
            all.push(!injector.select(&ParsedRequest::read(request).await).is_empty());
        }
        all
    }

    #[tokio::test]
    async fn transient_faults_end_and_permanent_faults_do_not() {
        let injector = |fault, per_mille, attempts| {
            FaultInjector::new(Faults { script: vec![FaultRule { fault, per_mille, attempts }], ..Faults::default() })
        };
        let transient = injector(Fault::Closed, 1000, Attempts::First(2));
        assert_eq!(faulty_attempts(&transient, 4).await, [true, true, false, false]);
        let permanent = injector(Fault::OutOfCredits, 1000, Attempts::First(2));
        assert_eq!(faulty_attempts(&permanent, 4).await, [true; 4]);
        assert_eq!(faulty_attempts(&injector(Fault::Closed, 0, Attempts::Any), 9).await, [false; 9]);
        let (one, other) = (injector(Fault::Closed, 500, Attempts::Any), injector(Fault::Closed, 500, Attempts::Any));
        let faulty = faulty_attempts(&one, 40).await;
        assert_eq!(faulty, faulty_attempts(&other, 40).await);
        assert!((10..30).contains(&faulty.iter().filter(|is_faulty| **is_faulty).count()), "{faulty:?}");
    }
}
