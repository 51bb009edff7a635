//! Serves the step `extract-current-positions` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(extract_current_positions::STEP, extract_current_positions::handle).await
}
