//! Reads mutated objects of a lake.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use defi_shared::Result;
use defi_shared::catalog::{self, CatalogTable};
use defi_shared::domain::fold::{Exposure, Fold};
use defi_shared::domain::{Category, Day, HexBytes, Side};
use defi_shared::lake::{Entry, Facts, Lake, Put, Store, Unit, parquet};
use defi_shared::plan::Plan;
use defi_shared::tables::{
    DAILY_BLOCKS, DailyBlock, FeatureRow, PricedEvent, QuarantinedRow, RawEvent, RawMarket, RawPosition, Row,
    StagedEvent, StagedMarket, StagedPosition, StateRow, WalletHealth, WalletLink,
};
use defi_shared::testing::{
    AAVE, address, daily_block, january, link, priced_event, raw_event, raw_market, raw_position, staged_event,
    staged_market, staged_position, wallet_health,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Part of the key of every object that these functions read.
pub const KEY: &str = "ethereum_daily_blocks";

/// A store in which every key holds the same object.
#[derive(Debug)]
struct ConstantStore(Bytes);

#[async_trait]
impl Store for ConstantStore {
    async fn get(&self, _: &str) -> Result<Option<Bytes>> {
        Ok(Some(self.0.clone()))
    }

    async fn compare(&self, _: &str, _: &Bytes) -> Result<Put> {
        Ok(Put::Replaced)
    }

    async fn put(&self, _: &str, _: Bytes) -> Result<Put> {
        Ok(Put::Replaced)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        Ok(vec![Entry { key: format!("{prefix}{KEY}.json"), size: self.0.len() as u64 }])
    }

    async fn delete(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn location(&self, key: &str) -> String {
        key.to_owned()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Encodes rows as a Parquet file.
fn encode<R: Row>(rows: impl IntoIterator<Item = R>) -> Vec<u8> {
    let facts = Facts::from([("unit".to_owned(), "2023-01-02".to_owned())]);
    parquet::encode(rows, &[], &facts).expect("a Parquet file").0.to_vec()
}

/// Returns valid Parquet files of several tables, with and without rows.
pub fn parquet_files() -> Vec<Vec<u8>> {
    let (day, wallet, other) = (january(2), address(1), address(2));
    let event = |second| raw_event(Category::Borrow, day.start() + second, second);
    let events: Vec<_> = (0..50).map(event).collect();
    let link = link(wallet, other, day.start());
    let quarantined = QuarantinedRow { row_number: 1, reason: "odd".to_owned(), row: "{}".to_owned() };
    vec![
        encode([daily_block(day)]),
        encode::<DailyBlock>([]),
        encode(events),
        encode([staged_event(Category::Borrow, wallet, other, day.start())]),
        encode([priced_event(Category::Borrow, wallet, other, day.start(), 0.5)]),
        encode([raw_market(AAVE, day, wallet, other, "1.5")]),
        encode([staged_market(AAVE, day, wallet, other, 1.5)]),
        encode([link]),
        encode([wallet_health(wallet, other, day, 3.0, 1.0)]),
        encode([raw_position(AAVE, day, wallet, other, "BORROWER", "17")]),
        encode([staged_position(AAVE, day, wallet, other, Side::Lender, 17)]),
        encode([quarantined]),
        encode([state_row([1; 14], [0.5; 15], Some(day), AAVE.to_owned())]),
    ]
}

fn read<R: Row + Debug>(file: Bytes) -> Result<()> {
    let (lake, unit) = (Lake::new(ConstantStore(file)), Unit::Day(january(2)));
    block_on(async {
        lake.facts(&DAILY_BLOCKS, &unit).await?;
        lake.read::<R>(&DAILY_BLOCKS, &unit).await.map(drop)
    })
}

/// For each row type, a function that reads an object as rows of that type.
pub const READERS: &[fn(Bytes) -> Result<()>] = &[
    read::<DailyBlock>,
    read::<RawEvent>,
    read::<StagedEvent>,
    read::<PricedEvent>,
    read::<RawMarket>,
    read::<StagedMarket>,
    read::<RawPosition>,
    read::<StagedPosition>,
    read::<WalletLink>,
    read::<WalletHealth>,
    read::<QuarantinedRow>,
    read::<FeatureRow>,
    read::<StateRow>,
];

/// Reads an object as a plan, as a table of the catalog, and as the catalog's published set.
pub fn read_json(object: &Bytes) -> [Result<()>; 3] {
    let lake = Lake::new(ConstantStore(object.clone()));
    block_on(async {
        let registry = catalog::in_lake(&lake, KEY);
        let table = lake.read_json::<CatalogTable>(KEY).await.map(drop);
        [lake.read_json::<Plan>(KEY).await.map(drop), table, registry.published().await.map(drop)]
    })
}

fn state_row(counts: [i64; 14], sums: [f64; 15], latest_day: Option<Day>, protocols: String) -> StateRow {
    StateRow {
        wallet_address: HexBytes([(counts[0] & 3) as u8; 20]),
        is_wallet: counts[1] & 1 == 0,
        borrow_count: counts[0],
        borrow_priced_count: counts[1],
        borrow_sum_eth: sums[0],
        repay_count: counts[2],
        repay_priced_count: counts[3],
        repay_sum_eth: sums[1],
        deposit_count: counts[4],
        deposit_priced_count: counts[5],
        deposit_sum_eth: sums[2],
        withdraw_count: counts[6],
        withdraw_priced_count: counts[7],
        withdraw_sum_eth: sums[3],
        first_deposit: (counts[8] != 0).then_some(counts[8]),
        liquidation_count: counts[9],
        liquidation_priced_count: counts[10],
        liquidation_sum_eth: sums[4],
        last_liquidated: (counts[11] != 0).then_some(counts[11]),
        borrow_protocols: protocols.clone(),
        deposit_protocols: protocols,
        days: counts[12],
        collateral_sum_eth: sums[5],
        available_sum_eth: sums[6],
        risk_sum: sums[7],
        risk_max: sums[8],
        days_at_risk: counts[13],
        weighted_risk_sum: sums[9],
        debt_sum_eth: sums[10],
        latest_day,
        latest_collateral_eth: sums[11],
        latest_available_eth: sums[12],
        latest_risk: sums[13].min(sums[14]),
    }
}

/// Returns rows of a fold state, valid and invalid ones.
pub fn state_rows() -> impl Strategy<Value = Vec<StateRow>> {
    let count = || prop_oneof![20 => 0i64..1000, 1 => any::<i64>(), 1 => select(vec![i64::MIN, i64::MAX, -1])];
    let sum = || prop_oneof![20 => 0.0..1e6, 1 => any::<f64>()];
    let counts = proptest::array::uniform14(count());
    let sums = vec(sum(), 15).prop_map(|sums| <[f64; 15]>::try_from(sums).expect("15 sums"));
    let days = prop_oneof![20 => 16_500i32..20_000, 1 => any::<i32>()].prop_map(Day::from_epoch_days);
    let protocols = prop_oneof![20 => "([a-c]-v[12]-eth(,[a-c]-v2-eth)?)?", 1 => ".{0,20}", 1 => "([a-z]{2},){0,80}"];
    let row = (counts, sums, proptest::option::of(days), protocols);
    vec(row.prop_map(|(counts, sums, day, protocols)| state_row(counts, sums, day, protocols)), 0..4)
}

/// Writes a state, restores it and folds one more day. The result can be encoded again.
pub fn resume_fold(rows: Vec<StateRow>) -> Result<()> {
    let lake = Lake::new(ConstantStore(parquet::encode(rows, &[], &Facts::new())?.0));
    block_on(async {
        let unit = Unit::Day(january(2));
        let stored: Vec<StateRow> = lake.require(&DAILY_BLOCKS, &unit).await?;
        let mut fold = Fold::default();
        for row in &stored {
            row.restore(&mut fold).map_err(|error| error.with("object", KEY))?;
        }
        let day = january(9);
        let exposure = Exposure { collateral_eth: 1.0, available_eth: 1.0, debt_eth: 1.0, risk: 0.5 };
        for wallet in 0..4 {
            Category::ALL.into_iter().for_each(|category| {
                fold.sent(HexBytes([wallet; 20]), category, AAVE, day.start(), Some(1.0));
            });
            fold.liquidated(HexBytes([wallet; 20]), day.start(), None);
            fold.snapshot(HexBytes([wallet; 20]), day, &[exposure]);
        }
        for (wallet, state) in fold.in_order() {
            FeatureRow::encode(&[FeatureRow::new(wallet, state, day)])?;
            StateRow::encode(&[StateRow::new(wallet, state, &fold)])?;
        }
        Ok(())
    })
}
