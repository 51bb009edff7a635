//! The two sources: lending subgraphs on The Graph, and Transpose's SQL over HTTP.
//!
//! A client pages, keeps to a rate per key, tries passing faults again, and hands over rows as the source said them
//! ([`Text`] fields). What is an error, and of which kind, is decided here; what a value means is not. This layer knows no
//! lake and no tables.
//!
//! | module | what it knows |
//! |---|---|
//! | [`graph`] | snapshots of markets and positions, pinned to a block |
//! | [`transpose`] | lending events of a time span, and blocks |
//! | [`retry`] | the one place where something is tried again |
//! | `limits` | API keys that take turns, each with its rate |
//! | [`traffic`] | what went over the wire |
//! | `http`, `endpoint` | one POST of JSON, bounded in time and size; what both clients do with it |

mod endpoint;
pub mod graph;
mod http;
mod limits;
pub mod retry;
mod text;
pub mod traffic;
pub mod transpose;

pub use http::MAX_BODY_BYTES;
pub use limits::{RateLimit, Secret};
pub use retry::RetryPolicy;
pub use text::Text;
pub use traffic::{Traffic, TrafficReport};

/// A block of the chain, as a source names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Seconds since 1970-01-01T00:00:00Z. Transpose always says it; an older graph-node doesn't for a pinned block.
    pub timestamp: Option<i64>,
    /// Its hash, as the source writes it; likewise.
    pub hash: Option<std::sync::Arc<str>>,
}
