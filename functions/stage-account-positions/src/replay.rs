//! Positions from the logs of a node: the logs are applied in the order of the chain, and the balances after the first block
//! of a day are its positions, once they are [closed](closing) against what the contracts say.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::config::ProtocolKind;
use defi_shared::contracts::U256;
use defi_shared::cpu::spawn_cpu;
use defi_shared::domain::replay::aave_v2::{AccountValue, Reserve, ReserveValues};
use defi_shared::domain::replay::compound_v2::MarketValues;
use defi_shared::domain::replay::{Difference, Entry, Log, Position, aave_v2, compound_v2};
use defi_shared::domain::{Address, Day};
use defi_shared::lake::{ObjectDigest, State, WorkUnit};
use defi_shared::step::staging::{Staged, quarantined, source_metadata};
use defi_shared::step::{CallUnits, Context, Report};
use defi_shared::tables::{DailyBlock, RAW_MARKETS, RawLog, RawMarket, RawPosition, ReplayRow, StagedPosition};
use defi_shared::{Error, Result};
use tokio::sync::Mutex;

use crate::closing::position_id;
use crate::markets::{MarketNames, Markets, address, market_names, number};
use crate::{Flags, STEP, closing, write_staged};

/// The number of accounts that sent or received supplies on a day whose balances are compared with what the contract says:
/// a transfer leaves the sum unchanged.
const SAMPLED_TRANSFERS: usize = 64;

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

/// The balances of the accounts of a protocol.
#[derive(Debug, Clone)]
pub enum Replay {
    /// Of Aave v2.
    AaveV2(aave_v2::Replay),
    /// Of Compound v2.
    CompoundV2(compound_v2::Replay),
}

/// Adds the rows of a state, from which the replay continues.
impl Extend<ReplayRow> for Replay {
    fn extend<I: IntoIterator<Item = ReplayRow>>(&mut self, rows: I) {
        let entries = rows.into_iter().map(|row| Entry::from(&row));
        match self {
            Replay::AaveV2(replay) => replay.extend(entries),
            Replay::CompoundV2(replay) => replay.extend(entries),
        }
    }
}

impl Replay {
    /// Creates a replay before the first log.
    #[must_use]
    pub fn new(kind: ProtocolKind) -> Self {
        match kind {
            ProtocolKind::AaveV2 => Replay::AaveV2(aave_v2::Replay::default()),
            ProtocolKind::CompoundV2 => Replay::CompoundV2(compound_v2::Replay::default()),
        }
    }

    /// Applies a log. Logs of contracts that are not [set](Replay::set_contracts) change nothing.
    ///
    /// # Errors
    /// `CorruptData` for an event that is malformed or has a number that no contract can have.
    pub fn apply(&mut self, log: &RawLog) -> Result<()> {
        let (topics, data) = (log.topics(), log.data()?);
        let log = Log {
            contract: log.contract_address,
            topics: &topics,
            data: &data,
            transaction: log.transaction_hash,
            index: log.log_index,
            time: log.time(),
        };
        match self {
            Replay::AaveV2(replay) => replay.apply(&log),
            Replay::CompoundV2(replay) => replay.apply(&log),
        }
    }

    /// Takes note that a block has no more logs.
    ///
    /// # Errors
    /// As [`Replay::apply`].
    pub fn finish_block(&mut self) -> Result<()> {
        match self {
            Replay::AaveV2(_) => Ok(()),
            Replay::CompoundV2(replay) => replay.finish_block(),
        }
    }

    /// Sets the contracts whose logs are applied: the deployment, and those of the markets.
    ///
    /// # Errors
    /// `CorruptData` for a market that does not name its contracts.
    pub fn set_contracts(&mut self, deployment: Address, markets: &[RawMarket]) -> Result<()> {
        match self {
            Replay::AaveV2(replay) => {
                let reserve = |market: &RawMarket| {
                    Ok(Reserve {
                        asset: address("input_token_id", &market.input_token_id)?,
                        a_token: address("id", &market.id)?,
                        stable_debt_token: address("stable_debt_token", &market.stable_debt_token)?,
                        variable_debt_token: address("variable_debt_token", &market.variable_debt_token)?,
                    })
                };
                let reserves = markets.iter().map(reserve).collect::<Result<Vec<_>>>()?;
                replay.set_contracts(deployment, &reserves);
            }
            Replay::CompoundV2(replay) => {
                let c_tokens = markets.iter().map(|market| address("id", &market.id));
                replay.set_contracts(deployment, &c_tokens.collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(())
    }

    /// Returns the cTokens that a market of Compound has itself.
    fn held_by_market(&self, market: Address) -> U256 {
        match self {
            Replay::AaveV2(_) => U256::ZERO,
            Replay::CompoundV2(replay) => replay.held_by_market(market),
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

impl Replayed {
    /// Restores the replay from the newest state up to a day, or begins before the first log.
    async fn restore(context: &Context, protocol: &Arc<str>, day: Day, force: bool) -> Result<Self> {
        let configured = context.config.protocol(protocol)?;
        let kind = configured.kind.ok_or_else(|| Error::bad_input("the protocol has no kind in the configuration"))?;
        let state = match force {
            true => None,
            false => {
                let state =
                    context.lake.collect_newest_state::<ReplayRow, _>(State::Replay, day, protocol, Replay::new(kind));
                state.await?
            }
        };
        let Some((as_of, replay)) = state else {
            let first = configured.first_day()?;
            return Ok(Replayed { replay: Replay::new(kind), block: None, next: first });
        };
        let block = context.first_block(as_of).await?.block_number;
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
        self.replay.set_contracts(markets.deployment, &markets.rows)?;
        while self.next < day {
            self = self.advance(context, &protocol, day).await?;
        }
        let (mut positions, mut differences) = self.positions(&markets)?;
        differences.extend(closing::differing_accounts(context, &markets, &self.account_values()).await?);
        let unanswered = closing::ask(context, &markets, &mut positions, &differences).await?;
        let sums = closing::compare_sums(&markets, &positions, |market| self.replay.held_by_market(market))?;
        let names = market_names(&markets.rows);
        let (name, block) = (Arc::clone(&protocol), markets.block.clone());
        let row = move |position: &Position| raw_position(position, &name, &names, &block);
        let (staged, flags) = spawn_cpu(move || stage_positions(positions, row)).await?;
        let mut metadata = source_metadata(&metadata);
        metadata.extend(sums.metadata());
        let mut report = write_staged(context, unit, staged, &flags, metadata).await?;
        for Difference { market, account, value, replayed, actual } in differences {
            tracing::warn!(%unit, %market, ?account, value, %replayed, %actual, "a value differs from the contract's");
            let whose = account.map_or_else(String::new, |account| format!(" for {account}"));
            report.differing.add(format!("{unit}: {value} of {market}{whose} is {actual}, replayed {replayed}"));
        }
        for id in unanswered {
            tracing::warn!(%unit, id, "the contract does not say the balance of a position");
            report.differing.add(format!("{unit}: the contract does not say the balance of {id}"));
        }
        // A run that is interrupted goes on from here.
        if day.month() != day.next().month() {
            report = report.with_state(self.write(context, &protocol).await?);
        }
        Ok((self, report))
    }

    /// Applies the logs of the next day, or of the days up to `end` if its object has more: those after the last applied
    /// block.
    async fn advance(mut self, context: &Context, protocol: &Arc<str>, end: Day) -> Result<Self> {
        let logs = context.logs(protocol, self.next).await?;
        let (days, _) = logs.unit.as_protocol_days()?;
        let next = days.end.min(end);
        let last = context.first_block(next).await?.block_number;
        let apply = move || {
            if let Replay::AaveV2(replay) = &mut self.replay {
                replay.forget_transfers();
            }
            let applied = self.block.unwrap_or(-1);
            logs.for_each(|log| match (applied + 1..=last).contains(&log.block_number) {
                true => self.replay.apply(&log),
                false => Ok(()),
            })?;
            self.replay.finish_block()?;
            self.block = Some(last);
            self.next = next;
            Ok(self)
        };
        spawn_cpu(apply).await
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

    /// Returns the values of accounts that are compared with what the contracts say, besides the sums.
    fn account_values(&self) -> Vec<AccountValue> {
        match &self.replay {
            Replay::AaveV2(replay) => replay.account_values(SAMPLED_TRANSFERS),
            Replay::CompoundV2(_) => Vec::new(),
        }
    }

    /// Writes the state, as of the last day that was staged.
    async fn write(&self, context: &Context, protocol: &Arc<str>) -> Result<(String, ObjectDigest)> {
        let rows = self.replay.rows();
        context.lake.write_state(State::Replay, self.next, protocol, rows).await
    }
}

/// Validates positions, and sorts them as the table is. A row is made twice, to validate it and to write it: the texts of
/// all rows would fill more memory than the balances.
fn stage_positions(
    mut positions: Vec<Position>,
    row: impl Fn(&Position) -> RawPosition + Send + 'static,
) -> Result<(Staged<impl Iterator<Item = StagedPosition> + Send + 'static>, Flags)> {
    // The ids have the order of the markets, and of the names of the kinds.
    positions.sort_unstable_by_key(|position| (position.account, position.market, position.kind.name()));
    let (mut flags, mut rejected, mut rows_in) = (Flags::default(), Vec::new(), 0);
    positions.retain(|position| {
        let raw = row(position);
        let staged = StagedPosition::from_raw(&raw);
        match &staged {
            Ok(staged) => flags.add(staged),
            Err(reason) => rejected.push(quarantined(rows_in, reason.to_string(), &raw)),
        }
        rows_in += 1;
        staged.is_ok()
    });
    let quarantined = rejected.into_iter().collect::<Result<_>>()?;
    // All are valid now.
    let rows = positions.into_iter().filter_map(move |position| StagedPosition::from_raw(&row(&position)).ok());
    Ok((Staged { rows, quarantined, rows_in: rows_in.unsigned_abs() }, flags))
}

fn raw_position(position: &Position, protocol: &Arc<str>, names: &MarketNames, block: &DailyBlock) -> RawPosition {
    let Position { account, market, kind, balance, is_collateral } = position;
    let (market_id, market_name) = names.get(market).cloned().unzip();
    RawPosition {
        id: Some(position_id(position).into()),
        balance: Some(balance.to_string().into()),
        side: Some(kind.side().name().into()),
        is_collateral: is_collateral.map(|flag| flag.to_string().into()),
        market_id,
        market_name: market_name.flatten(),
        account_id: Some(account.to_string().into()),
        protocol: Arc::clone(protocol),
        block_number: block.block_number,
        block_timestamp: block.timestamp,
        ..RawPosition::default()
    }
}
