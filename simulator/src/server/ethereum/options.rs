//! Options as text, for programs that start the server from a command line.

use std::str::FromStr;

use defi_shared::error::{Error, Result};

use super::calls::decode;
use super::{NodeFault, NodeFaultRule, NodeFaults, NodeOptions};
use crate::faults::{Attempts, Fault, FaultRule, Faults};

impl FromStr for NodeOptions {
    type Err = Error;

    /// Parses a comma-separated list of entries `name=value`:
    ///
    /// | name | value |
    /// |---|---|
    /// | a fault of a node or of HTTP | in how many of a thousand requests (attempts, logs, calls) |
    /// | `transient` | the same, for all transient faults of a node together |
    /// | `seed` | another seed selects other requests (0) |
    /// | `attempts` | only the first attempts of a request have transient faults, up to this number (any attempt) |
    /// | `pruned_below` | the first block that is not pruned |
    /// | `call` | the start of the data of calls that are rejected, in hex; may be there several times |
    /// | `blocks`, `logs`, `batch`, `call_bytes` | see [`NodeLimits`](super::NodeLimits) |
    ///
    /// ```
    /// use defi_simulator::server::ethereum::{NodeFault, NodeOptions};
    /// let options: NodeOptions = "seed=3,logs_left_out=10,blocks=100".parse()?;
    /// assert_eq!(options.limits.blocks, Some(100));
    /// assert_eq!(options.faults.map(|faults| faults.script[0].fault), Some(NodeFault::LogsLeftOut));
    /// # Ok::<(), defi_shared::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// `BadInput` for an unknown name or an invalid value.
    fn from_str(text: &str) -> Result<Self> {
        let mut parsed = Parsed::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let invalid = || Error::bad_input("an option of the Ethereum node is invalid").with("option", entry);
            let (name, value) = entry.split_once('=').ok_or_else(invalid)?;
            if !names().any(|known| known == name) {
                let names = names().collect::<Vec<_>>().join(", ");
                return Err(Error::bad_input("the Ethereum node has no such option")
                    .with("option", name)
                    .with_hint(format!("choose from {names}")));
            }
            parsed.set(name, value).ok_or_else(invalid)?;
        }
        Ok(parsed.into_options())
    }
}

/// The names that are no faults.
const SETTINGS: [&str; 9] =
    ["seed", "attempts", "transient", "pruned_below", "call", "blocks", "logs", "batch", "call_bytes"];

/// Returns the names of all options.
fn names() -> impl Iterator<Item = &'static str> {
    let http = Fault::ALL.iter().filter(|fault| fault.is_of_http()).map(|fault| fault.name());
    SETTINGS.into_iter().chain(NodeFault::ALL.iter().map(|fault| fault.name())).chain(http)
}

/// The entries of a text so far.
struct Parsed {
    seed: u64,
    attempts: Attempts,
    node: Vec<(NodeFault, u64)>,
    http: Vec<(Fault, u64)>,
    transient: Option<u64>,
    pruned_below: Option<u64>,
    rejected_calls: Vec<Vec<u8>>,
    options: NodeOptions,
}

impl Default for Parsed {
    fn default() -> Self {
        Parsed {
            seed: 0,
            attempts: Attempts::Any,
            node: Vec::new(),
            http: Vec::new(),
            transient: None,
            pruned_below: None,
            rejected_calls: Vec::new(),
            options: NodeOptions::default(),
        }
    }
}

impl Parsed {
    /// Takes an entry, or returns `None` if it is invalid.
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        if name == "call" {
            self.rejected_calls.push(decode(value)?);
            return Some(());
        }
        let number: u64 = value.parse().ok()?;
        let size = usize::try_from(number).ok();
        match name {
            "seed" => self.seed = number,
            "attempts" => self.attempts = Attempts::First(u32::try_from(number).ok()?),
            "transient" => self.transient = Some(number),
            "pruned_below" => self.pruned_below = Some(number),
            "blocks" => self.options.limits.blocks = Some(number),
            "logs" => self.options.limits.logs = size,
            "batch" => self.options.limits.batch = size,
            "call_bytes" => self.options.limits.call_bytes = size,
            _ => {
                let node = NodeFault::ALL.iter().find(|fault| fault.name() == name);
                let http = Fault::ALL.iter().find(|fault| fault.name() == name && fault.is_of_http());
                match (node, http) {
                    (Some(fault), _) => self.node.push((*fault, number)),
                    (None, Some(fault)) => self.http.push((*fault, number)),
                    (None, None) => return None,
                }
            }
        }
        Some(())
    }

    fn into_options(self) -> NodeOptions {
        let Parsed { seed, attempts, .. } = self;
        let mut faults = match self.transient {
            Some(per_mille) => NodeFaults::transient(seed, per_mille, attempts),
            None => NodeFaults { seed, ..NodeFaults::default() },
        };
        faults.script.extend(self.node.into_iter().map(|(fault, per_mille)| NodeFaultRule {
            fault,
            per_mille,
            attempts,
        }));
        faults.pruned_below = self.pruned_below.unwrap_or(u64::MAX);
        faults.rejected_calls = self.rejected_calls;
        let script = self.http.into_iter().map(|(fault, per_mille)| FaultRule { fault, per_mille, attempts }).collect();
        NodeOptions {
            faults: Some(faults),
            http_faults: Some(Faults { seed, script, ..Faults::default() }),
            ..self.options
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_and_limit_has_a_name() {
        let mut text = "seed=7,attempts=2,pruned_below=9,call=0x1234,blocks=1,logs=2,batch=3,call_bytes=4".to_owned();
        for fault in NodeFault::ALL {
            text += &format!(",{}=5", fault.name());
        }
        text += ",too_many_requests=6";
        let options: NodeOptions = text.parse().unwrap();
        let (faults, http) = (options.faults.unwrap(), options.http_faults.unwrap());
        assert_eq!((faults.seed, faults.script.len(), faults.pruned_below), (7, NodeFault::ALL.len(), 9));
        assert_eq!(faults.rejected_calls, [vec![0x12, 0x34]]);
        assert_eq!(
            http.script,
            [FaultRule { fault: Fault::TooManyRequests, per_mille: 6, attempts: Attempts::First(2) }]
        );
        assert_eq!(options.limits.call_bytes, Some(4));
        for name in names().filter(|name| *name != "call") {
            assert!(format!("{name}=1").parse::<NodeOptions>().is_ok(), "{name}");
        }
        let unknown = "unknown=1".parse::<NodeOptions>().unwrap_err();
        assert!(
            names().all(|name| unknown.hint().contains(name)) && unknown.details().contains("unknown"),
            "{unknown}"
        );
        for text in ["seed", "seed=", "seed=x", "unknown=1", "call=0x1", "truncated=5", "passing_errors=5"] {
            assert!(text.parse::<NodeOptions>().is_err(), "{text}");
        }
        let all = "transient=200".parse::<NodeOptions>().unwrap().faults.unwrap().script;
        assert_eq!(all.iter().map(|rule| rule.per_mille).sum::<u64>(), 190);
        assert_eq!("".parse::<NodeOptions>().unwrap().faults.unwrap().script, []);
    }
}
