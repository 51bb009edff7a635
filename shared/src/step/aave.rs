//! Positions from the rows of one of Aave's own subgraphs: what the scaled balances of a user are worth at the block, with the
//! arithmetic of the contracts.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use alloy_primitives::U256;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::Context;
use super::staging::{DUPLICATE_KEY, Staged, quarantined};
use crate::domain::replay::aave_v2::{Indexes, StoredIndexes, amounts};
use crate::domain::replay::{Balance, PositionKind, StableLoan, mul_div, ray_mul};
use crate::domain::{Address, BaseUnits, SECONDS_PER_DAY};
use crate::error::{Error, Result};
use crate::lake::FileMetadata;
use crate::sources::graph::{Reserve, Snapshot};
use crate::tables::{RawMarket, RawPosition, Reason, StagedPosition, base_units, hex_bytes, integer};

impl Context {
    /// Returns the reserves of a protocol's pool at a block, in Aave's schema. A wrong pool would give an empty lake: the
    /// subgraph returns no rows for it, and no error.
    ///
    /// # Errors
    /// `BadInput` if the pool has no reserves, and those of [`GraphClient::reserves`](crate::sources::graph::GraphClient::reserves).
    pub async fn reserves(&self, protocol: &str, block: u64) -> Result<Snapshot<Reserve>> {
        let configured = self.config.protocol(protocol)?;
        let pool = configured.pool()?;
        let snapshot = self.graph.reserves(configured.subgraph()?, pool, block, &self.traffic).await?;
        if snapshot.rows.is_empty() {
            return Err(Error::bad_input("the subgraph has no reserves of the configured pool at this block")
                .with("protocol", protocol)
                .with("pool", pool)
                .with("block", block)
                .with_hint(
                    "in the configuration of the protocol, set pool to one of the ids of the subgraph's pools, or first_day to a \
                     day on which the pool has reserves",
                ));
        }
        Ok(snapshot)
    }
}

/// The number of sums of balances that were compared with what their market says, and of those that differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComparedSums {
    /// The number of sums.
    pub compared: u64,
    /// The number of those that differ.
    pub differing: u64,
}

impl ComparedSums {
    /// Returns the entries of the metadata of the staged positions.
    #[must_use]
    pub fn metadata(&self) -> [(String, String); 2] {
        [("sums", self.compared), ("differing_sums", self.differing)]
            .map(|(name, count)| (name.to_owned(), count.to_string()))
    }
}

/// A measure of how well the rows of users fit a reserve, of which the quality checks judge the worst reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// The difference between the scaled variable debts of the users and `totalScaledVariableDebt`, relative to the larger.
    /// The subgraph adds both up from the same events: a difference is rows that are missing or doubled.
    DebtDeviation,
    /// What the supplies of the users lack of what the reserve says, relative to the latter.
    SupplyShortfall,
    /// What the supplies of the users are above what the reserve says, relative to the former.
    SupplyExcess,
    /// The age of the price, in days.
    PriceAgeDays,
}

impl Measure {
    /// All measures.
    pub const ALL: [Measure; 4] =
        [Measure::DebtDeviation, Measure::SupplyShortfall, Measure::SupplyExcess, Measure::PriceAgeDays];

    /// Returns the name in the metadata of the staged positions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::DebtDeviation => "debt_deviation",
            Measure::SupplyShortfall => "supply_shortfall",
            Measure::SupplyExcess => "supply_excess",
            Measure::PriceAgeDays => "price_age_days",
        }
    }
}

/// The value of a measure, and the market that has it. As text: `0.031250 0x…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worst {
    /// The value, in millionths.
    millionths: u64,
    /// The market.
    pub market: Address,
}

impl Worst {
    /// Returns the value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "values are far below 2^53")]
    pub fn value(&self) -> f64 {
        self.millionths as f64 / 1e6
    }

    /// Parses the text in the metadata of staged positions.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (value, market) = text.split_once(' ')?;
        let (whole, millionths) = value.split_once('.')?;
        let digits = format!("{whole}{millionths}");
        let millionths = digits.parse().ok().filter(|_| millionths.len() == 6)?;
        Some(Worst { millionths, market: Address::parse(market)? })
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} {}", self.millionths / MILLION, self.millionths % MILLION, self.market)
    }
}

const MILLION: u64 = 1_000_000;

/// What a comparison of the rows of users with their reserves found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The sums of debts that were compared.
    pub sums: ComparedSums,
    /// The worst reserve by each measure that at least one reserve has a value of.
    pub worst: BTreeMap<Measure, Worst>,
}

impl Comparison {
    /// Returns the entries of the metadata of the staged positions.
    #[must_use]
    pub fn metadata(&self) -> FileMetadata {
        let worst = self.worst.iter().map(|(measure, worst)| (measure.name().to_owned(), worst.to_string()));
        self.sums.metadata().into_iter().chain(worst).collect()
    }

    fn add(&mut self, measure: Measure, market: Address, millionths: u64) {
        let of_market = Worst { millionths, market };
        let worst = self.worst.entry(measure).or_insert(of_market);
        *worst = of_market.max(*worst);
    }
}

/// The indexes of the reserves of a snapshot, or why a reserve has none.
struct Reserves<'a>(FxHashMap<Address, (&'a RawMarket, Result<Indexes, Reason>)>);

impl<'a> Reserves<'a> {
    fn new(markets: &'a [RawMarket]) -> Self {
        let with_indexes =
            |market: &'a RawMarket| Some((Address::parse(market.id.as_deref()?)?, (market, indexes(market))));
        Reserves(markets.iter().filter_map(with_indexes).collect())
    }

    fn indexes(&self, market: &Address) -> Result<Indexes, Reason> {
        let (_, indexes) =
            self.0.get(market).ok_or(Reason::new("market_id", "is not among the markets of the block"))?;
        indexes.clone()
    }

    /// Compares the sums of the users' balances with what the reserves say.
    fn compare(&self, sums: &FxHashMap<Address, Sums>) -> Comparison {
        let mut comparison = Comparison::default();
        for (id, (market, indexes)) in &self.0 {
            let of_users = sums.get(id).copied().unwrap_or_default();
            if let Some(total) = unsigned(&market.total_debt) {
                comparison.sums.compared += 1;
                comparison.sums.differing += u64::from(differs(of_users.debt, total));
                let deviation = shortfall(of_users.debt, total).max(shortfall(total, of_users.debt));
                comparison.add(Measure::DebtDeviation, *id, deviation);
            }
            if let Some((least, most)) = indexes.as_ref().ok().and_then(|indexes| supplies(market, indexes)) {
                let supply = indexes.as_ref().ok().and_then(|indexes| ray_mul(of_users.supply, indexes.income).ok());
                let supply = supply.unwrap_or(U256::MAX);
                comparison.add(Measure::SupplyShortfall, *id, shortfall(supply, least));
                comparison.add(Measure::SupplyExcess, *id, shortfall(most, supply));
            }
            if let Some(age) = price_age(market).filter(|_| sums.contains_key(id)) {
                comparison.add(
                    Measure::PriceAgeDays,
                    *id,
                    age.saturating_mul(MILLION) / SECONDS_PER_DAY.unsigned_abs(),
                );
            }
        }
        comparison
    }
}

/// The sums of the scaled balances of the users of a reserve.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    supply: U256,
    debt: U256,
}

/// Returns the least and the most that the users of a reserve can have supplied. The subgraph keeps its sum of supplies by
/// interest on the sum itself, independently of the users. The sum includes what was minted to the pool's treasury, which the
/// subgraph books to no user: at least that amount, at most that amount with all interest since an index of 1.
fn supplies(market: &RawMarket, indexes: &Indexes) -> Option<(U256, U256)> {
    let (total, treasury) = (unsigned(&market.total_supply)?, unsigned(&market.treasury_mints)?);
    let most = mul_div(total, indexes.income, unsigned(&market.supply_index)?).ok()?;
    Some((most.saturating_sub(ray_mul(treasury, indexes.income).ok()?), most))
}

/// Returns the age of a price in seconds. The price of ether in ETH never changes, and a price that was never seen has no age.
fn price_age(market: &RawMarket) -> Option<u64> {
    let is_unit = market.price_unit.as_deref() == Some("ETH") && market.input_token_price_usd.as_deref() == Some("1");
    let time = integer("price_time", &market.price_time).ok().filter(|time| *time > 0 && !is_unit)?;
    u64::try_from(market.block_timestamp.0.div_euclid(1000).checked_sub(time)?).ok()
}

/// Parses a number that is not negative.
fn unsigned(text: &Option<Arc<str>>) -> Option<U256> {
    base_units("", text).ok().map(|BaseUnits(number)| U256::from(number.unsigned_abs()))
}

/// Splits raw rows of a snapshot into valid positions, sorted by account and id, and rejected rows. `markets` are the reserves
/// at the same block. Also compares the balances with what the reserves say of themselves.
///
/// # Errors
/// `Internal` if a rejected row can't be serialized as JSON.
pub fn stage_user_reserves(
    raw: impl IntoIterator<Item: Borrow<RawPosition>>,
    markets: &[RawMarket],
) -> Result<(Staged<Vec<StagedPosition>>, Comparison)> {
    let reserves = Reserves::new(markets);
    let mut seen: HashSet<(Address, Address), FxBuildHasher> = HashSet::default();
    let mut sums: FxHashMap<Address, Sums> = FxHashMap::default();
    let mut staged = Staged { rows: Vec::new(), quarantined: Vec::new(), rows_in: 0 };
    for (row_number, row) in (0i64..).zip(raw) {
        let row = row.borrow();
        staged.rows_in += 1;
        let reason = match positions(row, &reserves) {
            Ok(valid) if seen.insert((valid.account, valid.market)) => {
                let Sums { supply, debt } = sums.entry(valid.market).or_default();
                *supply = supply.saturating_add(valid.scaled_supply);
                *debt = debt.saturating_add(valid.scaled_debt);
                staged.rows.extend(valid.positions);
                match valid.invalid_supply {
                    Some(reason) => reason.to_string(),
                    None => continue,
                }
            }
            Ok(_) => DUPLICATE_KEY.to_owned(),
            Err(reason) => reason.to_string(),
        };
        staged.quarantined.push(quarantined(row_number, reason, row)?);
    }
    staged.rows.sort_unstable_by(|a, b| (a.account_address, &a.id).cmp(&(b.account_address, &b.id)));
    Ok((staged, reserves.compare(&sums)))
}

/// Whether a sum differs from a total by more than a thousandth, and by more than a thousand units. The subgraph rounds each
/// change of a balance.
fn differs(sum: U256, total: U256) -> bool {
    let rounding = U256::from(ROUNDING);
    sum.abs_diff(total) > (total / rounding).max(rounding)
}

/// A sum differs by more than this part of the total, and by more than so many base units.
const ROUNDING: u64 = 1000;

/// Returns what a sum lacks of a total, in millionths of the total.
fn shortfall(sum: U256, total: U256) -> u64 {
    let missing = total.saturating_sub(sum);
    let is_rounding = missing <= U256::from(ROUNDING);
    let share = mul_div(missing, U256::from(MILLION), total).ok().filter(|_| !is_rounding);
    share.and_then(|share| u64::try_from(share).ok()).unwrap_or(0)
}

/// The valid positions of a row.
struct Valid {
    account: Address,
    market: Address,
    scaled_supply: U256,
    scaled_debt: U256,
    /// Why the row is in quarantine although its debts are positions.
    invalid_supply: Option<Reason>,
    positions: Vec<StagedPosition>,
}

fn positions(row: &RawPosition, reserves: &Reserves<'_>) -> Result<Valid, Reason> {
    let account: Address = hex_bytes("account_id", &row.account_id)?;
    let market: Address = hex_bytes("market_id", &row.market_id)?;
    // The subgraph's supply of a token that rebases can become negative. The debts count nevertheless.
    let (supply, invalid_supply) = match base_units("scaled_supply", &row.scaled_supply) {
        Ok(BaseUnits(supply)) => (supply, None),
        Err(reason) => (0, Some(reason)),
    };
    let BaseUnits(scaled_debt) = base_units("scaled_variable_debt", &row.scaled_variable_debt)?;
    let balance = Balance { supply, debt: scaled_debt, stable: loan(row)?.map(Box::new), ..Balance::default() };
    let time = row.block_timestamp.0.div_euclid(1000);
    let too_large = |_| Reason::new("balance", "is 10^38 or more");
    let amounts = amounts(&balance, &reserves.indexes(&market)?, time).map_err(too_large)?;
    let is_collateral = row.is_collateral.as_deref().and_then(|text| text.parse().ok());
    let mut positions = Vec::new();
    for (kind, amount) in amounts.into_iter().filter(|(_, amount)| !amount.is_zero()) {
        let amount = i128::try_from(amount).ok().and_then(BaseUnits::new);
        positions.push(StagedPosition {
            account_address: account,
            id: Arc::from(format!("{account}-{market}-{}", kind.name())),
            market_id: market,
            market_name: row.market_name.clone(),
            side: kind.side(),
            balance: amount.ok_or(Reason::new("balance", "is 10^38 or more"))?,
            is_collateral: is_collateral.filter(|_| kind == PositionKind::Supply),
            protocol: Arc::clone(&row.protocol),
            block_number: row.block_number,
            block_timestamp: row.block_timestamp,
            epoch_timestamp: time,
        });
    }
    if positions.is_empty() {
        return Err(invalid_supply.unwrap_or(Reason::new("balance", "is zero")));
    }
    let [scaled_supply, scaled_debt] = [supply, scaled_debt].map(|scaled| U256::from(scaled.unsigned_abs()));
    Ok(Valid { account, market, scaled_supply, scaled_debt, invalid_supply, positions })
}

/// Returns the debt at a stable rate, if there is one.
fn loan(row: &RawPosition) -> Result<Option<StableLoan>, Reason> {
    let BaseUnits(principal) = base_units("stable_debt", &row.stable_debt)?;
    if principal == 0 {
        return Ok(None);
    }
    let BaseUnits(rate) = base_units("stable_debt_rate", &row.stable_debt_rate)?;
    let since = integer("stable_debt_time", &row.stable_debt_time)?;
    Ok(Some(StableLoan { principal, rate, since }))
}

/// Returns the indexes of a reserve at the block of its snapshot.
fn indexes(market: &RawMarket) -> Result<Indexes, Reason> {
    let number = |column, text| base_units(column, text).map(|number| U256::from(number.0.unsigned_abs()));
    let stored = StoredIndexes {
        income: (number("supply_index", &market.supply_index)?, number("supply_rate", &market.supply_rate)?),
        variable_debt: (number("debt_index", &market.debt_index)?, number("debt_rate", &market.debt_rate)?),
    };
    let stored_at = integer("index_time", &market.index_time)?;
    let seconds = market.block_timestamp.0.div_euclid(1000).checked_sub(stored_at);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.ok_or(Reason::new("index_time", "is after the block"))?;
    stored.after(seconds).map_err(|_| Reason::new("supply_index", "is out of range"))
}
