//! A client of an Ethereum node (JSON-RPC over HTTP): blocks, logs, senders and calls of contracts.
//!
//! Every answer is checked, because nodes and the proxies in front of them give answers that are successful and wrong.
//! A wrong answer is asked for again, and is `CorruptData` if it stays wrong. The URL is a secret: it appears in no
//! error, log or `Debug` output.

mod blocks;
mod calls;
mod hex;
mod log;
mod log_checks;
mod logs;
mod messages;
mod receipts;
mod response;
mod rpc;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use super::endpoint::{Endpoint, EndpointSettings, KeyHeader};
use super::http::{UrlSecrets, secret_url};
use super::{RateLimit, RetryPolicy, Secret, Traffic};
use crate::config::SourceLimits;
use crate::domain::{Address, FINAL_DEPTH};
use crate::error::{Error, Kind, Result};
pub use blocks::Header;
use calls::MulticallState;
pub use calls::{Call, CallOutcome};
pub use log::{Log, LogBatch};
use logs::RangeSize;
pub use messages::{Expected, Meaning, messages};
use response::wrong;
use rpc::{Parse, Request, Rpc};

/// The default rate limit, in HTTP requests per second. Providers count every request of a batch, at 25 to 500 a second.
pub const REQUESTS_PER_SECOND: u32 = 20;

/// The default number of concurrent requests. It hides the latency of a node, and parses few large answers at a time.
pub const CONCURRENCY: usize = 4;

/// The default timeout of a request. Nodes end a search for logs after 10 to 60 seconds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum length of a response body, in bytes: about 40,000 logs. A longer answer is asked for in parts.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// The default number of requests in a batch, which most providers accept.
pub const BATCH: usize = 100;

/// The number of newest blocks that a backend may lack for a while: full nodes keep the states of as many.
const NEAR_HEAD: u64 = 2 * FINAL_DEPTH;

/// The settings of an [`EthereumClient`].
#[derive(Debug, Clone)]
pub struct EthereumSettings {
    /// The URL, which is a secret as a whole. https, or http for a loopback address.
    pub url: Secret,
    /// The chain that the node must serve.
    pub chain_id: u64,
    /// The address of Multicall3. Without it, calls are sent in JSON-RPC batches.
    pub multicall: Option<Address>,
    /// The rate limit.
    pub rate: RateLimit,
    /// The maximum number of concurrent requests, of all calls of the client together.
    pub concurrency: usize,
    /// The retry policy for transient errors and wrong answers.
    pub retry: RetryPolicy,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The maximum length of a response body, in bytes.
    pub max_body_bytes: usize,
    /// How much the source may send for the result of one call of the client.
    pub limits: SourceLimits,
    /// The maximum number of requests in a JSON-RPC batch.
    pub batch: usize,
}

impl EthereumSettings {
    /// Creates the default settings for a URL and a chain.
    #[must_use]
    pub fn new(url: Secret, chain_id: u64) -> Self {
        EthereumSettings {
            url,
            chain_id,
            multicall: None,
            rate: RateLimit::per_second(REQUESTS_PER_SECOND),
            concurrency: CONCURRENCY,
            retry: RetryPolicy::REQUEST,
            timeout: TIMEOUT,
            max_body_bytes: MAX_BODY_BYTES,
            limits: SourceLimits::default(),
            batch: BATCH,
        }
    }
}

/// A client of an Ethereum node. All calls share its connections and limits, and what it learned about the limits of
/// the node.
///
/// The errors of all calls are, after all retries: `Throttled`, `SourceUnavailable`, `NotReady` (a block near the head
/// that the node does not have yet). Without retries: `HistoryPruned` (an old block or state that the node no longer
/// has; a missing block is asked for several times), `QuotaExceeded`, `BadCredentials`, `SourceRejected` (a request
/// that the node does not accept), `CorruptData` (an answer that exceeds a limit or contains a part of the URL, or that
/// stays wrong), `BadInput` (the node serves another chain).
pub struct EthereumClient {
    rpc: Rpc,
    chain_id: u64,
    /// Set once the node's chain id is known to be right.
    checked: OnceCell<()>,
    limits: SourceLimits,
    /// The newest block that the node has named.
    newest: AtomicU64,
    /// The newest block that the node has named as final; 0 if it has named none.
    newest_final: AtomicU64,
    range: RangeSize,
    multicall: Option<MulticallState>,
    /// Whether the node lacks `eth_getBlockReceipts`.
    lacks_block_receipts: AtomicBool,
}

impl fmt::Debug for EthereumClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthereumClient").field("chain_id", &self.chain_id).finish_non_exhaustive()
    }
}

impl EthereumClient {
    /// Creates a client.
    ///
    /// # Errors
    /// `BadInput` for an invalid URL, one that uses http to another machine, or a rate, concurrency or batch of zero.
    pub fn new(settings: EthereumSettings) -> Result<Self> {
        if settings.batch == 0 {
            return Err(Error::bad_input("a batch of requests to the Ethereum node needs at least one"));
        }
        let url = secret_url("the Ethereum node", &settings.url)?;
        let endpoint = Endpoint::new(EndpointSettings {
            source: "Ethereum node",
            base: &url,
            secrets: UrlSecrets::of(&url),
            no_key_hint: "check the URL of the node, which contains the key of most providers",
            // Never sent: there are no keys.
            header: KeyHeader { name: AUTHORIZATION, prefix: "" },
            keys: Vec::new(),
            rate: settings.rate,
            concurrency: settings.concurrency,
            retry: settings.retry,
            timeout: settings.timeout,
            max_body_bytes: settings.max_body_bytes,
        })?;
        let rpc = Rpc { url, endpoint, concurrency: settings.concurrency, batch: AtomicUsize::new(settings.batch) };
        Ok(EthereumClient {
            rpc,
            chain_id: settings.chain_id,
            checked: OnceCell::new(),
            limits: settings.limits,
            newest: AtomicU64::new(0),
            newest_final: AtomicU64::new(0),
            range: RangeSize::new(),
            multicall: settings.multicall.map(MulticallState::new),
            lacks_block_receipts: AtomicBool::new(false),
        })
    }

    /// Sends one request, once the chain id is checked. Errors are final.
    async fn one<T: Send>(&self, request: &Request, parse: &impl Parse<T>, traffic: &Traffic) -> Result<T> {
        self.require_chain(traffic).await?;
        match self.rpc.one(request, parse, traffic).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.settle(error, traffic).await),
        }
    }

    /// Sends requests in batches, once the chain id is checked. Errors of the whole are final.
    async fn all<T: Send>(
        &self,
        requests: &[Request],
        parse: &impl Parse<T>,
        traffic: &Traffic,
    ) -> Result<Vec<Result<T>>> {
        self.require_chain(traffic).await?;
        match self.rpc.all(requests, parse, traffic).await {
            Ok(answers) => Ok(answers),
            Err(error) => Err(self.settle(error, traffic).await),
        }
    }

    /// Checks that the node serves the configured chain, unless that has been checked. Every other request does it first.
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn require_chain(&self, traffic: &Traffic) -> Result<()> {
        let check = || async {
            let request = Request::new("eth_chainId", json!([]), Expected::Newest);
            let chain_id = self.rpc.one(&request, &|_, result: &RawValue| parse_quantity(result), traffic).await?;
            if chain_id == self.chain_id {
                return Ok(());
            }
            Err(Error::bad_input("the Ethereum node serves another chain than the configured one")
                .with("chain_id", chain_id)
                .with("configured", self.chain_id)
                .with_hint("use the URL of a node of the configured chain"))
        };
        match self.checked.get_or_try_init(check).await {
            Ok(()) => Ok(()),
            Err(error) => Err(final_error(error)),
        }
    }

    /// Decides what an error means after all retries: a block that is missing is pruned unless it is near the head, and
    /// an answer that stays wrong is corrupt.
    async fn settle(&self, error: Error, traffic: &Traffic) -> Error {
        let is_old = match Meaning::of(&error) {
            Some(Meaning::Missing(Expected::Past)) => true,
            Some(Meaning::Missing(Expected::Block(block))) => {
                self.newest_block(traffic).await.is_some_and(|newest| block.saturating_add(NEAR_HEAD) < newest)
            }
            _ => false,
        };
        if is_old { Error::new(Kind::HistoryPruned, error.details()) } else { final_error(error) }
    }

    /// Returns the newest block that the node has named, and asks for it if it has named none.
    async fn newest_block(&self, traffic: &Traffic) -> Option<u64> {
        let known = self.newest.load(Ordering::Relaxed);
        if known > 0 {
            return Some(known);
        }
        let request = Request::new("eth_blockNumber", json!([]), Expected::Newest);
        // Without an answer, the error that is to be explained stays as it is.
        let newest = self.rpc.one(&request, &|_, result: &RawValue| parse_quantity(result), traffic).await.ok()?;
        self.newest.fetch_max(newest, Ordering::Relaxed);
        Some(newest)
    }
}

/// Returns the error after all retries: an answer that stays wrong is corrupt.
fn final_error(error: Error) -> Error {
    match Meaning::of(&error) {
        Some(Meaning::Wrong) => Error::corrupt(error.details())
            .with_hint("the node's answers contradict themselves: use another node, or report it to its provider"),
        _ => error,
    }
}

fn parse_quantity(result: &RawValue) -> Result<u64> {
    let text: Option<&str> = serde_json::from_str(result.get()).ok();
    text.and_then(hex::quantity).ok_or_else(|| wrong("the answer of the node is not a number"))
}

/// Returns the error for data that the node does not have.
fn missing(what: &str) -> Error {
    Error::new(Kind::NotReady, format!("the node does not have the {what}"))
        .with_source(Meaning::Missing(Expected::Newest))
}
