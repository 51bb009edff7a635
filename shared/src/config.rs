//! The configuration: protocols, rates and the limits of the checks. A deployment is configuration, never code.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::Day;
use crate::error::{Error, Result};

/// What is built in; see `shared/config.toml` for what each entry means.
const BUILT_IN: &str = include_str!("../config.toml");

/// A wallet's protocols are kept as bits of one word.
const MAX_PROTOCOLS: usize = 64;

/// A wallet's shard is found from the first two bytes of its address.
const MAX_SHARDS: u32 = 65_536;

/// A lending protocol on one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// `{protocol_name}-{contract_version}-eth` in Transpose's terms, such as `aave-v2-eth`.
    pub name: String,
    /// Id of its subgraph.
    pub subgraph_id: String,
    /// Version of the schema that the subgraph has.
    pub schema_version: String,
    /// The first block that the subgraph has indexed.
    pub first_block: u64,
    /// The first day that a run extracts, unless it is told otherwise.
    pub first_day: Day,
}

impl Protocol {
    /// Transpose's `protocol_name` and `contract_version`.
    ///
    /// # Errors
    /// `BadInput` for a name of another form.
    pub fn transpose_names(&self) -> Result<(&str, &str)> {
        let names = self.name.strip_suffix("-eth").and_then(|name| name.rsplit_once('-'));
        names.filter(|(name, version)| !name.is_empty() && !version.is_empty()).ok_or_else(|| {
            Error::bad_input(format!("the protocol {:?} is not named {{name}}-{{version}}-eth", self.name))
                .next("correct the name in the configuration")
        })
    }
}

/// Two numbers, one a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerSource {
    /// For The Graph.
    pub the_graph: u32,
    /// For Transpose.
    pub transpose: u32,
}

/// A figure beyond `warn` is reported, one beyond `fail` keeps a set from being published.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest figure without a warning.
    pub warn: Option<f64>,
    /// Largest figure that passes.
    pub fail: Option<f64>,
}

/// The limits of check-features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Events without a price, of all events.
    pub unpriced_share: Limits,
    /// Bad rows, of all rows.
    pub quarantined_share: Limits,
    /// Supply positions whose flag is null, of all supply positions.
    pub null_is_collateral_share: Limits,
    /// Prices that jumped.
    pub price_jumps: Limits,
    /// Priced liquidations whose seized token can't be collateral, of all priced ones.
    pub odd_liquidation_share: Limits,
    /// Fewer priced liquidations than this are not judged.
    pub odd_liquidation_minimum: u64,
    /// How many times a feature's mean may lie above or below that of the set published before.
    pub mean_band: Limits,
    /// A price this many times above or below that of the day before is a jump.
    pub price_jump_factor: f64,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Number of shards that the wallets are split into.
    pub shards: u32,
    /// Requests a second that each API key may make.
    pub requests_per_second: PerSource,
    /// Requests under way at once.
    pub concurrency: PerSource,
    /// The known protocols.
    pub protocols: Vec<Protocol>,
    /// The limits of check-features.
    pub checks: Checks,
}

impl Config {
    /// The configuration that is built in.
    ///
    /// # Errors
    /// None but a defect of the build.
    pub fn built_in() -> Result<Self> {
        Config::parse(BUILT_IN)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// `BadInput` for a file that can't be read or says what it may not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|cause| {
            Error::bad_input("the configuration can't be read").with("path", path.display()).because(cause)
        })?;
        Config::parse(&text).map_err(|error| error.with("path", path.display()))
    }

    /// Reads a configuration from its text.
    ///
    /// # Errors
    /// `BadInput` for a text that is none, or says what it may not.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Config =
            toml::from_str(text).map_err(|cause| Error::bad_input("the configuration is wrong").because(cause))?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::bad_input(what).next("correct the configuration"));
        if !(1..=MAX_SHARDS).contains(&self.shards) {
            return wrong(format!("shards is {}, and must be from 1 to {MAX_SHARDS}", self.shards));
        }
        if self.protocols.is_empty() || self.protocols.len() > MAX_PROTOCOLS {
            return wrong(format!(
                "there are {} protocols, and must be from 1 to {MAX_PROTOCOLS}",
                self.protocols.len()
            ));
        }
        for rate in [self.requests_per_second, self.concurrency] {
            if rate.the_graph == 0 || rate.transpose == 0 {
                return wrong("a rate or a concurrency of 0 would never make a request".to_owned());
            }
        }
        let mut names: Vec<_> = self.protocols.iter().map(|protocol| &protocol.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return wrong(format!("the protocol {pair:?} is listed twice"));
        }
        self.protocols.iter().try_for_each(|protocol| protocol.transpose_names().map(drop))
    }

    /// A protocol by its name.
    ///
    /// # Errors
    /// `BadInput` for one that is not known.
    pub fn protocol(&self, name: &str) -> Result<&Protocol> {
        self.protocols.iter().find(|protocol| protocol.name == name).ok_or_else(|| {
            let known: Vec<_> = self.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
            Error::bad_input(format!("the protocol {name:?} is not known"))
                .next(format!("name one of {}, or add it to the configuration", known.join(", ")))
        })
    }

    /// The names of the known protocols, in order.
    #[must_use]
    pub fn protocol_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The first day of each known protocol.
    #[must_use]
    pub fn first_days(&self) -> BTreeMap<String, Day> {
        self.protocols.iter().map(|protocol| (protocol.name.clone(), protocol.first_day)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_configuration_is_valid() {
        let config = Config::built_in().unwrap();
        assert_eq!(config.protocol_names(), ["aave-v2-eth", "compound-v2-eth"]);
        assert_eq!(config.protocol("aave-v2-eth").unwrap().transpose_names().unwrap(), ("aave", "v2"));
        assert!(config.protocol("aave-v9-eth").is_err());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (old, new) in [
            ("shards = 4", "shards = 0"),
            ("shards = 4", "shard = 4"),
            ("transpose = 5", "transpose = 0"),
            ("\"aave-v2-eth\"", "\"aave\""),
            ("\"aave-v2-eth\"", "\"compound-v2-eth\""),
            ("2019-05-17", "2019-05-32"),
        ] {
            assert!(BUILT_IN.contains(old));
            assert_eq!(Config::parse(&BUILT_IN.replace(old, new)).unwrap_err().kind(), crate::Kind::BadInput, "{new}");
        }
    }
}
