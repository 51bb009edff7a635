//! The context that a step works in.

use std::sync::Arc;
use std::time::Duration;

use super::{Deadline, NoProgress, Progress};
use crate::catalog::Registry;
use crate::config::Config;
use crate::domain::Day;
use crate::error::{Error, Result};
use crate::executions::Executions;
use crate::feeds::LogFeed;
use crate::lake::{Lake, WorkUnit};
use crate::sources::ethereum::{EthereumClient, EthereumSettings};
use crate::sources::graph::{GraphClient, GraphSettings};
use crate::sources::transpose::{TransposeClient, TransposeSettings};
use crate::sources::{RateLimit, Traffic};
use crate::tables::{self, DailyBlock};

/// Everything that a step works with. Built once per process by [`Context::new`]; a step keeps nothing between two
/// calls.
#[derive(Debug, Clone)]
pub struct Context {
    /// The lake.
    pub lake: Lake,
    /// The catalog of the environment.
    pub registry: Registry,
    /// The configuration.
    pub config: Arc<Config>,
    /// The client of The Graph.
    pub graph: Arc<GraphClient>,
    /// The client of Transpose.
    pub transpose: Arc<TransposeClient>,
    /// The client of an Ethereum node, if the lake is filled from one.
    pub node: Option<Arc<EthereumClient>>,
    /// Where logs come from, if not from the node.
    pub feed: Option<Arc<dyn LogFeed>>,
    /// Counts requests and retries of the units that are being processed.
    pub traffic: Arc<Traffic>,
    /// Today (UTC), the default of every `as_of`.
    pub today: Day,
    /// When the step has to end, if it has a time limit.
    pub deadline: Option<Deadline>,
    /// How long publishing a day again waits for queries that read the folder of the day.
    pub wait_for_readers: Duration,
    /// Receives the progress of the step.
    pub progress: Arc<dyn Progress>,
    /// Tells which executions of the state machine have ended, if there is one.
    pub executions: Option<Arc<dyn Executions>>,
}

/// The clients of the sources.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The client of The Graph.
    pub graph: Arc<GraphClient>,
    /// The client of Transpose.
    pub transpose: Arc<TransposeClient>,
    /// The client of an Ethereum node, if there is one.
    pub node: Option<Arc<EthereumClient>>,
    /// Where logs come from, if not from the node.
    pub feed: Option<Arc<dyn LogFeed>>,
}

impl Clients {
    /// Creates the clients with the rates, concurrency and limits of the configuration. `shared_by` is the number of
    /// processes that share the rates, including this one.
    ///
    /// # Errors
    /// `BadInput` for an invalid URL.
    pub fn new(
        config: &Config,
        mut graph: GraphSettings,
        mut transpose: TransposeSettings,
        shared_by: u32,
    ) -> Result<Self> {
        graph.rate = RateLimit { per_second: config.requests_per_second.the_graph, shared_by };
        graph.concurrency = config.concurrency.the_graph as usize;
        transpose.rate = RateLimit { per_second: config.requests_per_second.transpose, shared_by };
        transpose.concurrency = config.concurrency.transpose as usize;
        (graph.limits, transpose.limits) = (config.source_limits, config.source_limits);
        graph.other_keys.clone_from(&transpose.keys);
        transpose.other_keys.clone_from(&graph.keys);
        let (graph, transpose) = (Arc::new(GraphClient::new(graph)?), Arc::new(TransposeClient::new(transpose)?));
        Ok(Clients { graph, transpose, node: None, feed: None })
    }

    /// Adds the client of an Ethereum node, with the rate, concurrency and limits of the configuration.
    ///
    /// # Errors
    /// `BadInput` for an invalid URL.
    pub fn with_node(mut self, config: &Config, mut node: EthereumSettings, shared_by: u32) -> Result<Self> {
        node.rate = RateLimit { per_second: config.requests_per_second.ethereum, shared_by };
        node.concurrency = config.concurrency.ethereum as usize;
        node.limits = config.source_limits;
        node.multicall = config.chain.multicall;
        self.node = Some(Arc::new(EthereumClient::new(node)?));
        Ok(self)
    }
}

impl Context {
    /// Creates a context without a deadline, progress or executions. Set these fields where they are needed.
    #[must_use]
    pub fn new(lake: Lake, registry: Registry, config: Arc<Config>, clients: Clients, today: Day) -> Self {
        Context {
            lake,
            registry,
            wait_for_readers: Duration::from_secs(config.publish.wait_for_readers_seconds),
            config,
            graph: clients.graph,
            transpose: clients.transpose,
            node: clients.node,
            feed: clients.feed,
            traffic: Arc::default(),
            today,
            deadline: None,
            progress: Arc::new(NoProgress),
            executions: None,
        }
    }

    /// Returns the first block of a day, as extract-daily-blocks found it.
    ///
    /// # Errors
    /// `NotReady` if it is not known yet, and the errors of the lake.
    pub async fn first_block(&self, day: Day) -> Result<DailyBlock> {
        let rows: Vec<DailyBlock> = self.lake.require(&tables::DAILY_BLOCKS, &WorkUnit::Day(day)).await?;
        rows.into_iter().next().ok_or_else(|| Error::corrupt("the object of a day holds no block").with("day", day))
    }
}
