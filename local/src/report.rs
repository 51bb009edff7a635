//! `defi report`: writes the report of a run from the objects in a lake.

use std::path::{Path, PathBuf};

use defi_shared::error::{Error, Result};
use report_run::gather::newest_run;
use report_run::{render_report, write_report};

use crate::lake::ReadOptions;
use crate::output::{line, write_file};

/// The options of a report.
#[derive(Debug)]
pub struct Options {
    /// The run. Default: the newest run.
    pub run: Option<String>,
    /// The file to write. Default: the page of the run in the lake.
    pub output: Option<PathBuf>,
    /// Whether to open the report in the browser.
    pub open: bool,
    /// The lake.
    pub lake: ReadOptions,
}

/// Writes the report and prints its location.
///
/// # Errors
/// `BadInput` if the lake or the run does not exist or the file can't be written, and the errors of the lake.
pub(crate) async fn report(args: &Options) -> Result<()> {
    let (lake, registry) = crate::lake::open(&args.lake).await?;
    if args.open && args.lake.aws && args.output.is_none() {
        return Err(
            Error::bad_input("a browser can't open a report in a bucket").with_hint("choose a file with --output")
        );
    }
    let run = match &args.run {
        Some(run) => run.parse()?,
        None => newest_run(&lake).await?,
    };
    let config = crate::config::configuration()?;
    let path = match &args.output {
        None => write_report(&lake, &registry, &config, &run).await?,
        Some(file) => {
            let page = render_report(&lake, &registry, &config, &run).await?;
            write_file(file, &page)?;
            file.display().to_string()
        }
    };
    line(&path)?;
    if args.open { open_in_browser(Path::new(&path)) } else { Ok(()) }
}

fn open_in_browser(path: &Path) -> Result<()> {
    let result = std::path::absolute(path).and_then(open::that_detached);
    result.map_err(|cause| {
        Error::internal("can't start a browser").with_source(cause).with_hint("open the file at the printed path")
    })
}
