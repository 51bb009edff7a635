//! What is never logged, whatever level `RUST_LOG` sets.

use tracing::Level;
use tracing_subscriber::filter::{FilterFn, filter_fn};

/// The crates that connect. At the levels debug and trace they log the hosts, and providers put keys into the host of an
/// Ethereum node.
const CONNECTING: [&str; 6] = ["reqwest", "hyper", "hyper_util", "h2", "rustls", "tokio_rustls"];

/// The crate that verifies certificates. It logs the host for which a certificate is not valid as an error.
const VERIFYING: &str = "rustls_platform_verifier";

/// Returns a filter that leaves out the lines that name hosts.
#[must_use]
pub fn without_hosts() -> FilterFn {
    filter_fn(|metadata| {
        let name = metadata.target().split("::").next().unwrap_or_default();
        name != VERIFYING && (*metadata.level() <= Level::INFO || !CONNECTING.contains(&name))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_crates_that_name_hosts_are_left_out() {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(without_hosts());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::error!(target: "rustls_platform_verifier::verification::others", "not valid for a.example");
            tracing::debug!(target: "hyper_util::client", "connects to b.example");
            tracing::warn!(target: "hyper_util::client", "closed");
            tracing::debug!(target: "defi_shared::step", "ours");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("example") && text.contains("closed") && text.contains("ours"), "{text}");
    }
}
