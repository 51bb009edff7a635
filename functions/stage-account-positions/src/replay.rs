//! Positions from the logs of a node: the logs are applied in the order of the chain, and the balances after the first block
//! of a day are its positions. The sums of the balances are compared with what the contracts say; where they differ, the
//! balances of the market are asked by call.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::config::ProtocolKind;
use defi_shared::contracts::U256;
use defi_shared::contracts::aave_v2::AToken;
use defi_shared::contracts::compound_v2::CToken;
use defi_shared::cpu::spawn_cpu;
use defi_shared::domain::replay::aave_v2::{Reserve, ReserveValues};
use defi_shared::domain::replay::compound_v2::MarketValues;
use defi_shared::domain::replay::{Difference, Entry, Log, Position, PositionKind, WAD, aave_v2, compound_v2, mul_div};
use defi_shared::domain::{Address, Day};
use defi_shared::lake::{ObjectDigest, State, WorkUnit};
use defi_shared::step::contracts::{call, of_address, returned};
use defi_shared::step::{CallUnits, Context, Report};
use defi_shared::tables::{DailyBlock, RAW_LOGS, RAW_MARKETS, RawLog, RawMarket, RawPosition, ReplayRow};
use defi_shared::{Error, Result};
use tokio::sync::Mutex;

use crate::{STEP, write_staged};

/// Stages the positions of protocols and days. The days of a protocol are replayed in order, from the newest state on, or from
/// the first log if `force` is set.
pub(crate) async fn stage_units(context: &Context, units: &CallUnits, force: bool) -> Result<Report> {
    let replays: Arc<Mutex<BTreeMap<Arc<str>, Replayed>>> = Arc::default();
    let work = |context: Context, unit: WorkUnit| {
        let replays = Arc::clone(&replays);
        async move {
            let (day, protocol) = unit.as_protocol_day()?;
            let mut replays = replays.lock().await;
            let replayed = match replays.remove(&protocol) {
                Some(replayed) => replayed,
                None => Replayed::restore(&context, &protocol, day, force).await?,
            };
            let (replayed, report) = replayed.stage(&context, &unit).await?;
            replays.insert(protocol, replayed);
            Ok(report)
        }
    };
    // One after another: the positions of a day follow from those of the day before.
    let mut report = context.run_units(STEP, units, 1, work).await?;
    for (protocol, replayed) in std::mem::take(&mut *replays.lock().await) {
        report = report.with_state(replayed.write(context, &protocol).await?);
    }
    Ok(report)
}

/// The replay of a protocol, after the first block of a day.
struct Replayed {
    replay: Replay,
    /// The last block whose logs are applied. `None` before the first log.
    block: Option<i64>,
    /// The day whose logs come next.
    next: Day,
}

#[derive(Clone)]
enum Replay {
    AaveV2(aave_v2::Replay),
    CompoundV2(compound_v2::Replay),
}

impl Replay {
    fn new(kind: ProtocolKind, entries: impl IntoIterator<Item = Entry>) -> Self {
        match kind {
            ProtocolKind::AaveV2 => Replay::AaveV2(aave_v2::Replay::new(entries)),
            ProtocolKind::CompoundV2 => Replay::CompoundV2(compound_v2::Replay::new(entries)),
        }
    }

    fn apply(&mut self, log: &Log<'_>) -> Result<()> {
        match self {
            Replay::AaveV2(replay) => replay.apply(log),
            Replay::CompoundV2(replay) => replay.apply(log),
        }
    }

    /// Returns the state, sorted.
    fn rows(&self) -> Vec<ReplayRow> {
        let mut rows: Vec<ReplayRow> = match self {
            Replay::AaveV2(replay) => replay.entries().map(ReplayRow::from).collect(),
            Replay::CompoundV2(replay) => replay.entries().map(ReplayRow::from).collect(),
        };
        rows.sort_unstable_by_key(|row| (row.market, row.account));
        rows
    }
}

/// The markets of a day, as the contracts describe them.
struct Markets {
    deployment: Address,
    rows: Vec<RawMarket>,
    block: DailyBlock,
}

impl Replayed {
    /// Restores the replay from the newest state up to a day, or begins before the first log.
    async fn restore(context: &Context, protocol: &Arc<str>, day: Day, force: bool) -> Result<Self> {
        let configured = context.config.protocol(protocol)?;
        let kind = configured.kind.ok_or_else(|| Error::bad_input("the protocol has no kind in the configuration"))?;
        let state = match force {
            true => None,
            false => context.lake.newest_state::<ReplayRow>(State::Replay, day, protocol).await?,
        };
        let Some((as_of, rows)) = state else {
            let first = configured.first_day()?;
            return Ok(Replayed { replay: Replay::new(kind, []), block: None, next: first });
        };
        let block = context.first_block(as_of).await?.block_number;
        let replay = Replay::new(kind, rows.iter().map(Entry::from));
        Ok(Replayed { replay, block: Some(block), next: as_of })
    }

    /// Applies the logs up to the first block of a day, and writes the positions of the day.
    async fn stage(mut self, context: &Context, unit: &WorkUnit) -> Result<(Self, Report)> {
        let (day, protocol) = unit.as_protocol_day()?;
        let (rows, metadata) = context.lake.require_with_metadata::<RawMarket>(&RAW_MARKETS, unit).await?;
        let deployment = metadata.get("deployment").and_then(|text| Address::parse(text));
        let deployment =
            deployment.ok_or_else(|| Error::corrupt("the markets do not name the deployment").with("unit", unit))?;
        let markets = Markets { deployment, rows, block: context.first_block(day).await? };
        self.set_contracts(&markets)?;
        while self.next < day {
            self = self.advance(context, &protocol).await?;
        }
        let (positions, differences) = self.positions(&markets)?;
        let positions = close(context, &markets, positions, &differences).await?;
        let raw: Vec<_> = positions.iter().map(|position| raw_position(position, &protocol, &markets)).collect();
        let mut report = write_staged(context, unit, &raw, &metadata).await?;
        for difference in differences {
            let Difference { market, sum, replayed, actual } = difference;
            tracing::warn!(%unit, %market, sum, %replayed, %actual, "a sum differs from what the contract says");
            report.differing.add(format!("{unit}: {sum} of {market} is {actual}, replayed {replayed}"));
        }
        // A run that is interrupted goes on from here.
        if day.month() != day.next().month() {
            report = report.with_state(self.write(context, &protocol).await?);
        }
        Ok((self, report))
    }

    /// Applies the logs of the next day: those after the last applied block.
    async fn advance(mut self, context: &Context, protocol: &Arc<str>) -> Result<Self> {
        let day = self.next;
        let unit = WorkUnit::ProtocolDay(day, Arc::clone(protocol));
        let logs: Vec<RawLog> = context.lake.require(&RAW_LOGS, &unit).await?;
        let last = context.first_block(day.next()).await?.block_number;
        let apply = move || {
            for log in logs.iter().filter(|log| self.block.is_none_or(|block| log.block_number > block)) {
                let (topics, data) = (log.topics(), log.data()?);
                let log = Log {
                    contract: log.contract_address,
                    topics: &topics,
                    data: &data,
                    transaction: log.transaction_hash,
                    index: log.log_index,
                    time: log.time(),
                };
                self.replay.apply(&log)?;
            }
            if let Replay::CompoundV2(replay) = &mut self.replay {
                replay.finish_block()?;
            }
            self.block = Some(last);
            self.next = day.next();
            Ok(self)
        };
        spawn_cpu(apply).await.map_err(|error: Error| error.with("unit", &unit))
    }

    fn set_contracts(&mut self, markets: &Markets) -> Result<()> {
        match &mut self.replay {
            Replay::AaveV2(replay) => {
                let reserve = |market: &RawMarket| {
                    Ok(Reserve {
                        asset: address("input_token_id", &market.input_token_id)?,
                        a_token: address("id", &market.id)?,
                        stable_debt_token: address("stable_debt_token", &market.stable_debt_token)?,
                        variable_debt_token: address("variable_debt_token", &market.variable_debt_token)?,
                    })
                };
                let reserves = markets.rows.iter().map(reserve).collect::<Result<Vec<_>>>()?;
                replay.set_contracts(markets.deployment, &reserves);
            }
            Replay::CompoundV2(replay) => {
                let c_tokens = markets.rows.iter().map(|market| address("id", &market.id));
                replay.set_contracts(markets.deployment, &c_tokens.collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(())
    }

    /// Returns the open positions, and the sums that differ from what the contracts say.
    fn positions(&self, markets: &Markets) -> Result<(Vec<Position>, Vec<Difference>)> {
        match &self.replay {
            Replay::AaveV2(replay) => {
                let values = |market: &RawMarket| {
                    Ok(ReserveValues {
                        a_token: address("id", &market.id)?,
                        normalized_income: number("supply_index", &market.supply_index)?,
                        normalized_variable_debt: number("debt_index", &market.debt_index)?,
                        scaled_supply: number("own_token_supply", &market.own_token_supply)?,
                        scaled_variable_debt: number("total_debt", &market.total_debt)?,
                    })
                };
                let values = markets.rows.iter().map(values).collect::<Result<Vec<_>>>()?;
                Ok((replay.positions(&values, markets.block.epoch_timestamp)?, replay.differences(&values)))
            }
            Replay::CompoundV2(replay) => {
                let values = |market: &RawMarket| {
                    Ok(MarketValues {
                        c_token: address("id", &market.id)?,
                        exchange_rate: number("supply_index", &market.supply_index)?,
                        borrow_index: number("debt_index", &market.debt_index)?,
                        total_supply: number("own_token_supply", &market.own_token_supply)?,
                        total_borrows: number("total_debt", &market.total_debt)?,
                    })
                };
                let values = markets.rows.iter().map(values).collect::<Result<Vec<_>>>()?;
                Ok((replay.positions(&values)?, replay.differences(&values)?))
            }
        }
    }

    /// Writes the state, as of the last day that was staged.
    async fn write(&self, context: &Context, protocol: &Arc<str>) -> Result<(String, ObjectDigest)> {
        let rows = self.replay.rows();
        context.lake.write_state(State::Replay, self.next, protocol, rows).await
    }
}

/// Replaces the balances in markets whose sums differ by what the contracts say of each account.
async fn close(
    context: &Context,
    markets: &Markets,
    mut positions: Vec<Position>,
    differences: &[Difference],
) -> Result<Vec<Position>> {
    if differences.is_empty() {
        return Ok(positions);
    }
    let mut differing: Vec<Address> = differences.iter().map(|difference| difference.market).collect();
    differing.sort_unstable();
    differing.dedup();
    let rows: BTreeMap<Address, &RawMarket> =
        markets.rows.iter().filter_map(|market| Some((Address::parse(market.id.as_deref()?)?, market))).collect();
    let (asked, mut calls) = (positions.iter().enumerate(), Vec::new());
    let asked: Vec<_> = asked.filter(|(_, position)| differing.binary_search(&position.market).is_ok()).collect();
    for (_, position) in &asked {
        let market = rows.get(&position.market).copied();
        let token = match position.kind {
            PositionKind::Variable => market.and_then(|market| Address::parse(market.variable_debt_token.as_deref()?)),
            PositionKind::Stable => market.and_then(|market| Address::parse(market.stable_debt_token.as_deref()?)),
            PositionKind::Supply | PositionKind::Borrow => Some(position.market),
        };
        let (token, account) = (token.unwrap_or(position.market), of_address(&position.account));
        calls.push(match position.kind {
            PositionKind::Borrow => call(token, &CToken::borrowBalanceStoredCall { account }),
            _ => call(token, &AToken::balanceOfCall { user: account }),
        });
    }
    let block = markets.block.number()?;
    let outcomes = context.node()?.call(&calls, block, &context.traffic).await?;
    let mut balances = Vec::new();
    for ((index, position), outcome) in asked.iter().zip(&outcomes) {
        let balance = match position.kind {
            PositionKind::Borrow => returned::<CToken::borrowBalanceStoredCall>(outcome),
            _ => returned::<AToken::balanceOfCall>(outcome),
        };
        let Some(mut balance) = balance else { continue };
        // A cToken says how many cTokens an account has.
        let market = rows.get(&position.market).copied();
        if let (PositionKind::Supply, Some(market)) = (position.kind, market)
            && market.variable_debt_token.is_none()
        {
            let rate = number("supply_index", &market.supply_index)?;
            balance = mul_div(balance, rate, WAD)?;
        }
        balances.push((*index, balance));
    }
    for (index, balance) in balances {
        positions[index].balance = balance;
    }
    positions.retain(|position| !position.balance.is_zero());
    Ok(positions)
}

fn raw_position(position: &Position, protocol: &Arc<str>, markets: &Markets) -> RawPosition {
    let Position { account, market, kind, balance, is_collateral } = position;
    let id = Some(market.to_string());
    let name = markets.rows.iter().find(|row| row.id.as_deref() == id.as_deref()).and_then(|row| row.name.clone());
    RawPosition {
        id: Some(format!("{account}-{market}-{}", kind.name()).into()),
        balance: Some(balance.to_string().into()),
        side: Some(kind.side().name().into()),
        is_collateral: is_collateral.map(|flag| flag.to_string().into()),
        market_id: id.map(Arc::from),
        market_name: name,
        account_id: Some(account.to_string().into()),
        protocol: Arc::clone(protocol),
        block_number: markets.block.block_number,
        block_timestamp: markets.block.timestamp,
    }
}

fn address(column: &'static str, text: &Option<Arc<str>>) -> Result<Address> {
    text.as_deref().and_then(Address::parse).ok_or_else(|| not_from_a_node(column))
}

fn number(column: &'static str, text: &Option<Arc<str>>) -> Result<U256> {
    text.as_deref().and_then(|text| text.parse().ok()).ok_or_else(|| not_from_a_node(column))
}

fn not_from_a_node(column: &'static str) -> Error {
    Error::corrupt("a market has no value that a node gives").with("column", column)
}
