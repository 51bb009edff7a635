//! Serving a step as a Lambda function.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Context, Unwatched, parse};
use crate::catalog;
use crate::config::Config;
use crate::domain::Day;
use crate::error::{Error, Result};
use crate::lake::{FolderStore, Lake};
use crate::sources::Secret;
use crate::sources::graph::{self, GraphClient, GraphSettings};
use crate::sources::transpose::{self, TransposeClient, TransposeSettings};

/// A step begins no further unit when less than this is left, so that the units under way can end.
const RESERVE: Duration = Duration::from_secs(30);

/// Serves a step under Lambda until the runtime ends. The context comes from the environment, once a cold start:
///
/// | variable | what it is | default |
/// |---|---|---|
/// | `LAKE` | the lake: a folder | none |
/// | `DEFI_ENV` | `dev` or `prod` | `dev` |
/// | `DEFI_CONFIG` | a configuration file in place of the built-in one | none |
/// | `GRAPH_URL`, `TRANSPOSE_URL` | the sources | the live APIs |
/// | `GRAPH_API_KEY`, `TRANSPOSE_API_KEY` | their keys, several with commas between | none |
/// | `RUST_LOG` | what is logged | `info` |
///
/// # Errors
/// A wrong environment, or a runtime that can't be reached.
pub async fn serve<I, O, F, Fut>(handler: F) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned + Send,
    O: Serialize,
    F: Fn(Context, I) -> Fut,
    Fut: Future<Output = Result<O>>,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    let context = from_environment()?;
    let handler = &handler;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let mut context = context.clone();
        async move {
            context.today = today()?;
            context.deadline = deadline(event.context.deadline());
            let input = parse(event.payload)?;
            handler(context, input).await.map_err(Diagnostic::from)
        }
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

fn deadline(at: SystemTime) -> Option<Instant> {
    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left.saturating_sub(RESERVE))
}

fn from_environment() -> Result<Context> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let lake =
        variable("LAKE").ok_or_else(|| Error::bad_input("LAKE is not set").next("set it to the lake's folder"))?;
    let env = variable("DEFI_ENV").unwrap_or_else(|| "dev".to_owned());
    let config = variable("DEFI_CONFIG").map_or_else(Config::built_in, |path| Config::read(Path::new(&path)))?;
    let keys = |name: &str| variable(name).map(|keys| Secret::list(&keys)).unwrap_or_default();

    let url = variable("GRAPH_URL").unwrap_or_else(|| graph::LIVE_URL.to_owned());
    let mut graph = GraphSettings::new(url, keys("GRAPH_API_KEY"));
    graph.requests_per_second = config.requests_per_second.the_graph;
    graph.concurrency = config.concurrency.the_graph as usize;
    let url = variable("TRANSPOSE_URL").unwrap_or_else(|| transpose::LIVE_URL.to_owned());
    let mut transpose = TransposeSettings::new(url, keys("TRANSPOSE_API_KEY"));
    transpose.requests_per_second = config.requests_per_second.transpose;
    transpose.concurrency = config.concurrency.transpose as usize;

    let lake = Lake::new(FolderStore::new(lake));
    Ok(Context {
        registry: catalog::in_lake(&lake, &env),
        lake,
        config: Arc::new(config),
        graph: Arc::new(GraphClient::new(graph)?),
        transpose: Arc::new(TransposeClient::new(transpose)?),
        today: today()?,
        deadline: None,
        progress: Arc::new(Unwatched),
    })
}
