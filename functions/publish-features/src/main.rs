//! Serves the step `publish-features` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(publish_features::STEP, publish_features::handle).await
}
