//! Generates stage tables of any size. Every random number is derived from the seed and the entity that it belongs to,
//! so that equal sizes and seeds give equal lakes in any order of writing.

use clap::Args;
use defi_shared::Result;
use defi_shared::domain::{Address, BaseUnits, Category, Day, HexBytes, Side, TxHash};
use defi_shared::lake::{FileMetadata, WorkUnit};
use defi_shared::step::Context;
use defi_shared::tables::{
    self, DAILY_BLOCKS, DailyBlock, Layer, STAGE_MARKETS, STAGE_POSITIONS, StagedEvent, StagedMarket, StagedPosition,
    Timestamp,
};
use futures::{StreamExt, TryStreamExt};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The size of the generated lake.
#[derive(Debug, Clone, Args)]
pub struct Size {
    /// Total number of positions
    #[arg(long, default_value_t = 600_000)]
    pub positions: u64,
    /// Total number of events
    #[arg(long, default_value_t = 60_000)]
    pub events: u64,
    /// Number of days
    #[arg(long, default_value_t = 30)]
    pub days: u32,
    /// The first day
    #[arg(long, default_value = "2023-01-01")]
    pub from: Day,
    /// Number of days for which an account has positions, until another account replaces it
    #[arg(long, default_value_t = 50)]
    pub lifetime: u64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

const PROTOCOLS: [&str; 2] = ["aave-v2-eth", "compound-v2-eth"];

/// The number of markets of each protocol.
const MARKETS: u64 = 20;

/// The average number of positions of an account. A quarter of the accounts use both protocols.
const POSITIONS_PER_ACCOUNT: u64 = 2;

/// One in this many accounts sends its events on behalf of another account.
const ON_BEHALF_RATIO: u64 = 50;

/// The number of units that are generated in parallel.
const PARALLELISM: usize = 4;

/// The number of Ethereum blocks per day.
const BLOCKS_PER_DAY: i64 = 7_200;

/// Writes the stage tables of a lake, and the first block of each day, which rows as of an instant read.
///
/// # Errors
/// An object can't be written.
pub async fn generate(context: &Context, size: &Size) -> Result<()> {
    let days = size.from.until(size.from.plus_days(i32::try_from(size.days).unwrap_or(i32::MAX)));
    // Snapshots have one more day than events: features are as of the day after the last events.
    let snapshots = days.clone().chain(days.clone().next_back().map(Day::next));
    let units = snapshots.clone().flat_map(|day| PROTOCOLS.map(|protocol| (day, protocol)));
    let lake = &context.lake;
    for day in snapshots {
        lake.write(&DAILY_BLOCKS, &WorkUnit::Day(day), vec![first_block(day)], FileMetadata::new()).await?;
    }
    let write = |(day, protocol): (Day, &'static str)| {
        let (lake, size) = (lake.clone(), size.clone());
        tokio::spawn(async move {
            let unit = WorkUnit::ProtocolDay(day, protocol.into());
            lake.write(&STAGE_MARKETS, &unit, markets(&size, day, protocol), FileMetadata::new()).await?;
            lake.write(&STAGE_POSITIONS, &unit, positions(&size, day, protocol), FileMetadata::new()).await
        })
    };
    let written = futures::stream::iter(units).map(write).buffer_unordered(PARALLELISM);
    written.map(task_result).try_collect::<Vec<_>>().await?;
    let units = days.flat_map(|day| Category::ALL.map(|category| (day, category)));
    let write = |(day, category): (Day, Category)| {
        let (lake, size) = (lake.clone(), size.clone());
        tokio::spawn(async move {
            let table = tables::event_table(Layer::Stage, category);
            lake.write(table, &WorkUnit::Day(day), events(&size, day, category), FileMetadata::new()).await
        })
    };
    let written = futures::stream::iter(units).map(write).buffer_unordered(PARALLELISM);
    written.map(task_result).try_collect::<Vec<_>>().await.map(drop)
}

/// Returns the first block of a day.
fn first_block(day: Day) -> DailyBlock {
    DailyBlock {
        day,
        block_number: i64::from(day.epoch_days()) * BLOCKS_PER_DAY,
        timestamp: Timestamp::from_epoch_seconds(day.start()),
        epoch_timestamp: day.start(),
        block_hash: None,
    }
}

fn task_result<T>(joined: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined.map_err(|source| defi_shared::Error::internal("the task of a unit failed").with_source(source))?
}

/// Returns the random number generator of an entity, which is identified by its type and number.
fn seeded_rng(seed: u64, entity: u64, number: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed ^ entity.rotate_left(56) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn hex<const N: usize>(rng: &mut impl Rng) -> HexBytes<N> {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    HexBytes(bytes)
}

/// Returns the address of an account.
fn account(seed: u64, number: u64) -> Address {
    hex(&mut seeded_rng(seed, 1, number))
}

/// Returns the numbers of the accounts that have positions on a day.
fn accounts(size: &Size, day: Day) -> std::ops::Range<u64> {
    let count = size.positions / u64::from(size.days.max(1)) / POSITIONS_PER_ACCOUNT;
    let elapsed_days = u64::try_from(day.epoch_days() - size.from.epoch_days()).unwrap_or(0);
    let first = count * elapsed_days / size.lifetime.max(1);
    first..first + count
}

/// Wrapped ether, as the built-in configuration has it.
const WETH: Address = HexBytes([
    0xc0, 0x2a, 0xaa, 0x39, 0xb2, 0x23, 0xfe, 0x8d, 0x0a, 0x0e, 0x5c, 0x4f, 0x27, 0xea, 0xd9, 0x08, 0x3c, 0x75, 0x6c,
    0xc2,
]);

/// Returns the id and the token of a market. The first market of each protocol is that of WETH.
fn market(size: &Size, protocol: &str, number: u64) -> (Address, Address) {
    let protocol_index = if protocol == PROTOCOLS[0] { 0 } else { 1 };
    let id = hex(&mut seeded_rng(size.seed, 2, number * 2 + protocol_index));
    // Both protocols have the same tokens.
    let token = if number == 0 { WETH } else { hex(&mut seeded_rng(size.seed, 3, number)) };
    (id, token)
}

fn decimals(market: u64) -> u32 {
    [18, 6, 8, 18][usize::try_from(market % 4).unwrap_or(0)]
}

fn markets(size: &Size, day: Day, protocol: &'static str) -> Vec<StagedMarket> {
    let generate_market = |number| {
        let (market_id, token) = market(size, protocol, number);
        let mut rng = seeded_rng(size.seed, 4, number * 100_000 + u64::from(day.epoch_days().unsigned_abs()));
        let mean_price = [1800.0, 1.0, 27_000.0, 6.5][usize::try_from(number % 4).unwrap_or(0)];
        StagedMarket {
            market_id,
            name: Some(format!("Market {number}").into()),
            input_token_address: token,
            input_token_symbol: Some(format!("TOK{number}").into()),
            input_token_decimals: i32::try_from(decimals(number)).unwrap_or(18),
            // One in a hundred prices is missing, so that the price of an earlier day is used.
            price_unit: None,
            input_token_price_usd: (number == 0 || rng.random_ratio(99, 100))
                .then(|| mean_price * rng.random_range(0.9..1.1)),
            total_deposit_balance_usd: None,
            total_borrow_balance_usd: None,
            maximum_ltv: 0.75,
            liquidation_threshold: 0.8,
            protocol: protocol.into(),
            block_number: i64::from(day.epoch_days()) * BLOCKS_PER_DAY,
            block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
            epoch_timestamp: day.start() + 11,
        }
    };
    let mut rows: Vec<_> = (0..MARKETS).map(generate_market).collect();
    rows.sort_by_key(|row| row.market_id);
    rows
}

fn positions(size: &Size, day: Day, protocol: &'static str) -> Vec<StagedPosition> {
    let is_first = protocol == PROTOCOLS[0];
    let market_ids: Vec<_> = (0..MARKETS).map(|number| market(size, protocol, number).0).collect();
    let names: Vec<std::sync::Arc<str>> = (0..MARKETS).map(|number| format!("Market {number}").into()).collect();
    let protocol: std::sync::Arc<str> = protocol.into();
    let mut rows = Vec::new();
    for number in accounts(size, day) {
        // Half of the accounts use only the first protocol, a quarter only the second, and a quarter both.
        if (is_first && number % 4 == 3) || (!is_first && number % 4 < 2) {
            continue;
        }
        let account_address = account(size.seed, number);
        let mut account_rng = seeded_rng(size.seed, 5, number * 2 + u64::from(is_first));
        let count = if number % 4 == 2 { 1 } else { account_rng.random_range(1..=3) };
        let first_market = account_rng.random_range(0..MARKETS);
        let mut day_rng = seeded_rng(size.seed, 6, number ^ (u64::from(day.epoch_days().unsigned_abs()) << 40));
        for nth in 0..count {
            let number = (first_market + nth * 7) % MARKETS;
            let side = if nth % 2 == 0 { Side::Lender } else { Side::Borrower };
            let market_id = market_ids[usize::try_from(number).unwrap_or(0)];
            let name = match side {
                Side::Lender => "COLLATERAL",
                Side::Borrower => "BORROWER",
            };
            rows.push(StagedPosition {
                account_address,
                id: format!("{account_address}-{market_id}-{name}-0").into(),
                market_id,
                market_name: Some(names[usize::try_from(number).unwrap_or(0)].clone()),
                side,
                balance: amount(&mut day_rng, number, if nth % 2 == 0 { 20.0 } else { 5.0 }),
                is_collateral: (side == Side::Lender).then(|| account_rng.random_ratio(9, 10)),
                protocol: protocol.clone(),
                block_number: i64::from(day.epoch_days()) * BLOCKS_PER_DAY,
                block_timestamp: Timestamp::from_epoch_seconds(day.start() + 11),
                epoch_timestamp: day.start() + 11,
            });
        }
    }
    rows.sort_by(|a, b| (a.account_address, &a.id).cmp(&(b.account_address, &b.id)));
    rows
}

/// Returns a random amount of a market's token, in base units. `max` is the maximum in whole tokens for a price of
/// 1800.
#[expect(clippy::cast_possible_truncation, reason = "the amount is random")]
fn amount(rng: &mut impl Rng, market: u64, max: f64) -> BaseUnits {
    let mean_price = [1800.0, 1.0, 27_000.0, 6.5][usize::try_from(market % 4).unwrap_or(0)];
    let tokens = rng.random_range(0.001..max) * 1800.0 / mean_price;
    let units = (tokens * 1e6) as i128;
    let decimals = decimals(market);
    BaseUnits(if decimals >= 6 { units.max(1) * 10i128.pow(decimals - 6) } else { units.max(1) })
}

/// The percentage of events of each category.
const CATEGORY_PERCENTAGES: [u64; 5] = [20, 35, 1, 19, 25];

fn events(size: &Size, day: Day, category: Category) -> Vec<StagedEvent> {
    let accounts = accounts(size, day);
    let nth = Category::ALL.iter().position(|other| *other == category).unwrap_or(0);
    let count = size.events / u64::from(size.days.max(1)) * CATEGORY_PERCENTAGES[nth] / 100;
    let mut rng = seeded_rng(size.seed, 7 + nth as u64, u64::from(day.epoch_days().unsigned_abs()));
    let mut rows = Vec::new();
    for log_index in 0..count {
        let number = rng.random_range(accounts.clone());
        let sender_address = account(size.seed, number);
        let is_on_behalf = number % ON_BEHALF_RATIO == 0;
        let account_address = if is_on_behalf { account(size.seed, number + 1) } else { sender_address };
        let protocol = PROTOCOLS[usize::from(number % 4 == 3)];
        let market_number = rng.random_range(0..MARKETS);
        let (market_address, token_address) = market(size, protocol, market_number);
        // There is a block every twelve seconds.
        let second = rng.random_range(day.seconds()) / 12 * 12;
        let is_liquidation = category == Category::Liquidation;
        rows.push(StagedEvent {
            sender_address,
            transaction_hash: hex::<32>(&mut rng) as TxHash,
            log_index: i64::try_from(log_index).unwrap_or(0),
            block_number: second / 12,
            timestamp: Timestamp::from_epoch_seconds(second),
            epoch_timestamp: second,
            protocol: protocol.into(),
            category,
            account_address,
            market_address: Some(market_address.to_string().into()),
            token_address,
            token_id: None,
            quantity: amount(&mut rng, market_number, 20.0),
            liquidator_address: is_liquidation.then(|| sender_address.to_string().into()),
            liquidated_token_address: is_liquidation.then_some(WETH),
            quantity_liquidated: is_liquidation.then(|| amount(&mut rng, 0, 5.0)),
            metadata: None,
        });
    }
    rows.sort_by_key(|event| (event.sender_address, event.transaction_hash, event.log_index));
    rows
}
