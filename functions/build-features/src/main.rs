//! Serves the step `build-features` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(build_features::STEP, build_features::handle).await
}
