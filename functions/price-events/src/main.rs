//! Serves the step `price-events` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(price_events::STEP, price_events::handle).await
}
