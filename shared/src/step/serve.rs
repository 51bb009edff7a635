//! Serving a step as a Lambda function.

use std::future::Future;
use std::time::{Instant, SystemTime};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tracing::Instrument;

use super::metrics::{Measured, write_metrics};
use super::{Context, Deadline, environment, parse};
use crate::domain::Day;
use crate::error::{Error, Result};

/// Serves a step under Lambda until the runtime ends. The context comes from the environment, once a cold start:
///
/// | variable | what it is | default |
/// |---|---|---|
/// | `LAKE` | the lake: `s3://{bucket}`, with its catalog in Glue, or a folder | none |
/// | `DEFI_ENV` | `dev` or `prod` | `dev` |
/// | `DEFI_CONFIG` | a configuration file in place of the built-in one | none |
/// | `GRAPH_URL`, `TRANSPOSE_URL` | the sources | the live APIs |
/// | `GRAPH_SECRET`, `TRANSPOSE_SECRET` | the secrets with their keys in Secrets Manager | none |
/// | `GRAPH_API_KEY`, `TRANSPOSE_API_KEY` | without a secret: the keys, several with commas between | none |
/// | `SHARE_OF_SOURCE` | how many calls share a source's rate | 1 |
/// | `STATE_MACHINE_ARN` | the state machine whose executions plan-run keeps apart | none |
/// | `RUST_LOG` | what is logged | `info` |
///
/// # Errors
/// A runtime that can't be reached. What is wrong with the environment is the error of each call, with its kind.
pub async fn serve<I, O, F, Fut>(step: &'static str, handler: F) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned + Send,
    O: Measured,
    F: Fn(Context, I) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    let context = OnceCell::new();
    // Before the first call, while Lambda gives the whole processor. Should it fail, the first call tries again, and says why.
    let _ready = context.get_or_try_init(environment::context).await;
    let (context, handler) = (&context, &handler);
    let call = move |event: LambdaEvent<Value>| async move {
        let context = context.get_or_try_init(environment::context).await?.clone();
        let context = Context { today: today()?, deadline: Some(deadline(event.context.deadline())), ..context };
        let begun = Instant::now();
        // Every line of the call's log names them.
        let run_id = event.payload.get("run_id").and_then(Value::as_str).map(str::to_owned);
        let span = tracing::info_span!("call", step, run_id, request_id = event.context.request_id);
        let output = async { handler(context, parse(event.payload)?).await }.instrument(span).await?;
        write_metrics(step, &output, begun.elapsed());
        Ok(output)
    };
    lambda_runtime::run(service_fn(move |event| async move {
        call(event).await.map_err(|error: Error| {
            let error = error.with("step", step);
            tracing::error!(kind = error.kind().name(), error = %error, "the call failed");
            Diagnostic::from(&error)
        })
    }))
    .await
}

/// Today, in UTC.
///
/// # Errors
/// A clock before 1970.
pub fn today() -> Result<Day> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.map_err(|cause| Error::internal("the clock is wrong").because(cause))?;
    Ok(Day::of_seconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)))
}

fn deadline(at: SystemTime) -> Deadline {
    Deadline::of_call(at.duration_since(SystemTime::now()).unwrap_or_default())
}
