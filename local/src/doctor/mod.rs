//! `defi doctor`: checks API keys, sources, the lake against its catalog and the deployed environment, and says how to
//! fix each problem.

#[cfg(feature = "aws")]
mod aws;
mod head;
mod lake;
mod node;
mod sources;

use std::fmt::Display;

use defi_shared::error::{Error, Kind, Result};
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::{catalog, config::Config};
use serde::Serialize;

use crate::hint::CallOptions;
use crate::lake::ReadOptions;
use crate::output::{self, line, table};
use crate::source::Source;

/// The state of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// No problem.
    Ok,
    /// A problem that needs attention, although runs and readers work.
    Warn,
    /// A problem that makes a run or a reader fail.
    Fail,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The item that was checked.
    what: String,
    state: State,
    /// The observation.
    found: String,
    /// How to fix the problem. None without a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn ok(item: impl Into<String>, found: impl Display) -> Self {
        Finding { what: item.into(), state: State::Ok, found: found.to_string(), mend: None }
    }

    fn warn(item: impl Into<String>, found: impl Display, fix: impl Into<String>) -> Self {
        Finding { what: item.into(), state: State::Warn, found: found.to_string(), mend: Some(fix.into()) }
    }

    fn fail(item: impl Into<String>, found: impl Display, fix: impl Into<String>) -> Self {
        Finding { what: item.into(), state: State::Fail, found: found.to_string(), mend: Some(fix.into()) }
    }

    /// Returns a failure from an error, with its message and hint.
    fn error(item: impl Into<String>, error: &Error) -> Self {
        let found = format!("{}: {}", error.kind().name(), error.details());
        Finding::fail(item, found, error.hint())
    }
}

/// The options of `defi doctor`.
#[derive(Debug)]
pub struct Options {
    /// The source to check, if any.
    pub source: Option<Source>,
    /// List the checks that found no problem, too.
    pub all: bool,
    /// Print JSON instead of text.
    pub json: bool,
}

/// Runs all checks and prints the findings.
///
/// # Errors
/// `QualityFailed` if any check failed, after all findings are printed.
pub async fn run_checks(options: &Options, args: &ReadOptions) -> Result<()> {
    let mut findings = Vec::new();
    match crate::config::configuration() {
        Ok(config) => {
            findings.push(Finding::ok("configuration", protocols(&config)));
            let lake = check_lake(args, &mut findings).await;
            if let Some(source) = &options.source {
                findings.extend(sources::check(source, config, lake.as_ref(), &args.lake).await);
            }
        }
        Err(error) => findings.push(Finding::error("configuration", &error)),
    }
    let call = CallOptions::from(args);
    findings.iter_mut().for_each(|finding| finding.mend = finding.mend.as_deref().map(|mend| call.complete(mend)));
    print(&findings, options)?;
    let failed = findings.iter().filter(|finding| finding.state == State::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::QualityFailed, format!("{failed} of {} checks failed", findings.len()))
        .with_hint("fix the problems as described in the findings, then run defi doctor again"))
}

fn protocols(config: &Config) -> String {
    format!("{} shards; protocols {}", config.shards, config.protocol_names().join(", "))
}

/// Checks the lake, local or in AWS. Returns the lake if it exists.
async fn check_lake(args: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    if args.aws {
        return check_aws(args, findings).await;
    }
    if !args.lake.folder.is_dir() {
        let found = format!("there is no folder {}", args.lake.folder.display());
        findings.push(Finding::warn(
            "lake",
            found,
            "create a lake with defi run, or choose another folder with --lake",
        ));
        return None;
    }
    let lake = Lake::new(FolderStore::new(&args.lake.folder));
    let registry = catalog::registry_in_lake(&lake, args.lake.env.name());
    findings.extend(lake::check(&lake, &registry).await);
    Some(lake)
}

#[cfg(feature = "aws")]
async fn check_aws(args: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    let (aws_findings, lake) = aws::check(args.lake.env).await;
    findings.extend(aws_findings);
    lake
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "builds with AWS support need async")]
async fn check_aws(_: &ReadOptions, findings: &mut Vec<Finding>) -> Option<Lake> {
    findings.push(Finding::fail("AWS", "this build has no AWS support", "build with AWS support: make build"));
    None
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        }
    }
}

/// Prints the problems, those first that make a run or a reader fail, and otherwise in the order of the checks: each check
/// needs what those before it have checked. The other checks are one line, unless all are asked for.
fn print(findings: &[Finding], options: &Options) -> Result<()> {
    if options.json {
        return output::json(&findings);
    }
    if options.all {
        return print_table(findings);
    }
    let of = |state| findings.iter().filter(move |finding| finding.state == state);
    let problems: Vec<_> = of(State::Fail).chain(of(State::Warn)).collect();
    if !problems.is_empty() {
        print_table(problems.iter().copied())?;
        line("")?;
    }
    line(match (findings.len() - problems.len(), findings.len()) {
        (ok, all) if ok == all => format!("all {all} checks are ok; --all lists them"),
        (ok, all) => format!("{ok} of {all} checks are ok; --all lists them"),
    })
}

fn print_table<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Result<()> {
    let mut table = table(&["check", "state", "finding", "how to fix it"], 4, 4);
    for finding in findings {
        table.add_row([
            &finding.what,
            finding.state.name(),
            &finding.found,
            finding.mend.as_deref().unwrap_or_default(),
        ]);
    }
    table.wrapped().print()
}
