//! Serves the step `stage-events` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(stage_events::STEP, stage_events::handle).await
}
