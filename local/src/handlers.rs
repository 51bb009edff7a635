//! Calls the handler of a step as its Lambda function does: JSON in, JSON out.

use defi_shared::error::{Error, Result};
use defi_shared::pipeline::Step;
use defi_shared::step::{Context, parse};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A call of a step with a valid input. Returns the JSON output of the step.
pub type Call = Box<dyn FnOnce(Context) -> LocalBoxFuture<'static, Result<Value>>>;

/// Parses the JSON input of a step's Lambda function and returns the call.
///
/// # Errors
/// `BadInput` for an unknown field or an invalid value.
pub fn prepare(step: Step, input: Value) -> Result<Call> {
    match step {
        Step::PlanRun => with_input(plan_run::handle, input),
        Step::ExtractDailyBlocks => with_input(extract_daily_blocks::handle, input),
        Step::ExtractEvents => with_input(extract_events::handle, input),
        Step::ExtractLogs => with_input(extract_logs::handle, input),
        Step::ExtractMarketData => with_input(extract_market_data::handle, input),
        Step::ExtractAccountPositions => with_input(extract_account_positions::handle, input),
        Step::ExtractCurrentPositions => with_input(extract_current_positions::handle, input),
        Step::StageEvents => with_input(stage_events::handle, input),
        Step::StageMarketData => with_input(stage_market_data::handle, input),
        Step::StageAccountPositions => with_input(stage_account_positions::handle, input),
        Step::LinkWallets => with_input(link_wallets::handle, input),
        Step::PriceEvents => with_input(price_events::handle, input),
        Step::ValuePositions => with_input(value_positions::handle, input),
        Step::BuildFeatures => with_input(build_features::handle, input),
        Step::CheckFeatures => with_input(check_features::handle, input),
        Step::PublishFeatures => with_input(publish_features::handle, input),
        Step::ReportRun => with_input(report_run::handle, input),
    }
}

fn with_input<I, O, F, Fut>(handle: F, input: Value) -> Result<Call>
where
    I: DeserializeOwned + 'static,
    O: Serialize,
    F: FnOnce(Context, I) -> Fut + 'static,
    Fut: Future<Output = Result<O>> + 'static,
{
    let input = parse(input)?;
    Ok(Box::new(move |context| {
        let output = handle(context, input);
        async move {
            let output = output.await?;
            serde_json::to_value(output)
                .map_err(|source| Error::internal("can't serialize the output of a step").with_source(source))
        }
        .boxed_local()
    }))
}
