//! Looks after what a run needs: keys, sources, the lake against its catalog, the deployed environment; and says how to mend what
//! is wrong.

#[cfg(feature = "aws")]
mod aws;
mod lake;
mod sources;

use std::fmt::Display;

use defi_shared::error::{Error, Kind, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::{catalog, config::Config};
use serde::Serialize;

use crate::lake::ReadOptions;
use crate::output::{line, table};
use crate::source::Source;

/// How a thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// A run can do its work, and somebody should look.
    Warn,
    /// A run, or a reader, will fail.
    Fail,
}

/// A thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    what: String,
    state: State,
    /// What was seen.
    found: String,
    /// What to do about it; none where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>, found: impl Display) -> Self {
        Finding { what: what.into(), state: State::Ok, found: found.to_string(), mend: None }
    }

    fn warn(what: impl Into<String>, found: impl Display, mend: impl Into<String>) -> Self {
        Finding { what: what.into(), state: State::Warn, found: found.to_string(), mend: Some(mend.into()) }
    }

    fn fail(what: impl Into<String>, found: impl Display, mend: impl Into<String>) -> Self {
        Finding { what: what.into(), state: State::Fail, found: found.to_string(), mend: Some(mend.into()) }
    }

    /// What an error says.
    fn error(what: impl Into<String>, error: &Error) -> Self {
        let found = format!("{}: {}", error.kind().name(), error.what());
        Finding::fail(what, found, error.next_step())
    }
}

/// What is to be looked at.
#[derive(Debug)]
pub struct Options {
    /// The sources, if any.
    pub source: Option<Source>,
    /// JSON instead of a table.
    pub json: bool,
}

/// Looks at everything, and prints what was found.
///
/// # Errors
/// `QualityFailed` where anything is found that will fail, once all of it is printed.
pub async fn examine(options: &Options, args: &ReadOptions) -> Result<()> {
    let mut findings = Vec::new();
    match crate::config::configuration() {
        Ok(config) => {
            findings.push(Finding::ok("configuration", protocols(&config)));
            let lake = lake_of(args, &mut findings).await;
            if let Some(source) = &options.source {
                findings.extend(sources::examine(source, config, lake.as_ref()).await);
            }
        }
        Err(error) => findings.push(Finding::error("configuration", &error)),
    }
    print(&findings, options.json)?;
    let failed = findings.iter().filter(|finding| finding.state == State::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::QualityFailed, format!("{failed} of {} things looked at will fail", findings.len()))
        .next("mend them as the table says, and look again"))
}

fn protocols(config: &Config) -> String {
    format!("{} shards; protocols {}", config.shards, config.protocol_names().join(", "))
}

/// Examines the lake, here or in AWS; the lake, if there is one.
async fn lake_of(args: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    if args.aws {
        return in_aws(args, findings).await;
    }
    if !args.lake.folder.is_dir() {
        let found = format!("there is no folder {}", args.lake.folder.display());
        findings.push(Finding::warn("lake", found, "make a lake with defi run, or name another folder with --lake"));
        return None;
    }
    let lake = Lake::new(FolderStore::new(&args.lake.folder));
    let registry = catalog::in_lake(&lake, args.lake.env.name());
    findings.extend(lake::examine(&lake, &registry).await);
    Some(lake)
}

#[cfg(feature = "aws")]
async fn in_aws(args: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    let (found, lake) = aws::examine(args.lake.env).await;
    findings.extend(found);
    lake
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "it is async where AWS is built in")]
async fn in_aws(_: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    findings.push(Finding::fail("AWS", "this build of the command has no AWS", "build it with AWS: make build"));
    None
}

fn print(findings: &[Finding], json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(findings);
        return line(text.map_err(|cause| Error::internal("no JSON").because(cause))?);
    }
    let mut table = table(&["what", "state", "found", "how to mend it"], 4, 4);
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        };
        table.add_row([&finding.what, state, &finding.found, finding.mend.as_deref().unwrap_or_default()]);
    }
    line(table)
}
