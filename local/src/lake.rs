//! The lake that is asked: a folder of this machine, or that of the deployed environment.

use std::path::PathBuf;

use defi_shared::catalog::{self, Registry};
use defi_shared::error::{Error, Result};
use defi_shared::lake::{FolderStore, Lake};

use crate::env::Env;

/// A local lake.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// Its folder.
    pub folder: PathBuf,
    /// Its environment.
    pub env: Env,
}

/// A lake to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The local lake, and the environment.
    pub lake: LakeOptions,
    /// Read the lake of the deployed environment instead of the local one.
    pub aws: bool,
}

/// Opens a lake that is there, for reading, with its catalog.
///
/// # Errors
/// `BadInput` where there is no lake, and the errors of AWS.
pub(crate) async fn open(args: &ReadOptions) -> Result<(Lake, Registry)> {
    if args.aws {
        return in_aws(args.lake.env).await;
    }
    let lake = in_folder(&args.lake)?;
    let registry = catalog::in_lake(&lake, args.lake.env.name());
    Ok((lake, registry))
}

/// A lake in a folder.
///
/// # Errors
/// `BadInput` where there is none.
pub(crate) fn in_folder(args: &LakeOptions) -> Result<Lake> {
    if !args.folder.join("catalog").is_dir() {
        return Err(Error::bad_input("there is no lake in this folder")
            .with("path", args.folder.display())
            .next("make one with defi run, or name another folder with --lake"));
    }
    Ok(Lake::new(FolderStore::new(&args.folder)))
}

#[cfg(feature = "aws")]
async fn in_aws(env: Env) -> Result<(Lake, Registry)> {
    crate::aws::lake(&defi_shared::aws::configuration().await, env).await
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "it is async where AWS is built in")]
async fn in_aws(_: Env) -> Result<(Lake, Registry)> {
    Err(Error::bad_input("this build of the command has no AWS").next("build it with AWS: make build"))
}
