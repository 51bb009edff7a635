//! `defi report`: the page of a run, made anew from a lake.

use std::path::{Path, PathBuf};

use defi_shared::error::{Error, Result};
use report_run::gather::newest_run;
use report_run::{keep, page};

use crate::lake::ReadOptions;
use crate::output::{line, write_page};

/// The options of a report.
#[derive(Debug)]
pub struct Options {
    /// The run. Default: the newest.
    pub run: Option<String>,
    /// The file to write. Default: `runs/{run_id}/report.html` in the lake.
    pub output: Option<PathBuf>,
    /// Open the report in the browser.
    pub open: bool,
    /// The lake.
    pub lake: ReadOptions,
}

/// Makes the report, and prints where it is.
///
/// # Errors
/// `BadInput` for a lake or a run that is not there or a file that can't be written, and the lake's errors.
pub(crate) async fn report(args: &Options) -> Result<()> {
    let (lake, registry) = crate::lake::open(&args.lake).await?;
    if args.open && args.lake.aws && args.output.is_none() {
        return Err(Error::bad_input("a browser does not open what lies in a bucket").next("name a file with --output"));
    }
    let run = match &args.run {
        Some(run) => run.parse()?,
        None => newest_run(&lake).await?,
    };
    let config = crate::config::configuration()?;
    let path = match &args.output {
        None => keep(&lake, &registry, &config, &run).await?,
        Some(file) => {
            let page = page(&lake, &registry, &config, &run).await?;
            write_page(file, &page)?;
            file.display().to_string()
        }
    };
    line(&path)?;
    if args.open { open_in_browser(Path::new(&path)) } else { Ok(()) }
}

fn open_in_browser(path: &Path) -> Result<()> {
    let opened = std::path::absolute(path).and_then(open::that_detached);
    opened.map_err(|cause| {
        Error::internal("no browser could be started").because(cause).next("open the file that is named above by hand")
    })
}
