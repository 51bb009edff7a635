//! Clients of the data sources: lending subgraphs on The Graph, Transpose's SQL API, and an Ethereum node.
//!
//! The clients handle paging, a rate limit per API key and retries, and return rows with the field values exactly as
//! the source sent them ([`Text`]). This layer decides what is an error, and of which kind, but does not interpret
//! values. It does not depend on the lake or the tables.
//!
//! | module | contents |
//! |---|---|
//! | [`ethereum`] | blocks, logs, senders and calls of contracts, from an Ethereum node |
//! | [`graph`] | snapshots of markets and positions at a given block |
//! | [`transpose`] | lending events in a time range, and blocks |
//! | [`retry`] | the only place that retries requests |
//! | `limits` | rotation of API keys, each with its own rate limit |
//! | `volume` | limits on the rows and bytes of a snapshot or of a day's events |
//! | `redact` | finds API keys in responses |
//! | [`traffic`] | counters of requests, retries, bytes and pages |
//! | `http`, `endpoint` | JSON POST requests with limits on time and size; logic shared by the clients |

mod endpoint;
pub mod ethereum;
pub mod graph;
mod http;
mod limits;
mod redact;
pub mod retry;
mod text;
pub mod traffic;
pub mod transpose;
mod volume;

pub use http::{is_on_this_machine, origin};
pub use limits::{RateLimit, Secret};
pub use retry::RetryPolicy;
pub use text::Text;
pub use traffic::{Traffic, TrafficReport};

/// A block of the chain, as identified by a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The block number.
    pub number: u64,
    /// Seconds since 1970-01-01T00:00:00Z. Always present from Transpose; older graph-node versions omit it for a given
    /// block.
    pub timestamp: Option<i64>,
    /// The block hash, as the source formats it. Transpose and older graph-node versions may omit it.
    pub hash: Option<std::sync::Arc<str>>,
}
