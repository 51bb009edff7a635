//! Serves the step `extract-current-positions` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_current_positions::STEP, extract_current_positions::handle).await
}
