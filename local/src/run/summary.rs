//! Prints the result of a run as short tables.

use std::collections::BTreeSet;

use defi_shared::config::{Config, Schema};
use defi_shared::domain::{Day, Figure};
use defi_shared::error::Result;
use defi_shared::lake::FeatureSet;
use defi_shared::pipeline::Step;
use defi_shared::plan::Scope;
use defi_shared::step::snapshots::AAVE_NEEDS_THE_CHAIN;
use defi_shared::step::{Check, CheckResults, Context, Gaps, Outcome, Report, UnitSummary};
use defi_shared::tables::{FEATURES_PUBLISHED, FeatureRow};

use super::Options;
use super::steps::RunResult;
use crate::hint::CallOptions;
use crate::output::{NO_NUMBER, TextTable, line, table};
use defi_pages::number::with_thousands;

/// The number of wallets in the table of features.
const WALLETS_SHOWN: usize = 5;

/// Prints the tables of a run to standard output.
pub(super) async fn print(context: &Context, scope: &Scope, result: &RunResult, options: &Options) -> Result<()> {
    if result.checked.is_none() {
        line("no unit is missing")?;
    } else if !result.steps.is_empty() {
        let steps = result.steps.iter().map(|step| (step.step, &step.report, Some(step.seconds)));
        line("")?;
        steps_table(steps, Some(result.seconds)).wrapped().print()?;
    }
    print_gaps(&result.gaps)?;
    if scope.rebuild_lost {
        not_rebuilt(&context.config, &result.gaps)?.iter().try_for_each(line)?;
    }
    print_differing(result.steps.iter().map(|step| &step.report))?;
    if let Some(checked) = &result.checked {
        print_checks(checked)?;
        if !checked.passed {
            return Ok(());
        }
    }
    let set = FeatureSet::published(scope.as_of);
    let (features, _) = context.lake.features(&set).await?;
    line("")?;
    features_table(&features).wrapped().print()?;
    let newest = result.newest.unwrap_or(scope.as_of);
    line("")?;
    line(format_args!("{} wallets as of {}; defi_features shows {newest}", features.len(), scope.as_of))?;
    print_locations(context, scope, result, options)
}

/// Prints where the lake, the features and the reports are stored, and how to query them.
fn print_locations(context: &Context, scope: &Scope, result: &RunResult, options: &Options) -> Result<()> {
    let lake = options.lake.display();
    let location = |key: &str| context.lake.store().location(key);
    line(format_args!("lake       {lake}"))?;
    line(format_args!("features   {}", location(&FeatureSet::published(scope.as_of).folder)))?;
    if !result.steps.is_empty() {
        line(format_args!("reports    {}", location(&format!("runs/{}", result.run_id))))?;
    }
    let table = format!("{}.{}", FEATURES_PUBLISHED.database(options.env.name()), FEATURES_PUBLISHED.name);
    let call = CallOptions::in_folder(&options.lake, options.env);
    line(call.complete(&format!("query      defi query \"select * from {table} limit 10\"")))
}

/// Prints the reports of a run's steps.
#[cfg(feature = "aws")]
pub(crate) fn print_steps(steps: &[defi_shared::step::StepReport]) -> Result<()> {
    line("")?;
    steps_table(steps.iter().map(|step| (step.step, &step.report, None)), None).wrapped().print()
}

/// Returns a table with one row per step: its name, its report, and its duration in seconds if known.
fn steps_table<'a>(steps: impl Iterator<Item = (Step, &'a Report, Option<f64>)>, seconds: Option<f64>) -> TextTable {
    let header = [
        "step",
        "units",
        "rows in",
        "rows out",
        "rejected",
        "duplicates",
        "unpriced",
        "requests",
        "retries",
        "MB",
        "s",
    ];
    let mut table = table(&header, 1, header.len());
    let mut total = Report::default();
    for (step, report, seconds) in steps {
        table.add_row(step_row(step.name(), report, seconds));
        total.merge(report.clone());
    }
    table.add_row(step_row("total", &total, seconds));
    table
}

fn step_row(name: &str, report: &Report, seconds: Option<f64>) -> Vec<String> {
    let counts = [
        report.units,
        report.rows_in,
        report.rows_out,
        report.rejected(),
        report.repeats,
        report.unpriced,
        report.traffic.requests,
        report.traffic.retries.values().sum(),
    ];
    let megabytes = report.bytes as f64 / 1e6;
    let mut row = vec![name.to_owned()];
    row.extend(counts.iter().map(|count| if *count == 0 { NO_NUMBER.to_owned() } else { with_thousands(*count) }));
    row.push(format!("{megabytes:.1}"));
    row.push(seconds.map_or_else(|| NO_NUMBER.to_owned(), |seconds| format!("{seconds:.1}")));
    row
}

/// Prints the days that are missing after the run, and those that were rebuilt.
pub(crate) fn print_gaps(gaps: &Gaps) -> Result<()> {
    let lost = ("lost", "pruned at the source");
    let rebuilt = ("rebuilt", "from what the newest state of the subgraph keeps");
    for ((what, how), kind, days_by) in [
        (lost, "markets", &gaps.markets),
        (lost, "positions", &gaps.positions),
        (rebuilt, "markets", &gaps.rebuilt_markets),
        (rebuilt, "positions", &gaps.rebuilt_positions),
    ] {
        for (protocol, days) in days_by {
            let (count, days) = (days.len(), days.iter().map(Day::to_string).collect::<Vec<_>>().join(", "));
            line(format_args!("{what}: {count} days of {kind} of {protocol}, {how}: {days}"))?;
        }
    }
    Ok(())
}

/// Returns why days are lost that the run was to rebuild, by protocol.
fn not_rebuilt(config: &Config, gaps: &Gaps) -> Result<Vec<String>> {
    let protocols: BTreeSet<&String> = gaps.markets.keys().chain(gaps.positions.keys()).collect();
    let mut lines = Vec::new();
    for protocol in protocols {
        if config.schema(protocol)? == Some(Schema::Aave) {
            lines.push(format!("not rebuilt: {protocol}: {AAVE_NEEDS_THE_CHAIN}"));
        }
    }
    Ok(lines)
}

/// Prints how many values of the staged positions are not what the contracts say, and the first of them.
fn print_differing<'a>(reports: impl Iterator<Item = &'a Report>) -> Result<()> {
    for UnitSummary { count, first, .. } in reports.map(|report| &report.differing).filter(|values| values.count > 0) {
        let (count, first) = (with_thousands(*count), first.join("; "));
        line(format_args!("differing: {count} values are not what the contracts say, such as {first}"))?;
    }
    Ok(())
}

/// Prints the quality checks.
pub(crate) fn print_checks(checked: &CheckResults) -> Result<()> {
    let mut table = table(&["check", "outcome", "value", "warn above", "fail above", "description"], 2, 5);
    for check in &checked.checks {
        table.add_row(check_row(check));
    }
    line("")?;
    table.wrapped().print()
}

/// Formats the value of a check with up to four decimals.
fn value(check: &Check) -> String {
    let value = format!("{:.4}", Figure(check.figure));
    if !value.contains('.') || value.contains('e') {
        return value;
    }
    value.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn check_row(check: &Check) -> [String; 6] {
    let limit = |limit: Option<f64>| limit.map_or_else(|| NO_NUMBER.to_owned(), |limit| Figure(limit).to_string());
    let outcome = match check.outcome {
        Outcome::Pass => "pass",
        Outcome::Warn => "WARN",
        Outcome::Fail => "FAIL",
    };
    [check.name.clone(), outcome.to_owned(), value(check), limit(check.warn), limit(check.fail), check.about.clone()]
}

/// Returns a table of the features of the wallets that borrowed most.
fn features_table(rows: &[FeatureRow]) -> TextTable {
    let header = ["wallet", "risk", "collateral", "borrowed", "repaid", "deposited", "liquidations"];
    let mut table = table(&header, 1, header.len());
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by(|a, b| {
        let by_amount = b.borrow_amount_sum_eth.total_cmp(&a.borrow_amount_sum_eth);
        by_amount.then(a.wallet_address.cmp(&b.wallet_address))
    });
    for row in rows.into_iter().take(WALLETS_SHOWN) {
        let eth = |amount: f64| format!("{:.3}", Figure(amount));
        table.add_row([
            row.wallet_address.to_string(),
            eth(row.risk_factor),
            eth(row.total_collateral_eth),
            eth(row.borrow_amount_sum_eth),
            eth(row.repay_amount_sum_eth),
            eth(row.deposit_amount_sum_eth),
            row.liquidation_count.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use defi_shared::pipeline::DataSource;

    use super::*;

    #[test]
    fn lost_days_of_aaves_own_subgraph_are_not_rebuilt() {
        let mut config = Config::built_in().unwrap();
        let gaps = |protocol: &str| Gaps { markets: [(protocol.to_owned(), Vec::new())].into(), ..Gaps::default() };
        let [of_aave] = &not_rebuilt(&config, &gaps("aave-v2-eth")).unwrap()[..] else { panic!("one line") };
        assert!(of_aave.starts_with("not rebuilt: aave-v2-eth: ") && of_aave.contains("--rpc-url"), "{of_aave}");
        assert!(not_rebuilt(&config, &gaps("compound-v2-eth")).unwrap().is_empty());
        config.source = DataSource::Chain;
        assert!(not_rebuilt(&config, &gaps("aave-v2-eth")).unwrap().is_empty(), "a node has its own reasons");
    }
}
