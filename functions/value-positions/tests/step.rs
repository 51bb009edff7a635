//! The step over staged positions, markets and links in a lake.

use defi_shared::domain::{Address, Day, HexBytes, Side, WETH};
use defi_shared::lake::Unit;
use defi_shared::step::{Report, UnitInput};
use defi_shared::tables::{
    STAGE_MARKETS, STAGE_POSITIONS, StagedMarket, StagedPosition, WALLET_HEALTH, WALLET_LINKS, WalletHealth,
};
use defi_shared::testing::{AAVE, COMPOUND, Lab, address, january, kind, link, staged_market, staged_position, unit};
use defi_shared::{Kind, Result};
use value_positions::handle;

const ETH_MARKET: Address = HexBytes([0xa1; 20]);
const USD_MARKET: Address = HexBytes([0xa2; 20]);
const TOKEN: Address = HexBytes([0x77; 20]);

/// ETH at 2,000 USD, and a token at 500, which is 0.25 ETH; an LTV of 75 % and a threshold of 80 %.
async fn put_markets(lab: &Lab, protocol: &str, day: Day) -> Result<()> {
    let market = |market, token, usd| staged_market(protocol, day, market, token, usd);
    let rows: Vec<StagedMarket> = vec![market(ETH_MARKET, WETH, 2000.0), market(USD_MARKET, TOKEN, 500.0)];
    lab.put(&STAGE_MARKETS, &unit(protocol, day), rows).await
}

fn position(account: u8, market: Address, side: Side, tokens: i128) -> StagedPosition {
    staged_position(AAVE, january(2), address(account), market, side, tokens)
}

/// A lab on 2 January with its markets and these positions of Aave.
async fn lab(positions: Vec<StagedPosition>) -> Result<Lab> {
    let lab = Lab::new(&[AAVE, COMPOUND], january(2))?;
    put_markets(&lab, AAVE, january(2)).await?;
    lab.put(&STAGE_POSITIONS, &unit(AAVE, january(2)), positions).await?;
    Ok(lab)
}

async fn value(lab: &Lab) -> Result<(Report, Vec<WalletHealth>)> {
    let report = handle(lab.context(), UnitInput::default()).await?;
    Ok((report, lab.rows(&WALLET_HEALTH, &Unit::Day(january(2))).await?))
}

#[tokio::test]
async fn the_figures_of_an_account_are_those_computed_by_hand() -> Result<()> {
    let not_enabled = StagedPosition { is_collateral: None, ..position(1, USD_MARKET, Side::Lender, 1_000) };
    let positions =
        vec![position(1, ETH_MARKET, Side::Lender, 16), not_enabled, position(1, USD_MARKET, Side::Borrower, 20)];
    let (report, rows) = value(&lab(positions).await?).await?;
    assert_eq!((report.units, report.rows_in, report.rows_out, report.unpriced), (1, 3, 1, 0));
    let wanted = WalletHealth {
        wallet_address: address(1),
        account_address: address(1),
        protocol: AAVE.into(),
        day: january(2),
        collateral_eth: 16.0,
        threshold_weighted_collateral_eth: 12.8,
        borrow_power_eth: 12.0,
        debt_eth: 5.0,
        available_borrows_eth: 7.0,
        risk_factor: 5.0 / 12.8,
    };
    assert_eq!(rows, [wanted]);
    Ok(())
}

#[tokio::test]
async fn an_account_that_does_not_count_has_no_row() -> Result<()> {
    let idle = StagedPosition { is_collateral: Some(false), ..position(1, ETH_MARKET, Side::Lender, 5) };
    let (_, rows) = value(&lab(vec![idle, position(2, ETH_MARKET, Side::Borrower, 1)]).await?).await?;
    let rows: Vec<_> = rows.iter().map(|row| (row.wallet_address, row.debt_eth, row.risk_factor)).collect();
    assert_eq!(rows, [(address(2), 1.0, 1e6)]);
    Ok(())
}

#[tokio::test]
async fn a_link_of_the_day_before_counts_and_one_of_the_day_does_not() -> Result<()> {
    let lab = lab(vec![position(9, ETH_MARKET, Side::Lender, 5)]).await?;
    let midnight = january(2).start();
    lab.put(&WALLET_LINKS, &Unit::Day(january(1)), vec![link(address(1), address(9), midnight - 1)]).await?;
    lab.put(&WALLET_LINKS, &Unit::Day(january(2)), vec![link(address(2), address(9), midnight)]).await?;
    let (_, rows) = value(&lab).await?;
    let wallets: Vec<_> = rows.iter().map(|row| (row.wallet_address, row.account_address)).collect();
    assert_eq!(wallets, [(address(1), address(9)), (address(9), address(9))]);
    Ok(())
}

#[tokio::test]
async fn each_day_of_several_has_the_links_of_its_own_past() -> Result<()> {
    let lab = lab(vec![position(9, ETH_MARKET, Side::Lender, 5)]).await?;
    let first_day = staged_position(AAVE, january(1), address(9), ETH_MARKET, Side::Lender, 5);
    lab.put(&STAGE_POSITIONS, &unit(AAVE, january(1)), vec![first_day]).await?;
    put_markets(&lab, AAVE, january(1)).await?;
    lab.put(&WALLET_LINKS, &Unit::Day(january(1)), vec![link(address(1), address(9), january(1).start())]).await?;
    let (report, second) = value(&lab).await?;
    let first: Vec<WalletHealth> = lab.rows(&WALLET_HEALTH, &Unit::Day(january(1))).await?;
    assert_eq!((report.units, first.len(), second.len()), (2, 1, 2));
    Ok(())
}

#[tokio::test]
async fn a_position_is_priced_by_its_own_market_alone_and_else_counted() -> Result<()> {
    // Another market of the same token has a price, and so has one of another protocol with the same id.
    let orphan = address(0xa3);
    let lab = lab(vec![position(1, orphan, Side::Lender, 5), position(1, ETH_MARKET, Side::Lender, 5)]).await?;
    let other = staged_market(COMPOUND, january(2), orphan, TOKEN, 500.0);
    lab.put(&STAGE_MARKETS, &unit(COMPOUND, january(2)), vec![other]).await?;
    let (report, rows) = value(&lab).await?;
    assert_eq!((report.unpriced, rows[0].collateral_eth), (1, 5.0));
    assert_eq!(lab.facts(&WALLET_HEALTH, &Unit::Day(january(2))).await?["unpriced"], "1");
    Ok(())
}

#[tokio::test]
async fn an_old_price_holds_for_7_days() -> Result<()> {
    let lab = Lab::new(&[AAVE], january(31))?;
    put_markets(&lab, AAVE, january(1)).await?;
    for day in [january(8), january(9)] {
        let row = staged_position(AAVE, day, address(1), ETH_MARKET, Side::Lender, 5);
        lab.put(&STAGE_POSITIONS, &unit(AAVE, day), vec![row]).await?;
    }
    let report = handle(lab.context(), UnitInput::default()).await?;
    assert_eq!((report.units, report.rows_out, report.unpriced), (2, 1, 1));
    assert_eq!(lab.rows::<WalletHealth>(&WALLET_HEALTH, &Unit::Day(january(8))).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_protocol_without_a_snapshot_adds_nothing_and_a_day_without_any_is_not_ready() -> Result<()> {
    let (report, rows) = value(&lab(vec![position(1, ETH_MARKET, Side::Lender, 5)]).await?).await?;
    assert_eq!((report.units, rows.len()), (1, 1), "Compound's snapshot is missing");
    let empty = Lab::new(&[AAVE, COMPOUND], january(2))?;
    let named = UnitInput { days: Some(vec![january(2)]), ..UnitInput::default() };
    assert_eq!(kind(handle(empty.context(), named).await), Some(Kind::NotReady));
    assert!(empty.objects("").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn rows_of_both_protocols_lie_in_one_object_sorted_by_wallet() -> Result<()> {
    let lab = lab(vec![position(3, ETH_MARKET, Side::Lender, 5), position(7, ETH_MARKET, Side::Lender, 1)]).await?;
    put_markets(&lab, COMPOUND, january(2)).await?;
    let of_compound = |account| staged_position(COMPOUND, january(2), address(account), ETH_MARKET, Side::Lender, 2);
    lab.put(&STAGE_POSITIONS, &unit(COMPOUND, january(2)), vec![of_compound(3), of_compound(5)]).await?;
    let (_, rows) = value(&lab).await?;
    let keys: Vec<_> = rows.iter().map(|row| (row.wallet_address, &*row.protocol)).collect();
    assert_eq!(keys, [(3, AAVE), (3, COMPOUND), (5, COMPOUND), (7, AAVE)].map(|(wallet, of)| (address(wallet), of)));
    Ok(())
}
