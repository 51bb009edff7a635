//! Serves a step as an AWS Lambda function.

use std::future::Future;
use std::time::{Instant, SystemTime};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::environment::{self, today};
use super::metrics::{StepOutput, write_metrics};
use super::{Context, Deadline, parse};
use crate::error::{Error, Result};
use crate::logging::without_hosts;
use crate::pipeline::Step;

/// Serves a step under Lambda until the runtime ends. Creates the context from environment variables once per cold
/// start:
///
/// | variable | value | default |
/// |---|---|---|
/// | `LAKE` | the lake: `s3://{bucket}`, with its catalog in Glue, or a folder | none |
/// | `DEFI_ENV` | the environment: `dev` or `prod` | `dev` |
/// | `DEFI_CONFIG` | the path of a configuration file that replaces the built-in one | none |
/// | `GRAPH_URL`, `TRANSPOSE_URL` | the URLs of the sources | the live APIs |
/// | `GRAPH_SECRET`, `TRANSPOSE_SECRET` | the ids of the secrets in Secrets Manager that hold the API keys | none |
/// | `GRAPH_API_KEY`, `TRANSPOSE_API_KEY` | without a secret: the API keys, separated by commas | none |
/// | `SHARE_OF_SOURCE` | the number of concurrent calls that share a source's rate limit | 1 |
/// | `STATE_MACHINE_ARN` | the state machine, which plan-run asks whether an execution that holds the lease has ended | none |
/// | `RUST_LOG` | the log filter | `info` |
///
/// An event may have a field `lease` in addition to the step's input: the ARN of the execution that makes the call. The
/// call renews the execution's [`Lease`](super::Lease) of the lake, and fails if another execution holds it.
///
/// # Errors
/// The runtime can't be reached. Invalid environment variables are reported as the error of each call, with its kind.
pub async fn serve<I, O, F, Fut>(step: Step, handler: F) -> Result<()>
where
    I: DeserializeOwned + Send,
    O: StepOutput,
    F: Fn(Context, I) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    let handler = &handler;
    let call = move |context: Context, event| async move {
        let start = Instant::now();
        let (lease, input) = take_lease_field(event)?;
        if let Some(execution) = lease {
            context.renew_lease(&execution).await?;
        }
        // Boxed, because the compiler limits how deep futures are nested.
        let output = Box::pin(handler(context, parse(input)?)).await?;
        write_metrics(step, &output, start.elapsed());
        Ok(output)
    };
    serve_events(step.name(), call).await
}

/// Serves a function under Lambda that is called with events of any form, and whose calls have no lease and write no
/// metrics: one that no run calls. Creates the context as [`serve`] does.
///
/// # Errors
/// As [`serve`].
pub async fn serve_events<O, F, Fut>(function: &'static str, handler: F) -> Result<()>
where
    O: Serialize,
    F: Fn(Context, Value) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).finish().with(without_hosts()).init();
    let context = OnceCell::new();
    // Create the context before the first call: Lambda provides a full CPU during initialization. If it fails, the
    // first call retries and reports the error.
    let _ready = context.get_or_try_init(environment::context).await;
    let (context, handler) = (&context, &handler);
    let call = move |event: LambdaEvent<Value>| async move {
        let context = context.get_or_try_init(environment::context).await?.clone();
        let deadline = deadline(event.context.deadline());
        let context = Context { today: today()?, deadline: Some(deadline), ..context };
        // The span adds these fields to every log line of the call.
        let run_id = event.payload.get("run_id").and_then(Value::as_str).map(str::to_owned);
        let span = tracing::info_span!("call", step = function, run_id, request_id = event.context.request_id);
        deadline.enforce(handler(context, event.payload)).instrument(span).await
    };
    lambda_runtime::run(service_fn(move |event| async move {
        call(event).await.map_err(|error: Error| {
            let error = error.with("step", function);
            tracing::error!(kind = error.kind().name(), error = %error, "the call failed");
            diagnostic(&error)
        })
    }))
    .await
    .map_err(|cause| Error::internal("the Lambda runtime stopped").with_source(cause))
}

/// Takes the field `lease` out of an event. Returns its value, `None` if it is missing or null, and the step's input.
fn take_lease_field(mut event: Value) -> Result<(Option<String>, Value)> {
    let lease = event.as_object_mut().and_then(|fields| fields.remove("lease")).unwrap_or_default();
    let lease = serde_json::from_value(lease).map_err(|cause| {
        Error::bad_input("the field `lease` is invalid")
            .with_source(cause)
            .with_hint("pass the ARN of the execution, or omit the field")
    })?;
    Ok((lease, event))
}

/// The maximum length of an error message in a diagnostic. If hundreds of calls fail, the state machine holds all their
/// messages in 256 KB. The log contains the full messages.
const MAX_DIAGNOSTIC: usize = 800;

/// Returns what Lambda reports for a failed call. The error type is the error's kind, which `Retry` and `Catch` of the
/// state machine match. The runtime's default would be the path of a Rust type.
fn diagnostic(error: &Error) -> Diagnostic {
    let what: String = error.details().chars().take(MAX_DIAGNOSTIC).collect();
    Diagnostic { error_type: error.kind().name().to_owned(), error_message: format!("{what}; next: {}", error.hint()) }
}

fn deadline(at: SystemTime) -> Deadline {
    Deadline::from_remaining_time(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Kind;

    #[test]
    fn lease_is_not_part_of_the_steps_input() {
        for (event, lease, input) in [
            (json!({"lease": "arn:a", "as_of": "2023-01-01"}), Some("arn:a"), json!({"as_of": "2023-01-01"})),
            (json!({"lease": null}), None, json!({})),
            (json!({"run_id": "1"}), None, json!({"run_id": "1"})),
            (json!(null), None, json!(null)),
        ] {
            assert_eq!(take_lease_field(event).unwrap(), (lease.map(str::to_owned), input));
        }
        assert_eq!(take_lease_field(json!({"lease": 1})).unwrap_err().kind(), Kind::BadInput);
    }

    #[test]
    fn error_type_of_a_diagnostic_is_the_kind() {
        let diagnostic = diagnostic(&Error::new(Kind::HistoryPruned, "gone ".repeat(1000)));
        assert_eq!(diagnostic.error_type, "HistoryPruned");
        assert!(diagnostic.error_message.len() < 1000 && diagnostic.error_message.contains("next: "));
    }
}
