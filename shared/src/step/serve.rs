//! Serving a step as a Lambda function.

use std::future::Future;
use std::time::{Instant, SystemTime};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tracing::Instrument;

use super::environment::{self, today};
use super::metrics::{Measured, write_metrics};
use super::{Context, Deadline, parse};
use crate::error::{Error, Result};
use crate::pipeline::Step;

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
pub async fn serve<I, O, F, Fut>(step: Step, handler: F) -> Result<()>
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
        let span = tracing::info_span!("call", step = step.name(), run_id, request_id = event.context.request_id);
        let output = async { handler(context, parse(event.payload)?).await }.instrument(span).await?;
        write_metrics(step, &output, begun.elapsed());
        Ok(output)
    };
    lambda_runtime::run(service_fn(move |event| async move {
        call(event).await.map_err(|error: Error| {
            let error = error.with("step", step);
            tracing::error!(kind = error.kind().name(), error = %error, "the call failed");
            diagnostic(&error)
        })
    }))
    .await
    .map_err(|cause| Error::internal("the Lambda runtime stopped").because(cause))
}

/// The maximum length of an error message in a diagnostic. If hundreds of calls fail together, the state machine holds all of
/// their messages in 256 KB; the log has them in full.
const MAX_DIAGNOSTIC: usize = 800;

/// What Lambda reports of a failed call. The error type is the error's kind, which `Retry` and `Catch` of the state machine match;
/// the runtime's default would be the path of a Rust type.
fn diagnostic(error: &Error) -> Diagnostic {
    let what: String = error.what().chars().take(MAX_DIAGNOSTIC).collect();
    Diagnostic {
        error_type: error.kind().name().to_owned(),
        error_message: format!("{what}; next: {}", error.next_step()),
    }
}

fn deadline(at: SystemTime) -> Deadline {
    Deadline::of_call(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn error_type_of_a_diagnostic_is_the_kind() {
        let diagnostic = diagnostic(&Error::new(Kind::HistoryPruned, "gone ".repeat(1000)));
        assert_eq!(diagnostic.error_type, "HistoryPruned");
        assert!(diagnostic.error_message.len() < 1000 && diagnostic.error_message.contains("next: "));
    }
}
