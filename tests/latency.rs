//! How long the functions wait for AWS over a lake of 2,700 days, if every call takes 30 ms, and the calls that they make.
//!
//! S3, Glue and the clock are simulated: computing takes no time, and a test takes no longer than computing. The steps run
//! over real objects. The days that a measured call does not produce are copies of one day. Extraction is not measured: it
//! waits for its sources, and ends before its deadline whatever remains.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use defi_local::handlers;
use defi_shared::catalog::{Catalog, Partition, Registry};
use defi_shared::domain::{Address, Category, Day, HexBytes};
use defi_shared::lake::{FeatureSet, FileMetadata, Lake, State, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::plan::state_part;
use defi_shared::step::RunId;
use defi_shared::tables::{
    self, CURRENT_POSITIONS, DAILY_BLOCKS, FEATURES_HISTORY, Layer, Layout, RAW_MARKETS, RAW_POSITIONS, RawEvent, Row,
    STAGE_MARKETS, STAGE_POSITIONS, StagedPosition, Table, WALLET_HEALTH, WALLET_LINKS,
};
use defi_shared::testing::WETH;
use defi_shared::testing::{
    AAVE, AwsCall, AwsCalls, COMPOUND, SimulatedAws, SimulatedClock, SimulatedGlue, SimulatedS3, TestLake, address,
    daily_block, january, raw_event, raw_market, raw_position,
};
use serde_json::{Value, json};

use crate::support::page::{check_page, repository_file};

/// The days of the lake.
const DAYS: i32 = 2_700;

/// The time that each call takes.
const LATENCY: Duration = Duration::from_millis(30);

/// The time that a function of a daily run may wait.
const DAILY_LIMIT: Duration = Duration::from_secs(30);

/// The days for which the lake keeps the objects of runs, as `keep_days` of Terraform.
const DAYS_OF_RUNS: i32 = 180;

/// One, so that the days are folded once: each shard has calls of its own, which make the same requests for their inputs.
const SHARDS: u32 = 1;
const PROTOCOLS: [&str; 2] = [AAVE, COMPOUND];
const MARKET: Address = HexBytes([9; 20]);

/// The steps between planning and building, each with the tables that it writes.
fn computing_steps() -> Vec<(Step, Vec<&'static Table>)> {
    let events = |layer| Category::ALL.map(|category| tables::event_table(layer, category)).to_vec();
    vec![
        (Step::StageEvents, events(Layer::Stage)),
        (Step::StageMarketData, vec![&STAGE_MARKETS]),
        (Step::StageAccountPositions, vec![&STAGE_POSITIONS]),
        (Step::LinkWallets, vec![&WALLET_LINKS]),
        (Step::PriceEvents, events(Layer::Analytics)),
        (Step::ValuePositions, vec![&WALLET_HEALTH]),
    ]
}

/// The longest call of a step in a run.
struct Measured {
    step: Step,
    name: String,
    /// The number of calls of the function in the run.
    function_calls: usize,
    calls: AwsCalls,
    time: Duration,
}

/// An environment in AWS, with two protocols.
struct Environment {
    clock: SimulatedClock,
    aws: SimulatedAws,
    bucket: SimulatedS3,
    glue: SimulatedGlue,
    test_lake: TestLake,
}

impl Environment {
    fn new(clock: &SimulatedClock, today: Day) -> Self {
        let aws = SimulatedAws::new(clock, LATENCY);
        let (bucket, glue) = (SimulatedS3::new(&aws), SimulatedGlue::new(&aws));
        let mut test_lake = TestLake::new(&PROTOCOLS, today).unwrap().with_shards(SHARDS);
        test_lake.context.lake = Lake::new(bucket.clone());
        test_lake.context.registry = Registry::new(glue.clone(), "dev");
        Environment { clock: clock.clone(), aws, bucket, glue, test_lake }
    }

    fn today(&self) -> Day {
        self.test_lake.context.today
    }

    /// Calls a function. Returns its output, and the call as the only one of its step.
    async fn call(&self, step: Step, input: Value) -> (Value, Measured) {
        let start = self.clock.now();
        self.aws.take_calls();
        let call = handlers::prepare(step, input.clone()).unwrap();
        let output = call(self.test_lake.context()).await;
        let output = output.unwrap_or_else(|error| panic!("{step} {input}: {error}"));
        let (calls, time) = (self.aws.take_calls(), self.clock.now() - start);
        (output, Measured { step, name: step.name().to_owned(), function_calls: 1, calls, time })
    }

    /// Returns the inputs of the calls of a step that a plan lists.
    async fn planned(&self, plan: &Value, step: Step) -> Vec<Value> {
        let key = plan["batches"][step.name()]["key"].as_str().unwrap();
        self.test_lake.context.lake.read_json(key).await.unwrap().unwrap_or_default()
    }

    /// Writes the rows of a unit, as a step does.
    async fn put<R: Row>(&self, table: &Table, unit: &WorkUnit, rows: Vec<R>) {
        self.test_lake.context.lake.write(table, unit, rows, FileMetadata::new()).await.unwrap();
    }

    /// Copies an object and its record.
    fn copy(&self, from: &str, to: &str) {
        if let Some(digest) = self.bucket.copy(from, to) {
            self.bucket.copy(&format!("digests/{from}.{digest}"), &format!("digests/{to}.{digest}"));
        }
    }

    /// Copies the objects of a day to other days, unless they are there.
    fn copy_day(&self, table: &Table, from: Day, to: impl Iterator<Item = Day> + Clone) {
        match table.layout {
            Layout::ProtocolDay | Layout::ProtocolDayOrMonth => {
                for protocol in PROTOCOLS {
                    let key = |day| WorkUnit::ProtocolDay(day, protocol.into()).key(table);
                    to.clone().for_each(|day| self.copy(&key(from), &key(day)));
                }
            }
            _ => to.for_each(|day| self.copy(&WorkUnit::Day(from).key(table), &WorkUnit::Day(day).key(table))),
        }
    }

    /// Extracts the first day, and puts copies of it in the place of the others up to today. Other days have no events.
    async fn extract_all(&self) {
        let (first, today) = (january(1), self.today());
        for (log_index, category) in (1..).zip(Category::ALL) {
            let table = tables::event_table(Layer::Raw, category);
            self.put(table, &WorkUnit::Day(first), vec![raw_event(category, first.start() + 60, log_index)]).await;
            self.put(table, &WorkUnit::Day(first.next()), Vec::<RawEvent>::new()).await;
        }
        self.put(&DAILY_BLOCKS, &WorkUnit::Day(first), vec![daily_block(first)]).await;
        for protocol in PROTOCOLS {
            let unit = WorkUnit::ProtocolDay(first, protocol.into());
            self.put(&RAW_MARKETS, &unit, vec![raw_market(protocol, first, MARKET, WETH, "2000")]).await;
            let position = |side, balance| raw_position(protocol, first, address(1), MARKET, side, balance);
            let positions =
                vec![position("BORROWER", "1000000000000000000"), position("LENDER", "4000000000000000000")];
            self.put(&RAW_POSITIONS, &unit, positions).await;
            let unit = WorkUnit::Protocol(protocol.into());
            self.put(&CURRENT_POSITIONS, &unit, Vec::<StagedPosition>::new()).await;
        }
        self.copy_extracted(first, first.through(today));
    }

    /// Puts copies of an extracted day in the place of others.
    fn copy_extracted(&self, from: Day, days: impl Iterator<Item = Day> + Clone) {
        for table in [&DAILY_BLOCKS, &RAW_MARKETS, &RAW_POSITIONS] {
            self.copy_day(table, from, days.clone());
        }
        for table in Category::ALL.map(|category| tables::event_table(Layer::Raw, category)) {
            self.copy_day(table, january(2), days.clone().filter(|day| *day < self.today()));
        }
    }

    /// Runs a first run over all days, and returns the longest call of each step.
    async fn first_run(&self) -> Vec<Measured> {
        let (first, today) = (january(1), self.today());
        let (before, plan_before) = self.call(Step::PlanRun, json!({"as_of": today, "from": first})).await;
        self.extract_all().await;
        let mut measured = vec![plan_before];
        let after = json!({"as_of": today, "from": first, "after": before["plan"]});
        let (plan, plan_after) = self.call(Step::PlanRun, after).await;
        measured.push(after_extraction(plan_after));
        for (step, tables) in computing_steps() {
            let calls = self.planned(&plan, step).await;
            // The day that is copied.
            self.call(step, json!({"as_of": today, "days": [first]})).await;
            // The last call has the days that are left, which may be few.
            let (_, call) = self.call(step, calls[calls.len().saturating_sub(2)].clone()).await;
            measured.push(Measured { function_calls: calls.len(), ..call });
            for table in tables {
                let last = if *table == STAGE_MARKETS || *table == STAGE_POSITIONS || *table == WALLET_HEALTH {
                    today
                } else {
                    today.previous()
                };
                self.copy_day(table, first, first.through(last));
            }
        }
        let calls = self.planned(&plan, Step::BuildFeatures).await;
        let (_, build) = self.call(Step::BuildFeatures, calls[0].clone()).await;
        measured.push(Measured { function_calls: calls.len(), ..build });
        measured.extend(self.finish(&plan).await);
        measured
    }

    /// Checks and publishes the features of today, and reports on the run.
    async fn finish(&self, plan: &Value) -> Vec<Measured> {
        let (as_of, run) = (self.today(), &plan["run_id"]);
        let mut measured = Vec::new();
        for (step, input) in [
            (Step::CheckFeatures, json!({"as_of": as_of, "run_id": run})),
            (Step::PublishFeatures, json!({"as_of": as_of})),
            (Step::ReportRun, json!({"run_id": run})),
        ] {
            measured.push(self.call(step, input).await.1);
        }
        measured
    }

    /// Adds what daily runs over all days would have left: the published sets, the states that are kept and the objects of
    /// runs.
    async fn add_daily_runs(&self, run: &RunId) {
        let (first, today) = (january(1), self.today());
        let mut partitions = Vec::new();
        for day in first.until(today) {
            let (set, newest) = (FeatureSet::published(day), FeatureSet::published(today));
            (0..SHARDS).for_each(|shard| self.copy(&newest.key(shard), &set.key(shard)));
            partitions.push(Partition { values: vec![day.to_string()], location: set.folder });
        }
        let database = FEATURES_HISTORY.database("dev");
        self.glue.put_partitions(&database, FEATURES_HISTORY.name, &partitions).await.unwrap();
        let daily = i32::try_from(self.test_lake.context.config.states.daily).unwrap();
        let is_kept = |day: &Day| *day > today.plus_days(-daily) || day.next().month() != day.month();
        for day in first.until(today).filter(is_kept) {
            self.copy(&State::Links.key(today, "all"), &State::Links.key(day, "all"));
            for part in (0..SHARDS).map(|shard| state_part(shard, SHARDS)) {
                self.copy(&State::Fold.key(today, &part), &State::Fold.key(day, &part));
            }
        }
        for day in today.plus_days(-DAYS_OF_RUNS).until(today) {
            let copy = RunId::new(day, "0123456789ab");
            for key in self.bucket.keys(&run.key("")) {
                self.copy(&key, &copy.key(key.strip_prefix(&run.key("")).unwrap()));
            }
        }
    }

    /// Runs a run of the next day, and returns the longest call of each step.
    async fn daily_run(&mut self) -> Vec<Measured> {
        self.test_lake.context.today = self.today().next();
        let today = self.today();
        let (before, plan_before) = self.call(Step::PlanRun, json!({})).await;
        self.copy_extracted(january(1), today.previous().through(today));
        let (plan, plan_after) = self.call(Step::PlanRun, json!({"as_of": today, "after": before["plan"]})).await;
        let mut measured = vec![plan_before, after_extraction(plan_after)];
        let steps = computing_steps().into_iter().map(|(step, _)| step).chain([Step::BuildFeatures]);
        for step in steps {
            let mut of_step: Vec<Measured> = Vec::new();
            for input in self.planned(&plan, step).await {
                of_step.push(self.call(step, input).await.1);
            }
            let function_calls = of_step.len();
            let longest = of_step.into_iter().max_by_key(|call| call.time).expect("a call of every step");
            measured.push(Measured { function_calls, ..longest });
        }
        measured.extend(self.finish(&plan).await);
        measured
    }
}

fn after_extraction(plan: Measured) -> Measured {
    Measured { name: format!("{}, after extraction", plan.step), ..plan }
}

/// Returns the time limit of a step's function, as in `infra/steps.tf`.
fn time_limit(step: Step) -> Duration {
    let text = fs::read_to_string(repository_file("infra/steps.tf")).unwrap();
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let default = text.split("step.timeout, ").nth(1).map(number).unwrap();
    let (_, rest) = text.split_once(&format!("\n    {step} = {{\n")).unwrap();
    let (definition, _) = rest.split_once("\n    }\n").unwrap();
    let own = definition.lines().filter_map(|line| line.trim().strip_prefix("timeout")?.split_once("= "));
    Duration::from_secs(own.map(|(_, seconds)| number(seconds)).next().unwrap_or(default))
}

/// Returns the rows of the table in the documentation.
fn table(measured: &[Measured]) -> String {
    let mut text =
        "| step | function calls | LIST | HEAD | GET | PUT | DELETE | Glue | at once | seconds |\n".to_owned();
    text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for Measured { name, function_calls, calls, time, .. } in measured {
        write!(text, "| {name} | {function_calls} |").unwrap();
        AwsCall::ALL.iter().for_each(|call| write!(text, " {} |", calls.count(*call)).unwrap());
        writeln!(text, " {} | {:.1} |", calls.peak, time.as_secs_f64()).unwrap();
    }
    text
}

#[test]
fn functions_wait_for_a_fraction_of_their_time_and_their_calls_are_documented() {
    let clock = SimulatedClock::new();
    let mut environment = Environment::new(&clock, january(1 + DAYS));
    clock.runtime().unwrap().block_on(async {
        let first = environment.first_run().await;
        let too_slow: Vec<_> = first.iter().filter(|call| call.time > time_limit(call.step) / 2).collect();
        let names: Vec<_> = too_slow.iter().map(|call| format!("{} {:?}", call.name, call.time)).collect();
        assert_eq!(names, [""; 0], "more than half the time limit\n{}", table(&first));

        let run = report_run::gather::newest_run(&environment.test_lake.context.lake).await.unwrap();
        environment.add_daily_runs(&run).await;
        let daily = environment.daily_run().await;
        let too_slow: Vec<_> = daily.iter().filter(|call| call.time > DAILY_LIMIT).collect();
        let names: Vec<_> = too_slow.iter().map(|call| format!("{} {:?}", call.name, call.time)).collect();
        assert_eq!(names, [""; 0], "more than {DAILY_LIMIT:?} a function\n{}", table(&daily));

        let sections = [("calls of a first run", table(&first)), ("calls of a daily run", table(&daily))];
        check_page("docs/performance.md", "latency", &sections);
    });
}
