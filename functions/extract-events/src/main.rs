//! Serves the step `extract-events` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(extract_events::STEP, extract_events::handle).await
}
