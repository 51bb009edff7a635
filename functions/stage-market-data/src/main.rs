//! Serves the step `stage-market-data` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(stage_market_data::STEP, stage_market_data::handle).await
}
