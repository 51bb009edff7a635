//! Serves the step `plan-run` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(plan_run::STEP, plan_run::handle).await
}
