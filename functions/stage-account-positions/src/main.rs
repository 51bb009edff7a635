//! Serves the step `stage-account-positions` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(stage_account_positions::STEP, stage_account_positions::handle).await
}
