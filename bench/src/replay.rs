//! The replay of a node's logs: how fast logs are decoded and applied, and a day of many accounts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use defi_shared::contracts::U256;
use defi_shared::domain::replay::aave_v2::Reserve;
use defi_shared::domain::{Address, BaseUnits, Day, HexBytes};
use defi_shared::lake::{FileMetadata, State, WorkUnit, parquet};
use defi_shared::step::{Context, UnitInput, context_from};
use defi_shared::tables::{DAILY_BLOCKS, DailyBlock, RAW_LOGS, RAW_MARKETS, RawLog, RawMarket, ReplayRow, Timestamp};
use defi_shared::{Error, Result};
use serde_json::json;
use stage_account_positions::Replay;

const AAVE: &str = "aave-v2-eth";

/// The first of two days of the lake of many accounts.
const FIRST_DAY: i32 = 19_358;

/// The number of logs in the object that is decoded again and again: those of a busy day.
const LOGS_OF_OBJECT: usize = 100_000;

/// Decodes and applies the logs of a lake, repeated until there were enough, and prints for each protocol how many it were in
/// a second. They are decoded from one object, as large as that of a busy day. One thread works.
///
/// # Errors
/// The lake has no logs, or they can't be read or applied.
pub async fn speed(lake: &Path, logs: u64) -> Result<()> {
    let context = context_of_a_node(lake).await?;
    let units = context.lake.units(&RAW_LOGS).await?;
    for protocol in context.config.protocol_names() {
        let units = units.iter().filter(|unit| is_of(unit, protocol));
        let mut rows: Vec<RawLog> = Vec::new();
        for unit in units {
            rows.extend(context.lake.require::<RawLog>(&RAW_LOGS, unit).await?);
        }
        if rows.is_empty() {
            return Err(Error::bad_input("the lake has no logs of a protocol").with("protocol", protocol));
        }
        let repeated = rows.iter().cycle().take(LOGS_OF_OBJECT.next_multiple_of(rows.len())).cloned();
        let (object, count) = parquet::encode(repeated, RAW_LOGS.sorted_by, &FileMetadata::new())?;
        let mut replay = new_replay(&context, protocol).await?;
        let (started, mut applied) = (Instant::now(), 0);
        while applied < logs {
            parquet::decode_parts::<RawLog>(object.clone(), |part| part.iter().try_for_each(|log| replay.apply(log)))?;
            replay.finish_block()?;
            applied += count;
        }
        let seconds = started.elapsed().as_secs_f64();
        let per_second = (applied as f64 / seconds).round();
        println!(
            "{}",
            json!({ "protocol": protocol, "logs": applied, "seconds": seconds, "logs_per_second": per_second })
        );
    }
    Ok(())
}

fn is_of(unit: &WorkUnit, protocol: &str) -> bool {
    unit.as_protocol_days().is_ok_and(|(_, name)| *name == *protocol)
}

/// Returns an empty replay of a protocol with the contracts of the newest markets.
async fn new_replay(context: &Context, protocol: &str) -> Result<Replay> {
    let units = context.lake.units(&RAW_MARKETS).await?;
    let newest = units.iter().rfind(|unit| is_of(unit, protocol));
    let newest = newest.ok_or_else(|| Error::bad_input("the lake has no markets").with("protocol", protocol))?;
    let (markets, metadata) = context.lake.require_with_metadata::<RawMarket>(&RAW_MARKETS, newest).await?;
    let deployment = metadata.get("deployment").and_then(|text| Address::parse(text));
    let deployment = deployment.ok_or_else(|| Error::corrupt("the markets do not name the deployment"))?;
    let kind = context.config.protocol(protocol)?.kind;
    let mut replay = Replay::new(kind.ok_or_else(|| Error::internal("a protocol without a kind"))?);
    replay.set_contracts(deployment, &markets)?;
    Ok(replay)
}

async fn context_of_a_node(lake: &Path) -> Result<Context> {
    let lake: Arc<str> = lake.to_string_lossy().into();
    let variable = move |name: &str| match name {
        "LAKE" => Some(lake.to_string()),
        "DEFI_SOURCE" => Some("chain".to_owned()),
        _ => None,
    };
    context_from(&variable).await
}

/// The accounts of [`generate_accounts`].
#[derive(Debug, Clone, Args)]
pub struct Accounts {
    /// Number of accounts with a supply; every third one also has a debt
    #[arg(long, default_value_t = 1_000_000)]
    accounts: u32,
}

/// The number of reserves of Aave, as on mainnet.
const RESERVES: u8 = 37;

/// Writes a lake in which many accounts have balances.
///
/// # Errors
/// The lake can't be written.
pub async fn generate_accounts(lake: &Path, accounts: &Accounts) -> Result<()> {
    let context = context_of_a_node(lake).await?;
    let (first, last) = (Day::from_epoch_days(FIRST_DAY), Day::from_epoch_days(FIRST_DAY).next());
    for day in [first, last] {
        context.lake.write(&DAILY_BLOCKS, &WorkUnit::Day(day), vec![block_of(day)], FileMetadata::new()).await?;
    }
    let unit = |day| WorkUnit::ProtocolDay(day, AAVE.into());
    let deployment = FileMetadata::from([("deployment".to_owned(), contract(0, 0).to_string())]);
    context.lake.write(&RAW_LOGS, &unit(first), Vec::<RawLog>::new(), deployment.clone()).await?;
    let rows: Vec<ReplayRow> = (0..accounts.accounts).map(row).collect();
    let markets = (0..RESERVES).map(|number| market(number, &rows, last));
    context.lake.write(&RAW_MARKETS, &unit(last), markets.collect::<Vec<_>>(), deployment).await?;
    context.lake.write_state(State::Replay, first, AAVE, rows).await.map(drop)
}

/// Stages the day of [`generate_accounts`], and prints the seconds and the peak memory of this process.
///
/// # Errors
/// The step fails.
pub async fn stage_accounts(lake: &Path) -> Result<()> {
    let context = context_of_a_node(lake).await?;
    let last = Day::from_epoch_days(FIRST_DAY).next();
    let input = UnitInput {
        as_of: Some(last),
        days: Some(vec![last]),
        protocols: Some(vec![AAVE.to_owned()]),
        ..UnitInput::default()
    };
    let started = Instant::now();
    let report = stage_account_positions::handle(context, input).await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", json!({ "positions": report.rows_out, "seconds": seconds, "peak_mb": peak_mb() }));
    Ok(())
}

/// Returns the peak memory of this process in MB, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024 / 1_000_000)
}

fn contract(kind: u8, number: u8) -> Address {
    let mut address = HexBytes([0; 20]);
    [address.0[0], address.0[1]] = [kind, number];
    address
}

fn reserve(number: u8) -> Reserve {
    let [asset, a_token, stable_debt_token, variable_debt_token] = [1, 2, 3, 4].map(|kind| contract(kind, number));
    Reserve { asset, a_token, stable_debt_token, variable_debt_token }
}

fn row(number: u32) -> ReplayRow {
    let mut account = HexBytes([0xab; 20]);
    account.0[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    let reserve = u8::try_from(number % u32::from(RESERVES)).unwrap_or_default();
    ReplayRow {
        market: contract(2, reserve),
        account: Some(account),
        supply: BaseUnits(1_000_000_000_000_000_000 + i128::from(number)),
        debt: BaseUnits(if number.is_multiple_of(3) { 1_000_000_000_000_000 + i128::from(number) } else { 0 }),
        debt_index: BaseUnits(0),
        is_collateral: true,
        stable_principal: None,
        stable_rate: None,
        stable_since: None,
        accruals: None,
        changes: None,
    }
}

fn block_of(day: Day) -> DailyBlock {
    DailyBlock {
        day,
        block_number: i64::from(day.epoch_days()) * 7_200,
        timestamp: Timestamp::from_epoch_seconds(day.start()),
        epoch_timestamp: day.start(),
        block_hash: None,
    }
}

/// Returns a reserve whose sums are those of the rows.
fn market(number: u8, rows: &[ReplayRow], day: Day) -> RawMarket {
    let text = |value: String| Some(Arc::from(value));
    let Reserve { asset, a_token, stable_debt_token, variable_debt_token } = reserve(number);
    let of_market: Vec<_> = rows.iter().filter(|row| row.market == a_token).collect();
    let block = block_of(day);
    let ray = U256::from(10).pow(U256::from(27));
    RawMarket {
        id: text(a_token.to_string()),
        name: text(format!("Reserve {number}")),
        maximum_ltv: text("75".to_owned()),
        liquidation_threshold: text("80".to_owned()),
        input_token_price_usd: text("1".to_owned()),
        input_token_id: text(asset.to_string()),
        input_token_symbol: text(format!("TOK{number}")),
        input_token_decimals: text("18".to_owned()),
        price_unit: text("ETH".to_owned()),
        supply_index: text((ray * U256::from(2)).to_string()),
        debt_index: text((ray * U256::from(3)).to_string()),
        own_token_supply: text(of_market.iter().map(|row| row.supply.0).sum::<i128>().to_string()),
        total_debt: text(of_market.iter().map(|row| row.debt.0).sum::<i128>().to_string()),
        stable_debt_token: text(stable_debt_token.to_string()),
        variable_debt_token: text(variable_debt_token.to_string()),
        protocol: AAVE.into(),
        block_number: block.block_number,
        block_timestamp: block.timestamp,
        ..RawMarket::default()
    }
}
