//! Calls the handler of a step as its Lambda function does: JSON in, JSON out.

use defi_shared::error::{Error, Result};
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Calls a step with the JSON input of its Lambda function and returns its JSON output.
///
/// # Errors
/// `BadInput` for an invalid input, and the errors of the step.
pub async fn call(step: Step, context: Context, input: Value) -> Result<Value> {
    match step {
        Step::PlanRun => run(plan_run::handle, context, input).await,
        Step::ExtractDailyBlocks => run(extract_daily_blocks::handle, context, input).await,
        Step::ExtractEvents => run(extract_events::handle, context, input).await,
        Step::ExtractMarketData => run(extract_market_data::handle, context, input).await,
        Step::ExtractAccountPositions => run(extract_account_positions::handle, context, input).await,
        Step::ExtractCurrentPositions => run(extract_current_positions::handle, context, input).await,
        Step::StageEvents => run(stage_events::handle, context, input).await,
        Step::StageMarketData => run(stage_market_data::handle, context, input).await,
        Step::StageAccountPositions => run(stage_account_positions::handle, context, input).await,
        Step::LinkWallets => run(link_wallets::handle, context, input).await,
        Step::PriceEvents => run(price_events::handle, context, input).await,
        Step::ValuePositions => run(value_positions::handle, context, input).await,
        Step::BuildFeatures => run(build_features::handle, context, input).await,
        Step::CheckFeatures => run(check_features::handle, context, input).await,
        Step::PublishFeatures => run(publish_features::handle, context, input).await,
        Step::ReportRun => run(report_run::handle, context, input).await,
    }
}

async fn run<I, O, F, Fut>(handle: F, context: Context, input: Value) -> Result<Value>
where
    I: DeserializeOwned,
    O: Serialize,
    F: FnOnce(Context, I) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    let output = handle(context, parse(input)?).await?;
    serde_json::to_value(output)
        .map_err(|cause| Error::internal("can't serialize the output of a step").with_source(cause))
}
