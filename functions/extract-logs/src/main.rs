//! Serves the step `extract-logs` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(extract_logs::STEP, extract_logs::handle).await
}
