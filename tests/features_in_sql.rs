//! Compares the pipeline's features with an independent definition: `features.sql` computes them in SQL over the stage
//! layer. The comparison covers every wallet and column, over lakes that the `defi` command produces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use defi_shared::lake::{FolderStore, Lake};
use defi_shared::tables::FEATURES_HISTORY;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

const FEATURES: &str = include_str!("features.sql");

/// Relative tolerance: sums of the same amounts in different orders differ by at most this.
const RELATIVE_TOLERANCE: f64 = 1e-9;

/// Absolute tolerance of differences: where two large sums cancel, no relative tolerance of the result is sufficient.
const DIFFERENCE_TOLERANCE: f64 = 1e-12;

/// The features that are differences of two sums.
const DIFFERENCE_COLUMNS: [&str; 2] = ["borrow_repay_diff_eth", "withdraw_deposit_diff_eth"];

// ── Lakes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs the command into a lake.
fn run(lake: &Path, arguments: &[&str]) {
    run_with(Command::new(env!("CARGO_BIN_EXE_defi")).env_remove("DEFI_CONFIG"), lake, arguments);
}

fn run_with(command: &mut Command, lake: &Path, arguments: &[&str]) {
    let output = command.arg("run").arg("--lake").arg(lake).args(arguments).output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "defi run {arguments:?}: {stderr}\n{stdout}");
}

async fn session(lake: &Path) -> SessionContext {
    defi_local::query::session(&Lake::new(FolderStore::new(lake)), "dev").await.unwrap()
}

/// Runs a query and returns its rows in one batch.
async fn query(session: &SessionContext, sql: &str, as_of: &str) -> Result<RecordBatch, DataFusionError> {
    let frame = session.sql(sql).await?.with_param_values(vec![("as_of", ScalarValue::from(as_of))])?;
    let schema = Arc::clone(frame.schema().inner());
    Ok(arrow_select::concat::concat_batches(&schema, &frame.collect().await?)?)
}

/// Runs a query with one integer as its result.
async fn query_count(session: &SessionContext, sql: &str) -> i64 {
    let rows = query(session, sql, "").await.unwrap();
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

// ── Evaluation ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// The results of the common table expressions of a query, each computed once. In a single query, DataFusion evaluates
/// a common table expression again for each reference.
struct Steps {
    as_of: &'static str,
    /// Name, SQL and rows of each step. The last step is the result of the query and has no name.
    results: Vec<(String, String, RecordBatch)>,
}

impl Steps {
    async fn compute(session: &SessionContext, sql: &str, as_of: &'static str) -> Steps {
        Steps { as_of, results: Vec::new() }.recompute(session, sql).await
    }

    /// Computes a modified query. The result of a step is reused if its SQL and all steps that it references are
    /// unchanged.
    async fn recompute(&self, session: &SessionContext, sql: &str) -> Steps {
        let mut changed: Vec<String> = Vec::new();
        let mut results = Vec::new();
        for (index, (name, text)) in steps(sql).into_iter().enumerate() {
            let reusable = self.results.get(index).filter(|(_, before, _)| {
                *before == text && !changed.iter().any(|changed| text.contains(changed.as_str()))
            });
            let rows = match reusable {
                Some((.., rows)) => rows.clone(),
                None => {
                    query(session, &text, self.as_of).await.unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
                }
            };
            if !name.is_empty() {
                let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
                session.deregister_table(name.as_str()).unwrap();
                session.register_table(name.as_str(), Arc::new(table)).unwrap();
                changed.extend(reusable.is_none().then(|| name.clone()));
            }
            results.push((name, text, rows));
        }
        Steps { as_of: self.as_of, results }
    }

    fn wallets(&self) -> Wallets {
        wallets(&self.results.last().unwrap().2)
    }
}

/// Returns the names and SQL of the common table expressions of a query, and the remaining query without a name.
fn steps(sql: &str) -> Vec<(String, String)> {
    let statement = Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0);
    let Statement::Query(mut query) = statement else { panic!("{statement} is not a query") };
    let expressions = query.with.take().unwrap().cte_tables.into_iter();
    let expressions = expressions.map(|step| (step.alias.name.value.clone(), step.query.to_string()));
    expressions.chain([(String::new(), query.to_string())]).collect()
}

// ── Comparison ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// The value of a feature of a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
}

/// The features of each wallet, by column.
type Wallets = BTreeMap<String, BTreeMap<String, Cell>>;

fn wallets(batch: &RecordBatch) -> Wallets {
    let names = cast(batch.column_by_name("wallet_address").unwrap(), &DataType::Utf8).unwrap();
    let mut wallets = Wallets::new();
    for (row, name) in names.as_string::<i32>().iter().enumerate() {
        let cells = batch.schema_ref().fields().iter().zip(batch.columns()).skip(1);
        let cells = cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect();
        assert!(wallets.insert(name.unwrap().to_owned(), cells).is_none(), "wallet {name:?} has two rows");
    }
    wallets
}

fn cell(column: &dyn Array, row: usize) -> Cell {
    match column.data_type() {
        _ if column.is_null(row) => Cell::Null,
        DataType::Boolean => Cell::Boolean(column.as_boolean().value(row)),
        DataType::Int64 => Cell::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
        other => panic!("a feature of type {other}"),
    }
}

/// Returns whether two values are equal within the tolerances.
fn agree(column: &str, left: Cell, right: Cell) -> bool {
    match (left, right) {
        (Cell::Number(left), Cell::Number(right)) => {
            let distance = (left - right).abs();
            distance <= RELATIVE_TOLERANCE * left.abs().max(right.abs())
                || (DIFFERENCE_COLUMNS.contains(&column) && distance <= DIFFERENCE_TOLERANCE)
        }
        _ => left == right,
    }
}

/// Returns a description of each value in which the SQL and the fold disagree: wallet, column and both values.
fn disagreements(sql: &Wallets, fold: &Wallets) -> Vec<String> {
    let all: BTreeSet<_> = sql.keys().chain(fold.keys()).collect();
    let mut found = Vec::new();
    for wallet in all {
        match (sql.get(wallet), fold.get(wallet)) {
            (Some(sql), Some(fold)) => {
                assert!(sql.keys().eq(fold.keys()), "the columns differ: {:?}, {:?}", sql.keys(), fold.keys());
                let differ = fold.iter().filter(|(column, fold)| !agree(column, sql[*column], **fold));
                found.extend(
                    differ.map(|(column, fold)| format!("{wallet} {column}: SQL {:?}, fold {fold:?}", sql[column])),
                );
            }
            (sql, _) => found
                .push(format!("{wallet} is a wallet only in {}", if sql.is_some() { "the SQL" } else { "the fold" })),
        }
    }
    found
}

/// Returns the pipeline's features as of a day.
async fn fold_features(session: &SessionContext, as_of: &str) -> Wallets {
    let columns: Vec<_> = (FEATURES_HISTORY.columns)().iter().map(|column| column.name).collect();
    assert_eq!(columns.len(), 29, "the wallet, its 26 features, and two columns on their health");
    let sql = format!("SELECT {} FROM db_analytics_dev.defi_features_history WHERE as_of = $as_of", columns.join(", "));
    let wallets = wallets(&query(session, &sql, as_of).await.unwrap());
    assert!(!wallets.is_empty(), "no features as of {as_of}");
    wallets
}

/// Asserts that the fold and the SQL agree as of a day, and returns the features.
async fn agreed_features(session: &SessionContext, as_of: &'static str) -> Wallets {
    let sql = Steps::compute(session, FEATURES, as_of).await.wallets();
    assert_agreement(as_of, &sql, &fold_features(session, as_of).await);
    sql
}

fn assert_agreement(as_of: &str, sql: &Wallets, fold: &Wallets) {
    let found = disagreements(sql, fold);
    assert!(found.is_empty(), "as of {as_of}, {} values differ:\n{}", found.len(), found.join("\n"));
}

fn sum(wallets: &Wallets, column: &str) -> f64 {
    let number = |cell: Cell| match cell {
        Cell::Null => 0.0,
        Cell::Boolean(value) => f64::from(u8::from(value)),
        Cell::Integer(integer) => integer as f64,
        Cell::Number(number) => number,
    };
    wallets.values().map(|cells| number(cells[column])).sum()
}

// ── The sample chain ─────────────────────────────────────────────────────────────────────────────────────────────────

const EVENTS: &str = "(SELECT * FROM db_analytics_dev.transpose_borrow_events
    UNION ALL SELECT * FROM db_analytics_dev.transpose_deposit_events
    UNION ALL SELECT * FROM db_analytics_dev.transpose_liquidation_events
    UNION ALL SELECT * FROM db_analytics_dev.transpose_repay_events
    UNION ALL SELECT * FROM db_analytics_dev.transpose_withdraw_events)";

/// Runs the sample chain for an as-of day in the middle and then for the last day, and compares both sets of features.
async fn check_sample_chain(
    wallets: &str,
    days: &str,
    seed: &str,
    middle: &'static str,
    last: &'static str,
) -> (TempDir, SessionContext) {
    let lake = tempfile::tempdir().unwrap();
    let chain = ["--wallets", wallets, "--days", days, "--seed", seed];
    run(lake.path(), &[&chain[..], &["--as-of", middle]].concat());
    run(lake.path(), &chain);
    let session = session(lake.path()).await;
    let earlier = agreed_features(&session, middle).await;
    let wallets = agreed_features(&session, last).await;
    assert!(wallets.len() > earlier.len(), "no new wallets after {middle}");

    let nonzero_columns = [
        "risk_factor",
        "total_collateral_eth",
        "total_available_borrows_eth",
        "avg_weighted_risk_factor",
        "risk_factor_above_threshold_daily_count",
        "repay_amount_sum_eth",
        "withdraw_deposit_diff_eth",
        "liquidation_count",
        "liquidation_amount_sum_eth",
        "time_since_last_liquidated",
    ];
    for column in nonzero_columns {
        assert!(sum(&wallets, column) > 0.0, "{column} is 0 for every wallet");
    }
    let proxies = "SELECT COUNT(*) FROM db_stage_dev.transpose_borrow_events WHERE sender_address <> account_address";
    assert!(query_count(&session, proxies).await > 0, "no borrow through a proxy");
    for table in [EVENTS, "db_stage_dev.the_graph_historical_account_positions"] {
        let protocols = query_count(&session, &format!("SELECT COUNT(DISTINCT protocol) FROM {table}")).await;
        assert_eq!(protocols, 2, "protocols in {table}");
    }
    (lake, session)
}

#[tokio::test]
async fn sample_chain_features_equal_the_sql() {
    let (_lake, session) = check_sample_chain("150", "20", "7", "2023-01-10", "2023-01-21").await;
    let unpriced = query_count(&session, &format!("SELECT COUNT(*) FROM {EVENTS} WHERE quantity_eth IS NULL")).await;
    assert!(unpriced > 0, "every event has a price");
    // As a single query, like a user would run it.
    let sql = wallets(&query(&session, FEATURES, "2023-01-21").await.unwrap());
    assert_agreement("2023-01-21", &sql, &fold_features(&session, "2023-01-21").await);
}

#[tokio::test]
async fn features_of_other_sample_chains_equal_the_sql() {
    check_sample_chain("80", "16", "2", "2023-01-09", "2023-01-17").await;
    check_sample_chain("80", "16", "3", "2023-01-02", "2023-01-17").await;
}

// ── A chain that tests every rule ────────────────────────────────────────────────────────────────────────────────────

const DAYS: u32 = 16;
const MIDDLE: &str = "2023-01-09";
const LAST: &str = "2023-01-17";
const MIDNIGHT: i64 = 1_672_531_200; // 2023-01-01 00:00:00 UTC

const WETH: &str = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";
const ETH: &str = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
const ZERO: &str = "0x0000000000000000000000000000000000000000";
/// A stablecoin for which most protocols have two markets.
const USD: &str = "0x00000000000000000000000000000000000000d1";
/// A token that rarely has a price.
const RARE: &str = "0x00000000000000000000000000000000000000d2";
/// A token with a market in only one protocol.
const ONLY: &str = "0x00000000000000000000000000000000000000d3";
/// A token without a market.
const UNKNOWN: &str = "0x00000000000000000000000000000000000000d4";

struct Protocol {
    name: &'static str,
    version: &'static str,
    markets: &'static [Market],
}

struct Market {
    id: u8,
    token: &'static str,
    decimals: u32,
    usd: f64,
    /// The share of days with a price.
    priced: f64,
}

const fn market(id: u8, token: &'static str, decimals: u32, usd: f64, priced: f64) -> Market {
    Market { id, token, decimals, usd, priced }
}

/// Markets with gaps in their prices. One protocol has two markets for ETH, and no market for ETH has a price on every
/// day. Two protocols have a market with the same id.
const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        name: "aave",
        version: "v2",
        markets: &[
            market(0x13, WETH, 18, 1500.0, 0.5),
            market(0x11, ZERO, 18, 1450.0, 0.5),
            market(0x15, USD, 6, 1.0, 0.4),
            market(0x14, USD, 6, 0.97, 0.4),
            market(0x17, RARE, 8, 20_000.0, 0.1),
        ],
    },
    Protocol {
        name: "compound",
        version: "v2",
        markets: &[
            market(0x21, ETH, 18, 1520.0, 0.6),
            market(0x23, USD, 6, 1.01, 0.3),
            market(0x22, USD, 6, 0.99, 0.3),
            market(0x17, RARE, 8, 21_000.0, 0.1),
            market(0x25, ONLY, 0, 3.0, 0.2),
        ],
    },
    Protocol {
        name: "euler",
        version: "v1",
        markets: &[
            market(0x31, WETH, 18, 1490.0, 0.6),
            market(0x32, USD, 6, 1.02, 0.4),
            market(0x33, RARE, 8, 22_000.0, 0.1),
        ],
    },
];

impl Protocol {
    fn key(&self) -> String {
        format!("{}-{}-eth", self.name, self.version)
    }
}

/// The protocol that is missing in the built-in configuration.
const THIRD_PROTOCOL: &str = "
[[protocols]]
name = \"euler-v1-eth\"
subgraph_id = \"MadeUp\"
schema_version = \"3.1.0\"
first_block = 16000000
first_day = \"2023-01-01\"
";

/// The built-in configuration with a third protocol. Most tokens of the chain may have no price, and its liquidations may
/// seize tokens that can't be collateral.
fn configuration() -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built_in = fs::read_to_string(workspace.join("shared").join("config.toml")).unwrap();
    let limits = [
        ("odd_liquidation_share = { fail = 0.05 }", "odd_liquidation_share = { fail = 1.0 }"),
        ("unpriced_share = { warn = 0.05, fail = 0.50 }", "unpriced_share = { fail = 1.0 }"),
    ];
    let with_limits = limits.into_iter().fold(built_in, |text, (limit, any)| {
        assert!(text.contains(limit), "{limit} has another value");
        text.replace(limit, any)
    });
    with_limits + THIRD_PROTOCOL
}

const SENDERS: u8 = 24;
const PROXIES: u8 = 5;

fn address(kind: u8, number: u8) -> String {
    format!("0x{kind:02x}{number:038x}")
}

fn pick<T: Copy>(random: &mut impl Rng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// The times of day of all blocks, in seconds. There are few, so that links, liquidations and snapshots often share a
/// block. Some days start with a block at exactly 00:00:00.
const BLOCK_TIMES: [i64; 4] = [0, 12, 43_200, 86_399];

/// Returns the number and time of the first block of a day.
fn first_block(day: u32) -> (i64, i64) {
    let after_midnight = if day.is_multiple_of(3) { 12 } else { 0 };
    let time = MIDNIGHT + i64::from(day) * 86_400 + after_midnight;
    (block_at(time), time)
}

fn block_at(time: i64) -> i64 {
    16_000_000 + (time - MIDNIGHT) / 12
}

/// Writes a recording of a synthetic chain: prices with gaps of any length, links and liquidations at the same time,
/// and very small and very large debts.
fn write_recording(folder: &Path, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let protocols: Vec<_> = PROTOCOLS.iter().map(Protocol::key).collect();
    let manifest = json!({"name": "every-rule", "protocols": protocols, "first_day": "2023-01-01", "last_day": LAST});
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    let blocks = (0..=DAYS).map(first_block).map(|(number, time)| json!({"block_number": number, "timestamp": time}));
    write_lines(&folder.join("blocks.jsonl"), blocks.collect());
    write_lines(&folder.join("lending_events.jsonl"), events(&mut random));
    for protocol in &PROTOCOLS {
        let (key, markets) = (protocol.key(), protocol.markets);
        let days = || (0..=DAYS).map(|day| first_block(day).0);
        let rows = days().flat_map(|block| quotes(&mut random, block, markets)).collect();
        write_lines(&folder.join(format!("markets.{key}.jsonl")), rows);
        let rows = days().flat_map(|block| positions(&mut random, block, markets)).collect();
        write_lines(&folder.join(format!("positions.{key}.jsonl")), rows);
    }
}

fn write_lines(path: &Path, rows: Vec<Value>) {
    fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

fn events(random: &mut impl Rng) -> Vec<Value> {
    let mut times: Vec<_> = (0..900)
        .map(|_| MIDNIGHT + i64::from(random.random_range(0..DAYS)) * 86_400 + pick(random, &BLOCK_TIMES))
        .collect();
    times.sort_unstable();
    times.iter().enumerate().map(|(index, &time)| event(random, index, time)).collect()
}

fn event(random: &mut impl Rng, index: usize, time: i64) -> Value {
    let Protocol { name, version, markets } = &PROTOCOLS[random.random_range(0..PROTOCOLS.len())];
    let category = pick(random, &["borrow", "borrow", "deposit", "repay", "withdraw", "liquidation"]);
    let number = random.random_range(0..SENDERS);
    let sender = address(1, number);
    // Most liquidations are of proxies, which get several owners over time, some of accounts that never sent an event.
    let account = match (category, random.random_range(0..10)) {
        ("liquidation", 0..7) => address(2, random.random_range(0..PROXIES)),
        ("borrow" | "deposit", 0..4) => address(2, number % PROXIES),
        ("liquidation" | "deposit", 9) => address(3, random.random_range(0..4)),
        _ => sender.clone(),
    };
    // The token may have a price only in another protocol, or none.
    let token = match random.random_range(0..10) {
        0..7 => pick(random, &[USD, RARE, ONLY, WETH]),
        7 if category != "liquidation" => pick(random, &[UNKNOWN, ETH, ZERO]),
        _ => markets[random.random_range(0..markets.len())].token,
    };
    let decimals = PROTOCOLS.iter().flat_map(|protocol| protocol.markets).find(|market| market.token == token);
    let quantity = quantity(decimals.map_or(18, |market| market.decimals), random.random_range(0.01..20.0));
    let liquidation = category == "liquidation";
    json!({
        "block_number": block_at(time), "log_index": index, "transaction_hash": format!("0x{index:064x}"),
        "timestamp": jiff::Timestamp::from_second(time).unwrap().to_string(),
        "protocol_name": name, "contract_version": version, "market_address": null, "token_address": token, "token_id": null,
        "category": category, "account_address": account, "quantity": quantity, "sender_address": sender,
        "liquidator_address": liquidation.then(|| address(4, 0)), "quantity_liquidated": liquidation.then_some("7"),
        "liquidated_token_address": liquidation.then_some(USD), "metadata": null,
    })
}

/// Returns the base units of an amount in whole tokens.
fn quantity(decimals: u32, whole: f64) -> String {
    format!("{:.0}", (whole * 10f64.powi(decimals as i32)).ceil())
}

/// Returns the markets of a snapshot. Thresholds change from day to day, and are 0 on some, with an LTV above 0. A market
/// without a price may have no row.
fn quotes(random: &mut impl Rng, block: i64, markets: &[Market]) -> Vec<Value> {
    let mut rows = Vec::new();
    for market in markets {
        let price = match random.random_range(0..4) {
            _ if random.random_bool(market.priced) => {
                json!(format!("{:.6}", market.usd * random.random_range(0.9..1.1)))
            }
            0 => json!("0"),
            1 => json!("-1.5"),
            _ if random.random_bool(0.5) => Value::Null,
            _ => continue,
        };
        let threshold = random.random_range(50..90);
        let (ltv, threshold) = (threshold - 7, if threshold % 10 == 0 { 0 } else { threshold });
        rows.push(json!({"block_number": block, "market": {
            "id": address(5, market.id), "name": "market", "inputTokenPriceUSD": price,
            "liquidationThreshold": threshold.to_string(), "maximumLTV": ltv.to_string(),
            "inputToken": {"id": market.token, "symbol": "TOKEN", "decimals": market.decimals},
        }}));
    }
    rows
}

fn positions(random: &mut impl Rng, block: i64, markets: &[Market]) -> Vec<Value> {
    let senders = (0..SENDERS).map(|number| address(1, number));
    let proxies = (0..PROXIES).map(|number| address(2, number));
    let other_accounts = (0..6).map(|number| address(3, number));
    let mut rows = Vec::new();
    for account in senders.chain(proxies).chain(other_accounts) {
        if random.random_bool(0.5) {
            continue;
        }
        for market in markets {
            if let Some(side) = pick(random, &[None, Some("LENDER"), Some("LENDER"), Some("BORROWER")]) {
                rows.push(position(random, block, market, &account, side));
            }
        }
    }
    rows
}

fn position(random: &mut impl Rng, block: i64, market: &Market, account: &str, side: &str) -> Value {
    // Some debts are below 1e-9 ETH, and some collateral is so small that the risk would exceed 1e6.
    let eth = random.random_range(0.01..5.0) * pick(random, &[1.0, 1.0, 0.3, 1e-11]);
    let enabled =
        if side == "LENDER" { pick(random, &[Some(true), Some(true), Some(true), Some(false), None]) } else { None };
    let market_id = address(5, market.id);
    json!({"block_number": block, "position": {
        "id": format!("{account}-{market_id}-{side}-0"), "balance": quantity(market.decimals, eth * 1500.0 / market.usd),
        "isCollateral": enabled, "side": side, "market": {"id": market_id, "name": "market"}, "account": {"id": account},
    }})
}

/// A rule, the text of `features.sql` that implements it, and a replacement that breaks it.
#[rustfmt::skip] // formatted as a table
const RULES: &[(&str, &str, &str)] = &[
    ("a price of zero or less does not exist", "input_token_price_usd > 0", "input_token_price_usd <> 0"),
    ("WETH gives the price of ETH", "'0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2',\n", ""),
    ("native ETH as zero gives the price of ETH", "'0x0000000000000000000000000000000000000000',\n", ""),
    ("native ETH as 0xeeee… gives the price of ETH", ",\n        '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee'", ""),
    ("ETH has the price of the smallest market id",
     "OVER (PARTITION BY day, protocol ORDER BY market_id)",
     "OVER (PARTITION BY day, protocol ORDER BY market_id DESC)"),
    ("the price of ETH can come from another protocol",
     "ON quote.day = protocol_day.day",
     "ON quote.day = protocol_day.day AND quote.protocol = protocol_day.protocol"),
    ("the price of ETH comes from its own protocol first",
     "CASE WHEN quote.protocol = protocol_day.protocol THEN 0 ELSE 1 END, ",
     ""),
    ("a token has the price of the smallest market id", "token ORDER BY market_id)", "token ORDER BY market_id DESC)"),
    ("the price of ETH comes from the first other protocol",
     "THEN 0 ELSE 1 END, quote.protocol",
     "THEN 0 ELSE 1 END, quote.protocol DESC"),
    ("an event uses all days of a protocol before the next protocol",
     "END, price.protocol, price.day DESC",
     "END, price.day DESC, price.protocol"),
    ("an event uses other protocols in order",
     "END, price.protocol, price.day DESC",
     "END, price.protocol DESC, price.day DESC"),
    ("an event's price is the newest", "price.protocol, price.day DESC", "price.protocol, price.day"),
    ("an event uses its own protocol first", "CASE WHEN price.protocol = event.protocol THEN 0 ELSE 1 END, ", ""),
    ("an event can use other protocols",
     "ON price.token = event.token",
     "ON price.token = event.token AND price.protocol = event.protocol"),
    ("an event's price is up to 7 days old",
     "BETWEEN event.day - INTERVAL '7' DAY",
     "BETWEEN event.day - INTERVAL '6' DAY"),
    ("an event's price is no more than 7 days old",
     "BETWEEN event.day - INTERVAL '7' DAY",
     "BETWEEN event.day - INTERVAL '8' DAY"),
    ("native ETH costs 1", "WHEN event.token IN (", "WHEN event.token NOT LIKE '0x%' AND event.token IN ("),
    ("native ETH has two addresses",
     "WHEN event.token IN ('0x0000000000000000000000000000000000000000', ",
     "WHEN event.token IN ("),
    ("WETH is priced by its market",
     "WHEN event.token IN (",
     "WHEN event.token IN ('0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2', "),
    ("an amount without a price is excluded from means",
     "THEN quantity_eth END) AS borrow_avg",
     "THEN COALESCE(quantity_eth, 0) END) AS borrow_avg"),
    ("a borrow without a price counts", "'borrow' THEN 1 END", "'borrow' THEN quantity_eth END"),
    ("a repayment without a price counts", "'repay' THEN 1 END", "'repay' THEN quantity_eth END"),
    ("a deposit without a price counts", "'deposit' THEN 1 END", "'deposit' THEN quantity_eth END"),
    ("a liquidation without a price counts",
     "COUNT(*) AS liquidation_count",
     "COUNT(event.quantity_eth) AS liquidation_count"),
    ("a deposit without a price has a time",
     "'deposit' THEN epoch_timestamp",
     "'deposit' AND quantity_eth >= 0 THEN epoch_timestamp"),
    ("a borrow without a price has a protocol",
     "'borrow' THEN protocol",
     "'borrow' AND quantity_eth >= 0 THEN protocol"),
    ("a deposit without a price has a protocol",
     "'deposit' THEN protocol",
     "'deposit' AND quantity_eth >= 0 THEN protocol"),
    ("the time of the first deposit is used", "MIN(CASE WHEN category = 'deposit'", "MAX(CASE WHEN category = 'deposit'"),
    ("the time of the newest liquidation is used", "MAX(event.epoch_timestamp)", "MIN(event.epoch_timestamp)"),
    ("only events before as_of count",
     "WHERE event.epoch_timestamp < instant.epoch",
     "WHERE event.epoch_timestamp <= instant.epoch"),
    ("an account without a sent event is a wallet",
     "SELECT account_address AS wallet",
     "SELECT sender_address AS wallet"),
    ("an account is linked to wallets that borrowed through it", "'borrow' AND account_address <> sender_address", "'none'"),
    ("a wallet is linked to itself once", " AND account_address <> sender_address", ""),
    ("only borrows create links",
     "WHERE category = 'borrow' AND account_address <> sender_address",
     "WHERE account_address <> sender_address"),
    ("a snapshot uses earlier links", "link.since < CAST", "0 < CAST"),
    ("a link at 00:00:00 is not earlier", "link.since < CAST", "link.since <= CAST"),
    ("a liquidation uses links up to its time", "link.since <= event.epoch_timestamp", "link.since > 0"),
    ("a liquidation uses links of the same second",
     "link.since <= event.epoch_timestamp",
     "link.since < event.epoch_timestamp"),
    ("a liquidation belongs to the account, not the sender",
     "ON link.account = event.account_address",
     "ON link.account = event.sender_address"),
    ("a position's price is up to 7 days old",
     "BETWEEN position.day - INTERVAL '7' DAY",
     "BETWEEN position.day - INTERVAL '6' DAY"),
    ("a position's price is no more than 7 days old",
     "BETWEEN position.day - INTERVAL '7' DAY",
     "BETWEEN position.day - INTERVAL '8' DAY"),
    ("a position's price is the newest",
     "ORDER BY price.day DESC\n        ) AS choice\n    FROM positions",
     "ORDER BY price.day\n        ) AS choice\n    FROM positions"),
    ("a position is priced by its own market",
     "ON price.protocol = position.protocol\n        AND price.market_id",
     "ON price.market_id"),
    ("only enabled supply is collateral", "AND is_collateral IS TRUE", ""),
    ("a missing flag means not enabled", "is_collateral IS TRUE", "is_collateral IS NOT FALSE"),
    ("supply at a liquidation threshold of 0 is no collateral", "AND liquidation_threshold > 0\n", "\n"),
    ("risk uses the liquidation threshold", "SUM(collateral * liquidation_threshold)", "SUM(collateral * maximum_ltv)"),
    ("borrow power uses the maximum LTV",
     "SUM(collateral * maximum_ltv)",
     "SUM(collateral * liquidation_threshold)"),
    ("the available amount is not negative", "GREATEST(0e0, borrow_power - debt)", "borrow_power - debt"),
    ("a debt below 1e-9 ETH has no risk", "WHEN debt < 1e-9 THEN", "WHEN debt <= 0 THEN"),
    ("risk is at most 1e6", "LEAST(debt / threshold_weighted_collateral, 1e6)", "debt / threshold_weighted_collateral"),
    ("a debt without collateral has the largest risk", "ELSE 1e6", "ELSE 0e0"),
    ("a day without collateral and debt does not count",
     "WHERE collateral > 0 OR debt >= 1e-9",
     "WHERE collateral >= 0"),
    ("a day with only debt counts", "WHERE collateral > 0 OR debt >= 1e-9", "WHERE collateral > 0"),
    ("a wallet's risk is the largest", "MAX(risk) AS risk,", "SUM(risk) AS risk,"),
    ("the weighted risk uses the debt of each account", "SUM(debt * risk)", "SUM(debt) * MAX(risk)"),
    ("a risk above 1/1.2 is counted", "1e0 / 1.2e0", "1e0"),
    ("current values are those of as_of",
     "ON wallet_days.day = instant.as_of",
     "ON wallet_days.day = instant.as_of - INTERVAL '1' DAY"),
    ("snapshots count up to as_of",
     "<= as_of\n),\n\n-- The price of a position",
     "< as_of\n),\n\n-- The price of a position"),
    ("no snapshot after as_of counts",
     "<= as_of\n),\n\n-- The price of a position",
     "IS NOT NULL\n),\n\n-- The price of a position"),
    ("health now is that of the day itself",
     "health_now.wallet IS NOT NULL",
     "health_history.wallet IS NOT NULL"),
    ("days of health are days, not accounts", "COUNT(*) AS days,", "COUNT(DISTINCT risk) AS days,"),
    ("a withdrawal surplus is not negative",
     "GREATEST(0e0, COALESCE(sent.withdraw_sum",
     "GREATEST(-1e9, COALESCE(sent.withdraw_sum"),
];

/// The fold implements every rule, on a chain that tests each of them: with any one rule broken, the SQL no longer
/// gives the features of the fold.
#[tokio::test]
async fn fold_implements_every_rule() {
    let recording = tempfile::tempdir().unwrap();
    write_recording(recording.path(), 4);
    let lake = tempfile::tempdir().unwrap();
    let config = recording.path().join("config.toml");
    fs::write(&config, configuration()).unwrap();
    let source = ["--recording", recording.path().to_str().unwrap()];
    for arguments in [&[&source[..], &["--as-of", MIDDLE]].concat(), &source[..]] {
        run_with(Command::new(env!("CARGO_BIN_EXE_defi")).env("DEFI_CONFIG", &config), lake.path(), arguments);
    }

    let session = session(lake.path()).await;
    let mut untested: Vec<_> = RULES.iter().collect();
    for as_of in [LAST, MIDDLE] {
        let fold = fold_features(&session, as_of).await;
        let steps = Steps::compute(&session, FEATURES, as_of).await;
        assert_agreement(as_of, &steps.wallets(), &fold);
        let mut still_untested = Vec::new();
        for rule in untested {
            let (name, text, replacement) = rule;
            assert!(FEATURES.contains(text), "{name}: features.sql does not contain {text:?}");
            let broken = steps.recompute(&session, &FEATURES.replace(text, replacement)).await;
            still_untested.extend(disagreements(&broken.wallets(), &fold).is_empty().then_some(rule));
        }
        untested = still_untested;
    }
    let untested: Vec<_> = untested.iter().map(|(name, ..)| name).collect();
    assert!(untested.is_empty(), "the chain has no case for: {untested:#?}");
}
