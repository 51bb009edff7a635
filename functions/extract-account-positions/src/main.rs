//! Serves the step `extract-account-positions` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(extract_account_positions::STEP, extract_account_positions::handle).await
}
