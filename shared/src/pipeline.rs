//! The steps of the pipeline: their names, order, phases and inputs. Everything that lists steps reads it here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A step of the pipeline. Each is a Lambda function, a crate under `functions/` and a state of the state machine, all
/// with the step's [name](Step::name). Ordered as a run executes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Step {
    /// Lists the lake and plans the missing units.
    PlanRun,
    /// Finds the first block of each day.
    ExtractDailyBlocks,
    /// Extracts lending events from Transpose.
    ExtractEvents,
    /// Extracts the logs of the protocols' contracts from a node.
    ExtractLogs,
    /// Extracts markets from The Graph, or from a node.
    ExtractMarketData,
    /// Extracts open positions from The Graph.
    ExtractAccountPositions,
    /// Extracts the newest open positions from The Graph.
    ExtractCurrentPositions,
    /// Validates events.
    StageEvents,
    /// Validates markets.
    StageMarketData,
    /// Validates positions.
    StageAccountPositions,
    /// Links wallets to the accounts that they borrow for.
    LinkWallets,
    /// Adds ETH amounts to events.
    PriceEvents,
    /// Computes the health of each wallet.
    ValuePositions,
    /// Folds days into features.
    BuildFeatures,
    /// Checks the features against the quality constraints.
    CheckFeatures,
    /// Publishes the features.
    PublishFeatures,
    /// Writes the HTML report of the run.
    ReportRun,
}

/// A part of a run. Phases run one after another; the steps of one phase run concurrently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Planning.
    Plan,
    /// Finding the block of each day, to which extraction is pinned.
    Blocks,
    /// Extraction from the sources.
    Extract,
    /// Validation.
    Stage,
    /// Linking wallets to accounts.
    Link,
    /// Pricing events and valuing positions.
    Value,
    /// Building features.
    Build,
    /// Checking the features.
    Check,
    /// Publishing the features.
    Publish,
    /// Reporting on the run.
    Report,
}

/// What a step's input selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Days.
    Days,
    /// Days of event categories.
    EventDays,
    /// Days of protocols.
    ProtocolDays,
    /// Protocols, without days. The input has fields of its own.
    Protocols,
    /// Shards of the wallets. The input has fields of its own.
    Shards,
    /// A whole run. The input has fields of its own.
    Run,
}

/// The source that a lake is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// The Graph and Transpose.
    #[default]
    Apis,
    /// An Ethereum node.
    Chain,
}

impl DataSource {
    /// Parses the name. A missing name is that of the APIs.
    ///
    /// # Errors
    /// `BadInput` for another name.
    pub fn parse(name: Option<&str>) -> Result<Self> {
        let source =
            [DataSource::Apis, DataSource::Chain].into_iter().find(|source| name.unwrap_or("apis") == source.name());
        source.ok_or_else(|| {
            Error::bad_input(format!("unknown source {:?}", name.unwrap_or_default())).with_hint("choose apis or chain")
        })
    }

    /// Returns the name, as in the configuration of a deployment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DataSource::Apis => "apis",
            DataSource::Chain => "chain",
        }
    }
}

/// A source that steps extract from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The Graph.
    TheGraph,
    /// Transpose.
    Transpose,
    /// An Ethereum node.
    Ethereum,
}

/// The maximum number of days in one call of most steps. A month takes seconds, so a call ends long before its
/// deadline, and a backfill of years spreads over parallel calls.
const MONTH: usize = 31;

/// For steps that need all their days in one call.
const ALL_DAYS: usize = usize::MAX;

/// The definition of a step: one row of the table in [`Step::definition`].
struct Definition {
    name: &'static str,
    phase: Phase,
    input: InputKind,
    days_per_call: usize,
    source: Option<Source>,
    summary: &'static str,
}

impl Definition {
    fn new(
        name: &'static str,
        phase: Phase,
        input: InputKind,
        days_per_call: usize,
        source: Option<Source>,
        summary: &'static str,
    ) -> Self {
        Definition { name, phase, input, days_per_call, source, summary }
    }
}

impl Step {
    /// Every step, in the order of a run.
    pub const ALL: [Step; 17] = [
        Step::PlanRun,
        Step::ExtractDailyBlocks,
        Step::ExtractEvents,
        Step::ExtractLogs,
        Step::ExtractMarketData,
        Step::ExtractAccountPositions,
        Step::ExtractCurrentPositions,
        Step::StageEvents,
        Step::StageMarketData,
        Step::StageAccountPositions,
        Step::LinkWallets,
        Step::PriceEvents,
        Step::ValuePositions,
        Step::BuildFeatures,
        Step::CheckFeatures,
        Step::PublishFeatures,
        Step::ReportRun,
    ];

    /// Returns the name, the phase, the input, the days of one call, the source and the summary of the step.
    #[rustfmt::skip]
    fn definition(self) -> Definition {
        use InputKind::{Days, EventDays, ProtocolDays, Protocols, Run, Shards};
        use Source::{TheGraph, Transpose};
        let graph = Some(TheGraph);
        let transpose = Some(Transpose);
        match self {
            Step::PlanRun => Definition::new("plan-run", Phase::Plan, Run, ALL_DAYS, None, "Lists the lake and plans the units that are missing"),
            Step::ExtractDailyBlocks => Definition::new("extract-daily-blocks", Phase::Blocks, Days, MONTH, transpose, "Finds the first block of each day"),
            Step::ExtractEvents => Definition::new("extract-events", Phase::Extract, EventDays, MONTH, transpose, "Extracts lending events"),
            Step::ExtractLogs => Definition::new("extract-logs", Phase::Extract, ProtocolDays, MONTH, None, "Extracts the logs of the protocols' contracts from a node"),
            Step::ExtractMarketData => Definition::new("extract-market-data", Phase::Extract, ProtocolDays, MONTH, graph, "Extracts markets at each day's first block"),
            // All days of a protocol in one call: a day without positions is compared with the day before it.
            Step::ExtractAccountPositions => Definition::new("extract-account-positions", Phase::Extract, ProtocolDays, ALL_DAYS, graph, "Extracts open positions at each day's first block"),
            Step::ExtractCurrentPositions => Definition::new("extract-current-positions", Phase::Extract, Protocols, ALL_DAYS, graph, "Extracts the newest open positions; features do not use them"),
            Step::StageEvents => Definition::new("stage-events", Phase::Stage, EventDays, MONTH, None, "Validates events; rejected rows go to quarantine"),
            Step::StageMarketData => Definition::new("stage-market-data", Phase::Stage, ProtocolDays, MONTH, None, "Validates markets; rejected rows go to quarantine"),
            Step::StageAccountPositions => Definition::new("stage-account-positions", Phase::Stage, ProtocolDays, MONTH, None, "Validates positions; rejected rows go to quarantine"),
            // One call: it writes one state with the links of all days.
            Step::LinkWallets => Definition::new("link-wallets", Phase::Link, Days, ALL_DAYS, None, "Links wallets to the accounts that they borrow for"),
            Step::PriceEvents => Definition::new("price-events", Phase::Value, EventDays, MONTH, None, "Adds ETH amounts and the wallet to events"),
            Step::ValuePositions => Definition::new("value-positions", Phase::Value, Days, MONTH, None, "Computes the health of each wallet's accounts"),
            Step::BuildFeatures => Definition::new("build-features", Phase::Build, Shards, ALL_DAYS, None, "Folds days into the features of each wallet"),
            Step::CheckFeatures => Definition::new("check-features", Phase::Check, Run, ALL_DAYS, None, "Checks the features against the quality constraints"),
            Step::PublishFeatures => Definition::new("publish-features", Phase::Publish, Run, ALL_DAYS, None, "Publishes features that passed their checks"),
            Step::ReportRun => Definition::new("report-run", Phase::Report, Run, ALL_DAYS, None, "Writes the HTML report of a run"),
        }
    }

    /// Returns the name, such as `extract-events`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Returns the phase in which a run executes the step.
    #[must_use]
    pub fn phase(self) -> Phase {
        self.definition().phase
    }

    /// Returns what the step's input selects.
    #[must_use]
    pub fn input(self) -> InputKind {
        self.definition().input
    }

    /// Returns the maximum number of days in one call.
    #[must_use]
    pub fn days_per_call(self, data: DataSource) -> usize {
        match (self, data) {
            // The positions of a day follow from those of the day before.
            (Step::StageAccountPositions, DataSource::Chain) => ALL_DAYS,
            _ => self.definition().days_per_call,
        }
    }

    /// Returns the source that the step extracts from, if any. `None` for a step that has nothing to do in a lake that is
    /// filled from `data`.
    #[must_use]
    pub fn source(self, data: DataSource) -> Option<Source> {
        match data {
            DataSource::Apis => self.definition().source,
            DataSource::Chain => {
                let from_a_node = [Step::ExtractDailyBlocks, Step::ExtractLogs, Step::ExtractMarketData];
                from_a_node.contains(&self).then_some(Source::Ethereum)
            }
        }
    }

    /// Returns what the step does, in one sentence without a full stop.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.definition().summary
    }

    /// Returns the steps whose units a plan lists, in the order of a run.
    pub fn planned() -> impl Iterator<Item = Step> {
        Step::ALL.into_iter().filter(|step| step.input() != InputKind::Run)
    }

    /// Returns whether the state machine runs the step before the lake is planned a second time: its units depend on
    /// the sources alone. The newest positions are extracted later, since no feature is computed from them.
    #[must_use]
    pub fn is_extraction(self) -> bool {
        matches!(self.phase(), Phase::Blocks | Phase::Extract) && self != Step::ExtractCurrentPositions
    }

    /// Returns whether the step processes its newest day first: a source may keep the history of snapshots only for a
    /// short time.
    #[must_use]
    pub fn is_newest_first(self) -> bool {
        matches!(self, Step::ExtractMarketData | Step::ExtractAccountPositions)
    }
}

impl Phase {
    /// The phases that produce units, in order.
    pub const PRODUCING: [Phase; 6] =
        [Phase::Blocks, Phase::Extract, Phase::Stage, Phase::Link, Phase::Value, Phase::Build];

    /// Returns the name, for reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Plan => "plan",
            Phase::Blocks => "blocks",
            Phase::Extract => "extract",
            Phase::Stage => "stage",
            Phase::Link => "link",
            Phase::Value => "value",
            Phase::Build => "build",
            Phase::Check => "check",
            Phase::Publish => "publish",
            Phase::Report => "report",
        }
    }

    /// Returns the steps of the phase, in order.
    pub fn steps(self) -> impl Iterator<Item = Step> {
        Step::ALL.into_iter().filter(move |step| step.phase() == self)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Step {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        step.ok_or_else(|| {
            let names = Step::ALL.map(Step::name).join(", ");
            Error::bad_input(format!("unknown step {name:?}")).with_hint(format!("choose one of {names}"))
        })
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map_err(|error: Error| error.reason())
    }
}

impl From<Step> for String {
    fn from(step: Step) -> String {
        step.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_lists_every_step_once_in_order() {
        assert!(Step::ALL.is_sorted_by(|a, b| a < b));
        assert_eq!(Step::ALL.map(Step::name).into_iter().collect::<BTreeSet<_>>().len(), Step::ALL.len());
        for step in Step::ALL {
            assert_eq!(step.name().parse::<Step>().unwrap(), step);
        }
    }

    #[test]
    fn phases_run_in_the_order_of_the_steps() {
        assert!(Step::ALL.map(Step::phase).is_sorted());
        let planned: Vec<_> = Phase::PRODUCING.into_iter().flat_map(Phase::steps).collect();
        assert_eq!(planned, Step::planned().collect::<Vec<_>>());
    }

    #[test]
    fn unknown_step_is_bad_input() {
        let error = "extract-everything".parse::<Step>().unwrap_err();
        assert!(error.to_string().contains("extract-daily-blocks"), "{error}");
    }
}
