//! The audit stage of write-audit-publish: runs the quality checks on a feature set. Each check has a measured value
//! and its limits.

mod constraints;
mod counts;
mod evidence;
mod inputs;
mod prices;
mod shares;
mod summary;
mod totals;

use defi_shared::domain::{Day, Figure, fold};
use defi_shared::lake::PassedCheck;
use defi_shared::pipeline::Step;
use defi_shared::step::{Check, CheckResults, Context, Outcome, RUN_CHECKS, RunId};
use defi_shared::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use evidence::Evidence;

/// The step of this crate.
pub const STEP: Step = Step::CheckFeatures;

/// Selects the feature set to check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The as-of day. Default: today (UTC).
    pub as_of: Option<Day>,
    /// The first day of the run. Default: each protocol's first day. A protocol that starts after the as-of day needs
    /// no snapshot.
    pub from: Option<Day>,
    /// The run that built the set. The check results and the report of all its steps are written to its folder. Its
    /// reports say which days were folded, and these are judged. Without it, all days are.
    pub run_id: Option<RunId>,
}

/// Checks a feature set.
///
/// # Errors
/// Returns `QualityFailed`, which lists each failed check with its value, and the errors of the lake and of the
/// catalog.
pub async fn handle(context: Context, input: Input) -> Result<CheckResults> {
    let output = evaluate(&context, &input).await?;
    require_pass(&output)?;
    Ok(output)
}

/// Runs the checks of a feature set and, if the input has a run, writes the results to its folder, whatever the outcome.
///
/// # Errors
/// Returns the errors of the lake and of the catalog.
pub async fn evaluate(context: &Context, input: &Input) -> Result<CheckResults> {
    let scope = context.scope(input.as_of, input.from, false)?;
    let evidence = evidence::gather(context, &scope, input.run_id.as_ref()).await?;
    let checks = constraints::all(&evidence, &context.config.checks);
    let passed = checks.iter().all(|check| check.outcome != Outcome::Fail);
    record(context, scope.as_of, &evidence, passed).await?;
    let output = CheckResults { as_of: scope.as_of, wallets: evidence.features.wallets.len() as u64, passed, checks };
    if let Some(run) = &input.run_id {
        context.lake.write_json(&run.key(RUN_CHECKS), &output).await?;
        context.write_run_report(run, &scope).await?;
    }
    Ok(output)
}

/// Records that the set passed its checks, for publish-features. A set that failed loses its record.
async fn record(context: &Context, as_of: Day, evidence: &Evidence, passed: bool) -> Result<()> {
    let Some(digest) = evidence.digest.as_ref().filter(|_| passed) else {
        return context.lake.delete_passed_check(as_of).await;
    };
    let record = PassedCheck {
        digest: digest.to_string(),
        shards: context.config.shards,
        wallets: evidence.features.wallets.len() as u64,
        fold_version: fold::VERSION,
    };
    context.lake.write_passed_check(as_of, &record).await
}

/// Returns an error if a check failed.
///
/// # Errors
/// Returns `QualityFailed`, which lists each failed check with its value.
pub fn require_pass(output: &CheckResults) -> Result<()> {
    let failed = output.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    let failed = failed.map(|check| format!("{} is {} ({})", check.name, Figure(check.figure), check.about));
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    let error = Error::new(Kind::QualityFailed, failed.join("; ")).with("as_of", output.as_of);
    let is_wrong_source = |check: &Check| {
        check.outcome == Outcome::Fail && check.name.starts_with("market_") && check.name.ends_with("_deviation")
    };
    match output.checks.iter().any(is_wrong_source) {
        true => Err(error.with_hint(WRONG_SOURCE)),
        false => Err(error),
    }
}

/// What to do if positions do not add up to what their market says.
const WRONG_SOURCE: &str = "choose another source for the protocol, in a new lake: Messari's subgraph of Aave v2 never reduces a debt; \
    Aave's own (schema = \"aave\" in the configuration) and an Ethereum node do (docs/sources.md); the previously published \
    features stay in place";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_market_whose_total_differs_too_much_points_to_a_wrong_source() {
        let hint_is_of_the_source = |checks: &[(&str, Outcome)]| {
            let check = |(name, outcome): &(&str, Outcome)| Check {
                name: (*name).to_owned(),
                figure: 1.0,
                warn: None,
                fail: None,
                outcome: *outcome,
                about: String::new(),
            };
            let (as_of, checks) = (Day::from_epoch_days(19_358), checks.iter().map(check).collect());
            let error = require_pass(&CheckResults { as_of, wallets: 1, passed: false, checks }).unwrap_err();
            assert_eq!(error.kind(), Kind::QualityFailed);
            error.hint() == WRONG_SOURCE
        };
        let (borrow, deposit) = ("market_borrow_deviation", "market_deposit_deviation");
        assert!(hint_is_of_the_source(&[(borrow, Outcome::Fail)]));
        assert!(hint_is_of_the_source(&[("lost_wallets", Outcome::Fail), (deposit, Outcome::Fail)]));
        for passed in [Outcome::Pass, Outcome::Warn] {
            assert!(!hint_is_of_the_source(&[("lost_wallets", Outcome::Fail), (borrow, passed)]));
        }
        for other in ["market_share", "reserve_debt_deviation"] {
            assert!(!hint_is_of_the_source(&[(other, Outcome::Fail)]), "{other}");
        }
    }
}
