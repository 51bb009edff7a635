//! Serves the step `value-positions` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(value_positions::STEP, value_positions::handle).await
}
