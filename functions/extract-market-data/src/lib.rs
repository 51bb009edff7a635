//! Extracts markets from The Graph, or from an Ethereum node: one object per protocol and day, pinned to the day's first
//! block, unchanged. Markets of a day that can't be had any more are rebuilt from hourly snapshots, if the run says so.

mod limits;
mod node;

use std::sync::Arc;

use defi_shared::config::Schema;
use defi_shared::lake::FileMetadata;
use defi_shared::pipeline::{DataSource, Step};
use defi_shared::sources::graph::{Market, Snapshot};
use defi_shared::step::raw::raw_reserve;
use defi_shared::step::snapshots::{self, RawPage, RawSnapshot, Reading};
use defi_shared::step::staging::{LTV_DAY, sort_and_dedup, text_sort_key};
use defi_shared::step::{Context, Report, UnitInput};
use defi_shared::tables::{DailyBlock, RAW_MARKETS, RawMarket};
use defi_shared::{Error, Result};
use limits::PinnedUnits;

/// The step of this crate.
pub const STEP: Step = Step::ExtractMarketData;

/// Extracts the snapshot of each protocol and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a day whose first block is unknown or not indexed yet, `BadInput` for a pool without reserves, and the errors
/// of The Graph and of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    if context.config.source == DataSource::Apis {
        let pinned = Arc::new(PinnedUnits::default());
        let fetch = move |context, name, block, reading| fetch(context, Arc::clone(&pinned), name, block, reading);
        return snapshots::extract::<RawMarket, _, _>(&context, STEP, &RAW_MARKETS, &input, fetch).await;
    }
    let contracts = context.contracts_of_units(&context.units(STEP, &input).await?).await?;
    let fetch = move |context: Context, name: Arc<str>, block, _| {
        let contracts = contracts.get(&name).cloned();
        async move {
            let contracts = contracts.ok_or_else(|| Error::internal("the protocol of a unit has no contracts"))?;
            // Boxed, because the compiler limits how deep futures nest.
            Box::pin(node::fetch(context, &contracts, name, block)).await
        }
    };
    snapshots::extract::<RawMarket, _, _>(&context, STEP, &RAW_MARKETS, &input, fetch).await
}

async fn fetch(
    context: Context,
    pinned: Arc<PinnedUnits>,
    name: Arc<str>,
    block: DailyBlock,
    reading: Reading,
) -> Result<RawSnapshot> {
    let configured = context.config.protocol(&name)?;
    let (subgraph, number, traffic) = (configured.subgraph()?, block.number()?, &context.traffic);
    let by_id = |rows: &mut Vec<RawMarket>| sort_and_dedup(rows, |row| text_sort_key(&row.id));
    if reading == Reading::Rebuilt {
        let Snapshot { deployment, rows, .. } = context.graph.rebuilt_markets(subgraph, number, traffic).await?;
        let limits = limits::nearest(&context, &pinned, &name, block.day).await?;
        let pages = vec![RawPage::new(rows, |market| limits.of(raw(market, &name, &block)), by_id)?];
        let metadata = FileMetadata::from([(LTV_DAY.to_owned(), limits.day())]);
        return Ok(RawSnapshot { deployment, pages, metadata });
    }
    if configured.schema == Schema::Aave {
        let Snapshot { deployment, rows, .. } = context.reserves(&name, number).await?;
        let raw = |reserve| raw_reserve(reserve, configured.prices, &name, block.block_number, block.timestamp);
        let pages = vec![RawPage::new(rows, raw, by_id)?];
        return Ok(RawSnapshot { deployment, pages, metadata: FileMetadata::new() });
    }
    let Snapshot { deployment, rows, .. } = context.graph.markets(subgraph, number, traffic).await?;
    let pages = vec![RawPage::new(rows, |market| raw(market, &name, &block), by_id)?];
    Ok(RawSnapshot { deployment, pages, metadata: FileMetadata::new() })
}

fn raw(market: Market, protocol: &str, block: &DailyBlock) -> RawMarket {
    RawMarket {
        id: market.id.0,
        name: market.name.0,
        maximum_ltv: market.maximum_ltv.0,
        liquidation_threshold: market.liquidation_threshold.0,
        input_token_price_usd: market.input_token_price_usd.0,
        total_deposit_balance_usd: market.total_deposit_balance_usd.0,
        total_borrow_balance_usd: market.total_borrow_balance_usd.0,
        input_token_id: market.input_token_id.0,
        input_token_symbol: market.input_token_symbol.0,
        input_token_decimals: market.input_token_decimals.0,
        protocol: protocol.into(),
        block_number: block.block_number,
        block_timestamp: block.timestamp,
        ..RawMarket::default()
    }
}
