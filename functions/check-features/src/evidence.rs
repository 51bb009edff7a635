//! The input of the checks: the feature set, the previous published set, and counts over the days between them.

use defi_shared::domain::price::DayMarkets;
use defi_shared::domain::{Category, Day, Side};
use defi_shared::lake::{SetDigest, WorkUnit};
use defi_shared::plan::Scope;
use defi_shared::step::Context;
use defi_shared::step::history::Markets;
use defi_shared::tables::{
    self, FeatureRow, LIQUIDATIONS, Layer, PricedEvent, STAGE_MARKETS, STAGE_POSITIONS, StagedPosition, Table,
    WALLET_HEALTH,
};
use defi_shared::{Error, Kind, Result};

/// Counts over the days that a set adds to the previous published set.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// All events, with or without a price.
    pub events: u64,
    pub unpriced_events: u64,
    pub borrow_events: u64,
    pub positions: u64,
    pub unpriced_positions: u64,
    pub supply_positions: u64,
    pub null_is_collateral: u64,
    pub rows_in: u64,
    pub rejected: u64,
    /// Liquidations whose seized token has a price from a market.
    pub priced_liquidations: u64,
    /// Priced liquidations whose seized token can't be collateral.
    pub odd_liquidations: u64,
    pub price_jumps: u64,
}

/// The input of the checks.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The rows of the set.
    pub features: Vec<FeatureRow>,
    /// The digest of the set.
    pub digest: Option<SetDigest>,
    /// The rows of the previous published set, if there is one.
    pub previous: Option<Vec<FeatureRow>>,
    /// Snapshots of the as-of day that are missing, or that are empty although the day before has rows.
    pub missing_snapshots: Vec<String>,
    /// Positions enabled as collateral in the snapshot of the as-of day.
    pub collateral_positions: u64,
    /// Debt positions in the snapshot of the as-of day.
    pub debts: u64,
    pub counts: Counts,
}

/// Reads the input of the checks from the lake and the catalog.
pub(crate) async fn gather(context: &Context, scope: &Scope) -> Result<Evidence> {
    let as_of = scope.as_of;
    let published = context.registry.published_sets().await?;
    let previous = published.into_iter().rev().find(|set| set.as_of < as_of);
    let (features, digest) = read_features(context, as_of).await?;
    let mut evidence = Evidence { features, digest: Some(digest), ..Evidence::default() };
    if let Some(previous) = &previous {
        evidence.previous = Some(context.lake.features(previous).await?.0);
    }
    inspect_snapshots(context, scope, &mut evidence).await?;
    evidence.counts = count_days(context, previous.map(|set| set.as_of), as_of).await?;
    Ok(evidence)
}

/// Reads the rows and the digest of the set to check: the build of the day, or else the published set. All its shards
/// must exist, since the wallets of a missing shard would count as lost.
async fn read_features(context: &Context, as_of: Day) -> Result<(Vec<FeatureRow>, SetDigest)> {
    let set = context.registry.latest_set(&context.lake, as_of).await?;
    let (rows, digest) = context.lake.features(&set).await?;
    if !digest.shards().eq(0..context.config.shards) {
        return Err(Error::new(Kind::NotReady, "the features are not built yet").with("as_of", as_of));
    }
    Ok((rows, digest))
}

/// Checks which snapshots of the as-of day exist, and counts their positions.
async fn inspect_snapshots(context: &Context, scope: &Scope, evidence: &mut Evidence) -> Result<()> {
    for protocol in scope.protocols_on(scope.as_of) {
        let unit = |day: Day| WorkUnit::ProtocolDay(day, protocol.into());
        if context.lake.file_metadata(&STAGE_MARKETS, &unit(scope.as_of)).await?.is_none() {
            evidence.missing_snapshots.push(format!("{protocol} markets"));
        }
        let positions: Option<Vec<StagedPosition>> = context.lake.read(&STAGE_POSITIONS, &unit(scope.as_of)).await?;
        let day_before = context.lake.file_metadata(&STAGE_POSITIONS, &unit(scope.as_of.previous())).await?;
        let had_rows = day_before.is_some_and(|(_, rows)| rows > 0);
        if positions.as_ref().is_none_or(|rows| rows.is_empty() && had_rows) {
            evidence.missing_snapshots.push(format!("{protocol} positions"));
        }
        for position in positions.iter().flatten() {
            match position.side {
                Side::Lender => evidence.collateral_positions += u64::from(position.is_collateral == Some(true)),
                Side::Borrower => evidence.debts += 1,
            }
        }
    }
    Ok(())
}

/// Counts the events of the days from `previous` on, and the snapshots of the days after it. Without a previous set,
/// counts all days up to `as_of`.
async fn count_days(context: &Context, previous: Option<Day>, as_of: Day) -> Result<Counts> {
    let is_event_day = |day: Day| day < as_of && previous.is_none_or(|previous| day >= previous);
    let is_snapshot_day = |day: Day| day <= as_of && previous.is_none_or(|previous| day > previous);
    let mut counts = Counts::default();
    for category in Category::ALL {
        let staged = sum_units(context, tables::event_table(Layer::Stage, category), is_event_day).await?;
        counts.rows_in += staged.metadata("rows_in");
        counts.rejected += staged.metadata("rejected");
        let priced = sum_units(context, tables::event_table(Layer::Analytics, category), is_event_day).await?;
        counts.events += priced.rows;
        counts.unpriced_events += priced.metadata("unpriced");
        if category == Category::Borrow {
            counts.borrow_events = priced.rows;
        }
    }
    for table in [&STAGE_POSITIONS, &STAGE_MARKETS] {
        let staged = sum_units(context, table, is_snapshot_day).await?;
        counts.rows_in += staged.metadata("rows_in");
        counts.rejected += staged.metadata("rejected");
        counts.supply_positions += staged.metadata("supply_positions");
        counts.null_is_collateral += staged.metadata("null_is_collateral");
        counts.positions += if *table == STAGE_POSITIONS { staged.rows } else { 0 };
    }
    counts.unpriced_positions = sum_units(context, &WALLET_HEALTH, is_snapshot_day).await?.metadata("unpriced");
    count_liquidations(context, is_event_day, &mut counts).await?;
    counts.price_jumps = price_jumps(context, is_snapshot_day).await?;
    Ok(counts)
}

/// The row count and the summed metadata counts of several units.
#[derive(Debug, Default)]
struct Totals {
    rows: u64,
    metadata: std::collections::BTreeMap<String, u64>,
}

impl Totals {
    /// Returns the sum of a metadata count; 0 if no unit has it.
    fn metadata(&self, key: &str) -> u64 {
        self.metadata.get(key).copied().unwrap_or(0)
    }
}

/// Sums the rows and the metadata counts of the units of a table whose day is included.
async fn sum_units(context: &Context, table: &Table, is_included: impl Fn(Day) -> bool) -> Result<Totals> {
    let mut totals = Totals::default();
    for unit in context.lake.units(table).await?.iter().filter(|unit| unit.day().is_some_and(&is_included)) {
        let Some((metadata, rows)) = context.lake.file_metadata(table, unit).await? else { continue };
        totals.rows += rows;
        for (key, value) in metadata {
            *totals.metadata.entry(key).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }
    Ok(totals)
}

/// Counts the liquidations that have a price from a market.
async fn count_liquidations(context: &Context, is_included: impl Fn(Day) -> bool, counts: &mut Counts) -> Result<()> {
    for unit in context.lake.units(&LIQUIDATIONS).await?.iter().filter(|unit| unit.day().is_some_and(&is_included)) {
        let rows: Vec<PricedEvent> = context.lake.require(&LIQUIDATIONS, unit).await?;
        let thresholds =
            rows.iter().filter(|row| row.quantity_eth.is_some()).filter_map(|row| row.liquidation_threshold);
        for threshold in thresholds {
            counts.priced_liquidations += 1;
            counts.odd_liquidations += u64::from(threshold <= 0.0);
        }
    }
    Ok(())
}

/// Returns how often the price of a market jumps from one day to the next.
async fn price_jumps(context: &Context, is_included: impl Fn(Day) -> bool) -> Result<u64> {
    let units = context.lake.units(&STAGE_MARKETS).await?;
    let days: Vec<Day> = units.iter().filter_map(WorkUnit::day).filter(|day| is_included(*day)).collect();
    let markets = Markets::load(&context.lake, &context.config, &days).await?;
    let factor = context.config.checks.price_jump_factor;
    let mut days = days;
    days.dedup();
    let pairs = days.into_iter().filter_map(|day| markets.of(day.previous()).zip(markets.of(day)));
    Ok(pairs.map(|(before, now)| count_jumps(before, now, factor)).sum())
}

/// Counts the markets whose price rises or falls by more than `factor`. A missing or zero price is not a jump.
fn count_jumps(before: &DayMarkets, now: &DayMarkets, factor: f64) -> u64 {
    let mut jumps = 0;
    for (protocol, markets) in now {
        let earlier = before.get(protocol).map(Vec::as_slice).unwrap_or_default();
        for market in markets {
            let earlier = earlier.iter().find(|earlier| earlier.id == market.id).and_then(|earlier| earlier.price_usd);
            let pair = earlier.zip(market.price_usd).filter(|(old, new)| *old > 0.0 && *new > 0.0);
            jumps += u64::from(pair.is_some_and(|(old, new)| new / old > factor || old / new > factor));
        }
    }
    jumps
}

#[cfg(test)]
mod tests {
    use defi_shared::domain::price::Market;
    use defi_shared::domain::{HexBytes, WETH};

    use super::*;

    #[test]
    fn price_jumps_go_both_ways_and_need_two_prices() {
        let markets = |prices: [Option<f64>; 4]| -> DayMarkets {
            let market = |(i, price_usd)| Market {
                id: HexBytes([i; 20]),
                token: WETH,
                decimals: 18,
                price_usd,
                maximum_ltv: 0.0,
                liquidation_threshold: 0.0,
            };
            DayMarkets::from([("a".into(), (0u8..).zip(prices).map(market).collect())])
        };
        let before = markets([Some(1.0), Some(100.0), Some(0.0), Some(5.0)]);
        let now = markets([Some(10.5), Some(9.0), Some(7.0), None]);
        assert_eq!(count_jumps(&before, &now, 10.0), 2);
        assert_eq!(count_jumps(&before, &before, 10.0), 0);
    }
}
