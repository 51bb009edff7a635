//! Serves the step `build-features` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(build_features::STEP, build_features::handle).await
}
