//! The configuration: protocols, request rates and limits of the checks. Adding a deployment of a protocol requires
//! only configuration, no code.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::{Address, Day};
use crate::error::{Error, Result};
use crate::pipeline::DataSource;

/// The built-in configuration. Its comments describe each entry.
const BUILT_IN: &str = include_str!("../config.toml");

/// The maximum number of protocols: a wallet's protocols are stored as the bits of a `u64`.
const MAX_PROTOCOLS: usize = 64;

/// The maximum number of shards: a wallet's shard is computed from the first two bytes of its address.
const MAX_SHARDS: u32 = 65_536;

/// A lending protocol on one chain. The APIs need `subgraph_id`, `schema_version`, `first_block` and `first_day`; a node
/// needs `kind` and `chain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Name, such as `aave-v2-eth`: `{protocol_name}-{contract_version}-eth`, with these two columns of Transpose.
    pub name: String,
    /// Id of the subgraph.
    pub subgraph_id: Option<String>,
    /// Schema of the subgraph.
    #[serde(default)]
    pub schema: Schema,
    /// Version of Messari's schema.
    pub schema_version: Option<String>,
    /// In Aave's schema, the pool: the address of its addresses provider.
    pub pool: Option<Address>,
    /// In Aave's schema, the unit of the oracle's prices.
    #[serde(default)]
    pub prices: OraclePrices,
    /// The first block that the subgraph indexes.
    pub first_block: Option<u64>,
    /// The first day that a run extracts by default.
    pub first_day: Option<Day>,
    /// The kind of its contracts.
    pub kind: Option<ProtocolKind>,
    /// Where its contracts are.
    pub chain: Option<ProtocolContracts>,
}

/// The schema of a subgraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// Messari's standard schema of lending protocols.
    #[default]
    Messari,
    /// That of Aave's own subgraphs.
    Aave,
}

impl Schema {
    /// Returns the name, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Schema::Messari => "messari",
            Schema::Aave => "aave",
        }
    }
}

/// The unit of the prices in the oracle of an Aave pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OraclePrices {
    /// Wei of ETH: Aave v2 on Ethereum.
    #[default]
    Eth,
    /// US dollars with 8 decimals: Aave v3.
    Usd,
}

/// The kind of a protocol's contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolKind {
    /// Aave v2.
    AaveV2,
    /// Compound v2.
    CompoundV2,
}

/// Where a protocol's contracts are: one address from which the others are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolContracts {
    /// Aave: the addresses provider.
    pub addresses_provider: Option<Address>,
    /// Compound: the Comptroller.
    pub comptroller: Option<Address>,
    /// The block in which the first of the contracts was created.
    pub first_block: u64,
    /// The day of that block.
    pub first_day: Day,
}

/// The address from which the other contracts of a protocol are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Aave v2: the addresses provider.
    AaveV2 {
        /// Its address.
        addresses_provider: Address,
    },
    /// Compound v2: the Comptroller.
    CompoundV2 {
        /// Its address.
        comptroller: Address,
    },
}

/// The chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// The id that the node must have: 1 for Ethereum's mainnet.
    #[serde(default = "Chain::mainnet")]
    pub chain_id: u64,
    /// The token whose price is the price of ETH, beside native ETH itself.
    pub wrapped_ether: Address,
    /// Multicall3, with which many calls are one request. Without it, requests are sent in batches.
    pub multicall: Option<Address>,
}

impl Chain {
    fn mainnet() -> u64 {
        1
    }
}

impl Protocol {
    /// Returns the id of the subgraph.
    ///
    /// # Errors
    /// `BadInput` if the configuration has none.
    pub fn subgraph(&self) -> Result<&str> {
        self.subgraph_id.as_deref().ok_or_else(|| self.missing("subgraph_id"))
    }

    /// Returns the pool of Aave's schema.
    ///
    /// # Errors
    /// `BadInput` if the configuration has none.
    pub fn pool(&self) -> Result<Address> {
        self.pool.ok_or_else(|| self.missing("pool"))
    }

    /// Returns whether the subgraph may list the collaterals of an account: Messari's schema does from version 3 on.
    #[must_use]
    pub fn lists_collaterals(&self) -> bool {
        let version = self.schema_version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        self.schema == Schema::Messari && version.is_none_or(|version| version >= 3)
    }

    /// Returns the first day.
    ///
    /// # Errors
    /// `BadInput` if the configuration has none.
    pub fn first_day(&self) -> Result<Day> {
        self.first_day.ok_or_else(|| self.missing("first_day"))
    }

    /// Returns where the contracts are.
    ///
    /// # Errors
    /// `BadInput` if the configuration does not have it.
    pub fn contracts(&self) -> Result<ProtocolContracts> {
        self.chain.ok_or_else(|| self.missing("chain"))
    }

    /// Returns the address from which the contracts are found.
    ///
    /// # Errors
    /// `BadInput` if the configuration does not have it.
    pub fn root(&self) -> Result<Root> {
        let contracts = self.contracts()?;
        match self.kind.ok_or_else(|| self.missing("kind"))? {
            ProtocolKind::AaveV2 => {
                let address = contracts.addresses_provider;
                let addresses_provider = address.ok_or_else(|| self.missing("chain.addresses_provider"))?;
                Ok(Root::AaveV2 { addresses_provider })
            }
            ProtocolKind::CompoundV2 => {
                let comptroller = contracts.comptroller.ok_or_else(|| self.missing("chain.comptroller"))?;
                Ok(Root::CompoundV2 { comptroller })
            }
        }
    }

    fn missing(&self, key: &str) -> Error {
        Error::bad_input(format!("the protocol {} has no {key} in the configuration", self.name))
            .with_hint("add it: docs/adding-a-protocol.md lists what the APIs and what a node need")
    }

    /// Returns the protocol's `protocol_name` and `contract_version` in Transpose.
    ///
    /// # Errors
    /// `BadInput` if the name has another form.
    pub fn transpose_names(&self) -> Result<(&str, &str)> {
        transpose_names(&self.name).ok_or_else(|| {
            Error::bad_input(format!("the protocol name {:?} is not of the form {{name}}-{{version}}-eth", self.name))
                .with_hint("correct the name in the configuration: use letters, digits, - and _")
        })
    }
}

/// Returns the `protocol_name` and `contract_version` in Transpose of a protocol's name, or `None` if it is not of the
/// form `{name}-{version}-eth`. It is part of keys in the lake: other characters than letters, digits, `-` and `_` are
/// not allowed.
#[must_use]
pub fn transpose_names(protocol: &str) -> Option<(&str, &str)> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let (name, version) = protocol.strip_suffix("-eth")?.rsplit_once('-')?;
    (!name.is_empty() && !version.is_empty() && protocol.chars().all(is_allowed)).then_some((name, version))
}

/// A value for each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerSource {
    /// The value for The Graph.
    pub the_graph: u32,
    /// The value for Transpose.
    pub transpose: u32,
    /// The value for an Ethereum node.
    #[serde(default = "PerSource::of_a_node")]
    pub ethereum: u32,
}

impl PerSource {
    /// The default for a node, for configurations that were written before there was one.
    fn of_a_node() -> u32 {
        8
    }
}

/// The limits of a check: a value above `warn` gives a warning, and a value above `fail` prevents publication.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest value without a warning.
    pub warn: Option<f64>,
    /// Largest value that passes.
    pub fail: Option<f64>,
}

/// The limits of check-features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Share of events that have no price.
    pub unpriced_share: Limits,
    /// Share of rows that are quarantined.
    pub quarantined_share: Limits,
    /// Share of supply positions whose `isCollateral` flag is null.
    pub null_is_collateral_share: Limits,
    /// Number of price jumps.
    pub price_jumps: Limits,
    /// Share of priced liquidations whose seized token can't be collateral.
    pub odd_liquidation_share: Limits,
    /// Minimum number of priced liquidations for the check of `odd_liquidation_share`.
    pub odd_liquidation_minimum: u64,
    /// Factor by which a feature's mean is above or below its mean in the previously published set.
    pub mean_band: Limits,
    /// A price jumps if it is above or below the previous day's price by more than this factor.
    pub price_jump_factor: f64,
    /// Factor by which the ETH price of a protocol is above or below its previous price.
    #[serde(default = "Limits::of_eth_price_change")]
    pub eth_price_change: Limits,
    /// Share of a day's collateral that is in markets whose price jumped.
    #[serde(default = "Limits::of_jumped_collateral_share")]
    pub jumped_collateral_share: Limits,
    /// Change of the share of wallets that have 0 in a feature, since the previously published set.
    #[serde(default = "Limits::of_zero_share_change")]
    pub zero_share_change: Limits,
    /// Minimum number of wallets that had a feature before, for a failure if it is 0 for every wallet.
    #[serde(default = "twenty")]
    pub mean_minimum: u64,
    /// Minimum number of rows of a part of the lake for a share that can fail. Days with fewer are judged together.
    #[serde(default = "twenty")]
    pub share_minimum: u64,
    /// Difference between the positions in a market and the total that the market says of itself, relative to the total.
    #[serde(default = "Limits::of_market_total_deviation")]
    pub market_total_deviation: Limits,
    /// Share of the sums of balances by market and day that are not what the contracts, or Aave's own subgraph, say.
    #[serde(default = "Limits::of_differing_sums_share")]
    pub differing_sums_share: Limits,
    /// From Aave's own subgraph, difference between the debts of the users of a reserve and what the reserve says.
    #[serde(default = "Limits::of_reserve_debt_deviation")]
    pub reserve_debt_deviation: Limits,
    /// From Aave's own subgraph, what the supplies of the users of a reserve lack of what the reserve says.
    #[serde(default = "Limits::of_reserve_supply_shortfall")]
    pub reserve_supply_shortfall: Limits,
    /// From Aave's own subgraph, what the supplies of the users of a reserve are above what the reserve says.
    #[serde(default = "Limits::of_reserve_supply_excess")]
    pub reserve_supply_excess: Limits,
    /// From Aave's own subgraph, age of the price of a reserve that has users, in days.
    #[serde(default = "Limits::of_price_age_days")]
    pub price_age_days: Limits,
    /// Value of the positions or of the total, in US dollars, from which a market is judged.
    #[serde(default = "market_total_minimum_usd")]
    pub market_total_minimum_usd: f64,
}

/// The default value from which a market's total is judged.
fn market_total_minimum_usd() -> f64 {
    1000.0
}

/// The default of minimum numbers.
fn twenty() -> u64 {
    20
}

/// The defaults of limits that older configuration files do not have.
impl Limits {
    fn of_eth_price_change() -> Self {
        Limits { warn: Some(2.0), fail: Some(3.0) }
    }

    fn of_jumped_collateral_share() -> Self {
        Limits { warn: Some(0.01), fail: Some(0.1) }
    }

    fn of_market_total_deviation() -> Self {
        Limits { warn: Some(0.05), fail: Some(0.5) }
    }

    fn of_differing_sums_share() -> Self {
        Limits { warn: Some(0.0), fail: Some(0.05) }
    }

    fn of_reserve_debt_deviation() -> Self {
        Limits { warn: Some(0.001), fail: Some(0.05) }
    }

    fn of_reserve_supply_shortfall() -> Self {
        Limits { warn: Some(0.05), fail: Some(0.5) }
    }

    fn of_reserve_supply_excess() -> Self {
        Limits { warn: Some(0.05), fail: None }
    }

    fn of_price_age_days() -> Self {
        Limits { warn: Some(7.0), fail: None }
    }

    fn of_zero_share_change() -> Self {
        Limits { warn: Some(0.3), fail: None }
    }
}

/// How many states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct States {
    /// Number of the newest as-of days whose states are kept. The last state of each month is always kept.
    pub daily: usize,
}

impl Default for States {
    fn default() -> Self {
        States { daily: 35 }
    }
}

/// How features are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Seconds between pointing the catalog to the new set of a published day and rewriting the folder of the day.
    pub wait_for_readers_seconds: u64,
}

impl Default for Publish {
    fn default() -> Self {
        Publish { wait_for_readers_seconds: 30 }
    }
}

/// How much a source may send. The limits are far above what the sources have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceLimits {
    /// Number of rows of a snapshot.
    pub snapshot_rows: u64,
    /// Size of the responses of a snapshot, in bytes.
    pub snapshot_bytes: u64,
    /// Number of rows of a day's events of one protocol and category.
    pub event_rows: u64,
    /// Size of the responses with a day's events of one protocol and category, in bytes.
    pub event_bytes: u64,
    /// Size of one field of a row, in bytes.
    pub field_bytes: u64,
}

impl Default for SourceLimits {
    fn default() -> Self {
        SourceLimits {
            snapshot_rows: 4_000_000,
            snapshot_bytes: 2 << 30,
            event_rows: 1_000_000,
            event_bytes: 1 << 30,
            field_bytes: 256 << 10,
        }
    }
}

/// The configuration of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Number of shards into which the wallets are split.
    pub shards: u32,
    /// Rate limit of each API key, in requests per second.
    pub requests_per_second: PerSource,
    /// Maximum number of concurrent requests.
    pub concurrency: PerSource,
    /// How much a source may send.
    #[serde(default)]
    pub source_limits: SourceLimits,
    /// The chain.
    pub chain: Chain,
    /// The protocols.
    pub protocols: Vec<Protocol>,
    /// How many states are kept.
    #[serde(default)]
    pub states: States,
    /// How features are published.
    #[serde(default)]
    pub publish: Publish,
    /// The limits of check-features.
    pub checks: Checks,
    /// The source. Whoever opens it sets this: it is not in the file.
    #[serde(skip)]
    pub source: DataSource,
}

impl Config {
    /// Returns the built-in configuration.
    ///
    /// # Errors
    /// The built-in configuration is invalid, which is a defect.
    pub fn built_in() -> Result<Self> {
        Config::parse(BUILT_IN)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// `BadInput` if the file can't be read or is invalid.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| {
            Error::bad_input("can't read the configuration").with("path", path.display()).with_source(source)
        })?;
        Config::parse(&text).map_err(|error| error.with("path", path.display()))
    }

    /// Parses a configuration from TOML. A section that it leaves out is that of the built-in configuration.
    ///
    /// # Errors
    /// `BadInput` if the TOML or a value is invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |source| Error::bad_input("invalid configuration").with_source(source);
        let mut sections: toml::Table = toml::from_str(text).map_err(invalid)?;
        let built_in: toml::Table = toml::from_str(BUILT_IN).map_err(invalid)?;
        for (name, section) in built_in {
            sections.entry(name).or_insert(section);
        }
        let config: Config = sections.try_into().map_err(invalid)?;
        config.validate()?;
        Ok(config)
    }

    /// Chooses the chain as the source: the first day of each protocol is that of its contracts.
    ///
    /// # Errors
    /// `BadInput` for a protocol without contracts.
    pub fn choose_chain(&mut self) -> Result<()> {
        for protocol in &mut self.protocols {
            protocol.root()?;
            protocol.first_day = Some(protocol.contracts()?.first_day);
        }
        self.source = DataSource::Chain;
        Ok(())
    }

    fn validate(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::bad_input(message).with_hint("correct the configuration"));
        if !(1..=MAX_SHARDS).contains(&self.shards) {
            return invalid(format!("shards is {}, but must be from 1 to {MAX_SHARDS}", self.shards));
        }
        if self.protocols.is_empty() || self.protocols.len() > MAX_PROTOCOLS {
            return invalid(format!(
                "the number of protocols is {}, but must be from 1 to {MAX_PROTOCOLS}",
                self.protocols.len()
            ));
        }
        for limits in [self.requests_per_second, self.concurrency] {
            if limits.the_graph == 0 || limits.transpose == 0 || limits.ethereum == 0 {
                return invalid("requests_per_second and concurrency must not be 0".to_owned());
            }
        }
        let SourceLimits { snapshot_rows, snapshot_bytes, event_rows, event_bytes, field_bytes } = self.source_limits;
        if [snapshot_rows, snapshot_bytes, event_rows, event_bytes, field_bytes].contains(&0) {
            return invalid("the entries of source_limits must not be 0".to_owned());
        }
        let mut names: Vec<_> = self.protocols.iter().map(|protocol| &protocol.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return invalid(format!("the protocol {:?} is listed twice", pair[0]));
        }
        self.protocols.iter().try_for_each(|protocol| {
            if protocol.schema == Schema::Aave {
                protocol.pool()?;
            }
            protocol.transpose_names().map(drop)
        })
    }

    /// Returns the schema of the rows of a protocol from The Graph; `None` from a node.
    ///
    /// # Errors
    /// `BadInput` if the protocol is not configured.
    pub fn schema(&self, protocol: &str) -> Result<Option<Schema>> {
        let schema = self.protocol(protocol)?.schema;
        Ok((self.source == DataSource::Apis).then_some(schema))
    }

    /// Returns the protocol with the given name.
    ///
    /// # Errors
    /// `BadInput` if the protocol is not configured.
    pub fn protocol(&self, name: &str) -> Result<&Protocol> {
        self.protocols.iter().find(|protocol| protocol.name == name).ok_or_else(|| {
            let names: Vec<_> = self.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
            Error::bad_input(format!("unknown protocol {name:?}"))
                .with_hint(format!("use one of {}, or add the protocol to the configuration", names.join(", ")))
        })
    }

    /// Returns the names of the protocols, sorted.
    #[must_use]
    pub fn protocol_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the names of the protocols whose newest positions are extracted beside the features: of all, or of none from a
    /// node, which has those of any day.
    #[must_use]
    pub fn current_protocols(&self) -> Vec<&str> {
        match self.source {
            DataSource::Apis => self.protocol_names(),
            DataSource::Chain => Vec::new(),
        }
    }

    /// Returns the first day of each protocol, by name.
    ///
    /// # Errors
    /// `BadInput` for a protocol without a first day.
    pub fn first_days(&self) -> Result<BTreeMap<String, Day>> {
        self.protocols.iter().map(|protocol| Ok((protocol.name.clone(), protocol.first_day()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_configuration_is_valid() {
        let config = Config::built_in().unwrap();
        assert_eq!(config.protocol_names(), ["aave-v2-eth", "compound-v2-eth"]);
        assert_eq!(config.protocol("aave-v2-eth").unwrap().transpose_names().unwrap(), ("aave", "v2"));
        for invalid in ["aave-eth", "-v2-eth", "aave--eth", "aave-v2", "._aave-v2-eth", "a/b-v2-eth", "aave (1)-v2-eth"]
        {
            assert_eq!(transpose_names(invalid), None, "{invalid}");
        }
        assert!(config.protocol("aave-v9-eth").is_err());
    }

    #[test]
    fn source_limits_have_defaults() {
        let written = Config::built_in().unwrap().source_limits;
        assert_eq!(written, SourceLimits::default());
        let (start, rest) = BUILT_IN.split_once("[source_limits]").unwrap();
        let without = format!("{start}{}", &rest[rest.find("[[protocols]]").unwrap()..]);
        assert_eq!(Config::parse(&without).unwrap().source_limits, written);
        let one = Config::parse(&BUILT_IN.replace("event_rows = 1000000", "event_rows = 7")).unwrap().source_limits;
        assert_eq!(one, SourceLimits { event_rows: 7, ..written });
    }

    #[test]
    fn parse_rejects_invalid_values() {
        for (old, new) in [
            ("shards = 4", "shards = 0"),
            ("shards = 4", "shard = 4"),
            ("transpose = 1", "transpose = 0"),
            ("field_bytes = 262144", "field_bytes = 0"),
            ("schema = \"aave\"", "schema = \"uniswap\""),
            ("pool = ", "# pool = "),
            ("\"aave-v2-eth\"", "\"aave\""),
            ("\"aave-v2-eth\"", "\"compound-v2-eth\""),
            ("2019-05-17", "2019-05-32"),
        ] {
            assert!(BUILT_IN.contains(old));
            assert_eq!(Config::parse(&BUILT_IN.replace(old, new)).unwrap_err().kind(), crate::Kind::BadInput, "{new}");
        }
    }
}
