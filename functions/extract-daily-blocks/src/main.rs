//! Serves the step `extract-daily-blocks` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(extract_daily_blocks::STEP, extract_daily_blocks::handle).await
}
