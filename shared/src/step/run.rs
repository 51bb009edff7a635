//! The objects of a run in the lake, under `runs/{run_id}/`: its plan, and in `reports/{step}/` everything that a step
//! writes about the run: the reports of its calls, and the units that a call left to another one. In AWS the role of a
//! step may write to its own folder only.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::report::NAMED_UNITS;
use super::{CallUnits, Context, FoldStart, Remaining, Report};
use crate::domain::{Category, Day};
use crate::error::{Error, Result};
use crate::lake::WorkUnit;
use crate::lake::requests::{SMALL_REQUESTS, in_order};
use crate::pipeline::Step;
use crate::plan::{DaysBy, Plan, PlanPhase, Scope};
use crate::tables::{RAW_MARKETS, RAW_POSITIONS, Table};

/// The name of the run's plan, which plan-run writes before extraction.
pub const RUN_PLAN: &str = "plan.json";

/// The name of the run's report, which check-features writes when all other steps are done.
pub const RUN_REPORT: &str = "reports/check-features/report.json";

/// The name of the run's check results, which check-features writes.
pub const RUN_CHECKS: &str = "reports/check-features/checks.json";

/// The name of the run's report as HTML, which report-run writes.
pub const RUN_PAGE: &str = "reports/report-run/report.html";

/// The folder, in place of a run's, of calls that belong to no run.
const NO_RUN: &str = "runs/without-run/";

/// The id of a run: its as-of day and a digest of its plan. It contains no clock time, so that equal runs have equal
/// ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Returns the id of a run with an as-of day and the digest of its plan.
    #[must_use]
    pub fn new(as_of: Day, digest: &str) -> Self {
        RunId(format!("{as_of}-{digest}"))
    }

    /// Returns the key of an object of the run.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("runs/{self}/{name}")
    }

    /// Returns the prefix of the records of late events.
    fn late_events(&self) -> String {
        format!("{}late-events/", self.reports(Step::ExtractEvents))
    }

    /// Returns the prefix of what a step writes about the run.
    fn reports(&self, step: Step) -> String {
        self.key(&format!("reports/{step}/"))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> String {
        run.0
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: Error| error.reason())
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// Parses a run id. Only letters, digits and `-` are valid: the id is part of keys and must not change their
    /// folder.
    fn from_str(text: &str) -> Result<Self> {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.is_empty() || !text.chars().all(is_valid) {
            return Err(
                Error::bad_input(format!("{text:?} is not a run id")).with_hint("use the run_id of plan-run's output")
            );
        }
        Ok(RunId(text.to_owned()))
    }
}

/// The report of a run: its object [`RUN_REPORT`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The reports of the steps, in the order of the steps.
    pub steps: Vec<StepReport>,
    /// The days that are missing after the run, because the source no longer has their history.
    pub gaps: Gaps,
}

/// Days without a snapshot in the lake, or with one that was rebuilt, by protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// Days without markets. Prices of up to seven previous days apply.
    pub markets: DaysBy<String>,
    /// Days without positions. Their health is unknown.
    pub positions: DaysBy<String>,
    /// Days whose markets were rebuilt from what the newest state of their source keeps.
    #[serde(default, skip_serializing_if = "DaysBy::is_empty")]
    pub rebuilt_markets: DaysBy<String>,
    /// Days whose positions were rebuilt.
    #[serde(default, skip_serializing_if = "DaysBy::is_empty")]
    pub rebuilt_positions: DaysBy<String>,
}

impl Gaps {
    /// Returns the gaps that stay after a plan is carried out: a unit of it is not lost.
    #[must_use]
    pub fn after(mut self, plan: &Plan) -> Self {
        for (gaps, step) in
            [(&mut self.markets, Step::ExtractMarketData), (&mut self.positions, Step::ExtractAccountPositions)]
        {
            let planned = plan.days_by_protocol(step);
            for (protocol, days) in gaps.iter_mut() {
                days.retain(|day| !planned.get(protocol).is_some_and(|planned| planned.contains(day)));
            }
            gaps.retain(|_, days| !days.is_empty());
        }
        self
    }
}

/// The report of a step of a run, summed over its calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// The sum of the reports of its calls.
    #[serde(flatten)]
    pub report: Report,
}

impl Context {
    /// Completes the report of a call of a step. If many units remain, their names are written to the lake. If the call
    /// is part of a run, so is the report: under a key that contains the first unit of the call and the number of its
    /// units, which differ between a call and the call that continues it. Only the report in the lake has the digests.
    ///
    /// # Errors
    /// `Internal` if calls complete no unit any more, and the errors of the lake.
    pub async fn finish_call(
        &self,
        step: Step,
        run: Option<&RunId>,
        units: &CallUnits,
        mut report: Report,
    ) -> Result<Report> {
        let file_name = |unit: &str| unit.replace(' ', ".");
        let remaining = &mut report.remaining;
        units.count_idle_call(step, remaining)?;
        if let Some(first) = remaining.first.first().filter(|_| remaining.first.len() > NAMED_UNITS) {
            let folder = run.map_or_else(|| format!("{NO_RUN}reports/{step}/"), |run| run.reports(step));
            let key = format!("{folder}remaining/{}.json", file_name(first));
            self.lake.write_json(&key, &remaining.first).await?;
            remaining.first.truncate(NAMED_UNITS);
            remaining.list = Some(key);
        }
        if let (Some(run), Some(first)) = (run, units.first()) {
            let name = format!("{}.{}.json", file_name(&first.to_string()), units.len());
            self.lake.write_json(&format!("{}{name}", run.reports(step)), &report).await?;
        }
        report.digests.clear();
        Ok(report)
    }

    /// Records that a day of events changed at the source after an earlier run had extracted it. Written before the day,
    /// so that everything that was computed from the old events is recomputed in any case.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn record_late_events(&self, run: Option<&RunId>, unit: &WorkUnit) -> Result<()> {
        tracing::warn!(%unit, "the number of events changed since an earlier run");
        let Some(run) = run else { return Ok(()) };
        let key = format!("{}{}.json", run.late_events(), unit.to_string().replace(' ', "."));
        self.lake.write_json(&key, &unit.to_string()).await.map(drop)
    }

    /// Returns the days of events that [`Context::record_late_events`] recorded.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn late_events(&self, run: &RunId) -> Result<Vec<WorkUnit>> {
        let entries = self.lake.store().list(&run.late_events()).await?;
        let parse = |key: &str| -> Option<WorkUnit> {
            let (day, category) = key.strip_prefix(&run.late_events())?.strip_suffix(".json")?.split_once('.')?;
            Some(WorkUnit::EventDay(day.parse().ok()?, Category::parse(category)?))
        };
        Ok(entries.iter().filter_map(|entry| parse(&entry.key)).collect())
    }

    /// Returns where the folds of a run began, the earliest of them. `None` if the run did not build all shards.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn fold_start(&self, run: &RunId) -> Result<Option<FoldStart>> {
        let steps = self.step_reports(run).await?;
        let build = steps.into_iter().find(|step| step.step == Step::BuildFeatures).map(|step| step.report);
        let is_whole = |report: &Report| report.units >= u64::from(self.config.shards);
        Ok(build.filter(is_whole).and_then(|report| report.folded_from))
    }

    /// Builds the report of a run from the reports of its calls and the units that are still missing.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn run_report(&self, run: &RunId, scope: &Scope) -> Result<RunReport> {
        Ok(RunReport { steps: self.step_reports(run).await?, gaps: self.gaps(scope).await? })
    }

    /// Returns the days of a scope without a snapshot in the lake, including those that are lost, and those whose snapshots
    /// were rebuilt.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn gaps(&self, scope: &Scope) -> Result<Gaps> {
        // A forced plan lists existing units too, which are not missing. Other plans do not list lost units.
        let scope = Scope { force: false, retry_lost: true, ..scope.clone() };
        let missing = self.plan(&scope, PlanPhase::AfterExtraction(None)).await?;
        Ok(Gaps {
            markets: missing.days_by_protocol(Step::ExtractMarketData),
            positions: missing.days_by_protocol(Step::ExtractAccountPositions),
            rebuilt_markets: self.rebuilt_days(&RAW_MARKETS, &scope).await?,
            rebuilt_positions: self.rebuilt_days(&RAW_POSITIONS, &scope).await?,
        })
    }

    async fn rebuilt_days(&self, table: &Table, scope: &Scope) -> Result<DaysBy<String>> {
        let mut days_by = DaysBy::new();
        for unit in self.lake.rebuilt_units(table).await? {
            let (day, protocol) = unit.as_protocol_day()?;
            if scope.from.get(&*protocol).is_some_and(|from| (*from..=scope.as_of).contains(&day)) {
                days_by.entry(protocol.to_string()).or_insert_with(Vec::new).push(day);
            }
        }
        Ok(days_by)
    }

    async fn step_reports(&self, run: &RunId) -> Result<Vec<StepReport>> {
        let list = |step| async move { self.lake.store().list(&run.reports(step)).await };
        let listed = in_order(Step::planned(), SMALL_REQUESTS, list).await?;
        let reports = Step::planned().zip(listed).flat_map(|(step, entries)| {
            let prefix = run.reports(step);
            let keys = entries.into_iter().map(|entry| entry.key);
            let keys = keys.filter(move |key| key.strip_prefix(&prefix).is_some_and(is_report));
            keys.map(move |key| (step, key))
        });
        let read = |(step, key): (Step, String)| async move { Ok((step, self.lake.read_json::<Report>(&key).await?)) };
        let mut sums: BTreeMap<Step, Report> = BTreeMap::new();
        for (step, report) in in_order(reports, SMALL_REQUESTS, read).await? {
            report.into_iter().for_each(|report| sums.entry(step).or_default().merge(report));
        }
        // What remained after a call was done by the call that continued it. The digests stay in the calls' reports.
        let whole = |sum| Report { remaining: Remaining::default(), digests: BTreeMap::new(), ..sum };
        Ok(sums.into_iter().map(|(step, sum)| StepReport { step, report: whole(sum) }).collect())
    }

    /// Returns the sum of the reports of the calls of each step that sent requests and produced units, also of runs that
    /// did not come to their end: of the newest as-of day that has such a call.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn newest_reports(&self) -> Result<BTreeMap<Step, Report>> {
        let mut calls: BTreeMap<(Step, Day), Vec<String>> = BTreeMap::new();
        for entry in self.lake.store().list("runs/").await? {
            if let Some(call) = parse_report(&entry.key) {
                calls.entry(call).or_default().push(entry.key);
            }
        }
        let mut sums = BTreeMap::new();
        for ((step, _), keys) in calls.into_iter().rev() {
            if sums.contains_key(&step) {
                continue;
            }
            let read = |key: String| async move { self.lake.read_json::<Report>(&key).await };
            let reports = in_order(keys, SMALL_REQUESTS, read).await?;
            let mut sum = Report::default();
            let is_measured = |report: &Report| report.units > 0 && report.traffic.requests > 0;
            reports.into_iter().flatten().filter(is_measured).for_each(|report| sum.merge(report));
            if sum.units > 0 {
                sums.insert(step, sum);
            }
        }
        Ok(sums)
    }

    /// Writes the report of a run, which marks the run as finished.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn write_run_report(&self, run: &RunId, scope: &Scope) -> Result<()> {
        self.lake.write_json(&run.key(RUN_REPORT), &self.run_report(run, scope).await?).await.map(drop)
    }

    /// Returns whether a run is finished.
    pub(super) async fn is_reported(&self, run: &RunId) -> Result<bool> {
        Ok(self.lake.store().get_suffix(&run.key(RUN_REPORT), 1).await?.is_some())
    }

    /// Deletes the reports and records of an earlier run with this id. Two forced runs with the same plan have the same
    /// id.
    ///
    /// # Errors
    /// The errors of the lake.
    pub async fn delete_reports(&self, run: &RunId) -> Result<()> {
        self.lake.store().delete(&run.key(RUN_REPORT)).await?;
        let reports = self.lake.store().list(&run.key("reports/")).await?;
        self.lake.delete_keys(reports.into_iter().map(|entry| entry.key)).await
    }
}

/// Parses the key of the report of a call: the step, and the as-of day of its run, with which the run's id begins.
fn parse_report(key: &str) -> Option<(Step, Day)> {
    let (run, rest) = key.strip_prefix("runs/")?.split_once("/reports/")?;
    let (step, name) = rest.split_once('/')?;
    let step = Step::planned().find(|planned| planned.name() == step)?;
    let as_of = run.get(.."2023-01-01".len())?.parse().ok()?;
    is_report(name).then_some((step, as_of))
}

/// Returns whether an object in the folder of a step is the report of a call: named after its first unit and the number of its
/// units. Objects in folders are none, and others may be written by other steps, such as plans.
fn is_report(name: &str) -> bool {
    let count = name.strip_suffix(".json").and_then(|name| name.rsplit_once('.')).map(|(_, count)| count);
    !name.contains('/') && count.is_some_and(|count| count.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn newest_reports_are_of_the_newest_day_that_sent_requests() {
        use crate::testing::{AAVE, TestLake, january};

        let test_lake = TestLake::new(&[AAVE], january(9)).unwrap();
        let context = test_lake.context();
        let units = |day| CallUnits::from(vec![WorkUnit::ProtocolDay(january(day), AAVE.into())]);
        let report = |units, requests, milliseconds| {
            let mut report = Report { units, ..Report::default() };
            (report.traffic.requests, report.traffic.milliseconds) = (requests, milliseconds);
            report
        };
        // The order of the ids of two runs of a day says nothing.
        let calls = [
            (4, "b", 1, report(1, 9, 9)),
            (5, "b", 1, report(1, 10, 100)),
            (5, "b", 2, report(2, 20, 200)),
            (5, "a", 3, report(3, 30, 300)),
            // It lost its only day, and another one extracted nothing.
            (5, "a", 4, report(0, 40, 400)),
            (6, "a", 4, report(0, 50, 500)),
            (6, "b", 4, report(1, 0, 0)),
        ];
        for (as_of, digest, day, report) in calls {
            let run = RunId::new(january(as_of), digest);
            context.finish_call(Step::ExtractLogs, Some(&run), &units(day), report).await.unwrap();
        }
        let found = context.newest_reports().await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&Step::ExtractLogs]);
        assert_eq!(found[&Step::ExtractLogs], report(6, 60, 600));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn only_objects_in_the_folder_of_a_step_are_its_reports() {
        use crate::testing::{AAVE, TestLake, january};

        let test_lake = TestLake::new(&[AAVE], january(1)).unwrap();
        let (context, run) = (test_lake.context(), "1".parse::<RunId>().unwrap());
        let units = CallUnits::from(vec![WorkUnit::Day(january(1))]);
        let report = Report { units: 1, ..Report::default() };
        context.finish_call(Step::LinkWallets, Some(&run), &units, report.clone()).await.unwrap();
        // What the role of another step may write: its pattern, `runs/*/reports/price-events/*`, matches this key too.
        let foreign = format!("{}reports/price-events/2023-01-01.1.json", run.reports(Step::LinkWallets));
        context.lake.write_json(&foreign, &report).await.unwrap();
        let reports = context.step_reports(&run).await.unwrap();
        assert_eq!(reports, [StepReport { step: Step::LinkWallets, report }]);
        context.delete_reports(&run).await.unwrap();
        assert!(test_lake.objects("runs/").await.unwrap().is_empty());
    }

    #[test]
    fn run_id_rejects_path_characters() {
        assert!("2023-01-01-0a1b2c".parse::<RunId>().is_ok());
        for text in ["", "..", "a/b", "../chain", "a b", "a.json"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
