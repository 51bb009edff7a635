//! Serves the step `report-run` as a Lambda function.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    defi_shared::step::serve(report_run::STEP, report_run::handle).await
}
