//! The kernels: the work that takes most of the CPU time of a run, each over one day of fixed rows.

use build_features::Input as FoldInput;
use defi_shared::domain::{Day, Side};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::step::{Context, UnitInput};
use defi_shared::tables::{RAW_POSITIONS, RawPosition, STAGE_BORROWS, STAGE_POSITIONS, StagedEvent, StagedPosition};
use defi_shared::{Error, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::generate::{Size, generate};

/// The number of rows in a page of an API.
const ROWS_PER_PAGE: usize = 1_000;

/// The names of all kernels, in the order of a run.
pub const NAMES: [&str; 6] =
    ["parse-events-page", "parse-positions-page", "stage-a-day", "price-a-day", "value-a-day", "fold-a-day"];

/// Runs every kernel once, in the order of [`NAMES`].
///
/// # Errors
/// The kernels can't be prepared, or a step fails.
pub fn run_all() -> Result<()> {
    let kernels = Kernels::new()?;
    // The first call ends the instruction count of the preparation.
    let names = std::iter::once(None).chain(NAMES.into_iter().map(Some));
    names.into_iter().try_for_each(|name| counted_kernel(&kernels, name))
}

/// Runs a kernel. `bench/guard.py` refers to this function by name: an instruction count ends with each call.
#[inline(never)]
fn counted_kernel(kernels: &Kernels, name: Option<&str>) -> Result<()> {
    name.map_or(Ok(()), |name| kernels.run(name))
}

/// The inputs of the kernels: a small lake in a temporary folder, which is deleted on drop, and a page of each API.
#[derive(Debug)]
pub struct Kernels {
    runtime: Runtime,
    context: Context,
    _folder: TempDir,
    day: Day,
    events_page: Vec<u8>,
    positions_page: Vec<u8>,
}

impl Kernels {
    /// Creates the lake: a day of 20,000 positions and 10,000 events.
    ///
    /// # Errors
    /// The lake can't be written, or a step fails.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir();
        let folder = folder.map_err(|source| Error::internal("can't create a temporary folder").with_source(source))?;
        // A single thread, because instruction counts must not depend on scheduling.
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::internal("can't create a runtime").with_source(source))?;
        let day = Day::from_epoch_days(19_358);
        let size = Size { positions: 20_000, events: 10_000, days: 1, from: day, lifetime: 50, seed: 1 };
        let context = runtime.block_on(crate::context(folder.path()))?;
        let (events_page, positions_page) = runtime.block_on(prepare(&context, &size))?;
        Ok(Kernels { runtime, context, _folder: folder, day, events_page, positions_page })
    }

    /// Runs a kernel once.
    ///
    /// # Errors
    /// The name is unknown, or the step fails.
    pub fn run(&self, name: &str) -> Result<()> {
        let (context, day) = (self.context.clone(), self.day);
        let days = |days| UnitInput { as_of: Some(day.next()), days: Some(days), ..UnitInput::default() };
        self.runtime.block_on(async {
            match name {
                "parse-events-page" => context.transpose.parse_events(&self.events_page).map(drop),
                "parse-positions-page" => context.graph.parse_positions(&self.positions_page).map(drop),
                "stage-a-day" => {
                    let input = UnitInput { as_of: Some(day), days: Some(vec![day]), ..UnitInput::default() };
                    stage_account_positions::handle(context, input).await.map(drop)
                }
                "price-a-day" => {
                    let input = UnitInput { as_of: Some(day.next()), days: Some(vec![day]), ..UnitInput::default() };
                    price_events::handle(context, input).await.map(drop)
                }
                "value-a-day" => value_positions::handle(context, days(vec![day])).await.map(drop),
                "fold-a-day" => {
                    let input = FoldInput { as_of: Some(day.next()), ..FoldInput::default() };
                    build_features::handle(context, input).await.map(drop)
                }
                other => {
                    Err(Error::bad_input(format!("unknown kernel {other:?}"))
                        .with_hint(format!("use one of {NAMES:?}")))
                }
            }
        })
    }
}

/// Writes the lake, and returns a page of events of Transpose and a page of positions of The Graph.
async fn prepare(context: &Context, size: &Size) -> Result<(Vec<u8>, Vec<u8>)> {
    generate(context, size).await?;
    let day = size.from;
    let mut page = Vec::new();
    for protocol in context.config.protocol_names() {
        let unit = WorkUnit::ProtocolDay(day, protocol.into());
        let staged: Vec<StagedPosition> = context.lake.require(&STAGE_POSITIONS, &unit).await?;
        page.extend(staged.iter().take(ROWS_PER_PAGE - page.len()).map(position_json));
        context.lake.write(&RAW_POSITIONS, &unit, staged.into_iter().map(raw), FileMetadata::new()).await?;
    }
    let mut borrows: Vec<StagedEvent> = context.lake.require(&STAGE_BORROWS, &WorkUnit::Day(day)).await?;
    borrows.sort_by_key(|event| (event.block_number, event.log_index));
    let events: Vec<_> = borrows.iter().take(ROWS_PER_PAGE).map(event_json).collect();
    let days = |days| UnitInput { as_of: Some(day.next()), days: Some(days), ..UnitInput::default() };
    link_wallets::handle(context.clone(), days(vec![day])).await?;
    let event_input = UnitInput { as_of: Some(day.next()), days: Some(vec![day]), ..UnitInput::default() };
    price_events::handle(context.clone(), event_input).await?;
    value_positions::handle(context.clone(), days(vec![day, day.next()])).await?;
    let events = json!({ "status": "success", "stats": { "truncated": false }, "results": events });
    let positions = json!({ "data": {
        "_meta": {
            "block": { "number": 1, "timestamp": 1, "hash": null }, "deployment": "Qm", "hasIndexingErrors": false,
        },
        "positions": page,
    } });
    Ok((events.to_string().into_bytes(), positions.to_string().into_bytes()))
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Lender => "COLLATERAL",
        Side::Borrower => "BORROWER",
    }
}

fn raw(position: StagedPosition) -> RawPosition {
    RawPosition {
        id: Some(position.id),
        balance: Some(position.balance.0.to_string().into()),
        side: Some(side(position.side).into()),
        is_collateral: position.is_collateral.map(|flag| flag.to_string().into()),
        market_id: Some(position.market_id.to_string().into()),
        market_name: position.market_name,
        account_id: Some(position.account_address.to_string().into()),
        protocol: position.protocol,
        block_number: position.block_number,
        block_timestamp: position.block_timestamp,
        ..RawPosition::default()
    }
}

fn position_json(position: &StagedPosition) -> Value {
    json!({
        "id": position.id, "balance": position.balance.0.to_string(), "side": side(position.side),
        "isCollateral": position.is_collateral,
        "market": { "id": position.market_id.to_string(), "name": position.market_name },
        "account": { "id": position.account_address.to_string() },
    })
}

fn event_json(event: &StagedEvent) -> Value {
    let (name, version) = event.protocol.trim_end_matches("-eth").rsplit_once('-').unwrap_or_default();
    json!({
        "category": event.category, "block_number": event.block_number, "log_index": event.log_index,
        "timestamp": jiff::Timestamp::from_second(event.epoch_timestamp).unwrap_or_default().to_string(),
        "transaction_hash": event.transaction_hash.to_string(), "protocol_name": name, "contract_version": version,
        "market_address": event.market_address, "token_address": event.token_address.to_string(), "token_id": null,
        "account_address": event.account_address.to_string(), "sender_address": event.sender_address.to_string(),
        "quantity": event.quantity.0.to_string(), "liquidator_address": null, "liquidated_token_address": null,
        "quantity_liquidated": null, "metadata": null,
    })
}
