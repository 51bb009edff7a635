//! Opens the lake that a command reads: a local folder, or the lake of the deployed environment.

use std::path::PathBuf;

use defi_shared::catalog::{self, Registry};
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use defi_shared::lake::{FeatureSet, FolderStore, Lake};

use crate::env::Env;
use crate::hint::CallOptions;

/// The options of a local lake.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The folder of the lake.
    pub folder: PathBuf,
    /// The environment.
    pub env: Env,
}

/// The options of a lake to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The local lake, and the environment.
    pub lake: LakeOptions,
    /// Read the lake of the deployed environment instead of the local one.
    pub aws: bool,
}

impl From<&LakeOptions> for CallOptions {
    fn from(options: &LakeOptions) -> Self {
        CallOptions::in_folder(&options.folder, options.env)
    }
}

impl From<&ReadOptions> for CallOptions {
    fn from(options: &ReadOptions) -> Self {
        if options.aws { CallOptions::in_aws(options.lake.env) } else { CallOptions::from(&options.lake) }
    }
}

/// Opens an existing lake for reading, with its catalog.
///
/// # Errors
/// `BadInput` if there is no lake, and the errors of AWS.
pub(crate) async fn open(args: &ReadOptions) -> Result<(Lake, Registry)> {
    if args.aws {
        return in_aws(args.lake.env).await;
    }
    let lake = in_folder(&args.lake)?;
    let registry = catalog::registry_in_lake(&lake, args.lake.env.name());
    Ok((lake, registry))
}

/// Opens the lake in a folder.
///
/// # Errors
/// `BadInput` if the folder contains no lake.
pub(crate) fn in_folder(args: &LakeOptions) -> Result<Lake> {
    if !args.folder.join("catalog").is_dir() {
        return Err(Error::bad_input("there is no lake in this folder")
            .with("path", args.folder.display())
            .with_hint("create one with defi run, or choose another folder with --lake"));
    }
    Ok(Lake::new(FolderStore::new(&args.folder)))
}

/// Returns the published set of a day, or the newest one.
///
/// # Errors
/// `BadInput` if there is none, and the errors of the catalog.
pub(crate) async fn published_set(registry: &Registry, as_of: Option<Day>) -> Result<FeatureSet> {
    let mut sets = registry.published_sets().await?;
    let set = match as_of {
        Some(day) => sets.into_iter().find(|set| set.as_of == day),
        None => sets.pop(),
    };
    set.ok_or_else(|| {
        Error::bad_input(match as_of {
            Some(day) => format!("no features are published as of {day}"),
            None => "no features are published in this lake yet".to_owned(),
        })
        .with_hint(match as_of {
            Some(_) => "choose a published day, or publish this one with defi run --as-of",
            None => "publish them with defi run, or choose another --env",
        })
    })
}

#[cfg(feature = "aws")]
async fn in_aws(env: Env) -> Result<(Lake, Registry)> {
    crate::aws::lake(&defi_shared::aws::configuration().await, env).await
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "builds with AWS support need async")]
async fn in_aws(_: Env) -> Result<(Lake, Registry)> {
    Err(Error::bad_input("this build has no AWS support").with_hint("build with AWS support: make build"))
}
