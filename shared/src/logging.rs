//! What is never logged, whatever level `RUST_LOG` sets.

use tracing::Level;
use tracing_subscriber::filter::{FilterFn, filter_fn};

/// The crates that connect. At the levels debug and trace they log the hosts, and providers put keys into the host of an
/// Ethereum node.
const CONNECTING: [&str; 6] = ["reqwest", "hyper", "hyper_util", "h2", "rustls", "tokio_rustls"];

/// Returns a filter that leaves out the lines that name hosts.
#[must_use]
pub fn without_hosts() -> FilterFn {
    filter_fn(|metadata| {
        let name = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO || !CONNECTING.contains(&name)
    })
}
