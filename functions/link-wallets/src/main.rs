//! Serves the step `link-wallets` as a Lambda function.

#[tokio::main]
async fn main() -> defi_shared::Result<()> {
    defi_shared::step::serve(link_wallets::STEP, link_wallets::handle).await
}
