//! Serves the step `extract-daily-blocks` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_daily_blocks::STEP, extract_daily_blocks::handle).await
}
