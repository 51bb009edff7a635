//! The features a second time: `features.sql` says in SQL over the stage layer what each number means, and here the
//! pipeline's fold is held to it, wallet by wallet and column by column, over lakes that the real command makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
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

/// Two sums of the same amounts in another order differ by this much of themselves.
const RELATIVE: f64 = 1e-9;

/// What is left of two large sums where they cancel, which no share of the difference could bound.
const OF_A_DIFFERENCE: f64 = 1e-12;

const DIFFERENCES: [&str; 2] = ["borrow_repay_diff_eth", "withdraw_deposit_diff_eth"];

// ── Lakes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs the command, as a user would, into a lake.
fn run(lake: &Path, arguments: &[&str]) {
    run_with(Command::new(env!("CARGO_BIN_EXE_defi")).env_remove("DEFI_CONFIG"), lake, arguments);
}

fn run_with(command: &mut Command, lake: &Path, arguments: &[&str]) {
    let done = command.arg("run").arg("--lake").arg(lake).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "defi run {arguments:?}: {said}\n{}", String::from_utf8_lossy(&done.stdout));
}

async fn session(lake: &Path) -> SessionContext {
    defi_local::query::session(&Lake::new(FolderStore::new(lake)), "dev").await.unwrap()
}

/// The rows of a question, in one batch.
async fn ask(session: &SessionContext, sql: &str, as_of: &str) -> Result<RecordBatch, DataFusionError> {
    let answer = session.sql(sql).await?.with_param_values(vec![("as_of", ScalarValue::from(as_of))])?;
    let schema = Arc::clone(answer.schema().inner());
    Ok(arrow::compute::concat_batches(&schema, &answer.collect().await?)?)
}

/// A question with one number for an answer.
async fn count(session: &SessionContext, sql: &str) -> i64 {
    let answer = ask(session, sql, "").await.unwrap();
    answer.column(0).as_primitive::<Int64Type>().value(0)
}

// ── Step by step ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// The answer to a question that consists of named steps, each computed once and kept. As one question DataFusion computes
/// a step again wherever it is named.
struct Steps {
    as_of: &'static str,
    /// Name, text and rows; the last one is the answer and has no name.
    done: Vec<(String, String, RecordBatch)>,
}

impl Steps {
    async fn compute(session: &SessionContext, sql: &str, as_of: &'static str) -> Steps {
        Steps { as_of, done: Vec::new() }.again(session, sql).await
    }

    /// The same for another wording of the question: a step whose text is the same, and those of all that it names, is kept.
    async fn again(&self, session: &SessionContext, sql: &str) -> Steps {
        let mut changed: Vec<String> = Vec::new();
        let mut done = Vec::new();
        for (index, (name, text)) in steps(sql).into_iter().enumerate() {
            let kept = self.done.get(index).filter(|(_, before, _)| {
                *before == text && !changed.iter().any(|changed| text.contains(changed.as_str()))
            });
            let rows = match kept {
                Some((.., rows)) => rows.clone(),
                None => ask(session, &text, self.as_of).await.unwrap_or_else(|error| panic!("{name}: {error}\n{text}")),
            };
            if !name.is_empty() {
                let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
                session.deregister_table(name.as_str()).unwrap();
                session.register_table(name.as_str(), Arc::new(table)).unwrap();
                changed.extend(kept.is_none().then(|| name.clone()));
            }
            done.push((name, text, rows));
        }
        Steps { as_of: self.as_of, done }
    }

    fn wallets(&self) -> Wallets {
        wallets(&self.done.last().unwrap().2)
    }
}

/// The named steps of a question and their texts, and the question that is left.
fn steps(sql: &str) -> Vec<(String, String)> {
    let statement = Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0);
    let Statement::Query(mut query) = statement else { panic!("{statement} is no question") };
    let named = query.with.take().unwrap().cte_tables.into_iter();
    let named = named.map(|step| (step.alias.name.value.clone(), step.query.to_string()));
    named.chain([(String::new(), query.to_string())]).collect()
}

// ── Comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A feature of a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Number(f64),
}

/// Each wallet's features, by column.
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
        DataType::Int64 => Cell::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
        other => panic!("a feature of type {other}"),
    }
}

fn agree(column: &str, left: Cell, right: Cell) -> bool {
    match (left, right) {
        (Cell::Number(left), Cell::Number(right)) => {
            let apart = (left - right).abs();
            apart <= RELATIVE * left.abs().max(right.abs())
                || (DIFFERENCES.contains(&column) && apart <= OF_A_DIFFERENCE)
        }
        _ => left == right,
    }
}

/// Where the SQL and the fold disagree: wallet, column and both values.
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

/// What the fold made of a day.
async fn folded(session: &SessionContext, as_of: &str) -> Wallets {
    let columns: Vec<_> = (FEATURES_HISTORY.columns)().iter().map(|column| column.name).collect();
    assert_eq!(columns.len(), 27, "the wallet and its 26 features");
    let sql = format!("SELECT {} FROM db_analytics_dev.defi_features_history WHERE as_of = $as_of", columns.join(", "));
    let wallets = wallets(&ask(session, &sql, as_of).await.unwrap());
    assert!(!wallets.is_empty(), "no features as of {as_of}");
    wallets
}

/// Holds the fold to the SQL for a day, and gives what both agree on.
async fn agreed(session: &SessionContext, as_of: &'static str) -> Wallets {
    let sql = Steps::compute(session, FEATURES, as_of).await.wallets();
    assert_agreement(as_of, &sql, &folded(session, as_of).await);
    sql
}

fn assert_agreement(as_of: &str, sql: &Wallets, fold: &Wallets) {
    let found = disagreements(sql, fold);
    assert!(found.is_empty(), "as of {as_of}, {} disagree:\n{}", found.len(), found.join("\n"));
}

fn sum(wallets: &Wallets, column: &str) -> f64 {
    let number = |cell: Cell| match cell {
        Cell::Null => 0.0,
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

/// Runs the sample chain for a day in its middle, and from there for its last day, and compares both.
async fn over_the_sample_chain(
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
    let earlier = agreed(&session, middle).await;
    let wallets = agreed(&session, last).await;
    assert!(wallets.len() > earlier.len(), "no wallet came after {middle}");

    let where_it_matters = [
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
    for column in where_it_matters {
        assert!(sum(&wallets, column) > 0.0, "{column} is 0 for every wallet");
    }
    let proxies = "SELECT COUNT(*) FROM db_stage_dev.transpose_borrow_events WHERE sender_address <> account_address";
    assert!(count(&session, proxies).await > 0, "nobody borrowed through a proxy");
    for table in [EVENTS, "db_stage_dev.the_graph_historical_account_positions"] {
        let protocols = count(&session, &format!("SELECT COUNT(DISTINCT protocol) FROM {table}")).await;
        assert_eq!(protocols, 2, "protocols in {table}");
    }
    (lake, session)
}

#[tokio::test]
async fn the_sample_chain_has_the_features_that_the_sql_gives() {
    let (_lake, session) = over_the_sample_chain("150", "20", "7", "2023-01-10", "2023-01-21").await;
    let unpriced = count(&session, &format!("SELECT COUNT(*) FROM {EVENTS} WHERE quantity_eth IS NULL")).await;
    assert!(unpriced > 0, "every event has a price");
    // As one question, as an analyst asks it.
    let sql = wallets(&ask(&session, FEATURES, "2023-01-21").await.unwrap());
    assert_agreement("2023-01-21", &sql, &folded(&session, "2023-01-21").await);
}

#[tokio::test]
async fn other_sample_chains_do_too() {
    over_the_sample_chain("80", "16", "2", "2023-01-09", "2023-01-17").await;
    over_the_sample_chain("80", "16", "3", "2023-01-02", "2023-01-17").await;
}

// ── A chain where every rule matters ─────────────────────────────────────────────────────────────────────────────────

const DAYS: u32 = 16;
const MIDDLE: &str = "2023-01-09";
const LAST: &str = "2023-01-17";
const MIDNIGHT: i64 = 1_672_531_200; // 2023-01-01 00:00:00 UTC

const WETH: &str = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";
const ETH: &str = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
const ZERO: &str = "0x0000000000000000000000000000000000000000";
/// A stable coin that two markets of each protocol hold.
const USD: &str = "0x00000000000000000000000000000000000000d1";
/// A token that is seldom priced.
const RARE: &str = "0x00000000000000000000000000000000000000d2";
/// A token that only one of the protocols knows.
const ONLY: &str = "0x00000000000000000000000000000000000000d3";
/// A token that no market holds.
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

/// Markets with gaps in their prices: ETH is held by two markets of one protocol, and none of them is always priced. Two
/// protocols have a market of the same id.
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

/// What the configuration that comes with the pipeline lacks.
const THIRD_PROTOCOL: &str = "
[[protocols]]
name = \"euler-v1-eth\"
subgraph_id = \"MadeUp\"
schema_version = \"3.1.0\"
first_block = 16000000
first_day = \"2023-01-01\"
";

fn configuration() -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(workspace.join("shared").join("config.toml")).unwrap() + THIRD_PROTOCOL
}

const SENDERS: u8 = 24;
const PROXIES: u8 = 5;

fn address(kind: u8, number: u8) -> String {
    format!("0x{kind:02x}{number:038x}")
}

fn pick<T: Copy>(random: &mut impl Rng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

/// Blocks come at few moments of a day, so that a link, a liquidation and a snapshot share one again and again. Some days
/// begin with a block at 00:00:00 itself.
const MOMENTS: [i64; 4] = [0, 12, 43_200, 86_399];

fn first_block(day: u32) -> (i64, i64) {
    let after_midnight = if day.is_multiple_of(3) { 12 } else { 0 };
    let time = MIDNIGHT + i64::from(day) * 86_400 + after_midnight;
    (block_at(time), time)
}

fn block_at(time: i64) -> i64 {
    16_000_000 + (time - MIDNIGHT) / 12
}

/// Writes a recording of a made-up chain: prices with gaps of any length, links and liquidations at the same moments, dust
/// and giant debts.
fn record(folder: &Path, seed: u64) {
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
    let mut moments: Vec<_> = (0..900)
        .map(|_| MIDNIGHT + i64::from(random.random_range(0..DAYS)) * 86_400 + pick(random, &MOMENTS))
        .collect();
    moments.sort_unstable();
    moments.iter().enumerate().map(|(index, &time)| event(random, index, time)).collect()
}

fn event(random: &mut impl Rng, index: usize, time: i64) -> Value {
    let Protocol { name, version, markets } = &PROTOCOLS[random.random_range(0..PROTOCOLS.len())];
    let category = pick(random, &["borrow", "borrow", "deposit", "repay", "withdraw", "liquidation"]);
    let number = random.random_range(0..SENDERS);
    let sender = address(1, number);
    // Most liquidations hit proxies, which have two owners by and by; some hit accounts that never sent anything.
    let account = match (category, random.random_range(0..10)) {
        ("liquidation", 0..7) => address(2, random.random_range(0..PROXIES)),
        ("borrow" | "deposit", 0..4) => address(2, number % PROXIES),
        ("liquidation" | "deposit", 9) => address(3, random.random_range(0..4)),
        _ => sender.clone(),
    };
    // A token that another protocol alone has a price for, or nobody.
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

/// Base units of so many whole tokens.
fn quantity(decimals: u32, whole: f64) -> String {
    format!("{:.0}", (whole * 10f64.powi(decimals as i32)).ceil())
}

/// The markets of a snapshot. Thresholds move from day to day; a market without a price may lack its row altogether.
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
        rows.push(json!({"block_number": block, "market": {
            "id": address(5, market.id), "name": "market", "inputTokenPriceUSD": price,
            "liquidationThreshold": threshold.to_string(), "maximumLTV": (threshold - 7).to_string(),
            "inputToken": {"id": market.token, "symbol": "TOKEN", "decimals": market.decimals},
        }}));
    }
    rows
}

fn positions(random: &mut impl Rng, block: i64, markets: &[Market]) -> Vec<Value> {
    let senders = (0..SENDERS).map(|number| address(1, number));
    let proxies = (0..PROXIES).map(|number| address(2, number));
    let strangers = (0..6).map(|number| address(3, number));
    let mut rows = Vec::new();
    for account in senders.chain(proxies).chain(strangers) {
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
    // Some debts are below 1e-9 ETH, some collateral is so little that the risk passes 1e6.
    let eth = random.random_range(0.01..5.0) * pick(random, &[1.0, 1.0, 0.3, 1e-11]);
    let enabled =
        if side == "LENDER" { pick(random, &[Some(true), Some(true), Some(true), Some(false), None]) } else { None };
    let market_id = address(5, market.id);
    json!({"block_number": block, "position": {
        "id": format!("{account}-{market_id}-{side}-0"), "balance": quantity(market.decimals, eth * 1500.0 / market.usd),
        "isCollateral": enabled, "side": side, "market": {"id": market_id, "name": "market"}, "account": {"id": account},
    }})
}

/// A rule, a text of `features.sql` that keeps it, and a text that breaks it.
#[rustfmt::skip] // a table: one rule after the other
const RULES: &[(&str, &str, &str)] = &[
    ("a price of zero or less does not exist", "input_token_price_usd > 0", "input_token_price_usd <> 0"),
    ("WETH gives the price of ETH", "'0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2',\n", ""),
    ("native ETH as zero gives the price of ETH", "'0x0000000000000000000000000000000000000000',\n", ""),
    ("native ETH as 0xeeee… gives the price of ETH", ",\n        '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee'", ""),
    ("ETH has the price of the smallest market id",
     "OVER (PARTITION BY day, protocol ORDER BY market_id)",
     "OVER (PARTITION BY day, protocol ORDER BY market_id DESC)"),
    ("ETH has its price from another protocol",
     "ON quote.day = asking.day",
     "ON quote.day = asking.day AND quote.protocol = asking.protocol"),
    ("ETH has its price from its own protocol first",
     "CASE WHEN quote.protocol = asking.protocol THEN 0 ELSE 1 END, ",
     ""),
    ("a token has the price of the smallest market id", "token ORDER BY market_id)", "token ORDER BY market_id DESC)"),
    ("ETH has its price from the first of the others",
     "THEN 0 ELSE 1 END, quote.protocol",
     "THEN 0 ELSE 1 END, quote.protocol DESC"),
    ("an event asks all of a protocol's days first",
     "END, price.protocol, price.day DESC",
     "END, price.day DESC, price.protocol"),
    ("an event asks the others in order",
     "END, price.protocol, price.day DESC",
     "END, price.protocol DESC, price.day DESC"),
    ("an event's price is the newest", "price.protocol, price.day DESC", "price.protocol, price.day"),
    ("an event asks its own protocol first", "CASE WHEN price.protocol = event.protocol THEN 0 ELSE 1 END, ", ""),
    ("an event asks other protocols",
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
    ("an amount without a price is left out of means",
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
    ("the first deposit counts", "MIN(CASE WHEN category = 'deposit'", "MAX(CASE WHEN category = 'deposit'"),
    ("the newest liquidation counts", "MAX(event.epoch_timestamp)", "MIN(event.epoch_timestamp)"),
    ("events count before as_of alone",
     "WHERE event.epoch_timestamp < instant.epoch",
     "WHERE event.epoch_timestamp <= instant.epoch"),
    ("an account without a sent event is a wallet",
     "SELECT account_address AS wallet",
     "SELECT sender_address AS wallet"),
    ("an account counts for those who borrowed through it", "'borrow' AND account_address <> sender_address", "'none'"),
    ("a wallet counts once for itself", " AND account_address <> sender_address", ""),
    ("only borrows make links",
     "WHERE category = 'borrow' AND account_address <> sender_address",
     "WHERE account_address <> sender_address"),
    ("a snapshot uses links made before", "link.since < CAST", "0 < CAST"),
    ("a link of 00:00:00 is not before", "link.since < CAST", "link.since <= CAST"),
    ("a liquidation uses links made by then", "link.since <= event.epoch_timestamp", "link.since > 0"),
    ("a link of the same second is made by then",
     "link.since <= event.epoch_timestamp",
     "link.since < event.epoch_timestamp"),
    ("a liquidation hits the account",
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
    ("a missing flag is not enabled", "is_collateral IS TRUE", "is_collateral IS NOT FALSE"),
    ("risk goes by the threshold", "SUM(collateral * liquidation_threshold)", "SUM(collateral * maximum_ltv)"),
    ("borrow power goes by the maximum LTV",
     "SUM(collateral * maximum_ltv)",
     "SUM(collateral * liquidation_threshold)"),
    ("what is available is not negative", "GREATEST(0e0, borrow_power - debt)", "borrow_power - debt"),
    ("dust is no risk", "WHEN debt < 1e-9 THEN", "WHEN debt <= 0 THEN"),
    ("risk is at most 1e6", "LEAST(debt / threshold_weighted_collateral, 1e6)", "debt / threshold_weighted_collateral"),
    ("a debt without collateral is the largest risk", "ELSE 1e6", "ELSE 0e0"),
    ("a day without collateral and debt does not count",
     "WHERE collateral > 0 OR debt >= 1e-9",
     "WHERE collateral >= 0"),
    ("a day with debt alone counts", "WHERE collateral > 0 OR debt >= 1e-9", "WHERE collateral > 0"),
    ("a wallet's risk is the largest", "MAX(risk) AS risk,", "SUM(risk) AS risk,"),
    ("each account has its own weight", "SUM(debt * risk)", "SUM(debt) * MAX(risk)"),
    ("a risk above 1/1.2 is counted", "1e0 / 1.2e0", "1e0"),
    ("now is as_of alone",
     "ON wallet_days.day = instant.as_of",
     "ON wallet_days.day = instant.as_of - INTERVAL '1' DAY"),
    ("snapshots count up to as_of",
     "<= as_of\n),\n\n-- The price of a position",
     "< as_of\n),\n\n-- The price of a position"),
    ("no snapshot after as_of counts",
     "<= as_of\n),\n\n-- The price of a position",
     "IS NOT NULL\n),\n\n-- The price of a position"),
    ("a withdrawal surplus is not negative",
     "GREATEST(0e0, COALESCE(sent.withdraw_sum",
     "GREATEST(-1e9, COALESCE(sent.withdraw_sum"),
];

/// The fold keeps every rule of the contract on a chain where each of them matters: with any one of them broken, the SQL no
/// longer gives the fold's features.
#[tokio::test]
async fn every_rule_matters_and_the_fold_keeps_it() {
    let recording = tempfile::tempdir().unwrap();
    record(recording.path(), 4);
    let lake = tempfile::tempdir().unwrap();
    let config = recording.path().join("config.toml");
    fs::write(&config, configuration()).unwrap();
    let source = ["--recording", recording.path().to_str().unwrap()];
    for arguments in [&[&source[..], &["--as-of", MIDDLE]].concat(), &source[..]] {
        run_with(Command::new(env!("CARGO_BIN_EXE_defi")).env("DEFI_CONFIG", &config), lake.path(), arguments);
    }

    let session = session(lake.path()).await;
    let mut idle: Vec<_> = RULES.iter().collect();
    for as_of in [LAST, MIDDLE] {
        let fold = folded(&session, as_of).await;
        let kept = Steps::compute(&session, FEATURES, as_of).await;
        assert_agreement(as_of, &kept.wallets(), &fold);
        let mut still = Vec::new();
        for rule in idle {
            let (name, text, instead) = rule;
            assert!(FEATURES.contains(text), "{name}: features.sql no longer says {text:?}");
            let broken = kept.again(&session, &FEATURES.replace(text, instead)).await;
            still.extend(disagreements(&broken.wallets(), &fold).is_empty().then_some(rule));
        }
        idle = still;
    }
    let idle: Vec<_> = idle.iter().map(|(name, ..)| name).collect();
    assert!(idle.is_empty(), "the chain has no case for: {idle:#?}");
}
