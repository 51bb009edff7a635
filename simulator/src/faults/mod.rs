//! Faults that the server puts in the way of its own answers, by a script.
//!
//! Whether a question meets a fault is drawn from the seed, the question itself (its path and body) and how often it has been
//! asked: not from the order in which requests arrive. Requests that overtake each other, another number of connections or a
//! step that asks for something else besides therefore change nothing, and a script that failed once fails again.

mod answers;
mod dirt;
mod kinds;
mod question;
mod rows;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

use answers::{Place, Truth};
pub use dirt::{Dirt, Soiled, soil};
pub use kinds::Fault;
use question::Question;
pub(crate) use wire::{Cuttable, Scissors};

/// Longer than any client waits.
const SILENCE: Duration = Duration::from_secs(120);

/// Which faults happen, to what, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Another seed hits other questions.
    pub seed: u64,
    /// Of several lines that hit a question, the first that can happen to its answer counts.
    pub script: Vec<Line>,
    /// How long a stalled body or a slow answer keeps the client waiting.
    pub silence: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { seed: 0, script: Vec::new(), silence: SILENCE }
    }
}

/// A line of a script: a fault, and what it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What happens.
    pub fault: Fault,
    /// Of a thousand questions (or asks) that it can happen to, how many it hits.
    pub per_mille: u64,
    /// How often it hits them. A fault that does not pass hits a question as often as it is asked.
    pub asks: Asks,
}

/// Which asks of a question a passing fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The draw is of questions, and the first so many asks of each are hit.
    First(u32),
    /// Every ask has its own draw.
    Any,
}

/// How often what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// GraphQL errors, by message.
    pub messages: BTreeMap<&'static str, u64>,
}

/// A script in play.
#[derive(Debug)]
pub(crate) struct Mischief {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asks: HashMap<[u8; 32], u32>,
    counts: Counts,
}

/// A fault that a question is to meet.
#[derive(Debug, Clone, Copy)]
struct Hit {
    fault: Fault,
    /// Decides whatever there is to choose: where to cut, which message.
    draw: u64,
}

impl Mischief {
    pub(crate) fn new(faults: Faults) -> Mischief {
        Mischief { faults, state: Mutex::default() }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Answers a request, truly or not.
    pub(crate) async fn answer(&self, request: Request, next: Next) -> Response {
        let question = Question::read(request).await;
        let hits = self.hits(&question);
        let answer = next.clone().run(question.request(None)).await;
        if hits.is_empty() {
            return answer;
        }
        let truth = Truth::read(answer).await;
        let scissors = question.extension::<ConnectInfo<Scissors>>().map(|ConnectInfo(scissors)| scissors);
        let place = Place { question: &question, truth: &truth, scissors: scissors.as_ref() };
        for hit in hits {
            if hit.fault == Fault::SlowHeaders {
                // Counted first: the client may be gone before the wait is over.
                self.count(hit.fault, None);
                tokio::time::sleep(self.faults.silence).await;
                break;
            }
            if let Some(response) = mistaken(hit.fault, &question, next.clone()).await {
                self.count(hit.fault, None);
                return response;
            }
            if let Some(spoilt) = answers::spoil(hit, &place, self.faults.silence) {
                self.count(hit.fault, spoilt.message);
                return spoilt.response;
            }
        }
        truth.response()
    }

    /// The faults that this ask of a question is to meet, in the order of the script.
    fn hits(&self, question: &Question) -> Vec<Hit> {
        let key = question.key();
        let ask = self.ask(key);
        let lines = self.faults.script.iter().zip(0u64..);
        let meets = lines.filter(|(line, _)| question.can_meet(line.fault));
        let hits = meets.filter_map(|(line, number)| {
            let draw = |ask: u32| draw(self.faults.seed, &[&number.to_le_bytes(), &key, &ask.to_le_bytes()]);
            let (of_question, of_ask) = (draw(0), draw(ask));
            let (is_hit, draw) = match (line.fault.is_passing(), line.asks) {
                // The same for every ask: the fault stays what it was.
                (false, _) => (of_question % 1000 < line.per_mille, of_question),
                (true, Asks::First(asks)) => (of_question % 1000 < line.per_mille && ask <= asks, of_ask),
                (true, Asks::Any) => (of_ask % 1000 < line.per_mille, of_ask),
            };
            is_hit.then_some(Hit { fault: line.fault, draw: draw / 1000 })
        });
        hits.collect()
    }

    /// Counts an ask of a question; the first is 1.
    fn ask(&self, key: [u8; 32]) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let asks = state.asks.entry(key).or_default();
        *asks += 1;
        *asks
    }

    fn count(&self, fault: Fault, message: Option<&'static str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.counts.faults.entry(fault.name()).or_default() += 1;
        if let Some(message) = message {
            *state.counts.messages.entry(message).or_default() += 1;
        }
    }
}

/// The answer to another question, if the fault is that, and if it has rows.
async fn mistaken(fault: Fault, question: &Question, next: Next) -> Option<Response> {
    let other = question.mistaken(fault)?;
    let answer = Truth::read(next.run(question.request(Some(other))).await).await;
    answer.has_rows().then(|| answer.response())
}

/// A number that a seed and some facts stand for, the same on every machine.
fn draw(seed: u64, facts: &[&[u8]]) -> u64 {
    let mut digest = Sha256::new().chain_update(seed.to_le_bytes());
    for fact in facts {
        digest.update(fact);
    }
    digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns a number below `end`, or 0 if `end` is 0.
fn below(draw: u64, end: usize) -> usize {
    (draw % (end as u64).max(1)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        let lasting: Vec<_> = Fault::ALL.iter().filter(|fault| !fault.is_passing()).map(|fault| fault.name()).collect();
        assert_eq!(lasting, ["lasting_errors", "pruned", "indexing_errors", "out_of_credits"]);
    }

    async fn hits(mischief: &Mischief, asks: usize) -> Vec<bool> {
        let mut all = Vec::new();
        for _ in 0..asks {
            let request = Request::post("/sql").body("{\"sql\": \"SELECT 1\"}".into()).unwrap();
            all.push(!mischief.hits(&Question::read(request).await).is_empty());
        }
        all
    }

    #[tokio::test]
    async fn a_passing_fault_passes_and_a_lasting_one_stays() {
        let play = |fault, per_mille, asks| {
            Mischief::new(Faults { script: vec![Line { fault, per_mille, asks }], ..Faults::default() })
        };
        assert_eq!(hits(&play(Fault::Closed, 1000, Asks::First(2)), 4).await, [true, true, false, false]);
        assert_eq!(hits(&play(Fault::OutOfCredits, 1000, Asks::First(2)), 4).await, [true; 4]);
        assert_eq!(hits(&play(Fault::Closed, 0, Asks::Any), 9).await, [false; 9]);
        let (one, other) = (play(Fault::Closed, 500, Asks::Any), play(Fault::Closed, 500, Asks::Any));
        let drawn = hits(&one, 40).await;
        assert_eq!(drawn, hits(&other, 40).await);
        assert!((10..30).contains(&drawn.iter().filter(|hit| **hit).count()), "{drawn:?}");
    }
}
