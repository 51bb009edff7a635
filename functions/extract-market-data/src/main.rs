//! Serves the step `extract-market-data` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(extract_market_data::STEP, extract_market_data::handle).await
}
