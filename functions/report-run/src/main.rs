//! Serves the step `report-run` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(report_run::STEP, report_run::handle).await
}
