//! The limits of a provider, each with the text of one of them.

use defi_shared::sources::ethereum::Meaning;
use serde_json::Value;

use super::faults::{id, method, refusal, text};
use super::logs::quantity;
use crate::faults::random_number;

/// The limits of a node. Without one, the node behind it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// The number of blocks of a request for logs.
    pub blocks: Option<u64>,
    /// The number of logs in an answer.
    pub logs: Option<usize>,
    /// The number of requests in a batch.
    pub batch: Option<usize>,
    /// The size of a call's data, in bytes; a larger call runs out of gas.
    pub call_bytes: Option<usize>,
}

impl NodeLimits {
    /// Returns the answer to a batch that is too long.
    pub(super) fn refuse_batch(&self, requests: &Value) -> Option<Value> {
        let length = requests.as_array()?.len();
        let message = || text(length as u64, |meaning| meaning == Meaning::BatchRefused);
        self.batch.is_some_and(|limit| length > limit).then(|| refusal(&Value::Null, message()))
    }

    /// Returns the answer to a request that is too much.
    pub(super) fn refuse(&self, request: &Value, reply: &Value) -> Option<Value> {
        let meaning = match method(request) {
            "eth_getLogs" => self.limit_of_logs(request, reply)?,
            "eth_call" => {
                let data = request.pointer("/params/0/data")?.as_str()?;
                self.call_bytes.filter(|limit| data.len() / 2 > limit + 1)?;
                Meaning::OutOfGas
            }
            _ => return None,
        };
        // Each request has its own text, always the same.
        let params = request.get("params")?.to_string();
        let random = random_number(0, &[params.as_bytes()]);
        Some(refusal(id(request), text(random, |other| other == meaning)))
    }

    fn limit_of_logs(&self, request: &Value, reply: &Value) -> Option<Meaning> {
        let block = |name: &str| request.pointer("/params/0")?.get(name).and_then(quantity);
        let blocks = block("toBlock")?.checked_sub(block("fromBlock")?)? + 1;
        let count = reply.get("result").and_then(Value::as_array).map_or(0, Vec::len);
        if self.blocks.is_some_and(|limit| blocks > limit) {
            return Some(Meaning::TooManyBlocks);
        }
        self.logs.is_some_and(|limit| count > limit).then_some(Meaning::TooMuch)
    }
}
