//! Utilities for tests of steps: a temporary lake, functions that create valid rows, and a test server in place of the
//! sources.
//!
//! ```
//! use defi_shared::lake::WorkUnit;
//! use defi_shared::tables::{WALLET_LINKS, WalletLink};
//! use defi_shared::testing::{AAVE, TestLake, address, january, link};
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let test_lake = TestLake::new(&[AAVE], january(4))?;
//! let (unit, rows) = (WorkUnit::Day(january(1)), vec![link(address(1), address(2), january(1).start())]);
//! test_lake.put(&WALLET_LINKS, &unit, rows.clone()).await?;
//! assert_eq!(test_lake.rows::<WalletLink>(&WALLET_LINKS, &unit).await?, rows);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aws;
mod clock;
pub mod contract;
mod faulty;
mod rows;
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

pub use aws::{AwsCall, AwsCalls, SimulatedAws, SimulatedGlue, SimulatedS3};
pub use clock::SimulatedClock;
pub use faulty::{FaultyStore, Operation};
pub use rows::*;
pub use server::{Request, Server, block_at_its_number, graph_error, results, snapshot};

use crate::catalog;
use crate::config::{Config, OraclePrices, PerSource, Protocol, Schema};
use crate::domain::Day;
use crate::error::{Error, Kind, Result};
use crate::lake::{FileMetadata, FolderStore, Lake, WorkUnit, parquet};
use crate::sources::graph::GraphSettings;
use crate::sources::transpose::TransposeSettings;
use crate::sources::{RetryPolicy, Secret};
use crate::step::{Clients, Context};
use crate::tables::{QuarantinedRow, Row, Table};

/// A protocol.
pub const AAVE: &str = "aave-v2-eth";

/// Another protocol, which sorts after [`AAVE`].
pub const COMPOUND: &str = "compound-v2-eth";

/// The API key that the clients of a [`TestLake`] send.
pub const KEY: &str = "the-key";

/// A URL without a server (the discard port), so that an unexpected request fails.
const CLOSED: &str = "http://127.0.0.1:9";

/// A rate limit that no test reaches.
const RATE: u32 = 100_000;

/// Returns the n-th day of January 2023. Higher numbers continue: `january(32)` is 1 February.
#[must_use]
pub fn january(day: i32) -> Day {
    // 1 January 2023 is day 19,358 since 1970.
    Day::from_epoch_days(19_357 + day)
}

/// Returns the kind of a result's error, for assertions. `None` if it is `Ok`.
pub fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

/// Returns the unit of a protocol and day.
#[must_use]
pub fn unit(protocol: &str, day: Day) -> WorkUnit {
    WorkUnit::ProtocolDay(day, protocol.into())
}

/// Returns the built-in configuration with the given protocols, whose first day is 1 January 2023, and number of
/// shards.
///
/// # Errors
/// The built-in configuration is invalid.
pub fn config(protocols: &[&str], shards: u32) -> Result<Config> {
    let protocol = |name: &&str| Protocol {
        name: (*name).to_owned(),
        subgraph_id: Some(subgraph_id(name)),
        schema: Schema::Messari,
        schema_version: Some("3.1.0".to_owned()),
        pool: None,
        prices: OraclePrices::Eth,
        first_block: Some(1),
        first_day: Some(january(1)),
        kind: None,
        chain: None,
    };
    let per_second = PerSource { the_graph: RATE, transpose: RATE, ethereum: RATE };
    let protocols = protocols.iter().map(protocol).collect();
    Ok(Config { protocols, shards, requests_per_second: per_second, ..Config::built_in()? })
}

/// Returns the id of a protocol's subgraph: the letters and digits of its name.
#[must_use]
pub fn subgraph_id(protocol: &str) -> String {
    protocol.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// A lake in a temporary folder, and the context of a step that uses it. The folder is deleted when this value is
/// dropped.
#[derive(Debug)]
pub struct TestLake {
    folder: TempDir,
    /// The context. Tests may change it.
    pub context: Context,
}

impl TestLake {
    /// Creates an empty lake with one shard, and sources that don't respond.
    ///
    /// # Errors
    /// The temporary folder could not be created.
    pub fn new(protocols: &[&str], today: Day) -> Result<Self> {
        let folder = TempDir::new();
        let folder = folder.map_err(|cause| Error::internal("cannot create a temporary folder").with_source(cause))?;
        let lake = Lake::new(FolderStore::new(folder.path()));
        let (registry, mut config) = (catalog::registry_in_lake(&lake, "dev"), config(protocols, 1)?);
        config.publish.wait_for_readers_seconds = 0;
        let clients = clients(&config, CLOSED)?;
        let context = Context::new(lake, registry, Arc::new(config), clients, today);
        Ok(TestLake { folder, context })
    }

    /// Sets the number of shards.
    #[must_use]
    pub fn with_shards(mut self, shards: u32) -> Self {
        Arc::make_mut(&mut self.context.config).shards = shards;
        self
    }

    /// Lets a protocol have the schema of Aave's own subgraphs, with the pool `0x0b0b…0b`.
    #[must_use]
    pub fn with_aaves_schema(mut self, protocol: &str) -> Self {
        let protocols = &mut Arc::make_mut(&mut self.context.config).protocols;
        for protocol in protocols.iter_mut().filter(|configured| configured.name == protocol) {
            (protocol.schema, protocol.pool) = (Schema::Aave, Some(address(0x0b)));
        }
        self
    }

    /// Uses a test server as both sources.
    ///
    /// # Errors
    /// The URL of the server is invalid.
    pub fn with_sources(mut self, server: &Server) -> Result<Self> {
        let Clients { graph, transpose, .. } = clients(&self.context.config, server.url())?;
        (self.context.graph, self.context.transpose) = (graph, transpose);
        Ok(self)
    }

    /// Returns a clone of the context, to pass to a step.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// Returns the folder of the lake.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the rows of a unit.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn put<R: Row>(&self, table: &Table, unit: &WorkUnit, rows: Vec<R>) -> Result<()> {
        self.put_with_metadata(table, unit, rows, []).await
    }

    /// Writes the rows of a unit with [metadata](FileMetadata).
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn put_with_metadata<R: Row, const N: usize>(
        &self,
        table: &Table,
        unit: &WorkUnit,
        rows: Vec<R>,
        metadata: [(&str, u64); N],
    ) -> Result<()> {
        let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
        self.context.commit(table, unit, rows, metadata.collect()).await.map(drop)
    }

    /// Reads the rows of a unit that must exist.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn rows<R: Row>(&self, table: &Table, unit: &WorkUnit) -> Result<Vec<R>> {
        self.context.lake.require(table, unit).await
    }

    /// Reads the [metadata](FileMetadata) of a unit. Returns an empty map if the unit is missing.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn file_metadata(&self, table: &Table, unit: &WorkUnit) -> Result<FileMetadata> {
        Ok(self.context.lake.file_metadata(table, unit).await?.map(|(metadata, _)| metadata).unwrap_or_default())
    }

    /// Reads the row number and reason of each row of a unit that is in quarantine.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn quarantined(&self, table: &Table, unit: &WorkUnit) -> Result<Vec<(i64, String)>> {
        let key = unit.key(table).replacen(&table.prefix(), &format!("quarantine/{}", table.name), 1);
        let Some(bytes) = self.context.lake.store().get(&key).await? else { return Ok(Vec::new()) };
        let rows: Vec<QuarantinedRow> = parquet::decode(bytes)?;
        Ok(rows.into_iter().map(|row| (row.row_number, row.reason)).collect())
    }

    /// Reads all objects with a prefix, to compare the contents of lakes.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn objects(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let store = self.context.lake.store();
        let mut objects = BTreeMap::new();
        for entry in store.list(prefix).await? {
            let bytes = store.get(&entry.key).await?.unwrap_or_default();
            objects.insert(entry.key, bytes);
        }
        Ok(objects)
    }
}

fn clients(config: &Config, url: &str) -> Result<Clients> {
    let keys = || vec![Secret::new(KEY)];
    let graph = GraphSettings { retry: RetryPolicy::LOOPBACK, ..GraphSettings::new(url, keys()) };
    let transpose = TransposeSettings { retry: RetryPolicy::LOOPBACK, ..TransposeSettings::new(url, keys()) };
    Clients::new(config, graph, transpose, 1)
}
