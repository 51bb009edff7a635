//! Serves the features of wallets as a Lambda function.

use std::sync::OnceLock;

use get_features::{FeatureReader, NAME, respond};

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    // Calls of a warm function share what it keeps.
    let reader = OnceLock::new();
    let reader = &reader;
    let call = |context: defi_shared::step::Context, event| {
        let new = || FeatureReader::new(context.lake, context.registry, context.config.shards);
        respond(reader.get_or_init(new), event)
    };
    defi_shared::step::serve_events(NAME, call).await
}
