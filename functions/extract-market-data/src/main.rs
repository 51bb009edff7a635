//! Serves the step `extract-market-data` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_market_data::STEP, extract_market_data::handle).await
}
