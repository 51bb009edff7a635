//! Serves the step `price-events` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(price_events::STEP, price_events::handle).await
}
