//! Serves the step `extract-account-positions` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_account_positions::STEP, extract_account_positions::handle).await
}
