//! Adds to each event its amount in ETH and the wallet to which it is attributed. An event without a price keeps its
//! row, with a NULL amount. The other columns are passed on as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_select::take::take_record_batch;
use defi_shared::cpu::spawn_cpu;
use defi_shared::domain::price::{PriceBook, Quote};
use defi_shared::domain::{Address, BaseUnits, Category, TxHash};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::sources::transpose::LiquidationLegs;
use defi_shared::step::history::Markets;
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{self, Column, Layer, PricedEvent, Row, Value, decode_column, encode_column};
use defi_shared::{Error, Result};

/// The step of this crate.
pub const STEP: Step = Step::PriceEvents;

/// Prices the events of each category and day that the input names or that is missing.
///
/// # Errors
/// `NotReady` for a unit that is not staged yet, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let units = context.units(STEP, &input).await?;
    let days: Vec<_> = units.iter().filter_map(WorkUnit::day).collect();
    let markets = Markets::load(&context.lake, &context.config, &days).await?;
    let work = |context, unit| price_unit(context, markets.clone(), unit);
    let report = context.run_units(STEP, &units, CONCURRENT_UNITS, work).await?;
    context.register_events(Layer::Analytics, &units).await?;
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn price_unit(context: Context, markets: Markets, unit: WorkUnit) -> Result<Report> {
    let (day, category) = unit.as_event_day()?;
    let staged = tables::event_table(Layer::Stage, category);
    let events = context.lake.require_columns::<PricedEvent>(staged, &unit).await?;
    let priced = spawn_cpu(move || price(&events, category, &markets.prices_on(day)));
    let (priced, counts) = priced.await.map_err(|error| error.with("object", unit.key(staged)))?;
    let rows_in = priced.num_rows() as u64;
    let unpriced: u64 = counts.values().map(|counts| counts.unpriced).sum();
    let mut metadata = FileMetadata::from([("unpriced".to_owned(), unpriced.to_string())]);
    for protocol in context.config.protocol_names() {
        let Counts { rows, unpriced } = counts.get(protocol).copied().unwrap_or_default();
        metadata.insert(format!("rows.{protocol}"), rows.to_string());
        metadata.insert(format!("unpriced.{protocol}"), unpriced.to_string());
    }
    let table = tables::event_table(Layer::Analytics, category);
    let written = context.commit_columns::<PricedEvent>(table, &unit, priced, metadata).await?;
    Ok(Report { rows_in, unpriced, ..Report::default() }.with_written(written))
}

/// The number of events of a protocol, and of those without a price.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    rows: u64,
    unpriced: u64,
}

/// Adds the columns of [`PricedEvent`] that staged events lack, and sorts the rows. Also returns the counts of each protocol.
fn price(
    events: &RecordBatch,
    category: Category,
    prices: &PriceBook,
) -> Result<(RecordBatch, BTreeMap<Arc<str>, Counts>)> {
    check(events)?;
    let protocols: Vec<Arc<str>> = decode_column(events, "protocol")?;
    let amounts = amounts(events, category)?;
    let quote = |(protocol, (token, _)): (&Arc<str>, &Amount)| prices.token_quote(protocol, token.as_ref()?);
    let quotes: Vec<Option<Quote>> = protocols.iter().zip(&amounts).map(quote).collect();
    let in_eth = |(quote, (_, quantity)): (&Option<Quote>, &Amount)| {
        let (quote, quantity) = quote.as_ref().zip(*quantity)?;
        Some(quantity.to_tokens(quote.decimals) * quote.price_eth)
    };
    let quantities: Vec<Option<f64>> = quotes.iter().zip(&amounts).map(in_eth).collect();
    let mut counts: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
    for (protocol, quantity) in protocols.into_iter().zip(&quantities) {
        let counts = counts.entry(protocol).or_default();
        counts.rows += 1;
        counts.unpriced += u64::from(quantity.is_none());
    }
    let wallet = if category == Category::Liquidation { "account_address" } else { "sender_address" };
    let added = [
        ("index_address", passed_on(events, wallet)?),
        ("quantity_eth", encode_column(&quantities)?),
        ("price_eth", of_quotes(&quotes, |quote| Some(quote.price_eth))?),
        ("token_decimals", of_quotes(&quotes, |quote| Some(quote.decimals))?),
        ("price_day", of_quotes(&quotes, |quote| Some(quote.origin.as_ref()?.day))?),
        ("price_protocol", of_quotes(&quotes, |quote| Some(Arc::clone(&quote.origin.as_ref()?.protocol)))?),
        ("price_market_id", of_quotes(&quotes, |quote| Some(quote.origin.as_ref()?.market))?),
        ("liquidation_threshold", of_quotes(&quotes, |quote| quote.liquidation_threshold)?),
    ];
    let column = |column: &Column| match added.iter().find(|(name, _)| *name == column.name) {
        Some((_, values)) => Ok(Arc::clone(values)),
        None => passed_on(events, column.name),
    };
    let columns = PricedEvent::columns().iter().map(column).collect::<Result<_>>()?;
    let unsorted = |cause| Error::corrupt("events have other columns than their table").with_source(cause);
    Ok((sorted(&RecordBatch::try_new(PricedEvent::schema(), columns).map_err(unsorted)?)?, counts))
}

/// Checks the values of columns that are passed on as they are.
fn check(events: &RecordBatch) -> Result<()> {
    decode_column::<Address>(events, "sender_address")?;
    decode_column::<Address>(events, "account_address")?;
    decode_column::<TxHash>(events, "transaction_hash")?;
    decode_column::<Category>(events, "category")?;
    decode_column::<Option<Address>>(events, "liquidated_token_address")?;
    decode_column::<Option<BaseUnits>>(events, "quantity_liquidated")?;
    Ok(())
}

/// The token and the quantity of an event that count.
type Amount = (Option<Address>, Option<BaseUnits>);

fn amounts(events: &RecordBatch, category: Category) -> Result<Vec<Amount>> {
    let tokens: Vec<Address> = decode_column(events, "token_address")?;
    let quantities: Vec<BaseUnits> = decode_column(events, "quantity")?;
    let amounts = tokens.into_iter().zip(quantities).map(|(token, quantity)| (Some(token), Some(quantity)));
    if category != Category::Liquidation {
        return Ok(amounts.collect());
    }
    let tokens: Vec<Option<Address>> = decode_column(events, "liquidated_token_address")?;
    let quantities: Vec<Option<BaseUnits>> = decode_column(events, "quantity_liquidated")?;
    let seized = |((token, quantity), (other_token, other_quantity))| {
        let seized = LiquidationLegs::from_columns(token, quantity, other_token, other_quantity).seized;
        (seized.token, seized.quantity)
    };
    Ok(amounts.zip(tokens.into_iter().zip(quantities)).map(seized).collect())
}

fn passed_on(events: &RecordBatch, name: &'static str) -> Result<ArrayRef> {
    let column = events.column_by_name(name).ok_or_else(|| Error::corrupt("missing column").with("column", name))?;
    Ok(Arc::clone(column))
}

/// Encodes a value of the quotes, NULL where there is no quote.
fn of_quotes<T>(quotes: &[Option<Quote>], value: impl Fn(&Quote) -> Option<T>) -> Result<ArrayRef>
where
    Option<T>: Value,
{
    encode_column(&quotes.iter().map(|quote| value(quote.as_ref()?)).collect::<Vec<_>>())
}

/// Sorts priced events by the wallet, then by the log.
fn sorted(events: &RecordBatch) -> Result<RecordBatch> {
    let unsortable = || Error::internal("priced events can't be sorted");
    let text = |name| events.column_by_name(name)?.as_string_opt::<i32>();
    let (wallets, hashes) = text("index_address").zip(text("transaction_hash")).ok_or_else(unsortable)?;
    let indexes: Vec<i64> = decode_column(events, "log_index")?;
    let key = |row: usize| (wallets.value(row), hashes.value(row), indexes[row]);
    let mut order: Vec<usize> = (0..events.num_rows()).collect();
    order.sort_by(|a, b| key(*a).cmp(&key(*b)));
    let order = order.into_iter().map(|row| u64::try_from(row).unwrap_or(u64::MAX)).collect::<UInt64Array>();
    take_record_batch(events, &order).map_err(|cause| unsortable().with_source(cause))
}
