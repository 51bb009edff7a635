//! Runs the step over the raw positions of one day.

use std::sync::Arc;

use defi_shared::lake::WorkUnit;
use defi_shared::step::UnitInput;
use defi_shared::tables::{RAW_MARKETS, RAW_POSITIONS, RawMarket, RawPosition, STAGE_POSITIONS, StagedPosition};
use defi_shared::testing::{AAVE, COMPOUND, TestLake, WETH, address, january, kind, raw_market, raw_position, unit};
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
    let test_lake = TestLake::new(&[AAVE], january(1))?.with_aaves_schema(AAVE);
    let metadata = [("schema".to_owned(), "aave".to_owned())];
    test_lake.context.commit(&RAW_POSITIONS, &day_unit(), rows, metadata.into()).await?;
    test_lake.put(&RAW_MARKETS, &day_unit(), markets).await?;
    handle(test_lake.context(), UnitInput::default()).await?;
    Ok(test_lake)
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
