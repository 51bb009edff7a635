//! Which answers of a node have a fault.
//!
//! As for the other two servers, this depends on the seed, the request and its number of attempts, and not on the order
//! of the requests. The members of a batch are requests of their own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use defi_shared::error::Kind;
use defi_shared::sources::ethereum::{Meaning, messages};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::calls::{Rejected, reject};
use super::kinds::NodeFault;
use super::{NodeFaultCounts, NodeFaultRule, NodeFaults, logs};
use crate::faults::{Attempts, below, random_number};

/// By how many blocks the head falls back.
const FALL: u64 = 200;

/// A fault that is selected for an attempt of a request.
#[derive(Debug, Clone, Copy)]
struct Selected {
    rule: NodeFaultRule,
    random: u64,
}

/// Puts faults into answers.
#[derive(Debug)]
pub(super) struct NodeFaultInjector {
    faults: NodeFaults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<[u8; 32], u32>,
    counts: NodeFaultCounts,
    /// The first head that the node named, by tag.
    heads: HashMap<String, u64>,
}

impl NodeFaultInjector {
    pub(super) fn new(faults: NodeFaults) -> Self {
        NodeFaultInjector { faults, state: Mutex::default() }
    }

    pub(super) fn counts(&self) -> NodeFaultCounts {
        self.with_state(|state| state.counts.clone())
    }

    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, fault: NodeFault) {
        self.with_state(|state| *state.counts.entry(fault.name()).or_default() += 1);
    }

    fn has(&self, fault: NodeFault) -> bool {
        self.faults.script.iter().any(|rule| rule.fault == fault)
    }

    /// Changes a request before it is sent to the real node: a head that falls back is an older block of the node.
    pub(super) fn change_request(&self, request: &mut Value) {
        let Some(tag) = head_tag(request).filter(|_| self.has(NodeFault::HeadFallsBack)).map(str::to_owned) else {
            return;
        };
        if let Some(first) = self.with_state(|state| state.heads.get(&tag).copied())
            && let Some(block) = request.pointer_mut("/params/0")
        {
            *block = json!(format!("{:#x}", first.saturating_sub(FALL)));
            self.count(NodeFault::HeadFallsBack);
        }
    }

    /// Takes note of the first head of the node.
    fn note_head(&self, request: &Value, reply: &Value) {
        let number = reply.pointer("/result/number").and_then(logs::quantity);
        if let (Some(tag), Some(number)) = (head_tag(request), number) {
            self.with_state(|state| *state.heads.entry(tag.to_owned()).or_insert(number));
        }
    }

    /// Changes the reply to a request, if a fault is selected for it.
    pub(super) fn change_reply(&self, request: &Value, reply: &mut Value) {
        self.note_head(request, reply);
        let key = key(request);
        for selected in self.select(key) {
            if self.apply(selected, request, reply) {
                self.count(selected.rule.fault);
                return;
            }
        }
    }

    /// Changes the replies of a batch, if a fault is selected for it.
    pub(super) fn change_batch(&self, requests: &Value, replies: &mut Value) {
        for Selected { rule, random } in self.select(key(requests)) {
            let Some(list) = replies.as_array_mut().filter(|list| list.len() > 1) else { return };
            let at = below(random, list.len() - 1);
            match rule.fault {
                NodeFault::BatchRefused => {
                    *replies = refusal(&Value::Null, text(random, |m| m == Meaning::BatchRefused))
                }
                NodeFault::BatchReordered => list.rotate_left(at + 1),
                NodeFault::BatchIncomplete => drop(list.remove(at)),
                NodeFault::BatchSurplus => list.push(json!({"jsonrpc": "2.0", "id": 1_000_000_000, "result": null})),
                _ => continue,
            }
            self.count(rule.fault);
            return;
        }
    }

    /// Counts an attempt of a request, and returns the faults that are selected for it, in the order of the script.
    fn select(&self, key: [u8; 32]) -> Vec<Selected> {
        let attempt = self.with_state(|state| {
            let attempts = state.attempts.entry(key).or_default();
            *attempts += 1;
            *attempts
        });
        let select = |(rule, number): (&NodeFaultRule, u64)| {
            let draw = |attempt: u32| {
                random_number(self.faults.seed, &[b"node", &number.to_le_bytes(), &key, &attempt.to_le_bytes()])
            };
            let (of_request, of_attempt) = (draw(0), draw(attempt));
            let random = if rule.fault.is_transient() { of_attempt } else { of_request };
            let is_selected = match rule.attempts {
                // Each log has its own draw.
                _ if is_of_logs(rule.fault) || rule.fault == NodeFault::CallReverts => true,
                _ if !rule.fault.is_transient() => of_request % 1000 < rule.per_mille,
                Attempts::First(attempts) => of_request % 1000 < rule.per_mille && attempt <= attempts,
                Attempts::Any => of_attempt % 1000 < rule.per_mille,
            };
            is_selected.then_some(Selected { rule: *rule, random: random / 1000 })
        };
        self.faults.script.iter().zip(0..).filter_map(select).collect()
    }

    /// Applies a fault to a reply, and returns whether it is applicable.
    fn apply(&self, selected: Selected, request: &Value, reply: &mut Value) -> bool {
        let Selected { rule, random } = selected;
        let params = request.get("params").unwrap_or(&Value::Null);
        let (method, block) = (method(request), block(request));
        let is_pinned = block.is_some();
        let error = match rule.fault {
            NodeFault::Throttled => text(random, |meaning| meaning == Meaning::Plain(Kind::Throttled)),
            NodeFault::Unavailable => text(random, |meaning| meaning == Meaning::Plain(Kind::SourceUnavailable)),
            NodeFault::QuotaExceeded => text(random, |meaning| meaning == Meaning::Plain(Kind::QuotaExceeded)),
            NodeFault::Behind if is_pinned => text(random, |meaning| meaning.kind() == Kind::NotReady),
            NodeFault::Pruned if block.is_some_and(|block| block < self.faults.pruned_below) => {
                text(random, |meaning| meaning == Meaning::Plain(Kind::HistoryPruned))
            }
            NodeFault::StatePruned
                if matches!(method, "eth_call" | "eth_getCode")
                    && block.is_some_and(|block| block < self.faults.pruned_below) =>
            {
                text(random, |meaning| meaning == Meaning::Plain(Kind::HistoryPruned))
            }
            NodeFault::NoBlockReceipts if method == "eth_getBlockReceipts" => {
                text(random, |meaning| meaning == Meaning::NoMethod)
            }
            NodeFault::CallReverts if method == "eth_call" => return self.reject_calls(rule, params, reply),
            _ => return self.change_result(selected, request, reply),
        };
        *reply = refusal(id(request), error);
        true
    }

    /// Changes the result of a reply.
    fn change_result(&self, selected: Selected, request: &Value, reply: &mut Value) -> bool {
        let Selected { rule, random } = selected;
        let (method, block) = (method(request), block(request));
        let Some(result) = reply.get_mut("result").filter(|result| !result.is_null()) else { return false };
        match (rule.fault, method) {
            (NodeFault::NullBlock, "eth_getBlockByNumber") if block.is_some() => *result = Value::Null,
            (NodeFault::NullReceipt, "eth_getTransactionReceipt") => *result = Value::Null,
            (NodeFault::OtherBlock, "eth_getBlockByNumber") if block.is_some() => {
                let Some(number) = result.get_mut("number") else { return false };
                *number = json!(format!("{:#x}", block.unwrap_or_default() + 1));
            }
            (NodeFault::OtherChain, "eth_chainId") => *result = json!("0x5e5e5e"),
            (NodeFault::LogsEmpty, "eth_getLogs") => {
                let is_old = block.is_some_and(|block| block < self.faults.pruned_below);
                let is_empty = result.as_array().is_some_and(Vec::is_empty);
                if !is_old || is_empty {
                    return false;
                }
                *result = json!([]);
            }
            (fault, "eth_getLogs") => {
                let Some(list) = result.as_array_mut() else { return false };
                if is_of_logs(fault) {
                    return logs::apply_to_share(fault, self.faults.seed, rule.per_mille, list);
                }
                let filter = request.pointer("/params/0").unwrap_or(&Value::Null);
                return logs::apply(fault, random, list, filter);
            }
            _ => return false,
        }
        true
    }

    /// Rejects the calls whose data have one of the prefixes, or a share of all calls if there are none.
    fn reject_calls(&self, rule: NodeFaultRule, params: &Value, reply: &mut Value) -> bool {
        let is_selected = |to: &[u8], data: &[u8]| match self.faults.rejected_calls.as_slice() {
            [] => random_number(self.faults.seed, &[b"call", to, data]) % 1000 < rule.per_mille,
            prefixes => prefixes.iter().any(|prefix| data.starts_with(prefix)),
        };
        match reject(params, reply.get("result"), is_selected) {
            Some(Rejected::Whole) => {
                let id = reply.get("id").cloned().unwrap_or_default();
                *reply = json!({"jsonrpc": "2.0", "id": id, "error": {"code": 3, "message": "execution reverted"}});
                true
            }
            Some(Rejected::Inner(result)) => {
                reply["result"] = result;
                true
            }
            None => false,
        }
    }
}

/// Whether a fault is one of single logs, and not of requests.
fn is_of_logs(fault: NodeFault) -> bool {
    use NodeFault::{BlockHashDiffers, LogsLeftOut, ShortData, TopicMissing};
    matches!(fault, LogsLeftOut | TopicMissing | ShortData | BlockHashDiffers)
}

/// Returns one of the messages with a meaning.
pub(super) fn text(random: u64, has_meaning: impl Fn(Meaning) -> bool) -> &'static str {
    let texts: Vec<&str> = messages().filter(|(meaning, _)| has_meaning(*meaning)).map(|(_, text)| text).collect();
    texts.get(below(random, texts.len())).copied().unwrap_or("internal error")
}

/// Returns an error reply. The code is the same for all texts, as that of several providers is.
pub(super) fn refusal(id: &Value, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": message}})
}

fn key(request: &Value) -> [u8; 32] {
    let member = |request: &Value| format!("{}{}", method(request), request.get("params").unwrap_or(&Value::Null));
    let text = match request.as_array() {
        Some(list) => list.iter().map(member).collect(),
        None => member(request),
    };
    Sha256::digest(text).into()
}

pub(super) fn id(request: &Value) -> &Value {
    request.get("id").unwrap_or(&Value::Null)
}

pub(super) fn method(request: &Value) -> &str {
    request.get("method").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the tag of a request for the newest or the final block.
fn head_tag(request: &Value) -> Option<&str> {
    let tag = request.pointer("/params/0").and_then(Value::as_str)?;
    (method(request) == "eth_getBlockByNumber" && matches!(tag, "latest" | "finalized")).then_some(tag)
}

/// Returns the block that a request is pinned to: the last one of a range.
fn block(request: &Value) -> Option<u64> {
    let path = match method(request) {
        "eth_getBlockByNumber" | "eth_getBlockReceipts" => "/params/0",
        "eth_call" | "eth_getCode" => "/params/1",
        "eth_getLogs" => "/params/0/toBlock",
        _ => return None,
    };
    request.pointer(path).and_then(logs::quantity)
}
