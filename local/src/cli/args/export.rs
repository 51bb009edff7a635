//! The arguments of the commands that describe a lake to other tools: `feast` and `dbt`.

use std::path::PathBuf;

use clap::Args;

use super::LakeArgs;
use crate::export::{dbt, feast};
use crate::hint::CallOptions;
use crate::lake::ReadOptions;

#[derive(Debug, Args)]
#[command(
    after_help = "The folder is created. One that this command wrote is written again; any other content is left alone and an \
    error.\n\nExamples:\n  defi feast features\n  defi feast features --athena --env prod"
)]
pub(in crate::cli) struct FeastArgs {
    /// Folder to write
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Read the lake of the deployed environment through Athena instead of a local one; credentials as for the AWS CLI
    #[arg(long, conflicts_with = "lake")]
    athena: bool,
    /// Workgroup of Athena; it must not enforce where results go [default: defi-{env}-feast, which feast = true deploys]
    #[arg(long, value_name = "NAME", requires = "athena")]
    workgroup: Option<String>,
    /// Database of temporary tables [default: db_feast_{env}]
    #[arg(long, value_name = "NAME", requires = "athena")]
    database: Option<String>,
    /// Data source of Athena
    #[arg(long, value_name = "NAME", requires = "athena", default_value = "AwsDataCatalog")]
    data_source: String,
    /// Place of temporary objects [default: the bucket of the results of Athena]
    #[arg(long, value_name = "s3://BUCKET/PREFIX", requires = "athena")]
    staging: Option<String>,
    /// Region of Athena [default: that of the credentials]
    #[arg(long, value_name = "REGION", requires = "athena")]
    region: Option<String>,
    #[command(flatten)]
    lake: LakeArgs,
}

impl FeastArgs {
    /// Returns the options that the commands in hints need, too.
    pub(super) fn call_options(&self) -> CallOptions {
        CallOptions::from(&ReadOptions { lake: self.lake.options(), aws: self.athena })
    }
}

impl From<FeastArgs> for feast::Options {
    fn from(args: FeastArgs) -> Self {
        let FeastArgs { folder, athena, workgroup, database, data_source, staging, region, lake } = args;
        let athena = athena.then_some(feast::Athena { data_source, region, workgroup, database, staging });
        feast::Options { folder, lake: lake.into(), athena }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The folder is created. One that this command wrote is written again; any other content is left alone and an \
    error.\n\nExample:\n  defi dbt project && cd project && dbt build"
)]
pub(in crate::cli) struct DbtArgs {
    /// Folder to write
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    pub(super) lake: LakeArgs,
}

impl From<DbtArgs> for dbt::Options {
    fn from(args: DbtArgs) -> Self {
        dbt::Options { folder: args.folder, lake: args.lake.into() }
    }
}
