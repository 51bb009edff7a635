//! Runs the step over the raw positions of one day.

use std::sync::Arc;

use defi_shared::lake::WorkUnit;
use defi_shared::step::UnitInput;
use defi_shared::tables::{
    DAILY_BLOCKS, RAW_MARKETS, RAW_POSITIONS, RawMarket, RawPosition, STAGE_POSITIONS, StagedPosition,
};
use defi_shared::testing::{
    AAVE, COMPOUND, TestLake, WETH, address, daily_block, first_block, january, kind, raw_market, raw_position, unit,
};
use defi_shared::{Kind, Result};
use stage_account_positions::handle;

fn position(account: u8, side: &str, balance: &str) -> RawPosition {
    raw_position(AAVE, january(1), address(account), address(9), side, balance)
}

fn day_unit() -> WorkUnit {
    unit(AAVE, january(1))
}

async fn test_lake(rows: Vec<RawPosition>) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    test_lake.put(&RAW_POSITIONS, &day_unit(), rows).await?;
    Ok(test_lake)
}

async fn staged(test_lake: &TestLake) -> Result<Vec<StagedPosition>> {
    test_lake.rows(&STAGE_POSITIONS, &day_unit()).await
}

#[tokio::test]
async fn maps_both_supply_sides_to_lender_and_counts_null_flags() -> Result<()> {
    let without_flag = RawPosition { is_collateral: None, ..position(2, "COLLATERAL", "5") };
    let test_lake = test_lake(vec![position(3, "BORROWER", "5"), without_flag, position(1, "LENDER", "5")]).await?;
    let report = handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!((report.rows_out, report.supply_positions, report.null_is_collateral), (3, 2, 1));
    let rows = staged(&test_lake).await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.account_address, row.side.name(), row.is_collateral)).collect();
    let expected = [(1, "LENDER", Some(true)), (2, "LENDER", None), (3, "BORROWER", Some(false))];
    assert_eq!(rows, expected.map(|(account, side, flag)| (address(account), side, flag)));
    let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
    assert_eq!(
        [&metadata["supply_positions"], &metadata["null_is_collateral"], &metadata["rejected"]],
        ["2", "1", "0"]
    );
    Ok(())
}

#[tokio::test]
async fn invalid_rows_are_quarantined_with_their_reason() -> Result<()> {
    let malformed = RawPosition { market_id: Some("nine".into()), ..position(3, "LENDER", "5") };
    let rows = vec![position(1, "LENDER", "-5"), position(1, "STAKER", "5"), position(2, "LENDER", "0"), malformed];
    let test_lake = test_lake(rows).await?;
    assert_eq!(handle(test_lake.context(), UnitInput::default()).await?.rejected(), 4);
    let reasons = ["balance is negative", "side is unknown", "balance is zero", "market_id is malformed"];
    let expected: Vec<_> = (0..).zip(reasons.map(str::to_owned)).collect();
    assert_eq!(test_lake.quarantined(&STAGE_POSITIONS, &day_unit()).await?, expected);
    assert!(staged(&test_lake).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn keeps_first_valid_row_per_key_and_follows_raw_changes() -> Result<()> {
    let test_lake =
        test_lake(vec![position(1, "LENDER", "x"), position(1, "LENDER", "5"), position(1, "LENDER", "7")]).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    assert_eq!(staged(&test_lake).await?.iter().map(|row| row.balance.0).collect::<Vec<_>>(), [5]);
    test_lake.put(&RAW_POSITIONS, &day_unit(), vec![position(1, "LENDER", "7")]).await?;
    handle(test_lake.context(), UnitInput { days: Some(vec![january(1)]), ..UnitInput::default() }).await?;
    assert_eq!(staged(&test_lake).await?.iter().map(|row| row.balance.0).collect::<Vec<_>>(), [7]);
    assert!(test_lake.objects("quarantine/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn empty_snapshot_stays_marked_as_closed() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let metadata = [("closed", "true"), ("repeats", "0")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    test_lake.context.commit(&RAW_POSITIONS, &day_unit(), Vec::<RawPosition>::new(), metadata.into()).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
    assert_eq!((metadata.get("closed").map(String::as_str), metadata.get("repeats")), (Some("true"), None));
    Ok(())
}

/// The balances of an account in the market `0x0909…09`, from Aave's own subgraph.
fn user_reserve(account: u8, supply: &str, variable: &str, stable: &str) -> RawPosition {
    let text = |text: &str| Some(Arc::from(text));
    RawPosition {
        id: text(&format!("{}{}{}", address(account), address(8), address(11))),
        balance: None,
        side: None,
        is_collateral: text("true"),
        scaled_supply: text(supply),
        scaled_variable_debt: text(variable),
        stable_debt: text(stable),
        stable_debt_rate: text(RATE),
        stable_debt_time: text(&(january(1).start() + 1).to_string()),
        ..position(account, "", "")
    }
}

/// The yearly rate of 31.536 %, which is 1e-8 per second, in rays.
const RATE: &str = "315360000000000000000000000";

/// A market whose indexes were stored 10 seconds before the block: 2 for supplies, 3 for debts.
fn reserve(total_debt: &str) -> RawMarket {
    let text = |text: &str| Some(Arc::from(text));
    RawMarket {
        supply_index: text("2000000000000000000000000000"),
        debt_index: text("3000000000000000000000000000"),
        total_debt: text(total_debt),
        supply_rate: text(RATE),
        debt_rate: text(RATE),
        index_time: text(&(january(1).start() + 1).to_string()),
        ..raw_market(AAVE, january(1), address(9), WETH, "1")
    }
}

/// Stages rows of Aave's own subgraph.
async fn stage_user_reserves(rows: Vec<RawPosition>, markets: Vec<RawMarket>) -> Result<TestLake> {
    let snapshot = [("schema", "aave"), ("block", "17"), ("deployment", "QmA")];
    stage_snapshots(rows, snapshot, markets, snapshot).await
}

/// Stages rows of Aave's own subgraph, of snapshots with some metadata.
async fn stage_snapshots<const N: usize, const M: usize>(
    rows: Vec<RawPosition>,
    of_rows: [(&str, &str); N],
    markets: Vec<RawMarket>,
    of_markets: [(&str, &str); M],
) -> Result<TestLake> {
    let test_lake = TestLake::new(&[AAVE], january(1))?.with_aaves_schema(AAVE);
    test_lake.put(&DAILY_BLOCKS, &WorkUnit::Day(january(1)), vec![daily_block(january(1))]).await?;
    let metadata = |entries: &[(&str, &str)]| {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    test_lake.context.commit(&RAW_POSITIONS, &day_unit(), rows, metadata(&of_rows)).await?;
    test_lake.context.commit(&RAW_MARKETS, &day_unit(), markets, metadata(&of_markets)).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    Ok(test_lake)
}

#[tokio::test]
async fn positions_and_markets_of_different_snapshots_are_refused() -> Result<()> {
    let first = first_block(january(1)).to_string();
    let valid = [("schema", "aave"), ("block", &*first), ("deployment", "QmA")];
    let other_block = [valid[0], ("block", "17"), valid[2]];
    let other_deployment = [valid[0], valid[1], ("deployment", "QmB")];
    let messari = [("schema", "messari"), valid[1], valid[2]];
    let markets_again = "extract raw.the_graph_historical_market_data of that day and protocol again (docs";
    let positions_again = "extract raw.the_graph_historical_account_positions of that day and protocol again (docs";
    for (positions, markets, expected) in [
        (valid, other_block, ["the block differs", markets_again]),
        (other_block, valid, ["the block differs", positions_again]),
        (valid, other_deployment, ["the deployment differs", "if the deployment still differs, also the positions"]),
        (valid, messari, ["the schema differs", markets_again]),
    ] {
        let staged =
            stage_snapshots(vec![user_reserve(1, "5", "0", "0")], positions, vec![reserve("0")], markets).await;
        let error = staged.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("CorruptData: the positions and the markets of a day"), "{error}");
        assert!(expected.iter().all(|text| error.contains(text)), "{error}");
        assert!(error.contains("unit=2023-01-01 aave-v2-eth"), "{error}");
    }
    let unmarked = stage_snapshots(vec![], valid, vec![reserve("0")], [valid[1], valid[2]]).await;
    assert_eq!(kind(unmarked), Some(Kind::CorruptData), "without a schema it is Messari's");
    stage_snapshots(vec![user_reserve(1, "5", "0", "0")], valid, vec![reserve("0")], valid).await?;
    Ok(())
}

#[tokio::test]
async fn scaled_balances_are_worth_the_index_at_the_time_of_the_block() -> Result<()> {
    let one = "1000000000000000000";
    let rows = vec![user_reserve(2, "0", "7", "0"), user_reserve(1, one, one, "1000000000")];
    let test_lake = stage_user_reserves(rows, vec![reserve("1000000000000000007")]).await?;
    let rows = staged(&test_lake).await?;
    let id = |account: u8, kind: &str| format!("{}-{}-{kind}", address(account), address(9));
    let rows: Vec<_> = rows.iter().map(|row| (&*row.id, row.side.name(), row.balance.0, row.is_collateral)).collect();
    let expected = [
        // 1e9 · (1 + 1e-7), compound interest of 10 seconds.
        (id(1, "stable"), "BORROWER", 1_000_000_100, None),
        // 1e18 · 2 · (1 + 1e-7), linear interest.
        (id(1, "supply"), "LENDER", 2_000_000_200_000_000_000, Some(true)),
        // 1e18 · 3 · (1 + 1e-7 + 45e-16 + 120e-24)
        (id(1, "variable"), "BORROWER", 3_000_000_300_000_013_500, None),
        (id(2, "variable"), "BORROWER", 21, None),
    ];
    assert_eq!(rows, expected.each_ref().map(|(id, side, balance, flag)| (&**id, *side, *balance, *flag)));
    let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
    let counts = ["rows_in", "rejected", "sums", "differing_sums", "supply_positions"].map(|name| &*metadata[name]);
    assert_eq!(counts, ["2", "0", "1", "0", "1"]);
    Ok(())
}

#[tokio::test]
async fn debts_that_are_not_the_sum_of_their_market_are_counted() -> Result<()> {
    let differing = async |debt: &str, total: &str| -> Result<String> {
        let test_lake = stage_user_reserves(vec![user_reserve(1, "0", debt, "0")], vec![reserve(total)]).await?;
        Ok(test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?["differing_sums"].clone())
    };
    for (debt, total, expected) in [
        ("2000000", "2002000", "0"),
        ("2000000", "1997000", "1"),
        ("2000000", "2003000", "1"),
        ("500", "1500", "0"),
        ("500", "1501", "1"),
    ] {
        assert_eq!(differing(debt, total).await?, expected, "{debt} of {total}");
    }
    Ok(())
}

#[tokio::test]
async fn worst_reserve_shows_missing_rows_and_old_prices() -> Result<()> {
    let text = |text: &str| Some(Arc::from(text));
    let day = january(1).start();
    let reserve = || RawMarket {
        total_supply: text("20000000"),
        treasury_mints: text("0"),
        price_time: text(&(day + 11 - 3 * 86_400).to_string()),
        ..reserve("5000000")
    };
    // In this market, the index of supplies is 2: 10,000,000 scaled are 20,000,000. The other has no users.
    let other = RawMarket { id: text(&address(10).to_string()), total_supply: None, ..long_unseen(reserve()) };
    let worst = async |supply: &str, debt: &str, market: RawMarket| -> Result<Vec<Option<String>>> {
        let markets = vec![market, RawMarket { total_debt: text("0"), ..other.clone() }];
        let test_lake = stage_user_reserves(vec![user_reserve(1, supply, debt, "0")], markets).await?;
        let metadata = test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?;
        let names = ["debt_deviation", "supply_shortfall", "supply_excess", "price_age_days"];
        Ok(names.map(|name| metadata.get(name).cloned()).to_vec())
    };
    let of = |value: &str, market: u8| Some(format!("{value} {}", address(market)));
    let treasury = RawMarket { treasury_mints: text("5000000"), ..reserve() };
    let (none, three) = (of("0.000000", 9), of("3.000000", 9));
    for (supply, debt, market, expected) in [
        ("10000000", "5000000", reserve(), [of("0.000000", 10), none.clone(), none.clone(), three.clone()]),
        // A quarter of the debts and half of the supplies are missing.
        ("5000000", "3750000", reserve(), [of("0.250000", 9), of("0.500000", 9), none.clone(), three.clone()]),
        // Debts come twice, and supplies are above what the reserve says.
        ("12500000", "10000000", reserve(), [of("0.500000", 9), none.clone(), of("0.200000", 9), three.clone()]),
        // The treasury has 5,000,000 without interest, and at most 10,000,000 with all of it.
        ("5000000", "5000000", treasury, [of("0.000000", 10), none.clone(), none.clone(), three.clone()]),
        // A reserve that does not say its supplies, and whose price is that of ether in ETH.
        (
            "5000000",
            "5000000",
            RawMarket { total_supply: None, price_unit: text("ETH"), ..reserve() },
            [of("0.000000", 10), None, None, None],
        ),
    ] {
        assert_eq!(worst(supply, debt, market).await?, expected, "{supply} {debt}");
    }
    Ok(())
}

/// A market whose price was seen long ago.
fn long_unseen(market: RawMarket) -> RawMarket {
    RawMarket { price_time: Some("1600000000".into()), ..market }
}

#[tokio::test]
async fn debts_count_although_the_supply_of_a_row_is_invalid() -> Result<()> {
    let test_lake = stage_user_reserves(vec![user_reserve(1, "-5", "7", "0")], vec![reserve("7")]).await?;
    let rows: Vec<_> = staged(&test_lake).await?.iter().map(|row| (row.side.name(), row.balance.0)).collect();
    assert_eq!(rows, [("BORROWER", 21)]);
    let quarantined = test_lake.quarantined(&STAGE_POSITIONS, &day_unit()).await?;
    assert_eq!(quarantined, [(0, "scaled_supply is negative".to_owned())]);
    assert_eq!(test_lake.file_metadata(&STAGE_POSITIONS, &day_unit()).await?["differing_sums"], "0");
    Ok(())
}

#[tokio::test]
async fn invalid_rows_of_users_are_quarantined_with_their_reason() -> Result<()> {
    let valid = || user_reserve(1, "5", "0", "0");
    let elsewhere = RawPosition { market_id: Some(address(7).to_string().into()), ..valid() };
    let without_user = RawPosition { account_id: None, ..valid() };
    let without_rate = RawPosition { stable_debt_rate: None, ..user_reserve(2, "0", "0", "5") };
    let (nothing, negative) = (user_reserve(3, "0", "0", "0"), user_reserve(4, "-1", "0", "0"));
    let huge = user_reserve(5, &"9".repeat(38), "0", "0");
    let rows = vec![valid(), elsewhere, without_user, without_rate, nothing, negative, huge, valid()];
    let test_lake = stage_user_reserves(rows, vec![reserve("0")]).await?;
    let reasons = [
        "market_id is not among the markets of the block",
        "account_id is missing",
        "stable_debt_rate is missing",
        "balance is zero",
        "scaled_supply is negative",
        "balance is 10^38 or more",
        "another valid row with the same key came first",
    ];
    let expected: Vec<_> = (1..).zip(reasons.map(str::to_owned)).collect();
    assert_eq!(test_lake.quarantined(&STAGE_POSITIONS, &day_unit()).await?, expected);
    assert_eq!(staged(&test_lake).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn rows_in_a_market_without_indexes_are_quarantined() -> Result<()> {
    let later = (january(1).start() + 12).to_string();
    for (market, reason) in [
        (RawMarket { supply_index: None, ..reserve("0") }, "supply_index is missing"),
        (RawMarket { debt_rate: Some("x".into()), ..reserve("0") }, "debt_rate is not an integer"),
        (RawMarket { index_time: Some(later.into()), ..reserve("0") }, "index_time is after the block"),
        (RawMarket { id: None, ..reserve("0") }, "market_id is not among the markets of the block"),
    ] {
        let test_lake = stage_user_reserves(vec![user_reserve(1, "5", "0", "0")], vec![market]).await?;
        let quarantined = test_lake.quarantined(&STAGE_POSITIONS, &day_unit()).await?;
        assert_eq!(quarantined, [(0, reason.to_owned())]);
    }
    Ok(())
}

#[tokio::test]
async fn missing_raw_day_is_not_ready_and_bad_protocol_is_rejected() -> Result<()> {
    let test_lake = TestLake::new(&[AAVE], january(1))?;
    let input = |protocol: &str| UnitInput {
        days: Some(vec![january(1)]),
        protocols: Some(vec![protocol.to_owned()]),
        ..UnitInput::default()
    };
    assert_eq!(kind(handle(test_lake.context(), input(AAVE)).await), Some(Kind::NotReady));
    assert_eq!(kind(handle(test_lake.context(), input(COMPOUND)).await), Some(Kind::BadInput));
    assert!(test_lake.objects("stage/").await?.is_empty());
    Ok(())
}
