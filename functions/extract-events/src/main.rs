//! Serves the step `extract-events` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_events::STEP, extract_events::handle).await
}
