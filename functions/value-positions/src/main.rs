//! Serves the step `value-positions` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(value_positions::STEP, value_positions::handle).await
}
