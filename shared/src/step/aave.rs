//! Positions from the rows of one of Aave's own subgraphs: what the scaled balances of a user are worth at the block, with the
//! arithmetic of the contracts.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;

use alloy_primitives::U256;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::staging::{DUPLICATE_KEY, Staged, quarantined};
use crate::domain::replay::aave_v2::{Indexes, StoredIndexes, amounts};
use crate::domain::replay::{Balance, PositionKind, StableLoan};
use crate::domain::{Address, BaseUnits};
use crate::error::Result;
use crate::tables::{RawMarket, RawPosition, Reason, StagedPosition, base_units, hex_bytes, integer};

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
}

/// Splits raw rows of a snapshot into valid positions, sorted by account and id, and rejected rows. `markets` are the reserves
/// at the same block. Also compares the debts with the sums that the reserves say.
///
/// # Errors
/// `Internal` if a rejected row can't be serialized as JSON.
pub fn stage_user_reserves(
    raw: impl IntoIterator<Item: Borrow<RawPosition>>,
    markets: &[RawMarket],
) -> Result<(Staged<Vec<StagedPosition>>, ComparedSums)> {
    let reserves = Reserves::new(markets);
    let mut seen: HashSet<(Address, Address), FxBuildHasher> = HashSet::default();
    let mut debts: FxHashMap<Address, i128> = FxHashMap::default();
    let mut staged = Staged { rows: Vec::new(), quarantined: Vec::new(), rows_in: 0 };
    for (row_number, row) in (0i64..).zip(raw) {
        let row = row.borrow();
        staged.rows_in += 1;
        let reason = match positions(row, &reserves) {
            Ok(valid) if seen.insert((valid.account, valid.market)) => {
                let sum = debts.entry(valid.market).or_default();
                *sum = sum.saturating_add(valid.scaled_debt);
                staged.rows.extend(valid.positions);
                continue;
            }
            Ok(_) => DUPLICATE_KEY.to_owned(),
            Err(reason) => reason.to_string(),
        };
        staged.quarantined.push(quarantined(row_number, reason, row)?);
    }
    staged.rows.sort_unstable_by(|a, b| (a.account_address, &a.id).cmp(&(b.account_address, &b.id)));
    let mut sums = ComparedSums::default();
    for (id, (market, _)) in &reserves.0 {
        if let Ok(BaseUnits(total)) = base_units("total_debt", &market.total_debt) {
            sums.compared += 1;
            sums.differing += u64::from(differs(debts.get(id).copied().unwrap_or(0), total));
        }
    }
    Ok((staged, sums))
}

/// Whether a sum differs from a total by more than a thousandth, and by more than a thousand units. The subgraph rounds each
/// change of a balance.
fn differs(sum: i128, total: i128) -> bool {
    sum.abs_diff(total) > (total.unsigned_abs() / 1000).max(1000)
}

/// The valid positions of a row.
struct Valid {
    account: Address,
    market: Address,
    scaled_debt: i128,
    positions: Vec<StagedPosition>,
}

fn positions(row: &RawPosition, reserves: &Reserves<'_>) -> Result<Valid, Reason> {
    let account: Address = hex_bytes("account_id", &row.account_id)?;
    let market: Address = hex_bytes("market_id", &row.market_id)?;
    let BaseUnits(supply) = base_units("scaled_supply", &row.scaled_supply)?;
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
    match positions.is_empty() {
        true => Err(Reason::new("balance", "is zero")),
        false => Ok(Valid { account, market, scaled_debt, positions }),
    }
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
