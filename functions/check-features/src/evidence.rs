//! What the constraints go by: the set itself, the set published before it, and the days that lie between them.

use defi_shared::domain::price::DayMarkets;
use defi_shared::domain::{Category, Day, Side};
use defi_shared::lake::Unit;
use defi_shared::plan::Scope;
use defi_shared::step::Context;
use defi_shared::step::history::Markets;
use defi_shared::tables::{
    self, FEATURES_HISTORY, FeatureRow, LIQUIDATIONS, Layer, PricedEvent, STAGE_MARKETS, STAGE_POSITIONS,
    StagedPosition, Table, WALLET_HEALTH,
};
use defi_shared::{Error, Kind, Result};

/// Counts over the days that a set adds to the one published before it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Priced or not.
    pub events: u64,
    pub unpriced_events: u64,
    pub borrow_events: u64,
    pub positions: u64,
    pub unpriced_positions: u64,
    pub supply_positions: u64,
    pub null_is_collateral: u64,
    pub rows_in: u64,
    pub rejected: u64,
    /// Liquidations whose seized token a market priced, and those of them where it can't be collateral.
    pub priced_liquidations: u64,
    pub odd_liquidations: u64,
    pub price_jumps: u64,
}

/// What the constraints go by.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The set.
    pub features: Vec<FeatureRow>,
    /// The set published before it.
    pub before: Option<Vec<FeatureRow>>,
    /// Snapshots of the as_of day that are missing, or empty after a day with rows.
    pub missing_snapshots: Vec<String>,
    /// Of the as_of day's snapshot.
    pub collateral_positions: u64,
    pub debts: u64,
    pub counts: Counts,
}

pub(crate) async fn gather(context: &Context, scope: &Scope) -> Result<Evidence> {
    let as_of = scope.as_of;
    let published = context.registry.published().await?;
    let before = published.into_iter().rev().find(|day| *day < as_of);
    let mut evidence = Evidence { features: features(context, as_of).await?, ..Evidence::default() };
    if !is_built(context, as_of).await? {
        return Err(Error::new(Kind::NotReady, "the features are not built yet").with("as_of", as_of));
    }
    if let Some(before) = before {
        evidence.before = Some(features(context, before).await?);
    }
    snapshot_of_the_day(context, scope, &mut evidence).await?;
    evidence.counts = count_days(context, before, as_of).await?;
    Ok(evidence)
}

/// Whether all shards of a set are there: without one of them, its wallets would seem to be lost.
async fn is_built(context: &Context, as_of: Day) -> Result<bool> {
    let there = context.lake.units(&FEATURES_HISTORY).await?;
    Ok((0..context.config.shards).all(|shard| there.contains(&Unit::AsOfAndShard(as_of, shard))))
}

/// All shards of a set.
async fn features(context: &Context, as_of: Day) -> Result<Vec<FeatureRow>> {
    let mut rows = Vec::new();
    for unit in context.lake.units(&FEATURES_HISTORY).await?.iter().filter(|unit| unit.day() == Some(as_of)) {
        rows.extend(context.lake.require::<FeatureRow>(&FEATURES_HISTORY, unit).await?);
    }
    Ok(rows)
}

async fn snapshot_of_the_day(context: &Context, scope: &Scope, evidence: &mut Evidence) -> Result<()> {
    for protocol in scope.protocols_on(scope.as_of) {
        let unit = |day: Day| Unit::DayAndProtocol(day, protocol.into());
        if context.lake.facts(&STAGE_MARKETS, &unit(scope.as_of)).await?.is_none() {
            evidence.missing_snapshots.push(format!("{protocol} markets"));
        }
        let positions: Option<Vec<StagedPosition>> = context.lake.read(&STAGE_POSITIONS, &unit(scope.as_of)).await?;
        let day_before = context.lake.facts(&STAGE_POSITIONS, &unit(scope.as_of.previous())).await?;
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

/// Counts over the events of the days from `before` on, and the snapshots of the days after it.
async fn count_days(context: &Context, before: Option<Day>, as_of: Day) -> Result<Counts> {
    let is_event_day = |day: Day| day < as_of && before.is_none_or(|before| day >= before);
    let is_snapshot_day = |day: Day| day <= as_of && before.is_none_or(|before| day > before);
    let mut counts = Counts::default();
    for category in Category::ALL {
        let staged = sum(context, tables::events(Layer::Stage, category), is_event_day).await?;
        counts.rows_in += staged.fact("rows_in");
        counts.rejected += staged.fact("rejected");
        let priced = sum(context, tables::events(Layer::Analytics, category), is_event_day).await?;
        counts.events += priced.rows;
        counts.unpriced_events += priced.fact("unpriced");
        if category == Category::Borrow {
            counts.borrow_events = priced.rows;
        }
    }
    for table in [&STAGE_POSITIONS, &STAGE_MARKETS] {
        let staged = sum(context, table, is_snapshot_day).await?;
        counts.rows_in += staged.fact("rows_in");
        counts.rejected += staged.fact("rejected");
        counts.supply_positions += staged.fact("supply_positions");
        counts.null_is_collateral += staged.fact("null_is_collateral");
        counts.positions += if *table == STAGE_POSITIONS { staged.rows } else { 0 };
    }
    counts.unpriced_positions = sum(context, &WALLET_HEALTH, is_snapshot_day).await?.fact("unpriced");
    count_liquidations(context, is_event_day, &mut counts).await?;
    counts.price_jumps = price_jumps(context, is_snapshot_day).await?;
    Ok(counts)
}

/// Rows and facts of several units.
#[derive(Debug, Default)]
struct Sum {
    rows: u64,
    facts: std::collections::BTreeMap<String, u64>,
}

impl Sum {
    fn fact(&self, name: &str) -> u64 {
        self.facts.get(name).copied().unwrap_or(0)
    }
}

async fn sum(context: &Context, table: &Table, wanted: impl Fn(Day) -> bool) -> Result<Sum> {
    let mut sum = Sum::default();
    for unit in context.lake.units(table).await?.iter().filter(|unit| unit.day().is_some_and(&wanted)) {
        let Some((facts, rows)) = context.lake.facts(table, unit).await? else { continue };
        sum.rows += rows;
        for (name, value) in facts {
            *sum.facts.entry(name).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }
    Ok(sum)
}

async fn count_liquidations(context: &Context, wanted: impl Fn(Day) -> bool, counts: &mut Counts) -> Result<()> {
    for unit in context.lake.units(&LIQUIDATIONS).await?.iter().filter(|unit| unit.day().is_some_and(&wanted)) {
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

/// How often a market's price jumped from one day to the next.
async fn price_jumps(context: &Context, wanted: impl Fn(Day) -> bool) -> Result<u64> {
    let units = context.lake.units(&STAGE_MARKETS).await?;
    let days: Vec<Day> = units.iter().filter_map(Unit::day).filter(|day| wanted(*day)).collect();
    let markets = Markets::around(&context.lake, &context.config, &days).await?;
    let factor = context.config.checks.price_jump_factor;
    let mut days = days;
    days.dedup();
    let pairs = days.into_iter().filter_map(|day| markets.of(day.previous()).zip(markets.of(day)));
    Ok(pairs.map(|(before, now)| jumps(before, now, factor)).sum())
}

fn jumps(before: &DayMarkets, now: &DayMarkets, factor: f64) -> u64 {
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
    fn a_jump_goes_either_way_and_no_price_is_no_jump() {
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
        assert_eq!(jumps(&before, &now, 10.0), 2);
        assert_eq!(jumps(&before, &before, 10.0), 0);
    }
}
