//! The report of a run: one HTML file that tells what its steps did, how its checks came out, what the features look like beside
//! those published before, and what could not be used. It is made from the lake alone: equal lakes give equal bytes.

pub mod gather;
mod sections;

use std::path::{Path, PathBuf};

use defi_shared::catalog::Registry;
use defi_shared::config::Config;
use defi_shared::error::{Error, Result};
use defi_shared::lake::Lake;
use defi_shared::step::RunId;

use self::gather::gather;
use crate::cli::ReadArgs;
use crate::html::write_page;
use crate::output::line;

/// What `defi report` is asked for.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  defi report --open\n  defi report --run 2023-02-14-0a1b2c3d4e5f --output report.html"
)]
pub struct ReportArgs {
    /// The run: a folder's name in runs/ of the lake [default: the newest by its day]
    #[arg(long, value_name = "RUN_ID")]
    run: Option<String>,
    /// Where the report is written [default: runs/{run_id}/report.html in the lake]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Open it in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    lake: ReadArgs,
}

/// Makes the report, and prints where it is.
///
/// # Errors
/// `BadInput` for a lake or a run that is not there or a file that can't be written, and the lake's errors.
pub(crate) async fn report(args: &ReportArgs) -> Result<()> {
    let (lake, registry) = crate::lake::open(&args.lake).await?;
    let env = args.lake.lake.env.name();
    if args.open && args.lake.aws && args.output.is_none() {
        return Err(Error::bad_input("a browser does not open what lies in a bucket").next("name a file with --output"));
    }
    let run = match &args.run {
        Some(run) => run.parse()?,
        None => gather::newest_run(&lake).await?,
    };
    let config = crate::run::configuration()?;
    let path = match &args.output {
        None => keep(&lake, &registry, &config, env, &run).await?,
        Some(file) => {
            let page = page(&lake, &registry, &config, env, &run).await?;
            write_page(file, &page)?;
            file.display().to_string()
        }
    };
    line(&path)?;
    if args.open { open_in_browser(Path::new(&path)) } else { Ok(()) }
}

/// Keeps the report of a run beside its other objects. Where it is.
///
/// # Errors
/// As [`page`].
pub async fn keep(lake: &Lake, registry: &Registry, config: &Config, env: &str, run: &RunId) -> Result<String> {
    let page = page(lake, registry, config, env, run).await?;
    let key = run.key("report.html");
    lake.store().put(&key, page.into_bytes().into()).await?;
    Ok(lake.store().location(&key))
}

/// The report of a run.
///
/// # Errors
/// `BadInput` for a run that the lake does not know, and the errors of the lake and of the catalog.
pub async fn page(lake: &Lake, registry: &Registry, config: &Config, env: &str, run: &RunId) -> Result<String> {
    sections::page(&gather(lake, registry, config, env, run).await?)
}

fn open_in_browser(path: &Path) -> Result<()> {
    let opened = std::path::absolute(path).and_then(open::that_detached);
    opened.map_err(|cause| {
        Error::internal("no browser could be started").because(cause).next("open the file that is named above by hand")
    })
}
