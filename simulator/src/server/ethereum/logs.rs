//! Faults in lists of logs.

use serde_json::{Value, json};

use super::NodeFault;
use crate::faults::{below, random_number};

/// Applies a transient fault to a list of logs, and returns whether it is applicable.
pub(super) fn apply(fault: NodeFault, random: u64, logs: &mut Vec<Value>, filter: &Value) -> bool {
    let at = below(random, logs.len());
    if fault == NodeFault::BlockHashChanged {
        return change_hash(random, logs);
    }
    if fault == NodeFault::LogsUnordered {
        let is_possible = logs.len() >= 2;
        if is_possible {
            let at = below(random, logs.len() - 1);
            logs.swap(at, at + 1);
        }
        return is_possible;
    }
    let Some(log) = logs.get_mut(at) else { return false };
    match fault {
        NodeFault::LogRemoved => set(log, "removed", json!(true)),
        NodeFault::LogOfOtherAddress => set(log, "address", json!(format!("0x{}", "5e".repeat(20)))),
        NodeFault::TooManyTopics => set(log, "topics", json!(vec![format!("0x{}", "5e".repeat(32)); 5])),
        NodeFault::OddData => {
            let data = format!("{}0", text(log, "data"));
            set(log, "data", json!(data));
        }
        NodeFault::LogRepeated => {
            let copy = log.clone();
            logs.insert(at + 1, copy);
        }
        NodeFault::TwoLogsUnderOneKey => {
            let mut other = log.clone();
            set(&mut other, "data", json!(format!("{}5e", text(log, "data"))));
            logs.insert(at + 1, other);
        }
        NodeFault::LogOutsideRange => {
            let Some(to) = filter.get("toBlock").and_then(quantity) else { return false };
            let mut outside = log.clone();
            set(&mut outside, "blockNumber", json!(format!("{:#x}", to + 1)));
            set(&mut outside, "blockHash", other_hash(random));
            logs.push(outside);
        }
        _ => return false,
    }
    true
}

/// Gives one of several logs of a block another block hash.
fn change_hash(random: u64, logs: &mut [Value]) -> bool {
    let is_same_block = |pair: &[Value]| pair[0].get("blockHash") == pair[1].get("blockHash");
    let pairs: Vec<usize> = (0..logs.len().saturating_sub(1)).filter(|at| is_same_block(&logs[*at..*at + 2])).collect();
    let Some(at) = pairs.get(below(random, pairs.len())) else { return false };
    let hash = other_hash(random);
    set(&mut logs[*at], "blockHash", hash);
    true
}

/// Applies a permanent fault to a share of the logs, which are the same ones in every answer. Returns whether any has it.
pub(super) fn apply_to_share(fault: NodeFault, seed: u64, per_mille: u64, logs: &mut Vec<Value>) -> bool {
    let draw = |log: &Value| {
        // All logs of a block have another hash, or none.
        let index = if fault == NodeFault::BlockHashDiffers { "" } else { text(log, "logIndex") };
        random_number(seed, &[fault.name().as_bytes(), text(log, "blockNumber").as_bytes(), index.as_bytes()])
    };
    let is_selected = |log: &Value| draw(log) % 1000 < per_mille;
    let mut changed = false;
    if fault == NodeFault::LogsLeftOut {
        let before = logs.len();
        logs.retain(|log| !is_selected(log));
        return logs.len() < before;
    }
    for log in logs.iter_mut().filter(|log| is_selected(log)) {
        changed |= match fault {
            NodeFault::TopicMissing => log.get_mut("topics").and_then(Value::as_array_mut).and_then(Vec::pop).is_some(),
            NodeFault::ShortData => {
                let (data, short) = (text(log, "data").to_owned(), 2 + 32);
                data.get(..short).filter(|_| data.len() > short).map(|data| set(log, "data", json!(data))).is_some()
            }
            NodeFault::BlockHashDiffers => {
                let hash = other_hash(draw(log));
                set(log, "blockHash", hash);
                true
            }
            _ => false,
        };
    }
    changed
}

fn other_hash(random: u64) -> Value {
    json!(format!("0x{random:016x}{}", "5e".repeat(24)))
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns a number in hex.
pub(super) fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}
