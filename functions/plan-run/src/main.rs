//! Serves the step `plan-run` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(plan_run::STEP, plan_run::handle).await
}
