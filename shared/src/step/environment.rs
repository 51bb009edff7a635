//! Builds the context of a step from the environment variables of its process.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Clients, Context};
use crate::catalog::{self, Registry};
use crate::config::Config;
use crate::domain::Day;
use crate::error::{Error, Result};
use crate::executions::Executions;
use crate::lake::{FolderStore, Lake};
use crate::pipeline::DataSource;
use crate::sources::Secret;
use crate::sources::ethereum::EthereumSettings;
use crate::sources::graph::{self, GraphSettings};
use crate::sources::transpose::{self, TransposeSettings};

/// Looks up an environment variable by its name.
type Variables<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// Builds the context from the variables of this process. [`super::serve`] lists them.
///
/// # Errors
/// As [`context_from`].
pub(super) async fn context() -> Result<Context> {
    context_from(&|name| std::env::var(name).ok()).await
}

/// Builds the context from the given variables. An empty variable counts as not set.
///
/// # Errors
/// `BadInput` for a missing or invalid variable, `BadCredentials` for a key that can't be read, and the errors of AWS.
pub async fn context_from(variables: Variables<'_>) -> Result<Context> {
    let variable = |name: &str| variables(name).filter(|value| !value.is_empty());
    let variable: Variables<'_> = &variable;
    let mut config =
        variable("DEFI_CONFIG").map_or_else(Config::built_in, |path| Config::from_file(Path::new(&path)))?;
    if DataSource::parse(variable("DEFI_SOURCE").as_deref())? == DataSource::Chain {
        config.choose_chain()?;
    }
    let cloud = Cloud::new().await;
    let shared_by = share_of_source(variable("SHARE_OF_SOURCE"))?;

    let url = variable("GRAPH_URL").unwrap_or_else(|| graph::LIVE_URL.to_owned());
    let graph = GraphSettings::new(url, keys(&cloud, variable, "GRAPH_SECRET", "GRAPH_API_KEY").await?);
    let url = variable("TRANSPOSE_URL").unwrap_or_else(|| transpose::LIVE_URL.to_owned());
    let transpose = TransposeSettings::new(url, keys(&cloud, variable, "TRANSPOSE_SECRET", "TRANSPOSE_API_KEY").await?);
    let mut clients = Clients::new(&config, graph, transpose, shared_by)?;
    if config.source == DataSource::Chain
        && let Some(url) = keys(&cloud, variable, "ETHEREUM_SECRET", "ETHEREUM_RPC_URL").await?.into_iter().next()
    {
        clients = clients.with_node(&config, EthereumSettings::new(url, config.chain.chain_id), shared_by)?;
    }

    let location = location(&cloud, variable)?;
    let context = Context::new(location.lake, location.registry, Arc::new(config), clients, today()?);
    Ok(Context { executions: location.executions, ..context })
}

/// Returns today in UTC, by the clock of this machine.
///
/// # Errors
/// `Internal` if the clock is before 1970.
pub fn today() -> Result<Day> {
    now().map(Day::from_epoch_seconds)
}

/// Returns the time in epoch seconds, by the clock of this machine.
///
/// # Errors
/// As [`today`].
pub fn now() -> Result<i64> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.map_err(|cause| Error::internal("the clock is before 1970").with_source(cause))?;
    Ok(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}

/// Returns the number of calls that share a source's rate limit, including this one.
fn share_of_source(text: Option<String>) -> Result<u32> {
    let Some(text) = text else { return Ok(1) };
    text.parse().map_err(|cause| {
        Error::bad_input(format!("SHARE_OF_SOURCE is {text:?}, which is not a number of calls")).with_source(cause)
    })
}

/// Returns the API keys of a source: from the secret that the variable `secret` names, else from the variable `keys`.
async fn keys(cloud: &Cloud, variable: Variables<'_>, secret: &str, keys: &str) -> Result<Vec<Secret>> {
    match variable(secret) {
        Some(id) => cloud.keys(&id).await,
        None => Ok(variable(keys).map(|keys| Secret::parse_list(&keys)).unwrap_or_default()),
    }
}

/// A lake with its catalog, and who tells which executions that write to it have ended.
struct Location {
    lake: Lake,
    registry: Registry,
    executions: Option<Arc<dyn Executions>>,
}

/// Opens the lake that `LAKE` names: `s3://{bucket}` with its catalog in Glue, or a folder that contains its catalog.
fn location(cloud: &Cloud, variable: Variables<'_>) -> Result<Location> {
    let lake = variable("LAKE")
        .ok_or_else(|| Error::bad_input("LAKE is not set").with_hint("set it to s3://{bucket} or a folder"))?;
    let env = variable("DEFI_ENV").unwrap_or_else(|| "dev".to_owned());
    if let Some(bucket) = lake.strip_prefix("s3://") {
        return cloud.location(bucket.trim_end_matches('/'), &env, variable);
    }
    let lake = Lake::new(FolderStore::new(lake));
    Ok(Location { registry: catalog::registry_in_lake(&lake, &env), lake, executions: None })
}

/// Access to AWS, in builds with the feature `aws`.
#[cfg(feature = "aws")]
struct Cloud(aws_config::SdkConfig);

#[cfg(feature = "aws")]
impl Cloud {
    async fn new() -> Self {
        Cloud(crate::aws::configuration().await)
    }

    async fn keys(&self, id: &str) -> Result<Vec<Secret>> {
        crate::aws::secret(&self.0, id).await
    }

    fn location(&self, bucket: &str, env: &str, variable: Variables<'_>) -> Result<Location> {
        if bucket.is_empty() || bucket.contains('/') {
            return Err(Error::bad_input(format!("{bucket:?} is not the name of a bucket"))
                .with_hint("set LAKE to s3://{bucket}"));
        }
        let machine = variable("STATE_MACHINE_ARN").map(|arn| crate::executions::StateMachine::new(&self.0, arn));
        Ok(Location {
            lake: Lake::new(crate::lake::S3Store::new(&self.0, bucket)),
            registry: Registry::new(catalog::GlueCatalog::new(&self.0, bucket), env),
            executions: machine.map(|machine| Arc::new(machine) as _),
        })
    }
}

#[cfg(not(feature = "aws"))]
struct Cloud;

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, clippy::unused_self, reason = "the variant with AWS awaits")]
impl Cloud {
    async fn new() -> Self {
        Cloud
    }

    async fn keys(&self, _: &str) -> Result<Vec<Secret>> {
        Err(without_aws())
    }

    fn location(&self, _: &str, _: &str, _: Variables<'_>) -> Result<Location> {
        Err(without_aws())
    }
}

#[cfg(not(feature = "aws"))]
fn without_aws() -> Error {
    Error::bad_input("this build does not support AWS").with_hint("build it with the feature aws: make package")
}
