//! The context of a step from the environment of its process.

use std::path::Path;
use std::sync::Arc;

use super::{Context, Unwatched, today};
use crate::catalog::{self, Registry};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::executions::Executions;
use crate::lake::{FolderStore, Lake};
use crate::sources::graph::{self, GraphClient, GraphSettings};
use crate::sources::transpose::{self, TransposeClient, TransposeSettings};
use crate::sources::{Rate, Secret};

/// The variables of a process, by their names.
type Variables<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// The context of this process; [`super::serve`] lists the variables.
///
/// # Errors
/// As [`context_of`].
pub(super) async fn context() -> Result<Context> {
    context_of(&|name| std::env::var(name).ok()).await
}

/// The context that variables describe. One that is empty is not set.
///
/// # Errors
/// `BadInput` for a variable that is missing or wrong, `BadCredentials` for a key that can't be had, and the errors of AWS.
pub async fn context_of(variables: Variables<'_>) -> Result<Context> {
    let variable = |name: &str| variables(name).filter(|value| !value.is_empty());
    let variable: Variables<'_> = &variable;
    let config = variable("DEFI_CONFIG").map_or_else(Config::built_in, |path| Config::read(Path::new(&path)))?;
    let cloud = Cloud::new().await;
    let shared_by = share_of_source(variable("SHARE_OF_SOURCE"))?;

    let url = variable("GRAPH_URL").unwrap_or_else(|| graph::LIVE_URL.to_owned());
    let mut graph = GraphSettings::new(url, keys(&cloud, variable, "GRAPH_SECRET", "GRAPH_API_KEY").await?);
    graph.rate = Rate { per_second: config.requests_per_second.the_graph, shared_by };
    graph.concurrency = config.concurrency.the_graph as usize;
    let url = variable("TRANSPOSE_URL").unwrap_or_else(|| transpose::LIVE_URL.to_owned());
    let mut transpose =
        TransposeSettings::new(url, keys(&cloud, variable, "TRANSPOSE_SECRET", "TRANSPOSE_API_KEY").await?);
    transpose.rate = Rate { per_second: config.requests_per_second.transpose, shared_by };
    transpose.concurrency = config.concurrency.transpose as usize;

    let place = place(&cloud, variable)?;
    Ok(Context {
        lake: place.lake,
        registry: place.registry,
        config: Arc::new(config),
        graph: Arc::new(GraphClient::new(graph)?),
        transpose: Arc::new(TransposeClient::new(transpose)?),
        traffic: Arc::default(),
        today: today()?,
        deadline: None,
        progress: Arc::new(Unwatched),
        executions: place.executions,
    })
}

/// How many calls share a source's rate, this one among them.
fn share_of_source(text: Option<String>) -> Result<u32> {
    let Some(text) = text else { return Ok(1) };
    text.parse().map_err(|cause| {
        Error::bad_input(format!("SHARE_OF_SOURCE is {text:?}, and must be a number of calls")).because(cause)
    })
}

/// The keys of a source: in the secret that one variable names, else in the other variable.
async fn keys(cloud: &Cloud, variable: Variables<'_>, secret: &str, keys: &str) -> Result<Vec<Secret>> {
    match variable(secret) {
        Some(id) => cloud.keys(&id).await,
        None => Ok(variable(keys).map(|keys| Secret::list(&keys)).unwrap_or_default()),
    }
}

/// Where a lake is, with what belongs to it.
struct Place {
    lake: Lake,
    registry: Registry,
    executions: Option<Arc<dyn Executions>>,
}

/// `LAKE` is `s3://{bucket}`, with its catalog in Glue, or a folder with the catalog beside the tables.
fn place(cloud: &Cloud, variable: Variables<'_>) -> Result<Place> {
    let lake = variable("LAKE")
        .ok_or_else(|| Error::bad_input("LAKE is not set").next("set it to the lake: s3://{bucket}, or a folder"))?;
    let env = variable("DEFI_ENV").unwrap_or_else(|| "dev".to_owned());
    if let Some(bucket) = lake.strip_prefix("s3://") {
        return cloud.place(bucket.trim_end_matches('/'), &env, variable);
    }
    let lake = Lake::new(FolderStore::new(lake));
    Ok(Place { registry: catalog::in_lake(&lake, &env), lake, executions: None })
}

/// AWS, as far as the build has it.
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

    fn place(&self, bucket: &str, env: &str, variable: Variables<'_>) -> Result<Place> {
        if bucket.is_empty() || bucket.contains('/') {
            return Err(Error::bad_input(format!("{bucket:?} is no bucket")).next("set LAKE to s3://{bucket}"));
        }
        let machine = variable("STATE_MACHINE_ARN").map(|arn| crate::executions::StateMachine::new(&self.0, arn));
        Ok(Place {
            lake: Lake::new(crate::lake::S3Store::new(&self.0, bucket)),
            registry: Registry::new(catalog::GlueCatalog::new(&self.0, bucket), env),
            executions: machine.map(|machine| Arc::new(machine) as _),
        })
    }
}

#[cfg(not(feature = "aws"))]
struct Cloud;

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, clippy::unused_self, reason = "they have something to do where AWS is built in")]
impl Cloud {
    async fn new() -> Self {
        Cloud
    }

    async fn keys(&self, _: &str) -> Result<Vec<Secret>> {
        Err(without_aws())
    }

    fn place(&self, _: &str, _: &str, _: Variables<'_>) -> Result<Place> {
        Err(without_aws())
    }
}

#[cfg(not(feature = "aws"))]
fn without_aws() -> Error {
    Error::bad_input("this build has no AWS").next("build it with the feature aws: make package")
}
