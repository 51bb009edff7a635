//! Fixtures of the tests of both APIs.

use std::sync::Arc;

use defi_shared::config::Schema;
use defi_simulator::recording::{Block, Recording, Snapshots};
use defi_simulator::sample::{SampleOptions, chain};
use defi_simulator::server::{Deployment, SchemaVersion, Server, ServerOptions};
use serde_json::Value;

pub const AAVE: &str = "SubgraphOfAave";
pub const COMPOUND: &str = "SubgraphOfCompound";

pub fn deployments() -> Vec<Deployment> {
    let deployment = |protocol: &str, subgraph_id: &str, schema| Deployment {
        protocol: protocol.to_owned(),
        subgraph_id: subgraph_id.to_owned(),
        schema,
        history: None,
    };
    vec![
        deployment("aave-v2-eth", AAVE, SchemaVersion::V3_1_0),
        deployment("compound-v2-eth", COMPOUND, SchemaVersion::V2_0_1),
    ]
}

pub fn sample() -> Arc<Recording> {
    Arc::new(
        chain(&SampleOptions { wallets: 150, days: 10, seed: 3, ..SampleOptions::default() }, Schema::Messari).unwrap(),
    )
}

/// Returns a recording with one protocol, two blocks, and the given positions at the second block.
pub fn tiny(protocol: &str, positions: Vec<Value>) -> Arc<Recording> {
    let mut recorded = Snapshots::new();
    let rows = positions.into_iter().map(Arc::new).collect();
    recorded.entry(protocol.to_owned()).or_default().insert(1100, rows);
    Arc::new(Recording {
        name: "tiny".to_owned(),
        protocols: vec![protocol.to_owned()],
        schemas: Default::default(),
        first_day: "2023-01-01".to_owned(),
        last_day: "2023-01-02".to_owned(),
        blocks: vec![
            Block { number: 1000, timestamp: 1_672_531_211 },
            Block { number: 1100, timestamp: 1_672_617_600 },
        ],
        events: vec![],
        markets: Snapshots::new(),
        positions: recorded,
        left_out: vec![],
    })
}

/// Returns a new client. Each request has its own, so that no test waits for the connection of another.
pub fn client() -> reqwest::Client {
    // It is installed once per process, and another test may have done so already.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub async fn start(recording: &Arc<Recording>) -> Server {
    let options = ServerOptions { deployments: deployments(), block_details: true, ..ServerOptions::default() };
    Server::start(Arc::clone(recording), options).await.unwrap()
}
