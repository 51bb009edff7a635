//! Serves the step `check-features` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(check_features::STEP, check_features::handle).await
}
