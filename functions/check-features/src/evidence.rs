//! The input of the checks: the feature set, the previous published set, and counts over the days that were folded for the set.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::domain::price::{LOOK_BACK_DAYS, Market, Quote};
use defi_shared::domain::{Category, Day, Side};
use defi_shared::lake::requests::{SMALL_REQUESTS, WHOLE_OBJECTS, in_order};
use defi_shared::lake::{FeatureSet, Provenance, SetDigest, WorkUnit};
use defi_shared::plan::Scope;
use defi_shared::step::aave::Measure;
use defi_shared::step::history::Markets;
use defi_shared::step::staging::CLOSED;
use defi_shared::step::{Context, RunId};
use defi_shared::tables::{
    self, LIQUIDATIONS, Layer, PricedEvent, STAGE_MARKETS, STAGE_POSITIONS, StagedMarket, StagedPosition, WALLET_HEALTH,
};
use defi_shared::{Error, Kind, Result};

use crate::counts::{Days, OLDER_AT_ONCE, TableCounts, UnitCounts, WorstReserve};
use crate::inputs;
use crate::prices::{self, PriceChange};
use crate::shares::{Group, Share};
use crate::summary::Summary;
use crate::totals::{self, MarketTotal};

/// Counts over the days that were folded for a set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Staged rows of events, including those in quarantine.
    pub event_rows: u64,
    /// All events; those without a price are counted.
    pub events: Share,
    pub borrow_events: u64,
    /// All positions; those without a price are counted.
    pub positions: Share,
    /// From a node, the sums of balances by market; those that are not what the contracts say are counted.
    pub sums: Share,
    /// In Aave's schema, the worst reserve by each measure.
    pub worst_reserves: Vec<WorstReserve>,
    /// All staged rows; those in quarantine are counted.
    pub rows: Share,
    /// By protocol, the liquidations whose seized token has a price from a market; those whose token can't be collateral
    /// are counted. Includes earlier days until there are enough to be judged.
    pub priced_liquidations: BTreeMap<Arc<str>, Share>,
}

/// The input of the checks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// The set.
    pub features: Summary,
    /// The digest of the set.
    pub digest: Option<SetDigest>,
    /// The previous published set, if there is one.
    pub previous: Option<Summary>,
    /// How the objects that the set was made from compare with what steps wrote.
    pub inputs: Provenance,
    /// Snapshots of the as-of day that are missing, or that are empty although there were positions within a week.
    pub missing_snapshots: Vec<String>,
    /// Positions that count as collateral in the snapshot of the as-of day: enabled, and in a market whose liquidation
    /// threshold is above 0.
    pub collateral_positions: u64,
    /// Debt positions in the snapshot of the as-of day.
    pub debts: u64,
    /// Markets in the snapshot of the as-of day.
    pub markets: usize,
    /// Their totals, as far as they say them, of at least the minimum.
    pub market_totals: Vec<MarketTotal>,
    pub counts: Counts,
    /// Rows in quarantine, by table and protocol.
    pub quarantined: Vec<Group>,
    /// Events without a price, by category and by protocol.
    pub unpriced_events: Vec<Group>,
    /// Positions without a price, by protocol.
    pub unpriced_positions: Vec<Group>,
    /// Supply positions without a collateral flag, by protocol.
    pub null_is_collateral: Vec<Group>,
    /// The prices that jumped.
    pub price_jumps: Vec<PriceChange>,
    /// The largest change of an ETH price.
    pub eth_price_change: Option<PriceChange>,
    /// The day with the largest share of collateral in markets whose price jumped, and that share.
    pub jumped_collateral: Option<(Day, f64)>,
    /// The largest price of the days of the set, to find the cause of amounts that are not finite.
    pub largest_price: Option<String>,
}

/// Reads the input of the checks from the lake and the catalog. The set to check is the build of the day, or else the
/// published set. `run` is the run that built it.
pub(crate) async fn gather(context: &Context, scope: &Scope, run: Option<&RunId>) -> Result<Evidence> {
    let as_of = scope.as_of;
    let published = context.registry.published_sets().await?;
    let previous = published.into_iter().rev().find(|set| set.as_of < as_of);
    let set = context.registry.latest_set(&context.lake, as_of).await?;
    let read_previous = async {
        let Some(previous) = &previous else { return Ok(None) };
        Ok(Some(Summary::read(&context.lake, previous).await?.0))
    };
    let ((features, digest), previous_features) = tokio::try_join!(read_features(context, &set), read_previous)?;
    let mut evidence = Evidence { features, digest: Some(digest), previous: previous_features, ..Evidence::default() };
    inspect_snapshots(context, scope, &mut evidence).await?;
    let judged = judged_until(context, run, previous.as_ref().map(|set| set.as_of)).await?;
    let days = Days { previous: judged, as_of };
    let sets: Vec<_> = previous.iter().chain([&set]).collect();
    evidence.inputs = inputs::provenance(context, days, &sets).await?;
    count_events(context, days, &mut evidence).await?;
    count_snapshots(context, days, &mut evidence).await?;
    inspect_prices(context, days, &mut evidence).await?;
    Ok(evidence)
}

/// Returns the day of the previous published set, or that of an older state from which the set was folded: what the set
/// has from days before it was judged then. `None`: nothing was judged, or it is not known from where the set was folded.
async fn judged_until(context: &Context, run: Option<&RunId>, previous: Option<Day>) -> Result<Option<Day>> {
    let Some((run, previous)) = run.zip(previous) else { return Ok(None) };
    let start = context.fold_start(run).await?;
    Ok(start.and_then(|start| start.state).map(|state| state.min(previous)))
}

/// Reads the set to check and its digest. All its shards must exist, since the wallets of a missing shard would count as
/// lost.
async fn read_features(context: &Context, set: &FeatureSet) -> Result<(Summary, SetDigest)> {
    let (features, digest) = Summary::read(&context.lake, set).await?;
    if !digest.shards().eq(0..context.config.shards) {
        return Err(Error::new(Kind::NotReady, "the features are not built yet").with("as_of", set.as_of));
    }
    Ok((features, digest))
}

/// Checks which snapshots of the as-of day exist, and counts their positions.
async fn inspect_snapshots(context: &Context, scope: &Scope, evidence: &mut Evidence) -> Result<()> {
    let markets = Markets::load(&context.lake, &context.config, &[scope.as_of]).await?;
    let prices = markets.prices_on(scope.as_of);
    for protocol in scope.protocols_on(scope.as_of) {
        let unit = WorkUnit::ProtocolDay(scope.as_of, protocol.into());
        let (markets, positions) = tokio::try_join!(
            context.lake.read::<StagedMarket>(&STAGE_MARKETS, &unit),
            context.lake.read::<StagedPosition>(&STAGE_POSITIONS, &unit),
        )?;
        if markets.is_none() {
            evidence.missing_snapshots.push(format!("{protocol} markets"));
        }
        if positions.is_none() {
            evidence.missing_snapshots.push(format!("{protocol} positions"));
        } else if positions.as_ref().is_some_and(Vec::is_empty)
            && let Some(day) = vanished_since(context, protocol, scope.as_of).await?
        {
            evidence.missing_snapshots.push(format!("{protocol} positions (there were some on {day})"));
        }
        if let (Some(markets), Some(positions)) = (&markets, &positions) {
            evidence.markets += markets.len();
            let mut totals = totals::of_snapshot(markets, positions);
            totals.retain(|total| total.reaches(context.config.checks.market_total_minimum_usd));
            evidence.market_totals.extend(totals);
        }
        for position in positions.iter().flatten() {
            match position.side {
                Side::Lender => {
                    let quote = prices.market_quote(protocol, &position.market_id);
                    let can_count = position.is_collateral == Some(true) && quote.is_none_or(Quote::accepts_collateral);
                    evidence.collateral_positions += u64::from(can_count);
                }
                Side::Borrower => evidence.debts += 1,
            }
        }
    }
    Ok(())
}

/// Returns the newest of the seven days before an empty snapshot on which the protocol had positions, unless the market's
/// totals agree that there are none.
async fn vanished_since(context: &Context, protocol: &str, as_of: Day) -> Result<Option<Day>> {
    let metadata =
        async |day| context.lake.file_metadata(&STAGE_POSITIONS, &WorkUnit::ProtocolDay(day, protocol.into())).await;
    if metadata(as_of).await?.is_some_and(|(metadata, _)| metadata.get(CLOSED).is_some_and(|value| value == "true")) {
        return Ok(None);
    }
    for days in 1..=LOOK_BACK_DAYS {
        let day = as_of.plus_days(-days);
        if metadata(day).await?.is_some_and(|(_, rows)| rows > 0) {
            return Ok(Some(day));
        }
    }
    Ok(None)
}

/// Counts the events of the set, and judges the parts of their tables.
async fn count_events(context: &Context, days: Days, evidence: &mut Evidence) -> Result<()> {
    for category in Category::ALL {
        let staged = TableCounts::read(context, tables::event_table(Layer::Stage, category), days.of_events()).await?;
        let rows = staged.sum_shares(UnitCounts::quarantined);
        evidence.counts.event_rows += rows.rows;
        evidence.counts.rows.add(rows);
        evidence.quarantined.extend(staged.groups(None, UnitCounts::quarantined).await?);
        for protocol in context.config.protocol_names() {
            let groups = staged.groups(Some(protocol), |counts| counts.quarantined_of(protocol)).await?;
            evidence.quarantined.extend(groups);
        }

        let table = tables::event_table(Layer::Analytics, category);
        let priced = TableCounts::read(context, table, days.of_events()).await?;
        let unpriced = |counts: &UnitCounts| Share { counted: counts.get("unpriced").unwrap_or(0), rows: counts.rows };
        evidence.counts.events.add(priced.sum_shares(unpriced));
        evidence.unpriced_events.extend(priced.groups(None, unpriced).await?);
        for protocol in context.config.protocol_names() {
            let groups = priced.groups(Some(protocol), |counts| counts.unpriced_of(protocol)).await?;
            evidence.unpriced_events.extend(groups);
        }
        if category == Category::Borrow {
            evidence.counts.borrow_events = priced.sum(|counts| counts.rows);
        }
    }
    count_liquidations(context, days, &mut evidence.counts).await
}

/// Counts the positions and markets of the set, and judges the parts of their tables.
async fn count_snapshots(context: &Context, days: Days, evidence: &mut Evidence) -> Result<()> {
    for table in [&STAGE_POSITIONS, &STAGE_MARKETS] {
        let staged = TableCounts::read(context, table, days.of_snapshots()).await?;
        evidence.counts.rows.add(staged.sum_shares(UnitCounts::quarantined));
        let null_is_collateral = |counts: &UnitCounts| Share {
            counted: counts.get("null_is_collateral").unwrap_or(0),
            rows: counts.get("supply_positions").unwrap_or(0),
        };
        for protocol in context.config.protocol_names() {
            evidence.quarantined.extend(staged.groups(Some(protocol), UnitCounts::quarantined).await?);
            evidence.null_is_collateral.extend(staged.groups(Some(protocol), null_is_collateral).await?);
        }
        if *table == STAGE_POSITIONS {
            evidence.counts.positions.rows = staged.sum(|counts| counts.rows);
            evidence.counts.sums = staged.sum_shares(|counts| Share {
                counted: counts.get("differing_sums").unwrap_or(0),
                rows: counts.get("sums").unwrap_or(0),
            });
            evidence.counts.worst_reserves =
                Measure::ALL.into_iter().filter_map(|measure| staged.worst_reserve(measure)).collect();
        }
    }
    let health = TableCounts::read(context, &WALLET_HEALTH, days.of_snapshots()).await?;
    evidence.counts.positions.counted = health.sum(|counts| counts.get("unpriced").unwrap_or(0));
    for protocol in context.config.protocol_names() {
        let groups = health.groups(Some(protocol), |counts| counts.unpriced_of(protocol)).await?;
        evidence.unpriced_positions.extend(groups);
    }
    Ok(())
}

/// Counts the liquidations that have a price from a market: those of the set and, for each protocol until it has enough,
/// those of earlier days.
async fn count_liquidations(context: &Context, days: Days, counts: &mut Counts) -> Result<()> {
    let range = days.of_events();
    let units = context.lake.units(&LIQUIDATIONS).await?;
    let listed = units.iter().rev().filter_map(WorkUnit::day).filter(|day| *day <= range.last);
    let (of_set, older): (Vec<_>, Vec<_>) = listed.partition(|day| range.contains(*day));
    let by_protocol = &mut counts.priced_liquidations;
    by_protocol.extend(context.config.protocol_names().into_iter().map(|name| (name.into(), Share::default())));
    for (protocol, share) in in_order(of_set, SMALL_REQUESTS, |day| priced_liquidations(context, day)).await?.concat() {
        by_protocol.entry(protocol).or_default().add(share);
    }
    let older: Vec<_> = older.into_iter().filter(|day| *day >= range.oldest()).collect();
    let is_enough = |share: &Share| share.rows >= context.config.checks.odd_liquidation_minimum;
    for days in older.chunks(OLDER_AT_ONCE) {
        if by_protocol.values().all(is_enough) {
            break;
        }
        for of_day in in_order(days.to_vec(), SMALL_REQUESTS, |day| priced_liquidations(context, day)).await? {
            for (protocol, share) in of_day {
                let sum = by_protocol.entry(protocol).or_default();
                if !is_enough(sum) {
                    sum.add(share);
                }
            }
        }
    }
    Ok(())
}

/// Counts, by protocol, the liquidations of a day that have a price from a market, and those of them whose token can't be
/// collateral.
async fn priced_liquidations(context: &Context, day: Day) -> Result<Vec<(Arc<str>, Share)>> {
    let rows: Vec<PricedEvent> = context.lake.require(&LIQUIDATIONS, &WorkUnit::Day(day)).await?;
    let mut by_protocol: BTreeMap<_, Share> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.quantity_eth.is_some()) {
        if let Some(threshold) = row.liquidation_threshold {
            let share = Share { counted: u64::from(threshold <= 0.0), rows: 1 };
            by_protocol.entry(row.protocol).or_default().add(share);
        }
    }
    Ok(by_protocol.into_iter().collect())
}

/// Compares the prices of the set's snapshots with those before them.
async fn inspect_prices(context: &Context, days: Days, evidence: &mut Evidence) -> Result<()> {
    let units = context.lake.units(&STAGE_MARKETS).await?;
    let mut snapshots: Vec<Day> = units.iter().filter_map(WorkUnit::day).collect();
    snapshots.retain(|day| days.of_snapshots().contains(*day));
    snapshots.dedup();
    let markets = Markets::load(&context.lake, &context.config, &snapshots).await?;
    let mut jumps_by_day = Vec::new();
    for day in snapshots.iter().copied() {
        let changes = prices::changes(day, |day| markets.of(day));
        let is_eth_and_larger = |change: &&PriceChange| {
            change.is_eth && evidence.eth_price_change.as_ref().is_none_or(|other| change.factor() > other.factor())
        };
        if let Some(change) = prices::largest(changes.iter().filter(is_eth_and_larger)) {
            evidence.eth_price_change = Some(change.clone());
        }
        let factor = context.config.checks.price_jump_factor;
        let jumps: Vec<_> = changes.into_iter().filter(|change| change.factor() > factor).collect();
        if !jumps.is_empty() {
            jumps_by_day.push((day, jumps));
        }
    }
    let of_day = |(day, jumps): (Day, Vec<PriceChange>)| {
        let markets = &markets;
        async move { Ok((day, jumped_share(context, day, markets, &jumps).await?, jumps)) }
    };
    for (day, share, jumps) in in_order(jumps_by_day, WHOLE_OBJECTS, of_day).await? {
        if share > evidence.jumped_collateral.map_or(0.0, |(_, share)| share) {
            evidence.jumped_collateral = Some((day, share));
        }
        evidence.price_jumps.extend(jumps);
    }
    evidence.largest_price = largest_price(&snapshots, &markets);
    Ok(())
}

/// Returns the share of the collateral of a day, at its prices, that is in markets whose price jumped. The larger of the
/// two prices counts, so that a fall to almost nothing is seen, too. Supply in a market that accepts no collateral does not
/// count.
async fn jumped_share(context: &Context, day: Day, markets: &Markets, jumps: &[PriceChange]) -> Result<f64> {
    let (mut jumped, mut total) = (0.0, 0.0);
    for (protocol, markets) in markets.of(day).into_iter().flatten() {
        let by_id: BTreeMap<_, _> = markets.iter().map(|market| (market.id, market)).collect();
        let jumps = jumps.iter().filter(|jump| jump.protocol == *protocol).map(|jump| (jump.market, jump));
        let jumps: BTreeMap<_, _> = jumps.collect();
        let unit = WorkUnit::ProtocolDay(day, Arc::clone(protocol));
        let positions: Option<Vec<StagedPosition>> = context.lake.read(&STAGE_POSITIONS, &unit).await?;
        for position in positions.iter().flatten().filter(|position| position.is_collateral == Some(true)) {
            let accepts = |market: &&&Market| position.side == Side::Lender && market.liquidation_threshold > 0.0;
            let Some(market) = by_id.get(&position.market_id).filter(accepts) else { continue };
            let jump = jumps.get(&position.market_id);
            let price = jump.map(|jump| jump.before.max(jump.now)).or(market.price).unwrap_or(0.0);
            let value = position.balance.to_tokens(market.decimals) * price;
            total += value;
            jumped += if jump.is_some() { value } else { 0.0 };
        }
    }
    Ok(share_of(jumped, total))
}

/// Returns a part of a total. A total that is too large for a number is of a price that jumped.
fn share_of(part: f64, total: f64) -> f64 {
    match total {
        total if !total.is_finite() => 1.0,
        0.0 => 0.0,
        total => part / total,
    }
}

/// Returns the market with the largest price, its day and its price.
fn largest_price(days: &[Day], markets: &Markets) -> Option<String> {
    let snapshots = days.iter().filter_map(|day| Some((day, markets.of(*day)?)));
    let of_day = snapshots.flat_map(|(day, of_day)| of_day.iter().map(move |(protocol, of)| (day, protocol, of)));
    let prices = of_day.flat_map(|(day, protocol, markets)| {
        markets.iter().filter_map(move |market| Some((day, protocol, market.id, market.price?)))
    });
    let (day, protocol, market, price) = prices.max_by(|a, b| a.3.total_cmp(&b.3))?;
    Some(format!("market {market} of {protocol} on {day}, {price:?} USD"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_a_total_that_overflows_is_1() {
        assert_eq!([share_of(1.0, 4.0), share_of(0.0, 4.0), share_of(0.0, 0.0)], [0.25, 0.0, 0.0]);
        assert_eq!(share_of(f64::INFINITY, f64::INFINITY), 1.0);
        assert_eq!(share_of(1.0, f64::INFINITY), 1.0);
    }
}
